//! `compat`: real programs of real frameworks, natively and through the device, side by side (`tests/compat/`).
//!
//! What they need of the workspace is put into one folder, which another machine runs, too: its `run.sh` calls
//! `compat/run.py`, and that calls [`guest`] of the folder's own copy of this program for what runs in a guest.

pub(crate) mod guest;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use qemu::{Kernel, Places, Qemu};

use crate::artifacts::{self, Artifacts, copy};
use crate::machine::Machine;
use crate::output::say;
use crate::{prerequisites, process, workspace};

const LIMIT: Duration = Duration::from_secs(1800);

/// The kernel of the guest.
const KERNEL: Kernel = Kernel::V6_12;

const RUN: &str = "#!/bin/sh\n# Runs the compatibility suite here: see ./run.sh --help\n\
                   here=$(cd \"$(dirname \"$0\")\" && pwd)\nexec python3 \"$here/compat/run.py\" --kit \"$here\" \"$@\"\n";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The folder to make (target/compat/kit otherwise)
    #[arg(long)]
    out: Option<PathBuf>,
    /// Do not run anything here: cut the folder into pieces of less than 60 MiB, in OUT.parts
    #[arg(long)]
    pack: bool,
    /// Leave out what runs in a guest
    #[arg(long)]
    without_guest: bool,
    /// What run.py is told, after `--`: --only NAME,…, --guest, …
    #[arg(last = true)]
    run: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let places = workspace::places()?;
    prerequisites::ensure()?;
    let target = places.workspace().join("target/compat");
    let kit = arguments.out.clone().unwrap_or_else(|| target.join("kit"));
    gather(&places, &kit, !arguments.without_guest)?;
    say(format_args!("{}", kit.display()));
    if arguments.pack {
        let parts = kit.with_extension("parts");
        let mut split = Command::new("python3");
        split.arg(places.workspace().join("tests/compat/llama/pack.py")).arg("split").args([&kit, &parts]);
        return process::run(&mut split, &target.join("pack.log"), LIMIT, |_| true)?
            .expect_success("pack.py");
    }
    if !Path::new("/dev/nvidiactl").exists() {
        say(format_args!("no NVIDIA GPU here: take the folder to a machine with one, and run its run.sh"));
        return Ok(());
    }
    let status = Command::new(kit.join("run.sh")).args(&arguments.run).status().context("start run.sh")?;
    if !status.success() {
        bail!("the suite ended with {status}");
    }
    Ok(())
}

/// Builds everything and puts it into `kit`, which is made anew.
fn gather(places: &Places, kit: &Path, with_guest: bool) -> Result<()> {
    let artifacts = Artifacts::build(places)?;
    if kit.exists() {
        if !kit.join("run.sh").exists() {
            bail!("{} is there and was not made by this chore", kit.display());
        }
        fs::remove_dir_all(kit).with_context(|| format!("remove the old {}", kit.display()))?;
    }
    let packed = Artifacts::at(kit);
    copy(&artifacts.backend(), &packed.backend())?;
    for ((from, _), (to, _)) in artifacts.guest_libraries().iter().zip(packed.guest_libraries()) {
        copy(from, &to)?;
    }
    copy(&artifacts.soft_gpu(), &packed.soft_gpu())?;
    copy(&artifacts.management_library().0, &packed.management_library().0)?;
    copy_tree(&places.workspace().join("tests/compat"), &kit.join("compat"))?;
    if with_guest {
        let qemu = Qemu::fetch(places)?;
        let machine = Machine::of_workspace(places, &artifacts, &qemu, KERNEL)?;
        let shared = qemu::share::archive(places, &KERNEL.image(places)?)?;
        qemu.copy_needed(&kit.join("qemu"))?;
        copy(&machine.kernel, &kit.join("guest/vmlinuz"))?;
        fs::write(kit.join("guest/initrd"), [machine.initrd, shared].concat())?;
        artifacts::stage(&env::current_exe()?, &kit.join("bin/xtask"))?;
    }
    fs::write(kit.join("run.sh"), RUN)?;
    fs::set_permissions(kit.join("run.sh"), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &to.join(name))?;
        } else {
            copy(&entry.path(), &to.join(name))?;
        }
    }
    Ok(())
}
