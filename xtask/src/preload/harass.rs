//! Signals to all of a backend's processes but the supervisor, once or again and again.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::backend;

/// New processes are met so soon.
const PAUSE: Duration = Duration::from_millis(50);

/// What is done to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// They end.
    Kill,
    /// They stand still until [`Harassment::end`].
    Stop,
}

/// A thread that sends signals until it is told to end.
#[derive(Debug)]
pub(super) struct Harassment {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    supervisor: u32,
    signal: Signal,
}

impl Harassment {
    /// Begins; the first signals have been sent when this returns.
    pub(super) fn begin(supervisor: u32, signal: Signal) -> Result<Self> {
        Self::once(supervisor, signal)?;
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                if let Err(error) = Self::once(supervisor, signal) {
                    log::warn!("{error:#}");
                    break;
                }
                thread::sleep(PAUSE);
            }
        });
        Ok(Self { over, thread: Some(thread), supervisor, signal })
    }

    /// Sends the signal to all that there are now.
    pub(super) fn once(supervisor: u32, signal: Signal) -> Result<()> {
        send(supervisor, if signal == Signal::Kill { "-KILL" } else { "-STOP" })
    }

    /// Ends; who was stopped goes on.
    pub(super) fn end(mut self) -> Result<()> {
        self.finish();
        if self.signal == Signal::Stop { send(self.supervisor, "-CONT") } else { Ok(()) }
    }

    fn finish(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Harassment {
    fn drop(&mut self) {
        self.finish();
    }
}

fn send(supervisor: u32, signal: &str) -> Result<()> {
    let processes = backend::descendants(supervisor)?;
    if processes.is_empty() {
        return Ok(());
    }
    // One that has ended meanwhile is no error.
    Command::new("kill")
        .arg(signal)
        .args(processes.iter().map(u32::to_string))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("run kill")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_killed_as_often_as_they_come() {
        let mut parent =
            Command::new("sh").args(["-c", "sleep 60; sleep 60; true"]).spawn().expect("started");

        let harassment = Harassment::begin(parent.id(), Signal::Kill).expect("begun");
        let status = parent.wait().expect("ended");
        harassment.end().expect("ended");

        assert!(status.success());
    }
}
