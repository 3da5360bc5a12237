//! What steps, evaluations and metrics of a batch find.

use super::data::Batch;
use super::trainer::Trainer;
use crate::base::error::{Error, Result};
use crate::reference::{Counts, Loss, Targets, confusion, perplexity, top_k};

/// What one step or one evaluation found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Measured {
    /// The loss.
    pub loss: f64,
    /// Right answers, and all that count.
    pub counts: Counts,
    /// Euclidean norm of all gradients before they were clipped; 0 where none were taken.
    pub gradient_norm: f64,
    /// Whether the step was left out, since its loss or its gradients were not finite.
    pub skipped: bool,
}

/// Which metrics of classes [`Trainer::metrics`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measures {
    /// K: an answer counts as right if its class is among the K most probable.
    pub top_k: usize,
    /// Whether the answers of each class are counted.
    pub confusion: bool,
}

/// Metrics of a batch whose answers are classes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// The loss and the right answers.
    pub measured: Measured,
    /// Answers whose class is among the K most probable, and all that count.
    pub top_k: Counts,
    /// How often a row of a class has each class as its most probable one, `[C, C]`, one line for each class; empty without
    /// [`Measures::confusion`]. A row whose logits are all NaN has no most probable class.
    pub confusion: Vec<u32>,
}

impl Metrics {
    /// e to the power of the loss: among how many equally likely classes the network chooses.
    #[must_use]
    pub fn perplexity(&self) -> f64 {
        perplexity(self.measured.loss)
    }
}

impl Trainer {
    /// The loss of `batch` and metrics of its answers, without dropout; nothing is changed. On a GPU they are counted there, and
    /// the counts alone are read.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`]; [`Error::Option`] for another loss than [`Loss::CrossEntropy`], targets that are no classes
    /// and a K of 0; [`Error::TooLarge`] for more classes than a binding has room for their pairs.
    pub fn metrics(&self, batch: &Batch<'_>, measures: Measures) -> Result<Metrics> {
        if self.options().loss != Loss::CrossEntropy {
            return Err(Error::option("loss", "cross-entropy with metrics of classes", &"another"));
        }
        if !matches!(batch.targets, Targets::Classes(_)) {
            return Err(Error::option("targets", "classes with metrics of classes", &"others"));
        }
        if measures.top_k == 0 {
            return Err(Error::option("top_k", "at least 1", &0));
        }
        let (measured, right, confusion) = self.measured(batch, measures)?;
        let top_k = Counts { correct: right, counted: measured.counts.counted };
        Ok(Metrics { measured, top_k, confusion })
    }
}

/// Metrics of a batch whose answers are numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct NumberMetrics {
    /// The loss.
    pub measured: Measured,
    /// The mean of what the outputs are off, over the rows that count.
    pub mean_absolute_error: f64,
}

impl Trainer {
    /// The loss of `batch` and the mean absolute error of its outputs, without dropout; nothing is changed. A row of weight 0
    /// does not count; other weights change the loss alone. On a GPU the errors are summed up there, and the sum alone is read.
    ///
    /// # Errors
    /// As [`Trainer::evaluate`]; [`Error::Option`] for a loss that is not one of numbers, [`Loss::Mse`], [`Loss::Mae`] and
    /// [`Loss::Huber`], and for targets that are no numbers.
    pub fn number_metrics(&self, batch: &Batch<'_>) -> Result<NumberMetrics> {
        if !matches!(self.options().loss, Loss::Mse | Loss::Mae | Loss::Huber { .. }) {
            return Err(Error::option("loss", "mse, mae or huber with the mean absolute error", &"another"));
        }
        if !matches!(batch.targets, Targets::Values(_)) {
            return Err(Error::option("targets", "numbers with the mean absolute error", &"others"));
        }
        let (measured, mean_absolute_error) = self.absolute_error(batch)?;
        Ok(NumberMetrics { measured, mean_absolute_error })
    }
}

/// Right answers among the K highest of logits `[M, width]`, and the pairs of classes.
pub(super) fn class_counts(
    measures: Measures,
    (logits, width): (&[f32], usize),
    classes: &[u32],
    weights: Option<&[f32]>,
) -> Result<(u64, Vec<u32>)> {
    let right = top_k(logits, width, classes, measures.top_k, weights)?.correct;
    let pairs = if measures.confusion { confusion(logits, width, classes, weights)? } else { Vec::new() };
    Ok((right, pairs))
}
