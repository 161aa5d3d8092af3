//! The backend as a child process.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long the backend may take until it listens; a real driver's first start is slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// How to start it.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    /// The program.
    pub program: PathBuf,
    /// `soft`, `auto` or a path.
    pub driver: String,
}

/// At which socket it listens, and for whom.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Socket<'a> {
    /// For QEMU.
    VhostUser(&'a Path),
    /// For programs on this machine.
    Local(&'a Path),
}

/// A running backend. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Backend {
    /// Starts it and waits until it listens.
    pub(crate) fn start(&self, socket: Socket<'_>, log: &Path) -> Result<Running> {
        let (option, path) = match socket {
            Socket::VhostUser(path) => ("--socket-path", path),
            Socket::Local(path) => ("--local-socket", path),
        };
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let child = Command::new(&self.program)
            .arg(option)
            .arg(path)
            .args(["--driver", &self.driver])
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        let mut running = Running { child, log: log.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        while !is_listening(path)? {
            if let Some(status) = running.child.try_wait()? {
                bail!("the backend ended at once ({status}):\n{}", running.log());
            }
            if Instant::now() > deadline {
                bail!("the backend does not listen after {} s:\n{}", PATIENCE.as_secs(), running.log());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(running)
    }
}

impl Running {
    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The status with which it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a Unix socket at `path` is listening. A connection to try it would count as QEMU's, so the kernel is asked.
fn is_listening(path: &Path) -> Result<bool> {
    const ACCEPTS_CONNECTIONS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").context("read /proc/net/unix")?;
    let path = path.to_str().context("a socket path in UTF-8")?;
    Ok(table.lines().any(|line| {
        let mut fields = line.split_whitespace();
        fields.nth(3) == Some(ACCEPTS_CONNECTIONS) && fields.next_back() == Some(path)
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_socket_listens_from_the_moment_that_it_is_bound() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");

        let before = is_listening(&path).expect("asked");
        let _listener = UnixListener::bind(&path).expect("listening");
        let after = is_listening(&path).expect("asked");

        assert!(!before);
        assert!(after);
    }
}
