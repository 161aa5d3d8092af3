//! `test preload`: a Debian with systemd, sshd, cron, apt and the rest, the library preloaded into every process, in each
//! state that the device, the host and the driver can be in.
//!
//! Read [`states`] (the table), [`row`] (what a guest goes through and is asked), [`image`] (how its disk is made).

mod boot;
mod harass;
mod image;
mod login;
mod row;
mod states;

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::Result;
use qemu::{Places, Qemu};

use self::boot::Boot;
use self::image::Images;
use self::row::{Bench, Figures};
use self::states::{REFERENCE, STATES, State};
use crate::artifacts::Artifacts;
use crate::counts::Counts;
use crate::machine;
use crate::output::say;
use crate::prerequisites;
use crate::steps::Steps;

/// Beyond a tenth of the reference's: what two CUDA programs that start with the system, the driver's module and, where
/// the state says so, their attempts to get through cost when every instruction is translated.
const WORK_BOUND: Duration = Duration::from_secs(4);

/// Beyond the reference's: for so long the virtual processors may have nothing to do. If each of the hundreds of processes
/// of a boot waited for something, this would not do.
const IDLE_BOUND: Duration = Duration::from_secs(5);

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

    let mut reference = None;
    let mut table = Vec::new();
    let wanted = STATES.iter().filter(|state| arguments.wants(state));
    for state in [&REFERENCE].into_iter().chain(wanted) {
        steps.step(&format!("preload: {}", state.name), || {
            let mut figures = bench.run(state)?;
            match &reference {
                None => reference = Some(figures.boot),
                Some(reference) => judge_boot(&bench, *reference, state, &mut figures)?,
            }
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

/// Compares the boot with the reference's, by what other work on this machine changes little: processor time, and the
/// time in which there was nothing to do.
fn judge_boot(bench: &Bench<'_>, reference: Boot, state: &State, figures: &mut Figures) -> Result<()> {
    let mut reference = reference;
    for _ in 0..SECOND_LOOKS {
        if is_bearable(reference, figures.boot) {
            break;
        }
        log::info!("  boots again: {} against {reference}", figures.boot);
        reference = bench.boot_only(&REFERENCE)?;
        figures.boot = bench.boot_only(state)?;
    }
    let boot = figures.boot;
    figures
        .check(is_bearable(reference, boot), || format!("the boot took {boot}, the reference's {reference}"));
    Ok(())
}

fn is_bearable(reference: Boot, boot: Boot) -> bool {
    boot.work <= reference.work + reference.work / 10 + WORK_BOUND && boot.idle <= reference.idle + IDLE_BOUND
}

/// The rows so far.
fn markdown(table: &[(&str, Figures)]) -> Result<String> {
    let mut text = String::from(
        "| state | boot: time, processor, idle | system | failed units | CUDA | /bin/true: median, longest, processor | ld.so's complaints | shutdown |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for (name, figures) in table {
        let [median, longest, work] =
            figures.exec.map(|time| Duration::from_micros(time).as_secs_f32() * 1000.0);
        writeln!(
            text,
            "| {name} | {:.1} s, {:.1} s, {:.1} s | {} | {} | {} | {:.1} ms, {:.1} ms, {:.1} ms | {} | {:.1} s |",
            figures.boot.wall.as_secs_f32(),
            figures.boot.work.as_secs_f32(),
            figures.boot.idle.as_secs_f32(),
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
    fn a_boot_may_take_a_tenth_more_work_and_no_process_of_it_may_wait() {
        let boot = |work, idle| Boot {
            wall: Duration::from_secs(60),
            work: Duration::from_secs(work),
            idle: Duration::from_secs(idle),
        };
        let reference = boot(20, 4);

        assert!(is_bearable(reference, boot(26, 9)));
        assert!(!is_bearable(reference, boot(27, 4)));
        assert!(!is_bearable(reference, boot(20, 10)));
    }

    #[test]
    fn names_of_states_differ() {
        for (number, state) in STATES.iter().enumerate() {
            assert!(STATES.iter().skip(number + 1).all(|other| other.name != state.name), "{}", state.name);
        }
    }
}
