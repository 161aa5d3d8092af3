//! The guest's root file system: an initial RAM disk of Debian's own files, our module, and what the guest is to run.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::cpio::Archive;
use crate::debian::Root;
use crate::debian::root::Recipe;
use crate::kernel::{Image, Kernel};
use crate::places::Places;

const INIT: &str = include_str!("../guest/init");
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The C library's parts and the compiler's support library: what Rust and C programs need.
const NEEDED: &[&str] = &[
    "libc.so.6",
    "libm.so.6",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libresolv.so.2",
    "libgcc_s.so.1",
];

const PASSWD: &str = "root:x:0:0:root:/:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n";
const GROUP: &str = "root:x:0:\nrender:x:105:user\nuser:x:1000:\n";

/// What a guest has beyond Debian's own files.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The module of ours to load.
    pub module: Option<PathBuf>,
    /// Files to put into the guest: where from, and the path in the guest.
    pub files: Vec<(PathBuf, String)>,
}

/// What a guest is to do.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// A shell script.
    pub script: &'a str,
    /// Run it as root (otherwise as an unprivileged user of group `render`).
    pub as_root: bool,
    /// Without the device there is no use in beginning.
    pub needs_device: bool,
}

impl Job<'_> {
    /// An archive of its own, to be appended to [`build`]'s.
    pub fn archive(&self) -> Vec<u8> {
        let mut archive = Archive::new();
        archive.file("etc/job", 0o755, self.script.as_bytes());
        archive.file("etc/job.user", 0o644, if self.as_root { b"root\n" } else { b"user\n" });
        if self.needs_device {
            archive.file("etc/job.needs-device", 0o644, b"");
        }
        archive.finish()
    }
}

/// Makes the initial RAM disk, but for the job.
pub fn build(places: &Places, kernel: &Image, contents: &Contents) -> Result<Vec<u8>> {
    let mut archive = Archive::new();
    for path in [
        "dev", "proc", "sys", "tmp", "run", "etc", "lib64", "usr", "usr/bin", "usr/lib", LIBRARIES,
        "usr/sbin",
    ] {
        archive.directory(path);
    }
    for (path, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib")] {
        archive.link(path, target);
    }
    archive.directory("usr/lib/modules");

    let userland = add_busybox(&mut archive, places, kernel.kernel)?;
    for library in NEEDED {
        add_file(
            &mut archive,
            &userland.path.join(LIBRARIES).join(library),
            &format!("{LIBRARIES}/{library}"),
        )?;
    }
    let loader = "ld-linux-x86-64.so.2";
    add_file(&mut archive, &userland.path.join(LIBRARIES).join(loader), &format!("{LIBRARIES}/{loader}"))?;
    archive.link(&format!("lib64/{loader}"), &format!("/{LIBRARIES}/{loader}"));

    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("etc/passwd", 0o644, PASSWD.as_bytes());
    archive.file("etc/group", 0o644, GROUP.as_bytes());
    add_modules(&mut archive, kernel, contents.module.as_deref())?;
    for (from, to) in &contents.files {
        add_file(&mut archive, from, to.trim_start_matches('/'))?;
    }
    Ok(archive.finish())
}

/// Adds a shell and its tools to `usr/bin`; returns the tree that they are from.
pub(crate) fn add_busybox(archive: &mut Archive, places: &Places, kernel: Kernel) -> Result<Root> {
    let userland = userland(places, kernel)?;
    let busybox = userland.path.join("usr/bin/busybox");
    add_file(archive, &busybox, "usr/bin/busybox")?;
    for applet in applets(&busybox)? {
        archive.link(&format!("usr/bin/{applet}"), "busybox");
    }
    Ok(userland)
}

/// Of the same Debian release as the kernel.
fn userland(places: &Places, kernel: Kernel) -> Result<Root> {
    let suite = if kernel == Kernel::V6_1 { "bookworm" } else { "trixie" };
    Root::open_or_make(
        &places.debian(),
        &Recipe {
            name: &format!("userland-{suite}"),
            suites: &[suite],
            packages: &["busybox-static", "libc6", "libgcc-s1"],
            only: None,
            files: &[],
        },
    )
}

fn applets(busybox: &Path) -> Result<Vec<String>> {
    let output =
        Command::new(busybox).arg("--list").stdin(Stdio::null()).output().context("run busybox --list")?;
    let list = String::from_utf8(output.stdout)?;
    Ok(list.lines().filter(|applet| *applet != "busybox").map(str::to_owned).collect())
}

fn add_file(archive: &mut Archive, from: &Path, to: &str) -> Result<()> {
    let contents = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    let mode = fs::metadata(from)?.permissions().mode() & 0o755;
    archive.file(to, mode, &contents);
    Ok(())
}

/// Adds virtio's modules and ours, and the order in which to load them.
fn add_modules(archive: &mut Archive, kernel: &Image, ours: Option<&Path>) -> Result<()> {
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    add_stock_module(archive, kernel, "virtio_pci", &mut seen, &mut order)?;
    if let Some(path) = ours {
        let contents = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        for needed in dependencies(&contents) {
            add_stock_module(archive, kernel, &needed, &mut seen, &mut order)?;
        }
        let name = path.file_name().and_then(|name| name.to_str()).context("a module has a name")?;
        archive.file(&format!("usr/lib/modules/{name}"), 0o644, &contents);
        order.push(name.to_owned());
    }
    archive.file("usr/lib/modules/order", 0o644, format!("{}\n", order.join("\n")).as_bytes());
    Ok(())
}

/// Adds a module after those that it needs. One that is built into the kernel has no file, and needs none.
pub(crate) fn add_stock_module(
    archive: &mut Archive,
    kernel: &Image,
    name: &str,
    seen: &mut HashSet<String>,
    order: &mut Vec<String>,
) -> Result<()> {
    if !seen.insert(name.to_owned()) {
        return Ok(());
    }
    let Some(contents) = stock_module(kernel, name)? else { return Ok(()) };
    for needed in dependencies(&contents) {
        add_stock_module(archive, kernel, &needed, seen, order)?;
    }
    archive.file(&format!("usr/lib/modules/{name}.ko"), 0o644, &contents);
    order.push(format!("{name}.ko"));
    Ok(())
}

fn stock_module(kernel: &Image, name: &str) -> Result<Option<Vec<u8>>> {
    let Some(file) = find_module(&kernel.modules, name)? else { return Ok(None) };
    if file.extension().is_some_and(|extension| extension == "ko") {
        return Ok(Some(fs::read(file)?));
    }
    let output = Command::new("xz")
        .args(["--decompress", "--stdout"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .context("run xz (package xz-utils)")?;
    if !output.status.success() {
        bail!("xz cannot read {}", file.display());
    }
    Ok(Some(output.stdout))
}

/// The file of a module, compressed or not. Its name has `-` where others write `_`, or the other way round.
fn find_module(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if let Some(found) = find_module(&path, name)? {
                return Ok(Some(found));
            }
        } else if let Some((stem, "ko" | "ko.xz")) =
            path.file_name().and_then(|file| file.to_str()).and_then(|file| file.split_once('.'))
            && stem.replace('-', "_") == name
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The modules that a module names in its information section as needed.
fn dependencies(module: &[u8]) -> Vec<String> {
    let key = b"\0depends=";
    let Some(at) = module.windows(key.len()).position(|window| window == key) else { return Vec::new() };
    let list: Vec<u8> =
        module.iter().skip(at.saturating_add(key.len())).take_while(|byte| **byte != 0).copied().collect();
    String::from_utf8_lossy(&list)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_dependencies_are_read_from_its_information() {
        let module = b"\x7fELF\0license=GPL\0depends=virtio,virtio-ring\0name=x\0";

        assert_eq!(dependencies(module), ["virtio", "virtio_ring"]);
        assert!(dependencies(b"\0depends=\0").is_empty());
        assert!(dependencies(b"nothing").is_empty());
    }
}
