//! What a run says: for people, for programs, as pictures.

mod about;
mod markdown;
mod plots;
mod ratios;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use cuda_bench::statistics::Median;
use serde::Serialize;

pub(crate) use about::About;

use crate::compare::paired::{Checked, Results, Side};
use crate::goals::{self, Judged, Verdict};
use crate::series::Unit;

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

/// A line for each series, side and round.
fn samples(path: &Path, results: &Results) -> Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        name: &'a str,
        side: Side,
        round: usize,
        unit: Unit,
        samples: &'a [f64],
    }
    let mut file = BufWriter::new(File::create(path)?);
    for (name, pair) in results.iter() {
        for side in [Side::Native, Side::Remoted] {
            for (round, samples) in pair.rounds(side).iter().enumerate() {
                serde_json::to_writer(&mut file, &Line { name, side, round, unit: pair.unit, samples })?;
                file.write_all(b"\n")?;
            }
        }
    }
    Ok(file.flush()?)
}
