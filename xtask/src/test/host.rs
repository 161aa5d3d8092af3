//! What is tested without a VM.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use qemu::Places;

use super::{compilers, management, old_libc};
use crate::artifacts::{self, Artifacts};
use crate::backend::Backend;
use crate::bench::timeline;
use crate::counts::Counts;
use crate::library;
use crate::prerequisites;
use crate::process::{self, Finished};
use crate::steps::Steps;
use crate::suite;

const LIMIT: Duration = Duration::from_secs(1800);

/// Formatting, lints, documentation, and cargo's tests.
pub(super) fn sources(places: &Places, steps: &mut Steps) {
    steps.step("cargo fmt", || check(places, "fmt", &["fmt", "--all", "--check"], &[]));
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "--deny", "warnings"];
    steps.step("cargo clippy", || check(places, "clippy", &clippy, &[]));
    let doc = ["doc", "--workspace", "--no-deps", "--locked"];
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

/// The conformance suite on the software driver, directly and through the backend; programs of other people's compilers.
pub(super) fn programs(places: &Places, artifacts: &Artifacts, steps: &mut Steps) {
    let logs = places.guest().join("logs");
    steps.step("the guest's libraries: what they need", || library::check(artifacts));
    steps.step("conformance: software driver", || {
        let log = logs.join("conformance-soft.log");
        Ok(suite::on_library(artifacts, &artifacts.soft_gpu(), &[], &log)?.counts)
    });
    steps.step("conformance: local transport", || {
        let backend = Backend { program: artifacts.backend(), driver: "soft".into() };
        Ok(suite::on_local_backend(artifacts, &backend, &[], &logs.join("conformance-local"))?.counts)
    });
    steps.step("conformance: local transport, warm contexts", || {
        let backend = Backend { program: artifacts.backend(), driver: "soft".into() };
        Ok(suite::on_warm_backend(artifacts, &backend, &logs.join("conformance-warm"))?.counts)
    });
    steps.step("processes that share a GPU: local transport", || {
        let backend = Backend { program: artifacts.backend(), driver: "soft".into() };
        let mut command = Command::new(artifacts.program("neighbours"));
        command.env("LD_LIBRARY_PATH", artifacts.directory.join("lib"));
        let logs = logs.join("neighbours-local");
        suite::with_local_backend(&backend, &logs, &mut command, |command| {
            let log = logs.join("neighbours.log");
            process::run(command, &log, Duration::from_secs(120), |_| true)?.expect_success("neighbours")
        })?;
        Ok(Counts::one(true))
    });
    steps.step("bench: notifications of a busy session", || {
        let mut command = Command::new(artifacts.bench());
        command.arg("count").arg("--remoted").arg(artifacts.shim()).arg("--backend").arg(artifacts.backend());
        process::run(&mut command, &logs.join("bench-count.log"), Duration::from_secs(60), |_| true)?
            .expect_success("cuda-bench count")?;
        Ok(Counts::one(true))
    });
    steps.step("bench: lengths of paths", || {
        let mut command = Command::new(artifacts.bench());
        command.arg("path").arg("--remoted").arg(artifacts.shim()).arg("--backend").arg(artifacts.backend());
        process::run(&mut command, &logs.join("bench-path.log"), Duration::from_secs(300), |_| true)?
            .expect_success("cuda-bench path")?;
        Ok(Counts::one(true))
    });
    bench_programs(places, artifacts, steps);
    bench_timeline(places, artifacts, steps);
    steps.step("bench: each case checks what it measures", || {
        let mut command = comparison(artifacts, 1);
        command.arg("--out").arg(logs.join("bench"));
        process::run(&mut command, &logs.join("bench.log"), Duration::from_secs(60), |_| false)?
            .expect_success("cuda-bench compare")?;
        Ok(Counts::one(true))
    });
    old_libc::run(places, artifacts, steps);
    management::run(places, artifacts, steps);
    compilers::run(places, artifacts, steps);
}

/// The benchmark's quick comparison of the software driver with itself through the backend.
fn comparison(artifacts: &Artifacts, rounds: u32) -> Command {
    let mut command = Command::new(artifacts.bench());
    command.arg("compare").arg("--native").arg(artifacts.soft_gpu()).arg("--remoted").arg(artifacts.shim());
    command.arg("--backend").arg(artifacts.backend());
    command.args(["--driver", "soft", "--quick", "--rounds", &rounds.to_string()]);
    command
}

/// Programs of the benchmark are compared: what is the same has a figure, and what differs or fails has none.
fn bench_programs(places: &Places, artifacts: &Artifacts, steps: &mut Steps) {
    const NAME: &str = "bench: programs are compared";
    if !prerequisites::is_there("python3") {
        return steps.skip(NAME, "there is no python3");
    }
    let logs = places.guest().join("logs");
    let compare = |part: &str| {
        let out = logs.join("bench-programs").join(part.replace('/', "-"));
        let mut command = comparison(artifacts, 2);
        command.arg("--programs").arg(places.workspace().join("tests/bench/check")).args(["--case", part]);
        command.arg("--out").arg(out);
        process::run(&mut command, &logs.join("bench-programs.log"), Duration::from_secs(60), |_| false)
    };
    steps.step(NAME, || {
        compare("driver/memset")?.expect_success("cuda-bench compare --programs")?;
        for (part, reason) in
            [("driver/differs", "result 7 is 99 natively, and 100"), ("driver/fails", "as it was told")]
        {
            let finished = compare(part)?;
            ensure!(!finished.status.success(), "{part} has a figure");
            ensure!(
                finished.lines().any(|line| line.contains(reason)),
                "{part} does not say why it has none"
            );
        }
        Ok(Counts::one(true))
    });
}

/// What stamps of both sides say of a launch is one timeline.
fn bench_timeline(places: &Places, artifacts: &Artifacts, steps: &mut Steps) {
    const NAME: &str = "bench: a timeline of both sides";
    if !prerequisites::is_there("python3") {
        return steps.skip(NAME, "there is no python3");
    }
    steps.step(NAME, || {
        let mut command = timeline::command(places, artifacts);
        command.arg("--driver").arg(artifacts.soft_gpu()).args(["--quick", "launch/synchronized"]);
        let log = places.guest().join("logs/bench-timeline.log");
        let finished = process::run(&mut command, &log, Duration::from_secs(60), |_| false)?;
        finished.expect_success("timeline.py")?;
        let ends = finished.lines().any(|line| line.contains("program: wait ends"));
        ensure!(ends, "the timeline has no end");
        Ok(Counts::one(true))
    });
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
    let shown =
        |line: &str| line.contains("... FAILED") || line.contains("... ignored") || line.contains("Running ");
    let finished = cargo(places, name, arguments, environment, shown)?;
    let counts = Counts::of_cargo(finished.lines());
    agreed(&finished, counts, "cargo test")
}

fn cargo(
    places: &Places,
    name: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
    shown: impl FnMut(&str) -> bool,
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
