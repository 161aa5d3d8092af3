//! Functions up to their bodies: parameters, results, launch bounds.

use super::body::Body;
use super::ir::{Code, Place};
use super::lexer::{Number, Token};
use super::module::SymbolKind;
use super::parser::Parser;
use super::types::Type;
use super::{CompileError, Function, FunctionKind, Linkage, Param};

/// Where parameters of a function are declared to be.
pub(crate) struct Signature<'a> {
    pub(crate) names: Vec<(&'a str, Place, Type)>,
}

impl<'a> Parser<'a> {
    pub(super) fn function(&mut self, kind: FunctionKind, linkage: Linkage) -> Result<(), CompileError> {
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
    /// Local memory in use.
    pub(crate) local: u32,
    most_local: u32,
    slots: u32,
}

impl Frame {
    pub(crate) fn take_slot(&mut self) -> u32 {
        let slot = self.slots + super::ir::header::COUNT;
        self.slots += 1;
        slot
    }

    /// Local memory that the function needs.
    pub(crate) fn local_bytes(&self) -> u32 {
        self.most_local
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
        self.most_local = self.most_local.max(self.local);
        Some(narrow(offset))
    }
}
