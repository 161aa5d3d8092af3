//! Copies of much memory, past the caches.
//!
//! What goes to the device is not read again here, and what comes from it is more than a cache holds: stores that go to
//! memory at once save the read that an ordinary store begins with. On a machine with a H200 a large copy from the device
//! is 1.7 times as fast by it, one to it 1.2 times. There a copy to the device reads four pages in turns, so that four times as
//! much of what the processor fetches by itself, which ends with a page, is under way; that is 1.2 times as fast again
//! (docs/performance.md).
//!
//! Unsafe code: copies between memory of the application and chunks.

use std::arch::x86_64::{
    __cpuid, __m128i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm_sfence, _mm_stream_si128,
};
use std::sync::LazyLock;

/// Bytes from which rows are copied past the caches.
const BULK: usize = 64 << 10;
/// Bytes of a store.
const WIDTH: usize = size_of::<__m128i>();
/// Bytes that are copied in one step.
const LINE: usize = 64;
/// Bytes that the processor reads ahead within.
const PAGE: usize = 4096;
/// Bytes of pages that are read in turns.
const PAGES: usize = 4 * PAGE;

/// Whether pages are read in turns: on Intel's processors. On AMD's, stores past the caches to four pages in turns are four
/// times as slow as to one after the other.
static IN_TURNS: LazyLock<bool> = LazyLock::new(|| {
    let vendor = __cpuid(0);
    [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).as_flattened() == b"GenuineIntel"
});

/// Where a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ToDevice,
    ToProcess,
}

/// Rows of bytes that are to be copied between memory of the application and a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub(super) from: *const u8,
    /// Bytes from one row to the next.
    pub(super) from_pitch: usize,
    pub(super) to: *mut u8,
    pub(super) to_pitch: usize,
    pub(super) width: usize,
    pub(super) count: usize,
    pub(super) direction: Direction,
}

// SAFETY: addresses, which are the same for each thread; whoever copies has the promises of `Rows::copy`.
unsafe impl Send for Rows {}

impl Rows {
    /// Copies them. What was copied is there for the device as soon as this returns.
    ///
    /// # Safety
    /// All rows are readable at the source and writable at the destination, nobody else uses the destination, and the two
    /// do not overlap.
    pub(super) unsafe fn copy(&self) {
        let in_turns = self.direction == Direction::ToDevice && *IN_TURNS;
        for row in 0..self.count {
            let from = self.from.wrapping_add(row.wrapping_mul(self.from_pitch));
            let to = self.to.wrapping_add(row.wrapping_mul(self.to_pitch));
            if self.width >= BULK {
                // SAFETY: a row, as the caller promises.
                unsafe { copy(from, to, self.width, in_turns) };
            } else {
                // SAFETY: a row, as the caller promises.
                unsafe { std::ptr::copy_nonoverlapping(from, to, self.width) };
            }
        }
    }
}

/// Copies `length` bytes past the caches, of four pages in turns or of one after the other.
///
/// # Safety
/// The bytes are readable at `from` and writable at `to`, and the two do not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize, in_turns: bool) {
    let mut done = to.align_offset(LINE).min(length);
    // SAFETY: within the lengths that the caller promises.
    unsafe { std::ptr::copy_nonoverlapping(from, to, done) };
    while in_turns && length - done >= PAGES {
        for line in (0..PAGE).step_by(LINE) {
            for page in (0..PAGES).step_by(PAGE) {
                let at = done + page + line;
                // SAFETY: a line of the pages, which lie within the lengths; aligned since the first bytes.
                unsafe { copy_line(from.wrapping_add(at), to.wrapping_add(at), PAGES) };
            }
        }
        done += PAGES;
    }
    while length - done >= LINE {
        // SAFETY: a line within the lengths, aligned since the first bytes.
        unsafe { copy_line(from.wrapping_add(done), to.wrapping_add(done), PAGE) };
        done += LINE;
    }
    // SAFETY: what is left of the lengths that the caller promises.
    unsafe {
        std::ptr::copy_nonoverlapping(from.wrapping_add(done), to.wrapping_add(done), length - done);
    };
    // Such stores are not in order with later ones, such as the one that tells the device of them.
    // SAFETY: every x86-64 processor has the instruction.
    unsafe { _mm_sfence() };
}

/// Copies a line, and has the one that lies so far `ahead` of it fetched.
///
/// # Safety
/// The line is readable at `from` and writable at `to`, which is aligned to the width of a store.
#[inline(always)]
unsafe fn copy_line(from: *const u8, to: *mut u8, ahead: usize) {
    // SAFETY: fetching changes nothing but caches, wherever the address is.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(ahead).cast()) };
    for part in (0..LINE).step_by(WIDTH) {
        // SAFETY: within the line.
        let value = unsafe { _mm_loadu_si128(from.wrapping_add(part).cast()) };
        // SAFETY: within the line, and aligned.
        unsafe { _mm_stream_si128(to.wrapping_add(part).cast(), value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 3 * PAGES;

    fn check(from: usize, to: usize, length: usize, in_turns: bool) {
        let source: Vec<u8> = (0..=250_u8).cycle().take(ROOM).collect();
        let mut target = vec![255_u8; ROOM];
        let (start, end) = (source.as_ptr().wrapping_add(from), target.as_mut_ptr().wrapping_add(to));
        // SAFETY: both vectors are longer than offset and length together.
        unsafe { copy(start, end, length, in_turns) };
        let what = format!("{length} bytes from {from} to {to}, in turns: {in_turns}");
        assert!(target[to..to + length] == source[from..from + length], "{what}");
        let around = target[..to].iter().chain(&target[to + length..]);
        assert!(around.into_iter().all(|byte| *byte == 255), "{what}: bytes around");
    }

    #[test]
    fn every_byte_is_copied_wherever_it_lies() {
        for in_turns in [false, true] {
            for alignment in 0..LINE {
                check(alignment, 3, PAGES + LINE + 1, in_turns);
                check(5, alignment, 2 * PAGES + LINE - 1, in_turns);
                check(alignment, alignment, LINE, in_turns);
            }
            for length in (0..3 * LINE).chain(PAGES - LINE..PAGES + 2 * LINE) {
                check(1, 7, length, in_turns);
            }
            check(0, 0, ROOM, in_turns);
        }
    }

    #[test]
    fn rows_are_copied_with_their_gaps() {
        for (width, count) in [(BULK + 9, 2_usize), (100, 3)] {
            let (from_pitch, to_pitch) = (width + 5, width + 1);
            let source: Vec<u8> = (0..=250_u8).cycle().take(from_pitch * count).collect();
            let mut target = vec![255_u8; to_pitch * count];
            let (from, to) = (source.as_ptr(), target.as_mut_ptr());
            let rows = Rows { from, from_pitch, to, to_pitch, width, count, direction: Direction::ToDevice };
            // SAFETY: both vectors hold all rows.
            unsafe { rows.copy() };
            for row in 0..count {
                let (bytes, gap) = target[row * to_pitch..][..to_pitch].split_at(width);
                assert!(bytes == &source[row * from_pitch..][..width], "row {row} of {width} bytes");
                assert_eq!(gap, [255], "after row {row} of {width} bytes");
            }
        }
    }
}
