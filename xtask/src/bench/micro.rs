//! What CUDA calls cost, natively and through the device: `tests/bench`, here.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use qemu::Places;

use crate::artifacts::Artifacts;
use crate::{prerequisites, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// On the driver in software instead of this machine's GPU
    #[arg(long)]
    soft: bool,
    /// Where the report goes (target/bench/micro or …/macro otherwise)
    #[arg(long)]
    out: Option<PathBuf>,
    /// What the benchmark is told, after `--`: --rounds N, --case NAME, --quick, …
    #[arg(last = true)]
    pub(super) run: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    let artifacts = Artifacts::build(&places)?;
    let mut command = compare(arguments, &places, &artifacts, "target/bench/micro");
    let status = command.args(&arguments.run).status().context("start the benchmark")?;
    if !status.success() {
        bail!("the benchmark ended with {status}");
    }
    Ok(())
}

/// The benchmark, told where everything is, but not yet what it is told after `--`.
pub(super) fn compare(arguments: &Arguments, places: &Places, artifacts: &Artifacts, out: &str) -> Command {
    let out = arguments.out.clone().unwrap_or_else(|| places.workspace().join(out));
    let mut command = Command::new(artifacts.bench());
    command.arg("compare").arg("--remoted").arg(artifacts.shim()).arg("--backend").arg(artifacts.backend());
    if arguments.soft {
        command.arg("--native").arg(artifacts.soft_gpu()).args(["--driver", "soft"]);
    }
    command.arg("--out").arg(&out).args(["--revision", &revision(places)]);
    command
}

/// The workspace's commit, and whether anything differs from it.
pub(super) fn revision(places: &Places) -> String {
    let mut command = Command::new("git");
    command.args(["describe", "--always", "--dirty"]).current_dir(places.workspace());
    let text = command.output().ok().filter(|output| output.status.success()).map(|output| output.stdout);
    text.map_or_else(|| "unknown".to_owned(), |text| String::from_utf8_lossy(&text).trim().to_owned())
}
