//! `status` and `doctor`: what is there, whether it works, and what to do where it does not.

mod files;
mod hardware;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::layout::{self, Libraries};
use crate::output::say;
use crate::record::Record;
use crate::system::{self, System};

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Good,
    /// Not as it should be, but CUDA can work.
    Doubtful,
    /// CUDA cannot work, or the system is in danger.
    Broken,
    /// Not looked at, with the reason.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn new(about: &'static str, verdict: Verdict, found: impl Into<String>, advice: Option<&str>) -> Self {
        Self { about, verdict, found: found.into(), advice: advice.map(str::to_owned) }
    }

    fn good(about: &'static str, found: impl Into<String>) -> Self {
        Self::new(about, Verdict::Good, found, None)
    }

    fn doubtful(about: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self::new(about, Verdict::Doubtful, found, Some(advice))
    }

    fn broken(about: &'static str, found: impl Into<String>, advice: &str) -> Self {
        Self::new(about, Verdict::Broken, found, Some(advice))
    }

    fn skipped(about: &'static str, why: impl Into<String>) -> Self {
        Self::new(about, Verdict::Skipped, why, None)
    }
}

/// What `status` and `doctor` are told.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// For programs
    #[arg(long)]
    json: bool,
}

/// `status`: what is installed and what the device says; starts no program, judges nothing.
pub(crate) fn status(system: &System, arguments: &Arguments) -> Result<()> {
    let findings = look(system, false)?;
    if arguments.json {
        print_json(&findings)?;
    } else {
        for finding in &findings {
            say(format_args!("{:<14}{}", finding.about, finding.found));
        }
    }
    Ok(())
}

/// `doctor`: the same, tried and judged. Says whether CUDA can work.
pub(crate) fn doctor(system: &System, arguments: &Arguments) -> Result<bool> {
    let findings = look(system, true)?;
    let broken = findings.iter().filter(|finding| finding.verdict == Verdict::Broken).count();
    if arguments.json {
        print_json(&findings)?;
        return Ok(broken == 0);
    }
    for finding in &findings {
        let word = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Doubtful => "doubtful",
            Verdict::Broken => "BROKEN",
            Verdict::Skipped => "skipped",
        };
        say(format_args!("{word:<10}{:<14}{}", finding.about, finding.found));
        if let Some(advice) = &finding.advice {
            say(format_args!("{:<24}-> {advice}", ""));
        }
    }
    let end = match broken {
        0 => "Nothing is broken.".to_owned(),
        1 => "One thing is broken.".to_owned(),
        more => format!("{more} things are broken."),
    };
    say(format_args!("{end}"));
    Ok(broken == 0)
}

fn print_json(findings: &[Finding]) -> Result<()> {
    say(format_args!("{}", serde_json::to_string_pretty(findings)?));
    Ok(())
}

fn look(system: &System, try_it: bool) -> Result<Vec<Finding>> {
    let record = Record::of(system);
    let mut findings = vec![installed(&record)];
    if system.is_live() {
        findings.extend([hardware::kernel(), hardware::bus(), hardware::module(system)]);
        findings.extend(hardware::node());
    }
    let Some(libraries) = Libraries::of(system) else {
        findings.push(Finding::broken(
            "library",
            "there is no libc.so.6 for x86-64",
            "only x86-64 systems with glibc can be guests",
        ));
        return Ok(findings);
    };
    let record = record.ok().flatten().unwrap_or_default();
    findings.extend(files::libraries(system, &libraries, &record));
    findings.push(files::cache(system, &libraries)?);
    findings.extend(files::preloaded(system, &libraries)?);
    findings.push(files::policy(system)?);
    findings.push(files::initramfs(system));
    if try_it && system.is_live() {
        findings.push(child(system));
    }
    Ok(findings)
}

fn installed(record: &Result<Option<Record>>) -> Finding {
    const ABOUT: &str = "installed";
    match record {
        Ok(Some(record)) if record.version == layout::VERSION => {
            Finding::good(ABOUT, format!("version {}", record.version))
        }
        Ok(Some(record)) => Finding::doubtful(
            ABOUT,
            format!("version {}; this program is {}", record.version, layout::VERSION),
            "run `vcompute-guest install` of the version that you want",
        ),
        Ok(None) => Finding::doubtful(ABOUT, "not by this program", "run `vcompute-guest install`"),
        Err(error) => Finding::doubtful(ABOUT, format!("{error:#}"), "run `vcompute-guest install` again"),
    }
}

/// What a CUDA program would find.
fn child(system: &System) -> Finding {
    const ABOUT: &str = "a program";
    if !system.has(layout::PROBE) {
        return Finding::skipped(ABOUT, format!("there is no /{}", layout::PROBE));
    }
    let ended = system
        .command(&format!("/{}", layout::PROBE), None)
        .and_then(|command| system::run(command, Duration::from_secs(60)));
    let ended = match ended {
        Ok(ended) => ended,
        Err(error) => {
            return Finding::broken(ABOUT, format!("{error:#}"), "run `vcompute-guest install` again");
        }
    };
    if ended.complaints.contains("GLIBC_") {
        return Finding::skipped(ABOUT, format!("the probe does not start here: {}", ended.complaints));
    }
    let answer: serde_json::Value = serde_json::from_str(&ended.output).unwrap_or_default();
    match (&ended.failure, answer.get("devices").and_then(|devices| devices.as_array())) {
        (None, Some(devices)) if !devices.is_empty() => {
            Finding::good(ABOUT, format!("cuInit works; CUDA devices: {}", devices.len()))
        }
        (None, Some(_)) => Finding::broken(
            ABOUT,
            "cuInit works, but there is no device",
            "see the backend's log on the host",
        ),
        (failure, _) => {
            let reason = answer.get("error").and_then(|error| error.as_str()).map(str::to_owned);
            let reason = reason.or_else(|| failure.clone()).unwrap_or_else(|| "it said nothing".to_owned());
            Finding::broken(ABOUT, reason, "mend what is broken above; VCOMPUTE_LOG=debug says more")
        }
    }
}
