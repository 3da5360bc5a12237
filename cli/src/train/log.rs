//! What is shown and written while a network is trained.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use gatefold::files;
use gatefold::train::{Event, Next, Totals};
use serde::{Deserialize, Serialize};

use super::curves;
use super::tensorboard::EventFile;
use crate::progress::Progress;
use crate::table::{Table, right};
use crate::units::{duration, grouped};
use crate::{Result, signals};

/// The numbers of an epoch, as files have them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EpochRow {
    pub epoch: usize,
    /// Steps since the start.
    pub steps: u64,
    pub loss: f64,
    pub accuracy: Option<f64>,
    pub validation_loss: Option<f64>,
    pub validation_accuracy: Option<f64>,
    /// Of a language model.
    #[serde(default)]
    pub perplexity: Option<f64>,
    #[serde(default)]
    pub validation_perplexity: Option<f64>,
    /// Whether the validation loss is the smallest so far.
    pub best: bool,
    pub examples_per_second: f64,
    /// Since the start, without interruptions and without what was done between the last epoch and one.
    pub seconds: f64,
}

/// `log.csv`, `log.jsonl`, `curves.svg` and an event file in a folder.
struct LogFiles {
    folder: PathBuf,
    title: String,
    rows: Vec<EpochRow>,
    /// The event file and its name.
    events: Option<(PathBuf, EventFile)>,
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

impl LogFiles {
    /// For a run of which `epochs` are done.
    fn new(folder: &Path, title: String, tensorboard: bool, epochs: usize) -> Result<Self> {
        let failed = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        let path = folder.join("log.jsonl");
        let mut rows = Vec::new();
        if epochs > 0 && path.exists() {
            let text = std::fs::read_to_string(&path).map_err(|error| failed(&path, &error))?;
            for (line, text) in (1..).zip(text.lines()) {
                let row: EpochRow = serde_json::from_str(text).map_err(|error| {
                    format!("{}, line {line}: expected the numbers of an epoch, got {error}", path.display())
                })?;
                rows.push(row);
            }
            rows.retain(|row| row.epoch <= epochs);
        }
        let events = tensorboard.then(|| {
            let time = now();
            let name = format!("events.out.tfevents.{time:.0}.gatefold.{}", std::process::id());
            (folder.join(name), EventFile::new(time))
        });
        Ok(Self { folder: folder.to_owned(), title, rows, events })
    }

    /// Writes all files with one row more, each whole or not at all.
    fn add(&mut self, row: EpochRow) -> Result<()> {
        if let Some((path, file)) = &mut self.events {
            let numbers = [
                ("loss/train", Some(row.loss)),
                ("loss/validation", row.validation_loss),
                ("accuracy/train", row.accuracy),
                ("accuracy/validation", row.validation_accuracy),
                ("perplexity/train", row.perplexity),
                ("perplexity/validation", row.validation_perplexity),
                ("examples_per_second", Some(row.examples_per_second)),
            ];
            let numbers: Vec<_> = numbers.iter().filter_map(|&(tag, number)| Some((tag, number?))).collect();
            file.scalars(now(), row.steps, &numbers);
            files::write(path, file.bytes())?;
        }
        self.rows.push(row);
        let mut lines = String::new();
        let mut table = csv::Writer::from_writer(Vec::new());
        for row in &self.rows {
            lines += &(serde_json::to_string(row)? + "\n");
            table.serialize(row)?;
        }
        files::write(&self.folder.join("log.jsonl"), lines.as_bytes())?;
        files::write(&self.folder.join("log.csv"), &table.into_inner()?)?;
        files::write(&self.folder.join("curves.svg"), curves::svg(&self.title, &self.rows).as_bytes())?;
        Ok(())
    }
}

/// What is shown beside the loss.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The share of right answers.
    Accuracy,
    /// e to the power of the loss, the mean of the tokens.
    Perplexity,
    Nothing,
}

impl Measure {
    fn name(self) -> &'static str {
        if self == Self::Perplexity { "perplexity" } else { "accuracy" }
    }

    fn shown(self, loss: f64, accuracy: f64) -> String {
        match self {
            Self::Accuracy => format!("{:.1} %", 100.0 * accuracy),
            Self::Perplexity => format!("{:.2}", loss.exp()),
            Self::Nothing => String::new(),
        }
    }
}

/// What a [`Log`] is of.
pub struct Run<'a> {
    /// For the picture.
    pub title: String,
    /// Examples to train on.
    pub examples: usize,
    /// B
    pub batch: usize,
    pub epochs: usize,
    /// Steps that are done.
    pub steps: u64,
    /// What is shown beside the loss.
    pub measure: Measure,
    /// A folder for files, and whether TensorBoard's is one.
    pub folder: Option<&'a Path>,
    pub tensorboard: bool,
}

/// Progress while it trains, a table of the epochs after, and files.
pub struct Log {
    table: Table,
    has_epochs: bool,
    progress: Progress,
    start: Instant,
    /// Seconds before an interruption.
    before: f64,
    /// Examples since the start of this command, and steps since that of the run.
    examples: usize,
    steps: u64,
    run_examples: usize,
    batch: usize,
    measure: Measure,
    files: Option<LogFiles>,
    /// Why no more is written.
    pub failed: Option<Box<dyn std::error::Error>>,
    /// Whether a signal asked training to end.
    pub stopped: bool,
}

impl Log {
    pub fn new(run: &Run<'_>) -> Result<Self> {
        let batches = run.examples.div_ceil(run.batch.max(1));
        let done = usize::try_from(run.steps)?;
        let file = |folder| LogFiles::new(folder, run.title.clone(), run.tensorboard, done / batches.max(1));
        let files = run.folder.map(file).transpose()?;
        let before = files.as_ref().and_then(|files| files.rows.last()).map_or(0.0, |row| row.seconds);
        let measure = run.measure.name();
        let columns = ["epoch", "loss", measure, "validation loss", measure, "time"].map(right);
        Ok(Self {
            table: Table::new(columns),
            has_epochs: false,
            progress: Progress::new((run.epochs * batches).saturating_sub(done)),
            start: Instant::now(),
            before,
            examples: 0,
            steps: run.steps,
            run_examples: run.examples,
            batch: run.batch,
            measure: run.measure,
            files,
            failed: None,
            stopped: false,
        })
    }

    /// The table, without the progress; nothing before the first epoch is done.
    pub fn into_table(self) -> Option<Table> {
        drop(self.progress);
        self.has_epochs.then_some(self.table)
    }

    /// Examples per second since the start of this command.
    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let examples = self.examples as f64;
        examples / self.start.elapsed().as_secs_f64().max(1e-9)
    }

    /// Shows and writes `event`; says whether to go on.
    pub fn event(&mut self, event: Event) -> Next {
        let of = |totals: Totals| (totals.loss, totals.accuracy);
        match event {
            Event::Step { epoch, batch, batches, train } => {
                let examples = self.batch.min(self.run_examples - (batch - 1) * self.batch);
                self.step((epoch, batch, batches), examples, of(train))
            }
            Event::Epoch { epoch, train, valid, best } => self.epoch(epoch, of(train), valid.map(of), best),
            _ => self.next(),
        }
    }

    /// Shows a step on `examples` more, with the loss and the accuracy of the epoch so far.
    pub fn step(
        &mut self,
        (epoch, batch, batches): (usize, usize, usize),
        examples: usize,
        (loss, accuracy): (f64, f64),
    ) -> Next {
        self.steps += 1;
        self.examples += examples;
        let measure = match self.measure {
            Measure::Nothing => String::new(),
            measure => format!(", {} {}", measure.name(), measure.shown(loss, accuracy)),
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
        let rate = grouped(self.rate() as usize);
        let unit = if self.measure == Measure::Perplexity { "tokens" } else { "rows" };
        let what = format!("epoch {epoch}, {batch}/{batches}: loss {loss:.4}{measure}, {rate} {unit}/s");
        self.progress.advance(1, &what);
        self.next()
    }

    /// Shows and writes an epoch, each part with its loss and accuracy.
    pub fn epoch(&mut self, epoch: usize, train: (f64, f64), valid: Option<(f64, f64)>, best: bool) -> Next {
        self.has_epochs = true;
        let measure = self.measure;
        let share = |(loss, accuracy): (f64, f64)| measure.shown(loss, accuracy);
        let loss = |(loss, _): (f64, f64)| format!("{loss:.4}");
        self.table.row([
            epoch.to_string(),
            loss(train),
            share(train),
            valid.map_or_else(String::new, loss) + if best && valid.is_some() { " *" } else { "" },
            valid.map_or_else(String::new, share),
            duration(self.start.elapsed()),
        ]);
        let accuracy = |(_, accuracy): (f64, f64)| (measure != Measure::Nothing).then_some(accuracy);
        let of_loss = |(loss, _): (f64, f64)| (measure == Measure::Perplexity).then(|| loss.exp());
        let row = EpochRow {
            epoch,
            steps: self.steps,
            loss: train.0,
            accuracy: accuracy(train),
            validation_loss: valid.map(|(loss, _)| loss),
            validation_accuracy: valid.and_then(accuracy),
            perplexity: of_loss(train),
            validation_perplexity: valid.and_then(of_loss),
            best,
            examples_per_second: self.rate(),
            seconds: self.before + self.start.elapsed().as_secs_f64(),
        };
        self.failed = self.files.as_mut().and_then(|files| files.add(row).err());
        self.next()
    }

    /// Shows lines beside the progress.
    pub fn show(&self, lines: &str) {
        self.progress.show(lines);
    }

    fn next(&mut self) -> Next {
        self.stopped = signals::asked().is_some();
        if self.stopped || self.failed.is_some() { Next::Stop } else { Next::Continue }
    }
}
