//! Single and double precision arithmetic.
//!
//! Singles in directed modes are computed in double precision rounded to odd and rounded once more;
//! doubles by `round::directed`. NaN results of singles are PTX's canonical 0x7fffffff.

use super::round::{self, F32, Mode, Wide, directed};
use super::{binary, lanes3, ternary, unary};
use crate::ptx::ir::{Binary, Lanes, Ternary, Unary};
use crate::ptx::types::Type;

/// `.ftz` in the immediate of a float instruction.
pub(crate) const FTZ: u32 = 1 << 8;
/// `.sat`
pub(crate) const SAT: u32 = 1 << 9;
/// `.NaN` of `min` and `max`
pub(crate) const NAN: u32 = 1 << 10;
/// `.xorsign`
pub(crate) const XORSIGN: u32 = 1 << 11;
/// `.abs` of `min` and `max`
pub(crate) const ABS: u32 = 1 << 12;
/// `.relu`
pub(crate) const RELU: u32 = 1 << 13;

const CANONICAL: u32 = 0x7fff_ffff;

/// Subnormals become zeros of their sign.
#[inline(always)]
pub(crate) fn flush(value: f32) -> f32 {
    let bits = value.to_bits();
    if bits & 0x7f80_0000 == 0 { f32::from_bits(bits & 0x8000_0000) } else { value }
}

#[inline(always)]
fn input(value: f32, imm: u32) -> f32 {
    if imm & FTZ != 0 { flush(value) } else { value }
}

/// The bits of a result, with NaN made canonical. As integers, because a compiler may treat all NaN alike.
#[inline(always)]
pub(crate) fn canonical(value: f32) -> u32 {
    let bits = value.to_bits();
    if bits & 0x7fff_ffff > 0x7f80_0000 { CANONICAL } else { bits }
}

/// Applies `.ftz` and `.sat` to a result and makes NaN canonical.
#[inline(always)]
fn finish(value: f32, imm: u32) -> u32 {
    let value = if imm & FTZ != 0 { flush(value) } else { value };
    if imm & SAT != 0 { saturate(value).to_bits() } else { canonical(value) }
}

/// Clamps to 0…1; NaN becomes 0.
fn saturate(value: f32) -> f32 {
    if value > 0.0 { value.min(1.0) } else { 0.0 }
}

fn narrow(value: f64, imm: u32) -> f32 {
    f32::from_bits(F32.round(value, Mode::from_bits(imm)))
}

/// A binary operation: the processor's own where the mode is nearest and nothing else is asked for.
macro_rules! arithmetic {
    ($ty:expr, $imm:expr, $wide:ident, |$a:ident, $b:ident| $plain:expr, $odd:expr) => {
        match ($ty, $imm) {
            (Type::F32, 0) => Some(binary!(|$a: f32, $b: f32| canonical($plain))),
            (Type::F32, imm) if Mode::from_bits(imm) == Mode::Nearest => {
                Some(binary!(|$a: f32, $b: f32, imm| {
                    let ($a, $b) = (input($a, imm), input($b, imm));
                    finish($plain, imm)
                }))
            }
            (Type::F32, _) => Some(binary!(|$a: f32, $b: f32, imm| {
                let ($a, $b) = (f64::from(input($a, imm)), f64::from(input($b, imm)));
                finish(narrow_sum($a, $b, $odd, imm), imm)
            })),
            (Type::F64, 0) => Some(binary!(|$a: f64, $b: f64| $plain)),
            (Type::F64, _) => Some(binary!(|$a: f64, $b: f64, imm| {
                directed(Wide::$wide, $a, $b, 0.0, Mode::from_bits(imm))
            })),
            _ => None,
        }
    };
}

/// Rounds; an exact zero from a sum of opposite values is -0 when rounding down.
fn narrow_sum(a: f64, b: f64, odd: fn(f64, f64) -> (f64, bool), imm: u32) -> f32 {
    let (value, is_sum) = odd(a, b);
    if is_sum
        && value == 0.0
        && a.is_sign_negative() != b.is_sign_negative()
        && Mode::from_bits(imm) == Mode::Down
    {
        return -0.0;
    }
    narrow(value, imm)
}

pub(crate) fn add(ty: Type, imm: u32) -> Option<Binary> {
    arithmetic!(ty, imm, Add, |a, b| a + b, |a, b| (round::add_odd(a, b), true))
}

pub(crate) fn sub(ty: Type, imm: u32) -> Option<Binary> {
    match (ty, imm) {
        (Type::F32, 0) => Some(binary!(|a: f32, b: f32| canonical(a - b))),
        (Type::F32, _) => Some(binary!(|a: f32, b: f32, imm| {
            let (a, b) = (input(a, imm), -input(b, imm));
            if Mode::from_bits(imm) == Mode::Nearest {
                finish(a + b, imm)
            } else {
                finish(narrow_sum(f64::from(a), f64::from(b), |a, b| (round::add_odd(a, b), true), imm), imm)
            }
        })),
        (Type::F64, 0) => Some(binary!(|a: f64, b: f64| a - b)),
        (Type::F64, _) => {
            Some(binary!(|a: f64, b: f64, imm| directed(Wide::Add, a, -b, 0.0, Mode::from_bits(imm))))
        }
        _ => None,
    }
}

pub(crate) fn mul(ty: Type, imm: u32) -> Option<Binary> {
    arithmetic!(ty, imm, Mul, |a, b| a * b, |a, b| (a * b, false))
}

/// `div.rn` and the other IEEE modes; also stands for `.full` and `.approx`, whose bounds it keeps.
pub(crate) fn div(ty: Type, imm: u32) -> Option<Binary> {
    arithmetic!(ty, imm, Div, |a, b| a / b, |a, b| (round::div_odd(a, b), false))
}

/// Fused multiply and add of singles, in any mode.
fn fma_single(a: f32, b: f32, c: f32, imm: u32) -> u32 {
    let (a, b, c) = (input(a, imm), input(b, imm), input(c, imm));
    // The product of two singles is exact in double precision.
    let product = f64::from(a) * f64::from(b);
    let sum = round::add_odd(product, f64::from(c));
    let mode = Mode::from_bits(imm);
    if sum == 0.0 && mode == Mode::Down && product.is_sign_negative() != c.is_sign_negative() {
        return finish(-0.0, imm);
    }
    finish(narrow(sum, imm), imm)
}

fn fma_general(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, imm: u32) {
    lanes3(to, a, b, c, |a: f32, b: f32, c: f32| fma_single(a, b, c, imm));
}

fn fma_plain(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, _: u32) {
    lanes3(to, a, b, c, |a: f32, b: f32, c: f32| canonical(a.mul_add(b, c)));
}

fn fma_plain64(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, _: u32) {
    lanes3(to, a, b, c, |a: f64, b: f64, c: f64| a.mul_add(b, c));
}

/// The same loops where the processor has the instruction; without it `mul_add` is a library call.
#[cfg(target_arch = "x86_64")]
mod with_fma {
    use super::{Lanes, fma_general, fma_plain, fma_plain64};

    #[target_feature(enable = "avx2,fma")]
    fn single_inner(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes) {
        super::lanes3(to, a, b, c, |a: f32, b: f32, c: f32| super::canonical(a.mul_add(b, c)));
    }

    #[target_feature(enable = "avx2,fma")]
    fn flushing_inner(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes) {
        super::lanes3(to, a, b, c, |a: f32, b: f32, c: f32| {
            super::finish(super::flush(a).mul_add(super::flush(b), super::flush(c)), super::FTZ)
        });
    }

    #[target_feature(enable = "avx2,fma")]
    fn double_inner(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes) {
        super::lanes3(to, a, b, c, |a: f64, b: f64, c: f64| a.mul_add(b, c));
    }

    fn available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    pub(super) fn single(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, imm: u32) {
        if available() {
            // SAFETY: the processor has just been found to have both features.
            unsafe { single_inner(to, a, b, c) }
        } else {
            fma_plain(to, a, b, c, imm);
        }
    }

    pub(super) fn flushing(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, imm: u32) {
        if available() {
            // SAFETY: the processor has just been found to have both features.
            unsafe { flushing_inner(to, a, b, c) }
        } else {
            fma_general(to, a, b, c, imm);
        }
    }

    pub(super) fn double(to: &mut Lanes, a: &Lanes, b: &Lanes, c: &Lanes, imm: u32) {
        if available() {
            // SAFETY: the processor has just been found to have both features.
            unsafe { double_inner(to, a, b, c) }
        } else {
            fma_plain64(to, a, b, c, imm);
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod with_fma {
    pub(super) use super::{fma_general as flushing, fma_plain as single, fma_plain64 as double};
}

pub(crate) fn fma(ty: Type, imm: u32) -> Option<Ternary> {
    Some(match (ty, imm) {
        (Type::F32, 0) => with_fma::single,
        (Type::F32, FTZ) => with_fma::flushing,
        (Type::F32, _) => fma_general,
        (Type::F64, 0) => with_fma::double,
        (Type::F64, _) => {
            ternary!(|a: f64, b: f64, c: f64, imm| directed(Wide::Fma, a, b, c, Mode::from_bits(imm)))
        }
        _ => return None,
    })
}

pub(crate) fn sqrt(ty: Type, imm: u32) -> Option<Unary> {
    Some(match (ty, imm) {
        (Type::F32, 0) => unary!(|a: f32| canonical(a.sqrt())),
        (Type::F32, _) => unary!(|a: f32, imm| {
            let a = input(a, imm);
            match Mode::from_bits(imm) {
                Mode::Nearest => finish(a.sqrt(), imm),
                _ => finish(narrow(round::sqrt_odd(f64::from(a)), imm), imm),
            }
        }),
        (Type::F64, 0) => unary!(|a: f64| a.sqrt()),
        (Type::F64, _) => unary!(|a: f64, imm| directed(Wide::Sqrt, a, 0.0, 0.0, Mode::from_bits(imm))),
        _ => return None,
    })
}

pub(crate) fn rcp(ty: Type, imm: u32) -> Option<Unary> {
    Some(match (ty, imm) {
        (Type::F32, 0) => unary!(|a: f32| canonical(1.0 / a)),
        (Type::F32, _) => unary!(|a: f32, imm| {
            let a = input(a, imm);
            match Mode::from_bits(imm) {
                Mode::Nearest => finish(1.0 / a, imm),
                _ => finish(narrow(round::div_odd(1.0, f64::from(a)), imm), imm),
            }
        }),
        (Type::F64, 0) => unary!(|a: f64| 1.0 / a),
        (Type::F64, _) => unary!(|a: f64, imm| directed(Wide::Div, 1.0, a, 0.0, Mode::from_bits(imm))),
        _ => return None,
    })
}

/// `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64`: the upper half of the result, the lower is zero.
pub(crate) fn coarse(name: &str) -> Option<Unary> {
    fn flush64(a: f64) -> f64 {
        if a.is_subnormal() { 0.0f64.copysign(a) } else { a }
    }
    fn upper(value: f64) -> f64 {
        let value = flush64(value);
        if value.is_nan() {
            f64::from_bits(0x7fff_ffff_0000_0000)
        } else {
            f64::from_bits(value.to_bits() & !0xffff_ffff)
        }
    }
    Some(match name {
        "rcp" => unary!(|a: f64| upper(1.0 / flush64(a))),
        "rsqrt" => unary!(|a: f64| upper(1.0 / flush64(a).sqrt())),
        _ => return None,
    })
}

/// The approximate functions of singles, computed in double precision: well within their bounds.
pub(crate) fn special(name: &str) -> Option<Unary> {
    macro_rules! function {
        (|$a:ident| $e:expr) => {
            unary!(|a: f32, imm| {
                let $a = f64::from(input(a, imm));
                finish(narrow($e, 0), imm)
            })
        };
    }
    Some(match name {
        "rsqrt" => function!(|a| 1.0 / a.sqrt()),
        "sin" => function!(|a| a.sin()),
        "cos" => function!(|a| a.cos()),
        "lg2" => function!(|a| a.log2()),
        "ex2" => function!(|a| a.exp2()),
        "tanh" => function!(|a| a.tanh()),
        _ => return None,
    })
}

/// `rsqrt.approx.f64`
pub(crate) fn rsqrt64() -> Unary {
    unary!(|a: f64| 1.0 / a.sqrt())
}

pub(crate) fn neg(ty: Type, imm: u32) -> Option<Unary> {
    Some(match (ty, imm) {
        (Type::F32, 0) => unary!(|a: u32| a ^ 0x8000_0000),
        (Type::F32, _) => unary!(|a: f32, imm| finish(-input(a, imm), imm)),
        (Type::F64, _) => unary!(|a: u64| a ^ 1 << 63),
        _ => return None,
    })
}

pub(crate) fn abs(ty: Type, imm: u32) -> Option<Unary> {
    Some(match (ty, imm) {
        (Type::F32, 0) => unary!(|a: u32| a & 0x7fff_ffff),
        (Type::F32, _) => unary!(|a: f32, imm| finish(input(a, imm).abs(), imm)),
        (Type::F64, _) => unary!(|a: u64| a & !(1 << 63)),
        _ => return None,
    })
}

/// Minimum or maximum with IEEE's rules of PTX: -0 below +0, one NaN gives the other operand.
pub(crate) fn pick(a: f64, b: f64, imm: u32, max: bool) -> f64 {
    if a.is_nan() || b.is_nan() {
        return match (a.is_nan(), b.is_nan()) {
            _ if imm & NAN != 0 => f64::NAN,
            (true, true) => f64::NAN,
            (true, _) => b,
            _ => a,
        };
    }
    let sign = (a.is_sign_negative() != b.is_sign_negative()) && imm & XORSIGN != 0;
    let (x, y) = if imm & (ABS | XORSIGN) != 0 { (a.abs(), b.abs()) } else { (a, b) };
    let x_first = if x == y { x.is_sign_negative() } else { x < y };
    let result = if x_first == max { y } else { x };
    if imm & XORSIGN != 0 { if sign { -result } else { result } } else { result }
}

/// Whether `a` comes before `b`, -0 before +0.
#[inline(always)]
fn below(a: f32, b: f32) -> bool {
    a < b || a == b && a.is_sign_negative()
}

/// `a` or `b`, or the one that is a number.
#[inline(always)]
fn plain_pick(a: f32, b: f32, first: bool) -> u32 {
    if b.is_nan() || first && !a.is_nan() { canonical(a) } else { canonical(b) }
}

pub(crate) fn min_max(ty: Type, max: bool, imm: u32) -> Option<Binary> {
    macro_rules! single {
        ($max:literal) => {
            binary!(|a: f32, b: f32, imm| {
                let picked = pick(f64::from(input(a, imm)), f64::from(input(b, imm)), imm, $max);
                finish(narrow(picked, 0), imm & FTZ)
            })
        };
    }
    Some(match (ty, max) {
        (Type::F32, false) if imm == 0 => binary!(|a: f32, b: f32| plain_pick(a, b, below(a, b))),
        (Type::F32, true) if imm == 0 => binary!(|a: f32, b: f32| plain_pick(a, b, !below(a, b))),
        (Type::F32, false) => single!(false),
        (Type::F32, true) => single!(true),
        (Type::F64, false) => binary!(|a: f64, b: f64| pick(a, b, 0, false)),
        (Type::F64, true) => binary!(|a: f64, b: f64| pick(a, b, 0, true)),
        _ => return None,
    })
}

/// `copysign`: the sign of `a` on `b`.
pub(crate) fn copysign(ty: Type) -> Option<Binary> {
    Some(match ty {
        Type::F32 => binary!(|a: u32, b: u32| (a & 0x8000_0000) | (b & 0x7fff_ffff)),
        Type::F64 => binary!(|a: u64, b: u64| (a & 1 << 63) | (b & !(1 << 63))),
        _ => return None,
    })
}

/// `testp`
pub(crate) fn test(property: &str, ty: Type) -> Option<Unary> {
    macro_rules! property {
        ($t:ty) => {
            match property {
                "finite" => unary!(|a: $t| a.is_finite()),
                "infinite" => unary!(|a: $t| a.is_infinite()),
                "number" => unary!(|a: $t| !a.is_nan()),
                "notanumber" => unary!(|a: $t| a.is_nan()),
                "normal" => unary!(|a: $t| a.is_normal()),
                "subnormal" => unary!(|a: $t| a.is_subnormal()),
                _ => return None,
            }
        };
    }
    Some(match ty {
        Type::F32 => property!(f32),
        Type::F64 => property!(f64),
        _ => return None,
    })
}

/// A comparison of singles or doubles; `a` and `b` have been widened or flushed by the caller.
pub(crate) fn compare(operator: &str, ty: Type) -> Option<Binary> {
    macro_rules! operator {
        (|$a:ident: $t:ty, $b:ident, $imm:ident| $x:expr, $y:expr) => {
            match operator {
                "eq" => binary!(|$a: $t, $b: $t, $imm| $x == $y),
                "ne" => binary!(|$a: $t, $b: $t, $imm| matches!($x.partial_cmp(&$y), Some(o) if o.is_ne())),
                "lt" => binary!(|$a: $t, $b: $t, $imm| $x < $y),
                "le" => binary!(|$a: $t, $b: $t, $imm| $x <= $y),
                "gt" => binary!(|$a: $t, $b: $t, $imm| $x > $y),
                "ge" => binary!(|$a: $t, $b: $t, $imm| $x >= $y),
                "equ" => binary!(|$a: $t, $b: $t, $imm| !matches!($x.partial_cmp(&$y), Some(o) if o.is_ne())),
                "neu" => binary!(|$a: $t, $b: $t, $imm| $x != $y),
                "ltu" => binary!(|$a: $t, $b: $t, $imm| !matches!($x.partial_cmp(&$y), Some(o) if o.is_ge())),
                "leu" => binary!(|$a: $t, $b: $t, $imm| !matches!($x.partial_cmp(&$y), Some(o) if o.is_gt())),
                "gtu" => binary!(|$a: $t, $b: $t, $imm| !matches!($x.partial_cmp(&$y), Some(o) if o.is_le())),
                "geu" => binary!(|$a: $t, $b: $t, $imm| !matches!($x.partial_cmp(&$y), Some(o) if o.is_lt())),
                "num" => binary!(|$a: $t, $b: $t, $imm| !$x.is_nan() && !$y.is_nan()),
                "nan" => binary!(|$a: $t, $b: $t, $imm| $x.is_nan() || $y.is_nan()),
                _ => return None,
            }
        };
    }
    Some(match ty {
        Type::F32 => operator!(|a: f32, b, imm| input(a, imm), input(b, imm)),
        Type::F64 => operator!(|a: f64, b, _imm| a, b),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Register, apply1, apply2, apply3};
    use super::*;

    fn f(value: f32) -> u64 {
        value.put()
    }

    fn op2(function: Option<Binary>, a: f32, b: f32, imm: u32) -> f32 {
        f32::get(apply2(function.expect("supported"), f(a), f(b), imm))
    }

    #[test]
    fn nan_results_are_canonical() {
        let nan = apply2(add(Type::F32, 0).expect("add"), f(f32::INFINITY), f(f32::NEG_INFINITY), 0);
        assert_eq!(nan, 0x7fff_ffff);
        assert_eq!(apply1(sqrt(Type::F32, 0).expect("sqrt"), f(-1.0), 0), 0x7fff_ffff);
        assert_eq!(
            apply2(min_max(Type::F32, true, 0).expect("max"), 0xffc0_1234, 0xffc0_0001, 0),
            0x7fff_ffff
        );
        assert_eq!(apply3(fma(Type::F32, 0).expect("fma"), f(0.0), f(f32::INFINITY), 0, 0), 0x7fff_ffff);
    }

    #[test]
    fn subnormals_flush_with_their_sign() {
        let tiny = f32::from_bits(0x8000_0001);
        let flushed = op2(add(Type::F32, FTZ), tiny, -0.0, FTZ);
        assert_eq!(flushed.to_bits(), 0x8000_0000);
        assert_eq!(op2(mul(Type::F32, FTZ), 1e-30, 1e-10, FTZ), 0.0);
        assert_ne!(op2(mul(Type::F32, 0), 1e-30, 1e-10, 0), 0.0);
        assert_eq!(apply2(compare("eq", Type::F32).expect("eq"), 1, 0, FTZ), 1);
        assert_eq!(apply2(compare("eq", Type::F32).expect("eq"), 1, 0, 0), 0);
    }

    #[test]
    fn saturation_clamps_and_drops_nan() {
        assert_eq!(op2(add(Type::F32, SAT), 0.75, 0.75, SAT), 1.0);
        assert_eq!(op2(add(Type::F32, SAT), -0.75, 0.0, SAT), 0.0);
        assert_eq!(op2(add(Type::F32, SAT), f32::NAN, 0.0, SAT).to_bits(), 0);
    }

    #[test]
    fn directed_modes_bracket() {
        let run = |mode: Mode| op2(add(Type::F32, mode.to_bits()), 1.0, 1e-20, mode.to_bits());
        assert_eq!(run(Mode::Zero), 1.0);
        assert_eq!(run(Mode::Down), 1.0);
        assert_eq!(run(Mode::Up), 1.0f32.next_up());
        let third = |mode: Mode| op2(div(Type::F32, mode.to_bits()), 1.0, 3.0, mode.to_bits());
        assert_eq!(third(Mode::Up), third(Mode::Down).next_up());
        let down = Mode::Down.to_bits();
        assert_eq!(op2(sub(Type::F32, down), 1.0, 1.0, down).to_bits(), 0x8000_0000);
        assert_eq!(op2(add(Type::F32, down), 0.0, 0.0, down).to_bits(), 0);
        assert_eq!(op2(mul(Type::F32, Mode::Zero.to_bits()), f32::MAX, 2.0, Mode::Zero.to_bits()), f32::MAX);
    }

    #[test]
    fn fused_is_rounded_once_in_every_mode() {
        let (a, c) = (1.0 + f32::EPSILON, -(1.0 + 2.0 * f32::EPSILON));
        let fused = |imm| f32::get(apply3(fma(Type::F32, imm).expect("fma"), f(a), f(a), f(c), imm));
        assert_eq!(fused(0), f32::EPSILON * f32::EPSILON);
        assert_eq!(fused(Mode::Up.to_bits()), f32::EPSILON * f32::EPSILON);
        let mut state = 1u64;
        for _ in 0..100_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            let (x, y) = (f32::get(state >> 32), f32::get(state >> 7));
            let z = f32::get(state >> 20);
            let want = canonical(x.mul_add(y, z));
            assert_eq!(fma_single(x, y, z, 0), want, "{x:e} {y:e} {z:e}");
        }
    }

    #[test]
    fn minimum_and_maximum() {
        for (a, b) in
            [(1.0f32, 2.0f32), (2.0, 1.0), (-0.0, 0.0), (0.0, -0.0), (f32::NAN, 1.0), (1.0, f32::NAN)]
        {
            for max in [false, true] {
                let slow = F32.round(pick(f64::from(a), f64::from(b), 0, max), Mode::Nearest);
                assert_eq!(op2(min_max(Type::F32, max, 0), a, b, 0).to_bits(), slow, "{a} {b} {max}");
            }
        }
        assert_eq!(op2(min_max(Type::F32, false, 0), -0.0, 0.0, 0).to_bits(), 0x8000_0000);
        assert_eq!(op2(min_max(Type::F32, true, 0), f32::NAN, 2.0, 0), 2.0);
        assert!(op2(min_max(Type::F32, true, NAN), f32::NAN, 2.0, NAN).is_nan());
        assert_eq!(op2(min_max(Type::F32, true, XORSIGN | ABS), -3.0, 2.0, XORSIGN | ABS), -3.0);
    }

    #[test]
    fn unordered_comparisons() {
        let truth = |name| apply2(compare(name, Type::F32).expect(name), f(f32::NAN), f(1.0), 0);
        for (name, want) in [
            ("eq", 0),
            ("ne", 0),
            ("lt", 0),
            ("ge", 0),
            ("equ", 1),
            ("neu", 1),
            ("ltu", 1),
            ("geu", 1),
            ("num", 0),
            ("nan", 1),
        ] {
            assert_eq!(truth(name), want, "{name}");
        }
        assert_eq!(op2(copysign(Type::F32), -1.0, 5.0, 0), -5.0);
    }
}
