//! What one guest thread did before it signalled another has taken effect: before a lane executes a request, the posted
//! requests with smaller sequence numbers in other lanes have been executed.
//!
//! A lane that is stuck inside the driver is not waited for: natively, too, a blocked call does not hold up other
//! threads. A guest can write any sequence number; the wait is bounded, and a wrong number only loses the order
//! that the guest itself asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::shared::Shared;

/// How long a lane may be inside one driver call before others stop waiting for it.
const STUCK: Duration = Duration::from_micros(50);

/// Longest wait for another lane that is not inside the driver, e.g. because its thread has not been started yet.
const LONGEST: Duration = Duration::from_millis(2);

struct Progress {
    /// Last sequence number that the lane has executed.
    executed: AtomicU64,
    /// Sequence number of the request that the lane holds, `u64::MAX` when it holds none.
    holds: AtomicU64,
    in_driver: Arc<AtomicBool>,
}

/// How far every lane of a session has come.
pub(super) struct Order {
    lanes: Vec<Progress>,
}

impl Order {
    pub(super) fn new(lane_count: u32) -> Self {
        let progress = || Progress {
            executed: AtomicU64::new(0),
            holds: AtomicU64::new(u64::MAX),
            in_driver: Arc::new(AtomicBool::new(false)),
        };
        Self { lanes: (0..lane_count).map(|_| progress()).collect() }
    }

    /// The flag that a lane's thread sets while it is inside the driver.
    pub(super) fn in_driver(&self, lane: u32) -> Arc<AtomicBool> {
        self.lanes.get(lane as usize).map_or_else(Arc::default, |progress| Arc::clone(&progress.in_driver))
    }

    /// The lane is about to execute this request; waits for earlier ones of other lanes.
    pub(super) fn begin(&self, shared: &Shared, lane: u32, sequence: u64) {
        let Some(own) = self.lanes.get(lane as usize) else { return };
        own.holds.store(sequence, Ordering::Release);
        for (other, progress) in (0_u32..).zip(&self.lanes) {
            if other != lane {
                progress.wait(shared, other, sequence);
            }
        }
    }

    /// The lane has executed this request.
    pub(super) fn end(&self, shared: &Shared, lane: u32, sequence: u64) {
        let Some(own) = self.lanes.get(lane as usize) else { return };
        own.executed.store(sequence, Ordering::Release);
        own.holds.store(u64::MAX, Ordering::Release);
        shared.set_executed_sequence(lane, sequence);
    }
}

impl Progress {
    /// Whether nothing that was posted before `sequence` is still to be executed in this lane.
    fn is_past(&self, posted: u64, sequence: u64) -> bool {
        let executed = self.executed.load(Ordering::Acquire);
        if executed >= posted || executed >= sequence {
            return true;
        }
        let holds = self.holds.load(Ordering::Acquire);
        holds > sequence && holds != u64::MAX
    }

    fn wait(&self, shared: &Shared, lane: u32, sequence: u64) {
        let posted = shared.posted_sequence(lane);
        if self.is_past(posted, sequence) {
            return;
        }
        let start = Instant::now();
        let mut inside_since = None;
        loop {
            for _ in 0..64 {
                if self.is_past(posted, sequence) {
                    return;
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            if self.in_driver.load(Ordering::Relaxed) {
                let since = *inside_since.get_or_insert(now);
                if now.duration_since(since) > STUCK {
                    return;
                }
            } else {
                inside_since = None;
                if now.duration_since(start) > LONGEST {
                    log::debug!("lane {lane} does not come past {sequence}");
                    return;
                }
            }
            std::thread::yield_now();
        }
    }
}
