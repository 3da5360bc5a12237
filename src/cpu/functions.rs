//! Vectorised activations.
//!
//! | function | error over all f32 |
//! |---|---|
//! | exp | 2e-7 relative between -87 and 88; arguments beyond are clamped |
//! | ln | 1.5e-7 absolute and relative, of positive normal numbers |
//! | sigmoid | 1.2e-7 absolute |
//! | tanh | 2.4e-7 relative |
//! | sigmoid · tanh | 3e-7 absolute |
//!
//! The usual argument reduction: `exp` is a power of two times a polynomial on ±ln2/2 (Cody & Waite 1980, coefficients of
//! Cephes, Moshier 1992), the others through it.

use fearless_simd::prelude::*;

use super::simd::{Wide, lanes};
use crate::network::Activation;
use crate::reference::activate;

#[inline(always)]
fn splat<S: Wide>(simd: S, x: f32) -> S::f32s {
    S::f32s::splat(simd, x)
}

/// `a x + b`
#[inline(always)]
fn line<S: Wide>(simd: S, a: f32, x: S::f32s, b: f32) -> S::f32s {
    x.mul_add(splat(simd, a), splat(simd, b))
}

/// `e^x` as two numbers, a power of two and a small one: `e^x = s + s p` and `e^x - 1 = (s - 1) + s p`, the
/// latter with a small relative error near 0 too. `x` is held between -87 and `top`.
#[inline(always)]
fn exp_parts<S: Wide>(simd: S, x: S::f32s, top: f32) -> [S::f32s; 2] {
    // Added, it leaves the nearest integer in the lowest bits, with the bias of an exponent.
    const ROUND: f32 = 12_582_912.0 + 127.0; // 1.5 * 2^23
    let x = clamp(simd, x, -87.336_54, top);
    let n = x.mul_add(splat(simd, std::f32::consts::LOG2_E), splat(simd, ROUND));
    let scale = (n.bitcast::<S::u32s>() << 23).bitcast::<S::f32s>();
    let n = n - ROUND;
    // ln2 in two parts, of which the first times n is exact.
    let r = n.mul_add(splat(simd, -0.693_359_4), x);
    let r = n.mul_add(splat(simd, 2.121_944_4e-4), r);
    // In pairs, because these depend on each other less than single terms.
    let square = r * r;
    let p = line(simd, 1.987_569_1e-4, r, 1.398_199_9e-3);
    let p = p.mul_add(square, line(simd, 8.333_452e-3, r, 4.166_579_6e-2));
    let p = p.mul_add(square, line(simd, 0.166_666_66, r, 0.5));
    [scale, p.mul_add(square, r)]
}

/// e to the power of `x`.
#[inline(always)]
pub(super) fn exp<S: Wide>(simd: S, x: S::f32s) -> S::f32s {
    let [scale, p] = exp_parts(simd, x, 88.376_26);
    p.mul_add(scale, scale)
}

/// Natural logarithm of a positive normal number.
#[inline(always)]
pub(super) fn ln<S: Wide>(simd: S, x: S::f32s) -> S::f32s {
    // x = 2^e m with m from sqrt(1/2) to sqrt(2): the exponent counts from that of sqrt(1/2).
    const ROOT_HALF: u32 = 0x3f35_04f3;
    let distance = x.bitcast::<S::u32s>() - ROOT_HALF;
    // The exponent as a number: the bits of 2^23 + 256 + e, of which that is taken away.
    let shifted = (distance + 0x8000_0000u32) >> 23;
    let exponent = (shifted | 0x4b00_0000u32).bitcast::<S::f32s>() - (8_388_608.0 + 256.0);
    let m = ((distance & 0x007f_ffffu32) + ROOT_HALF).bitcast::<S::f32s>();
    let r = m - 1.0;
    let square = r * r;
    let p = line(simd, 7.037_683_6e-2, r, -0.115_146_1);
    let p = p.mul_add(r, splat(simd, 0.116_769_99));
    let p = p.mul_add(r, splat(simd, -0.124_201_41));
    let p = p.mul_add(r, splat(simd, 0.142_493_23));
    let p = p.mul_add(r, splat(simd, -0.166_680_57));
    let p = p.mul_add(r, splat(simd, 0.200_007_15));
    let p = p.mul_add(r, splat(simd, -0.249_999_94));
    let p = p.mul_add(r, splat(simd, 0.333_333_3));
    let p = p * r * square;
    let p = exponent.mul_add(splat(simd, -2.121_944_4e-4), p);
    let p = square.mul_add(splat(simd, -0.5), p);
    exponent.mul_add(splat(simd, 0.693_359_4), r + p)
}

/// `exp(2x) - 1`, up to e^40: compared to it 1 is negligible.
#[inline(always)]
fn exp_2_m1<S: Wide>(simd: S, x: S::f32s) -> S::f32s {
    let [scale, p] = exp_parts(simd, x + x, 40.0);
    p.mul_add(scale, scale - 1.0)
}

/// `1 / (1 + exp(-x))`
#[inline(always)]
pub(super) fn sigmoid<S: Wide>(simd: S, x: S::f32s) -> S::f32s {
    S::f32s::splat(simd, 1.0) / (exp(simd, -x) + 1.0)
}

/// Hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh<S: Wide>(simd: S, x: S::f32s) -> S::f32s {
    let m = exp_2_m1(simd, x);
    m / (m + 2.0)
}

/// `sigmoid(x) tanh(y)`, with one division.
#[inline(always)]
pub(super) fn sigmoid_tanh<S: Wide>(simd: S, x: S::f32s, y: S::f32s) -> S::f32s {
    let m = exp_2_m1(simd, y);
    // Where the divisor overflows, the product is below all other errors: 0.
    m / ((exp(simd, -x) + 1.0) * (m + 2.0))
}

/// `x` within bounds; NaN stays NaN.
#[inline(always)]
pub(super) fn clamp<S: Wide>(simd: S, x: S::f32s, low: f32, high: f32) -> S::f32s {
    let (low, high) = (S::f32s::splat(simd, low), S::f32s::splat(simd, high));
    if S::KEEPS_NAN {
        return high.min(low.max(x));
    }
    let x = x.simd_lt(low).select(low, x);
    x.simd_gt(high).select(high, x)
}

/// Any of the elementwise functions; the rare ones are computed one number at a time.
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
        Activation::LinearSigmoid => x.simd_lt(zero).select(sigmoid(simd, x), x + 0.5),
        Activation::Reciprocal => S::f32s::splat(simd, 1.0) / x,
        Activation::Square => x * x,
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
    use crate::base::Real;

    /// A function, its exact version in f64, and the largest error: absolute, relative.
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

    fn logarithms<S: Wide>(simd: S, numbers: &[f32], results: &mut [f32]) {
        for (from, to) in numbers.chunks_exact(lanes::<S>()).zip(results.chunks_exact_mut(lanes::<S>())) {
            ln(simd, S::f32s::from_slice(simd, from)).store_slice(to);
        }
    }

    #[test]
    fn logarithms_are_within_their_bound() {
        let positive = f32::MIN_POSITIVE.to_bits()..f32::MAX.to_bits();
        let near_one = 0x3f70_0000..0x3f90_0000u32;
        let mut numbers: Vec<f32> = positive.step_by(4099).chain(near_one.step_by(7)).map(f32::from_bits).collect();
        numbers.truncate(numbers.len() / 16 * 16);
        let mut results = vec![0.0; numbers.len()];
        for token in Token::available() {
            on!(token, simd => logarithms(simd, &numbers, &mut results));
            let errors = numbers.iter().zip(&results).map(|(&x, &y)| {
                let expected = f64::from(x).ln();
                (f64::from(y) - expected).abs() / (1.5e-7 * expected.abs().max(1.0))
            });
            let worst = errors.fold(0.0, f64::max);
            eprintln!("{token:?}: ln reaches {worst:.2} of its bound");
            assert!(worst <= 1.0, "{token:?}: {worst}");
            // Negative control.
            results[0] += 1e-4;
            assert!((f64::from(results[0]) - f64::from(numbers[0]).ln()).abs() > 5e-5);
        }
    }

    fn gated<S: Wide>(simd: S, x: &[f32], y: &[f32], results: &mut [f32]) {
        let lanes = lanes::<S>();
        for ((x, y), to) in x.chunks_exact(lanes).zip(y.chunks_exact(lanes)).zip(results.chunks_exact_mut(lanes)) {
            let (x, y) = (S::f32s::from_slice(simd, x), S::f32s::from_slice(simd, y));
            sigmoid_tanh(simd, x, y).store_slice(to);
        }
    }

    #[test]
    fn the_product_is_within_its_bound() {
        let ends = [f32::INFINITY, f32::MAX, 1e30, 100.0, 88.5, 40.0, 1e-20, f32::MIN_POSITIVE, 0.0];
        let ends = ends.into_iter().flat_map(|x| [x, -x]).chain([f32::NAN]);
        let numbers: Vec<f32> = ends.chain((-600..600).map(|x| x as f32 / 37.0)).collect();
        let mut pairs: Vec<(f32, f32)> = numbers.iter().flat_map(|&x| numbers.iter().map(move |&y| (x, y))).collect();
        pairs.resize(pairs.len().next_multiple_of(16), (0.5, 0.5));
        let (x, y): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let mut results = vec![0.0; x.len()];
        for token in Token::available() {
            on!(token, simd => gated(simd, &x, &y, &mut results));
            let mut worst = 0.0f64;
            for ((&x, &y), &result) in x.iter().zip(&y).zip(&results) {
                let expected = crate::reference::sigmoid::<f64>(x.into()) * f64::from(y).tanh();
                assert_eq!(expected.is_nan(), result.is_nan(), "sigmoid({x}) tanh({y}) = {result}");
                worst = worst.max((f64::from(result) - expected).abs());
            }
            eprintln!("{token:?}: sigmoid tanh is off by {worst:e}");
            assert!(worst <= 3e-7, "{token:?}: off by {worst:e}");
        }
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
                    let infinite = expected.is_infinite() && f64::from(y).total_cmp(&expected).is_eq();
                    let same = infinite || expected.is_nan() && y.is_nan();
                    assert!(
                        same || (f64::from(y) - expected).abs() <= 4e-7 * (1.0 + expected.abs()),
                        "{activation:?}({x}) = {y}"
                    );
                }
            }
        }
    }
}
