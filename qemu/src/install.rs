//! Finds a QEMU that has the generic vhost-user device, or fetches one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::debian::Root;
use crate::debian::root::Recipe;
use crate::places::Places;

/// The device that our backend stands behind.
pub const DEVICE: &str = "vhost-user-test-device-pci";

/// Names a QEMU to use instead of looking for one.
pub const OVERRIDE: &str = "VCOMPUTE_QEMU";

const PROGRAM: &str = "qemu-system-x86_64";
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const LOADER: &str = "ld-linux-x86-64.so.2";
/// What a guest without display, network and option ROMs needs; in the directories that `-L` names.
const FIRMWARE: &[(&str, &[&str])] =
    &[("usr/share/seabios", &["bios-256k.bin"]), ("usr/share/qemu", &["kvmvapic.bin", "linuxboot_dma.bin"])];
const OLDEST: (u32, u32) = (10, 2);

/// A QEMU and how it is run.
#[derive(Debug, Clone)]
pub struct Qemu {
    /// The program and the arguments that come before all others (a loader with its library path, where firmware is).
    pub(crate) prefix: Vec<OsString>,
    /// As it names itself.
    pub version: String,
    /// The tree it was unpacked to, unless it is the system's.
    pub root: Option<PathBuf>,
}

impl Qemu {
    /// The one named by [`OVERRIDE`], else the system's when it is new enough, else Debian's, fetched when need be.
    pub fn find(places: &Places) -> Result<Self> {
        if let Some(named) = std::env::var_os(OVERRIDE) {
            return Self::probe(vec![named.clone()], None)
                .with_context(|| format!("{OVERRIDE} names {}", Path::new(&named).display()));
        }
        match Self::probe(vec![PROGRAM.into()], None) {
            Ok(system) => return Ok(system),
            Err(reason) => log::debug!("the system's QEMU is not used: {reason:#}"),
        }
        Self::fetch(places)
    }

    /// Debian's, whatever the system has.
    pub fn fetch(places: &Places) -> Result<Self> {
        let root = Root::open_or_make(
            &places.debian(),
            &Recipe {
                name: "qemu",
                suites: &["trixie", "trixie-backports"],
                packages: &["qemu-system-x86"],
                only: None,
                files: &[],
            },
        )?;
        Self::unpacked(&root.path)
    }

    /// The one in an unpacked tree, run by the tree's own loader so that the system's libraries do not matter.
    pub fn unpacked(root: &Path) -> Result<Self> {
        let libraries = root.join(LIBRARIES);
        let prefix = vec![
            libraries.join(LOADER).into(),
            "--library-path".into(),
            libraries.into(),
            root.join("usr/bin").join(PROGRAM).into(),
            "-L".into(),
            root.join("usr/share/qemu").into(),
            "-L".into(),
            root.join("usr/share/seabios").into(),
        ];
        Self::probe(prefix, Some(root.to_owned()))
    }

    /// Copies what an unpacked QEMU needs to run a guest of ours to the tree `to`: the program, its libraries and loader,
    /// and three firmware files. [`Qemu::unpacked`] runs it from there.
    pub fn copy_needed(&self, to: &Path) -> Result<()> {
        let root = self.root.as_deref().context("only an unpacked QEMU can be copied")?;
        let libraries = root.join(LIBRARIES);
        let loader = libraries.join(LOADER);
        let program = root.join("usr/bin").join(PROGRAM);
        let output = Command::new(&loader)
            .arg("--library-path")
            .arg(&libraries)
            .arg("--list")
            .arg(&program)
            .output()
            .with_context(|| format!("run {}", loader.display()))?;
        let list = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || list.contains("not found") {
            bail!("QEMU's libraries are not complete:\n{list}");
        }
        for directory in
            [LIBRARIES, "usr/bin"].into_iter().chain(FIRMWARE.iter().map(|(directory, _)| *directory))
        {
            fs::create_dir_all(to.join(directory))?;
        }
        let copy = |from: &Path, name: &str| {
            fs::copy(from, to.join(name)).map(drop).with_context(|| format!("copy {}", from.display()))
        };
        copy(&program, &format!("usr/bin/{PROGRAM}"))?;
        copy(&loader, &format!("{LIBRARIES}/{LOADER}"))?;
        // Lines are `NAME => PATH (ADDRESS)`.
        for line in list.lines() {
            let Some((name, path)) = line.split_once(" => ") else { continue };
            if name.contains(LOADER) {
                continue;
            }
            let path = path.split(" (").next().unwrap_or(path);
            copy(Path::new(path), &format!("{LIBRARIES}/{}", name.trim()))?;
        }
        for (directory, files) in FIRMWARE {
            for file in *files {
                let name = format!("{directory}/{file}");
                copy(&root.join(&name), &name)?;
            }
        }
        Ok(())
    }

    fn probe(prefix: Vec<OsString>, root: Option<PathBuf>) -> Result<Self> {
        let mut qemu = Self { prefix, version: String::new(), root };
        let banner = qemu.ask(&["-version"])?;
        let version = parse_version(&banner).with_context(|| format!("no version in {banner:?}"))?;
        if version < OLDEST {
            bail!("QEMU {}.{} is older than {}.{}", version.0, version.1, OLDEST.0, OLDEST.1);
        }
        if !qemu.ask(&["-device", "help"])?.contains(&format!("\"{DEVICE}\"")) {
            bail!("this QEMU has no {DEVICE}");
        }
        banner.lines().next().unwrap_or_default().clone_into(&mut qemu.version);
        Ok(qemu)
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command().args(arguments).stdin(Stdio::null()).output().context("run QEMU")?;
        if !output.status.success() {
            bail!("QEMU {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A command that runs it.
    pub fn command(&self) -> Command {
        let mut words = self.prefix.iter();
        let mut command = Command::new(words.next().map_or(PROGRAM.as_ref(), OsString::as_os_str));
        command.args(words);
        command
    }
}

fn parse_version(banner: &str) -> Option<(u32, u32)> {
    let mut numbers = banner.split_once("version ")?.1.split(['.', ' ']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let old = parse_version("QEMU emulator version 9.2.4 (Debian 1:9.2.4)").expect("a version");
        let new = parse_version("QEMU emulator version 11.1.3 (Debian 1:11.1.3+ds)").expect("a version");

        assert!(old < OLDEST);
        assert!(new > OLDEST);
    }
}
