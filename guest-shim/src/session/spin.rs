//! How long a thread looks for an answer before it sleeps.
//!
//! Sleeping and waking costs several microseconds on each side, so a thread first spins. The time is bounded. It halves
//! each time that the answer came later than the bound, so a thread that waits for long kernels soon sleeps at once; and
//! it is the whole bound again when an answer came within it, whether the thread was still spinning or slept by then.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Environment variable with the greatest time in microseconds; 0 never spins.
const VARIABLE: &str = "VCOMPUTE_SPIN_US";
/// Greatest time where the environment does not say otherwise, in microseconds: a few round trips.
const DEFAULT_US: u64 = 50;
/// What the environment may ask for at most, in microseconds.
const MAX_US: u64 = 10_000;
/// Looks between two readings of the clock.
const LOOKS: u32 = 32;

/// A thread's spinning, which adapts itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spin {
    most: Duration,
    now: Duration,
}

/// A wait for which spinning was too short.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unanswered {
    since: Instant,
}

impl Spin {
    fn new(most: Duration) -> Self {
        Self { most, now: most }
    }

    /// As the environment says. Where there is one processor, spinning would only keep it from the one that answers.
    pub(super) fn from_environment() -> Self {
        let asked = std::env::var(VARIABLE).ok().and_then(|text| text.trim().parse::<u64>().ok());
        // Found out once: it takes a dozen system calls, and each lane asks.
        static ALONE: LazyLock<bool> =
            LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|count| count.get() == 1));
        let alone = *ALONE;
        let default = if alone { 0 } else { DEFAULT_US };
        Self::new(Duration::from_micros(asked.unwrap_or(default).min(MAX_US)))
    }

    /// Spins until `done`, or until the time is over.
    pub(super) fn until(&self, done: impl Fn() -> bool) -> Result<(), Unanswered> {
        if done() {
            return Ok(());
        }
        let since = Instant::now();
        if self.now.is_zero() {
            return Err(Unanswered { since });
        }
        loop {
            for _ in 0..LOOKS {
                std::hint::spin_loop();
                if done() {
                    return Ok(());
                }
            }
            if since.elapsed() >= self.now {
                return Err(Unanswered { since });
            }
        }
    }

    /// The answer has come, at last.
    pub(super) fn answered(&mut self, wait: Unanswered) {
        let within = wait.since.elapsed() < self.most;
        self.now = if within { self.most } else { self.now / 2 };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn gives_up_sooner_each_time_and_recovers() {
        let mut spin = Spin::new(Duration::from_micros(64));
        for _ in 0..40 {
            let wait = spin.until(|| false).expect_err("no answer");
            std::thread::sleep(Duration::from_micros(64));
            spin.answered(wait);
        }
        assert_eq!(spin.now, Duration::ZERO, "it sleeps at once");

        spin.answered(Unanswered { since: Instant::now() });

        assert_eq!(spin.now, spin.most, "spinning would have met the answer");
        let looks = Cell::new(0);
        let soon = || {
            looks.set(looks.get() + 1);
            looks.get() > 3
        };
        assert!(spin.until(soon).is_ok());
    }

    #[test]
    fn zero_never_spins() {
        let looks = Cell::new(0);
        let mut spin = Spin::new(Duration::ZERO);
        let never = || {
            looks.set(looks.get() + 1);
            false
        };
        let wait = spin.until(never).expect_err("no answer");
        spin.answered(wait);
        assert_eq!((looks.get(), spin.now), (1, Duration::ZERO));
    }
}
