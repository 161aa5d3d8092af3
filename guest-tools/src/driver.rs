//! The kernel driver: built by DKMS for every kernel, or a module that somebody has built for one.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::layout;
use crate::output::{say, warn};
use crate::record::{Changes, remove_if_there};
use crate::system::{self, System};

/// Compiling takes seconds; a machine that emulates another takes minutes.
const LIMIT: Duration = Duration::from_secs(1200);

/// How the driver is to be installed.
#[derive(Debug)]
pub(crate) enum Plan {
    /// From sources, for these kernels.
    Dkms {
        /// Where the sources are.
        source: PathBuf,
        /// Releases that there are headers for.
        kernels: Vec<String>,
    },
    /// A module that was built already.
    Module {
        /// The module.
        file: PathBuf,
        /// The kernel release that it is for.
        release: String,
    },
    /// Not at all.
    None,
}

impl Plan {
    /// What can be done in this system, or what is missing for it.
    pub(crate) fn of(system: &System, source: Option<&Path>, module: Option<&Path>) -> Result<Self> {
        if let Some(file) = module {
            let contents = fs::read(file).with_context(|| format!("read {}", file.display()))?;
            let release =
                release_of(&contents).with_context(|| format!("{} is no kernel module", file.display()))?;
            ensure!(
                system.path(&format!("lib/modules/{release}")).is_dir(),
                "{} is for Linux {release}, which is not installed; build it for one of: {}",
                file.display(),
                kernels(system).join(", ")
            );
            return Ok(Self::Module { file: file.to_owned(), release });
        }
        let source = source.context(
            "the driver's sources are not beside this program; name them with --driver DIRECTORY, or a module that is \
             built with --module FILE, or leave the driver out with --no-driver",
        )?;
        let conf = source.join("dkms.conf");
        ensure!(conf.is_file(), "there is no {}", conf.display());
        let mut missing = Vec::new();
        if system.program("dkms").is_none() {
            missing.push("DKMS (Debian: apt install dkms)".to_owned());
        }
        let with_headers: Vec<_> =
            kernels(system).into_iter().filter(|release| has_headers(system, release)).collect();
        if system.is_live() {
            let running = running_release();
            if !with_headers.contains(&running) {
                missing.push(format!(
                    "headers of the running kernel (Debian: apt install linux-headers-{running})"
                ));
            }
        } else if with_headers.is_empty() {
            missing
                .push("headers of an installed kernel (Debian: apt install linux-headers-amd64)".to_owned());
        }
        if !missing.is_empty() {
            bail!(
                "the driver cannot be built here. Missing: {}. Install that; or give a module that is built already \
                 (--module FILE), or leave the driver out (--no-driver)",
                missing.join(", and ")
            );
        }
        Ok(Self::Dkms { source: source.to_owned(), kernels: with_headers })
    }

    /// One line for a person.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Dkms { kernels, .. } => format!("built by DKMS for {}", kernels.join(", ")),
            Self::Module { file, release } => format!("{} for {release}", file.display()),
            Self::None => "left out".to_owned(),
        }
    }
}

/// Kernels that are installed.
pub(crate) fn kernels(system: &System) -> Vec<String> {
    let Ok(entries) = fs::read_dir(system.path("lib/modules")) else { return Vec::new() };
    let mut releases: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|release| system.path(&format!("lib/modules/{release}")).is_dir())
        .collect();
    releases.sort();
    releases
}

fn has_headers(system: &System, release: &str) -> bool {
    system.read(&format!("lib/modules/{release}/build/Makefile")).is_ok()
}

/// Of the kernel that runs.
pub(crate) fn running_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// The kernel release that a module names.
fn release_of(module: &[u8]) -> Option<String> {
    if !module.starts_with(b"\x7fELF") {
        return None;
    }
    let key = b"vermagic=";
    let at = module.windows(key.len()).position(|window| window == key)?;
    let magic: Vec<u8> = module
        .iter()
        .skip(at + key.len())
        .take_while(|byte| **byte != 0 && **byte != b' ')
        .copied()
        .collect();
    String::from_utf8(magic).ok().filter(|release| !release.is_empty() && !release.contains('/'))
}

/// Installs it, for the next start of the system too. Says whether anything had to be done.
pub(crate) fn install(changes: &mut Changes<'_>, plan: &Plan) -> Result<bool> {
    let mut new = false;
    match plan {
        Plan::Dkms { source, kernels } => new = dkms_install(changes, source, kernels)?,
        Plan::Module { file, release } => {
            let contents = fs::read(file)?;
            changes.record.kernels.insert(release.clone());
            let inside = format!("lib/modules/{release}/updates/{}.ko", layout::MODULE);
            if changes.write(&inside, &contents, 0o644)? {
                depmod(changes.system, release)?;
                new = true;
            }
        }
        Plan::None => return Ok(false),
    }
    new |= changes.write(layout::UDEV_RULE, UDEV_RULE.as_bytes(), 0o644)?;
    new |= changes.write(layout::MODULES_LOAD, format!("{}\n", layout::MODULE).as_bytes(), 0o644)?;
    Ok(new)
}

/// The rule of the driver's own directory.
const UDEV_RULE: &str = include_str!("../../guest-driver/udev/70-virtio-compute.rules");

fn dkms_install(changes: &mut Changes<'_>, source: &Path, kernels: &[String]) -> Result<bool> {
    let package = format!("virtio-compute/{}", layout::VERSION);
    let directory = format!("{}-{}", layout::DRIVER_SOURCE, layout::VERSION);
    for old in changes.record.dkms.clone() {
        let old_package = format!("virtio-compute/{old}");
        if old != layout::VERSION && changes.system.has(&format!("var/lib/dkms/{old_package}")) {
            dkms(changes.system, &["remove", &old_package, "--all"])?;
        }
    }
    changes.record.dkms = [layout::VERSION.to_owned()].into();
    let changed = copy_sources(changes, source, &directory)?;
    let mut new = changed;
    if changed && changes.system.has(&format!("var/lib/dkms/{package}")) {
        dkms(changes.system, &["remove", &package, "--all"])?;
    }
    for release in kernels {
        let status = dkms(changes.system, &["status", &package, "-k", release])?;
        if changed || !status.contains("installed") {
            say(format_args!("  DKMS builds the driver for {release} …"));
            dkms(changes.system, &["install", &package, "-k", release])?;
            new = true;
        }
    }
    Ok(new)
}

/// What DKMS needs to build the module. Says whether anything was new.
fn copy_sources(changes: &mut Changes<'_>, from: &Path, to: &str) -> Result<bool> {
    let mut changed = false;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let inside = format!("{to}/{name}");
        let is_source = matches!(name.as_str(), "Kbuild" | "Makefile" | "dkms.conf")
            || ((name.ends_with(".c") && !name.ends_with(".mod.c")) || name.ends_with(".h"));
        if entry.file_type()?.is_dir() {
            if !matches!(name.as_str(), "tests" | "udev") && !name.starts_with('.') {
                changed |= copy_sources(changes, &entry.path(), &inside)?;
            }
        } else if is_source && entry.path() != changes.system.path(&inside) {
            changed |= changes.write(&inside, &fs::read(entry.path())?, 0o644)?;
        }
    }
    Ok(changed)
}

fn dkms(system: &System, arguments: &[&str]) -> Result<String> {
    let program = system.program("dkms").context("DKMS is gone (Debian: apt install dkms)")?;
    let mut command = system.command(&program, None)?;
    command.args(arguments);
    let ended = system::run(command, LIMIT)?;
    match ended.failure {
        Some(failure) => {
            bail!("dkms {} {failure}:\n{}\n{}", arguments.join(" "), ended.output, ended.complaints)
        }
        None => Ok(ended.output),
    }
}

fn depmod(system: &System, release: &str) -> Result<()> {
    let Some(program) = system.program("depmod") else {
        warn(format_args!("there is no depmod (package kmod): `modprobe` will not find the module"));
        return Ok(());
    };
    let mut command = system.command(&program, None)?;
    command.args(["-a", release]);
    let ended = system::run(command, LIMIT)?;
    match ended.failure {
        Some(failure) => bail!("depmod {failure}: {}", ended.complaints),
        None => Ok(()),
    }
}

/// Loads the module into the running kernel and lets udev see to its node. What does not work is told, and comes right
/// with the next start or is for `doctor`.
pub(crate) fn start(system: &System) {
    if !system.is_live() {
        return;
    }
    attempt(system, "udevadm", &["control", "--reload"]);
    if attempt(system, "modprobe", &[layout::MODULE]) {
        attempt(system, "udevadm", &["trigger", "--action=add", "--subsystem-match=vcompute"]);
        attempt(system, "udevadm", &["settle", "--timeout=5"]);
    }
}

fn attempt(system: &System, name: &str, arguments: &[&str]) -> bool {
    let Some(program) = system.program(name) else { return false };
    let ended = system.command(&program, None).and_then(|mut command| {
        command.args(arguments);
        system::run(command, Duration::from_secs(30))
    });
    let reason = match ended {
        Ok(ended) => match ended.failure {
            None => return true,
            Some(failure) => format!("{failure}: {}", ended.complaints),
        },
        Err(error) => format!("{error:#}"),
    };
    warn(format_args!("{name} {} {reason}", arguments.join(" ")));
    false
}

/// Takes the driver away, out of the running kernel too if no program uses it.
pub(crate) fn uninstall(changes: &Changes<'_>) -> Result<()> {
    let system = changes.system;
    if system.is_live() && system.has(&format!("sys/module/{}", layout::MODULE)) {
        let users = system.text(&format!("sys/module/{}/refcnt", layout::MODULE))?.unwrap_or_default();
        if users.trim() == "0" {
            attempt(system, "modprobe", &["--remove", layout::MODULE]);
        } else {
            say(format_args!(
                "  still loaded    the driver, which a program uses; it is gone after the next start"
            ));
        }
    }
    for version in &changes.record.dkms {
        let package = format!("virtio-compute/{version}");
        if system.has(&format!("var/lib/dkms/{package}")) {
            dkms(system, &["remove", &package, "--all"])?;
        }
    }
    for release in &changes.record.kernels {
        let inside = format!("lib/modules/{release}/updates/{}.ko", layout::MODULE);
        if remove_if_there(&system.path_to_write(&inside)?)? {
            depmod(system, release)?;
        }
    }
    Ok(())
}

/// udev forgets the rule that is gone.
pub(crate) fn forget_rules(system: &System) {
    if system.is_live() {
        attempt(system, "udevadm", &["control", "--reload"]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_its_kernel() {
        let module = b"\x7fELF\0license=GPL\0vermagic=6.12.48+deb13-amd64 SMP preempt mod_unload \0";

        assert_eq!(release_of(module).as_deref(), Some("6.12.48+deb13-amd64"));
        assert_eq!(release_of(b"\x7fELF nothing"), None);
        assert_eq!(release_of(b"vermagic=6.12 "), None);
    }

    #[test]
    fn dkms_is_told_the_version_of_this_program() {
        let conf = include_str!("../../guest-driver/dkms.conf");

        assert!(conf.contains(&format!("PACKAGE_VERSION=\"{}\"", layout::VERSION)));
        assert!(conf.contains("PACKAGE_NAME=\"virtio-compute\""));
        assert!(conf.contains(&format!("BUILT_MODULE_NAME[0]=\"{}\"", layout::MODULE)));
    }
}
