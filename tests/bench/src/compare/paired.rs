//! Series of both sides, round by round.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::series::{Series, Unit};
use cuda_bench::statistics::{Median, quantile};

/// Which library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// The driver itself.
    Native,
    /// The guest's library, with a backend that has the same driver.
    Remoted,
}

impl fmt::Display for Side {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Native => "native",
            Self::Remoted => "remoted",
        })
    }
}

/// One series of both sides: the samples of each round.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) unit: Unit,
    native: Vec<Vec<f64>>,
    remoted: Vec<Vec<f64>>,
}

/// Everything that was measured, by name and in the order in which it was.
#[derive(Debug, Default)]
pub(crate) struct Results {
    names: Vec<String>,
    pairs: BTreeMap<String, Pair>,
    /// Where a series of this round stands.
    round: BTreeMap<(Side, String), usize>,
    /// What could not be measured, and how often that was.
    failures: BTreeMap<String, usize>,
    /// Programs that this machine has not what they need for, and what that is.
    skipped: BTreeMap<String, String>,
    /// Parts of programs, in the order in which they were first measured.
    checked: Vec<Checked>,
}

/// A part of a program, of which both sides' results were compared.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) name: String,
    pub(crate) what: String,
    /// What the program is built on.
    pub(crate) about: String,
    /// By which part of the larger one a result may differ.
    pub(crate) tolerance: f64,
    /// Rounds whose results were compared, and did not differ by more.
    pub(crate) rounds: usize,
    /// Of these, rounds whose results were the same to the bit.
    pub(crate) equal: usize,
}

impl Results {
    /// Adds what one side has measured in this round. A series that is there already gets more samples.
    pub(crate) fn add(&mut self, side: Side, series: Series) {
        let pair = self.pairs.entry(series.name.clone()).or_insert_with(|| {
            self.names.push(series.name.clone());
            Pair { unit: series.unit, native: Vec::new(), remoted: Vec::new() }
        });
        let rounds = match side {
            Side::Native => &mut pair.native,
            Side::Remoted => &mut pair.remoted,
        };
        let place = *self.round.entry((side, series.name)).or_insert(rounds.len());
        match rounds.get_mut(place) {
            Some(round) => round.extend(series.samples),
            None => rounds.push(series.samples),
        }
    }

    /// What is added from here on belongs to another round.
    pub(crate) fn end_round(&mut self) {
        self.round.clear();
    }

    /// Notes that something could not be measured.
    pub(crate) fn fail(&mut self, what: String) {
        *self.failures.entry(what).or_default() += 1;
    }

    /// What could not be measured.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> {
        self.failures.iter().map(|(what, count)| match count {
            1 => what.clone(),
            count => format!("{what} ({count} times)"),
        })
    }

    /// Notes that a program cannot run on this machine.
    pub(crate) fn skip(&mut self, program: &str, reason: String) {
        self.skipped.insert(program.to_owned(), reason);
    }

    pub(crate) fn is_skipped(&self, program: &str) -> bool {
        self.skipped.contains_key(program)
    }

    /// Programs that cannot run on this machine, and why.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = (&str, &str)> {
        self.skipped.iter().map(|(program, reason)| (program.as_str(), reason.as_str()))
    }

    /// Goes on with what was compared in an earlier run.
    pub(crate) fn follow(&mut self, checked: Vec<Checked>) {
        self.checked = checked;
    }

    /// Notes that both sides of a part of a program computed the same in a round, to the bit or about.
    pub(crate) fn checked(&mut self, name: &str, what: &str, about: &str, tolerance: f64, is_equal: bool) {
        if !self.checked.iter().any(|checked| checked.name == name) {
            let (name, what, about) = (name.to_owned(), what.to_owned(), about.to_owned());
            self.checked.push(Checked { name, what, about, tolerance, rounds: 0, equal: 0 });
        }
        if let Some(checked) = self.checked.iter_mut().find(|checked| checked.name == name) {
            checked.rounds += 1;
            checked.equal += usize::from(is_equal);
        }
    }

    /// Parts of programs whose results were compared.
    pub(crate) fn programs(&self) -> &[Checked] {
        &self.checked
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All series, in the order in which they were first measured.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Pair)> {
        self.names.iter().filter_map(|name| Some((name.as_str(), self.pairs.get(name)?)))
    }

    /// A series by its name.
    pub(crate) fn get(&self, name: &str) -> Option<&Pair> {
        self.pairs.get(name)
    }
}

impl Pair {
    /// Samples of a side, round by round.
    pub(crate) fn rounds(&self, side: Side) -> &[Vec<f64>] {
        match side {
            Side::Native => &self.native,
            Side::Remoted => &self.remoted,
        }
    }

    /// The median of each round.
    pub(crate) fn medians(&self, side: Side) -> Vec<f64> {
        self.rounds(side).iter().filter_map(|round| Some(Median::of(round.clone())?.value)).collect()
    }

    /// The median of the rounds' medians.
    pub(crate) fn median(&self, side: Side) -> Option<Median> {
        Median::of(self.medians(side))
    }

    /// All samples of a side, in ascending order.
    pub(crate) fn sorted(&self, side: Side) -> Vec<f64> {
        let mut samples: Vec<f64> = self.rounds(side).iter().flatten().copied().collect();
        samples.sort_by(f64::total_cmp);
        samples
    }

    /// The value that a share of a side's samples is not above.
    pub(crate) fn quantile(&self, side: Side, share: f64) -> Option<f64> {
        quantile(&self.sorted(side), share)
    }

    /// Remoted by native, round by round, and the median of that.
    pub(crate) fn ratio(&self) -> Option<Median> {
        Median::of_ratios(self.medians(Side::Remoted).into_iter().zip(self.medians(Side::Native)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, samples: &[f64]) -> Series {
        Series::new(name, Unit::Nanoseconds, samples.to_vec())
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let mut results = Results::default();
        for factor in [1.0, 10.0, 100.0] {
            results.add(Side::Remoted, series("launch", &[2.0 * factor, 2.0 * factor, 50.0 * factor]));
            results.add(Side::Native, series("launch", &[factor, factor, factor]));
            results.end_round();
        }
        let ratio = results.get("launch").and_then(Pair::ratio).expect("three rounds");
        assert_eq!(ratio, Median { value: 2.0, low: 2.0, high: 2.0 });
    }

    #[test]
    fn more_samples_of_a_round_are_one_round() {
        let mut results = Results::default();
        results.add(Side::Native, series("start", &[1.0]));
        results.add(Side::Native, series("start", &[3.0]));
        results.end_round();
        results.add(Side::Native, series("start", &[5.0]));
        let pair = results.get("start").expect("added");
        assert_eq!(pair.rounds(Side::Native), [vec![1.0, 3.0], vec![5.0]]);
        assert!(pair.ratio().is_none(), "one side says nothing");
    }
}
