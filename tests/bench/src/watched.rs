//! A backend with one session, both watched from outside: what [`crate::count`] and [`crate::path`] count in.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use backend_process::{Backend, NO_SPARES, Running, Socket};
use virtio_spec::local::SOCKET_VARIABLE;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// The guest's CUDA library
    #[arg(long, value_name = "PATH")]
    remoted: PathBuf,
    /// The backend
    #[arg(long, value_name = "PATH")]
    backend: PathBuf,
    /// The backend's driver: auto (this machine's GPU, else in software), soft, or a library's path
    #[arg(long, default_value = "soft")]
    driver: String,
}

/// The backend, which ends with this value.
pub(crate) struct Watched {
    running: Running,
    directory: tempfile::TempDir,
    library: PathBuf,
    /// The backend's file.
    pub(crate) program: PathBuf,
    /// What the backend consists of without a session.
    before: BTreeSet<u32>,
}

impl Watched {
    /// Starts the backend.
    pub(crate) fn start(arguments: &Arguments) -> Result<Self> {
        let find =
            |path: &Path| fs::canonicalize(path).with_context(|| format!("the file {}", path.display()));
        let (program, library) = (find(&arguments.backend)?, find(&arguments.remoted)?);
        let directory = tempfile::tempdir().context("a directory for the socket")?;
        let backend = Backend { program: program.clone(), driver: arguments.driver.clone() };
        let socket = directory.path().join("local");
        let log = directory.path().join("log");
        let running = backend.start_with(Socket::Local(&socket), NO_SPARES, &log)?;
        let before = backend_process::descendants(running.process_id())?;
        Ok(Self { running, directory, library, program, before })
    }

    /// This program, told to do something as a client.
    pub(crate) fn client(&self, what: &str) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe().context("this program")?);
        command.args([what, "--library"]).arg(&self.library);
        command.env(SOCKET_VARIABLE, self.directory.path().join("local"));
        Ok(command)
    }

    /// The client's worker.
    pub(crate) fn worker(&self) -> Result<u32> {
        let now = backend_process::descendants(self.running.process_id())?;
        now.difference(&self.before).next().copied().context("no worker was started")
    }
}
