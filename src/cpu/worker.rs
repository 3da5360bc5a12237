//! One thread's part of one direction of a level: projections in chunks of time, then the steps.

use std::ops::Range;

use fearless_simd::prelude::*;

use super::cells;
use super::level::{DirectionState, Run, ThreadScratch};
use super::normalized::normalized;
use super::packed::Panels;
use super::product::{InputRows, Kept};
use super::scan::scan;
use super::simd::{Wide, lanes};
use super::slstm::slstm;
use super::threads::{Ahead, Share, ThreadExchange};
use crate::base::bits;
use crate::base::lock::lock;
use crate::network::{Cell, gates};

/// Rows whose inputs are multiplied together: enough that the weights are read rarely, few enough for the
/// sums to stay in a cache.
const CHUNK_ROWS: usize = 48;
/// The same if another thread multiplies them: smaller, because the steps wait for the first chunk.
const CHUNK_ROWS_AHEAD: usize = 16;

pub(super) struct Worker<'a, 's> {
    run: &'a Run<'a, 's>,
    share: Share,
    scratch: ThreadScratch,
    /// Exchanges so far.
    turn: usize,
}

/// A function that receives h after a step: timestep, rows of the batch, h `[rows, h_stride]`.
pub(super) type Emit<'a> = dyn FnMut(usize, &Range<usize>, &[f32]) + 'a;

/// How the steps of a run are cut into chunks, whose inputs are multiplied together.
#[derive(Clone, Copy)]
struct Chunks {
    steps: usize,
    len: usize,
    reverse: bool,
}

impl Chunks {
    fn new(run: &Run<'_, '_>, rows: usize) -> Self {
        let most = if run.ahead.is_some() { CHUNK_ROWS_AHEAD } else { CHUNK_ROWS };
        Self { steps: run.steps, len: (most / rows.max(1)).clamp(1, run.steps), reverse: run.direction.reverse }
    }

    fn count(self) -> usize {
        self.steps.div_ceil(self.len)
    }

    /// Timesteps of a chunk, in the order of the input.
    fn range(self, chunk: usize) -> Range<usize> {
        let (first, end) = (chunk * self.len, self.steps.min((chunk + 1) * self.len));
        if self.reverse { self.steps - end..self.steps - first } else { first..end }
    }
}

/// Computes projections for the thread that takes the steps, see [`Ahead`](super::threads::Ahead).
pub(super) fn help<S: Wide>(simd: S, run: &Run<'_, '_>, share: &Share, kept: &mut Kept) {
    let chunks = Chunks::new(run, share.rows.len());
    if let Some(ahead) = run.ahead {
        ahead.help(chunks.count(), |chunk, to| {
            Projection { run, share, steps: chunks.range(chunk) }.compute(simd, to, kept);
        });
    }
}

/// W x + b of some timesteps.
struct Projection<'a, 's> {
    run: &'a Run<'a, 's>,
    share: &'a Share,
    steps: Range<usize>,
}

impl Projection<'_, '_> {
    fn compute<S: Wide>(&self, simd: S, projected: &mut Vec<f32>, kept: &mut Kept) {
        match self.run.direction.input.vectors {
            1 => self.by::<S, 1>(simd, projected, kept),
            2 => self.by::<S, 2>(simd, projected, kept),
            3 => self.by::<S, 3>(simd, projected, kept),
            _ => self.by::<S, 4>(simd, projected, kept),
        }
    }

    fn by<S: Wide, const Q: usize>(&self, simd: S, projected: &mut Vec<f32>, kept: &mut Kept) {
        let Run { direction, input, batch, .. } = *self.run;
        let (share, steps) = (self.share, &self.steps);
        let rows = share.rows.len();
        let all = steps.len() * rows;
        let block_len = Q * lanes::<S>();
        projected.resize(share.blocks.len() * all * block_len, 0.0);
        let inputs = direction.input.inputs;
        let x = InputRows::even(&input[(steps.start * batch + share.rows.start) * inputs..], inputs);
        // Of some rows only, each timestep's begin after those of all rows.
        let x = if rows < batch { InputRows { group: rows, group_stride: batch * inputs, ..x } } else { x };
        let own = share.blocks.clone();
        simd.vectorize(
            #[inline(always)]
            || {
                direction.input.product::<S, Q>(
                    simd,
                    (x, all),
                    own.clone(),
                    false,
                    kept,
                    #[inline(always)]
                    |block, row, sums| {
                        let bias = vectors::<S, Q>(simd, &direction.bias, block);
                        let to = &mut projected[((block - own.start) * all + row) * block_len..][..block_len];
                        for ((to, &sum), bias) in to.chunks_exact_mut(lanes::<S>()).zip(sums).zip(bias) {
                            (sum + bias).store_slice(to);
                        }
                    },
                );
            },
        );
    }
}

impl<'a, 's> Worker<'a, 's> {
    pub fn new(run: &'a Run<'a, 's>, share: Share, mut scratch: ThreadScratch) -> Self {
        let level = run.level;
        let (c_stride, raw_stride) = (level.c_stride(), level.blocks * level.units);
        let rows = share.rows.len();
        for (numbers, stride) in [
            (&mut scratch.h, level.h_stride),
            (&mut scratch.next, level.h_stride),
            (&mut scratch.c, c_stride),
            (&mut scratch.raw, raw_stride),
        ] {
            numbers.clear();
            numbers.resize(rows * stride, 0.0);
        }
        let state = lock(run.state);
        let (hidden, width) = (level.stage.hidden_size, level.stage.state_size());
        for (local, row) in share.rows.clone().enumerate() {
            let row = run.slot(row);
            scratch.h[local * level.h_stride..][..width].copy_from_slice(&state.h[row * width..][..width]);
            for (part, cells) in state.cells.iter().enumerate().filter(|(_, cells)| !cells.is_empty()) {
                let to = &mut scratch.c[local * c_stride + part * raw_stride..][..hidden];
                to.copy_from_slice(&cells[row * hidden..][..hidden]);
            }
        }
        Self { run, share, scratch, turn: 0 }
    }

    /// Runs all steps, stores the final state and returns the memory.
    pub fn run<S: Wide>(mut self, simd: S, emit: &mut Emit<'_>) -> ThreadScratch {
        let _exchange = self.run.exchange.map(ThreadExchange::guard);
        let _ahead = self.run.ahead.map(Ahead::guard);
        let rows = self.share.rows.len();
        let chunks = Chunks::new(self.run, rows);
        let mut backwards = false;
        for chunk in 0..chunks.count() {
            let steps = chunks.range(chunk);
            let ThreadScratch { projected, kept, .. } = &mut self.scratch;
            let projection = Projection { run: self.run, share: &self.share, steps: steps.clone() };
            match self.run.ahead {
                Some(ahead) => ahead.take(chunk, projected, |to| projection.compute(simd, to, kept)),
                None => projection.compute(simd, projected, kept),
            }
            if let Some(cell) = self.run.level.stage.recurrence.scan() {
                scan(simd, (self.run, cell), (&self.share, steps.clone()), &mut self.scratch);
                let ThreadScratch { h, history, .. } = &self.scratch;
                for (time, h) in steps.zip(history.chunks_exact(h.len().max(1))) {
                    emit(time, &self.share.rows, h);
                }
                continue;
            }
            for index in 0..steps.len() {
                let at = if chunks.reverse { steps.len() - 1 - index } else { index };
                self.step(simd, steps.start + at, at * rows, steps.len() * rows, backwards);
                emit(steps.start + at, &self.share.rows, &self.scratch.h);
                backwards = !backwards;
            }
        }
        self.keep();
        self.scratch
    }

    /// Stores the final state.
    fn keep(&self) {
        let (level, scratch) = (self.run.level, &self.scratch);
        let (hidden, width) = (level.stage.hidden_size, level.stage.state_size());
        let mut state = lock(self.run.state);
        let DirectionState { h, cells } = &mut *state;
        for (local, row) in self.share.rows.clone().enumerate() {
            let row = self.run.slot(row);
            let blocks = &self.share.blocks;
            let units = blocks.start * level.units..hidden.min(blocks.end * level.units);
            // Where threads exchange h, each has all of it.
            let columns = if level.stage.cell().scans() { units.clone() } else { 0..width };
            let from = &scratch.h[local * level.h_stride..];
            h[row * width..][columns.clone()].copy_from_slice(&from[columns]);
            for (part, cells) in cells.iter_mut().enumerate().filter(|(_, cells)| !cells.is_empty()) {
                let from = &scratch.c[local * level.c_stride() + part * level.blocks * level.units..];
                cells[row * hidden..][units.clone()].copy_from_slice(&from[units.clone()]);
            }
        }
    }

    /// One timestep of all rows; `at` of `chunk_rows` projected rows are before it.
    fn step<S: Wide>(&mut self, simd: S, t: usize, at: usize, chunk_rows: usize, backwards: bool) {
        let run = self.run;
        let exchange = run.exchange;
        let (level, direction) = (run.level, run.direction);
        let mask = run.mask.map(|mask| &mask[t * run.batch..][self.share.rows.clone()]);
        let place = StepPlace { at, chunk_rows, backwards, mask };
        let own = self.share.blocks.clone();
        let own_units = own.start * level.units..own.end * level.units;
        let c_stride = level.blocks * level.units;
        match (level.stage.cell(), direction.input.vectors) {
            (Cell::Lstm, _) => lstm(simd, run, &own, &mut self.scratch, &place),
            (Cell::Gru, _) if direction.candidate.is_none() => gru(simd, run, &own, &mut self.scratch, &place),
            (Cell::Gru, _) => {
                gru_gates(simd, run, &own, &mut self.scratch, &place);
                if let Some(exchange) = exchange {
                    exchange.all_gather(&mut self.scratch.raw, c_stride, &own_units, self.turn);
                    self.turn += 1;
                }
                gru_candidate(simd, run, &own, &mut self.scratch, &place);
            }
            (Cell::Slstm, _) => slstm(simd, run, &own, &mut self.scratch, &place),
            (Cell::Rnn, 1) => rnn::<S, 1>(simd, run, &own, &mut self.scratch, &place),
            (Cell::Rnn, 2) => rnn::<S, 2>(simd, run, &own, &mut self.scratch, &place),
            (Cell::Rnn, _) => rnn::<S, 4>(simd, run, &own, &mut self.scratch, &place),
            _ => normalized(simd, run, &mut self.scratch, &place),
        }
        let mut own_columns = own_units.clone();
        if let Some(projection) = &direction.projection {
            if let Some(exchange) = exchange {
                exchange.all_gather(&mut self.scratch.raw, c_stride, &own_units, self.turn);
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
        let ThreadScratch { h, next, .. } = &mut self.scratch;
        let zoneout = level.stage.zoneout.h;
        if zoneout > 0.0 {
            for (before, after) in h.chunks_exact(level.h_stride).zip(next.chunks_exact_mut(level.h_stride)) {
                let of_units = before[own_columns.clone()].iter().zip(&mut after[own_columns.clone()]);
                of_units.for_each(|(before, after)| *after = zoneout * before + (1.0 - zoneout) * *after);
            }
        }
        if mask.is_some() {
            for local in (0..self.share.rows.len()).filter(|&local| place.stands(local)) {
                let row = local * level.h_stride..(local + 1) * level.h_stride;
                next[row.clone()].copy_from_slice(&h[row]);
            }
        }
        std::mem::swap(h, next);
        if let Some(exchange) = exchange {
            exchange.all_gather(h, level.h_stride, &own_columns, self.turn);
            self.turn += 1;
        }
    }
}

/// Where a step is.
pub(super) struct StepPlace<'a> {
    /// Projected rows of the chunk before it.
    at: usize,
    chunk_rows: usize,
    pub backwards: bool,
    /// Bits of the rows.
    mask: Option<&'a [u32]>,
}

impl StepPlace<'_> {
    /// Whether a row's state does not change.
    #[inline(always)]
    pub fn stands(&self, row: usize) -> bool {
        self.mask.is_some_and(|mask| mask[row] & bits::VALID == 0)
    }
}

/// The Q vectors of a block in `[blocks, Q, lanes]`.
#[inline(always)]
pub(super) fn vectors<S: Wide, const Q: usize>(simd: S, numbers: &[f32], block: usize) -> [S::f32s; Q] {
    let mut vectors = [S::f32s::splat(simd, 0.0); Q];
    let numbers = numbers[block * Q * lanes::<S>()..][..Q * lanes::<S>()].chunks_exact(lanes::<S>());
    for (vector, numbers) in vectors.iter_mut().zip(numbers) {
        *vector = S::f32s::from_slice(simd, numbers);
    }
    vectors
}

/// The projected vectors of a block and a row.
#[inline(always)]
pub(super) fn projected_of<S: Wide, const Q: usize>(
    simd: S,
    projected: &[f32],
    place: &StepPlace<'_>,
    block: usize,
    row: usize,
) -> [S::f32s; Q] {
    vectors::<S, Q>(simd, projected, block * place.chunk_rows + place.at + row)
}

/// Adds the projected vectors of a block and a row to the sums over the state.
#[inline(always)]
pub(super) fn add_projected<S: Wide, const Q: usize>(
    simd: S,
    sums: &mut [S::f32s; Q],
    projected: &[f32],
    place: &StepPlace<'_>,
    (block, row): (usize, usize),
) {
    for (sum, projected) in sums.iter_mut().zip(projected_of::<S, Q>(simd, projected, place, block, row)) {
        *sum += projected;
    }
}

fn lstm<S: Wide>(simd: S, run: &Run<'_, '_>, own: &Range<usize>, scratch: &mut ThreadScratch, place: &StepPlace<'_>) {
    let (level, direction) = (run.level, run.direction);
    let ThreadScratch { projected, h, next, c, raw, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let c_stride = level.blocks * level.units;
    let (to, to_stride) = if direction.projection.is_some() { (raw, c_stride) } else { (next, level.h_stride) };
    let x = InputRows::even(h, level.h_stride);
    let peephole = !direction.extra.is_empty();
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
                    let peepholes = if peephole { Some(vectors::<S, 3>(simd, &direction.extra, block)) } else { None };
                    let c = &mut c[row * c_stride + block * lanes::<S>()..][..lanes::<S>()];
                    let before = S::f32s::from_slice(simd, c);
                    let [after, h] = cells::lstm(simd, &direction.options, sums, peepholes, before);
                    cells::zoned_c(simd, &direction.options, before, after).store_slice(c);
                    h.store_slice(&mut to[row * to_stride + block * lanes::<S>()..][..lanes::<S>()]);
                },
            );
        },
    );
}

/// The products of rows with `panels`, `to` `[rows, stride]`: blocks of Q vectors, one after the other.
pub(super) fn store_product<S: Wide, const Q: usize>(
    simd: S,
    panels: &Panels,
    x: (InputRows<'_>, usize),
    blocks: Range<usize>,
    backwards: bool,
    kept: &mut Kept,
    (to, stride): (&mut [f32], usize),
) {
    simd.vectorize(
        #[inline(always)]
        || {
            panels.product::<S, Q>(
                simd,
                x,
                blocks,
                backwards,
                kept,
                #[inline(always)]
                |block: usize, row: usize, sums: &[S::f32s; Q]| {
                    let to = &mut to[row * stride + block * Q * lanes::<S>()..][..Q * lanes::<S>()];
                    for (to, sum) in to.chunks_exact_mut(lanes::<S>()).zip(sums) {
                        sum.store_slice(to);
                    }
                },
            );
        },
    );
}

/// P of an LSTM: `next = raw W^T`.
fn project_h<S: Wide, const Q: usize>(
    simd: S,
    run: &Run<'_, '_>,
    blocks: Range<usize>,
    scratch: &mut ThreadScratch,
    place: &StepPlace<'_>,
) {
    let level = run.level;
    let ThreadScratch { h, next, raw, kept, .. } = scratch;
    let x = (InputRows::even(raw, level.blocks * level.units), h.len() / level.h_stride);
    let Some(projection) = &run.direction.projection else { return };
    store_product::<S, Q>(simd, projection, x, blocks, place.backwards, kept, (next, level.h_stride));
}

fn gru<S: Wide>(simd: S, run: &Run<'_, '_>, own: &Range<usize>, scratch: &mut ThreadScratch, place: &StepPlace<'_>) {
    let (level, direction) = (run.level, run.direction);
    let ThreadScratch { projected, h, next, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let x = InputRows::even(h, level.h_stride);
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
fn gru_gates<S: Wide>(
    simd: S,
    run: &Run<'_, '_>,
    own: &Range<usize>,
    scratch: &mut ThreadScratch,
    place: &StepPlace<'_>,
) {
    let (level, direction) = (run.level, run.direction);
    let ThreadScratch { projected, h, c, raw, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let x = InputRows::even(h, level.h_stride);
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
fn gru_candidate<S: Wide>(
    simd: S,
    run: &Run<'_, '_>,
    own: &Range<usize>,
    scratch: &mut ThreadScratch,
    place: &StepPlace<'_>,
) {
    let (level, direction) = (run.level, run.direction);
    let ThreadScratch { projected, h, next, c, raw, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let x = InputRows::even(raw, level.h_stride);
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

fn rnn<S: Wide, const Q: usize>(
    simd: S,
    run: &Run<'_, '_>,
    own: &Range<usize>,
    scratch: &mut ThreadScratch,
    place: &StepPlace<'_>,
) {
    let (level, direction) = (run.level, run.direction);
    let ThreadScratch { projected, h, next, kept, .. } = scratch;
    let rows = h.len() / level.h_stride;
    let x = InputRows::even(h, level.h_stride);
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
