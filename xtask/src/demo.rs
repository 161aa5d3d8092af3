//! `demo`: an unmodified CUDA program in a guest that has neither a GPU nor NVIDIA's driver.

use anyhow::Result;
use qemu::{Kernel, Qemu};

use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::machine::{self, Machine};
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
    machine.show(Some(&backend), "exec demo")?;
    log::info!("done; the guest's console and the backend's log are in {}", machine.logs.display());
    Ok(())
}
