//! How a case ends.

use serde::Serialize;

/// A case that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything that was asked held.
    Pass,
    /// The question makes no sense on this machine; the text says why.
    Skip(String),
}

/// What a case function returns: an error is a failed case.
pub(crate) type CaseResult = anyhow::Result<Outcome>;

/// The end of a case, for a function's last line.
pub(crate) fn pass() -> CaseResult {
    Ok(Outcome::Pass)
}

/// A case that cannot be asked here, with the reason.
pub(crate) fn skip(reason: impl Into<String>) -> CaseResult {
    Ok(Outcome::Skip(reason.into()))
}

/// What the runner saw of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "result", content = "detail", rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// The case passed.
    Passed,
    /// The case failed, crashed or ran past its time limit.
    Failed(String),
    /// The case could not be asked.
    Skipped(String),
}

/// What begins the line by which a case's process tells its verdict.
const MARK: &str = "\u{1}conformance-verdict ";

impl Verdict {
    /// The line that a case's process prints last.
    pub(crate) fn to_line(&self) -> String {
        let (word, detail) = match self {
            Self::Passed => ("passed", ""),
            Self::Failed(detail) => ("failed", detail.as_str()),
            Self::Skipped(detail) => ("skipped", detail.as_str()),
        };
        format!("{MARK}{word} {}", detail.replace('\n', " | "))
    }

    /// The verdict in a case's output, if its process came far enough to print one.
    pub(crate) fn from_output(output: &str) -> Option<Self> {
        let at = output.rfind(MARK)? + MARK.len();
        let line = output.get(at..)?.lines().next()?;
        let (word, detail) = line.split_once(' ')?;
        match word {
            "passed" => Some(Self::Passed),
            "failed" => Some(Self::Failed(detail.to_owned())),
            "skipped" => Some(Self::Skipped(detail.to_owned())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict;

    #[test]
    fn a_verdict_survives_its_line() {
        for verdict in [
            Verdict::Passed,
            Verdict::Failed("a.rs:3: expected 1, got 2".into()),
            Verdict::Skipped("no second device".into()),
        ] {
            let output = format!("noise\n{}\n", verdict.to_line());
            assert_eq!(Verdict::from_output(&output), Some(verdict));
        }
    }

    #[test]
    fn output_without_a_verdict_has_none() {
        assert_eq!(Verdict::from_output("passed \n"), None);
    }
}
