//! Metrics: measures of a network's outputs other than the loss.
//!
//! A row of weight 0 does not count; other weights do not matter to counts.

use super::loss::class;
use super::{Counts, Real};
use crate::base::error::{Error, Result};

/// Rows of logits `[M, C]` whose label is among the `k` highest; of equal logits the lower class comes first. Accuracy is
/// `k = 1`.
///
/// # Errors
/// [`Error::LabelOutOfRange`] for a label that is no class, [`Error::Shape`] for another number of labels or weights.
pub fn top_k<F: Real>(
    output: &[F],
    classes: usize,
    labels: &[u32],
    k: usize,
    sample_weights: Option<&[F]>,
) -> Result<Counts> {
    let mut counts = Counts::default();
    for_labels(output, classes, labels, sample_weights, |row, label| {
        let before = |class: &usize| row[*class] > row[label] || (row[*class] == row[label] && *class < label);
        let finite = !row[label].to_f64().is_nan();
        counts.add(finite && (0..classes).filter(before).count() < k);
    })?;
    Ok(counts)
}

/// The class of the highest logit, of equals the first; NaN is no number, and a row of NaN alone has no class.
pub(super) fn most_probable<F: Real>(row: &[F]) -> Option<usize> {
    let numbers = row.iter().enumerate().filter(|(_, x)| !x.to_f64().is_nan());
    numbers.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(class, _)| class)
}

/// How often a row of `label` has the highest logit `class`: `[C, C]`, one line for each label. NaN is below all numbers; a
/// row of NaN alone does not count.
///
/// # Errors
/// As [`top_k`].
pub fn confusion<F: Real>(
    output: &[F],
    classes: usize,
    labels: &[u32],
    sample_weights: Option<&[F]>,
) -> Result<Vec<u32>> {
    let mut counts = vec![0; classes * classes];
    for_labels(output, classes, labels, sample_weights, |row, label| {
        if let Some(class) = most_probable(row) {
            counts[label * classes + class] += 1;
        }
    })?;
    Ok(counts)
}

/// How well one class is distinguished from the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScore {
    /// Share of this class's answers that are right; 0 where there is none.
    pub precision: f64,
    /// Share of this class's rows that are found; 0 where there is none.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// The scores of every class from a confusion matrix `[C, C]`.
#[must_use]
pub fn class_scores(confusion: &[u32], classes: usize) -> Vec<ClassScore> {
    let ratio = |part: u64, of: u64| Counts { correct: part, counted: of }.share();
    let scores = (0..classes).map(|class| {
        let right = u64::from(confusion[class * classes + class]);
        let labelled: u64 = confusion[class * classes..][..classes].iter().copied().map(u64::from).sum();
        let answered: u64 = confusion.iter().skip(class).step_by(classes).copied().map(u64::from).sum();
        let f1 = ratio(2 * right, labelled + answered);
        ClassScore { precision: ratio(right, answered), recall: ratio(right, labelled), f1 }
    });
    scores.collect()
}

/// The mean of `|output - targets|` `[M, width]` over the rows that count.
///
/// # Errors
/// [`Error::Shape`] for another number of targets or weights.
pub fn mean_absolute_error<F: Real>(
    output: &[F],
    width: usize,
    targets: &[F],
    sample_weights: Option<&[F]>,
) -> Result<F> {
    fits("targets", output.len(), targets.len())?;
    fits("sample_weights", output.len() / width, sample_weights.map_or(output.len() / width, <[F]>::len))?;
    let (mut sum, mut counted) = (F::default(), 0);
    for (row, (z, y)) in output.chunks_exact(width).zip(targets.chunks_exact(width)).enumerate() {
        if sample_weights.is_none_or(|weights| weights[row] != F::default()) {
            z.iter().zip(y).for_each(|(&z, &y)| sum += (z - y).abs());
            counted += width;
        }
    }
    Ok(if counted == 0 { sum } else { sum / F::count(counted) })
}

/// `exp` of a mean cross-entropy: among how many equally likely tokens a network chooses.
pub fn perplexity<F: Real>(cross_entropy: F) -> F {
    cross_entropy.exp()
}

fn fits(what: &str, expected: usize, got: usize) -> Result<()> {
    match expected == got {
        true => Ok(()),
        false => Err(Error::shape(what, expected.to_string(), got.to_string())),
    }
}

fn for_labels<F: Real>(
    output: &[F],
    classes: usize,
    labels: &[u32],
    sample_weights: Option<&[F]>,
    mut each: impl FnMut(&[F], usize),
) -> Result<()> {
    let rows = output.len() / classes;
    fits("labels", rows, labels.len())?;
    fits("sample_weights", rows, sample_weights.map_or(rows, <[F]>::len))?;
    for (row, z) in output.chunks_exact(classes).enumerate() {
        if sample_weights.is_none_or(|weights| weights[row] != F::default()) {
            each(z, class(labels, row, row, classes)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: [f64; 12] = [1.0, 3.0, 2.0, 0.5, 0.5, 0.1, 2.0, 1.0, 3.0, 0.0, 1.0, 0.0];
    const LABELS: [u32; 4] = [1, 1, 0, 2];

    #[test]
    fn the_highest_k_are_counted() {
        let of = |k| top_k(&OUTPUT, 3, &LABELS, k, None).expect("counts");
        assert_eq!(of(1), Counts { correct: 1, counted: 4 });
        assert_eq!(of(2), Counts { correct: 3, counted: 4 });
        assert_eq!(of(3).share(), 1.0);
        let masked = top_k(&OUTPUT, 3, &[1, 9, 0, 2], 1, Some(&[1.0, 0.0, 1.0, 0.0])).expect("counts");
        assert_eq!(masked, Counts { correct: 1, counted: 2 });
        let error = top_k(&OUTPUT, 3, &[1, 1, 3, 2], 1, None).expect_err("there is no class 3");
        assert_eq!(error.to_string(), "label 3 at row 2: expected a class below 3");
        let nan = [f64::NAN, 1.0, 2.0, f64::NAN, f64::NAN, f64::NAN];
        assert_eq!(confusion(&nan, 3, &[0, 1], None).expect("counts"), [0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let nan = top_k(&[f64::NAN, f64::NAN], 2, &[0], 1, None).expect("counts");
        assert_eq!(nan.correct, 0);
    }

    #[test]
    fn classes_are_confused() {
        let counts = confusion(&OUTPUT, 3, &LABELS, None).expect("counts");
        assert_eq!(counts, [0, 0, 1, 1, 1, 0, 0, 1, 0]);
        let scores = class_scores(&counts, 3);
        assert_eq!(scores[0], ClassScore { precision: 0.0, recall: 0.0, f1: 0.0 });
        assert_eq!(scores[1], ClassScore { precision: 0.5, recall: 0.5, f1: 0.5 });
        assert_eq!(class_scores(&[0; 4], 2)[1], ClassScore { precision: 0.0, recall: 0.0, f1: 0.0 });
    }

    #[test]
    fn numbers_are_compared() {
        let error = mean_absolute_error(&[1.0, 2.0, 3.0, 9.0], 2, &[0.0, 4.0, 0.0, 0.0], Some(&[1.0, 0.0]));
        assert_eq!(error.expect("a mean"), 1.5);
        assert!(mean_absolute_error(&[1.0, 2.0], 2, &[0.0], None).is_err());
        assert!((perplexity(8.0f64.ln()) - 8.0).abs() < 1e-12);
    }
}
