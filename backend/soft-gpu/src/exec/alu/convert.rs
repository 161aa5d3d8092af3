//! `cvt`: between all integer and float types, in every rounding mode.

use super::half::widen;
use super::round::{self, Format, Mode};
use super::{Register, unary};
use crate::ptx::ir::Unary;
use crate::ptx::types::Type;

/// What one `cvt` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conversion {
    pub(crate) to: Type,
    pub(crate) from: Type,
    /// Rounding of a float result, or, for integer results, to an integral value.
    pub(crate) mode: Mode,
    /// `.rni` and the like on float to float: round to an integral value first.
    pub(crate) integral: bool,
    pub(crate) ftz: bool,
    pub(crate) sat: bool,
    pub(crate) relu: bool,
}

const TYPES: [Type; 12] = [
    Type::U8,
    Type::S8,
    Type::U16,
    Type::S16,
    Type::U32,
    Type::S32,
    Type::U64,
    Type::S64,
    Type::F16,
    Type::Bf16,
    Type::F32,
    Type::F64,
];

fn index(ty: Type) -> Option<u32> {
    u32::try_from(TYPES.iter().position(|t| *t == ty)?).ok()
}

impl Conversion {
    /// As an instruction's immediate.
    fn encode(self) -> Option<u32> {
        let flags = [self.integral, self.ftz, self.sat, self.relu];
        let flags = flags.into_iter().enumerate().map(|(bit, set)| u32::from(set) << bit).sum::<u32>();
        Some(index(self.to)? | index(self.from)? << 4 | self.mode.to_bits() << 8 | flags << 12)
    }

    fn decode(imm: u32) -> Self {
        let ty = |shift: u32| TYPES.into_iter().nth(usize::from(u8::get(u64::from(imm >> shift & 15))));
        Self {
            to: ty(0).unwrap_or(Type::U32),
            from: ty(4).unwrap_or(Type::U32),
            mode: Mode::from_bits(imm >> 8),
            integral: imm >> 12 & 1 != 0,
            ftz: imm >> 13 & 1 != 0,
            sat: imm >> 14 & 1 != 0,
            relu: imm >> 15 & 1 != 0,
        }
    }

    /// One value; a signed result is not extended beyond its type.
    pub(crate) fn run(self, bits: u64) -> u64 {
        if self.from.is_integer() {
            let value = integer(self.from, bits);
            return if self.to.is_integer() { self.to_integer(value) } else { self.integer_to_float(value) };
        }
        let value = self.read(bits);
        if self.to.is_integer() {
            let rounded = integral(value, self.mode);
            return self.to_integer(if value.is_nan() { self.nan_integer() } else { as_integer(rounded) });
        }
        let value = if self.integral { integral(value, self.mode) } else { value };
        self.write(value)
    }

    fn read(self, bits: u64) -> f64 {
        match self.from {
            Type::F32 => {
                let value = f32::get(bits);
                f64::from(if self.ftz { super::float::flush(value) } else { value })
            }
            Type::F64 => f64::get(bits),
            ty => widen(ty, u16::get(bits)),
        }
    }

    fn write(self, value: f64) -> u64 {
        let value = match value {
            v if self.sat => {
                if v > 0.0 {
                    v.min(1.0)
                } else {
                    0.0
                }
            }
            v if self.relu && v < 0.0 => 0.0,
            v => v,
        };
        let mode = if self.integral { Mode::Nearest } else { self.mode };
        match self.to {
            Type::F64 => value.put(),
            Type::F32 => {
                let single = f32::from_bits(round::F32.round(value, mode));
                (if self.ftz { super::float::flush(single) } else { single }).put()
            }
            ty => u64::from(format(ty).round(value, mode)),
        }
    }

    fn integer_to_float(self, value: i128) -> u64 {
        let negative = value < 0;
        let magnitude = value.unsigned_abs();
        if self.to == Type::F64 {
            return integer_to_double(magnitude, negative, self.mode).put();
        }
        // To odd in double precision, where only 64-bit integers lose bits.
        let shift = (128 - magnitude.leading_zeros()).saturating_sub(53);
        let kept = magnitude >> shift;
        let lost = kept << shift != magnitude;
        let odd = u64::try_from(kept).unwrap_or(u64::MAX) | u64::from(lost);
        let scale = f64::from_bits((1023 + u64::from(shift)) << 52);
        #[allow(clippy::cast_precision_loss, reason = "at most 53 bits")]
        let exact = odd as f64 * scale;
        self.write(if negative { -exact } else { exact })
    }

    /// What NaN becomes: zero, but the top bit alone where a 64-bit type is on either side.
    fn nan_integer(self) -> i128 {
        let wide = self.from == Type::F64 || self.to.bits() == 64;
        match (wide, self.to.is_signed()) {
            (false, _) => 0,
            (true, false) => 1 << (self.to.bits() - 1),
            (true, true) => -(1 << (self.to.bits() - 1)),
        }
    }

    /// Clamps with `.sat`, else truncates.
    fn to_integer(self, value: i128) -> u64 {
        let (low, high) = bounds(self.to);
        let float_source = !self.from.is_integer();
        let value = if self.sat || float_source { value.clamp(low, high) } else { value };
        let [bytes @ .., _, _, _, _, _, _, _, _] = value.to_le_bytes();
        let bits = u64::from_le_bytes(bytes);
        bits & self.to.mask()
    }
}

fn format(ty: Type) -> Format {
    if ty == Type::Bf16 { round::BF16 } else { round::F16 }
}

fn integer(ty: Type, bits: u64) -> i128 {
    match ty {
        Type::U8 => i128::from(u8::get(bits)),
        Type::S8 => i128::from(i8::get(bits)),
        Type::U16 => i128::from(u16::get(bits)),
        Type::S16 => i128::from(i16::get(bits)),
        Type::U32 => i128::from(u32::get(bits)),
        Type::S32 => i128::from(i32::get(bits)),
        Type::U64 => i128::from(bits),
        _ => i128::from(i64::get(bits)),
    }
}

fn bounds(ty: Type) -> (i128, i128) {
    let bits = u32::from(ty.bits());
    if ty.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

fn integral(value: f64, mode: Mode) -> f64 {
    match mode {
        Mode::Nearest => value.round_ties_even(),
        Mode::Zero => value.trunc(),
        Mode::Down => value.floor(),
        Mode::Up => value.ceil(),
        Mode::NearestAway => value.round(),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "saturates; narrower types are clamped afterwards")]
fn as_integer(value: f64) -> i128 {
    value as i128
}

fn integer_to_double(magnitude: u128, negative: bool, mode: Mode) -> f64 {
    let length = 128 - magnitude.leading_zeros();
    let shift = length.saturating_sub(53);
    let kept = u64::try_from(magnitude >> shift).unwrap_or(u64::MAX);
    let rest = magnitude - (u128::from(kept) << shift);
    let half = if shift == 0 { 1 } else { 1u128 << (shift - 1) };
    let up = match mode {
        Mode::Nearest => rest > half || (rest == half && shift > 0 && kept & 1 != 0),
        Mode::NearestAway => shift > 0 && rest >= half,
        Mode::Zero => false,
        Mode::Down => negative && rest != 0,
        Mode::Up => !negative && rest != 0,
    };
    #[allow(clippy::cast_precision_loss, reason = "at most 53 bits, and 2^53 is exact")]
    let value = (kept + u64::from(up)) as f64 * f64::from_bits((1023 + u64::from(shift)) << 52);
    if negative { -value } else { value }
}

#[allow(clippy::cast_possible_truncation, reason = "saturates and makes NaN zero, as PTX does")]
fn truncated(a: f32) -> i32 {
    a as i32
}

/// The function and immediate for a conversion. The usual ones have a loop of their own.
pub(crate) fn pick(conversion: Conversion) -> Option<(Unary, u32)> {
    let imm = conversion.encode()?;
    let plain = !conversion.integral && !conversion.ftz && !conversion.sat && !conversion.relu;
    let nearest = plain && conversion.mode == Mode::Nearest;
    let f = match (conversion.to, conversion.from) {
        (Type::U16 | Type::S16 | Type::U32 | Type::S32 | Type::U64 | Type::S64, Type::U8) if plain => {
            unary!(|a: u8| a)
        }
        (Type::U32 | Type::S32 | Type::U64 | Type::S64, Type::U16) if plain => unary!(|a: u16| a),
        (Type::U64 | Type::S64, Type::U32) if plain => unary!(|a: u32| a),
        (Type::U32 | Type::S32, Type::U32 | Type::S32 | Type::U64 | Type::S64) if plain => unary!(|a: u32| a),
        (Type::U16 | Type::S16, from) if plain && from.is_integer() && from.bits() > 16 => unary!(|a: u16| a),
        (Type::U16 | Type::S16, Type::S8) if plain => unary!(|a: i8| i16::from(a)),
        (Type::U32 | Type::S32, Type::S8) if plain => unary!(|a: i8| i32::from(a)),
        (Type::U32 | Type::S32, Type::S16) if plain => unary!(|a: i16| i32::from(a)),
        (Type::U64 | Type::S64, Type::S32) if plain => unary!(|a: i32| i64::from(a)),
        (Type::S32, Type::F32) if plain && conversion.mode == Mode::Zero => unary!(|a: f32| truncated(a)),
        (Type::F64, Type::F32) if plain => unary!(|a: f32| f64::from(a)),
        #[allow(clippy::cast_possible_truncation, reason = "this is the rounding that is asked for")]
        (Type::F32, Type::F64) if nearest => unary!(|a: f64| super::float::canonical(a as f32)),
        (Type::F64, Type::S32) => unary!(|a: i32| f64::from(a)),
        (Type::F64, Type::U32) => unary!(|a: u32| f64::from(a)),
        #[allow(clippy::cast_precision_loss, reason = "this is the rounding that is asked for")]
        (Type::F32, Type::S32) if nearest => unary!(|a: i32| a as f32),
        #[allow(clippy::cast_precision_loss, reason = "this is the rounding that is asked for")]
        (Type::F32, Type::U32) if nearest => unary!(|a: u32| a as f32),
        _ => unary!(|a: u64, imm| Conversion::decode(imm).run(a)),
    };
    Some((f, imm))
}

/// `cvt.rn.f16x2.f32`, `cvt.rn.bf16x2.f32`: `a` to the upper half, `b` to the lower.
pub(crate) fn pack_halves(conversion: Conversion, a: u64, b: u64) -> u64 {
    conversion.run(a) << 16 | conversion.run(b)
}

/// As [`pack_halves`] for whole warps.
pub(crate) fn pick_packed(conversion: Conversion) -> Option<(crate::ptx::ir::Binary, u32)> {
    let f = super::binary!(|a: u64, b: u64, imm| pack_halves(Conversion::decode(imm), a, b));
    Some((f, conversion.encode()?))
}

/// `cvt.rna.tf32.f32` and `cvt.rn.tf32.f32`: the mode is the immediate.
pub(crate) fn to_tf32() -> Unary {
    unary!(|a: f32, imm| round::TF32.round(f64::from(a), Mode::from_bits(imm)) << 13)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(to: Type, from: Type, mode: Mode, sat: bool, bits: u64) -> u64 {
        let conversion = Conversion { to, from, mode, integral: false, ftz: false, sat, relu: false };
        let (f, imm) = pick(conversion).expect("supported");
        let fast = super::super::apply1(f, bits, imm);
        let mask = to.mask();
        assert_eq!(fast & mask, conversion.run(bits) & mask, "{conversion:?} {bits:#x}");
        fast
    }

    #[test]
    fn floats_to_integers_saturate_and_nan_is_zero() {
        let to_s32 = |v: f32| convert(Type::S32, Type::F32, Mode::Zero, false, v.put());
        assert_eq!(to_s32(1e20), 0x7fff_ffff);
        assert_eq!(to_s32(-1e20), 0x8000_0000);
        assert_eq!(to_s32(-1.9), 0xffff_ffff);
        assert_eq!(to_s32(f32::NAN), 0);
        assert_eq!(convert(Type::U64, Type::F32, Mode::Zero, false, f32::NAN.put()), 1 << 63);
        assert_eq!(convert(Type::U32, Type::F64, Mode::Zero, false, f64::NAN.put()), 1 << 31);
        assert_eq!(convert(Type::U8, Type::F32, Mode::Nearest, false, 300.0f32.put()), 255);
        assert_eq!(convert(Type::U32, Type::F32, Mode::Nearest, false, (-5.0f32).put()), 0);
        assert_eq!(convert(Type::U64, Type::F64, Mode::Zero, false, 1e30f64.put()), u64::MAX);
        assert_eq!(convert(Type::S32, Type::F64, Mode::Nearest, false, 2.5f64.put()), 2);
        assert_eq!(convert(Type::S32, Type::F64, Mode::Up, false, 2.1f64.put()), 3);
    }

    #[test]
    fn integers_narrow_by_truncation_or_saturation() {
        assert_eq!(convert(Type::U8, Type::S32, Mode::Nearest, false, 0x1ff), 0xff);
        assert_eq!(convert(Type::U8, Type::S32, Mode::Nearest, true, 0xffff_ffff), 0);
        assert_eq!(convert(Type::S8, Type::S32, Mode::Nearest, true, 300), 127);
        assert_eq!(convert(Type::S64, Type::S32, Mode::Nearest, false, 0xffff_ffff), u64::MAX);
        assert_eq!(convert(Type::S8, Type::U32, Mode::Nearest, false, 0x80), 0x80);
    }

    #[test]
    fn integers_to_floats_round_in_every_mode() {
        let value = (1u64 << 62) + 1;
        let to_f32 = |mode| f32::get(convert(Type::F32, Type::S64, mode, false, value));
        assert_eq!(to_f32(Mode::Nearest), 4_611_686_018_427_387_904.0);
        assert_eq!(to_f32(Mode::Up), 4_611_686_018_427_387_904.0f32.next_up());
        let to_f64 = |mode| f64::get(convert(Type::F64, Type::U64, mode, false, u64::MAX));
        assert_eq!(to_f64(Mode::Nearest), 18_446_744_073_709_551_616.0);
        assert_eq!(to_f64(Mode::Zero), 18_446_744_073_709_551_616.0f64.next_down());
        assert_eq!(convert(Type::F16, Type::S32, Mode::Nearest, false, 70000), 0x7c00);
        for n in [0u64, 1, 16_777_217, 0xffff_ffff, 0x8000_0000] {
            convert(Type::F32, Type::U32, Mode::Nearest, false, n);
            convert(Type::F32, Type::S32, Mode::Nearest, false, n);
        }
    }

    #[test]
    fn floats_to_floats() {
        assert_eq!(convert(Type::F16, Type::F32, Mode::Nearest, false, 1.5f32.put()), 0x3e00);
        assert_eq!(convert(Type::F32, Type::F16, Mode::Nearest, false, 0x3e00), 1.5f32.put());
        assert_eq!(convert(Type::F32, Type::F64, Mode::Zero, false, 0.1f64.put()), 0x3dcc_cccc);
        assert_eq!(convert(Type::F32, Type::F64, Mode::Nearest, false, 0.1f64.put()), 0x3dcc_cccd);
        assert_eq!(convert(Type::F32, Type::F64, Mode::Nearest, true, 7.0f64.put()), 1.0f32.put());
        let floor = Conversion {
            to: Type::F32,
            from: Type::F32,
            mode: Mode::Down,
            integral: true,
            ftz: false,
            sat: false,
            relu: false,
        };
        assert_eq!(floor.run((-1.5f32).put()), (-2.0f32).put());
        let half =
            Conversion { to: Type::F16, from: Type::F32, mode: Mode::Nearest, integral: false, ..floor };
        assert_eq!(pack_halves(half, 1.0f32.put(), 2.0f32.put()), 0x3c00_4000);
    }
}
