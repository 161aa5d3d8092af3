//! Decoding of instructions: opcode and operands in, [`super::ir`] out.
//!
//! A decoder takes the modifiers that it knows; one that is left over makes the instruction
//! unsupported. So a modifier is never ignored by accident.

mod arithmetic;
mod convert;
mod logic;
mod memory;
mod sync;
mod view;

use super::CompileError;
use super::body::{Body, DISCARD};
use super::ir::{Binary, Op, Slot, Source, Ternary, Unary};
use super::lexer::Token;
use super::operand::Operand;
use super::types::Type;
use crate::exec::alu::float::{FTZ, SAT};
use crate::exec::alu::round::Mode;

type Result<T> = std::result::Result<T, CompileError>;

/// The modifiers of an opcode that nobody has taken yet.
pub(crate) struct Modifiers<'a> {
    opcode: &'a str,
    line: u32,
    list: Vec<&'a str>,
}

impl<'a> Modifiers<'a> {
    fn take(&mut self, name: &str) -> bool {
        let at = self.list.iter().position(|modifier| *modifier == name);
        at.map(|at| self.list.remove(at)).is_some()
    }

    /// Takes the first of `names` that is present.
    fn take_one<'n>(&mut self, names: &[&'n str]) -> Option<&'n str> {
        names.iter().copied().find(|name| self.take(name))
    }

    /// Takes the first modifier that is a type.
    fn take_type(&mut self) -> Option<Type> {
        let (at, ty) =
            self.list.iter().enumerate().find_map(|(at, name)| Type::parse(name).map(|ty| (at, ty)))?;
        self.list.remove(at);
        Some(ty)
    }

    fn ty(&mut self) -> Result<Type> {
        match self.take_type() {
            Some(ty) => Ok(ty),
            None => self.unsupported(),
        }
    }

    /// Takes a rounding mode; nearest if there is none.
    fn mode(&mut self) -> Mode {
        self.take_one(&["rn", "rz", "rm", "rp"]).and_then(Mode::parse).unwrap_or(Mode::Nearest)
    }

    /// Takes rounding, `.ftz` and `.sat` as a float instruction's immediate.
    fn float_flags(&mut self) -> u32 {
        let mode = self.mode().to_bits();
        mode | if self.take("ftz") { FTZ } else { 0 } | if self.take("sat") { SAT } else { 0 }
    }

    fn unsupported<T>(&self) -> Result<T> {
        let message = format!("instruction {} is not supported", Token::Word(self.opcode));
        Err(CompileError { line: self.line, message })
    }

    /// `value`, if it exists and nothing is left over.
    fn check<T>(&self, value: Option<T>) -> Result<T> {
        match value {
            Some(value) if self.list.is_empty() => Ok(value),
            _ => self.unsupported(),
        }
    }

    fn finish(&self) -> Result<()> {
        self.check(Some(()))
    }
}

/// The decoders.
#[derive(Clone, Copy)]
enum Family {
    Arithmetic,
    Logic,
    Convert,
    Memory,
    Sync,
    View,
}

/// The decoder for an instruction's name; `None` if it is not supported in any form.
fn family(name: &str) -> Option<Family> {
    Some(match name {
        "add" | "sub" | "mul" | "mad" | "fma" | "div" | "rem" | "neg" | "abs" | "min" | "max" | "sad"
        | "mul24" | "mad24" | "addc" | "subc" | "madc" | "dp4a" | "dp2a" | "rcp" | "sqrt" | "rsqrt"
        | "sin" | "cos" | "lg2" | "ex2" | "tanh" | "copysign" | "testp" => Family::Arithmetic,
        "and" | "or" | "xor" | "not" | "cnot" | "shl" | "shr" | "shf" | "lop3" | "prmt" | "popc" | "clz"
        | "bfind" | "brev" | "bfe" | "bfi" | "fns" | "bmsk" | "szext" | "set" | "setp" | "selp" | "slct" => {
            Family::Logic
        }
        "cvt" | "mov" | "cvta" | "isspacep" => Family::Convert,
        "ld" | "ldu" | "st" | "atom" | "red" | "prefetch" | "prefetchu" | "discard" | "applypriority"
        | "alloca" | "stacksave" | "stackrestore" => Family::Memory,
        "bar" | "barrier" | "membar" | "fence" | "vote" | "match" | "shfl" | "activemask" | "redux"
        | "elect" | "nanosleep" | "ret" | "exit" | "trap" | "brkpt" | "pmevent" | "griddepcontrol" => {
            Family::Sync
        }
        "tex" | "tld4" | "txq" | "suld" | "sust" | "suq" => Family::View,
        _ => return None,
    })
}

fn split(opcode: &str, line: u32) -> (&str, Modifiers<'_>) {
    let mut parts = opcode.split('.');
    let name = parts.next().unwrap_or("");
    (name, Modifiers { opcode, line, list: parts.collect() })
}

/// Whether an instruction's operands are worth reading.
pub(crate) fn check(opcode: &str, line: u32) -> Result<()> {
    let (name, m) = split(opcode, line);
    if family(name).is_some() { Ok(()) } else { m.unsupported() }
}

impl Body<'_, '_> {
    pub(crate) fn decode(&mut self, opcode: &str, operands: &[Operand]) -> Result<()> {
        let (name, mut m) = split(opcode, self.line);
        match family(name) {
            Some(Family::Arithmetic) => self.arithmetic(name, &mut m, operands),
            Some(Family::Logic) => self.logic(name, &mut m, operands),
            Some(Family::Convert) => self.convert(name, &mut m, operands),
            Some(Family::Memory) => self.memory(name, &mut m, operands),
            Some(Family::Sync) => self.sync(name, &mut m, operands),
            Some(Family::View) => self.view(name, &mut m, operands),
            None => m.unsupported(),
        }
    }

    fn count(&self, m: &Modifiers<'_>, operands: &[Operand], expected: usize) -> Result<()> {
        if operands.len() == expected {
            return Ok(());
        }
        self.error(format!("{} takes {expected} operands, found {}", Token::Word(m.opcode), operands.len()))
    }

    /// An operand by position.
    fn nth<'o>(&self, operands: &'o [Operand], index: usize) -> Result<&'o Operand> {
        match operands.get(index) {
            Some(operand) => Ok(operand),
            None => self.error("too few operands"),
        }
    }

    fn source(&self, operands: &[Operand], index: usize, ty: Type) -> Result<Source> {
        self.value(self.nth(operands, index)?, ty)
    }

    /// A destination register of exactly the type's width, or nothing.
    fn target(&self, operands: &[Operand], index: usize, ty: Type) -> Result<Slot> {
        match self.nth(operands, index)? {
            Operand::Register(slot, have) if have.bits() == ty.bits() => Ok(*slot),
            Operand::Discard => Ok(DISCARD),
            _ => self.error(format!("the result needs a register of type {ty:?}")),
        }
    }

    /// A destination that may be wider than the result.
    fn wide_target(&self, operand: &Operand, ty: Type) -> Result<(Slot, Type)> {
        match operand {
            Operand::Register(slot, have) if have.bits() >= ty.bits() && *have != Type::Pred => {
                Ok((*slot, *have))
            }
            Operand::Discard => Ok((DISCARD, ty)),
            _ => self.error(format!("the result needs a register of type {ty:?}")),
        }
    }

    fn emit1(&mut self, f: Unary, imm: u32, to: Slot, a: Source) -> Result<()> {
        self.emit(Op::Unary { f, to, a, imm })
    }

    fn emit2(&mut self, f: Binary, imm: u32, to: Slot, a: Source, b: Source) -> Result<()> {
        self.emit(Op::Binary { f, to, a, b, imm })
    }

    fn emit3(&mut self, f: Ternary, imm: u32, to: Slot, abc: [Source; 3]) -> Result<()> {
        let [a, b, c] = abc;
        self.emit(Op::Ternary { f, to, a, b, c, imm })
    }

    /// `op d, a;` with all of one type.
    fn simple1(
        &mut self,
        m: &Modifiers<'_>,
        operands: &[Operand],
        ty: Type,
        f: Option<Unary>,
        imm: u32,
    ) -> Result<()> {
        let f = m.check(f)?;
        self.count(m, operands, 2)?;
        let to = self.target(operands, 0, ty)?;
        let a = self.source(operands, 1, ty)?;
        self.emit1(f, imm, to, a)
    }

    /// `op d, a, b;` with all of one type.
    fn simple2(
        &mut self,
        m: &Modifiers<'_>,
        operands: &[Operand],
        ty: Type,
        f: Option<Binary>,
        imm: u32,
    ) -> Result<()> {
        let f = m.check(f)?;
        self.count(m, operands, 3)?;
        let to = self.target(operands, 0, ty)?;
        let a = self.source(operands, 1, ty)?;
        let b = self.source(operands, 2, ty)?;
        self.emit2(f, imm, to, a, b)
    }

    /// `op d, a, b, c;` with `d` and `c` of type `outer`, `a` and `b` of type `ty`.
    fn simple3(
        &mut self,
        m: &Modifiers<'_>,
        operands: &[Operand],
        (ty, outer): (Type, Type),
        f: Option<Ternary>,
        imm: u32,
    ) -> Result<()> {
        let f = m.check(f)?;
        self.count(m, operands, 4)?;
        let to = self.target(operands, 0, outer)?;
        let a = self.source(operands, 1, ty)?;
        let b = self.source(operands, 2, ty)?;
        let c = self.source(operands, 3, outer)?;
        self.emit3(f, imm, to, [a, b, c])
    }
}
