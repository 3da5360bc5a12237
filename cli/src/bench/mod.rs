//! `gatefold bench`: times networks and checks every output.

mod compare;
mod csv;
mod figures;
mod json;
mod machine;
mod measure;
mod memory;
mod plot;
mod record;
mod sets;
mod shape;
mod table;
mod training;

use std::time::Duration;

use gatefold::{DeviceChoice, DeviceInfo, Network, Strategy, WeightFormat};

use crate::args::{BenchArgs, BenchCommand, BenchFormat};
use crate::progress::Progress;
use crate::report::{ERROR, FAILED, Report};
use crate::terminal::one_line;
use crate::{Result, source};
use measure::{Counts, Measurement, Place, Variant};
pub use memory::MemoryArgs;
use record::Target;
pub use sets::Set;
pub use shape::Shape;

/// The results of the measurements.
struct Results {
    counts: Counts,
    seed: u64,
    places: Vec<Place>,
    /// By shape, then by device, then by variant.
    measurements: Vec<Measurement>,
    /// Notes on shapes that were shortened, left out or stopped early.
    notes: Vec<String>,
    /// Shapes that a device could not do.
    failures: Vec<String>,
}

/// Times every shape on every device, or compares two records.
pub fn run(args: &BenchArgs, choices: &[DeviceChoice]) -> Result<Report> {
    if let Some(BenchCommand::Compare(options)) = &args.command {
        return compare::run(options);
    }
    let counts = Counts {
        warmup: args.warmup.unwrap_or(if args.quick { 1 } else { 3 }),
        runs: args.runs.unwrap_or(if args.quick { 5 } else { 20 }),
        budget: Duration::from_secs(args.budget.unwrap_or(if args.quick { 5 } else { 60 }).into()),
    };
    if args.sets.contains(&Set::Memory) {
        return memory::run(args, choices, counts);
    }
    memory::refuse(args)?;
    let (devices, unopened) = devices(args.all, choices)?;
    let mut notes = Vec::new();
    let places: Vec<Place> = devices.into_iter().map(|info| place(info, &mut notes)).collect::<Result<_>>()?;
    let plot = args.plot.as_deref().map(Target::file).transpose()?;
    let record = args.record.as_deref().map(|folder| Target::record(folder, &places)).transpose()?;
    let mut shapes = args.shapes.clone();
    shapes.extend(args.sets.iter().flat_map(|set| set.shapes()));
    if shapes.is_empty() {
        shapes = if args.train { Shape::of_training(args.quick) } else { Shape::defaults(args.quick) };
    }
    let strategies: Vec<Option<Strategy>> = match args.strategies.as_slice() {
        [] => vec![None],
        requested => requested.iter().copied().map(Some).collect(),
    };
    if args.train {
        let others = [Strategy::Wavefront, Strategy::Resident, Strategy::Scan];
        if let Some(other) = args.strategies.iter().find(|strategy| others.contains(strategy)) {
            return Err(format!("--strategy: expected step, tile or sequence with --train, got {other}").into());
        }
        let measured = training::run((&shapes, &strategies), &places, counts, args.seed, (&notes, unopened))?;
        return training::report(args, &measured, record);
    }
    if args.quick {
        let mut short = Vec::new();
        for shape in shapes {
            short.extend(shortened(shape, &places, counts, &mut notes)?);
        }
        shapes = short;
    }
    let formats = if args.weights.is_empty() { &[WeightFormat::F32][..] } else { &args.weights };
    let rounds = usize::try_from(counts.warmup.saturating_add(counts.runs))?;
    let pieces = [shapes.len(), places.len(), strategies.len() * formats.len(), rounds]
        .into_iter()
        .fold(1, usize::saturating_mul);
    let mut progress = Progress::new(pieces);
    let mut results = Results { counts, seed: args.seed, places, measurements: Vec::new(), notes, failures: unopened };
    for shape in &shapes {
        let places = able(shape, &mut results)?;
        for &weights in formats {
            let arithmetic = args.arithmetic;
            let variants: Vec<Variant> =
                strategies.iter().map(|&strategy| Variant { strategy, weights, arithmetic }).collect();
            for (info, variant, measured) in
                measure::shape(shape, &places, &variants, counts, args.seed, &mut progress)?
            {
                match measured {
                    Ok(measurement) => results.keep(variant, measurement),
                    Err(error) => results.failures.push(format!("{shape} on {info}: {error}")),
                }
            }
        }
    }
    drop(progress);
    let kept = Report::json(&json::all(&results))?;
    let mut report = match args.format() {
        BenchFormat::Table => table::report(&results),
        BenchFormat::Markdown => table::markdown(&results),
        BenchFormat::Json => Report::data(kept.text.clone()),
        BenchFormat::Csv => csv::report(&results)?,
    };
    if let Some(target) = record {
        report.notes += &format!("recorded: {}\n", target.write(&kept.text)?.display());
    }
    if let Some(target) = plot {
        report.notes += &format!("drawn: {}\n", target.write(&plot::svg(&results))?.display());
    }
    let wrong =
        results.measurements.iter().any(|measurement| !measurement.right()).then_some("answers: at least one run");
    conclude(&mut report, wrong, &results.notes, &results.failures);
    Ok(report)
}

/// Adds notes, what was wrong and what failed to a report, and sets its exit code.
fn conclude(report: &mut Report, wrong: Option<&str>, notes: &[String], failures: &[String]) {
    for note in notes {
        report.notes += &format!("note: {note}\n");
    }
    if let Some(what) = wrong {
        report.notes += &format!("gatefold: WRONG {what} was out of tolerance of the f64 reference\n");
        report.code = FAILED;
    }
    for failure in failures {
        report.notes += &format!("gatefold: {}\n", one_line(failure));
        report.code = ERROR;
    }
}

impl Results {
    /// Stores a measurement, with a note if it differs from the request.
    fn keep(&mut self, variant: Variant, one: Measurement) {
        let what = format!("{} on {}", one.shape, one.place.info);
        if let Some(requested) = variant.strategy
            && one.dispatches > 0
            && !one.strategy.starts_with(&requested.to_string())
        {
            self.notes.push(format!("{what}: {requested} was asked for, {} was run: {}", one.strategy, one.reason));
        }
        let runs = usize::try_from(self.counts.runs).unwrap_or(usize::MAX);
        if one.wall.len() < runs {
            let budget = self.counts.budget.as_secs();
            self.notes.push(format!("{what}: {} of {runs} runs in the budget of {budget} s", one.wall.len()));
        }
        self.measurements.push(one);
    }
}

/// Assumed multiply-adds per second of a CPU, in plain loops or in a software renderer.
const SLOW_RATE: u64 = 500_000_000;

/// `shape` with as many steps as fit the budget in all rounds of a quick run, or `None`.
fn shortened(shape: Shape, places: &[Place], counts: Counts, notes: &mut Vec<String>) -> Result<Option<Shape>> {
    let work = work(&shape)?;
    let rounds = u64::from(counts.warmup) + 2 * u64::from(counts.runs) + 1;
    let each = SLOW_RATE * counts.budget.as_secs() / rounds / places.len().max(1) as u64;
    if !places.iter().any(Place::slow) || work <= each {
        return Ok(Some(shape));
    }
    let steps = usize::try_from(each / (work / shape.steps as u64).max(1))?.min(shape.steps);
    if steps == 0 {
        notes.push(format!("{shape}: left out, one timestep takes too long for --quick"));
        return Ok(None);
    }
    notes.push(format!("{shape}: cut to {steps} timesteps by --quick"));
    Ok(Some(Shape { steps, ..shape }))
}

/// The devices that are expected to finish one run of `shape` within the budget.
fn able(shape: &Shape, results: &mut Results) -> Result<Vec<Place>> {
    let seconds = work(shape)? / SLOW_RATE;
    let budget = results.counts.budget.as_secs();
    let (slow, able): (Vec<Place>, Vec<Place>) =
        results.places.iter().cloned().partition(|place| place.slow() && seconds > budget);
    for place in slow {
        let info = place.info;
        results.notes.push(format!(
            "{shape} on {info}: left out, one run would take some {seconds} s of the budget of {budget} s (--budget)"
        ));
    }
    Ok(able)
}

/// Multiply-adds of a run.
fn work(shape: &Shape) -> Result<u64> {
    // The plan needs sizes, and sizes do not depend on the seed.
    Ok(measure::ideal(&Network::random(shape.spec(), 0)?, shape)?.work())
}

/// The device with its bandwidth.
fn place(info: DeviceInfo, notes: &mut Vec<String>) -> Result<Place> {
    let bandwidth = match source::untuned(&source::exactly(&info))?.measure_bandwidth() {
        Ok(rate) => Some(rate),
        Err(error) => {
            notes.push(format!("{info}: bandwidth not measured: {error}"));
            None
        }
    };
    Ok(Place { info, bandwidth })
}

/// The devices to compare, each once, and with `--all` those that did not open. Default: the device of
/// `auto`, and this CPU.
fn devices(all: bool, choices: &[DeviceChoice]) -> Result<(Vec<DeviceInfo>, Vec<String>)> {
    let (mut devices, mut unopened) = (Vec::new(), Vec::new());
    if all {
        for info in source::everywhere()? {
            match source::untuned(&source::exactly(&info)) {
                Ok(_) => devices.push(info),
                Err(error) => unopened.push(format!("{info}: {error}")),
            }
        }
        return Ok((devices, unopened));
    }
    let default = [DeviceChoice::Auto, DeviceChoice::Cpu];
    for choice in if choices.is_empty() { &default } else { choices } {
        let info = DeviceInfo::clone(source::untuned(choice)?.info());
        if !devices.contains(&info) {
            devices.push(info);
        }
    }
    Ok((devices, unopened))
}
