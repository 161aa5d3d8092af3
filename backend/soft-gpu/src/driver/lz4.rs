//! LZ4 blocks, as compilers put PTX into containers.

/// Reads a block from its beginning.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A count whose first four bits are in the token; 15 goes on in bytes until one is below 255.
    fn count(&mut self, first: u8) -> Option<usize> {
        let mut count = usize::from(first);
        if first == 15 {
            loop {
                let more = self.byte()?;
                count = count.checked_add(usize::from(more))?;
                if more < 255 {
                    break;
                }
            }
        }
        Some(count)
    }
}

/// Decompresses one block of `length` bytes; `None` if it is malformed or of another length.
pub(super) fn decompress(block: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut reader = Reader(block);
    // A byte of input makes at most 255 of output, so a forged length takes no more memory than that.
    let mut output = Vec::with_capacity(length.min(block.len().saturating_mul(255)));
    loop {
        let token = reader.byte()?;
        let literals = reader.count(token >> 4)?;
        let literals = reader.bytes(literals)?;
        if output.len() + literals.len() > length {
            return None;
        }
        output.extend_from_slice(literals);
        if reader.0.is_empty() {
            return (output.len() == length).then_some(output);
        }
        let offset = usize::from(u16::from_le_bytes([reader.byte()?, reader.byte()?]));
        let matched = reader.count(token & 0xf)?.checked_add(4)?;
        let start = output.len().checked_sub(offset).filter(|_| offset > 0)?;
        if output.len().checked_add(matched)? > length {
            return None;
        }
        // The match may reach into what it produces.
        for index in start..start + matched {
            output.push(*output.get(index)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_overlapping_matches() {
        // "ab", then 9 bytes from 2 back, then "!".
        let block = [0x25, b'a', b'b', 2, 0, 0x10, b'!'];
        assert_eq!(decompress(&block, 12).as_deref(), Some(b"abababababa!".as_slice()));
    }

    #[test]
    fn long_counts_go_on_in_further_bytes() {
        let mut block = vec![0xf0, 255, 30];
        block.extend([7; 300]);
        assert_eq!(decompress(&block, 300), Some(vec![7; 300]));
    }

    #[test]
    fn malformed_blocks_are_refused() {
        for block in
            [&[][..], &[0x10], &[0x25, b'a', b'b', 3, 0], &[0x25, b'a', b'b', 0, 0, 0x10, b'!'], &[0xf0, 255]]
        {
            assert_eq!(decompress(block, 12), None, "{block:?}");
        }
        assert_eq!(decompress(&[0x25, b'a', b'b', 2, 0, 0x10, b'!'], 11), None);
        assert_eq!(decompress(&[0x20, b'a', b'b'], 3), None);
    }
}
