//! Confusion matrix.

use serde::Serialize;

use crate::table::{Table, bold, left, right};
use crate::units::grouped;

/// Predictions compared with the correct labels.
#[derive(Debug, Serialize)]
pub struct Confusion {
    /// Texts, or other examples.
    total: usize,
    /// Those whose label was predicted.
    correct: usize,
    accuracy: f64,
    labels: Vec<String>,
    /// Row: the correct label; column: the predicted one.
    matrix: Vec<Vec<usize>>,
}

impl Confusion {
    /// Counts pairs of correct and predicted label.
    pub fn new(labels: &[String], pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut matrix = vec![vec![0; labels.len()]; labels.len()];
        let (mut total, mut correct) = (0, 0);
        for (expected, predicted) in pairs {
            matrix[expected][predicted] += 1;
            total += 1;
            correct += usize::from(expected == predicted);
        }
        #[expect(clippy::cast_precision_loss, reason = "a share need not be exact")]
        let accuracy = correct as f64 / total.max(1) as f64;
        Self { total, correct, accuracy, labels: labels.to_vec(), matrix }
    }
}

impl std::fmt::Display for Confusion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (correct, total) = (grouped(self.correct), grouped(self.total));
        writeln!(f, "accuracy {} ({correct} of {total})\n", bold(&format!("{:.1} %", 100.0 * self.accuracy)))?;
        let predicted = self.labels.iter().map(|label| right(&format!("predicted {label}")));
        let mut table = Table::new([left("")].into_iter().chain(predicted));
        for (label, row) in self.labels.iter().zip(&self.matrix) {
            table.row([label.clone()].into_iter().chain(row.iter().map(|&n| grouped(n))));
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_the_right_labels() {
        let labels = ["no".to_owned(), "yes".to_owned()];
        let confusion = Confusion::new(&labels, [(0, 0), (0, 1), (1, 1), (1, 1)]);
        assert_eq!(confusion.matrix, [[1, 1], [0, 2]]);
        assert_eq!((confusion.correct, confusion.total), (3, 4));
        assert!((confusion.accuracy - 0.75).abs() < 1e-12);
    }
}
