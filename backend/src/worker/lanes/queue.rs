//! The device's side of a lane's split virtqueue (VIRTIO 1.2, 2.7) with event indices.
//!
//! The whole of it is used once for each request, in the time between two calls of the driver, so it does what the crate
//! `virtio-queue` does for the device's own queues in a tenth of the time (docs/adr/0013-a-lane-s-rings.md): places are
//! computed once, the available index is read once for all requests that it covers, and what will be read next is
//! fetched while the driver is busy. The sleep and wake-up protocol is that of `guest-shim/src/session/notify.rs`, which
//! `guest-shim/tests/worker_model.rs` checks.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use virtio_spec::{limits, session::Layout};

use super::view::View;

/// The chain goes on.
const NEXT: u16 = 1;
/// The device writes to the buffer.
const WRITE: u16 = 2;

/// Why a ring is not usable. The session ends: the guest's own library never writes such a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("the rings are outside session memory")]
    Outside,
    #[error("the available index promises {0} chains, more than the queue has")]
    Index(u16),
    #[error("descriptor {0} is beyond the table")]
    Descriptor(u16),
    #[error("a chain is longer than {} descriptors", limits::MAX_LANE_CHAIN)]
    Length,
    #[error("a descriptor has an unknown flag, no length, or is in the wrong place")]
    Kind,
}

/// A part of session memory that a chain names. It is checked when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buffer {
    /// Offset in session memory.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u32,
}

/// A chain: a request, and where its response goes, if anyone waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Number of its first descriptor.
    pub(crate) head: u16,
    pub(crate) request: Buffer,
    pub(crate) response: Option<Buffer>,
}

/// Where a queue lies in session memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) size: u16,
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
}

impl Place {
    /// Of a lane.
    pub(crate) fn of(layout: &Layout, lane: u32) -> Self {
        Self {
            size: layout.queue_size(),
            descriptors: layout.descriptors(lane),
            available: layout.available(lane),
            used: layout.used(lane),
        }
    }
}

/// A lane's queue.
pub(crate) struct Queue<'a> {
    view: View<'a>,
    size: u16,
    /// Two words for each descriptor.
    descriptors: &'a [AtomicU64],
    available: &'a [AtomicU16],
    /// Two words for each entry.
    used: &'a [AtomicU32],
    available_index: &'a AtomicU16,
    used_event: &'a AtomicU16,
    used_index: &'a AtomicU16,
    available_event: &'a AtomicU16,
    /// Available index up to which chains may be taken without looking again.
    seen: u16,
    next_available: u16,
    next_used: u16,
    /// Used index when the guest was last asked whether it wants to be told.
    told: u16,
}

fn only<T>(words: Option<&[T]>) -> Result<&T, QueueError> {
    words.and_then(<[T]>::first).ok_or(QueueError::Outside)
}

impl<'a> Queue<'a> {
    /// A queue that nothing has been taken from.
    ///
    /// # Errors
    /// It does not lie in the memory, or its size is not a power of two.
    pub(crate) fn new(view: View<'a>, place: Place) -> Result<Self, QueueError> {
        let Place { size, descriptors, available, used } = place;
        if !size.is_power_of_two() {
            return Err(QueueError::Outside);
        }
        let count = usize::from(size);
        let after = |start: u64, bytes: u64| start.checked_add(bytes).ok_or(QueueError::Outside);
        let outside = QueueError::Outside;
        Ok(Self {
            view,
            size,
            descriptors: view.words64(descriptors, count.saturating_mul(2)).ok_or(outside)?,
            available: view.words16(after(available, 4)?, count).ok_or(outside)?,
            used: view.words32(after(used, 4)?, count.saturating_mul(2)).ok_or(outside)?,
            available_index: only(view.words16(after(available, 2)?, 1))?,
            used_event: only(
                view.words16(after(available, 4_u64.saturating_add(u64::from(size).saturating_mul(2)))?, 1),
            )?,
            used_index: only(view.words16(after(used, 2)?, 1))?,
            available_event: only(
                view.words16(after(used, 4_u64.saturating_add(u64::from(size).saturating_mul(8)))?, 1),
            )?,
            seen: 0,
            next_available: 0,
            next_used: 0,
            told: 0,
        })
    }

    /// Whether there is nothing to take.
    ///
    /// # Errors
    /// The guest promises more chains than a queue can have.
    pub(crate) fn is_empty(&mut self) -> Result<bool, QueueError> {
        if self.seen == self.next_available {
            let available = self.available_index.load(Ordering::Acquire);
            let waiting = available.wrapping_sub(self.next_available);
            if waiting > self.size {
                return Err(QueueError::Index(waiting));
            }
            self.seen = available;
        }
        Ok(self.seen == self.next_available)
    }

    /// Takes the next chain.
    ///
    /// # Errors
    /// It is none, or not one of a lane: one descriptor to read, and perhaps one to write.
    pub(crate) fn take(&mut self) -> Result<Option<Chain>, QueueError> {
        if self.is_empty()? {
            return Ok(None);
        }
        let head = self.head(self.next_available)?;
        self.next_available = self.next_available.wrapping_add(1);
        let (request, flags, next) = self.descriptor(head)?;
        let response = if flags & NEXT == 0 {
            None
        } else {
            let (response, flags, _) = self.descriptor(next)?;
            if flags & NEXT != 0 {
                return Err(QueueError::Length);
            }
            if flags != WRITE || response.length < 8 {
                return Err(QueueError::Kind);
            }
            Some(response)
        };
        if flags & !NEXT != 0 || request.length == 0 {
            return Err(QueueError::Kind);
        }
        Ok(Some(Chain { head, request, response }))
    }

    /// Has the processor fetch the request after the one that was taken, as far as it is known to be there.
    pub(crate) fn prefetch(&self) {
        if self.seen == self.next_available {
            return;
        }
        let next = self.head(self.next_available).and_then(|head| self.descriptor(head));
        if let Ok((request, ..)) = next {
            self.view.prefetch(request.offset, (request.length as usize).min(512));
        }
    }

    /// Gives a chain back, into whose response `written` bytes were written. True if the guest wants to be told.
    pub(crate) fn give_back(&mut self, head: u16, written: u32) -> bool {
        let entry = usize::from(self.next_used & self.size.wrapping_sub(1)).saturating_mul(2);
        if let Some([id, length]) = self.used.get(entry..).and_then(<[_]>::first_chunk) {
            id.store(u32::from(head), Ordering::Relaxed);
            length.store(written, Ordering::Relaxed);
        }
        self.next_used = self.next_used.wrapping_add(1);
        self.used_index.store(self.next_used, Ordering::Release);
        // The index is seen by a guest that asks to be told from here on, or its wish is seen here.
        fence(Ordering::SeqCst);
        let event = self.used_event.load(Ordering::Relaxed);
        let old = std::mem::replace(&mut self.told, self.next_used);
        self.next_used.wrapping_sub(event).wrapping_sub(1) < self.next_used.wrapping_sub(old)
    }

    /// Asks to be kicked at the next chain. True if there is one already.
    ///
    /// # Errors
    /// As for [`Queue::is_empty`].
    pub(crate) fn ask_for_kick(&mut self) -> Result<bool, QueueError> {
        self.available_event.store(self.next_available, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        Ok(!self.is_empty()?)
    }

    fn head(&self, index: u16) -> Result<u16, QueueError> {
        let entry = self.available.get(usize::from(index & self.size.wrapping_sub(1)));
        Ok(entry.ok_or(QueueError::Outside)?.load(Ordering::Relaxed))
    }

    /// A descriptor, copied once: the buffer, its flags, and the next one's number.
    fn descriptor(&self, number: u16) -> Result<(Buffer, u16, u16), QueueError> {
        let words =
            self.descriptors.get(usize::from(number).saturating_mul(2)..).and_then(<[_]>::first_chunk);
        let [address, rest] = words.ok_or(QueueError::Descriptor(number))?;
        let [l0, l1, l2, l3, f0, f1, n0, n1] = rest.load(Ordering::Relaxed).to_le_bytes();
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let buffer = Buffer { offset: address.load(Ordering::Relaxed), length };
        Ok((buffer, u16::from_le_bytes([f0, f1]), u16::from_le_bytes([n0, n1])))
    }
}
