//! Rounding that the processor does not do by itself: directed modes, and formats below 32 bits.
//!
//! The trick throughout is *round to odd*: a result in double precision whose last bit is set when
//! anything was lost can be rounded once more, to a format at least two bits shorter, in any mode, and
//! gives what rounding the exact value would have given.
#![allow(
    clippy::cast_possible_truncation,
    reason = "narrowing is what this file is about; each place has masked or bounded the value"
)]

/// A rounding mode of PTX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `.rn`
    Nearest,
    /// `.rz`
    Zero,
    /// `.rm`
    Down,
    /// `.rp`
    Up,
    /// `.rna`: nearest, ties away from zero
    NearestAway,
}

impl Mode {
    /// From the modifier without its dot.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "rn" => Self::Nearest,
            "rz" => Self::Zero,
            "rm" => Self::Down,
            "rp" => Self::Up,
            "rna" => Self::NearestAway,
            _ => return None,
        })
    }

    pub(crate) fn to_bits(self) -> u32 {
        match self {
            Self::Nearest => 0,
            Self::Zero => 1,
            Self::Down => 2,
            Self::Up => 3,
            Self::NearestAway => 4,
        }
    }

    pub(crate) fn from_bits(bits: u32) -> Self {
        match bits & 7 {
            0 => Self::Nearest,
            1 => Self::Zero,
            2 => Self::Down,
            3 => Self::Up,
            _ => Self::NearestAway,
        }
    }
}

/// A binary floating-point format of at most 32 bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Format {
    /// Bits of the exponent field.
    exponent: u32,
    /// Bits of the fraction field.
    fraction: u32,
}

pub(crate) const F32: Format = Format { exponent: 8, fraction: 23 };
pub(crate) const F16: Format = Format { exponent: 5, fraction: 10 };
pub(crate) const BF16: Format = Format { exponent: 8, fraction: 7 };
/// Single precision with a fraction of ten bits, in the upper bits of 32.
pub(crate) const TF32: Format = Format { exponent: 8, fraction: 10 };

impl Format {
    fn infinity(self) -> u32 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    fn largest(self) -> u32 {
        self.infinity() - 1
    }

    /// PTX's canonical NaN: all bits but the sign.
    pub(crate) fn nan(self) -> u32 {
        (1 << (self.exponent + self.fraction)) - 1
    }

    /// Rounds a value, which may itself be rounded to odd. NaN becomes the canonical one.
    pub(crate) fn round(self, value: f64, mode: Mode) -> u32 {
        if value.is_nan() {
            return self.nan();
        }
        let bits = value.to_bits();
        let negative = bits >> 63 != 0;
        let sign = u32::from(negative) << (self.exponent + self.fraction);
        let magnitude = bits & (u64::MAX >> 1);
        if magnitude == 0 {
            return sign;
        }
        if value.is_infinite() {
            return sign | self.infinity();
        }
        let bias = (1i32 << (self.exponent - 1)) - 1;
        let field = (magnitude >> 52) as i32;
        // The significand with its leading one at bit 52 (doubles' subnormals are far below every format here).
        let (significand, exponent) = if field == 0 {
            (1, -1022 - 52)
        } else {
            ((magnitude & ((1 << 52) - 1)) | 1 << 52, field - 1023)
        };
        let biased = exponent + bias;
        // How many bits are dropped: more for results that are subnormal.
        let below = if biased <= 0 { 1 - biased } else { 0 };
        let drop = (52 - self.fraction).saturating_add(below.unsigned_abs());
        let (kept, rest, half) = if drop > 62 {
            (0, 1u64, 2u64)
        } else {
            (significand >> drop, significand & ((1 << drop) - 1), 1u64 << (drop - 1))
        };
        let up = match mode {
            Mode::Nearest => rest > half || rest == half && kept & 1 != 0,
            Mode::NearestAway => rest >= half,
            Mode::Zero => false,
            Mode::Down => negative && rest != 0,
            Mode::Up => !negative && rest != 0,
        };
        let kept = kept as u32 + u32::from(up);
        // A carry out of the fraction moves on into the exponent, which is just right.
        let base = if biased <= 0 { 0 } else { (biased as u32 - 1) << self.fraction };
        let result = if biased >= (1 << self.exponent) - 1 { self.infinity() } else { base + kept };
        let toward_zero =
            matches!((mode, negative), (Mode::Zero, _) | (Mode::Down, false) | (Mode::Up, true));
        let result = if result >= self.infinity() {
            if toward_zero { self.largest() } else { self.infinity() }
        } else {
            result
        };
        sign | result
    }
}

/// `sum` with its last bit set if `error`, what it misses, is not zero.
fn to_odd(sum: f64, error: f64) -> f64 {
    if error == 0.0 || !error.is_finite() || !sum.is_finite() || sum.to_bits() & 1 != 0 {
        return sum;
    }
    // The exact value lies beside the even `sum`, on the side of the error: its odd neighbour there.
    let away = (error > 0.0) == (sum > 0.0);
    if sum == 0.0 {
        return error;
    }
    f64::from_bits(if away { sum.to_bits() + 1 } else { sum.to_bits() - 1 })
}

/// Sum rounded to odd.
pub(crate) fn add_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let b_part = sum - a;
    let error = (a - (sum - b_part)) + (b - b_part);
    to_odd(sum, error)
}

/// Quotient of two values of at most 24 bits, rounded to odd.
pub(crate) fn div_odd(a: f64, b: f64) -> f64 {
    let quotient = a / b;
    if !quotient.is_finite() || !b.is_finite() || quotient == 0.0 {
        return quotient;
    }
    let rest = (-quotient).mul_add(b, a);
    to_odd(quotient, if b < 0.0 { -rest } else { rest })
}

/// Square root of a value of at most 24 bits, rounded to odd.
pub(crate) fn sqrt_odd(a: f64) -> f64 {
    let root = a.sqrt();
    if !root.is_finite() || root == 0.0 {
        return root;
    }
    to_odd(root, (-root).mul_add(root, a))
}

/// What an operation in double precision with a directed mode computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wide {
    Add,
    Mul,
    Div,
    Sqrt,
    Fma,
}

/// One operation in double precision in any mode: the nearest result, and a step in the mode's direction if
/// the exact result lies there. The sign of the error is computed with scaled operands where it would
/// underflow.
pub(crate) fn directed(op: Wide, a: f64, b: f64, c: f64, mode: Mode) -> f64 {
    let nearest = match op {
        Wide::Add => a + b,
        Wide::Mul => a * b,
        Wide::Div => a / b,
        Wide::Sqrt => a.sqrt(),
        Wide::Fma => a.mul_add(b, c),
    };
    if mode == Mode::Nearest || nearest.is_nan() {
        return nearest;
    }
    let exact_zero_sum = nearest == 0.0 && matches!(op, Wide::Add | Wide::Fma);
    if exact_zero_sum && mode == Mode::Down {
        // x + (-x) is -0 when rounding down; sums of zeros of one sign keep it.
        let same = match op {
            Wide::Add => a == 0.0 && b == 0.0 && a.is_sign_positive() && b.is_sign_positive(),
            _ => {
                (a == 0.0 || b == 0.0)
                    && c == 0.0
                    && c.is_sign_positive()
                    && a.is_sign_positive() == b.is_sign_positive()
            }
        };
        if super::exact::error_sign(op, a, b, c, nearest) == 0 {
            return if same { 0.0 } else { -0.0 };
        }
    }
    let infinite_input = !a.is_finite() || !b.is_finite() || !c.is_finite();
    let division_by_zero = op == Wide::Div && b == 0.0;
    if infinite_input || division_by_zero {
        return nearest;
    }
    if nearest.is_infinite() {
        // Overflow: finite operands.
        let inward = match mode {
            Mode::Zero => true,
            Mode::Down => nearest > 0.0,
            _ => nearest < 0.0,
        };
        return if inward { f64::MAX.copysign(nearest) } else { nearest };
    }
    let sign = super::exact::error_sign(op, a, b, c, nearest);
    let step_up = sign > 0 && (mode == Mode::Up || mode == Mode::Zero && nearest < 0.0);
    let step_down = sign < 0 && (mode == Mode::Down || mode == Mode::Zero && nearest > 0.0);
    match (step_up, step_down) {
        (true, _) => nearest.next_up(),
        (_, true) => nearest.next_down(),
        _ => nearest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_round_as_ieee_says() {
        let cases: [(f64, u32); 10] = [
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (65519.9, 0x7bff),
            (65520.0, 0x7c00),
            (5.960_464_477_539_063e-8, 0x0001),
            (2.980_232_238_769_531e-8, 0x0000),
            (2.980_232_238_769_532e-8, 0x0001),
            (1.0 + 1.0 / 2048.0, 0x3c00),
            (1.0 + 3.0 / 2048.0, 0x3c02),
        ];
        for (value, bits) in cases {
            assert_eq!(F16.round(value, Mode::Nearest), bits, "{value}");
        }
        assert_eq!(F16.round(f64::NAN, Mode::Nearest), 0x7fff);
        assert_eq!(F16.round(1e9, Mode::Zero), 0x7bff);
        assert_eq!(F16.round(-1e9, Mode::Down), 0xfc00);
        assert_eq!(BF16.round(1.0 + 1.0 / 128.0, Mode::Nearest), 0x3f81);
        assert_eq!(F16.round(1e-300, Mode::Up), 1);
    }

    #[test]
    fn singles_round_as_the_processor_does() {
        let mut state = 0x1234_5678_9abc_def0u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Exponents around single precision's whole range.
            let exponent = 1023 - 160 + (state >> 20) % 320;
            let value = f64::from_bits(state & !(0x7ff << 52) | exponent << 52);
            assert_eq!(F32.round(value, Mode::Nearest), (value as f32).to_bits(), "{value:e}");
        }
    }

    #[test]
    fn directed_doubles_bracket_the_exact_value() {
        let third = |mode| directed(Wide::Div, 1.0, 3.0, 0.0, mode);
        assert!(third(Mode::Down) < third(Mode::Up));
        assert_eq!(third(Mode::Up), third(Mode::Down).next_up());
        assert_eq!(third(Mode::Zero), third(Mode::Down));
        assert_eq!(directed(Wide::Add, 1.0, 1e-30, 0.0, Mode::Up), 1.0f64.next_up());
        assert_eq!(directed(Wide::Add, 1.0, -1e-30, 0.0, Mode::Zero), 1.0f64.next_down());
        assert_eq!(directed(Wide::Mul, f64::MAX, 2.0, 0.0, Mode::Zero), f64::MAX);
        assert_eq!(directed(Wide::Mul, 1e-200, 1e-200, 0.0, Mode::Up), f64::from_bits(1));
        assert_eq!(directed(Wide::Sqrt, 4.0, 0.0, 0.0, Mode::Up), 2.0);
        assert_eq!(directed(Wide::Fma, 1e-200, 1e-200, 1.0, Mode::Up), 1.0f64.next_up());
        assert!(directed(Wide::Add, 1.0, -1.0, 0.0, Mode::Down).is_sign_negative());
        assert_eq!(directed(Wide::Div, 1.0, 0.0, 0.0, Mode::Zero), f64::INFINITY);
    }
}
