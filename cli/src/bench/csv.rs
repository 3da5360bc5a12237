//! Results for spreadsheets, a line per measurement, times in microseconds.

use super::Results;
use super::figures::Figures;
use crate::Result;
use crate::report::Report;
use crate::stats::{Summary, microseconds};

/// The lines.
pub fn report(results: &Results) -> Result<Report> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut titled = false;
    for one in &results.measurements {
        let (shape, device, figures) = (&one.shape, &one.place.info, Figures::of(one));
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let of = |summary: Option<Summary>, pick: fn(Summary) -> f64| number(summary.map(pick));
        let (wall, gpu) = (figures.wall, figures.gpu);
        let fields = [
            ("cell", shape.cell.to_string()),
            ("hidden", shape.hidden.to_string()),
            ("input", shape.input.to_string()),
            ("layers", shape.layers.to_string()),
            ("bidirectional", shape.bidirectional.to_string()),
            ("steps", shape.steps.to_string()),
            ("batch", shape.batch.to_string()),
            ("device", device.name.clone()),
            ("backend", device.backend.clone()),
            ("kind", device.kind.to_string()),
            ("strategy", one.strategy.clone()),
            ("runs", one.wall.len().to_string()),
            ("cold_us", microseconds(&one.cold).to_string()),
            ("wall_median_us", of(wall, |s| s.median)),
            ("wall_min_us", of(wall, |s| s.min)),
            ("wall_lower_us", of(wall, |s| s.lower)),
            ("wall_upper_us", of(wall, |s| s.upper)),
            ("wall_per_step_us", number(figures.per_step)),
            ("gpu_median_us", of(gpu, |s| s.median)),
            ("gpu_min_us", of(gpu, |s| s.min)),
            ("gpu_lower_us", of(gpu, |s| s.lower)),
            ("gpu_upper_us", of(gpu, |s| s.upper)),
            ("dispatches", one.dispatches.to_string()),
            ("encode_per_dispatch_us", number(figures.encode)),
            ("gflops", number(figures.gflops)),
            ("bytes", one.traffic.bytes().to_string()),
            ("gbytes_per_s", number(figures.gbytes)),
            ("bandwidth_share", number(figures.share)),
            ("checked_steps", one.checked.to_string()),
            ("max_error", one.comparison.max_error.to_string()),
            ("right", one.right().to_string()),
        ];
        if !titled {
            writer.write_record(fields.iter().map(|(title, _)| *title))?;
            titled = true;
        }
        writer.write_record(fields.iter().map(|(_, field)| field))?;
    }
    Ok(Report::data(String::from_utf8(writer.into_inner()?)?))
}
