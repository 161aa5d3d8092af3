//! Loads, stores, atomics, the stack.

use super::{Modifiers, Result};
use crate::ptx::FunctionKind;
use crate::ptx::body::{Body, DISCARD};
use crate::ptx::ir::{Address, Atomic, AtomicOp, Load, Memory, Op, Source, Store};
use crate::ptx::lexer::Number;
use crate::ptx::operand::{Home, Operand};
use crate::ptx::types::Type;

/// State spaces as modifiers.
const SPACES: [&str; 9] =
    ["global", "shared", "local", "param", "const", "shared::cta", "param::entry", "param::func", "generic"];

/// Hints about caches, which have no meaning here.
const HINTS: [&str; 22] = [
    "ca",
    "cg",
    "cs",
    "lu",
    "cv",
    "wb",
    "wt",
    "nc",
    "unified",
    "L1::evict_normal",
    "L1::evict_unchanged",
    "L1::evict_first",
    "L1::evict_last",
    "L1::no_allocate",
    "L2::evict_normal",
    "L2::evict_first",
    "L2::evict_last",
    "L2::64B",
    "L2::128B",
    "L2::256B",
    "L1::evict_unchanged",
    "nosplit",
];

impl Body<'_, '_> {
    pub(super) fn memory(&mut self, name: &str, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        match name {
            "ld" | "ldu" => self.load(m, operands),
            "st" => self.store(m, operands),
            "atom" | "red" => self.atomic(name == "red", m, operands),
            "prefetch" | "prefetchu" | "discard" | "applypriority" => {
                if m.take("tensormap") || m.list.iter().any(|part| part.starts_with("tensor")) {
                    return m.unsupported();
                }
                self.emit(Op::Nothing)
            }
            "alloca" => {
                let ty = m.ty()?;
                m.check((ty.bits() == 64).then_some(()))?;
                let to = self.target(operands, 0, ty)?;
                let size = self.source(operands, 1, ty)?;
                let align = match operands.get(2) {
                    None => 8,
                    Some(Operand::Number(Number::Int(n))) if n.is_power_of_two() && *n <= 4096 => {
                        u32::try_from(*n).unwrap_or(8)
                    }
                    Some(_) => return self.error("alignment must be a power of two of at most 4096"),
                };
                self.emit(Op::Alloca { to, size, align })
            }
            "stacksave" => {
                let ty = m.ty()?;
                m.check((ty.bits() == 64).then_some(()))?;
                let to = self.target(operands, 0, ty)?;
                self.emit(Op::StackSave(to))
            }
            _ => {
                let ty = m.ty()?;
                m.check((ty.bits() == 64).then_some(()))?;
                let from = self.source(operands, 0, ty)?;
                self.emit(Op::StackRestore(from))
            }
        }
    }

    /// Where an access goes, from its state space and its operand.
    fn address(&self, space: Option<&str>, operand: &Operand) -> Result<Address> {
        let Operand::Address(base, offset) = operand else {
            return self.error("an address in brackets is needed");
        };
        let offset = *offset;
        let stated = match space {
            None | Some("generic") => None,
            Some("global" | "const") => Some(Memory::Global),
            Some("shared" | "shared::cta") => Some(Memory::Shared),
            Some("local") => Some(Memory::Local),
            Some("param::entry") => Some(Memory::Param),
            Some(_) if self.kind == FunctionKind::Device => Some(Memory::Local),
            Some(_) => Some(Memory::Param),
        };
        match &**base {
            Operand::Variable(home, source) => {
                let memory = match home {
                    Home::KernelParam => Memory::Param,
                    Home::FunctionParam | Home::Local => Memory::Local,
                    Home::Shared => Memory::Shared,
                    Home::Global | Home::Const => Memory::Global,
                    Home::Unknown => stated.unwrap_or(Memory::Global),
                    Home::Function => return self.error("a function is no memory"),
                };
                // Arguments of a call are written as `.param` in kernels, too.
                let argument = *home == Home::FunctionParam && stated == Some(Memory::Param);
                if stated.is_some_and(|stated| stated != memory) && !argument {
                    return self.error(format!("the variable is not in {} memory", space.unwrap_or("this")));
                }
                Ok(Address { memory, base: *source, offset })
            }
            Operand::Number(Number::Int(at)) => {
                Ok(Address { memory: stated.unwrap_or(Memory::Generic), base: Source::Value(*at), offset })
            }
            Operand::Register(slot, ty) if ty.bits() == 64 => {
                Ok(Address { memory: stated.unwrap_or(Memory::Generic), base: Source::Slot(*slot), offset })
            }
            Operand::Register(slot, ty)
                if ty.bits() == 32
                    && matches!(stated, Some(Memory::Shared | Memory::Local | Memory::Param)) =>
            {
                Ok(Address { memory: stated.unwrap_or(Memory::Shared), base: Source::Slot(*slot), offset })
            }
            _ => self.error("an address is a variable or a 64-bit register"),
        }
    }

    fn hints(m: &mut Modifiers<'_>) -> bool {
        while m.take_one(&HINTS).is_some() {}
        m.take("L2::cache_hint")
    }

    fn scope(m: &mut Modifiers<'_>) {
        m.take_one(&["cta", "cluster", "gpu", "sys", "gl"]);
    }

    fn vector(m: &mut Modifiers<'_>) -> usize {
        match m.take_one(&["v2", "v4", "v8"]) {
            Some("v2") => 2,
            Some("v4") => 4,
            Some(_) => 8,
            None => 1,
        }
    }

    fn load(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let polls = m.take_one(&["volatile", "relaxed", "acquire"]).is_some();
        m.take_one(&["weak", "mmio"]);
        Self::scope(m);
        let space = m.take_one(&SPACES);
        let hint = Self::hints(m);
        let count = Self::vector(m);
        let ty = m.ty()?;
        m.check((ty != Type::Pred).then_some(()))?;
        self.count(m, operands, if hint { 3 } else { 2 })?;
        let address = self.address(space, self.nth(operands, 1)?)?;
        let list = match self.nth(operands, 0)? {
            Operand::Vector(list) if list.len() == count => list.as_slice(),
            other if count == 1 => std::slice::from_ref(other),
            _ => return self.error(format!("a vector of {count} registers is needed")),
        };
        let (mut slots, mut mask) = (Vec::new(), ty.mask());
        for item in list {
            let (slot, register) = self.wide_target(item, ty)?;
            if slot != DISCARD {
                mask = register.mask();
            }
            slots.push(slot);
        }
        let to = self.elements(&slots)?;
        let load = Load { address, width: ty.bytes(), signed: ty.is_signed(), mask, polls, to };
        self.emit(Op::Load(Box::new(load)))
    }

    fn store(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let orders = m.take_one(&["volatile", "relaxed", "release"]).is_some();
        m.take_one(&["weak", "mmio"]);
        if m.list.contains(&"async") || m.list.contains(&"bulk") {
            return m.unsupported();
        }
        Self::scope(m);
        let space = m.take_one(&SPACES);
        let hint = Self::hints(m);
        let count = Self::vector(m);
        let ty = m.ty()?;
        m.check((ty != Type::Pred).then_some(()))?;
        self.count(m, operands, if hint { 3 } else { 2 })?;
        let address = self.address(space, self.nth(operands, 0)?)?;
        let list = match self.nth(operands, 1)? {
            Operand::Vector(list) if list.len() == count => list.as_slice(),
            other if count == 1 => std::slice::from_ref(other),
            _ => return self.error(format!("a vector of {count} values is needed")),
        };
        let mut sources = Vec::new();
        for item in list {
            sources.push(self.value(item, ty)?);
        }
        let from = self.elements(&sources)?;
        self.emit(Op::Store(Box::new(Store { address, width: ty.bytes(), orders, from })))
    }

    fn atomic(&mut self, reduce: bool, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        m.take_one(&["relaxed", "acquire", "release", "acq_rel"]);
        Self::scope(m);
        let space = m.take_one(&["global", "shared", "shared::cta", "generic"]);
        let names = ["and", "or", "xor", "cas", "exch", "add", "inc", "dec", "min", "max"];
        let Some(name) = m.take_one(&names) else { return m.unsupported() };
        let no_flush = m.take("noftz");
        let hint = Self::hints(m);
        let ty = m.ty()?;
        let op = atomic_op(name, ty).filter(|_| !no_flush || ty.is_float());
        let op = m.check(op.filter(|_| !(reduce && matches!(name, "cas" | "exch"))))?;
        let start = usize::from(!reduce);
        let values = if name == "cas" { 2 } else { 1 };
        self.count(m, operands, start + 1 + values + usize::from(hint))?;
        let to = if reduce { DISCARD } else { self.target(operands, 0, ty)? };
        let address = self.address(space, self.nth(operands, start)?)?;
        let value = self.source(operands, start + 1, ty)?;
        let other = if name == "cas" { self.source(operands, start + 2, ty)? } else { Source::Value(0) };
        self.emit(Op::Atomic(Box::new(Atomic { address, op, width: ty.bytes(), to, value, other })))
    }
}

fn atomic_op(name: &str, ty: Type) -> Option<AtomicOp> {
    let wide = ty.bits() >= 32 && !ty.is_float();
    Some(match (name, ty) {
        ("and", Type::B32 | Type::B64) => AtomicOp::And,
        ("or", Type::B32 | Type::B64) => AtomicOp::Or,
        ("xor", Type::B32 | Type::B64) => AtomicOp::Xor,
        ("exch", Type::B32 | Type::B64 | Type::U32 | Type::U64 | Type::S32 | Type::F32) => AtomicOp::Exchange,
        ("cas", Type::B16 | Type::B32 | Type::B64 | Type::U32 | Type::U64 | Type::S32) => {
            AtomicOp::CompareExchange
        }
        ("add", ty) if wide && ty.is_integer() => AtomicOp::Add,
        ("add", Type::F32) => AtomicOp::AddF32,
        ("add", Type::F64) => AtomicOp::AddF64,
        ("add", Type::F16) => AtomicOp::AddF16,
        ("add", Type::F16x2) => AtomicOp::AddF16x2,
        ("add", Type::Bf16) => AtomicOp::AddBf16,
        ("add", Type::Bf16x2) => AtomicOp::AddBf16x2,
        ("inc", Type::U32) => AtomicOp::Increment,
        ("dec", Type::U32) => AtomicOp::Decrement,
        ("min", Type::S32 | Type::S64) => AtomicOp::MinSigned,
        ("max", Type::S32 | Type::S64) => AtomicOp::MaxSigned,
        ("min", Type::U32 | Type::U64) => AtomicOp::MinUnsigned,
        ("max", Type::U32 | Type::U64) => AtomicOp::MaxUnsigned,
        _ => return None,
    })
}
