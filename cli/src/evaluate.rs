//! `gatefold evaluate`: how well a model answers examples, on any device.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatefold::network::LayerSpec;
use gatefold::train::{Counts, Dataset, Padded, Targets};
use gatefold::unstable::reference::{ClassScore, LossOptions, class_scores, confusion, loss, top_k};
use gatefold::{DeviceChoice, DeviceInfo, Network, Session, TextVectorizer};
use serde::Serialize;

use crate::args::{EvaluateArgs, LossKind, TreeFormat};
use crate::confusion::Confusion;
use crate::examples::{self, Encoding};
use crate::progress::Progress;
use crate::report::Report;
use crate::source::{self, DeviceJson};
use crate::table::{Table, bold, dim, left, right};
use crate::units::{count, duration};
use crate::{Result, tasks};

/// What all examples together come to.
struct Evaluated {
    loss: f64,
    /// Sequences.
    examples: usize,
    /// Where answers are classes.
    classes: Option<Classes>,
}

struct Classes {
    names: Vec<String>,
    /// Row: the right class; column: the answer.
    matrix: Vec<u32>,
    top: Counts,
}

/// Measures a model.
pub fn run(args: &EvaluateArgs, choice: &DeviceChoice) -> Result<Report> {
    if args.batch == 0 || args.top_k == 0 {
        let option = if args.batch == 0 { "--batch" } else { "--top-k" };
        return Err(format!("{option}: expected at least 1, got 0").into());
    }
    let network = source::network(Some(&args.model))?;
    if let Some(task) = args.data.task {
        return tasks::evaluate(&source::for_training(choice)?, &network, task, &args.data.lengths);
    }
    let set = dataset(args, &network)?;
    let names = &network.spec().labels;
    let is_classes = args.data.loss == LossKind::CrossEntropy;
    let network = if is_classes { with_logits(&network)? } else { network.clone() };
    let names = if names.is_empty() {
        (0..network.output_size()).map(|class| class.to_string()).collect()
    } else {
        names.clone()
    };
    let device = source::open(choice)?;
    let session = Session::new(&device, &network)?;
    let start = Instant::now();
    let evaluated = measured(args, &session, &set, is_classes.then_some(names))?;
    let time = start.elapsed();
    source::keep_pipelines(&device);
    match args.format {
        TreeFormat::Table => Ok(table(args, &evaluated, &source::place(choice, device.info()), time)),
        TreeFormat::Json => json(args, &evaluated, device.info(), time),
    }
}

fn dataset(args: &EvaluateArgs, network: &Network) -> Result<Dataset> {
    let (path, split) = (args.data.path(), &args.data.split);
    let mut all = examples::read(&args.data)?;
    if split.is_some() {
        all = examples::take(&mut all, &args.part);
    }
    if all.is_empty() {
        return Err(format!("{}: expected examples of the split {:?}, got none", path.display(), args.part).into());
    }
    let spec = network.spec();
    let vectorizer = spec.text.as_ref().map(TextVectorizer::new).transpose()?;
    let width = if network.num_embeddings().is_some() { 0 } else { network.input_size() };
    let labels = spec.labels.clone();
    let numbers = if network.output_is_sequence() { 0 } else { network.output_size() };
    Encoding { path, vectorizer, width, numbers, labels, labels_of: "the model" }.dataset(&all)
}

/// The network without a softmax at its end: a loss from logits is exact where a probability is rounded to 0.
fn with_logits(network: &Network) -> Result<Network> {
    let mut spec = network.spec().clone();
    if spec.layers.len() < 2 || !matches!(spec.layers.last(), Some(LayerSpec::Softmax | LayerSpec::LogSoftmax(_))) {
        return Ok(network.clone());
    }
    spec.layers.pop();
    Ok(Network::new(spec, network.tensors().clone())?)
}

fn measured(args: &EvaluateArgs, session: &Session, set: &Dataset, names: Option<Vec<String>>) -> Result<Evaluated> {
    let network = session.network();
    let width = network.output_size();
    let (mut sum, mut weight, mut top) = (0.0, 0.0, Counts::default());
    let mut matrix = vec![0; if names.is_some() { width * width } else { 0 }];
    let mut progress = Progress::new(set.len());
    for padded in set.batches(network, args.batch) {
        let batch = padded.batch();
        let output = session.run(batch.input.with_axes(network.input_axes()), None)?;
        let rows = Rows::new(&padded, &output.values);
        let options = LossOptions { sample_weights: rows.weights.as_deref(), ..LossOptions::default() };
        let targets = match batch.targets {
            Targets::Classes(classes) => Targets::Classes(classes),
            Targets::Values(_) => Targets::Values(&rows.values[..]),
            Targets::Labels(labels) => Targets::Labels(labels),
        };
        let result = loss(args.data.loss.into(), &rows.output, width, targets, &options)?;
        let counted = rows.counted(width);
        sum += result.value * counted;
        weight += counted;
        if let (Some(_), Targets::Classes(classes)) = (&names, batch.targets) {
            let weights = rows.weights.as_deref();
            let more = top_k(&rows.output, width, classes, args.top_k, weights)?;
            top = Counts { correct: top.correct + more.correct, counted: top.counted + more.counted };
            let counts = confusion(&rows.output, width, classes, weights)?;
            matrix.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        progress.advance(padded.sequences(), &session.device().info().name);
    }
    let classes = names.map(|names| Classes { names, matrix, top });
    Ok(Evaluated { loss: if weight > 0.0 { sum / weight } else { 0.0 }, examples: set.len(), classes })
}

/// A run's output and its targets in f64.
struct Rows {
    output: Vec<f64>,
    values: Vec<f64>,
    weights: Option<Vec<f64>>,
}

impl Rows {
    fn new(padded: &Padded, output: &[f32]) -> Self {
        let wide = |numbers: &[f32]| numbers.iter().copied().map(f64::from).collect();
        let batch = padded.batch();
        let values = if let Targets::Values(values) = batch.targets { wide(values) } else { Vec::new() };
        Self { output: wide(output), values, weights: batch.weights.map(wide) }
    }

    /// Rows that count.
    fn counted(&self, width: usize) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a mean need not be exact")]
        let all = (self.output.len() / width.max(1)) as f64;
        self.weights.as_ref().map_or(all, |weights| weights.iter().sum())
    }
}

impl Classes {
    fn scores(&self) -> Vec<ClassScore> {
        class_scores(&self.matrix, self.names.len())
    }

    fn confusion(&self) -> Confusion {
        let size = self.names.len();
        let pairs = self
            .matrix
            .iter()
            .enumerate()
            .flat_map(|(at, &count)| std::iter::repeat_n((at / size, at % size), count as usize));
        Confusion::new(&self.names, pairs)
    }
}

fn table(args: &EvaluateArgs, evaluated: &Evaluated, place: &str, time: Duration) -> Report {
    let Evaluated { loss, examples, classes } = evaluated;
    let mut text = format!("{}\nloss {loss:.4}\n", bold(&args.model.display().to_string()));
    if let Some(classes) = classes {
        if args.top_k < classes.names.len() {
            text += &format!("among the {} most probable {:.1} %\n", args.top_k, 100.0 * classes.top.share());
        }
        text += &format!("{}\n", classes.confusion());
        let mut table = Table::new([left("class"), right("precision"), right("recall"), right("F1")]);
        for (name, score) in classes.names.iter().zip(classes.scores()) {
            let share = |share: f64| format!("{:.1} %", 100.0 * share);
            table.row([name.clone(), share(score.precision), share(score.recall), share(score.f1)]);
        }
        text += &format!("{table}\n");
    }
    let footer = format!("{} in {} on {place}", count(*examples, "example"), duration(time));
    Report::new(text + &dim(&footer) + "\n")
}

fn json(args: &EvaluateArgs, evaluated: &Evaluated, info: &Arc<DeviceInfo>, time: Duration) -> Result<Report> {
    #[derive(Serialize)]
    struct Class<'a> {
        label: &'a str,
        precision: f64,
        recall: f64,
        f1: f64,
    }
    #[derive(Serialize)]
    struct Top {
        k: usize,
        share: f64,
    }
    #[derive(Serialize)]
    struct All<'a> {
        device: DeviceJson,
        milliseconds: f64,
        examples: usize,
        loss: f64,
        #[serde(skip_serializing_if = "Option::is_none")]
        top_k: Option<Top>,
        #[serde(skip_serializing_if = "Option::is_none")]
        confusion: Option<Confusion>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        classes: Vec<Class<'a>>,
    }
    let of_classes = evaluated.classes.as_ref();
    let classes = of_classes.into_iter().flat_map(|classes| {
        classes.names.iter().zip(classes.scores()).map(|(label, score)| {
            let ClassScore { precision, recall, f1 } = score;
            Class { label, precision, recall, f1 }
        })
    });
    Report::json(&All {
        device: DeviceJson::from(&**info),
        milliseconds: time.as_secs_f64() * 1e3,
        examples: evaluated.examples,
        loss: evaluated.loss,
        top_k: of_classes
            .filter(|classes| args.top_k < classes.names.len())
            .map(|classes| Top { k: args.top_k, share: classes.top.share() }),
        confusion: of_classes.map(Classes::confusion),
        classes: classes.collect(),
    })
}
