//! What is tested without a VM.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu::Places;

use crate::artifacts::{self, Artifacts};
use crate::backend::{Backend, Socket};
use crate::counts::Counts;
use crate::process::{self, Finished};
use crate::steps::Steps;

const LIMIT: Duration = Duration::from_secs(1800);

/// Formatting, lints, documentation, and cargo's tests.
pub(super) fn sources(places: &Places, steps: &mut Steps) {
    steps.step("cargo fmt", || check(places, "fmt", &["fmt", "--all", "--check"], &[]));
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    steps.step("cargo clippy", || check(places, "clippy", &clippy, &[]));
    let doc = ["doc", "--workspace", "--no-deps", "--locked", "--document-private-items"];
    steps.step("cargo doc", || check(places, "doc", &doc, &[("RUSTDOCFLAGS", "--deny warnings")]));
    // Tests that start the workspace's programs expect them built.
    let built =
        steps.step("cargo build", || check(places, "build-dev", &["build", "--workspace", "--locked"], &[]));
    if built {
        let tests = ["test", "--workspace", "--locked", "--no-fail-fast"];
        steps.step("cargo test", || cargo_tests(places, "test", &tests, &[]));
    } else {
        steps.skip("cargo test", "the workspace does not build");
    }
    // A build of its own: the configuration changes every crate.
    let models = artifacts::target_directory(places).join("loom");
    let models = models.to_string_lossy().into_owned();
    let tests = ["test", "--package", "guest-shim", "--test", "*_model", "--release", "--locked"];
    let environment = [("RUSTFLAGS", "--cfg loom"), ("CARGO_TARGET_DIR", &models)];
    steps.step("loom models", || cargo_tests(places, "loom", &tests, &environment));
}

/// The conformance suite on the software driver, directly and through the backend.
pub(super) fn programs(places: &Places, artifacts: &Artifacts, steps: &mut Steps) {
    let logs = places.guest().join("logs");
    steps.step("conformance: software driver", || {
        let mut command = Command::new(artifacts.conformance());
        command.arg("--library").arg(artifacts.soft_gpu());
        conformance(&mut command, &logs.join("conformance-soft.log"))
    });
    steps.step("conformance: local transport", || {
        let backend = Backend { program: artifacts.backend(), driver: "soft".into() };
        local(artifacts, &backend, &logs.join("conformance-local"))
    });
}

/// The suite as a process of this machine that talks to a backend of its own.
pub(crate) fn local(artifacts: &Artifacts, backend: &Backend, logs: &Path) -> Result<Counts> {
    fs::create_dir_all(logs)?;
    let sockets = tempfile::tempdir().context("make a directory for the socket")?;
    let socket = sockets.path().join("local");
    let mut running = backend.start(Socket::Local(&socket), &logs.join("backend.log"))?;
    let mut command = Command::new(artifacts.conformance());
    command
        .arg("--library")
        .arg(artifacts.shim())
        .env("LD_LIBRARY_PATH", artifacts.directory.join("lib"))
        .env("VCOMPUTE_SOCKET", &socket);
    let counts = conformance(&mut command, &logs.join("conformance.log"))?;
    if let Some(status) = running.ended()? {
        bail!("the backend did not survive the suite ({status}):\n{}", running.log());
    }
    Ok(counts)
}

/// Runs the suite and takes its word for the counts, but not for a success that its status contradicts.
pub(crate) fn conformance(command: &mut Command, log: &Path) -> Result<Counts> {
    let finished = process::run(command, log, LIMIT, is_failure)?;
    let counts = Counts::closing(finished.lines());
    agreed(&finished, counts, "conformance")
}

/// Lines of the suite that a person wants to see at once.
pub(crate) fn is_failure(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("FAIL") || line.starts_with("fail")
}

fn check(places: &Places, name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Counts> {
    let finished = cargo(places, name, arguments, environment, |_| false)?;
    finished.expect_success(&format!("cargo {}", arguments.join(" ")))?;
    Ok(Counts::one(true))
}

fn cargo_tests(
    places: &Places,
    name: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<Counts> {
    let shown = |line: &str| line.ends_with("... FAILED") || line.contains("Running ");
    let finished = cargo(places, name, arguments, environment, shown)?;
    let counts = Counts::of_cargo(finished.lines());
    agreed(&finished, counts, "cargo test")
}

fn cargo(
    places: &Places,
    name: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    shown: impl Fn(&str) -> bool,
) -> Result<Finished> {
    let log: PathBuf = places.guest().join("logs").join(format!("{name}.log"));
    let mut command = artifacts::cargo(places);
    command.args(arguments).envs(environment.iter().copied());
    process::run(&mut command, &log, LIMIT, shown)
}

/// The counts, unless the program ended in another way than they say.
fn agreed(finished: &Finished, counts: Option<Counts>, what: &str) -> Result<Counts> {
    match counts {
        Some(counts) if counts.failed > 0 => {
            log::info!("  {what}: {counts}; log: {}", finished.log.display());
            for line in failures(finished) {
                log::info!("  {line}");
            }
            Ok(counts)
        }
        Some(counts) if finished.status.success() => Ok(counts),
        _ => {
            finished.expect_success(what)?;
            bail!("{what} did not say how many tests passed (log: {})", finished.log.display())
        }
    }
}

/// The end of the log, where test programs sum up.
fn failures(finished: &Finished) -> impl Iterator<Item = &str> {
    let skip = finished.lines.len().saturating_sub(40);
    finished.lines().skip(skip)
}
