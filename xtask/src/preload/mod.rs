//! `test preload`: a Debian with systemd, sshd, cron, apt and the rest, the library preloaded into every process, in each
//! state that the device, the host and the driver can be in.
//!
//! Read [`states`] (the table), [`row`] (what a guest goes through and is asked), [`doctor`] (what
//! `vcompute-guest doctor` must say), [`boot`] (how long a start may take), [`image`] (how its disk is made).

mod boot;
mod doctor;
mod harass;
mod image;
mod login;
mod row;
mod states;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use qemu::{Places, Qemu};

use self::boot::Boot;
use self::image::Images;
use self::row::{Bench, Figures};
use self::states::{Cuda, REFERENCE, STATES, Start, State};
use crate::artifacts::Artifacts;
use crate::counts::Counts;
use crate::machine;
use crate::output::say;
use crate::prerequisites;
use crate::steps::Steps;

/// A boot that took too long is compared once more, side by side with the reference, so often.
const SECOND_LOOKS: u32 = 2;

#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// Only some states: the reference, a working GPU, no device, a device that does not answer
    #[arg(long)]
    quick: bool,
    /// Only the states whose names contain this (and the reference)
    #[arg(long)]
    state: Vec<String>,
}

impl Arguments {
    /// The part that belongs to all tests.
    pub(crate) fn quick() -> Self {
        Self { quick: true, ..Self::default() }
    }

    fn wants(&self, state: &State) -> bool {
        (!self.quick || state.quick)
            && (self.state.is_empty() || self.state.iter().any(|part| state.name.contains(part)))
    }
}

/// Makes the disks, boots one guest for each state, and prints the table.
pub(crate) fn run(places: &Places, artifacts: &Artifacts, arguments: &Arguments, steps: &mut Steps) {
    if !prerequisites::is_root() {
        steps.skip("preload", "a system's disk is made as root only: its files have owners");
        return;
    }
    let mut made = None;
    steps.step("preload: a Debian, and CUDA installed in it", || {
        made = Some((Qemu::find(places)?, Images::make(places, artifacts)?));
        Ok(Counts::one(true))
    });
    let Some((qemu, images)) = made else { return };
    let logs = machine::logs(&places.guest(), "preload");
    let bench = Bench { qemu: &qemu, images: &images, artifacts, logs: logs.clone() };

    let mut references = References::default();
    let mut table = Vec::new();
    let wanted = STATES.iter().filter(|state| arguments.wants(state));
    for state in [&REFERENCE].into_iter().chain(wanted) {
        steps.step(&format!("preload: {}", state.name), || {
            let mut figures = bench.run(state)?;
            references.judge(&bench, state, &mut figures)?;
            for failure in &figures.failures {
                log::info!("  FAILED {failure}");
            }
            let failed = u64::try_from(figures.failures.len())?;
            let counts = Counts { passed: figures.passed, failed, skipped: 0 };
            log::info!("  {}; {}", figures.cuda, figures.analyze);
            table.push((state.name, figures));
            // A run that is cut short has shown something too.
            fs::write(logs.join("table.md"), markdown(&table)?)?;
            Ok(counts)
        });
    }
    match markdown(&table) {
        Ok(text) => text.lines().for_each(|line| say(format_args!("{line}"))),
        Err(error) => say(format_args!("there is no table: {error:#}")),
    }
}

/// How the guest boots without anything of ours, for each way to start it.
#[derive(Default)]
struct References(HashMap<Start, Boot>);

impl References {
    /// Compares the boot with the reference's, which is the slower one of two: what differs between them is no state's
    /// doing.
    fn judge(&mut self, bench: &Bench<'_>, state: &State, figures: &mut Figures) -> Result<()> {
        if state.cuda == Cuda::NotInstalled {
            let second = bench.boot_only(state)?;
            log::info!("  booted twice: {}, {second}", figures.boot);
            self.0.insert(state.start, figures.boot.or_slower(second));
            return Ok(());
        }
        let bare = State { start: state.start.of_reference(), ..REFERENCE };
        let mut reference = match self.0.get(&bare.start) {
            Some(known) => *known,
            None => bench.boot_only(&bare)?.or_slower(bench.boot_only(&bare)?),
        };
        self.0.insert(bare.start, reference);
        for _ in 0..SECOND_LOOKS {
            if figures.boot.is_bearable(reference) {
                break;
            }
            log::info!("  boots again: {} against {reference}", figures.boot);
            reference = bench.boot_only(&bare)?;
            figures.boot = bench.boot_only(state)?;
        }
        let boot = figures.boot;
        figures.check(boot.is_bearable(reference), || {
            format!("the boot took {boot}, the reference's {reference}")
        });
        Ok(())
    }
}

/// The rows so far.
fn markdown(table: &[(&str, Figures)]) -> Result<String> {
    let mut text = String::from(
        "| state | boot: its own time, with waiting for the host, processor | system | failed units | CUDA | /bin/true: median, longest, processor | ld.so's complaints | shutdown |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for (name, figures) in table {
        let [median, longest, work] =
            figures.exec.map(|time| Duration::from_micros(time).as_secs_f32() * 1000.0);
        writeln!(
            text,
            "| {name} | {:.1} s, {:.1} s, {:.1} s | {} | {} | {} | {:.1} ms, {:.1} ms, {:.1} ms | {} | {:.1} s |",
            figures.boot.own.as_secs_f32(),
            figures.boot.wall.as_secs_f32(),
            figures.boot.work.as_secs_f32(),
            figures.state,
            if figures.failed_units.is_empty() { "none".to_owned() } else { figures.failed_units.join(" ") },
            figures.cuda,
            median,
            longest,
            work,
            figures.complaints,
            figures.shutdown.as_secs_f32(),
        )?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_states_differ() {
        for (number, state) in STATES.iter().enumerate() {
            assert!(STATES.iter().skip(number + 1).all(|other| other.name != state.name), "{}", state.name);
        }
    }
}
