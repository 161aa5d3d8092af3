//! The session: shared memory with lanes to a worker that belongs to this process alone.
//!
//! Read in this order: `region` (the shared mapping), `notify` (sleep and wake-up), `queue` (a virtqueue's driver side),
//! `spin`, `lane` (a queue and its thread), and this file (start, end, and which thread has which lane).
//!
//! Unsafe code: the session as a pointer that lives as long as the process.

pub(crate) mod lane;
pub(crate) mod queue;
pub(crate) mod region;
pub(crate) mod spin;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use virtio_spec::control::{SessionOptions, options};
use virtio_spec::cuda::CUresult;
use virtio_spec::device::PROTOCOL_VERSION;
use virtio_spec::session::{LaneState, Layout, MAGIC, SessionHeader, WorkerState};
use zerocopy::{FromZeros, IntoBytes};

use crate::device::{self, Devices};
use crate::transport::{self, Transport, TransportError, Woken};
use crate::{process, waited, window};
use lane::Lane;
use region::Region;

/// The memory that lanes are made of.
#[derive(Clone, Copy, Debug)]
struct Parts {
    region: Region,
    layout: Layout,
}

/// The session of this process.
pub(crate) struct Session {
    transport: Box<dyn Transport>,
    parts: Parts,
    sticky_error: &'static AtomicU32,
    worker_state: &'static AtomicU32,
    output_waiting: &'static AtomicU32,
    next_sequence: &'static AtomicU64,
    lanes_used: &'static AtomicU32,
    guest_backstops: &'static AtomicU32,
    lanes: Vec<Lane>,
    /// Held while a thread takes a lane or gives one back.
    leases: Mutex<()>,
    dead: AtomicBool,
    /// Requests sent that may have given the GPU work.
    work: AtomicU64,
    /// Those of them that were [copies](Session::note_copy).
    copies: AtomicU64,
    /// When the kernel was last asked whether the session is there, in ticks of its coarse clock.
    seen_alive: AtomicU64,
}

static SESSION: AtomicPtr<Session> = AtomicPtr::new(std::ptr::null_mut());
static STARTING: Mutex<()> = Mutex::new(());

/// The session, if it has been started in this process: a forked child has none, and not its memory either.
pub(crate) fn existing() -> Option<&'static Session> {
    // SAFETY: the pointer is null or that of a session that lives as long as the process.
    unsafe { SESSION.load(Ordering::Acquire).as_ref() }.filter(|_| !process::is_forked())
}

/// The session; started if there is none yet. A start that failed is tried again by the next call.
pub(crate) fn get() -> Result<&'static Session, CUresult> {
    if let Some(session) = existing() {
        return Ok(session);
    }
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(session) = existing() {
        return Ok(session);
    }
    if !window::ensure() {
        return Err(CUresult::ERROR_OUT_OF_MEMORY);
    }
    let session: &'static Session =
        Box::leak(Box::new(transport::open().and_then(Session::start).map_err(error_of)?));
    process::close_in_child(session.transport.descriptor());
    SESSION.store(std::ptr::from_ref(session).cast_mut(), Ordering::Release);
    Ok(session)
}

/// What a program sees of a transport's error.
pub(crate) const fn error_of(error: TransportError) -> CUresult {
    match error {
        TransportError::Absent => CUresult::ERROR_NO_DEVICE,
        TransportError::Starting => CUresult::ERROR_SYSTEM_NOT_READY,
        TransportError::NoMemory => CUresult::ERROR_OUT_OF_MEMORY,
        TransportError::Address => CUresult::ERROR_INVALID_VALUE,
        TransportError::Unsupported => CUresult::ERROR_NOT_SUPPORTED,
        TransportError::Dead => CUresult::ERROR_DEVICE_UNAVAILABLE,
        TransportError::Protocol => CUresult::ERROR_UNKNOWN,
    }
}

/// What the environment says that the host's driver must know.
fn session_options() -> SessionOptions {
    let connections =
        std::env::var("CUDA_DEVICE_MAX_CONNECTIONS").ok().and_then(|text| text.trim().parse().ok());
    let eager = std::env::var("CUDA_MODULE_LOADING").is_ok_and(|mode| mode == "EAGER");
    SessionOptions {
        process: std::process::id(),
        flags: if eager { options::EAGER_LOADING } else { 0 },
        max_connections: connections.filter(|count| (1..=32).contains(count)).unwrap_or(0),
        device: device::devices().map_or(0, Devices::first_place),
        reserved: [0; 4],
    }
}

/// The time that the kernel keeps for itself, a few nanoseconds to read.
fn coarse_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for a time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
    time.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.cast_unsigned())
}

fn write_header(region: Region, layout: Layout) {
    let mut header = SessionHeader::new_zeroed();
    header.version = PROTOCOL_VERSION;
    header.lane_count = layout.lane_count();
    header.queue_size = u32::from(layout.queue_size());
    header.slot_count = layout.slot_count();
    header.slot_bytes = layout.slot_bytes();
    header.staging_bytes = layout.staging_bytes();
    // The device writes its own part from the moment that it knows the region, so only the guest's is written.
    let sizes = &header.as_bytes()[size_of::<u32>()..offset_of!(SessionHeader, sticky_error)];
    region.write(size_of::<u32>() as u64, sizes);
    region.word64(offset_of!(SessionHeader, next_sequence) as u64).store(1, Ordering::Relaxed);
    region.word32(offset_of!(SessionHeader, magic) as u64).store(MAGIC, Ordering::Release);
}

impl Session {
    fn start(transport: Box<dyn Transport>) -> Result<Self, TransportError> {
        let layout = Layout::DEFAULT;
        let prepare = |region: Region| write_header(region, layout);
        let region = transport.create_session(layout.total_bytes(), session_options(), &prepare)?;
        let parts = Parts { region, layout };
        let session = Self {
            transport,
            parts,
            sticky_error: region.word32(offset_of!(SessionHeader, sticky_error) as u64),
            worker_state: region.word32(offset_of!(SessionHeader, worker_state) as u64),
            output_waiting: region.word32(offset_of!(SessionHeader, output_waiting) as u64),
            next_sequence: region.word64(offset_of!(SessionHeader, next_sequence) as u64),
            lanes_used: region.word32(offset_of!(SessionHeader, lanes_used) as u64),
            guest_backstops: region.word32(offset_of!(SessionHeader, guest_backstops) as u64),
            lanes: (0..layout.lane_count()).map(|index| Lane::new(&parts, index)).collect(),
            leases: Mutex::new(()),
            dead: AtomicBool::new(false),
            work: AtomicU64::new(0),
            copies: AtomicU64::new(0),
            seen_alive: AtomicU64::new(0),
        };
        session.kick();
        Ok(session)
    }

    /// The way to the device.
    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    /// The shared memory.
    pub(crate) const fn region(&self) -> &Region {
        &self.parts.region
    }

    /// Where things lie in the shared memory.
    pub(crate) const fn layout(&self) -> &Layout {
        &self.parts.layout
    }

    /// The error that every call of a broken session returns, if it is broken.
    pub(crate) fn check(&self) -> Result<(), CUresult> {
        match self.sticky_error.load(Ordering::Acquire) {
            0 if self.dead.load(Ordering::Relaxed) => Err(CUresult::ERROR_DEVICE_UNAVAILABLE),
            0 => Ok(()),
            error => Err(crate::entry::result(error)),
        }
    }

    /// As [`Session::check`], for an answer that sends nothing: a worker that was killed has written no error. The kernel
    /// is asked at most once in each of its ticks, so what is missed is a death that the work before it does not tell
    /// from a later one.
    pub(crate) fn check_alive(&self) -> Result<(), CUresult> {
        self.check()?;
        let tick = coarse_time();
        if self.seen_alive.load(Ordering::Relaxed) == tick {
            return Ok(());
        }
        if !self.transport.is_alive() {
            return Err(self.died());
        }
        self.seen_alive.store(tick, Ordering::Relaxed);
        Ok(())
    }

    /// Whether kernels have printed something that the program has not been given yet.
    pub(crate) fn has_output(&self) -> bool {
        self.output_waiting.load(Ordering::Acquire) != 0 && !self.dead.load(Ordering::Relaxed)
    }

    /// Notes that the GPU may have got work, once the request for it has been sent: whoever is told of the call's return then
    /// sees it counted, and a synchronisation that missed the request does not count it.
    pub(crate) fn note_work(&self) {
        self.work.fetch_add(1, Ordering::Release);
        waited::sent();
    }

    /// Notes a posted copy that the device carries out within its request: it is work, but none that a later copy would
    /// have to wait for, since requests are executed in their order.
    pub(crate) fn note_copy(&self) {
        self.note_work();
        self.copies.fetch_add(1, Ordering::Release);
    }

    /// Requests noted so far.
    pub(crate) fn work(&self) -> u64 {
        self.work.load(Ordering::Acquire)
    }

    /// Requests noted so far that a copy must wait for; a copy that is just being noted counts among them.
    pub(crate) fn kernels(&self) -> u64 {
        let copies = self.copies.load(Ordering::Acquire);
        self.work().wrapping_sub(copies)
    }

    fn next_sequence(&self) -> u64 {
        self.next_sequence.fetch_add(1, Ordering::Relaxed)
    }

    fn kick(&self) {
        self.transport.kick();
    }

    fn wait(&self, word: &AtomicU32, expected: u32, limit: Duration) -> Woken {
        let base = self.parts.region.at(0, 0).addr();
        let offset = word.as_ptr().addr().wrapping_sub(base) as u64;
        self.transport.wait(word, offset, expected, limit)
    }

    fn count_backstop(&self) {
        self.guest_backstops.fetch_add(1, Ordering::Relaxed);
    }

    fn is_refused(&self) -> bool {
        self.worker_state.load(Ordering::Relaxed) == WorkerState::Refused as u32
    }

    /// The session has ended; every later call says so.
    pub(crate) fn died(&self) -> CUresult {
        self.dead.store(true, Ordering::Relaxed);
        self.check().err().unwrap_or(CUresult::ERROR_DEVICE_UNAVAILABLE)
    }

    /// The device has broken the protocol: its memory is not looked at again.
    pub(crate) fn broken(&self) -> CUresult {
        self.dead.store(true, Ordering::Relaxed);
        CUresult::ERROR_UNKNOWN
    }

    /// The calling thread's lane, taken at its first request.
    pub(crate) fn lane(&'static self) -> &'static Lane {
        // A thread whose locals are gone already (a destructor calls CUDA) shares a lane for this one call.
        LEASE.try_with(|lease| lease.get(self)).unwrap_or_else(|_| self.shared_lane())
    }

    fn shared_lane(&'static self) -> &'static Lane {
        let lane = &self.lanes[0];
        let _leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        lane.open();
        self.note_use(lane);
        lane
    }

    /// Tells the device that the lane may have requests.
    fn note_use(&self, lane: &Lane) {
        self.lanes_used.fetch_max(lane.index() + 1, Ordering::Relaxed);
    }

    fn take_lane(&'static self) -> &'static Lane {
        let _leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let lane = self
            .lanes
            .iter()
            .find(|lane| lane.open())
            .or_else(|| self.lanes.iter().min_by_key(|lane| lane.users.load(Ordering::Relaxed)))
            .unwrap_or(&self.lanes[0]);
        lane.users.fetch_add(1, Ordering::Relaxed);
        self.note_use(lane);
        lane
    }

    /// Keeps the calling thread's lane from being shared, if it is not shared already; whether it is the thread's alone.
    pub(crate) fn reserve_lane(&'static self) -> bool {
        const MANY: u32 = 1 << 20;
        let lane = self.lane();
        let _leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        lane.users.fetch_add(MANY, Ordering::Relaxed) == 1
    }

    fn give_lane_back(&self, lane: &Lane) {
        let _leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if lane.users.fetch_sub(1, Ordering::Relaxed) == 1 {
            lane.state.store(LaneState::Free as u32, Ordering::Release);
        }
    }
}

/// The lane that a thread has taken.
struct Lease(Cell<Option<&'static Lane>>);

thread_local! {
    static LEASE: Lease = const { Lease(Cell::new(None)) };
}

impl Lease {
    fn get(&self, session: &'static Session) -> &'static Lane {
        if let Some(lane) = self.0.get() {
            return lane;
        }
        let lane = session.take_lane();
        self.0.set(Some(lane));
        lane
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let (Some(lane), Some(session)) = (self.0.get(), existing()) {
            session.give_lane_back(lane);
        }
    }
}
