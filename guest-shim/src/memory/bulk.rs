//! Copies of much memory, past the caches.
//!
//! What goes to the device is not read again here, and what comes from it is more than a cache holds: stores that go to
//! memory at once save the read that an ordinary store begins with. On a machine with a H200 a large copy from the
//! device is 1.7 times as fast by it, one to it 1.2 times (docs/performance.md).
//!
//! Unsafe code: copies between memory of the application and staging.

use std::arch::x86_64::{__m128i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm_sfence, _mm_stream_si128};

/// Bytes of a store.
const WIDTH: usize = size_of::<__m128i>();
/// Bytes that are copied in one step.
const STEP: usize = 128;
/// How far ahead the source is fetched.
const AHEAD: usize = 4096;

/// Copies `length` bytes. What was copied is there for the device as soon as this returns.
///
/// # Safety
/// The bytes are readable at `from` and writable at `to`, and the two do not overlap.
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    let head = to.align_offset(WIDTH).min(length);
    // SAFETY: within the lengths that the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(from, to, head) };
    let steps = (length - head) / STEP;
    let mut from = from.wrapping_add(head);
    let mut to = to.wrapping_add(head);
    for _ in 0..steps {
        // SAFETY: fetching changes nothing but caches, wherever the address is.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast()) };
        // SAFETY: as above.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD + STEP / 2).cast()) };
        for part in (0..STEP).step_by(WIDTH) {
            // SAFETY: within a whole step of the source.
            let value = unsafe { _mm_loadu_si128(from.wrapping_add(part).cast()) };
            // SAFETY: within a whole step of the destination, aligned since the head.
            unsafe { _mm_stream_si128(to.wrapping_add(part).cast(), value) };
        }
        from = from.wrapping_add(STEP);
        to = to.wrapping_add(STEP);
    }
    // SAFETY: what is left of the lengths that the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(from, to, length - head - steps * STEP) };
    // Such stores are not in order with later ones, such as the one that tells the device of them.
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { _mm_sfence() };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_copied_wherever_it_lies() {
        let source: Vec<u8> = (0..=250_u8).cycle().take(2000).collect();
        for (from, to, length) in
            [(0, 0, 0), (0, 0, 128), (1, 3, 15), (5, 7, 1000), (16, 1, 129), (3, 16, 1900)]
        {
            let mut target = vec![255_u8; 2000];
            // SAFETY: both vectors are longer than offset and length together.
            unsafe { copy(source.as_ptr().wrapping_add(from), target.as_mut_ptr().wrapping_add(to), length) };
            assert_eq!(target[to..to + length], source[from..from + length], "{from} {to} {length}");
            let around = target[..to].iter().chain(&target[to + length..]);
            assert!(around.into_iter().all(|byte| *byte == 255), "{from} {to} {length}");
        }
    }
}
