//! The driver's half of a split virtqueue with event indices, over memory that is shared with the device.

use std::{
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{Ordering, fence},
    },
    time::Instant,
};

use anyhow::{Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec};
use vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};

use crate::PATIENCE;

/// Memory that test and device share; addresses are what the device calls them.
pub type Memory = Arc<GuestMemoryMmap<()>>;

/// `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE`.
pub const WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT`.
pub const INDIRECT: u16 = 4;

/// A descriptor, as it lies in memory.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// Address.
    pub address: u64,
    /// Bytes.
    pub length: u32,
    /// Flags.
    pub flags: u16,
    /// Next descriptor.
    pub next: u16,
}

/// A used element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// First descriptor of the chain.
    pub head: u16,
    /// Bytes that the device has written.
    pub written: u32,
}

/// Where the parts of a ring lie.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Descriptor table.
    pub descriptors: u64,
    /// Available ring.
    pub available: u64,
    /// Used ring.
    pub used: u64,
}

/// The driver's half.
pub struct Ring {
    memory: Memory,
    size: u16,
    places: Places,
    next_available: u16,
    last_used: u16,
}

impl Ring {
    /// A ring in zeroed memory.
    #[must_use]
    pub fn new(memory: Memory, size: u16, places: Places) -> Self {
        Self { memory, size, places, next_available: 0, last_used: 0 }
    }

    /// Where it lies.
    #[must_use]
    pub fn places(&self) -> Places {
        self.places
    }

    /// Zeroes the ring, as a driver does that sets it up anew.
    pub fn reset(&mut self) {
        let size = u64::from(self.size);
        let parts = [
            (self.places.descriptors, 16 * size),
            (self.places.available, 6 + 2 * size),
            (self.places.used, 6 + 8 * size),
        ];
        for (at, length) in parts {
            let zeros = vec![0; usize::try_from(length).expect("a ring is small")];
            self.memory.write_slice(&zeros, GuestAddress(at)).expect("the ring lies in memory");
        }
        (self.next_available, self.last_used) = (0, 0);
    }

    /// Writes a descriptor.
    pub fn describe(&self, index: u16, descriptor: Descriptor) {
        let at = self.places.descriptors + 16 * u64::from(index);
        self.put(at, descriptor.address);
        self.put(at + 8, descriptor.length);
        self.put(at + 12, descriptor.flags);
        self.put(at + 14, descriptor.next);
    }

    fn put<T: vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(at)).expect("the ring lies in memory");
    }

    fn get<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.memory.read_obj(GuestAddress(at)).expect("the ring lies in memory")
    }

    /// Writes parts as a chain that starts at descriptor `head`.
    pub fn chain(&self, head: u16, parts: &[(u64, u32, u16)]) {
        for (number, (address, length, flags)) in (0_u16..).zip(parts) {
            let last = usize::from(number) + 1 == parts.len();
            let flags = if last { *flags } else { flags | NEXT };
            let index = (head + number) % self.size;
            let next = (index + 1) % self.size;
            self.describe(index, Descriptor { address: *address, length: *length, flags, next });
        }
    }

    /// Makes the chain at `head` available. `true`: the device wants to be kicked.
    pub fn offer(&mut self, head: u16) -> bool {
        let slot = u64::from(self.next_available % self.size);
        self.put(self.places.available + 4 + 2 * slot, head);
        // Asks to be woken for the next used element.
        self.put(self.places.available + 4 + 2 * u64::from(self.size), self.last_used);
        let before = self.next_available;
        self.next_available = before.wrapping_add(1);
        self.set_available(self.next_available);
        fence(Ordering::SeqCst);
        self.available_event() == before
    }

    /// From which available index on the device wants to be kicked.
    #[must_use]
    pub fn available_event(&self) -> u16 {
        let at = GuestAddress(self.places.used + 4 + 8 * u64::from(self.size));
        self.memory.load(at, Ordering::Acquire).expect("the ring lies in memory")
    }

    /// Writes the available index, whatever it means.
    pub fn set_available(&self, index: u16) {
        self.memory
            .store(index, GuestAddress(self.places.available + 2), Ordering::Release)
            .expect("the ring lies in memory");
    }

    /// The next used element, if there is one.
    pub fn used(&mut self) -> Option<Used> {
        let index: u16 = self
            .memory
            .load(GuestAddress(self.places.used + 2), Ordering::Acquire)
            .expect("the ring lies in memory");
        if index == self.last_used {
            return None;
        }
        let at = self.places.used + 4 + 8 * u64::from(self.last_used % self.size);
        let (id, written): (u32, u32) = (self.get(at), self.get(at + 4));
        self.last_used = self.last_used.wrapping_add(1);
        Some(Used { head: u16::try_from(id).expect("the device returns what it was given"), written })
    }

    /// Waits for the next used element; `call` is readable when the device has something.
    ///
    /// # Errors
    /// There is none in time.
    pub fn wait_used(&mut self, call: impl AsFd) -> Result<Used> {
        let start = Instant::now();
        loop {
            self.put(self.places.available + 4 + 2 * u64::from(self.size), self.last_used);
            fence(Ordering::SeqCst);
            if let Some(used) = self.used() {
                return Ok(used);
            }
            if !wait_readable(&call, PATIENCE.saturating_sub(start.elapsed()))? {
                // A wake-up that is lost must not look like a slow device.
                let used = self.used();
                bail!("no wake-up in {PATIENCE:?}; used: {used:?}");
            }
        }
    }
}

/// Waits until an eventfd is readable, and reads it. `false`: it is not in time.
fn wait_readable(call: impl AsFd, left: std::time::Duration) -> Result<bool> {
    let timeout = Timespec { tv_sec: i64::try_from(left.as_secs())?, tv_nsec: left.subsec_nanos().into() };
    let mut sources = [PollFd::new(&call, PollFlags::IN)];
    let readable = rustix::event::poll(&mut sources, Some(&timeout))? > 0;
    if readable {
        rustix::io::read(&call, &mut [0; 8])?;
    }
    Ok(readable)
}
