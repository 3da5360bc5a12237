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
    for coefficient in [2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1] {
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
