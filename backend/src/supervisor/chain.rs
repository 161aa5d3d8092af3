//! Descriptor chains of the device's virtqueues: copied once, checked, then used.

use vhost_user_backend::VringT as _;
use virtio_queue::{DescriptorChain, QueueOwnedT as _, QueueT as _, desc::split::Descriptor};
use virtio_spec::{control, limits};
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryMmap};

use crate::supervisor::{
    request,
    vring::{Memory, Vring},
};

/// A part of guest memory that the device may write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    address: GuestAddress,
    length: u32,
}

/// A chain that has been taken from a queue and is owed to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The chain's first descriptor.
    pub(crate) head: u16,
    /// Device-writable parts.
    pub(crate) room: Vec<Room>,
}

impl Taken {
    /// Bytes that the device may write.
    pub(crate) fn room_bytes(&self) -> usize {
        let sum: u64 = self.room.iter().map(|room| u64::from(room.length)).sum();
        usize::try_from(sum).unwrap_or(usize::MAX)
    }
}

/// What a look into a queue gave.
#[derive(Debug)]
pub(crate) enum Next {
    /// A sound chain with the bytes of its device-readable part.
    Chain(Taken, Vec<u8>),
    /// A chain that is not what the queue is for; it is returned with nothing written.
    Bad { head: u16, why: &'static str },
    /// Nothing, for now.
    Empty,
    /// The ring itself is broken; nothing more can be taken until the driver sets it up again.
    Broken(String),
}

/// The next chain. `readable` bounds its device-readable bytes.
pub(crate) fn next(vring: &Vring, memory: &Memory, readable: usize) -> Next {
    let memory = memory.memory();
    let mut state = vring.get_mut();
    if !state.is_enabled() || !state.get_queue().ready() {
        return Next::Empty;
    }
    let queue = state.get_queue_mut();
    let size = queue.size();
    let chain = match queue.iter(&*memory) {
        Ok(mut chains) => chains.next(),
        Err(error) => return Next::Broken(error.to_string()),
    };
    drop(state);
    let Some(chain) = chain else { return Next::Empty };
    let head = chain.head_index();
    if head >= size {
        return Next::Broken(format!("descriptor {head} of {size}"));
    }
    match copy(chain, &memory, readable) {
        Ok((room, bytes)) => Next::Chain(Taken { head, room }, bytes),
        Err(why) => Next::Bad { head, why },
    }
}

fn copy(
    chain: DescriptorChain<&GuestMemoryMmap<()>>,
    memory: &GuestMemoryMmap<()>,
    most: usize,
) -> Result<(Vec<Room>, Vec<u8>), &'static str> {
    // One more than allowed, to tell a chain that is too long (or a loop) from one that just fits.
    let descriptors: Vec<Descriptor> = chain.take(limits::MAX_CONTROL_CHAIN.saturating_add(1)).collect();
    if descriptors.len() > limits::MAX_CONTROL_CHAIN {
        return Err("too many descriptors");
    }
    // The iterator ends in the same way behind the last descriptor and where it cannot go on.
    if descriptors.last().is_none_or(Descriptor::has_next) {
        return Err("the chain is broken");
    }
    let split = descriptors.iter().position(Descriptor::is_write_only).unwrap_or(descriptors.len());
    let (readable, writable) = descriptors.split_at_checked(split).unwrap_or_default();
    if !writable.iter().all(Descriptor::is_write_only) {
        return Err("device-readable after device-writable");
    }
    let length: u64 = readable.iter().map(|part| u64::from(part.len())).sum();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > most {
        return Err("the request is too long");
    }
    let mut bytes = vec![0; length];
    let mut rest = bytes.as_mut_slice();
    for part in readable {
        let length = usize::try_from(part.len()).unwrap_or(usize::MAX);
        let (here, after) = rest.split_at_mut_checked(length).ok_or("the request is too long")?;
        memory.read_slice(here, part.addr()).map_err(|_| "a descriptor points outside guest memory")?;
        rest = after;
    }
    let room = writable.iter().map(|part| Room { address: part.addr(), length: part.len() }).collect();
    Ok((room, bytes))
}

/// Whether the driver has been told of what was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// It has, or did not want to be.
    Yes,
    /// It wants to be, but QEMU has not said yet how: it starts a queue a moment before it passes the eventfd.
    NotYet,
}

/// Gives a chain back with `bytes` written to it, as far as they fit; wakes the driver if it wants to be woken.
pub(crate) fn give_back(vring: &Vring, memory: &Memory, taken: &Taken, bytes: &[u8]) -> Result<Told, String> {
    let written = write(&memory.memory(), &taken.room, bytes).unwrap_or_else(|why| {
        log::debug!("a reply is lost: {why}");
        0
    });
    vring.add_used(taken.head, written).map_err(|error| error.to_string())?;
    let wanted = vring.needs_notification().map_err(|error| error.to_string())?;
    Ok(if wanted { wake(vring) } else { Told::Yes })
}

/// Wakes the driver.
pub(crate) fn wake(vring: &Vring) -> Told {
    let state = vring.get_ref();
    match state.get_call() {
        None => Told::NotYet,
        Some(call) => {
            // The eventfd's counter is full only if a wake-up is under way already.
            let _woken = call.notify();
            Told::Yes
        }
    }
}

fn write(memory: &GuestMemoryMmap<()>, room: &[Room], bytes: &[u8]) -> Result<u32, &'static str> {
    let mut rest = bytes;
    for part in room {
        let length = usize::try_from(part.length).unwrap_or(usize::MAX).min(rest.len());
        let (here, after) = rest.split_at_checked(length).ok_or("bounds")?;
        memory.write_slice(here, part.address).map_err(|_| "a descriptor points outside guest memory")?;
        rest = after;
    }
    u32::try_from(bytes.len().saturating_sub(rest.len())).map_err(|_| "the reply is too long")
}

/// Whether the driver and QEMU have started the queue.
pub(crate) fn is_running(vring: &Vring) -> bool {
    let state = vring.get_ref();
    state.is_enabled() && state.get_queue().ready()
}

/// Asks the driver to wake the device for the next chain. `true`: there is one already.
pub(crate) fn wait_for_more(vring: &Vring) -> Result<bool, String> {
    let mut state = vring.get_mut();
    if !state.is_enabled() || !state.get_queue().ready() {
        return Ok(false);
    }
    state.enable_notification().map_err(|error| error.to_string())
}

/// Bytes of a `controlq` chain's device-readable part, at most.
pub(crate) const CONTROL_BYTES: usize = request::MAX_BYTES;

/// Bytes of an `eventq` chain's device-writable part, at least.
pub(crate) const EVENT_BYTES: usize = size_of::<control::Event>();

/// Where a queue stood when it was stopped, to tell a VM that goes on from one that was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    next_available: u16,
    next_used: u16,
    rings: [u64; 3],
}

impl Position {
    /// Where the queue stands.
    pub(crate) fn of(vring: &Vring) -> Self {
        let state = vring.get_ref();
        let queue = state.get_queue();
        Self {
            next_available: queue.next_avail(),
            next_used: queue.next_used(),
            rings: [queue.desc_table(), queue.avail_ring(), queue.used_ring()],
        }
    }

    /// Whether a queue that stands here now is the one that stood there: the same rings, at the same index, and not
    /// just set up. A fresh ring is zero; in one that has come round to index 0, the last element has been written.
    pub(crate) fn continues(self, before: Self, vring: &Vring, memory: &Memory) -> bool {
        self == before && (self.next_available != 0 || last_used_is_written(vring, memory))
    }
}

fn last_used_is_written(vring: &Vring, memory: &Memory) -> bool {
    let (ring, size) = {
        let state = vring.get_ref();
        (state.get_queue().used_ring(), u64::from(state.get_queue().size()))
    };
    let Some(element) =
        size.checked_sub(1).and_then(|last| last.checked_mul(8)?.checked_add(ring)?.checked_add(4))
    else {
        return false;
    };
    let length_at = element.saturating_add(4);
    memory.memory().read_obj::<u32>(GuestAddress(length_at)).is_ok_and(|length| length != 0)
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestMemoryAtomic;

    use super::*;

    const SIZE: u16 = 16;
    const USED: u64 = 0x3000;

    /// A queue that runs, at this index.
    fn queue(index: u16) -> (Vring, Memory) {
        let guest = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
        let memory = GuestMemoryAtomic::new(guest);
        let vring = Vring::new(memory.clone(), SIZE).unwrap();
        vring.set_queue_info(0x1000, 0x2000, USED).unwrap();
        vring.set_queue_next_avail(index);
        vring.set_queue_next_used(index);
        vring.set_queue_ready(true);
        vring.set_enabled(true);
        (vring, memory)
    }

    #[test]
    fn a_queue_that_goes_on_is_told_from_one_that_was_set_up_anew() {
        let (vring, memory) = queue(7);
        let before = Position::of(&vring);
        assert!(before.continues(before, &vring, &memory));
        vring.set_queue_next_avail(0);
        vring.set_queue_next_used(0);
        assert!(!Position::of(&vring).continues(before, &vring, &memory));
    }

    #[test]
    fn a_queue_that_has_come_round_to_zero_goes_on_too() {
        let (vring, memory) = queue(0);
        let before = Position::of(&vring);
        assert!(!before.continues(before, &vring, &memory), "a fresh ring");
        let last_length = USED + 4 + 8 * u64::from(SIZE - 1) + 4;
        memory.memory().write_obj(24_u32, GuestAddress(last_length)).unwrap();
        assert!(before.continues(before, &vring, &memory));
    }

    #[test]
    fn a_queue_elsewhere_is_another() {
        let (vring, memory) = queue(7);
        let before = Position::of(&vring);
        vring.set_queue_info(0x1000, 0x2000, USED + 0x1000).unwrap();
        assert!(!Position::of(&vring).continues(before, &vring, &memory));
    }

    #[test]
    fn nothing_is_taken_from_a_queue_that_does_not_run() {
        let (vring, memory) = queue(0);
        memory.memory().write_obj(1_u16, GuestAddress(0x2002)).unwrap();
        vring.set_enabled(false);
        assert!(matches!(next(&vring, &memory, 64), Next::Empty));
        vring.set_enabled(true);
        vring.set_queue_ready(false);
        assert!(matches!(next(&vring, &memory, 64), Next::Empty));
        vring.set_queue_ready(true);
        assert!(matches!(next(&vring, &memory, 64), Next::Chain(..) | Next::Bad { .. }));
    }

    #[test]
    fn a_head_outside_the_table_breaks_the_queue() {
        let (vring, memory) = queue(0);
        memory.memory().write_obj(SIZE, GuestAddress(0x2004)).unwrap();
        memory.memory().write_obj(1_u16, GuestAddress(0x2002)).unwrap();
        assert!(matches!(next(&vring, &memory, 64), Next::Broken(_)));
    }

    #[test]
    fn a_driver_that_cannot_be_woken_yet_is_owed_it() {
        let (vring, memory) = queue(0);
        let taken = Taken { head: 3, room: Vec::new() };
        assert_eq!(give_back(&vring, &memory, &taken, &[]), Ok(Told::NotYet));
        assert_eq!(wake(&vring), Told::NotYet);
    }
}
