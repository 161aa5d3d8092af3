//! A lane: one queue to a host thread of its own, used by one guest thread at a time.
//!
//! A guest thread takes a free lane at its first request and gives it back when it ends. When all lanes are taken,
//! threads share one. Either way the lane is locked from the start of a request to the end of its response, which costs
//! nothing worth measuring while one thread uses it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use virtio_spec::cuda::CUresult;
use virtio_spec::limits::{MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, WAIT_BACKSTOP_MILLISECONDS};
use virtio_spec::session::{LaneState, RequestHeader, ResponseHeader, request_flags};
use zerocopy::IntoBytes;

use super::Session;
use super::queue::{Buffer, Queue, Ticket};
use super::spin::Spin;
use crate::transport::Woken;

/// Bytes of a response's header.
#[expect(clippy::cast_possible_truncation, reason = "the size of a small structure")]
const RESPONSE_HEADER: u32 = size_of::<ResponseHeader>() as u32;

/// Bytes that a request's and a response's start are aligned to: one cache line.
const LINE: u64 = 64;

/// A lane of the session.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Number of the lane.
    pub(super) index: u32,
    pub(super) state: &'static AtomicU32,
    pub(super) posted_sequence: &'static AtomicU64,
    pub(super) deferred_error: &'static AtomicU32,
    /// Guest threads that use the lane; changed under the session's lease lock.
    pub(super) users: AtomicU32,
    pub(super) traffic: Mutex<Traffic>,
}

/// What the holder of a lane works with.
#[derive(Debug)]
pub(crate) struct Traffic {
    queue: Queue,
    spin: Spin,
    /// For answers that wait for the GPU.
    gpu_spin: Spin,
    /// The lane was opened and its host thread may have to be started: the next request kicks in any case.
    fresh: bool,
    /// Parameters of the request that is being built, then the response that was read. Kept for its capacity.
    pub(crate) bytes: Vec<u8>,
}

/// What stands in a request's header besides its length and sequence number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) opcode: u32,
    pub(crate) flags: u32,
    pub(crate) context: u64,
    pub(crate) capture_mode: u32,
}

/// An answered request that is under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    ticket: Ticket,
    response: u64,
    room: u32,
}

impl Lane {
    pub(super) fn new(session: &super::Parts, index: u32) -> Self {
        let (spin, gpu_spin) = Spin::from_environment();
        let head = session.layout.lane(index);
        Self {
            index,
            state: session
                .region
                .word32(head + std::mem::offset_of!(virtio_spec::session::LaneHeader, state) as u64),
            posted_sequence: session.region.word64(
                head + std::mem::offset_of!(virtio_spec::session::LaneHeader, posted_sequence) as u64,
            ),
            deferred_error: session
                .region
                .word32(head + std::mem::offset_of!(virtio_spec::session::LaneHeader, deferred_error) as u64),
            users: AtomicU32::new(0),
            traffic: Mutex::new(Traffic {
                queue: Queue::new(session.region, session.layout, index),
                spin,
                gpu_spin,
                fresh: true,
                bytes: Vec::new(),
            }),
        }
    }

    /// Number of the lane.
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// Locks the lane for a request.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a free lane; false if it is not free. The caller holds the session's lease lock.
    pub(super) fn open(&self) -> bool {
        let (free, open) = (LaneState::Free as u32, LaneState::Open as u32);
        if self.state.compare_exchange(free, open, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        self.deferred_error.store(0, Ordering::Relaxed);
        self.lock().fresh = true;
        true
    }

    /// Whether a late error waits to be taken.
    pub(crate) fn has_deferred_error(&self) -> bool {
        self.deferred_error.load(Ordering::Acquire) != 0
    }

    /// Takes the late error of this lane's posted requests, if there is one.
    pub(crate) fn take_deferred_error(&self) -> Option<CUresult> {
        if self.deferred_error.load(Ordering::Acquire) == 0 {
            return None;
        }
        match self.deferred_error.swap(0, Ordering::AcqRel) {
            0 => None,
            error => Some(crate::entry::result(error)),
        }
    }
}

impl Traffic {
    /// Sends the parameters in [`Traffic::bytes`]. `room` is the number of bytes for the response after its header, or
    /// `None` for a posted request.
    pub(crate) fn send(
        &mut self,
        session: &Session,
        lane: &Lane,
        head: Head,
        room: Option<u32>,
    ) -> Result<Pending, CUresult> {
        let header_bytes = size_of::<RequestHeader>() as u64;
        let length = header_bytes + self.bytes.len() as u64;
        let room = room.map_or(0, |bytes| bytes + RESPONSE_HEADER);
        if length > u64::from(MAX_REQUEST_BYTES) || room > MAX_RESPONSE_BYTES {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let posted = room == 0;
        let request_room = length.next_multiple_of(LINE);
        let (offset, slots) =
            self.room(session, request_room + u64::from(room), if posted { 1 } else { 2 })?;

        let sequence = session.next_sequence();
        let header = RequestHeader {
            opcode: head.opcode,
            flags: head.flags | if posted { request_flags::POSTED } else { 0 },
            sequence,
            context: head.context,
            length: u32::try_from(self.bytes.len()).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
            capture_mode: head.capture_mode,
        };
        session.region().write(offset, header.as_bytes());
        session.region().write(offset + header_bytes, &self.bytes);
        let request = Buffer {
            offset,
            length: u32::try_from(length).map_err(|_| CUresult::ERROR_INVALID_VALUE)?,
            writable: false,
        };
        let response = Buffer { offset: offset + request_room, length: room, writable: true };
        let buffers = [request, response];
        let buffers = if posted { &buffers[..1] } else { &buffers[..] };
        if posted {
            lane.posted_sequence.store(sequence, Ordering::Release);
        } else {
            session.region().word64(response.offset).store(ResponseHeader::PENDING, Ordering::Relaxed);
        }
        crate::trace::sent();
        let (ticket, kick) = self.queue.push(buffers, slots);
        if kick || self.fresh {
            self.fresh = false;
            session.kick();
        }
        Ok(Pending { ticket, response: response.offset, room })
    }

    /// Waits for the response, leaves what follows its header in [`Traffic::bytes`], and returns its result. `patient`: it
    /// waits for the GPU, and the thread may look for long.
    pub(crate) fn receive(
        &mut self,
        session: &Session,
        pending: Pending,
        patient: bool,
    ) -> Result<CUresult, CUresult> {
        let header = self.wait(session, pending, patient)?;
        let most = pending.room.saturating_sub(RESPONSE_HEADER);
        if header.length > most {
            return Err(session.broken());
        }
        self.bytes.clear();
        let start = pending.response + size_of::<ResponseHeader>() as u64;
        session.region().read(start, header.length as usize, &mut self.bytes);
        Ok(crate::entry::result(header.result))
    }

    fn room(&mut self, session: &Session, bytes: u64, descriptors: u16) -> Result<(u64, u32), CUresult> {
        loop {
            if let Some(room) = self.queue.room(bytes, descriptors) {
                return Ok(room);
            }
            self.queue.take_back().map_err(|_| session.broken())?;
            if let Some(room) = self.queue.room(bytes, descriptors) {
                return Ok(room);
            }
            // Full: sleep until a quarter of it is left for the device to do meanwhile, not for each single chain.
            let outstanding = self.queue.outstanding();
            if outstanding == 0 {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            let mostly_done = self.queue.last().0.wrapping_sub(outstanding / 4);
            self.sleep(session, Ticket(mostly_done))?;
            self.queue.take_back().map_err(|_| session.broken())?;
        }
    }

    /// Waits for the response's header. Whoever looks sees it before the chain has been returned, which can wait.
    fn wait(
        &mut self,
        session: &Session,
        pending: Pending,
        patient: bool,
    ) -> Result<ResponseHeader, CUresult> {
        let word = session.region().word64(pending.response);
        let header = || ResponseHeader::from_word(word.load(Ordering::Acquire));
        let spin = if patient { self.gpu_spin } else { self.spin };
        if let Err(wait) = spin.until(|| header().is_some()) {
            self.sleep(session, pending.ticket)?;
            if patient { &mut self.gpu_spin } else { &mut self.spin }.answered(wait);
            self.queue.take_back().map_err(|_| session.broken())?;
        }
        header().ok_or_else(|| session.broken())
    }

    /// Sleeps until the chain has been returned. A sleep that ends by its time limit although the chain is there means
    /// that a wake-up was lost; that is counted.
    fn sleep(&self, session: &Session, ticket: Ticket) -> Result<(), CUresult> {
        let limit = Duration::from_millis(WAIT_BACKSTOP_MILLISECONDS);
        loop {
            let word = self.queue.used_word();
            let seen = word.load(Ordering::Acquire);
            if !self.queue.arm(ticket) {
                return Ok(());
            }
            let start = Instant::now();
            let woken = session.wait(word, seen, limit);
            if self.queue.is_returned(ticket) {
                if woken == Woken::TimedOut && start.elapsed() >= limit {
                    session.count_backstop();
                }
                return Ok(());
            }
            if woken == Woken::Dead || session.is_refused() {
                return Err(session.died());
            }
        }
    }
}
