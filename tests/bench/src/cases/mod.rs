//! What is measured in one process. A case hands on nothing that it has not checked.
//!
//! The same cases run natively and through the device, so they speak of CUDA alone.

mod copies;
mod graphs;
mod launches;
mod local;
mod memory;
mod objects;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use libcuda::gpu::Gpu;

use crate::kernels::Kernels;
use crate::process::{family_processor_time, own_processor_time};
use crate::series::{Effort, Series, Unit, time};

/// Something to measure.
struct Case {
    /// What the names of its series begin with.
    name: &'static str,
    /// What it does, in the manner of the report.
    what: &'static str,
    body: fn(&Bench) -> Result<Vec<Series>>,
}

/// What the cases of a process start from.
struct Bench {
    gpu: Gpu,
    kernels: Kernels,
    effort: Effort,
    backend: Option<u32>,
}

/// Bursts before those that are measured.
const WARMING_BURSTS: usize = 3;

const CASES: &[&[Case]] = &[
    &[Case {
        name: "clock",
        what: "reading the time, which samples of single calls have in them",
        body: clock,
    }],
    launches::CASES,
    copies::CASES,
    memory::CASES,
    objects::CASES,
    local::CASES,
    graphs::CASES,
];

/// Whether a case is asked for: all are when none is.
pub(crate) fn is_wanted(name: &str, wanted: &[String]) -> bool {
    wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str()))
}

/// Names and what they stand for.
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    CASES.iter().flat_map(|area| area.iter()).map(|case| (case.name, case.what))
}

/// Prints the names of the cases.
pub(crate) fn list() -> Result<()> {
    let mut text = String::new();
    for (name, what) in all() {
        writeln!(text, "{name:24} {what}")?;
    }
    std::io::stdout().write_all(text.as_bytes()).context("standard output")
}

/// Measures the cases that are asked for and prints their series. One that fails does not keep others from it.
pub(crate) fn measure(library: &Path, wanted: &[String], effort: Effort, backend: Option<u32>) -> Result<()> {
    libcuda::driver_at(library)?;
    let gpu = Gpu::new()?;
    let bench = Bench { gpu, kernels: Kernels::load(gpu)?, effort, backend };
    let mut failures = Vec::new();
    for case in CASES.iter().flat_map(|area| area.iter()).filter(|case| is_wanted(case.name, wanted)) {
        if let Err(error) = bench.run(case) {
            failures.push(format!("{}: {error:#}", case.name));
            // The next case is not to blame; after an error that stays, it fails by itself.
            if bench.kernels.start_over().is_err() {
                break;
            }
        }
    }
    ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

impl Bench {
    /// Measures one case, checks it, and only then prints its series.
    fn run(&self, case: &Case) -> Result<()> {
        let measured = (case.body)(self)?;
        self.kernels.check()?;
        for series in measured {
            ensure!(!series.samples.is_empty(), "{} has no samples", series.name);
            series.print()?;
        }
        Ok(())
    }

    /// Seconds of processors so far: of this process and, where it is known, of the backend's.
    fn processor_time(&self) -> Result<f64> {
        let backend = self.backend.map_or(Ok(0.0), family_processor_time)?;
        Ok(own_processor_time() + backend)
    }

    /// A series of call times.
    fn calls(
        &self,
        name: impl Into<String>,
        samples: usize,
        batch: usize,
        body: impl FnMut() -> Result<()>,
    ) -> Result<Series> {
        Ok(Series::new(name, Unit::Nanoseconds, time(self.effort.of(samples), batch, body)?))
    }

    /// A series of the times of calls that only begin something, each alone. After every `depth` calls it is waited for
    /// what they began, which is not timed, so that no queue gets full.
    fn bursts(
        &self,
        name: impl Into<String>,
        samples: usize,
        depth: usize,
        mut call: impl FnMut() -> Result<()>,
        mut wait: impl FnMut() -> Result<()>,
    ) -> Result<Series> {
        let bursts = self.effort.of(samples.div_ceil(depth));
        let mut taken = Vec::with_capacity(bursts * depth);
        for burst in 0..bursts + WARMING_BURSTS {
            for _ in 0..depth {
                let start = Instant::now();
                call()?;
                let took = start.elapsed();
                if burst >= WARMING_BURSTS {
                    taken.push(took.as_nanos() as f64);
                }
            }
            wait()?;
        }
        Ok(Series::new(name, Unit::Nanoseconds, taken))
    }
}

fn clock(bench: &Bench) -> Result<Vec<Series>> {
    let read = || {
        std::hint::black_box(Instant::now());
        Ok(())
    };
    Ok(vec![bench.calls("clock", 200, 1000, read)?])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        assert!(all().all(|(name, _)| seen.insert(name)));
    }

    #[test]
    fn a_part_of_the_name_selects() {
        assert!(is_wanted("launch/async", &[]));
        assert!(is_wanted("launch/async", &["copy".to_owned(), "async".to_owned()]));
        assert!(!is_wanted("launch/async", &["copy".to_owned()]));
    }
}
