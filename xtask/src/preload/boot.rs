//! What a start costs, told so that other work on this machine changes it little.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Beyond a tenth of the reference's: the constructor's deadline, the longest that a boot could be held by one process.
const BOUND: Duration = Duration::from_secs(1);

/// From QEMU's start until everything is started.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Boot {
    /// The time that passed.
    pub wall: Duration,
    /// The same without the time for which a virtual processor waited for one of this machine's, on average: work on it,
    /// and waiting in the guest.
    pub own: Duration,
    /// QEMU's processor time in it.
    pub work: Duration,
}

impl Boot {
    /// Of a QEMU that has just come so far.
    pub(super) fn of(process: u32, wall: Duration) -> Result<Self> {
        let (work, waited) = account(process)?;
        Ok(Self { wall, own: wall.saturating_sub(waited), work })
    }

    /// The slower of two that should be alike.
    pub(super) fn or_slower(self, other: Self) -> Self {
        if other.own > self.own { other } else { self }
    }

    /// Whether it is as slow as it may be.
    pub(super) fn is_bearable(self, reference: Self) -> bool {
        self.own <= reference.own + reference.own / 10 + BOUND
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [wall, own, work] = [self.wall, self.own, self.work].map(|time| time.as_secs_f32());
        write!(
            to,
            "{own:.1} s of its own ({wall:.1} s with waiting for this machine, {work:.1} s of processor time)"
        )
    }
}

/// The processor time that QEMU has had, and for how long a virtual processor has waited to run, on average.
fn account(process: u32) -> Result<(Duration, Duration)> {
    let (mut work, mut waiting, mut processors) = (0, 0, 0);
    for task in fs::read_dir(format!("/proc/{process}/task")).context("QEMU's threads")? {
        let task = task?.path();
        // Nanoseconds: running, waiting to run. A thread that has just ended has none.
        let Ok(stat) = fs::read_to_string(task.join("schedstat")) else { continue };
        let times: Vec<u64> = stat.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [ran, waited, ..] = times.as_slice() else { bail!("no account of QEMU's threads: {stat:?}") };
        work += ran;
        if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("CPU ")) {
            waiting += waited;
            processors += 1;
        }
    }
    Ok((Duration::from_nanos(work), Duration::from_nanos(waiting / u64::max(processors, 1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_may_take_a_tenth_and_a_deadline_longer_whatever_this_machine_does() {
        let boot = |own, wall| Boot {
            wall: Duration::from_millis(wall),
            own: Duration::from_millis(own),
            work: Duration::from_millis(own),
        };
        let reference = boot(10_000, 10_500).or_slower(boot(9_800, 30_000));

        assert!(boot(12_000, 60_000).is_bearable(reference));
        assert!(!boot(12_001, 12_001).is_bearable(reference));
    }
}
