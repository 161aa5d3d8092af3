//! What a bundle's `run.sh` does: the suite in every way that this machine allows, side by side.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use qemu::{Kernel, Qemu};

use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::counts::Counts;
use crate::machine::{self, MEMORY_MIB, Machine};
use crate::output::say;
use crate::steps::AlreadyTold;
use crate::suite::{self, Results};
use crate::test::strike;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The unpacked bundle
    #[arg(long, hide = true)]
    bundle: PathBuf,
    /// On this machine's own libcuda.so.1 (without any choice: all three ways)
    #[arg(long)]
    native: bool,
    /// The library that is native here, instead of the system's libcuda.so.1
    #[arg(long)]
    library: Option<PathBuf>,
    /// Through the backend's local transport
    #[arg(long)]
    local: bool,
    /// In guests
    #[arg(long)]
    guest: bool,
    /// The backend's driver: auto (this machine's GPU, else in software), soft, or a library's path
    #[arg(long, default_value = "auto")]
    driver: String,
    /// Only this kernel, of those in the bundle
    #[arg(long)]
    kernel: Vec<Kernel>,
    /// Only the cases whose names contain this
    #[arg(long)]
    filter: Vec<String>,
    /// Run this in the guest instead of the suite: demo, strike (the machine is paused and reset while a kernel runs),
    /// or a shell command line
    #[arg(long)]
    command: Option<String>,
    /// Where logs go
    #[arg(long, default_value = "virtio-compute-logs")]
    logs: PathBuf,
}

/// One row of the table.
struct Row {
    way: String,
    result: Result<Results>,
    seconds: f32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let artifacts = Artifacts::at(&arguments.bundle);
    let backend = Backend { program: artifacts.backend(), driver: arguments.driver.clone() };
    let options: Vec<_> = arguments.filter.iter().map(|filter| format!("--filter={filter}")).collect();
    let logs = env::current_dir()?.join(&arguments.logs);
    fs::create_dir_all(&logs)?;
    if let Some(command) = &arguments.command {
        return command_in_guest(arguments, &backend, command, &logs);
    }

    let all = !(arguments.native || arguments.local || arguments.guest);
    let mut rows = Vec::new();
    if all || arguments.native {
        match arguments.library.clone().or_else(system_library) {
            Some(library) => rows.push(row(format!("native ({})", library.display()), || {
                suite::on_library(&artifacts, &library, &options, &logs.join("native.log"))
            })),
            None if arguments.native => bail!("this machine has no libcuda.so.1"),
            None => say(format_args!("native: skipped: this machine has no libcuda.so.1")),
        }
    }
    if all || arguments.local {
        rows.push(row("local transport".into(), || {
            suite::on_local_backend(&artifacts, &backend, &options, &logs.join("local"))
        }));
    }
    if all {
        rows.push(row("local transport, warm contexts".into(), || {
            suite::on_warm_backend(&artifacts, &backend, &logs.join("warm"))
        }));
    }
    if all || arguments.guest {
        for kernel in kernels(arguments)? {
            rows.push(row(format!("guest, kernel {} ({})", kernel.name(), machine::accelerator()), || {
                suite::in_guest(&guest(arguments, kernel, &logs)?, &backend, &options)
            }));
        }
    }
    report(&rows)
}

fn row(way: String, body: impl FnOnce() -> Result<Results>) -> Row {
    log::info!("▶ {way}");
    let begin = Instant::now();
    let result = body();
    Row { way, result, seconds: begin.elapsed().as_secs_f32() }
}

/// The library's path as the dynamic loader's cache has it.
fn system_library() -> Option<PathBuf> {
    let cache = ["ldconfig", "/sbin/ldconfig"]
        .iter()
        .find_map(|program| Command::new(program).arg("-p").output().ok())
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())?;
    cache
        .lines()
        .filter(|line| line.trim_start().starts_with("libcuda.so.1 ") && line.contains("x86-64"))
        .find_map(|line| line.split_once(" => ").map(|(_, path)| PathBuf::from(path.trim())))
}

/// Those asked for, else all in the bundle.
fn kernels(arguments: &Arguments) -> Result<Vec<Kernel>> {
    if !arguments.kernel.is_empty() {
        return Ok(arguments.kernel.clone());
    }
    let guests = arguments.bundle.join("guest");
    let found: Vec<_> =
        Kernel::ALL.into_iter().filter(|kernel| guests.join(kernel.name()).is_dir()).collect();
    if found.is_empty() {
        bail!("no guest in {}", guests.display());
    }
    Ok(found)
}

fn guest(arguments: &Arguments, kernel: Kernel, logs: &Path) -> Result<Machine> {
    let files = arguments.bundle.join("guest").join(kernel.name());
    let initrd = files.join("initrd");
    Ok(Machine {
        qemu: Qemu::unpacked(&arguments.bundle.join("qemu"))?,
        kernel: files.join("vmlinuz"),
        initrd: fs::read(&initrd).with_context(|| format!("read {}", initrd.display()))?,
        logs: logs.join(format!("guest-{}", kernel.name())),
        memory_mib: MEMORY_MIB,
    })
}

fn command_in_guest(arguments: &Arguments, backend: &Backend, command: &str, logs: &Path) -> Result<()> {
    for kernel in kernels(arguments)? {
        if command == "strike" {
            strike::run(&guest(arguments, kernel, logs)?, backend)?;
            continue;
        }
        guest(arguments, kernel, logs)?.show(Some(backend), command)?;
    }
    Ok(())
}

/// Prints the table, the cases that came out differently, and the sum.
fn report(rows: &[Row]) -> Result<()> {
    let width = rows.iter().map(|row| row.way.chars().count()).max().unwrap_or(0);
    say(format_args!("\n{:width$}  passed  failed  skipped  seconds", "way"));
    let mut sum = Counts::default();
    for Row { way, result, seconds } in rows {
        match result {
            Ok(Results { counts, .. }) => {
                say(format_args!(
                    "{way:width$}  {:6}  {:6}  {:7}  {seconds:7.1}",
                    counts.passed, counts.failed, counts.skipped
                ));
                sum += *counts;
            }
            Err(error) => {
                say(format_args!("{way:width$}  did not finish: {error:#}"));
                sum += Counts::one(false);
            }
        }
    }
    differences(rows);
    say(format_args!("{sum}"));
    if sum.failed > 0 { Err(AlreadyTold.into()) } else { Ok(()) }
}

/// Lists each case that failed somewhere or has not the same result everywhere.
fn differences(rows: &[Row]) {
    let finished: Vec<_> =
        rows.iter().filter_map(|row| Some((row.way.as_str(), row.result.as_ref().ok()?))).collect();
    let names: BTreeSet<_> = finished.iter().flat_map(|(_, results)| results.cases.keys()).collect();
    for name in names {
        let words: Vec<_> = finished
            .iter()
            .map(|(way, results)| {
                (*way, results.cases.get(name).map_or(("absent", ""), |(word, rest)| (word, rest)))
            })
            .collect();
        let same = words.windows(2).all(|pair| matches!(pair, [(_, (a, _)), (_, (b, _))] if a == b));
        if same && words.iter().all(|(_, (word, _))| *word != "FAIL") {
            continue;
        }
        say(format_args!("{name}:"));
        for (way, (word, rest)) in words {
            say(format_args!("    {way}: {word} {rest}"));
        }
    }
}
