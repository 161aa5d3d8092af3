//! Runs cases, each in a process of its own, and reports.
//!
//! This file has unsafe code: process groups and pidfds, so that a case that hangs is ended together
//! with whatever it started.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::outcome::Verdict;
use crate::registry::Case;

/// Says to a case's process by which factor this machine is slow.
pub(crate) const SLOW_VARIABLE: &str = "CONFORMANCE_SLOW";

/// The factor by which this machine is slow, as the runner was told.
pub(crate) fn slow_factor() -> u32 {
    std::env::var(SLOW_VARIABLE).ok().and_then(|text| text.parse().ok()).unwrap_or(1).max(1)
}

/// How a run is made.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The library to ask; the dynamic loader's choice when absent.
    pub(crate) library: Option<PathBuf>,
    /// How many cases run at a time.
    pub(crate) jobs: usize,
    /// What the time limits are multiplied by.
    pub(crate) slow: u32,
    /// Where the results go as JSON.
    pub(crate) json: Option<PathBuf>,
}

/// One case's result, as the JSON file has it.
#[derive(Debug, Serialize)]
struct Report {
    name: &'static str,
    #[serde(flatten)]
    verdict: Verdict,
    seconds: f64,
}

/// Prints the names of the cases.
pub(crate) fn list(cases: &[&'static Case]) {
    let text: String = cases.iter().map(|case| format!("{}\n", case.name)).collect();
    // A reader that has gone away is no error of the list.
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// A directory in which the library under test has the names that programs look for.
pub(crate) fn links_to(library: &Path) -> Result<tempfile::TempDir> {
    let library =
        std::fs::canonicalize(library).with_context(|| format!("the library {}", library.display()))?;
    let folder = tempfile::tempdir().context("a folder for the library's names")?;
    for name in ["libcuda.so.1", "libcuda.so"] {
        std::os::unix::fs::symlink(&library, folder.path().join(name)).context("a name for the library")?;
    }
    Ok(folder)
}

/// The loader's search path with one more folder in front.
pub(crate) fn search_path(first: &Path) -> std::ffi::OsString {
    let mut path = first.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("LD_LIBRARY_PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

/// Runs the cases and prints the report; true when none failed.
pub(crate) fn run(cases: &[&'static Case], plan: &Plan) -> Result<bool> {
    let links = plan.library.as_deref().map(links_to).transpose()?;
    let path = links.as_ref().map(|folder| search_path(folder.path()));
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..plan.jobs {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let start = Instant::now();
                    let verdict = run_case(case, plan, path.as_deref())
                        .unwrap_or_else(|error| Verdict::Failed(format!("could not be run: {error:#}")));
                    let report = Report { name: case.name, verdict, seconds: start.elapsed().as_secs_f64() };
                    print_line(&report);
                    if let Ok(mut reports) = reports.lock() {
                        reports.push(report);
                    }
                }
            });
        }
    });
    let Ok(mut reports) = reports.into_inner() else {
        bail!("a thread that ran cases has panicked");
    };
    reports.sort_by_key(|report| cases.iter().position(|case| case.name == report.name));
    if let Some(path) = &plan.json {
        let text = serde_json::to_string_pretty(&reports).context("the results as JSON")?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(summarise(&reports))
}

/// One line for one case.
fn print_line(report: &Report) {
    let (word, detail) = match &report.verdict {
        Verdict::Passed => ("ok  ", String::new()),
        Verdict::Failed(detail) => ("FAIL", format!(": {detail}")),
        Verdict::Skipped(detail) => ("skip", format!(": {detail}")),
    };
    let line = format!("{word} {} ({:.2} s){detail}\n", report.name, report.seconds);
    drop(std::io::stdout().write_all(line.as_bytes()));
}

/// The last line of a run; true when nothing failed.
fn summarise(reports: &[Report]) -> bool {
    let count =
        |wanted: fn(&Verdict) -> bool| reports.iter().filter(|report| wanted(&report.verdict)).count();
    let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
    let line = format!(
        "{} passed, {failed} failed, {} skipped\n",
        count(|verdict| matches!(verdict, Verdict::Passed)),
        count(|verdict| matches!(verdict, Verdict::Skipped(_))),
    );
    drop(std::io::stdout().write_all(line.as_bytes()));
    failed == 0
}

/// A file without a name, for a child's output: nothing has to read it while the child writes.
pub(crate) fn capture_file() -> Result<File> {
    // SAFETY: the name is a constant string with its terminator.
    let raw = unsafe { libc::memfd_create(c"output".as_ptr(), libc::MFD_CLOEXEC) };
    if raw < 0 {
        return Err(std::io::Error::last_os_error()).context("a file for the output");
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let owned = unsafe { OwnedFd::from_raw_fd(raw) };
    Ok(File::from(owned))
}

/// Everything that was written to a capture file.
pub(crate) fn captured(file: &mut File) -> Result<String> {
    file.rewind().context("the output")?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).context("the output")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Waits for a child, at most so long; none when the time ran out.
pub(crate) fn wait_for(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let pid = libc::c_long::from(child.id());
    // SAFETY: pidfd_open takes two integers and touches no memory.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0 as libc::c_long) };
    let raw = i32::try_from(raw).context("a pidfd")?;
    if raw < 0 {
        return Err(std::io::Error::last_os_error()).context("pidfd_open");
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let pidfd = unsafe { OwnedFd::from_raw_fd(raw) };
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut entry = libc::pollfd { fd: pidfd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let left_ms = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the array has the one entry that the count says.
        let ready = unsafe { libc::poll(&raw mut entry, 1, left_ms) };
        if ready > 0 {
            return child.wait().map(Some).context("the child's end");
        }
        if left.is_zero() {
            return Ok(None);
        }
    }
}

/// Ends a child and everything in its process group.
pub(crate) fn end_group(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: kill takes two integers; the group is the one that this child leads.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    // The child is gone or will be: its status says nothing more.
    drop(child.wait());
}

/// Runs one case to its verdict.
fn run_case(case: &Case, plan: &Plan, path: Option<&std::ffi::OsStr>) -> Result<Verdict> {
    let mut out = capture_file()?;
    let mut err = capture_file()?;
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    command.args(["--run-case", case.name]).env(SLOW_VARIABLE, plan.slow.to_string());
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?).process_group(0);
    if let Some(path) = path {
        command.env("LD_LIBRARY_PATH", path);
    }
    let limit = Duration::from_secs(u64::from(case.limit_s) * u64::from(plan.slow));
    let mut child = command.spawn().context("a process for the case")?;
    let Some(status) = wait_for(&mut child, limit)? else {
        end_group(&mut child);
        return Ok(Verdict::Failed(format!("ran past its limit of {} s", limit.as_secs())));
    };
    end_group(&mut child);
    let output = captured(&mut out)?;
    let verdict = Verdict::from_output(&output);
    Ok(match (describe_end(status), verdict) {
        (None, Some(verdict)) => verdict,
        (None, None) => Verdict::Failed("ended without a verdict".to_owned()),
        (Some(end), verdict) => {
            let told = verdict.map_or(String::new(), |verdict| format!(" after the verdict {verdict:?}"));
            let last = captured(&mut err)?.lines().last().unwrap_or_default().to_owned();
            Verdict::Failed(format!("{end}{told}; last words: {last}"))
        }
    })
}

/// How a process ended, when it did not end well.
pub(crate) fn describe_end(status: ExitStatus) -> Option<String> {
    if let Some(signal) = status.signal() {
        let name = match signal {
            libc::SIGSEGV => "SIGSEGV",
            libc::SIGBUS => "SIGBUS",
            libc::SIGABRT => "SIGABRT",
            libc::SIGILL => "SIGILL",
            libc::SIGFPE => "SIGFPE",
            libc::SIGKILL => "SIGKILL",
            libc::SIGTRAP => "SIGTRAP",
            libc::SIGSYS => "SIGSYS",
            libc::SIGPIPE => "SIGPIPE",
            libc::SIGTERM => "SIGTERM",
            _ => "a signal",
        };
        return Some(format!("crashed by {name} ({signal})"));
    }
    match status.code() {
        Some(0) => None,
        code => Some(format!("exited with status {}", code.unwrap_or(-1))),
    }
}
