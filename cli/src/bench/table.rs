//! Results for people.

use std::time::Duration;

use gatefold::DeviceKind;

use super::Results;
use super::figures::Figures;
use crate::report::Report;
use crate::table::{Table, bad, bold, dim, good, left, right};
use crate::units::{bytes, count, duration};

/// What stands below times of a software renderer.
pub const SOFTWARE: &str = "software renderers prove that answers are right; their times say nothing about any GPU\n";

/// One table, all shapes.
pub fn report(results: &Results) -> Report {
    Report::new(format!("{}\n{}", table(results), dim(&legend(results)) + warning(results)))
}

/// The same for documents.
pub fn markdown(results: &Results) -> Report {
    let legend: Vec<String> = legend(results).lines().map(|line| format!("- {line}\n")).collect();
    Report::new(format!("{}\n{}{}", table(results).markdown(), legend.concat(), warning(results)))
}

fn table(results: &Results) -> Table {
    let mut table = Table::new([
        left("shape"),
        left("device"),
        left("strategy"),
        right("cold"),
        right("wall"),
        right("min"),
        right("quartiles"),
        right("per step"),
        right("GPU"),
        right("GPU quartiles"),
        right("dispatches"),
        right("encode"),
        right("GFLOP/s"),
        right("moved"),
        right("GB/s"),
        right("of copy"),
        right("checked"),
        right("max error"),
        left("answer"),
    ]);
    let time = |microseconds: f64| duration(Duration::from_secs_f64(microseconds / 1e6));
    let none = || "-".to_owned();
    for one in &results.measurements {
        let figures = Figures::of(one);
        let (wall, gpu) = (figures.wall, figures.gpu);
        table.row([
            one.shape.to_string(),
            one.place.info.to_string(),
            one.strategy.clone(),
            duration(one.cold),
            bold(&wall.map_or_else(none, |wall| time(wall.median))),
            wall.map_or_else(none, |wall| time(wall.min)),
            wall.map_or_else(none, |wall| format!("{} - {}", time(wall.lower), time(wall.upper))),
            figures.per_step.map_or_else(none, |step| format!("{step:.1} µs")),
            gpu.map_or_else(none, |gpu| time(gpu.median)),
            gpu.map_or_else(none, |gpu| format!("{} - {}", time(gpu.lower), time(gpu.upper))),
            if one.dispatches == 0 { none() } else { one.dispatches.to_string() },
            figures.encode.map_or_else(none, |encode| format!("{encode:.2} µs")),
            figures.gflops.map_or_else(none, |rate| format!("{rate:.2}")),
            bytes(one.traffic.bytes()),
            figures.gbytes.map_or_else(none, |rate| format!("{rate:.2}")),
            figures.share.map_or_else(none, |share| format!("{:.0} %", share * 100.0)),
            if one.checked < one.shape.steps { format!("{} steps", one.checked) } else { "all".to_owned() },
            format!("{:.1e}", one.comparison.max_error),
            if one.right() { good("right") } else { bad("WRONG") },
        ]);
    }
    table
}

/// The legend: one line for each column that its title does not explain.
fn legend(results: &Results) -> String {
    let mut text = format!(
        "wall: median of {} from the call to the answer in memory, after {} to warm up, devices in turns\n\
         cold: loading the network and the first run on a fresh device\n\
         per step: wall / T; GPU: median of the GPU's own timestamps in as many further runs, - without timestamps\n\
         encode: host time of recording and submitting, per dispatch\n\
         GFLOP/s, GB/s: of the GPU's median, else of wall; moved: the plan's estimate of a run's bytes\n\
         of copy: GB/s as a part of what copies reach on the device\n\
         checked: timesteps held against the f64 reference; max error: largest difference from it, all runs; out of \
         tolerance is WRONG\n",
        count(results.counts.runs as usize, "run"),
        count(results.counts.warmup as usize, "run"),
    );
    for place in &results.places {
        if let Some(rate) = place.bandwidth {
            text += &format!("copies on {}: {:.1} GB/s, read and written\n", place.info, rate / 1e9);
        }
    }
    let mut reasons: Vec<String> = Vec::new();
    for one in &results.measurements {
        let reason = format!("{} {} on {}: {}\n", one.shape, one.strategy, one.place.info, one.reason);
        if one.dispatches > 0 && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    text + &reasons.concat()
}

fn warning(results: &Results) -> &'static str {
    let software = results.measurements.iter().any(|one| one.place.info.kind == DeviceKind::Software);
    if software { SOFTWARE } else { "" }
}
