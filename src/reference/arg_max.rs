//! Reference implementation of `shaders/arg_max.wgsl`.

use super::{Real, best};

/// The place of the largest number of every row of `x` `[M, N]`; of equal ones, the first. A row with NaN has the place of its
/// first NaN, as in `PyTorch` and `NumPy`.
pub fn arg_max<F: Real>(x: &[F], features: usize) -> Vec<F> {
    #[expect(clippy::cast_precision_loss, reason = "widths are at most 2^24")]
    let number = |place: usize| F::from_f64(place as f64);
    let nan = |row: &[F]| row.iter().position(|x| x.to_f64().is_nan());
    x.chunks_exact(features).map(|row| number(nan(row).or_else(|| best(row, None)).unwrap_or(0))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_is_taken() {
        let rows: [f32; 12] = [1.0, 3.0, 3.0, -2.0, -2.0, -5.0, f32::NEG_INFINITY, f32::MIN, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(arg_max(&rows, 3), [1.0, 0.0, 2.0, 0.0]);
        assert_eq!(arg_max(&rows, 4), [1.0, 0.0, 0.0], "the control");
        assert_eq!(arg_max(&rows, 1), [0.0; 12]);
    }

    #[test]
    fn the_first_nan_is_the_largest() {
        let rows = [1.0, f32::NAN, f32::INFINITY, f32::NAN, f32::NAN, 2.0, f32::INFINITY, 3.0, -1.0];
        assert_eq!(arg_max(&rows, 3), [1.0, 0.0, 0.0]);
        assert_eq!(arg_max(&rows[..3], 1), [0.0; 3]);
    }
}
