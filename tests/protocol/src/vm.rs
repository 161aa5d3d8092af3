//! What QEMU and the guest's driver do together: a vhost-user front-end and the driver's half of both queues. (This
//! file contains unsafe code: it lends a descriptor.)

use std::{
    fs::File,
    os::fd::{AsRawFd as _, BorrowedFd},
    path::Path,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::MemfdFlags;
use vhost::{
    VhostBackend as _, VhostUserMemoryRegionInfo, VringConfigData,
    vhost_user::{
        Frontend, VhostUserFrontend as _,
        message::{VhostUserConfigFlags, VhostUserProtocolFeatures},
    },
};
use virtio_spec::{
    control::{Event, Extent, SessionCreateReply},
    device,
};
use vm_memory::{Bytes as _, FileOffset, GuestAddress, GuestMemoryBackend as _, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use zerocopy::{FromBytes as _, IntoBytes as _};

use crate::{
    message::{self, PAGE, Reply},
    ring::{Memory, Places, Ring, WRITE},
};

/// Bytes of each of the two parts of RAM; the second begins where the first ends.
pub const HALF: u64 = 32 << 20;

/// Between the two parts in the file, so that they are not contiguous there.
const GAP: u64 = 8 << 20;

/// Descriptors of each queue.
pub const QUEUE_SIZE: u16 = 64;

/// Guest memory that the tests' own extents do not touch begins here; requests and replies lie below.
pub const FREE: u64 = 1 << 20;

const REQUEST_AT: u64 = 0x4_0000;
const REPLY_AT: u64 = 0x8_0000;
const EVENTS_AT: u64 = 0x3_0000;

/// Bytes of room for a reply.
pub const REPLY_BYTES: u32 = 72 << 10;

/// A queue with its eventfds.
pub struct Queue {
    /// The ring.
    pub ring: Ring,
    /// The driver wakes the device.
    pub kick: EventFd,
    /// The device wakes the driver.
    pub call: EventFd,
}

/// A VM.
pub struct Vm {
    /// The vhost-user front-end.
    pub frontend: Frontend,
    /// Guest memory.
    pub memory: Memory,
    file: Arc<File>,
    /// `controlq`.
    pub control: Queue,
    /// `eventq`.
    pub events: Queue,
    bases: [u16; 2],
}

impl Vm {
    /// Connects and starts both queues.
    ///
    /// # Errors
    /// The backend refuses a message.
    pub fn start(socket: &Path) -> Result<Self> {
        let mut vm = Self::connect(socket)?;
        vm.negotiate()?;
        vm.start_queues()?;
        vm.post_events(16)?;
        Ok(vm)
    }

    /// Connects, and nothing else.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        let file = File::from(rustix::fs::memfd_create("vm-memory", MemfdFlags::CLOEXEC)?);
        file.set_len(2 * HALF + GAP)?;
        let file = Arc::new(file);
        let half = usize::try_from(HALF)?;
        let at = |offset| Some(FileOffset::from_arc(Arc::clone(&file), offset));
        let memory = Arc::new(GuestMemoryMmap::from_ranges_with_files([
            (GuestAddress(0), half, at(0)),
            (GuestAddress(HALF), half, at(HALF + GAP)),
        ])?);
        let queue = |at: u64| -> Result<Queue> {
            let places = Places { descriptors: at, available: at + 0x1000, used: at + 0x2000 };
            Ok(Queue {
                ring: Ring::new(Arc::clone(&memory), QUEUE_SIZE, places),
                kick: EventFd::new(EFD_NONBLOCK)?,
                call: EventFd::new(EFD_NONBLOCK)?,
            })
        };
        let (control, events) = (queue(0x1_0000)?, queue(0x2_0000)?);
        let frontend = Frontend::connect(socket, device::QUEUE_COUNT.into())?;
        Ok(Self { frontend, memory, file, control, events, bases: [0; 2] })
    }

    /// Features and protocol features, as QEMU does it.
    ///
    /// # Errors
    /// The backend refuses a message.
    pub fn negotiate(&mut self) -> Result<()> {
        let features = self.frontend.get_features()?;
        let offered = self.frontend.get_protocol_features()?;
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK;
        ensure!(offered.contains(wanted), "{offered:?}");
        self.frontend.set_protocol_features(wanted)?;
        self.frontend.set_owner()?;
        self.frontend.set_features(features)?;
        Ok(())
    }

    /// Memory, rings and eventfds; then the queues run.
    ///
    /// # Errors
    /// The backend refuses a message.
    pub fn start_queues(&mut self) -> Result<()> {
        let region = |guest_phys_addr: u64, mmap_offset: u64| -> Result<VhostUserMemoryRegionInfo> {
            Ok(VhostUserMemoryRegionInfo {
                guest_phys_addr,
                memory_size: HALF,
                userspace_addr: self.memory.get_host_address(GuestAddress(guest_phys_addr))? as u64,
                mmap_offset,
                mmap_handle: self.file.as_raw_fd(),
            })
        };
        self.frontend.set_mem_table(&[region(0, 0)?, region(HALF, HALF + GAP)?])?;
        for (index, queue) in [&self.control, &self.events].into_iter().enumerate() {
            let places = queue.ring.places();
            let host = |at: u64| self.memory.get_host_address(GuestAddress(at)).map(|pointer| pointer as u64);
            self.frontend.set_vring_num(index, QUEUE_SIZE)?;
            self.frontend.set_vring_base(index, self.bases[index])?;
            self.frontend.set_vring_addr(
                index,
                &VringConfigData {
                    queue_max_size: device::QUEUE_SIZE,
                    queue_size: QUEUE_SIZE,
                    flags: 0,
                    desc_table_addr: host(places.descriptors)?,
                    used_ring_addr: host(places.used)?,
                    avail_ring_addr: host(places.available)?,
                    log_addr: None,
                },
            )?;
            self.frontend.set_vring_kick(index, &queue.kick)?;
            self.frontend.set_vring_call(index, &queue.call)?;
        }
        for index in 0..2 {
            self.frontend.set_vring_enable(index, true)?;
        }
        Ok(())
    }

    /// The VM pauses, or is reset: QEMU stops both queues.
    ///
    /// # Errors
    /// The backend refuses a message.
    pub fn stop_queues(&mut self) -> Result<()> {
        for index in 0..2 {
            self.bases[index] = u16::try_from(self.frontend.get_vring_base(index)?)?;
        }
        Ok(())
    }

    /// After [`Vm::stop_queues`]: a new kernel's driver sets the queues up anew.
    ///
    /// # Errors
    /// The backend refuses a message.
    pub fn reset(&mut self) -> Result<()> {
        self.bases = [0; 2];
        self.control.ring.reset();
        self.events.ring.reset();
        self.start_queues()?;
        self.post_events(16)
    }

    /// The configuration space.
    ///
    /// # Errors
    /// The backend refuses the message.
    pub fn config(&mut self) -> Result<device::Config> {
        let size = size_of::<device::Config>();
        let zeros = vec![0; size];
        let (_, bytes) =
            self.frontend.get_config(0, u32::try_from(size)?, VhostUserConfigFlags::empty(), &zeros)?;
        device::Config::read_from_bytes(&bytes).ok().context("the configuration space has another size")
    }

    /// Gives the device `count` buffers for events.
    ///
    /// # Errors
    /// The device cannot be kicked.
    pub fn post_events(&mut self, count: u16) -> Result<()> {
        for index in 0..count {
            self.post_event(index)?;
        }
        Ok(())
    }

    fn post_event(&mut self, index: u16) -> Result<()> {
        let at = EVENTS_AT + 16 * u64::from(index);
        self.events.ring.chain(index, &[(at, 16, WRITE)]);
        if self.events.ring.offer(index) {
            self.events.kick.write(1)?;
        }
        Ok(())
    }

    /// Waits for the next event, and gives its buffer back.
    ///
    /// # Errors
    /// There is none in time.
    pub fn event(&mut self) -> Result<Event> {
        let call = self.events.call.try_clone()?;
        let used = self.events.ring.wait_used(borrow(&call))?;
        ensure!(used.written == 16, "{used:?}");
        let mut bytes = [0; 16];
        self.memory.read_slice(&mut bytes, GuestAddress(EVENTS_AT + 16 * u64::from(used.head)))?;
        self.post_event(used.head)?;
        Event::read_from_bytes(&bytes).ok().context("an event has 16 bytes")
    }

    /// Sends a request without waiting.
    ///
    /// # Errors
    /// The device cannot be kicked.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.memory.write_slice(bytes, GuestAddress(REQUEST_AT))?;
        let length = u32::try_from(bytes.len())?;
        self.control.ring.chain(0, &[(REQUEST_AT, length, 0), (REPLY_AT, REPLY_BYTES, WRITE)]);
        self.offer(0)
    }

    /// Makes a chain available that has been written into the ring, and kicks.
    ///
    /// # Errors
    /// The device cannot be kicked.
    pub fn offer(&mut self, head: u16) -> Result<()> {
        if self.control.ring.offer(head) {
            self.control.kick.write(1)?;
        }
        Ok(())
    }

    /// Waits until the device has used a chain of `controlq`; returns the bytes that it has written.
    ///
    /// # Errors
    /// Nothing is used in time.
    pub fn used(&mut self) -> Result<Vec<u8>> {
        let call = self.control.call.try_clone()?;
        let used = self.control.ring.wait_used(borrow(&call))?;
        let mut bytes = vec![0; usize::try_from(used.written)?];
        self.memory.read_slice(&mut bytes, GuestAddress(REPLY_AT))?;
        Ok(bytes)
    }

    /// Where [`Vm::send`] puts the request.
    #[must_use]
    pub fn request_at(&self) -> u64 {
        REQUEST_AT
    }

    /// Where [`Vm::used`] expects what the device writes.
    #[must_use]
    pub fn reply_at(&self) -> u64 {
        REPLY_AT
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// There is none in time.
    pub fn ask(&mut self, bytes: &[u8]) -> Result<Reply> {
        self.send(bytes)?;
        Reply::parse(&self.used()?)
    }

    /// Makes a session at `address` of guest memory.
    ///
    /// # Errors
    /// It is refused.
    pub fn create_session(&mut self, address: u64) -> Result<u32> {
        let length = message::layout().total_bytes();
        self.memory.write_slice(message::session_header().as_bytes(), GuestAddress(address))?;
        let extents = [Extent { address, length }];
        let reply = self.ask(&message::session_create(length, &extents))?;
        Ok(reply.structure::<SessionCreateReply>()?.session)
    }
}

/// A page-aligned place in free memory.
#[must_use]
pub const fn page(number: u64) -> u64 {
    FREE + number * PAGE
}

/// An eventfd of one crate as another knows it.
fn borrow(eventfd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor stays open for as long as `eventfd` is borrowed.
    unsafe { BorrowedFd::borrow_raw(eventfd.as_raw_fd()) }
}
