//! The programs that a guest gets beside the libraries: the installer and what it brings along.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu::Places;

use crate::{artifacts, process};

const LIMIT: Duration = Duration::from_secs(1800);

/// Package and name of what an installed guest has: the one that tries CUDA, and the one that shows the GPUs.
const INSTALLED: [(&str, &str); 2] = [("guest-tools", "vcompute-probe"), ("smi", "vcompute-smi")];

/// The built programs.
#[derive(Debug)]
pub(crate) struct GuestTools {
    /// `vcompute-guest`.
    pub installer: PathBuf,
    /// What it installs, found beside it.
    pub installed: Vec<PathBuf>,
}

impl GuestTools {
    /// Builds them (release).
    pub(crate) fn build(places: &Places) -> Result<Self> {
        // Static, because it must run where the dynamic linker does not.
        let installer = ["rustc", "--package", "guest-tools", "--bin", "vcompute-guest"];
        cargo(places, &installer, &["--", "-C", "target-feature=+crt-static"])?;
        for (package, program) in INSTALLED {
            cargo(places, &["build", "--package", package, "--bin", program], &[])?;
        }
        let built = artifacts::target_directory(places).join("release");
        let installed = INSTALLED.iter().map(|(_, program)| built.join(program)).collect();
        Ok(Self { installer: built.join("vcompute-guest"), installed })
    }

    /// All of them.
    pub(crate) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.installer).chain(&self.installed)
    }
}

fn cargo(places: &Places, words: &[&str], for_compiler: &[&str]) -> Result<()> {
    let mut command = artifacts::cargo(places);
    let (chore, rest) = words.split_first().context("cargo is told what to do")?;
    command.args([chore, "--locked", "--release"]).args(rest).args(for_compiler);
    let log = places.guest().join("logs/build-guest-tools.log");
    let shown = |line: &str| line.starts_with("error");
    process::run(&mut command, &log, LIMIT, shown)?.expect_success("cargo")
}
