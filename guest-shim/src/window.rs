//! Keeps the addresses free that the device gives out ([`virtio_spec::window`]), so that a pointer's number tells what
//! it points to.
//!
//! Unsafe code: reserving address space.

use std::sync::OnceLock;

use virtio_spec::window::{END, LOW_END, LOW_START, PINNED_END, RESERVE_START, START};

/// Reserves `start..end` without memory behind it; false if something is there already.
fn reserve(start: u64, end: u64) -> bool {
    let (Ok(address), Ok(length)) = (usize::try_from(start), usize::try_from(end - start)) else {
        return false;
    };
    // SAFETY: MAP_FIXED_NOREPLACE takes free addresses only.
    let base = unsafe {
        libc::mmap(
            std::ptr::with_exposed_provenance_mut(address),
            length,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED_NOREPLACE,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: the mapping was just made. Core dumps would otherwise walk tens of TiB; failing changes nothing else.
    unsafe { libc::madvise(base, length, libc::MADV_DONTDUMP) };
    true
}

static DONE: OnceLock<bool> = OnceLock::new();

/// Reserves the window, once for the process. The low part is best effort: programs linked at fixed low addresses are
/// there already, and only stream-ordered pools and virtual memory management use it. False if the window is taken.
pub(crate) fn ensure() -> bool {
    *DONE.get_or_init(|| {
        reserve(LOW_START, LOW_END);
        reserve(START, END)
    })
}

/// Puts `length` bytes of zeroed memory of the process at `address`, in the part of the window where the host's driver
/// places what it likes; false if it lies elsewhere.
pub(crate) fn open(address: u64, length: u64) -> bool {
    let inside = address >= PINNED_END && address.checked_add(length).is_some_and(|end| end <= RESERVE_START);
    let (Ok(place), Ok(length)) = (usize::try_from(address), usize::try_from(length)) else { return false };
    if !inside || DONE.get() != Some(&true) {
        return false;
    }
    // SAFETY: the range belongs to the window, and what the device has there nobody else maps.
    let base = unsafe {
        libc::mmap(
            std::ptr::with_exposed_provenance_mut(place),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    base != libc::MAP_FAILED
}

/// Gives `length` bytes at `address` of the window back to the reservation: no memory, no access.
pub(crate) fn clear(address: u64, length: u64) -> bool {
    let (Ok(place), Ok(length)) = (usize::try_from(address), usize::try_from(length)) else { return false };
    // SAFETY: the range belongs to the shim's window, and its owner has said that nobody uses it any more.
    let base = unsafe {
        libc::mmap(
            std::ptr::with_exposed_provenance_mut(place),
            length,
            libc::PROT_NONE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    base != libc::MAP_FAILED
}
