//! Language models: a plain text, read by characters or words, and a network that says the next of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Instant;

use gatefold::network::{Init, Split, Standardize, TextSpec};
use gatefold::train::{Batch, Next, Targets, Trainer};
use gatefold::{
    Device, DeviceChoice, GenerateOptions, Input, Network, Sampling, Session, State, StreamPool, TextVectorizer, files,
};

use super::layers::{self, Reads, Task};
use super::log::{Log, Measure, Run};
use super::options;
use crate::args::{LossKind, Preset, TokenKind, TrainArgs};
use crate::report::Report;
use crate::table::{bold, dim};
use crate::units::{count, duration, grouped};
use crate::{Result, source};

/// Tokens of the text that is shown after each epoch, and of its beginning.
const SHOWN: usize = 120;
const PROMPT: usize = 20;
/// Steps in a row that may be left out for gradients that are not finite.
const MOST_SKIPPED: usize = 3;

/// Calls `take` with every token of the text `path`, line by line: the text is never in memory as a whole.
fn for_each_token(path: &Path, split: Split, mut take: impl FnMut(&str)) -> Result<()> {
    let mut reader = BufReader::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let failed = |error: &dyn std::fmt::Display| format!("{}, line {number}: {error}", path.display());
        if reader.read_until(b'\n', &mut line).map_err(|error| failed(&error))? == 0 {
            break;
        }
        let text = std::str::from_utf8(&line).map_err(|_| failed(&"expected text in UTF-8, got other bytes"))?;
        TextVectorizer::tokens(text, Standardize::None, split, &mut take);
    }
    Ok(())
}

/// The token ids of a text, its vocabulary, and how many of them are trained on.
struct Corpus {
    text: TextSpec,
    ids: Vec<u32>,
    train: usize,
}

impl Corpus {
    fn read(args: &TrainArgs, kind: TokenKind) -> Result<Self> {
        let path = args.data.path();
        let split = match kind {
            TokenKind::Characters => Split::Character,
            TokenKind::Words => Split::Whitespace,
        };
        let mut total = 0;
        for_each_token(path, split, |_| total += 1)?;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share"
        )]
        let valid = (total as f64 * args.valid) as usize;
        let train = total - valid;
        // The vocabulary is of what is trained on alone.
        let (mut counts, mut seen) = (HashMap::<String, u64>::new(), 0);
        for_each_token(path, split, |token| {
            seen += 1;
            if seen > train {
                return;
            }
            match counts.get_mut(token) {
                Some(count) => *count += 1,
                None => drop(counts.insert(token.to_owned(), 1)),
            }
        })?;
        let mut found: Vec<(String, u64)> = counts.into_iter().collect();
        found.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let reserved = [String::new(), "[UNK]".to_owned()];
        let found = found.into_iter().map(|(token, _)| token).filter(|token| token != "[UNK]");
        let vocabulary: Vec<String> = reserved.into_iter().chain(found).take(args.vocabulary).collect();
        let text = TextSpec { standardize: Standardize::None, split, vocabulary, output_sequence_length: None };
        let ids_of: HashMap<&str, u32> = text.vocabulary.iter().map(String::as_str).zip(0..).skip(1).collect();
        let mut ids = Vec::with_capacity(total);
        for_each_token(path, split, |token| ids.push(ids_of.get(token).copied().unwrap_or(1)))?;
        drop(ids_of);
        Ok(Self { text, ids, train })
    }

    /// The text of some ids.
    fn decoded(&self, ids: &[u32]) -> String {
        let tokens = ids.iter().map(|&id| self.text.vocabulary.get(id as usize).map_or("", String::as_str));
        let between = if self.text.split == Split::Character { "" } else { " " };
        tokens.collect::<Vec<_>>().join(between)
    }
}

/// Streams of equal length side by side, in windows of time.
struct Streams<'a> {
    ids: &'a [u32],
    /// B
    batch: usize,
    /// Predictions of each stream.
    each: usize,
    window: usize,
}

/// A window: T, and the tokens `[T, B]` with those that follow.
type Window = (usize, Vec<u32>, Vec<u32>);

impl<'a> Streams<'a> {
    /// At most `most` streams of `ids`; `None` if there is nothing to predict.
    fn new(ids: &'a [u32], most: usize, window: usize) -> Option<Self> {
        let predictions = ids.len().saturating_sub(1);
        let batch = most.min(predictions / window.max(1)).max(1);
        let each = predictions / batch;
        (each > 0).then_some(Self { ids, batch, each, window })
    }

    fn windows(&self) -> usize {
        self.each.div_ceil(self.window)
    }

    fn window(&self, index: usize) -> Window {
        let first = index * self.window;
        let steps = self.window.min(self.each - first);
        let at = |step: usize, row: usize| row * self.each + first + step;
        let places = (0..steps).flat_map(|step| (0..self.batch).map(move |row| at(step, row)));
        let (now, next) = places.map(|at| (self.ids[at], self.ids[at + 1])).unzip();
        (steps, now, next)
    }
}

/// A sum of losses and right answers over tokens.
#[derive(Default)]
struct Sums {
    loss: f64,
    tokens: f64,
    correct: u64,
    counted: u64,
}

impl Sums {
    fn add(&mut self, measured: &gatefold::train::Measured, tokens: usize) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let tokens = tokens as f64;
        self.loss += measured.loss * tokens;
        self.tokens += tokens;
        self.correct += measured.counts.correct;
        self.counted += measured.counts.counted;
    }

    /// The mean loss of a token, and the share that is right.
    fn mean(&self) -> (f64, f64) {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let accuracy = self.correct as f64 / self.counted.max(1) as f64;
        (self.loss / self.tokens.max(1.0), accuracy)
    }
}

/// Trains a language model and writes it.
pub fn run(args: &TrainArgs, kind: TokenKind, choice: &DeviceChoice) -> Result<Report> {
    check(args)?;
    let path = args.data.path().display();
    let corpus = Corpus::read(args, kind)?;
    let (train, valid) = corpus.ids.split_at(corpus.train);
    let train = Streams::new(train, args.batch, args.window)
        .filter(|streams| streams.batch == args.batch && corpus.text.vocabulary.len() > 3)
        .ok_or_else(|| {
            let (least, got) = (args.batch * args.window + 1, corpus.train);
            format!("{path}: expected at least {least} tokens of two kinds to train on (--batch, --window), got {got}")
        })?;
    let of_valid = valid.len();
    let valid = Streams::new(valid, args.batch, args.window);
    if args.patience.is_some() && valid.is_none() {
        let got = count(of_valid, "token");
        return Err(format!("--patience: expected at least 2 tokens of validation text (--valid), got {got}").into());
    }
    let vocabulary = corpus.text.vocabulary.len();
    let task = Task {
        reads: Reads::Tokens(vocabulary),
        // With a text the embedding would mask its padding, which does not occur here.
        text: None,
        labels: Vec::new(),
        outputs: vocabulary,
        classes: false,
        per_step: true,
    };
    let layers = args.layers.clone().unwrap_or_else(|| "embedding:32,lstm:128,dense".to_owned());
    let mut spec = task.network_spec(&layers)?;
    spec.text = Some(corpus.text.clone());
    layers::zone_out(&mut spec, &args.zoneout)?;
    let init = if args.preset == Preset::Keras { Init::Keras } else { Init::PyTorch };
    let network = Network::initialized(spec, init, args.seed)?;
    let device = source::for_training(choice)?;
    let mut trainer = Trainer::new(&device, &network, options::train_options(args)?)?;
    let tokens = |streams: &Streams<'_>| count(streams.each * streams.batch, "token");
    let Some(out) = args.out.as_deref().filter(|_| !args.dry_run) else {
        return Ok(Report::new(format!(
            "{}\n{} train, {} validation; vocabulary: {}\n{} of {} streams and {} timesteps in each of {}; {} weights\n{}\n",
            bold(&layers),
            tokens(&train),
            valid.as_ref().map_or_else(|| "no".to_owned(), tokens),
            count(vocabulary, "token"),
            count(train.windows(), "step"),
            train.batch,
            train.window,
            count(args.epochs, "epoch"),
            grouped(network.parameters()),
            dim("nothing was trained (--dry-run)")
        )));
    };
    let mut log = Log::new(&Run {
        title: format!("Training of {layers}"),
        examples: train.windows(),
        batch: 1,
        epochs: args.epochs,
        steps: 0,
        measure: Measure::Perplexity,
        folder: args.log.as_deref(),
        tensorboard: args.tensorboard,
    })?;
    let prompt = prompt(args, &corpus)?;
    let start = Instant::now();
    let mut best = None;
    for epoch in 1..=args.epochs {
        let (means, stopped) = epoch_of(&mut trainer, &train, (epoch, &network), &mut log)?;
        let of_valid = valid.as_ref().map(|streams| evaluated(&trainer, streams, &network)).transpose()?;
        let judged = of_valid.map_or(means.0, |(loss, _)| loss);
        let is_best = best.as_ref().is_none_or(|(least, ..): &(f64, usize, _)| judged < *least);
        let now = trainer.network()?;
        let next = log.epoch(epoch, means, of_valid, is_best);
        log.show(&format!("epoch {epoch}: {}\n", shown(&device, &now, &prompt, &corpus, args.seed)?));
        if is_best || of_valid.is_none() {
            best = Some((judged, epoch, now));
        }
        let waited = best.as_ref().map_or(0, |(_, best, _)| epoch - best);
        if stopped || next == Next::Stop || args.patience.is_some_and(|patience| waited >= patience) {
            break;
        }
    }
    if let Some(error) = log.failed.take() {
        return Err(error);
    }
    let Some((_, epoch, network)) = best else { return Err("--epochs: expected at least 1, got 0".into()) };
    files::write(out, &network.to_bytes()?)?;
    let text = log.into_table().map_or_else(String::new, |table| format!("{table}\n"));
    let (out, time, place) = (out.display(), duration(start.elapsed()), super::place(&device));
    let weights = count(network.parameters(), "weight");
    Ok(Report::new(text + &dim(&format!("{out}: {weights} of epoch {epoch}, in {time} on {place}")) + "\n"))
}

fn check(args: &TrainArgs) -> Result<()> {
    if args.data.loss != LossKind::CrossEntropy {
        return Err("--loss: expected cross-entropy with --language-model, got another".into());
    }
    if !(0.0..1.0).contains(&args.valid) {
        return Err(format!("--valid: expected a share from 0 to below 1, got {}", args.valid).into());
    }
    for (name, number, least) in [
        ("--window", args.window, 1),
        ("--batch", args.batch, 1),
        ("--epochs", args.epochs, 1),
        ("--vocabulary", args.vocabulary, 4),
    ] {
        if number < least {
            return Err(format!("{name}: expected at least {least}, got {number}").into());
        }
    }
    if args.patience.is_some() && args.valid == 0.0 {
        return Err("--patience: expected a validation text with it (--valid), got none".into());
    }
    Ok(())
}

/// One pass over the text. Gives the means, and whether a signal ended it.
fn epoch_of(
    trainer: &mut Trainer,
    streams: &Streams<'_>,
    (epoch, network): (usize, &Network),
    log: &mut Log,
) -> Result<((f64, f64), bool)> {
    let mut state = State::initial(network, streams.batch)?;
    let (mut sums, mut skipped) = (Sums::default(), 0);
    for index in 0..streams.windows() {
        let (steps, now, next) = streams.window(index);
        let input = Input::tokens(&now, [steps, streams.batch]);
        let batch = Batch { input, targets: Targets::Classes(&next), weights: None };
        let measured = trainer.step_from(&batch, &mut state)?;
        skipped = if measured.skipped { skipped + 1 } else { 0 };
        if skipped > MOST_SKIPPED {
            return Err(format!("epoch {epoch}: the gradients of {skipped} steps in a row were not finite").into());
        }
        if !measured.skipped {
            sums.add(&measured, now.len());
        } else if index + 1 == streams.windows() && sums.tokens == 0.0 {
            return Err(format!("epoch {epoch}: no step had finite gradients").into());
        }
        if log.step((epoch, index + 1, streams.windows()), now.len(), sums.mean()) == Next::Stop {
            return Ok((sums.mean(), true));
        }
    }
    Ok((sums.mean(), false))
}

/// The mean loss of a token, and the share that is right.
fn evaluated(trainer: &Trainer, streams: &Streams<'_>, network: &Network) -> Result<(f64, f64)> {
    let mut state = State::initial(network, streams.batch)?;
    let mut sums = Sums::default();
    for index in 0..streams.windows() {
        let (steps, now, next) = streams.window(index);
        let input = Input::tokens(&now, [steps, streams.batch]);
        let batch = Batch { input, targets: Targets::Classes(&next), weights: None };
        sums.add(&trainer.evaluate_from(&batch, &mut state)?, now.len());
    }
    Ok(sums.mean())
}

/// What a text that is shown begins with.
fn prompt(args: &TrainArgs, corpus: &Corpus) -> Result<Vec<u32>> {
    let ids = match &args.prompt {
        Some(prompt) => TextVectorizer::new(&corpus.text)?.encode(prompt),
        None => {
            let first = if corpus.train < corpus.ids.len() { corpus.train } else { 0 };
            corpus.ids[first..].iter().copied().take(PROMPT).collect()
        }
    };
    if ids.is_empty() { Err("--prompt: expected at least one token, got none".into()) } else { Ok(ids) }
}

/// The prompt with what the network draws behind it, in one line.
fn shown(device: &Device, network: &Network, prompt: &[u32], corpus: &Corpus, seed: u64) -> Result<String> {
    let pool = StreamPool::new(Session::new(device, network)?, 1)?;
    let sampling = Some(Sampling { temperature: 0.7, seed, ..Sampling::default() });
    let options = GenerateOptions { max_new_tokens: SHOWN, sampling, ..GenerateOptions::default() };
    let found = pool.generate(&[(pool.open()?, prompt)], &options)?;
    let drawn = found.into_iter().next().map(|sequence| sequence.tokens).unwrap_or_default();
    let text = corpus.decoded(&[prompt, &drawn].concat());
    Ok(gatefold::printable(&text.split_whitespace().collect::<Vec<_>>().join(" "), 400))
}
