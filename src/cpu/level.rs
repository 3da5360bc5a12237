//! One level of a recurrent layer.

use std::ops::Range;
use std::sync::Mutex;

use super::cells::CellOptions;
use super::normalized::PackedNorms;
use super::object_pool::ObjectPool;
use super::packed::{PanelLayout, Panels};
use super::pool::in_parallel;
use super::product::Kept;
use super::simd::{Wide, lanes};
use super::threads::{Ahead, Share, Shares, ThreadExchange, UnitsNeed, WorkSize};
use super::worker::{Worker, help};
use crate::base::bits;
use crate::base::lock::lock;
use crate::data::state::LayerState;
use crate::network::fold::{self, Biases};
use crate::network::{Cell, Network, Recurrence, RecurrentStage, Role, Stage, gates};
use crate::reference::StageInput;
use crate::reference::stands_still;

/// One direction's weights.
#[derive(Debug)]
pub(super) struct DirectionPanels {
    pub reverse: bool,
    pub options: CellOptions,
    /// `[I, G*H]`
    pub input: Panels,
    /// `[blocks, Q, lanes]`, what is added before the steps.
    pub bias: Vec<f32>,
    /// `[K, G*H]`; of a GRU that resets first only the gates; of a scan nothing.
    pub recurrent: Panels,
    /// `[H, H]`, a GRU's candidate if it resets first.
    pub candidate: Option<Panels>,
    /// `[blocks, E, lanes]`: the 3 peepholes of an LSTM or 2 of an SRU, the recurrent bias of a GRU's candidate, an
    /// IndRNN's u; or empty.
    pub extra: Vec<f32>,
    /// Of a layer-normalized cell.
    pub norms: Option<PackedNorms>,
    /// `[H, P]`
    pub projection: Option<Panels>,
}

/// A level's weights and sizes.
#[derive(Debug)]
pub(super) struct Level {
    pub stage: RecurrentStage,
    pub directions: Vec<DirectionPanels>,
    /// Units of a block.
    pub units: usize,
    pub blocks: usize,
    /// Numbers from a row of h to the next, while the level runs.
    pub h_stride: usize,
    sequence_out: bool,
    scratch: ObjectPool<ThreadScratch>,
    syncs: ObjectPool<ThreadSync>,
}

/// What the threads of a run exchange, kept between runs.
#[derive(Debug, Default)]
struct ThreadSync {
    exchange: ThreadExchange,
    ahead: Ahead,
}

/// Memory of one thread, kept between runs.
#[derive(Debug, Default)]
pub(super) struct ThreadScratch {
    /// `[blocks of the share, rows of the chunk, Q, lanes]`
    pub projected: Vec<f32>,
    /// `[rows, h_stride]`, before and after a step.
    pub h: Vec<f32>,
    pub next: Vec<f32>,
    /// `[rows, blocks, units]`, an LSTM's c or a GRU's update gate; `[rows, 3, blocks, units]` c, n and m of an sLSTM.
    pub c: Vec<f32>,
    /// `[rows, blocks, units]`, what is not projected or not multiplied yet.
    pub raw: Vec<f32>,
    /// `[rows, blocks, Q, lanes]`, the sums of a layer-normalized cell.
    pub sums: Vec<f32>,
    /// `[blocks, Q, lanes]`, the same of one row, normalized.
    pub normalized: Vec<f32>,
    /// `[steps, rows, h_stride]`, h after each step of a chunk of a scan.
    pub history: Vec<f32>,
    pub kept: Kept,
}

/// Where a direction's h goes in an output.
struct To {
    stride: usize,
    columns: Range<usize>,
}

impl To {
    /// The numbers `own` of h.
    fn put(&self, h: &[f32], own: &Range<usize>, output: &mut [f32], row: usize) {
        let own = own.start..own.end.min(self.columns.len());
        output[row * self.stride + self.columns.start..][own.clone()].copy_from_slice(&h[own]);
    }
}

/// A direction's state, before a run and after it.
pub(super) struct DirectionState<'a> {
    /// `[B, H]` or `[B, P]`, of slots as many as there are
    pub h: &'a mut [f32],
    /// c, and n and m of an sLSTM, `[B, H]` each, or empty
    pub cells: [&'a mut [f32]; 3],
}

/// One run of one direction.
#[derive(Clone, Copy)]
pub(super) struct Run<'a, 's> {
    pub level: &'a Level,
    pub direction: &'a DirectionPanels,
    /// `[T, B, I]`
    pub input: &'a [f32],
    pub steps: usize,
    pub batch: usize,
    /// Bits `[T, B]`
    pub mask: Option<&'a [u32]>,
    pub state: &'a Mutex<DirectionState<'s>>,
    /// Where in the state each row's own is, if not in their order.
    pub slots: Option<&'a [u32]>,
    /// What the threads that share the units exchange.
    pub exchange: Option<&'a ThreadExchange>,
    /// The projections that another thread computes.
    pub ahead: Option<&'a Ahead>,
}

impl Run<'_, '_> {
    /// Where a row's state is.
    pub fn slot(&self, row: usize) -> usize {
        self.slots.map_or(row, |slots| slots[row] as usize)
    }

    fn is_last(&self, t: usize) -> bool {
        t == if self.direction.reverse { 0 } else { self.steps - 1 }
    }
}

impl Level {
    /// Numbers from a row of `c` to the next.
    pub fn c_stride(&self) -> usize {
        self.blocks * self.units * self.stage.cell().cells().len().max(1)
    }

    pub fn new<S: Wide>(network: &Network, stage: &Stage, recurrent: &RecurrentStage) -> Self {
        let lanes = lanes::<S>();
        let hidden = recurrent.hidden_size;
        let layout = match recurrent.cell() {
            Cell::Rnn => PanelLayout::plain(lanes, hidden),
            cell => PanelLayout::gates(lanes, 0, cell.gates(), hidden),
        };
        let units = if recurrent.cell() == Cell::Rnn { layout.block_len() } else { lanes };
        let h_stride = match recurrent.recurrence.proj_size() {
            0 => layout.blocks * units,
            size => {
                let layout = PanelLayout::plain(lanes, size);
                layout.blocks * layout.block_len()
            }
        };
        let directions =
            (0..recurrent.directions.len()).map(|index| direction::<S>(network, stage, recurrent, index, layout));
        Self {
            stage: recurrent.clone(),
            directions: directions.collect(),
            units,
            blocks: layout.blocks,
            h_stride,
            sequence_out: stage.sequence_out,
            scratch: ObjectPool::new(),
            syncs: ObjectPool::new(),
        }
    }

    /// `[T, B, I]` to `[T, B, D*H]` or `[B, D*H]`. Where there are slots, batch row r's state is that of row `slots[r]`.
    pub fn run<S: Wide>(
        &self,
        simd: S,
        threads: usize,
        flow: &StageInput<'_, f32>,
        (state, slots): (&mut LayerState<f32>, Option<&[u32]>),
        output: &mut Vec<f32>,
    ) {
        let width = self.stage.state_size();
        let count = self.directions.len();
        let stride = count * width;
        let &StageInput { steps, batch, mask, .. } = flow;
        if mask.is_some() {
            output.clear(); // The rows of masked steps are 0.
        }
        output.resize(if self.sequence_out { steps } else { 1 } * batch * stride, 0.0);
        let ThreadSync { mut exchange, mut ahead } = self.syncs.take();
        for (index, direction) in self.directions.iter().enumerate() {
            let row = self.stage.level * count + index;
            let [h, c, n, m] = state.row_of_cells(row);
            let of_input = self.stage.gate_rows() * direction.input.inputs;
            let of_state = if self.stage.cell().scans() { 0 } else { self.stage.gate_rows() * width };
            let of_row = of_state + of_input;
            let work = WorkSize {
                steps,
                rows: batch,
                blocks: self.blocks,
                of_row,
                of_input,
                units: match (direction.norms.is_some(), self.stage.cell().scans()) {
                    (true, _) => UnitsNeed::Sums,
                    (_, true) => UnitsNeed::Nothing,
                    _ => UnitsNeed::State,
                },
            };
            let shares = work.shares(threads);
            let run = Run {
                level: self,
                direction,
                input: flow.inputs[0],
                steps,
                batch,
                mask,
                state: &Mutex::new(DirectionState { h, cells: [c, n, m] }),
                slots,
                exchange: None,
                ahead: None,
            };
            let output = &Mutex::new(&mut output[..]);
            let to = &To { stride, columns: index * width..(index + 1) * width };
            let done = match shares {
                Shares::Caller => false,
                Shares::Rows(threads) => in_parallel(threads, &|thread| {
                    self.rows(simd, &run, &work.share(shares, thread), output, to);
                }),
                Shares::Blocks(threads) if self.stage.cell().scans() => in_parallel(threads, &|thread| {
                    self.piece(simd, &run, work.share(shares, thread), output, to);
                }),
                Shares::Blocks(threads) => {
                    exchange.begin(threads, batch * self.h_stride.max(self.blocks * self.units));
                    let run = Run { exchange: Some(&exchange), ..run };
                    in_parallel(threads, &|thread| {
                        let share = work.share(shares, thread);
                        // Every thread receives all of h; the first one writes the output.
                        match thread {
                            0 => self.piece(simd, &run, share, output, to),
                            _ => self.keep(self.worker(&run, share).run(simd, &mut |_, _, _| {})),
                        }
                    })
                }
                Shares::Ahead => {
                    ahead.begin();
                    let run = Run { ahead: Some(&ahead), ..run };
                    in_parallel(2, &|thread| {
                        let share = work.share(shares, thread);
                        if thread == 0 {
                            self.piece(simd, &run, share, output, to);
                        } else {
                            let mut scratch = self.scratch();
                            help(simd, &run, &share, &mut scratch.kept);
                            self.keep(scratch);
                        }
                    })
                }
            };
            if !done {
                self.rows(simd, &run, &work.share(Shares::Caller, 0), output, to);
            }
        }
        self.syncs.put(ThreadSync { exchange, ahead });
    }

    /// All steps of some rows.
    fn rows<S: Wide>(&self, simd: S, run: &Run<'_, '_>, share: &Share, output: &Mutex<&mut [f32]>, to: &To) {
        for piece in share.pieces() {
            self.piece(simd, run, piece, output, to);
        }
    }

    /// The same for rows that are computed together.
    fn piece<S: Wide>(&self, simd: S, run: &Run<'_, '_>, share: Share, output: &Mutex<&mut [f32]>, to: &To) {
        // Threads that share the units of a scan write their own; of others, one writes all.
        let own = share.blocks.start * self.units..share.blocks.end * self.units;
        let own = if self.stage.cell().scans() { own } else { 0..self.h_stride };
        let mut emit = |t: usize, rows: &Range<usize>, h: &[f32]| {
            if !self.sequence_out && !run.is_last(t) {
                return;
            }
            let mut output = lock(output);
            for (row, h) in rows.clone().zip(h.chunks_exact(self.h_stride)) {
                if let Some(at) = self.place(run, t, row) {
                    to.put(h, &own, &mut output, at);
                }
            }
        };
        self.keep(self.worker(run, share).run(simd, &mut emit));
    }

    fn scratch(&self) -> ThreadScratch {
        self.scratch.take()
    }

    fn keep(&self, scratch: ThreadScratch) {
        self.scratch.put(scratch);
    }

    fn worker<'a, 's>(&self, run: &'a Run<'a, 's>, share: Share) -> Worker<'a, 's> {
        Worker::new(run, share, self.scratch())
    }

    /// The row of the output `[T, B]` or `[B]` that the state of a row goes to after a step of which there is an
    /// output; `None` if to none.
    fn place(&self, run: &Run<'_, '_>, t: usize, row: usize) -> Option<usize> {
        let reverse = run.direction.reverse;
        let at = t * run.batch + row;
        let mask = run.mask.map_or(bits::VALID, |mask| mask[at]);
        if mask & bits::VALID == 0 && !stands_still(&self.stage, reverse, self.sequence_out, mask) {
            return None; // It is 0 already.
        }
        Some(if self.sequence_out { at } else { row })
    }
}

fn direction<S: Wide>(
    network: &Network,
    stage: &Stage,
    level: &RecurrentStage,
    index: usize,
    layout: PanelLayout,
) -> DirectionPanels {
    let direction = &level.directions[index];
    let (lanes, hidden, width) = (lanes::<S>(), level.hidden_size, level.state_size());
    let resets_first = level.recurrence == Recurrence::Gru { reset_after: false };
    let matrix = |role, inputs, layout| {
        let format = network.param_format(stage, index, role);
        Panels::new(network.param(stage, index, role), format, inputs, layout, S::DOTS)
    };
    let Biases { bias, extra } = fold::biases::<f32>(network, stage, level, index);
    let extra_gates = PanelLayout::gates(lanes, 0, extra.len() / hidden, hidden);
    let gates_alone = PanelLayout::gates(lanes, 0, gates::NEW, hidden);
    let candidate = PanelLayout::gates(lanes, gates::NEW, 1, hidden);
    DirectionPanels {
        reverse: direction.reverse,
        options: CellOptions::new(direction, level),
        input: matrix(Role::WeightIh, stage.in_features, layout),
        bias: layout.spread(|row| bias[row]),
        recurrent: match level.cell().scans() {
            true => Panels::default(),
            false => {
                let format = network.param_format(stage, index, Role::WeightHh);
                let weights = fold::recurrent(network, stage, level, index);
                Panels::new(&weights, format, width, if resets_first { gates_alone } else { layout }, S::DOTS)
            }
        },
        candidate: resets_first.then(|| matrix(Role::WeightHh, width, candidate)),
        extra: extra_gates.spread(|row| extra[row]),
        norms: fold::norms::<f32>(network, stage, level, index).map(|norms| PackedNorms::new(&norms, layout, hidden)),
        projection: (level.recurrence.proj_size() > 0)
            .then(|| matrix(Role::WeightHr, hidden, PanelLayout::plain(lanes, level.recurrence.proj_size()))),
    }
}
