//! Whether ordinary programs still run: each ends with 0 and complains of nothing.

use std::time::Duration;

use anyhow::{Result, bail};

use crate::system::{self, System};

/// What is tried: programs that nearly every system has, so short that a second is a long time for them.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("true", &[]),
    ("sh", &["-c", ":"]),
    ("sh", &["-c", "cat /dev/null | cat"]),
    ("bash", &["-c", ":"]),
    ("ls", &["/"]),
    ("env", &["true"]),
    ("python3", &["-c", "pass"]),
];

/// The constructor of the library may take one second.
const LIMIT: Duration = Duration::from_secs(20);

/// Programs that run in a system as it is.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    system: &'a System,
    programs: Vec<(String, &'static [&'static str])>,
}

impl<'a> Trial<'a> {
    /// Finds them.
    pub(crate) fn of(system: &'a System) -> Result<Self> {
        let mut trial = Self { system, programs: Vec::new() };
        let mut reasons = Vec::new();
        for (name, arguments) in PROGRAMS {
            let Some(program) = system.program(name) else { continue };
            match trial.one(&program, arguments, None)? {
                None => trial.programs.push((program, arguments)),
                Some(reason) => reasons.push(reason),
            }
        }
        if trial.programs.is_empty() {
            bail!(
                "no program can be started in {}, so the library cannot be tried: {}",
                system.top().display(),
                reasons.first().map_or("there is none", String::as_str)
            );
        }
        Ok(trial)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.programs.len()
    }

    /// Runs them again, with a library preloaded or as the system has it now.
    pub(crate) fn run(&self, preload: Option<&str>) -> Result<()> {
        for (program, arguments) in &self.programs {
            if let Some(reason) = self.one(program, arguments, preload)? {
                bail!("{reason}");
            }
        }
        Ok(())
    }

    fn one(&self, program: &str, arguments: &[&str], preload: Option<&str>) -> Result<Option<String>> {
        let mut command = self.system.command(program, preload)?;
        command.args(arguments);
        let ended = system::run(command, LIMIT)?;
        let line = format!("{program} {}", arguments.join(" "));
        Ok(match ended.failure {
            Some(failure) if ended.complaints.is_empty() => Some(format!("{} {failure}", line.trim_end())),
            Some(failure) => Some(format!("{} {failure} and said: {}", line.trim_end(), ended.complaints)),
            None if !ended.complaints.is_empty() => {
                Some(format!("{} said: {}", line.trim_end(), ended.complaints))
            }
            None => None,
        })
    }
}
