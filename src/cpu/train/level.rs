//! One direction of a recurrent level: its forward pass, which keeps what the gradients need, and its backward pass.
//!
//! Each thread takes some rows of the batch through all timesteps. Rows do not depend on each other, so no thread waits for
//! another before the end of a pass.

use super::cells::{GateBlocks, cell_backward, cell_forward};
use super::product::{ProductRows, StoreMode, movers, pack_columns, pack_rows, product};
use super::rows::{RowParts, Rows};
use super::share_memory::{ShareMemory, set_shares};
use super::weight_gradient::{GradientFactor, WeightGradient};
use crate::base::bits;
use crate::cpu::packed::Panels;
use crate::cpu::product::InputRows;
use crate::cpu::simd::{Wide, lanes};
use crate::cpu::threads::{share, worth};
use crate::host::StageBackward;
use crate::network::{Network, RecurrentStage, Role, Stage};
use crate::reference::{StageInput, stands_still};

/// Rows whose products with W are taken together: few enough for a cache to keep the sums until the steps read them.
const CHUNK_ROWS: usize = 48;

/// What a direction keeps between its passes and, as memory, between steps of training.
#[derive(Debug, Default)]
pub(super) struct LaneMemory {
    shares: Vec<ShareMemory>,
    of_input: Panels,
    of_state: Panels,
    /// `[blocks, H]`
    bias: Vec<f32>,
    gradient: WeightGradient,
}

/// Sizes of a direction's passes.
#[derive(Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    inputs: usize,
    hidden: usize,
    /// H in whole vectors.
    padded: usize,
    /// I in whole vectors.
    padded_inputs: usize,
    /// Numbers of a row of sums.
    stride: usize,
}

impl Sizes {
    /// Steps whose inputs a share of `rows` rows multiplies together.
    fn chunk(&self, rows: usize) -> usize {
        (CHUNK_ROWS / rows.max(1)).clamp(1, self.steps)
    }
}

/// One direction of a level.
#[derive(Clone, Copy)]
pub(super) struct TrainLane<'a> {
    pub network: &'a Network,
    pub stage: &'a Stage,
    pub level: &'a RecurrentStage,
    pub direction: usize,
    pub flow: &'a StageInput<'a, f32>,
    pub threads: usize,
}

/// The rows of a tensor `[G*H, K]` by their place in blocks of padded H.
#[derive(Clone, Copy)]
struct GateRows<'a> {
    matrix: &'a [f32],
    columns: usize,
    sizes: Sizes,
    /// Block of each gate.
    blocks: &'static [usize],
}

impl<'a> GateRows<'a> {
    fn row(&self, place: usize) -> Option<&'a [f32]> {
        let Sizes { hidden, padded, .. } = self.sizes;
        let (block, unit) = (place / padded, place % padded);
        let gate = self.blocks.iter().position(|&of_gate| of_gate == block).filter(|_| unit < hidden)?;
        Some(&self.matrix[(gate * hidden + unit) * self.columns..][..self.columns])
    }
}

impl TrainLane<'_> {
    fn sizes<S: Wide>(&self) -> Sizes {
        let StageInput { steps, batch, .. } = *self.flow;
        let (inputs, hidden) = (self.stage.in_features, self.level.hidden_size);
        let [padded, padded_inputs] = [hidden, inputs].map(|size| size.next_multiple_of(lanes::<S>()));
        Sizes { steps, batch, inputs, hidden, padded, padded_inputs, stride: self.blocks().count * padded }
    }

    fn blocks(&self) -> GateBlocks {
        GateBlocks::of(self.level.cell())
    }

    fn reverse(&self) -> bool {
        self.level.directions[self.direction].reverse
    }

    fn gate_rows(&self, role: Role, sizes: Sizes) -> GateRows<'_> {
        let of_input = role == Role::WeightIh;
        let columns = if of_input { sizes.inputs } else { sizes.hidden };
        let blocks = if of_input { self.blocks().of_input } else { self.blocks().of_state };
        GateRows { matrix: self.network.param(self.stage, self.direction, role), columns, sizes, blocks }
    }

    fn time(&self, step: usize) -> usize {
        if self.reverse() { self.flow.steps - 1 - step } else { step }
    }

    fn mask(&self, at: usize) -> u32 {
        self.flow.mask.map_or(bits::VALID, |mask| mask[at])
    }

    /// Where a row's h goes in the output, if it does after this step.
    fn output_row(&self, step: usize, row: usize) -> Option<usize> {
        let at = self.time(step) * self.flow.batch + row;
        let mask = self.mask(at);
        let seen = mask & bits::VALID != 0 || stands_still(self.level, self.reverse(), self.stage.sequence_out, mask);
        if self.stage.sequence_out { seen.then_some(at) } else { (seen && step + 1 == self.flow.steps).then_some(row) }
    }

    /// Products and sums of one pass, by which the threads are chosen.
    fn work(&self, sizes: Sizes) -> usize {
        let Sizes { steps, batch, inputs, hidden, stride, .. } = sizes;
        steps * batch * stride * (inputs + hidden)
    }

    /// Runs the steps from the state `(h, c)` `[B, H]`, which becomes the final one.
    pub fn forward<S: Wide>(&self, simd: S, memory: &mut LaneMemory, (h, c): (&mut [f32], &mut [f32])) {
        let sizes = self.sizes::<S>();
        let Sizes { steps, batch, inputs, hidden, padded, .. } = sizes;
        let threads = self.threads.min(worth(self.work(sizes)));
        let blocks = self.blocks();
        let LaneMemory { shares, of_input, of_state, bias, .. } = memory;
        let rows = self.gate_rows(Role::WeightIh, sizes);
        pack_rows::<S>(of_input, threads, [blocks.of_input.len() * padded, inputs], |place| rows.row(place));
        let (rows, first) = (self.gate_rows(Role::WeightHh, sizes), blocks.first_of_state * padded);
        pack_rows::<S>(of_state, threads, [blocks.of_state.len() * padded, hidden], |place| rows.row(first + place));
        self.fill_bias(bias, sizes);
        set_shares(shares, batch, threads);
        let panels = [&*of_input, &*of_state];
        {
            let (h, c) = (&*h, &*c);
            let run = |share: &mut ShareMemory| self.forward_share(simd, sizes, share, panels, bias, [h, c]);
            share(threads, shares.iter_mut(), run);
        }
        for share in &*shares {
            let last = steps * share.rows.len();
            for (local, row) in share.rows.clone().enumerate() {
                h[row * hidden..][..hidden].copy_from_slice(&share.h[(last + local) * padded..][..hidden]);
                if !share.c.is_empty() {
                    c[row * hidden..][..hidden].copy_from_slice(&share.c[(last + local) * padded..][..hidden]);
                }
            }
        }
    }

    /// What is added to the sums of every row, `[blocks, H]`.
    fn fill_bias(&self, bias: &mut Vec<f32>, sizes: Sizes) {
        bias.clear();
        bias.resize(sizes.stride, 0.0);
        let blocks = self.blocks();
        for (role, blocks) in [(Role::BiasIh, blocks.of_input), (Role::BiasHh, blocks.of_state)] {
            let of_gates = self.network.param(self.stage, self.direction, role).chunks_exact(sizes.hidden);
            for (of_gate, block) in of_gates.zip(blocks) {
                let to = &mut bias[block * sizes.padded..][..sizes.hidden];
                to.iter_mut().zip(of_gate).for_each(|(to, x)| *to += x);
            }
        }
    }

    /// All steps of the rows of a share, from their rows of the state `[h, c]` `[B, H]`.
    fn forward_share<S: Wide>(
        &self,
        simd: S,
        sizes: Sizes,
        share: &mut ShareMemory,
        [of_input, of_state]: [&Panels; 2],
        bias: &[f32],
        start: [&[f32]; 2],
    ) {
        let Sizes { steps, batch, inputs, hidden, padded, stride, .. } = sizes;
        let (cell, blocks, first_row) = (self.level.cell(), self.blocks(), share.rows.start);
        let rows = share.rows.len();
        let state = rows * padded;
        let keeps_c = cell.keeps_c();
        let ShareMemory { values, h, c, sums, .. } = share;
        values.resize(steps * rows * stride, 0.0);
        h.resize((steps + 1) * state, 0.0);
        c.resize(if keeps_c { (steps + 1) * state } else { 0 }, 0.0);
        let sums_stride = blocks.of_state.len() * padded;
        sums.resize(rows * sums_stride, 0.0);
        for (numbers, start) in [(&mut *h, start[0]), (&mut *c, start[1])].into_iter().take(1 + usize::from(keeps_c)) {
            for (local, row) in numbers[..state].chunks_exact_mut(padded).enumerate() {
                row[..hidden].copy_from_slice(&start[(first_row + local) * hidden..][..hidden]);
                row[hidden..].fill(0.0);
            }
        }
        let chunk = sizes.chunk(rows);
        for step in 0..steps {
            if step % chunk == 0 {
                let count = chunk.min(steps - step);
                let time = self.time(step).min(self.time(step + count - 1));
                let x = InputRows::even(&self.flow.inputs[0][(time * batch + first_row) * inputs..], inputs);
                // Of some rows only, each timestep's begin after those of all rows.
                let x = if rows < batch { InputRows { group: rows, group_stride: batch * inputs, ..x } } else { x };
                let to = &mut values[time * rows * stride..];
                let width = blocks.of_input.len() * padded;
                product(
                    simd,
                    of_input,
                    (x, count * rows),
                    ProductRows { to, stride, width, store: StoreMode::Replace },
                );
            }
            let (before, after) = h[step * state..].split_at_mut(state);
            let to = ProductRows { to: &mut *sums, stride: sums_stride, width: sums_stride, store: StoreMode::Replace };
            product(simd, of_state, (InputRows::even(before, padded), rows), to);
            for row in 0..rows {
                let (time, of_row) = (self.time(step), row * padded..(row + 1) * padded);
                let (before, after) = (&before[of_row.clone()], &mut after[of_row.clone()]);
                let (c_before, c_after): (&[f32], &mut [f32]) = if keeps_c {
                    let (before, after) = c[step * state..].split_at_mut(state);
                    (&before[of_row.clone()], &mut after[of_row])
                } else {
                    (&[], &mut [])
                };
                if self.mask(time * batch + first_row + row) & bits::VALID != 0 {
                    let values = &mut values[(time * rows + row) * stride..][..stride];
                    let sums = &sums[row * sums_stride..][..sums_stride];
                    cell_forward(simd, cell, values, [sums, bias], [before, c_before], [after, c_after]);
                } else {
                    after.copy_from_slice(before);
                    c_after.copy_from_slice(c_before);
                }
            }
        }
    }

    /// Writes what the level hands on of some timesteps `[steps, B, width]`, the first at `time`, or of all rows `[B, width]`.
    pub fn write_output<S: Wide>(&self, _: S, memory: &LaneMemory, time: usize, output: &mut [f32]) {
        let Sizes { steps, batch, hidden, padded, .. } = self.sizes::<S>();
        let width = self.stage.out_features;
        for (index, output) in output.chunks_exact_mut(batch * width).enumerate() {
            let step = if self.stage.sequence_out { self.time(time + index) } else { steps - 1 };
            for share in &memory.shares {
                for (local, row) in share.rows.clone().enumerate() {
                    let to = &mut output[row * width + self.direction * hidden..][..hidden];
                    match self.output_row(step, row) {
                        Some(_) => {
                            let at = (step + 1) * share.rows.len() + local;
                            to.copy_from_slice(&share.h[at * padded..][..hidden]);
                        }
                        None => to.fill(0.0),
                    }
                }
            }
        }
    }

    /// The gradients, from that of the output and that of the final state `(h, c)` `[B, H]`, which becomes that of the
    /// initial one.
    pub fn backward<S: Wide>(
        &self,
        simd: S,
        memory: &mut LaneMemory,
        pass: &mut StageBackward<'_, f32>,
        (d_h, d_c): (&mut [f32], &mut [f32]),
    ) {
        let sizes = self.sizes::<S>();
        let Sizes { steps, batch, inputs, hidden, padded, stride, .. } = sizes;
        let threads = self.threads.min(worth(2 * self.work(sizes)));
        let blocks = self.blocks();
        let LaneMemory { shares, of_input, of_state, gradient, .. } = memory;
        let (rows, first) = (self.gate_rows(Role::WeightHh, sizes), blocks.first_of_state * padded);
        pack_columns::<S>(of_state, threads, [blocks.of_state.len() * padded, hidden], |place| rows.row(first + place));
        let wanted = pass.d_input.is_some();
        if wanted {
            let rows = self.gate_rows(Role::WeightIh, sizes);
            pack_columns::<S>(of_input, threads, [blocks.of_input.len() * padded, inputs], |place| rows.row(place));
        }
        {
            let panels = [Some(&*of_input).filter(|_| wanted), Some(&*of_state)];
            let (d_output, d_h, d_c) = (pass.d_output, &*d_h, &*d_c);
            let run = |share: &mut ShareMemory| {
                self.backward_share(simd, sizes, share, panels, d_output, [d_h, d_c]);
            };
            share(threads, shares.iter_mut(), run);
        }
        for share in &*shares {
            for (local, row) in share.rows.clone().enumerate() {
                d_h[row * hidden..][..hidden].copy_from_slice(&share.d_h[local * padded..][..hidden]);
                if !share.d_c.is_empty() {
                    d_c[row * hidden..][..hidden].copy_from_slice(&share.d_c[local * padded..][..hidden]);
                }
            }
        }
        let shares = &*shares;
        if let Some(d_input) = &mut pass.d_input {
            add_inputs(sizes, movers(threads, d_input.len()), shares, d_input);
        }
        let reversed = self.reverse().then_some(steps);
        let of = |parts, stride, width| Rows { parts, batch, stride, width };
        let d_sums = of(RowParts::Shares(shares, |share| &share.values, None), stride, stride);
        let x = of(RowParts::Whole(self.flow.inputs[0]), inputs, inputs);
        // h before each step: the last, behind all steps, is not read.
        let h = of(RowParts::Shares(shares, |share| &share.h, reversed), padded, hidden);
        let lines = |first: usize, blocks: &[usize]| first * padded..(first + blocks.len()) * padded;
        let factors = [
            Some(GradientFactor { rows: x, lines: lines(0, blocks.of_input) }),
            Some(GradientFactor { rows: h, lines: lines(blocks.first_of_state, blocks.of_state) }),
        ];
        gradient.compute(simd, threads, steps * batch, d_sums, &factors);
        self.write_gradients(gradient, sizes, pass);
    }

    fn write_gradients(&self, gradient: &WeightGradient, sizes: Sizes, pass: &mut StageBackward<'_, f32>) {
        let Sizes { hidden, padded, .. } = sizes;
        let (blocks, threads) = (self.blocks(), self.threads);
        let place = |blocks: &[usize], row: usize| blocks[row / hidden] * padded + row % hidden;
        for (role, factor, blocks, width) in [
            (Role::WeightIh, Some(0), blocks.of_input, sizes.inputs),
            (Role::WeightHh, Some(1), blocks.of_state, hidden),
            (Role::BiasIh, None, blocks.of_input, 1),
            (Role::BiasHh, None, blocks.of_state, 1),
        ] {
            let param = self.stage.param(self.direction, role);
            let Some(to) = param.and_then(|param| pass.params.place(param)) else { continue };
            let movers = movers(threads, to.len());
            let part = (to.len() / width).div_ceil(movers);
            share(movers, to.chunks_mut(part * width).enumerate(), |(index, to)| {
                for (row, to) in (index * part..).zip(to.chunks_exact_mut(width)) {
                    let line = place(blocks, row);
                    match factor {
                        Some(factor) => to.copy_from_slice(&gradient.line(factor, line)[..width]),
                        None => to.fill(gradient.sum(line)),
                    }
                }
            });
        }
    }

    /// All steps of the rows of a share, the last first, from their rows of the gradient `[h, c]` `[B, H]` of the final
    /// state.
    fn backward_share<S: Wide>(
        &self,
        simd: S,
        sizes: Sizes,
        share: &mut ShareMemory,
        [of_input, of_state]: [Option<&Panels>; 2],
        d_output: &[f32],
        last: [&[f32]; 2],
    ) {
        let Sizes { steps, batch, hidden, padded, padded_inputs, stride, .. } = sizes;
        let (cell, blocks, first_row) = (self.level.cell(), self.blocks(), share.rows.start);
        let (rows, keeps_c) = (share.rows.len(), cell.keeps_c());
        let state = rows * padded;
        let ShareMemory { values, h, c, d_h, d_c, d_input, .. } = share;
        d_h.resize(state, 0.0);
        d_c.resize(if keeps_c { state } else { 0 }, 0.0);
        for (numbers, last) in [(&mut *d_h, last[0]), (&mut *d_c, last[1])].into_iter().take(1 + usize::from(keeps_c)) {
            for (local, row) in numbers.chunks_exact_mut(padded).enumerate() {
                row[..hidden].copy_from_slice(&last[(first_row + local) * hidden..][..hidden]);
                row[hidden..].fill(0.0);
            }
        }
        d_input.resize(if of_input.is_some() { steps * rows * padded_inputs } else { 0 }, 0.0);
        let width = self.level.directions.len() * hidden;
        let chunk = sizes.chunk(rows);
        for step in (0..steps).rev() {
            let time = self.time(step);
            for row in 0..rows {
                let d_h = &mut d_h[row * padded..][..padded];
                if let Some(at) = self.output_row(step, first_row + row) {
                    let d = &d_output[at * width + self.direction * hidden..][..hidden];
                    d_h.iter_mut().zip(d).for_each(|(d_h, d)| *d_h += d);
                }
                let values = &mut values[(time * rows + row) * stride..][..stride];
                if self.mask(time * batch + first_row + row) & bits::VALID == 0 {
                    values.fill(0.0);
                    continue;
                }
                let before = step * state + row * padded;
                let h = &h[before..][..padded];
                let (c, c_after, d_c): (&[f32], &[f32], &mut [f32]) = if keeps_c {
                    let d_c = &mut d_c[row * padded..][..padded];
                    (&c[before..][..padded], &c[before + state..][..padded], d_c)
                } else {
                    (&[], &[], &mut [])
                };
                cell_backward(simd, cell, values, [h, c, c_after], [d_h, d_c]);
            }
            if let Some(of_state) = of_state {
                let d_sums = &values[time * rows * stride + blocks.first_of_state * padded..];
                let to = ProductRows { to: d_h, stride: padded, width: padded, store: StoreMode::Add };
                product(simd, of_state, (InputRows::even(d_sums, stride), rows), to);
            }
            if let (Some(of_input), 0) = (of_input, step % chunk) {
                let count = chunk.min(steps - step);
                let first = time.min(self.time(step + count - 1)) * rows;
                let x = (InputRows::even(&values[first * stride..], stride), count * rows);
                let to = &mut d_input[first * padded_inputs..];
                let (stride, width) = (padded_inputs, padded_inputs);
                product(simd, of_input, x, ProductRows { to, stride, width, store: StoreMode::Replace });
            }
        }
    }
}

/// Adds the gradients of the inputs of all shares to `d_input` `[T, B, I]`.
fn add_inputs(sizes: Sizes, threads: usize, shares: &[ShareMemory], d_input: &mut [f32]) {
    let Sizes { steps, batch, inputs, padded_inputs, .. } = sizes;
    let count = steps.div_ceil(threads);
    let parts = d_input.chunks_mut(count * batch * inputs).enumerate();
    share(threads, parts, |(index, to)| {
        for (time, to) in (index * count..).zip(to.chunks_exact_mut(batch * inputs)) {
            for share in shares {
                let rows = share.rows.len();
                let from = &share.d_input[time * rows * padded_inputs..][..rows * padded_inputs];
                let to = to[share.rows.start * inputs..].chunks_exact_mut(inputs);
                for (to, from) in to.zip(from.chunks_exact(padded_inputs)) {
                    to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
                }
            }
        }
    });
}
