//! A guest with an installed system on a disk: the disk's image from a tree, and the RAM disk that goes over to it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;
use crate::debian::Root;
use crate::debian::root::Recipe;
use crate::image;
use crate::kernel::{Image, Kernel};
use crate::places::Places;

const INIT: &str = include_str!("../guest/init-disk");

/// The disk's and its file system's modules, in the RAM disk. (ext4 asks for its checksums by name.)
const NEEDED: &[&str] = &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// What an installed system may ask for: no drivers but virtio's.
const MODULES: &[&str] = &[
    "*/modules.*",
    "*/kernel/arch/*",
    "*/kernel/crypto/*",
    "*/kernel/fs/*",
    "*/kernel/lib/*",
    "*/kernel/net/core/*",
    "*/kernel/net/packet/*",
    "*/kernel/drivers/char/*",
    "*/kernel/drivers/virtio/*",
    "*/kernel/drivers/block/virtio_blk*",
    "*/kernel/drivers/net/virtio_net*",
    "*/kernel/drivers/net/net_failover*",
];

/// The modules of a stock kernel, as an installed system has them: a tree with `usr/lib/modules/RELEASE`.
pub fn modules(places: &Places, kernel: &Image) -> Result<PathBuf> {
    let suite = if kernel.kernel == Kernel::V6_1 { "bookworm" } else { "trixie" };
    let root = Root::open_or_make(
        &places.debian(),
        &Recipe {
            name: &format!("modules-{}", kernel.kernel.name()),
            suites: &[suite],
            packages: &[&format!("linux-image-{}", kernel.release)],
            only: Some(&["linux-image-", "linux-modules-"]),
            files: MODULES,
        },
    )?;
    Ok(root.path)
}

/// Makes a disk's image (ext4, no partitions) of a tree. The file is sparse.
pub fn make(tree: &Path, to: &Path, mib: u64) -> Result<()> {
    let partial = to.with_extension("partial");
    let file = File::create(&partial).with_context(|| format!("create {}", partial.display()))?;
    file.set_len(mib << 20)?;
    let output = Command::new("mkfs.ext4")
        // Written once and read often: what the guest would do later is done now.
        .args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", "-d"])
        .arg(tree)
        .arg(&partial)
        .stdin(Stdio::null())
        .output()
        .context("run mkfs.ext4 (package e2fsprogs)")?;
    if !output.status.success() {
        bail!("mkfs.ext4 failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    fs::rename(&partial, to).with_context(|| format!("rename to {}", to.display()))
}

/// The RAM disk that mounts the disk and starts its system, but for the setup script.
pub fn initrd(places: &Places, kernel: &Image) -> Result<Vec<u8>> {
    let tree = modules(places, kernel)?;
    let stock = Image {
        modules: tree.join("usr/lib/modules").join(&kernel.release).join("kernel"),
        ..kernel.clone()
    };
    let mut archive = Archive::new();
    for path in ["dev", "proc", "sys", "etc", "usr", "usr/bin", "usr/lib", "usr/lib/modules"] {
        archive.directory(path);
    }
    for (path, target) in [("bin", "usr/bin"), ("sbin", "usr/bin"), ("lib", "usr/lib")] {
        archive.link(path, target);
    }
    image::add_busybox(&mut archive, places, kernel.kernel)?;
    archive.file("init", 0o755, INIT.as_bytes());
    let (mut seen, mut order) = (HashSet::new(), Vec::new());
    for name in NEEDED {
        image::add_stock_module(&mut archive, &stock, name, &mut seen, &mut order)?;
    }
    archive.file("usr/lib/modules/order", 0o644, format!("{}\n", order.join("\n")).as_bytes());
    Ok(archive.finish())
}

/// An archive to be appended to [`initrd`]'s: a script that may change the system at `/system` before it starts.
pub fn setup(script: &str) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.file("etc/setup", 0o755, script.as_bytes());
    archive.finish()
}
