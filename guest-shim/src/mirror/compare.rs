//! Where two states of the same memory differ.

use std::ops::Range;

/// Bytes that are compared at once while they are equal.
const BLOCK: usize = 256;

/// The runs of bytes in which `new` differs from `old`, which has the same length.
pub(super) fn changes<'a>(old: &'a [u8], new: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
    let length = old.len().min(new.len());
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < length {
            let end = (at + BLOCK).min(length);
            if old[at..end] != new[at..end] {
                break;
            }
            at = end;
        }
        let differs = |at: &usize| old[*at] != new[*at];
        let start = (at..length).find(differs)?;
        at = (start..length).find(|at| !differs(at)).unwrap_or(length);
        Some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_exact() {
        let old = vec![7_u8; 1000];
        let mut new = old.clone();
        assert_eq!(changes(&old, &new).count(), 0);
        for (place, length) in [(0, 1), (255, 3), (600, 256), (999, 1)] {
            new[place..place + length].fill(8);
        }
        let found: Vec<_> = changes(&old, &new).collect();
        assert_eq!(found, [0..1, 255..258, 600..856, 999..1000]);
        assert_eq!(changes(&[], &[]).count(), 0);
    }
}
