//! Numbers as text, without an allocation or the means of formatting, which can panic.

/// A number in decimal digits.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    digits: [u8; Self::MAX_BYTES],
    length: usize,
}

impl Decimal {
    /// Bytes of the longest number.
    pub const MAX_BYTES: usize = 10;

    /// The digits of a number.
    #[must_use]
    pub fn of(number: u32) -> Self {
        let mut decimal = Self { digits: [b'0'; Self::MAX_BYTES], length: 1 };
        let mut rest = number;
        for (place, digit) in (1..).zip(decimal.digits.iter_mut().rev()) {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            if rest != 0 {
                decimal.length = place;
            }
            rest /= 10;
        }
        decimal
    }

    /// The digits.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.digits.get(Self::MAX_BYTES.saturating_sub(self.length)..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal() {
        for number in [0, 7, 10, 4711, 1_000_000_000, u32::MAX] {
            assert_eq!(Decimal::of(number).bytes(), number.to_string().as_bytes());
        }
    }
}
