//! The guests' kernels: Debian's stock ones, as their packages have them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::debian::Root;
use crate::debian::root::Recipe;
use crate::places::Places;

/// One of the kernel lines that the project supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kernel {
    /// Debian 12 (bookworm).
    V6_1,
    /// Debian 13 (trixie).
    V6_12,
    /// The newest of trixie-backports.
    V7,
}

impl Kernel {
    /// All of them, the oldest first.
    pub const ALL: [Self; 3] = [Self::V6_1, Self::V6_12, Self::V7];

    /// The name on command lines and in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7",
        }
    }

    pub(crate) fn suites(self) -> &'static [&'static str] {
        match self {
            Self::V6_1 => &["bookworm"],
            Self::V6_12 => &["trixie"],
            Self::V7 => &["trixie", "trixie-backports"],
        }
    }

    /// The tree in which modules for this kernel are compiled: its headers, its compiler, sparse, a shell.
    pub fn build_root(self, places: &Places) -> Result<Root> {
        let mut packages = vec!["linux-headers-amd64", "make", "sparse"];
        packages.extend(["dash", "bash", "coreutils", "findutils", "grep", "mawk", "sed"]);
        let root = Root::open_or_make(
            &places.debian(),
            &Recipe {
                name: &format!("build-{}", self.name()),
                suites: self.suites(),
                packages: &packages,
                only: None,
                files: &[],
            },
        )?;
        // What mawk's maintainer script would link.
        let awk = root.path.join("usr/bin/awk");
        if awk.symlink_metadata().is_err() {
            symlink("mawk", &awk).with_context(|| format!("link {}", awk.display()))?;
        }
        Ok(root)
    }

    /// The kernel image and the modules that a small guest loads, of the same release as `build_root`'s headers.
    pub fn image(self, places: &Places) -> Result<Image> {
        let release = release_of(&self.build_root(places)?.path)?;
        let package = format!("linux-image-{release}");
        let root = Root::open_or_make(
            &places.debian(),
            &Recipe {
                name: &format!("kernel-{}", self.name()),
                suites: self.suites(),
                packages: &[&package],
                only: Some(&["linux-image-", "linux-binary-", "linux-modules-"]),
                files: &["*/vmlinuz*", "*/kernel/drivers/virtio/*"],
            },
        )
        .context("the kernel's package has to match its headers' (after an update of Debian: remove target/debian)")?;
        let modules = root.path.join("usr/lib/modules").join(&release);
        // Kernels 7 are packaged beside their modules.
        let places = [root.path.join("boot").join(format!("vmlinuz-{release}")), modules.join("vmlinuz")];
        let vmlinuz = places
            .into_iter()
            .find(|place| place.exists())
            .with_context(|| format!("no kernel image in {package} or what it needs"))?;
        let modules = modules.join("kernel");
        Ok(Image { kernel: self, release, vmlinuz, modules })
    }
}

impl FromStr for Kernel {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|kernel| kernel.name() == text)
            .with_context(|| format!("no such kernel: {text} (there are 6.1, 6.12 and 7)"))
    }
}

/// A bootable kernel.
#[derive(Debug, Clone)]
pub struct Image {
    /// Which line it is of.
    pub kernel: Kernel,
    /// As `uname -r` says it.
    pub release: String,
    /// The compressed kernel.
    pub vmlinuz: PathBuf,
    /// The directory of its modules.
    pub modules: PathBuf,
}

/// The kernel release whose headers a build root has.
pub fn release_of(build_root: &Path) -> Result<String> {
    let sources = build_root.join("usr/src");
    for entry in fs::read_dir(&sources).with_context(|| format!("list {}", sources.display()))? {
        let name = entry?.file_name();
        if let Some(release) = name.to_str().and_then(|name| name.strip_prefix("linux-headers-"))
            && release.ends_with("-amd64")
            && !release.contains("-rt-")
        {
            return Ok(release.to_owned());
        }
    }
    bail!("no kernel headers in {}", sources.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_named_on_the_command_line() {
        assert_eq!("6.12".parse::<Kernel>().expect("a kernel"), Kernel::V6_12);
        assert!("5.10".parse::<Kernel>().is_err());
    }
}
