//! `bench`: what something costs, measured so that another day's figures can be compared.

mod micro;
mod pack;
mod preload;
mod programs;
mod samples;
mod stages;
pub(crate) mod timeline;

use std::process::Command;

use anyhow::{Context, Result, bail};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// What the library costs a process that does not use it
    Preload(preload::Arguments),
    /// What CUDA calls cost, natively and through the device (docs/benchmarks/)
    Micro(micro::Arguments),
    /// How fast programs of PyTorch and others are, natively and through the device (tests/bench/macro)
    Macro(micro::Arguments),
    /// Where the time of a call goes, with a driver that has nothing to do (docs/performance.md)
    Stages(stages::Arguments),
    /// When calls begin and end, in the program and in the driver (docs/performance.md)
    Timeline(timeline::Arguments),
    /// Make an archive that measures both on another machine
    Pack,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Preload(arguments) => preload::run(arguments),
        What::Micro(arguments) => micro::run(arguments),
        What::Macro(arguments) => programs::run(arguments),
        What::Stages(arguments) => stages::run(arguments),
        What::Timeline(arguments) => timeline::run(arguments),
        What::Pack => pack::run(),
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().display().to_string();
    let status = command.status().with_context(|| format!("start {program}"))?;
    if !status.success() {
        bail!("{program} ended with {status}");
    }
    Ok(())
}
