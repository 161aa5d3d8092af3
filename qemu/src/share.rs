//! A guest that sees this machine's files: all of them, read-only, over 9p, under a layer of the guest's own.
//!
//! For programs that are too large for a guest's image: `on-host COMMAND` in such a guest runs what this machine has.

use std::collections::HashSet;

use anyhow::{Result, ensure};

use crate::cpio::Archive;
use crate::debian::Root;
use crate::debian::root::Recipe;
use crate::image;
use crate::install::Qemu;
use crate::kernel::Image;
use crate::places::Places;

const SCRIPT: &str = include_str!("../guest/on-host");

/// What the script loads, each after what it needs.
const MODULES: &[&str] = &["9pnet_virtio", "9p", "overlay"];

/// QEMU's option: the whole machine. Files of different file systems may have the same number, which is remapped.
const OPTION: &str = "local,path=/,mount_tag=share,security_model=none,readonly=on,multidevs=remap";

/// An archive, to be appended to a guest's: the modules and the program `on-host`.
pub fn archive(places: &Places, kernel: &Image) -> Result<Vec<u8>> {
    let package = format!("linux-image-{}", kernel.release);
    let root = Root::open_or_make(
        &places.debian(),
        &Recipe {
            name: &format!("share-{}", kernel.kernel.name()),
            suites: kernel.kernel.suites(),
            packages: &[&package],
            only: Some(&["linux-image-", "linux-binary-", "linux-modules-"]),
            files: &[
                "*/kernel/net/9p/*",
                "*/kernel/fs/9p/*",
                "*/kernel/fs/netfs/*",
                "*/kernel/fs/fscache/*",
                "*/kernel/fs/overlayfs/*",
            ],
        },
    )?;
    // virtio itself is not here: the guest has loaded it when the script runs.
    let modules = root.path.join("usr/lib/modules").join(&kernel.release).join("kernel");
    let kernel = Image { modules, ..kernel.clone() };
    let mut archive = Archive::new();
    let (mut seen, mut order) = (HashSet::new(), Vec::new());
    for name in MODULES {
        image::add_stock_module(&mut archive, &kernel, name, &mut seen, &mut order)?;
        ensure!(order.contains(&format!("{name}.ko")), "{package} has no module {name}");
    }
    archive.file("usr/lib/modules/share", 0o644, format!("{}\n", order.join("\n")).as_bytes());
    archive.file("usr/bin/on-host", 0o755, SCRIPT.as_bytes());
    Ok(archive.finish())
}

impl Qemu {
    /// The same, whose guests see this machine's files.
    pub fn sharing(&self) -> Self {
        let mut sharing = self.clone();
        sharing.prefix.extend(["-virtfs".into(), OPTION.into()]);
        sharing
    }
}
