//! From the start of a process to the end of its first kernel: cold, with warm workers, and with warm contexts.

use std::time::Duration;

use anyhow::{Context, Result};

use super::Run;
use super::paired::Side;
use super::sides::{self, Sides, Warm};
use crate::process::monotonic;
use crate::series::{Series, Unit};
use crate::solo::Started;

pub(super) const WHAT: &str =
    "from the start of a process until its first kernel is done: cuInit, context, PTX module, launch";

/// Starts of each kind in a round.
const STARTS: usize = 3;
/// The pause in which the backend renews nothing, and what it may take to begin with it.
const RENEWAL: Duration = Duration::from_millis(400);

pub(super) fn measure(run: &mut Run<'_>, _: &Sides) -> Result<()> {
    let arguments = run.arguments;
    let cold = &Sides::start(arguments, Warm { workers: 0, contexts: 0 })?;
    let warm = [
        ("start-up/warm", Sides::start(arguments, Warm { workers: arguments.warm, contexts: 0 })?),
        (
            "start-up/warm-context",
            Sides::start(arguments, Warm { workers: 0, contexts: arguments.warm_contexts })?,
        ),
    ];
    for round in 0..arguments.rounds {
        for _ in 0..STARTS {
            for side in super::order(round) {
                // The worker before takes a while to leave the GPU.
                cold.wait_until_quiet()?;
                let nanoseconds = start(cold, side)?;
                run.results.add(side, series("start-up/cold", nanoseconds));
                // The native process has nothing that could be warm: all kinds are compared with the same.
                if side == Side::Native {
                    for (name, _) in &warm {
                        run.results.add(side, series(name, nanoseconds));
                    }
                }
            }
            std::thread::sleep(RENEWAL);
            for (name, warm) in &warm {
                warm.wait_until_quiet()?;
                run.results.add(Side::Remoted, series(name, start(warm, Side::Remoted)?));
            }
        }
        run.end_round()?;
    }
    Ok(())
}

fn series(name: &str, nanoseconds: f64) -> Series {
    Series::new(name, Unit::Nanoseconds, vec![nanoseconds])
}

/// Nanoseconds of one start.
fn start(sides: &Sides, side: Side) -> Result<f64> {
    let command = sides.command(side, "solo");
    let begin = monotonic();
    let output = sides::lines(command)?;
    let started: Started = serde_json::from_str(output.trim()).context("when the first kernel was done")?;
    Ok(started.done.saturating_sub(begin) as f64)
}
