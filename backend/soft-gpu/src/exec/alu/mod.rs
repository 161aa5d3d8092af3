//! Arithmetic on whole warps: functions that the decoder picks for an instruction.
//!
//! They are total (no input makes one panic) and work on all 32 lanes; the caller discards the results
//! of lanes that are not active. Each instruction is one function, so nothing is ever fused.

pub(crate) mod convert;
mod exact;
pub(crate) mod float;
pub(crate) mod half;
pub(crate) mod integer;
pub(crate) mod logic;
pub(crate) mod round;

use crate::ptx::ir::Lanes;
#[cfg(test)]
use crate::ptx::ir::{Binary, Ternary, Unary};

/// A value as it is kept in a lane: zero-extended to 64 bits.
pub(crate) trait Register: Copy {
    /// The low bits of a lane.
    fn get(lane: u64) -> Self;
    /// Zero-extended.
    fn put(self) -> u64;
}

macro_rules! integer_register {
    ($($t:ty, $unsigned:ty;)*) => {$(
        impl Register for $t {
            #[inline(always)]
            #[allow(
                clippy::cast_possible_truncation, clippy::cast_possible_wrap,
                reason = "an instruction of a width works on the low bits of its register"
            )]
            fn get(lane: u64) -> Self {
                lane as Self
            }
            #[inline(always)]
            fn put(self) -> u64 {
                u64::from(self.cast_unsigned_bits())
            }
        }
        impl UnsignedBits for $t {
            type Bits = $unsigned;
            #[inline(always)]
            fn cast_unsigned_bits(self) -> $unsigned {
                <$unsigned>::from_ne_bytes(self.to_ne_bytes())
            }
        }
    )*};
}

/// The unsigned integer of the same bits.
trait UnsignedBits {
    type Bits;
    fn cast_unsigned_bits(self) -> Self::Bits;
}

integer_register! { u8, u8; u16, u16; u32, u32; u64, u64; i8, u8; i16, u16; i32, u32; i64, u64; }

impl Register for f32 {
    #[inline(always)]
    fn get(lane: u64) -> Self {
        Self::from_bits(u32::get(lane))
    }
    #[inline(always)]
    fn put(self) -> u64 {
        u64::from(self.to_bits())
    }
}

impl Register for f64 {
    #[inline(always)]
    fn get(lane: u64) -> Self {
        Self::from_bits(lane)
    }
    #[inline(always)]
    fn put(self) -> u64 {
        self.to_bits()
    }
}

impl Register for bool {
    #[inline(always)]
    fn get(lane: u64) -> Self {
        lane & 1 != 0
    }
    #[inline(always)]
    fn put(self) -> u64 {
        u64::from(self)
    }
}

#[inline(always)]
pub(crate) fn lanes1<A: Register, R: Register>(to: &mut Lanes, a: &Lanes, f: impl Fn(A) -> R) {
    for (to, a) in to.iter_mut().zip(a) {
        *to = f(A::get(*a)).put();
    }
}

#[inline(always)]
pub(crate) fn lanes2<A: Register, B: Register, R: Register>(
    to: &mut Lanes,
    a: &Lanes,
    b: &Lanes,
    f: impl Fn(A, B) -> R,
) {
    for ((to, a), b) in to.iter_mut().zip(a).zip(b) {
        *to = f(A::get(*a), B::get(*b)).put();
    }
}

#[inline(always)]
pub(crate) fn lanes3<A: Register, B: Register, C: Register, R: Register>(
    to: &mut Lanes,
    a: &Lanes,
    b: &Lanes,
    c: &Lanes,
    f: impl Fn(A, B, C) -> R,
) {
    for (((to, a), b), c) in to.iter_mut().zip(a).zip(b).zip(c) {
        *to = f(A::get(*a), B::get(*b), C::get(*c)).put();
    }
}

/// A [`Unary`] from an expression over one typed operand; `imm` names the immediate.
macro_rules! unary {
    (|$a:ident: $ta:ty| $e:expr) => {
        unary!(|$a: $ta, _imm| $e)
    };
    (|$a:ident: $ta:ty, $imm:ident| $e:expr) => {{
        fn run(to: &mut $crate::ptx::ir::Lanes, a: &$crate::ptx::ir::Lanes, $imm: u32) {
            $crate::exec::alu::lanes1(to, a, |$a: $ta| $e);
        }
        run as $crate::ptx::ir::Unary
    }};
}

/// A [`Binary`] from an expression over two typed operands.
macro_rules! binary {
    (|$a:ident: $ta:ty, $b:ident: $tb:ty| $e:expr) => {
        binary!(|$a: $ta, $b: $tb, _imm| $e)
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $imm:ident| $e:expr) => {{
        fn run(
            to: &mut $crate::ptx::ir::Lanes,
            a: &$crate::ptx::ir::Lanes,
            b: &$crate::ptx::ir::Lanes,
            $imm: u32,
        ) {
            $crate::exec::alu::lanes2(to, a, b, |$a: $ta, $b: $tb| $e);
        }
        run as $crate::ptx::ir::Binary
    }};
}

/// A [`Ternary`] from an expression over three typed operands.
macro_rules! ternary {
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty| $e:expr) => {
        ternary!(|$a: $ta, $b: $tb, $c: $tc, _imm| $e)
    };
    (|$a:ident: $ta:ty, $b:ident: $tb:ty, $c:ident: $tc:ty, $imm:ident| $e:expr) => {{
        fn run(
            to: &mut $crate::ptx::ir::Lanes,
            a: &$crate::ptx::ir::Lanes,
            b: &$crate::ptx::ir::Lanes,
            c: &$crate::ptx::ir::Lanes,
            $imm: u32,
        ) {
            $crate::exec::alu::lanes3(to, a, b, c, |$a: $ta, $b: $tb, $c: $tc| $e);
        }
        run as $crate::ptx::ir::Ternary
    }};
}

pub(crate) use {binary, ternary, unary};

/// Applies a [`Unary`] to one value, for tests and single lanes.
#[cfg(test)]
pub(crate) fn apply1(f: Unary, a: u64, imm: u32) -> u64 {
    let mut to = [0; 32];
    f(&mut to, &[a; 32], imm);
    to[0]
}

/// Applies a [`Binary`] to one pair of values.
#[cfg(test)]
pub(crate) fn apply2(f: Binary, a: u64, b: u64, imm: u32) -> u64 {
    let mut to = [0; 32];
    f(&mut to, &[a; 32], &[b; 32], imm);
    to[0]
}

/// Applies a [`Ternary`] to one triple of values.
#[cfg(test)]
pub(crate) fn apply3(f: Ternary, a: u64, b: u64, c: u64, imm: u32) -> u64 {
    let mut to = [0; 32];
    f(&mut to, &[a; 32], &[b; 32], &[c; 32], imm);
    to[0]
}
