//! Samples of one thing, and how they are taken.

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What samples are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    /// Nanoseconds for one call.
    #[serde(rename = "ns")]
    Nanoseconds,
    /// Bytes in a second.
    #[serde(rename = "B/s")]
    BytesPerSecond,
    /// Calls in a second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Seconds of processors for each GiB.
    #[serde(rename = "s/GiB")]
    ProcessorPerGib,
    /// Bytes.
    #[serde(rename = "B")]
    Bytes,
    /// Share of one processor.
    #[serde(rename = "cpu")]
    Processor,
}

/// Samples of one thing on one side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Series {
    /// `case/what`.
    pub(crate) name: String,
    pub(crate) unit: Unit,
    pub(crate) samples: Vec<f64>,
}

impl Series {
    pub(crate) fn new(name: impl Into<String>, unit: Unit, samples: Vec<f64>) -> Self {
        Self { name: name.into(), unit, samples }
    }

    /// Prints it as one line, for the process that started this one.
    pub(crate) fn print(&self) -> Result<()> {
        print_line(self)
    }
}

/// Prints a value as a line of JSON.
pub(crate) fn print_line(value: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).context("standard output")
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// A tenth of the samples, and nothing large.
    pub(crate) quick: bool,
}

impl Effort {
    /// Of so many samples in a full run, those to take.
    pub(crate) fn of(self, full: usize) -> usize {
        if self.quick { full.div_ceil(10).max(3) } else { full }
    }

    /// Of sizes in a full run, those to take.
    pub(crate) fn sizes(self, full: &[usize]) -> impl Iterator<Item = usize> {
        let most = if self.quick { 16 << 20 } else { usize::MAX };
        full.iter().copied().filter(move |size| *size <= most)
    }
}

/// Nanoseconds of one call, from batches of so many. A batch of 1 has the clock's own time in it (case `clock`).
pub(crate) fn time(samples: usize, batch: usize, mut body: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    // What the first calls do for all later ones is not what is measured.
    for _ in 0..batch.clamp(3, 100) {
        body()?;
    }
    let mut taken = Vec::with_capacity(samples);
    for _ in 0..samples {
        let start = Instant::now();
        for _ in 0..batch {
            body()?;
        }
        taken.push(start.elapsed().as_nanos() as f64 / batch as f64);
    }
    Ok(taken)
}

/// A size as names of cases have it.
pub(crate) fn size_name(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 => format!("{}GiB", bytes >> 30),
        bytes if bytes >= 1 << 20 => format!("{}MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 => format!("{}KiB", bytes >> 10),
        bytes => format!("{bytes}B"),
    }
}

/// The bytes that [`size_name`] stands for.
pub(crate) fn size_of_name(name: &str) -> Option<f64> {
    let digits = name.find(|character: char| !character.is_ascii_digit())?;
    let (number, unit) = name.split_at_checked(digits)?;
    let factor = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_their_names() {
        for bytes in [4, 4 << 10, 16 << 20, 1 << 30] {
            assert_eq!(size_of_name(&size_name(bytes)), Some(bytes as f64));
        }
        assert_eq!(size_name(16 << 20), "16MiB");
        assert_eq!(size_of_name("depth-32"), None);
    }

    #[test]
    fn a_batch_is_one_sample() {
        let mut calls = 0;
        let samples = time(5, 10, || {
            calls += 1;
            Ok(())
        })
        .expect("samples");
        assert_eq!(samples.len(), 5);
        assert_eq!(calls, 10 + 50);
    }
}
