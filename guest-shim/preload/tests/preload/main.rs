//! What the library does in a process before the process calls CUDA, in real processes.
//!
//! Read in this order: this file (how a process is started), `probe` (what the started process does), `trace` (its
//! system calls, from outside), then the tests: `calls`, `untouched`, `obstacles`, `processes`.
//!
//! The started process is this same program under another name. The device is a file with a driver's answer, and the
//! policy lies in the test's own folder: a development build of the library listens to two variables for that.
#![allow(missing_docs, reason = "tests")]

mod calls;
mod obstacles;
mod probe;
mod processes;
mod trace;
mod untouched;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use virtio_spec::device::{PROTOCOL_VERSION, State};
use virtio_spec::info::{DeviceRecord, InfoHeader, MAGIC};
use virtio_spec::uapi::Info;
use zerocopy::{FromZeros, IntoBytes};

/// The library that this package makes, with the one that answers calls beside it, built as this test was.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--quiet",
            "--package",
            "shim-preload",
            "--package",
            "guest-shim",
            "--manifest-path",
        ]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        let profile = if cfg!(debug_assertions) {
            "debug"
        } else {
            cargo.arg("--release");
            "release"
        };
        assert!(cargo.status().expect("cargo runs").success(), "the library is built");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
        target.join(profile).join("libcuda.so")
    })
}

/// A place for one test: a device, a policy, and programs with names.
struct Place {
    folder: PathBuf,
}

impl Place {
    /// A place with a device that has one GPU, and without a policy.
    fn new(test: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("preload-{test}-{}", std::process::id()));
        // It may be there from a process with the same number.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the target folder is writable");
        let place = Self { folder };
        fs::write(place.device(), answer(State::Ready, 0)).expect("the folder is writable");
        place
    }

    /// A place that every user can reach, with set-uid programs; nothing, with the reason said, where there is none.
    fn for_everybody(test: &str) -> Option<Self> {
        use std::os::unix::fs::PermissionsExt as _;

        // SAFETY: no arguments.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("{test}: skipped, only root can make it");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("preload-{test}-{}", std::process::id()));
        fs::create_dir(&folder).expect("the folder for temporary files is writable");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Some(Self { folder })
    }

    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).expect("the folder is writable");
        folder
    }

    /// A copy of a file that every user can run.
    fn copy_of(&self, file: &Path) -> PathBuf {
        let copy = self.folder.join(file.file_name().expect("a file"));
        fs::copy(file, &copy).expect("the folder is writable");
        copy
    }

    fn device(&self) -> PathBuf {
        self.folder.join("device")
    }

    fn policy(&self) -> PathBuf {
        self.folder.join("policy")
    }

    /// Makes the policy.
    fn set_policy(&self, text: &str) {
        symlink(text, self.policy()).expect("there is no policy yet");
    }

    /// Makes something else of the device.
    fn without_device(&self) -> PathBuf {
        fs::remove_file(self.device()).expect("there is a device");
        self.device()
    }

    /// This program under another name, with the library.
    fn command(&self, name: &str, role: &str) -> Command {
        let program = self.folder.join(name);
        if !program.exists() {
            symlink(std::env::current_exe().expect("this program is known"), &program)
                .expect("the folder is writable");
        }
        let mut command = self.preloaded(&program);
        command.env(probe::ROLE, role);
        command
    }

    /// Any program with the library, and nothing in its environment that this test has not put there.
    fn preloaded(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LD_PRELOAD", library())
            .env("VCOMPUTE_TEST_DEVICE", self.device())
            .env("VCOMPUTE_TEST_POLICY", self.policy());
        command
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left over lies in the target folder.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What the driver answers, with one GPU.
fn answer(state: State, flags: u32) -> Vec<u8> {
    let header = InfoHeader {
        magic: MAGIC,
        version: PROTOCOL_VERSION,
        generation: 1,
        device_count: 1,
        driver_version: 13000,
        init_result: 0,
        reserved: [0; 10],
    };
    let record = DeviceRecord::new_zeroed();
    let mut information = header.as_bytes().to_vec();
    information.resize(size_of::<DeviceRecord>(), 0);
    information.extend(record.as_bytes());
    let about = Info {
        version: PROTOCOL_VERSION,
        state: state as u32,
        generation: 1,
        info_bytes: u32::try_from(information.len()).expect("it is small"),
        flags,
        reserved: 0,
    };
    [about.as_bytes(), &information].concat()
}

/// Runs a probe that reports by its exit status and standard error.
fn expect_success(command: &mut Command) -> Output {
    let output = command.output().expect("the probe starts");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

/// Whether the library listens to the tests' variables; a release build does not, which the test's output says.
fn has_stand_ins(test: &str) -> bool {
    if !cfg!(debug_assertions) {
        eprintln!("{test}: skipped, a release build has no device but /dev/vcompute0");
    }
    cfg!(debug_assertions)
}
