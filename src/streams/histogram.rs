//! How often values fell into fixed ranges.

/// Counts of values in ranges, as monitoring systems such as Prometheus read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Upper ends of ranges for times in seconds, from 0.1 ms to 10 s.
    pub const SECONDS: &'static [f64] =
        &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    /// Upper ends of ranges for sizes of batches: powers of two up to 4096.
    pub const BATCHES: &'static [f64] =
        &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

    /// Without values. `bounds` are the upper ends of the ranges, in ascending order; a further range has no upper end.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a value, in the first range whose upper end is not below it.
    pub fn add(&mut self, value: f64) {
        let range = self.bounds.partition_point(|&bound| bound < value);
        self.counts[range] += 1;
        self.sum += value;
    }

    /// Upper ends of the ranges; the last range has none.
    #[must_use]
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// How many values each range has, one more than there are bounds.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_the_range_below_it() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        [0.0, 1.0, 1.5, 2.0, 2.1].into_iter().for_each(|value| histogram.add(value));
        assert_eq!((histogram.counts(), histogram.count()), (&[2, 2, 1][..], 5));
        assert!((histogram.sum() - 6.6).abs() < 1e-12);
    }
}
