//! Session memory as this process sees it: one shared mapping, which the device reads and writes at the same time.
//!
//! Unsafe code: every access to shared memory of the shim goes through here or through `queue`. Words that both sides
//! use are atomics; bytes are copied out before they are looked at.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

/// A shared mapping that lives as long as the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    length: u64,
}

// SAFETY: the mapping is never removed, and all access is atomic, volatile or by raw copies.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Takes a mapping of `length` bytes at `base`.
    ///
    /// # Safety
    /// The bytes are mapped readable and writable, page-aligned, until the process ends.
    pub(crate) const unsafe fn new(base: NonNull<u8>, length: u64) -> Self {
        Self { base, length }
    }

    /// Address of `size` bytes at `offset`.
    ///
    /// # Panics
    /// If they are not inside the region: offsets come from [`virtio_spec::session::Layout`] alone, never from the other
    /// side, so this is a defect of the shim.
    pub(crate) fn at(&self, offset: u64, size: u64) -> *mut u8 {
        assert!(offset.checked_add(size).is_some_and(|end| end <= self.length), "inside session memory");
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// The 16-bit word at `offset`.
    pub(crate) fn word16(&self, offset: u64) -> &'static AtomicU16 {
        assert!(offset.is_multiple_of(2), "aligned");
        // SAFETY: inside the mapping, aligned, lives as long as the process, and only atomics are used on it.
        unsafe { AtomicU16::from_ptr(self.at(offset, 2).cast()) }
    }

    /// The 32-bit word at `offset`.
    pub(crate) fn word32(&self, offset: u64) -> &'static AtomicU32 {
        assert!(offset.is_multiple_of(4), "aligned");
        // SAFETY: inside the mapping, aligned, lives as long as the process, and only atomics are used on it.
        unsafe { AtomicU32::from_ptr(self.at(offset, 4).cast()) }
    }

    /// The 64-bit word at `offset`.
    pub(crate) fn word64(&self, offset: u64) -> &'static AtomicU64 {
        assert!(offset.is_multiple_of(8), "aligned");
        // SAFETY: inside the mapping, aligned, lives as long as the process, and only atomics are used on it.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }

    /// Copies bytes into the region.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let to = self.at(offset, bytes.len() as u64);
        // SAFETY: `to` has room for the bytes, and private memory does not overlap the shared mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// Appends `length` bytes of the region to `bytes`.
    pub(crate) fn read(&self, offset: u64, length: usize, bytes: &mut Vec<u8>) {
        let from = self.at(offset, length as u64);
        bytes.reserve(length);
        let old = bytes.len();
        // SAFETY: the spare capacity holds `length` bytes, as reserved above, and starts at `old`.
        let to = unsafe { bytes.as_mut_ptr().add(old) };
        // SAFETY: both ranges have `length` bytes and do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from, to, length) };
        // SAFETY: these bytes were just written, and fit the capacity.
        unsafe { bytes.set_len(old + length) };
    }
}
