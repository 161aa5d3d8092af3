//! Programs that the chores call. As root, missing ones are installed; otherwise the packages are named.

use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use qemu::Places;

/// A program, and the Debian package that has it.
const NEEDED: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("strip", "binutils"),
    ("tar", "tar"),
    ("xz", "xz-utils"),
    ("unshare", "util-linux"),
    ("dpkg-deb", "dpkg"),
    ("apt-get", "apt"),
    ("mkfs.ext4", "e2fsprogs"),
    ("ssh", "openssh-client"),
];

/// Makes sure that all of them are there.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<_> =
        NEEDED.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() || !is_there("apt-get") {
        bail!("missing programs; install these packages: {list}");
    }
    log::info!("installing {list} …");
    for arguments in [["update"].as_slice(), &["install", "--yes", "--no-install-recommends"]] {
        let mut command = Command::new("apt-get");
        command.arg("--quiet").args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        if arguments.first() == Some(&"install") {
            command.args(&missing);
        }
        let output = command.output().context("run apt-get")?;
        if !output.status.success() {
            bail!("apt-get could not install {list}:\n{}", String::from_utf8_lossy(&output.stderr));
        }
    }
    Ok(())
}

/// Gibibytes that a whole test fills, from a clean clone; and where the downloads are there already.
const WHOLE_TEST_GIB: u64 = 10;
const NEXT_TEST_GIB: u64 = 4;

/// Makes sure that the disk takes what a test makes: a full one fails in the middle, and not by saying so.
pub(crate) fn ensure_space(places: &Places) -> Result<()> {
    const GIB: u64 = 1 << 30;
    let workspace = places.workspace();
    let output = Command::new("df")
        .args(["--block-size=1", "--output=avail"])
        .arg(workspace)
        .output()
        .context("run df")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(free) = text.lines().nth(1).and_then(|line| line.trim().parse::<u64>().ok()) else {
        log::warn!("df does not say how much space there is");
        return Ok(());
    };
    let needed = if places.debian().join("roots").exists() { NEXT_TEST_GIB } else { WHOLE_TEST_GIB };
    if free < needed * GIB {
        bail!(
            "a test needs {needed} GiB of disk space below {}, and {:.1} GiB are free",
            workspace.join("target").display(),
            free as f64 / GIB as f64
        );
    }
    Ok(())
}

/// Whether a program is on the path.
pub(crate) fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Whether this is the superuser.
pub(crate) fn is_root() -> bool {
    Path::new("/proc/self").metadata().is_ok_and(|own| own.uid() == 0)
}
