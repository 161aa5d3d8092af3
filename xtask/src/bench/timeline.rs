//! When calls begin and end, in the program and in the driver (tests/bench/timeline).

use std::process::Command;

use anyhow::Result;
use qemu::Places;

use crate::artifacts::Artifacts;
use crate::{prerequisites, workspace};

/// What it consists of, in the workspace.
pub(super) const SOURCES: &str = "tests/bench/timeline";
pub(super) const FILES: [&str; 2] = ["stamps.c", "timeline.py"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What timeline.py is told, after `--`: cases of the benchmark, --driver PATH, …
    #[arg(last = true)]
    run: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    let artifacts = Artifacts::build(&places)?;
    super::succeed(command(&places, &artifacts).args(&arguments.run))
}

/// The program with what it looks at.
pub(crate) fn command(places: &Places, artifacts: &Artifacts) -> Command {
    let mut command = Command::new("python3");
    command.arg(places.workspace().join(SOURCES).join("timeline.py"));
    command.arg("--bench").arg(artifacts.bench()).arg("--library").arg(artifacts.shim());
    command.arg("--backend").arg(artifacts.backend());
    command
}
