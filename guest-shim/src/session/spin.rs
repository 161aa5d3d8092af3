//! How long a thread looks for an answer before it sleeps.
//!
//! Sleeping and waking costs several microseconds on each side, so a thread first spins. The time is bounded, and halves
//! each time that it was for nothing, so a thread that waits for long kernels soon sleeps at once.

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

    /// Spins until `done`; false if it was not within the time.
    pub(super) fn until(&mut self, done: impl Fn() -> bool) -> bool {
        if done() {
            return true;
        }
        if self.most.is_zero() {
            return false;
        }
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                std::hint::spin_loop();
                if done() {
                    self.now = (self.now * 2).min(self.most);
                    return true;
                }
            }
            if start.elapsed() >= self.now {
                self.now = (self.now / 2).max(Duration::from_micros(1));
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn gives_up_sooner_each_time_and_recovers() {
        let mut spin = Spin::new(Duration::from_micros(64));
        for _ in 0..10 {
            assert!(!spin.until(|| false));
        }
        assert_eq!(spin.now, Duration::from_micros(1));
        let looks = Cell::new(0);
        let soon = || {
            looks.set(looks.get() + 1);
            looks.get() > 3
        };
        assert!(spin.until(soon));
        assert_eq!(spin.now, Duration::from_micros(2));
    }

    #[test]
    fn zero_never_spins() {
        let looks = Cell::new(0);
        let mut spin = Spin::new(Duration::ZERO);
        assert!(!spin.until(|| {
            looks.set(looks.get() + 1);
            false
        }));
        assert_eq!(looks.get(), 1);
    }
}
