//! What the steps of a memory do along its rows.

use fearless_simd::prelude::*;

use crate::cpu::functions::{apply, exp};
use crate::cpu::simd::{Wide, lanes};
use crate::network::Activation;

#[inline(always)]
pub(super) fn load<S: Wide>(simd: S, numbers: &[f32], at: usize) -> S::f32s {
    S::f32s::from_slice(simd, &numbers[at..at + lanes::<S>()])
}

#[inline(always)]
pub(super) fn splat<S: Wide>(simd: S, x: f32) -> S::f32s {
    S::f32s::splat(simd, x)
}

/// The places of whole vectors.
#[inline(always)]
pub(super) fn places<S: Wide>(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(lanes::<S>())
}

/// `Σ x y`, both in whole vectors.
#[inline(always)]
pub(super) fn dot<S: Wide>(simd: S, x: &[f32], y: &[f32]) -> f32 {
    let mut sum = splat(simd, 0.0);
    for at in places::<S>(x.len()) {
        sum = load(simd, x, at).mul_add(load(simd, y, at), sum);
    }
    sum.reduce_sum()
}

/// The softmax of `scale * x` over the first `count` numbers, in place; the others become 0.
#[inline(always)]
pub(super) fn softmax<S: Wide>(simd: S, scale: f32, x: &mut [f32], count: usize) {
    let scale = splat(simd, scale);
    x[count..].fill(f32::NEG_INFINITY);
    let mut highest = splat(simd, f32::NEG_INFINITY);
    for at in places::<S>(x.len()) {
        highest = highest.max(load(simd, x, at));
    }
    // The scale is not negative.
    let highest = splat(simd, highest.reduce_max());
    x[count..].fill(0.0);
    for at in places::<S>(x.len()) {
        let distance = (load(simd, x, at) - highest) * scale;
        exp(simd, distance).store_slice(&mut x[at..at + lanes::<S>()]);
    }
    x[count..].fill(0.0);
    let mut sum = splat(simd, 0.0);
    for at in places::<S>(x.len()) {
        sum += load(simd, x, at);
    }
    let factor = splat(simd, 1.0 / sum.reduce_sum());
    for at in places::<S>(x.len()) {
        (load(simd, x, at) * factor).store_slice(&mut x[at..at + lanes::<S>()]);
    }
}

/// A function of as many numbers as `to` has.
#[inline(always)]
pub(super) fn map<S: Wide>(simd: S, activation: Activation, from: &[f32], to: &mut [f32]) {
    for (from, to) in from.chunks(lanes::<S>()).zip(to.chunks_mut(lanes::<S>())) {
        let mut filled = [0.0; 16];
        filled[..from.len()].copy_from_slice(from);
        let y = apply(simd, activation, S::f32s::from_slice(simd, &filled[..lanes::<S>()]));
        to.copy_from_slice(&y.as_slice()[..to.len()]);
    }
}
