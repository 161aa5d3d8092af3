//! `bench`: what something costs, measured so that another day's figures can be compared.

mod preload;
mod samples;

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// What the library costs a process that does not use it
    Preload(preload::Arguments),
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.what {
        What::Preload(arguments) => preload::run(arguments),
    }
}
