//! What one guest thread did before it signalled another has taken effect: before a lane executes a request, the posted
//! requests with smaller sequence numbers in other lanes have been executed.
//!
//! A lane that is stuck inside the driver is not waited for: natively, too, a blocked call does not hold up other
//! threads. (The driver stalls launches behind about a thousand pending ones, and another thread may be the one that lets
//! them go on.) Which request it is stuck in is remembered, so that it costs the wait once. A guest can write any
//! sequence number; every wait is bounded, and a wrong number only loses the order that the guest itself asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a lane may be inside one driver call before others stop waiting for it. Much longer than any call that does
/// not block, also on a machine with more threads than cores.
const STUCK: Duration = Duration::from_millis(20);

/// Longest wait for another lane that is not inside the driver, because its thread is not running yet: a host may have more
/// to do than it has processors for. What is not executed by then loses its place.
const LONGEST: Duration = Duration::from_secs(5);

/// How long a lane looks for another one before it sleeps between two looks, and how long it then does.
const LOOKING: Duration = Duration::from_millis(5);
const NAP: Duration = Duration::from_micros(100);

/// A lane's progress, on cache lines that no other lane's thread writes.
#[repr(align(128))]
struct Progress {
    /// Last sequence number that the lane has executed.
    executed: AtomicU64,
    /// Sequence number of the request that the lane holds, `u64::MAX` when it holds none.
    holds: AtomicU64,
    /// Sequence number of the request in which the lane was found to be stuck, 0 if in none.
    stuck_in: AtomicU64,
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
            stuck_in: AtomicU64::new(0),
            in_driver: Arc::new(AtomicBool::new(false)),
        };
        Self { lanes: (0..lane_count).map(|_| progress()).collect() }
    }

    /// The flag that a lane's thread sets while it is inside the driver.
    pub(super) fn in_driver(&self, lane: u32) -> Arc<AtomicBool> {
        self.lanes.get(lane as usize).map_or_else(Arc::default, |progress| Arc::clone(&progress.in_driver))
    }

    /// The lane is about to execute this request; waits for earlier ones of other lanes. `posted` are the words that say
    /// what the guest posted in each lane. False if it was interrupted: the lane is to ask again then.
    pub(super) fn begin(
        &self,
        posted: &[&AtomicU64],
        lane: u32,
        sequence: u64,
        is_interrupted: impl Fn() -> bool,
    ) -> bool {
        let Some(own) = self.lanes.get(lane as usize) else { return true };
        own.holds.store(sequence, Ordering::Release);
        // Most sessions use one lane.
        if posted.len() <= 1 && lane == 0 {
            return true;
        }
        for ((other, progress), posted) in (0_u32..).zip(&self.lanes).zip(posted) {
            // Most lanes have never been used.
            let posted = posted.load(Ordering::Acquire);
            if posted != 0 && other != lane && !progress.wait(posted, other, sequence, &is_interrupted) {
                return false;
            }
        }
        true
    }

    /// The lane has executed this request.
    pub(super) fn end(&self, lane: u32, sequence: u64) {
        let Some(own) = self.lanes.get(lane as usize) else { return };
        own.executed.store(sequence, Ordering::Release);
        own.holds.store(u64::MAX, Ordering::Release);
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

    /// Waits until what was posted before `sequence` has been executed; false if it was interrupted.
    fn wait(&self, posted: u64, lane: u32, sequence: u64, is_interrupted: impl Fn() -> bool) -> bool {
        if self.is_past(posted, sequence) {
            return true;
        }
        let start = Instant::now();
        let mut inside: Option<(u64, Instant)> = None;
        loop {
            for _ in 0..64 {
                if self.is_past(posted, sequence) {
                    return true;
                }
                std::hint::spin_loop();
            }
            if is_interrupted() {
                return false;
            }
            let now = Instant::now();
            if self.in_driver.load(Ordering::Relaxed) {
                let held = self.holds.load(Ordering::Acquire);
                if self.stuck_in.load(Ordering::Relaxed) == held {
                    return true;
                }
                let since = match inside {
                    Some((request, since)) if request == held => since,
                    _ => now,
                };
                inside = Some((held, since));
                if now.duration_since(since) > STUCK {
                    self.stuck_in.store(held, Ordering::Relaxed);
                    return true;
                }
            } else {
                inside = None;
                if now.duration_since(start) > LONGEST {
                    log::debug!("lane {lane} does not come past {sequence}");
                    return true;
                }
            }
            if now.duration_since(start) > LOOKING {
                std::thread::sleep(NAP);
            } else {
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(executed: u64, holds: u64) -> Progress {
        Progress {
            executed: AtomicU64::new(executed),
            holds: AtomicU64::new(holds),
            stuck_in: AtomicU64::new(0),
            in_driver: Arc::new(AtomicBool::new(false)),
        }
    }

    #[test]
    fn what_was_posted_before_is_waited_for() {
        assert!(!progress(9, 10).is_past(11, 12), "10 and 11 are still to be executed");
        assert!(!progress(9, u64::MAX).is_past(11, 12), "nothing is held, but 11 was posted");
        assert!(!progress(10, 11).is_past(20, 12), "11 is being executed");
    }

    #[test]
    fn a_wait_ends_with_the_request_or_an_interruption() {
        let other = progress(9, 10);
        assert!(!other.wait(11, 1, 12, || true), "10 and 11 are still to be executed");
        let begin = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(2 * LOOKING);
                other.executed.store(11, Ordering::Release);
            });
            assert!(other.wait(11, 1, 12, || false));
        });
        assert!(begin.elapsed() >= 2 * LOOKING);
    }

    #[test]
    fn what_was_posted_later_is_not_waited_for() {
        assert!(progress(11, u64::MAX).is_past(11, 12), "everything has been executed");
        assert!(progress(9, 15).is_past(20, 12), "the next one in that lane is younger");
        assert!(progress(13, 14).is_past(20, 12), "younger ones have been executed already");
        assert!(progress(0, u64::MAX).is_past(0, 1), "an unused lane");
    }
}
