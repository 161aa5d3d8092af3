//! The device's side of a lane's split virtqueue (VIRTIO 1.2, 2.7) with event indices.
//!
//! The whole of it is used once for each request, in the time between two calls of the driver, so it does what the crate
//! `virtio-queue` does for the device's own queues in a tenth of the time (docs/adr/0013-a-lane-s-rings.md): places are
//! computed once, the available index is read once for all requests that it covers, and what will be read next is
//! fetched while the driver is busy. The sleep and wake-up protocol is `virtio_spec::notify`, the same code as the
//! guest's library's.

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use virtio_spec::{
    limits, notify,
    session::{Layout, ring},
};

use super::view::{self, View};

/// The chain goes on.
const NEXT: u16 = 1;
/// The device writes to the buffer.
const WRITE: u16 = 2;

/// Bytes that a launch takes, with some parameters.
const FORESEEN_BYTES: usize = 192;

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
    /// Where its slots begin and end, and what the distance of one from the next is.
    pub(crate) slots: (u64, u64),
    pub(crate) slot_bytes: u64,
}

impl Place {
    /// Of a lane.
    pub(crate) fn of(layout: &Layout, lane: u32) -> Self {
        Self {
            size: layout.queue_size(),
            descriptors: layout.descriptors(lane),
            available: layout.available(lane),
            used: layout.used(lane),
            slots: (layout.slot(lane, 0), layout.slot(lane, layout.slot_count())),
            slot_bytes: u64::from(layout.slot_bytes()),
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
    /// Used index that the guest knows of.
    told: u16,
    /// Where the guest's library puts the next request.
    foreseen: Foreseen,
}

/// Where the next request is likely to lie, since the guest's library takes descriptors and slots in turn.
#[derive(Debug, Clone, Copy)]
struct Foreseen {
    slots: (u64, u64),
    /// What an offset in a slot is less than, less 1; without foresight where slots are no power of two.
    slot_mask: u64,
    descriptor: u16,
    offset: u64,
}

impl Foreseen {
    /// After a chain whose last descriptor was `descriptor` and whose last buffer was `buffer`.
    fn after(&mut self, descriptor: u16, buffer: Buffer) {
        let (begin, end) = self.slots;
        self.descriptor = descriptor.wrapping_add(1);
        let used = buffer.offset.wrapping_sub(begin).wrapping_add(u64::from(buffer.length));
        let next = begin.wrapping_add(used.wrapping_add(self.slot_mask) & !self.slot_mask);
        self.offset = if next < end { next } else { begin };
    }
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
        let Place { size, descriptors, available, used, slots, slot_bytes } = place;
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
            available: view.words16(after(available, ring::ENTRIES)?, count).ok_or(outside)?,
            used: view.words32(after(used, ring::ENTRIES)?, count.saturating_mul(2)).ok_or(outside)?,
            available_index: only(view.words16(after(available, ring::INDEX)?, 1))?,
            used_event: only(view.words16(after(available, ring::used_event(size))?, 1))?,
            used_index: only(view.words16(after(used, ring::INDEX)?, 1))?,
            available_event: only(view.words16(after(used, ring::available_event(size))?, 1))?,
            seen: 0,
            next_available: 0,
            next_used: 0,
            told: 0,
            foreseen: Foreseen {
                slots,
                slot_mask: slot_bytes.wrapping_sub(1),
                descriptor: 0,
                offset: slots.0,
            },
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
            if waiting > 0 {
                self.fetch_foreseen();
            }
        }
        Ok(self.seen == self.next_available)
    }

    /// Has the processor fetch at once what is otherwise found and fetched one after the other: entry, descriptor and
    /// request, each of them on a line that the guest's processor has.
    fn fetch_foreseen(&self) {
        let Foreseen { descriptor, offset, .. } = self.foreseen;
        let number = usize::from(descriptor & self.size.wrapping_sub(1));
        if let Some(place) = self.descriptors.get(number.saturating_mul(2)) {
            view::prefetch(std::ptr::from_ref(place).cast());
        }
        self.view.prefetch(offset, FORESEEN_BYTES);
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
            self.foreseen.after(head, request);
            None
        } else {
            let (response, flags, _) = self.descriptor(next)?;
            self.foreseen.after(next, response);
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

    /// Gives a chain back, into whose response `written` bytes were written; the guest sees it after [`Queue::tell`].
    pub(crate) fn give_back(&mut self, head: u16, written: u32) {
        let entry = usize::from(self.next_used & self.size.wrapping_sub(1)).saturating_mul(2);
        if let Some([id, length]) = self.used.get(entry..).and_then(<[_]>::first_chunk) {
            id.store(u32::from(head), Ordering::Relaxed);
            length.store(written, Ordering::Relaxed);
        }
        self.next_used = self.next_used.wrapping_add(1);
    }

    /// Chains that were given back since the guest was last told.
    pub(crate) fn untold(&self) -> u16 {
        self.next_used.wrapping_sub(self.told)
    }

    /// Shows the guest what was given back. True if it wants to be woken.
    pub(crate) fn tell(&mut self) -> bool {
        let old = std::mem::replace(&mut self.told, self.next_used);
        old != self.next_used && notify::publish(self.used_index, self.used_event, old, self.next_used)
    }

    /// Asks to be kicked at the next chain. True if there is one already.
    ///
    /// # Errors
    /// As for [`Queue::is_empty`].
    pub(crate) fn ask_for_kick(&mut self) -> Result<bool, QueueError> {
        let target = self.next_available.wrapping_add(1);
        let none_yet = notify::arm(self.available_index, self.available_event, target);
        // Looked at once more, with the check of what the guest promises.
        Ok(!(self.is_empty()? && none_yet))
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

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;

    use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap, guest_memory::GuestMemoryBackend as _};

    use super::*;

    const BYTES: usize = 0x1000;
    const PLACE: Place = Place {
        size: 8,
        descriptors: 0,
        available: 0x100,
        used: 0x200,
        slots: (0x400, 0x1000),
        slot_bytes: 0x100,
    };
    const REQUEST: Buffer = Buffer { offset: 0x400, length: 40 };
    const RESPONSE: Buffer = Buffer { offset: 0x800, length: 64 };

    /// The driver's side, as a guest writes it: anything, anywhere.
    struct Guest {
        memory: GuestMemoryMmap<()>,
        available: u16,
    }

    impl Guest {
        fn new() -> Self {
            let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), BYTES)]).expect("memory");
            Self { memory, available: 0 }
        }

        fn view(&self) -> View<'_> {
            let base = self.memory.get_host_address(GuestAddress(0)).expect("mapped");
            // SAFETY: the mapping of this length, which lives as long as the view; it is otherwise copied from and to.
            unsafe { View::new(NonNull::new(base).expect("not null"), BYTES) }
        }

        fn queue(&self) -> Queue<'_> {
            Queue::new(self.view(), PLACE).expect("a queue")
        }

        fn write16(&self, offset: u64, value: u16) {
            self.memory.write_obj(value, GuestAddress(offset)).expect("in memory");
        }

        fn read16(&self, offset: u64) -> u16 {
            self.memory.read_obj(GuestAddress(offset)).expect("in memory")
        }

        fn describe(&self, number: u16, buffer: Buffer, flags: u16, next: u16) {
            let at = PLACE.descriptors + 16 * u64::from(number);
            self.memory.write_obj(buffer.offset, GuestAddress(at)).expect("in memory");
            self.memory.write_obj(buffer.length, GuestAddress(at + 8)).expect("in memory");
            self.write16(at + 12, flags);
            self.write16(at + 14, next);
        }

        /// Makes the chain that begins with `head` available.
        fn offer(&mut self, head: u16) {
            self.write16(PLACE.available + 4 + 2 * u64::from(self.available % PLACE.size), head);
            self.available = self.available.wrapping_add(1);
            self.set_available(self.available);
        }

        fn set_available(&self, index: u16) {
            self.write16(PLACE.available + 2, index);
        }

        /// Asks to be told when the used index has passed `event`.
        fn set_used_event(&self, event: u16) {
            self.write16(PLACE.available + 4 + 2 * u64::from(PLACE.size), event);
        }

        fn available_event(&self) -> u16 {
            self.read16(PLACE.used + 4 + 8 * u64::from(PLACE.size))
        }

        /// What became of a chain of these descriptors, the first of which is the head.
        fn taken(descriptors: &[(Buffer, u16, u16)]) -> Result<Option<Chain>, QueueError> {
            let mut guest = Self::new();
            for (number, (buffer, flags, next)) in (0..).zip(descriptors) {
                guest.describe(number, *buffer, *flags, *next);
            }
            guest.offer(0);
            guest.queue().take()
        }
    }

    #[test]
    fn chains_are_taken_in_order_with_and_without_a_response() {
        let mut guest = Guest::new();
        guest.describe(3, REQUEST, 0, 0);
        guest.describe(7, REQUEST, NEXT, 1);
        guest.describe(1, RESPONSE, WRITE, 0);
        guest.offer(3);
        guest.offer(7);

        let mut queue = guest.queue();

        assert_eq!(queue.is_empty(), Ok(false));
        let posted = Chain { head: 3, request: REQUEST, response: None };
        let answered = Chain { head: 7, request: REQUEST, response: Some(RESPONSE) };
        assert_eq!((queue.take(), queue.take()), (Ok(Some(posted)), Ok(Some(answered))));
        assert_eq!((queue.is_empty(), queue.take()), (Ok(true), Ok(None)));
    }

    #[test]
    fn what_a_guest_takes_in_turn_is_foreseen() {
        let of = |offset, length| Buffer { offset, length };
        let mut foreseen = Guest::new().queue().foreseen;
        assert_eq!((foreseen.descriptor, foreseen.offset), (0, 0x400), "the first");
        for (descriptor, buffer, next) in [
            (0, of(0x400, 40), 0x500),
            (1, of(0x500, 256), 0x600),
            (2, of(0x600, 257), 0x800),
            (4, of(0x840, 64), 0x900),
            (7, of(0xf40, 64), 0x400),
        ] {
            foreseen.after(descriptor, buffer);
            assert_eq!((foreseen.descriptor, foreseen.offset), (descriptor + 1, next), "{buffer:?}");
        }
    }

    #[test]
    fn no_more_chains_are_promised_than_a_queue_has() {
        for (index, expected) in [(8, Ok(false)), (9, Err(9)), (u16::MAX, Err(u16::MAX))] {
            let guest = Guest::new();
            guest.set_available(index);
            let expected = expected.map_err(QueueError::Index);
            assert_eq!(guest.queue().is_empty(), expected);
            assert_eq!(guest.queue().ask_for_kick().map(|more| !more), expected);
            assert_eq!(guest.queue().take().err(), expected.err().or(Some(QueueError::Kind)));
        }

        // An index that goes back is one that is far ahead.
        let mut guest = Guest::new();
        guest.describe(0, REQUEST, 0, 0);
        guest.offer(0);
        let mut queue = guest.queue();
        assert!(queue.take().is_ok());
        guest.set_available(0);
        assert_eq!(queue.take(), Err(QueueError::Index(u16::MAX)));
    }

    #[test]
    fn descriptors_beyond_the_table_are_refused() {
        for number in [8, 9, u16::MAX] {
            let mut guest = Guest::new();
            guest.describe(0, REQUEST, NEXT, number);
            guest.offer(number);
            guest.offer(0);
            let mut queue = guest.queue();
            queue.prefetch();
            assert_eq!(queue.take(), Err(QueueError::Descriptor(number)), "as a head");
            queue.prefetch();
            assert_eq!(queue.take(), Err(QueueError::Descriptor(number)), "as what follows");
        }
    }

    #[test]
    fn a_chain_is_one_descriptor_to_read_and_perhaps_one_to_write() {
        let request = (REQUEST, NEXT, 1);
        let response = (RESPONSE, WRITE, 0);
        assert!(Guest::taken(&[request, response]).is_ok());

        let of = |buffer: Buffer, length| Buffer { length, ..buffer };
        assert!(Guest::taken(&[request, (of(RESPONSE, 8), WRITE, 0)]).is_ok(), "room for a header");
        for (what, descriptors, error) in [
            ("three", [request, (RESPONSE, WRITE | NEXT, 2)], QueueError::Length),
            ("a circle", [(REQUEST, NEXT, 0), response], QueueError::Length),
            ("two to read", [request, (RESPONSE, 0, 0)], QueueError::Kind),
            ("one to write", [(REQUEST, WRITE, 0), response], QueueError::Kind),
            ("two to write", [(REQUEST, WRITE | NEXT, 1), response], QueueError::Kind),
            ("a table elsewhere", [(REQUEST, 4, 0), response], QueueError::Kind),
            ("an answer elsewhere", [request, (RESPONSE, WRITE | 4, 0)], QueueError::Kind),
            ("no request", [(of(REQUEST, 0), 0, 0), response], QueueError::Kind),
            ("no request, an answer", [(of(REQUEST, 0), NEXT, 1), response], QueueError::Kind),
            ("no response", [request, (of(RESPONSE, 0), WRITE, 0)], QueueError::Kind),
            ("a short response", [request, (of(RESPONSE, 7), WRITE, 0)], QueueError::Kind),
        ] {
            assert_eq!(Guest::taken(&descriptors), Err(error), "{what}");
        }
    }

    #[test]
    fn a_hint_may_be_about_anything() {
        let mut guest = Guest::new();
        guest.describe(0, REQUEST, 0, 0);
        guest.describe(1, Buffer { offset: u64::MAX, length: u32::MAX }, 0, 0);
        guest.offer(0);
        guest.offer(1);
        let mut queue = guest.queue();
        assert!(queue.take().is_ok());
        queue.prefetch();
    }

    #[test]
    fn chains_are_taken_and_given_back_for_longer_than_the_indices_last() {
        let mut guest = Guest::new();
        for head in 0..8 {
            guest.describe(head, Buffer { length: 40 + u32::from(head), ..REQUEST }, 0, 0);
        }
        // The queue looks at memory that the guest goes on writing.
        let memory = guest.memory.clone();
        let device = Guest { memory, available: 0 };
        let mut queue = device.queue();
        let mut given = 0_u16;
        for round in 0..30_000_u16 {
            let chains = 1 + round % 8;
            for step in 0..chains {
                guest.offer(round.wrapping_add(step) % 8);
            }
            for step in 0..chains {
                let head = round.wrapping_add(step) % 8;
                let chain = queue.take().expect("sound").expect("one");
                assert_eq!((chain.head, chain.request.length), (head, 40 + u32::from(head)));
                let entry = GuestAddress(PLACE.used + 4 + 8 * u64::from(given % 8));
                queue.give_back(head, u32::from(round));
                assert_eq!((guest.read16(PLACE.used + 2), queue.untold()), (given, 1));
                let _wants = queue.tell();
                given = given.wrapping_add(1);
                assert_eq!((guest.read16(PLACE.used + 2), queue.untold()), (given, 0));
                let used: [u32; 2] = guest.memory.read_obj(entry).expect("in memory");
                assert_eq!(used, [u32::from(head), u32::from(round)]);
            }
            assert_eq!(queue.take(), Ok(None));
        }
        assert_eq!(given, guest.available);
    }

    #[test]
    fn the_guest_is_told_once_when_the_used_index_passes_what_it_waits_for() {
        let guest = Guest::new();
        let mut queue = guest.queue();
        for round in 0..u16::MAX {
            guest.set_used_event(queue.next_used.wrapping_add(1));
            let told: [bool; 5] = std::array::from_fn(|_| {
                queue.give_back(0, 0);
                queue.tell()
            });
            assert_eq!(told, [false, true, false, false, false], "round {round}");
        }
    }

    #[test]
    fn a_kick_is_asked_for_unless_there_is_a_chain() {
        let mut guest = Guest::new();
        guest.describe(0, REQUEST, 0, 0);
        let memory = guest.memory.clone();
        let device = Guest { memory, available: 0 };
        let mut queue = device.queue();
        for index in 0..=u16::MAX {
            assert_eq!(queue.ask_for_kick(), Ok(false), "it may sleep");
            assert_eq!(guest.available_event(), index);
            guest.offer(0);
            assert!(notify::passes(guest.available_event(), guest.available, index), "that kicks");
            assert_eq!(queue.ask_for_kick(), Ok(true), "it may not");
            assert!(queue.take().expect("sound").is_some());
        }
    }

    #[test]
    fn rings_lie_in_session_memory() {
        let guest = Guest::new();
        let refused = |place| Queue::new(guest.view(), place).err() == Some(QueueError::Outside);
        assert!(!refused(PLACE));
        let end = BYTES as u64;
        for place in [
            Place { size: 0, ..PLACE },
            Place { size: 12, ..PLACE },
            Place { descriptors: end - 120, ..PLACE },
            Place { descriptors: 4, ..PLACE },
            Place { available: end - 20, ..PLACE },
            Place { available: u64::MAX - 3, ..PLACE },
            Place { available: 0x101, ..PLACE },
            Place { used: end - 68, ..PLACE },
            Place { used: 0x202, ..PLACE },
        ] {
            assert!(refused(place), "{place:?}");
        }
    }
}
