//! Half precision and bfloat16, scalar and packed: exact or rounded-to-odd in double precision, then
//! rounded once.

use super::float::{self, FTZ, RELU, SAT};
use super::round::{self, BF16, F16, Format, Mode};
use super::{binary, ternary, unary};
use crate::ptx::ir::{Binary, Ternary, Unary};
use crate::ptx::types::Type;

/// One of the two formats, known when compiling so that loops are specialised.
pub(crate) trait Half {
    const FORMAT: Format;
    /// Exponent field in the sixteen bits.
    const EXPONENT: u16;
    fn widen(bits: u16) -> f64;
}

pub(crate) struct Binary16;
pub(crate) struct Brain16;

impl Half for Binary16 {
    const FORMAT: Format = F16;
    const EXPONENT: u16 = 0x7c00;
    fn widen(bits: u16) -> f64 {
        let sign = u64::from(bits >> 15) << 63;
        let (exponent, fraction) = (u64::from(bits >> 10 & 0x1f), u64::from(bits & 0x3ff));
        let magnitude = match exponent {
            0 => return f64::from(bits & 0x3ff) * f64::from_bits(sign | (1023 - 24) << 52),
            0x1f => 0x7ff << 52 | fraction << 42,
            _ => (exponent + 1023 - 15) << 52 | fraction << 42,
        };
        f64::from_bits(sign | magnitude)
    }
}

impl Half for Brain16 {
    const FORMAT: Format = BF16;
    const EXPONENT: u16 = 0x7f80;
    fn widen(bits: u16) -> f64 {
        f64::from(f32::from_bits(u32::from(bits) << 16))
    }
}

/// Value of sixteen bits of a type.
pub(crate) fn widen(ty: Type, bits: u16) -> f64 {
    if matches!(ty, Type::Bf16 | Type::Bf16x2) { Brain16::widen(bits) } else { Binary16::widen(bits) }
}

fn low16(value: u32) -> u16 {
    let [a, b, ..] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}

fn flush<H: Half>(bits: u16) -> u16 {
    if bits & H::EXPONENT == 0 { bits & 0x8000 } else { bits }
}

fn read<H: Half>(bits: u16, imm: u32) -> f64 {
    H::widen(if imm & FTZ != 0 { flush::<H>(bits) } else { bits })
}

fn write<H: Half>(value: f64, imm: u32) -> u16 {
    let value = match value {
        v if imm & SAT != 0 => {
            if v > 0.0 {
                v.min(1.0)
            } else {
                0.0
            }
        }
        v if imm & RELU != 0 && v < 0.0 => 0.0,
        v => v,
    };
    let mode = if imm & SAT != 0 { Mode::Nearest } else { Mode::from_bits(imm) };
    let bits = low16(H::FORMAT.round(value, mode));
    if imm & FTZ != 0 { flush::<H>(bits) } else { bits }
}

/// Sum of half values, rounded to odd.
fn add(a: f64, b: f64) -> f64 {
    round::add_odd(a, b)
}

fn both<R: Fn(u16, u16, u16) -> u16>(a: u32, b: u32, c: u32, f: R) -> u32 {
    let low = f(low16(a), low16(b), low16(c));
    let high = f(low16(a >> 16), low16(b >> 16), low16(c >> 16));
    u32::from(high) << 16 | u32::from(low)
}

macro_rules! by_half {
    ($ty:expr, unary, $f:ident) => {
        Some(match $ty {
            Type::F16 => unary!(|a: u16, imm| $f::<Binary16>(a, imm)),
            Type::Bf16 => unary!(|a: u16, imm| $f::<Brain16>(a, imm)),
            Type::F16x2 => unary!(|a: u32, imm| both(a, 0, 0, |a, _, _| $f::<Binary16>(a, imm))),
            Type::Bf16x2 => unary!(|a: u32, imm| both(a, 0, 0, |a, _, _| $f::<Brain16>(a, imm))),
            _ => return None,
        })
    };
    ($ty:expr, binary, $f:ident) => {
        Some(match $ty {
            Type::F16 => binary!(|a: u16, b: u16, imm| $f::<Binary16>(a, b, imm)),
            Type::Bf16 => binary!(|a: u16, b: u16, imm| $f::<Brain16>(a, b, imm)),
            Type::F16x2 => binary!(|a: u32, b: u32, imm| both(a, b, 0, |a, b, _| $f::<Binary16>(a, b, imm))),
            Type::Bf16x2 => binary!(|a: u32, b: u32, imm| both(a, b, 0, |a, b, _| $f::<Brain16>(a, b, imm))),
            _ => return None,
        })
    };
    ($ty:expr, ternary, $f:ident) => {
        Some(match $ty {
            Type::F16 => ternary!(|a: u16, b: u16, c: u16, imm| $f::<Binary16>(a, b, c, imm)),
            Type::Bf16 => ternary!(|a: u16, b: u16, c: u16, imm| $f::<Brain16>(a, b, c, imm)),
            Type::F16x2 => {
                ternary!(|a: u32, b: u32, c: u32, imm| both(a, b, c, |a, b, c| $f::<Binary16>(a, b, c, imm)))
            }
            Type::Bf16x2 => {
                ternary!(|a: u32, b: u32, c: u32, imm| both(a, b, c, |a, b, c| $f::<Brain16>(a, b, c, imm)))
            }
            _ => return None,
        })
    };
}

fn do_add<H: Half>(a: u16, b: u16, imm: u32) -> u16 {
    write::<H>(add(read::<H>(a, imm), read::<H>(b, imm)), imm)
}

fn do_sub<H: Half>(a: u16, b: u16, imm: u32) -> u16 {
    write::<H>(add(read::<H>(a, imm), -read::<H>(b, imm)), imm)
}

fn do_mul<H: Half>(a: u16, b: u16, imm: u32) -> u16 {
    write::<H>(read::<H>(a, imm) * read::<H>(b, imm), imm)
}

fn do_fma<H: Half>(a: u16, b: u16, c: u16, imm: u32) -> u16 {
    write::<H>(add(read::<H>(a, imm) * read::<H>(b, imm), read::<H>(c, imm)), imm)
}

fn do_neg<H: Half>(a: u16, imm: u32) -> u16 {
    let a = if imm & FTZ != 0 { flush::<H>(a) } else { a };
    a ^ 0x8000
}

fn do_abs<H: Half>(a: u16, imm: u32) -> u16 {
    let a = if imm & FTZ != 0 { flush::<H>(a) } else { a };
    a & 0x7fff
}

fn do_min<H: Half>(a: u16, b: u16, imm: u32) -> u16 {
    write::<H>(float::pick(read::<H>(a, imm), read::<H>(b, imm), imm, false), imm & FTZ)
}

fn do_max<H: Half>(a: u16, b: u16, imm: u32) -> u16 {
    write::<H>(float::pick(read::<H>(a, imm), read::<H>(b, imm), imm, true), imm & FTZ)
}

fn do_ex2<H: Half>(a: u16, imm: u32) -> u16 {
    write::<H>(read::<H>(a, imm).exp2(), imm)
}

fn do_tanh<H: Half>(a: u16, imm: u32) -> u16 {
    write::<H>(read::<H>(a, imm).tanh(), imm)
}

/// `neg`, `abs`, `ex2.approx`, `tanh.approx`
pub(crate) fn one(name: &str, ty: Type) -> Option<Unary> {
    match name {
        "neg" => by_half!(ty, unary, do_neg),
        "abs" => by_half!(ty, unary, do_abs),
        "ex2" => by_half!(ty, unary, do_ex2),
        "tanh" => by_half!(ty, unary, do_tanh),
        _ => None,
    }
}

/// `add`, `sub`, `mul`, `min`, `max`
pub(crate) fn two(name: &str, ty: Type) -> Option<Binary> {
    match name {
        "add" => by_half!(ty, binary, do_add),
        "sub" => by_half!(ty, binary, do_sub),
        "mul" => by_half!(ty, binary, do_mul),
        "min" => by_half!(ty, binary, do_min),
        "max" => by_half!(ty, binary, do_max),
        _ => None,
    }
}

/// `fma`
pub(crate) fn fma(ty: Type) -> Option<Ternary> {
    by_half!(ty, ternary, do_fma)
}

/// To single precision, exactly, for comparisons; `.ftz` flushes first. The immediate's bit 0 takes the
/// upper half of a packed register.
pub(crate) fn to_single(ty: Type) -> Option<Unary> {
    fn single<H: Half>(a: u32, imm: u32) -> u32 {
        let bits = low16(if imm & 1 != 0 { a >> 16 } else { a });
        round::F32.round(read::<H>(bits, imm), Mode::Nearest)
    }
    Some(match ty {
        Type::F16 | Type::F16x2 => unary!(|a: u32, imm| single::<Binary16>(a, imm)),
        Type::Bf16 | Type::Bf16x2 => unary!(|a: u32, imm| single::<Brain16>(a, imm)),
        _ => return None,
    })
}

/// Sum as the atomics compute it.
pub(crate) fn atomic_add(a: u16, b: u16, brain: bool) -> u16 {
    if brain { do_add::<Brain16>(a, b, 0) } else { do_add::<Binary16>(a, b, 0) }
}

#[cfg(test)]
mod tests {
    use super::super::{apply1, apply2, apply3};
    use super::*;

    #[test]
    fn every_half_survives_widening() {
        for bits in 0..=u16::MAX {
            for ty in [Type::F16, Type::Bf16] {
                let value = widen(ty, bits);
                let format = if ty == Type::F16 { F16 } else { BF16 };
                let back = format.round(value, Mode::Nearest);
                if value.is_nan() {
                    assert_eq!(back, 0x7fff);
                } else {
                    assert_eq!(back, u32::from(bits), "{ty:?}");
                }
            }
        }
    }

    #[test]
    fn arithmetic_rounds_once() {
        let run = |name, ty, a, b| apply2(two(name, ty).expect("supported"), a, b, 0);
        assert_eq!(run("add", Type::F16, 0x3c00, 0x3c00), 0x4000);
        assert_eq!(run("add", Type::F16, 0x7bff, 0x7bff), 0x7c00);
        assert_eq!(run("mul", Type::F16, 0x0001, 0x3800), 0x0000);
        assert_eq!(run("sub", Type::Bf16, 0x3f80, 0x3f80), 0x0000);
        assert_eq!(run("add", Type::F16x2, 0x3c00_4000, 0x3c00_3c00), 0x4000_4200);
        assert_eq!(run("add", Type::F16, 0x7c00, 0xfc00), 0x7fff);
        // 1 + 2^-11 + 2^-21 rounds up only if the tail is not lost on the way.
        assert_eq!(apply3(fma(Type::F16).expect("fma"), 0x1000, 0x3c01, 0x3c00, 0), 0x3c01);
    }

    #[test]
    fn modifiers() {
        assert_eq!(apply2(two("add", Type::F16).expect("add"), 0x3c00, 0x3c00, SAT), 0x3c00);
        assert_eq!(apply2(two("add", Type::F16).expect("add"), 0x0001, 0, FTZ), 0);
        assert_eq!(apply3(fma(Type::F16).expect("fma"), 0xbc00, 0x3c00, 0, RELU), 0);
        assert_eq!(apply1(one("neg", Type::F16x2).expect("neg"), 0x3c00_bc00, 0), 0xbc00_3c00);
        assert_eq!(apply1(to_single(Type::F16x2).expect("half"), 0x4000_3c00, 1), 0x4000_0000);
    }
}
