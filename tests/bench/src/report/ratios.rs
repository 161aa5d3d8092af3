//! A picture of programs: how fast they are through the device, natively being 1.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::compare::paired::Results;
use crate::series::Unit;
use cuda_bench::statistics::Median;

const WIDTH: u32 = 760;
const ROW: u32 = 26;
const NAMES: u32 = 210;
const COLOR: RGBColor = RGBColor(220, 110, 30);

/// The file's name, if there is anything to draw.
pub(super) fn draw(folder: &Path, results: &Results) -> Result<Option<&'static str>> {
    const FILE: &str = "programs.svg";
    let rows: Vec<(&str, Median)> = results
        .programs()
        .iter()
        .filter_map(|part| {
            let pair = results.get(&part.name)?;
            let ratio = pair.ratio()?;
            // Of times, less is faster.
            let speed = if pair.unit == Unit::Nanoseconds { inverse(ratio) } else { ratio };
            Some((part.name.as_str(), speed))
        })
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    paint(&folder.join(FILE), &rows).map_err(|error| anyhow!("{FILE}: {error}"))?;
    Ok(Some(FILE))
}

fn inverse(ratio: Median) -> Median {
    Median { value: 1.0 / ratio.value, low: 1.0 / ratio.high, high: 1.0 / ratio.low }
}

fn paint(file: &Path, rows: &[(&str, Median)]) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let root =
        SVGBackend::new(file, (WIDTH, count.saturating_mul(ROW).saturating_add(80))).into_drawing_area();
    root.fill(&WHITE)?;
    let most = rows.iter().map(|(_, speed)| speed.high).fold(1.1, f64::max).min(2.0);
    let least = rows.iter().map(|(_, speed)| speed.low).fold(0.9, f64::min).max(0.0);
    let mut chart = ChartBuilder::on(&root)
        .caption("speed through the device, natively 1", ("sans-serif", 15))
        .margin(10)
        .margin_left(NAMES)
        .x_label_area_size(28)
        .build_cartesian_2d(least - 0.02..most + 0.02, 0.0..f64::from(count))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .max_light_lines(0)
        .label_style(("sans-serif", 11))
        .draw()?;
    chart.draw_series(LineSeries::new([(1.0, 0.0), (1.0, f64::from(count))], BLACK.stroke_width(1)))?;
    for (index, (_, speed)) in (0_u32..).zip(rows) {
        let up = f64::from(count - index) - 0.5;
        let ends = [(speed.low.max(least), up), (speed.high.min(most), up)];
        chart.draw_series(LineSeries::new(ends, COLOR.stroke_width(3)))?;
        chart.draw_series([Circle::new((speed.value.clamp(least, most), up), 4, COLOR.filled())])?;
    }
    let places: Vec<_> = (0_u32..)
        .zip(rows)
        .map(|(index, (name, _))| (chart.backend_coord(&(least, f64::from(count - index) - 0.5)).1, *name))
        .collect();
    for (down, name) in places {
        root.draw(&Text::new(name.to_owned(), (12, down - 6), ("sans-serif", 12)))?;
    }
    root.present()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::paired::Side;
    use crate::series::Series;

    #[test]
    fn each_part_of_a_program_has_a_row() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut results = Results::default();
        assert_eq!(draw(folder.path(), &results).expect("nothing to draw"), None);
        for side in [Side::Native, Side::Remoted] {
            results.add(side, Series::new("gpt2/eager", Unit::PerSecond, vec![200.0]));
        }
        results.checked("gpt2/eager", "tokens", "torch", 0.0, true);
        assert_eq!(draw(folder.path(), &results).expect("drawn"), Some("programs.svg"));
        let picture = std::fs::read_to_string(folder.path().join("programs.svg")).expect("the picture");
        assert!(picture.contains("gpt2/eager") && picture.contains("circle"), "{picture}");
    }

    #[test]
    fn half_the_time_is_twice_the_speed() {
        let speed = inverse(Median { value: 0.5, low: 0.25, high: 1.0 });
        assert_eq!(speed, Median { value: 2.0, low: 1.0, high: 4.0 });
    }
}
