//! Pictures: how calls' times are distributed, bandwidth by size, throughput by processes.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::compare::paired::{Results, Side};
use crate::series::size_of_name;

const NATIVE: RGBColor = RGBColor(60, 110, 180);
const REMOTED: RGBColor = RGBColor(220, 110, 30);
const PANEL: (u32, u32) = (460, 300);
/// Points of a distribution: as many as can be told apart.
const POINTS: usize = 200;

/// Series whose distribution is shown.
const LATENCIES: &[&str] = &[
    "launch/async/depth-32",
    "launch/synchronized",
    "synchronize/idle/context",
    "copy/4B/h2d",
    "copy/4B/d2h",
    "allocate/4KiB",
];
/// Series by size, in GB/s.
const BANDWIDTHS: &[&str] = &["copy/pinned/h2d", "copy/pinned/d2h", "copy/pageable/h2d", "copy/pageable/d2h"];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Points = Vec<(f64, f64)>;

/// One diagram with a line for each side; its horizontal axis has steps of powers of two.
struct Panel {
    title: String,
    across: &'static str,
    up: &'static str,
    native: Points,
    remoted: Points,
}

/// Draws what was measured; names of the files.
pub(super) fn draw(folder: &Path, results: &Results) -> Result<Vec<&'static str>> {
    let pictures = [
        ("latency.svg", panels(LATENCIES, |name| distribution(results, name))),
        ("bandwidth.svg", panels(BANDWIDTHS, |name| by_size(results, name))),
        ("processes.svg", panels(&["launches", "copies"], |name| by_processes(results, name))),
    ];
    let mut drawn = Vec::new();
    for (file, panels) in pictures {
        if !panels.is_empty() {
            picture(&folder.join(file), &panels).with_context(|| file.to_owned())?;
            drawn.push(file);
        }
    }
    Ok(drawn)
}

/// Those panels that have something to show.
fn panels(names: &[&str], panel: impl Fn(&str) -> Option<Panel>) -> Vec<Panel> {
    names.iter().filter_map(|name| panel(name)).collect()
}

/// The share of calls that took at most so long, without the last in a thousand.
fn distribution(results: &Results, name: &str) -> Option<Panel> {
    let pair = results.get(name)?;
    let line = |side| {
        (1..POINTS)
            .filter_map(|point| {
                let share = 0.999 * point as f64 / (POINTS - 1) as f64;
                Some((pair.quantile(side, share)? / 1000.0, 100.0 * share))
            })
            .collect()
    };
    Some(Panel {
        title: name.to_owned(),
        across: "µs",
        up: "% of calls",
        native: line(Side::Native),
        remoted: line(Side::Remoted),
    })
}

fn by_size(results: &Results, case: &str) -> Option<Panel> {
    let line = |side| {
        results
            .iter()
            .filter_map(|(name, pair)| {
                let size = size_of_name(name.strip_prefix(case)?.strip_prefix('/')?)?;
                Some((size / 1024.0, pair.median(side)?.value / 1e9))
            })
            .collect::<Points>()
    };
    let (native, remoted) = (line(Side::Native), line(Side::Remoted));
    if native.len() < 2 {
        return None;
    }
    Some(Panel { title: case.to_owned(), across: "KiB", up: "GB/s", native, remoted })
}

fn by_processes(results: &Results, what: &str) -> Option<Panel> {
    let (up, scale) = if what == "copies" { ("GB/s", 1e9) } else { ("1000 launches/s", 1e3) };
    let line = |side| {
        results
            .iter()
            .filter_map(|(name, pair)| {
                let count = name.strip_prefix("processes/")?.strip_prefix(what)?.strip_prefix('/')?;
                Some((count.parse().ok()?, pair.median(side)?.value / scale))
            })
            .collect::<Points>()
    };
    let (native, remoted) = (line(Side::Native), line(Side::Remoted));
    if native.len() < 2 {
        return None;
    }
    Some(Panel { title: format!("{what} of all together"), across: "processes", up, native, remoted })
}

fn picture(path: &Path, panels: &[Panel]) -> Result<()> {
    let columns = panels.len().min(2);
    let rows = panels.len().div_ceil(columns);
    let size = (PANEL.0 * u32::try_from(columns)?, PANEL.1 * u32::try_from(rows)?);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).map_err(|error| anyhow!("{error}"))?;
    for (area, panel) in root.split_evenly((rows, columns)).iter().zip(panels) {
        panel.draw(area).map_err(|error| anyhow!("{error}"))?;
    }
    root.present().map_err(|error| anyhow!("{error}"))
}

impl Panel {
    fn draw(&self, area: &Area<'_>) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let points = || self.native.iter().chain(&self.remoted);
        let low = points().map(|(across, _)| *across).fold(f64::INFINITY, f64::min).max(1e-3);
        let high = points().map(|(across, _)| *across).fold(low * 2.0, f64::max);
        let top = points().map(|(_, up)| *up).fold(0.0, f64::max) * 1.05;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 15))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(52)
            .build_cartesian_2d((low..high).log_scale().base(2.0), 0.0..top.max(f64::MIN_POSITIVE))?;
        chart
            .configure_mesh()
            .x_desc(self.across)
            .y_desc(self.up)
            .max_light_lines(0)
            .x_labels(8)
            .x_label_formatter(&|value| {
                if *value < 1.0 { format!("{value:.2}") } else { format!("{value:.0}") }
            })
            .y_labels(6)
            .label_style(("sans-serif", 11))
            .draw()?;
        for (label, color, line) in [("native", NATIVE, &self.native), ("remoted", REMOTED, &self.remoted)] {
            chart
                .draw_series(LineSeries::new(line.iter().copied(), color.stroke_width(2)))?
                .label(label)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .background_style(WHITE)
            .label_font(("sans-serif", 11))
            .draw()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Series, Unit};

    #[test]
    fn what_was_measured_is_drawn_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut results = Results::default();
        assert!(draw(folder.path(), &results).expect("nothing to draw").is_empty());
        for side in [Side::Native, Side::Remoted] {
            for size in ["4KiB", "1MiB"] {
                let name = format!("copy/pinned/h2d/{size}");
                results.add(side, Series::new(name, Unit::BytesPerSecond, vec![5e9, 6e9]));
            }
        }
        assert_eq!(draw(folder.path(), &results).expect("drawn"), ["bandwidth.svg"]);
        let picture = std::fs::read_to_string(folder.path().join("bandwidth.svg")).expect("the picture");
        assert!(picture.contains("copy/pinned/h2d") && picture.contains("polyline"), "{picture}");
    }
}
