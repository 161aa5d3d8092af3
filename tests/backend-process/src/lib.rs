//! The backend as a child process of tests and measurements: started, waited for, looked at from outside, ended.

use std::collections::BTreeSet;
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
pub struct Backend {
    /// The program.
    pub program: PathBuf,
    /// `soft`, `auto` or a path.
    pub driver: String,
}

/// The configuration with which all processes that come are a session's: no worker is ready before there is one.
pub const NO_SPARES: &str = "[warm]\nworkers = 0\n";

/// At which socket it listens, and for whom.
#[derive(Debug, Clone, Copy)]
pub enum Socket<'a> {
    /// For QEMU.
    VhostUser(&'a Path),
    /// For programs on this machine.
    Local(&'a Path),
}

/// A running backend. Dropping it ends it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Backend {
    /// Starts it and waits until it listens.
    ///
    /// # Errors
    /// When it ends at once or does not listen in time, with what it logged.
    pub fn start(&self, socket: Socket<'_>, log: &Path) -> Result<Running> {
        self.start_with(socket, "", log)
    }

    /// As [`Backend::start`], with a configuration, which becomes a file beside the log.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(&self, socket: Socket<'_>, configuration: &str, log: &Path) -> Result<Running> {
        let (option, path) = match socket {
            Socket::VhostUser(path) => ("--socket-path", path),
            Socket::Local(path) => ("--local-socket", path),
        };
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut command = Command::new(&self.program);
        command.arg(option).arg(path).args(["--driver", &self.driver]);
        if !configuration.is_empty() {
            let file = log.with_extension("toml");
            fs::write(&file, configuration).with_context(|| format!("write {}", file.display()))?;
            command.arg("--config").arg(file);
        }
        let child = command
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
    /// The supervisor, from which all its processes descend.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The status with which it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes that descend from this one, and live.
pub fn descendants(process: u32) -> Result<BTreeSet<u32>> {
    // `NUMBER (NAME) STATE PARENT …`; a name may have spaces and parentheses.
    let parse = |stat: &str| {
        let (number, rest) = stat.split_once(' ')?;
        let mut fields = rest.rsplit_once(')')?.1.split_whitespace();
        let alive = fields.next()? != "Z";
        Some((number.parse::<u32>().ok()?, fields.next()?.parse::<u32>().ok()?, alive))
    };
    let all: Vec<_> = fs::read_dir("/proc")?
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .filter_map(|stat| parse(&stat))
        .collect();
    let mut family = BTreeSet::from([process]);
    loop {
        let before = family.len();
        family.extend(
            all.iter()
                .filter(|(_, parent, _)| family.contains(parent))
                .map(|(number, ..)| *number)
                .collect::<Vec<_>>(),
        );
        if family.len() == before {
            break;
        }
    }
    Ok(all
        .iter()
        .filter(|(number, _, alive)| *alive && *number != process && family.contains(number))
        .map(|(number, ..)| *number)
        .collect())
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
    fn children_are_found_while_they_live() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("started");

        let during = descendants(std::process::id()).expect("listed");
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let after = descendants(std::process::id()).expect("listed");

        assert!(during.contains(&child.id()));
        assert!(!after.contains(&child.id()));
    }

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
