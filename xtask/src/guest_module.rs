//! `guest-module`, `check-module`: the kernel driver, compiled for Debian's kernels.

use std::path::PathBuf;

use anyhow::{Context, Result};
use qemu::module::{self, Strictness};
use qemu::{Kernel, Places};

use crate::output::say;
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this kernel: 6.1, 6.12 or 7
    #[arg(long)]
    kernel: Vec<Kernel>,
    /// Directory of the module's sources
    #[arg(long, default_value = SOURCE)]
    source: PathBuf,
}

/// Prints one line per kernel: the release and the module's path.
pub(crate) fn build(arguments: &Arguments) -> Result<()> {
    each(arguments, Strictness::Plain)
}

/// The same, with every warning that the kernel's build and sparse know.
pub(crate) fn check(arguments: &Arguments) -> Result<()> {
    each(arguments, Strictness::Checked)
}

/// The driver's sources, in the workspace.
const SOURCE: &str = "guest-driver";

/// The driver, compiled for `kernel`.
pub(crate) fn driver(places: &Places, kernel: Kernel) -> Result<PathBuf> {
    let built = module::build(places, kernel, &places.workspace().join(SOURCE), Strictness::Plain)?;
    built.modules.into_iter().next().context("a build makes a module")
}

/// Checks the driver's sources against `kernel`'s headers.
pub(crate) fn check_one(places: &Places, kernel: Kernel) -> Result<()> {
    module::build(places, kernel, &places.workspace().join(SOURCE), Strictness::Checked).map(drop)
}

fn each(arguments: &Arguments, strictness: Strictness) -> Result<()> {
    let places = workspace::places()?;
    let source = places.workspace().join(&arguments.source);
    let kernels = if arguments.kernel.is_empty() { Kernel::ALL.to_vec() } else { arguments.kernel.clone() };
    for kernel in kernels {
        let built = module::build(&places, kernel, &source, strictness)?;
        for line in built.log.lines().filter(|line| line.contains("warning:")) {
            say(format_args!("{line}"));
        }
        for path in &built.modules {
            say(format_args!("{}  {}", built.release, path.display()));
        }
    }
    Ok(())
}
