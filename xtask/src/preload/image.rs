//! Two disks of one Debian: as it is, and with CUDA installed by `vcompute-guest install`.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu::debian::system::{self, Recipe};
use qemu::{Kernel, Places, disk};

use crate::artifacts::Artifacts;
use crate::guest_module;
use crate::guest_tools::GuestTools;
use crate::process;

/// What the guest has beyond Debian's essential packages.
const PACKAGES: &[&str] = &[
    "apt",
    "busybox-static",
    "cron",
    "dbus",
    "initramfs-tools",
    "kmod",
    "libc6-i386",
    "libpam-systemd",
    "musl",
    "openssh-server",
    "passwd",
    "python3",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// The disk's size; the file is sparse.
const DISK_MIB: u64 = 1024;

const SETUP: &str = include_str!("guest/setup");
const CHECK: &str = include_str!("guest/check");
const SOCKETS: &str = include_str!("guest/sockets.py");

/// Sources of programs that the guest runs without our library.
const SOURCES: &[(&str, &str)] = &[
    ("times.c", include_str!("guest/times.c")),
    ("static32.S", include_str!("guest/static32.S")),
    ("dynamic32.S", include_str!("guest/dynamic32.S")),
    ("musl.S", include_str!("guest/musl.S")),
    ("other.c", include_str!("guest/other.c")),
];

/// Where the test's own files are in the guest.
const HERE: &str = "opt/test";

/// What boots.
#[derive(Debug)]
pub(super) struct Images {
    /// Without anything of ours.
    pub reference: PathBuf,
    /// With CUDA installed.
    pub installed: PathBuf,
    /// The same with a preloaded file that was cut short.
    pub damaged: PathBuf,
    /// The RAM disk that the system has made for itself, with the library preloaded.
    pub own_initrd: PathBuf,
    /// The kernel.
    pub vmlinuz: PathBuf,
    /// What goes over to the disk's system.
    pub initrd: Vec<u8>,
    /// The private key that opens the guest.
    pub key: PathBuf,
    /// The CUDA driver with a gate before `cuInit`.
    pub gated_driver: PathBuf,
    /// The file that says what happens at the gate.
    pub gate: PathBuf,
}

impl Images {
    /// Makes what is not there or out of date.
    pub(super) fn make(places: &Places, artifacts: &Artifacts) -> Result<Self> {
        let kernel = Kernel::V6_12;
        let image = kernel.image(places)?;
        let directory = places.guest().join("preload");
        fs::create_dir_all(&directory)?;
        let tools = GuestTools::build(places)?;
        let images = Self {
            reference: directory.join("reference.ext4"),
            installed: directory.join("installed.ext4"),
            damaged: directory.join("damaged.ext4"),
            own_initrd: directory.join("own-initrd"),
            vmlinuz: image.vmlinuz.clone(),
            initrd: disk::initrd(places, &image)?,
            key: directory.join("key"),
            gated_driver: directory.join("libgated_gpu.so"),
            gate: directory.join("gate"),
        };
        images.make_key()?;
        images.make_gated_driver(places, artifacts)?;

        let base = Recipe { name: "system-trixie", suite: "trixie", packages: PACKAGES };
        let base = base.open_or_make(&places.debian())?;
        let module = guest_module::driver(places, kernel)?;
        let programs = [artifacts.program("demo"), artifacts.program("late")];
        let mut ours: Vec<_> = tools.files().cloned().chain([module.clone()]).collect();
        ours.extend(artifacts.guest_libraries().map(|(file, _)| file));
        ours.push(artifacts.management_library().0);

        let mut fingerprint = DefaultHasher::new();
        (SETUP, CHECK, SOCKETS, SOURCES, PACKAGES, &image.release).hash(&mut fingerprint);
        for file in programs.iter().chain([&images.key]) {
            fs::read(file).with_context(|| format!("read {}", file.display()))?.hash(&mut fingerprint);
        }
        let tree = directory.join("tree");
        let stamp = directory.join("reference.stamp");
        let plain = format!("{:x}", fingerprint.finish());
        let fresh = fs::read_to_string(&stamp).is_ok_and(|text| text == plain);
        for file in &ours {
            fs::read(file).with_context(|| format!("read {}", file.display()))?.hash(&mut fingerprint);
        }
        let full = format!("{:x}", fingerprint.finish());
        let installed_stamp = directory.join("installed.stamp");
        if fresh && fs::read_to_string(&installed_stamp).is_ok_and(|text| text == full) {
            return Ok(images);
        }
        let begin = Instant::now();
        images.fill(places, &base, &disk::modules(places, &image)?, &tree, &programs)?;
        disk::make(&tree, &images.reference, DISK_MIB)?;
        fs::write(&stamp, plain)?;
        install(&tree, artifacts, &tools, &module)?;
        images.make_own_initrd(&tree, &image.release)?;
        disk::make(&tree, &images.installed, DISK_MIB)?;
        cut_short(&tree.join("usr/lib/x86_64-linux-gnu/virtio-compute/preload.so"))?;
        disk::make(&tree, &images.damaged, DISK_MIB)?;
        fs::write(&installed_stamp, full)?;
        fs::remove_dir_all(&tree)?;
        log::info!("disks made in {:.1} s", begin.elapsed().as_secs_f32());
        Ok(images)
    }

    /// By the system's own tools, with the library preloaded into each of them. Nothing of it may be in there.
    fn make_own_initrd(&self, tree: &Path, release: &str) -> Result<()> {
        let said = system::run_in(
            tree,
            &format!(
                "grep -q virtio-compute /etc/ld.so.preload
                echo COMPRESS=gzip >/etc/initramfs-tools/conf.d/test
                update-initramfs -c -k {release} 2>&1
                lsinitramfs /boot/initrd.img-{release}
                rm /etc/initramfs-tools/conf.d/test"
            ),
        )?;
        ensure!(
            said.lines().any(|line| line == "scripts/local-bottom/virtio-compute"),
            "the RAM disk does not look at the library:\n{said}"
        );
        let stray: Vec<_> = said
            .lines()
            .filter(|line| ["libcuda", "ld.so", "preload"].iter().any(|part| line.contains(part)))
            .filter(|line| !line.contains("ld.so.cache") && !line.contains("ld.so.conf"))
            .collect();
        ensure!(stray.is_empty(), "the RAM disk has, or its making said: {}", stray.join(", "));
        fs::rename(tree.join(format!("boot/initrd.img-{release}")), &self.own_initrd)
            .context("take the RAM disk out of the tree")
    }

    fn make_key(&self) -> Result<()> {
        if self.key.exists() {
            return Ok(());
        }
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(&self.key);
        run(&mut command, &self.key.with_extension("log"))
    }

    fn make_gated_driver(&self, places: &Places, artifacts: &Artifacts) -> Result<()> {
        let driver = artifacts.soft_gpu();
        let directory = driver.parent().context("the driver lies in a directory")?;
        let mut command = Command::new("cc");
        command
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(&self.gated_driver)
            .arg(places.workspace().join("xtask/src/preload/guest/gate.c"))
            .arg(format!("-DGATE=\"{}\"", self.gate.display()))
            .arg("-Wl,--no-as-needed")
            .arg(&driver)
            .arg(format!("-Wl,-rpath,{}", directory.display()));
        run(&mut command, &self.gated_driver.with_extension("log"))
    }

    /// The system before anything of ours is installed.
    fn fill(
        &self,
        places: &Places,
        base: &Path,
        modules: &Path,
        tree: &Path,
        programs: &[PathBuf],
    ) -> Result<()> {
        if tree.exists() {
            fs::remove_dir_all(tree)?;
        }
        let log = tree.with_extension("log");
        run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(base).arg(tree), &log)?;
        run(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(modules.join("usr/lib/modules"))
                .arg(tree.join("usr/lib/")),
            &log,
        )?;
        let own = tree.join(HERE);
        fs::create_dir_all(&own)?;
        for program in programs {
            copy(program, &own.join(program.file_name().context("a program has a name")?), 0o755)?;
        }
        copy(&self.key.with_extension("pub"), &own.join("key.pub"), 0o644)?;
        for (name, text, mode) in [("check", CHECK, 0o755), ("sockets.py", SOCKETS, 0o644)] {
            fs::write(own.join(name), text)?;
            fs::set_permissions(own.join(name), fs::Permissions::from_mode(mode))?;
        }
        for (source, _) in SOURCES {
            compile(&places.workspace().join("xtask/src/preload/guest").join(source), tree)?;
        }
        system::run_in(tree, SETUP).map(drop)
    }
}

/// With the C libraries of the guest itself.
fn compile(source: &Path, tree: &Path) -> Result<()> {
    let name = source.file_stem().and_then(|stem| stem.to_str()).context("a source has a name")?;
    let mut command = Command::new("cc");
    command.args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(tree.join(HERE).join(name)).arg(source);
    match name {
        "static32" => {
            command.args(["-m32", "-nostdlib", "-static"]);
        }
        "dynamic32" => {
            command
                .args([
                    "-m32",
                    "-nostdlib",
                    "-no-pie",
                    "-Wl,--allow-shlib-undefined,--dynamic-linker,/lib/ld-linux.so.2",
                ])
                .arg(tree.join("usr/lib32/libc.so.6"));
        }
        "musl" => {
            command
                .args(["-nostdlib", "-pie", "-fPIC", "-Wl,--dynamic-linker,/lib/ld-musl-x86_64.so.1"])
                .arg("-L")
                .arg(tree.join("usr/lib/x86_64-linux-musl"))
                .arg("-l:libc.so");
        }
        "other" => {
            command.args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"]);
        }
        _ => {}
    }
    run(&mut command, &tree.with_extension("cc.log")).with_context(|| format!("compile {name}"))
}

/// A new file, so that the library itself, which this may be a link to, stays as it is.
fn cut_short(file: &Path) -> Result<()> {
    let mut contents = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    contents.truncate(8192);
    fs::remove_file(file)?;
    fs::write(file, contents)?;
    Ok(())
}

/// As a user would, but into a tree.
fn install(tree: &Path, artifacts: &Artifacts, tools: &GuestTools, module: &Path) -> Result<()> {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation=private", "sh", "-eu", "-c"])
        .arg("mount -t proc proc \"$1/proc\"; mount --rbind /dev \"$1/dev\"; shift; exec \"$@\"")
        .arg("sh")
        .arg(tree)
        .arg(&tools.installer)
        .arg("--root")
        .arg(tree)
        .args(["install", "--yes", "--library"])
        .arg(artifacts.shim())
        .arg("--module")
        .arg(module);
    run(&mut command, &tree.with_extension("install.log")).context("vcompute-guest install")
}

fn copy(from: &Path, to: &Path, mode: u32) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    fs::set_permissions(to, fs::Permissions::from_mode(mode))?;
    Ok(())
}

fn run(command: &mut Command, log: &Path) -> Result<()> {
    let name = command.get_program().display().to_string();
    process::run(command, log, Duration::from_secs(300), |_| false)?.expect_success(&name)
}
