//! What a start costs, told so that other work on this machine changes it little.

use std::fmt;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// From QEMU's start until everything is started.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Boot {
    /// The time that passed.
    pub wall: Duration,
    /// QEMU's processor time in it.
    pub work: Duration,
    /// How long a virtual processor had nothing to do, on average. Other work on this machine makes a start longer, and
    /// this is what it would have waited all the same.
    pub idle: Duration,
}

impl Boot {
    /// Of a QEMU that has just come so far.
    pub(super) fn of(process: u32, wall: Duration) -> Result<Self> {
        let (work, busy) = account(process)?;
        Ok(Self { wall, work, idle: wall.saturating_sub(busy) })
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:.1} s and {:.1} s of processor time", self.wall.as_secs_f32(), self.work.as_secs_f32())
    }
}

/// The processor time that QEMU has had, and for how long a virtual processor has run or waited to run, on average.
fn account(process: u32) -> Result<(Duration, Duration)> {
    let (mut work, mut busy, mut processors) = (0, 0, 0);
    for task in fs::read_dir(format!("/proc/{process}/task")).context("QEMU's threads")? {
        let task = task?.path();
        // Nanoseconds: running, waiting to run. A thread that has just ended has none.
        let Ok(stat) = fs::read_to_string(task.join("schedstat")) else { continue };
        let times: Vec<u64> = stat.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [ran, waited, ..] = times.as_slice() else { bail!("no account of QEMU's threads: {stat:?}") };
        work += ran;
        if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("CPU ")) {
            busy += ran + waited;
            processors += 1;
        }
    }
    Ok((Duration::from_nanos(work), Duration::from_nanos(busy / u64::max(processors, 1))))
}
