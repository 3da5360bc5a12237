//! Results for people.

use std::time::Duration;

use gatefold::DeviceKind;

use super::Results;
use crate::report::Report;
use crate::stats::Summary;
use crate::table::{Table, bad, bold, dim, good, left, right};
use crate::units::{count, duration};

/// One table, all shapes.
pub fn report(results: &Results) -> Report {
    let mut table = Table::new([
        left("shape"),
        left("device"),
        right("cold"),
        right("wall"),
        right("min"),
        right("quartiles"),
        right("per step"),
        right("GPU"),
        right("max error"),
        left("answer"),
    ]);
    for one in &results.measurements {
        let time = |microseconds: f64| duration(Duration::from_secs_f64(microseconds / 1e6));
        let wall = Summary::new(&one.wall);
        let of_wall = |pick: &dyn Fn(Summary) -> String| wall.map_or_else(|| "-".to_owned(), pick);
        #[expect(clippy::cast_precision_loss, reason = "a time per step need not be exact")]
        let steps = one.shape.steps as f64;
        table.row([
            one.shape.to_string(),
            one.device.to_string(),
            duration(one.cold),
            bold(&of_wall(&|wall| time(wall.median))),
            of_wall(&|wall| time(wall.min)),
            of_wall(&|wall| format!("{} - {}", time(wall.lower), time(wall.upper))),
            of_wall(&|wall| format!("{:.1} µs", wall.median / steps)),
            Summary::new(&one.gpu).map_or_else(|| "-".to_owned(), |gpu| time(gpu.median)),
            format!("{:.1e}", one.comparison.max_error),
            if one.right() { good("right") } else { bad("WRONG") },
        ]);
    }
    let mut text = format!("{table}\n");
    text += &dim(&format!(
        "wall: median of {} from the call to the answer in memory, after {} to warm up, devices in turns\n\
         cold: loading the network and the first run on a fresh device\n\
         per step: wall / T; GPU: median of the GPU's own timestamps in as many further runs, - without timestamps\n\
         max error: largest difference from the f64 reference, all runs; out of tolerance is WRONG\n",
        count(results.counts.runs as usize, "run"),
        count(results.counts.warmup as usize, "run"),
    ));
    if results.measurements.iter().any(|one| one.device.kind == DeviceKind::Software) {
        text += "software renderers prove that answers are right; their times say nothing about any GPU\n";
    }
    Report::new(text)
}
