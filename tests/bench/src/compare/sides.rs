//! How processes of the two sides are started.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use backend_process::{Backend, Running, Socket};
use virtio_spec::local::SOCKET_VARIABLE;

use super::paired::Side;
use crate::client::Client;
use crate::process::family_processor_time;
use crate::solo::Started;

/// Where programs find a driver, and what they look for there.
const SEARCH_PATH: &str = "LD_LIBRARY_PATH";
const LIBRARY: &str = "libcuda.so.1";

/// What the backend says, and what [`Sides::keep_log`] calls it.
const LOG: &str = "backend.log";

/// A backend is quiet when its processes have taken less of the processors in this time than [`QUIET_SECONDS`], several
/// times in a row: a driver that starts waits for the GPU in between.
const LOOK: Duration = Duration::from_millis(100);
const QUIET_LOOKS: u32 = 3;
const QUIET_SECONDS: f64 = 0.001;
/// How long that may take: warm workers initialise the driver one after the other.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a backend keeps ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Warm {
    /// Workers that have initialised the driver.
    pub(super) workers: u32,
    /// Those that have a context, too, on each device.
    pub(super) contexts: u32,
}

impl Default for Warm {
    /// What a backend does of its own accord.
    fn default() -> Self {
        Self { workers: 1, contexts: 0 }
    }
}

/// Both libraries, and a running backend with a socket of its own.
pub(super) struct Sides {
    program: PathBuf,
    native: PathBuf,
    remoted: PathBuf,
    directory: tempfile::TempDir,
    backend: Running,
    /// Processes of the backend besides the supervisor while there is no session: the spawner and the warm workers.
    least_processes: usize,
}

impl Sides {
    /// Starts a backend that keeps so much ready.
    pub(super) fn start(arguments: &super::Arguments, warm: Warm) -> Result<Self> {
        let Warm { workers, contexts } = warm;
        let find =
            |path: &Path| fs::canonicalize(path).with_context(|| format!("the file {}", path.display()));
        // A name alone is for the dynamic loader.
        let is_name = arguments.native.components().count() == 1 && !arguments.native.exists();
        let native = if is_name { arguments.native.clone() } else { find(&arguments.native)? };
        let directory = tempfile::tempdir().context("a directory for the socket")?;
        let configuration = format!("[warm]\nworkers = {workers}\ncontexts = {contexts}\n");
        let backend = Backend { program: find(&arguments.backend)?, driver: arguments.driver.clone() };
        let socket = directory.path().join("local");
        let log = directory.path().join(LOG);
        Ok(Self {
            program: std::env::current_exe().context("this program")?,
            native,
            remoted: find(&arguments.remoted)?,
            backend: backend.start_with(Socket::Local(&socket), &configuration, &log)?,
            directory,
            least_processes: 1 + usize::try_from(workers)? + usize::try_from(contexts)?,
        })
    }

    /// The backend's supervisor, where the side has one.
    pub(super) fn backend_process(&self, side: Side) -> Option<u32> {
        (side == Side::Remoted).then(|| self.backend.process_id())
    }

    /// The supervisor.
    pub(super) fn supervisor(&self) -> u32 {
        self.backend.process_id()
    }

    /// Waits until nothing of the backend works: its warm workers are ready, and those of earlier sessions gone.
    pub(super) fn wait_until_quiet(&self) -> Result<()> {
        let begin = Instant::now();
        let mut quiet = 0;
        while quiet < QUIET_LOOKS {
            let before = family_processor_time(self.supervisor())?;
            std::thread::sleep(LOOK);
            let is_quiet = (family_processor_time(self.supervisor())? - before).abs() < QUIET_SECONDS;
            let is_complete = backend_process::descendants(self.supervisor())?.len() >= self.least_processes;
            quiet = if is_quiet && is_complete { quiet + 1 } else { 0 };
            if begin.elapsed() > PATIENCE {
                bail!("the backend is not quiet after {} s", PATIENCE.as_secs());
            }
        }
        Ok(())
    }

    /// This program, told to do something with a side's library.
    pub(super) fn command(&self, side: Side, what: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(what).arg("--library");
        match side {
            Side::Native => command.arg(&self.native).env_remove(SOCKET_VARIABLE),
            Side::Remoted => {
                command.arg(&self.remoted).env(SOCKET_VARIABLE, self.directory.path().join("local"))
            }
        };
        command
    }

    /// Puts what the backend had to say into a folder.
    pub(super) fn keep_log(&self, folder: &Path) -> Result<()> {
        fs::copy(self.directory.path().join(LOG), folder.join(LOG)).context("the backend's log").map(drop)
    }

    /// Gives a program a side's library by the name that everybody looks for.
    pub(super) fn lend(&self, side: Side, command: &mut Command) -> Result<()> {
        let folder = match side {
            Side::Native if self.native.components().count() == 1 => {
                command.env_remove(SOCKET_VARIABLE);
                return Ok(());
            }
            Side::Native => {
                command.env_remove(SOCKET_VARIABLE);
                let folder = self.directory.path().join("native");
                if !folder.exists() {
                    fs::create_dir(&folder)?;
                    symlink(&self.native, folder.join(LIBRARY))?;
                }
                folder
            }
            Side::Remoted => {
                command.env(SOCKET_VARIABLE, self.directory.path().join("local"));
                let named = self.remoted.file_name().is_some_and(|name| name == LIBRARY);
                ensure!(named, "programs look for a file {LIBRARY}, not {}", self.remoted.display());
                self.remoted.parent().context("its folder")?.to_owned()
            }
        };
        let mut places = OsString::from(&folder);
        if let Some(others) = std::env::var_os(SEARCH_PATH).filter(|others| !others.is_empty()) {
            places.push(":");
            places.push(others);
        }
        command.env(SEARCH_PATH, places).env("TRITON_LIBCUDA_PATH", folder);
        Ok(())
    }

    /// What the native driver says of itself, asked in a process that ends: one that stayed would keep the GPU awake.
    pub(super) fn identify(&self) -> Result<Started> {
        let line = lines(self.command(Side::Native, "solo"))?;
        serde_json::from_str(line.trim()).context("what the native driver says of itself")
    }

    /// A process of a side that has not run its first kernel yet, and then does what it is told.
    pub(super) fn client(&self, side: Side) -> Result<Client> {
        self.client_with(side, &[])
    }

    /// The same with more in its environment.
    pub(super) fn client_with(&self, side: Side, variables: &[(&str, &str)]) -> Result<Client> {
        let mut command = self.command(side, "solo");
        command.envs(variables.iter().copied());
        Client::start(command)
    }
}

/// What a process printed, and what it complained of if it failed.
pub(super) struct Ended {
    pub(super) lines: String,
    pub(super) failure: Option<String>,
}

/// Runs a command to its end.
pub(super) fn run(mut command: Command) -> Result<Ended> {
    let output = command.stdin(Stdio::null()).output().context("start a process")?;
    let lines = String::from_utf8(output.stdout).context("a process's output")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    let failure = (!output.status.success()).then(|| format!("{} ({})", complaint.trim_end(), output.status));
    Ok(Ended { lines, failure })
}

/// Runs a command to its end, which must be a good one; what it printed.
pub(super) fn lines(command: Command) -> Result<String> {
    match run(command)? {
        Ended { lines, failure: None } => Ok(lines),
        Ended { failure: Some(failure), .. } => bail!("{failure}"),
    }
}
