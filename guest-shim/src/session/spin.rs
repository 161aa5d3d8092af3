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
/// Longest time of all, in microseconds: a sleep of that length costs 0.4 % more than looking, where a virtual processor
/// takes 200 µs to be back.
const LONGEST_US: u64 = 50_000;
/// How much longer a thread looks where processors are to spare: a virtual processor that has slept takes up to 50 µs to be
/// back, and so may the device's; an answer that comes after both must not look as if it had been long in coming. An
/// allocation of 16 MiB takes the driver 60 µs.
const FOR_ANSWERS: u32 = 10;
/// The same for a thread that waits for the GPU. CUDA's own waiting looks for as long as it takes, unless the context asks
/// for something else; 60 training steps of a small model, as graphs, take 25 ms.
const FOR_THE_GPU: u32 = 1000;
/// Processors from which there are some to spare.
const PROCESSORS: usize = 4;
/// Looks between two readings of the clock.
const LOOKS: u32 = 32;
/// How long a thread keeps its processor while it looks. After that it gives it to whoever wants it between looks: where all
/// processors are taken, that may be the one that answers.
const ALONE: Duration = Duration::from_micros(DEFAULT_US);

/// A thread's spinning, which adapts itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spin {
    most: Duration,
    now: Duration,
}

/// A wait for which spinning was too short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered {
    since: Instant,
}

/// What the environment asks for, in microseconds.
fn asked() -> Option<u64> {
    std::env::var(VARIABLE).ok().and_then(|text| text.trim().parse::<u64>().ok())
}

/// Processors that the process may use. Found out once: it takes a dozen system calls, and each lane asks.
fn processors() -> usize {
    static COUNT: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    *COUNT
}

/// Whether the process may use so many processors that a thread of its own may take one beside the program's.
pub(crate) fn has_processors_to_spare() -> bool {
    processors() >= PROCESSORS
}

impl Spin {
    fn new(most: Duration) -> Self {
        Self { most, now: most }
    }

    /// For what the device answers at once, and for what waits for the GPU, as the environment says.
    pub(super) fn from_environment() -> (Self, Self) {
        Self::pair(asked(), processors())
    }

    /// For so long, or not at all if the environment asks that nobody spins.
    pub(crate) fn of(time: Duration) -> Self {
        static FORBIDDEN: LazyLock<bool> = LazyLock::new(|| asked() == Some(0));
        Self::new(if *FORBIDDEN { Duration::ZERO } else { time })
    }

    /// Where there is one processor, spinning would only keep it from the one that answers.
    fn pair(asked: Option<u64>, processors: usize) -> (Self, Self) {
        let default = if processors == 1 { 0 } else { DEFAULT_US };
        let most = Duration::from_micros(asked.unwrap_or(default).min(MAX_US));
        let longer = |times| if processors < PROCESSORS { most } else { most * times };
        let bounded = |time: Duration| Self::new(time.min(Duration::from_micros(LONGEST_US)));
        (bounded(longer(FOR_ANSWERS)), bounded(longer(FOR_THE_GPU)))
    }

    /// Spins until `done`, or until the time is over.
    pub(crate) fn until(&self, done: impl Fn() -> bool) -> Result<(), Unanswered> {
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
            let spun = since.elapsed();
            if spun >= self.now {
                return Err(Unanswered { since });
            }
            if spun >= ALONE {
                std::thread::yield_now();
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
    fn looks_longer_where_processors_are_to_spare() {
        let most = |asked, processors| {
            let (answers, gpu) = Spin::pair(asked, processors);
            (answers.most.as_micros(), gpu.most.as_micros())
        };
        assert_eq!(most(None, 1), (0, 0));
        assert_eq!(most(None, 2), (50, 50));
        assert_eq!(most(None, 16), (500, 50_000));
        assert_eq!(most(Some(10), 16), (100, 10_000));
        assert_eq!(most(Some(0), 16), (0, 0));
        assert_eq!(most(Some(20_000), 16), (50_000, 50_000));
        assert_eq!(most(Some(20_000), 2), (10_000, 10_000));
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
