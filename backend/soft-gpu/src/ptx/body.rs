//! Function bodies: scopes, registers, labels, operands, control flow. Instructions that compute are
//! in `decode`.

use std::collections::HashMap;

use super::ir::{self, Argument, Call, Inst, NONE, Op, Place, Slot, Source, Target};
use super::labels::Labels;
use super::lexer::{Number, Token};
use super::operand::Operand;
use super::parser::Parser;
use super::signature::{Frame, Signature};
use super::types::Type;
use super::{CompileError, Function, FunctionKind, Linkage};

/// What an identifier in a body means.
#[derive(Clone, Debug)]
pub(super) enum Name {
    Register(Slot, Type),
    /// `%r<100>`: registers that exist but have no slot before their first use.
    Registers {
        count: u64,
        ty: Type,
    },
    /// Parameter of a kernel.
    Param {
        offset: u32,
    },
    /// `.local` variable, parameter of a function, or argument of a call.
    Local {
        offset: u32,
        size: u32,
        param: bool,
    },
    Symbol(u32),
    /// Labelled list of branch targets.
    Targets(Box<[u32]>),
    /// Labelled call prototype or list of call targets.
    Prototype,
}

/// The function that is being read.
pub(crate) struct Body<'p, 'a> {
    pub(crate) parser: &'p mut Parser<'a>,
    name: &'a str,
    pub(crate) kind: FunctionKind,
    pub(crate) frame: Frame,
    pub(super) scopes: Vec<HashMap<&'a str, Name>>,
    labels: Labels<'a>,
    /// Local memory in use where each open block began.
    locals: Vec<u32>,
    insts: Vec<Inst>,
    uses: Vec<u32>,
    taken: Vec<u32>,
    guard: Slot,
    guard_not: bool,
    pub(super) line: u32,
    /// Where `add.cc` and the like leave the carry.
    carry: Option<Slot>,
}

type Result<T> = std::result::Result<T, CompileError>;

impl<'p, 'a> Body<'p, 'a> {
    pub(crate) fn new(
        parser: &'p mut Parser<'a>,
        name: &'a str,
        kind: FunctionKind,
        frame: Frame,
        signature: &Signature<'a>,
    ) -> Result<Self> {
        let labels = parser.limits.symbols;
        let mut scope = HashMap::new();
        for (param, place, ty) in &signature.names {
            let meaning = match *place {
                Place::Register(slot, _) => Name::Register(slot, *ty),
                Place::Variable { offset, .. } if kind == FunctionKind::Entry => Name::Param { offset },
                Place::Variable { offset, size } => Name::Local { offset, size, param: true },
            };
            if *param != "_" && scope.insert(*param, meaning).is_some() {
                return parser.lexer.error(format!("parameter {} is declared twice", Token::Word(param)));
            }
        }
        Ok(Self {
            parser,
            name,
            kind,
            frame,
            scopes: vec![scope],
            labels: Labels::new(labels),
            locals: Vec::new(),
            insts: Vec::new(),
            uses: Vec::new(),
            taken: Vec::new(),
            guard: NONE,
            guard_not: false,
            line: 0,
            carry: None,
        })
    }

    /// Reads up to the closing brace and completes `function`.
    pub(crate) fn run(mut self, function: &mut Function) -> Result<()> {
        self.scopes.push(HashMap::new());
        while self.scopes.len() > 1 {
            self.statement()?;
        }
        // Falling off the end returns.
        self.line = self.parser.lexer.line();
        self.emit(if self.kind == FunctionKind::Entry { Op::Exit } else { Op::Return })?;
        self.resolve_labels()?;
        self.uses.sort_unstable();
        self.uses.dedup();
        self.taken.sort_unstable();
        self.taken.dedup();
        function.local = self.frame.local_bytes();
        function.registers = self.frame.slots().min(255);
        function.code.insts = self.insts;
        function.code.slots = self.frame.slots();
        function.code.uses = self.uses;
        function.code.taken = self.taken;
        Ok(())
    }

    pub(crate) fn error<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(CompileError { line: self.line.max(1), message: message.into() })
    }

    fn statement(&mut self) -> Result<()> {
        self.line = self.parser.lexer.line();
        match self.parser.lexer.next()? {
            Token::Punct(b'{') => {
                if self.scopes.len() > self.parser.limits.nesting {
                    return self.error("blocks are nested too deeply");
                }
                self.scopes.push(HashMap::new());
                self.labels.open_block();
                self.locals.push(self.frame.local);
                Ok(())
            }
            Token::Punct(b'}') => {
                self.scopes.pop();
                // What the block had in local memory is free for the next one.
                if let Some(local) = self.locals.pop() {
                    self.frame.local = local;
                }
                self.labels.close_block()
            }
            Token::Punct(b';') => Ok(()),
            Token::Punct(b'@') => {
                let not = self.parser.lexer.eat(b'!')?;
                let name = self.parser.lexer.word("a predicate")?;
                match self.lookup(name)? {
                    Operand::Register(slot, Type::Pred) => {
                        self.guard = slot;
                        self.guard_not = not;
                    }
                    _ => return self.error(format!("{} is not a predicate", Token::Word(name))),
                }
                let opcode = self.parser.lexer.word("an instruction")?;
                self.instruction(opcode)?;
                self.guard = NONE;
                self.guard_not = false;
                Ok(())
            }
            Token::Word(word) if word.starts_with('.') => self.directive(word),
            Token::Word(word) => {
                if self.parser.lexer.eat(b':')? {
                    return self.label(word);
                }
                self.instruction(word)
            }
            Token::End => self.error("function body without end"),
            found => self.error(format!("expected an instruction, found {found}")),
        }
    }

    fn directive(&mut self, word: &'a str) -> Result<()> {
        match word {
            ".reg" => self.registers(),
            ".local" | ".param" => {
                let variable = self.parser.variable()?;
                let size = variable.size().unwrap_or(u64::MAX);
                let place = self.frame.take_local(size, variable.align, self.parser.limits.local_bytes);
                let Some(offset) = place else {
                    let limit = self.parser.limits.local_bytes;
                    return self.error(format!("local variables take more than {limit} bytes"));
                };
                let size = u32::try_from(size).unwrap_or(u32::MAX);
                self.declare(variable.name, Name::Local { offset, size, param: word == ".param" })?;
                self.parser.lexer.expect(b';')
            }
            ".shared" | ".global" | ".const" => self.module_variable(word, Linkage::Local),
            ".extern" => {
                let space = self.parser.lexer.word("'.shared'")?;
                if space != ".shared" {
                    return self.error("only '.extern .shared' can be declared in a function");
                }
                self.module_variable(space, Linkage::Extern)
            }
            ".loc" | ".file" => self.parser.lexer.skip_line(),
            ".pragma" => self.parser.skip_to_semicolon(),
            _ => self.error(format!("directive {} is not supported", Token::Word(word))),
        }
    }

    fn module_variable(&mut self, space: &str, linkage: Linkage) -> Result<()> {
        let variable = self.parser.variable()?;
        let function = self.name;
        let symbol = self.parser.place_variable(space, linkage, &variable, Some(function))?;
        self.declare(variable.name, Name::Symbol(symbol))?;
        self.parser.lexer.expect(b';')
    }

    fn registers(&mut self) -> Result<()> {
        let word = self.parser.lexer.word("a type")?;
        let Some(ty) = word.strip_prefix('.').and_then(Type::parse) else {
            return self.error(format!("registers of type {} are not supported", Token::Word(word)));
        };
        loop {
            let name = self.parser.lexer.word("a register name")?;
            if self.parser.lexer.eat(b'<')? {
                let count = self.parser.constant()?;
                self.parser.lexer.expect(b'>')?;
                self.declare(name, Name::Registers { count, ty })?;
            } else {
                let slot = self.take_slot()?;
                self.declare(name, Name::Register(slot, ty))?;
            }
            if self.parser.lexer.eat(b';')? {
                return Ok(());
            }
            self.parser.lexer.expect(b',')?;
        }
    }

    fn declare(&mut self, name: &'a str, meaning: Name) -> Result<()> {
        let declared = self.scopes.iter().map(HashMap::len).sum::<usize>();
        if declared > self.parser.limits.symbols + self.parser.limits.registers {
            return self.error("too many declarations");
        }
        match self.scopes.last_mut().map(|scope| scope.insert(name, meaning)) {
            Some(None) => Ok(()),
            _ => self.error(format!("{} is declared twice", Token::Word(name))),
        }
    }

    /// A register of the function's own.
    pub(crate) fn take_slot(&mut self) -> Result<Slot> {
        if usize::try_from(self.frame.slots()).unwrap_or(usize::MAX) >= self.parser.limits.registers {
            return self.error(format!("function uses more than {} registers", self.parser.limits.registers));
        }
        Ok(self.frame.take_slot())
    }

    pub(crate) fn carry(&mut self) -> Result<Slot> {
        match self.carry {
            Some(slot) => Ok(slot),
            None => {
                let slot = self.take_slot()?;
                self.carry = Some(slot);
                Ok(slot)
            }
        }
    }

    fn label(&mut self, name: &'a str) -> Result<()> {
        match self.parser.lexer.peek() {
            Token::Word(".branchtargets") => {
                self.parser.lexer.next()?;
                let mut targets = Vec::new();
                loop {
                    let target = self.parser.lexer.word("a label")?;
                    targets.push(self.labels.number(target, self.line)?);
                    if self.parser.lexer.eat(b';')? {
                        break;
                    }
                    self.parser.lexer.expect(b',')?;
                }
                self.declare(name, Name::Targets(targets.into()))
            }
            Token::Word(".callprototype" | ".calltargets") => {
                self.parser.skip_to_semicolon()?;
                self.declare(name, Name::Prototype)
            }
            _ => {
                let here = u32::try_from(self.insts.len()).unwrap_or(u32::MAX);
                self.labels.define(name, here, self.line)
            }
        }
    }

    fn resolve_labels(&mut self) -> Result<()> {
        let places = self.labels.resolve()?;
        let place = |number: &mut u32| {
            let at = usize::try_from(*number).ok().and_then(|number| places.get(number));
            *number = at.copied().unwrap_or(u32::MAX);
        };
        for inst in &mut self.insts {
            match &mut inst.op {
                Op::Branch(target) => place(target),
                Op::BranchTable { targets, .. } => targets.iter_mut().for_each(place),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds an instruction under the current guard.
    pub(crate) fn emit(&mut self, op: Op) -> Result<()> {
        self.parser.instructions += 1;
        if self.parser.instructions > self.parser.limits.instructions {
            return self.error(format!("more than {} instructions", self.parser.limits.instructions));
        }
        let (guard, guard_not) = (self.guard, self.guard_not);
        self.insts.push(Inst { op, guard, guard_not, line: self.line });
        Ok(())
    }

    /// Called before an instruction is emitted in several steps: its guard must not change between them.
    pub(crate) fn hold_guard(&mut self) -> Result<()> {
        if self.guard == NONE {
            return Ok(());
        }
        let (guard, guard_not) = (self.guard, self.guard_not);
        let copy = self.take_slot()?;
        (self.guard, self.guard_not) = (NONE, false);
        let f = crate::exec::alu::logic::mov(1);
        self.emit(Op::Unary { f, to: copy, a: Source::Slot(guard), imm: 0 })?;
        (self.guard, self.guard_not) = (copy, guard_not);
        Ok(())
    }

    /// Notes that the function takes a symbol's address.
    pub(super) fn used(&mut self, symbol: u32) -> Source {
        self.uses.push(symbol);
        self.taken.push(symbol);
        Source::Symbol(symbol, 0)
    }

    /// All operands up to the semicolon.
    fn operands(&mut self) -> Result<Vec<Operand>> {
        let mut list = Vec::new();
        if self.parser.lexer.eat(b';')? {
            return Ok(list);
        }
        loop {
            list.push(self.operand()?);
            if self.parser.lexer.eat(b';')? {
                return Ok(list);
            }
            if list.len() >= 8 {
                return self.error("too many operands");
            }
            self.parser.lexer.expect(b',')?;
        }
    }

    fn instruction(&mut self, opcode: &'a str) -> Result<()> {
        match opcode {
            "bra" | "bra.uni" => {
                let name = self.parser.lexer.word("a label")?;
                let target = self.labels.number(name, self.line)?;
                self.emit(Op::Branch(target))?;
                self.parser.lexer.expect(b';')
            }
            "brx.idx" | "brx.idx.uni" => {
                let index = self.operand()?;
                let index = self.value(&index, Type::U32)?;
                self.parser.lexer.expect(b',')?;
                let name = self.parser.lexer.word("a list of targets")?;
                let Some(Name::Targets(targets)) = self.find(name).cloned() else {
                    return self.error(format!("{} is not a list of targets", Token::Word(name)));
                };
                self.emit(Op::BranchTable { index, targets })?;
                self.parser.lexer.expect(b';')
            }
            "call" | "call.uni" => self.call(),
            _ => {
                super::decode::check(opcode, self.line)?;
                let operands = self.operands()?;
                self.decode(opcode, &operands)
            }
        }
    }

    fn call(&mut self) -> Result<()> {
        let results = if self.parser.lexer.peek() == Token::Punct(b'(') {
            let list = self.arguments()?;
            self.parser.lexer.expect(b',')?;
            list
        } else {
            Vec::new()
        };
        let name = self.parser.lexer.word("a function")?;
        let target = if self.find(name).is_some() || name.starts_with('%') {
            match self.lookup(name)? {
                Operand::Register(slot, Type::U64 | Type::B64 | Type::S64) => {
                    Target::Indirect(Source::Slot(slot))
                }
                _ => return self.error(format!("{} cannot be called", Token::Word(name))),
            }
        } else {
            let symbol = self.parser.symbol(name)?;
            self.uses.push(symbol);
            Target::Direct(symbol)
        };
        let mut arguments = Vec::new();
        if self.parser.lexer.eat(b',')? {
            if self.parser.lexer.peek() == Token::Punct(b'(') {
                arguments = self.arguments()?;
                if self.parser.lexer.eat(b',')? {
                    self.prototype()?;
                }
            } else {
                self.prototype()?;
            }
        }
        self.parser.lexer.expect(b';')?;
        self.emit(Op::Call(Box::new(Call { target, arguments, results, frame: 0 })))
    }

    /// The name of a prototype or of a list of targets; what is called is checked when it is called.
    fn prototype(&mut self) -> Result<()> {
        let name = self.parser.lexer.word("a prototype")?;
        match self.find(name) {
            Some(Name::Prototype) => Ok(()),
            _ => self.error(format!("{} is not a prototype", Token::Word(name))),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Argument>> {
        self.parser.lexer.expect(b'(')?;
        let mut list = Vec::new();
        if self.parser.lexer.eat(b')')? {
            return Ok(list);
        }
        loop {
            let argument = match self.parser.lexer.peek() {
                Token::Word(name) => match self.find(name) {
                    Some(Name::Local { offset, size, param: true }) => {
                        let argument = Argument::Variable { offset: *offset, size: *size };
                        self.parser.lexer.next()?;
                        argument
                    }
                    _ => self.scalar_argument()?,
                },
                _ => self.scalar_argument()?,
            };
            list.push(argument);
            if list.len() > 4096 {
                return self.error("too many arguments");
            }
            if self.parser.lexer.eat(b')')? {
                return Ok(list);
            }
            self.parser.lexer.expect(b',')?;
        }
    }

    fn scalar_argument(&mut self) -> Result<Argument> {
        let operand = self.operand()?;
        let source = match operand {
            Operand::Register(slot, _) => Source::Slot(slot),
            Operand::Number(Number::Int(value) | Number::F64(value)) => Source::Value(value),
            Operand::Number(Number::F32(bits)) => Source::Value(bits.into()),
            _ => return self.error("call arguments are '.param' variables, registers or constants"),
        };
        Ok(Argument::Value(source))
    }
}

/// The slot that a result goes to when nobody wants it.
pub(crate) const DISCARD: Slot = ir::NONE;
