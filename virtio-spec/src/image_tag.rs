//! How a guest shows that the device has its image already, without sending it (docs/adr/0012).
//!
//! The guest asks with the image's length and a [`sample`], which finds a candidate and proves nothing. The device picks a
//! random [`Secret`] for this one question, both sides compute the [`tag`] of their own bytes under it, and the device
//! compares. The secret is younger than the candidate's contents, so whoever made these could not know it: whatever he
//! did, images that differ have equal tags with a probability below 2⁻⁶¹. No assumption about a hash function is needed, and
//! the tag costs little more than reading the bytes.
//!
//! The tag is NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC, 1999) over blocks of 1 KiB, whose results are the
//! coefficients of a polynomial over the integers modulo 2¹²⁷ − 1, as in VMAC. Images of equal length that differ have
//! different results in some block except with probability 2⁻⁶⁴, four times that since the results are cut to 126
//! bits, and different polynomials agree in at most as many points as there are blocks, of 2¹²⁶.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::assert_layout;

/// Bytes of a block.
const BLOCK: usize = 1024;
/// Numbers of 64 bits in a block.
const WORDS: usize = BLOCK / 8;
/// The field's order.
const PRIME: u128 = (1 << 127) - 1;
/// The part of a block's result that is a coefficient.
const COEFFICIENT: u128 = (1 << 126) - 1;

/// What a tag depends on besides the image: random, and used for one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Secret {
    /// Added to the numbers of each block.
    pub block: [u64; WORDS],
    /// Where the polynomial is evaluated, low half first.
    pub point: [u64; 2],
}
assert_layout!(Secret, 1040, block: 0, point: 1024);

impl Secret {
    /// All zeros, to be filled with random bytes: as it is, it is of no use.
    #[must_use]
    pub fn zeroed() -> Self {
        Self::new_zeroed()
    }
}

/// Two numbers whose product has two words: as one.
const fn wide(low: u64, high: u64) -> u128 {
    (high as u128) << 64 | low as u128
}

const fn low(value: u128) -> u128 {
    value & u64::MAX as u128
}

/// `a * b` modulo [`PRIME`], for numbers up to it. Not reduced below it in all cases, but to at most 127 bits.
const fn multiply(a: u128, b: u128) -> u128 {
    let (a0, a1, b0, b1) = (low(a), a >> 64, low(b), b >> 64);
    // The upper halves have 63 bits, so the sum of the middle products has 128 at most.
    let middle = (a0 * b1).wrapping_add(a1 * b0).wrapping_add((a0 * b0) >> 64);
    let bottom = low(middle) << 64 | low(a0.wrapping_mul(b0));
    let top = (a1 * b1).wrapping_add(middle >> 64);
    // 2¹²⁸ is 2 here.
    fold(fold(bottom).wrapping_add(fold(top << 1)))
}

/// A number of 128 bits, to the same of 127.
const fn fold(value: u128) -> u128 {
    let once = (value & PRIME).wrapping_add(value >> 127);
    (once & PRIME).wrapping_add(once >> 127)
}

/// The sum of the products of a block's pairs of numbers, each with the secret's added.
fn products(block: &[[u8; 16]], secret: &[u64; WORDS]) -> u128 {
    let product = |pair: &[u8; 16], first: u64, second: u64| {
        let both = u128::from_le_bytes(*pair);
        let [left, right] = [both, both >> 64].map(|word| u64::try_from(low(word)).unwrap_or_default());
        u128::from(left.wrapping_add(first)) * u128::from(right.wrapping_add(second))
    };
    // Sums of their own, so that additions do not wait for one another.
    let (mut even, mut odd) = (0_u128, 0_u128);
    let (secret, _) = secret.as_chunks::<4>();
    let (pairs, _) = block.as_chunks::<2>();
    for ([one, other], [first, second, third, fourth]) in pairs.iter().zip(secret) {
        even = even.wrapping_add(product(one, *first, *second));
        odd = odd.wrapping_add(product(other, *third, *fourth));
    }
    even.wrapping_add(odd)
}

/// The tag of bytes under a secret. Only tags of equally many bytes can be compared.
#[must_use]
pub fn tag(bytes: &[u8], secret: &Secret) -> [u64; 2] {
    let [low_half, high_half] = secret.point;
    let point = fold(wide(low_half, high_half));
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut sum = 0_u128;
    let mut step = |block: &[u8; BLOCK]| {
        let result = products(block.as_chunks::<16>().0, &secret.block) & COEFFICIENT;
        sum = fold(multiply(sum, point).wrapping_add(result));
    };
    blocks.iter().for_each(&mut step);
    if !rest.is_empty() {
        let mut last = [0; BLOCK];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        step(&last);
    }
    // The one number that has two forms.
    let sum = if sum == PRIME { 0 } else { sum };
    [sum, sum >> 64].map(|word| u64::try_from(low(word)).unwrap_or_default())
}

/// A number by which equal images are found, from a few pages of them. Images that differ may have the same.
#[must_use]
pub fn sample(bytes: &[u8]) -> u64 {
    /// Places that are looked at, and bytes of each.
    const PLACES: usize = 64;
    const PIECE: usize = 256;
    let step = (bytes.len() / PLACES).max(PIECE);
    let pieces = bytes.chunks(step).map(|chunk| chunk.get(..PIECE).unwrap_or(chunk));
    // The end, too, where files have their tables.
    let end = bytes.get(bytes.len().saturating_sub(PIECE)..).unwrap_or_default();
    let mut sum = bytes.len() as u64;
    for piece in pieces.chain([end]) {
        for word in piece.chunks(8) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
            sum = (sum ^ u64::from_le_bytes(padded)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            sum ^= sum >> 29;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random.
    fn numbers(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ mixed >> 27
        }
    }

    fn secret(seed: u64) -> Secret {
        let mut next = numbers(seed);
        Secret { block: std::array::from_fn(|_| next()), point: [next(), next()] }
    }

    fn image(length: usize) -> Vec<u8> {
        let mut next = numbers(7);
        (0..length).map(|_| next().to_le_bytes()[0]).collect()
    }

    /// The same product by additions.
    fn slowly(a: u128, b: u128) -> u128 {
        (0..127).rev().fold(0, |sum, bit| {
            let doubled = (sum * 2) % PRIME;
            (doubled + if b >> bit & 1 == 1 { a } else { 0 }) % PRIME
        })
    }

    #[test]
    fn products_are_those_of_the_field() {
        let mut next = numbers(1);
        let random: Vec<u128> = (0..64).map(|_| fold(wide(next(), next()))).collect();
        let special = [0, 1, 2, PRIME - 1, PRIME, 1 << 126, u128::from(u64::MAX), 1 << 64];
        let all: Vec<u128> = random.into_iter().chain(special).collect();
        for &a in &all {
            for &b in &all {
                assert_eq!(multiply(a, b) % PRIME, slowly(a % PRIME, b % PRIME), "{a:#x} * {b:#x}");
                assert!(multiply(a, b) <= PRIME);
            }
        }
    }

    #[test]
    fn a_tag_is_what_the_definition_says() {
        let (image, secret) = (image(3000), secret(3));
        let mut padded = image.clone();
        padded.resize(3 * BLOCK, 0);
        let mut sum = 0_u128;
        for block in padded.chunks(BLOCK) {
            let words: Vec<u64> =
                block.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes"))).collect();
            let mut result = 0_u128;
            for pair in 0..WORDS / 2 {
                let left = words[2 * pair].wrapping_add(secret.block[2 * pair]);
                let right = words[2 * pair + 1].wrapping_add(secret.block[2 * pair + 1]);
                result = result.wrapping_add(u128::from(left) * u128::from(right));
            }
            let point = wide(secret.point[0], secret.point[1]) % PRIME;
            sum = (slowly(sum, point) + result % (1 << 126)) % PRIME;
        }
        let [low, high] = tag(&image, &secret);
        assert_eq!(wide(low, high), sum);
    }

    #[test]
    fn every_bit_of_an_image_counts() {
        let (mut image, secret) = (image(2100), secret(4));
        let before = tag(&image, &secret);
        for bit in 0..image.len() * 8 {
            image[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(tag(&image, &secret), before, "bit {bit}");
            image[bit / 8] ^= 1 << (bit % 8);
        }
        image.swap(0, 1024);
        assert_ne!(tag(&image, &secret), before, "blocks have places");
        image.swap(0, 1024);
        assert_eq!(tag(&image, &secret), before);
    }

    #[test]
    fn a_tag_depends_on_its_secret() {
        let image = image(5000);
        assert_ne!(tag(&image, &secret(5)), tag(&image, &secret(6)));
    }

    #[test]
    fn a_sample_sees_length_and_both_ends() {
        let before = image(100_000);
        let mut other = before.clone();
        assert_eq!(sample(&before), sample(&other));
        other.push(0);
        assert_ne!(sample(&before), sample(&other));
        for place in [0, 99_999] {
            let mut other = before.clone();
            other[place] ^= 1;
            assert_ne!(sample(&before), sample(&other), "byte {place}");
        }
        for short in [0, 1, 7, 300] {
            assert_ne!(sample(&before[..short]), sample(&before));
        }
    }
}
