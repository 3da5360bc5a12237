//! One timestep of the heads of one row: addressing, reading, writing. Equations: `reference/ntm.rs`.

use fearless_simd::prelude::*;

use super::sizes::NtmSizes;
use super::vectors::{dot, load, map, places, softmax, splat};
use crate::cpu::functions::ln;
use crate::cpu::simd::{Wide, lanes};
use crate::network::Activation;
use crate::reference::{sigmoid, softplus};

/// Added to the product of two norms.
pub(super) const COSINE_EPS: f32 = 1e-8;
/// Added under the logarithm.
const LOG_EPS: f32 = 1e-16;

/// What the controls of all heads say, of one row at one timestep.
#[derive(Debug, Default)]
pub(super) struct HeadControls {
    /// `[P]`, bounded.
    pub controls: Vec<f32>,
    /// `[K, M]`
    pub keys: Vec<f32>,
    /// `[K, S]`
    pub shares: Vec<f32>,
    /// `[W, M]`
    pub erase: Vec<f32>,
    /// `[W, M]`
    pub add: Vec<f32>,
}

/// The scalars of a head.
#[derive(Clone, Copy)]
pub(super) struct HeadScalars {
    pub key_norm: f32,
    pub beta: f32,
    pub gate: f32,
    pub gamma: f32,
}

impl HeadControls {
    /// Makes them from the controls `[P]`.
    #[inline(always)]
    pub fn fill<S: Wide>(&mut self, simd: S, sizes: &NtmSizes<'_>, raw: &[f32]) {
        let stage = sizes.stage;
        let (columns, shifts) = (sizes.columns, stage.shift_count());
        self.controls.clear();
        self.controls.extend_from_slice(&raw[..stage.control_size()]);
        if let Some(bound) = stage.clip {
            self.controls.iter_mut().for_each(|x| *x = if *x > bound { bound } else { x.max(-bound) });
        }
        self.keys.resize(sizes.heads() * columns, 0.0);
        self.shares.resize(sizes.heads() * shifts, 0.0);
        self.erase.resize(stage.write_heads * columns, 0.0);
        self.add.resize(stage.write_heads * columns, 0.0);
        for head in 0..sizes.heads() {
            let of_head = &self.controls[sizes.address_controls(head)..];
            map(simd, stage.key_activation, &of_head[..columns], &mut self.keys[head * columns..][..columns]);
            let shares = &mut self.shares[head * shifts..][..shifts];
            shares.copy_from_slice(&of_head[columns + 2..][..shifts]);
            let highest = shares.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            shares.iter_mut().for_each(|x| *x = (*x - highest).exp());
            let sum: f32 = shares.iter().sum();
            shares.iter_mut().for_each(|x| *x /= sum);
        }
        for write in 0..stage.write_heads {
            let of_head = &self.controls[sizes.write_controls(write)..];
            let own = write * columns..(write + 1) * columns;
            map(simd, Activation::Sigmoid, &of_head[..columns], &mut self.erase[own.clone()]);
            map(simd, stage.add_activation, &of_head[columns..][..columns], &mut self.add[own]);
        }
    }

    #[inline(always)]
    pub fn scalars(&self, sizes: &NtmSizes<'_>, head: usize) -> HeadScalars {
        let columns = sizes.columns;
        let of_head = &self.controls[sizes.address_controls(head)..];
        let square: f32 = self.keys[head * columns..][..columns].iter().map(|x| x * x).sum();
        HeadScalars {
            key_norm: square.sqrt(),
            beta: softplus(of_head[columns]),
            gate: sigmoid(of_head[columns + 1]),
            gamma: 1.0 + softplus(of_head[columns + 2 + sizes.stage.shift_count()]),
        }
    }
}

/// The parts of what a head's addressing leaves: cosines, content, logarithms, gated weights with their margins.
#[inline(always)]
pub(super) fn record_parts<'a>(sizes: &NtmSizes<'_>, record: &'a [f32]) -> [&'a [f32]; 4] {
    let rows = sizes.padded_rows;
    let (cosines, rest) = record.split_at(rows);
    let (content, rest) = rest.split_at(rows);
    let (logs, gated) = rest.split_at(rows);
    [cosines, content, logs, gated]
}

#[inline(always)]
fn record_parts_mut<'a>(sizes: &NtmSizes<'_>, record: &'a mut [f32]) -> [&'a mut [f32]; 4] {
    let rows = sizes.padded_rows;
    let (cosines, rest) = record.split_at_mut(rows);
    let (content, rest) = rest.split_at_mut(rows);
    let (logs, gated) = rest.split_at_mut(rows);
    [cosines, content, logs, gated]
}

/// The norm of every row of a memory.
#[inline(always)]
pub(super) fn row_norms<S: Wide>(simd: S, sizes: &NtmSizes<'_>, memory: &[f32], norms: &mut [f32]) {
    for at in places::<S>(sizes.padded_rows) {
        let mut sum = splat(simd, 0.0);
        for column in memory.chunks_exact(sizes.padded_rows) {
            let x = load(simd, column, at);
            sum = x.mul_add(x, sum);
        }
        sum.sqrt().store_slice(&mut norms[at..at + lanes::<S>()]);
    }
}

/// Copies the numbers that shifts read beyond the ends of the rows.
#[inline(always)]
pub(super) fn wrap(sizes: &NtmSizes<'_>, numbers: &mut [f32]) {
    let (margin, rows, shifts) = (sizes.margin, sizes.rows, sizes.stage.shifts);
    for by in 0..shifts {
        numbers[margin - 1 - by] = numbers[margin + rows - 1 - by];
        numbers[margin + rows + by] = numbers[margin + by];
    }
}

/// The weights of a head, whose weights before are `before`.
#[inline(always)]
pub(super) fn address<S: Wide>(
    simd: S,
    sizes: &NtmSizes<'_>,
    (heads, head): (&HeadControls, usize),
    (memory, norms): (&[f32], &[f32]),
    before: &[f32],
    (record, weights): (&mut [f32], &mut [f32]),
) {
    let width = lanes::<S>();
    let (columns, rows, padded, margin) = (sizes.columns, sizes.rows, sizes.padded_rows, sizes.margin);
    let HeadScalars { key_norm, beta, gate, gamma } = heads.scalars(sizes, head);
    let key = &heads.keys[head * columns..][..columns];
    let [cosines, content, logs, gated] = record_parts_mut(sizes, record);
    let key_norm = splat(simd, key_norm);
    for at in places::<S>(padded) {
        let mut product = splat(simd, 0.0);
        for (column, &k) in memory.chunks_exact(padded).zip(key) {
            product = load(simd, column, at).mul_add(splat(simd, k), product);
        }
        let cosine = product / load(simd, norms, at).mul_add(key_norm, splat(simd, COSINE_EPS));
        cosine.store_slice(&mut cosines[at..at + width]);
    }
    content.copy_from_slice(cosines);
    softmax(simd, beta, content, rows);
    let (of_content, of_before) = (splat(simd, gate), splat(simd, 1.0 - gate));
    for at in places::<S>(padded) {
        let x = of_before * load(simd, before, at);
        load(simd, content, at).mul_add(of_content, x).store_slice(&mut gated[margin + at..][..width]);
    }
    wrap(sizes, gated);
    let shares = &heads.shares[head * sizes.stage.shift_count()..][..sizes.stage.shift_count()];
    for at in places::<S>(padded) {
        let mut sum = splat(simd, 0.0);
        for (place, &share) in shares.iter().enumerate() {
            sum = load(simd, gated, margin + at + sizes.stage.shifts - place).mul_add(splat(simd, share), sum);
        }
        ln(simd, sum + splat(simd, LOG_EPS)).store_slice(&mut logs[at..at + width]);
    }
    // Behind the rows there is no number that a sum may meet.
    logs[rows..].fill(0.0);
    weights.copy_from_slice(logs);
    softmax(simd, gamma, weights, rows);
}

/// What a head reads, `[M]`.
#[inline(always)]
pub(super) fn read<S: Wide>(simd: S, sizes: &NtmSizes<'_>, memory: &[f32], weights: &[f32], to: &mut [f32]) {
    for (to, column) in to.iter_mut().zip(memory.chunks_exact(sizes.padded_rows)) {
        *to = dot(simd, column, weights);
    }
}

/// The memory after a head has written to it.
#[inline(always)]
pub(super) fn write<S: Wide>(
    simd: S,
    sizes: &NtmSizes<'_>,
    [erase, add]: [&[f32]; 2],
    weights: &[f32],
    before: &[f32],
    after: &mut [f32],
) {
    let padded = sizes.padded_rows;
    let columns = before.chunks_exact(padded).zip(after.chunks_exact_mut(padded));
    for ((before, after), (&erase, &add)) in columns.zip(erase.iter().zip(add)) {
        let (erase, add) = (splat(simd, -erase), splat(simd, add));
        for at in places::<S>(padded) {
            let x = load(simd, before, at);
            let change = x.mul_add(erase, add);
            load(simd, weights, at).mul_add(change, x).store_slice(&mut after[at..at + lanes::<S>()]);
        }
    }
}
