//! Median and quartiles of a few times.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Median and spread, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of samples.
    pub count: usize,
    /// Fastest.
    pub min: f64,
    /// First quartile.
    pub lower: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub upper: f64,
}

impl Summary {
    /// `None` without samples. A quartile between two samples is interpolated.
    pub fn new(samples: &[Duration]) -> Option<Self> {
        let mut sorted: Vec<f64> = samples.iter().map(microseconds).collect();
        sorted.sort_by(f64::total_cmp);
        let min = *sorted.first()?;
        Some(Self {
            count: sorted.len(),
            min,
            lower: quantile(&sorted, 1),
            median: quantile(&sorted, 2),
            upper: quantile(&sorted, 3),
        })
    }
}

/// A time as a number.
pub fn microseconds(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Quartile `quarter` of sorted samples, at least one.
fn quantile(sorted: &[f64], quarter: usize) -> f64 {
    let position = (sorted.len() - 1) * quarter;
    let (below, rest) = (position / 4, position % 4);
    let above = (below + 1).min(sorted.len() - 1);
    let weight = [0.0, 0.25, 0.5, 0.75][rest];
    sorted[below] + weight * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(samples: &[u64]) -> Option<Summary> {
        Summary::new(&samples.iter().map(|&us| Duration::from_micros(us)).collect::<Vec<_>>())
    }

    #[test]
    fn quartiles_lie_between_samples() {
        let all = summary(&[4, 1, 3, 2]).expect("samples");
        assert_eq!((all.min, all.lower, all.median, all.upper), (1.0, 1.75, 2.5, 3.25));
        let odd = summary(&[5, 1, 3]).expect("samples");
        assert_eq!((odd.lower, odd.median, odd.upper), (2.0, 3.0, 4.0));
    }

    #[test]
    fn one_sample_is_everything_and_none_is_nothing() {
        let one = summary(&[7]).expect("a sample");
        assert_eq!((one.min, one.lower, one.median, one.upper), (7.0, 7.0, 7.0, 7.0));
        assert_eq!(summary(&[]), None);
    }
}
