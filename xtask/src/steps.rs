//! A run of named steps: what is going on, how long it took, what failed, and the sum.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::counts::Counts;
use crate::output::say;

/// Collects what the steps come to.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    sum: Counts,
    results: Vec<(String, String)>,
}

impl Steps {
    /// Runs one step. An error counts as one failed test and does not end the run: the other steps still tell something.
    pub(crate) fn step(&mut self, name: &str, body: impl FnOnce() -> Result<Counts>) -> bool {
        log::info!("▶ {name}");
        let begin = Instant::now();
        let counts = body().unwrap_or_else(|error| {
            say(format_args!("{name}: {error:#}"));
            Counts::one(false)
        });
        let seconds = begin.elapsed().as_secs_f32();
        let mark = if counts.failed == 0 { "✔" } else { "✘" };
        log::info!("{mark} {name}: {counts} ({seconds:.1} s)");
        self.results.push((format!("{mark} {name}"), format!("{counts} ({seconds:.1} s)")));
        self.sum += counts;
        counts.failed == 0
    }

    /// Counts a step that cannot run, and says why.
    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        log::info!("○ {name}: skipped: {reason}");
        self.results.push((format!("○ {name}"), format!("skipped: {reason}")));
        self.sum += Counts { skipped: 1, ..Counts::default() };
    }

    /// Prints all results; the last line is the sum. A failure is an error, already told.
    pub(crate) fn finish(self) -> Result<()> {
        say(format_args!(""));
        let width = self.results.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, result) in &self.results {
            say(format_args!("{name:width$}  {result}"));
        }
        let failed = self.sum.failed;
        if failed > 0 {
            say(format_args!("{}", self.sum));
            return Err(AlreadyTold.into());
        }
        if self.sum.passed == 0 {
            bail!("no test was run");
        }
        say(format_args!("{}", self.sum));
        Ok(())
    }
}

/// An error whose text has been printed.
#[derive(Debug)]
pub(crate) struct AlreadyTold;

impl std::fmt::Display for AlreadyTold {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("tests failed")
    }
}

impl std::error::Error for AlreadyTold {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_step_does_not_hide_the_others() {
        let mut steps = Steps::default();

        let first = steps.step("one", || bail!("broken"));
        let second = steps.step("two", || Ok(Counts { passed: 2, failed: 0, skipped: 1 }));
        steps.skip("three", "not here");

        assert!(!first);
        assert!(second);
        assert_eq!(steps.sum, Counts { passed: 2, failed: 1, skipped: 2 });
        assert!(steps.finish().expect_err("failed").is::<AlreadyTold>());
    }
}
