//! Vectorised activations.
//!
//! | function | error over all f32 |
//! |---|---|
//! | exp | 2e-7 relative between -87 and 88, beyond held at the ends |
//! | sigmoid | 1.2e-7 absolute |
//! | tanh | 2.4e-7 relative |
//!
//! The usual reductions: `exp` as a power of two and a polynomial on
//! ±ln2/2 (Cody & Waite 1980), `tanh` as an odd polynomial near 0 and through `exp` beyond
//! (coefficients of Cephes, Moshier 1992).

use fearless_simd::prelude::*;

use super::simd::{Wide, lanes};
use crate::network::Activation;
use crate::reference::activate;

#[inline(always)]
fn splat<S: Wide>(simd: S, x: f32) -> S::f32s {
    S::f32s::splat(simd, x)
}

/// e to the power of `x`.
#[inline(always)]
pub(super) fn exp<S: Wide>(simd: S, x: S::f32s) -> S::f32s {
    // Comparisons, not minima and maxima: NaN must stay NaN.
    let x = clamp(simd, x, -87.336_54, 88.376_26);
    let n = (x * std::f32::consts::LOG2_E).round_ties_even();
    // ln2 in two parts, of which the first times n is exact.
    let r = n.mul_add(splat(simd, -0.693_359_4), x);
    let r = n.mul_add(splat(simd, 2.121_944_4e-4), r);
    let mut p = splat(simd, 1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_66, 0.5] {
        p = p.mul_add(r, splat(simd, coefficient));
    }
    let p = p.mul_add(r * r, r + 1.0);
    let exponent: S::i32s = n.to_int();
    p * ((exponent + 127) << 23).bitcast::<S::f32s>()
}

/// `1 / (1 + exp(-x))`
#[inline(always)]
pub(super) fn sigmoid<S: Wide>(simd: S, x: S::f32s) -> S::f32s {
    S::f32s::splat(simd, 1.0) / (exp(simd, -x) + 1.0)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh<S: Wide>(simd: S, x: S::f32s) -> S::f32s {
    let square = x * x;
    let mut p = splat(simd, -5.704_988_7e-3);
    for coefficient in [2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -0.333_332_8] {
        p = p.mul_add(square, splat(simd, coefficient));
    }
    let near = (p * square).mul_add(x, x);
    let magnitude = x.abs();
    let far = splat(simd, 1.0) - splat(simd, 2.0) / (exp(simd, magnitude + magnitude) + 1.0);
    magnitude.simd_lt(splat(simd, 0.625)).select(near, far.copysign(x))
}

/// `x` within bounds; NaN stays NaN.
#[inline(always)]
pub(super) fn clamp<S: Wide>(simd: S, x: S::f32s, low: f32, high: f32) -> S::f32s {
    let (low, high) = (S::f32s::splat(simd, low), S::f32s::splat(simd, high));
    let x = x.simd_lt(low).select(low, x);
    x.simd_gt(high).select(high, x)
}

/// Any of the elementwise functions; the rare ones number by number.
#[inline(always)]
pub(super) fn apply<S: Wide>(simd: S, activation: Activation, x: S::f32s) -> S::f32s {
    let zero = S::f32s::splat(simd, 0.0);
    match activation {
        Activation::Linear => x,
        Activation::Sigmoid => sigmoid(simd, x),
        Activation::Tanh => tanh(simd, x),
        Activation::Relu => x.simd_lt(zero).select(zero, x),
        Activation::LeakyRelu { alpha } => x.simd_lt(zero).select(x * alpha, x),
        Activation::HardSigmoid { alpha, beta } => clamp(simd, x * alpha + beta, 0.0, 1.0),
        Activation::Clip { alpha, beta } => clamp(simd, x, alpha, beta),
        _ => one_by_one(simd, activation, x),
    }
}

// Not inlined: the scalar functions are large, and no target features help them.
#[inline(never)]
fn one_by_one<S: Wide>(simd: S, activation: Activation, x: S::f32s) -> S::f32s {
    let numbers = x.as_slice();
    debug_assert_eq!(numbers.len(), lanes::<S>());
    S::f32s::from_fn(simd, |lane| activate(activation, numbers[lane]))
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Token, on};
    use super::*;
    use crate::reference::Real;

    /// A function, its exact twin, and the largest error: absolute, relative.
    type Case = (&'static str, Option<Activation>, fn(f64) -> f64, [f64; 2]);

    const CASES: [Case; 3] = [
        ("exp", None, |x| x.clamp((-87.336_54f32).into(), 88.376_26f32.into()).exp(), [0.0, 2e-7]),
        ("sigmoid", Some(Activation::Sigmoid), crate::reference::sigmoid::<f64>, [1.2e-7, 0.0]),
        ("tanh", Some(Activation::Tanh), f64::tanh, [0.0, 2.4e-7]),
    ];

    fn all<S: Wide>(simd: S, activation: Option<Activation>, numbers: &[f32], results: &mut [f32]) {
        simd.vectorize(
            #[inline(always)]
            || {
                for (from, to) in numbers.chunks_exact(lanes::<S>()).zip(results.chunks_exact_mut(lanes::<S>())) {
                    let x = S::f32s::from_slice(simd, from);
                    let y = match activation {
                        Some(activation) => apply(simd, activation, x),
                        None => exp(simd, x),
                    };
                    y.store_slice(to);
                }
            },
        );
    }

    /// The worst share of the bounds, and where, over the given bit patterns, a multiple of 16.
    fn worst(token: Token, numbers: &[f32], (_, activation, exact, [absolute, relative]): Case) -> (f64, f32) {
        let mut results = vec![0.0; numbers.len()];
        on!(token, simd => all(simd, activation, numbers, &mut results));
        let mut worst = (0.0, 0.0);
        for (&x, &y) in numbers.iter().zip(&results) {
            if x.is_nan() {
                assert!(y.is_nan(), "{activation:?} of NaN is {y}");
                continue;
            }
            let expected = exact(x.into());
            // Results below the normal numbers may be rounded to any of their neighbours.
            let bound = absolute + relative * expected.abs() + f64::from(f32::MIN_POSITIVE);
            let share = (f64::from(y) - expected).abs() / bound;
            if share.is_nan() || share > worst.0 {
                worst = (share, x);
            }
        }
        worst
    }

    /// Every `stride`th f32, in blocks.
    fn sweep(stride: usize) {
        for token in Token::available() {
            for case in CASES {
                let mut largest = (0.0, 0.0);
                let mut bits = (0..=u32::MAX).step_by(stride);
                loop {
                    let mut numbers: Vec<f32> = bits.by_ref().take(1 << 16).map(f32::from_bits).collect();
                    if numbers.is_empty() {
                        break;
                    }
                    numbers.resize(numbers.len().next_multiple_of(16), 0.5);
                    let found = worst(token, &numbers, case);
                    if found.0.is_nan() || found.0 > largest.0 {
                        largest = found;
                    }
                }
                eprintln!("{token:?}: {} reaches {:.2} of its bound at {:e}", case.0, largest.0, largest.1);
                assert!(
                    largest.0 <= 1.0,
                    "{token:?}: {} reaches {} of its bound at {:e}",
                    case.0,
                    largest.0,
                    largest.1
                );
            }
        }
    }

    #[test]
    fn errors_are_within_bounds() {
        sweep(4099);
    }

    #[test]
    #[ignore = "all of f32: minutes"]
    fn errors_are_within_bounds_everywhere() {
        sweep(1);
    }

    /// A bound that is too tight must be noticed.
    #[test]
    fn a_wrong_function_is_seen() {
        let numbers: Vec<f32> = (0..256).map(|x| x as f32 / 64.0 - 2.0).collect();
        let (name, activation, _, bounds) = CASES[2];
        let off = |x: f64| x.tanh() + 1e-6;
        assert!(worst(Token::best(), &numbers, (name, activation, off, bounds)).0 > 1.0);
    }

    #[test]
    fn every_function_is_the_references() {
        let numbers: Vec<f32> = (0..512).map(|x| x as f32 / 32.0 - 8.0).collect();
        for token in Token::available() {
            for activation in Activation::ALL {
                let mut results = vec![0.0; numbers.len()];
                on!(token, simd => all(simd, Some(activation), &numbers, &mut results));
                for (&x, &y) in numbers.iter().zip(&results) {
                    let expected = activate(activation, x.to_f64());
                    let same = expected.is_nan() && y.is_nan();
                    assert!(
                        same || (f64::from(y) - expected).abs() <= 4e-7 * (1.0 + expected.abs()),
                        "{activation:?}({x}) = {y}"
                    );
                }
            }
        }
    }
}
