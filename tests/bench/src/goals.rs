//! What the figures should be, on the machine with the GPU.

use cuda_bench::statistics::Median;

use crate::compare::paired::{Results, Side};

/// What a series should be, remoted by native.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// The ratio is at most this.
    Most(f64),
    /// The ratio is at least this.
    Least(f64),
    /// Processor time is at most that of the native side and of one copy within the host, of this size.
    WithOneCopy(&'static str),
    /// At most so much more than natively, and how that is written.
    MostMore(f64, &'static str),
}

/// Series and their goals.
const GOALS: &[(&str, Goal)] = &[
    ("launch/async/depth-1", Goal::Most(0.15)),
    ("launch/async/depth-32", Goal::Most(0.15)),
    ("launch/async/depth-96", Goal::Most(0.15)),
    ("launch/sustained/empty", Goal::Least(0.97)),
    ("launch/sustained/counting", Goal::Least(0.97)),
    ("launch/synchronized", Goal::Most(1.15)),
    ("copy/4B/h2d", Goal::Most(1.25)),
    ("copy/4B/d2h", Goal::Most(1.25)),
    ("allocate/4KiB", Goal::Most(1.05)),
    ("allocate/16MiB", Goal::Most(1.05)),
    ("copy/pinned/h2d/256MiB", Goal::Least(0.99)),
    ("copy/pinned/d2h/256MiB", Goal::Least(0.99)),
    ("copy/pageable/h2d/1MiB", Goal::Least(1.0)),
    ("copy/pageable/h2d/4MiB", Goal::Least(1.0)),
    ("copy/pageable/h2d/16MiB", Goal::Least(1.0)),
    ("copy/pageable/h2d/256MiB", Goal::Least(1.0)),
    ("copy/pageable/h2d/1GiB", Goal::Least(1.0)),
    ("copy/pageable/d2h/1MiB", Goal::Least(1.0)),
    ("copy/pageable/d2h/4MiB", Goal::Least(1.0)),
    ("copy/pageable/d2h/16MiB", Goal::Least(1.0)),
    ("copy/pageable/d2h/256MiB", Goal::Least(1.0)),
    ("copy/pageable/d2h/1GiB", Goal::Least(1.0)),
    ("copy/pageable/h2d/1MiB/processor", Goal::WithOneCopy("memcpy/1MiB/processor")),
    ("copy/pageable/h2d/16MiB/processor", Goal::WithOneCopy("memcpy/16MiB/processor")),
    ("copy/pageable/h2d/256MiB/processor", Goal::WithOneCopy("memcpy/256MiB/processor")),
    ("copy/pageable/h2d/1GiB/processor", Goal::WithOneCopy("memcpy/1GiB/processor")),
    ("copy/pageable/d2h/1MiB/processor", Goal::WithOneCopy("memcpy/1MiB/processor")),
    ("copy/pageable/d2h/16MiB/processor", Goal::WithOneCopy("memcpy/16MiB/processor")),
    ("copy/pageable/d2h/256MiB/processor", Goal::WithOneCopy("memcpy/256MiB/processor")),
    ("copy/pageable/d2h/1GiB/processor", Goal::WithOneCopy("memcpy/1GiB/processor")),
    ("start-up/warm-context", Goal::Most(0.25)),
    ("processes/launches/16", Goal::Least(1.0)),
    ("processes/copies/16", Goal::Least(1.0)),
    ("footprint/memory", Goal::MostMore(16.0 * 1_048_576.0, "16 MiB")),
    ("footprint/idle-processor", Goal::MostMore(0.0005, "0.05 %")),
    ("gpt2/eager", Goal::Least(1.0)),
    ("gpt2/graph", Goal::Least(0.99)),
    ("train/cnn/fp32/eager", Goal::Least(1.0)),
    ("train/cnn/fp32/graph", Goal::Least(0.99)),
    ("train/cnn/amp/eager", Goal::Least(1.0)),
    ("train/cnn/amp/graph", Goal::Least(0.99)),
    ("train/transformer/fp32/eager", Goal::Least(1.0)),
    ("train/transformer/fp32/graph", Goal::Least(0.99)),
    ("train/transformer/amp/eager", Goal::Least(1.0)),
    ("train/transformer/amp/graph", Goal::Least(0.99)),
    ("launch/runtime", Goal::Least(1.0)),
    ("launch/torch", Goal::Least(1.0)),
    ("llama/prompt", Goal::Least(1.0)),
    ("llama/decode", Goal::Least(1.0)),
    ("import/torch", Goal::Most(1.0)),
    ("import/torch/warm", Goal::Most(1.0)),
];

/// What became of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// All of the interval keeps it.
    Met,
    /// Nothing of the interval keeps it.
    Missed,
    /// A part of it does: the measurement does not say.
    Open,
}

/// A goal and how it stands.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) name: &'static str,
    /// The goal in words.
    pub(crate) goal: String,
    pub(crate) verdict: Verdict,
}

/// Series that have a goal.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    GOALS.iter().map(|(name, _)| *name)
}

/// Goals of series that were measured on both sides, in the order of [`GOALS`].
pub(crate) fn judge(results: &Results) -> Vec<Judged> {
    GOALS
        .iter()
        .filter_map(|(name, goal)| {
            let (text, verdict) = one(results, name, *goal)?;
            Some(Judged { name, goal: text, verdict })
        })
        .collect()
}

fn one(results: &Results, name: &str, goal: Goal) -> Option<(String, Verdict)> {
    let pair = results.get(name)?;
    let remoted = pair.medians(Side::Remoted);
    let native = pair.medians(Side::Native);
    let pairs = || remoted.iter().copied().zip(native.iter().copied());
    Some(match goal {
        Goal::Most(most) => (format!("≤ {most}"), at_most(&pair.ratio()?, most)),
        Goal::Least(least) => (format!("≥ {least}"), at_least(&pair.ratio()?, least)),
        Goal::WithOneCopy(copy) => {
            let copies = results.get(copy)?.medians(Side::Native);
            let allowed = pairs().zip(copies).map(|((remoted, native), copy)| (remoted, native + copy));
            ("≤ native + one copy".to_owned(), at_most(&Median::of_ratios(allowed)?, 1.0))
        }
        Goal::MostMore(most, text) => {
            let more = Median::of(pairs().map(|(remoted, native)| remoted - native).collect())?;
            (format!("≤ native + {text}"), at_most(&more, most))
        }
    })
}

fn at_most(value: &Median, most: f64) -> Verdict {
    if value.high <= most {
        Verdict::Met
    } else if value.low > most {
        Verdict::Missed
    } else {
        Verdict::Open
    }
}

fn at_least(value: &Median, least: f64) -> Verdict {
    if value.low >= least {
        Verdict::Met
    } else if value.high < least {
        Verdict::Missed
    } else {
        Verdict::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Series, Unit};

    fn results(rows: &[(&str, f64, f64)]) -> Results {
        let mut results = Results::default();
        for (name, native, remoted) in rows {
            results.add(Side::Native, Series::new(*name, Unit::Nanoseconds, vec![*native]));
            results.add(Side::Remoted, Series::new(*name, Unit::Nanoseconds, vec![*remoted]));
        }
        results
    }

    fn verdicts(rows: &[(&str, f64, f64)]) -> Vec<Verdict> {
        judge(&results(rows)).iter().map(|judged| judged.verdict).collect()
    }

    #[test]
    fn only_what_was_measured_is_judged() {
        assert_eq!(verdicts(&[]), []);
        assert_eq!(verdicts(&[("launch/synchronized", 100.0, 110.0)]), [Verdict::Met]);
        assert_eq!(verdicts(&[("launch/synchronized", 100.0, 120.0)]), [Verdict::Missed]);
        assert_eq!(verdicts(&[("launch/sustained/empty", 100.0, 96.0)]), [Verdict::Missed]);
    }

    #[test]
    fn processors_may_take_one_copy_more() {
        let name = "copy/pageable/h2d/1MiB/processor";
        let copy = ("memcpy/1MiB/processor", 0.1, 0.1);
        assert_eq!(verdicts(&[(name, 0.2, 0.29), copy]), [Verdict::Met]);
        assert_eq!(verdicts(&[(name, 0.2, 0.31), copy]), [Verdict::Missed]);
    }

    #[test]
    fn more_than_natively_is_the_difference_of_the_two() {
        let verdict = |remoted| verdicts(&[("footprint/idle-processor", 0.0010, remoted)]);
        assert_eq!((verdict(0.0014), verdict(0.0016)), (vec![Verdict::Met], vec![Verdict::Missed]));
    }

    #[test]
    fn an_interval_around_the_goal_is_open() {
        assert_eq!(at_most(&Median { value: 1.0, low: 0.9, high: 1.1 }, 1.05), Verdict::Open);
        assert_eq!(at_least(&Median { value: 1.0, low: 0.9, high: 1.1 }, 0.95), Verdict::Open);
    }
}
