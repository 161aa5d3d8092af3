//! Integer arithmetic.

use super::{binary, ternary, unary};
use crate::ptx::ir::{Binary, Ternary, Unary};
use crate::ptx::types::Type;

/// The functions for one integer width and signedness, from one expression.
macro_rules! by_integer {
    ($ty:expr, $kind:ident, |$($v:ident),*| $e:expr) => {
        match $ty {
            Type::U16 => Some(by_integer!(@ $kind u16, ($($v),*), $e)),
            Type::S16 => Some(by_integer!(@ $kind i16, ($($v),*), $e)),
            Type::U32 => Some(by_integer!(@ $kind u32, ($($v),*), $e)),
            Type::S32 => Some(by_integer!(@ $kind i32, ($($v),*), $e)),
            Type::U64 => Some(by_integer!(@ $kind u64, ($($v),*), $e)),
            Type::S64 => Some(by_integer!(@ $kind i64, ($($v),*), $e)),
            _ => None,
        }
    };
    (@ unary $t:ty, ($a:ident), $e:expr) => { unary!(|$a: $t| $e) };
    (@ binary $t:ty, ($a:ident, $b:ident), $e:expr) => { binary!(|$a: $t, $b: $t| $e) };
    (@ ternary $t:ty, ($a:ident, $b:ident, $c:ident), $e:expr) => { ternary!(|$a: $t, $b: $t, $c: $t| $e) };
}

/// 16-bit lanes of a 32-bit register.
fn halves(a: u32, b: u32, f: impl Fn(u16, u16) -> u16) -> u32 {
    let [a0, a1, a2, a3] = a.to_le_bytes();
    let [b0, b1, b2, b3] = b.to_le_bytes();
    let low = f(u16::from_le_bytes([a0, a1]), u16::from_le_bytes([b0, b1])).to_le_bytes();
    let high = f(u16::from_le_bytes([a2, a3]), u16::from_le_bytes([b2, b3])).to_le_bytes();
    u32::from_le_bytes([low[0], low[1], high[0], high[1]])
}

fn signed_halves(a: u32, b: u32, f: impl Fn(i16, i16) -> i16) -> u32 {
    halves(a, b, |a, b| f(a.cast_signed(), b.cast_signed()).cast_unsigned())
}

pub(crate) fn add(ty: Type) -> Option<Binary> {
    by_integer!(ty, binary, |a, b| a.wrapping_add(b))
}

/// `add.sat.s32`
pub(crate) fn add_saturating() -> Binary {
    binary!(|a: i32, b: i32| a.saturating_add(b))
}

pub(crate) fn sub(ty: Type) -> Option<Binary> {
    by_integer!(ty, binary, |a, b| a.wrapping_sub(b))
}

/// `sub.sat.s32`
pub(crate) fn sub_saturating() -> Binary {
    binary!(|a: i32, b: i32| a.saturating_sub(b))
}

/// `add.u16x2`, `min.s16x2`…
pub(crate) fn packed16(name: &str, signed: bool) -> Option<Binary> {
    Some(match (name, signed) {
        ("add", _) => binary!(|a: u32, b: u32| halves(a, b, u16::wrapping_add)),
        ("min", false) => binary!(|a: u32, b: u32| halves(a, b, u16::min)),
        ("max", false) => binary!(|a: u32, b: u32| halves(a, b, u16::max)),
        ("min", true) => binary!(|a: u32, b: u32| signed_halves(a, b, i16::min)),
        ("max", true) => binary!(|a: u32, b: u32| signed_halves(a, b, i16::max)),
        _ => return None,
    })
}

pub(crate) fn mul_low(ty: Type) -> Option<Binary> {
    by_integer!(ty, binary, |a, b| a.wrapping_mul(b))
}

pub(crate) fn mul_high(ty: Type) -> Option<Binary> {
    Some(match ty {
        Type::U16 => binary!(|a: u16, b: u16| (u32::from(a) * u32::from(b)) >> 16),
        Type::S16 => binary!(|a: i16, b: i16| bits16((i32::from(a) * i32::from(b)) >> 16)),
        Type::U32 => binary!(|a: u32, b: u32| (u64::from(a) * u64::from(b)) >> 32),
        Type::S32 => binary!(|a: i32, b: i32| bits32((i64::from(a) * i64::from(b)) >> 32)),
        Type::U64 => binary!(|a: u64, b: u64| high64(u128::from(a) * u128::from(b))),
        Type::S64 => binary!(|a: i64, b: i64| high64((i128::from(a) * i128::from(b)).cast_unsigned())),
        _ => return None,
    })
}

fn high64(product: u128) -> u64 {
    u64::try_from(product >> 64).unwrap_or(0)
}

fn bits16(value: i32) -> u16 {
    let [a, b, _, _] = value.to_le_bytes();
    u16::from_le_bytes([a, b])
}

fn bits32(value: i64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

pub(crate) fn mul_wide(ty: Type) -> Option<Binary> {
    Some(match ty {
        Type::U16 => binary!(|a: u16, b: u16| u32::from(a) * u32::from(b)),
        Type::S16 => binary!(|a: i16, b: i16| i32::from(a) * i32::from(b)),
        Type::U32 => binary!(|a: u32, b: u32| u64::from(a) * u64::from(b)),
        Type::S32 => binary!(|a: i32, b: i32| i64::from(a) * i64::from(b)),
        _ => return None,
    })
}

pub(crate) fn mad_low(ty: Type) -> Option<Ternary> {
    by_integer!(ty, ternary, |a, b, c| a.wrapping_mul(b).wrapping_add(c))
}

pub(crate) fn mad_wide(ty: Type) -> Option<Ternary> {
    Some(match ty {
        Type::U16 => ternary!(|a: u16, b: u16, c: u32| (u32::from(a) * u32::from(b)).wrapping_add(c)),
        Type::S16 => ternary!(|a: i16, b: i16, c: i32| (i32::from(a) * i32::from(b)).wrapping_add(c)),
        Type::U32 => ternary!(|a: u32, b: u32, c: u64| (u64::from(a) * u64::from(b)).wrapping_add(c)),
        Type::S32 => ternary!(|a: i32, b: i32, c: i64| (i64::from(a) * i64::from(b)).wrapping_add(c)),
        _ => return None,
    })
}

fn low24(a: u32) -> u64 {
    u64::from(a & 0xff_ffff)
}

fn low24_signed(a: i32) -> i64 {
    i64::from(a << 8 >> 8)
}

/// `mul24`: the low or high 32 of the 48 bits.
pub(crate) fn mul24(ty: Type, high: bool) -> Option<Binary> {
    Some(match (ty, high) {
        (Type::U32, false) => binary!(|a: u32, b: u32| (low24(a) * low24(b)) & 0xffff_ffff),
        (Type::U32, true) => binary!(|a: u32, b: u32| (low24(a) * low24(b)) >> 16),
        (Type::S32, false) => binary!(|a: i32, b: i32| bits32(low24_signed(a) * low24_signed(b))),
        (Type::S32, true) => binary!(|a: i32, b: i32| bits32((low24_signed(a) * low24_signed(b)) >> 16)),
        _ => return None,
    })
}

/// Absolute difference plus `c`.
pub(crate) fn sad(ty: Type) -> Option<Ternary> {
    by_integer!(ty, ternary, |a, b, c| c.wrapping_add(if a < b {
        b.wrapping_sub(a)
    } else {
        a.wrapping_sub(b)
    }))
}

/// Division; by zero gives all ones, as NVIDIA's devices do.
pub(crate) fn div(ty: Type) -> Option<Binary> {
    Some(match ty {
        Type::U16 => binary!(|a: u16, b: u16| a.checked_div(b).unwrap_or(u16::MAX)),
        Type::U32 => binary!(|a: u32, b: u32| a.checked_div(b).unwrap_or(u32::MAX)),
        Type::U64 => binary!(|a: u64, b: u64| a.checked_div(b).unwrap_or(u64::MAX)),
        Type::S16 => binary!(|a: i16, b: i16| if b == 0 { -1 } else { a.wrapping_div(b) }),
        Type::S32 => binary!(|a: i32, b: i32| if b == 0 { -1 } else { a.wrapping_div(b) }),
        Type::S64 => binary!(|a: i64, b: i64| if b == 0 { -1 } else { a.wrapping_div(b) }),
        _ => return None,
    })
}

/// Remainder; by zero gives the dividend.
pub(crate) fn rem(ty: Type) -> Option<Binary> {
    by_integer!(ty, binary, |a, b| if b == 0 { a } else { a.wrapping_rem(b) })
}

pub(crate) fn neg(ty: Type) -> Option<Unary> {
    by_integer!(ty, unary, |a| a.wrapping_neg())
}

pub(crate) fn abs(ty: Type) -> Option<Unary> {
    Some(match ty {
        Type::S16 => unary!(|a: i16| a.wrapping_abs()),
        Type::S32 => unary!(|a: i32| a.wrapping_abs()),
        Type::S64 => unary!(|a: i64| a.wrapping_abs()),
        _ => return None,
    })
}

pub(crate) fn min(ty: Type) -> Option<Binary> {
    by_integer!(ty, binary, |a, b| a.min(b))
}

pub(crate) fn max(ty: Type) -> Option<Binary> {
    by_integer!(ty, binary, |a, b| a.max(b))
}

/// `min.relu.s32`, `max.relu.s32`
pub(crate) fn relu(max: bool) -> Binary {
    if max { binary!(|a: i32, b: i32| a.max(b).max(0)) } else { binary!(|a: i32, b: i32| a.min(b).max(0)) }
}

/// Sum of two values and the carry `c` (0 or 1).
pub(crate) fn add_carry(wide: bool) -> Ternary {
    if wide {
        ternary!(|a: u64, b: u64, c: u64| a.wrapping_add(b).wrapping_add(c & 1))
    } else {
        ternary!(|a: u32, b: u32, c: u32| a.wrapping_add(b).wrapping_add(c & 1))
    }
}

/// Carry out of [`add_carry`].
pub(crate) fn carry_of_add(wide: bool) -> Ternary {
    if wide {
        ternary!(|a: u64, b: u64, c: u64| (u128::from(a) + u128::from(b) + u128::from(c & 1)) >> 64 != 0)
    } else {
        ternary!(|a: u32, b: u32, c: u32| (u64::from(a) + u64::from(b) + u64::from(c & 1)) >> 32 != 0)
    }
}

/// Difference less the borrow `c` (0 or 1).
pub(crate) fn sub_borrow(wide: bool) -> Ternary {
    if wide {
        ternary!(|a: u64, b: u64, c: u64| a.wrapping_sub(b).wrapping_sub(c & 1))
    } else {
        ternary!(|a: u32, b: u32, c: u32| a.wrapping_sub(b).wrapping_sub(c & 1))
    }
}

/// Borrow out of [`sub_borrow`].
pub(crate) fn borrow_of_sub(wide: bool) -> Ternary {
    if wide {
        ternary!(|a: u64, b: u64, c: u64| u128::from(a) < u128::from(b) + u128::from(c & 1))
    } else {
        ternary!(|a: u32, b: u32, c: u32| u64::from(a) < u64::from(b) + u64::from(c & 1))
    }
}

/// `dp4a`: the immediate's bits 0 and 1 say whether `a` and `b` are signed.
pub(crate) fn dp4a() -> Ternary {
    ternary!(|a: u32, b: u32, c: u32, signs| {
        let products = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
        let sum: i32 = products.map(|(a, b)| byte(a, signs & 1 != 0) * byte(b, signs & 2 != 0)).sum();
        c.wrapping_add(sum.cast_unsigned())
    })
}

/// `dp2a`: as [`dp4a`]; bit 2 of the immediate picks the high half of `b`.
pub(crate) fn dp2a() -> Ternary {
    ternary!(|a: u32, b: u32, c: u32, signs| {
        let [a0, a1, a2, a3] = a.to_le_bytes();
        let [b0, b1, b2, b3] = b.to_le_bytes();
        let (low, high) = if signs & 4 != 0 { (b2, b3) } else { (b0, b1) };
        let half = |x: [u8; 2]| {
            let x = u16::from_le_bytes(x);
            if signs & 1 != 0 { i32::from(x.cast_signed()) } else { i32::from(x) }
        };
        let first = half([a0, a1]).wrapping_mul(byte(low, signs & 2 != 0));
        let second = half([a2, a3]).wrapping_mul(byte(high, signs & 2 != 0));
        c.wrapping_add(first.wrapping_add(second).cast_unsigned())
    })
}

fn byte(value: u8, signed: bool) -> i32 {
    if signed { i32::from(value.cast_signed()) } else { i32::from(value) }
}

#[cfg(test)]
mod tests {
    use super::super::{apply1, apply2, apply3};
    use super::*;

    fn bin(f: Option<Binary>, a: u64, b: u64) -> u64 {
        apply2(f.expect("supported type"), a, b, 0)
    }

    #[test]
    fn results_wrap_to_the_width_of_the_type() {
        assert_eq!(bin(add(Type::U16), 0xffff, 2), 1);
        assert_eq!(bin(add(Type::S32), 0x7fff_ffff, 1), 0x8000_0000);
        assert_eq!(bin(sub(Type::U64), 0, 1), u64::MAX);
        assert_eq!(bin(mul_low(Type::S16), 0xffff, 3), 0xfffd);
        assert_eq!(apply1(neg(Type::S32).expect("s32"), 1, 0), 0xffff_ffff);
        assert_eq!(apply1(abs(Type::S32).expect("s32"), 0x8000_0000, 0), 0x8000_0000);
    }

    #[test]
    fn saturation_stops_at_the_bounds() {
        assert_eq!(apply2(add_saturating(), 0x7fff_ffff, 1, 0), 0x7fff_ffff);
        assert_eq!(apply2(sub_saturating(), 0x8000_0000, 1, 0), 0x8000_0000);
    }

    #[test]
    fn division_by_zero_and_overflow_do_not_trap() {
        for ty in [Type::U16, Type::S16, Type::U32, Type::S32, Type::U64, Type::S64] {
            assert_eq!(bin(div(ty), 7, 0), ty.mask(), "{ty:?}");
            assert_eq!(bin(rem(ty), 7, 0), 7, "{ty:?}");
        }
        assert_eq!(bin(div(Type::S32), 0x8000_0000, 0xffff_ffff), 0x8000_0000);
        assert_eq!(bin(rem(Type::S64), 1 << 63, u64::MAX), 0);
    }

    #[test]
    fn high_and_wide_products() {
        assert_eq!(bin(mul_high(Type::S32), 0xffff_ffff, 2), 0xffff_ffff);
        assert_eq!(bin(mul_high(Type::U32), 0xffff_ffff, 2), 1);
        assert_eq!(bin(mul_high(Type::U64), u64::MAX, u64::MAX), u64::MAX - 1);
        assert_eq!(bin(mul_high(Type::S64), u64::MAX, u64::MAX), 0);
        assert_eq!(bin(mul_high(Type::S16), 0xffff, 2), 0xffff);
        assert_eq!(bin(mul_wide(Type::S32), 0xffff_ffff, 2), (-2i64).cast_unsigned());
        assert_eq!(bin(mul_wide(Type::U16), 0xffff, 0xffff), 0xfffe_0001);
        assert_eq!(apply3(mad_wide(Type::S16).expect("s16"), 0xffff, 5, 1, 0), 0xffff_fffc);
        assert_eq!(bin(mul24(Type::U32, true), 0xff_ffff, 0xff_ffff), 0xffff_fe00);
        assert_eq!(bin(mul24(Type::S32, false), 0xff_ffff, 3), 0xffff_fffd);
    }

    #[test]
    fn carries_chain() {
        assert_eq!(apply3(carry_of_add(false), 0xffff_ffff, 0, 1, 0), 1);
        assert_eq!(apply3(add_carry(false), 0xffff_ffff, 0, 1, 0), 0);
        assert_eq!(apply3(borrow_of_sub(false), 0, 0xffff_ffff, 1, 0), 1);
        assert_eq!(apply3(borrow_of_sub(true), 5, 5, 0, 0), 0);
        assert_eq!(apply3(sub_borrow(true), 5, 5, 1, 0), u64::MAX);
    }

    #[test]
    fn dot_products_of_bytes() {
        // (-1)*2 + 2*3 + 3*4 + 4*5 + 10 = 46
        let (a, b) = (0x0403_02ff, 0x0504_0302);
        assert_eq!(apply3(dp4a(), a, b, 10, 3), 46);
        assert_eq!(apply3(dp4a(), a, b, 10, 2), 558);
        assert_eq!(apply3(dp2a(), 0x0002_ffff, 0x0000_0302, 0, 3), 4);
        assert_eq!(apply3(dp2a(), 0x0002_ffff, 0x0504_0000, 0, 7), 6);
    }

    #[test]
    fn packed_halves_do_not_carry_into_each_other() {
        assert_eq!(apply2(packed16("add", false).expect("add"), 0x0001_ffff, 0x0001_0001, 0), 0x0002_0000);
        assert_eq!(apply2(packed16("min", true).expect("min"), 0xffff_0001, 0x0001_0002, 0), 0xffff_0001);
    }
}
