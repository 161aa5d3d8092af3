//! A command of this machine, run in a guest that has the device and sees this machine's files read-only.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu::image::Job;
use qemu::{Qemu, Report};

use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::machine::Machine;
use crate::output::say;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder that `compat` made
    #[arg(long)]
    kit: PathBuf,
    /// Where logs go
    #[arg(long)]
    logs: PathBuf,
    /// The backend's driver
    #[arg(long, default_value = "auto")]
    driver: String,
    /// Guest memory in MiB
    #[arg(long, default_value_t = 12 << 10)]
    memory: u32,
    /// For how many seconds the guest may run
    #[arg(long, default_value_t = 3600)]
    limit: u64,
    /// A shell command line
    command: String,
}

/// Prints what the command says; fails as it fails.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let kit =
        fs::canonicalize(&arguments.kit).with_context(|| format!("find {}", arguments.kit.display()))?;
    let artifacts = Artifacts::at(&kit);
    let initrd = kit.join("guest/initrd");
    let machine = Machine {
        qemu: Qemu::unpacked(&kit.join("qemu"))?.sharing(),
        kernel: kit.join("guest/vmlinuz"),
        initrd: fs::read(&initrd).with_context(|| format!("read {}", initrd.display()))?,
        logs: env::current_dir()?.join(&arguments.logs),
        memory_mib: arguments.memory,
    };
    let backend = Backend { program: artifacts.backend(), driver: arguments.driver.clone() };
    let script = format!("exec on-host /bin/sh -c '{}'", arguments.command.replace('\'', r"'\''"));
    let job = Job { script: &script, as_root: true, needs_device: true };
    let outcome =
        machine.run(Some(&backend), &job, Duration::from_secs(arguments.limit), |report| match report {
            Report::Job(line) => say(format_args!("{line}")),
            Report::Guest(line) => log::info!("guest: {line}"),
            Report::Exit(_) => {}
        })?;
    log::info!(
        "booted in {:.1} s, ended after {:.1} s",
        outcome.boot.as_secs_f32(),
        outcome.total.as_secs_f32()
    );
    if outcome.status != 0 {
        bail!("the command ended with {} (logs: {})", outcome.status, machine.logs.display());
    }
    Ok(())
}
