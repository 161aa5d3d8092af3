//! Bit operations, shifts, selections, comparisons.

use super::{binary, ternary, unary};
use crate::ptx::ir::{Binary, Ternary, Unary, window};
use crate::ptx::types::Type;

/// Copies; the caller masks when the destination is narrower.
pub(crate) fn mov(bits: u8) -> Unary {
    match bits {
        1 => unary!(|a: bool| a),
        8 => unary!(|a: u8| a),
        16 => unary!(|a: u16| a),
        32 => unary!(|a: u32| a),
        _ => unary!(|a: u64| a),
    }
}

/// Sign-extends from the type to 64 bits and keeps `keep` bits.
pub(crate) fn extend_signed(from: u8, keep: u8) -> Unary {
    match (from, keep) {
        (8, 16) => unary!(|a: i8| i16::from(a)),
        (8, 32) => unary!(|a: i8| i32::from(a)),
        (8, 64) => unary!(|a: i8| i64::from(a)),
        (16, 32) => unary!(|a: i16| i32::from(a)),
        (16, 64) => unary!(|a: i16| i64::from(a)),
        (32, 64) => unary!(|a: i32| i64::from(a)),
        _ => mov(keep.min(from)),
    }
}

pub(crate) fn and() -> Binary {
    binary!(|a: u64, b: u64| a & b)
}

pub(crate) fn or() -> Binary {
    binary!(|a: u64, b: u64| a | b)
}

pub(crate) fn xor() -> Binary {
    binary!(|a: u64, b: u64| a ^ b)
}

pub(crate) fn not(bits: u8) -> Unary {
    match bits {
        1 => unary!(|a: bool| !a),
        16 => unary!(|a: u16| !a),
        32 => unary!(|a: u32| !a),
        _ => unary!(|a: u64| !a),
    }
}

/// 1 where the value is 0, else 0.
pub(crate) fn cnot() -> Unary {
    unary!(|a: u64| a == 0)
}

/// Shifts clamp their amount to the width.
pub(crate) fn shl(bits: u8) -> Option<Binary> {
    Some(match bits {
        16 => binary!(|a: u16, n: u32| a.checked_shl(n).unwrap_or(0)),
        32 => binary!(|a: u32, n: u32| a.checked_shl(n).unwrap_or(0)),
        64 => binary!(|a: u64, n: u32| a.checked_shl(n).unwrap_or(0)),
        _ => return None,
    })
}

pub(crate) fn shr(ty: Type) -> Option<Binary> {
    Some(match ty {
        Type::U16 | Type::B16 => binary!(|a: u16, n: u32| a.checked_shr(n).unwrap_or(0)),
        Type::U32 | Type::B32 => binary!(|a: u32, n: u32| a.checked_shr(n).unwrap_or(0)),
        Type::U64 | Type::B64 => binary!(|a: u64, n: u32| a.checked_shr(n).unwrap_or(0)),
        Type::S16 => binary!(|a: i16, n: u32| a >> n.min(15)),
        Type::S32 => binary!(|a: i32, n: u32| a >> n.min(31)),
        Type::S64 => binary!(|a: i64, n: u32| a >> n.min(63)),
        _ => return None,
    })
}

/// `shf`: funnel shift of `b:a`.
pub(crate) fn funnel(left: bool, wrap: bool) -> Ternary {
    match (left, wrap) {
        (true, true) => ternary!(|a: u32, b: u32, n: u32| funnel_left(a, b, n & 31)),
        (true, false) => ternary!(|a: u32, b: u32, n: u32| funnel_left(a, b, n.min(32))),
        (false, true) => ternary!(|a: u32, b: u32, n: u32| funnel_right(a, b, n & 31)),
        (false, false) => ternary!(|a: u32, b: u32, n: u32| funnel_right(a, b, n.min(32))),
    }
}

fn funnel_left(a: u32, b: u32, n: u32) -> u32 {
    high32((u64::from(b) << 32 | u64::from(a)) << n)
}

fn funnel_right(a: u32, b: u32, n: u32) -> u32 {
    low32((u64::from(b) << 32 | u64::from(a)) >> n)
}

fn high32(value: u64) -> u32 {
    low32(value >> 32)
}

pub(crate) fn low32(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

pub(crate) fn popc(wide: bool) -> Unary {
    if wide { unary!(|a: u64| a.count_ones()) } else { unary!(|a: u32| a.count_ones()) }
}

pub(crate) fn clz(wide: bool) -> Unary {
    if wide { unary!(|a: u64| a.leading_zeros()) } else { unary!(|a: u32| a.leading_zeros()) }
}

pub(crate) fn brev(wide: bool) -> Unary {
    if wide { unary!(|a: u64| a.reverse_bits()) } else { unary!(|a: u32| a.reverse_bits()) }
}

/// Position of the most significant bit that differs from the sign, or all ones; with `shift` the
/// amount that moves it to the top.
pub(crate) fn bfind(ty: Type, shift: bool) -> Option<Unary> {
    fn find(value: u64, bits: u32, shift: bool) -> u32 {
        match value.checked_ilog2() {
            None => u32::MAX,
            Some(at) if shift => bits - 1 - at,
            Some(at) => at,
        }
    }
    Some(match (ty, shift) {
        (Type::U32, false) => unary!(|a: u32| find(u64::from(a), 32, false)),
        (Type::U32, true) => unary!(|a: u32| find(u64::from(a), 32, true)),
        (Type::S32, false) => unary!(|a: i32| find(u64::from((a ^ (a >> 31)).cast_unsigned()), 32, false)),
        (Type::S32, true) => unary!(|a: i32| find(u64::from((a ^ (a >> 31)).cast_unsigned()), 32, true)),
        (Type::U64, false) => unary!(|a: u64| find(a, 64, false)),
        (Type::U64, true) => unary!(|a: u64| find(a, 64, true)),
        (Type::S64, false) => unary!(|a: i64| find((a ^ (a >> 63)).cast_unsigned(), 64, false)),
        (Type::S64, true) => unary!(|a: i64| find((a ^ (a >> 63)).cast_unsigned(), 64, true)),
        _ => return None,
    })
}

/// Bit field extract: `b` is the position, `c` the length (eight bits each).
pub(crate) fn bfe(ty: Type) -> Option<Ternary> {
    fn extract(a: u64, at: u32, length: u32, bits: u32, signed: bool) -> u64 {
        let (at, length) = (at & 0xff, length & 0xff);
        if length == 0 {
            return 0;
        }
        let top = (at + length - 1).min(bits - 1);
        let sign = signed && a >> top & 1 != 0;
        let field = a.checked_shr(at).unwrap_or(0);
        let keep = length.min(bits.saturating_sub(at));
        let mask = if keep >= 64 { u64::MAX } else { (1u64 << keep) - 1 };
        let value = field & mask;
        let value = if sign { value | !mask } else { value };
        if bits == 32 { value & 0xffff_ffff } else { value }
    }
    Some(match ty {
        Type::U32 => ternary!(|a: u32, b: u32, c: u32| extract(u64::from(a), b, c, 32, false)),
        Type::S32 => ternary!(|a: u32, b: u32, c: u32| extract(u64::from(a), b, c, 32, true)),
        Type::U64 => ternary!(|a: u64, b: u32, c: u32| extract(a, b, c, 64, false)),
        Type::S64 => ternary!(|a: u64, b: u32, c: u32| extract(a, b, c, 64, true)),
        _ => return None,
    })
}

/// Bit field mask for `bfi`: `length` ones at `at`.
pub(crate) fn field_mask(wide: bool) -> Binary {
    fn mask(at: u32, length: u32, bits: u32) -> u64 {
        let (at, length) = (at & 0xff, length & 0xff);
        if at >= bits || length == 0 {
            return 0;
        }
        let ones = if length >= 64 { u64::MAX } else { (1u64 << length) - 1 };
        let field = ones << at;
        if bits == 32 { field & 0xffff_ffff } else { field }
    }
    if wide { binary!(|at: u32, n: u32| mask(at, n, 64)) } else { binary!(|at: u32, n: u32| mask(at, n, 32)) }
}

/// The bits of `a` where `mask` is set, of `b` elsewhere.
pub(crate) fn merge() -> Ternary {
    ternary!(|mask: u64, a: u64, b: u64| (a & mask) | (b & !mask))
}

/// `bmsk`: mask of `b` ones from bit `a`.
pub(crate) fn bmsk(wrap: bool) -> Binary {
    if wrap {
        binary!(|a: u32, b: u32| low32(((1u64 << (b & 31)) - 1) << (a & 31)))
    } else {
        binary!(|a: u32, b: u32| {
            let ones = if b >= 32 { u64::from(u32::MAX) } else { (1u64 << b) - 1 };
            low32(if a >= 32 { 0 } else { ones << a })
        })
    }
}

/// `szext`: keep the low `b` bits, sign- or zero-extended.
pub(crate) fn szext(wrap: bool, signed: bool) -> Binary {
    fn extend(a: u32, n: u32, signed: bool) -> u32 {
        match n {
            0 => 0,
            1..=31 if signed => ((a << (32 - n)).cast_signed() >> (32 - n)).cast_unsigned(),
            1..=31 => a & ((1 << n) - 1),
            _ => a,
        }
    }
    match (wrap, signed) {
        (true, true) => binary!(|a: u32, n: u32| extend(a, n & 31, true)),
        (true, false) => binary!(|a: u32, n: u32| extend(a, n & 31, false)),
        (false, true) => binary!(|a: u32, n: u32| extend(a, n, true)),
        (false, false) => binary!(|a: u32, n: u32| extend(a, n, false)),
    }
}

/// `fns`: position of the `n`-th set bit counted from `base`, or all ones.
pub(crate) fn fns() -> Ternary {
    ternary!(|mask: u32, base: u32, n: i32| {
        let base = base & 31;
        let nth = |mut bits: u32, count: u32, from_top: bool| {
            for _ in 1..count {
                let clear = if from_top { bits.checked_ilog2() } else { lowest(bits) };
                bits &= !clear.map_or(0, |at| 1 << at);
            }
            if from_top { bits.checked_ilog2() } else { lowest(bits) }.unwrap_or(u32::MAX)
        };
        match n {
            0 if mask >> base & 1 != 0 => base,
            0 => u32::MAX,
            1..=32 => nth(mask & (u32::MAX << base), n.unsigned_abs(), false),
            -32..0 => nth(mask & (u32::MAX >> (31 - base)), n.unsigned_abs(), true),
            _ => u32::MAX,
        }
    })
}

fn lowest(bits: u32) -> Option<u32> {
    (bits != 0).then(|| bits.trailing_zeros())
}

/// `lop3`: the immediate is the truth table.
pub(crate) fn lop3() -> Ternary {
    ternary!(|a: u32, b: u32, c: u32, table| {
        let mut result = 0;
        for row in 0..8 {
            if table >> row & 1 != 0 {
                let pick = |value: u32, bit: u32| if row & bit != 0 { value } else { !value };
                result |= pick(a, 4) & pick(b, 2) & pick(c, 1);
            }
        }
        result
    })
}

/// `prmt` in its default mode.
pub(crate) fn prmt() -> Ternary {
    ternary!(|a: u32, b: u32, selector: u32| {
        let pool = u64::from(b) << 32 | u64::from(a);
        let mut result = 0;
        for i in 0..4 {
            let pick = selector >> (4 * i) & 0xf;
            let byte = low32(pool >> (8 * (pick & 7)) & 0xff);
            let byte = if pick & 8 == 0 {
                byte
            } else if byte & 0x80 != 0 {
                0xff
            } else {
                0
            };
            result |= byte << (8 * i);
        }
        result
    })
}

/// The selector of `prmt`'s named modes, from the low two bits of its third operand.
pub(crate) fn prmt_selector(mode: &str) -> Option<Unary> {
    macro_rules! table {
        ($s0:expr, $s1:expr, $s2:expr, $s3:expr) => {{
            const TABLE: [u32; 4] = [$s0, $s1, $s2, $s3];
            unary!(|c: u32| TABLE
                .into_iter()
                .nth(usize::from(c & 1 != 0) + 2 * usize::from(c & 2 != 0))
                .unwrap_or(0))
        }};
    }
    Some(match mode {
        "f4e" => table!(0x3210, 0x4321, 0x5432, 0x6543),
        "b4e" => table!(0x5670, 0x6701, 0x7012, 0x0123),
        "rc8" => table!(0x0000, 0x1111, 0x2222, 0x3333),
        "ecl" => table!(0x3210, 0x3211, 0x3222, 0x3333),
        "ecr" => table!(0x0000, 0x1110, 0x2210, 0x3210),
        "rc16" => table!(0x1010, 0x3232, 0x1010, 0x3232),
        _ => return None,
    })
}

/// `isspacep`: whether a generic address lies in the window that begins at `b`.
pub(crate) fn in_window() -> Binary {
    binary!(|a: u64, b: u64| a >> window::BITS == b >> window::BITS)
}

/// `isspacep.global`: whether it lies in no window.
pub(crate) fn in_no_window() -> Unary {
    unary!(|a: u64| a < window::SHARED)
}

/// `selp` with the predicate first.
pub(crate) fn select() -> Ternary {
    ternary!(|p: bool, a: u64, b: u64| if p { a } else { b })
}

/// A comparison of integers or untyped bits.
pub(crate) fn compare_integer(operator: &str, ty: Type) -> Option<Binary> {
    macro_rules! compare {
        ($t:ty) => {
            match operator {
                "eq" => binary!(|a: $t, b: $t| a == b),
                "ne" => binary!(|a: $t, b: $t| a != b),
                "lt" | "lo" => binary!(|a: $t, b: $t| a < b),
                "le" | "ls" => binary!(|a: $t, b: $t| a <= b),
                "gt" | "hi" => binary!(|a: $t, b: $t| a > b),
                "ge" | "hs" => binary!(|a: $t, b: $t| a >= b),
                _ => return None,
            }
        };
    }
    let unsigned_name = matches!(operator, "lo" | "ls" | "hi" | "hs");
    if unsigned_name && !ty.is_unsigned() || ty.is_untyped() && !matches!(operator, "eq" | "ne") {
        return None;
    }
    Some(match ty {
        Type::U16 | Type::B16 => compare!(u16),
        Type::U32 | Type::B32 => compare!(u32),
        Type::U64 | Type::B64 => compare!(u64),
        Type::S16 => compare!(i16),
        Type::S32 => compare!(i32),
        Type::S64 => compare!(i64),
        _ => return None,
    })
}

/// What `setp` combines a comparison with.
pub(crate) fn combine(operator: &str) -> Option<Binary> {
    Some(match operator {
        "and" => binary!(|a: bool, b: bool| a && b),
        "or" => binary!(|a: bool, b: bool| a || b),
        "xor" => binary!(|a: bool, b: bool| a != b),
        _ => return None,
    })
}

/// `set`'s result: all ones, or 1.0 for float destinations, or 0.
pub(crate) fn set_result(to: Type) -> Option<Unary> {
    Some(match to {
        Type::U32 | Type::S32 | Type::B32 => unary!(|p: bool| if p { u32::MAX } else { 0 }),
        Type::U16 | Type::S16 | Type::B16 => unary!(|p: bool| if p { u16::MAX } else { 0 }),
        Type::F32 => unary!(|p: bool| if p { 1.0f32 } else { 0.0 }),
        Type::F16 => unary!(|p: bool| if p { 0x3c00u16 } else { 0 }),
        Type::Bf16 => unary!(|p: bool| if p { 0x3f80u16 } else { 0 }),
        _ => return None,
    })
}

/// `slct`'s condition: whether `c >= 0`.
pub(crate) fn not_negative(ty: Type) -> Option<Unary> {
    Some(match ty {
        Type::S32 => unary!(|c: i32| c >= 0),
        Type::F32 => unary!(|c: f32| c >= 0.0),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{apply1, apply2, apply3};
    use super::*;

    #[test]
    fn shifts_clamp() {
        assert_eq!(apply2(shl(32).expect("32"), 1, 32, 0), 0);
        assert_eq!(apply2(shl(64).expect("64"), 1, 0xffff_ffff, 0), 0);
        assert_eq!(apply2(shr(Type::S32).expect("s32"), 0x8000_0000, 99, 0), 0xffff_ffff);
        assert_eq!(apply2(shr(Type::U16).expect("u16"), 0x8000, 16, 0), 0);
        assert_eq!(apply3(funnel(true, true), 0x8000_0000, 1, 33, 0), 3);
        assert_eq!(apply3(funnel(true, false), 7, 1, 40, 0), 7);
        assert_eq!(apply3(funnel(false, false), 7, 9, 32, 0), 9);
        assert_eq!(apply3(funnel(false, true), 0, 1, 1, 0), 0x8000_0000);
    }

    #[test]
    fn fields() {
        let ubfe = bfe(Type::U32).expect("u32");
        let sbfe = bfe(Type::S32).expect("s32");
        assert_eq!(apply3(ubfe, 0xabcd_1234, 8, 8, 0), 0x12);
        assert_eq!(apply3(sbfe, 0x0000_8000, 8, 8, 0), 0xffff_ff80);
        assert_eq!(apply3(sbfe, 0x8000_0000, 40, 8, 0), 0xffff_ffff);
        assert_eq!(apply3(sbfe, 0x8000_0000, 24, 32, 0), 0xffff_ff80);
        assert_eq!(apply3(ubfe, 0xffff_ffff, 0, 0, 0), 0);
        assert_eq!(apply3(bfe(Type::U64).expect("u64"), u64::MAX, 0, 64, 0), u64::MAX);
        let mask = apply2(field_mask(false), 8, 8, 0);
        assert_eq!(apply3(merge(), mask, 0x1234_5600 << 8, 0xffff_ffff, 0), 0xffff_00ff);
        assert_eq!(apply2(field_mask(true), 60, 255, 0), 0xf << 60);
        assert_eq!(apply2(field_mask(false), 32, 1, 0), 0);
    }

    #[test]
    fn finding_bits() {
        let find = |ty, shift, value| apply1(bfind(ty, shift).expect("type"), value, 0);
        assert_eq!(find(Type::U32, false, 0), 0xffff_ffff);
        assert_eq!(find(Type::U32, false, 0x10), 4);
        assert_eq!(find(Type::U32, true, 0x10), 27);
        assert_eq!(find(Type::S32, false, 0xffff_ffff), 0xffff_ffff);
        assert_eq!(find(Type::S32, false, 0xffff_fffe), 0);
        assert_eq!(find(Type::S64, true, 1), 63);
        assert_eq!(apply3(fns(), 0b1010_1000, 0, 2, 0), 5);
        assert_eq!(apply3(fns(), 0b1010_1000, 6, u64::from((-1i32).cast_unsigned()), 0), 5);
        assert_eq!(apply3(fns(), 0b1010_1000, 3, 0, 0), 3);
        assert_eq!(apply3(fns(), 0b1010_1000, 0, 4, 0), 0xffff_ffff);
        assert_eq!(apply1(clz(false), 0, 0), 32);
        assert_eq!(apply1(popc(true), u64::MAX, 0), 64);
        assert_eq!(apply1(brev(false), 1, 0), 0x8000_0000);
    }

    #[test]
    fn truth_tables_and_permutations() {
        assert_eq!(apply3(lop3(), 0xf0, 0xcc, 0xaa, 0x80), 0x80);
        assert_eq!(apply3(lop3(), 0x0f0f, 0x00ff, 0x3333, 0x96), 0x0f0f ^ 0x00ff ^ 0x3333);
        assert_eq!(apply3(prmt(), 0x3322_1100, 0x7766_5544, 0x7610, 0), 0x7766_1100);
        assert_eq!(apply3(prmt(), 0x0000_0080, 0, 0x0008, 0), 0x8080_80ff);
        assert_eq!(apply1(prmt_selector("b4e").expect("mode"), 2, 0), 0x7012);
        assert_eq!(apply2(szext(false, true), 0x80, 8, 0), 0xffff_ff80);
        assert_eq!(apply2(bmsk(false), 4, 8, 0), 0xff0);
    }

    #[test]
    fn comparisons_follow_signedness() {
        let less = |ty| apply2(compare_integer("lt", ty).expect("type"), 0xffff_ffff, 1, 0);
        assert_eq!((less(Type::S32), less(Type::U32)), (1, 0));
        assert!(compare_integer("lt", Type::B32).is_none());
        assert!(compare_integer("lo", Type::S32).is_none());
        assert_eq!(apply1(set_result(Type::F32).expect("f32"), 1, 0), 0x3f80_0000);
    }
}
