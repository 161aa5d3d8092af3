//! `bundle`: one archive that runs the suite on another x86-64 Linux machine with no packages installed.
//!
//! The archive holds this very program; its `run.sh` calls [`run`].

pub(crate) mod run;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use qemu::{Kernel, Qemu};

use crate::artifacts::{self, Artifacts, PROGRAMS, copy};
use crate::machine::Machine;
use crate::output::say;
use crate::{prerequisites, process, workspace};

const NAME: &str = "virtio-compute-bundle";
/// What other machines take in one piece.
const LARGEST: u64 = 45 << 20;

const RUN: &str = "#!/bin/sh\n# Runs the conformance suite here: see ./run.sh --help\n\
                   here=$(cd \"$(dirname \"$0\")\" && pwd)\nexec \"$here/bin/xtask\" bundle-run --bundle \"$here\" \"$@\"\n";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The guests' kernels: 6.1, 6.12 or 7
    #[arg(long, default_value = "6.12")]
    kernel: Vec<Kernel>,
}

pub(crate) fn make(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    let artifacts = Artifacts::build(&places)?;
    let qemu = Qemu::fetch(&places)?;

    let parent = places.workspace().join("target/bundle");
    let directory = parent.join(NAME);
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    log::info!("collecting …");
    let bundled = Artifacts::at(&directory);
    for (from, to) in [
        (artifacts.backend(), bundled.backend()),
        (artifacts.conformance(), bundled.conformance()),
        (artifacts.soft_gpu(), bundled.soft_gpu()),
        (artifacts.management_library().0, bundled.management_library().0),
    ] {
        copy(&from, &to)?;
    }
    for ((from, _), (to, _)) in artifacts.guest_libraries().iter().zip(bundled.guest_libraries()) {
        copy(from, &to)?;
    }
    for program in PROGRAMS {
        copy(&artifacts.program(program), &bundled.program(program))?;
    }
    artifacts::stage(&env::current_exe()?, &directory.join("bin/xtask"))?;
    qemu.copy_needed(&directory.join("qemu"))?;
    for kernel in &arguments.kernel {
        let machine = Machine::of_workspace(&places, &artifacts, &qemu, *kernel)?;
        let guest = directory.join("guest").join(kernel.name());
        copy(&machine.kernel, &guest.join("vmlinuz"))?;
        fs::write(guest.join("initrd"), &machine.initrd)?;
    }
    fs::write(directory.join("VERSIONS"), versions(&places)?)?;
    fs::write(directory.join("run.sh"), RUN)?;
    fs::set_permissions(directory.join("run.sh"), fs::Permissions::from_mode(0o755))?;

    // Not xz, which would be smaller: small systems come without it.
    log::info!("compressing …");
    let archive = parent.join(format!("{NAME}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--use-compress-program", "gzip -9", "--directory"])
        .arg(&parent)
        .arg("--file")
        .arg(&archive)
        .arg(NAME);
    process::run(&mut tar, &parent.join("tar.log"), Duration::from_secs(900), |_| true)?
        .expect_success("tar")?;
    let size = fs::metadata(&archive)?.len();
    let mebibytes = size.div_ceil(1 << 20);
    if size > LARGEST {
        bail!(
            "{} has {mebibytes} MiB, more than {} MiB; bundle fewer kernels",
            archive.display(),
            LARGEST >> 20
        );
    }
    say(format_args!("{} ({mebibytes} MiB)", archive.display()));
    Ok(())
}

/// The Debian packages that the bundle's files are from, so that their sources can be found.
fn versions(places: &qemu::Places) -> Result<String> {
    let mut text = String::from("Debian packages that files of this bundle are from:\n");
    let mut stamps: Vec<_> = fs::read_dir(places.debian().join("roots"))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.ends_with(".stamp") && !name.starts_with("build-")
        })
        .collect();
    stamps.sort();
    for stamp in stamps {
        let manifest = fs::read_to_string(&stamp)?;
        for line in manifest.lines().skip(1) {
            text.push_str(line);
            text.push('\n');
        }
    }
    Ok(text)
}
