//! `gatefold train`: fits a network to examples and writes it as a model file.

mod curves;
mod language_model;
mod layers;
mod log;
mod options;
mod tensorboard;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use gatefold::network::Init;
use gatefold::train::{Dataset, Fit, Fitted, Totals, TrainOptions, Trainer};
use gatefold::{Device, DeviceChoice, DeviceKind, Network, TextVectorizer, files};

use self::layers::{Reads, Task};
use self::log::{Log, Measure, Run};
use crate::args::{LossKind, Preset, TrainArgs};
use crate::examples::{self, Answer, Encoding, Example, Sequence};
use crate::report::Report;
use crate::table::{Table, bold, dim, left, right};
use crate::units::{bytes, count, duration, grouped};
use crate::{Result, signals, source, tasks};

/// Name of the checkpoint in its folder.
const LAST: &str = "last.safetensors";

/// The three parts of the data.
struct Parts<T> {
    train: T,
    valid: Option<T>,
    test: Option<T>,
}

/// All that is known before the first step.
struct Plan {
    parts: Parts<Dataset>,
    /// At its start.
    network: Network,
    layers: String,
    options: TrainOptions,
    fit: Fit,
}

/// Trains a network and writes it.
pub fn run(args: &TrainArgs, choice: &DeviceChoice) -> Result<Report> {
    check_places(args)?;
    if let Some(task) = args.data.task {
        return tasks::run(args, task, choice);
    }
    if let Some(kind) = args.language_model {
        return language_model::run(args, kind, choice);
    }
    let plan = Plan::new(args)?;
    let device = source::for_training(choice)?;
    let mut trainer = match &args.resume {
        Some(folder) => plan.resumed(&device, folder)?,
        None => Trainer::new(&device, &plan.network, plan.options.clone())?,
    };
    let Some(out) = args.out.as_deref().filter(|_| !args.dry_run) else { return Ok(plan.shown(&trainer)) };
    let mut log = Log::new(&Run {
        title: format!("Training of {}", plan.layers),
        examples: plan.parts.train.len(),
        batch: args.batch,
        epochs: args.epochs,
        steps: trainer.steps(),
        measure: if args.data.loss == LossKind::CrossEntropy { Measure::Accuracy } else { Measure::Nothing },
        folder: args.log.as_deref(),
        tensorboard: args.tensorboard,
    })?;
    if plan.fit.checkpoint.is_some() {
        signals::finish_first();
    }
    let start = Instant::now();
    let fitted = trainer.fit(&plan.parts.train, plan.parts.valid.as_ref(), &plan.fit, |event| log.event(event))?;
    if let Some(error) = log.failed.take() {
        return Err(error);
    }
    if let (Some(folder), Some(signal), true) = (&plan.fit.checkpoint, signals::asked(), log.stopped) {
        return Ok(interrupted(log, &trainer, folder, signal));
    }
    let time = start.elapsed();
    let test = plan.parts.test.map(|test| trainer.evaluate_all(&test, args.batch)).transpose()?;
    let network = trainer.network()?;
    files::write(out, &network.to_bytes()?)?;
    let classes = args.data.loss == LossKind::CrossEntropy;
    Ok(report((log, classes), &fitted, test, &network, out, (time, place(&device))))
}

/// Where training ran.
fn place(device: &Device) -> String {
    match device.info().kind {
        DeviceKind::Cpu => "the CPU".to_owned(),
        _ => device.info().to_string(),
    }
}

/// Refuses what could not be written at the end, or would replace something.
fn check_places(args: &TrainArgs) -> Result<()> {
    if let Some(out) = &args.out {
        if out.exists() && !args.force {
            return Err(format!("{}: expected a file that does not exist yet, or --force", out.display()).into());
        }
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err(format!("{}: expected a folder that exists, got none", folder.display()).into());
        }
    }
    let last = args.checkpoint.as_ref().map(|folder| folder.join(LAST));
    if let Some(last) = last.filter(|last| last.exists() && !args.force) {
        let last = last.display();
        return Err(
            format!("{last}: expected no checkpoint yet, --resume to go on from it, or --force, got one").into()
        );
    }
    Ok(())
}

impl Plan {
    fn new(args: &TrainArgs) -> Result<Self> {
        if args.vocabulary < 3 {
            return Err(format!("--vocabulary: expected at least 3, got {}", args.vocabulary).into());
        }
        let path = args.data.path();
        let mut all = examples::read(&args.data)?;
        let largest_token = all.iter().filter_map(|example| match &example.sequence {
            Sequence::Tokens(ids) => ids.iter().copied().max(),
            _ => None,
        });
        let tokens = largest_token.max().map_or(0, |token| token as usize + 1);
        let (train, valid, test) = if args.data.split.is_some() {
            let [train, valid, test] = ["train", "validation", "test"].map(|name| examples::take(&mut all, name));
            if let Some(other) = all.first() {
                let split = other.split.as_deref().unwrap_or_default();
                return Err(other.error(path, "the split train, validation or test", split).into());
            }
            (train, valid, test)
        } else {
            let valid = held_out(&mut all, args.valid)?;
            (all, valid, Vec::new())
        };
        let Some(first) = train.first() else {
            return Err(format!("{}: expected examples in the train split, got none", path.display()).into());
        };
        let mut task = Task {
            reads: Reads::Tokens(tokens),
            text: None,
            labels: Vec::new(),
            outputs: 0,
            classes: args.data.loss == LossKind::CrossEntropy,
            per_step: matches!(first.answer, Answer::Steps(_)),
        };
        match &first.sequence {
            Sequence::Text(_) => {
                let text = examples::vocabulary(&train, args.vocabulary)?;
                task.reads = Reads::Tokens(text.vocabulary.len());
                task.text = Some(text);
            }
            Sequence::Tokens(_) => {}
            Sequence::Features(_, width) => task.reads = Reads::Features(*width),
        }
        match &first.answer {
            Answer::Label(_) => {
                task.labels = examples::labels(&train);
                task.outputs = task.labels.len();
            }
            Answer::Numbers(numbers) => task.outputs = numbers.len(),
            Answer::Steps(_) => {
                let classes = train.iter().filter_map(|example| match &example.answer {
                    Answer::Steps(classes) => classes.iter().copied().max(),
                    _ => None,
                });
                task.outputs = classes.max().map_or(0, |class| class as usize + 1);
            }
        }
        if task.classes && task.outputs < 2 {
            let got = if task.labels.is_empty() { task.outputs.to_string() } else { task.labels.join(", ") };
            let path = path.display();
            return Err(format!("{path}: expected at least two labels in the train split, got {got:?}").into());
        }
        let encoding = Encoding {
            path,
            vectorizer: task.text.as_ref().map(TextVectorizer::new).transpose()?,
            width: if let Reads::Features(width) = task.reads { width } else { 0 },
            numbers: task.outputs,
            labels: task.labels.clone(),
            labels_of: "the train split",
        };
        let dataset = |part: &[Example]| match part {
            [] => Ok(None),
            part => encoding.dataset(part).map(Some),
        };
        let parts = Parts { train: encoding.dataset(&train)?, valid: dataset(&valid)?, test: dataset(&test)? };
        let init = if args.preset == Preset::Keras { Init::Keras } else { Init::PyTorch };
        let layers = args.layers.clone().unwrap_or_else(|| task.default_layers().to_owned());
        let mut spec = task.network_spec(&layers)?;
        layers::zone_out(&mut spec, &args.zoneout)?;
        let network = Network::initialized(spec, init, args.seed)?;
        Ok(Self { parts, network, layers, options: options::train_options(args)?, fit: options::fit(args) })
    }

    /// The trainer of a checkpoint of this very plan.
    fn resumed(&self, device: &Device, folder: &Path) -> Result<Trainer> {
        let trainer = Trainer::resume(device, folder.join(LAST))?;
        let name = folder.join(LAST);
        let name = name.display();
        if trainer.network()?.spec() != self.network.spec() {
            let layers = &self.layers;
            return Err(format!(
                "{name}: expected a checkpoint of {layers} with the vocabulary and the labels of the data, got one of \
                 another network"
            )
            .into());
        }
        match &options::differences(trainer.options(), &self.options)?[..] {
            [] => Ok(trainer),
            others => {
                let others = others.join(", ");
                Err(format!("{name}: expected the options of the checkpoint, got another {others}").into())
            }
        }
    }

    /// What would be trained.
    fn shown(&self, trainer: &Trainer) -> Report {
        let mut table = Table::new([left("tensor"), right("shape"), right("numbers")]);
        for (name, tensor) in self.network.tensors() {
            let numbers = tensor.data().len();
            table.row([name.clone(), crate::units::shape(tensor.shape()), grouped(numbers)]);
        }
        let Parts { train, valid, test } = &self.parts;
        let of = |part: &Option<Dataset>| part.as_ref().map_or(0, Dataset::len);
        let batches = train.len().div_ceil(self.fit.batch_size.max(1));
        let weights = self.network.parameters();
        let kept = self.options.optimizer.rule.keeps().into_iter().filter(|&kept| kept).count();
        let size = |copies: usize| bytes((weights * copies * size_of::<f32>()) as u64);
        let labels = &self.network.spec().labels;
        let labels = if labels.is_empty() { String::new() } else { format!("labels: {}\n", labels.join(", ")) };
        let words = self.network.spec().text.as_ref().map_or(0, |text| text.vocabulary.len());
        let words = if words == 0 { String::new() } else { format!("vocabulary: {}\n", count(words, "word")) };
        let done = match trainer.steps() {
            0 => String::new(),
            steps => format!(", {steps} of them are done"),
        };
        Report::new(format!(
            "{}\n{table}\n{} train, {} validation, {} test\n{words}{labels}{} of {} in each of {}{done}\n{} of weights: {}; \
             with gradients and the optimizer's state {}\n{}\n",
            bold(&self.layers),
            count(train.len(), "example"),
            of(valid),
            of(test),
            count(batches, "step"),
            count(self.fit.batch_size, "example"),
            count(self.fit.epochs, "epoch"),
            grouped(weights),
            size(1),
            size(2 + kept),
            dim("nothing was trained (--dry-run)")
        ))
    }
}

/// A share of each label's examples, taken out of `all`.
fn held_out(all: &mut Vec<Example>, share: f64) -> Result<Vec<Example>> {
    if !(0.0..1.0).contains(&share) {
        return Err(format!("--valid: expected a share from 0 to below 1, got {share}").into());
    }
    // Every so-many-th of each label: the same for every seed.
    let mut seen = BTreeMap::<String, u32>::new();
    // Ten times 0.1 is 1, whatever the last bits say.
    let due = |count: u32| (f64::from(count) * share + 1e-9).floor();
    let (part, rest) = std::mem::take(all).into_iter().partition(|example| {
        let count = seen.entry(example.label().to_owned()).or_default();
        *count += 1;
        due(*count) > due(*count - 1)
    });
    *all = rest;
    Ok(part)
}

/// What is shown where a signal ended training.
fn interrupted(log: Log, trainer: &Trainer, folder: &Path, signal: i32) -> Report {
    let steps = count(usize::try_from(trainer.steps()).unwrap_or(usize::MAX), "step");
    let folder = folder.display();
    let note = format!("interrupted after {steps}; the same command with --resume {folder} goes on");
    let mut report = Report::new(log.into_table().map_or_else(String::new, |table| format!("{table}\n")));
    report.notes = format!("gatefold: {note}\n");
    report.code = u8::try_from(128 + signal).unwrap_or(crate::report::ERROR);
    report
}

fn report(
    (log, classes): (Log, bool),
    fitted: &Fitted,
    test: Option<Totals>,
    network: &Network,
    out: &Path,
    (time, place): (Duration, String),
) -> Report {
    let mut text = log.into_table().map_or_else(String::new, |table| format!("{table}\n"));
    if let Some(test) = test {
        let accuracy = if classes { format!(", accuracy {:.1} %", 100.0 * test.accuracy) } else { String::new() };
        text += &format!("test: loss {:.4}{accuracy}\n", test.loss);
    }
    if fitted.skipped > 0 {
        text += &format!(
            "{} left out, since their gradients were not finite\n",
            count(usize::try_from(fitted.skipped).unwrap_or(usize::MAX), "step")
        );
    }
    let weights = count(network.parameters(), "weight");
    let (out, time) = (out.display(), duration(time));
    let footer = format!("{out}: {weights} of epoch {}, in {time} on {place}", fitted.best_epoch);
    Report::new(text + &dim(&footer) + "\n")
}
