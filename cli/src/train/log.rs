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
    /// Whether answers are right or wrong.
    pub classes: bool,
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
    /// Whether answers are right or wrong.
    pub classes: bool,
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
        let columns = ["epoch", "loss", "accuracy", "validation loss", "accuracy", "time"].map(right);
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
            classes: run.classes,
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

    fn share(&self, totals: &Totals) -> String {
        if self.classes { format!("{:.1} %", 100.0 * totals.accuracy) } else { String::new() }
    }

    /// Shows and writes `event`; says whether to go on.
    pub fn event(&mut self, event: Event) -> Next {
        match event {
            Event::Step { epoch, batch, batches, train } => {
                self.steps += 1;
                self.examples += self.batch.min(self.run_examples - (batch - 1) * self.batch);
                let accuracy = if self.classes { format!(", accuracy {}", self.share(&train)) } else { String::new() };
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is not negative")]
                let rate = grouped(self.rate() as usize);
                let loss = train.loss;
                let what = format!("epoch {epoch}, {batch}/{batches}: loss {loss:.4}{accuracy}, {rate} rows/s");
                self.progress.advance(1, &what);
            }
            Event::Epoch { epoch, train, valid, best } => {
                self.has_epochs = true;
                let loss = |totals: &Totals| format!("{:.4}", totals.loss);
                self.table.row([
                    epoch.to_string(),
                    loss(&train),
                    self.share(&train),
                    valid.as_ref().map_or_else(String::new, loss) + if best && valid.is_some() { " *" } else { "" },
                    valid.as_ref().map_or_else(String::new, |valid| self.share(valid)),
                    duration(self.start.elapsed()),
                ]);
                let accuracy = |totals: Totals| self.classes.then_some(totals.accuracy);
                let row = EpochRow {
                    epoch,
                    steps: self.steps,
                    loss: train.loss,
                    accuracy: accuracy(train),
                    validation_loss: valid.map(|valid| valid.loss),
                    validation_accuracy: valid.and_then(accuracy),
                    best,
                    examples_per_second: self.rate(),
                    seconds: self.before + self.start.elapsed().as_secs_f64(),
                };
                self.failed = self.files.as_mut().and_then(|files| files.add(row).err());
            }
            _ => {}
        }
        self.stopped = signals::asked().is_some();
        if self.stopped || self.failed.is_some() { Next::Stop } else { Next::Continue }
    }
}
