//! QEMU's monitor (QMP): one JSON object a line, over a Unix socket at which we listen.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// How long QEMU may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connected monitor.
#[derive(Debug)]
pub struct Monitor {
    reader: BufReader<UnixStream>,
    writer: UnixStream,
}

/// The socket at which QEMU is awaited.
#[derive(Debug)]
pub struct Awaited(UnixListener);

impl Awaited {
    /// Listens at `path`.
    pub fn new(path: &Path) -> Result<Self> {
        let listener = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Waits for QEMU to connect; `alive` says whether it is still worth waiting.
    pub fn accept(self, mut alive: impl FnMut() -> Result<()>) -> Result<Monitor> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.0.accept() {
                Ok((stream, _)) => return Monitor::greet(stream),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("accept QEMU's monitor"),
            }
            alive()?;
            if Instant::now() > deadline {
                bail!("QEMU did not connect its monitor within {} s", PATIENCE.as_secs());
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Monitor {
    fn greet(stream: UnixStream) -> Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut monitor = Self { writer: stream.try_clone()?, reader: BufReader::new(stream) };
        let greeting = monitor.read()?;
        if greeting.get("QMP").is_none() {
            bail!("not a QEMU monitor: {greeting}");
        }
        monitor.execute("qmp_capabilities")?;
        Ok(monitor)
    }

    /// Pauses the guest.
    pub fn stop(&mut self) -> Result<()> {
        self.execute("stop").map(drop)
    }

    /// Lets it go on.
    pub fn cont(&mut self) -> Result<()> {
        self.execute("cont").map(drop)
    }

    /// Presses its reset button.
    pub fn system_reset(&mut self) -> Result<()> {
        self.execute("system_reset").map(drop)
    }

    /// Ends QEMU.
    pub fn quit(&mut self) -> Result<()> {
        self.execute("quit").map(drop)
    }

    /// Runs a command without arguments and returns its answer; events that come before it are passed over.
    pub fn execute(&mut self, command: &str) -> Result<Value> {
        let request = json!({ "execute": command });
        writeln!(self.writer, "{request}").with_context(|| format!("send {command} to QEMU's monitor"))?;
        loop {
            let mut answer = self.read().with_context(|| format!("QEMU's answer to {command}"))?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            log::trace!("monitor: {answer}");
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_answered_past_events_and_a_refusal_is_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("monitor");
        let awaited = Awaited::new(&path).expect("listening");
        let qemu = thread::spawn(move || {
            let stream = UnixStream::connect(path).expect("connected");
            let mut lines = BufReader::new(stream.try_clone().expect("cloned")).lines();
            let mut say = &stream;
            let mut heard = Vec::new();
            writeln!(say, "{{\"QMP\": {{}}}}").expect("sent");
            for answer in [
                "{\"return\": {}}",
                "{\"event\": \"STOP\"}\n{\"return\": {}}",
                "{\"error\": {\"desc\": \"no\"}}",
            ] {
                heard.push(lines.next().expect("a line").expect("text"));
                writeln!(say, "{answer}").expect("sent");
            }
            heard
        });

        let mut monitor = awaited.accept(|| Ok(())).expect("greeted");
        let stopped = monitor.stop();
        let refused = monitor.cont();

        assert!(stopped.is_ok());
        assert!(refused.is_err());
        let heard = qemu.join().expect("served");
        assert_eq!(heard.get(1).map(String::as_str), Some("{\"execute\":\"stop\"}"));
    }
}
