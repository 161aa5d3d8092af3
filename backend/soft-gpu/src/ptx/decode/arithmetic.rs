//! Integer and floating-point arithmetic.

use super::{Modifiers, Result};
use crate::exec::alu::float::{ABS, FTZ, NAN, RELU, XORSIGN};
use crate::exec::alu::round::Mode;
use crate::exec::alu::{float, half, integer, logic};
use crate::ptx::body::Body;
use crate::ptx::ir::Source;
use crate::ptx::operand::Operand;
use crate::ptx::types::Type;

fn is_half(ty: Type) -> bool {
    matches!(ty, Type::F16 | Type::F16x2 | Type::Bf16 | Type::Bf16x2)
}

impl Body<'_, '_> {
    pub(super) fn arithmetic(
        &mut self,
        name: &str,
        m: &mut Modifiers<'_>,
        operands: &[Operand],
    ) -> Result<()> {
        match name {
            "addc" | "subc" => return self.add_sub_carry(name == "subc", true, m, operands),
            "add" | "sub" if m.take("cc") => return self.add_sub_carry_out(name == "sub", m, operands),
            "mad" if m.take("cc") => return self.mad_carry(false, true, m, operands),
            "madc" => {
                let out = m.take("cc");
                return self.mad_carry(true, out, m, operands);
            }
            "dp4a" | "dp2a" => return self.dot(name, m, operands),
            "add" | "min" | "max" if m.list.iter().any(|part| *part == "u16x2" || *part == "s16x2") => {
                let signed = m.take("s16x2");
                m.take("u16x2");
                return self.simple2(m, operands, Type::B32, integer::packed16(name, signed), 0);
            }
            _ => {}
        }
        let wide = m.take("wide");
        let part = m.take_one(&["lo", "hi"]);
        let ty = m.ty()?;
        if ty.is_float() {
            if wide || part.is_some() {
                return m.unsupported();
            }
            return self.float(name, ty, m, operands);
        }
        if ty == Type::Pred {
            return m.unsupported();
        }
        let high = part == Some("hi");
        match name {
            "add" | "sub" if m.take("sat") => {
                let f = if name == "add" { integer::add_saturating() } else { integer::sub_saturating() };
                self.simple2(m, operands, ty, (ty == Type::S32 && !wide && part.is_none()).then_some(f), 0)
            }
            "add" => self.simple2(m, operands, ty, integer::add(ty), 0),
            "sub" => self.simple2(m, operands, ty, integer::sub(ty), 0),
            "mul" | "mad" if !wide && part.is_none() => m.unsupported(),
            "mul" if wide => self.mul_wide(ty, m, operands),
            "mul" => {
                let f = if high { integer::mul_high(ty) } else { integer::mul_low(ty) };
                self.simple2(m, operands, ty, f, 0)
            }
            "mad" if wide => {
                let Some(outer) = ty.wide() else { return m.unsupported() };
                self.simple3(m, operands, (ty, outer), integer::mad_wide(ty), 0)
            }
            "mad" if !high => self.simple3(m, operands, (ty, ty), integer::mad_low(ty), 0),
            "mad" => {
                let saturate = m.take("sat");
                if saturate && ty != Type::S32 {
                    return m.unsupported();
                }
                let add = if saturate { Some(integer::add_saturating()) } else { integer::add(ty) };
                self.product_and_sum(ty, integer::mul_high(ty), add, m, operands)
            }
            "mul24" => self.simple2(m, operands, ty, part.and_then(|_| integer::mul24(ty, high)), 0),
            "mad24" => {
                let saturate = m.take("sat");
                if saturate && (ty != Type::S32 || !high) || part.is_none() {
                    return m.unsupported();
                }
                let add = if saturate { Some(integer::add_saturating()) } else { integer::add(ty) };
                self.product_and_sum(ty, integer::mul24(ty, high), add, m, operands)
            }
            "sad" => self.simple3(m, operands, (ty, ty), integer::sad(ty), 0),
            "div" => self.simple2(m, operands, ty, integer::div(ty), 0),
            "rem" => self.simple2(m, operands, ty, integer::rem(ty), 0),
            "neg" => self.simple1(m, operands, ty, integer::neg(ty).filter(|_| ty.is_signed()), 0),
            "abs" => self.simple1(m, operands, ty, integer::abs(ty), 0),
            "min" | "max" if m.take("relu") => {
                let f = (ty == Type::S32).then(|| integer::relu(name == "max"));
                self.simple2(m, operands, ty, f, 0)
            }
            "min" => self.simple2(m, operands, ty, integer::min(ty), 0),
            "max" => self.simple2(m, operands, ty, integer::max(ty), 0),
            _ => m.unsupported(),
        }
    }

    fn mul_wide(&mut self, ty: Type, m: &Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let f = m.check(integer::mul_wide(ty))?;
        let outer = m.check(ty.wide())?;
        self.count(m, operands, 3)?;
        let to = self.target(operands, 0, outer)?;
        let a = self.source(operands, 1, ty)?;
        let b = self.source(operands, 2, ty)?;
        self.emit2(f, 0, to, a, b)
    }

    /// A product and then a sum, each rounded to the type: integers, where that is what PTX says.
    fn product_and_sum(
        &mut self,
        ty: Type,
        mul: Option<crate::ptx::ir::Binary>,
        add: Option<crate::ptx::ir::Binary>,
        m: &Modifiers<'_>,
        operands: &[Operand],
    ) -> Result<()> {
        let (mul, add) = (m.check(mul)?, m.check(add)?);
        self.count(m, operands, 4)?;
        let to = self.target(operands, 0, ty)?;
        let [a, b, c] = [1, 2, 3].map(|index| self.source(operands, index, ty));
        let product = self.take_slot()?;
        self.emit2(mul, 0, product, a?, b?)?;
        self.emit2(add, 0, to, Source::Slot(product), c?)
    }

    /// `add.cc`, `sub.cc`: no carry in, carry out.
    fn add_sub_carry_out(&mut self, sub: bool, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let ty = m.ty()?;
        self.carry_step(sub, ty, Source::Value(0), true, m, operands)
    }

    /// `addc`, `subc`, with or without `.cc`.
    fn add_sub_carry(
        &mut self,
        sub: bool,
        carry_in: bool,
        m: &mut Modifiers<'_>,
        operands: &[Operand],
    ) -> Result<()> {
        let out = m.take("cc");
        let ty = m.ty()?;
        let carry = if carry_in { Source::Slot(self.carry()?) } else { Source::Value(0) };
        self.carry_step(sub, ty, carry, out, m, operands)
    }

    fn carry_step(
        &mut self,
        sub: bool,
        ty: Type,
        carry_in: Source,
        out: bool,
        m: &Modifiers<'_>,
        operands: &[Operand],
    ) -> Result<()> {
        let wide = ty.bits() == 64;
        if !(ty.is_integer() && ty.bits() >= 32) {
            return m.unsupported();
        }
        m.finish()?;
        self.count(m, operands, 3)?;
        let to = self.target(operands, 0, ty)?;
        let (a, b) = (self.source(operands, 1, ty)?, self.source(operands, 2, ty)?);
        let (value, carry) = if sub {
            (integer::sub_borrow(wide), integer::borrow_of_sub(wide))
        } else {
            (integer::add_carry(wide), integer::carry_of_add(wide))
        };
        if !out {
            return self.emit3(value, 0, to, [a, b, carry_in]);
        }
        // The carry is computed first: the result may overwrite an operand.
        self.hold_guard()?;
        let next = self.take_slot()?;
        let flag = self.carry()?;
        self.emit3(carry, 0, next, [a, b, carry_in])?;
        self.emit3(value, 0, to, [a, b, carry_in])?;
        self.emit1(logic::mov(1), 0, flag, Source::Slot(next))
    }

    /// `mad.cc`, `madc`: the product's half plus `c`, with carries.
    fn mad_carry(
        &mut self,
        carry_in: bool,
        out: bool,
        m: &mut Modifiers<'_>,
        operands: &[Operand],
    ) -> Result<()> {
        let part = m.take_one(&["lo", "hi"]);
        let ty = m.ty()?;
        let product = match part {
            Some("hi") => integer::mul_high(ty),
            Some(_) => integer::mul_low(ty),
            None => None,
        };
        let product = m.check(product.filter(|_| ty.bits() >= 32))?;
        self.count(m, operands, 4)?;
        self.hold_guard()?;
        let (a, b) = (self.source(operands, 1, ty)?, self.source(operands, 2, ty)?);
        let slot = self.take_slot()?;
        self.emit2(product, 0, slot, a, b)?;
        let carry = if carry_in { Source::Slot(self.carry()?) } else { Source::Value(0) };
        let sum =
            [self.nth(operands, 0)?.clone(), Operand::Register(slot, ty), self.nth(operands, 3)?.clone()];
        self.carry_step(false, ty, carry, out, m, &sum)
    }

    fn dot(&mut self, name: &str, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let part = if name == "dp2a" { m.take_one(&["lo", "hi"]) } else { Some("lo") };
        let (a, b) = (m.ty()?, m.ty()?);
        let signs =
            u32::from(a == Type::S32) | u32::from(b == Type::S32) << 1 | u32::from(part == Some("hi")) << 2;
        let valid = [a, b].iter().all(|ty| matches!(ty, Type::U32 | Type::S32)) && part.is_some();
        let f = if name == "dp2a" { integer::dp2a() } else { integer::dp4a() };
        self.simple3(m, operands, (Type::B32, Type::B32), valid.then_some(f), signs)
    }

    fn float(&mut self, name: &str, ty: Type, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        if is_half(ty) {
            return self.half(name, ty, m, operands);
        }
        let single = ty == Type::F32;
        // `.approx` and `.full` are met by the correctly rounded result, but without double's `.ftz` form.
        let approximate = m.take_one(&["approx", "full"]);
        if approximate.is_some() && !single {
            return self.approximate_double(name, m, operands);
        }
        let mut imm = m.float_flags();
        if !single && imm & !7 != 0 {
            return m.unsupported();
        }
        let rounds = matches!(name, "add" | "sub" | "mul" | "fma" | "mad" | "div" | "rcp" | "sqrt");
        if imm & 7 != 0 && (!rounds || approximate.is_some()) {
            return m.unsupported();
        }
        match name {
            "add" => self.simple2(m, operands, ty, float::add(ty, imm), imm),
            "sub" => self.simple2(m, operands, ty, float::sub(ty, imm), imm),
            "mul" => self.simple2(m, operands, ty, float::mul(ty, imm), imm),
            "div" => self.simple2(m, operands, ty, float::div(ty, imm), imm),
            // For sm_20 and later `mad` is defined as `fma`.
            "fma" | "mad" => self.simple3(m, operands, (ty, ty), float::fma(ty, imm), imm),
            "sqrt" => self.simple1(m, operands, ty, float::sqrt(ty, imm), imm),
            "rcp" => self.simple1(m, operands, ty, float::rcp(ty, imm), imm),
            "rsqrt" | "sin" | "cos" | "lg2" | "ex2" | "tanh" => {
                let f = float::special(name).filter(|_| approximate == Some("approx") && single);
                self.simple1(m, operands, ty, f, imm)
            }
            "neg" => self.simple1(m, operands, ty, float::neg(ty, imm), imm),
            "abs" => self.simple1(m, operands, ty, float::abs(ty, imm), imm),
            "min" | "max" => {
                imm |= if m.take("NaN") { NAN } else { 0 };
                if m.take("xorsign") {
                    if !m.take("abs") {
                        return m.unsupported();
                    }
                    imm |= XORSIGN | ABS;
                }
                let f = float::min_max(ty, name == "max", imm).filter(|_| single || imm == 0);
                if operands.len() == 4 {
                    return self.three_way(f, imm, ty, m, operands);
                }
                self.simple2(m, operands, ty, f, imm)
            }
            "copysign" => self.simple2(m, operands, ty, float::copysign(ty).filter(|_| imm == 0), 0),
            "testp" => {
                let names = ["finite", "infinite", "number", "notanumber", "normal", "subnormal"];
                let property = m.take_one(&names);
                let f = m.check(property.and_then(|name| float::test(name, ty)))?;
                self.count(m, operands, 2)?;
                let to = self.target(operands, 0, Type::Pred)?;
                let a = self.source(operands, 1, ty)?;
                self.emit1(f, 0, to, a)
            }
            _ => m.unsupported(),
        }
    }

    /// `min`, `max` of three operands.
    fn three_way(
        &mut self,
        f: Option<crate::ptx::ir::Binary>,
        imm: u32,
        ty: Type,
        m: &Modifiers<'_>,
        operands: &[Operand],
    ) -> Result<()> {
        let f = m.check(f.filter(|_| imm & XORSIGN == 0))?;
        let to = self.target(operands, 0, ty)?;
        let [a, b, c] = [1, 2, 3].map(|index| self.source(operands, index, ty));
        let first = self.take_slot()?;
        self.emit2(f, imm, first, a?, b?)?;
        self.emit2(f, imm, to, Source::Slot(first), c?)
    }

    fn approximate_double(&mut self, name: &str, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let f = match (name, m.take("ftz")) {
            ("rcp" | "rsqrt", true) => float::coarse(name),
            ("rsqrt", false) => Some(float::rsqrt64()),
            _ => None,
        };
        self.simple1(m, operands, Type::F64, f, 0)
    }

    fn half(&mut self, name: &str, ty: Type, m: &mut Modifiers<'_>, operands: &[Operand]) -> Result<()> {
        let mut imm = 0;
        if matches!(name, "add" | "sub" | "mul" | "fma") {
            if m.mode() != Mode::Nearest {
                return m.unsupported();
            }
            imm |= if m.take("sat") { float::SAT } else { 0 };
        }
        imm |= if m.take("ftz") { FTZ } else { 0 };
        match name {
            "add" | "sub" | "mul" => self.simple2(m, operands, ty, half::two(name, ty), imm),
            "fma" => {
                imm |= if m.take("relu") { RELU } else { 0 };
                self.simple3(m, operands, (ty, ty), half::fma(ty), imm)
            }
            "neg" | "abs" => self.simple1(m, operands, ty, half::one(name, ty), imm),
            "ex2" | "tanh" => {
                let f = half::one(name, ty).filter(|_| m.take("approx"));
                self.simple1(m, operands, ty, f, imm)
            }
            "min" | "max" => {
                imm |= if m.take("NaN") { NAN } else { 0 };
                if m.take("xorsign") {
                    if !m.take("abs") {
                        return m.unsupported();
                    }
                    imm |= XORSIGN | ABS;
                }
                self.simple2(m, operands, ty, half::two(name, ty), imm)
            }
            _ => m.unsupported(),
        }
    }
}
