//! Bits, shifts, comparisons and selections.

use super::{Modifiers, Result};
use crate::exec::alu::float::FTZ;
use crate::exec::alu::{float, half, logic};
use crate::ptx::body::{Body, DISCARD};
use crate::ptx::ir::{Binary, Op, Source};
use crate::ptx::lexer::Number;
use crate::ptx::operand::Operand;
use crate::ptx::types::Type;

const INTEGER_COMPARES: [&str; 10] = ["eq", "ne", "lt", "le", "gt", "ge", "lo", "ls", "hi", "hs"];
const FLOAT_COMPARES: [&str; 14] =
    ["eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"];

impl Body<'_, '_> {
    pub(super) fn logic(&mut self, name: &str, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        match name {
            "set" | "setp" => return self.compare(name, m, operands),
            "slct" => return self.slct(m, operands),
            "lop3" => return self.lop3(m, operands),
            "prmt" => return self.prmt(m, operands),
            "shf" => {
                let left = m.take("l");
                let right = m.take("r");
                let wrap = m.take("wrap");
                let clamp = m.take("clamp");
                let valid = left != right && wrap != clamp && m.ty()? == Type::B32;
                let f = valid.then(|| logic::funnel(left, wrap));
                return self.simple3(m, operands, (Type::B32, Type::B32), f, 0);
            }
            "bmsk" | "szext" => {
                let wrap = m.take("wrap");
                let clamp = m.take("clamp");
                let ty = m.ty()?;
                let f = if name == "bmsk" { logic::bmsk(wrap) } else { logic::szext(wrap, ty.is_signed()) };
                return self.simple2(m, operands, ty, (wrap != clamp && ty.bits() == 32).then_some(f), 0);
            }
            "bfind" => {
                let shift = m.take("shiftamt");
                let ty = m.ty()?;
                let f = m.check(logic::bfind(ty, shift))?;
                return self.single_result(f, ty, m, operands);
            }
            _ => {}
        }
        let ty = m.ty()?;
        let wide = ty.bits() == 64;
        let untyped = ty.is_untyped() && ty != Type::B8;
        let bitwise = untyped || ty == Type::Pred;
        match name {
            "and" => self.simple2(m, operands, ty, bitwise.then(logic::and), 0),
            "or" => self.simple2(m, operands, ty, bitwise.then(logic::or), 0),
            "xor" => self.simple2(m, operands, ty, bitwise.then(logic::xor), 0),
            "not" => self.simple1(m, operands, ty, bitwise.then(|| logic::not(ty.bits())), 0),
            "cnot" => self.simple1(m, operands, ty, untyped.then(logic::cnot), 0),
            "shl" => self.shift(ty, logic::shl(ty.bits()).filter(|_| untyped), m, operands),
            "shr" => self.shift(ty, logic::shr(ty), m, operands),
            "popc" | "clz" => {
                let f = if name == "popc" { logic::popc(wide) } else { logic::clz(wide) };
                let f = m.check((untyped && ty.bits() >= 32).then_some(f))?;
                self.single_result(f, ty, m, operands)
            }
            "brev" => {
                let f = (untyped && ty.bits() >= 32).then(|| logic::brev(wide));
                self.simple1(m, operands, ty, f, 0)
            }
            "bfe" => {
                let f = m.check(logic::bfe(ty))?;
                self.count(m, operands, 4)?;
                let to = self.target(operands, 0, ty)?;
                let a = self.source(operands, 1, ty)?;
                let [at, length] = [2, 3].map(|index| self.source(operands, index, Type::U32));
                self.emit3(f, 0, to, [a, at?, length?])
            }
            "bfi" => {
                m.check((untyped && ty.bits() >= 32).then_some(()))?;
                self.count(m, operands, 5)?;
                let to = self.target(operands, 0, ty)?;
                let [a, b] = [1, 2].map(|index| self.source(operands, index, ty));
                let [at, length] = [3, 4].map(|index| self.source(operands, index, Type::U32));
                let (a, b, at, length) = (a?, b?, at?, length?);
                let mask = self.take_slot()?;
                let moved = self.take_slot()?;
                let shl = m.check(logic::shl(ty.bits()))?;
                let low = self.take_slot()?;
                // Only eight bits of the position count.
                self.emit2(logic::and(), 0, low, at, Source::Value(0xff))?;
                self.emit2(logic::field_mask(wide), 0, mask, at, length)?;
                self.emit2(shl, 0, moved, a, Source::Slot(low))?;
                self.emit3(logic::merge(), 0, to, [Source::Slot(mask), Source::Slot(moved), b])
            }
            "fns" => {
                let f = m.check((ty == Type::B32).then(logic::fns))?;
                self.count(m, operands, 4)?;
                let to = self.target(operands, 0, ty)?;
                let a = self.source(operands, 1, ty)?;
                let b = self.source(operands, 2, Type::B32)?;
                let c = self.source(operands, 3, Type::S32)?;
                self.emit3(f, 0, to, [a, b, c])
            }
            "selp" => {
                m.check((ty.bits() >= 16).then_some(()))?;
                self.count(m, operands, 4)?;
                let to = self.target(operands, 0, ty)?;
                let [a, b] = [1, 2].map(|index| self.source(operands, index, ty));
                let p = self.source(operands, 3, Type::Pred)?;
                self.emit3(logic::select(), 0, to, [p, a?, b?])
            }
            _ => m.unsupported(),
        }
    }

    /// An instruction whose result has 32 bits whatever its operand's type.
    fn single_result(
        &mut self,
        f: crate::ptx::ir::Unary,
        ty: Type,
        m: &Modifiers<'_>,
        operands: &[Operand],
    ) -> Result<()> {
        self.count(m, operands, 2)?;
        let to = self.target(operands, 0, Type::U32)?;
        let a = self.source(operands, 1, ty)?;
        self.emit1(f, 0, to, a)
    }

    fn shift(&mut self, ty: Type, f: Option<Binary>, m: &Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let f = m.check(f)?;
        self.count(m, operands, 3)?;
        let to = self.target(operands, 0, ty)?;
        let a = self.source(operands, 1, ty)?;
        let n = self.source(operands, 2, Type::U32)?;
        self.emit2(f, 0, to, a, n)
    }

    fn lop3(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        m.check(Some(())).or_else(|_| if m.list.contains(&"b32") { Ok(()) } else { m.unsupported() })?;
        let ty = m.ty()?;
        m.check((ty == Type::B32).then_some(()))?;
        self.count(m, operands, 5)?;
        let to = self.target(operands, 0, ty)?;
        let [a, b, c] = [1, 2, 3].map(|index| self.source(operands, index, ty));
        match self.nth(operands, 4)? {
            Operand::Number(Number::Int(table @ 0..=255)) => {
                let table = u32::try_from(*table).unwrap_or(0);
                self.emit3(logic::lop3(), table, to, [a?, b?, c?])
            }
            _ => self.error("the table of lop3 must be a constant from 0 to 255"),
        }
    }

    fn prmt(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let ty = m.ty()?;
        let mode = m.take_one(&["f4e", "b4e", "rc8", "ecl", "ecr", "rc16"]);
        m.check((ty == Type::B32).then_some(()))?;
        self.count(m, operands, 4)?;
        let to = self.target(operands, 0, ty)?;
        let [a, b, c] = [1, 2, 3].map(|index| self.source(operands, index, ty));
        let (a, b, mut selector) = (a?, b?, c?);
        if let Some(f) = mode.and_then(logic::prmt_selector) {
            let slot = self.take_slot()?;
            self.emit1(f, 0, slot, selector)?;
            selector = Source::Slot(slot);
        }
        self.emit3(logic::prmt(), 0, to, [a, b, selector])
    }

    fn slct(&mut self, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let ftz = m.take("ftz");
        let (ty, by) = (m.ty()?, m.ty()?);
        let valid = ty.bits() >= 16 && (!ftz || by == Type::F32);
        let f = m.check(logic::not_negative(by).filter(|_| valid))?;
        self.count(m, operands, 4)?;
        let to = self.target(operands, 0, ty)?;
        let [a, b] = [1, 2].map(|index| self.source(operands, index, ty));
        let c = self.source(operands, 3, by)?;
        let c = if ftz {
            // A negative subnormal counts as -0, which is not negative.
            let slot = self.take_slot()?;
            let Some(abs) = float::add(Type::F32, FTZ) else { return m.unsupported() };
            self.emit2(abs, FTZ, slot, c, Source::Value(0))?;
            Source::Slot(slot)
        } else {
            c
        };
        let p = self.take_slot()?;
        self.emit1(f, 0, p, c)?;
        self.emit3(logic::select(), 0, to, [Source::Slot(p), a?, b?])
    }

    /// `setp.lt.and.s32 p|q, a, b, c;` and `set`, which writes a value instead of predicates.
    fn compare(&mut self, name: &str, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let combine = m.take_one(&["and", "or", "xor"]);
        let ftz = if m.take("ftz") { FTZ } else { 0 };
        let result = if name == "set" { Some(m.ty()?) } else { None };
        let ty = m.ty()?;
        let packed = matches!(ty, Type::F16x2 | Type::Bf16x2);
        let names: &[&str] = if ty.is_float() { &FLOAT_COMPARES } else { &INTEGER_COMPARES };
        let Some(operator) = m.take_one(names) else { return m.unsupported() };
        let flush_fits = ty.is_float() && ty != Type::F64;
        if packed && combine.is_some() || ftz != 0 && !flush_fits {
            return m.unsupported();
        }
        let f = match ty {
            Type::F32 | Type::F64 => float::compare(operator, ty),
            ty if ty.is_float() => float::compare(operator, Type::F32),
            ty => logic::compare_integer(operator, ty),
        };
        let f = m.check(f)?;
        self.count(m, operands, if combine.is_some() { 4 } else { 3 })?;
        self.hold_guard()?;
        let (p, q) = self.predicates(operands, result)?;
        let [a, b] = [1, 2].map(|index| self.source(operands, index, ty));
        let (a, b) = (a?, b?);
        if packed {
            let low = self.half_compare(f, ty, ftz, 0, a, b)?;
            let high = self.half_compare(f, ty, ftz, 1, a, b)?;
            let Some(result) = result else {
                self.emit1(logic::mov(1), 0, p, low)?;
                return self.emit1(logic::mov(1), 0, q, high);
            };
            return self.set_halves(result, p, [low, high], m);
        }
        let truth = if ty.is_float() && ty.bits() == 16 {
            self.half_compare(f, ty, ftz, 0, a, b)?
        } else {
            let slot = self.take_slot()?;
            self.emit2(f, ftz, slot, a, b)?;
            Source::Slot(slot)
        };
        let (mut first, mut second) = (truth, None);
        if q != DISCARD {
            let slot = self.take_slot()?;
            self.emit1(logic::not(1), 0, slot, truth)?;
            second = Some(Source::Slot(slot));
        }
        if let Some(combine) = combine {
            let f = m.check(logic::combine(combine))?;
            let c = self.predicate_source(operands, 3)?;
            let slot = self.take_slot()?;
            if let Some(value) = second {
                let slot = self.take_slot()?;
                self.emit2(f, 0, slot, value, c)?;
                second = Some(Source::Slot(slot));
            }
            self.emit2(f, 0, slot, first, c)?;
            first = Source::Slot(slot);
        }
        match result {
            Some(result) => {
                let f = m.check(logic::set_result(result))?;
                self.emit1(f, 0, p, first)
            }
            None => {
                self.emit1(logic::mov(1), 0, p, first)?;
                match second {
                    Some(second) => self.emit1(logic::mov(1), 0, q, second),
                    None => Ok(()),
                }
            }
        }
    }

    /// `set` of a packed comparison: each half of the result tells of its half.
    fn set_halves(&mut self, result: Type, to: u32, halves: [Source; 2], m: &Modifiers<'_>) -> Result<()> {
        let half = match result {
            Type::F16x2 => Type::F16,
            Type::Bf16x2 => Type::Bf16,
            Type::U32 | Type::S32 => Type::U16,
            _ => return m.unsupported(),
        };
        let f = m.check(logic::set_result(half))?;
        let slots = [self.take_slot()?, self.take_slot()?];
        for (slot, truth) in slots.into_iter().zip(halves) {
            self.emit1(f, 0, slot, truth)?;
        }
        let from = self.elements(&slots.map(Source::Slot))?;
        self.emit(Op::Pack { to, bits: 16, from })
    }

    /// Where the results go: two predicates, or one value of type `result`.
    fn predicates(&self, operands: &[Operand], result: Option<Type>) -> Result<(u32, u32)> {
        match (self.nth(operands, 0)?, result) {
            (Operand::Pair(p, q), None) => {
                let pair = [(**p).clone(), (**q).clone()];
                Ok((self.target(&pair, 0, Type::Pred)?, self.target(&pair, 1, Type::Pred)?))
            }
            (_, None) => Ok((self.target(operands, 0, Type::Pred)?, DISCARD)),
            (_, Some(ty)) => Ok((self.target(operands, 0, ty)?, DISCARD)),
        }
    }

    /// A predicate operand, perhaps negated.
    pub(super) fn predicate_source(&mut self, operands: &[Operand], index: usize) -> Result<Source> {
        match self.nth(operands, index)? {
            Operand::Not(slot) => {
                let to = self.take_slot()?;
                self.emit1(logic::not(1), 0, to, Source::Slot(*slot))?;
                Ok(Source::Slot(to))
            }
            operand => self.value(operand, Type::Pred),
        }
    }

    /// Compares one half of each operand, in single precision.
    fn half_compare(
        &mut self,
        f: Binary,
        ty: Type,
        ftz: u32,
        part: u32,
        a: Source,
        b: Source,
    ) -> Result<Source> {
        let Some(widen) = half::to_single(ty) else { return self.error("not a half type") };
        let [x, y, p] = [self.take_slot()?, self.take_slot()?, self.take_slot()?];
        self.emit1(widen, ftz | part, x, a)?;
        self.emit1(widen, ftz | part, y, b)?;
        self.emit2(f, 0, p, Source::Slot(x), Source::Slot(y))?;
        Ok(Source::Slot(p))
    }
}
