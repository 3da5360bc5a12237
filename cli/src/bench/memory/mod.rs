//! `gatefold bench --set memory`: how much networks of different kinds remember, per byte of state and per time of a step.

mod learn;
mod models;
mod plot;
mod report;
#[path = "../../../../examples/stories/mod.rs"]
mod stories;
mod task;

use clap::{Args as ClapArgs, ValueEnum};
use gatefold::{Device, DeviceChoice, DeviceInfo, Network};

use self::learn::Training;
pub use self::models::Model;
use self::models::{LEAST, Sized};
use self::report::{Cause, Outcome};
pub use self::task::Task;
use super::measure::Counts;
use super::record::Target;
use super::{BenchArgs, BenchFormat, Set};
use crate::progress::Progress;
use crate::report::Report;
use crate::{Result, source};

/// Options of `--set memory`.
#[derive(Clone, Debug, ClapArgs)]
pub struct MemoryArgs {
    /// Of --set memory: bytes that a stream may keep; repeatable [default: 512, 1024 and 2048, or 512 with --quick]
    #[arg(long, value_name = "BYTES")]
    pub state_bytes: Vec<usize>,
    /// Of --set memory: kinds of networks [default: all]
    #[arg(long, value_name = "MODEL,...", value_enum, value_delimiter = ',')]
    pub models: Vec<Model>,
    /// Of --set memory: what they learn [default: all]
    #[arg(long, value_name = "TASK,...", value_enum, value_delimiter = ',')]
    pub tasks: Vec<Task>,
    /// Of --set memory: train every network on so many sequences, instead of for --budget seconds
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub sequences: Option<u32>,
}

/// Most numbers of state of a network of the second table.
const MOST: usize = 1 << 15;
/// Halvings of the interval of sizes of the second table.
const HALVINGS: usize = 8;

/// What all networks have in common.
struct Bench<'a> {
    device: &'a Device,
    counts: Counts,
    training: Training,
    seed: u64,
}

/// Trains, tests and times all of them.
pub fn run(args: &BenchArgs, choices: &[DeviceChoice], counts: Counts) -> Result<Report> {
    refuse_others(args, choices)?;
    let device = source::for_training(choices.first().unwrap_or(&DeviceChoice::Cpu))?;
    let mut notes = Vec::new();
    let place = super::place(DeviceInfo::clone(device.info()), &mut notes)?;
    let plot = args.plot.as_deref().map(Target::file).transpose()?;
    let record =
        args.record.as_deref().map(|folder| Target::record(folder, std::slice::from_ref(&place))).transpose()?;
    let numbers = numbers(args)?;
    let (models, tasks) = (chosen(&args.memory.models), chosen(&args.memory.tasks));
    let training = match args.memory.sequences {
        Some(sequences) => Training::Sequences(usize::try_from(sequences)?),
        None => Training::Time(counts.budget),
    };
    let bench = Bench { device: &device, counts, training, seed: args.seed };
    let mut progress = Progress::new(tasks.len() * models.len() * (numbers.len() + 1));
    let mut outcomes = Vec::new();
    for &task in &tasks {
        for &model in &models {
            for &numbers in &numbers {
                progress.advance(1, &format!("{task}: {model} of {} bytes", 4 * numbers));
                let sized = model.sized(task, numbers, args.seed)?;
                outcomes.push(bench.outcome(task, model, sized, Cause::Bytes(4 * numbers))?);
            }
        }
        // The second table has the time of a step of the largest LSTM of the first.
        let largest = Model::Lstm.sized(task, *numbers.last().unwrap_or(&LEAST), args.seed)?;
        let target = bench.step(task, &largest.network)?;
        for &model in &models {
            progress.advance(1, &format!("{task}: {model} of {target:.2} µs a step"));
            let sized = bench.of_time(task, model, target)?;
            outcomes.push(bench.outcome(task, model, sized, Cause::Step(target))?);
        }
    }
    drop(progress);
    report::report(args, (&outcomes, &place), (counts, training), (record, plot), &notes)
}

/// The numbers of state of the first table, the smallest first.
fn numbers(args: &BenchArgs) -> Result<Vec<usize>> {
    let mut bytes = match (args.memory.state_bytes.as_slice(), args.quick) {
        ([], true) => vec![4 * LEAST],
        ([], false) => vec![512, 1024, 2048],
        (given, _) => given.to_vec(),
    };
    bytes.sort_unstable();
    bytes.dedup();
    let most = 4 * MOST;
    match bytes.iter().find(|&&bytes| bytes < 4 * LEAST || bytes > most || !bytes.is_multiple_of(8)) {
        Some(wrong) => {
            Err(format!("--state-bytes: expected a multiple of 8 from {} to {most}, got {wrong}", 4 * LEAST).into())
        }
        None => Ok(bytes.into_iter().map(|bytes| bytes / 4).collect()),
    }
}

fn chosen<T: ValueEnum>(given: &[T]) -> Vec<T> {
    if given.is_empty() { T::value_variants().to_vec() } else { given.to_vec() }
}

/// Refuses options of this set beside other networks.
pub fn refuse(args: &BenchArgs) -> Result<()> {
    let MemoryArgs { state_bytes, models, tasks, sequences } = &args.memory;
    let given = [
        (!state_bytes.is_empty(), "--state-bytes"),
        (!models.is_empty(), "--models"),
        (!tasks.is_empty(), "--tasks"),
        (sequences.is_some(), "--sequences"),
    ];
    match given.into_iter().find(|(given, _)| *given) {
        Some((_, option)) => Err(format!("{option}: expected --set memory beside it, got other networks").into()),
        None => Ok(()),
    }
}

/// Options that mean nothing here.
fn refuse_others(args: &BenchArgs, choices: &[DeviceChoice]) -> Result<()> {
    if args.format() == BenchFormat::Csv {
        return Err("--format: expected table, markdown or json with --set memory, got csv".into());
    }
    let others = [
        (args.sets != [Set::Memory], "another --set"),
        (!args.shapes.is_empty(), "--shape"),
        (!args.strategies.is_empty(), "--strategy"),
        (!args.weights.is_empty(), "--weights"),
        (args.train, "--train"),
        (args.all || choices.len() > 1, "several devices"),
    ];
    match others.into_iter().find(|(given, _)| *given) {
        Some((_, what)) => Err(format!("--set memory: expected no {what} beside it, got one").into()),
        None => Ok(()),
    }
}

impl Bench<'_> {
    fn outcome(&self, task: Task, model: Model, sized: Sized, cause: Cause) -> Result<Outcome> {
        let Sized { network, size, kept } = sized;
        let learned = learn::learn(self.device, task, &network, self.training, self.seed)?;
        let example = task.longest_example(self.seed);
        let (max_error, right) = learn::checked(self.device, &learned.network, example.input())?;
        let step_us = self.step(task, &learned.network)?;
        Ok(Outcome {
            task,
            model,
            cause,
            size,
            weights: network.parameters(),
            kept,
            step_us,
            learned,
            max_error,
            right,
        })
    }

    /// Microseconds of a timestep.
    fn step(&self, task: Task, network: &Network) -> Result<f64> {
        let example = task.longest_example(self.seed);
        Ok(learn::timed(self.device, network, example.input(), self.counts, task.longest())?.step())
    }

    /// The largest network of a kind whose step takes at most so many microseconds, or the smallest.
    fn of_time(&self, task: Task, model: Model, step_us: f64) -> Result<Sized> {
        let (mut low, mut high) = (model.least(), MOST);
        for _ in 0..HALVINGS {
            // In the middle of their logarithms, an even number.
            let middle = (low * high).isqrt() / 2 * 2;
            let sized = model.sized(task, middle, self.seed)?;
            if self.step(task, &sized.network)? <= step_us { low = middle } else { high = middle }
        }
        model.sized(task, low, self.seed)
    }
}
