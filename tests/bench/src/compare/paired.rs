//! Series of both sides, round by round.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::series::{Series, Unit};
use cuda_bench::statistics::{Median, quantile};

/// Which library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
