//! A program of the benchmark as a process: how it is found, started, told something, and ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use super::super::Arguments;
use super::super::paired::Side;
use super::super::sides::Sides;
use crate::series::Series;

/// How long a program may take for an answer: the first one comes after imports, kernels' loading and captures.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it may take to end.
const END: Duration = Duration::from_secs(30);
/// Of what it wrote to standard error, the part that a report has.
const LAST_LINES: usize = 12;
/// What only a process has that reaches CUDA through the device.
const REMOTED_LIBRARY: &str = "/libvcompute.so";

/// A program, and what it measures.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: String,
    path: PathBuf,
    pub(super) parts: Vec<Listed>,
    /// Its start is what is measured.
    pub(super) is_start: bool,
}

/// What a program says of a part.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) what: String,
    start: bool,
}

/// What a program is told.
#[derive(Debug, Serialize)]
pub(super) struct Order<'a> {
    pub(super) part: &'a str,
    pub(super) repetitions: usize,
}

/// What it answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said {
    /// It takes orders; what it is built on.
    Ready(String),
    /// It cannot run here, and why.
    Skip(String),
    Done(Done),
    Failure(String),
}

/// A round of a part.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Done {
    pub(super) series: Series,
    /// What it computed, the same on both sides.
    pub(super) values: Vec<f64>,
    /// By which part of the larger one a value may differ.
    pub(super) tolerance: f64,
    /// How much of what is counted was done for it, what was not timed included.
    pub(super) amount: f64,
    /// Seconds of processors that this took the process.
    pub(super) processor: f64,
    /// What a program that takes no orders is built on.
    #[serde(default)]
    pub(super) about: Option<String>,
}

/// The programs of a folder, in the order of their names. What lists nothing is a part of others.
pub(super) fn find(folder: &Path, python: &str) -> Result<Vec<Program>> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    let mut found = Vec::new();
    for path in paths.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "py")) {
        let mut command = Command::new(python);
        let output = command.arg("-B").arg(&path).arg("--list").output().context("start python3")?;
        ensure!(
            output.status.success(),
            "{} --list: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).context("a list")?;
        let parts = text
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("a part: {line}")))
            .collect::<Result<Vec<Listed>>>()?;
        let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let is_start = parts.iter().any(|part| part.start);
        found.push(Program { name, path, parts, is_start });
    }
    Ok(found)
}

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) side: Side,
    child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<String>,
    log: PathBuf,
}

impl Process {
    /// Starts a program on a side. What it writes to standard error is kept beside the report.
    pub(super) fn start(sides: &Sides, side: Side, program: &Program, arguments: &Arguments) -> Result<Self> {
        let folder = arguments.out.join("programs");
        fs::create_dir_all(&folder)?;
        let log = folder.join(format!("{}-{side}.log", program.name));
        let mut command = Command::new(&arguments.python);
        command.arg("-B").arg(&program.path);
        sides.lend(side, &mut command)?;
        command.env("BENCH_PROGRAM", std::env::current_exe().context("this program")?);
        command
            .env("PYTHONWARNINGS", "ignore")
            .env("HF_HUB_OFFLINE", "1")
            .env("TOKENIZERS_PARALLELISM", "false");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn().with_context(|| format!("start {}", arguments.python))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let (sender, answers) = channel();
        // It ends when the program closes its output, or nobody listens.
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { side, child, input, answers, log })
    }

    /// Tells it something, without waiting for the answer.
    pub(super) fn tell(&mut self, order: &Order<'_>) -> Result<()> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        let told = self.input.as_mut().context("its input")?.write_all(line.as_bytes());
        told.with_context(|| self.complaint("it takes no orders any more"))
    }

    /// Waits for its next answer.
    pub(super) fn answer(&mut self) -> Result<Said> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(line) => serde_json::from_str(&line).with_context(|| format!("its answer: {line}")),
            Err(RecvTimeoutError::Timeout) => {
                bail!(self.complaint(&format!("no answer in {} s", PATIENCE.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait()?;
                bail!(self.complaint(&format!("it ended without an answer ({status})")))
            }
        }
    }

    /// Makes sure that it reaches CUDA as its side should.
    pub(super) fn check_library(&self, side: Side) -> Result<()> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.child.id())).context("its maps")?;
        let is_remoted = maps.lines().any(|line| line.ends_with(REMOTED_LIBRARY));
        ensure!(is_remoted == (side == Side::Remoted), "the {side} side uses the other side's library");
        Ok(())
    }

    /// A complaint with the end of what it wrote to standard error.
    pub(super) fn complaint(&self, what: &str) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        // Python underlines what it quotes.
        let says = |line: &&str| line.contains(|character: char| !" ^~".contains(character));
        let lines: Vec<_> = text.lines().filter(says).map(str::trim).collect();
        let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default();
        if last.is_empty() { what.to_owned() } else { format!("{what}; it wrote: {}", last.join(" ⏎ ")) }
    }

    /// Lets it end, and makes sure that it ends well.
    pub(super) fn end(mut self) -> Result<()> {
        self.input.take();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            let side = self.side;
            ensure!(begin.elapsed() < END, "{side}: {}", self.complaint("it does not end"));
            std::thread::sleep(Duration::from_millis(5));
        };
        ensure!(status.success(), "{}: {}", self.side, self.complaint(&format!("it ended with {status}")));
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
