//! What a run says: for people, for programs, as pictures.

mod about;
mod markdown;
mod plots;
mod ratios;

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cuda_bench::statistics::Median;
use serde::{Deserialize, Serialize};

pub(crate) use about::About;

use crate::compare::paired::{Checked, Results, Side};
use crate::goals::{self, Judged, Verdict};
use crate::series::{Series, Unit};

/// What an earlier run has left in a folder.
pub(crate) struct Earlier {
    about: About,
    results: Results,
    rounds: usize,
}

impl Earlier {
    /// What a later run goes on with.
    pub(crate) fn follow(self, later: About) -> Result<(About, Results, usize)> {
        Ok((self.about.follow(later)?, self.results, self.rounds))
    }
}

/// Reads what an earlier run has left in a folder.
pub(crate) fn read(folder: &Path) -> Result<Earlier> {
    #[derive(Deserialize)]
    struct Report {
        about: About,
        rounds: usize,
        failures: Vec<String>,
        programs: Vec<Checked>,
        skipped: Vec<(String, String)>,
    }
    let place = folder.join("report.json");
    let text = fs::read_to_string(&place).with_context(|| format!("read {}", place.display()))?;
    let report: Report = serde_json::from_str(&text).with_context(|| format!("read {}", place.display()))?;
    let mut results = Results::default();
    report.failures.into_iter().for_each(|failure| results.fail(failure));
    report.skipped.into_iter().for_each(|(program, reason)| results.skip(&program, reason));
    results.follow(report.programs);
    let lines = BufReader::new(File::open(folder.join("samples.jsonl")).context("samples.jsonl")?).lines();
    for line in lines {
        let Line { name, side, unit, samples, .. } = serde_json::from_str(&line?).context("samples.jsonl")?;
        results.add(side, Series::new(name, unit, samples.into_owned()));
        results.end_round();
    }
    Ok(Earlier { about: report.about, results, rounds: report.rounds })
}

/// Everything, as JSON. `samples.jsonl` beside it has every sample.
#[derive(Serialize)]
struct Report<'a> {
    about: &'a About,
    rounds: usize,
    /// What could not be measured.
    failures: Vec<String>,
    series: Vec<Row<'a>>,
    /// Parts of programs, and how their results were compared.
    programs: &'a [Checked],
    /// Programs that cannot run on this machine, and why.
    skipped: Vec<(&'a str, &'a str)>,
}

/// A series of both sides.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    unit: Unit,
    native: Option<Figures>,
    remoted: Option<Figures>,
    /// Remoted by native: median and interval of the rounds.
    ratio: Option<[f64; 3]>,
    goal: Option<String>,
    verdict: Option<Verdict>,
}

/// One side of a series.
#[derive(Serialize)]
struct Figures {
    /// Median of the rounds' medians, and its interval.
    median: [f64; 3],
    /// Of all samples: quantiles 1, 10, 90, 99 in 100.
    quantiles: [Option<f64>; 4],
    samples: usize,
    rounds: Vec<f64>,
}

/// Writes all files into a folder.
pub(crate) fn write(folder: &Path, about: &About, results: &Results, rounds: usize) -> Result<()> {
    let judged = if about.is_software { Vec::new() } else { goals::judge(results) };
    let report = Report {
        about,
        rounds,
        failures: results.failures().collect(),
        series: rows(results, &judged),
        programs: results.programs(),
        skipped: results.skipped().collect(),
    };
    let json = serde_json::to_string_pretty(&report)?;
    fs::write(folder.join("report.json"), json).context("report.json")?;
    samples(&folder.join("samples.jsonl"), results).context("samples.jsonl")?;
    let mut plots = plots::draw(folder, results)?;
    plots.extend(ratios::draw(folder, results)?);
    let text = markdown::text(about, results, &judged, rounds, &plots)?;
    fs::write(folder.join("report.md"), text).context("report.md")
}

fn rows<'a>(results: &'a Results, judged: &[Judged]) -> Vec<Row<'a>> {
    let three = |median: Median| [median.value, median.low, median.high];
    results
        .iter()
        .map(|(name, pair)| {
            let figures = |side| {
                Some(Figures {
                    median: three(pair.median(side)?),
                    quantiles: [0.01, 0.1, 0.9, 0.99].map(|share| pair.quantile(side, share)),
                    samples: pair.rounds(side).iter().map(Vec::len).sum(),
                    rounds: pair.medians(side),
                })
            };
            let judged = judged.iter().find(|judged| judged.name == name);
            Row {
                name,
                unit: pair.unit,
                native: figures(Side::Native),
                remoted: figures(Side::Remoted),
                ratio: pair.ratio().map(three),
                goal: judged.map(|judged| judged.goal.clone()),
                verdict: judged.map(|judged| judged.verdict),
            }
        })
        .collect()
}

/// The samples of a series, a side and a round.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    name: Cow<'a, str>,
    side: Side,
    round: usize,
    unit: Unit,
    samples: Cow<'a, [f64]>,
}

/// A line for each series, side and round.
fn samples(path: &Path, results: &Results) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for (name, pair) in results.iter() {
        for side in [Side::Native, Side::Remoted] {
            for (round, samples) in pair.rounds(side).iter().enumerate() {
                let line = Line { name: name.into(), side, round, unit: pair.unit, samples: samples.into() };
                serde_json::to_writer(&mut file, &line)?;
                file.write_all(b"\n")?;
            }
        }
    }
    Ok(file.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(revision: &str) -> About {
        let text = format!(
            r#"{{"machine": "m", "kernel": "k", "boot": "b", "gpu": "g", "driver": "d", "is_software": false, "date": "today",
                "command": "c", "revision": "{revision}"}}"#
        );
        serde_json::from_str(&text).expect("all of it")
    }

    #[test]
    fn a_later_run_goes_on_with_an_earlier_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut results = Results::default();
        for round in 0..3_u8 {
            for side in [Side::Native, Side::Remoted] {
                let samples = vec![f64::from(round), f64::from(round) + 0.5];
                results.add(side, Series::new("launch/synchronized", Unit::Nanoseconds, samples));
            }
            results.end_round();
        }
        results.fail("something".to_owned());
        results.skip("llama", "no files".to_owned());
        results.checked("gpt2/eager", "tokens", "torch", 0.0, true);
        write(folder.path(), &about("1"), &results, 3).expect("written");

        let (_, mut again, rounds) =
            read(folder.path()).and_then(|earlier| earlier.follow(about("1"))).expect("read");

        assert_eq!(rounds, 3);
        let pair = |results: &Results, side| {
            results.get("launch/synchronized").map(|pair| pair.rounds(side).to_vec())
        };
        assert_eq!(pair(&again, Side::Native), pair(&results, Side::Native));
        assert_eq!(pair(&again, Side::Remoted), pair(&results, Side::Remoted));
        assert_eq!(
            (again.failures().collect::<Vec<_>>(), again.is_skipped("llama")),
            (vec!["something".to_owned()], true)
        );
        again.checked("gpt2/eager", "tokens", "torch", 0.0, false);
        assert_eq!(again.programs().first().map(|part| (part.rounds, part.equal)), Some((2, 1)));
        again.add(Side::Native, Series::new("launch/synchronized", Unit::Nanoseconds, vec![9.0]));
        assert_eq!(pair(&again, Side::Native).map(|rounds| rounds.len()), Some(4), "a round of its own");
        assert!(read(folder.path()).and_then(|earlier| earlier.follow(about("2"))).is_err(), "another state");
    }
}
