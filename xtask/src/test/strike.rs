//! The machine is paused, and reset, while a kernel runs on the GPU: `qemu/guest/strike.c` holds one there and says so.
//!
//! What must hold: a pause costs nothing when the GPU cannot write to the guest's memory; when it can, a kernel gets the
//! time that the specification gives it, and one that takes longer costs its own process a CUDA error and nothing else.
//! A reset ends the sessions, frees their GPU memory, and the next program works.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use qemu::image::Job;
use qemu::{Report, Vm};

use crate::backend::{self, Backend, NO_SPARES};
use crate::counts::Counts;
use crate::machine::{Machine, Started};
use crate::output::say;

const LIMIT: Duration = Duration::from_secs(600);

/// How long the machine stands still: longer than a session with registered memory may take to drain.
const PAUSE: Duration = Duration::from_secs(1);

/// QEMU may be held this long by a stop: the time to drain, and the time to end a worker, on a busy machine.
const LONGEST_STOP: Duration = Duration::from_secs(3);

/// A stop that took so long has waited for a kernel.
const WAITED: Duration = Duration::from_millis(20);

/// Free memory in MiB that may differ: the GPU's driver keeps something for itself.
const TOLERANCE: u64 = 16;

/// Status of the program when a CUDA call was answered with an error, and nothing else was wrong.
const CUDA_ERROR: &str = "ended with 3";
const SUCCESS: &str = "ended with 0";

const SCRIPT: &str = "strike free | tee /tmp/free; read -r _ _ before </tmp/free
    run() { echo \"begin $*\"; strike \"$@\"; echo \"ended with $?\"; strike free \"$before\"; }
    run poll 4000; run wait 4000; run registered 400 6; run registered 4000; run poll 6000";

/// One line of the table.
struct Row {
    what: &'static str,
    /// How the kernel was seen to run when it was struck.
    seen: String,
    session: &'static str,
    result: String,
    free: (u64, u64),
}

/// Runs all of it in one guest and prints the table.
pub(crate) fn run(machine: &Machine, backend: &Backend) -> Result<Counts> {
    let job = Job { script: SCRIPT, as_root: false, needs_device: true };
    let mut struck = Struck::start(machine, backend, &job)?;
    let rows = struck.all().with_context(|| format!("logs are in {}", machine.logs.display()))?;
    print(&rows);
    if let Some(backend) = &mut struck.started.backend
        && let Some(status) = backend.ended()?
    {
        bail!("the backend ended with {status}:\n{}", backend.log());
    }
    Ok(Counts { passed: u64::try_from(rows.len())?, ..Counts::default() })
}

struct Struck {
    started: Started,
    deadline: Instant,
    /// The backend's processes without any session's.
    resident: BTreeSet<u32>,
}

impl Struck {
    fn start(machine: &Machine, backend: &Backend, job: &Job<'_>) -> Result<Self> {
        let started = machine.start(Some(backend), NO_SPARES, job, true)?;
        let mut struck = Self { started, deadline: Instant::now() + LIMIT, resident: BTreeSet::new() };
        struck.resident = struck.processes()?;
        Ok(struck)
    }

    fn all(&mut self) -> Result<Vec<Row>> {
        let first = self.free()?;
        let mut rows = vec![
            self.kept("paused; the program asks, nothing registered", "begin poll 4000", first)?,
            self.kept("paused; a thread waits, nothing registered", "begin wait 4000", first)?,
            self.short("paused; registered memory, kernel ends within 400 ms", first)?,
            self.long("paused; registered memory, kernel of 4 s", first)?,
            self.reset("reset; nothing registered", "begin poll 6000", first)?,
        ];
        // The script has begun anew: the way to the next kernel with registered memory is not disturbed.
        rows.push(self.reset("reset; registered memory", "begin registered 4000", first)?);
        self.started.vm.monitor.quit()?;
        Ok(rows)
    }

    /// A session without registered memory outlives any pause.
    fn kept(&mut self, what: &'static str, begin: &str, before: u64) -> Result<Row> {
        self.until(begin)?;
        self.until("kernel running")?;
        let (took, _) = self.pause()?;
        let mut went_on = false;
        let result = loop {
            match self.line()?.as_str() {
                "still running" => went_on = true,
                "kernel done, results right" => break "right".to_owned(),
                line => bail!("{what}: {line}"),
            }
        };
        ensure!(went_on, "{what}: the kernel did not outlive the pause, so nothing is shown");
        self.until(SUCCESS)?;
        let seen = format!("before and after; stop took {} ms", took.as_millis());
        Ok(Row { what, seen, session: "kept", result, free: (before, self.freed(before)?) })
    }

    /// A kernel that writes to the guest's memory is waited for. The stop must have met one; it has several tries.
    fn short(&mut self, what: &'static str, before: u64) -> Result<Row> {
        self.until("begin registered 400 6")?;
        let (mut tries, mut met) = (0, Vec::new());
        let mut heard: Vec<String> = Vec::new();
        loop {
            let line = if heard.is_empty() { self.line()? } else { heard.remove(0) };
            match line.as_str() {
                "kernel running" if met.is_empty() => {
                    tries += 1;
                    let (took, late) = self.pause()?;
                    let ended = late.iter().any(|line| line == "kernel done, results right");
                    heard.extend(late);
                    if took >= WAITED && !ended {
                        met.push(took.as_millis().to_string());
                    }
                }
                "kernel running" | "still running" | "kernel done, results right" => {}
                SUCCESS => break,
                line => bail!("{what}: {line}"),
            }
        }
        ensure!(!met.is_empty(), "{what}: none of {tries} stops met the kernel");
        let seen = format!("stop waited {} ms for it (try {tries})", met.concat());
        let free = (before, self.freed(before)?);
        Ok(Row { what, seen, session: "kept", result: "right".into(), free })
    }

    /// A kernel that writes to the guest's memory for too long is ended, and its process is told.
    fn long(&mut self, what: &'static str, before: u64) -> Result<Row> {
        self.until("begin registered 4000")?;
        self.until("kernel running")?;
        let (took, _) = self.pause()?;
        let error = loop {
            match self.line()?.as_str() {
                "still running" => {}
                line if line.starts_with("CUDA error ") => break line.to_owned(),
                line => bail!("{what}: {line}"),
            }
        };
        self.until(CUDA_ERROR)?;
        let seen = format!("stop took {} ms", took.as_millis());
        Ok(Row { what, seen, session: "ended", result: error, free: (before, self.freed(before)?) })
    }

    /// The guest boots again; what the first one had on the GPU is gone when the second one asks for the first time.
    fn reset(&mut self, what: &'static str, begin: &str, before: u64) -> Result<Row> {
        self.until(begin)?;
        self.until("kernel running")?;
        let workers: BTreeSet<_> = self.processes()?.difference(&self.resident).copied().collect();
        ensure!(!workers.is_empty(), "{what}: the session has no worker");
        // The kernel runs on, so that it is the reset that meets it.
        self.until("still running")?;
        let begin = Instant::now();
        self.vm().monitor.system_reset()?;
        let took = begin.elapsed();
        let after = loop {
            match self.report()? {
                Report::Job(line) if line.starts_with("free memory ") => break parse_free(&line)?,
                Report::Exit(status) => bail!("{what}: the program ended with {status}"),
                Report::Job(_) | Report::Guest(_) => {}
            }
        };
        ensure!(after + TOLERANCE >= before, "{what}: {before} MiB were free, and {after} MiB are");
        let left: Vec<_> = self.processes()?.intersection(&workers).copied().collect();
        ensure!(left.is_empty(), "{what}: the worker {left:?} is still there");
        self.until("kernel done, results right").context("after the reset")?;
        self.until(SUCCESS)?;
        let seen = format!("yes; reset took {} ms", took.as_millis());
        Ok(Row {
            what,
            seen,
            session: "ended, worker gone",
            result: "the next program's: right".into(),
            free: (before, after),
        })
    }

    /// Stops the machine for a while. Returns how long the stop took, and what the guest had still said before it.
    fn pause(&mut self) -> Result<(Duration, Vec<String>)> {
        let vm = self.vm();
        let begin = Instant::now();
        vm.monitor.stop()?;
        let took = begin.elapsed();
        expect_status(vm, "paused")?;
        thread::sleep(PAUSE);
        expect_status(vm, "paused")?;
        // The report's pipe may still hold lines; an error is that no more come.
        let mut late = Vec::new();
        while let Ok(Some(report)) = vm.next_line(Instant::now()) {
            if let Report::Job(line) = report {
                late.push(line);
            }
        }
        vm.monitor.cont()?;
        expect_status(vm, "running")?;
        ensure!(took < LONGEST_STOP, "QEMU was held for {} ms", took.as_millis());
        Ok((took, late))
    }

    /// Free memory after a case; the program has waited for it to come back.
    fn freed(&mut self, before: u64) -> Result<u64> {
        let after = self.free()?;
        ensure!(after + TOLERANCE >= before, "{before} MiB of the GPU were free, and {after} MiB are");
        Ok(after)
    }

    fn free(&mut self) -> Result<u64> {
        loop {
            let line = self.line()?;
            if line.starts_with("free memory ") {
                return parse_free(&line);
            }
        }
    }

    fn until(&mut self, expected: &str) -> Result<()> {
        loop {
            let line = self.line()?;
            if line == expected {
                return Ok(());
            }
            ensure!(
                !line.starts_with("CUDA error ") && !line.starts_with("result "),
                "{line:?} before {expected:?}"
            );
        }
    }

    /// The next line of the job.
    fn line(&mut self) -> Result<String> {
        loop {
            match self.report()? {
                Report::Job(line) => return Ok(line),
                Report::Guest(line) => log::debug!("guest: {line}"),
                Report::Exit(status) => bail!("the guest's script ended with {status}"),
            }
        }
    }

    fn report(&mut self) -> Result<Report> {
        let deadline = self.deadline;
        let report = self.vm().next_line(deadline)?.context("QEMU has ended")?;
        log::debug!("  {report:?}");
        Ok(report)
    }

    fn vm(&mut self) -> &mut Vm {
        &mut self.started.vm
    }

    /// The backend's processes.
    fn processes(&self) -> Result<BTreeSet<u32>> {
        let backend = self.started.backend.as_ref().context("there is a backend")?;
        backend::descendants(backend.process_id())
    }
}

fn expect_status(vm: &mut Vm, expected: &str) -> Result<()> {
    let answer = vm.monitor.execute("query-status")?;
    let status = answer.get("status").and_then(|status| status.as_str()).unwrap_or_default();
    ensure!(status == expected, "the machine is {status:?} and not {expected:?}");
    Ok(())
}

fn parse_free(line: &str) -> Result<u64> {
    line.trim_start_matches("free memory ").trim().parse().with_context(|| format!("a number in {line:?}"))
}

fn print(rows: &[Row]) {
    let header = ["strike", "kernel seen running", "session", "result", "free MiB before, after"];
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            let free = format!("{}, {}", row.free.0, row.free.1);
            [row.what.into(), row.seen.clone(), row.session.into(), row.result.clone(), free]
        })
        .collect();
    let mut widths = header.map(str::len);
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[&str]| {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        say(format_args!("    {}", padded.join("  ").trim_end()));
    };
    line(&header);
    for row in &cells {
        line(&row.each_ref().map(String::as_str));
    }
}
