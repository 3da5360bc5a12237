//! The gradients of one timestep of the heads of one row. Equations: `reference/ntm_backward.rs`.

use fearless_simd::prelude::*;

use super::address::{COSINE_EPS, HeadControls, HeadScalars, record_parts, wrap};
use super::sizes::NtmSizes;
use super::vectors::{dot, load, places, splat};
use crate::cpu::functions::exp;
use crate::cpu::simd::{Wide, lanes};
use crate::network::Activation;
use crate::reference::sigmoid;

/// Memory of the gradients of the heads of a row.
#[derive(Debug, Default)]
pub(super) struct HeadScratch {
    /// Of the controls `[P]`.
    pub controls: Vec<f32>,
    /// Of the shifted weights of a head, with margins.
    wide: Vec<f32>,
    /// Twice `[N]`.
    rows: Vec<f32>,
}

impl HeadScratch {
    pub fn make_room(&mut self, sizes: &NtmSizes<'_>) {
        self.controls.resize(sizes.stage.control_size(), 0.0);
        self.wide.resize(sizes.wide_rows(), 0.0);
        self.rows.resize(2 * sizes.padded_rows, 0.0);
    }
}

/// The derivative of a key or of what is added, from its value.
#[inline(always)]
fn slope(activation: Activation, value: f32) -> f32 {
    if activation == Activation::Tanh { 1.0 - value * value } else { 1.0 }
}

/// The gradients of a write: `d_memory` is that of the memory after it and becomes that before it.
#[inline(always)]
pub(super) fn write_backward<S: Wide>(
    simd: S,
    sizes: &NtmSizes<'_>,
    (heads, write): (&HeadControls, usize),
    (memory, weights): (&[f32], &[f32]),
    (d_memory, d_weights): (&mut [f32], &mut [f32]),
    d_controls: &mut [f32],
) {
    let (columns, padded, width) = (sizes.columns, sizes.padded_rows, lanes::<S>());
    let (d_erase, d_add) = d_controls[sizes.write_controls(write)..][..2 * columns].split_at_mut(columns);
    let one = splat(simd, 1.0);
    let lines = memory.chunks_exact(padded).zip(d_memory.chunks_exact_mut(padded));
    for (column, (x, d)) in lines.enumerate() {
        let (e, a) = (heads.erase[write * columns + column], heads.add[write * columns + column]);
        let (erase, add) = (splat(simd, -e), splat(simd, a));
        let (mut of_erase, mut of_add) = (splat(simd, 0.0), splat(simd, 0.0));
        for at in places::<S>(padded) {
            let (x, dx, w) = (load(simd, x, at), load(simd, d, at), load(simd, weights, at));
            let weighted = dx * w;
            of_add += weighted;
            of_erase = weighted.mul_add(x, of_erase);
            let change = x.mul_add(erase, add);
            dx.mul_add(change, load(simd, d_weights, at)).store_slice(&mut d_weights[at..at + width]);
            (dx * w.mul_add(erase, one)).store_slice(&mut d[at..at + width]);
        }
        d_erase[column] = -of_erase.reduce_sum() * e * (1.0 - e);
        d_add[column] = of_add.reduce_sum() * slope(sizes.stage.add_activation, a);
    }
}

/// The gradients of what a head reads, which are added.
#[inline(always)]
pub(super) fn read_backward<S: Wide>(
    simd: S,
    sizes: &NtmSizes<'_>,
    d_read: &[f32],
    (memory, weights): (&[f32], &[f32]),
    (d_memory, d_weights): (&mut [f32], &mut [f32]),
) {
    let (padded, width) = (sizes.padded_rows, lanes::<S>());
    let lines = memory.chunks_exact(padded).zip(d_memory.chunks_exact_mut(padded));
    for ((x, d), &of_read) in lines.zip(d_read) {
        let of_read = splat(simd, of_read);
        for at in places::<S>(padded) {
            let dw = load(simd, x, at).mul_add(of_read, load(simd, d_weights, at));
            dw.store_slice(&mut d_weights[at..at + width]);
            let dx = load(simd, weights, at).mul_add(of_read, load(simd, d, at));
            dx.store_slice(&mut d[at..at + width]);
        }
    }
}

/// The gradients of a head's addressing from that of its weights, which becomes that of its weights before. Those of the
/// memory are added, those of the controls written.
#[inline(always)]
pub(super) fn address_backward<S: Wide>(
    simd: S,
    sizes: &NtmSizes<'_>,
    (heads, head): (&HeadControls, usize),
    (memory, norms): (&[f32], &[f32]),
    (record, before, weights): (&[f32], &[f32], &[f32]),
    (d_weights, d_memory): (&mut [f32], &mut [f32]),
    scratch: &mut HeadScratch,
) {
    let width = lanes::<S>();
    let (columns, rows, padded, margin) = (sizes.columns, sizes.rows, sizes.padded_rows, sizes.margin);
    let (shifts, count) = (sizes.stage.shifts, sizes.stage.shift_count());
    let HeadScalars { key_norm, beta, gate, gamma } = heads.scalars(sizes, head);
    let key = &heads.keys[head * columns..][..columns];
    let [cosines, content, logs, gated] = record_parts(sizes, record);
    let HeadScratch { controls: d_controls, wide, rows: of_rows } = scratch;
    let (of_content, of_norms) = of_rows.split_at_mut(padded);
    let d = &mut d_controls[sizes.address_controls(head)..][..sizes.stage.address_size()];
    // Sharpening.
    let mean = splat(simd, dot(simd, weights, d_weights));
    let (mut d_gamma, of_logs) = (splat(simd, 0.0), splat(simd, gamma));
    for at in places::<S>(padded) {
        let log = load(simd, logs, at);
        let d_logit = load(simd, weights, at) * (load(simd, d_weights, at) - mean);
        d_gamma = d_logit.mul_add(log, d_gamma);
        let d_shifted = d_logit * of_logs * exp(simd, -log);
        d_shifted.store_slice(&mut wide[margin + at..][..width]);
    }
    let d_gamma = d_gamma.reduce_sum();
    // Shift: a weight moves by place - shifts rows.
    for (place, to) in d[columns + 2..][..count].iter_mut().enumerate() {
        let mut sum = splat(simd, 0.0);
        for at in places::<S>(padded) {
            // Behind the rows the gradient is 0, which a margin's numbers do not change.
            let from = load(simd, gated, margin + at + shifts - place);
            sum = load(simd, wide, margin + at).mul_add(from, sum);
        }
        *to = sum.reduce_sum();
    }
    let shares = &heads.shares[head * count..][..count];
    wrap(sizes, wide);
    // Gate: the gradient of the content goes to `of_content`, that of the weights before to `d_weights`.
    let mut d_gate = splat(simd, 0.0);
    let (to_content, to_before) = (splat(simd, gate), splat(simd, 1.0 - gate));
    let mut mean = splat(simd, 0.0);
    for at in places::<S>(padded) {
        let mut d_gated = splat(simd, 0.0);
        for (place, &share) in shares.iter().enumerate() {
            d_gated = load(simd, wide, margin + at + place - shifts).mul_add(splat(simd, share), d_gated);
        }
        let content = load(simd, content, at);
        if at + width > rows {
            // Margins lie behind the rows.
            d_gated.store_slice(&mut of_content[at..at + width]);
            of_content[rows..].fill(0.0);
            d_gated = load(simd, of_content, at);
        }
        d_gate = d_gated.mul_add(content - load(simd, before, at), d_gate);
        (d_gated * to_before).store_slice(&mut d_weights[at..at + width]);
        let d_content = d_gated * to_content;
        mean = d_content.mul_add(content, mean);
        d_content.store_slice(&mut of_content[at..at + width]);
    }
    let mean = splat(simd, mean.reduce_sum());
    // Content: of each row what its product with the key gets, and what its norm gets by its number.
    let (mut d_beta, mut of_key) = (splat(simd, 0.0), splat(simd, 0.0));
    let (scale, of_key_norm, zero) = (splat(simd, beta), splat(simd, key_norm), splat(simd, 0.0));
    for at in places::<S>(padded) {
        let (cosine, norm) = (load(simd, cosines, at), load(simd, norms, at));
        let d_logit = load(simd, content, at) * (load(simd, of_content, at) - mean);
        d_beta = d_logit.mul_add(cosine, d_beta);
        let d_product = d_logit * scale / norm.mul_add(of_key_norm, splat(simd, COSINE_EPS));
        let d_divisor = -(d_product * cosine);
        of_key = d_divisor.mul_add(norm, of_key);
        d_product.store_slice(&mut of_content[at..at + width]);
        let of_norm = norm.simd_gt(zero).select(d_divisor * of_key_norm / norm, zero);
        of_norm.store_slice(&mut of_norms[at..at + width]);
    }
    let of_key = if key_norm > 0.0 { of_key.reduce_sum() / key_norm } else { 0.0 };
    let lines = memory.chunks_exact(padded).zip(d_memory.chunks_exact_mut(padded));
    for ((x, dx), (&k, to)) in lines.zip(key.iter().zip(&mut *d)) {
        let mut sum = splat(simd, 0.0);
        let by_key = splat(simd, k);
        for at in places::<S>(padded) {
            let (x, d_product) = (load(simd, x, at), load(simd, of_content, at));
            sum = d_product.mul_add(x, sum);
            let more = d_product.mul_add(by_key, load(simd, of_norms, at) * x);
            (load(simd, dx, at) + more).store_slice(&mut dx[at..at + width]);
        }
        *to = (sum.reduce_sum() + of_key * k) * slope(sizes.stage.key_activation, k);
    }
    d[columns] = d_beta.reduce_sum() * sigmoid(heads.controls[sizes.address_controls(head) + columns]);
    d[columns + 1] = d_gate.reduce_sum() * gate * (1.0 - gate);
    let of_shares = &mut d[columns + 2..][..count];
    let mean: f32 = of_shares.iter().zip(shares).map(|(d, share)| d * share).sum();
    of_shares.iter_mut().zip(shares).for_each(|(d, share)| *d = share * (*d - mean));
    let of_gamma = columns + 2 + count;
    d[of_gamma] = d_gamma * sigmoid(heads.controls[sizes.address_controls(head) + of_gamma]);
}
