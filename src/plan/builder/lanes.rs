//! Lanes that one dispatch advances: their buffers, and the kernels of a step.

use std::ops::Range;

use super::choose::How;
use super::{Builder, Work, grid, narrow};
use crate::base::error::{Error, Result};
use crate::network::{Activation, Cell, MaskedOutput, RecurrentStage};
use crate::plan::constants::{activation, bound, size};
use crate::plan::weights::Layout;
use crate::plan::{
    Arithmetic, BufferId, Cells, Exchange, Kernel, RecurrentKernel, Rung, Slice, StateBuffers, Strategy,
    head_of_exchange,
};

/// The directions of one level, or several stacked levels of one direction.
pub(super) struct LaneSet<'a> {
    pub works: &'a [Work<'a>],
    /// The first level; the others are like it.
    pub level: &'a RecurrentStage,
    pub layout: &'a Layout,
    /// Buffers of the matrices and the vectors.
    pub weights: [BufferId; 2],
    /// Position of the first in the layout.
    pub first_lane: usize,
    /// The directions of each level that are here.
    pub directions: Range<usize>,
    pub stacked: bool,
}

/// One kernel of a timestep, or of many.
pub(super) struct Launch {
    pub kernel: Kernel,
    pub constants: Vec<u32>,
    pub bindings: Vec<Slice>,
    pub workgroups: [u32; 3],
    pub iterations: u64,
    pub work: u64,
}

/// What the kernels of one lane set read and write beside their weights.
struct Places {
    h: BufferId,
    cell: BufferId,
    exchange: Option<BufferId>,
}

impl<'a> LaneSet<'a> {
    pub fn new(
        works: &'a [Work<'a>],
        layout: &'a Layout,
        weights: [BufferId; 2],
        directions: Range<usize>,
        stacked: bool,
    ) -> Option<Self> {
        let level = works.first()?.stage.recurrent()?;
        let above = works.first()?.index - layout.stages.start;
        let first_lane = above * layout.directions.len() + directions.start - layout.directions.start;
        Some(Self { works, level, layout, weights, first_lane, directions, stacked })
    }

    pub fn lanes(&self) -> usize {
        if self.stacked { self.works.len() } else { self.directions.len() }
    }

    /// Lanes whose input is projected before the steps.
    pub fn hoisted(&self) -> usize {
        if self.stacked { 1 } else { self.lanes() }
    }

    /// Gates of a unit.
    pub fn gates(&self) -> u64 {
        self.level.cell.gates() as u64
    }

    pub fn label(&self) -> String {
        match self.works {
            [first, .., last] => format!("{}..{}", first.stage.label, last.stage.label),
            [one] if self.directions.start > 0 => format!("{} reverse", one.stage.label),
            _ => self.works[0].stage.label.clone(),
        }
    }

    pub fn is_reverse(&self, lane: usize) -> bool {
        let direction = if self.stacked { 0 } else { self.directions.start + lane };
        self.level.directions[direction].reverse
    }

    /// Whether a step takes two kernels.
    pub fn in_halves(&self) -> bool {
        self.level.proj_size > 0 || (self.level.cell == Cell::Gru && !self.level.reset_after)
    }

    /// Numbers between the outputs of two lanes.
    pub fn output_lane(&self) -> u64 {
        match self.works {
            [first, second, ..] => (second.output.offset - first.output.offset) / super::F32,
            _ => self.level.state_size() as u64,
        }
    }

    /// What is bound as weights, and where in it the lanes' matrices begin: the first one's, the
    /// second's, the distance of each further, and that from a lane's W to its U.
    fn matrices(&self, cell: Cells, most: u64, whole: Slice) -> (Slice, [usize; 4]) {
        let of = |lane: usize| &self.layout.lanes[self.first_lane + lane];
        let matrix = |lane: usize| if cell == Cells::Projection { &of(lane).projection } else { &of(lane).state };
        if whole.bytes > most {
            // Only a lane with buffers of its own is as large.
            return (Layout::matrix(self.weights[0], matrix(0)), [0; 4]);
        }
        let start = |lane: usize| if self.stacked && lane > 0 { of(lane).input.start } else { matrix(lane).start };
        let next = if self.lanes() > 1 { start(1) } else { 0 };
        let further = if self.lanes() > 2 { start(2) - start(1) } else { 0 };
        let below = if self.stacked { of(1).input.len() } else { 0 };
        (whole, [start(0), next, further, below])
    }
}

impl Builder {
    /// The kernels of a step; the buffers of the lanes' state are made here.
    pub(super) fn launches(&mut self, set: &LaneSet<'_>, how: &How) -> Result<Vec<Launch>> {
        let places = self.places(set, how)?;
        let cells: &[Cells] = match (set.level.cell, set.in_halves()) {
            (Cell::Lstm, false) => &[Cells::Lstm],
            (Cell::Lstm, true) => &[Cells::Lstm, Cells::Projection],
            (Cell::Gru, false) => &[Cells::Gru],
            (Cell::Gru, true) => &[Cells::GruGates, Cells::GruCandidate],
            (Cell::Rnn, _) => &[Cells::Rnn],
        };
        let partial = |index: usize| index + 1 < cells.len();
        cells.iter().enumerate().map(|(index, &cell)| self.launch(set, how, &places, cell, partial(index))).collect()
    }

    fn places(&mut self, set: &LaneSet<'_>, how: &How) -> Result<Places> {
        let (batch, lanes) = (self.batch, set.lanes());
        let (hidden, width) = (set.level.hidden_size, set.level.state_size());
        let label = set.label();
        let h = self.buffer(format!("{label} h [2, lanes, B, H]"), 2 * lanes, batch, width)?;
        let cell = match (set.level.cell, set.in_halves()) {
            (Cell::Lstm, false) => self.buffer(format!("{label} c [lanes, B, H]"), lanes, batch, hidden)?,
            (Cell::Lstm, true) => self.buffer(format!("{label} c, h' [2, lanes, B, H]"), 2 * lanes, batch, hidden)?,
            (Cell::Gru, true) => self.buffer(format!("{label} r*h, z [2, lanes, B, H]"), 2 * lanes, batch, hidden)?,
            // Something must be bound; nothing reads it.
            _ => self.buffer(format!("{label} no c"), 1, 1, 1)?,
        };
        let part = |buffer, index: usize, width: usize| {
            let bytes = (batch * width) as u64 * super::F32;
            Slice { buffer, offset: index as u64 * bytes, bytes }
        };
        for lane in 0..lanes {
            let work = &set.works[if set.stacked { lane } else { 0 }];
            let Some(level) = work.stage.recurrent() else { continue };
            let direction = if set.stacked { 0 } else { set.directions.start + lane };
            self.plan.states.push(StateBuffers {
                layer: level.layer,
                row: level.level * level.directions.len() + direction,
                h: [part(h, lane, width), part(h, lanes + lane, width)],
                c: (level.cell == Cell::Lstm).then(|| part(cell, lane, hidden)),
                steps: work.steps_in,
            });
        }
        let exchange = match how.strategy {
            Strategy::Resident => {
                let numbers = set.works[0].steps_in.saturating_mul(lanes).saturating_mul(batch).saturating_mul(width);
                let words = numbers.saturating_add(usize::try_from(head_of_exchange()).unwrap_or(usize::MAX));
                let buffer = self.buffer(format!("{label} exchange [T, lanes, B, H]"), words, 1, 1)?;
                self.plan.exchanges.push(Exchange { buffer, workgroups: 0 });
                Some(buffer)
            }
            _ => None,
        };
        Ok(Places { h, cell, exchange })
    }

    fn launch(&self, set: &LaneSet<'_>, how: &How, places: &Places, cell: Cells, partial: bool) -> Result<Launch> {
        let level = set.level;
        let (hidden, state, lanes) = (level.hidden_size, level.state_size(), set.lanes());
        let [width, depth] = if cell == Cells::Projection { [state, hidden] } else { [hidden, state] };
        let below = if set.stacked { state } else { 0 };
        let (matrices, [first, next, further, to_state]) =
            set.matrices(cell, self.limits.max_binding, self.plan.whole(set.weights[0]));
        let last = &set.works[set.works.len() - 1];
        let reverse = (0..lanes).filter(|&lane| set.is_reverse(lane)).fold(0, |bits, lane| bits | (1u32 << lane));
        let directions = if set.stacked { 1 } else { level.directions.len() };
        let sizes = |sizes: &[usize]| sizes.iter().map(|&n| size(n)).collect::<Result<Vec<u32>>>();
        let masked = match (last.mask, level.masked_output) {
            (None, _) => 0,
            (Some(_), MaskedOutput::Zero) => 1,
            (Some(_), MaskedOutput::Previous) => 2,
        };
        let (units, second) = how.group(width, cell.gates(), self.limits.max_invocations);
        let mut constants = sizes(&[width, state, depth, below])?;
        constants.extend([units, narrow(lanes as u64), set.stacked.into(), reverse, (!last.stage.sequence_out).into()]);
        constants.extend(sizes(&[first, next, further, to_state, set.layout.vector, set.layout.vectors_lane()])?);
        constants.extend(sizes(&[directions * state, set.directions.start * state])?);
        constants.extend([masked, partial.into(), second]);
        match how.rung {
            Rung::Resident => constants.extend([size(self.batch)?, how.patience]),
            Rung::TileMatrix(_) => constants.extend([how.strips(units, cell.gates()), how.subgroup]),
            _ => {}
        }
        constants.extend(cell_constants(level, cell, &level.directions[set.directions.start].activations));
        let vectors = {
            let start = set.layout.vector_of(set.weights[1], set.first_lane, 0).offset;
            let bytes = lanes as u64 * set.layout.vectors_lane() as u64 * super::F32;
            Slice { buffer: set.weights[1], offset: start, bytes }
        };
        let output = if set.stacked { self.plan.whole(last.output.buffer) } else { last.output };
        let mut bindings = vec![
            self.plan.whole(self.projected),
            matrices,
            vectors,
            self.plan.whole(places.h),
            output,
            // Something must be bound where no step is masked; nothing reads it.
            last.mask.map_or(vectors, |mask| self.plan.whole(mask)),
            self.plan.whole(places.cell),
        ];
        bindings.extend(places.exchange.map(|exchange| self.plan.whole(exchange)));
        let kernel = RecurrentKernel {
            cell,
            rung: how.rung,
            format: set.layout.format,
            arithmetic: match (how.rung, self.options.arithmetic) {
                (Rung::TileMatrix(_), _) => Arithmetic::Matrix,
                // What matrix units do not do is done in f32.
                (_, Arithmetic::Matrix) => Arithmetic::F32,
                (_, arithmetic) => arithmetic,
            },
            held: how.held,
        };
        let rows =
            if how.rung == Rung::Resident { 1 } else { (self.batch as u64).div_ceil(how.rung.rows(second).into()) };
        let [x, y, z] = grid(&self.limits, (width as u64).div_ceil(units.into()), rows, &set.label())?;
        // One workgroup does all units where it does many steps.
        let x = if matches!(how.rung, Rung::Sequence | Rung::SequenceRows) { 1 } else { x };
        let folds = u64::from(z) * lanes as u64;
        if folds > self.limits.max_workgroups.into() {
            return Err(Error::TooLarge {
                what: format!("{}: workgroups", set.label()),
                needed: folds,
                limit: self.limits.max_workgroups.into(),
                limit_name: "the adapter's workgroups per dimension".into(),
            });
        }
        let workgroups = [x, y, narrow(folds)];
        let steps = u64::from(how.stride);
        let products = (depth as u64 + below as u64 * (lanes as u64 - 1) / lanes as u64) * cell.gates();
        let work = (self.batch as u64 * width as u64 * lanes as u64).saturating_mul(products).saturating_mul(steps);
        let iterations = how.iterations(self.batch, [width, depth, below], cell.gates(), units, second);
        Ok(Launch { kernel: Kernel::Recurrent(kernel), constants, bindings, workgroups, iterations, work })
    }
}

/// The constants of a cell, in the order of the kernel table.
fn cell_constants(level: &RecurrentStage, cell: Cells, functions: &[Activation]) -> Vec<u32> {
    let function = |index: usize| activation(functions[index]);
    let clip = bound(level.clip);
    match cell {
        Cells::Lstm => {
            let mut constants = vec![level.peephole.into(), level.coupled.into(), clip, bound(level.cell_clip)];
            constants.extend([function(0), function(1), function(2)].concat());
            constants
        }
        Cells::Gru => [&[clip][..], &function(0), &function(1)].concat(),
        Cells::GruGates | Cells::Rnn => [&[clip][..], &function(0)].concat(),
        Cells::GruCandidate => [&[clip][..], &function(1)].concat(),
        Cells::Projection => Vec::new(),
    }
}
