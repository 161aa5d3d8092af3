//! The session's lanes: virtqueues in session memory, each served by a host thread of its own.
//!
//! Read in this order:
//! 1. this file: starting, kicking, pausing;
//! 2. `lane`: the loop of one lane's thread;
//! 3. `queue`: its virtqueue; `chain`: how a request is taken out of shared memory;
//! 4. `order`: what one lane waits for in others;
//! 5. `shared`: the words that both sides use at once; `view`: how session memory is reached.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub(crate) mod chain;
mod lane;
mod order;
pub(crate) mod queue;
mod shared;
pub(crate) mod view;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, Thread},
    time::Duration,
};

use virtio_spec::{
    device, session,
    session::{LaneState, Layout, LayoutError, SessionHeader, WorkerState},
};
use vm_memory::{Bytes as _, GuestAddress};
use zerocopy::FromBytes as _;

use self::{
    lane::{Busy, Common},
    order::Order,
    shared::Shared,
};
use super::{
    calls::Session,
    driver::Driver,
    memory::{Regions, SessionMemory},
    notify::Notifier,
};
use crate::spin::Spinning;

/// Why the lanes could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LanesError {
    /// The header cannot be read.
    #[error("session memory is too short for its header")]
    Short,
    /// Magic number or version.
    #[error("the header's magic number or version is not that of this protocol")]
    Header,
    /// The sizes.
    #[error("the header's sizes make no session memory: {0:?}")]
    Layout(LayoutError),
    /// The sizes do not fit the memory.
    #[error("the header's sizes need {needed} bytes, session memory has {present}")]
    Length {
        /// What the sizes need.
        needed: u64,
        /// What there is.
        present: u64,
    },
}

/// Stack of a lane's thread: the driver's JIT compiler recurses deeply, and natively it runs on a program's main thread,
/// which has 8 MiB. Only what is touched takes memory.
const STACK: usize = 16 << 20;

/// The lanes of one session.
pub(crate) struct Lanes {
    common: Arc<Common>,
    threads: Mutex<Vec<Option<JoinHandle<()>>>>,
}

impl Lanes {
    /// Reads the header, once, and is then ready for kicks.
    ///
    /// # Errors
    /// The header is not one of this protocol, or does not fit the memory.
    pub(crate) fn start(
        memory: Arc<SessionMemory>,
        regions: Arc<Regions>,
        notifier: Arc<Notifier>,
        driver: Arc<Driver>,
        spinning: Spinning,
    ) -> Result<Self, LanesError> {
        let mut bytes = [0; size_of::<SessionHeader>()];
        memory.guest_memory().read_slice(&mut bytes, GuestAddress(0)).map_err(|_| LanesError::Short)?;
        let header = SessionHeader::read_from_bytes(&bytes).map_err(|_| LanesError::Short)?;
        if header.magic != session::MAGIC || header.version != device::PROTOCOL_VERSION {
            return Err(LanesError::Header);
        }
        let layout = Layout::from_header(&header).map_err(LanesError::Layout)?;
        let present = memory.len() as u64;
        if layout.total_bytes() > present {
            return Err(LanesError::Length { needed: layout.total_bytes(), present });
        }
        let shared = Shared::new(Arc::clone(&memory), layout);
        shared.set_worker_state(WorkerState::Serving as u32);
        let common = Common {
            session: Session::new(memory, layout, regions, driver),
            shared,
            order: Order::new(layout.lane_count()),
            spinning,
            notifier,
            stopping: AtomicBool::new(false),
            pausing: AtomicBool::new(false),
            busy: (0..layout.lane_count()).map(|_| Busy::default()).collect(),
        };
        let threads = (0..layout.lane_count()).map(|_| None).collect();
        Ok(Self { common: Arc::new(common), threads: Mutex::new(threads) })
    }

    /// The guest has kicked: lanes that were opened get their thread, sleeping ones with something in their rings wake up. The
    /// guest's thread may have ended since, and its lane be free again: what it has posted is executed all the same.
    pub(crate) fn kick(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, thread) in (0_u32..).zip(threads.iter_mut()) {
            let shared = &self.common.shared;
            if let Some(running) = thread.as_ref().filter(|thread| !thread.is_finished()) {
                if shared.is_kicked(number) {
                    running.thread().unpark();
                }
            } else if shared.lane_state(number) == LaneState::Open as u32 || shared.is_kicked(number) {
                *thread = self.start_lane(number);
            }
        }
    }

    fn start_lane(&self, number: u32) -> Option<JoinHandle<()>> {
        if self.common.stopping.load(Ordering::Acquire) {
            return None;
        }
        let common = Arc::clone(&self.common);
        let name = format!("lane-{number}");
        let thread = std::thread::Builder::new().name(name).stack_size(STACK);
        match thread.spawn(move || lane::serve(&common, number)) {
            Ok(thread) => Some(thread),
            Err(error) => {
                log::warn!("lane {number} has no thread: {error}");
                None
            }
        }
    }

    fn unpark_all(&self) {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.iter().flatten().map(JoinHandle::thread).for_each(Thread::unpark);
    }

    /// Returns when no lane executes anything and nothing on the GPU can write to the guest's memory; from then on no
    /// lane begins anything, until [`Lanes::resume`]. The supervisor bounds how long this may last.
    pub(crate) fn pause(&self) {
        self.common.pausing.store(true, Ordering::SeqCst);
        while self.common.is_busy() {
            // A request may be waiting for the GPU.
            std::thread::park_timeout(Duration::from_micros(200));
        }
        self.common.session.quiesce();
    }

    /// Goes on.
    pub(crate) fn resume(&self) {
        self.common.pausing.store(false, Ordering::SeqCst);
        self.unpark_all();
    }

    /// Ends the lanes' threads when they have executed what they hold.
    pub(crate) fn stop(&self) {
        self.common.stopping.store(true, Ordering::SeqCst);
        super::host_calls::close();
        self.unpark_all();
    }
}
