//! A process that runs one small program with CUDA and then does what it is told ([`crate::solo`]), seen from outside.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::solo::Started;

/// A process that does what it is told. Dropping it ends it.
pub(crate) struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Client {
    /// Starts it: `command` is this program's `solo` with a library.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command.arg("--obey").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start a process")?;
        let input = child.stdin.take().context("its input")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Self { child, input: Some(input), output })
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until its first kernel is done.
    pub(crate) fn started(&mut self) -> Result<Started> {
        self.answer()
    }

    /// Tells it something, without waiting for the answer.
    pub(crate) fn tell(&mut self, order: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        self.input.as_mut().context("its input")?.write_all(line.as_bytes()).context("tell a process")
    }

    /// Waits for its next answer.
    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.output.read_line(&mut line).context("a process's answer")? == 0 {
            bail!("a process ended without an answer ({})", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("a process's answer: {line}"))
    }

    /// Lets it end, without waiting for that.
    pub(crate) fn dismiss(&mut self) {
        self.input.take();
    }

    /// Lets it end, and makes sure that it ends well.
    pub(crate) fn end(mut self) -> Result<()> {
        self.dismiss();
        let status = self.child.wait()?;
        if !status.success() {
            bail!("a process ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended, and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
