//! Memory of the process at an address, read and written as bytes that other threads may be writing too.
//!
//! Unsafe code: the program's memory.

use std::ops::Range;

use crate::transport::errno;

/// Runs that one system call writes.
const RUNS: usize = 512;
/// As wide as the kernel reads them.
const NO_FLAGS: usize = 0;
const ONE: usize = 1;

fn pointer(address: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}

/// Copies `bytes.len()` bytes at an address.
///
/// # Safety
/// They are readable.
pub(super) unsafe fn read(address: u64, bytes: &mut [u8]) {
    // SAFETY: as the caller promises; memory of the shim does not overlap it.
    unsafe { std::ptr::copy_nonoverlapping(pointer(address), bytes.as_mut_ptr(), bytes.len()) };
}

/// Writes bytes at an address.
///
/// # Safety
/// They are writable.
pub(super) unsafe fn write(address: u64, bytes: &[u8]) {
    // SAFETY: as the caller promises; memory of the shim does not overlap it.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pointer(address), bytes.len()) };
}

/// Whether a copy by the kernel was done, or is to be done otherwise because this system forbids it; `None` if the memory
/// is not there.
fn outcome(copied: i64, wanted: usize) -> Option<bool> {
    if usize::try_from(copied) == Ok(wanted) {
        return Some(true);
    }
    (copied < 0 && matches!(errno(), libc::ENOSYS | libc::EPERM)).then_some(false)
}

fn piece(address: *const u8, length: usize) -> libc::iovec {
    libc::iovec { iov_base: address.cast_mut().cast(), iov_len: length }
}

/// Copies bytes of the program, whose memory may be gone; false if it is.
pub(super) fn read_if_there(address: u64, bytes: &mut [u8]) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let (to, from) = (piece(bytes.as_ptr(), bytes.len()), piece(pointer(address), bytes.len()));
    let own = std::process::id() as usize;
    // SAFETY: one piece of memory of the shim, and one that the kernel checks.
    let copied = unsafe {
        libc::syscall(libc::SYS_process_vm_readv, own, &raw const to, ONE, &raw const from, ONE, NO_FLAGS)
    };
    match outcome(copied, bytes.len()) {
        Some(true) => true,
        Some(false) => {
            // SAFETY: the program gave the memory to a graph that it is about to launch.
            unsafe { read(address, bytes) };
            true
        }
        None => false,
    }
}

/// Writes runs of `bytes`, which are the program's at `address`, unless its memory is gone.
pub(super) fn write_if_there(address: u64, bytes: &[u8], runs: &[Range<usize>]) {
    let own = std::process::id() as usize;
    for some in runs.chunks(RUNS) {
        let from: Vec<_> = some.iter().map(|run| piece(bytes[run.clone()].as_ptr(), run.len())).collect();
        let to: Vec<_> =
            some.iter().map(|run| piece(pointer(address + run.start as u64), run.len())).collect();
        let wanted = some.iter().map(ExactSizeIterator::len).sum();
        // SAFETY: pieces of memory of the shim, and as many that the kernel checks.
        let copied = unsafe {
            libc::syscall(
                libc::SYS_process_vm_writev,
                own,
                from.as_ptr(),
                from.len(),
                to.as_ptr(),
                to.len(),
                NO_FLAGS,
            )
        };
        if outcome(copied, wanted) == Some(false) {
            for run in some {
                // SAFETY: the program gave the memory to a graph, which has just written it.
                unsafe { write(address + run.start as u64, &bytes[run.clone()]) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_gone_is_told() {
        let mut bytes = [0; 3];
        assert!(!read_if_there(4096, &mut bytes));
        let (from, mut to) = ([1_u8, 2, 3], [9_u8; 3]);
        assert!(read_if_there(from.as_ptr().expose_provenance() as u64, &mut bytes));
        assert_eq!(bytes, from);
        write_if_there(to.as_mut_ptr().expose_provenance() as u64, &bytes, &[0..1, 2..3]);
        assert_eq!(to, [1, 9, 3]);
        write_if_there(4096, &bytes, std::slice::from_ref(&(0..3)));
    }
}
