//! The system that is worked on: this machine's own, or a tree that holds one (an image, the disk of a broken guest).

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Where the system's own programs are.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Name of the hidden command with which this program starts another one inside a tree.
pub(crate) const INSIDE: &str = "inside";

/// A system by its top directory. Paths of its files are written as they are inside of it, without the leading slash.
#[derive(Debug, Clone)]
pub(crate) struct System {
    top: PathBuf,
}

impl System {
    /// The system under `top`.
    pub(crate) fn at(top: &Path) -> Result<Self> {
        let top = fs::canonicalize(top).with_context(|| format!("there is no {}", top.display()))?;
        Ok(Self { top })
    }

    /// Whether it is the one that this program runs on.
    pub(crate) fn is_live(&self) -> bool {
        self.top == Path::new("/")
    }

    /// Its top directory.
    pub(crate) fn top(&self) -> &Path {
        &self.top
    }

    /// Where a file of it is found from here.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.top.join(inside.trim_start_matches('/'))
    }

    /// The same, for a file that is going to be written: links on the way must not lead out of the tree.
    pub(crate) fn path_to_write(&self, inside: &str) -> Result<PathBuf> {
        let path = self.path(inside);
        let mut known = path.parent();
        while let Some(directory) = known {
            match fs::canonicalize(directory) {
                Ok(real) if real.starts_with(&self.top) => return Ok(path),
                Ok(real) => bail!(
                    "{} leads to {}, which is outside of {}",
                    directory.display(),
                    real.display(),
                    self.top.display()
                ),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.is_symlink() => {
                    known = directory.parent();
                }
                Err(error) => return Err(error).with_context(|| format!("look at {}", directory.display())),
            }
        }
        bail!("{} has no directory", path.display())
    }

    /// Whether there is something of that name, a link that leads nowhere included.
    pub(crate) fn has(&self, inside: &str) -> bool {
        fs::symlink_metadata(self.path(inside)).is_ok()
    }

    /// What a file holds; links are followed as they are inside of the system.
    pub(crate) fn read(&self, inside: &str) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let top = File::open(&self.top)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let inside = inside.trim_start_matches('/');
        let file = rustix::fs::openat2(&top, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let mut bytes = Vec::new();
        File::from(file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Keeps other installations out until it is dropped. The lock leaves nothing behind.
    pub(crate) fn lock(&self) -> Result<File> {
        let directory =
            File::open(self.path("etc")).with_context(|| format!("{} is no system", self.top.display()))?;
        directory.lock().context("wait for another vcompute-guest")?;
        Ok(directory)
    }

    /// The text of a file, if there is one.
    pub(crate) fn text(&self, inside: &str) -> Result<Option<String>> {
        let path = self.path(inside);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Where one of the system's own programs is, inside of it.
    pub(crate) fn program(&self, name: &str) -> Option<String> {
        SEARCH_PATH
            .split(':')
            .map(|directory| format!("{directory}/{name}"))
            .find(|path| self.path(path).is_file())
    }

    /// One of the system's programs, started inside of it, with nothing of this program's environment.
    pub(crate) fn command(&self, program: &str, preload: Option<&str>) -> Result<Command> {
        let mut command;
        if self.is_live() {
            command = Command::new(program);
            command.env_clear();
            if let Some(library) = preload {
                command.env("LD_PRELOAD", library);
            }
        } else {
            // Nothing of the tree may be loaded into this program, so the variable is set only on the other side.
            let this = env::current_exe().context("find this program")?;
            command = Command::new(this);
            command.env_clear().arg(INSIDE).arg(&self.top);
            command.arg(preload.unwrap_or_default()).arg(program);
        }
        command
            .env("PATH", SEARCH_PATH)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/root")
            .current_dir("/")
            .stdin(Stdio::null());
        Ok(command)
    }
}

/// Becomes a program, with the tree as its root directory.
pub(crate) fn become_inside(top: &Path, preload: &OsStr, words: &[OsString]) -> Result<()> {
    let (program, arguments) = words.split_first().context("no program is named")?;
    std::os::unix::fs::chroot(top)
        .with_context(|| format!("make {} the root directory (that needs root)", top.display()))?;
    env::set_current_dir("/").context("enter the new root directory")?;
    let mut command = Command::new(program);
    command.args(arguments);
    if !preload.is_empty() {
        command.env("LD_PRELOAD", preload);
    }
    Err(command.exec()).with_context(|| format!("start {} in {}", program.display(), top.display()))
}

/// How a child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// As a person says it, unless it was a success.
    pub failure: Option<String>,
    /// What it printed.
    pub output: String,
    /// What it complained of.
    pub complaints: String,
}

/// Runs a command to its end, or for `limit`.
pub(crate) fn run(mut command: Command, limit: Duration) -> Result<Ended> {
    // Files, not pipes: whoever the child leaves behind could hold a pipe open for ever.
    let (mut output, mut complaints) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let begun = Instant::now();
    let mut child = command
        .stdout(output.try_clone()?)
        .stderr(complaints.try_clone()?)
        .spawn()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    let mut pause = Duration::from_micros(200);
    let failure = loop {
        if let Some(status) = child.try_wait()? {
            break (!status.success()).then(|| format!("ended with {status}"));
        }
        if begun.elapsed() > limit {
            child.kill().context("end a child that takes too long")?;
            child.wait()?;
            break Some(format!("did not end within {} s", limit.as_secs()));
        }
        thread::sleep(pause);
        pause = (2 * pause).min(Duration::from_millis(20));
    };
    Ok(Ended { failure, output: read_back(&mut output)?, complaints: read_back(&mut complaints)? })
}

fn read_back(file: &mut File) -> Result<String> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}
