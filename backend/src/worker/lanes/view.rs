//! Session memory as a lane sees it: words that are atomics, and bytes that are copied out before they are looked at.
//!
//! Unsafe code: references into session memory and copies out of it and into it.

use std::{
    marker::PhantomData,
    ptr::NonNull,
    sync::atomic::{AtomicU16, AtomicU32, AtomicU64},
};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Memory that the guest reads and writes at the same time, mapped for `'a`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    base: NonNull<u8>,
    length: usize,
    mapped: PhantomData<&'a [AtomicU64]>,
}

impl<'a> View<'a> {
    /// Takes a mapping.
    ///
    /// # Safety
    /// `length` bytes at `base`, which is aligned to a page, are mapped readable and writable for `'a`. All other access
    /// of this process to them is atomic, volatile or by raw copies.
    pub(crate) const unsafe fn new(base: NonNull<u8>, length: usize) -> Self {
        Self { base, length, mapped: PhantomData }
    }

    /// The address of `size` bytes at `offset`, if they are inside.
    fn at(&self, offset: u64, size: usize) -> Option<NonNull<u8>> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(size)?;
        if end > self.length {
            return None;
        }
        // SAFETY: inside the mapping, as just checked.
        Some(unsafe { self.base.add(offset) })
    }

    /// `count` 16-bit words at `offset`, if they are inside and aligned.
    pub(crate) fn words16(&self, offset: u64, count: usize) -> Option<&'a [AtomicU16]> {
        let place = self.at(offset, count.checked_mul(2)?)?.cast::<AtomicU16>();
        // SAFETY: inside the mapping for `'a`, aligned, any bits are valid, and only used atomically.
        place.is_aligned().then(|| unsafe { std::slice::from_raw_parts(place.as_ptr(), count) })
    }

    /// `count` 32-bit words at `offset`, if they are inside and aligned.
    pub(crate) fn words32(&self, offset: u64, count: usize) -> Option<&'a [AtomicU32]> {
        let place = self.at(offset, count.checked_mul(4)?)?.cast::<AtomicU32>();
        // SAFETY: as for 16 bits.
        place.is_aligned().then(|| unsafe { std::slice::from_raw_parts(place.as_ptr(), count) })
    }

    /// `count` 64-bit words at `offset`, if they are inside and aligned.
    pub(crate) fn words64(&self, offset: u64, count: usize) -> Option<&'a [AtomicU64]> {
        let place = self.at(offset, count.checked_mul(8)?)?.cast::<AtomicU64>();
        // SAFETY: as for 16 bits.
        place.is_aligned().then(|| unsafe { std::slice::from_raw_parts(place.as_ptr(), count) })
    }

    /// Copies `length` bytes at `offset` to the end of `bytes`; false if they are not inside.
    pub(crate) fn read(&self, offset: u64, length: usize, bytes: &mut Vec<u8>) -> bool {
        let Some(from) = self.at(offset, length) else { return false };
        bytes.reserve(length);
        let spare = bytes.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: `length` bytes of the mapping, and room for as many; what the guest writes meanwhile only changes what
        // is copied.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr().cast_const(), spare, length) };
        // SAFETY: these bytes were written just now.
        unsafe { bytes.set_len(bytes.len().saturating_add(length)) };
        true
    }

    /// Copies bytes to `offset`; false if there is no room.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(to) = self.at(offset, bytes.len()) else { return false };
        // SAFETY: as many bytes of the mapping, which memory of this process's own does not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
    }

    /// Has the processor fetch bytes that will be read soon. A hint: what is not inside is not fetched.
    pub(crate) fn prefetch(&self, offset: u64, length: usize) {
        for line in (0..length).step_by(LINE) {
            if let Some(place) = self.at(offset.saturating_add(line as u64), 1) {
                prefetch(place.as_ptr());
            }
        }
    }
}

/// Has the processor fetch a cache line that will be read soon. A hint, whatever lies there.
pub(crate) fn prefetch(place: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    // SAFETY: every x86-64 processor has the instruction, which changes nothing but caches.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn only_what_is_inside_is_reached() {
        let mut memory = [0_u64; 8];
        let base = NonNull::from(&mut memory).cast();
        // SAFETY: 64 bytes, aligned to 8, which is all that this test asks for.
        let view = unsafe { View::new(base, 64) };

        assert!(view.write(60, &[1, 2, 3, 4]));
        assert!(!view.write(61, &[1, 2, 3, 4]));
        let mut bytes = vec![9];
        assert!(view.read(62, 2, &mut bytes));
        assert_eq!(bytes, [9, 3, 4]);
        assert!(!view.read(62, 3, &mut bytes) && !view.read(u64::MAX, 2, &mut bytes));
        assert_eq!(
            view.words64(56, 1).and_then(<[_]>::first).map(|word| word.load(Ordering::Relaxed)),
            Some(0x0403_0201 << 32)
        );
        assert!(view.words64(60, 1).is_none() && view.words64(56, 2).is_none());
        assert!(view.words32(2, 1).is_none() && view.words16(1, 1).is_none(), "not aligned");
        assert!(view.words16(0, usize::MAX).is_none());
        view.prefetch(60, 4096);
    }
}
