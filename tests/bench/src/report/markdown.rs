//! The report for people.

use std::fmt::{self, Write};

use cuda_bench::statistics::{FEWEST, Median};

use super::About;
use crate::compare::paired::{Pair, Results, Side};
use crate::goals::{self, Judged, Verdict};
use crate::series::Unit;
use crate::{cases, compare};

/// All of it. `plots` are file names beside the report.
pub(super) fn text(
    about: &About,
    results: &Results,
    judged: &[Judged],
    rounds: usize,
    plots: &[&str],
) -> Result<String, fmt::Error> {
    let is_of_programs = !results.programs().is_empty() || results.skipped().next().is_some();
    let is_of_calls = results.iter().any(|(name, _)| is_of_cases(name));
    let title = match (is_of_calls, is_of_programs) {
        (true, true) => "What CUDA calls cost, and how fast programs are",
        (false, true) => "How fast programs are",
        (_, false) => "What CUDA calls cost",
    };
    let mut text = format!("# {title}, natively and through the device\n\n| | |\n|---|---|\n");
    for (label, value) in about.lines() {
        writeln!(text, "| {label} | {value} |")?;
    }
    if rounds > 0 {
        writeln!(text, "\nRounds of the cases of one process: {rounds}, both sides in each, in turn.")?;
    }
    text.push_str(
        "\nFigures are medians of the rounds' medians; the ratio is remoted by native, paired by round, with its 95 % interval, \
         or the range of all rounds where they are too few for that.\n\n",
    );
    let failures: Vec<_> = results.failures().collect();
    if !failures.is_empty() {
        text.push_str("**Not everything was measured:**\n\n");
        for failure in failures {
            writeln!(text, "- {}", failure.replace('\n', " "))?;
        }
        text.push('\n');
    }
    if about.is_software {
        text.push_str(
            "**The driver is in software: its calls cost other than a GPU's, so no goal is judged. The table shows what \
             the way to the driver costs on this machine.**\n\n",
        );
    } else {
        goals(&mut text, results, judged)?;
    }
    for plot in plots {
        writeln!(text, "![{plot}]({plot})\n")?;
    }
    all(&mut text, results)?;
    if is_of_programs {
        processors(&mut text, results)?;
        programs(&mut text, results)?;
    }
    if is_of_programs && !is_of_calls {
        return Ok(text);
    }
    text.push_str("## Cases\n\n| case | what |\n|---|---|\n");
    for (name, what) in cases::all().chain(compare::chores()) {
        writeln!(text, "| {name} | {what} |")?;
    }
    Ok(text)
}

/// Whether a series is one of the cases, rather than of a program.
fn is_of_cases(name: &str) -> bool {
    cases::all().chain(compare::chores()).any(|(case, _)| name.starts_with(case))
}

fn goals(text: &mut String, results: &Results, judged: &[Judged]) -> fmt::Result {
    text.push_str("## Goals\n\n| measure | native | remoted | ratio | goal | |\n|---|---|---|---|---|---|\n");
    for Judged { name, goal, verdict } in judged {
        let Some(pair) = results.get(name) else { continue };
        let word = match verdict {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Open => "open",
        };
        writeln!(text, "| {name} | {} | {goal} | {word} |", sides(pair))?;
    }
    text.push_str("\n*open*: the interval has the goal inside.\n\n");
    let missing: Vec<_> = goals::names().filter(|name| results.get(name).is_none()).collect();
    if !missing.is_empty() {
        writeln!(text, "Goals of what was not measured: {}.\n", missing.join(", "))?;
    }
    Ok(())
}

fn all(text: &mut String, results: &Results) -> fmt::Result {
    text.push_str("## All figures\n\n| series | native | remoted | ratio | native 99 % | remoted 99 % |\n|---|---|---|---|---|---|\n");
    for (name, pair) in results.iter().filter(|(name, _)| !is_of_programs_processors(name, results)) {
        let tail = |side| {
            let shown = pair.unit == Unit::Nanoseconds;
            pair.quantile(side, 0.99)
                .filter(|_| shown)
                .map_or(String::new(), |value| figure(pair.unit, value))
        };
        writeln!(text, "| {name} | {} | {} | {} |", sides(pair), tail(Side::Native), tail(Side::Remoted))?;
    }
    text.push_str("\n*99 %*: of all samples, one in a hundred took longer.\n\n");
    Ok(())
}

/// Whether a series is in the table of programs' processors.
fn is_of_programs_processors(name: &str, results: &Results) -> bool {
    results
        .programs()
        .iter()
        .any(|part| name.strip_prefix(&part.name).is_some_and(|rest| rest.starts_with(PROCESSOR)))
}

/// What the names of series of processor time end with, behind a part's name.
const PROCESSOR: &str = "/processor";

/// What each unit of work takes of processors.
fn processors(text: &mut String, results: &Results) -> fmt::Result {
    text.push_str(
        "## Time of processors for each token, step, launch, start\n\n\
         | part | native | remoted, all | ratio | remoted: client | remoted: supervisor and workers |\n|---|---|---|---|---|---|\n",
    );
    for part in results.programs() {
        let Some(all) = results.get(&format!("{}{PROCESSOR}", part.name)) else { continue };
        let remoted = |which| {
            let pair = results.get(&format!("{}{PROCESSOR}/{which}", part.name))?;
            Some(figure(pair.unit, pair.median(Side::Remoted)?.value))
        };
        let (client, workers) =
            (remoted("client").unwrap_or_default(), remoted("workers").unwrap_or_default());
        writeln!(text, "| {} | {} | {client} | {workers} |", part.name, sides(all))?;
    }
    text.push('\n');
    Ok(())
}

/// What was run, and how it was checked.
fn programs(text: &mut String, results: &Results) -> fmt::Result {
    text.push_str(
        "## Programs\n\nBoth sides' results were compared in each round; a round of which they differ by more than is \
         allowed has no figure.\n\n| part | what | built on | may differ by | rounds compared | the same to the bit |\n\
         |---|---|---|---|---|---|\n",
    );
    for part in results.programs() {
        let (name, what, about, tolerance) = (&part.name, &part.what, &part.about, part.tolerance);
        writeln!(text, "| {name} | {what} | {about} | {tolerance} | {} | {} |", part.rounds, part.equal)?;
    }
    text.push('\n');
    for (program, reason) in results.skipped() {
        writeln!(text, "- {program} cannot run on this machine: {reason}")?;
    }
    Ok(())
}

/// Three cells: both sides and the ratio.
fn sides(pair: &Pair) -> String {
    let side = |side| pair.median(side).map_or(String::new(), |median| figure(pair.unit, median.value));
    let is_range = pair.rounds(Side::Native).len().min(pair.rounds(Side::Remoted).len()) < FEWEST;
    let range = if is_range { "range " } else { "" };
    let ratio = pair.ratio().map_or(String::new(), |Median { value, low, high }| {
        format!("{} ({range}{} to {})", number(value), number(low), number(high))
    });
    format!("{} | {} | {ratio}", side(Side::Native), side(Side::Remoted))
}

/// A value with a unit that suits its size.
fn figure(unit: Unit, value: f64) -> String {
    let scaled = |steps: &[(f64, &str)]| {
        let fits = steps.iter().rev().find(|(least, _)| value >= *least).or(steps.first());
        fits.map_or(String::new(), |(least, name)| format!("{} {name}", number(value / least)))
    };
    match unit {
        Unit::Nanoseconds => scaled(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")]),
        Unit::BytesPerSecond => scaled(&[(1e6, "MB/s"), (1e9, "GB/s")]),
        Unit::PerSecond => scaled(&[(1.0, "/s"), (1e3, "k/s"), (1e6, "M/s")]),
        Unit::ProcessorPerGib => format!("{value:.3} s/GiB"),
        Unit::Bytes => scaled(&[(1024.0, "KiB"), (1_048_576.0, "MiB")]),
        Unit::Processor => format!("{:.2} %", 100.0 * value),
    }
}

/// Three digits that say something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Series;

    #[test]
    fn figures_have_units_that_suit_them() {
        assert_eq!(figure(Unit::Nanoseconds, 412.0), "412 ns");
        assert_eq!(figure(Unit::Nanoseconds, 3412.0), "3.41 µs");
        assert_eq!(figure(Unit::Nanoseconds, 0.5), "0.50 ns");
        assert_eq!(figure(Unit::BytesPerSecond, 53.2e9), "53.2 GB/s");
        assert_eq!(figure(Unit::PerSecond, 312_345.0), "312 k/s");
        assert_eq!(figure(Unit::Bytes, 3.5 * 1_048_576.0), "3.50 MiB");
    }

    #[test]
    fn a_row_has_both_sides_and_their_ratio() {
        let mut results = Results::default();
        for round in [1.0, 2.0, 3.0, 4.0, 5.0] {
            for (side, factor) in [(Side::Native, 1000.0), (Side::Remoted, 1500.0)] {
                results.add(side, Series::new("launch", Unit::Nanoseconds, vec![round * factor]));
            }
            results.end_round();
        }
        let pair = results.get("launch").expect("a pair");
        assert_eq!(sides(pair), "3.00 µs | 4.50 µs | 1.50 (range 1.50 to 1.50)");
        results.add(Side::Native, Series::new("launch", Unit::Nanoseconds, vec![3000.0]));
        results.add(Side::Remoted, Series::new("launch", Unit::Nanoseconds, vec![6000.0]));
        let pair = results.get("launch").expect("a pair");
        assert!(sides(pair).ends_with("1.50 (1.50 to 2.00)"), "{}", sides(pair));
    }
}
