//! Pages: what the system gives, takes back and knows of.
//!
//! Unsafe code: mapping of memory.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What the device's own memory is called.
pub(super) const MEMORY: &CStr = c"soft-gpu memory";

/// Bytes of a page.
pub(super) const PAGE: u64 = 4096;

/// Maps memory that costs nothing until it is touched.
pub(super) fn map(length: u64) -> Option<u64> {
    map_pages(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE, -1, 0)
}

/// Maps a part of a file that processes share.
pub(super) fn map_shared(file: &OwnedFd, offset: u64, length: u64) -> Option<u64> {
    map_pages(length, libc::MAP_SHARED | libc::MAP_NORESERVE, file.as_raw_fd(), offset)
}

fn map_pages(length: u64, flags: i32, file: i32, offset: u64) -> Option<u64> {
    let (length, offset) = (usize::try_from(length).ok()?, i64::try_from(offset).ok()?);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping wherever the kernel likes.
    let pointer = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, file, offset) };
    (pointer != libc::MAP_FAILED).then(|| pointer.expose_provenance() as u64)
}

/// A file without a name, whose pages cost nothing until they are touched.
pub(super) fn nameless_file(length: u64) -> Option<OwnedFd> {
    named_file(MEMORY, length)
}

/// The same of another name: that is no path, but says what the file is.
pub(super) fn named_file(name: &CStr, length: u64) -> Option<OwnedFd> {
    // SAFETY: a text that ends.
    let raw = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if raw < 0 {
        return None;
    }
    // SAFETY: the descriptor was just made and has no other owner.
    let file = unsafe { OwnedFd::from_raw_fd(raw) };
    let length = i64::try_from(length).ok()?;
    // SAFETY: no memory is involved.
    let sized = unsafe { libc::ftruncate(file.as_raw_fd(), length) } == 0;
    sized.then_some(file)
}

/// A descriptor of its own for a file of this name that the program has a descriptor of.
pub(super) fn copy_of(name: &CStr, descriptor: RawFd) -> Option<OwnedFd> {
    let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).ok()?;
    let expected = format!("/memfd:{} (deleted)", name.to_str().ok()?);
    if link.as_os_str() != expected.as_str() {
        return None;
    }
    // SAFETY: duplicates a descriptor, or fails.
    let raw = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: the descriptor was just made and has no other owner.
    (raw >= 0).then(|| unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Gives pages of a file back to the system.
pub(super) fn punch(file: &OwnedFd, offset: u64, length: u64) {
    if let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: no mapping changes; pages of nobody become zeros.
        unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, length) };
    }
}

/// Whether the process has all pages of a range.
pub(super) fn is_mapped(start: u64, length: u64) -> bool {
    let first = start & !(PAGE - 1);
    let Some(end) = start.checked_add(length).and_then(|end| end.checked_next_multiple_of(PAGE)) else {
        return false;
    };
    let Ok(count) = usize::try_from(end - first) else { return false };
    // SAFETY: MADV_NORMAL on any range changes nothing but a hint; a hole in it is an error.
    unsafe { libc::madvise(host(first).cast(), count, libc::MADV_NORMAL) == 0 }
}

/// Where an address lies in this process.
pub(crate) fn host(address: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0))
}
