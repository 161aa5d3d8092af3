//! What a session that does nothing takes: its worker's memory, and processors.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Run;
use super::paired::{Results, Side};
use super::sides::{Sides, Warm};
use crate::process::{family_processor_time, private_memory};
use crate::series::{Series, Unit};

pub(super) const WHAT: &str = "private memory of a worker and of the same program natively; processor time of the backend and of that program while nothing is done";

const MOST_ROUNDS: usize = 3;

pub(super) fn measure(run: &mut Run<'_>, sides: &Sides) -> Result<()> {
    let arguments = run.arguments;
    let alone = Sides::start(arguments, Warm { workers: 0, contexts: 0 })?;
    // For how long the idle backend is watched.
    let watched = Duration::from_secs(if arguments.effort().quick { 2 } else { 5 });
    for _ in 0..arguments.rounds.min(MOST_ROUNDS) {
        let results = &mut run.results;
        // The driver in a worker compiles for itself: its cache would join the machines that share it.
        let mut native = sides.client_with(Side::Native, &[("CUDA_CACHE_DISABLE", "1")])?;
        native.started()?;
        let memory = private_memory(native.process_id())?;
        results.add(Side::Native, Series::new("footprint/memory", Unit::Bytes, vec![memory]));
        // The driver has a thread that wakes up now and then, in the program natively and in the worker here.
        add_idle(results, Side::Native, native.process_id(), watched)?;
        native.end()?;

        // Clients of earlier sessions are gone.
        alone.wait_until_quiet()?;
        let before = backend_process::descendants(alone.supervisor())?;
        let mut remoted = alone.client(Side::Remoted)?;
        remoted.started()?;
        let after = backend_process::descendants(alone.supervisor())?;
        let workers: Vec<_> = after.difference(&before).copied().collect();
        ensure!(workers.len() == 1, "{} workers were started for one session", workers.len());
        let memory = private_memory(*workers.first().context("the worker")?)
            .context("the worker's memory (as root, it can be read)")?;
        results.add(Side::Remoted, Series::new("footprint/memory", Unit::Bytes, vec![memory]));
        remoted.end()?;

        // With what is ready for the next session.
        let mut remoted = sides.client(Side::Remoted)?;
        remoted.started()?;
        sides.wait_until_quiet()?;
        add_idle(results, Side::Remoted, sides.supervisor(), watched)?;
        remoted.end()?;
        run.end_round()?;
    }
    Ok(())
}

/// Measures how long a process and those that it has started are on processors.
fn add_idle(results: &mut Results, side: Side, process: u32, watched: Duration) -> Result<()> {
    let before = family_processor_time(process)?;
    std::thread::sleep(watched);
    let share = (family_processor_time(process)? - before) / watched.as_secs_f64();
    results.add(side, Series::new("footprint/idle-processor", Unit::Processor, vec![share]));
    Ok(())
}
