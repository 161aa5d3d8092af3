//! Helper programs of cases: what a case must see happen in another process.
//!
//! A probe is this binary, started again with another environment or to be watched from outside: it
//! prints, exits, crashes or forks, and the case looks at what came of it.

use std::ffi::OsStr;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cases;
use crate::runner;

/// A helper program: its name and body. The body's text goes to stdout; an error makes status 1.
#[derive(Debug)]
pub(crate) struct Probe {
    /// What the case calls it.
    pub(crate) name: &'static str,
    /// What it does.
    pub(crate) body: fn(&[String]) -> Result<String>,
}

/// What a case sees of a probe that has ended.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
    /// How it ended.
    pub(crate) status: ExitStatus,
}

impl Seen {
    /// Its output, if it ended well.
    pub(crate) fn text(self) -> Result<String> {
        match runner::describe_end(self.status) {
            None => Ok(self.out.trim().to_owned()),
            Some(end) => bail!("the probe {end}: {} {}", self.out.trim(), self.err.trim()),
        }
    }
}

/// Runs a probe in this process.
pub(crate) fn run(name: &str, arguments: &[String]) -> ExitCode {
    let Some(probe) = cases::PROBES.iter().flat_map(|area| area.iter()).find(|probe| probe.name == name)
    else {
        eprintln!("conformance: no probe is named {name}");
        return ExitCode::from(2);
    };
    match (probe.body)(arguments) {
        Ok(text) => {
            use std::io::Write;
            let written = std::io::stdout().write_all(text.as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) }
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(1)
        }
    }
}

/// A command that starts a probe; the case may change its environment.
pub(crate) fn command(name: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("this program")?);
    command.args(["--run-probe", name, "--"]).args(arguments);
    Ok(command)
}

/// Runs a probe's command to its end.
pub(crate) fn watch(mut command: Command) -> Result<Seen> {
    let mut out = runner::capture_file()?;
    let mut err = runner::capture_file()?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(err.try_clone()?);
    let mut child = command.spawn().context("the probe")?;
    let limit = Duration::from_secs(40 * u64::from(crate::runner::slow_factor()));
    let Some(status) = runner::wait_for(&mut child, limit)? else {
        // It is in the case's process group: whatever it started ends with the case.
        child.kill().context("ending the probe")?;
        child.wait().context("the probe's end")?;
        bail!("the probe ran past its limit of {} s", limit.as_secs());
    };
    Ok(Seen { out: runner::captured(&mut out)?, err: runner::captured(&mut err)?, status })
}

/// Runs a probe with some variables set, and returns its output.
pub(crate) fn ask(name: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let mut command = command(name, arguments)?;
    command.envs(variables.iter().map(|(key, value)| (OsStr::new(*key), OsStr::new(*value))));
    watch(command)?.text()
}
