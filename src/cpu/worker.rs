//! One thread's part of one direction of a level: projections in chunks of time, then the steps.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::cells;
use super::level::{Run, Scratch};
use super::product::Rows;
use super::simd::{Wide, lanes};
use super::threads::{Exchange, Share};
use crate::input::bits;
use crate::network::{Cell, gates};

/// Rows whose inputs are multiplied together: enough to read the weights seldom, few enough for the
/// sums to stay in a cache.
const CHUNK_ROWS: usize = 48;

pub(super) struct Worker<'a> {
    run: &'a Run<'a>,
    share: Share,
    scratch: Scratch,
    /// Meetings so far.
    turn: usize,
}

/// Tells what h is after a step: timestep, row of the batch, h.
pub(super) type Emit<'a> = dyn FnMut(usize, usize, &[f32]) + 'a;

impl<'a> Worker<'a> {
    pub fn new(run: &'a Run<'a>, share: Share, mut scratch: Scratch) -> Self {
        let level = run.level;
        let (hidden, width) = (level.stage.hidden_size, level.stage.state_size());
        let (rows, c_stride) = (share.rows.len(), level.blocks * level.units);
        for (numbers, stride) in [
            (&mut scratch.h, level.h_stride),
            (&mut scratch.next, level.h_stride),
            (&mut scratch.c, c_stride),
            (&mut scratch.raw, c_stride),
        ] {
            numbers.clear();
            numbers.resize(rows * stride, 0.0);
        }
        for (local, row) in share.rows.clone().enumerate() {
            scratch.h[local * level.h_stride..][..width].copy_from_slice(&run.h[row * width..][..width]);
            if !run.c.is_empty() {
                scratch.c[local * c_stride..][..hidden].copy_from_slice(&run.c[row * hidden..][..hidden]);
            }
        }
        Self { run, share, scratch, turn: 0 }
    }

    /// Runs all steps and hands the final state back in the scratch.
    pub fn run<S: Wide>(mut self, simd: S, exchange: Option<&Exchange>, emit: &mut Emit<'_>) -> Scratch {
        let rows = self.share.rows.len();
        let steps = self.run.steps;
        let chunk = (CHUNK_ROWS / rows.max(1)).clamp(1, steps);
        let reverse = self.run.direction.reverse;
        let mut done = 0;
        while done < steps {
            let len = chunk.min(steps - done);
            let first = if reverse { steps - done - len } else { done };
            let level = self.run.level;
            match (level.stage.cell, self.run.direction.input.vectors) {
                (Cell::Lstm, _) => self.project::<S, 4>(simd, first, len),
                (Cell::Gru, _) => self.project::<S, 3>(simd, first, len),
                (Cell::Rnn, 1) => self.project::<S, 1>(simd, first, len),
                (Cell::Rnn, 2) => self.project::<S, 2>(simd, first, len),
                (Cell::Rnn, _) => self.project::<S, 4>(simd, first, len),
            }
            for index in 0..len {
                let t = first + if reverse { len - 1 - index } else { index };
                self.step(simd, t, (t - first) * rows, len * rows, exchange, (done + index) % 2 == 1);
                for (local, row) in self.share.rows.clone().enumerate() {
                    emit(t, row, &self.scratch.h[local * level.h_stride..][..level.h_stride]);
                }
            }
            done += len;
        }
        self.scratch
    }

    /// W x + b of `len` timesteps.
    fn project<S: Wide, const Q: usize>(&mut self, simd: S, first: usize, len: usize) {
        let Run { direction, input, batch, .. } = *self.run;
        let rows = self.share.rows.len();
        let block_len = Q * lanes::<S>();
        let Scratch { projected, kept, .. } = &mut self.scratch;
        projected.resize(self.share.blocks.len() * len * rows * block_len, 0.0);
        let inputs = direction.input.inputs;
        let x = Rows {
            data: &input[(first * batch + self.share.rows.start) * inputs..],
            stride: inputs,
            group: rows,
            group_stride: batch * inputs,
        };
        let own = self.share.blocks.clone();
        simd.vectorize(
            #[inline(always)]
            || {
                direction.input.product::<S, Q>(
                    simd,
                    (x, len * rows),
                    own.clone(),
                    false,
                    kept,
                    #[inline(always)]
                    |block, row, sums| {
                        let bias = vectors::<S, Q>(simd, &direction.bias, block);
                        let to = &mut projected[((block - own.start) * len * rows + row) * block_len..][..block_len];
                        for ((to, &sum), bias) in to.chunks_exact_mut(lanes::<S>()).zip(sums).zip(bias) {
                            (sum + bias).store_slice(to);
                        }
                    },
                );
            },
        );
    }

    /// One timestep of all rows; `at` of `chunk_rows` projected rows are before it.
    fn step<S: Wide>(
        &mut self,
        simd: S,
        t: usize,
        at: usize,
        chunk_rows: usize,
        exchange: Option<&Exchange>,
        backwards: bool,
    ) {
        let run = self.run;
        let (level, direction) = (run.level, run.direction);
        let masked = |local: usize| {
            run.mask.is_some_and(|mask| mask[t * run.batch + self.share.rows.start + local] & bits::VALID == 0)
        };
        let place = Place { at, chunk_rows, backwards, masked: &masked };
        let own = self.share.blocks.clone();
        let own_units = own.start * level.units..own.end * level.units;
        let c_stride = level.blocks * level.units;
        match (level.stage.cell, direction.input.vectors) {
            (Cell::Lstm, _) => lstm(simd, run, &own, &mut self.scratch, &place),
            (Cell::Gru, _) if direction.candidate.is_none() => gru(simd, run, &own, &mut self.scratch, &place),
            (Cell::Gru, _) => {
                gru_gates(simd, run, &own, &mut self.scratch, &place);
                if let Some(exchange) = exchange {
                    exchange.meet(&mut self.scratch.raw, c_stride, &own_units, self.turn);
                    self.turn += 1;
                }
                gru_candidate(simd, run, &own, &mut self.scratch, &place);
            }
            (Cell::Rnn, 1) => rnn::<S, 1>(simd, run, &own, &mut self.scratch, &place),
            (Cell::Rnn, 2) => rnn::<S, 2>(simd, run, &own, &mut self.scratch, &place),
            (Cell::Rnn, _) => rnn::<S, 4>(simd, run, &own, &mut self.scratch, &place),
        }
        let mut own_columns = own_units.clone();
        if let Some(projection) = &direction.projection {
            if let Some(exchange) = exchange {
                exchange.meet(&mut self.scratch.raw, c_stride, &own_units, self.turn);
                self.turn += 1;
            }
            let part = |end: usize| end * projection.blocks / level.blocks;
            let blocks = part(own.start)..part(own.end);
            let block_len = projection.vectors * lanes::<S>();
            own_columns = blocks.start * block_len..blocks.end * block_len;
            match projection.vectors {
                1 => project_h::<S, 1>(simd, run, blocks, &mut self.scratch, &place),
                2 => project_h::<S, 2>(simd, run, blocks, &mut self.scratch, &place),
                _ => project_h::<S, 4>(simd, run, blocks, &mut self.scratch, &place),
            }
        }
        let Scratch { h, next, .. } = &mut self.scratch;
        if run.mask.is_some() {
            for local in (0..self.share.rows.len()).filter(|&local| masked(local)) {
                let row = local * level.h_stride..(local + 1) * level.h_stride;
                next[row.clone()].copy_from_slice(&h[row]);
            }
        }
        std::mem::swap(h, next);
        if let Some(exchange) = exchange {
            exchange.meet(h, level.h_stride, &own_columns, self.turn);
            self.turn += 1;
        }
    }
}

/// Where a step is.
struct Place<'a> {
    /// Projected rows of the chunk before it.
    at: usize,
    chunk_rows: usize,
    backwards: bool,
    /// Whether a row's state stands still.
    masked: &'a dyn Fn(usize) -> bool,
}

/// The Q vectors of a block in `[blocks, Q, lanes]`.
#[inline(always)]
fn vectors<S: Wide, const Q: usize>(simd: S, numbers: &[f32], block: usize) -> [S::f32s; Q] {
    let mut vectors = [S::f32s::splat(simd, 0.0); Q];
    let numbers = numbers[block * Q * lanes::<S>()..][..Q * lanes::<S>()].chunks_exact(lanes::<S>());
    for (vector, numbers) in vectors.iter_mut().zip(numbers) {
        *vector = S::f32s::from_slice(simd, numbers);
    }
    vectors
}

/// The projected vectors of a block and a row.
#[inline(always)]
fn projected_of<S: Wide, const Q: usize>(
    simd: S,
    projected: &[f32],
    place: &Place<'_>,
    block: usize,
    row: usize,
) -> [S::f32s; Q] {
    vectors::<S, Q>(simd, projected, block * place.chunk_rows + place.at + row)
}

fn lstm<S: Wide>(simd: S, run: &Run<'_>, own: &Range<usize>, scratch: &mut Scratch, place: &Place<'_>) {
    let (level, direction) = (run.level, run.direction);
    let Scratch { projected, h, next, c, raw, kept } = scratch;
    let rows = h.len() / level.h_stride;
    let c_stride = level.blocks * level.units;
    let (to, to_stride) = if direction.projection.is_some() { (raw, c_stride) } else { (next, level.h_stride) };
    let x = Rows::even(h, level.h_stride);
    let peephole = level.stage.peephole;
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
                    if (place.masked)(row) {
                        return;
                    }
                    let mut sums = *sums;
                    let projected = projected_of::<S, 4>(simd, projected, place, block - own.start, row);
                    for (sum, projected) in sums.iter_mut().zip(projected) {
                        *sum += projected;
                    }
                    let peepholes = if peephole { Some(vectors::<S, 3>(simd, &direction.extra, block)) } else { None };
                    let c = &mut c[row * c_stride + block * lanes::<S>()..][..lanes::<S>()];
                    let before = S::f32s::from_slice(simd, c);
                    let [after, h] = cells::lstm(simd, &direction.options, sums, peepholes, before);
                    after.store_slice(c);
                    h.store_slice(&mut to[row * to_stride + block * lanes::<S>()..][..lanes::<S>()]);
                },
            );
        },
    );
}

/// P of an LSTM: `next = raw W^T`.
fn project_h<S: Wide, const Q: usize>(
    simd: S,
    run: &Run<'_>,
    blocks: Range<usize>,
    scratch: &mut Scratch,
    place: &Place<'_>,
) {
    let level = run.level;
    let Scratch { h, next, raw, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let x = Rows::even(raw, level.blocks * level.units);
    let Some(projection) = &run.direction.projection else { return };
    simd.vectorize(
        #[inline(always)]
        || {
            projection.product::<S, Q>(
                simd,
                (x, rows),
                blocks,
                place.backwards,
                kept,
                #[inline(always)]
                |block: usize, row: usize, sums: &[S::f32s; Q]| {
                    let to = &mut next[row * level.h_stride + block * Q * lanes::<S>()..][..Q * lanes::<S>()];
                    for (to, sum) in to.chunks_exact_mut(lanes::<S>()).zip(sums) {
                        sum.store_slice(to);
                    }
                },
            );
        },
    );
}

fn gru<S: Wide>(simd: S, run: &Run<'_>, own: &Range<usize>, scratch: &mut Scratch, place: &Place<'_>) {
    let (level, direction) = (run.level, run.direction);
    let Scratch { projected, h, next, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let x = Rows::even(h, level.h_stride);
    simd.vectorize(
        #[inline(always)]
        || {
            direction.recurrent.product::<S, 3>(
                simd,
                (x, rows),
                own.clone(),
                place.backwards,
                kept,
                #[inline(always)]
                |block: usize, row: usize, sums: &[S::f32s; 3]| {
                    let p = projected_of::<S, 3>(simd, projected, place, block - own.start, row);
                    let [bias] = vectors::<S, 1>(simd, &direction.extra, block);
                    let reset = cells::gate(simd, &direction.options, p[gates::RESET] + sums[gates::RESET]);
                    let update = cells::gate(simd, &direction.options, p[gates::UPDATE] + sums[gates::UPDATE]);
                    let candidate = reset.mul_add(sums[gates::NEW] + bias, p[gates::NEW]);
                    let at = row * level.h_stride + block * lanes::<S>();
                    let before = S::f32s::from_slice(simd, &h[at..][..lanes::<S>()]);
                    let after = cells::gru(simd, &direction.options, update, candidate, before);
                    after.store_slice(&mut next[at..][..lanes::<S>()]);
                },
            );
        },
    );
}

/// Of a GRU that resets first: the update gate into `c`, r∘h into `raw`.
fn gru_gates<S: Wide>(simd: S, run: &Run<'_>, own: &Range<usize>, scratch: &mut Scratch, place: &Place<'_>) {
    let (level, direction) = (run.level, run.direction);
    let Scratch { projected, h, c, raw, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let x = Rows::even(h, level.h_stride);
    simd.vectorize(
        #[inline(always)]
        || {
            direction.recurrent.product::<S, 2>(
                simd,
                (x, rows),
                own.clone(),
                place.backwards,
                kept,
                #[inline(always)]
                |block: usize, row: usize, sums: &[S::f32s; 2]| {
                    let p = projected_of::<S, 3>(simd, projected, place, block - own.start, row);
                    let reset = cells::gate(simd, &direction.options, p[gates::RESET] + sums[gates::RESET]);
                    let update = cells::gate(simd, &direction.options, p[gates::UPDATE] + sums[gates::UPDATE]);
                    // Without a projection both strides are the same.
                    let at = row * level.h_stride + block * lanes::<S>()..;
                    let before = S::f32s::from_slice(simd, &h[at.clone()][..lanes::<S>()]);
                    (reset * before).store_slice(&mut raw[at.clone()][..lanes::<S>()]);
                    update.store_slice(&mut c[at][..lanes::<S>()]);
                },
            );
        },
    );
}

/// Of a GRU that resets first: the candidate and h.
fn gru_candidate<S: Wide>(simd: S, run: &Run<'_>, own: &Range<usize>, scratch: &mut Scratch, place: &Place<'_>) {
    let (level, direction) = (run.level, run.direction);
    let Scratch { projected, h, next, c, raw, kept } = scratch;
    let rows = h.len() / level.h_stride;
    let x = Rows::even(raw, level.h_stride);
    let Some(candidate) = &direction.candidate else { return };
    simd.vectorize(
        #[inline(always)]
        || {
            candidate.product::<S, 1>(
                simd,
                (x, rows),
                own.clone(),
                place.backwards,
                kept,
                #[inline(always)]
                |block: usize, row: usize, sums: &[S::f32s; 1]| {
                    let p = projected_of::<S, 3>(simd, projected, place, block - own.start, row);
                    let at = row * level.h_stride + block * lanes::<S>();
                    let update = S::f32s::from_slice(simd, &c[at..][..lanes::<S>()]);
                    let before = S::f32s::from_slice(simd, &h[at..][..lanes::<S>()]);
                    let after = cells::gru(simd, &direction.options, update, p[gates::NEW] + sums[0], before);
                    after.store_slice(&mut next[at..][..lanes::<S>()]);
                },
            );
        },
    );
}

fn rnn<S: Wide, const Q: usize>(simd: S, run: &Run<'_>, own: &Range<usize>, scratch: &mut Scratch, place: &Place<'_>) {
    let (level, direction) = (run.level, run.direction);
    let Scratch { projected, h, next, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let x = Rows::even(h, level.h_stride);
    simd.vectorize(
        #[inline(always)]
        || {
            direction.recurrent.product::<S, Q>(
                simd,
                (x, rows),
                own.clone(),
                place.backwards,
                kept,
                #[inline(always)]
                |block: usize, row: usize, sums: &[S::f32s; Q]| {
                    let p = projected_of::<S, Q>(simd, projected, place, block - own.start, row);
                    let to = &mut next[row * level.h_stride + block * level.units..][..level.units];
                    for ((to, &sum), p) in to.chunks_exact_mut(lanes::<S>()).zip(sums).zip(p) {
                        cells::rnn(simd, &direction.options, p + sum).store_slice(to);
                    }
                },
            );
        },
    );
}
