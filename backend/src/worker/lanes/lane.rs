//! One lane: the host thread that is the shadow of a guest thread.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use virtio_queue::{Queue, QueueOwnedT as _, QueueT as _};
use virtio_spec::{
    cuda::CUresult,
    limits,
    requests::opcode,
    session::{LaneState as SharedLaneState, ResponseHeader, WorkerState, request_flags},
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::IntoBytes as _;

use super::{
    chain::{self, ChainError, Request},
    order::Order,
    shared::Shared,
};
use crate::worker::{
    calls::{Invocation, LaneState, Session, flushes_output, only_waits},
    notify::Notifier,
    output,
};

/// How long a lane looks at its empty ring before it sleeps. Enough to meet a guest thread that sends one request after
/// another; a sleeping lane costs the next request a wake-up.
const SPIN: Duration = Duration::from_micros(50);

/// Why a lane ended the session.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaneError {
    #[error("the ring is not usable")]
    Ring(#[source] virtio_queue::Error),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("the response cannot be written")]
    Response(#[source] vm_memory::GuestMemoryError),
}

/// What all lanes use.
pub(super) struct Common {
    pub(super) session: Session,
    pub(super) shared: Shared,
    pub(super) order: Order,
    pub(super) notifier: Arc<Notifier>,
    pub(super) stopping: AtomicBool,
    pub(super) pausing: AtomicBool,
    /// Lanes that are executing a request.
    pub(super) busy: AtomicU32,
}

impl Common {
    /// Counts the lane as busy, unless there is a pause: one of the two sees the other.
    fn enter(&self) -> bool {
        self.busy.fetch_add(1, Ordering::SeqCst);
        let entered = !self.pausing.load(Ordering::SeqCst);
        if !entered {
            self.leave();
        }
        entered
    }

    fn leave(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

pub(super) struct Lane {
    common: Arc<Common>,
    number: u32,
    queue: Queue,
    state: LaneState,
    parameters: Vec<u8>,
    results: Vec<u8>,
}

impl Lane {
    pub(super) fn new(common: Arc<Common>, number: u32) -> Result<Self, LaneError> {
        let layout = common.session.layout;
        let mut queue = Queue::new(layout.queue_size()).map_err(LaneError::Ring)?;
        let ring = |result: Result<(), virtio_queue::Error>| result.map_err(LaneError::Ring);
        ring(queue.try_set_size(layout.queue_size()))?;
        ring(queue.try_set_desc_table_address(GuestAddress(layout.descriptors(number))))?;
        ring(queue.try_set_avail_ring_address(GuestAddress(layout.available(number))))?;
        ring(queue.try_set_used_ring_address(GuestAddress(layout.used(number))))?;
        queue.set_event_idx(true);
        queue.set_ready(true);
        let state = LaneState::new(number, common.order.in_driver(number));
        Ok(Self { common, number, queue, state, parameters: Vec::new(), results: Vec::new() })
    }

    /// Serves the lane until the session ends or the lane is given back.
    pub(super) fn serve(mut self) {
        if let Err(error) = self.run() {
            log::debug!("lane {}: {error}", self.number);
            self.common.shared.set_sticky_error(CUresult::ERROR_UNKNOWN.0);
            self.common.shared.set_worker_state(WorkerState::Refused as u32);
            self.common.stopping.store(true, Ordering::Release);
            self.notify();
        }
    }

    fn run(&mut self) -> Result<(), LaneError> {
        while !self.common.stopping.load(Ordering::Acquire) {
            if self.common.pausing.load(Ordering::Acquire) {
                std::thread::park();
                continue;
            }
            if self.spin()? {
                continue;
            }
            let memory = self.common.session.memory.guest_memory();
            // `true`: something came while notifications were being asked for.
            if self.queue.enable_notification(memory).map_err(LaneError::Ring)? {
                continue;
            }
            if self.common.shared.lane_state(self.number) == SharedLaneState::Free as u32
                && self.is_empty()?
            {
                // Its guest thread has ended; whoever takes the lane next kicks.
                std::thread::park();
                continue;
            }
            let backstop = Duration::from_millis(limits::WAIT_BACKSTOP_MILLISECONDS);
            let before = Instant::now();
            std::thread::park_timeout(backstop);
            if before.elapsed() >= backstop && !self.is_empty()? {
                self.common.shared.count_backstop();
            }
        }
        Ok(())
    }

    fn is_empty(&self) -> Result<bool, LaneError> {
        let memory = self.common.session.memory.guest_memory();
        let available = self.queue.avail_idx(memory, Ordering::Acquire).map_err(LaneError::Ring)?;
        Ok(available.0 == self.queue.next_avail())
    }

    /// Executes what is there, and looks for more for a while. `true` if anything was executed.
    fn spin(&mut self) -> Result<bool, LaneError> {
        let mut any = false;
        let mut since = Instant::now();
        loop {
            if self.common.stopping.load(Ordering::Relaxed) || self.common.pausing.load(Ordering::Acquire) {
                return Ok(any);
            }
            if self.next()? {
                any = true;
                since = Instant::now();
                continue;
            }
            for _ in 0..32 {
                std::hint::spin_loop();
            }
            if since.elapsed() >= SPIN {
                return Ok(any && !self.is_empty()?);
            }
        }
    }

    /// Executes the next request, if there is one.
    fn next(&mut self) -> Result<bool, LaneError> {
        if self.is_empty()? || !self.common.enter() {
            return Ok(false);
        }
        let memory = self.common.session.memory.guest_memory();
        let chain = self.queue.iter(memory).map(|mut chains| chains.next());
        let done = match chain {
            Ok(Some(chain)) => chain::read(memory, chain, &mut self.parameters)
                .map_err(LaneError::from)
                .and_then(|request| self.execute(&request))
                .map(|()| true),
            Ok(None) => Ok(false),
            Err(error) => Err(LaneError::Ring(error)),
        };
        self.common.leave();
        done
    }

    fn execute(&mut self, request: &Request) -> Result<(), LaneError> {
        let common = Arc::clone(&self.common);
        let header = request.header;
        common.order.begin(&common.shared, self.number, header.sequence);
        self.results.clear();
        let header_bytes = size_of::<ResponseHeader>();
        let room = request.response.map_or(0, |(_, length)| length.min(limits::MAX_RESPONSE_BYTES) as usize);
        let room = room.saturating_sub(header_bytes);
        let known = header.flags & !request_flags::ALL == 0;
        let posted = header.flags & request_flags::POSTED != 0;
        let result = if known && posted == request.response.is_none() {
            let call = Invocation::new(
                &common.session,
                &mut self.state,
                header,
                &self.parameters,
                &mut self.results,
                room,
            );
            if only_waits(header.opcode) {
                // It may take as long as a kernel, and touches no guest memory: a pause need not wait for it.
                common.leave();
                let result = call.run();
                while !common.enter() {
                    std::thread::park();
                }
                result
            } else {
                call.run()
            }
        } else {
            CUresult::ERROR_INVALID_VALUE
        };
        log::trace!("lane {} call {:#06x}: {}", self.number, header.opcode, result.0);
        if flushes_output(header.opcode) || header.opcode == opcode::OUTPUT_READ {
            common.shared.set_output_waiting(output::is_waiting());
        }
        if result.is_sticky() {
            common.shared.set_sticky_error(result.0);
        } else if posted && result != CUresult::SUCCESS {
            common.shared.defer_error(self.number, result.0);
        }
        common.order.end(&common.shared, self.number, header.sequence);
        let written = self.respond(request, result)?;
        let memory = common.session.memory.guest_memory();
        self.queue.add_used(memory, request.head, written).map_err(LaneError::Ring)?;
        if self.queue.needs_notification(memory).map_err(LaneError::Ring)? {
            self.notify();
        }
        Ok(())
    }

    /// Writes the response; returns its bytes.
    fn respond(&self, request: &Request, result: CUresult) -> Result<u32, LaneError> {
        let Some((address, _)) = request.response else { return Ok(0) };
        let memory = self.common.session.memory.guest_memory();
        let length = u32::try_from(self.results.len()).unwrap_or(0);
        let header = ResponseHeader { result: result.0, length };
        memory.write_slice(header.as_bytes(), address).map_err(LaneError::Response)?;
        let header_bytes = size_of::<ResponseHeader>();
        let after = GuestAddress(address.0.saturating_add(header_bytes as u64));
        memory.write_slice(&self.results, after).map_err(LaneError::Response)?;
        Ok(length.saturating_add(u32::try_from(header_bytes).unwrap_or(0)))
    }

    fn notify(&self) {
        self.common.shared.set_pending(self.number);
        self.common.notifier.notify(self.common.session.layout.used(self.number));
    }
}
