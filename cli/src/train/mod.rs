//! `gatefold train`: fits a network to labelled texts and writes it as a model file.

mod examples;
mod layers;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use gatefold::network::Init;
use gatefold::train::{
    Adam, Clip, Dataset, Dropout, DropoutUnit, Event, Fit, Fitted, Loss, Next, Optimizer, Totals, TrainOptions, Trainer,
};
use gatefold::{DeviceChoice, Network, TextVectorizer, files};

use crate::Result;
use crate::args::{Preset, TrainArgs};
use crate::progress::Progress;
use crate::report::Report;
use crate::table::{Table, dim, right};
use crate::units::{count, duration};

/// The three parts of the data.
struct Parts {
    train: Dataset,
    valid: Option<Dataset>,
    test: Option<Dataset>,
}

/// Trains a network and writes it.
pub fn run(args: &TrainArgs, choice: &DeviceChoice) -> Result<Report> {
    if !matches!(choice, DeviceChoice::Auto | DeviceChoice::Cpu) {
        return Err("--device: expected cpu or auto, since networks are trained on the CPU, got a GPU".into());
    }
    if args.out.exists() && !args.force {
        return Err(format!("{}: expected a file that does not exist yet, or --force", args.out.display()).into());
    }
    let folder = args.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(format!("{}: expected a folder that exists, got none", folder.display()).into());
    }
    if args.vocabulary < 3 {
        return Err(format!("--vocabulary: expected at least 3, got {}", args.vocabulary).into());
    }
    let columns = examples::Columns { text: &args.text, label: &args.label, split: args.split.as_deref() };
    let mut all = examples::read(&args.data, &columns)?;
    let (train, valid, test) = if args.split.is_some() {
        let [train, valid, test] = ["train", "validation", "test"].map(|name| split(&mut all, name));
        if let Some(other) = all.first() {
            return Err(other.error(&args.data, "the split train, validation or test", other.split.as_deref()).into());
        }
        (train, valid, test)
    } else {
        let valid = held_out(&mut all, args.valid)?;
        (all, valid, Vec::new())
    };
    if train.is_empty() {
        return Err(format!("{}: expected examples in the train split, got none", args.data.display()).into());
    }
    let text = examples::vocabulary(train.iter().map(|example| example.text.as_str()), args.vocabulary)?;
    let labels = examples::labels(&train);
    if labels.len() < 2 {
        let got = labels.join(", ");
        return Err(
            format!("{}: expected at least two labels in the train split, got {got:?}", args.data.display()).into()
        );
    }
    let vectorizer = TextVectorizer::new(&text)?;
    let dataset = |part: &[examples::Example]| match part {
        [] => Ok(None),
        part => examples::dataset(&args.data, part, &vectorizer, &labels).map(Some),
    };
    let parts = Parts {
        train: examples::dataset(&args.data, &train, &vectorizer, &labels)?,
        valid: dataset(&valid)?,
        test: dataset(&test)?,
    };
    let init = if args.preset == Preset::Keras { Init::Keras } else { Init::PyTorch };
    let network = Network::initialized(layers::network_spec(&args.layers, text, labels)?, init, args.seed)?;
    let mut trainer = Trainer::new(&network, options(args)?)?;
    let start = Instant::now();
    let mut log = Log::new(args.epochs, parts.train.len().div_ceil(args.batch.max(1)));
    let mut fit = Fit::new(args.batch).epochs(args.epochs);
    fit.patience = args.patience;
    let fitted = trainer.fit(&parts.train, parts.valid.as_ref(), &fit, |event| log.event(event))?;
    let time = start.elapsed();
    let test = parts.test.map(|test| trainer.evaluate_all(&test, args.batch)).transpose()?;
    let network = trainer.network()?;
    files::write(&args.out, &network.to_bytes()?)?;
    Ok(log.report(&fitted, test, &network, &args.out, time))
}

fn options(args: &TrainArgs) -> Result<TrainOptions> {
    let mut adam = match args.preset {
        Preset::Keras => Adam::keras(),
        Preset::Pytorch => Adam::default(),
    };
    adam.learning_rate = args.lr.unwrap_or(adam.learning_rate);
    let mut optimizer = Optimizer::from(adam);
    let convention = adam.convention;
    optimizer.clip = args.clip_norm.map(|max| Clip::GlobalNorm { max, convention });
    let mut options = TrainOptions::new(Loss::CrossEntropy)
        .optimizer(optimizer)
        .one_bias(args.preset == Preset::Keras)
        .seed(args.seed);
    for dropout in &args.dropout {
        let wrong = || format!("--dropout: expected LAYER=RATE or LAYER=RATE:channels, got {dropout:?}");
        let (layer, rate) = dropout.split_once('=').ok_or_else(wrong)?;
        let (rate, unit) = match rate.strip_suffix(":channels") {
            Some(rate) => (rate, DropoutUnit::Channel),
            None => (rate, DropoutUnit::Element),
        };
        options = options.dropout(Dropout { layer: layer.to_owned(), rate: rate.parse().map_err(|_| wrong())?, unit });
    }
    Ok(options)
}

/// Takes the examples of the split `name` out of `all`.
fn split(all: &mut Vec<examples::Example>, name: &str) -> Vec<examples::Example> {
    let (part, rest) = std::mem::take(all).into_iter().partition(|example| example.split.as_deref() == Some(name));
    *all = rest;
    part
}

/// A share of each label's examples, taken out of `all`.
fn held_out(all: &mut Vec<examples::Example>, share: f64) -> Result<Vec<examples::Example>> {
    if !(0.0..1.0).contains(&share) {
        return Err(format!("--valid: expected a share from 0 to below 1, got {share}").into());
    }
    // Every so-many-th of each label: the same for every seed.
    let mut seen = BTreeMap::<String, f64>::new();
    let (part, rest) = std::mem::take(all).into_iter().partition(|example| {
        let due = seen.entry(example.label.clone()).or_default();
        *due += share;
        let taken = *due >= 1.0;
        if taken {
            *due -= 1.0;
        }
        taken
    });
    *all = rest;
    Ok(part)
}

/// Shows the progress of the training, and then a table of the epochs.
struct Log {
    table: Table,
    progress: Progress,
    start: Instant,
}

impl Log {
    fn new(epochs: usize, batches: usize) -> Self {
        let columns = ["epoch", "loss", "accuracy", "validation loss", "accuracy", "time"].map(right);
        Self { table: Table::new(columns), progress: Progress::new(epochs * batches), start: Instant::now() }
    }

    fn event(&mut self, event: Event) -> Next {
        match event {
            Event::Step { epoch, batch, batches, train } => {
                let Totals { loss, accuracy, .. } = train;
                let what =
                    format!("epoch {epoch}, {batch}/{batches}: loss {loss:.4}, accuracy {:.1} %", 100.0 * accuracy);
                self.progress.advance(1, &what);
            }
            Event::Epoch { epoch, train, valid, best } => {
                let share = |totals: &Totals| format!("{:.1} %", 100.0 * totals.accuracy);
                let loss = |totals: &Totals| format!("{:.4}", totals.loss);
                self.table.row([
                    epoch.to_string(),
                    loss(&train),
                    share(&train),
                    valid.as_ref().map_or_else(String::new, loss) + if best && valid.is_some() { " *" } else { "" },
                    valid.as_ref().map_or_else(String::new, share),
                    duration(self.start.elapsed()),
                ]);
            }
            _ => {}
        }
        Next::Continue
    }

    fn report(self, fitted: &Fitted, test: Option<Totals>, network: &Network, out: &Path, time: Duration) -> Report {
        drop(self.progress);
        let mut text = format!("{}\n", self.table);
        if let Some(test) = test {
            text += &format!("test: loss {:.4}, accuracy {:.1} %\n", test.loss, 100.0 * test.accuracy);
        }
        if fitted.skipped > 0 {
            text += &format!(
                "{} left out, since their gradients were not finite\n",
                count(usize::try_from(fitted.skipped).unwrap_or(usize::MAX), "step")
            );
        }
        let footer = format!(
            "{}: {} of epoch {}, in {} on the CPU",
            out.display(),
            count(network.parameters(), "weight"),
            fitted.best_epoch,
            duration(time)
        );
        Report::new(text + &dim(&footer) + "\n")
    }
}
