//! Training over a data set, epoch by epoch.

use std::path::PathBuf;
use std::sync::Arc;

use super::data::Dataset;
use super::measured::Measured;
use super::trainer::Trainer;
use crate::base::error::{Error, Result};
use crate::base::wait::wait;
use crate::network::Network;
use crate::reference::random;

/// Steps in a row that may be left out for gradients that are not finite.
const MOST_SKIPPED: u32 = 3;

/// How long and in which batches a [`Trainer`] goes over a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fit {
    /// B, sequences of a batch; the last batch of an epoch may have fewer.
    pub batch_size: usize,
    /// Most times that the whole set is read.
    pub epochs: usize,
    /// Epochs without a smaller validation loss after which training ends, with the weights of the best epoch.
    pub patience: Option<usize>,
    /// Whether the order of the sequences is drawn anew for each epoch.
    pub shuffle: bool,
    /// A folder for `last.safetensors`, a checkpoint from which [`Trainer::resume`] goes on, and, with a validation set,
    /// `best.safetensors`, the network of the best epoch as a model file. It is made if it is not there.
    pub checkpoint: Option<PathBuf>,
    /// Steps after which a checkpoint is written, beside those at the end of each epoch and where training is stopped.
    pub checkpoint_steps: Option<u64>,
}

impl Fit {
    /// Batches of `batch_size` sequences, once over the set.
    #[must_use]
    pub fn new(batch_size: usize) -> Self {
        Self { batch_size, epochs: 1, patience: None, shuffle: true, checkpoint: None, checkpoint_steps: None }
    }

    /// Most times that the whole set is read.
    #[must_use]
    pub fn epochs(mut self, epochs: usize) -> Self {
        self.epochs = epochs;
        self
    }

    /// Epochs without a smaller validation loss after which training ends.
    #[must_use]
    pub fn patience(mut self, patience: usize) -> Self {
        self.patience = Some(patience);
        self
    }

    /// A folder for checkpoints.
    #[must_use]
    pub fn checkpoint(mut self, folder: impl Into<PathBuf>) -> Self {
        self.checkpoint = Some(folder.into());
        self
    }

    /// Steps after which a checkpoint is written.
    #[must_use]
    pub fn checkpoint_steps(mut self, steps: u64) -> Self {
        self.checkpoint_steps = Some(steps);
        self
    }

    fn check(&self, valid: Option<&Dataset>) -> Result<()> {
        if self.batch_size == 0 {
            return Err(Error::option("batch_size", "at least 1", &0));
        }
        if self.epochs == 0 {
            return Err(Error::option("epochs", "at least 1", &0));
        }
        if let (Some(patience), None) = (self.patience, valid) {
            return Err(Error::option("patience", "a validation set with it, or none", &patience));
        }
        match (self.checkpoint_steps, &self.checkpoint) {
            (Some(0), _) => Err(Error::option("checkpoint_steps", "at least 1", &0)),
            (Some(steps), None) => Err(Error::option("checkpoint_steps", "a checkpoint folder with it", &steps)),
            _ => Ok(()),
        }
    }
}

/// Where a run of [`Trainer::fit`] is. On a GPU the steps come some at a time, since none is waited for.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A batch is done.
    Step {
        /// The epoch, from 1.
        epoch: usize,
        /// The batch of the epoch, from 1.
        batch: usize,
        /// Batches of an epoch.
        batches: usize,
        /// The mean since the epoch's start.
        train: Totals,
    },
    /// An epoch is done.
    Epoch {
        /// The epoch, from 1.
        epoch: usize,
        /// The means of the epoch's steps, with dropout.
        train: Totals,
        /// What the validation set gives after it.
        valid: Option<Totals>,
        /// Whether its validation loss is the smallest so far.
        best: bool,
    },
}

/// Whether to go on after an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on.
    Continue,
    /// End now.
    Stop,
}

/// Means over several batches.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Totals {
    /// The mean loss of a sequence.
    pub loss: f64,
    /// The share of right answers, 0 where none counts.
    pub accuracy: f64,
    sequences: f64,
    correct: u64,
    counted: u64,
}

impl Totals {
    /// Every bit of it, for a file.
    pub(super) fn to_bits(self) -> [u64; 5] {
        let Self { loss, accuracy, sequences, correct, counted } = self;
        [loss.to_bits(), accuracy.to_bits(), sequences.to_bits(), correct, counted]
    }

    pub(super) fn from_bits([loss, accuracy, sequences, correct, counted]: [u64; 5]) -> Self {
        let [loss, accuracy, sequences] = [loss, accuracy, sequences].map(f64::from_bits);
        Self { loss, accuracy, sequences, correct, counted }
    }

    fn add(&mut self, measured: &Measured, sequences: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a mean need not be exact")]
        let more = sequences as f64;
        self.sequences += more;
        self.loss += (measured.loss - self.loss) * more / self.sequences;
        self.correct += measured.counts.correct;
        self.counted += measured.counts.counted;
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let share = self.correct as f64 / self.counted.max(1) as f64;
        self.accuracy = share;
    }
}

/// What [`Trainer::fit`] came to.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Fitted {
    /// Epochs that were done.
    pub epochs: usize,
    /// The epoch whose weights the trainer has.
    pub best_epoch: usize,
    /// What the validation set gives with them.
    pub valid: Option<Totals>,
    /// Steps that were left out for gradients that were not finite.
    pub skipped: u64,
}

/// Where a fit is between two steps: with the trainer's own state, all that it needs to go on.
#[derive(Clone, Debug)]
pub(super) struct FitProgress {
    /// What its order depends on.
    pub run: FitRun,
    /// Batches that are done of the epoch behind `fitted.epochs`.
    pub batches: usize,
    /// Means of these batches.
    pub totals: Totals,
    /// What it came to so far.
    pub fitted: Fitted,
    /// The network of the best epoch, with a validation set.
    pub best: Option<Arc<Network>>,
    /// Steps in a row that were left out.
    pub skipped_in_a_row: u32,
}

/// What the order of a fit's steps depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FitRun {
    /// B
    pub batch_size: usize,
    /// Whether the order is drawn.
    pub shuffle: bool,
    /// [`Dataset::fingerprint`] of the sequences to train on; 0 where no checkpoint is written.
    pub train: u64,
    /// The same of the validation set.
    pub valid: Option<u64>,
}

impl FitRun {
    fn new(train: &Dataset, valid: Option<&Dataset>, fit: &Fit, fingerprints: bool) -> Self {
        let of = |set: &Dataset| if fingerprints { set.fingerprint() } else { 0 };
        Self { batch_size: fit.batch_size, shuffle: fit.shuffle, train: of(train), valid: valid.map(of) }
    }

    /// An error unless the fit that goes on is this one.
    fn is_continued_by(&self, now: &Self) -> Result<()> {
        let other = |option: &str, before: &dyn std::fmt::Display, now: &dyn std::fmt::Display| {
            Err(Error::option(option, &format!("{before}, as in the checkpoint"), now))
        };
        if self.batch_size != now.batch_size {
            return other("batch_size", &self.batch_size, &now.batch_size);
        }
        if self.shuffle != now.shuffle {
            return other("shuffle", &self.shuffle, &now.shuffle);
        }
        let shown = |hash: Option<u64>| hash.map_or_else(|| "none".to_owned(), |hash| format!("data {hash:016x}"));
        let pairs = [("training set", Some(self.train), Some(now.train)), ("validation set", self.valid, now.valid)];
        match pairs.into_iter().find(|(_, before, now)| before != now) {
            Some((what, before, now)) => {
                Err(Error::shape(what, format!("{}, as in the checkpoint", shown(before)), shown(now)))
            }
            None => Ok(()),
        }
    }
}

impl FitProgress {
    fn new(run: FitRun) -> Self {
        let fitted = Fitted { epochs: 0, best_epoch: 0, valid: None, skipped: 0 };
        Self { run, batches: 0, totals: Totals::default(), fitted, best: None, skipped_in_a_row: 0 }
    }

    /// Whether no epoch follows.
    fn is_over(&self, fit: &Fit) -> bool {
        let Fitted { epochs, best_epoch, .. } = self.fitted;
        let without_gain = epochs.saturating_sub(best_epoch);
        epochs >= fit.epochs || (epochs > 0 && fit.patience.is_some_and(|patience| without_gain >= patience))
    }

    /// Counts a step of `sequences`.
    fn add(&mut self, measured: &Measured, sequences: usize, step: u64) -> Result<()> {
        self.batches += 1;
        if !measured.skipped {
            self.skipped_in_a_row = 0;
            self.totals.add(measured, sequences);
            return Ok(());
        }
        self.fitted.skipped += 1;
        self.skipped_in_a_row += 1;
        if self.skipped_in_a_row >= MOST_SKIPPED {
            return Err(Error::Diverged { step, loss: measured.loss });
        }
        Ok(())
    }
}

impl Trainer {
    /// Trains on `train`, and tells `on_event` after each step and epoch. With a validation set the weights of the epoch
    /// with its smallest loss are kept. The first fit of a trainer that [`Trainer::resume`] read goes on where the fit of
    /// the checkpoint was, also in the middle of an epoch, and comes to the same bits; `epochs` and `patience` may be
    /// others.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Option`] for a batch size or a number of epochs of 0, for patience without a
    /// validation set, and for another batch size or order than a checkpoint's; [`Error::Shape`] for other data than a
    /// checkpoint's; [`Error::Diverged`] after several steps in a row without finite gradients; [`Error::Io`] if a
    /// checkpoint cannot be written, where the one before stays.
    pub fn fit(
        &mut self,
        train: &Dataset,
        valid: Option<&Dataset>,
        fit: &Fit,
        mut on_event: impl FnMut(Event) -> Next,
    ) -> Result<Fitted> {
        wait("the CPU device", self.fit_async(train, valid, fit, async |event| on_event(event)))
    }

    /// As [`Trainer::fit`], with an `on_event` that may await, so that a program of one thread does other work between steps.
    /// The steps themselves block.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    pub async fn fit_async(
        &mut self,
        train: &Dataset,
        valid: Option<&Dataset>,
        fit: &Fit,
        mut on_event: impl AsyncFnMut(Event) -> Next,
    ) -> Result<Fitted> {
        fit.check(valid)?;
        // What an earlier fit that failed left.
        self.drain()?;
        let run = FitRun::new(train, valid, fit, fit.checkpoint.is_some() || self.resumed.is_some());
        if let Some(resumed) = &self.resumed {
            resumed.run.is_continued_by(&run)?;
        }
        let mut at = self.resumed.take().map_or_else(|| FitProgress::new(run), |resumed| *resumed);
        if let Some(folder) = &fit.checkpoint {
            std::fs::create_dir_all(folder).map_err(|source| Error::Io { path: folder.clone(), source })?;
        }
        let batches = train.len().div_ceil(fit.batch_size);
        'epochs: while !at.is_over(fit) {
            let epoch = at.fitted.epochs + 1;
            let rows = order(train.len(), fit.shuffle.then_some(self.options().seed), epoch);
            let mut left = batches - at.batches;
            for rows in rows.chunks(fit.batch_size).skip(at.batches) {
                let padded = train.batch(self.structure(), rows);
                self.enqueue(&padded.batch(), rows.len())?;
                left -= 1;
                let due = fit.checkpoint_steps.is_some_and(|steps| self.steps().is_multiple_of(steps));
                if !due && left > 0 && !self.is_full() {
                    continue;
                }
                let mut next = Next::Continue;
                for (measured, sequences) in self.drain()? {
                    at.add(&measured, sequences, self.steps())?;
                    // Steps that are done stay done, so that a stop comes behind them.
                    let event = Event::Step { epoch, batch: at.batches, batches, train: at.totals };
                    if on_event(event).await == Next::Stop {
                        next = Next::Stop;
                    }
                }
                if due || next == Next::Stop {
                    self.keep_checkpoint(fit, &at)?;
                }
                if next == Next::Stop {
                    break 'epochs;
                }
            }
            let now = valid.map(|valid| self.evaluate_all(valid, fit.batch_size)).transpose()?;
            let smaller = match (now, at.fitted.valid) {
                (Some(now), Some(before)) => now.loss < before.loss,
                _ => true,
            };
            at.fitted.epochs = epoch;
            if smaller {
                (at.fitted.best_epoch, at.fitted.valid) = (epoch, now);
                at.best = valid.map(|_| self.network()).transpose()?;
            }
            let train = std::mem::take(&mut at.totals);
            at.batches = 0;
            let next = on_event(Event::Epoch { epoch, train, valid: now, best: smaller }).await;
            // Before the checkpoint: a run that ends between the two does the epoch again.
            if smaller {
                at.keep_best(fit)?;
            }
            self.keep_checkpoint(fit, &at)?;
            if next == Next::Stop {
                break;
            }
        }
        if let Some(best) = at.best {
            self.take_weights(&best)?;
        }
        Ok(at.fitted)
    }

    /// Loss and right answers of all of `set`, `batch_size` sequences at a time.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn evaluate_all(&self, set: &Dataset, batch_size: usize) -> Result<Totals> {
        let mut totals = Totals::default();
        for padded in set.batches(self.structure(), batch_size) {
            totals.add(&self.evaluate(&padded.batch())?, padded.sequences());
        }
        Ok(totals)
    }
}

/// The order of the sequences in an epoch (Fisher & Yates), the same on every machine.
fn order(count: usize, seed: Option<u64>, epoch: usize) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..count).collect();
    let Some(seed) = seed else { return rows };
    #[expect(clippy::cast_possible_truncation, reason = "the low bits of an epoch are enough")]
    let epoch = epoch as u32;
    for last in (1..count).rev() {
        #[expect(clippy::cast_possible_truncation, reason = "a data set in memory has fewer than 2^32 sequences")]
        let drawn = random(seed ^ 0x5368_7566_666c_6521, epoch, last as u32);
        // The high half of the product is even over 0..=last, but for 2^-32 of it.
        let other = ((u64::from(drawn) * (last as u64 + 1)) >> 32) as usize;
        rows.swap(last, other);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_every_sequence_once_and_comes_again() {
        let first = order(1000, Some(1), 1);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..1000));
        assert_eq!(first, order(1000, Some(1), 1));
        assert!(first != order(1000, Some(1), 2) && first != order(1000, Some(2), 1));
        assert!(order(3, None, 1).into_iter().eq(0..3));
    }
}
