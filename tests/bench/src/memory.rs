//! Ordinary memory of the process, of huge pages where there are any: what `malloc` gives depends on what the process has
//! given back before, and a copy of 1 MiB that lies in other pages takes three times as long.
//!
//! This file has unsafe code: it maps memory.

use std::ptr::NonNull;

use anyhow::{Context, Result, ensure};

/// Bytes of a huge page, which memory begins at a multiple of.
const HUGE: usize = 2 << 20;

/// Memory that is zero at first.
pub(crate) struct Memory {
    base: NonNull<u8>,
    mapped: usize,
    words: usize,
}

impl Memory {
    /// So many bytes, a multiple of 8.
    pub(crate) fn of(bytes: usize) -> Result<Self> {
        let mapped = bytes.next_multiple_of(HUGE) + HUGE;
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: the kernel chooses an unused range.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), mapped, access, kind, -1, 0) };
        ensure!(base != libc::MAP_FAILED, "{bytes} bytes of memory: {}", std::io::Error::last_os_error());
        let memory = Self { base: NonNull::new(base.cast()).context("memory")?, mapped, words: bytes / 8 };
        // Where there are none, pages are small on both sides.
        // SAFETY: the mapping from its first multiple on; advice changes nothing that is there.
        let _result = unsafe { libc::madvise(memory.start().cast(), mapped - HUGE, libc::MADV_HUGEPAGE) };
        Ok(memory)
    }

    fn start(&self) -> *mut u8 {
        let base = self.base.as_ptr();
        base.wrapping_add(base.align_offset(HUGE))
    }

    pub(crate) fn words(&mut self) -> &mut [u64] {
        // SAFETY: mapped, zeroed, aligned, and nobody else's while it is borrowed.
        unsafe { std::slice::from_raw_parts_mut(self.start().cast(), self.words) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping, which nobody borrows any more. A failure only leaves it there.
        let _result = unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped) };
    }
}
