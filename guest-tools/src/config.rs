//! The preloaded library's policy: `shim.toml` for people, compiled to the text of a link for processes.

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;
use shim_policy::{Level, MAX_BYTES, MAX_DEADLINE_MS, Mode, NAME_BYTES, Names, Policy, Target};

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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    mode: Option<String>,
    deadline_ms: Option<u16>,
    #[serde(default)]
    never: Vec<String>,
    #[serde(default)]
    always: Vec<String>,
    #[serde(default)]
    log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    level: Option<String>,
    target: Option<String>,
}

/// The policy that a `shim.toml` means.
pub(crate) fn compile(text: &str) -> Result<String> {
    let config: Config = toml::from_str(text)?;
    let (never, always) = (list("never", &config.never)?, list("always", &config.always)?);
    let mut policy = Policy { never: names(&never)?, always: names(&always)?, ..Policy::default() };
    if let Some(mode) = &config.mode {
        let all: Vec<_> = Mode::ALL.iter().map(|mode| mode.name()).collect();
        policy.mode = Mode::parse(mode.as_bytes())
            .map_err(|_| anyhow!("mode is {mode:?}; it can be one of: {}", all.join(", ")))?;
    }
    if let Some(deadline) = config.deadline_ms {
        ensure!(
            (1..=MAX_DEADLINE_MS).contains(&deadline),
            "deadline_ms is {deadline}; it can be 1 to {MAX_DEADLINE_MS}"
        );
        policy.deadline_ms = deadline;
    }
    if let Some(level) = &config.log.level {
        let all: Vec<_> = Level::ALL.iter().map(|level| level.name()).collect();
        policy.level = Level::parse(level.as_bytes())
            .map_err(|_| anyhow!("level is {level:?}; it can be one of: {}", all.join(", ")))?;
    }
    if let Some(target) = &config.log.target {
        policy.target = Target::parse(target.as_bytes()).map_err(|_| {
            anyhow!(
                "target is {target:?}; it can be \"stderr\", \"syslog\" or \"file:/absolute/path\" without white space"
            )
        })?;
    }
    let text = policy.to_string();
    ensure!(
        text.len() <= MAX_BYTES,
        "the policy takes {} bytes of {MAX_BYTES}; shorten the lists, `*` helps",
        text.len()
    );
    Ok(text)
}

fn list(key: &str, all: &[String]) -> Result<String> {
    for name in all {
        let one = !name.contains(',') && Names::parse(name.as_bytes()).is_ok();
        ensure!(
            one,
            "{name:?} in `{key}` is no name: 1 to {NAME_BYTES} bytes, which is what the kernel keeps of it, without white \
             space and commas; `*` can only be at the end"
        );
    }
    Ok(all.join(","))
}

fn names(list: &str) -> Result<Names<'_>> {
    if list.is_empty() {
        return Ok(Names::default());
    }
    Names::parse(list.as_bytes()).context("the list of names is none")
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
            "vcompute-shim-1 never=mydaemon,backup-* always=ollama"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("mode = \"some\"", "some"),
            ("deadline_ms = 0", "1 to 1000"),
            ("never = [\"a-name-of-sixteen\"]", "1 to 15 bytes"),
            ("never = [\"a*b\"]", "at the end"),
            ("never = [\"a b\"]", "white "),
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
