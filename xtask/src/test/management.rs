//! Programs that people watch GPUs with, on the guest's management library with the software GPU behind it: pynvml, gpustat
//! and nvitop as they are on PyPI, and Debian's nvtop.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use qemu::Places;
use qemu::debian::Root;
use qemu::debian::root::Recipe;

use crate::artifacts::Artifacts;
use crate::backend::Backend;
use crate::counts::Counts;
use crate::process;
use crate::steps::Steps;
use crate::suite;
use crate::wheels::{self, Wheels};

const LIMIT: Duration = Duration::from_secs(120);

/// The software GPU's name, which clients must show.
const GPU: &str = "virtio-compute software GPU";

const NVTOP: Recipe<'static> = Recipe {
    name: "nvtop",
    suites: &["trixie"],
    packages: &["nvtop"],
    only: Some(&["nvtop", "libc6", "libcap2", "libdrm", "libgcc-s1", "libncurses", "libtinfo6", "libudev1"]),
    files: &["*/bin/nvtop", "*.so*"],
};

/// All of them.
pub(super) fn run(places: &Places, artifacts: &Artifacts, steps: &mut Steps) {
    let python = "NVML's clients in Python: local transport";
    match wheels::obstacle() {
        None => drop(steps.step(python, || python_clients(places, artifacts))),
        Some(reason) => steps.skip(python, &reason),
    }
    steps.step("nvtop: local transport", || nvtop(places, artifacts));
}

fn python_clients(places: &Places, artifacts: &Artifacts) -> Result<Counts> {
    let sources = places.workspace().join("tests/nvml");
    let python = Wheels::open_or_fetch(places, &sources.join("clients.txt"), &[])?.python;
    let agrees = sources.join("client.py").display().to_string();
    let clients: [(&str, &[&str], &str); 3] = [
        ("pynvml", &[&agrees], "pynvml agrees with CUDA"),
        ("gpustat", &["-m", "gpustat", "--json"], GPU),
        // Its column is narrower than the name.
        ("nvitop", &["-m", "nvitop", "--once"], "software GPU   On"),
    ];
    let mut counts = Counts::default();
    for (name, arguments, expected) in clients {
        let mut command = Command::new(&python);
        command.arg("-B").args(arguments);
        counts += shows(places, artifacts, name, &mut command, &[], expected)?;
    }
    Ok(counts)
}

fn nvtop(places: &Places, artifacts: &Artifacts) -> Result<Counts> {
    let root = Root::open_or_make(&places.debian(), &NVTOP)?.path;
    let libraries = root.join("usr/lib/x86_64-linux-gnu");
    // With its own dynamic linker: it is of a newer Debian than this machine may be.
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg(root.join("usr/bin/nvtop")).arg("--snapshot");
    shows(places, artifacts, "nvtop", &mut command, &[&libraries], GPU)
}

/// Runs a client that finds our libraries first, and looks for what it must say.
fn shows(
    places: &Places,
    artifacts: &Artifacts,
    name: &str,
    command: &mut Command,
    libraries: &[&Path],
    expected: &str,
) -> Result<Counts> {
    let logs = places.guest().join("logs/management").join(name);
    let (library, _) = artifacts.management_library();
    let ours = library.parent().context("the library is in a directory")?;
    let path = env::join_paths([ours].iter().chain(libraries))?;
    command.env("LD_LIBRARY_PATH", path).env("TERM", "xterm");
    let backend = Backend { program: artifacts.backend(), driver: "soft".into() };
    let finished = suite::with_local_backend(&backend, &logs, command, |command| {
        process::run(command, &logs.join("client.log"), LIMIT, |_| false)
    })?;
    finished.expect_success(name)?;
    ensure!(
        finished.lines().any(|line| line.contains(expected)),
        "{name} did not say {expected:?} (log: {})",
        finished.log.display()
    );
    Ok(Counts::one(true))
}
