//! Moves and conversions, of values and of addresses.

use super::{Modifiers, Result};
use crate::exec::alu::convert::{self, Conversion};
use crate::exec::alu::logic;
use crate::exec::alu::round::Mode;
use crate::ptx::FunctionKind;
use crate::ptx::body::{Body, DISCARD};
use crate::ptx::ir::{Op, Source, window};
use crate::ptx::operand::Operand;
use crate::ptx::types::Type;

impl Body<'_, '_> {
    pub(super) fn convert(&mut self, name: &str, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        match name {
            "mov" => self.mov(m, operands),
            "cvt" => self.cvt(m, operands),
            "cvta" => self.cvta(m, operands),
            _ => self.isspacep(m, operands),
        }
    }

    fn mov(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let ty = m.ty()?;
        m.finish()?;
        self.count(m, operands, 2)?;
        match (self.nth(operands, 0)?, self.nth(operands, 1)?) {
            (Operand::Vector(parts), whole) => {
                let element = self.part_type(ty, parts.len())?;
                let mut slots = Vec::new();
                for (index, _) in parts.iter().enumerate() {
                    slots.push(self.target(parts, index, element)?);
                }
                let from = self.value(whole, ty)?;
                self.emit(Op::Unpack { to: self.elements(&slots)?, bits: element.bits(), from })
            }
            (_, Operand::Vector(parts)) => {
                let element = self.part_type(ty, parts.len())?;
                let mut sources = Vec::new();
                for part in parts {
                    sources.push(self.value(part, element)?);
                }
                let to = self.target(operands, 0, ty)?;
                self.emit(Op::Pack { to, bits: element.bits(), from: self.elements(&sources)? })
            }
            _ => {
                let to = self.target(operands, 0, ty)?;
                let a = self.source(operands, 1, ty)?;
                self.emit1(logic::mov(ty.bits()), 0, to, a)
            }
        }
    }

    /// The type of one of `count` parts of a value.
    fn part_type(&self, ty: Type, count: usize) -> Result<Type> {
        match (ty.bits(), count) {
            (64, 2) | (32, 1) => Ok(Type::B32),
            (64, 4) | (32, 2) | (16, 1) => Ok(Type::B16),
            (64, 8) | (32, 4) | (16, 2) => Ok(Type::B8),
            (64, 1) => Ok(Type::B64),
            _ => self.error(format!("{ty:?} cannot be split into {count} parts")),
        }
    }

    fn cvt(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let integral = m.take_one(&["rni", "rzi", "rmi", "rpi"]);
        let mode = match integral {
            Some("rni") => Some(Mode::Nearest),
            Some("rzi") => Some(Mode::Zero),
            Some("rmi") => Some(Mode::Down),
            Some(_) => Some(Mode::Up),
            None => m.take_one(&["rn", "rz", "rm", "rp", "rna"]).and_then(Mode::parse),
        };
        let (ftz, sat, relu) = (m.take("ftz"), m.take("sat"), m.take("relu"));
        if m.take("tf32") {
            return self.cvt_tf32(mode, ftz || sat || relu || integral.is_some(), m, operands);
        }
        let (to, from) = (m.ty()?, m.ty()?);
        let packed = match to {
            Type::F16x2 => Some(Type::F16),
            Type::Bf16x2 => Some(Type::Bf16),
            _ => None,
        };
        let conversion = Conversion {
            to: packed.unwrap_or(to),
            from,
            mode: mode.unwrap_or(Mode::Nearest),
            integral: integral.is_some() && to.is_float(),
            ftz,
            sat,
            relu,
        };
        let widening = to.is_float() && from.is_float() && to.bits() > from.bits();
        let same = to == from && to.is_float();
        let needs_integral = to.is_integer() && from.is_float();
        let needs_mode = to.is_float() && !widening && !same;
        let valid = match () {
            () if needs_integral => integral.is_some(),
            () if needs_mode => mode.is_some() && integral.is_none(),
            () if to.is_integer() => mode.is_none(),
            () => mode.is_none() || integral.is_some() || from == Type::Bf16 || to == Type::Bf16,
        };
        let flags_fit = (!ftz || to == Type::F32 || from == Type::F32)
            && (!relu || matches!(conversion.to, Type::F16 | Type::Bf16))
            && !matches!(from, Type::F16x2 | Type::Bf16x2 | Type::Pred)
            && !from.is_untyped();
        if !valid || !flags_fit {
            return m.unsupported();
        }
        if packed.is_some() {
            let valid = from == Type::F32 && mode != Some(Mode::NearestAway);
            let (f, imm) = m.check(convert::pick_packed(conversion).filter(|_| valid))?;
            self.count(m, operands, 3)?;
            let slot = self.target(operands, 0, to)?;
            let [a, b] = [1, 2].map(|index| self.source(operands, index, from));
            return self.emit2(f, imm, slot, a?, b?);
        }
        let (f, imm) = m.check(convert::pick(conversion))?;
        self.count(m, operands, 2)?;
        let (slot, register) = self.wide_target(self.nth(operands, 0)?, to)?;
        let a = self.source(operands, 1, from)?;
        self.emit1(f, imm, slot, a)?;
        if to.is_signed() && register.bits() > to.bits() && slot != DISCARD {
            // A guard cannot be the destination, which is no predicate: two steps are safe.
            return self.emit1(logic::extend_signed(to.bits(), register.bits()), 0, slot, Source::Slot(slot));
        }
        Ok(())
    }

    fn cvt_tf32(
        &mut self,
        mode: Option<Mode>,
        other: bool,
        m: &mut Modifiers<'_>,
        operands: &[Operand],
    ) -> Result<()> {
        let from = m.ty()?;
        let mode = mode.filter(|mode| matches!(mode, Mode::Nearest | Mode::Zero | Mode::NearestAway));
        let mode = m.check(mode.filter(|_| !other && from == Type::F32))?;
        self.count(m, operands, 2)?;
        let to = self.target(operands, 0, Type::B32)?;
        let a = self.source(operands, 1, from)?;
        self.emit1(convert::to_tf32(), mode.to_bits(), to, a)
    }

    fn cvta(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let to_space = m.take("to");
        let space =
            m.take_one(&["global", "const", "shared", "shared::cta", "local", "param", "param::entry"]);
        let ty = m.ty()?;
        let base = match space {
            Some("global" | "const") => 0,
            Some("shared" | "shared::cta") => window::SHARED,
            Some("local") => window::LOCAL,
            Some(_) if self.kind == FunctionKind::Device => window::LOCAL,
            Some(_) => window::PARAM,
            None => return m.unsupported(),
        };
        m.check((ty == Type::U64).then_some(()))?;
        self.count(m, operands, 2)?;
        let to = self.target(operands, 0, ty)?;
        let a = self.source(operands, 1, ty)?;
        match (base, to_space) {
            (0, _) => self.emit1(logic::mov(64), 0, to, a),
            (_, true) => self.emit2(logic::and(), 0, to, a, Source::Value((1 << window::BITS) - 1)),
            (base, false) => self.emit2(logic::or(), 0, to, a, Source::Value(base)),
        }
    }

    fn isspacep(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let space = m.take_one(&["global", "shared", "shared::cta", "local", "param", "param::entry"]);
        let Some(space) = space else { return m.unsupported() };
        m.finish()?;
        self.count(m, operands, 2)?;
        let to = self.target(operands, 0, Type::Pred)?;
        let a = self.source(operands, 1, Type::U64)?;
        let base = match space {
            "global" => return self.emit1(logic::in_no_window(), 0, to, a),
            "shared" | "shared::cta" => window::SHARED,
            "local" => window::LOCAL,
            _ => window::PARAM,
        };
        self.emit2(logic::in_window(), 0, to, a, Source::Value(base))
    }
}
