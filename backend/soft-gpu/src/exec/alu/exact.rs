//! On which side of a rounded double the exact result lies, by integer arithmetic of any length.

use super::round::Wide;

/// A finite double as `sign * significand * 2^exponent`.
#[derive(Clone, Copy)]
struct Parts {
    negative: bool,
    significand: u64,
    exponent: i32,
}

fn parts(value: f64) -> Parts {
    let bits = value.to_bits();
    let field = i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0);
    let fraction = bits & ((1 << 52) - 1);
    let (significand, exponent) =
        if field == 0 { (fraction, -1074) } else { (fraction | 1 << 52, field - 1075) };
    Parts { negative: bits >> 63 != 0, significand, exponent }
}

/// Words of the accumulator: a fixed-point number whose lowest bit is 2^-2200, up to 2^2200.
const WORDS: usize = 72;
const LOWEST: i32 = -2200;

/// A signed sum of terms, as two's complement.
struct Sum([u64; WORDS]);

impl Sum {
    fn add(&mut self, negative: bool, significand: u128, exponent: i32) {
        if significand == 0 {
            return;
        }
        let shift = usize::try_from(exponent - LOWEST).unwrap_or(0);
        let (word, bit) = (shift / 64, shift % 64);
        // The significand's 128 bits, shifted, take up to three words.
        let low = significand << bit;
        let high = if bit == 0 { 0 } else { significand >> (128 - bit) };
        let words =
            [low, low >> 64, high].map(|part| u64::try_from(part & u128::from(u64::MAX)).unwrap_or(0));
        let mut carry = false;
        for (index, slot) in self.0.iter_mut().enumerate().skip(word) {
            let term = words.get(index - word).copied().unwrap_or(0);
            let (value, first) =
                if negative { slot.overflowing_sub(term) } else { slot.overflowing_add(term) };
            let step = u64::from(carry);
            let (value, second) =
                if negative { value.overflowing_sub(step) } else { value.overflowing_add(step) };
            *slot = value;
            carry = first || second;
        }
    }

    fn sign(&self) -> i32 {
        if self.0.last().is_some_and(|word| word >> 63 != 0) {
            -1
        } else {
            i32::from(self.0.iter().any(|word| *word != 0))
        }
    }
}

/// Sign of the exact result minus `rounded`; all values finite, no division by zero.
pub(crate) fn error_sign(op: Wide, a: f64, b: f64, c: f64, rounded: f64) -> i32 {
    let mut sum = Sum([0; WORDS]);
    let product = |sum: &mut Sum, x: f64, y: f64, negate: bool| {
        let (x, y) = (parts(x), parts(y));
        let negative = (x.negative != y.negative) != negate;
        sum.add(negative, u128::from(x.significand) * u128::from(y.significand), x.exponent + y.exponent);
    };
    match op {
        Wide::Add => {
            product(&mut sum, a, 1.0, false);
            product(&mut sum, b, 1.0, false);
            product(&mut sum, rounded, 1.0, true);
        }
        Wide::Mul | Wide::Fma => {
            product(&mut sum, a, b, false);
            if op == Wide::Fma {
                product(&mut sum, c, 1.0, false);
            }
            product(&mut sum, rounded, 1.0, true);
        }
        Wide::Div => {
            // a/b - q has the sign of (a - q*b) * b.
            product(&mut sum, a, 1.0, false);
            product(&mut sum, rounded, b, true);
        }
        Wide::Sqrt => {
            product(&mut sum, a, 1.0, false);
            product(&mut sum, rounded, rounded, true);
        }
    }
    let sign = sum.sign();
    if op == Wide::Div && b < 0.0 { -sign } else { sign }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_errors_are_seen() {
        assert_eq!(error_sign(Wide::Add, 1.0, f64::from_bits(1), 0.0, 1.0), 1);
        assert_eq!(error_sign(Wide::Add, 1.0, 2.0, 0.0, 3.0), 0);
        assert_eq!(error_sign(Wide::Mul, f64::from_bits(1), f64::from_bits(1), 0.0, 0.0), 1);
        assert_eq!(error_sign(Wide::Mul, f64::MAX, f64::MIN, 0.0, f64::MIN), -1);
        assert_eq!(error_sign(Wide::Div, 1.0, -3.0, 0.0, 1.0 / -3.0), -1);
        assert_eq!(error_sign(Wide::Fma, f64::from_bits(1), -f64::from_bits(1), 5.0, 5.0), -1);
        assert_eq!(error_sign(Wide::Sqrt, 2.0, 0.0, 0.0, 2.0f64.sqrt()), -1);
    }
}
