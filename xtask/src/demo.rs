//! `demo`: an unmodified CUDA program in a guest that has neither a GPU nor NVIDIA's driver.

use std::time::Duration;

use anyhow::{Result, bail};
use qemu::{Kernel, Qemu, Report};

use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::machine::{self, Machine};
use crate::output::say;
use crate::{prerequisites, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The guest's kernel: 6.1, 6.12 or 7
    #[arg(long, default_value = "6.12")]
    kernel: Kernel,
    /// The backend's driver: auto (the host's GPU, else in software), soft, or a library's path
    #[arg(long, default_value = "auto")]
    driver: String,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    log::info!("building the backend, the guest's CUDA library and the demonstration …");
    let artifacts = Artifacts::build(&places)?;
    log::info!("looking for QEMU …");
    let qemu = Qemu::find(&places)?;
    log::info!("preparing a Debian guest with kernel {} and compiling its driver …", arguments.kernel.name());
    let machine = Machine::of_workspace(&places, &artifacts, &qemu, arguments.kernel)?;
    let backend = Backend { program: artifacts.backend(), driver: arguments.driver.clone() };

    log::info!("{} boots it, with {}", qemu.version, machine::accelerator());
    let outcome =
        machine.run(Some(&backend), "exec demo", Duration::from_secs(600), |report| match report {
            Report::Job(line) => say(format_args!("    {line}")),
            Report::Guest(line) => log::info!("guest: {line}"),
            Report::Exit(status) => log::info!("guest: the program ended with status {status}"),
        })?;
    if outcome.status != 0 {
        bail!("the demonstration failed (logs: {})", machine.logs.display());
    }
    log::info!(
        "done: booted in {:.1} s, all in all {:.1} s; logs: {}",
        outcome.boot.as_secs_f32(),
        outcome.total.as_secs_f32(),
        machine.logs.display()
    );
    Ok(())
}
