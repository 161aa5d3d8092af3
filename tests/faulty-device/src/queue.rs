//! The device's half of a virtqueue, which gives back what it was not given.

use anyhow::{Context as _, Result, ensure};
use vhost_user_backend::{VringRwLock, VringT as _};
use virtio_queue::{QueueOwnedT as _, QueueT as _, desc::split::Descriptor};
use vm_memory::{Bytes as _, GuestAddress, GuestAddressSpace as _, GuestMemoryAtomic, GuestMemoryMmap};

/// Guest memory as vhost-user tells it.
pub(crate) type Memory = GuestMemoryAtomic<GuestMemoryMmap<()>>;
/// A virtqueue of the device.
pub(crate) type Vring = VringRwLock<Memory>;

/// Longest chain that is looked at.
const LONGEST: usize = 64;

/// A chain that has been taken from a queue.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    /// Its first descriptor.
    pub(crate) head: u16,
    /// The device-readable bytes.
    pub(crate) request: Vec<u8>,
    /// Where the device may write: address and bytes.
    pub(crate) room: Vec<(GuestAddress, u32)>,
}

impl Chain {
    /// Bytes that the device may write.
    pub(crate) fn room_bytes(&self) -> usize {
        self.room.iter().map(|(_, length)| *length as usize).sum()
    }

    /// Writes as much as fits; returns how much that is.
    pub(crate) fn write(&self, memory: &Memory, bytes: &[u8]) -> Result<u32> {
        let memory = memory.memory();
        let mut rest = bytes;
        for (address, length) in &self.room {
            let (here, after) = rest.split_at(rest.len().min(*length as usize));
            memory.write_slice(here, *address).context("write a reply")?;
            rest = after;
        }
        Ok(u32::try_from(bytes.len() - rest.len())?)
    }
}

/// The next chain, if there is one.
pub(crate) fn take(vring: &Vring, memory: &Memory) -> Result<Option<Chain>> {
    let memory = memory.memory();
    let mut state = vring.get_mut();
    if !state.get_queue().ready() {
        return Ok(None);
    }
    let Some(chain) = state.get_queue_mut().iter(&*memory)?.next() else { return Ok(None) };
    drop(state);
    let head = chain.head_index();
    let parts: Vec<Descriptor> = chain.take(LONGEST).collect();
    let mut request = Vec::new();
    let mut room = Vec::new();
    for part in parts {
        if part.is_write_only() {
            room.push((part.addr(), part.len()));
        } else {
            let begin = request.len();
            request.resize(begin + part.len() as usize, 0);
            memory.read_slice(request.get_mut(begin..).unwrap_or_default(), part.addr())?;
        }
    }
    Ok(Some(Chain { head, request, room }))
}

/// Puts an element into the used ring, whatever it says, and moves the index ahead by `step`.
pub(crate) fn give_back(vring: &Vring, memory: &Memory, id: u32, length: u32, step: u16) -> Result<()> {
    let memory = memory.memory();
    let mut state = vring.get_mut();
    let queue = state.get_queue_mut();
    ensure!(queue.ready(), "the queue has been stopped");
    let at = GuestAddress(queue.used_ring());
    let next = queue.next_used();
    let slot = u64::from(next % queue.size().max(1));
    let element = at.0.saturating_add(4).saturating_add(slot.saturating_mul(8));
    memory.write_obj(id.to_le(), GuestAddress(element))?;
    memory.write_obj(length.to_le(), GuestAddress(element.saturating_add(4)))?;
    let next = next.wrapping_add(step);
    let index = GuestAddress(at.0.saturating_add(2));
    memory.store(next.to_le(), index, std::sync::atomic::Ordering::Release)?;
    queue.set_next_used(next);
    drop(state);
    vring.signal_used_queue().context("wake the driver")
}
