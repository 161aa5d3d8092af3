//! `guest-package`: what a guest needs, in one archive: the library, the driver's sources, and the program that installs
//! them (docs/install.md).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu::Places;

use crate::artifacts;
use crate::guest_tools::GuestTools;
use crate::output::say;
use crate::{process, workspace};

const LIMIT: Duration = Duration::from_secs(1800);

/// The driver's files that DKMS has no use for.
const NOT_PACKED: &[&str] = &["tests", "udev", "README.md"];

/// Builds and packs it, and says where it is.
pub(crate) fn make() -> Result<()> {
    let places = workspace::places()?;
    let name = format!("virtio-compute-guest-{}", env!("CARGO_PKG_VERSION"));
    let parent = places.workspace().join("target/guest-package");
    let directory = parent.join(&name);
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("remove the old {}", directory.display()))?;
    }
    fs::create_dir_all(&directory)?;

    let tools = GuestTools::build(&places)?;
    for (profile, package, ..) in artifacts::GUEST_LIBRARIES {
        cargo(&places, &["build", "--profile", profile, "--package", package])?;
    }
    let built = artifacts::target_directory(&places);
    for file in tools.files() {
        artifacts::stage(file, &directory.join(file.file_name().context("a program has a name")?))?;
    }
    for (profile, _, file, name) in artifacts::GUEST_LIBRARIES {
        artifacts::stage(&built.join(profile).join(file), &directory.join(name))?;
    }
    let (package, file, name) = artifacts::MANAGEMENT;
    cargo(&places, &["build", "--profile", "release", "--package", package])?;
    artifacts::stage(&built.join("release").join(file), &directory.join(name))?;
    copy_sources(&places.workspace().join("guest-driver"), &directory.join("driver"))?;
    for text in ["LICENSE-APACHE", "LICENSE-BSD-3-Clause", "docs/install.md"] {
        let from = places.workspace().join(text);
        let file = from.file_name().context("a file has a name")?;
        fs::copy(&from, directory.join(file)).with_context(|| format!("copy {}", from.display()))?;
    }

    let archive = parent.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--gzip", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--directory".as_ref(), parent.as_os_str(), "--file".as_ref(), archive.as_os_str()])
        .arg(name);
    process::run(&mut tar, &parent.join("tar.log"), LIMIT, |_| false)?.expect_success("tar")?;
    say(format_args!("{} ({} KiB)", archive.display(), fs::metadata(&archive)?.len() / 1024));
    Ok(())
}

fn cargo(places: &Places, words: &[&str]) -> Result<()> {
    let mut command = artifacts::cargo(places);
    let (chore, rest) = words.split_first().context("cargo is told what to do")?;
    command.args([chore, "--locked"]).args(rest);
    let log = places.guest().join("logs/guest-package.log");
    let shown = |line: &str| line.contains("Finished") || line.starts_with("error");
    process::run(&mut command, &log, LIMIT, shown)?.expect_success("cargo")
}

fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if NOT_PACKED.iter().any(|not_packed| name.as_os_str() == *not_packed) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy_sources(&entry.path(), &to.join(name))?;
        } else {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}
