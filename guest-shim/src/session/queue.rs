//! The driver side of a lane's split virtqueue (VIRTIO 1.2, 2.7) with event indices.
//!
//! Chains are made available and returned in order, because a lane executes its requests one after the other. So
//! descriptors and slots are rings, and a chain is named by the used index that will follow it. Whatever the device
//! returns is checked against that; a device that breaks the order has broken the session.
//!
//! Unsafe code: volatile access to the descriptor table and the rings, at offsets of [`Layout`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use virtio_spec::session::Layout;

use super::{notify, region::Region};

/// The chain goes on with the descriptor that `next` names.
const NEXT: u16 = 1;
/// The device writes to the buffer.
const WRITE: u16 = 2;

/// A descriptor as it stands in the table.
#[derive(Clone, Copy)]
#[repr(C)]
struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

/// An entry of the used ring.
#[derive(Clone, Copy)]
#[repr(C)]
struct Used {
    id: u32,
    length: u32,
}

/// A piece of session memory that a chain names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    /// Offset in the region.
    pub(crate) offset: u64,
    /// Bytes.
    pub(crate) length: u32,
    /// Whether the device writes to it.
    pub(crate) writable: bool,
}

/// The used index that the queue has when a chain has been returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u16);

/// The device returned what it was not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Broken;

/// What was made available and has not been returned.
#[derive(Clone, Copy, Debug)]
struct Chain {
    head: u16,
    descriptors: u16,
    slots: u32,
}

/// One lane's queue.
#[derive(Debug)]
pub(crate) struct Queue {
    layout: Layout,
    lane: u32,
    region: Region,
    available_index: &'static AtomicU16,
    used_event: &'static AtomicU16,
    used_index: &'static AtomicU16,
    available_event: &'static AtomicU16,
    used_word: &'static AtomicU32,
    /// Available index that was published last.
    made: u16,
    /// Used index up to which chains were taken back.
    taken: u16,
    next_descriptor: u16,
    free_descriptors: u16,
    next_slot: u32,
    free_slots: u32,
    in_flight: VecDeque<Chain>,
}

impl Queue {
    /// The queue of a lane that nobody has used yet.
    pub(crate) fn new(region: Region, layout: Layout, lane: u32) -> Self {
        let size = layout.queue_size();
        let (available, used) = (layout.available(lane), layout.used(lane));
        Self {
            layout,
            lane,
            region,
            available_index: region.word16(available + 2),
            used_event: region.word16(available + 4 + 2 * u64::from(size)),
            used_index: region.word16(used + 2),
            available_event: region.word16(used + 4 + 8 * u64::from(size)),
            used_word: region.word32(used),
            made: 0,
            taken: 0,
            next_descriptor: 0,
            free_descriptors: size,
            next_slot: 0,
            free_slots: layout.slot_count(),
            in_flight: VecDeque::with_capacity(usize::from(size)),
        }
    }

    /// The word that changes when the device returns a chain.
    pub(crate) const fn used_word(&self) -> &'static AtomicU32 {
        self.used_word
    }

    /// Chains that have not been taken back.
    pub(crate) fn outstanding(&self) -> u16 {
        self.made.wrapping_sub(self.taken)
    }

    /// The ticket of the chain that was made available last.
    pub(crate) const fn last(&self) -> Ticket {
        Ticket(self.made)
    }

    /// Offset of room for `bytes`, in slots that follow one another, and the slots that a chain in it takes; `None`
    /// while they or `descriptors` are not free. More than all slots together are never free.
    pub(crate) fn room(&mut self, bytes: u64, descriptors: u16) -> Option<(u64, u32)> {
        let slot_bytes = u64::from(self.layout.slot_bytes());
        let wanted = u32::try_from(bytes.div_ceil(slot_bytes)).ok()?.max(1);
        let count = self.layout.slot_count();
        if wanted > count - self.next_slot && self.in_flight.is_empty() {
            self.next_slot = 0;
        }
        let to_end = count - self.next_slot;
        let (first, taken) =
            if wanted <= to_end { (self.next_slot, wanted) } else { (0, to_end.checked_add(wanted)?) };
        if taken > self.free_slots || descriptors > self.free_descriptors {
            return None;
        }
        Some((self.layout.slot(self.lane, first), taken))
    }

    /// Makes a chain of `buffers` available, which takes `slots` as [`Queue::room`] said. True if the device wants to be
    /// kicked.
    pub(crate) fn push(&mut self, buffers: &[Buffer], slots: u32) -> (Ticket, bool) {
        let size = self.layout.queue_size();
        let head = self.next_descriptor;
        let mut at = head;
        for (position, buffer) in buffers.iter().enumerate() {
            let last = position + 1 == buffers.len();
            let next = (at + 1) % size;
            let flags = if last { 0 } else { NEXT } | if buffer.writable { WRITE } else { 0 };
            let descriptor = Descriptor { address: buffer.offset, length: buffer.length, flags, next };
            let place = self.region.at(self.layout.descriptors(self.lane) + 16 * u64::from(at), 16);
            // SAFETY: the descriptor lies inside the region and is 16-aligned; the device does not write it.
            unsafe { place.cast::<Descriptor>().write_volatile(descriptor) };
            at = next;
        }
        let descriptors = u16::try_from(buffers.len()).unwrap_or(u16::MAX);
        let entry = self.layout.available(self.lane) + 4 + 2 * u64::from(self.made % size);
        self.region.word16(entry).store(head, Ordering::Relaxed);

        self.next_descriptor = at;
        self.free_descriptors -= descriptors;
        self.next_slot = (self.next_slot + slots) % self.layout.slot_count();
        // A chain that starts over at slot 0 also takes the slots before the end, which `slots` counts.
        self.free_slots -= slots;
        self.in_flight.push_back(Chain { head, descriptors, slots });

        let old = self.made;
        self.made = old.wrapping_add(1);
        let kick = notify::publish(self.available_index, self.available_event, old, self.made);
        (Ticket(self.made), kick)
    }

    /// Takes back what the device has returned.
    ///
    /// # Errors
    /// [`Broken`] when it returned what it was not given.
    pub(crate) fn take_back(&mut self) -> Result<(), Broken> {
        let used = self.used_index.load(Ordering::Acquire);
        if used.wrapping_sub(self.taken) > self.outstanding() {
            return Err(Broken);
        }
        while self.taken != used {
            let index = self.taken % self.layout.queue_size();
            let place = self.region.at(self.layout.used(self.lane) + 4 + 8 * u64::from(index), 8);
            // SAFETY: the entry lies inside the region and is 4-aligned; it is copied once and then checked.
            let entry = unsafe { place.cast::<Used>().read_volatile() };
            let chain = self.in_flight.pop_front().ok_or(Broken)?;
            if entry.id != u32::from(chain.head) {
                return Err(Broken);
            }
            self.free_descriptors += chain.descriptors;
            self.free_slots += chain.slots;
            self.taken = self.taken.wrapping_add(1);
        }
        Ok(())
    }

    /// Whether the chain has been returned.
    pub(crate) fn is_returned(&self, ticket: Ticket) -> bool {
        notify::reached(self.used_index.load(Ordering::Acquire), ticket.0)
    }

    /// Asks the device to tell when it has returned the chain; true if it has not yet.
    pub(crate) fn arm(&self, ticket: Ticket) -> bool {
        notify::arm(self.used_index, self.used_event, ticket.0)
    }
}
