//! What a case is, and the table of all of them.

use std::io::Write;
use std::process::ExitCode;

use crate::cases;
use crate::outcome::{CaseResult, Outcome, Verdict};

/// One question to the driver, asked in a process of its own.
#[derive(Debug)]
pub(crate) struct Case {
    /// `area::behaviour`.
    pub(crate) name: &'static str,
    /// Seconds after which the case has failed (times the factor for slow machines).
    pub(crate) limit_s: u32,
    /// The question.
    pub(crate) body: fn() -> CaseResult,
}

/// Seconds that a case may take unless it says otherwise.
pub(crate) const DEFAULT_LIMIT_S: u32 = 60;

/// Makes an area's table: each function's name becomes the behaviour's name.
macro_rules! area {
    ($area:literal: $($body:ident),* $(,)?) => {
        /// The cases of this area.
        pub(crate) const CASES: &[$crate::registry::Case] = &[$(
            $crate::registry::Case {
                name: concat!($area, "::", stringify!($body)),
                limit_s: $crate::registry::DEFAULT_LIMIT_S,
                body: $body,
            },
        )*];
    };
}
pub(crate) use area;

/// Every case of every area, in the order of the areas.
fn all() -> impl Iterator<Item = &'static Case> {
    cases::AREAS.iter().flat_map(|area| area.iter())
}

/// The cases whose name has one of the wanted parts (all when none is wanted) and no unwanted one.
pub(crate) fn select(wanted: &[String], unwanted: &[String]) -> Vec<&'static Case> {
    all()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part.as_str())))
        .filter(|case| !unwanted.iter().any(|part| case.name.contains(part.as_str())))
        .collect()
}

/// Runs one case in this process and prints its verdict for the runner.
pub(crate) fn run_one(name: &str) -> ExitCode {
    let Some(case) = all().find(|case| case.name == name) else {
        eprintln!("conformance: no case is named {name}");
        return ExitCode::from(2);
    };
    let verdict = match std::panic::catch_unwind(case.body) {
        Ok(Ok(Outcome::Pass)) => Verdict::Passed,
        Ok(Ok(Outcome::Skip(reason))) => Verdict::Skipped(reason),
        Ok(Err(error)) => Verdict::Failed(format!("{error:#}")),
        Err(_) => Verdict::Failed("the case panicked".to_owned()),
    };
    let mut out = std::io::stdout().lock();
    if writeln!(out, "\n{}", verdict.to_line()).and_then(|()| out.flush()).is_err() {
        return ExitCode::from(2);
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{all, select};

    #[test]
    fn names_are_unique_and_have_an_area() {
        let mut seen = HashSet::new();
        for case in all() {
            assert!(seen.insert(case.name), "{} is there twice", case.name);
            assert_eq!(case.name.matches("::").count(), 1, "{}", case.name);
        }
        assert!(!seen.is_empty());
    }

    #[test]
    fn filters_select_by_substring() {
        let wanted = select(&["init::".to_owned()], &[]);
        assert!(!wanted.is_empty());
        assert!(wanted.iter().all(|case| case.name.starts_with("init::")));
        assert!(select(&[], &["::".to_owned()]).is_empty());
    }
}
