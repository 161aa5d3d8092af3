//! Both sides in turn: natively and through a backend that is started for it.
//!
//! Read in this order: this file (rounds), [`sides`] (how a process of a side is started), [`startup`], [`processes`],
//! [`footprint`] (what takes processes of their own), [`programs`] (other people's), [`paired`] (what comes out of it).

mod footprint;
pub(crate) mod paired;
mod processes;
mod programs;
mod sides;
mod startup;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::cases::is_wanted;
use crate::report::{self, About};
use crate::series::{Effort, Series};
use paired::{Results, Side};
use sides::{Sides, Warm};

// A later option replaces an earlier one, so that scripts can have choices of their own.
#[derive(clap::Args, Debug)]
#[command(args_override_self = true)]
pub(crate) struct Arguments {
    /// The CUDA library to measure natively (else the one that the dynamic loader finds)
    #[arg(long, value_name = "PATH", default_value = "libcuda.so.1")]
    native: PathBuf,
    /// The guest's CUDA library, which the backend answers
    #[arg(long, value_name = "PATH")]
    remoted: PathBuf,
    /// The backend
    #[arg(long, value_name = "PATH")]
    backend: PathBuf,
    /// The backend's driver: auto (this machine's GPU, else in software), soft, or a library's path
    #[arg(long, default_value = "auto")]
    driver: String,
    /// Where report.json, report.md, samples.jsonl and the plots go
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
    /// Go on with the report that is in --out already, of this machine since its start and this state of the project
    #[arg(long)]
    resume: bool,
    /// How often each side is measured
    #[arg(long, default_value_t = 11, value_name = "N")]
    rounds: usize,
    /// Only the cases whose names contain this (repeatable)
    #[arg(long, value_name = "SUBSTRING")]
    case: Vec<String>,
    /// Fewer samples and smaller sizes
    #[arg(long)]
    quick: bool,
    /// Warm workers of the backend where the start-up with warm workers is measured
    #[arg(long, default_value_t = 2, value_name = "N")]
    warm: u32,
    /// Instead of single calls, measure the programs of this folder (tests/bench/macro)
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
    /// What runs the programs
    #[arg(long, default_value = "python3")]
    python: String,
    /// How often each side of a program is started for its rounds [default: 3, with --quick 1]
    #[arg(long, value_name = "N")]
    starts: Option<usize>,
    /// How long all programs may take; what is not done then is left out [default: 420, with --quick 150]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Warm contexts of the backend where the start-up with them is measured
    #[arg(long, default_value_t = 1, value_name = "N")]
    warm_contexts: u32,
    /// Which state of the project this is, for the report
    #[arg(long, default_value = "unknown", value_name = "TEXT")]
    revision: String,
}

/// The chores beside the cases of one process, in the order in which they run.
type Chore = fn(&mut Run<'_>, &Sides) -> Result<()>;
const CHORES: [(&str, &str, Chore); 3] = [
    ("start-up", startup::WHAT, startup::measure),
    ("processes", processes::WHAT, processes::measure),
    ("footprint", footprint::WHAT, footprint::measure),
];

/// One comparison, as far as it has come.
struct Run<'a> {
    arguments: &'a Arguments,
    about: About,
    results: Results,
    /// Rounds of the cases of one process that are complete.
    rounds: usize,
    begin: Instant,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0, "no rounds");
    fs::create_dir_all(&arguments.out).with_context(|| format!("make {}", arguments.out.display()))?;
    let begin = Instant::now();
    let sides = Sides::start(arguments, Warm::default())?;
    let about = About::find(sides.identify()?, &arguments.revision);
    let mut run = Run { arguments, about, results: Results::default(), rounds: 0, begin };
    if arguments.resume {
        (run.about, run.results, run.rounds) = report::read(&arguments.out)?.follow(run.about)?;
    }
    if let Some(folder) = &arguments.programs {
        programs::measure(&mut run, &sides, folder)?;
    } else {
        run.cases(&sides)?;
        run.chores(&sides)?;
    }
    if run.results.is_empty() && run.results.failures().next().is_none() {
        for (program, reason) in run.results.skipped() {
            run.say(&format!("{program} cannot run here: {reason}"));
        }
        bail!("nothing was measured (cuda-bench measure --list names the cases)");
    }
    run.say(&format!("written to {}", arguments.out.display()));
    let failures: Vec<_> = run.results.failures().collect();
    ensure!(failures.is_empty(), "not everything was measured:\n{}", failures.join("\n"));
    Ok(())
}

impl Run<'_> {
    /// The cases of one process: a fresh one for each side and round.
    fn cases(&mut self, sides: &Sides) -> Result<()> {
        let arguments = self.arguments;
        if !crate::cases::all().any(|(name, _)| is_wanted(name, &arguments.case)) {
            return Ok(());
        }
        for round in 0..arguments.rounds {
            for side in order(round) {
                let mut command = sides.command(side, "measure");
                if let Some(process) = sides.backend_process(side) {
                    command.args(["--backend-process", &process.to_string()]);
                }
                for part in &arguments.case {
                    command.args(["--case", part]);
                }
                if arguments.quick {
                    command.arg("--quick");
                }
                let ended = sides::run(command)?;
                for line in ended.lines.lines() {
                    let series: Series =
                        serde_json::from_str(line).with_context(|| format!("a series: {line}"))?;
                    self.results.add(side, series);
                }
                if let Some(failure) = ended.failure {
                    self.results.fail(format!("{side}: {failure}"));
                }
            }
            self.rounds += 1;
            self.end_round()?;
            self.say(&format!("round {} of {}", round + 1, arguments.rounds));
        }
        Ok(())
    }

    /// What takes processes of its own.
    fn chores(&mut self, sides: &Sides) -> Result<()> {
        let arguments = self.arguments;
        for (name, _, measure) in CHORES {
            if is_wanted(name, &arguments.case) {
                self.say(name);
                if let Err(error) = measure(self, sides) {
                    self.results.fail(format!("{name}: {error:#}"));
                    self.end_round()?;
                }
            }
        }
        Ok(())
    }

    /// What is added from here on belongs to another round. Writes the report as far as it goes: what ends this process early
    /// does not take it away.
    fn end_round(&mut self) -> Result<()> {
        self.results.end_round();
        self.write()
    }

    fn write(&self) -> Result<()> {
        report::write(&self.arguments.out, &self.about, &self.results, self.rounds)
    }

    /// Tells whoever waits.
    fn say(&self, what: &str) {
        // Nobody may be listening.
        let _ = writeln!(std::io::stdout(), "[{:6.1} s] {what}", self.begin.elapsed().as_secs_f32());
    }
}

/// Names of what is measured by several processes, and what it stands for.
pub(crate) fn chores() -> impl Iterator<Item = (&'static str, &'static str)> {
    CHORES.into_iter().map(|(name, what, _)| (name, what))
}

impl Arguments {
    fn effort(&self) -> Effort {
        Effort { quick: self.quick }
    }
}

/// Which side goes first changes from round to round.
fn order(round: usize) -> [Side; 2] {
    if round.is_multiple_of(2) { [Side::Native, Side::Remoted] } else { [Side::Remoted, Side::Native] }
}
