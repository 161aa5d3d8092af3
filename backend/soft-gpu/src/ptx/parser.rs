//! Module level: directives, variables, function signatures.

use std::collections::HashMap;

use super::lexer::{Lexer, Number, Token};
use super::module::{Shared, Symbol, SymbolKind};
use super::types::Type;
use super::{CompileError, FunctionKind, Global, Limits, Linkage, Module, Space};

/// Everything known while a source is being read.
pub(crate) struct Parser<'a> {
    pub(crate) lexer: Lexer<'a>,
    pub(crate) limits: Limits,
    pub(crate) module: Module,
    pub(crate) names: HashMap<&'a str, u32>,
    /// Instructions decoded so far.
    pub(crate) instructions: usize,
    variable_bytes: u64,
}

/// A variable's declaration, up to its initialiser.
pub(crate) struct Variable<'a> {
    pub(crate) name: &'a str,
    pub(crate) ty: Type,
    /// Elements of a vector type.
    pub(crate) vector: u64,
    pub(crate) align: u64,
    pub(crate) dimensions: Vec<u64>,
    /// The first dimension was left open.
    pub(crate) open: bool,
    pub(crate) managed: bool,
}

impl Variable<'_> {
    pub(crate) fn element(&self) -> u64 {
        u64::from(self.ty.bytes())
    }

    /// Size in bytes, `None` on overflow.
    pub(crate) fn size(&self) -> Option<u64> {
        let start = self.element().checked_mul(self.vector)?;
        self.dimensions.iter().try_fold(start, |size, n| size.checked_mul(*n))
    }
}

impl<'a> Parser<'a> {
    pub(crate) fn new(source: &'a str, limits: Limits) -> Result<Self, CompileError> {
        if source.len() > limits.source_bytes {
            let message = format!("source has {} bytes, the limit is {}", source.len(), limits.source_bytes);
            return Err(CompileError { line: 1, message });
        }
        Ok(Self {
            lexer: Lexer::new(source)?,
            limits,
            module: Module {
                version: (0, 0),
                target: 0,
                functions: Vec::new(),
                globals: Vec::new(),
                shared: Vec::new(),
                symbols: Vec::new(),
            },
            names: HashMap::new(),
            instructions: 0,
            variable_bytes: 0,
        })
    }

    pub(crate) fn run(mut self) -> Result<Module, CompileError> {
        if !self.lexer.eat_word(".version")? {
            return self.lexer.error("expected '.version' at the start of the source");
        }
        self.version()?;
        while self.lexer.peek() != Token::End {
            self.directive()?;
        }
        if self.module.target == 0 {
            return self.lexer.error("the source has no '.target sm_NN'");
        }
        Ok(self.module)
    }

    fn version(&mut self) -> Result<(), CompileError> {
        if let Token::Number(Number::F64(bits)) = self.lexer.peek() {
            let text = format!("{:.1}", f64::from_bits(bits));
            if let Some((major, minor)) = text.split_once('.')
                && let (Ok(major @ 1..100), Ok(minor)) = (major.parse(), minor.parse())
            {
                self.module.version = (major, minor);
                self.lexer.next()?;
                return Ok(());
            }
        }
        let found = self.lexer.peek();
        self.lexer.error(format!("expected a PTX version, found {found}"))
    }

    fn directive(&mut self) -> Result<(), CompileError> {
        let mut linkage = Linkage::Local;
        loop {
            let word = self.lexer.word("a directive")?;
            match word {
                ".version" => return self.version(),
                ".target" => return self.target(),
                ".address_size" => {
                    return match self.lexer.next()? {
                        Token::Number(Number::Int(64)) => Ok(()),
                        _ => self.lexer.error("only '.address_size 64' is supported"),
                    };
                }
                ".file" | ".loc" => return self.lexer.skip_line(),
                ".section" => return self.section(),
                ".pragma" => return self.skip_to_semicolon(),
                ".extern" => linkage = Linkage::Extern,
                ".visible" => linkage = Linkage::Visible,
                ".weak" | ".common" => linkage = Linkage::Weak,
                ".entry" => return self.function(FunctionKind::Entry, linkage),
                ".func" => return self.function(FunctionKind::Device, linkage),
                ".global" | ".const" | ".shared" => return self.variables(word, linkage),
                _ => return self.lexer.error(format!("directive {} is not supported", Token::Word(word))),
            }
        }
    }

    fn target(&mut self) -> Result<(), CompileError> {
        loop {
            let word = self.lexer.word("a target")?;
            if let Some(number) = word.strip_prefix("sm_") {
                let digits = number.trim_end_matches(['a', 'f']);
                match digits.parse() {
                    Ok(target @ 10..1000) => self.module.target = target,
                    _ => return self.lexer.error(format!("unknown target {}", Token::Word(word))),
                }
            } else if !matches!(word, "debug" | "texmode_unified" | "texmode_independent" | "map_f64_to_f32")
            {
                return self.lexer.error(format!("unknown target {}", Token::Word(word)));
            }
            if !self.lexer.eat(b',')? {
                return Ok(());
            }
        }
    }

    /// Debug information: `.section name { … }`.
    fn section(&mut self) -> Result<(), CompileError> {
        self.lexer.word("a section name")?;
        self.lexer.expect(b'{')?;
        loop {
            match self.lexer.next()? {
                Token::Punct(b'}') => return Ok(()),
                Token::End => return self.lexer.error("section without end"),
                _ => {}
            }
        }
    }

    pub(crate) fn skip_to_semicolon(&mut self) -> Result<(), CompileError> {
        loop {
            match self.lexer.next()? {
                Token::Punct(b';') => return Ok(()),
                Token::End => return self.lexer.error("expected ';', found the end of the source"),
                _ => {}
            }
        }
    }

    /// The symbol of a name at module level, made on first use.
    pub(crate) fn symbol(&mut self, name: &'a str) -> Result<u32, CompileError> {
        if let Some(symbol) = self.names.get(name) {
            return Ok(*symbol);
        }
        let symbol = self.add_symbol(name, SymbolKind::Undefined, Linkage::Extern)?;
        self.names.insert(name, symbol);
        Ok(symbol)
    }

    pub(crate) fn add_symbol(
        &mut self,
        name: &str,
        kind: SymbolKind,
        linkage: Linkage,
    ) -> Result<u32, CompileError> {
        if self.module.symbols.len() >= self.limits.symbols {
            return self.lexer.error(format!("more than {} symbols", self.limits.symbols));
        }
        let index = u32::try_from(self.module.symbols.len()).unwrap_or(u32::MAX);
        self.module.symbols.push(Symbol { name: name.to_owned(), kind, linkage });
        Ok(index)
    }

    /// Gives a module-level symbol its meaning.
    pub(super) fn define(
        &mut self,
        name: &'a str,
        kind: SymbolKind,
        linkage: Linkage,
    ) -> Result<u32, CompileError> {
        let index = self.symbol(name)?;
        let redefined = match self.module.symbols.get_mut(usize::try_from(index).unwrap_or(usize::MAX)) {
            Some(symbol) if symbol.kind == SymbolKind::Undefined => {
                symbol.kind = kind;
                symbol.linkage = linkage;
                false
            }
            _ => true,
        };
        if redefined {
            return self.lexer.error(format!("{} is defined more than once", Token::Word(name)));
        }
        Ok(index)
    }

    /// A declaration after its state space: alignment, type, name, dimensions.
    pub(crate) fn variable(&mut self) -> Result<Variable<'a>, CompileError> {
        let (mut align, mut vector, mut managed) = (None, 1, false);
        let ty = loop {
            let word = self.lexer.word("a type")?;
            match word {
                ".align" => align = Some(self.alignment()?),
                ".v2" => vector = 2,
                ".v4" => vector = 4,
                ".ptr" | ".global" | ".const" | ".local" | ".shared" | ".param" => {}
                ".attribute" => managed |= self.attribute()?,
                _ => match word.strip_prefix('.').and_then(Type::parse) {
                    Some(ty) => break ty,
                    None => {
                        return self.lexer.error(format!("type {} is not supported", Token::Word(word)));
                    }
                },
            }
        };
        loop {
            match self.lexer.peek() {
                Token::Word(".align") => {
                    self.lexer.next()?;
                    let pointee = self.alignment()?;
                    // After the type it is the alignment of what a `.ptr` parameter points to.
                    let _ = pointee;
                }
                Token::Word(".ptr" | ".global" | ".const" | ".local" | ".shared" | ".param") => {
                    self.lexer.next()?;
                }
                _ => break,
            }
        }
        self.declarator(ty, vector, align, managed)
    }

    /// Name and dimensions, after a type.
    pub(crate) fn declarator(
        &mut self,
        ty: Type,
        vector: u64,
        align: Option<u64>,
        managed: bool,
    ) -> Result<Variable<'a>, CompileError> {
        let name = self.lexer.word("a name")?;
        let (mut dimensions, mut open) = (Vec::new(), false);
        while self.lexer.eat(b'[')? {
            if self.lexer.eat(b']')? {
                if !dimensions.is_empty() {
                    return self.lexer.error("only the first dimension can be left open");
                }
                open = true;
                dimensions.push(0);
                continue;
            }
            if dimensions.len() >= self.limits.nesting {
                return self.lexer.error("too many dimensions");
            }
            dimensions.push(self.constant()?);
            self.lexer.expect(b']')?;
        }
        let natural = u64::from(ty.bytes()) * vector;
        let variable =
            Variable { name, ty, vector, align: align.unwrap_or(natural), dimensions, open, managed };
        if ty == Type::Pred {
            return self.lexer.error("a variable cannot be a predicate");
        }
        if variable.size().is_none() {
            return self.lexer.error(format!("{} is too large", Token::Word(name)));
        }
        Ok(variable)
    }

    fn alignment(&mut self) -> Result<u64, CompileError> {
        match self.lexer.next()? {
            Token::Number(Number::Int(n)) if n.is_power_of_two() && n <= 65_536 => Ok(n),
            _ => self.lexer.error("expected an alignment that is a power of two"),
        }
    }

    /// `.attribute(.managed, …)`; true for managed.
    pub(super) fn attribute(&mut self) -> Result<bool, CompileError> {
        self.lexer.expect(b'(')?;
        let mut managed = false;
        loop {
            match self.lexer.next()? {
                Token::Word(".managed") => managed = true,
                Token::Punct(b')') => return Ok(managed),
                Token::Word(".unified") => {
                    return self.lexer.error("attribute '.unified' is not supported");
                }
                Token::End => return self.lexer.error("attribute without end"),
                _ => {}
            }
        }
    }

    fn variables(&mut self, space: &'a str, linkage: Linkage) -> Result<(), CompileError> {
        let variable = self.variable()?;
        let symbol = self.place_variable(space, linkage, &variable, None)?;
        let _ = symbol;
        self.lexer.expect(b';')
    }

    /// Makes a global, constant or shared variable. `scope` is the function that it is declared in.
    pub(crate) fn place_variable(
        &mut self,
        space: &str,
        linkage: Linkage,
        variable: &Variable<'a>,
        scope: Option<&str>,
    ) -> Result<u32, CompileError> {
        let name = variable.name;
        let size = variable.size().unwrap_or(u64::MAX);
        let kind = if space == ".shared" {
            let dynamic = linkage == Linkage::Extern;
            if variable.open && !dynamic {
                return self.lexer.error(format!("{} has no size", Token::Word(name)));
            }
            if size > self.limits.shared_bytes {
                let limit = self.limits.shared_bytes;
                return self.lexer.error(format!(
                    "shared variable {} has {size} bytes, the limit is {limit}",
                    Token::Word(name)
                ));
            }
            self.module.shared.push(Shared { size, align: variable.align, dynamic });
            SymbolKind::Shared(self.module.shared.len() - 1)
        } else if linkage == Linkage::Extern {
            return self.symbol(name);
        } else {
            let mut global = Global {
                name: scope.map_or_else(|| name.to_owned(), |function| format!("{function}.{name}")),
                space: if space == ".const" { Space::Const } else { Space::Global },
                size,
                align: variable.align,
                init: Vec::new(),
                relocations: Vec::new(),
                managed: variable.managed,
                linkage,
            };
            if self.lexer.eat(b'=')? {
                self.initialiser(variable, &mut global)?;
            } else if variable.open {
                return self.lexer.error(format!("{} has no size", Token::Word(name)));
            }
            self.variable_bytes = self.variable_bytes.saturating_add(global.size);
            if self.variable_bytes > self.limits.variable_bytes {
                return self
                    .lexer
                    .error(format!("variables take more than {} bytes", self.limits.variable_bytes));
            }
            self.module.globals.push(global);
            SymbolKind::Global(self.module.globals.len() - 1)
        };
        // A dynamic shared variable is the block's in every module; the name is no link to anything.
        let linkage = if matches!(kind, SymbolKind::Shared(_)) { Linkage::Local } else { linkage };
        match scope {
            Some(_) => self.add_symbol(name, kind, Linkage::Local),
            None => self.define(name, kind, linkage),
        }
    }
}
