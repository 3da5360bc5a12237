//! The step of an sLSTM.
//!
//! Equations and sources: `reference/slstm_step.rs`.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::cells::CellOptions;
use super::functions::{apply, exp, sigmoid};
use super::level::{Run, ThreadScratch};
use super::product::InputRows;
use super::simd::{Wide, lanes};
use super::worker::{StepPlace, add_projected};
use crate::network::{Activation, gates};

/// h of a vector of units, and c, n and m in place, from the pre-activations i, f, z, o.
#[inline(always)]
fn stepped<S: Wide>(simd: S, options: &CellOptions, sums: [S::f32s; 4], [c, n, m]: &mut [S::f32s; 3]) -> S::f32s {
    let [of_forget, of_candidate, _] = options.activations;
    let (zero, one) = (S::f32s::splat(simd, 0.0), S::f32s::splat(simd, 1.0));
    let (of_input, of_f) = (sums[gates::INPUT], sums[gates::FORGET]);
    let log_forget =
        if of_forget == Activation::Exp { of_f } else { zero - apply(simd, Activation::Softplus, zero - of_f) };
    let kept = log_forget + *m;
    // A sum that is no number is handed on.
    let after = of_input.simd_lt(kept).select(kept, of_input);
    let after = n.simd_eq(zero).select(of_input, after);
    let input = exp(simd, of_input - after);
    let forget = exp(simd, kept - after);
    let forget = one.simd_lt(forget).select(one, forget);
    *c = forget.mul_add(*c, input * apply(simd, of_candidate, sums[gates::CANDIDATE]));
    *n = forget.mul_add(*n, input);
    *m = after;
    sigmoid(simd, sums[gates::OUTPUT]) * (*c / *n)
}

/// One step of all rows.
pub(super) fn slstm<S: Wide>(
    simd: S,
    run: &Run<'_, '_>,
    own: &Range<usize>,
    scratch: &mut ThreadScratch,
    place: &StepPlace<'_>,
) {
    let (level, direction) = (run.level, run.direction);
    let ThreadScratch { projected, h, next, c, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let (stride, part) = (level.c_stride(), level.blocks * level.units);
    let x = InputRows::even(h, level.h_stride);
    simd.vectorize(
        #[inline(always)]
        || {
            direction.recurrent.product::<S, 4>(
                simd,
                (x, rows),
                own.clone(),
                place.backwards,
                kept,
                #[inline(always)]
                |block: usize, row: usize, sums: &[S::f32s; 4]| {
                    if place.stands(row) {
                        return;
                    }
                    let mut sums = *sums;
                    add_projected(simd, &mut sums, projected, place, (block - own.start, row));
                    let at = [0, 1, 2].map(|which| row * stride + which * part + block * lanes::<S>());
                    let mut cells = at.map(|at| S::f32s::from_slice(simd, &c[at..][..lanes::<S>()]));
                    let after = stepped(simd, &direction.options, sums, &mut cells);
                    for (at, cells) in at.into_iter().zip(cells) {
                        cells.store_slice(&mut c[at..][..lanes::<S>()]);
                    }
                    after.store_slice(&mut next[row * level.h_stride + block * lanes::<S>()..][..lanes::<S>()]);
                },
            );
        },
    );
}
