//! Programs of their own (`tests/bench/macro`), natively and through the device, side by side.
//!
//! Both sides of a program live at once and work in turn: a round is an order to each, so a start, which for PyTorch takes
//! many seconds, is paid once for several rounds. Each side is started several times all the same, since processes
//! differ. What the two sides computed is compared in each round, and a round of which it differs hands on nothing.

mod checks;
mod process;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::paired::Side;
use super::sides::{Sides, Warm};
use super::{Arguments, Run, order};
use crate::cases::is_wanted;
use crate::process::{family_processor_time, monotonic};
use crate::series::{Series, Unit};
use process::{Done, Order, Process, Program, Said};

/// A round of a whole start takes long and varies little.
const MOST_STARTS: usize = 6;

/// How long all programs may take together, unless told otherwise.
const SECONDS: u64 = 420;
const QUICK_SECONDS: u64 = 150;
/// Starts of each side, unless told otherwise.
const STARTS: usize = 3;
/// Timed repetitions of a part in a round.
const REPETITIONS: usize = 3;

/// Measures all programs of a folder that are asked for.
pub(super) fn measure(run: &mut Run<'_>, sides: &Sides, folder: &Path) -> Result<()> {
    let arguments = run.arguments;
    let mut programs = process::find(folder, &arguments.python)?;
    for program in &mut programs {
        program.parts.retain(|part| is_wanted(&part.name, &arguments.case));
    }
    programs.retain(|program| !program.parts.is_empty());
    ensure!(!programs.is_empty(), "no program in {} has such a part", folder.display());

    let seconds = arguments.seconds.unwrap_or(if arguments.quick { QUICK_SECONDS } else { SECONDS });
    let end = Instant::now() + Duration::from_secs(seconds);
    let starts =
        arguments.starts.unwrap_or(if arguments.quick { 1 } else { STARTS }).clamp(1, arguments.rounds);
    for start in 0..starts {
        let mut broken = Vec::new();
        let rounds = start * arguments.rounds / starts..(start + 1) * arguments.rounds / starts;
        for index in 0..programs.len() {
            let now = Instant::now();
            if start > 0 && now >= end {
                return Ok(());
            }
            // What is left is shared out evenly; what one does not need is there for the others.
            let slots = (starts - start) * programs.len() - index;
            let share = end.saturating_duration_since(now) / u32::try_from(slots)?;
            let Some(program) = programs.get(index) else { break };
            let mut slot = Slot { sides, run: &mut *run, program, deadline: now + share };
            let outcome =
                if program.is_start { slot.starts(rounds.clone()) } else { slot.rounds(rounds.clone()) };
            if let Err(error) = outcome {
                run.results.fail(format!("{}: {error:#}", program.name));
                run.results.end_round();
                broken.push(program.name.clone());
            }
            run.say(&format!("{}: start {} of {starts}", program.name, start + 1));
            run.write()?;
            sides.keep_log(&arguments.out.join("programs"))?;
        }
        // What cannot run here is not tried again, nor what crashed or hung: it would take the others' time.
        programs.retain(|program| !run.results.is_skipped(&program.name) && !broken.contains(&program.name));
    }
    Ok(())
}

/// One program, for as long as its share of the time goes.
struct Slot<'a, 'b> {
    sides: &'a Sides,
    run: &'a mut Run<'b>,
    program: &'a Program,
    deadline: Instant,
}

/// What one side did of an order.
struct Answered {
    done: Done,
    /// Seconds of processors of the backend meanwhile.
    workers: f64,
}

impl Slot<'_, '_> {
    /// Rounds of parts that take orders.
    fn rounds(&mut self, rounds: std::ops::Range<usize>) -> Result<()> {
        // Both at once: starting is not what is measured.
        let mut native = self.start(Side::Native)?;
        let mut remoted = self.start(Side::Remoted)?;
        let Some(about) = self.ready(&mut native, &mut remoted)? else { return Ok(()) };
        let mut parts: Vec<_> = self.program.parts.iter().collect();
        let first = rounds.start;
        for round in rounds {
            if round > first && Instant::now() >= self.deadline {
                break;
            }
            let mut failed = Vec::new();
            for part in &parts {
                let mut answers = Vec::new();
                for side in order(round) {
                    let process = if side == Side::Native { &mut native } else { &mut remoted };
                    match self.order(process, &part.name)? {
                        Ok(answered) => answers.push((side, answered)),
                        Err(failure) => {
                            self.run.results.fail(format!("{}: {side}: {failure}", part.name));
                            failed.push(part.name.clone());
                            break;
                        }
                    }
                }
                if answers.len() == 2 {
                    self.take(&part.name, &part.what, &about, answers);
                }
            }
            parts.retain(|part| !failed.contains(&part.name));
            self.run.results.end_round();
        }
        native.end()?;
        remoted.end()
    }

    /// Rounds of a program of which the start itself is measured: natively, through a backend as it is without a
    /// configuration, and through one with warm contexts.
    fn starts(&mut self, rounds: std::ops::Range<usize>) -> Result<()> {
        let part = self.program.parts.first().context("a part")?;
        let arguments: &Arguments = self.run.arguments;
        let warm = Sides::start(arguments, Warm { workers: 0, contexts: arguments.warm_contexts })?;
        let first = rounds.start;
        for round in rounds.take_while(|round| *round < MOST_STARTS) {
            if round > first && Instant::now() >= self.deadline {
                break;
            }
            let mut answers = Vec::new();
            for side in order(round) {
                let Some(answered) = self.one_start(self.sides, side)? else { return Ok(()) };
                answers.push((side, answered));
            }
            let Some(other) = self.one_start(&warm, Side::Remoted)? else { return Ok(()) };
            // The native process has nothing that could be warm: both kinds are compared with the same.
            let (_, native) = answers.iter().find(|(side, _)| *side == Side::Native).context("both sides")?;
            let about = native.done.about.clone().unwrap_or_default();
            let again = Answered { done: native.done.clone(), workers: 0.0 };
            self.take(&part.name, &part.what, &about, answers);
            let name = format!("{}/warm", part.name);
            let what = format!("{}; a backend with warm contexts", part.what);
            self.take(&name, &what, &about, vec![(Side::Native, again), (Side::Remoted, other)]);
            self.run.results.end_round();
        }
        Ok(())
    }

    /// Nanoseconds from the start of a process to its answer; `None` if it cannot run here.
    fn one_start(&mut self, sides: &Sides, side: Side) -> Result<Option<Answered>> {
        sides.wait_until_quiet()?;
        let before = family_processor_time(sides.supervisor())?;
        let begin = monotonic();
        let mut process = Process::start(sides, side, self.program, self.run.arguments)?;
        let said = process.answer()?;
        let took = monotonic().saturating_sub(begin) as f64;
        let workers =
            if side == Side::Remoted { family_processor_time(sides.supervisor())? - before } else { 0.0 };
        match said {
            Said::Done(mut done) => {
                process.check_library(side)?;
                process.end()?;
                done.series.samples = vec![took];
                Ok(Some(Answered { done, workers }))
            }
            Said::Skip(reason) if side == Side::Native => {
                self.run.results.skip(&self.program.name, reason);
                process.end()?;
                Ok(None)
            }
            said => bail!("{side}: {}", process.complaint(&format!("it said {said:?}"))),
        }
    }

    fn start(&self, side: Side) -> Result<Process> {
        Process::start(self.sides, side, self.program, self.run.arguments)
    }

    /// Waits until both sides have what they need; what that is. `None` if they cannot run here.
    fn ready(&mut self, native: &mut Process, remoted: &mut Process) -> Result<Option<String>> {
        let about = match native.answer().context("native")? {
            Said::Ready(about) => about,
            Said::Skip(reason) => {
                self.run.results.skip(&self.program.name, reason);
                return Ok(None);
            }
            said => bail!("native: {}", native.complaint(&format!("it said {said:?}"))),
        };
        match remoted.answer().context("remoted")? {
            Said::Ready(same) if same == about => Ok(Some(about)),
            said => bail!(
                "remoted: {}",
                remoted.complaint(&format!("natively it is {about:?}, and here {said:?}"))
            ),
        }
    }

    /// One side's round of a part. The inner error is the part's own; after an outer one there is no process.
    fn order(&self, process: &mut Process, part: &str) -> Result<Result<Answered, String>> {
        let arguments = self.run.arguments;
        let side = process.side;
        let repetitions = if arguments.quick { 1 } else { REPETITIONS };
        let before = family_processor_time(self.sides.supervisor())?;
        let said = process.tell(&Order { part, repetitions }).and_then(|()| process.answer());
        let said = said.with_context(|| format!("{part}: {side}"))?;
        let workers = (family_processor_time(self.sides.supervisor())? - before).max(0.0);
        match said {
            Said::Done(done) => {
                process.check_library(side)?;
                let workers = if side == Side::Remoted { workers } else { 0.0 };
                Ok(Ok(Answered { done, workers }))
            }
            Said::Failure(failure) => Ok(Err(process.complaint(&failure))),
            said => bail!("{part}: {side}: it said {said:?}"),
        }
    }

    /// Compares what both sides computed, and only then hands on what they measured.
    fn take(&mut self, part: &str, what: &str, about: &str, answers: Vec<(Side, Answered)>) {
        let of = |side| answers.iter().find(|(of, _)| *of == side).map(|(_, answered)| &answered.done);
        let (Some(native), Some(remoted)) = (of(Side::Native), of(Side::Remoted)) else { return };
        let is_equal = match checks::compare(native, remoted) {
            Ok(is_equal) => is_equal,
            Err(difference) => return self.run.results.fail(format!("{part}: {difference}")),
        };
        self.run.results.checked(part, what, about, native.tolerance, is_equal);
        for (side, Answered { done, workers }) in answers {
            let results = &mut self.run.results;
            results.add(side, Series::new(part, done.series.unit, done.series.samples));
            let each = |seconds: f64| vec![seconds * 1e9 / done.amount.max(1.0)];
            let processor = |name: &str, seconds| {
                Series::new(format!("{part}/processor{name}"), Unit::Nanoseconds, each(seconds))
            };
            results.add(side, processor("", done.processor + workers));
            results.add(side, processor("/client", done.processor));
            if side == Side::Remoted {
                results.add(side, processor("/workers", workers));
            }
        }
    }
}
