//! The way into the guest: sshd, as anyone would use it. Each login is a part of the test.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::process;

/// All of one script.
const LIMIT: Duration = Duration::from_secs(300);

/// Nothing of this machine's own configuration, and no memory of guests that had the same port.
const OPTIONS: &[&str] = &[
    "StrictHostKeyChecking=no",
    "UserKnownHostsFile=/dev/null",
    "BatchMode=yes",
    "IdentitiesOnly=yes",
    "LogLevel=ERROR",
    "ConnectTimeout=60",
];

/// Status of ssh itself when there was no login.
const NO_LOGIN: i32 = 255;

/// Who logs in where.
#[derive(Debug)]
pub(super) struct Login {
    /// The private key.
    pub key: PathBuf,
    /// The port of this machine that leads to the guest's sshd.
    pub port: u16,
    /// Where the output is kept.
    pub log: PathBuf,
}

impl Login {
    /// Logs in and runs a script; its output, whatever its status.
    pub(super) fn run(&self, script: &str) -> Result<Vec<String>> {
        let mut command = Command::new("ssh");
        command.args(["-F", "/dev/null", "-p", &self.port.to_string(), "-i"]).arg(&self.key);
        for option in OPTIONS {
            command.args(["-o", option]);
        }
        command.args(["tester@127.0.0.1", script]);
        let finished = process::run(&mut command, &self.log, LIMIT, |_| false)?;
        ensure!(
            finished.status.code() != Some(NO_LOGIN),
            "no ssh login: {}",
            finished.lines().collect::<Vec<_>>().join("\n")
        );
        Ok(finished.lines)
    }
}

/// A port that nobody listens at now.
pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?.local_addr()?.port())
}
