//! Dense layers while they are trained.

use fearless_simd::prelude::*;

use super::product::{ProductRows, StoreMode, movers, pack_columns, pack_rows, product};
use super::rows::{RowParts, Rows};
use super::weight_gradient::{GradientFactor, WeightGradient};
use crate::cpu::functions::apply;
use crate::cpu::packed::Panels;
use crate::cpu::product::InputRows;
use crate::cpu::simd::{Wide, lanes};
use crate::cpu::threads::{SHARED_ROWS, share, worth};
use crate::host::StageBackward;
use crate::network::{Activation, Network, Role, Stage};
use crate::reference::derivative;

/// What a dense layer keeps between its passes and, as memory, between steps of training.
#[derive(Debug, Default)]
pub(super) struct DenseMemory {
    matrix: Panels,
    /// `[N in whole vectors]`
    bias: Vec<f32>,
    /// `[M, N in whole vectors]`: the sums, from which the backward pass makes their gradients.
    sums: Vec<f32>,
    /// `[M, K in whole vectors]`
    d_input: Vec<f32>,
    gradient: WeightGradient,
}

/// A dense layer.
#[derive(Clone, Copy)]
pub(super) struct TrainDense<'a> {
    pub network: &'a Network,
    pub stage: &'a Stage,
    pub activation: Activation,
    pub threads: usize,
}

impl TrainDense<'_> {
    /// K, N and both in whole vectors.
    fn sizes<S: Wide>(&self) -> [usize; 4] {
        let [inputs, outputs] = [self.stage.in_features, self.stage.out_features];
        [inputs, outputs, inputs.next_multiple_of(lanes::<S>()), outputs.next_multiple_of(lanes::<S>())]
    }

    fn row(&self, row: usize) -> Option<&[f32]> {
        self.network.param(self.stage, 0, Role::Weight).chunks_exact(self.stage.in_features).nth(row)
    }

    /// Threads for `rows` rows, and the rows of one part of them.
    fn parts(&self, rows: usize) -> [usize; 2] {
        let threads = self.threads.min(worth(rows * self.stage.in_features * self.stage.out_features));
        [threads, rows.div_ceil(threads).next_multiple_of(SHARED_ROWS).max(1)]
    }

    /// `[M, K]` to `[M, N]`.
    pub fn forward<S: Wide>(&self, simd: S, memory: &mut DenseMemory, x: &[f32], output: &mut Vec<f32>) {
        let [inputs, outputs, _, padded] = self.sizes::<S>();
        let rows = x.len() / inputs;
        let [threads, part] = self.parts(rows);
        let DenseMemory { matrix, bias, sums, .. } = memory;
        pack_rows::<S>(matrix, threads, [outputs, inputs], |row| self.row(row));
        bias.clear();
        bias.extend_from_slice(self.network.param(self.stage, 0, Role::Bias));
        bias.resize(padded, 0.0);
        sums.resize(rows * padded, 0.0);
        output.resize(rows * outputs, 0.0);
        let (matrix, bias) = (&*matrix, &bias[..]);
        let parts = x.chunks(part * inputs).zip(sums.chunks_mut(part * padded)).zip(output.chunks_mut(part * outputs));
        share(threads, parts, |((x, sums), output)| {
            let to = ProductRows { to: &mut *sums, stride: padded, width: padded, store: StoreMode::Replace };
            product(simd, matrix, (InputRows::even(x, inputs), x.len() / inputs), to);
            simd.vectorize(
                #[inline(always)]
                || {
                    for (sums, output) in sums.chunks_exact_mut(padded).zip(output.chunks_exact_mut(outputs)) {
                        let vectors = sums.chunks_exact_mut(lanes::<S>()).zip(bias.chunks_exact(lanes::<S>()));
                        for ((sums, bias), output) in vectors.zip(output.chunks_mut(lanes::<S>())) {
                            let sum = S::f32s::from_slice(simd, sums) + S::f32s::from_slice(simd, bias);
                            sum.store_slice(sums);
                            let numbers = apply(simd, self.activation, sum);
                            output.copy_from_slice(&numbers.as_slice()[..output.len()]);
                        }
                    }
                },
            );
        });
    }

    /// The gradients of a run of [`TrainDense::forward`] on the same `x`.
    pub fn backward<S: Wide>(&self, simd: S, memory: &mut DenseMemory, x: &[f32], pass: &mut StageBackward<'_, f32>) {
        let [inputs, outputs, padded_inputs, padded] = self.sizes::<S>();
        let rows = x.len() / inputs;
        let [threads, part] = self.parts(2 * rows);
        let DenseMemory { matrix, sums, d_input, gradient, .. } = memory;
        let d_output = pass.d_output.chunks(part * outputs);
        share(movers(threads, rows * outputs), sums.chunks_mut(part * padded).zip(d_output), |(sums, d_output)| {
            for (sums, d_output) in sums.chunks_exact_mut(padded).zip(d_output.chunks_exact(outputs)) {
                for (sum, &d) in sums.iter_mut().zip(d_output) {
                    *sum = d * derivative(self.activation, *sum);
                }
            }
        });
        if let Some(to) = &mut pass.d_input {
            pack_columns::<S>(matrix, threads, [outputs, inputs], |row| self.row(row));
            d_input.resize(rows * padded_inputs, 0.0);
            let matrix = &*matrix;
            let parts = to.chunks_mut(part * inputs).zip(d_input.chunks_mut(part * padded_inputs));
            share(threads, parts.zip(sums.chunks(part * padded)), |((to, d_input), d_sums)| {
                let (stride, width) = (padded_inputs, padded_inputs);
                let product_rows = ProductRows { to: &mut *d_input, stride, width, store: StoreMode::Replace };
                product(simd, matrix, (InputRows::even(d_sums, padded), d_sums.len() / padded), product_rows);
                for (to, d) in to.chunks_exact_mut(inputs).zip(d_input.chunks_exact(padded_inputs)) {
                    to.iter_mut().zip(d).for_each(|(to, d)| *to += d);
                }
            });
        }
        let d_sums = Rows { parts: RowParts::Whole(sums), batch: rows, stride: padded, width: outputs };
        let x = Rows { parts: RowParts::Whole(x), batch: rows, stride: inputs, width: inputs };
        gradient.compute(simd, threads, rows, d_sums, &[Some(GradientFactor { rows: x, lines: 0..outputs }), None]);
        let place = |role| self.stage.param(0, role);
        if let Some(to) = place(Role::Weight).and_then(|param| pass.params.place(param)) {
            for (line, to) in to.chunks_exact_mut(inputs).enumerate() {
                to.copy_from_slice(&gradient.line(0, line)[..inputs]);
            }
        }
        if let Some(to) = place(Role::Bias).and_then(|param| pass.params.place(param)) {
            to.iter_mut().enumerate().for_each(|(line, to)| *to = gradient.sum(line));
        }
    }
}
