//! The step of cells whose units do not depend on each other, from W x + b.
//!
//! Equations and sources: `reference/scan_step.rs`.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::functions::{apply, exp};
use super::level::{Run, ThreadScratch};
use super::simd::{Wide, lanes};
use super::worker::{StepPlace, projected_of, vectors};
use crate::network::{Activation, ScanCell};

/// The gates of a minLSTM: `σ(f) / (σ(f) + σ(i))`, and 1 less that.
#[inline(always)]
fn normalized_gates<S: Wide>(simd: S, f: S::f32s, i: S::f32s) -> [S::f32s; 2] {
    let zero = S::f32s::splat(simd, 0.0);
    let least = f.simd_lt(i).select(f, i);
    let least = least.simd_lt(zero).select(least, zero);
    let of_both = exp(simd, least);
    let [of_f, of_i] = [i, f].map(|other| of_both + exp(simd, least - other));
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
            let gate = |which: usize| {
                let sum = x[1 + which];
                apply(simd, first, if peephole { extra[which].mul_add(before, sum) } else { sum })
            };
            let (f, r) = (gate(0), gate(1));
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

/// One step of all rows.
pub(super) fn scan<S: Wide>(
    simd: S,
    (run, cell): (&Run<'_, '_>, ScanCell),
    own: &Range<usize>,
    scratch: &mut ThreadScratch,
    place: &StepPlace<'_>,
) {
    match run.direction.input.vectors {
        1 => by::<S, 1>(simd, (run, cell), own, scratch, place),
        2 => by::<S, 2>(simd, (run, cell), own, scratch, place),
        3 => by::<S, 3>(simd, (run, cell), own, scratch, place),
        _ => by::<S, 4>(simd, (run, cell), own, scratch, place),
    }
}

fn by<S: Wide, const Q: usize>(
    simd: S,
    (run, cell): (&Run<'_, '_>, ScanCell),
    own: &Range<usize>,
    scratch: &mut ThreadScratch,
    place: &StepPlace<'_>,
) {
    let (level, direction) = (run.level, run.direction);
    let ThreadScratch { projected, h, next, c, .. } = scratch;
    let keeps_c = cell.cell().keeps_c();
    let functions = direction.options.activations;
    let extra_blocks = direction.extra.len() / (level.blocks * lanes::<S>()).max(1);
    simd.vectorize(
        #[inline(always)]
        || {
            for row in (0..h.len() / level.h_stride).filter(|&row| !place.stands(row)) {
                for block in own.clone() {
                    let zero = S::f32s::splat(simd, 0.0);
                    let mut x = [zero; 4];
                    let of_input = projected_of::<S, Q>(simd, projected, place, block - own.start, row);
                    x.iter_mut().zip(of_input).for_each(|(to, from)| *to = from);
                    let extra = match extra_blocks {
                        0 => [zero; 2],
                        1 => [vectors::<S, 1>(simd, &direction.extra, block)[0], zero],
                        _ => vectors::<S, 2>(simd, &direction.extra, block),
                    };
                    // Both strides are the same without a projection.
                    let at = row * level.h_stride + block * lanes::<S>();
                    let state = if keeps_c { &c[at..] } else { &h[at..] };
                    let before = S::f32s::from_slice(simd, &state[..lanes::<S>()]);
                    let [after, handed_on] = stepped(simd, (cell, functions), x, extra, before);
                    if keeps_c {
                        after.store_slice(&mut c[at..][..lanes::<S>()]);
                    }
                    handed_on.store_slice(&mut next[at..][..lanes::<S>()]);
                }
            }
        },
    );
}
