//! The conformance suite, run in different ways: on a library of this machine, through the backend, in a guest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu::image::Job;
use qemu::{Accelerator, Report};
use virtio_spec::local::SOCKET_VARIABLE;

use crate::artifacts::Artifacts;
use crate::backend::{Backend, Socket};
use crate::counts::Counts;
use crate::machine::Machine;
use crate::process;

const LIMIT: Duration = Duration::from_secs(1800);

/// How much longer than natively a case may take when guest code is translated, and when it is not.
const SLOW_TCG: u32 = 10;
const SLOW_KVM: u32 = 2;

/// A progress line is shown for every so many cases.
const SHOWN: usize = 50;

/// What the suite said.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Its sum.
    pub counts: Counts,
    /// Each case's word (`ok`, `FAIL`, `skip`) and the rest of its line.
    pub cases: BTreeMap<String, (String, String)>,
}

impl Results {
    /// From the suite's output and how it ended. A success that the status contradicts is an error.
    fn read<'a>(lines: impl DoubleEndedIterator<Item = &'a str> + Clone, succeeded: bool) -> Result<Self> {
        let counts = Counts::closing(lines.clone()).with_context(|| {
            let tail: Vec<_> = lines.clone().rev().take(20).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            format!("the suite did not say how many cases passed:\n{}", tail.join("\n"))
        })?;
        if !succeeded && counts.failed == 0 {
            bail!("the suite ended with an error though no case failed");
        }
        let cases = lines.filter_map(parse_case).collect();
        Ok(Self { counts, cases })
    }
}

/// `ok   NAME (0.01 s): detail`
fn parse_case(line: &str) -> Option<(String, (String, String))> {
    let (word, rest) = line.split_once(' ')?;
    if !matches!(word, "ok" | "FAIL" | "skip") {
        return None;
    }
    let (name, detail) = rest.trim_start().split_once(' ')?;
    Some((name.to_owned(), (word.to_owned(), detail.to_owned())))
}

/// Shows what failed or was skipped, with its reason, and now and then that it goes on.
fn progress() -> impl FnMut(&str) -> bool {
    let mut seen = 0_usize;
    move |line| {
        let Some((_, (word, _))) = parse_case(line) else { return false };
        seen += 1;
        word != "ok" || seen.is_multiple_of(SHOWN)
    }
}

/// On a CUDA library of this machine.
pub(crate) fn on_library(
    artifacts: &Artifacts,
    library: &Path,
    options: &[String],
    log: &Path,
) -> Result<Results> {
    let mut command = Command::new(artifacts.conformance());
    command.arg("--library").arg(library).args(options);
    run(&mut command, log)
}

/// As a process of this machine that talks to a backend of its own.
pub(crate) fn on_local_backend(
    artifacts: &Artifacts,
    backend: &Backend,
    options: &[String],
    logs: &Path,
) -> Result<Results> {
    on_configured_backend(artifacts, backend, "", options, logs)
}

/// The same with warm contexts: what is about contexts and code, in processes that find both begun.
pub(crate) fn on_warm_backend(artifacts: &Artifacts, backend: &Backend, logs: &Path) -> Result<Results> {
    const CONFIGURATION: &str = "[warm]\ncontexts = 4\n";
    // One case at a time, and each renews what it takes within a quarter of a second.
    const AREAS: [&str; 5] = ["contexts::", "modules::", "libraries::", "images::", "faults::"];
    let options: Vec<_> = AREAS.iter().flat_map(|area| ["--filter".to_owned(), (*area).to_owned()]).collect();
    on_configured_backend(artifacts, backend, CONFIGURATION, &options, logs)
}

fn on_configured_backend(
    artifacts: &Artifacts,
    backend: &Backend,
    configuration: &str,
    options: &[String],
    logs: &Path,
) -> Result<Results> {
    let mut command = Command::new(artifacts.conformance());
    command.arg("--library").arg(artifacts.shim()).args(options);
    // Where the management library is found, too.
    command.env("LD_LIBRARY_PATH", artifacts.directory.join("lib"));
    let body = |command: &mut Command| run(command, &logs.join("conformance.log"));
    with_configured_backend(backend, configuration, logs, &mut command, body)
}

/// Has `body` run a command whose CUDA calls go to a backend that it has for itself, which must survive it.
pub(crate) fn with_local_backend<T>(
    backend: &Backend,
    logs: &Path,
    command: &mut Command,
    body: impl FnOnce(&mut Command) -> Result<T>,
) -> Result<T> {
    with_configured_backend(backend, "", logs, command, body)
}

fn with_configured_backend<T>(
    backend: &Backend,
    configuration: &str,
    logs: &Path,
    command: &mut Command,
    body: impl FnOnce(&mut Command) -> Result<T>,
) -> Result<T> {
    fs::create_dir_all(logs)?;
    let sockets = tempfile::tempdir().context("make a directory for the socket")?;
    let socket = sockets.path().join("local");
    let mut running = backend.start_with(Socket::Local(&socket), configuration, &logs.join("backend.log"))?;
    let result = body(command.env(SOCKET_VARIABLE, &socket))?;
    if let Some(status) = running.ended()? {
        bail!("the backend did not survive ({status}):\n{}", running.log());
    }
    Ok(result)
}

fn run(command: &mut Command, log: &Path) -> Result<Results> {
    let finished = process::run(command, log, LIMIT, progress())?;
    Results::read(finished.lines(), finished.status.success())
        .with_context(|| format!("the suite's log is {}", finished.log.display()))
}

/// In a guest, as an unprivileged user.
pub(crate) fn in_guest(machine: &Machine, backend: &Backend, options: &[String]) -> Result<Results> {
    let slow = match Accelerator::of_this_machine() {
        Accelerator::Kvm => SLOW_KVM,
        Accelerator::Tcg => SLOW_TCG,
    };
    let options: Vec<_> = options.iter().map(|option| format!("'{option}'")).collect();
    let script = format!("exec conformance --slow {slow} {}", options.join(" "));
    let job = Job { script: &script, as_root: false, needs_device: true };
    let mut progress = progress();
    let outcome = machine.run(Some(backend), &job, LIMIT, |report| match report {
        Report::Guest(line) => log::info!("  guest: {line}"),
        Report::Exit(_) => {}
        Report::Job(line) => {
            if progress(line) {
                log::info!("  {line}");
            }
        }
    })?;
    log::info!(
        "  booted in {:.1} s, ended after {:.1} s (logs: {})",
        outcome.boot.as_secs_f32(),
        outcome.total.as_secs_f32(),
        machine.logs.display()
    );
    Results::read(outcome.lines.iter().map(String::as_str), outcome.status == 0)
        .with_context(|| format!("the guest's logs are in {}", machine.logs.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: [&str; 4] = [
        "ok   init.twice (0.01 s)",
        "FAIL memory.free (1.20 s): expected 1",
        "noise",
        "1 passed, 1 failed, 0 skipped",
    ];

    #[test]
    fn cases_are_read_by_name() {
        let results = Results::read(OUTPUT.into_iter(), false).expect("results");

        assert_eq!(results.counts, Counts { passed: 1, failed: 1, skipped: 0 });
        let failed = results.cases.get("memory.free").expect("the case");
        assert_eq!(failed, &("FAIL".to_owned(), "(1.20 s): expected 1".to_owned()));
        assert_eq!(results.cases.len(), 2);
    }

    #[test]
    fn a_suite_without_a_sum_or_with_a_contradiction_is_an_error() {
        assert!(Results::read(["ok   a (0.0 s)"].into_iter(), true).is_err());
        assert!(Results::read(["1 passed, 0 failed, 0 skipped"].into_iter(), false).is_err());
    }
}
