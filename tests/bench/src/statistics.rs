//! Medians, and where they lie with 95 % certainty.
//!
//! Times of calls have long tails and several humps, so nothing here assumes a distribution: intervals are those of
//! order statistics.

/// Fewest values of which an interval of order statistics can have 95 %: with fewer, even the whole range has less.
pub const FEWEST: usize = 6;

/// A value that half of the samples are below, and where it lies with 95 % certainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The median itself.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Median {
    /// Of values in any order; none of no values. With fewer than [`FEWEST`] the interval is the whole range.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let count = values.len();
        let at = |index: usize| values.get(index.min(count.checked_sub(1)?)).copied();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "less than the number of samples"
        )]
        let reach = (0.98 * (count as f64).sqrt()).ceil() as usize;
        let middle = count / 2;
        Some(Self { value: at(middle)?, low: at(middle.saturating_sub(reach))?, high: at(middle + reach)? })
    }

    /// Of ratios, pair by pair. Pairs whose second value is zero say nothing and are left out.
    #[must_use]
    pub fn of_ratios(pairs: impl Iterator<Item = (f64, f64)>) -> Option<Self> {
        Self::of(pairs.filter(|(_, by)| *by != 0.0).map(|(value, by)| value / by).collect())
    }
}

/// The value that a share of the samples, from 0 to 1, is not above. `sorted` is in ascending order.
#[must_use]
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by the line after it"
    )]
    let index = (share.clamp(0.0, 1.0) * sorted.len() as f64).ceil() as usize;
    sorted.get(index.saturating_sub(1).min(last)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_its_interval() {
        let median = Median::of((0..100).map(f64::from).collect()).expect("values");
        assert_eq!(median, Median { value: 50.0, low: 40.0, high: 60.0 });
        assert_eq!(Median::of(Vec::new()), None);
    }

    #[test]
    fn few_values_have_their_range_for_an_interval() {
        let median = Median::of(vec![3.0, 1.0, 2.0]).expect("values");
        assert_eq!(median, Median { value: 2.0, low: 1.0, high: 3.0 });
    }

    #[test]
    fn the_interval_covers_the_median_in_95_of_100_cases() {
        // A linear congruential generator; the true median of its values is a half.
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        for count in [FEWEST, 11, 50, 301] {
            let covered = (0..2000)
                .filter_map(|_| Median::of((0..count).map(|_| random()).collect()))
                .filter(|median| (median.low..=median.high).contains(&0.5))
                .count();
            assert!(covered >= 1880, "{covered} of 2000 intervals of {count} values hold the median");
        }
    }

    #[test]
    fn ratios_are_of_pairs() {
        let pairs = [(2.0, 1.0), (30.0, 10.0), (5.0, 0.0), (400.0, 100.0)];
        let ratio = Median::of_ratios(pairs.into_iter()).expect("pairs");
        assert_eq!(ratio, Median { value: 3.0, low: 2.0, high: 4.0 });
    }

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        assert_eq!(quantile(&sorted, 0.5), Some(2.0));
        assert_eq!(quantile(&sorted, 0.99), Some(4.0));
        assert_eq!(quantile(&sorted, 0.0), Some(1.0));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
