//! Comparing numbers with the f64 reference: one comparator, one table of tolerances.

/// Allowed difference: `|got - expected| <= atol + rtol * |expected|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Absolute part.
    pub atol: f64,
    /// Part relative to the expected value.
    pub rtol: f64,
}

impl Tolerance {
    /// The table: f32 arithmetic on any device, after T `steps` of recurrence.
    ///
    /// Rounding errors feed back through the state, so the bound grows with T, but no faster
    /// than its square root in a network that forgets.
    #[must_use]
    pub fn f32(steps: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a bound need not be exact")]
        let growth = (steps as f64 / 64.0).sqrt().max(1.0);
        Self { atol: 2e-6 * growth, rtol: 1e-5 }
    }

    /// The table: products in f16, sums in f32, after T `steps` of recurrence. A product of two
    /// numbers rounded to 11 bits is off by up to 2^-10 of itself.
    #[must_use]
    pub fn f16(steps: usize) -> Self {
        let Self { atol, rtol } = Self::f32(steps);
        Self { atol: atol * 500.0, rtol: rtol * 100.0 }
    }

    /// The table: products on matrix units after T `steps` of recurrence, against a reference that rounds the same
    /// factors. What a device computes differs from the reference as in f32, but a state may then be rounded to the
    /// other neighbour in f16, 2^-11 of itself away.
    #[must_use]
    pub fn matrix(steps: usize) -> Self {
        let Self { atol, rtol } = Self::f32(steps);
        Self { atol: atol * 100.0, rtol: rtol * 20.0 }
    }
}

/// The f32 reference shows the error of f32 arithmetic: a device's largest error on a tensor may be this many times that
/// of the f32 reference on the same tensor.
pub const REFERENCE_TIMES: f64 = 8.0;

/// As [`REFERENCE_TIMES`], for the mean errors.
pub const REFERENCE_TIMES_MEAN: f64 = 4.0;

/// An f32 reference that is off by more than this share of a tensor's largest number is not used to judge a device.
pub const REFERENCE_SHARE: f64 = 1e-3;

/// The differences between numbers and their expected values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Largest difference; NaN if any number is NaN.
    pub max_error: f64,
    /// Mean difference.
    pub mean_error: f64,
    /// Index of the element that uses up most of its tolerance.
    pub worst: usize,
    /// Share of its tolerance that element uses; up to 1 passes.
    pub used: f64,
    /// Whether every element is within tolerance.
    pub passed: bool,
}

/// Compares `got` with `expected`. NaN never passes, on either side, nor does a difference in
/// length; an infinity passes only where the same one is expected.
#[must_use]
pub fn compare(got: &[f32], expected: &[f64], tolerance: Tolerance) -> Comparison {
    compared(got, expected, tolerance, false)
}

/// As [`compare`], for inputs that may hold NaN: where NaN is expected, NaN passes and nothing else does.
#[must_use]
pub fn compare_with_nan(got: &[f32], expected: &[f64], tolerance: Tolerance) -> Comparison {
    compared(got, expected, tolerance, true)
}

fn compared(got: &[f32], expected: &[f64], tolerance: Tolerance, nan_is_a_number: bool) -> Comparison {
    let mut result = Comparison {
        max_error: 0.0,
        mean_error: 0.0,
        worst: 0,
        used: 0.0,
        passed: got.len() == expected.len() && !got.is_empty(),
    };
    let mut sum = 0.0;
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let got = f64::from(got);
        #[expect(clippy::float_cmp, reason = "equal infinities have no difference")]
        let same = got == expected || nan_is_a_number && got.is_nan() && expected.is_nan();
        let error = if same { 0.0 } else { (got - expected).abs() };
        let allowed = tolerance.atol + tolerance.rtol * expected.abs();
        // With an infinite expected value the tolerance would be infinite.
        let used = if error == 0.0 {
            0.0
        } else if allowed.is_finite() {
            error / allowed
        } else {
            f64::INFINITY
        };
        sum += error;
        if error > result.max_error || error.is_nan() {
            result.max_error = if result.max_error.is_nan() { f64::NAN } else { error };
        }
        if (used > result.used || used.is_nan()) && !result.used.is_nan() {
            (result.used, result.worst) = (used, index);
        }
        if used.is_nan() || used > 1.0 {
            result.passed = false;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a mean need not be exact")]
    let count = got.len().min(expected.len()).max(1) as f64;
    result.mean_error = sum / count;
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: Tolerance = Tolerance { atol: 1e-6, rtol: 1e-5 };

    fn passes(got: f32, expected: f64) -> bool {
        compare(&[got], &[expected], TIGHT).passed
    }

    #[test]
    fn only_nan_passes_where_nan_is_expected() {
        let passes = |got, expected| compare_with_nan(&[got], &[expected], TIGHT).passed;
        assert!(passes(f32::NAN, f64::NAN) && passes(1.0, 1.0));
        assert!(!passes(f32::NAN, 1.0) && !passes(1.0, f64::NAN) && !passes(f32::INFINITY, f64::NAN));
        assert!(!compare(&[f32::NAN], &[f64::NAN], TIGHT).passed);
    }

    #[test]
    fn zero_gets_no_relative_slack() {
        assert!(passes(0.0, 0.0) && passes(-0.0, 0.0) && passes(9e-7, 0.0));
        assert!(!passes(2e-6, 0.0));
    }

    #[test]
    fn nan_never_passes() {
        assert!(!passes(f32::NAN, 0.0) && !passes(0.0, f64::NAN) && !passes(f32::NAN, f64::NAN));
        let among_others = compare(&[1.0, f32::NAN, 2.0], &[1.0, 1.0, 2.0], TIGHT);
        assert!(!among_others.passed && among_others.max_error.is_nan() && among_others.mean_error.is_nan());
        assert_eq!(among_others.worst, 1);
    }

    #[test]
    fn infinity_passes_only_as_itself() {
        assert!(passes(f32::INFINITY, f64::INFINITY));
        assert!(
            !passes(f32::INFINITY, f64::NEG_INFINITY)
                && !passes(0.0, f64::INFINITY)
                && !passes(f32::MAX, f64::INFINITY)
        );
        assert!(!passes(f32::INFINITY, 1.0));
    }

    #[test]
    fn lengths_must_agree_and_nothing_is_no_proof() {
        assert!(!compare(&[1.0], &[1.0, 1.0], TIGHT).passed);
        assert!(!compare(&[], &[], TIGHT).passed);
    }

    #[test]
    fn the_worst_element_is_named() {
        let result = compare(&[1.0, 1.1, 1.0], &[1.0, 1.0, 1.0 + 1e-9], TIGHT);
        assert_eq!((result.worst, result.passed), (1, false));
        assert!((result.max_error - 0.1).abs() < 1e-6);
        assert!((result.mean_error - 0.1 / 3.0).abs() < 1e-6);
    }
}
