//! Module level: directives, variables, function signatures.

use std::collections::HashMap;

use super::body::Body;
use super::ir::{Code, Place};
use super::lexer::{Lexer, Number, Token};
use super::module::{Shared, Symbol, SymbolKind};
use super::types::Type;
use super::{CompileError, Function, FunctionKind, Global, Limits, Linkage, Module, Param, Space};

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

/// Where parameters of a function are declared to be.
pub(crate) struct Signature<'a> {
    pub(crate) names: Vec<(&'a str, Place, Type)>,
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
    fn define(&mut self, name: &'a str, kind: SymbolKind, linkage: Linkage) -> Result<u32, CompileError> {
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
    fn attribute(&mut self) -> Result<bool, CompileError> {
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

    fn function(&mut self, kind: FunctionKind, linkage: Linkage) -> Result<(), CompileError> {
        let line = self.lexer.line();
        let mut frame = Frame::default();
        let mut results = Signature { names: Vec::new() };
        if kind == FunctionKind::Device && self.lexer.peek() == Token::Punct(b'(') {
            self.parameters(FunctionKind::Device, &mut frame, &mut results, &mut Vec::new())?;
        }
        let name = self.lexer.word("a function name")?;
        let mut params = Vec::new();
        let mut signature = Signature { names: Vec::new() };
        if self.lexer.peek() == Token::Punct(b'(') {
            self.parameters(kind, &mut frame, &mut signature, &mut params)?;
        }
        let mut function = Function {
            name: name.to_owned(),
            kind,
            linkage,
            param_bytes: frame.param_bytes,
            params,
            static_shared: 0,
            local: 0,
            registers: 0,
            max_threads: None,
            required_threads: None,
            min_blocks: None,
            line,
            code: Code::default(),
            shared_layout: Vec::new(),
        };
        self.tuning(&mut function)?;
        if self.lexer.eat(b';')? {
            self.symbol(name)?;
            return Ok(());
        }
        // A body makes it a definition, whatever was said before.
        let linkage = if linkage == Linkage::Extern { Linkage::Visible } else { linkage };
        function.linkage = linkage;
        let index = self.module.functions.len();
        self.define(name, SymbolKind::Function(index), linkage)?;
        self.lexer.expect(b'{')?;
        function.code.params = signature.names.iter().map(|(_, place, _)| *place).collect();
        function.code.results = results.names.iter().map(|(_, place, _)| *place).collect();
        signature.names.extend(results.names);
        Body::new(self, name, kind, frame, &signature)?.run(&mut function)?;
        self.module.functions.push(function);
        Ok(())
    }

    /// Performance and launch directives between a signature and its body.
    fn tuning(&mut self, function: &mut Function) -> Result<(), CompileError> {
        loop {
            match self.lexer.peek() {
                Token::Word(".maxntid") => {
                    self.lexer.next()?;
                    function.max_threads = Some(self.triple()?);
                }
                Token::Word(".reqntid") => {
                    self.lexer.next()?;
                    function.required_threads = Some(self.triple()?);
                }
                Token::Word(".minnctapersm" | ".maxnctapersm") => {
                    let minimum = self.lexer.next()? == Token::Word(".minnctapersm");
                    let [blocks, ..] = self.triple()?;
                    if minimum {
                        function.min_blocks = Some(blocks);
                    }
                }
                Token::Word(".maxnreg") => {
                    self.lexer.next()?;
                    self.triple()?;
                }
                Token::Word(".noreturn" | ".unique") => {
                    self.lexer.next()?;
                }
                Token::Word(".pragma") => self.skip_to_semicolon()?,
                Token::Word(".attribute") => {
                    self.lexer.next()?;
                    self.attribute()?;
                }
                Token::Word(word) => {
                    return self.lexer.error(format!("directive {} is not supported", Token::Word(word)));
                }
                _ => return Ok(()),
            }
        }
    }

    fn triple(&mut self) -> Result<[u32; 3], CompileError> {
        let mut values = [1; 3];
        for (index, value) in values.iter_mut().enumerate() {
            if index > 0 && !self.lexer.eat(b',')? {
                break;
            }
            match self.lexer.next()? {
                Token::Number(Number::Int(n)) if u32::try_from(n).is_ok() => {
                    *value = u32::try_from(n).unwrap_or(u32::MAX);
                }
                _ => return self.lexer.error("expected a number"),
            }
        }
        Ok(values)
    }

    /// A parenthesised list of parameters or results.
    fn parameters(
        &mut self,
        kind: FunctionKind,
        frame: &mut Frame,
        signature: &mut Signature<'a>,
        params: &mut Vec<Param>,
    ) -> Result<(), CompileError> {
        self.lexer.expect(b'(')?;
        if self.lexer.eat(b')')? {
            return Ok(());
        }
        loop {
            let place = self.lexer.word("'.param'")?;
            let variable = match place {
                ".param" => self.variable()?,
                ".reg" if kind == FunctionKind::Device => self.variable()?,
                _ => return self.lexer.error(format!("expected '.param', found {}", Token::Word(place))),
            };
            let size = variable.size().unwrap_or(u64::MAX);
            if variable.open || size > self.limits.param_bytes {
                let limit = self.limits.param_bytes;
                return self.lexer.error(format!(
                    "parameter {} has no size or more than {limit} bytes",
                    Token::Word(variable.name)
                ));
            }
            let place = if place == ".reg" {
                let slot = frame.take_slot();
                Place::Register(slot, variable.ty.mask())
            } else if kind == FunctionKind::Entry {
                let offset = u64::from(frame.param_bytes).next_multiple_of(variable.align);
                if offset + size > self.limits.param_bytes {
                    return self
                        .lexer
                        .error(format!("parameters take more than {} bytes", self.limits.param_bytes));
                }
                let (offset, size) = (narrow(offset), narrow(size));
                frame.param_bytes = offset + size;
                params.push(Param { offset, size, align: narrow(variable.align) });
                Place::Variable { offset, size }
            } else {
                match frame.take_local(size, variable.align, self.limits.local_bytes) {
                    Some(offset) => {
                        let size = narrow(size);
                        params.push(Param { offset, size, align: narrow(variable.align) });
                        Place::Variable { offset, size }
                    }
                    None => return self.lexer.error("parameters take too much memory"),
                }
            };
            signature.names.push((variable.name, place, variable.ty));
            if self.lexer.eat(b')')? {
                return Ok(());
            }
            self.lexer.expect(b',')?;
        }
    }
}

/// A value that has been checked against a limit below 2^32.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Registers and local memory of a function, as they are handed out.
#[derive(Default)]
pub(crate) struct Frame {
    pub(crate) param_bytes: u32,
    pub(crate) local: u32,
    slots: u32,
}

impl Frame {
    pub(crate) fn take_slot(&mut self) -> u32 {
        let slot = self.slots + super::ir::header::COUNT;
        self.slots += 1;
        slot
    }

    /// Slots handed out, the header included.
    pub(crate) fn slots(&self) -> u32 {
        self.slots + super::ir::header::COUNT
    }

    /// Room in local memory; `None` over `limit`.
    pub(crate) fn take_local(&mut self, size: u64, align: u64, limit: u64) -> Option<u32> {
        let offset = u64::from(self.local).next_multiple_of(align.max(1));
        let end = offset.checked_add(size).filter(|end| *end <= limit)?;
        self.local = narrow(end);
        Some(narrow(offset))
    }
}
