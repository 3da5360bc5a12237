//! Recurrent levels while they are trained: a forward pass that keeps what the gradients need, and the gradients.
//!
//! All products are of packed matrices, as in inference; those over all timesteps are taken at once. Gates lie in blocks
//! of H units, filled up to whole vectors: `[N, blocks, H]` with N = T·B rows. A GRU has a fourth block, for the part of
//! the candidate that its reset gate multiplies.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

use fearless_simd::prelude::*;

use super::functions::{sigmoid, tanh};
use super::options::Cpu;
use super::packed::{PanelLayout, Panels};
use super::product::{InputRows, Kept};
use super::simd::{Wide, lanes, on};
use super::worker::store_product;
use crate::base::bits;
use crate::base::lock::lock;
use crate::data::state::LayerState;
use crate::host::LevelRunner;
use crate::network::{
    Biases, Cell, Network, Recurrence, RecurrentStage, Role, Stage, WeightFormat, fold, gates, unfold_biases,
};
use crate::reference::{LevelGradients, StageInput, stands_still};

/// Memory of earlier steps for the next: large blocks that the system hands out anew cost as much as some products.
#[derive(Debug, Default)]
pub(crate) struct TrainMemory(Mutex<Vec<Vec<f32>>>);

impl TrainMemory {
    /// `len` zeros.
    fn take(&self, len: usize) -> Vec<f32> {
        let mut kept = lock(&self.0);
        let enough = kept.iter().position(|numbers| numbers.capacity() >= len);
        let mut numbers = enough.map(|at| kept.swap_remove(at)).unwrap_or_default();
        numbers.clear();
        numbers.resize(len, 0.0);
        numbers
    }

    fn give<const N: usize>(&self, numbers: [Vec<f32>; N]) {
        lock(&self.0).extend(numbers);
    }
}

/// The recurrent levels of a network that is trained on the CPU; the reference runs the other stages.
pub(crate) struct TrainLevels<'a> {
    cpu: Cpu,
    network: &'a Network,
    memory: &'a TrainMemory,
    /// What the forward pass of each stage has kept, by direction.
    saved: RefCell<BTreeMap<usize, Vec<Saved>>>,
}

impl<'a> TrainLevels<'a> {
    pub fn new(cpu: Cpu, network: &'a Network, memory: &'a TrainMemory) -> Self {
        Self { cpu, network, memory, saved: RefCell::default() }
    }

    fn lanes<'b>(
        &'b self,
        stage: &'b Stage,
        level: &'b RecurrentStage,
        flow: &'b StageInput<'b, f32>,
    ) -> impl Iterator<Item = TrainLane<'b>> {
        let (network, memory) = (self.network, self.memory);
        (0..level.directions.len()).map(move |direction| TrainLane { network, memory, stage, level, direction, flow })
    }
}

/// The rows of h and of c that a direction of a level has in its layer's state.
fn of_direction<'a>(
    state: &'a mut LayerState<f32>,
    level: &RecurrentStage,
    direction: usize,
) -> (&'a mut [f32], &'a mut [f32]) {
    let row = level.level * level.directions.len() + direction;
    let part =
        |numbers: &'a mut Vec<f32>, [_, batch, width]: [usize; 3]| &mut numbers[row * batch * width..][..batch * width];
    (part(&mut state.h, state.h_shape), part(&mut state.c, state.c_shape))
}

impl LevelRunner<f32> for TrainLevels<'_> {
    fn runs(&self, level: &RecurrentStage) -> bool {
        runs(level)
    }

    fn forward(
        &self,
        index: usize,
        stage: &Stage,
        level: &RecurrentStage,
        flow: &StageInput<'_, f32>,
        state: &mut LayerState<f32>,
    ) -> Option<Vec<f32>> {
        if !runs(level) {
            return None;
        }
        let steps = if stage.sequence_out { flow.steps } else { 1 };
        let mut output = vec![0.0; steps * flow.batch * stage.out_features];
        let mut saved = Vec::new();
        for lane in self.lanes(stage, level, flow) {
            let state = of_direction(state, level, lane.direction);
            saved.push(on!(self.cpu.token, simd => lane.forward(simd, state, &mut output)));
        }
        self.saved.borrow_mut().insert(index, saved);
        Some(output)
    }

    fn backward(
        &self,
        index: usize,
        stage: &Stage,
        level: &RecurrentStage,
        flow: &StageInput<'_, f32>,
        d_output: &[f32],
        d_state: &mut LayerState<f32>,
    ) -> Option<LevelGradients<f32>> {
        let saved = self.saved.borrow_mut().remove(&index)?;
        let mut gradients = LevelGradients { input: vec![0.0; flow.inputs[0].len()], params: Vec::new() };
        for (lane, saved) in self.lanes(stage, level, flow).zip(saved) {
            let state = of_direction(d_state, level, lane.direction);
            on!(self.cpu.token, simd => lane.backward(simd, saved, d_output, state, &mut gradients));
        }
        Some(gradients)
    }
}

/// Whether the fast passes run a level: an LSTM, a GRU that resets the product, or a plain RNN, each with its usual
/// functions and no bound.
fn runs(level: &RecurrentStage) -> bool {
    let plain = match level.recurrence {
        Recurrence::Lstm { proj_size, peephole, coupled, cell_clip } => {
            proj_size == 0 && !peephole && !coupled && cell_clip.is_none()
        }
        Recurrence::Gru { reset_after } => reset_after,
        Recurrence::Rnn => true,
        _ => false,
    };
    let usual = |activations: &[_]| activations == level.cell().default_activations();
    plain && level.clip.is_none() && level.directions.iter().all(|direction| usual(&direction.activations))
}

/// Gate blocks of a row of sums, and in which of them the gates' parts from the input and from the state lie.
struct GateBlocks {
    count: usize,
    of_input: &'static [usize],
    of_state: &'static [usize],
}

impl GateBlocks {
    fn of(cell: Cell) -> Self {
        match cell {
            Cell::Gru => Self { count: 4, of_input: &[0, 1, 2], of_state: &[0, 1, 3] },
            Cell::Rnn => Self { count: 1, of_input: &[0], of_state: &[0] },
            _ => Self { count: 4, of_input: &[0, 1, 2, 3], of_state: &[0, 1, 2, 3] },
        }
    }
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
    /// Numbers from a row of sums to the next.
    stride: usize,
}

/// What the forward pass of a direction keeps.
struct Saved {
    /// `[N, blocks, H]`: the functions' values; a GRU's fourth block is what its reset gate multiplies.
    values: Vec<f32>,
    /// `[T + 1, B, H]`: h before each step and after the last, in the order of the steps.
    h: Vec<f32>,
    /// The same of an LSTM's c, or empty.
    c: Vec<f32>,
}

/// A packed matrix and the width of its products' rows.
struct PackedMatrix {
    panels: Panels,
    stride: usize,
}

impl PackedMatrix {
    /// Of a row-major matrix `[N, K]`.
    fn new<S: Wide>(matrix: &[f32], outputs: usize) -> Self {
        let layout = PanelLayout::plain(lanes::<S>(), outputs);
        let inputs = matrix.len() / outputs;
        let panels = Panels::new(matrix, WeightFormat::F32, inputs, layout, false);
        Self { panels, stride: layout.blocks * layout.block_len() }
    }

    /// Of the transpose of a row-major matrix `[K, N]`.
    fn of_columns<S: Wide>(matrix: &[f32], outputs: usize, memory: &TrainMemory) -> Self {
        let layout = PanelLayout::plain(lanes::<S>(), outputs);
        let room = memory.take(Panels::room(matrix.len() / outputs, layout));
        Self { panels: Panels::of_columns(matrix, outputs, layout, room), stride: layout.blocks * layout.block_len() }
    }

    fn into_memory(self) -> Vec<f32> {
        self.panels.into_f32()
    }

    /// The products of `rows` rows of `x`, `stride` numbers apart, to `to` `[rows, self.stride]`.
    fn product<S: Wide>(&self, simd: S, x: &[f32], stride: usize, rows: usize, kept: &mut Kept, to: &mut [f32]) {
        let x = (InputRows::even(x, stride), rows);
        let (panels, blocks, to) = (&self.panels, 0..self.panels.blocks, (to, self.stride));
        match panels.vectors {
            1 => store_product::<S, 1>(simd, panels, x, blocks, false, kept, to),
            2 => store_product::<S, 2>(simd, panels, x, blocks, false, kept, to),
            _ => store_product::<S, 4>(simd, panels, x, blocks, false, kept, to),
        }
    }
}

/// One direction of a level.
struct TrainLane<'a> {
    network: &'a Network,
    memory: &'a TrainMemory,
    stage: &'a Stage,
    level: &'a RecurrentStage,
    direction: usize,
    flow: &'a StageInput<'a, f32>,
}

impl TrainLane<'_> {
    fn sizes<S: Wide>(&self) -> Sizes {
        let StageInput { steps, batch, .. } = *self.flow;
        let (inputs, hidden) = (self.stage.in_features, self.level.hidden_size);
        let padded = hidden.next_multiple_of(lanes::<S>());
        let layout = PanelLayout::plain(lanes::<S>(), GateBlocks::of(self.level.cell()).count * padded);
        Sizes { steps, batch, inputs, hidden, padded, stride: layout.blocks * layout.block_len() }
    }

    /// `[G*H, K]` as `[blocks*padded H, columns]`, gate k in block `blocks[k]`, 0 elsewhere.
    fn spread(&self, role: Role, blocks: &[usize], columns: [usize; 2], sizes: Sizes) -> Vec<f32> {
        let matrix = self.network.param(self.stage, self.direction, role);
        let mut to = vec![0.0; GateBlocks::of(self.level.cell()).count * sizes.padded * columns[1]];
        for (gate, &block) in blocks.iter().enumerate() {
            for unit in 0..sizes.hidden {
                let from = &matrix[(gate * sizes.hidden + unit) * columns[0]..][..columns[0]];
                to[(block * sizes.padded + unit) * columns[1]..][..columns[0]].copy_from_slice(from);
            }
        }
        to
    }

    fn time(&self, step: usize) -> usize {
        if self.level.directions[self.direction].reverse { self.flow.steps - 1 - step } else { step }
    }

    fn mask(&self, at: usize) -> u32 {
        self.flow.mask.map_or(bits::VALID, |mask| mask[at])
    }

    /// Where a row's h goes in the output, if the step hands it on; the second is whether it does after this step.
    fn output_row(&self, step: usize, row: usize) -> Option<usize> {
        let at = self.time(step) * self.flow.batch + row;
        let mask = self.mask(at);
        let reverse = self.level.directions[self.direction].reverse;
        let seen = mask & bits::VALID != 0 || stands_still(self.level, reverse, self.stage.sequence_out, mask);
        if self.stage.sequence_out { seen.then_some(at) } else { (seen && step + 1 == self.flow.steps).then_some(row) }
    }

    /// Runs the steps from the state `(h, c)` `[B, H]`, which becomes the final one; h goes to its columns of `output`.
    fn forward<S: Wide>(&self, simd: S, (h, c): (&mut [f32], &mut [f32]), output: &mut [f32]) -> Saved {
        let sizes = self.sizes::<S>();
        let Sizes { steps, batch, inputs, hidden, padded, stride } = sizes;
        let blocks = GateBlocks::of(self.level.cell());
        let kept = &mut Kept::default();
        let of_input = self.spread(Role::WeightIh, blocks.of_input, [inputs, inputs], sizes);
        let of_input = PackedMatrix::new::<S>(&of_input, blocks.count * padded);
        let of_state = self.spread(Role::WeightHh, blocks.of_state, [hidden, padded], sizes);
        let of_state = PackedMatrix::new::<S>(&of_state, blocks.count * padded);
        let mut values = self.memory.take(steps * batch * stride);
        of_input.product(simd, self.flow.inputs[0], inputs, steps * batch, kept, &mut values);
        let bias = self.bias(&blocks, sizes);
        for row in values.chunks_exact_mut(stride) {
            row.iter_mut().zip(&bias).for_each(|(sum, bias)| *sum += bias);
        }
        let keeps_c = self.level.cell().keeps_c();
        let state = batch * padded;
        let mut saved = Saved {
            values,
            h: self.memory.take((steps + 1) * state),
            c: self.memory.take(if keeps_c { (steps + 1) * state } else { 0 }),
        };
        for row in 0..batch {
            saved.h[row * padded..][..hidden].copy_from_slice(&h[row * hidden..][..hidden]);
            if keeps_c {
                saved.c[row * padded..][..hidden].copy_from_slice(&c[row * hidden..][..hidden]);
            }
        }
        let mut sums = vec![0.0; batch * stride];
        let width = self.level.directions.len() * hidden;
        for step in 0..steps {
            let (before, after) = saved.h[step * state..].split_at_mut(state);
            let after = &mut after[..state];
            of_state.product(simd, before, padded, batch, kept, &mut sums);
            for row in 0..batch {
                let at = self.time(step) * batch + row;
                let of_row = row * padded..(row + 1) * padded;
                let (before, after) = (&before[of_row.clone()], &mut after[of_row.clone()]);
                let valid = self.mask(at) & bits::VALID != 0;
                let (c_before, c_after): (&[f32], &mut [f32]) = if keeps_c {
                    let (before, after) = saved.c[step * state..].split_at_mut(state);
                    (&before[of_row.clone()], &mut after[of_row])
                } else {
                    (&[], &mut [])
                };
                if valid {
                    let values = &mut saved.values[at * stride..][..stride];
                    let sums = &sums[row * stride..][..stride];
                    self.cell_forward(simd, values, sums, [before, c_before], [&mut *after, c_after]);
                } else {
                    after.copy_from_slice(before);
                    c_after.copy_from_slice(c_before);
                }
                if let Some(at) = self.output_row(step, row) {
                    output[at * width + self.direction * hidden..][..hidden].copy_from_slice(&after[..hidden]);
                }
            }
        }
        for row in 0..batch {
            let at = steps * state + row * padded;
            h[row * hidden..][..hidden].copy_from_slice(&saved.h[at..][..hidden]);
            if keeps_c {
                c[row * hidden..][..hidden].copy_from_slice(&saved.c[at..][..hidden]);
            }
        }
        saved
    }

    /// What is added to the sums of every row, `[blocks, H]`.
    fn bias(&self, blocks: &GateBlocks, sizes: Sizes) -> Vec<f32> {
        let Biases { bias, extra } = fold::biases::<f32>(self.network, self.stage, self.level, self.direction);
        let mut to = vec![0.0; sizes.stride];
        let gates = bias.chunks_exact(sizes.hidden).zip(blocks.of_input);
        // A GRU's recurrent bias of the candidate is of the state.
        for (bias, block) in gates.chain(extra.chunks_exact(sizes.hidden).zip(blocks.of_state.iter().skip(gates::NEW)))
        {
            to[block * sizes.padded..][..sizes.hidden].copy_from_slice(bias);
        }
        to
    }

    /// One step of one row: `values` holds the input's part of the sums and gets the functions' values.
    #[inline(always)]
    fn cell_forward<S: Wide>(
        &self,
        simd: S,
        values: &mut [f32],
        sums: &[f32],
        [h, c]: [&[f32]; 2],
        [h_after, c_after]: [&mut [f32]; 2],
    ) {
        let cell = self.level.cell();
        simd.vectorize(
            #[inline(always)]
            || {
                let width = lanes::<S>();
                let padded = h.len();
                let one = S::f32s::splat(simd, 1.0);
                let load = |numbers: &[f32], at: usize| S::f32s::from_slice(simd, &numbers[at..at + width]);
                for unit in (0..padded).step_by(width) {
                    let place = |block: usize| block * padded + unit;
                    let sum = |values: &[f32], block: usize| load(values, place(block)) + load(sums, place(block));
                    let after = match cell {
                        Cell::Rnn => {
                            let h = tanh(simd, sum(values, 0));
                            h.store_slice(&mut values[place(0)..][..width]);
                            h
                        }
                        Cell::Gru => {
                            let r = sigmoid(simd, sum(values, gates::RESET));
                            let z = sigmoid(simd, sum(values, gates::UPDATE));
                            let q = sum(values, 3);
                            let n = tanh(simd, r.mul_add(q, sum(values, gates::NEW)));
                            for (block, value) in [(gates::RESET, r), (gates::UPDATE, z), (gates::NEW, n), (3, q)] {
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

    /// The gradients, from that of the output and that of the final state `(h, c)` `[B, H]`, which becomes that of the
    /// initial one. The gradient of the input is added to.
    fn backward<S: Wide>(
        &self,
        simd: S,
        mut saved: Saved,
        d_output: &[f32],
        (d_h, d_c): (&mut [f32], &mut [f32]),
        gradients: &mut LevelGradients<f32>,
    ) {
        let sizes = self.sizes::<S>();
        let Sizes { steps, batch, inputs, hidden, padded, stride } = sizes;
        let blocks = GateBlocks::of(self.level.cell());
        let kept = &mut Kept::default();
        let of_state = self.spread(Role::WeightHh, blocks.of_state, [hidden, padded], sizes);
        let of_state = PackedMatrix::of_columns::<S>(&of_state, padded, self.memory);
        let keeps_c = self.level.cell().keeps_c();
        let state = batch * padded;
        let (mut dh, mut dc) = (vec![0.0; state], vec![0.0; if keeps_c { state } else { 0 }]);
        for row in 0..batch {
            dh[row * padded..][..hidden].copy_from_slice(&d_h[row * hidden..][..hidden]);
            if keeps_c {
                dc[row * padded..][..hidden].copy_from_slice(&d_c[row * hidden..][..hidden]);
            }
        }
        let width = self.level.directions.len() * hidden;
        // The gradients of the sums of one step's rows together, and of h by them.
        let mut d_sums = vec![0.0; batch * stride];
        let mut of_sums = vec![0.0; batch * of_state.stride];
        for step in (0..steps).rev() {
            for row in 0..batch {
                let dh = &mut dh[row * padded..][..padded];
                if let Some(at) = self.output_row(step, row) {
                    let d = &d_output[at * width + self.direction * hidden..][..hidden];
                    dh.iter_mut().zip(d).for_each(|(dh, d)| *dh += d);
                }
                let at = self.time(step) * batch + row;
                let values = &mut saved.values[at * stride..][..stride];
                if self.mask(at) & bits::VALID == 0 {
                    values.fill(0.0);
                } else {
                    let before = step * state + row * padded;
                    let h = &saved.h[before..][..padded];
                    let (c, c_after, dc): (&[f32], &[f32], &mut [f32]) = if keeps_c {
                        let dc = &mut dc[row * padded..][..padded];
                        (&saved.c[before..][..padded], &saved.c[before + state..][..padded], dc)
                    } else {
                        (&[], &[], &mut [])
                    };
                    self.cell_backward(simd, values, [h, c, c_after], [dh, dc]);
                }
                d_sums[row * stride..][..stride].copy_from_slice(values);
            }
            of_state.product(simd, &d_sums, stride, batch, kept, &mut of_sums);
            for (dh, more) in dh.chunks_exact_mut(padded).zip(of_sums.chunks_exact(of_state.stride)) {
                dh.iter_mut().zip(more).for_each(|(dh, more)| *dh += more);
            }
        }
        for row in 0..batch {
            d_h[row * hidden..][..hidden].copy_from_slice(&dh[row * padded..][..hidden]);
            if keeps_c {
                d_c[row * hidden..][..hidden].copy_from_slice(&dc[row * padded..][..hidden]);
            }
        }
        let of_input = self.spread(Role::WeightIh, blocks.of_input, [inputs, inputs], sizes);
        let of_input = PackedMatrix::of_columns::<S>(&of_input, inputs, self.memory);
        let mut d_input = self.memory.take(steps * batch * of_input.stride);
        of_input.product(simd, &saved.values, stride, steps * batch, kept, &mut d_input);
        for (to, d) in gradients.input.chunks_exact_mut(inputs).zip(d_input.chunks_exact(of_input.stride)) {
            to.iter_mut().zip(d).for_each(|(to, d)| *to += d);
        }
        self.memory.give([d_input, of_input.into_memory(), of_state.into_memory()]);
        self.weight_gradients(simd, &saved, sizes, gradients);
        self.memory.give([saved.values, saved.h, saved.c]);
    }

    /// From the functions' values and the gradient of h after a step to those of the sums; of h before it the part that
    /// does not go through the sums.
    #[inline(always)]
    fn cell_backward<S: Wide>(
        &self,
        simd: S,
        values: &mut [f32],
        [h, c, c_after]: [&[f32]; 3],
        [dh, dc]: [&mut [f32]; 2],
    ) {
        let cell = self.level.cell();
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
                            let [r, z, n, q] = [gates::RESET, gates::UPDATE, gates::NEW, 3].map(value);
                            let d_n = d * (one - z) * (one - n * n);
                            let d_z = d * (load(h, unit) - n) * z * (one - z);
                            let d_r = d_n * q * r * (one - r);
                            ([d_r, d_z, d_n, d_n * r], d * z)
                        }
                        _ => {
                            let [i, f, g, o] =
                                [gates::INPUT, gates::FORGET, gates::CANDIDATE, gates::OUTPUT].map(value);
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

    /// The gradients of the tensors from those of the sums of all rows, `saved.values`.
    fn weight_gradients<S: Wide>(&self, simd: S, saved: &Saved, sizes: Sizes, gradients: &mut LevelGradients<f32>) {
        let Sizes { steps, batch, inputs, hidden, padded, stride } = sizes;
        let blocks = GateBlocks::of(self.level.cell());
        let rows = steps * batch;
        let mut of_sums = self.memory.take(saved.values.len());
        transpose(&saved.values, stride, &mut of_sums);
        // h before each step, in the order of time.
        let mut h = self.memory.take(rows * padded);
        for (step, of_step) in saved.h.chunks_exact(batch * padded).take(steps).enumerate() {
            h[self.time(step) * batch * padded..][..batch * padded].copy_from_slice(of_step);
        }
        let kept = &mut Kept::default();
        let mut product = |x: &[f32], width: usize, used: usize, blocks: &[usize]| {
            let matrix = PackedMatrix::of_columns::<S>(x, width, self.memory);
            let mut all = self.memory.take(stride * matrix.stride);
            matrix.product(simd, &of_sums, rows, stride, kept, &mut all);
            let row = |row: usize| &all[row * matrix.stride..][..used];
            let lines = blocks.iter().flat_map(|block| (0..hidden).map(move |unit| block * padded + unit));
            let numbers = lines.flat_map(row).copied().collect::<Vec<f32>>();
            self.memory.give([all, matrix.into_memory()]);
            numbers
        };
        let of_input = product(self.flow.inputs[0], inputs, inputs, blocks.of_input);
        let of_state = product(&h, padded, hidden, blocks.of_state);
        let sum = |block: usize| {
            (0..hidden).map(move |unit| block * padded + unit).map(|line| of_sums[line * rows..][..rows].iter().sum())
        };
        let bias: Vec<f32> = blocks.of_input.iter().flat_map(|&block| sum(block)).collect();
        let extra: Vec<f32> = if self.level.cell() == Cell::Gru { sum(3).collect() } else { Vec::new() };
        let [bias_ih, bias_hh, _] = unfold_biases(self.level, &Biases { bias, extra });
        let of =
            [(Role::WeightIh, of_input), (Role::WeightHh, of_state), (Role::BiasIh, bias_ih), (Role::BiasHh, bias_hh)];
        self.memory.give([h]);
        gradients.params.extend(of.map(|(role, numbers)| (self.direction, role, numbers)));
    }
}

/// `[M, N]` as `[N, M]`, in tiles whose lines stay in a cache.
fn transpose(matrix: &[f32], columns: usize, to: &mut [f32]) {
    const TILE: usize = 16;
    let rows = matrix.len() / columns;
    for row0 in (0..rows).step_by(TILE) {
        let end = rows.min(row0 + TILE);
        for column in 0..columns {
            let from = matrix[row0 * columns + column..].iter().step_by(columns);
            to[column * rows + row0..column * rows + end].iter_mut().zip(from).for_each(|(to, &from)| *to = from);
        }
    }
}
