//! A network that learns a task.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use gatefold::network::{Init, NetworkSpec, Tensor};
use gatefold::train::{Loss, Measured, Optimizer, TrainOptions, Trainer};
use gatefold::{Device, DeviceChoice, Network, files};

use super::generate::{Made, Rules};
use super::log::{TaskLog, TaskRow};
use super::{MemoryTask, heads, optimizer, spec, tested};
use crate::args::TrainArgs;
use crate::report::Report;
use crate::table::{bold, dim};
use crate::units::{count, duration, grouped};
use crate::{Result, signals, source};

/// Name of the checkpoint in its folder, and of the best network so far.
const LAST: &str = "last.safetensors";
const BEST: &str = "best.safetensors";
/// Steps in a row that may be left out for gradients that are not finite.
const MOST_SKIPPED: usize = 100;
/// Intervals over which the gradient norm's usual size is taken, and how many times it a spike is.
const USUAL: usize = 64;
const SPIKE: f64 = 30.0;

/// What is read before the first timestep stays as it was drawn.
const FIXED: &str = "memory.initial_read";

/// What a sequence costs, on average.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub bits: f64,
    /// Bits that the more probable value does not say.
    pub wrong: f64,
    /// Bits of a sequence.
    pub counted: usize,
}

impl Cost {
    #[expect(clippy::cast_precision_loss, reason = "counts of bits")]
    pub fn of(measured: &Measured, made: &Made) -> Self {
        let counted = made.counted();
        let wrong = measured.counts.counted.saturating_sub(measured.counts.correct);
        let bits = measured.loss / std::f64::consts::LN_2 * counted as f64;
        Self { bits, wrong: wrong as f64 / made.shape[1] as f64, counted }
    }
}

pub fn trainer(device: &Device, network: &Network, optimizer: &Optimizer, seed: u64) -> Result<Trainer> {
    let options = TrainOptions::new(Loss::BinaryCrossEntropy).optimizer(*optimizer).one_bias(true).seed(seed);
    let options = match network.tensors().contains_key(FIXED) {
        true => options.freeze(FIXED),
        false => options,
    };
    Ok(Trainer::new(device, network, options)?)
}

/// Sums of an interval.
#[derive(Default)]
struct Interval {
    bits: f64,
    wrong: f64,
    sequences: usize,
    largest: f64,
    spikes: usize,
}

/// Trains a network on a task and writes it.
pub fn run(args: &TrainArgs, task: MemoryTask, choice: &DeviceChoice) -> Result<Report> {
    let network = initialized(spec(task, &args.of_task)?, args.seed)?;
    let rate = args.lr.unwrap_or_else(|| task.learning_rate());
    let rules = optimizer(args.of_task.optimizer, rate, args.clip_norm.unwrap_or(1.0));
    let device = source::for_training(choice)?;
    let folder = args.checkpoint.as_deref().or(args.resume.as_deref());
    let mut trainer = match &args.resume {
        Some(folder) => resumed(&device, folder, &network, &rules, args.seed)?,
        None => self::trainer(&device, &network, &rules, args.seed)?,
    };
    let batch = args.batch.max(1);
    let steps = args.of_task.sequences.div_ceil(batch) as u64;
    let Some(out) = args.out.as_deref().filter(|_| !args.dry_run) else {
        let text = format!(
            "{}: {} of {} in {}\n{}\n",
            bold(task.name()),
            count(usize::try_from(steps).unwrap_or(usize::MAX), "step"),
            count(batch, "sequence"),
            count(network.parameters(), "weight"),
            dim("nothing was trained (--dry-run)")
        );
        return Ok(Report::new(text));
    };
    let mut log = TaskLog::new(task.name(), args.log.as_deref(), trainer.steps(), args.of_task.sequences)?;
    if let Some(folder) = folder {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        signals::finish_first();
    }
    let start = Instant::now();
    let mut best = best_of(folder.filter(|_| args.resume.is_some()), &log, &trainer)?;
    let (mut interval, mut skipped, mut in_a_row) = (Interval::default(), 0usize, 0);
    let mut usual = VecDeque::new();
    while trainer.steps() < steps {
        if let (Some(signal), Some(folder)) = (signals::asked(), folder) {
            trainer.save_checkpoint(folder.join(LAST))?;
            let note = format!("interrupted after {} steps; the same command with --resume goes on", trainer.steps());
            let mut report = Report::new(log.table());
            report.notes = format!("gatefold: {note}\n");
            report.code = u8::try_from(128 + signal).unwrap_or(crate::report::ERROR);
            return Ok(report);
        }
        // Its own seed for each step: what follows a checkpoint is what would have followed.
        let step = trainer.steps();
        let seed = args.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step.wrapping_mul(0xd134_2543_de82_ef95);
        let length = Rules::of(task).draw(&mut fastrand::Rng::with_seed(seed ^ 0x5eed));
        let made = Made::of(task, length, batch, seed);
        let measured = trainer.step(&made.batch())?;
        let cost = Cost::of(&measured, &made);
        in_a_row = if measured.skipped { in_a_row + 1 } else { 0 };
        skipped += usize::from(measured.skipped);
        if in_a_row > MOST_SKIPPED {
            return Err(format!("{in_a_row} steps in a row had gradients that were not finite").into());
        }
        #[expect(clippy::cast_precision_loss, reason = "few sequences")]
        let of_batch = batch as f64;
        interval.bits += cost.bits * of_batch;
        interval.wrong += cost.wrong * of_batch;
        interval.sequences += batch;
        interval.largest = interval.largest.max(measured.gradient_norm);
        interval.spikes += usize::from(is_spike(&mut usual, measured.gradient_norm));
        let sequences = usize::try_from(trainer.steps()).unwrap_or(usize::MAX).saturating_mul(batch);
        log.step(batch, sequences, cost.bits);
        if interval.sequences >= args.of_task.interval.max(1) || trainer.steps() == steps {
            #[expect(clippy::cast_precision_loss, reason = "few sequences")]
            let all = interval.sequences as f64;
            let bits = interval.bits / all;
            let is_best = best.as_ref().is_none_or(|(least, _)| bits < *least);
            if is_best {
                let network = trainer.network()?;
                if let Some(folder) = folder {
                    files::write(&folder.join(BEST), &network.to_bytes()?)?;
                }
                best = Some((bits, network));
            }
            log.row(TaskRow {
                sequences,
                bits,
                wrong: interval.wrong / all,
                gradient_norm: interval.largest,
                spikes: interval.spikes,
                skipped,
                best: is_best,
                seconds: start.elapsed().as_secs_f64(),
            })?;
            if let Some(folder) = folder {
                trainer.save_checkpoint(folder.join(LAST))?;
            }
            interval = Interval::default();
        }
    }
    let time = start.elapsed();
    let network = match best {
        Some((_, network)) => network,
        None => trainer.network()?,
    };
    files::write(out, &network.to_bytes()?)?;
    if let Some(folder) = &args.log {
        let length = Rules::of(task).test_lengths()[1];
        let picture = heads::svg(&device, &network, task, length, args.seed)?;
        files::write(&folder.join("heads.svg"), picture.as_bytes())?;
    }
    let tests = tested(&device, &network, task, &args.data.lengths, (args.of_task.tests, args.seed))?;
    let weights = grouped(network.parameters());
    let (solved, rate) = (log.solved(), log.rate());
    let footer = format!(
        "{}: {weights} weights, the best of all intervals, in {} ({rate:.2} s for 1,000 sequences)",
        out.display(),
        duration(time)
    );
    Ok(Report::new(format!("{}\n{solved}\n{tests}\n{}\n", log.table(), dim(&footer))))
}

/// A network with random weights, whose outputs begin with small biases.
fn initialized(spec: NetworkSpec, seed: u64) -> Result<Network> {
    let network = Network::initialized(spec, Init::Keras, seed)?;
    let mut tensors = network.tensors().clone();
    if let Some(bias) = tensors.get_mut("bits.bias") {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0xb1a5);
        let mut normal = || (-2.0 * (1.0 - rng.f32()).ln()).sqrt() * (std::f32::consts::TAU * rng.f32()).cos();
        let numbers = (0..bias.data().len()).map(|_| 0.01 * normal()).collect();
        *bias = Tensor::new(bias.shape().to_vec(), numbers)?;
    }
    Ok(Network::new(network.spec().clone(), tensors)?)
}

/// Whether a gradient is far above the usual.
fn is_spike(usual: &mut VecDeque<f64>, norm: f64) -> bool {
    let mut sorted: Vec<f64> = usual.iter().copied().collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied();
    usual.push_back(norm);
    if usual.len() > USUAL {
        usual.pop_front();
    }
    median.is_some_and(|median| norm > SPIKE * median)
}

/// The best network of an interrupted run and its bits.
fn best_of(folder: Option<&Path>, log: &TaskLog, trainer: &Trainer) -> Result<Option<(f64, Arc<Network>)>> {
    let path = folder.map(|folder| folder.join(BEST)).filter(|path| path.exists());
    match (path, log.best(), trainer.steps()) {
        (Some(path), Some(bits), 1..) => Ok(Some((bits, Arc::new(Network::load(&path)?)))),
        _ => Ok(None),
    }
}

fn resumed(device: &Device, folder: &Path, network: &Network, optimizer: &Optimizer, seed: u64) -> Result<Trainer> {
    let path = folder.join(LAST);
    let trainer = Trainer::resume(device, &path)?;
    let same = trainer.network()?.spec() == network.spec();
    if !same || trainer.options().optimizer != *optimizer || trainer.options().seed != seed {
        return Err(
            format!("{}: expected a checkpoint of the same task and options, got another", path.display()).into()
        );
    }
    Ok(trainer)
}
