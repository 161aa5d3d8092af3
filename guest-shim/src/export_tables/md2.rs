//! The message digest MD2 (RFC 1319) and HMAC over it (RFC 2104).
//!
//! Nobody should choose MD2 today. NVIDIA's runtime compares a value that is made with it (see `integrity`), over some
//! hundred bytes and three times for each copy of the runtime in a process: this is short rather than fast.

/// Bytes of a digest, and of a block.
pub(super) const BYTES: usize = 16;

/// The permutation of RFC 1319, section 3.2, which is made of the digits of pi.
#[rustfmt::skip]
const SUBSTITUTION: [u8; 256] = [
    0x29, 0x2e, 0x43, 0xc9, 0xa2, 0xd8, 0x7c, 0x01, 0x3d, 0x36, 0x54, 0xa1, 0xec, 0xf0, 0x06, 0x13,
    0x62, 0xa7, 0x05, 0xf3, 0xc0, 0xc7, 0x73, 0x8c, 0x98, 0x93, 0x2b, 0xd9, 0xbc, 0x4c, 0x82, 0xca,
    0x1e, 0x9b, 0x57, 0x3c, 0xfd, 0xd4, 0xe0, 0x16, 0x67, 0x42, 0x6f, 0x18, 0x8a, 0x17, 0xe5, 0x12,
    0xbe, 0x4e, 0xc4, 0xd6, 0xda, 0x9e, 0xde, 0x49, 0xa0, 0xfb, 0xf5, 0x8e, 0xbb, 0x2f, 0xee, 0x7a,
    0xa9, 0x68, 0x79, 0x91, 0x15, 0xb2, 0x07, 0x3f, 0x94, 0xc2, 0x10, 0x89, 0x0b, 0x22, 0x5f, 0x21,
    0x80, 0x7f, 0x5d, 0x9a, 0x5a, 0x90, 0x32, 0x27, 0x35, 0x3e, 0xcc, 0xe7, 0xbf, 0xf7, 0x97, 0x03,
    0xff, 0x19, 0x30, 0xb3, 0x48, 0xa5, 0xb5, 0xd1, 0xd7, 0x5e, 0x92, 0x2a, 0xac, 0x56, 0xaa, 0xc6,
    0x4f, 0xb8, 0x38, 0xd2, 0x96, 0xa4, 0x7d, 0xb6, 0x76, 0xfc, 0x6b, 0xe2, 0x9c, 0x74, 0x04, 0xf1,
    0x45, 0x9d, 0x70, 0x59, 0x64, 0x71, 0x87, 0x20, 0x86, 0x5b, 0xcf, 0x65, 0xe6, 0x2d, 0xa8, 0x02,
    0x1b, 0x60, 0x25, 0xad, 0xae, 0xb0, 0xb9, 0xf6, 0x1c, 0x46, 0x61, 0x69, 0x34, 0x40, 0x7e, 0x0f,
    0x55, 0x47, 0xa3, 0x23, 0xdd, 0x51, 0xaf, 0x3a, 0xc3, 0x5c, 0xf9, 0xce, 0xba, 0xc5, 0xea, 0x26,
    0x2c, 0x53, 0x0d, 0x6e, 0x85, 0x28, 0x84, 0x09, 0xd3, 0xdf, 0xcd, 0xf4, 0x41, 0x81, 0x4d, 0x52,
    0x6a, 0xdc, 0x37, 0xc8, 0x6c, 0xc1, 0xab, 0xfa, 0x24, 0xe1, 0x7b, 0x08, 0x0c, 0xbd, 0xb1, 0x4a,
    0x78, 0x88, 0x95, 0x8b, 0xe3, 0x63, 0xe8, 0x6d, 0xe9, 0xcb, 0xd5, 0xfe, 0x3b, 0x00, 0x1d, 0x39,
    0xf2, 0xef, 0xb7, 0x0e, 0x66, 0x58, 0xd0, 0xe4, 0xa6, 0x77, 0x72, 0xf8, 0xeb, 0x75, 0x4b, 0x0a,
    0x31, 0x44, 0x50, 0xb4, 0x8f, 0xed, 0x1f, 0x1a, 0xdb, 0x99, 0x8d, 0x33, 0x9f, 0x11, 0x83, 0x14,
];

fn substitute(byte: u8) -> u8 {
    SUBSTITUTION[usize::from(byte)]
}

/// A digest in the making.
#[derive(Debug, Default)]
pub(super) struct Md2 {
    state: [u8; BYTES],
    block: [u8; BYTES],
    checksum: [u8; BYTES],
    filled: usize,
}

impl Md2 {
    /// Takes more of the message.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.block[self.filled] = byte;
            self.filled += 1;
            if self.filled == BYTES {
                self.add_to_checksum();
                self.compress();
                self.filled = 0;
            }
        }
    }

    /// The digest of what was taken.
    pub(super) fn finish(mut self) -> [u8; BYTES] {
        let missing = BYTES - self.filled;
        let padding = u8::try_from(missing).unwrap_or(0);
        self.update(&[padding; BYTES][..missing]);
        self.block = self.checksum;
        self.compress();
        self.state
    }

    fn add_to_checksum(&mut self) {
        let mut last = self.checksum[BYTES - 1];
        for (sum, byte) in self.checksum.iter_mut().zip(self.block) {
            *sum ^= substitute(byte ^ last);
            last = *sum;
        }
    }

    fn compress(&mut self) {
        let mut words = [0; 3 * BYTES];
        for place in 0..BYTES {
            words[place] = self.state[place];
            words[BYTES + place] = self.block[place];
            words[2 * BYTES + place] = self.state[place] ^ self.block[place];
        }
        let mut carry: u8 = 0;
        for round in 0..18 {
            for word in &mut words {
                *word ^= substitute(carry);
                carry = *word;
            }
            carry = carry.wrapping_add(round);
        }
        self.state.copy_from_slice(&words[..BYTES]);
    }
}

/// HMAC-MD2 of a message with a key of one block.
pub(super) fn hmac(key: [u8; BYTES], message: &[u8]) -> [u8; BYTES] {
    let mut inner = Md2::default();
    inner.update(&key.map(|byte| byte ^ 0x36));
    inner.update(message);
    let mut outer = Md2::default();
    outer.update(&key.map(|byte| byte ^ 0x5c));
    outer.update(&inner.finish());
    outer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(message: &str) -> String {
        let mut md2 = Md2::default();
        md2.update(message.as_bytes());
        md2.finish().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The test suite of RFC 1319, appendix A.5.
    #[test]
    fn the_rfcs_own_examples() {
        assert_eq!(digest(""), "8350e5a3e24c153df2275c9f80692773");
        assert_eq!(digest("a"), "32ec01ec4a6dac72c0ab96fb34c0b5d1");
        assert_eq!(digest("abc"), "da853b0d3f88d99b30283a69e6ded6bb");
        assert_eq!(digest("message digest"), "ab4f496bfb2a530b219ff33031fe06b0");
        assert_eq!(digest("abcdefghijklmnopqrstuvwxyz"), "4e8ddff3650292ab5a4108c3aa47940b");
        assert_eq!(
            digest("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
            "da33def2a42df13975352846c30338cd"
        );
        assert_eq!(digest(&"1234567890".repeat(8)), "d5976f79d83d3a0dc9806c3c66f3efd8");
    }

    #[test]
    fn the_pieces_of_a_message_do_not_matter() {
        let mut md2 = Md2::default();
        for piece in ["message", "", " di", "gest"] {
            md2.update(piece.as_bytes());
        }
        assert_eq!(md2.finish()[..4], [0xab, 0x4f, 0x49, 0x6b]);
    }
}
