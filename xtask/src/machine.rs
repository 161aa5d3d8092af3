//! A guest from start to end: initial RAM disk, backend, QEMU, report.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use qemu::image::{self, Contents, Job};
use qemu::{Accelerator, Config, Kernel, Places, Qemu, Report, Vm};
use tempfile::TempDir;

use crate::artifacts::{Artifacts, PROGRAMS};
use crate::backend::{Backend, Running, Socket};
use crate::guest_module;
use crate::output::say;

/// What a test guest has; the suite's largest cases fit.
pub(crate) const MEMORY_MIB: u32 = 3072;

/// What boots.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The emulator.
    pub qemu: Qemu,
    /// The kernel.
    pub kernel: PathBuf,
    /// The initial RAM disk without a job.
    pub initrd: Vec<u8>,
    /// Where logs go.
    pub logs: PathBuf,
    /// Guest memory in MiB.
    pub memory_mib: u32,
}

/// How a job went.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The job's exit status.
    pub status: i32,
    /// From QEMU's start to the job's.
    pub boot: Duration,
    /// From QEMU's start to its end.
    pub total: Duration,
    /// What the job printed.
    pub lines: Vec<String>,
}

impl Machine {
    /// A guest with everything that the workspace has for one: the driver, the CUDA library, the suite, the demonstration.
    pub(crate) fn of_workspace(
        places: &Places,
        artifacts: &Artifacts,
        qemu: &Qemu,
        kernel: Kernel,
    ) -> Result<Self> {
        let image = kernel.image(places)?;
        let module = guest_module::driver(places, kernel)?;
        let library = |name: &str| format!("/usr/lib/x86_64-linux-gnu/{name}");
        let mut files = vec![(artifacts.conformance(), "/usr/bin/conformance".into())];
        let libraries = artifacts.guest_libraries().into_iter().chain([artifacts.management_library()]);
        files.extend(libraries.map(|(file, name)| (file, library(name))));
        let programs = PROGRAMS.iter().chain(&["driver_test", "endure"]);
        files.extend(programs.map(|name| (artifacts.program(name), format!("/usr/bin/{name}"))));
        let contents = Contents { module: Some(module), files };
        Ok(Self {
            initrd: image::build(places, &image, &contents)?,
            kernel: image.vmlinuz,
            logs: logs(&places.guest(), &format!("guest-{}", kernel.name())),
            memory_mib: MEMORY_MIB,
            qemu: qemu.clone(),
        })
    }

    /// Boots, runs `script` as the unprivileged user and shows everything that the guest says; a script that fails is an error.
    pub(crate) fn show(&self, backend: Option<&Backend>, script: &str) -> Result<()> {
        let job = Job { script, as_root: false, needs_device: backend.is_some() };
        let outcome = self.run(backend, &job, Duration::from_secs(900), |report| match report {
            Report::Job(line) => say(format_args!("    {line}")),
            Report::Guest(line) => log::info!("guest: {line}"),
            Report::Exit(status) => log::info!("guest: the program ended with status {status}"),
        })?;
        log::info!(
            "booted in {:.1} s, ended after {:.1} s",
            outcome.boot.as_secs_f32(),
            outcome.total.as_secs_f32()
        );
        if outcome.status != 0 {
            bail!("the program failed with status {} (logs: {})", outcome.status, self.logs.display());
        }
        Ok(())
    }

    /// Boots, runs the job and waits for the end. With a backend the guest has the device.
    pub(crate) fn run(
        &self,
        backend: Option<&Backend>,
        job: &Job<'_>,
        limit: Duration,
        mut each: impl FnMut(&Report),
    ) -> Result<Outcome> {
        let mut started = self.start(backend, "", job, false)?;
        let mut boot = None;
        let mut lines = Vec::new();
        let begin = Instant::now();
        let status = started.vm.run_to_exit(begin + limit, |report| {
            each(report);
            match report {
                Report::Job(line) => lines.push(line.clone()),
                Report::Guest(line) if line.starts_with("job starts") => boot = Some(begin.elapsed()),
                Report::Guest(_) | Report::Exit(_) => {}
            }
        });
        let total = started.vm.elapsed();
        drop(started);
        fs::write(self.logs.join("report.log"), lines.join("\n"))?;
        let status = status.with_context(|| format!("logs are in {}", self.logs.display()))?;
        Ok(Outcome { status, boot: boot.unwrap_or(total), total, lines })
    }

    /// Starts the backend, when there is one, with a configuration, and QEMU.
    pub(crate) fn start(
        &self,
        backend: Option<&Backend>,
        configuration: &str,
        job: &Job<'_>,
        restart_on_reset: bool,
    ) -> Result<Started> {
        fs::create_dir_all(&self.logs)?;
        // A Unix socket's path is short by law; the workspace's may be long.
        let directory = tempfile::tempdir().context("make a directory for sockets")?;
        let device = directory.path().join("device");
        let running = backend
            .map(|backend| {
                let log = self.logs.join("backend.log");
                backend.start_with(Socket::VhostUser(&device), configuration, &log)
            })
            .transpose()?;
        let initrd = directory.path().join("initrd");
        fs::write(&initrd, [self.initrd.as_slice(), &job.archive()].concat())?;
        let config = Config {
            accelerator: Accelerator::of_this_machine(),
            memory_mib: self.memory_mib,
            processors: 2,
            kernel: self.kernel.clone(),
            initrd,
            console: self.logs.join("console.log"),
            monitor: directory.path().join("monitor"),
            device: backend.map(|_| device),
            disk: None,
            ssh: None,
            append: String::new(),
            restart_on_reset,
        };
        Ok(Started { vm: Vm::start(&self.qemu, &config)?, backend: running, _directory: directory })
    }
}

/// A guest that runs, and its backend. They end in this order.
pub(crate) struct Started {
    /// The guest.
    pub vm: Vm,
    /// Its backend.
    pub backend: Option<Running>,
    _directory: TempDir,
}

/// Shown where a person asks how guest code is executed.
pub(crate) fn accelerator() -> &'static str {
    match Accelerator::of_this_machine() {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg => "TCG (no KVM here)",
    }
}

/// The logs directory of one guest run.
pub(crate) fn logs(under: &Path, name: &str) -> PathBuf {
    under.join("logs").join(name)
}
