//! Results for spreadsheets, a line per shape and device, times in microseconds.

use super::Results;
use crate::Result;
use crate::report::Report;
use crate::stats::{Summary, microseconds};

const HEADER: [&str; 20] = [
    "hidden",
    "input",
    "layers",
    "bidirectional",
    "steps",
    "batch",
    "device",
    "backend",
    "kind",
    "runs",
    "cold_us",
    "wall_median_us",
    "wall_min_us",
    "wall_lower_us",
    "wall_upper_us",
    "wall_per_step_us",
    "gpu_median_us",
    "gpu_min_us",
    "max_error",
    "right",
];

/// The lines.
pub fn report(results: &Results) -> Result<Report> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for one in &results.measurements {
        let (shape, device) = (&one.shape, &one.device);
        let (wall, gpu) = (Summary::new(&one.wall), Summary::new(&one.gpu));
        let field = |summary: Option<Summary>, pick: fn(Summary) -> f64| {
            summary.map_or_else(String::new, |s| pick(s).to_string())
        };
        #[expect(clippy::cast_precision_loss, reason = "a time per step need not be exact")]
        let steps = shape.steps as f64;
        writer.write_record([
            shape.hidden.to_string(),
            shape.input.to_string(),
            shape.layers.to_string(),
            shape.bidirectional.to_string(),
            shape.steps.to_string(),
            shape.batch.to_string(),
            device.name.clone(),
            device.backend.clone(),
            device.kind.to_string(),
            one.wall.len().to_string(),
            microseconds(&one.cold).to_string(),
            field(wall, |s| s.median),
            field(wall, |s| s.min),
            field(wall, |s| s.lower),
            field(wall, |s| s.upper),
            wall.map_or_else(String::new, |s| (s.median / steps).to_string()),
            field(gpu, |s| s.median),
            field(gpu, |s| s.min),
            one.comparison.max_error.to_string(),
            one.right().to_string(),
        ])?;
    }
    Ok(Report::new(String::from_utf8(writer.into_inner()?)?))
}
