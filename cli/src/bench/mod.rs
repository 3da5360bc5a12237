//! `gatefold bench`: how long LSTMs take, every answer checked.

mod csv;
mod json;
mod measure;
mod shape;
mod table;

use gatefold::{Device, DeviceChoice, DeviceInfo};

use crate::args::{BenchArgs, Format};
use crate::progress::Progress;
use crate::report::{ERROR, FAILED, Report};
use crate::{Result, source};
use measure::{Counts, Measurement};
pub use shape::Shape;

/// What was measured.
struct Results {
    counts: Counts,
    seed: u64,
    /// By shape, then by device.
    measurements: Vec<Measurement>,
    /// Shapes that a device could not do.
    failures: Vec<String>,
}

/// Times every shape on every device.
pub fn run(args: &BenchArgs, choices: &[DeviceChoice]) -> Result<Report> {
    let shapes = match args.shapes.as_slice() {
        [] => Shape::defaults(args.quick),
        shapes => shapes.to_vec(),
    };
    let counts = Counts {
        warmup: args.warmup.unwrap_or(if args.quick { 1 } else { 3 }),
        runs: args.runs.unwrap_or(if args.quick { 5 } else { 20 }),
    };
    let (devices, unopened) = devices(args.all, choices)?;
    let rounds = usize::try_from(counts.warmup.saturating_add(counts.runs))?;
    let mut progress = Progress::new(shapes.len().saturating_mul(devices.len()).saturating_mul(rounds));
    let mut results = Results { counts, seed: args.seed, measurements: Vec::new(), failures: unopened };
    for shape in &shapes {
        for (info, measured) in measure::shape(shape, &devices, counts, args.seed, &mut progress)? {
            match measured {
                Ok(measurement) => results.measurements.push(measurement),
                Err(error) => results.failures.push(format!("{shape} on {info}: {error}")),
            }
        }
    }
    drop(progress);
    let mut report = match args.format {
        Format::Table => table::report(&results),
        Format::Json => json::report(&results)?,
        Format::Csv => csv::report(&results)?,
    };
    if results.measurements.iter().any(|measurement| !measurement.right()) {
        report.notes += "gatefold: WRONG answers: at least one run was out of tolerance of the f64 reference\n";
        report.code = FAILED;
    }
    for failure in &results.failures {
        report.notes += &format!("gatefold: {}\n", failure.split_whitespace().collect::<Vec<_>>().join(" "));
        report.code = ERROR;
    }
    Ok(report)
}

/// The devices to compare, each once, and with `--all` those that did not open. Without a wish: what `auto` takes, and
/// this CPU beside it.
fn devices(all: bool, choices: &[DeviceChoice]) -> Result<(Vec<DeviceInfo>, Vec<String>)> {
    let (mut devices, mut unopened) = (Vec::new(), Vec::new());
    if all {
        for info in source::everywhere() {
            match Device::open(&source::exactly(&info)) {
                Ok(_) => devices.push(info),
                Err(error) => unopened.push(format!("{info}: {error}")),
            }
        }
        return Ok((devices, unopened));
    }
    let default = [DeviceChoice::Auto, DeviceChoice::Cpu];
    for choice in if choices.is_empty() { &default } else { choices } {
        let info = DeviceInfo::clone(Device::open(choice)?.info());
        if !devices.contains(&info) {
            devices.push(info);
        }
    }
    Ok((devices, unopened))
}
