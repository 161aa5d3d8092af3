//! One lane: the host thread that is the shadow of a guest thread.

use std::{
    hint::spin_loop,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use virtio_spec::{
    cuda::CUresult,
    limits,
    session::{LaneState as SharedLaneState, ResponseHeader, WorkerState, request_flags},
};

use super::{
    chain::{self, ChainError, Request},
    order::Order,
    queue::{Place, Queue, QueueError},
    shared::Shared,
    view::View,
};
use crate::{
    spin::{Patience, Place as SpinPlace, Spinning},
    worker::{
        calls::{Invocation, LaneState, Output, Session, only_waits, output_of},
        notify::Notifier,
        output,
    },
};

/// Looks at the ring between two readings of the clock.
const LOOKS: u32 = 32;
/// How long a lane keeps its processor while it looks; after that it gives it to whoever wants it between looks.
const ALONE: Duration = Duration::from_micros(50);

/// Why a lane ended the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum LaneError {
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("the response is outside session memory, or not at a multiple of 8")]
    Response,
}

/// Whether a lane executes a request, on cache lines of its own.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Busy(AtomicBool);

/// What all lanes use.
pub(super) struct Common {
    pub(super) session: Session,
    pub(super) shared: Shared,
    pub(super) order: Order,
    pub(super) spinning: Spinning,
    pub(super) notifier: Arc<Notifier>,
    pub(super) stopping: AtomicBool,
    pub(super) pausing: AtomicBool,
    /// Lanes that are executing a request.
    pub(super) busy: Vec<Busy>,
}

impl Common {
    /// Whether any lane executes a request.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.iter().any(|lane| lane.0.load(Ordering::SeqCst))
    }
}

/// A lane that is being served.
struct Lane<'a> {
    common: &'a Common,
    number: u32,
    busy: &'a AtomicBool,
    spin_place: SpinPlace<'a>,
    patience: Patience,
    view: View<'a>,
    queue: Queue<'a>,
    /// What the guest has posted in each lane.
    posted: Vec<&'a AtomicU64>,
    /// How many lanes the guest uses, as it says.
    lanes_used: &'a AtomicU32,
    state: LaneState,
    /// The request that is being executed.
    request: Vec<u8>,
    results: Vec<u8>,
}

/// Serves a lane until the session ends.
pub(super) fn serve(common: &Common, number: u32) {
    if let Err(error) = Lane::new(common, number).and_then(|mut lane| lane.run()) {
        log::debug!("lane {number}: {error}");
        common.shared.set_sticky_error(CUresult::ERROR_UNKNOWN.0);
        common.shared.set_worker_state(WorkerState::Refused as u32);
        common.stopping.store(true, Ordering::Release);
        notify(common, number);
    }
}

fn notify(common: &Common, lane: u32) {
    common.shared.set_pending(lane);
    common.notifier.notify(common.session.layout.used(lane));
}

impl<'a> Lane<'a> {
    fn new(common: &'a Common, number: u32) -> Result<Self, LaneError> {
        let layout = common.session.layout;
        let view = common.shared.view();
        let busy = common.busy.get(number as usize).ok_or(QueueError::Outside)?;
        Ok(Self {
            common,
            number,
            busy: &busy.0,
            spin_place: common.spinning.place(number),
            patience: common.spinning.patience(),
            view,
            queue: Queue::new(view, Place::of(&layout, number))?,
            posted: (0..layout.lane_count()).map(|lane| common.shared.posted_sequence(lane)).collect(),
            lanes_used: common.shared.lanes_used(),
            state: LaneState::new(number, common.order.in_driver(number)),
            request: Vec::new(),
            results: Vec::new(),
        })
    }

    fn run(&mut self) -> Result<(), LaneError> {
        while !self.common.stopping.load(Ordering::Acquire) {
            if self.common.pausing.load(Ordering::Acquire) {
                std::thread::park();
                continue;
            }
            let more = self.spin()?;
            let has_spun = self.spin_place.leave();
            if more {
                continue;
            }
            // `true`: something came while a kick was being asked for.
            if self.queue.ask_for_kick()? {
                continue;
            }
            if self.is_free() && self.queue.is_empty()? {
                // Its guest thread has ended; whoever takes the lane next kicks.
                std::thread::park();
                continue;
            }
            self.sleep(has_spun)?;
        }
        Ok(())
    }

    /// Sleeps until it is woken, and is then worth spinning again; by itself it wakes up only to look, and the longer
    /// nothing comes the less often.
    fn sleep(&mut self, has_spun: bool) -> Result<(), LaneError> {
        let mut backstop = Duration::from_millis(limits::WAIT_BACKSTOP_MILLISECONDS);
        let longest = Duration::from_millis(limits::IDLE_BACKSTOP_MILLISECONDS);
        loop {
            let before = Instant::now();
            std::thread::park_timeout(backstop);
            let (slept, has_come) = (before.elapsed(), !self.queue.is_empty()?);
            self.patience.slept(slept, has_spun, has_come);
            let by_itself = slept >= backstop;
            if by_itself && has_come {
                self.common.shared.count_backstop();
            }
            if !by_itself || has_come || self.is_interrupted() || self.is_free() {
                return Ok(());
            }
            backstop = backstop.saturating_mul(2).min(longest);
        }
    }

    /// Whether no guest thread uses the lane.
    fn is_free(&self) -> bool {
        self.common.shared.lane_state(self.number) == SharedLaneState::Free as u32
    }

    /// Counts the lane as busy, unless there is a pause: one of the two sees the other.
    fn enter(&self) -> bool {
        self.busy.store(true, Ordering::SeqCst);
        let entered = !self.common.pausing.load(Ordering::SeqCst);
        if !entered {
            self.leave();
        }
        entered
    }

    /// Counts the lane as busy when there is no pause any more.
    fn enter_at_last(&self) {
        while !self.enter() {
            std::thread::park();
        }
    }

    fn leave(&self) {
        self.busy.store(false, Ordering::Release);
    }

    /// Executes what is there, and looks for more for a while, if it may. `false` if nothing came for so long, `true` if it
    /// was interrupted.
    fn spin(&mut self) -> Result<bool, LaneError> {
        // Enough to meet a guest thread that sends one request after another: a sleeping lane costs the next one a wake-up.
        let looks = if self.patience.is_none() { 1 } else { LOOKS };
        let mut since = None::<Instant>;
        loop {
            for _ in 0..looks {
                if self.is_interrupted() {
                    return Ok(true);
                }
                if self.queue.is_empty()? {
                    spin_loop();
                } else {
                    self.execute_all()?;
                    if since.take().is_some() {
                        self.patience.met();
                    }
                }
            }
            match since {
                None if self.patience.time().is_zero() || !self.spin_place.take() => return Ok(false),
                None => since = Some(Instant::now()),
                Some(begin) => match begin.elapsed() {
                    spun if spun >= self.patience.time() => return Ok(false),
                    spun if spun >= ALONE => std::thread::yield_now(),
                    _ => {}
                },
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        self.common.stopping.load(Ordering::Relaxed) || self.common.pausing.load(Ordering::Acquire)
    }

    /// Executes requests as long as there are any, and no pause.
    fn execute_all(&mut self) -> Result<(), LaneError> {
        if !self.enter() {
            return Ok(());
        }
        let mut done = self.take();
        while done.is_ok() && !self.is_interrupted() && self.queue.is_empty() == Ok(false) {
            done = self.take();
        }
        self.tell();
        self.leave();
        done
    }

    /// Shows the guest what has been executed, and wakes it if it waits for that.
    fn tell(&mut self) {
        if self.queue.tell() {
            notify(self.common, self.number);
        }
    }

    fn take(&mut self) -> Result<(), LaneError> {
        let Some(chain) = self.queue.take()? else { return Ok(()) };
        let request = chain::read(self.view, chain, &mut self.request)?;
        self.queue.prefetch();
        self.execute(&request)
    }

    fn execute(&mut self, request: &Request) -> Result<(), LaneError> {
        let common = self.common;
        let header = request.header;
        let used = match self.lanes_used.load(Ordering::Relaxed) {
            0 => self.posted.len(),
            used => self.posted.len().min(used as usize),
        };
        let posted = self.posted.get(..used).unwrap_or_default();
        while !common.order.begin(posted, self.number, header.sequence, || self.is_interrupted()) {
            if common.stopping.load(Ordering::Acquire) {
                return Ok(());
            }
            // What is waited for does not go on before the pause is over.
            self.leave();
            self.enter_at_last();
        }
        let header_bytes = size_of::<ResponseHeader>();
        let room =
            request.response.map_or(0, |response| response.length.min(limits::MAX_RESPONSE_BYTES) as usize);
        let known = header.flags & !request_flags::ALL == 0;
        let posted = header.flags & request_flags::POSTED != 0;
        let result = if known && posted == request.response.is_none() {
            self.call(request, room.saturating_sub(header_bytes))
        } else {
            self.results.clear();
            CUresult::ERROR_INVALID_VALUE
        };
        log::trace!("lane {} call {:#06x}: {}", self.number, header.opcode, result.0);
        match output_of(header.opcode) {
            Output::None => {}
            flushed => common.shared.set_output_waiting(output::is_waiting(flushed == Output::All)),
        }
        if result.is_sticky() {
            common.shared.set_sticky_error(result.0);
        } else if posted && result != CUresult::SUCCESS {
            common.shared.defer_error(self.number, result.0);
        }
        common.order.end(self.number, header.sequence);
        let written = self.respond(request, result)?;
        self.queue.give_back(request.head, written);
        // One by one, each would take the used ring's cache lines back from the guest, and wait for them.
        if !posted || self.queue.untold() >= limits::MAX_RETURNED_TOGETHER {
            self.tell();
        }
        Ok(())
    }

    /// Runs the call with at most `room` bytes of results.
    fn call(&mut self, request: &Request, room: usize) -> CUresult {
        self.results.clear();
        let Self { common, state, request: bytes, results, .. } = self;
        let parameters = bytes.get(chain::HEADER..).unwrap_or_default();
        let call = Invocation::new(&common.session, state, request.header, parameters, results, room);
        if !only_waits(request.header.opcode) {
            return call.run();
        }
        // It may take as long as a kernel, and touches no guest memory: neither a pause nor another lane that would spin
        // need wait for it.
        self.spin_place.leave();
        self.busy.store(false, Ordering::Release);
        let result = call.run();
        self.enter_at_last();
        result
    }

    /// Writes the response, its header last; returns its bytes.
    fn respond(&self, request: &Request, result: CUresult) -> Result<u32, LaneError> {
        let Some(response) = request.response else { return Ok(0) };
        let length = u32::try_from(self.results.len()).unwrap_or(0);
        let header = ResponseHeader { result: result.0, length };
        let after = response.offset.saturating_add(size_of::<ResponseHeader>() as u64);
        let word = self.view.words64(response.offset, 1).and_then(<[_]>::first);
        let (Some(word), true) = (word, self.view.write(after, &self.results)) else {
            return Err(LaneError::Response);
        };
        word.store(header.word(), Ordering::Release);
        Ok(length.saturating_add(u32::try_from(size_of::<ResponseHeader>()).unwrap_or(0)))
    }
}
