//! Hands out ranges of one window of addresses.

use std::collections::BTreeMap;

/// Free ranges of the window, by their first address.
#[derive(Debug)]
pub(crate) struct Ranges {
    free: BTreeMap<u64, u64>,
    /// Where the next search begins, so that a freed range is not soon used again and stale addresses are found out.
    next: u64,
}

impl Ranges {
    /// All of a window is free.
    pub(crate) fn new(start: u64, length: u64) -> Self {
        Self { free: BTreeMap::from([(start, length)]), next: start }
    }

    /// Takes `length` bytes at a multiple of `align`.
    pub(crate) fn take(&mut self, length: u64, align: u64) -> Option<u64> {
        let fits = |(&start, &size): (&u64, &u64)| {
            let at = start.checked_next_multiple_of(align)?;
            (at.checked_add(length)? <= start.checked_add(size)?).then_some((start, size, at))
        };
        let (start, size, at) =
            self.free.range(self.next..).find_map(fits).or_else(|| self.free.iter().find_map(fits))?;
        self.free.remove(&start);
        if at > start {
            self.free.insert(start, at - start);
        }
        let (end, limit) = (at + length, start + size);
        if end < limit {
            self.free.insert(end, limit - end);
        }
        self.next = end;
        Some(at)
    }

    /// Gives a range back.
    pub(crate) fn give(&mut self, start: u64, length: u64) {
        let (mut start, mut length) = (start, length);
        if let Some((&before, &size)) = self.free.range(..start).next_back()
            && before + size == start
        {
            self.free.remove(&before);
            start = before;
            length += size;
        }
        if let Some(size) = self.free.remove(&(start + length)) {
            length += size;
        }
        self.free.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_becomes_one_range_again() {
        let mut ranges = Ranges::new(4096, 1 << 20);
        let taken: Vec<_> = (0..16).map(|_| ranges.take(1 << 16, 512).unwrap()).collect();
        assert_eq!(ranges.take(1, 1), None);
        for start in taken.iter().step_by(2).chain(taken.iter().skip(1).step_by(2)) {
            ranges.give(*start, 1 << 16);
        }
        assert_eq!(ranges.take(1 << 20, 512), Some(4096));
    }

    #[test]
    fn a_freed_range_is_not_reused_at_once() {
        let mut ranges = Ranges::new(0, 1 << 20);
        let first = ranges.take(512, 512).unwrap();
        ranges.give(first, 512);
        ranges.next = 512;
        ranges.free = BTreeMap::from([(0, 512), (512, (1 << 20) - 512)]);
        assert_ne!(ranges.take(512, 512), Some(first));
    }

    #[test]
    fn overflowing_requests_fail() {
        let mut ranges = Ranges::new(4096, 1 << 20);
        assert_eq!(ranges.take(u64::MAX, 512), None);
        assert_eq!(ranges.take(u64::MAX - 4096, 1 << 40), None);
    }
}
