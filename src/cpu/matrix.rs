//! Dense layers and convolutions.

use std::sync::Mutex;

use fearless_simd::prelude::*;

use super::functions::apply;
use super::object_pool::ObjectPool;
use super::packed::{PanelLayout, Panels};
use super::pool::in_parallel;
use super::product::{InputRows, Kept};
use super::simd::{Wide, lanes};
use super::threads::{SHARED_ROWS, worth};
use crate::base::lock::lock;
use crate::network::{Activation, Network, Role, Stage, fold};

/// `activation(x W^T + b)`.
#[derive(Debug)]
pub(super) struct Matrix {
    panels: Panels,
    /// `[blocks, Q, lanes]`
    bias: Vec<f32>,
    activation: Activation,
    outputs: usize,
    /// Memory of every thread, kept between runs.
    kept: ObjectPool<Kept>,
}

impl Matrix {
    /// The matrix of `stage`, a dense layer or a convolution.
    pub fn new<S: Wide>(network: &Network, stage: &Stage, activation: Activation) -> Self {
        let outputs = stage.out_features;
        let layout = PanelLayout::plain(lanes::<S>(), outputs);
        let (matrix, bias) = (fold::matrix(network, stage), fold::bias::<f32>(network, stage));
        let (format, inputs) = (network.param_format(stage, 0, Role::Weight), matrix.len() / outputs);
        Self {
            panels: Panels::new(&matrix, format, inputs, layout, S::DOTS),
            bias: layout.spread(|row| bias[row]),
            activation,
            outputs,
            kept: ObjectPool::new(),
        }
    }

    /// `[M, K]` to `[M, N]`.
    pub fn run<S: Wide>(&self, simd: S, threads: usize, x: &[f32], output: &mut Vec<f32>) {
        let (inputs, outputs) = (self.panels.inputs, self.outputs);
        let rows = x.len() / inputs;
        output.resize(rows * outputs, 0.0);
        let threads = threads.min(worth(rows * inputs * outputs)).min(rows);
        let shared = threads > 1 && {
            let of_thread = rows.div_ceil(threads).next_multiple_of(SHARED_ROWS);
            let parts = x.chunks(of_thread * inputs).zip(output.chunks_mut(of_thread * outputs));
            let parts = Mutex::new(parts);
            in_parallel(threads, &|_| {
                let part = lock(&parts).next();
                if let Some((x, output)) = part {
                    self.part(simd, x, output);
                }
            })
        };
        if !shared {
            self.part(simd, x, output);
        }
    }

    fn part<S: Wide>(&self, simd: S, x: &[f32], output: &mut [f32]) {
        let mut kept = self.kept.take();
        match self.panels.vectors {
            1 => self.rows::<S, 1>(simd, x, output, &mut kept),
            2 => self.rows::<S, 2>(simd, x, output, &mut kept),
            _ => self.rows::<S, 4>(simd, x, output, &mut kept),
        }
        self.kept.put(kept);
    }

    fn rows<S: Wide, const Q: usize>(&self, simd: S, x: &[f32], output: &mut [f32], kept: &mut Kept) {
        let (inputs, outputs) = (self.panels.inputs, self.outputs);
        let lanes = lanes::<S>();
        let rows = x.len() / inputs;
        simd.vectorize(
            #[inline(always)]
            || {
                self.panels.product::<S, Q>(
                    simd,
                    (InputRows::even(x, inputs), rows),
                    0..self.panels.blocks,
                    false,
                    kept,
                    #[inline(always)]
                    |block: usize, row: usize, sums: &[S::f32s; Q]| {
                        let to = &mut output[row * outputs..][..outputs];
                        for (q, &sum) in sums.iter().enumerate() {
                            let first = (block * Q + q) * lanes;
                            if first >= outputs {
                                break;
                            }
                            let bias = S::f32s::from_slice(simd, &self.bias[first..][..lanes]);
                            let numbers = apply(simd, self.activation, sum + bias);
                            let to = &mut to[first..outputs.min(first + lanes)];
                            to.copy_from_slice(&numbers.as_slice()[..to.len()]);
                        }
                    },
                );
            },
        );
    }
}
