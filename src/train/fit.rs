//! Training over a data set, epoch by epoch.

use std::sync::Arc;

use super::data::Dataset;
use super::trainer::{Measured, Trainer};
use crate::base::error::{Error, Result};
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
}

impl Fit {
    /// Batches of `batch_size` sequences, once over the set.
    #[must_use]
    pub fn new(batch_size: usize) -> Self {
        Self { batch_size, epochs: 1, patience: None, shuffle: true }
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
}

/// Where a run of [`Trainer::fit`] is.
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

impl Trainer {
    /// Trains on `train`, and tells `on_event` after each step and epoch. With a validation set the weights of the epoch
    /// with its smallest loss are kept.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Option`] for a batch size or a number of epochs of 0, and for patience without a validation
    /// set; [`Error::Diverged`] after several steps in a row
    /// without finite gradients.
    pub fn fit(
        &mut self,
        train: &Dataset,
        valid: Option<&Dataset>,
        fit: &Fit,
        mut on_event: impl FnMut(Event) -> Next,
    ) -> Result<Fitted> {
        if fit.batch_size == 0 {
            return Err(Error::option("batch_size", "at least 1", &0));
        }
        if fit.epochs == 0 {
            return Err(Error::option("epochs", "at least 1", &0));
        }
        if let (Some(patience), None) = (fit.patience, valid) {
            return Err(Error::option("patience", "a validation set with it, or none", &patience));
        }
        let batches = train.len().div_ceil(fit.batch_size);
        let mut fitted = Fitted { epochs: 0, best_epoch: 0, valid: None, skipped: 0 };
        let (mut best, mut in_a_row): (Option<Arc<Network>>, u32) = (None, 0);
        'epochs: for epoch in 1..=fit.epochs {
            let rows = order(train.len(), fit.shuffle.then_some(self.options().seed), epoch);
            let mut totals = Totals::default();
            for (batch, rows) in rows.chunks(fit.batch_size).enumerate() {
                let padded = train.batch(self.structure(), rows);
                let measured = self.step(&padded.batch())?;
                if measured.skipped {
                    fitted.skipped += 1;
                    in_a_row += 1;
                    if in_a_row == MOST_SKIPPED {
                        return Err(Error::Diverged { step: self.steps(), loss: measured.loss });
                    }
                } else {
                    in_a_row = 0;
                    totals.add(&measured, rows.len());
                }
                if on_event(Event::Step { epoch, batch: batch + 1, batches, train: totals }) == Next::Stop {
                    break 'epochs;
                }
            }
            fitted.epochs = epoch;
            let now = valid.map(|valid| self.evaluate_all(valid, fit.batch_size)).transpose()?;
            let smaller = match (now, fitted.valid) {
                (Some(now), Some(before)) => now.loss < before.loss,
                _ => true,
            };
            if smaller {
                (fitted.best_epoch, fitted.valid) = (epoch, now);
                best = valid.map(|_| self.network()).transpose()?;
            }
            let next = on_event(Event::Epoch { epoch, train: totals, valid: now, best: smaller });
            if next == Next::Stop || fit.patience.is_some_and(|patience| epoch - fitted.best_epoch >= patience) {
                break;
            }
        }
        if let Some(best) = best {
            self.take_weights(&best)?;
        }
        Ok(fitted)
    }

    /// Loss and right answers of all of `set`, `batch_size` sequences at a time.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn evaluate_all(&self, set: &Dataset, batch_size: usize) -> Result<Totals> {
        // Sequences of like length together, which changes nothing but the time.
        let mut rows: Vec<usize> = (0..set.len()).collect();
        rows.sort_by_key(|&row| set.steps(row));
        let mut totals = Totals::default();
        for rows in rows.chunks(batch_size.max(1)) {
            let padded = set.batch(self.structure(), rows);
            totals.add(&self.evaluate(&padded.batch())?, rows.len());
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
