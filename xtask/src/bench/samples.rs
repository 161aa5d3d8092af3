//! Samples of several variants, taken in turn, and what they say.

use anyhow::{Context, Result, ensure};
use cuda_bench::statistics::Median;

/// What was measured of one start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// From the start to the end, in microseconds.
    pub(super) elapsed: f64,
    /// Processor time, in microseconds.
    pub(super) processor: f64,
    /// Page faults.
    pub(super) faults: f64,
}

/// Samples of each variant; those of one round stand at one place.
#[derive(Clone, Debug)]
pub(super) struct Samples(Vec<Vec<Sample>>);

impl Samples {
    /// Reads what `startup` prints; other lines are passed over.
    pub(super) fn read<'a>(lines: impl Iterator<Item = &'a str>, variants: usize) -> Result<Self> {
        let mut samples = vec![Vec::new(); variants];
        for line in lines {
            let numbers: Option<Vec<f64>> = line.split(' ').map(|word| word.parse().ok()).collect();
            let Some(&[_, nanoseconds, processor, faults]) = numbers.as_deref() else { continue };
            let variant: usize =
                line.split(' ').next().and_then(|word| word.parse().ok()).context("a number of a variant")?;
            let of_variant = samples.get_mut(variant).context("a variant that was not asked for")?;
            of_variant.push(Sample { elapsed: nanoseconds / 1000.0, processor, faults });
        }
        let rounds = samples.first().map_or(0, Vec::len);
        ensure!(rounds >= 20, "{rounds} rounds are too few");
        ensure!(samples.iter().all(|variant| variant.len() == rounds), "a round is not complete");
        Ok(Self(samples))
    }

    /// Of a variant.
    pub(super) fn median(&self, variant: usize, value: impl Fn(&Sample) -> f64) -> Option<Median> {
        Median::of(self.0.get(variant)?.iter().map(value).collect())
    }

    /// What a variant has more than another, round by round.
    pub(super) fn more(&self, variant: usize, than: usize, value: impl Fn(&Sample) -> f64) -> Option<Median> {
        let pairs = self.0.get(variant)?.iter().zip(self.0.get(than)?);
        Median::of(pairs.map(|(one, other)| value(one) - value(other)).collect())
    }

    /// Mean of a variant, for what is counted.
    pub(super) fn mean(&self, variant: usize, value: impl Fn(&Sample) -> f64) -> Option<f64> {
        let samples = self.0.get(variant)?;
        Some(samples.iter().map(value).sum::<f64>() / samples.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_are_paired() {
        let lines: Vec<String> = (0..20)
            .flat_map(|round| {
                let base = 1000 * (round + 1);
                [format!("0 {base} 10 3"), "noise".to_owned(), format!("1 {} 12 5", base + 7000)]
            })
            .collect();
        let samples = Samples::read(lines.iter().map(String::as_str), 2).expect("complete rounds");
        let more = samples.more(1, 0, |sample| sample.elapsed).expect("both variants");
        assert_eq!(more, Median { value: 7.0, low: 7.0, high: 7.0 });
        assert_eq!(samples.mean(1, |sample| sample.faults), Some(5.0));
        assert!(Samples::read(lines.iter().take(59).map(String::as_str), 2).is_err(), "a round is missing");
    }
}
