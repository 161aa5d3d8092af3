//! The preloaded library's policy: `shim.toml` for people, compiled to the text of a link for processes.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::layout;
use crate::system::System;

/// What a new system gets: everything as it is by default, and what can be changed.
pub(crate) const DEFAULT: &str = r#"# What the preloaded CUDA library does in a process before the process calls CUDA.
# After a change: vcompute-guest apply

# "all": it looks for the GPU early in every application process; "listed": only in those of `always`; "off": in none.
#mode = "all"

# For so many milliseconds at most, 1 to 1000.
#deadline_ms = 1000

# Names of programs, as `ps -o comm` shows them; `*` at the end stands for any rest.
#never = ["mydaemon", "backup-*"]
#always = ["ollama"]

[log]
# "off", "error", "warn", "info", "debug" or "trace"
#level = "off"
# "stderr", "syslog" or "file:/absolute/path"
#target = "stderr"
"#;

/// Bytes of a name as the kernel keeps it.
const NAME_BYTES: usize = 15;
/// Bytes of the whole policy.
const POLICY_BYTES: usize = 1023;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    mode: Option<Mode>,
    deadline_ms: Option<u32>,
    #[serde(default)]
    never: Vec<String>,
    #[serde(default)]
    always: Vec<String>,
    #[serde(default)]
    log: Log,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    All,
    Listed,
    Off,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    level: Option<Level>,
    target: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The policy that a `shim.toml` means.
pub(crate) fn compile(text: &str) -> Result<String> {
    let config: Config = toml::from_str(text)?;
    let mut words = vec!["vcompute-shim-1".to_owned()];
    if let Some(mode) = config.mode {
        let mode = match mode {
            Mode::All => "all",
            Mode::Listed => "listed",
            Mode::Off => "off",
        };
        words.push(format!("mode={mode}"));
    }
    if let Some(deadline) = config.deadline_ms {
        ensure!((1..=1000).contains(&deadline), "deadline_ms is {deadline}; it can be 1 to 1000");
        words.push(format!("deadline={deadline}"));
    }
    if let Some(level) = config.log.level {
        let level = match level {
            Level::Off => "off",
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        words.push(format!("level={level}"));
    }
    if let Some(target) = config.log.target {
        let is_path = target
            .strip_prefix("file:")
            .is_some_and(|path| path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic()));
        ensure!(
            is_path || target == "stderr" || target == "syslog",
            "target is {target:?}; it can be \"stderr\", \"syslog\" or \"file:/absolute/path\" without white space"
        );
        words.push(format!("target={target}"));
    }
    for (key, names) in [("never", &config.never), ("always", &config.always)] {
        for name in names {
            check_name(name).with_context(|| format!("{name:?} in `{key}`"))?;
        }
        if !names.is_empty() {
            words.push(format!("{key}={}", names.join(",")));
        }
    }
    let policy = words.join(" ");
    ensure!(
        policy.len() <= POLICY_BYTES,
        "the policy takes {} bytes of {POLICY_BYTES}; shorten the lists, `*` helps",
        policy.len()
    );
    Ok(policy)
}

fn check_name(name: &str) -> Result<()> {
    let stem = name.strip_suffix('*').unwrap_or(name);
    ensure!(
        !name.is_empty() && stem.len() <= NAME_BYTES,
        "a name has 1 to {NAME_BYTES} bytes; the kernel keeps no more"
    );
    ensure!(!stem.contains('*'), "`*` can only be at the end");
    ensure!(
        stem.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','),
        "a name has no white space and no comma"
    );
    Ok(())
}

/// The policy that the system's file means; without a file, the default.
pub(crate) fn of(system: &System) -> Result<String> {
    let text = system.text(layout::CONFIG)?.unwrap_or_default();
    compile(&text).with_context(|| format!("/{} is not right", layout::CONFIG))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_says_nothing() {
        assert_eq!(compile(DEFAULT).expect("it is right"), "vcompute-shim-1");
        assert_eq!(compile("").expect("it is right"), "vcompute-shim-1");
    }

    #[test]
    fn every_comment_of_the_default_is_a_setting() {
        let all: String = DEFAULT
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();

        assert_eq!(
            compile(&all).expect("it is right"),
            "vcompute-shim-1 mode=all deadline=1000 level=off target=stderr never=mydaemon,backup-* always=ollama"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("mode = \"some\"", "some"),
            ("deadline_ms = 0", "1 to 1000"),
            ("never = [\"a-name-of-sixteen\"]", "15 bytes"),
            ("never = [\"a*b\"]", "at the end"),
            ("never = [\"a b\"]", "white space"),
            ("never = [\"a,b\"]", "comma"),
            ("color = 1", "color"),
            ("[log]\ntarget = \"file:relative\"", "absolute"),
        ] {
            let error = format!("{:#}", compile(text).expect_err(text));
            assert!(error.contains(part), "{text}: {error}");
        }
        let many: Vec<String> = (0..100).map(|number| format!("\"program-{number:05}\"")).collect();
        assert!(compile(&format!("never = [{}]", many.join(","))).is_err());
    }
}
