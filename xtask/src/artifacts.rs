//! What the workspace builds for a guest and for the backend's machine, put side by side as when installed.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use qemu::Places;

use crate::process;

/// Packages whose programs and libraries are staged.
const PACKAGES: &[&str] =
    &["vhost-user-compute", "soft-gpu", "conformance", "cuda-bench", "faulty-device", MANAGEMENT.0];

/// The guest's CUDA library, in two halves that lie side by side: profile (and directory), package, file as built, file
/// as installed. Programs find the first, which loads the second.
pub(crate) const GUEST_LIBRARIES: [(&str, &str, &str, &str); 2] = [
    ("preload", "shim-preload", "libcuda.so", "libcuda.so.1"),
    ("library", "guest-shim", "libvcompute.so", "libvcompute.so"),
];

/// The guest's management library: package, file as built, file as installed.
pub(crate) const MANAGEMENT: (&str, &str, &str) = ("guest-nvml", "libnvidia_ml.so", "libnvidia-ml.so.1");

/// CUDA programs in C that guests run: the demonstration, a test of processes that share a GPU, and one that holds a
/// kernel on the GPU while the machine is paused or reset, and one that calls CUDA when it is told to.
pub(crate) const PROGRAMS: &[&str] = &["demo", "neighbours", "strike", "late"];

/// The staged files.
#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    /// The directory with `bin` and `lib`.
    pub directory: PathBuf,
}

impl Artifacts {
    /// In a directory that has been staged before.
    pub(crate) fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The backend.
    pub(crate) fn backend(&self) -> PathBuf {
        self.directory.join("bin/vhost-user-compute")
    }

    /// The conformance suite.
    pub(crate) fn conformance(&self) -> PathBuf {
        self.directory.join("bin/conformance")
    }

    /// The benchmark.
    pub(crate) fn bench(&self) -> PathBuf {
        self.directory.join("bin/cuda-bench")
    }

    /// A device that misbehaves.
    pub(crate) fn faulty_device(&self) -> PathBuf {
        self.directory.join("bin/faulty-device")
    }

    /// A program in C: `driver_test`, `endure` or one of [`PROGRAMS`].
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.directory.join("bin").join(name)
    }

    /// The guest's CUDA library, as programs find it.
    pub(crate) fn shim(&self) -> PathBuf {
        self.directory.join("lib/libcuda.so.1")
    }

    /// The files of the guest's CUDA library and their names, which lie side by side in a guest.
    pub(crate) fn guest_libraries(&self) -> [(PathBuf, &'static str); 2] {
        GUEST_LIBRARIES.map(|(_, _, _, name)| (self.directory.join("lib").join(name), name))
    }

    /// The guest's management library, beside the other.
    pub(crate) fn management_library(&self) -> (PathBuf, &'static str) {
        let (.., name) = MANAGEMENT;
        (self.directory.join("lib").join(name), name)
    }

    /// The CUDA driver in software, where the backend looks for it.
    pub(crate) fn soft_gpu(&self) -> PathBuf {
        self.directory.join("lib/vcompute/libsoft_gpu.so")
    }

    /// Builds everything (release) and stages it.
    pub(crate) fn build(places: &Places) -> Result<Self> {
        let shown = |line: &str| line.contains("Finished") || line.starts_with("error");
        let libraries = GUEST_LIBRARIES.map(|(profile, package, ..)| (profile, vec![package]));
        for (profile, packages) in [("release", PACKAGES.to_vec())].into_iter().chain(libraries) {
            let mut command = cargo(places);
            command.args(["build", "--locked", "--profile", profile]);
            for package in packages {
                command.args(["--package", package]);
            }
            let log = places.guest().join(format!("logs/build-{profile}.log"));
            process::run(&mut command, &log, Duration::from_secs(1800), shown)?
                .expect_success("cargo build")?;
        }

        let staged = Self::at(places.workspace().join("target/stage"));
        for directory in ["bin", "lib", "lib/vcompute"] {
            fs::create_dir_all(staged.directory.join(directory))?;
        }
        let built = target_directory(places).join("release");
        stage(&built.join("vhost-user-compute"), &staged.backend())?;
        stage(&built.join("conformance"), &staged.conformance())?;
        stage(&built.join("cuda-bench"), &staged.bench())?;
        stage(&built.join("faulty-device"), &staged.faulty_device())?;
        for (profile, _, file, name) in GUEST_LIBRARIES {
            let library = target_directory(places).join(profile).join(file);
            stage(&library, &staged.directory.join("lib").join(name))?;
        }
        stage(&built.join(MANAGEMENT.1), &staged.management_library().0)?;
        stage(&built.join("libsoft_gpu.so"), &staged.soft_gpu())?;
        for program in PROGRAMS {
            let source = places.workspace().join("qemu/guest").join(format!("{program}.c"));
            staged.compile(program, &[source.as_os_str(), staged.shim().as_os_str()])?;
        }
        let headers = places.workspace().join("guest-driver/include/uapi");
        for (program, source) in
            [("driver_test", "guest-driver/tests/driver_test.c"), ("endure", "qemu/guest/endure.c")]
        {
            let source = places.workspace().join(source);
            let arguments = [source.as_os_str(), "-I".as_ref(), headers.as_os_str(), "-pthread".as_ref()];
            staged.compile(program, &arguments)?;
        }
        Ok(staged)
    }

    /// Compiles as anyone would: a CUDA program is linked with the library itself.
    fn compile(&self, program: &str, arguments: &[&OsStr]) -> Result<()> {
        let mut command = Command::new("cc");
        command
            .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .arg(self.program(program))
            .args(arguments);
        let log = self.directory.join("cc.log");
        process::run(&mut command, &log, Duration::from_secs(120), |_| false)?.expect_success("cc")
    }
}

/// The cargo that runs this program, at the workspace's top.
pub(crate) fn cargo(places: &Places) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(places.workspace()).env("CARGO_TERM_COLOR", "never");
    command
}

/// Where cargo builds.
pub(crate) fn target_directory(places: &Places) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| places.workspace().join("target"), PathBuf::from)
}

/// Copies a file to a place whose directory need not be there.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(directory) = to.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::copy(from, to).map(drop).with_context(|| format!("copy {} to {}", from.display(), to.display()))
}

/// Copies without debugging information, which would only make guests' RAM disks large.
pub(crate) fn stage(from: &Path, to: &Path) -> Result<()> {
    let log = to.with_extension("strip.log");
    let mut command = Command::new("strip");
    command.arg("--strip-unneeded").arg("-o").arg(to).arg(from);
    process::run(&mut command, &log, Duration::from_secs(60), |_| false)?
        .expect_success("strip")
        .with_context(|| format!("stage {}", from.display()))?;
    fs::remove_file(log)?;
    Ok(())
}
