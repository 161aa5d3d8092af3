//! The driver side of a lane's split virtqueue (VIRTIO 1.2, 2.7) with event indices.
//!
//! Chains are made available and returned in order, because a lane executes its requests one after the other. So
//! descriptors and slots are rings, and a chain is named by the used index that will follow it. Whatever the device
//! returns is checked against that; a device that breaks the order has broken the session.
//!
//! Unsafe code: volatile access to the descriptor table and the rings, at offsets of [`Layout`].

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use virtio_spec::{
    notify,
    session::{Layout, ring},
};

use super::region::Region;

/// The chain goes on with the descriptor that `next` names.
const NEXT: u16 = 1;
/// The device writes to the buffer.
const WRITE: u16 = 2;

/// Bytes of a cache line, which a slot begins on.
const LINE: usize = 64;
/// Bytes that a launch takes in its slot, with some parameters.
const NEXT_BYTES: u64 = 192;

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

/// Where the parts of a lane's queue lie in the region and how many there are, reckoned once.
#[derive(Clone, Copy, Debug)]
struct Places {
    /// Descriptors and entries of the rings, a power of two.
    size: u16,
    descriptors: u64,
    /// The rings' entries.
    available: u64,
    used: u64,
    slots: u64,
    slot_count: u32,
    slot_bytes: u32,
}

impl Places {
    fn of(layout: &Layout, lane: u32) -> Self {
        Self {
            size: layout.queue_size(),
            descriptors: layout.descriptors(lane),
            available: layout.available(lane) + ring::ENTRIES,
            used: layout.used(lane) + ring::ENTRIES,
            slots: layout.slot(lane, 0),
            slot_count: layout.slot_count(),
            slot_bytes: layout.slot_bytes(),
        }
    }

    fn descriptor(&self, number: u16) -> u64 {
        self.descriptors + 16 * u64::from(number)
    }

    fn available_entry(&self, index: u16) -> u64 {
        self.available + 2 * u64::from(index & (self.size - 1))
    }

    fn used_entry(&self, index: u16) -> u64 {
        self.used + 8 * u64::from(index & (self.size - 1))
    }

    fn slot(&self, number: u32) -> u64 {
        self.slots + u64::from(number) * u64::from(self.slot_bytes)
    }

    /// How many slots so many bytes take.
    fn slots_of(&self, bytes: u64) -> Option<u32> {
        let one = u64::from(self.slot_bytes);
        // Most requests fit one, and a division takes as long as a dozen other instructions.
        if bytes <= one { Some(1) } else { u32::try_from(bytes.div_ceil(one)).ok() }
    }
}

/// One lane's queue.
#[derive(Debug)]
pub(crate) struct Queue {
    region: Region,
    places: Places,
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
            region,
            places: Places::of(&layout, lane),
            available_index: region.word16(available + ring::INDEX),
            used_event: region.word16(available + ring::used_event(size)),
            used_index: region.word16(used + ring::INDEX),
            available_event: region.word16(used + ring::available_event(size)),
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
        let wanted = self.places.slots_of(bytes)?;
        let count = self.places.slot_count;
        if wanted > count - self.next_slot && self.in_flight.is_empty() {
            self.next_slot = 0;
        }
        let to_end = count - self.next_slot;
        let (first, taken) =
            if wanted <= to_end { (self.next_slot, wanted) } else { (0, to_end.checked_add(wanted)?) };
        if taken > self.free_slots || descriptors > self.free_descriptors {
            return None;
        }
        Some((self.places.slot(first), taken))
    }

    /// Makes a chain of `buffers` available, which takes `slots` as [`Queue::room`] said. True if the device wants to be
    /// kicked.
    pub(crate) fn push(&mut self, buffers: &[Buffer], slots: u32) -> (Ticket, bool) {
        let head = self.next_descriptor;
        let mut at = head;
        for (position, buffer) in buffers.iter().enumerate() {
            let last = position + 1 == buffers.len();
            let next = (at + 1) & (self.places.size - 1);
            let flags = if last { 0 } else { NEXT } | if buffer.writable { WRITE } else { 0 };
            let descriptor = Descriptor { address: buffer.offset, length: buffer.length, flags, next };
            let place = self.region.at(self.places.descriptor(at), 16);
            // SAFETY: the descriptor lies inside the region and is 16-aligned; the device does not write it.
            unsafe { place.cast::<Descriptor>().write_volatile(descriptor) };
            at = next;
        }
        let descriptors = u16::try_from(buffers.len()).unwrap_or(u16::MAX);
        self.region.word16(self.places.available_entry(self.made)).store(head, Ordering::Relaxed);

        self.next_descriptor = at;
        self.free_descriptors -= descriptors;
        // `slots` are at most all of them, and those before the end of a chain that starts over.
        let (next, count) = (self.next_slot + slots, self.places.slot_count);
        self.next_slot = if next >= count { next - count } else { next };
        // A chain that starts over at slot 0 also takes the slots before the end, which `slots` counts.
        self.free_slots -= slots;
        self.in_flight.push_back(Chain { head, descriptors, slots });

        let old = self.made;
        self.made = old.wrapping_add(1);
        let kick = notify::publish(self.available_index, self.available_event, old, self.made);
        self.take_next_lines();
        (Ticket(self.made), kick)
    }

    /// Has the processor fetch the lines that the next request will be written to, which the device has read before,
    /// while the program does something else. A hint, about whatever comes to lie there.
    fn take_next_lines(&self) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};

        let bytes = NEXT_BYTES.min(u64::from(self.places.slot_bytes));
        let slot = self.region.at(self.places.slot(self.next_slot), bytes);
        let descriptor = self.region.at(self.places.descriptor(self.next_descriptor), 16);
        // SAFETY: every x86-64 processor takes the instruction, which changes nothing but caches.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(descriptor.cast()) };
        let mut line = slot;
        for _ in (0..bytes).step_by(LINE) {
            // SAFETY: as above.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.cast()) };
            line = line.wrapping_add(LINE);
        }
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
            let place = self.region.at(self.places.used_entry(self.taken), 8);
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

    /// Whether the chain has been returned. An index that cannot be counts as if it were, so that nobody waits for it:
    /// [`Queue::take_back`] finds it out.
    pub(crate) fn is_returned(&self, ticket: Ticket) -> bool {
        let used = self.used_index.load(Ordering::Acquire);
        notify::reached(self.taken, ticket.0)
            || used.wrapping_sub(self.taken) >= ticket.0.wrapping_sub(self.taken)
    }

    /// Asks the device to tell when it has returned the chain; true if it has not yet.
    pub(crate) fn arm(&self, ticket: Ticket) -> bool {
        notify::arm(self.used_index, self.used_event, ticket.0)
    }
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use virtio_queue::{QueueT, desc::split::Descriptor as DeviceDescriptor};
    use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, guest_memory::GuestMemoryBackend};

    use super::*;

    /// A lane's memory with the driver's side and, as a device sees it, the `virtio-queue` crate's side.
    struct Pair {
        memory: GuestMemoryMmap,
        driver: Queue,
        device: virtio_queue::Queue,
        layout: Layout,
    }

    fn pair(queue_size: u32, slot_count: u32) -> Pair {
        let layout = Layout::new(1, queue_size, slot_count, 256, 4096).expect("sizes in bounds");
        let length = layout.total_bytes();
        let memory =
            GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(length).expect("fits"))])
                .expect("memory");
        let base = memory.get_host_address(GuestAddress(0)).expect("mapped");
        // SAFETY: the mapping of this length; the tests leak nothing that outlives `memory`.
        let region = unsafe { Region::new(NonNull::new(base).expect("not null"), length) };
        let mut device = virtio_queue::Queue::new(layout.queue_size()).expect("a power of two");
        device.set_event_idx(true);
        device.set_size(layout.queue_size());
        device.try_set_desc_table_address(GuestAddress(layout.descriptors(0))).expect("aligned");
        device.try_set_avail_ring_address(GuestAddress(layout.available(0))).expect("aligned");
        device.try_set_used_ring_address(GuestAddress(layout.used(0))).expect("aligned");
        device.set_ready(true);
        assert!(device.is_valid(&memory));
        Pair { memory, driver: Queue::new(region, layout, 0), device, layout }
    }

    impl Pair {
        fn send(&mut self, bytes: u64, answered: bool) -> (Ticket, bool) {
            let (offset, slots) = self.driver.room(bytes, 2).expect("room");
            let request = Buffer { offset, length: 8, writable: false };
            let response = Buffer { offset: offset + 64, length: 16, writable: true };
            let buffers = [request, response];
            self.driver.push(if answered { &buffers } else { &buffers[..1] }, slots)
        }

        /// The device executes one request; true if the driver is to be woken.
        fn serve(&mut self) -> Option<(Vec<DeviceDescriptor>, bool)> {
            let chain = self.device.pop_descriptor_chain(&self.memory)?;
            let head = chain.head_index();
            let descriptors: Vec<_> = chain.collect();
            self.device.add_used(&self.memory, head, 8).expect("a used entry");
            let wake = self.device.needs_notification(&self.memory).expect("the event index");
            Some((descriptors, wake))
        }
    }

    #[test]
    fn a_device_sees_the_chains_that_were_pushed() {
        let mut pair = pair(8, 4);
        let (posted, _) = pair.send(100, false);
        let (answered, _) = pair.send(100, true);

        let (first, _) = pair.serve().expect("a chain");
        assert_eq!(first.len(), 1);
        assert_eq!(first[0].addr(), GuestAddress(pair.layout.slot(0, 0)));
        assert!(!first[0].is_write_only());
        assert!(pair.driver.is_returned(posted) && !pair.driver.is_returned(answered));

        let (second, _) = pair.serve().expect("a chain");
        assert_eq!(second.len(), 2);
        assert_eq!(second[1].addr(), GuestAddress(pair.layout.slot(0, 1) + 64));
        assert!(second[1].is_write_only());
        assert!(pair.driver.is_returned(answered));
        assert!(pair.serve().is_none());
    }

    #[test]
    fn rooms_are_used_again_for_longer_than_the_indices_last() {
        let mut pair = pair(16, 8);
        let sizes = [10_u64, 300, 600, 1000, 256];
        for round in 0..70_000_usize {
            let bytes = sizes[round % sizes.len()];
            while pair.driver.room(bytes, 2).is_none() {
                assert!(pair.driver.outstanding() > 0, "something is under way");
                let _ = pair.serve();
                pair.driver.take_back().expect("in order");
            }
            let (ticket, _) = pair.send(bytes, round % 3 == 0);
            if round % 7 == 0 {
                while pair.serve().is_some() {}
                assert!(pair.driver.is_returned(ticket));
            }
        }
        while pair.serve().is_some() {}
        pair.driver.take_back().expect("in order");
        assert_eq!(pair.driver.outstanding(), 0);
        assert_eq!(pair.driver.free_slots, 8);
        assert_eq!(pair.driver.free_descriptors, 16);
    }

    #[test]
    fn chunks_that_are_larger_than_the_ring_s_end_start_over() {
        let mut pair = pair(16, 8);
        for _ in 0..100 {
            let (ticket, _) = pair.send(5 * 256, true);
            pair.serve().expect("a chain");
            assert!(pair.driver.is_returned(ticket));
            pair.driver.take_back().expect("in order");
        }
        assert!(pair.driver.room(9 * 256, 2).is_none(), "more than there is");
    }

    #[test]
    fn the_device_asks_for_kicks_only_while_it_sleeps() {
        let mut pair = pair(8, 4);
        pair.device.enable_notification(&pair.memory).expect("the event index");
        assert!(pair.send(10, false).1, "the device sleeps");
        assert!(!pair.send(10, false).1, "it was kicked already");
        while pair.serve().is_some() {}
        assert!(!pair.device.enable_notification(&pair.memory).expect("the event index"));
        pair.driver.take_back().expect("in order");
        assert!(pair.send(10, false).1);
    }

    #[test]
    fn only_the_chain_that_is_waited_for_wakes() {
        let mut pair = pair(8, 4);
        let _ = pair.send(10, false);
        let _ = pair.send(10, false);
        let (ticket, _) = pair.send(10, true);
        assert!(pair.driver.arm(ticket));
        assert!(!pair.serve().expect("a chain").1);
        assert!(!pair.serve().expect("a chain").1);
        assert!(pair.serve().expect("a chain").1);
        assert!(!pair.driver.arm(ticket));
    }

    #[test]
    fn what_was_not_given_cannot_be_returned() {
        let mut pair = pair(8, 4);
        let _ = pair.send(10, false);
        pair.memory.write_obj(7_u32, GuestAddress(pair.layout.used(0) + 4)).expect("in memory");
        pair.memory.write_obj(1_u16, GuestAddress(pair.layout.used(0) + 2)).expect("in memory");
        assert_eq!(pair.driver.take_back(), Err(Broken), "another chain");

        let mut pair = self::pair(8, 4);
        let _ = pair.send(10, false);
        pair.memory.write_obj(9_u16, GuestAddress(pair.layout.used(0) + 2)).expect("in memory");
        assert_eq!(pair.driver.take_back(), Err(Broken), "more chains than there are");

        let mut pair = self::pair(8, 4);
        let (ticket, _) = pair.send(10, true);
        pair.memory.write_obj(u16::MAX, GuestAddress(pair.layout.used(0) + 2)).expect("in memory");
        assert!(pair.driver.is_returned(ticket), "nobody waits for what cannot come");
        assert_eq!(pair.driver.take_back(), Err(Broken), "fewer chains than there were");
    }
}
