//! The backend, as a process of the test.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Condvar, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::PATIENCE;

/// Lines that the backend has logged.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

/// A running backend; it is killed when this value is dropped.
pub struct Backend {
    child: Child,
    folder: TempDir,
    log: Arc<Log>,
}

/// Where this package's build output lies: `target/<profile>`.
fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its path");
    test.ancestors().nth(2).expect("tests lie in <profile>/deps").to_owned()
}

/// The backend's executable, built with the stub driver if need be with the profile of this test.
///
/// # Panics
/// It does not build.
#[must_use]
pub fn executable() -> &'static Path {
    static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();
    EXECUTABLE.get_or_init(|| {
        let folder = build_folder();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "vhost-user-compute", "--bin", "vhost-user-compute"]);
        build.args(["--package", "protocol-tests", "--example", "stub_driver"]);
        if folder.file_name().is_some_and(|profile| profile == "release") {
            build.arg("--release");
        }
        let target = folder.parent().expect("a profile lies in a target folder");
        let built = build.arg("--target-dir").arg(target).status().expect("cargo runs");
        assert!(built.success(), "the backend does not build");
        folder.join("vhost-user-compute")
    })
}

impl Backend {
    /// Starts it with both sockets and the stub driver, and waits until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// Starts it with a configuration file of this content. Without warm workers where it says nothing of them: what is
    /// counted then belongs to sessions.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_with(configuration: &str) -> Result<Self> {
        let backend = Self::launch(configuration, None)?;
        backend.wait_for_line("Ready: 1 devices")?;
        Ok(backend)
    }

    /// Starts it with a driver in this mode (see the stub driver), and waits only until it listens.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_in_mode(configuration: &str, mode: &str) -> Result<Self> {
        Self::launch(configuration, Some(mode))
    }

    fn launch(configuration: &str, mode: Option<&str>) -> Result<Self> {
        let executable = executable();
        let folder = tempfile::tempdir()?;
        let driver = folder.path().join("driver.so");
        std::os::unix::fs::symlink(build_folder().join("examples/libstub_driver.so"), &driver)?;
        if let Some(mode) = mode {
            fs::write(folder.path().join("driver.so.mode"), mode)?;
        }
        let file = folder.path().join("config.toml");
        let without_spares = if configuration.contains("[warm]") { "" } else { "\n[warm]\nworkers = 0\n" };
        fs::write(&file, format!("{configuration}{without_spares}"))?;
        let mut child = Command::new(executable)
            .arg("--socket-path")
            .arg(folder.path().join("vm.sock"))
            .arg("--local-socket")
            .arg(folder.path().join("local.sock"))
            .arg("--driver")
            .arg(driver)
            .args(["--log", "debug", "--config"])
            .arg(file)
            .stderr(Stdio::piped())
            .spawn()
            .context("the backend does not start")?;
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().context("the log is a pipe")?;
        let reader = Arc::clone(&log);
        std::thread::spawn(move || read_log(&reader, stderr));
        let backend = Self { child, folder, log };
        backend.wait_for_line("listening")?;
        Ok(backend)
    }

    /// Changes what the stub driver does from now on.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_driver_mode(&self, mode: &str) -> Result<()> {
        // As a whole, so that nobody reads half of it.
        let new = self.folder.path().join("driver.so.mode.new");
        fs::write(&new, mode)?;
        Ok(fs::rename(new, self.folder.path().join("driver.so.mode"))?)
    }

    /// QEMU's socket.
    #[must_use]
    pub fn vm_socket(&self) -> PathBuf {
        self.folder.path().join("vm.sock")
    }

    /// The local socket.
    #[must_use]
    pub fn local_socket(&self) -> PathBuf {
        self.folder.path().join("local.sock")
    }

    /// Whether the supervisor still runs.
    ///
    /// # Errors
    /// It has ended.
    pub fn is_alive(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the supervisor has ended: {ended:?}");
        Ok(())
    }

    /// Waits until a line that contains `text` has been logged.
    ///
    /// # Errors
    /// There is none in time.
    pub fn wait_for_line(&self, text: &str) -> Result<()> {
        let has_line = |state: &(Vec<String>, bool)| state.0.iter().any(|line| line.contains(text));
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (lines, _) = self
            .log
            .more
            .wait_timeout_while(lines, PATIENCE, |state| !has_line(state) && !state.1)
            .unwrap_or_else(PoisonError::into_inner);
        ensure!(has_line(&lines), "no line with {text:?} in:\n{}", lines.0.join("\n"));
        Ok(())
    }

    /// Waits until `count` lines that contain `text` have been logged.
    ///
    /// # Errors
    /// There are fewer, in time.
    pub fn wait_for_lines(&self, text: &str, count: usize) -> Result<()> {
        let start = Instant::now();
        while self.count_lines(text) < count {
            ensure!(start.elapsed() < PATIENCE, "{} lines with {text:?}", self.count_lines(text));
            std::thread::yield_now();
        }
        Ok(())
    }

    /// How many lines that contain `text` have been logged.
    #[must_use]
    pub fn count_lines(&self, text: &str) -> usize {
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.0.iter().filter(|line| line.contains(text)).count()
    }

    /// The running workers.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn workers(&self) -> Result<Vec<Pid>> {
        self.children("@worker")
    }

    /// The workers that were started before there was a session for them, whether they have one by now or not.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn warm_workers(&self) -> Result<Vec<Pid>> {
        self.children("@warm-worker")
    }

    /// The workers that were to make a context before there was a session for them, whether they have one by now or not.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn warm_contexts(&self) -> Result<Vec<Pid>> {
        self.children("@warm-context")
    }

    /// Sends a signal to the spawner, once there is exactly one.
    ///
    /// # Errors
    /// There is none in time.
    pub fn signal_spawner(&self, signal: Signal) -> Result<Pid> {
        self.signal_child("@spawner", signal)
    }

    /// Sends a signal to the discovery process, once there is one.
    ///
    /// # Errors
    /// There is none in time.
    pub fn signal_discovery(&self, signal: Signal) -> Result<Pid> {
        self.signal_child("@discovery", signal)
    }

    fn signal_child(&self, role: &str, signal: Signal) -> Result<Pid> {
        let start = Instant::now();
        loop {
            if let [child] = self.children(role)?[..] {
                rustix::process::kill_process(child, signal)?;
                return Ok(child);
            }
            ensure!(start.elapsed() < PATIENCE, "no {role}");
            std::thread::yield_now();
        }
    }

    fn children(&self, role: &str) -> Result<Vec<Pid>> {
        let parent = self.child.id().to_string();
        let mut children = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let folder = entry?.path();
            let Some(pid) = folder.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            // Processes that end meanwhile have no files any more.
            let Ok(stat) = fs::read_to_string(folder.join("stat")) else { continue };
            let Ok(command) = fs::read(folder.join("cmdline")) else { continue };
            let after_name = stat.rsplit(')').next().unwrap_or_default();
            let of_backend = after_name.split_whitespace().nth(1) == Some(parent.as_str());
            if of_backend && command.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes()) {
                children.extend(Pid::from_raw(pid));
            }
        }
        Ok(children)
    }

    /// Waits until there are `count` workers.
    ///
    /// # Errors
    /// There are not, in time.
    pub fn wait_for_workers(&self, count: usize) -> Result<Vec<Pid>> {
        Self::wait_for(count, || self.workers())
    }

    /// Waits until there are `count` workers that were started before there was a session for them.
    ///
    /// # Errors
    /// There are not, in time.
    pub fn wait_for_warm_workers(&self, count: usize) -> Result<Vec<Pid>> {
        Self::wait_for(count, || self.warm_workers())
    }

    /// Waits until there are `count` workers that were to make a context before there was a session for them.
    ///
    /// # Errors
    /// There are not, in time.
    pub fn wait_for_warm_contexts(&self, count: usize) -> Result<Vec<Pid>> {
        Self::wait_for(count, || self.warm_contexts())
    }

    fn wait_for(count: usize, workers: impl Fn() -> Result<Vec<Pid>>) -> Result<Vec<Pid>> {
        let start = Instant::now();
        loop {
            let workers = workers()?;
            if workers.len() == count {
                return Ok(workers);
            }
            ensure!(start.elapsed() < PATIENCE, "{} workers instead of {count}", workers.len());
            std::thread::yield_now();
        }
    }

    /// Kills the only worker.
    ///
    /// # Errors
    /// There are more, or none.
    pub fn kill_worker(&self) -> Result<()> {
        self.signal_worker(Signal::KILL)
    }

    /// Sends a signal to the only worker.
    ///
    /// # Errors
    /// There are more, or none.
    pub fn signal_worker(&self, signal: Signal) -> Result<()> {
        let workers = self.workers()?;
        let [worker] = workers[..] else { anyhow::bail!("{} workers", workers.len()) };
        Ok(rustix::process::kill_process(worker, signal)?)
    }

    /// Kills the supervisor, and waits for its end.
    ///
    /// # Errors
    /// It is not this process's child.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have been killed before.
        let _killed = self.kill();
        // Shown by the test's harness if the test has failed.
        let lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        eprintln!("the backend's log:\n{}", lines.0.join("\n"));
    }
}

fn read_log(log: &Log, stderr: ChildStderr) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        log.lines.lock().unwrap_or_else(PoisonError::into_inner).0.push(line);
        log.more.notify_all();
    }
    log.lines.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
    log.more.notify_all();
}
