//! The words of session memory that both sides use at once, as atomics.
//!
//! Unsafe code: references into session memory.

use std::{
    mem::offset_of,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering},
    },
};

use virtio_spec::session::{LaneHeader, Layout, SessionHeader, ring};

use super::view::View;
use crate::worker::memory::SessionMemory;

/// The shared words of one session.
#[derive(Clone)]
pub(super) struct Shared {
    memory: Arc<SessionMemory>,
    layout: Layout,
}

impl Shared {
    /// `layout` was checked: its total is no longer than the memory.
    pub(super) fn new(memory: Arc<SessionMemory>, layout: Layout) -> Self {
        Self { memory, layout }
    }

    fn word16(&self, offset: u64) -> &AtomicU16 {
        let address = self.address(offset, 2);
        // SAFETY: inside session memory, aligned, and only ever used atomically by this process.
        unsafe { AtomicU16::from_ptr(address.cast()) }
    }

    fn word32(&self, offset: u64) -> &AtomicU32 {
        let address = self.address(offset, 4);
        // SAFETY: inside session memory, aligned, and only ever used atomically by this process.
        unsafe { AtomicU32::from_ptr(address.cast()) }
    }

    fn word64(&self, offset: u64) -> &AtomicU64 {
        let address = self.address(offset, 8);
        // SAFETY: inside session memory, aligned, and only ever used atomically by this process.
        unsafe { AtomicU64::from_ptr(address.cast()) }
    }

    fn address(&self, offset: u64, size: usize) -> *mut u8 {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let inside = start.checked_add(size).is_some_and(|end| end <= self.memory.len());
        // Offsets come from the layout alone, so this is a matter of the program, not of the guest.
        assert!(inside && start.is_multiple_of(size), "a word outside session memory");
        self.memory.base().as_ptr().wrapping_add(start)
    }

    fn lane32(&self, lane: u32, field: usize) -> &AtomicU32 {
        self.word32(self.layout.lane(lane).saturating_add(field as u64))
    }

    fn lane64(&self, lane: u32, field: usize) -> &AtomicU64 {
        self.word64(self.layout.lane(lane).saturating_add(field as u64))
    }

    /// `LaneHeader::state`.
    pub(super) fn lane_state(&self, lane: u32) -> u32 {
        self.lane32(lane, offset_of!(LaneHeader, state)).load(Ordering::Acquire)
    }

    /// Whether a lane that sleeps, or was never served, has something in its ring: the guest has come past the index that the lane
    /// waits for. What the guest saw when it decided to kick is seen here, too.
    pub(super) fn is_kicked(&self, lane: u32) -> bool {
        let word = |start: u64, part| self.word16(start.saturating_add(part)).load(Ordering::Acquire);
        let index = word(self.layout.available(lane), ring::INDEX);
        index != word(self.layout.used(lane), ring::available_event(self.layout.queue_size()))
    }

    /// `LaneHeader::posted_sequence`.
    pub(super) fn posted_sequence(&self, lane: u32) -> &AtomicU64 {
        self.lane64(lane, offset_of!(LaneHeader, posted_sequence))
    }

    /// `SessionHeader::lanes_used`.
    pub(super) fn lanes_used(&self) -> &AtomicU32 {
        self.word32(offset_of!(SessionHeader, lanes_used) as u64)
    }

    /// The bytes of session memory.
    pub(super) fn view(&self) -> View<'_> {
        // SAFETY: a mapping of this length, which `memory` keeps; this process reads and writes it as a view demands.
        unsafe { View::new(self.memory.base(), self.memory.len()) }
    }

    /// Keeps the first late error of the lane's posted requests.
    pub(super) fn defer_error(&self, lane: u32, error: u32) {
        let word = self.lane32(lane, offset_of!(LaneHeader, deferred_error));
        // An error that is there already came first; the guest takes it by writing 0.
        let _ = word.compare_exchange(0, error, Ordering::Release, Ordering::Relaxed);
    }

    /// Keeps the first sticky error of the session.
    pub(super) fn set_sticky_error(&self, error: u32) {
        let word = self.word32(offset_of!(SessionHeader, sticky_error) as u64);
        // An error that is there already came first.
        let _ = word.compare_exchange(0, error, Ordering::Release, Ordering::Relaxed);
    }

    /// Tells the guest what became of the session.
    pub(super) fn set_worker_state(&self, state: u32) {
        self.word32(offset_of!(SessionHeader, worker_state) as u64).store(state, Ordering::Release);
    }

    /// Tells the guest whether kernels have printed something.
    pub(super) fn set_output_waiting(&self, waiting: bool) {
        let word = self.word32(offset_of!(SessionHeader, output_waiting) as u64);
        // The line is the guest's, too, at each of its calls: it is not taken away from it without need.
        if word.load(Ordering::Relaxed) != u32::from(waiting) {
            word.store(u32::from(waiting), Ordering::Release);
        }
    }

    /// Marks that the lane has something for the guest.
    pub(super) fn set_pending(&self, lane: u32) {
        let word = self.word64(offset_of!(SessionHeader, pending_events) as u64);
        word.fetch_or(1_u64.wrapping_shl(lane), Ordering::Release);
    }

    /// Counts a sleep that ended by the backstop although there was work.
    pub(super) fn count_backstop(&self) {
        let word = self.word32(offset_of!(SessionHeader, device_backstops) as u64);
        word.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::MemfdFlags;

    use super::*;
    use crate::link::Piece;

    #[test]
    fn only_a_lane_with_something_in_its_ring_is_kicked() {
        let layout = Layout::DEFAULT;
        let length = layout.total_bytes();
        let file = rustix::fs::memfd_create("shared-test", MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, length).unwrap();
        let piece = Piece { file: 0, reserved: 0, offset: 0, length };
        let shared = Shared::new(SessionMemory::map(length, &[piece], &[file]).unwrap(), layout);
        let kicked = || [0, 1, 2].map(|lane| shared.is_kicked(lane));
        assert_eq!(kicked(), [false; 3]);

        // Lane 1 sleeps until the index passes 7, and it comes to 9.
        let event = shared.word16(layout.used(1) + ring::available_event(layout.queue_size()));
        let index = shared.word16(layout.available(1) + ring::INDEX);
        event.store(7, Ordering::Relaxed);
        index.store(9, Ordering::Relaxed);
        assert_eq!(kicked(), [false, true, false]);
        event.store(9, Ordering::Relaxed);
        assert_eq!(kicked(), [false; 3], "all has been taken");
    }
}
