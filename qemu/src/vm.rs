//! A running guest: its report line by line, its monitor, and the certainty that it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::arguments::Config;
use crate::install::Qemu;
use crate::monitor::{Awaited, Monitor};

/// The guest's init script begins its own lines with this.
const SCRIPT_PREFIX: &str = "guest: ";

/// A guest that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    /// QEMU's monitor.
    pub monitor: Monitor,
    lines: Receiver<String>,
    console: PathBuf,
    messages: PathBuf,
    begun: Instant,
}

/// A line of the guest's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// What the job printed.
    Job(String),
    /// What the init script has to say.
    Guest(String),
    /// The job has ended with this status.
    Exit(i32),
}

impl Report {
    fn parse(line: String) -> Self {
        match line.strip_prefix(SCRIPT_PREFIX) {
            None => Self::Job(line),
            Some(text) => match text.strip_prefix("exit ").and_then(|status| status.trim().parse().ok()) {
                Some(status) => Self::Exit(status),
                None => Self::Guest(text.to_owned()),
            },
        }
    }
}

impl Vm {
    /// Starts QEMU. It is running when this returns; the guest has just begun to boot.
    pub fn start(qemu: &Qemu, config: &Config) -> Result<Self> {
        let awaited = Awaited::new(&config.monitor)?;
        let messages = config.console.with_extension("qemu.log");
        let mut child = qemu
            .command()
            .args(config.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&messages).with_context(|| format!("create {}", messages.display()))?)
            .spawn()
            .context("start QEMU")?;
        let begun = Instant::now();
        let report = child.stdout.take().context("QEMU has no output")?;
        let monitor = awaited.accept(|| match child.try_wait()? {
            Some(status) => {
                bail!(
                    "QEMU ended at once ({status}): {}",
                    fs::read_to_string(&messages).unwrap_or_default().trim()
                )
            }
            None => Ok(()),
        });
        let monitor = match monitor {
            Ok(monitor) => monitor,
            Err(error) => {
                end(&mut child);
                return Err(error);
            }
        };
        let lines = read_lines(report);
        Ok(Self { child, monitor, lines, console: config.console.clone(), messages, begun })
    }

    /// The process that is QEMU.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// The next line of the report; none when QEMU has ended. Past `deadline` it is an error.
    pub fn next_line(&mut self, deadline: Instant) -> Result<Option<Report>> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(Report::parse(line))),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => {
                bail!(
                    "the guest has not ended after {:.0} s; {}",
                    self.elapsed().as_secs_f32(),
                    self.last_words()
                )
            }
        }
    }

    /// Whether the report falls silent for this long; a few lines may still be on their way.
    pub fn quiet_for(&mut self, time: Duration) -> bool {
        (0..3).any(|_| matches!(self.lines.recv_timeout(time), Err(RecvTimeoutError::Timeout)))
    }

    /// Hands every line to `each` until the job ends; returns its status.
    pub fn run_to_exit(&mut self, deadline: Instant, mut each: impl FnMut(&Report)) -> Result<i32> {
        let mut status = None;
        while let Some(report) = self.next_line(deadline)? {
            each(&report);
            if let Report::Exit(code) = report {
                status = Some(code);
            }
        }
        match status {
            Some(status) => Ok(status),
            None => {
                let ended = self.child.wait()?;
                bail!("the guest ended without a result (QEMU {ended}); {}", self.last_words())
            }
        }
    }

    /// What QEMU and the console said last, for an error's text.
    fn last_words(&self) -> String {
        let tail = |path: &PathBuf| {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
            let lines: Vec<_> = text.lines().rev().take(25).collect();
            lines.into_iter().rev().collect::<Vec<_>>().join("\n")
        };
        format!("QEMU said:\n{}\nthe console said:\n{}", tail(&self.messages), tail(&self.console))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Ends a child for sure; one that has ended already is fine.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads lines in a thread of its own, so that a time limit can be kept. The thread ends with what it reads from.
pub fn read_lines(source: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(source);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|count| count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            if sender.send(line).is_err() {
                break;
            }
            bytes.clear();
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_own_lines_are_told_from_the_jobs() {
        assert_eq!(Report::parse("guest: exit 3".into()), Report::Exit(3));
        assert_eq!(Report::parse("guest: exit soon".into()), Report::Guest("exit soon".into()));
        assert_eq!(Report::parse("exit 3".into()), Report::Job("exit 3".into()));
    }
}
