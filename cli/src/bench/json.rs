//! Results for programs, with every sample.

use serde::Serialize;

use super::{Results, Shape};
use crate::Result;
use crate::report::Report;
use crate::source::DeviceJson;
use crate::stats::{Summary, microseconds};

#[derive(Serialize)]
struct All<'a> {
    gatefold: &'static str,
    os: &'static str,
    arch: &'static str,
    /// Whether the command was built with debug assertions, which is no build to time.
    debug_build: bool,
    seed: u64,
    warmup: u32,
    runs: u32,
    results: Vec<One<'a>>,
    failures: &'a [String],
}

#[derive(Serialize)]
struct One<'a> {
    shape: &'a Shape,
    device: DeviceJson,
    software: bool,
    cold_us: f64,
    wall_us: Option<Summary>,
    gpu_us: Option<Summary>,
    wall_samples_us: Vec<f64>,
    gpu_samples_us: Vec<f64>,
    /// `null` for NaN.
    max_error: f64,
    tolerance: [f64; 2],
    right: bool,
}

/// One object.
pub fn report(results: &Results) -> Result<Report> {
    let samples = |times: &[std::time::Duration]| times.iter().map(microseconds).collect();
    let one = results.measurements.iter().map(|one| One {
        shape: &one.shape,
        device: DeviceJson::from(&one.device),
        software: one.device.kind == gatefold::DeviceKind::Software,
        cold_us: microseconds(&one.cold),
        wall_us: Summary::new(&one.wall),
        gpu_us: Summary::new(&one.gpu),
        wall_samples_us: samples(&one.wall),
        gpu_samples_us: samples(&one.gpu),
        max_error: one.comparison.max_error,
        tolerance: [one.tolerance.atol, one.tolerance.rtol],
        right: one.right(),
    });
    Report::json(&All {
        gatefold: env!("CARGO_PKG_VERSION"),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        debug_build: cfg!(debug_assertions),
        seed: results.seed,
        warmup: results.counts.warmup,
        runs: results.counts.runs,
        results: one.collect(),
        failures: &results.failures,
    })
}
