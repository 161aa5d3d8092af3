//! The sleep and wake-up protocol of a lane: a virtqueue with event indices (VIRTIO 1.2, 2.7.7 and 2.7.10).
//!
//! Each side publishes by storing its index and then looks whether the other side asked to be told; each side that is
//! about to sleep first says from which index on it wants to be told, and then looks once more. Between the store and the
//! load of each side stands a sequentially consistent fence, so at least one of the two sees the other's store.
//!
//! The guest's library and the worker both use it, each with the other's index and its own. `guest-shim/tests/*_model.rs` check
//! this very code with loom.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU16, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU16, Ordering, fence};

/// Whether the step of an index from `old` to `new` passed `event`, so that the other side wants to be told.
#[inline]
#[must_use]
pub const fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// Whether `index` has come to `target` (indices wrap; the two are never more than half the range apart).
#[inline]
#[must_use]
pub const fn reached(index: u16, target: u16) -> bool {
    index.wrapping_sub(target) < 1 << 15
}

/// Makes everything before `new` visible to the other side; true if the other side must be told.
#[inline]
#[must_use]
pub fn publish(index: &AtomicU16, event: &AtomicU16, old: u16, new: u16) -> bool {
    index.store(new, Ordering::Release);
    fence(Ordering::SeqCst);
    passes(event.load(Ordering::Relaxed), new, old)
}

/// Asks to be told when `index` comes to `target`; true if it has not yet, so that the caller may sleep.
#[inline]
#[must_use]
pub fn arm(index: &AtomicU16, event: &AtomicU16, target: u16) -> bool {
    event.store(target.wrapping_sub(1), Ordering::Relaxed);
    fence(Ordering::SeqCst);
    !reached(index.load(Ordering::Acquire), target)
}
