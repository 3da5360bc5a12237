//! The step of layer-normalized cells: the sums of a row are normalized over all its units before the cell update.
//!
//! Equations and sources: `reference/normalized.rs`.

use fearless_simd::prelude::*;

use super::functions::apply;
use super::level::{Run, ThreadScratch};
use super::packed::PanelLayout;
use super::product::InputRows;
use super::simd::{Wide, lanes};
use super::worker::{StepPlace, projected_of, store_product};
use crate::network::{self, Affine, Cell, CellNorm, GateNorm, Normalization, gates};

/// Scale and offset of a normalization as the sums lie, 0 where there is no unit.
#[derive(Debug)]
struct PackedAffine {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedAffine {
    fn new([weight, bias]: &Affine<f32>, layout: PanelLayout) -> Self {
        let of = |numbers: &[f32]| layout.spread(|row| numbers.get(row).copied().unwrap_or_default());
        Self { weight: of(weight), bias: of(bias) }
    }
}

/// The normalizations of a direction.
#[derive(Debug)]
pub(super) struct PackedNorms {
    pub how: Normalization,
    /// `[blocks, Q, lanes]`
    input: PackedAffine,
    state: PackedAffine,
    /// `[blocks, lanes]`
    c: PackedAffine,
    /// 1 for each of the sums, 0 for padding.
    sums: Vec<f32>,
    /// The same for units.
    units: Vec<f32>,
    hidden: usize,
}

impl PackedNorms {
    /// Of a cell whose sums lie in `layout`.
    pub fn new(norms: &network::Norms<f32>, layout: PanelLayout, hidden: usize) -> Self {
        let units = PanelLayout::gates(layout.lanes, 0, 1, hidden);
        Self {
            how: norms.how,
            input: PackedAffine::new(&norms.input, layout),
            state: PackedAffine::new(&norms.state, layout),
            c: PackedAffine::new(&norms.c, units),
            sums: layout.spread(|_| 1.0),
            units: units.spread(|_| 1.0),
            hidden,
        }
    }
}

/// Normalizes `x` over its `count` numbers, which `real` marks with 1; what lies between them may be anything.
#[inline(always)]
fn layer_norm<S: Wide>(simd: S, x: &mut [f32], real: &[f32], count: usize, eps: f32, to: &PackedAffine) {
    let width = lanes::<S>();
    #[expect(clippy::cast_precision_loss, reason = "a width is below 2^24")]
    let mean_of = |sum: S::f32s| {
        let mut numbers = [0.0; 16];
        sum.store_slice(&mut numbers[..width]);
        numbers.iter().sum::<f32>() / count as f32
    };
    let zero = S::f32s::splat(simd, 0.0);
    let vector = |numbers: &[f32]| S::f32s::from_slice(simd, numbers);
    let with_real = || x.chunks_exact(width).zip(real.chunks_exact(width));
    let sum = with_real().fold(zero, |sum, (x, real)| vector(x).mul_add(vector(real), sum));
    let mean = S::f32s::splat(simd, mean_of(sum));
    let squares = with_real().fold(zero, |sum, (x, real)| {
        let distance = (vector(x) - mean) * vector(real);
        distance.mul_add(distance, sum)
    });
    let scale = S::f32s::splat(simd, 1.0 / (mean_of(squares) + eps).sqrt());
    let affine = to.weight.chunks_exact(width).zip(to.bias.chunks_exact(width));
    for (x, (weight, bias)) in x.chunks_exact_mut(width).zip(affine) {
        ((vector(x) - mean) * scale).mul_add(vector(weight), vector(bias)).store_slice(x);
    }
}

/// One step of all rows of a cell with Q gates: the sums, their normalization, then `finish` for each row with the
/// normalized sums of input and state `[blocks, Q, lanes]`, c and h before it `[blocks, lanes]`, and the new h.
#[inline(always)]
fn step<S: Wide, const Q: usize>(
    simd: S,
    (run, norms): (&Run<'_, '_>, &PackedNorms),
    scratch: &mut ThreadScratch,
    place: &StepPlace<'_>,
    finish: impl Fn(&[f32], &[f32], &mut [f32], &[f32], &mut [f32]),
) {
    let (level, direction) = (run.level, run.direction);
    let of_row = level.blocks * Q * lanes::<S>();
    let (h_stride, c_stride) = (level.h_stride, level.blocks * level.units);
    let rows = scratch.h.len() / h_stride;
    let ThreadScratch { projected, h, next, c, kept, sums, normalized, .. } = scratch;
    sums.resize(rows * of_row, 0.0);
    normalized.resize(of_row, 0.0);
    let x = (InputRows::even(h, h_stride), rows);
    store_product::<S, Q>(simd, &direction.recurrent, x, 0..level.blocks, place.backwards, kept, (sums, of_row));
    simd.vectorize(
        #[inline(always)]
        || {
            let (eps, count) = (norms.how.eps, Q * norms.hidden);
            for (row, sums) in sums.chunks_exact_mut(of_row).enumerate().filter(|(row, _)| !place.stands(*row)) {
                for (block, to) in normalized.chunks_exact_mut(Q * lanes::<S>()).enumerate() {
                    let projected = projected_of::<S, Q>(simd, projected, place, block, row);
                    for (to, projected) in to.chunks_exact_mut(lanes::<S>()).zip(projected) {
                        projected.store_slice(to);
                    }
                }
                match norms.how.gate_norm {
                    GateNorm::Parts => layer_norm(simd, sums, &norms.sums, count, eps, &norms.state),
                    GateNorm::Sum => {
                        normalized.iter_mut().zip(&*sums).for_each(|(to, sum)| *to += sum);
                        sums.fill(0.0);
                    }
                }
                layer_norm(simd, normalized, &norms.sums, count, eps, &norms.input);
                let at = row * h_stride..(row + 1) * h_stride;
                let c = &mut c[row * c_stride..][..c_stride];
                finish(normalized, sums, c, &h[at.clone()], &mut next[at]);
            }
        },
    );
}

/// One step of all rows of a layer-normalized cell.
pub(super) fn normalized<S: Wide>(simd: S, run: &Run<'_, '_>, scratch: &mut ThreadScratch, place: &StepPlace<'_>) {
    let Some(norms) = &run.direction.norms else { return };
    match run.level.stage.cell() {
        Cell::LayerNormGru => gru(simd, (run, norms), scratch, place),
        _ => lstm(simd, (run, norms), scratch, place),
    }
}

fn gru<S: Wide>(simd: S, of: (&Run<'_, '_>, &PackedNorms), scratch: &mut ThreadScratch, place: &StepPlace<'_>) {
    let [of_gates, of_candidate, _] = of.0.direction.options.activations;
    let width = lanes::<S>();
    let vector = |numbers: &[f32]| S::f32s::from_slice(simd, &numbers[..width]);
    let together = of.1.how.gate_norm == GateNorm::Sum;
    step::<S, 3>(
        simd,
        of,
        scratch,
        place,
        #[inline(always)]
        |input, state, _, before, h| {
            for (block, (h, before)) in h.chunks_exact_mut(width).zip(before.chunks_exact(width)).enumerate() {
                let of = |gate: usize| {
                    let at = (block * 3 + gate) * width;
                    [vector(&input[at..]), vector(&state[at..])]
                };
                let [reset, update] = [gates::RESET, gates::UPDATE].map(|gate| {
                    let [input, state] = of(gate);
                    apply(simd, of_gates, input + state)
                });
                let [input, state] = of(gates::NEW);
                let candidate = if together { reset * input } else { reset.mul_add(state, input) };
                let candidate = apply(simd, of_candidate, candidate);
                let after = (S::f32s::splat(simd, 1.0) - update).mul_add(candidate, update * vector(before));
                after.store_slice(h);
            }
        },
    );
}

fn lstm<S: Wide>(simd: S, of: (&Run<'_, '_>, &PackedNorms), scratch: &mut ThreadScratch, place: &StepPlace<'_>) {
    let norms = of.1;
    let [of_gates, of_candidate, of_output] = of.0.direction.options.activations;
    let width = lanes::<S>();
    let vector = |numbers: &[f32]| S::f32s::from_slice(simd, &numbers[..width]);
    step::<S, 4>(
        simd,
        of,
        scratch,
        place,
        #[inline(always)]
        |input, state, c, _, h| {
            let sum = |block: usize, gate: usize| {
                let at = (block * 4 + gate) * width;
                vector(&input[at..]) + vector(&state[at..])
            };
            for (block, c) in c.chunks_exact_mut(width).enumerate() {
                let [i, f] = [gates::INPUT, gates::FORGET].map(|gate| apply(simd, of_gates, sum(block, gate)));
                let candidate = apply(simd, of_candidate, sum(block, gates::CANDIDATE));
                f.mul_add(vector(c), i * candidate).store_slice(c);
            }
            let normalizes = norms.how.cell_norm != CellNorm::None;
            // h holds what the output sees of c.
            h[..c.len()].copy_from_slice(c);
            if normalizes {
                layer_norm(simd, &mut h[..c.len()], &norms.units, norms.hidden, norms.how.eps, &norms.c);
            }
            if norms.how.cell_norm == CellNorm::State {
                c.copy_from_slice(&h[..c.len()]);
            }
            for (block, h) in h.chunks_exact_mut(width).enumerate() {
                let output = apply(simd, of_gates, sum(block, gates::OUTPUT));
                (output * apply(simd, of_output, vector(h))).store_slice(h);
            }
        },
    );
}
