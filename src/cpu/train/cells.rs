//! One step of one row of a cell while it is trained.

use fearless_simd::prelude::*;

use crate::cpu::functions::{sigmoid, tanh};
use crate::cpu::simd::{Wide, lanes};
use crate::network::{Cell, gates};

/// How the sums of a row are arranged, in blocks of H units: those of the input and those of the state follow each other.
#[derive(Clone, Copy)]
pub(super) struct GateBlocks {
    /// Blocks of a row.
    pub count: usize,
    /// Block of each gate's part from the input, ...
    pub of_input: &'static [usize],
    /// ... and from the state.
    pub of_state: &'static [usize],
    /// The first block of the state.
    pub first_of_state: usize,
}

/// Blocks of a GRU: the candidate, and its part that the reset gate multiplies, lie apart.
const NEW: usize = 0;
const RESET: usize = 1;
const UPDATE: usize = 2;
const RESET_PART: usize = 3;

impl GateBlocks {
    pub fn of(cell: Cell) -> Self {
        match cell {
            Cell::Gru => Self {
                count: 4,
                of_input: &[RESET, UPDATE, NEW],
                of_state: &[RESET, UPDATE, RESET_PART],
                first_of_state: RESET,
            },
            Cell::Rnn => Self { count: 1, of_input: &[0], of_state: &[0], first_of_state: 0 },
            _ => Self { count: 4, of_input: &[0, 1, 2, 3], of_state: &[0, 1, 2, 3], first_of_state: 0 },
        }
    }
}

/// One step of one row: `values` holds the input's part of the sums, without the bias, and gets the
/// functions' values.
#[inline(always)]
pub(super) fn cell_forward<S: Wide>(
    simd: S,
    cell: Cell,
    values: &mut [f32],
    [sums, bias]: [&[f32]; 2],
    [h, c]: [&[f32]; 2],
    [h_after, c_after]: [&mut [f32]; 2],
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let width = lanes::<S>();
            let padded = h.len();
            let one = S::f32s::splat(simd, 1.0);
            let load = |numbers: &[f32], at: usize| S::f32s::from_slice(simd, &numbers[at..at + width]);
            for unit in (0..padded).step_by(width) {
                let place = |block: usize| block * padded + unit;
                let of_input = |values: &[f32], block: usize| load(values, place(block)) + load(bias, place(block));
                let sum = |values: &[f32], block: usize| of_input(values, block) + load(sums, place(block));
                let after = match cell {
                    Cell::Rnn => {
                        let h = tanh(simd, sum(values, 0));
                        h.store_slice(&mut values[place(0)..][..width]);
                        h
                    }
                    Cell::Gru => {
                        // The sums of the state begin with the second block.
                        let of_state = |block: usize| load(sums, place(block - RESET));
                        let r = sigmoid(simd, of_input(values, RESET) + of_state(RESET));
                        let z = sigmoid(simd, of_input(values, UPDATE) + of_state(UPDATE));
                        let part = load(bias, place(RESET_PART)) + of_state(RESET_PART);
                        let n = tanh(simd, r.mul_add(part, of_input(values, NEW)));
                        for (block, value) in [(RESET, r), (UPDATE, z), (NEW, n), (RESET_PART, part)] {
                            value.store_slice(&mut values[place(block)..][..width]);
                        }
                        (one - z).mul_add(n, z * load(h, unit))
                    }
                    _ => {
                        let i = sigmoid(simd, sum(values, gates::INPUT));
                        let f = sigmoid(simd, sum(values, gates::FORGET));
                        let g = tanh(simd, sum(values, gates::CANDIDATE));
                        let o = sigmoid(simd, sum(values, gates::OUTPUT));
                        let of = [(gates::INPUT, i), (gates::FORGET, f), (gates::CANDIDATE, g), (gates::OUTPUT, o)];
                        for (block, value) in of {
                            value.store_slice(&mut values[place(block)..][..width]);
                        }
                        let c = f.mul_add(load(c, unit), i * g);
                        c.store_slice(&mut c_after[unit..][..width]);
                        o * tanh(simd, c)
                    }
                };
                after.store_slice(&mut h_after[unit..][..width]);
            }
        },
    );
}

/// From the functions' values and the gradient of h after a step to those of the sums; of h before it the part that
/// does not go through the sums.
#[inline(always)]
pub(super) fn cell_backward<S: Wide>(
    simd: S,
    cell: Cell,
    values: &mut [f32],
    [h, c, c_after]: [&[f32]; 3],
    [dh, dc]: [&mut [f32]; 2],
) {
    simd.vectorize(
        #[inline(always)]
        || {
            let width = lanes::<S>();
            let padded = h.len();
            let one = S::f32s::splat(simd, 1.0);
            let zero = S::f32s::splat(simd, 0.0);
            let load = |numbers: &[f32], at: usize| S::f32s::from_slice(simd, &numbers[at..at + width]);
            for unit in (0..padded).step_by(width) {
                let place = |block: usize| block * padded + unit;
                let value = |block: usize| load(values, place(block));
                let d = load(dh, unit);
                let (of_sums, of_h) = match cell {
                    Cell::Rnn => ([d * (one - value(0) * value(0)), zero, zero, zero], zero),
                    Cell::Gru => {
                        let [r, z, n, part] = [RESET, UPDATE, NEW, RESET_PART].map(value);
                        let d_n = d * (one - z) * (one - n * n);
                        let d_z = d * (load(h, unit) - n) * z * (one - z);
                        let d_r = d_n * part * r * (one - r);
                        ([d_n, d_r, d_z, d_n * r], d * z)
                    }
                    _ => {
                        let [i, f, g, o] = [gates::INPUT, gates::FORGET, gates::CANDIDATE, gates::OUTPUT].map(value);
                        let seen = tanh(simd, load(c_after, unit));
                        let d_o = d * seen * o * (one - o);
                        let d_c = (d * o).mul_add(one - seen * seen, load(dc, unit));
                        let d_i = d_c * g * i * (one - i);
                        let d_f = d_c * load(c, unit) * f * (one - f);
                        let d_g = d_c * i * (one - g * g);
                        (d_c * f).store_slice(&mut dc[unit..][..width]);
                        ([d_i, d_f, d_g, d_o], zero)
                    }
                };
                let count = if cell == Cell::Rnn { 1 } else { 4 };
                for (block, d) in of_sums.into_iter().take(count).enumerate() {
                    d.store_slice(&mut values[block * padded + unit..][..width]);
                }
                of_h.store_slice(&mut dh[unit..][..width]);
            }
        },
    );
}
