//! Where the time of a call goes: instructions of each stage of its path in the client, and the time that remains of a
//! call when the driver has nothing to do (docs/performance.md).

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::{micro, succeed};
use crate::artifacts::{self, Artifacts, GUEST_LIBRARIES, copy};
use crate::{prerequisites, workspace};

/// Cases whose time is that of the path, but for what the driver takes.
const CASES: [&str; 5] = ["clock", "launch", "synchronize", "copy/4B", "local"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the report goes (target/bench/stages otherwise)
    #[arg(long)]
    out: Option<PathBuf>,
    /// What the benchmark is told, after `--`: --rounds N, --quick, …
    #[arg(last = true)]
    run: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    let artifacts = Artifacts::build(&places)?;
    let out = arguments.out.clone().unwrap_or_else(|| places.workspace().join("target/bench/stages"));
    fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;

    // The libraries and the backend as they were built: those that are staged have no symbols any more.
    let libraries = out.join("lib");
    for (profile, _, file, name) in GUEST_LIBRARIES {
        copy(&artifacts::target_directory(&places).join(profile).join(file), &libraries.join(name))?;
    }
    let program = artifacts::target_directory(&places).join("release/cuda-bench");
    let driver = out.join("libidle_gpu.so");
    let mut compile = Command::new("cc");
    compile.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(&driver);
    compile.arg(places.workspace().join("tests/bench/idle_gpu.c")).arg("-Wl,--no-as-needed");
    succeed(compile.arg(artifacts.soft_gpu()))?;

    let addresses = out.join("addresses.txt");
    let mut path = Command::new(&program);
    path.args(["path", "--only-count", "--remoted"]).arg(libraries.join("libcuda.so.1"));
    path.arg("--backend").arg(artifacts::target_directory(&places).join("release/vhost-user-compute"));
    path.arg("--driver").arg(&driver).arg("--addresses").arg(&addresses);
    succeed(&mut path)?;
    succeed(Command::new("python3").arg(places.workspace().join("tests/bench/stages.py")).arg(&addresses))?;

    let mut compare = Command::new(artifacts.bench());
    compare.arg("compare").arg("--native").arg(&driver).arg("--driver").arg(&driver);
    compare.arg("--remoted").arg(artifacts.shim()).arg("--backend").arg(artifacts.backend());
    compare.arg("--out").arg(&out).args(["--revision", &micro::revision(&places)]);
    compare.args(CASES.iter().flat_map(|case| ["--case", case])).args(&arguments.run);
    succeed(&mut compare)
}
