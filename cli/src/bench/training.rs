//! `gatefold bench --train`: times steps of training and checks their gradients.

use std::time::{Duration, Instant};

use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, Init, LayerSpec, RecurrentOutput, RecurrentSpec};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{LossOptions, Reference, loss, random};
use gatefold::{Device, DeviceInfo, DeviceKind, Input, Network, NetworkSpec, PlanOptions, RunShape, Session, Strategy};
use serde::Serialize;

use super::json::document;
use super::measure::{Counts, Place, REFERENCE_WORK, ideal};
use super::record::Target;
use super::{BenchArgs, BenchFormat, Shape, conclude};
use crate::gradients::{TOLERANCE, share_of_largest};
use crate::progress::Progress;
use crate::report::Report;
use crate::source::DeviceJson;
use crate::stats::{Summary, microseconds};
use crate::table::{Table, bad, bold, dim, good, left, right};
use crate::units::{bytes, count, duration};
use crate::{Result, source};

/// Identifies the file type.
const KIND: &str = "gatefold bench --train";
/// Rows of the embedding's table.
const VOCABULARY: u32 = 10_000;
const CLASSES: u32 = 2;

/// What is timed of a shape on a device.
#[derive(Serialize)]
struct Measurement {
    shape: Shape,
    device: DeviceJson,
    #[serde(skip)]
    name: String,
    /// How the recurrences were run, forward.
    strategy: String,
    /// How they were run backward.
    backward_strategy: String,
    /// Opening the trainer and the first step, shaders compiled.
    cold_us: f64,
    /// A run of the network, from tokens to the output in memory.
    forward_us: Option<Summary>,
    /// The loss and all gradients, in memory.
    gradients_us: Option<Summary>,
    /// A whole step with the optimizer, its loss read.
    step_us: Option<Summary>,
    /// (gradients - forward) / forward
    backward_per_forward: Option<f64>,
    sequences_per_s: Option<f64>,
    /// What training takes on a GPU, as planned.
    memory_bytes: Option<u64>,
    /// Timesteps of the sequences whose gradients were checked.
    checked_steps: usize,
    /// The largest error of a gradient as a share of its tensor's largest; `null` for NaN.
    max_error: f64,
    right: bool,
    step_samples_us: Vec<f64>,
}

/// What was measured, and what failed.
pub struct Measured {
    results: Vec<Measurement>,
    places: Vec<Place>,
    counts: Counts,
    seed: u64,
    notes: Vec<String>,
    failures: Vec<String>,
}

/// A shape on a device.
struct Runner {
    info: DeviceInfo,
    session: Session,
    trainer: Trainer,
    cold: Duration,
    times: [Vec<Duration>; 3],
    planned: Planned,
    error: f64,
}

/// What the plan of a step says.
struct Planned {
    /// Strategies forward and backward.
    strategies: [String; 2],
    /// Bytes on a GPU.
    memory: Option<u64>,
}

/// Times the shapes on all devices, with each of the `strategies`, in turns.
pub fn run(
    (shapes, strategies): (&[Shape], &[Option<Strategy>]),
    places: &[Place],
    counts: Counts,
    seed: u64,
    (notes, mut failures): (&[String], Vec<String>),
) -> Result<Measured> {
    let rounds = usize::try_from(counts.warmup.saturating_add(counts.runs))?;
    let mut progress = Progress::new(shapes.len() * strategies.len() * places.len() * rounds);
    let mut results = Vec::new();
    for shape in shapes {
        let case = Case::new(shape, seed)?;
        let mut runners = Vec::new();
        for (place, &strategy) in places.iter().flat_map(|place| strategies.iter().map(move |one| (place, one))) {
            match case.open(&place.info, strategy) {
                Ok(runner) => runners.push(runner),
                Err(error) => failures.push(format!("{shape} on {}: {error}", place.info)),
            }
        }
        case.time(&mut runners, counts, &mut progress)?;
        results.extend(runners.into_iter().map(|runner| runner.measurement(shape, case.checked)));
    }
    Ok(Measured { results, places: places.to_vec(), counts, seed, notes: notes.to_vec(), failures })
}

/// Prints and keeps what was measured.
pub fn report(args: &BenchArgs, measured: &Measured, record: Option<Target>) -> Result<Report> {
    let Measured { results, places, counts, seed, notes, failures } = measured;
    let of = (&places[..], *counts, *seed);
    let kept = Report::json(&document(KIND, of, results.iter().collect(), (notes, failures)))?;
    let legend = legend(measured);
    let mut report = match args.format() {
        BenchFormat::Json => Report::data(kept.text.clone()),
        BenchFormat::Markdown => {
            let legend: Vec<String> = legend.lines().map(|line| format!("- {line}\n")).collect();
            Report::new(format!("{}\n{}", table(results).markdown(), legend.concat()))
        }
        BenchFormat::Csv => return Err("--format: expected table, markdown or json with --train, got csv".into()),
        BenchFormat::Table => Report::new(format!("{}\n{}", table(results), dim(&legend))),
    };
    if let Some(target) = record {
        report.notes += &format!("recorded: {}\n", target.write(&kept.text)?.display());
    }
    let wrong = results.iter().any(|one| !one.right).then_some("gradients: at least one");
    conclude(&mut report, wrong, notes, failures);
    Ok(report)
}

/// A network with a batch.
struct Case {
    shape: Shape,
    network: Network,
    tokens: Vec<u32>,
    classes: Vec<u32>,
    /// Timesteps whose gradients are checked, from the first.
    checked: usize,
}

impl Case {
    /// Embedding → recurrent layers whose last h is read → Dense.
    fn new(shape: &Shape, seed: u64) -> Result<Self> {
        let embedding = EmbeddingSpec {
            name: "embedding".into(),
            num_embeddings: usize::try_from(VOCABULARY)?,
            embedding_dim: shape.input,
            mask_zero: false,
        };
        let mut spec: NetworkSpec = shape.spec();
        let mut width = shape.hidden;
        for layer in &mut spec.layers {
            if let LayerSpec::Lstm(layer) | LayerSpec::Gru(layer) | LayerSpec::Rnn(layer) = layer {
                *layer = RecurrentSpec { output: RecurrentOutput::Last, ..layer.clone() };
                width = layer.output_size();
            }
        }
        let dense = DenseSpec {
            name: "dense".into(),
            in_features: width,
            out_features: usize::try_from(CLASSES)?,
            bias: true,
            activation: Activation::Linear,
        };
        spec.layers.insert(0, LayerSpec::Embedding(embedding));
        spec.layers.extend([LayerSpec::Dense(dense), LayerSpec::Softmax]);
        let network = Network::initialized(spec, Init::PyTorch, seed)?;
        let draw =
            |at: usize, below: u32| Ok::<u32, std::num::TryFromIntError>(random(seed, 3, u32::try_from(at)?) % below);
        let tokens =
            (0..shape.steps * shape.batch).map(|at| draw(at, VOCABULARY)).collect::<std::result::Result<_, _>>()?;
        let classes = (0..shape.batch).map(|at| draw(at, CLASSES)).collect::<std::result::Result<_, _>>()?;
        let per_step = ideal(&network, shape)?.work() / shape.steps as u64;
        let checked = shape.steps.min(usize::try_from(REFERENCE_WORK / per_step.max(1))?.max(1));
        Ok(Self { shape: shape.clone(), network, tokens, classes, checked })
    }

    /// The batch, of `steps` timesteps.
    fn batch(&self, steps: usize) -> Batch<'_> {
        let input = Input::tokens(&self.tokens[..steps * self.shape.batch], [steps, self.shape.batch]);
        Batch { input, targets: Targets::Classes(&self.classes), weights: None }
    }

    /// Opens a device, makes a step, and checks the gradients of the network as it was.
    fn open(&self, info: &DeviceInfo, strategy: Option<Strategy>) -> Result<Runner> {
        let device = source::for_training(&source::exactly(info))?;
        let mut options = TrainOptions::new(Loss::CrossEntropy);
        options.strategy = strategy;
        let trainer = Trainer::new(&device, &self.network, options.clone())?;
        let error = self.error(&trainer)?;
        let start = Instant::now();
        let mut trainer = Trainer::new(&device, &self.network, options.clone())?;
        trainer.step(&self.batch(self.shape.steps))?;
        let cold = start.elapsed();
        let run = strategy.map_or_else(PlanOptions::default, |strategy| PlanOptions::default().strategy(strategy));
        let session = Session::with_options(&device, &self.network, run)?;
        let planned = self.planned(&device, &options)?;
        Ok(Runner { info: info.clone(), session, trainer, cold, times: Default::default(), planned, error })
    }

    /// What the plan of a step says; the CPU has none.
    fn planned(&self, device: &Device, options: &TrainOptions) -> Result<Planned> {
        if device.info().kind == DeviceKind::Cpu {
            return Ok(Planned { strategies: ["vectors", "vectors"].map(str::to_owned), memory: None });
        }
        let shape = RunShape::new(self.shape.steps, self.shape.batch);
        let plan = options.plan(&self.network, shape, &device.limits())?;
        let strategies = [&plan.choices, &plan.backward].map(|choices| {
            let mut names: Vec<String> = choices.iter().map(|choice| choice.strategy.to_string()).collect();
            names.dedup();
            names.join(", ")
        });
        Ok(Planned { strategies, memory: Some(plan.bytes()) })
    }

    /// The largest error of a gradient, as a share of its tensor's largest.
    fn error(&self, trainer: &Trainer) -> Result<f64> {
        let batch = self.batch(self.checked);
        let reference = Reference::<f64>::new(&self.network);
        let forward = reference.forward(batch.input, None)?;
        let from = forward.stages.len() - 2;
        let targets = Targets::Classes(&self.classes[..]);
        let width = self.network.stages()[from].out_features;
        let result = loss(Loss::CrossEntropy, &forward.stages[from], width, targets, &LossOptions::default())?;
        let exact = reference.gradients(batch.input, None, &forward, (from, &result.d_output))?.params;
        let mut worst: f64 = 0.0;
        for (name, tensor) in trainer.gradients(&batch)? {
            let exact = exact.get(&name).ok_or_else(|| format!("no gradient of {name}"))?;
            let share = share_of_largest(tensor.data(), exact);
            worst = if share > worst || share.is_nan() { share } else { worst };
        }
        Ok(worst)
    }

    /// Rounds over all devices, so that a slowdown of the machine affects all of them.
    fn time(&self, runners: &mut [Runner], counts: Counts, progress: &mut Progress) -> Result<()> {
        let batch = self.batch(self.shape.steps);
        let start = Instant::now();
        for round in 0..counts.warmup.saturating_add(counts.runs) {
            let timed = round >= counts.warmup;
            if round > counts.warmup && start.elapsed() > counts.budget {
                break;
            }
            for runner in runners.iter_mut() {
                let Runner { session, trainer, .. } = runner;
                let forward = clock(|| session.run(batch.input, None))?;
                let gradients = clock(|| trainer.gradients(&batch))?;
                let taken = [forward, gradients, clock(|| trainer.step(&batch))?];
                if timed {
                    runner.times.iter_mut().zip(taken).for_each(|(times, time)| times.push(time));
                }
                progress.advance(1, &format!("{} on {}", self.shape, runner.info.name));
            }
        }
        Ok(())
    }
}

/// How long `run` takes.
fn clock<T>(run: impl FnOnce() -> gatefold::Result<T>) -> Result<Duration> {
    let start = Instant::now();
    let result = run()?;
    let taken = start.elapsed();
    drop(result);
    Ok(taken)
}

impl Runner {
    fn measurement(self, shape: &Shape, checked: usize) -> Measurement {
        let [forward, gradients, step] = self.times.each_ref().map(|times| Summary::new(times));
        let ratio =
            forward.zip(gradients).map(|(forward, both)| (both.median - forward.median) / forward.median.max(1e-9));
        let Planned { strategies: [strategy, backward_strategy], memory } = self.planned;
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = |step: Summary| shape.batch as f64 / (step.median.max(1e-9) / 1e6);
        Measurement {
            shape: shape.clone(),
            device: DeviceJson::from(&self.info),
            name: self.info.to_string(),
            strategy,
            backward_strategy,
            cold_us: microseconds(&self.cold),
            forward_us: forward,
            gradients_us: gradients,
            step_us: step,
            backward_per_forward: ratio,
            sequences_per_s: step.map(rate),
            memory_bytes: memory,
            checked_steps: checked,
            max_error: self.error,
            right: self.error <= TOLERANCE,
            step_samples_us: self.times[2].iter().map(microseconds).collect(),
        }
    }
}

fn table(results: &[Measurement]) -> Table {
    let titles =
        ["cold", "forward", "with gradients", "step", "quartiles", "backward/forward", "sequences/s", "memory"];
    let columns = titles.map(right).into_iter().chain([right("checked"), right("max error"), left("gradients")]);
    let mut table = Table::new(["shape", "device", "strategy", "backward"].map(left).into_iter().chain(columns));
    let time = |microseconds: f64| duration(Duration::from_secs_f64(microseconds / 1e6));
    let none = || "-".to_owned();
    let median = |summary: Option<Summary>| summary.map_or_else(none, |summary| time(summary.median));
    for one in results {
        table.row([
            one.shape.to_string(),
            one.name.clone(),
            one.strategy.clone(),
            one.backward_strategy.clone(),
            time(one.cold_us),
            median(one.forward_us),
            median(one.gradients_us),
            bold(&median(one.step_us)),
            one.step_us.map_or_else(none, |step| format!("{} - {}", time(step.lower), time(step.upper))),
            one.backward_per_forward.map_or_else(none, |ratio| format!("{ratio:.2}")),
            one.sequences_per_s.map_or_else(none, |rate| format!("{rate:.0}")),
            one.memory_bytes.map_or_else(none, bytes),
            if one.checked_steps < one.shape.steps { format!("{} steps", one.checked_steps) } else { "all".to_owned() },
            format!("{:.1e}", one.max_error),
            if one.right { good("right") } else { bad("WRONG") },
        ]);
    }
    table
}

fn legend(measured: &Measured) -> String {
    let Measured { counts, places, .. } = measured;
    let mut text = format!(
        "Embedding({VOCABULARY}, I), the recurrent layers, whose last h is read, Dense({CLASSES}), cross-entropy, Adam\n\
         strategy, backward: how the recurrences were run, forward and backward\n\
         medians of {} after {} to warm up, devices in turns\n\
         forward: a run to the output in memory; with gradients: loss and all gradients; step: with the optimizer, the loss read\n\
         checked: timesteps of the batch whose gradients were compared with the f64 reference; max error: as a share of a \
         tensor's largest, at most {TOLERANCE:.0e}\n",
        count(counts.runs as usize, "run"),
        count(counts.warmup as usize, "run"),
    );
    if places.iter().any(|place| place.info.kind == DeviceKind::Software) {
        text += super::table::SOFTWARE;
    }
    text
}
