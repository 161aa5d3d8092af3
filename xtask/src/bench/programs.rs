//! How fast programs are, natively and through the device: `tests/bench/macro`, here.

use anyhow::{Context, Result, bail};

use super::micro::{self, Arguments};
use crate::artifacts::Artifacts;
use crate::{prerequisites, workspace};

/// Where they are, in the workspace and in the archive.
pub(super) const SOURCES: &str = "tests/bench/macro";
pub(super) const PACKED: &str = "macro";

/// What `llama.py` there shares with the compatibility suite, likewise.
pub(super) const LLAMA: &str = "tests/compat/cases/llama_cpp.py";
pub(super) const PACKED_LLAMA: &str = "compat/cases/llama_cpp.py";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    let artifacts = Artifacts::build(&places)?;
    let mut command = micro::compare(arguments, &places, &artifacts, "target/bench/macro");
    command.arg("--programs").arg(places.workspace().join(SOURCES)).args(&arguments.run);
    let status = command.status().context("start the benchmark")?;
    if !status.success() {
        bail!("the benchmark ended with {status}");
    }
    Ok(())
}
