//! The steps of cells whose units do not depend on each other, from W x + b.
//!
//! Equations and sources: `reference/scan_step.rs`.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::functions::{apply, exp};
use super::level::{Run, ThreadScratch};
use super::simd::{Wide, lanes};
use super::threads::Share;
use super::worker::vectors;
use crate::base::bits;
use crate::network::{Activation, ScanCell};

/// The gates of a minLSTM: `σ(f) / (σ(f) + σ(i))`, and 1 less that.
#[inline(always)]
fn normalized_gates<S: Wide>(simd: S, f: S::f32s, i: S::f32s) -> [S::f32s; 2] {
    let zero = S::f32s::splat(simd, 0.0);
    let least = f.simd_lt(i).select(f, i);
    let least = least.simd_lt(zero).select(least, zero);
    let of_both = exp(simd, least);
    let (of_f, of_i) = (of_both + exp(simd, least - i), of_both + exp(simd, least - f));
    let sum = of_f + of_i;
    [of_f / sum, of_i / sum]
}

/// c and h after a step of a vector of units, from x₀ to x₃, what the units have beside them, and c before; of a cell that
/// keeps no c twice h.
#[inline(always)]
fn stepped<S: Wide>(
    simd: S,
    (cell, [first, second, _]): (ScanCell, [Activation; 3]),
    x: [S::f32s; 4],
    extra: [S::f32s; 2],
    before: S::f32s,
) -> [S::f32s; 2] {
    let one = S::f32s::splat(simd, 1.0);
    match cell {
        ScanCell::MinGru => {
            let z = apply(simd, first, x[1]);
            let after = (one - z).mul_add(before, z * apply(simd, second, x[0]));
            [after, after]
        }
        ScanCell::MinLstm => {
            let [f, i] = normalized_gates(simd, x[1], x[2]);
            let after = f.mul_add(before, i * apply(simd, first, x[0]));
            [after, after]
        }
        ScanCell::Sru { peephole } => {
            let (mut of_f, mut of_r) = (x[1], x[2]);
            if peephole {
                (of_f, of_r) = (extra[0].mul_add(before, of_f), extra[1].mul_add(before, of_r));
            }
            let (f, r) = (apply(simd, first, of_f), apply(simd, first, of_r));
            let after = f.mul_add(before, (one - f) * x[0]);
            [after, r.mul_add(apply(simd, second, after), (one - r) * x[3])]
        }
        ScanCell::Qrnn => {
            let f = apply(simd, first, x[1]);
            let after = f.mul_add(before, (one - f) * apply(simd, second, x[0]));
            [after, apply(simd, first, x[2]) * after]
        }
        ScanCell::IndRnn => {
            let after = apply(simd, first, extra[0].mul_add(before, x[0]));
            [after, after]
        }
    }
}

/// Some timesteps of all rows, a vector of units after the other, with their state in registers; h after each step goes to
/// `history` `[steps, rows, h_stride]`, in order of time.
pub(super) fn scan<S: Wide>(
    simd: S,
    (run, cell): (&Run<'_, '_>, ScanCell),
    (share, steps): (&Share, Range<usize>),
    scratch: &mut ThreadScratch,
) {
    match run.direction.input.vectors {
        1 => by::<S, 1>(simd, (run, cell), (share, steps), scratch),
        2 => by::<S, 2>(simd, (run, cell), (share, steps), scratch),
        3 => by::<S, 3>(simd, (run, cell), (share, steps), scratch),
        _ => by::<S, 4>(simd, (run, cell), (share, steps), scratch),
    }
}

fn by<S: Wide, const Q: usize>(
    simd: S,
    (run, cell): (&Run<'_, '_>, ScanCell),
    (share, steps): (&Share, Range<usize>),
    scratch: &mut ThreadScratch,
) {
    let (level, direction) = (run.level, run.direction);
    let ThreadScratch { projected, h, c, history, .. } = scratch;
    let (rows, width) = (share.rows.len(), lanes::<S>());
    let keeps_c = cell.cell().keeps_c();
    let functions = direction.options.activations;
    let extra_blocks = direction.extra.len() / (level.blocks * width).max(1);
    let of_step = h.len();
    history.resize(steps.len() * of_step, 0.0);
    let stands = |time: usize, row: usize| run.mask.is_some_and(|mask| mask[time * run.batch + row] & bits::VALID == 0);
    simd.vectorize(
        #[inline(always)]
        || {
            let zero = S::f32s::splat(simd, 0.0);
            for (local, row) in share.rows.clone().enumerate() {
                for block in share.blocks.clone() {
                    let extra = match extra_blocks {
                        0 => [zero; 2],
                        1 => [vectors::<S, 1>(simd, &direction.extra, block)[0], zero],
                        _ => vectors::<S, 2>(simd, &direction.extra, block),
                    };
                    // Both strides are the same without a projection.
                    let at = local * level.h_stride + block * width;
                    let mut handed = S::f32s::from_slice(simd, &h[at..][..width]);
                    let mut state = if keeps_c { S::f32s::from_slice(simd, &c[at..][..width]) } else { handed };
                    let first = (block - share.blocks.start) * steps.len() * rows;
                    for step in 0..steps.len() {
                        let place = if direction.reverse { steps.len() - 1 - step } else { step };
                        if !stands(steps.start + place, row) {
                            let mut x = [zero; 4];
                            let of_input = vectors::<S, Q>(simd, projected, first + place * rows + local);
                            x[..Q].copy_from_slice(&of_input);
                            [state, handed] = stepped(simd, (cell, functions), x, extra, state);
                        }
                        handed.store_slice(&mut history[place * of_step + at..][..width]);
                    }
                    handed.store_slice(&mut h[at..][..width]);
                    if keeps_c {
                        state.store_slice(&mut c[at..][..width]);
                    }
                }
            }
        },
    );
}
