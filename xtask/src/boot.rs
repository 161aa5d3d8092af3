//! `boot`: a guest, and one command in it.

use std::path::PathBuf;

use anyhow::Result;
use qemu::image::{self, Contents};
use qemu::module::{self, Strictness};
use qemu::{Kernel, Qemu};

use crate::backend::Backend;
use crate::machine::{self, Machine};
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which kernel: 6.1, 6.12 or 7
    #[arg(long, default_value = "6.12")]
    kernel: Kernel,
    /// Without our module and without the device
    #[arg(long)]
    bare: bool,
    /// Directory of the module's sources
    #[arg(long, default_value = "guest-driver")]
    source: PathBuf,
    /// The backend to start (otherwise the guest has the module and no device)
    #[arg(long)]
    backend: Option<PathBuf>,
    /// The backend's driver
    #[arg(long, default_value = "auto")]
    driver: String,
    /// A file of this machine to put into the guest, as FROM:TO
    #[arg(long)]
    file: Vec<String>,
    /// A shell command line
    #[arg(default_value = "id; uname -a; ls -l /dev/vcompute0")]
    command: String,
}

/// Boots and shows everything that the guest says.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    let source = places.workspace().join(&arguments.source);
    let module = if arguments.bare {
        None
    } else {
        module::build(&places, arguments.kernel, &source, Strictness::Plain)?.modules.into_iter().next()
    };
    let files = arguments
        .file
        .iter()
        .filter_map(|pair| pair.split_once(':'))
        .map(|(from, to)| (PathBuf::from(from), to.to_owned()))
        .collect();
    let qemu = Qemu::find(&places)?;
    let kernel = arguments.kernel.image(&places)?;
    let machine = Machine {
        initrd: image::build(&places, &kernel, &Contents { module, files })?,
        kernel: kernel.vmlinuz,
        logs: machine::logs(&places.guest(), "boot"),
        memory_mib: 2048,
        qemu,
    };
    log::info!("{} boots Linux {} with {}", machine.qemu.version, kernel.release, machine::accelerator());
    let backend =
        arguments.backend.clone().map(|program| Backend { program, driver: arguments.driver.clone() });
    machine.show(backend.as_ref(), &arguments.command)
}
