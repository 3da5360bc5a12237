//! Attention on the CPU device. Equations: `reference/attention.rs`.

use fearless_simd::prelude::*;

use super::functions::apply;
use super::simd::{Wide, lanes};
use super::threads::{share, worth};
use crate::network::{Activation, AttentionScore};
use crate::reference::{AttentionInputs, AttentionRun};

/// Multiplications that take as long as a hyperbolic tangent, roughly.
const WORK_OF_TANH: usize = 10;

/// The output `[T, B, V]`.
pub(super) fn attention<S: Wide>(
    simd: S,
    threads: usize,
    run: &AttentionRun<'_>,
    inputs: &AttentionInputs<'_, f32>,
    output: &mut Vec<f32>,
) {
    let steps = run.steps(inputs.keys.len() / run.embed_dim);
    let rows = inputs.queries.len() / run.embed_dim;
    output.clear();
    output.resize(rows * run.value_dim, 0.0);
    let of_score = match run.attention.score {
        AttentionScore::Dot => 1,
        AttentionScore::Additive => WORK_OF_TANH,
    };
    let work = rows.saturating_mul(steps).saturating_mul(of_score * run.embed_dim + run.value_dim);
    let threads = threads.min(worth(work)).min(rows).max(1);
    let part = rows.div_ceil(threads);
    share(threads, output.chunks_mut(part * run.value_dim).enumerate(), |(index, output)| {
        let mut shares = vec![0.0; steps.next_multiple_of(lanes::<S>())];
        simd.vectorize(
            #[inline(always)]
            || {
                for (at, output) in output.chunks_exact_mut(run.value_dim).enumerate() {
                    row(simd, run, inputs, index * part + at, (&mut shares, steps), output);
                }
            },
        );
    });
}

/// The output of one query, which is 0 before; `shares` are at least `steps`, in whole vectors.
#[inline(always)]
fn row<S: Wide>(
    simd: S,
    run: &AttentionRun<'_>,
    inputs: &AttentionInputs<'_, f32>,
    query_row: usize,
    (shares, steps): (&mut [f32], usize),
    output: &mut [f32],
) {
    let batch_row = query_row % run.batch;
    let [of_key, of_value] = run.head_dims();
    let counting = || (0..steps).filter(|&step| run.counts(step, batch_row));
    if counting().next().is_none() {
        return;
    }
    let queries = inputs.queries[query_row * run.embed_dim..][..run.embed_dim].chunks_exact(of_key);
    for (head, (query, output)) in queries.zip(output.chunks_exact_mut(of_value)).enumerate() {
        shares.fill(f32::NEG_INFINITY);
        let mut highest = f32::NEG_INFINITY;
        for step in counting() {
            let key = &inputs.keys[run.place(step, batch_row, run.embed_dim) + head * of_key..][..of_key];
            let score = match run.attention.score {
                AttentionScore::Dot => dot(simd, query, key),
                AttentionScore::Additive => additive(simd, query, key, &inputs.weight[head * of_key..][..of_key]),
            };
            shares[step] = score * run.attention.scale;
            highest = highest.max(shares[step]);
        }
        for shares in shares.chunks_exact_mut(lanes::<S>()) {
            let distance = S::f32s::from_slice(simd, shares) - S::f32s::splat(simd, highest);
            apply(simd, Activation::Exp, distance).store_slice(shares);
        }
        let mut sum = 0.0;
        counting().for_each(|step| sum += shares[step]);
        for step in counting() {
            let value = &inputs.values[run.place(step, batch_row, run.value_dim) + head * of_value..][..of_value];
            add_scaled(simd, shares[step] / sum, value, output);
        }
    }
}

#[inline(always)]
fn dot<S: Wide>(simd: S, x: &[f32], y: &[f32]) -> f32 {
    let width = lanes::<S>();
    let vector = |numbers: &[f32]| S::f32s::from_slice(simd, numbers);
    let mut sums = [S::f32s::splat(simd, 0.0); 2];
    let (x_pairs, y_pairs) = (x.chunks_exact(2 * width), y.chunks_exact(2 * width));
    let (x_rest, y_rest) = (x_pairs.remainder(), y_pairs.remainder());
    for (x, y) in x_pairs.zip(y_pairs) {
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum = vector(&x[at * width..][..width]).mul_add(vector(&y[at * width..][..width]), *sum);
        }
    }
    let mut rest = 0.0;
    x_rest.iter().zip(y_rest).for_each(|(x, y)| rest += x * y);
    (sums[0] + sums[1]).as_slice().iter().sum::<f32>() + rest
}

/// `w·tanh(q + k)`
#[inline(always)]
fn additive<S: Wide>(simd: S, query: &[f32], key: &[f32], weight: &[f32]) -> f32 {
    let width = lanes::<S>();
    // The last numbers are filled up with 0, whose hyperbolic tangent is 0.
    let vector = |numbers: &[f32]| {
        if numbers.len() == width {
            return S::f32s::from_slice(simd, numbers);
        }
        let mut filled = [0.0; 16];
        filled[..numbers.len()].copy_from_slice(numbers);
        S::f32s::from_slice(simd, &filled[..width])
    };
    let mut sum = S::f32s::splat(simd, 0.0);
    for ((query, key), weight) in query.chunks(width).zip(key.chunks(width)).zip(weight.chunks(width)) {
        sum = apply(simd, Activation::Tanh, vector(query) + vector(key)).mul_add(vector(weight), sum);
    }
    sum.as_slice().iter().sum()
}

#[inline(always)]
fn add_scaled<S: Wide>(simd: S, scale: f32, x: &[f32], to: &mut [f32]) {
    let width = lanes::<S>();
    let (vectors, mut to_vectors) = (x.chunks_exact(width), to.chunks_exact_mut(width));
    let rest = vectors.remainder();
    for (x, to) in vectors.zip(to_vectors.by_ref()) {
        let sum = S::f32s::splat(simd, scale).mul_add(S::f32s::from_slice(simd, x), S::f32s::from_slice(simd, to));
        sum.store_slice(to);
    }
    to_vectors.into_remainder().iter_mut().zip(rest).for_each(|(to, &x)| *to += scale * x);
}
