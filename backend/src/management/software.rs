//! Numbers for devices that NVML does not know: what their workers take of the host instead.
//!
//! A software GPU's memory is its workers' own, and its time their processors'.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// Between the two looks that a first answer takes.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// What a worker takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// Bytes of its own memory.
    pub(super) memory: u64,
    /// Percent of one processor, at most 100, since the last look.
    pub(super) percent: u32,
}

/// What was seen at the last look.
#[derive(Default)]
pub(super) struct Looks {
    time: Option<Instant>,
    /// Ticks by process.
    ticks: HashMap<u32, u64>,
}

impl Looks {
    /// Looks at processes, of which some may be gone.
    pub(super) fn look(&mut self, processes: &[u32]) -> HashMap<u32, Use> {
        if self.time.is_none() {
            self.remember(processes);
            std::thread::sleep(FIRST_LOOK);
        }
        let passed = self.time.map_or(Duration::ZERO, |time| time.elapsed());
        let before = std::mem::take(&mut self.ticks);
        self.remember(processes);
        let per_second = rustix::param::clock_ticks_per_second();
        let uses = processes.iter().filter_map(|process| {
            let ticks = self.ticks.get(process)?;
            let spent = ticks.saturating_sub(*before.get(process).unwrap_or(ticks));
            let percent = percent(spent, per_second, passed);
            Some((*process, Use { memory: memory(*process)?, percent }))
        });
        uses.collect()
    }

    fn remember(&mut self, processes: &[u32]) {
        self.time = Some(Instant::now());
        self.ticks = processes.iter().filter_map(|process| Some((*process, ticks(*process)?))).collect();
    }
}

/// Ticks of processor time as a part of the time that has passed.
fn percent(ticks: u64, per_second: u64, passed: Duration) -> u32 {
    let spent = u128::from(ticks).saturating_mul(100_000).checked_div(u128::from(per_second)).unwrap_or(0);
    let percent = spent.checked_div(passed.as_millis()).unwrap_or(0).min(100);
    u32::try_from(percent).unwrap_or(100)
}

/// Ticks that a process has run.
fn ticks(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, numbers) = text.rsplit_once(')')?;
    let mut numbers = numbers.split_ascii_whitespace().skip(11);
    let (user, system) = (numbers.next()?.parse::<u64>().ok()?, numbers.next()?.parse::<u64>().ok()?);
    Some(user.saturating_add(system))
}

/// Bytes of a process's own memory.
fn memory(process: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    Some(kilobytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_takes_memory_and_time() {
        let own = std::process::id();
        let uses = Looks::default().look(&[own, u32::MAX]);
        assert_eq!(uses.len(), 1, "a process that is gone takes nothing");
        assert!(uses.get(&own).is_some_and(|use_| use_.memory > 0 && use_.percent <= 100));
    }

    #[test]
    fn percent_is_of_the_time_that_has_passed() {
        assert_eq!(percent(50, 100, Duration::from_secs(1)), 50);
        assert_eq!(percent(500, 100, Duration::from_secs(1)), 100);
        assert_eq!(percent(5, 100, Duration::ZERO), 0);
    }
}
