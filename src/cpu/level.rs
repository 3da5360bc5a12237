//! One level of a recurrent layer.

use std::ops::Range;
use std::sync::Mutex;

use super::cells::Options;
use super::packed::{Layout, Panels};
use super::product::Kept;
use super::simd::{Wide, lanes};
use super::threads::{Exchange, Share, Shares, Work, in_threads};
use super::worker::Worker;
use crate::input::bits;
use crate::network::{Activation, Cell, Network, RecurrentStage, Stage, gates};
use crate::reference::{Flow, stands_still};
use crate::state::LayerState;

/// One direction's weights.
#[derive(Debug)]
pub(super) struct Direction {
    pub reverse: bool,
    pub options: Options,
    /// `[I, G*H]`
    pub input: Panels,
    /// `[blocks, Q, lanes]`, what is added before the steps.
    pub bias: Vec<f32>,
    /// `[K, G*H]`; of a GRU that resets first only the gates.
    pub recurrent: Panels,
    /// `[H, H]`, a GRU's candidate if it resets first.
    pub candidate: Option<Panels>,
    /// `[blocks, 3, lanes]`, an LSTM's peepholes, or `[blocks, lanes]`, a GRU's recurrent bias of
    /// the candidate; or empty.
    pub extra: Vec<f32>,
    /// `[H, P]`
    pub projection: Option<Panels>,
}

/// A level's weights and sizes.
#[derive(Debug)]
pub(super) struct Level {
    pub stage: RecurrentStage,
    pub directions: Vec<Direction>,
    /// Units of a block.
    pub units: usize,
    pub blocks: usize,
    /// Numbers from a row of h to the next, while the level runs.
    pub h_stride: usize,
    sequence_out: bool,
    scratch: Mutex<Vec<Scratch>>,
}

/// Memory of one thread, kept between runs.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// `[blocks of the share, rows of the chunk, Q, lanes]`
    pub projected: Vec<f32>,
    /// `[rows, h_stride]`, before and behind a step.
    pub h: Vec<f32>,
    pub next: Vec<f32>,
    /// `[rows, blocks, units]`, an LSTM's c or a GRU's update gate.
    pub c: Vec<f32>,
    /// `[rows, blocks, units]`, what is not projected or not multiplied yet.
    pub raw: Vec<f32>,
    pub kept: Kept,
}

/// Where a direction's h goes in an output.
struct To {
    stride: usize,
    columns: Range<usize>,
}

impl To {
    fn put(&self, h: &[f32], output: &mut [f32], row: usize) {
        output[row * self.stride..][self.columns.clone()].copy_from_slice(&h[..self.columns.len()]);
    }
}

/// One run of one direction.
pub(super) struct Run<'a> {
    pub level: &'a Level,
    pub direction: &'a Direction,
    /// `[T, B, I]`
    pub input: &'a [f32],
    pub steps: usize,
    pub batch: usize,
    /// Bits `[T, B]`
    pub mask: Option<&'a [u32]>,
    /// `[B, H]` or `[B, P]`
    pub h: &'a [f32],
    /// `[B, H]`
    pub c: &'a [f32],
}

impl Level {
    pub fn new<S: Wide>(network: &Network, stage: &Stage, recurrent: &RecurrentStage) -> Self {
        let lanes = lanes::<S>();
        let hidden = recurrent.hidden_size;
        let layout = match recurrent.cell {
            Cell::Rnn => Layout::plain(lanes, hidden),
            Cell::Lstm | Cell::Gru => Layout::gates(lanes, 0, recurrent.cell.gates(), hidden),
        };
        let units = if recurrent.cell == Cell::Rnn { layout.block_len() } else { lanes };
        let h_stride = match recurrent.proj_size {
            0 => layout.blocks * units,
            size => {
                let layout = Layout::plain(lanes, size);
                layout.blocks * layout.block_len()
            }
        };
        let directions =
            (0..recurrent.directions.len()).map(|d| direction::<S>(network, recurrent, d, stage.in_features, layout));
        Self {
            stage: recurrent.clone(),
            directions: directions.collect(),
            units,
            blocks: layout.blocks,
            h_stride,
            sequence_out: stage.sequence_out,
            scratch: Mutex::default(),
        }
    }

    /// `[T, B, I]` to `[T, B, D*H]` or `[B, D*H]`.
    pub fn run<S: Wide>(
        &self,
        simd: S,
        threads: usize,
        flow: &Flow<'_, f32>,
        state: &mut LayerState<f32>,
        output: &mut Vec<f32>,
    ) {
        let (hidden, width) = (self.stage.hidden_size, self.stage.state_size());
        let count = self.directions.len();
        let stride = count * width;
        let &Flow { steps, batch, mask, .. } = flow;
        output.resize(if self.sequence_out { steps } else { 1 } * batch * stride, 0.0);
        for (index, direction) in self.directions.iter().enumerate() {
            let row = self.stage.level * count + index;
            let h = &mut state.h[row * batch * width..][..batch * width];
            let c = match self.stage.cell {
                Cell::Lstm => &mut state.c[row * batch * hidden..][..batch * hidden],
                Cell::Gru | Cell::Rnn => &mut [],
            };
            let run = Run { level: self, direction, input: flow.inputs[0], steps, batch, mask, h, c };
            let to = To { stride, columns: index * width..(index + 1) * width };
            let of_row = self.stage.gate_rows() * (width + direction.input.inputs);
            let shares = Work { steps, rows: batch, blocks: self.blocks, of_row }.share(threads);
            match self.shared(simd, shares, &run, output, &to) {
                Some(done) => done.into_iter().flatten().for_each(|(share, scratch)| self.keep(&share, scratch, h, c)),
                None => {
                    for piece in (Share { rows: 0..batch, blocks: 0..self.blocks }).pieces() {
                        let run = Run { level: self, direction, input: flow.inputs[0], steps, batch, mask, h, c };
                        let mut emit = |t: usize, row: usize, h: &[f32]| {
                            if let Some(at) = self.place(&run, t, row) {
                                to.put(h, output, at);
                            }
                        };
                        let scratch = self.worker(&run, &piece).run(simd, None, &mut emit);
                        self.keep(&piece, scratch, h, c);
                    }
                }
            }
        }
    }

    fn worker<'a>(&self, run: &'a Run<'a>, share: &Share) -> Worker<'a> {
        let scratch = crate::lock::lock(&self.scratch).pop().unwrap_or_default();
        Worker::new(run, share.clone(), scratch)
    }

    /// What each thread has computed, piece by piece; `None` if the caller is to do it alone.
    fn shared<S: Wide>(
        &self,
        simd: S,
        shares: Shares,
        run: &Run<'_>,
        output: &mut [f32],
        to: &To,
    ) -> Option<Vec<Vec<(Share, Scratch)>>> {
        let batch = run.batch;
        match shares {
            Shares::Caller => None,
            Shares::Rows(shares) => {
                // Every thread's rows of the output, one slice for every timestep.
                let mut parts: Vec<Vec<&mut [f32]>> = shares.iter().map(|_| Vec::new()).collect();
                for mut rest in output.chunks_exact_mut(batch * to.stride) {
                    for (part, share) in parts.iter_mut().zip(&shares) {
                        let (rows, behind) = rest.split_at_mut(share.rows.len() * to.stride);
                        part.push(rows);
                        rest = behind;
                    }
                }
                in_threads(shares.into_iter().zip(parts).collect(), |(share, mut part)| {
                    let first = share.rows.start;
                    let mut emit = |t: usize, row: usize, h: &[f32]| {
                        if let Some(at) = self.place(run, t, row) {
                            to.put(h, part[at / batch], at % batch - first);
                        }
                    };
                    let done = share.pieces().map(|piece| {
                        let scratch = self.worker(run, &piece).run(simd, None, &mut emit);
                        (piece, scratch)
                    });
                    done.collect::<Vec<_>>()
                })
            }
            Shares::Blocks(shares) => {
                let exchange = &Exchange::new(shares.len(), batch * self.h_stride.max(self.blocks * self.units));
                let first = std::iter::once(Some(output)).chain(std::iter::repeat_with(|| None));
                in_threads(shares.into_iter().zip(first).collect(), |(share, mut output)| {
                    let _guard = exchange.guard();
                    // Every thread comes to know all of h; the first writes it down.
                    let mut emit = |t: usize, row: usize, h: &[f32]| {
                        if let (Some(output), Some(at)) = (&mut output, self.place(run, t, row)) {
                            to.put(h, output, at);
                        }
                    };
                    let scratch = self.worker(run, &share).run(simd, Some(exchange), &mut emit);
                    vec![(share, scratch)]
                })
            }
        }
    }

    /// The row of the output `[T, B]` or `[B]` that the state of a row after a step goes to;
    /// `None` if to none.
    fn place(&self, run: &Run<'_>, t: usize, row: usize) -> Option<usize> {
        let reverse = run.direction.reverse;
        let is_last = t == if reverse { 0 } else { run.steps - 1 };
        if !self.sequence_out && !is_last {
            return None;
        }
        let at = t * run.batch + row;
        let mask = run.mask.map_or(bits::VALID, |mask| mask[at]);
        if mask & bits::VALID == 0 && !stands_still(&self.stage, reverse, self.sequence_out, mask) {
            return None; // It is 0 already.
        }
        Some(if self.sequence_out { at } else { row })
    }

    /// Writes a share's final state down, and keeps its memory.
    fn keep(&self, share: &Share, scratch: Scratch, h: &mut [f32], c: &mut [f32]) {
        let (hidden, width) = (self.stage.hidden_size, self.stage.state_size());
        for (local, row) in share.rows.clone().enumerate() {
            h[row * width..][..width].copy_from_slice(&scratch.h[local * self.h_stride..][..width]);
            if !c.is_empty() {
                let units = share.blocks.start * self.units..hidden.min(share.blocks.end * self.units);
                let from = &scratch.c[local * self.blocks * self.units..];
                c[row * hidden..][units.clone()].copy_from_slice(&from[units]);
            }
        }
        crate::lock::lock(&self.scratch).push(scratch);
    }
}

fn direction<S: Wide>(
    network: &Network,
    stage: &RecurrentStage,
    index: usize,
    inputs: usize,
    layout: Layout,
) -> Direction {
    let direction = &stage.directions[index];
    let names = &direction.names;
    let (lanes, hidden, width) = (lanes::<S>(), stage.hidden_size, stage.state_size());
    let resets_first = stage.cell == Cell::Gru && !stage.reset_after;
    let matrix = |name: &str, inputs, layout| Panels::new(network, name, inputs, layout, S::DOTS);
    let number = |name: &str, row: usize| network.weight(name).get(row).copied().unwrap_or_default();
    let bias = layout.spread(|row| {
        // With reset after, the candidate's recurrent bias is multiplied too, so it stays apart.
        let apart = stage.cell == Cell::Gru && stage.reset_after && row >= gates::NEW * hidden;
        number(&names.bias_ih, row) + if apart { 0.0 } else { number(&names.bias_hh, row) }
    });
    let extra = match stage.cell {
        Cell::Lstm if stage.peephole => {
            Layout::gates(lanes, 0, gates::PEEPHOLES, hidden).spread(|row| number(&names.weight_p, row))
        }
        Cell::Gru if stage.reset_after => {
            Layout::gates(lanes, gates::NEW, 1, hidden).spread(|row| number(&names.bias_hh, row))
        }
        _ => Vec::new(),
    };
    let gates_alone = Layout::gates(lanes, 0, gates::NEW, hidden);
    let candidate = Layout::gates(lanes, gates::NEW, 1, hidden);
    let mut activations = [Activation::Linear; 3];
    activations.iter_mut().zip(&direction.activations).for_each(|(to, &from)| *to = from);
    Direction {
        reverse: direction.reverse,
        options: Options { activations, clip: stage.clip, cell_clip: stage.cell_clip, coupled: stage.coupled },
        input: matrix(&names.weight_ih, inputs, layout),
        bias,
        recurrent: matrix(&names.weight_hh, width, if resets_first { gates_alone } else { layout }),
        candidate: resets_first.then(|| matrix(&names.weight_hh, width, candidate)),
        extra,
        projection: (stage.proj_size > 0)
            .then(|| matrix(&names.weight_hr, hidden, Layout::plain(lanes, stage.proj_size))),
    }
}
