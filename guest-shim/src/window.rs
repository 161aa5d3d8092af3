//! Keeps the addresses free that the device gives out ([`virtio_spec::window`]), so that a pointer's number tells what
//! it points to.
//!
//! Unsafe code: reserving address space.

use std::sync::OnceLock;

use virtio_spec::window::{END, LOW_END, LOW_START, START};

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

/// Reserves the window, once for the process. The low part is best effort: programs linked at fixed low addresses are
/// there already, and only stream-ordered pools and virtual memory management use it. False if the window is taken.
pub(crate) fn ensure() -> bool {
    static DONE: OnceLock<bool> = OnceLock::new();
    *DONE.get_or_init(|| {
        reserve(LOW_START, LOW_END);
        reserve(START, END)
    })
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
