//! Results for programs, with every sample; also what a record holds.

use serde::Serialize;

use super::figures::Figures;
use super::machine::Machine;
use super::measure::{Counts, Place};
use super::{Results, Shape};
use crate::source::DeviceJson;
use crate::stats::{Summary, microseconds};

/// Identifies the file type.
pub const KIND: &str = "gatefold bench";
/// Version of the layout.
pub const VERSION: u64 = 1;

/// One object, with a result for each measurement.
#[derive(Serialize)]
pub struct Document<'a, R> {
    kind: &'static str,
    record: u64,
    gatefold: &'static str,
    machine: Machine,
    os: &'static str,
    arch: &'static str,
    /// Whether the command was built with debug assertions; such times are not meaningful.
    debug_build: bool,
    seed: u64,
    warmup: u32,
    runs: u32,
    budget_s: u64,
    results: Vec<R>,
    /// Notes on shapes that were shortened, left out or stopped early.
    notes: &'a [String],
    failures: &'a [String],
}

/// The document of `results`.
pub fn document<'a, R>(
    kind: &'static str,
    (places, counts, seed): (&[Place], Counts, u64),
    results: Vec<R>,
    (notes, failures): (&'a [String], &'a [String]),
) -> Document<'a, R> {
    Document {
        kind,
        record: VERSION,
        gatefold: env!("CARGO_PKG_VERSION"),
        machine: Machine::here(places),
        os: std::env::consts::OS,
        arch: std::env::consts::ARCH,
        debug_build: cfg!(debug_assertions),
        seed,
        warmup: counts.warmup,
        runs: counts.runs,
        budget_s: counts.budget.as_secs(),
        results,
        notes,
        failures,
    }
}

/// A measurement of runs.
#[derive(Serialize)]
pub struct One<'a> {
    shape: &'a Shape,
    device: DeviceJson,
    software: bool,
    strategy: &'a str,
    reason: &'a str,
    dispatches: u64,
    cold_us: f64,
    wall_us: Option<Summary>,
    gpu_us: Option<Summary>,
    wall_per_step_us: Option<f64>,
    encode_per_dispatch_us: Option<f64>,
    gflops: Option<f64>,
    bytes: u64,
    gbytes_per_s: Option<f64>,
    bandwidth_bytes_per_s: Option<f64>,
    bandwidth_share: Option<f64>,
    wall_samples_us: Vec<f64>,
    gpu_samples_us: Vec<f64>,
    checked_steps: usize,
    /// `null` for NaN.
    max_error: f64,
    tolerance: [f64; 2],
    right: bool,
}

/// The document of all runs.
pub fn all(results: &Results) -> Document<'_, One<'_>> {
    let samples = |times: &[std::time::Duration]| times.iter().map(microseconds).collect();
    let one = results.measurements.iter().map(|one| {
        let figures = Figures::of(one);
        One {
            shape: &one.shape,
            device: DeviceJson::from(&one.place.info),
            software: one.place.info.kind == gatefold::DeviceKind::Software,
            strategy: &one.strategy,
            reason: &one.reason,
            dispatches: one.dispatches,
            cold_us: microseconds(&one.cold),
            wall_us: figures.wall,
            gpu_us: figures.gpu,
            wall_per_step_us: figures.per_step,
            encode_per_dispatch_us: figures.encode,
            gflops: figures.gflops,
            bytes: one.traffic.bytes(),
            gbytes_per_s: figures.gbytes,
            bandwidth_bytes_per_s: one.place.bandwidth,
            bandwidth_share: figures.share,
            wall_samples_us: samples(&one.wall),
            gpu_samples_us: samples(&one.gpu),
            checked_steps: one.checked,
            max_error: one.comparison.max_error,
            tolerance: [one.tolerance.atol, one.tolerance.rtol],
            right: one.right(),
        }
    });
    let measured = (&results.places[..], results.counts, results.seed);
    document(KIND, measured, one.collect(), (&results.notes, &results.failures))
}
