//! Managed memory (`cuMemAllocManaged`): pinned memory of the process that the device reaches at the same address.
//!
//! Nothing moves: kernels read and write the process's pages over the bus. The device says that it and the host do not
//! use managed memory at the same time (attribute 89 is 0), so advice about where memory should lie changes nothing; it
//! is kept for those who ask.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use virtio_spec::cuda::CUresult;

use super::{Kind, Range, find, pinned};

/// No place at all: `CU_DEVICE_INVALID`.
pub(crate) const NOWHERE: i32 = -2;

/// What the program has said of some memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advice {
    /// It is mostly read.
    pub(crate) read_mostly: bool,
    /// Where it should lie: `CU_DEVICE_CPU` or [`NOWHERE`].
    pub(crate) preferred: i32,
    /// The host uses it directly.
    pub(crate) accessed_by_host: bool,
}

impl Advice {
    const NONE: Self = Self { read_mostly: false, preferred: NOWHERE, accessed_by_host: false };
}

/// Advice by address: the end of a piece and what was said of it. Memory without a piece has none.
static ADVICE: Mutex<BTreeMap<u64, (u64, Advice)>> = Mutex::new(BTreeMap::new());

fn advice() -> MutexGuard<'static, BTreeMap<u64, (u64, Advice)>> {
    ADVICE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an address the border of two pieces.
fn split(pieces: &mut BTreeMap<u64, (u64, Advice)>, at: u64) {
    if let Some((start, (end, said))) = pieces.range_mut(..at).next_back()
        && at < *end
    {
        let rest = (*end, *said);
        debug_assert!(*start < at);
        *end = at;
        pieces.insert(at, rest);
    }
}

/// Notes what is said of `start..end`, which is all managed memory.
pub(crate) fn advise(start: u64, end: u64, change: impl Fn(&mut Advice)) {
    let mut pieces = advice();
    split(&mut pieces, start);
    split(&mut pieces, end);
    pieces.range_mut(start..end).for_each(|(_, (_, said))| change(said));
}

/// What was said of all of `start..end`, which is managed memory: its pieces.
pub(crate) fn said(start: u64, end: u64) -> Vec<Advice> {
    let pieces = advice();
    let touched = pieces.range(..end).rev().take_while(|(_, (piece_end, _))| *piece_end > start);
    touched.map(|(_, (_, said))| *said).collect()
}

/// `cuMemAllocManaged`: the address of `length` bytes, for host and device.
pub(crate) fn allocate(length: u64) -> Result<u64, CUresult> {
    let address = pinned::take(length, Kind::Managed)?;
    let Some(range) = at(address) else { return Err(CUresult::ERROR_UNKNOWN) };
    if range.device_pointer != address {
        // A device that reaches the host's memory at other addresses only has no managed memory of this kind.
        pinned::give_back(&range, || Ok(()))?;
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    advice().insert(address, (address + length, Advice::NONE));
    Ok(address)
}

/// The managed memory that begins at an address.
pub(crate) fn at(address: u64) -> Option<Range> {
    find(address).filter(|range| range.start == address && range.kind.is_managed())
}

/// Notes managed memory that a module brought.
pub(crate) fn note(address: u64, length: u64) {
    advice().insert(address, (address + length, Advice::NONE));
}

/// The end of `length` bytes at an address, if they are all one piece of managed memory.
pub(crate) fn end_of(address: u64, length: u64) -> Option<u64> {
    let range = find(address).filter(|range| range.kind.is_managed())?;
    let end = address.checked_add(length)?;
    (end <= range.start + range.length).then_some(end)
}

/// `cuMemFree`. `synchronise` waits for the GPU, as the real call does.
pub(crate) fn free(
    range: &Range,
    synchronise: impl FnOnce() -> Result<(), CUresult>,
) -> Result<(), CUresult> {
    pinned::give_back(range, synchronise)?;
    forget(&[*range]);
    Ok(())
}

/// Forgets what was said of memory that is gone.
pub(crate) fn forget(gone: &[Range]) {
    let mut pieces = advice();
    for range in gone.iter().filter(|range| range.kind.is_managed()) {
        let end = range.start + range.length;
        pieces.retain(|start, _| !(range.start..end).contains(start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_holds_for_the_pieces_that_it_was_given_for() {
        let start = 0x2950_0000_0000;
        advice().insert(start, (start + 100, Advice::NONE));
        advise(start + 10, start + 20, |said| said.read_mostly = true);
        advise(start + 15, start + 100, |said| said.preferred = -1);

        let both = Advice { read_mostly: true, preferred: -1, ..Advice::NONE };
        assert_eq!(said(start, start + 10), [Advice::NONE]);
        assert_eq!(said(start + 15, start + 20), [both]);
        assert_eq!(said(start + 12, start + 18).len(), 2);
        assert_eq!(said(start, start + 100).len(), 4);

        let (kind, context) = (Kind::Managed, 0);
        let length = 100;
        let range = Range { start, length, kind, device_pointer: start, context, id: 0, synchronous: false };
        forget(&[range]);
        assert_eq!(said(start, start + 100), []);
    }
}
