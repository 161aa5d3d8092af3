//! How many tests passed, failed and were skipped, as the test programs say it themselves.

use std::fmt;
use std::ops::AddAssign;

/// Sums over tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that failed.
    pub failed: u64,
    /// Tests that did not run, with a reason given where they say so.
    pub skipped: u64,
}

impl Counts {
    /// Of one check that has no tests inside.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: u64::from(passed), failed: u64::from(!passed), skipped: 0 }
    }

    /// The last line of the form `N passed, N failed, N skipped`.
    pub(crate) fn closing<'a>(lines: impl DoubleEndedIterator<Item = &'a str>) -> Option<Self> {
        lines.rev().find_map(|line| {
            let mut numbers = [0; 3];
            let mut parts = line.trim().split(", ");
            for (number, word) in numbers.iter_mut().zip(["passed", "failed", "skipped"]) {
                let (count, label) = parts.next()?.split_once(' ')?;
                *number = count.parse().ok().filter(|_| label == word)?;
            }
            let [passed, failed, skipped] = numbers;
            parts.next().is_none().then_some(Self { passed, failed, skipped })
        })
    }

    /// The sum of cargo's `test result: ok. N passed; N failed; N ignored; …` lines.
    pub(crate) fn of_cargo<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut sum = None;
        for line in lines.filter_map(|line| line.trim().strip_prefix("test result: ")) {
            let count = |label: &str| {
                let words: Vec<_> = line.split_whitespace().collect();
                words.windows(2).find_map(|pair| match pair {
                    [number, word] if word.trim_end_matches(';') == label => number.parse::<u64>().ok(),
                    _ => None,
                })
            };
            *sum.get_or_insert_with(Self::default) +=
                Self { passed: count("passed")?, failed: count("failed")?, skipped: count("ignored")? };
        }
        sum
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_line_is_found_and_others_are_not_taken_for_one() {
        let text = ["3 passed, 1 failed, 2 skipped", "(1 failed, of them 0 passed)", "logs: x"];

        let counts = Counts::closing(text.into_iter());

        assert_eq!(counts, Some(Counts { passed: 3, failed: 1, skipped: 2 }));
        assert_eq!(Counts::closing(["3 passed, 1 failed"].into_iter()), None);
    }

    #[test]
    fn cargos_results_are_added_up() {
        let text = [
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        ];

        assert_eq!(Counts::of_cargo(text.into_iter()), Some(Counts { passed: 5, failed: 2, skipped: 1 }));
        assert_eq!(Counts::of_cargo(["no tests"].into_iter()), None);
    }
}
