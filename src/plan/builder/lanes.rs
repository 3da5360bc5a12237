//! Lanes that one dispatch advances: their buffers, and the kernels of a step.

use std::ops::Range;

use super::recurrent_dropout::{LevelDropout, first_gate};
use super::{Builder, StageWork, grid};
use crate::base::error::{Error, Result};
use crate::network::{RecurrentStage, WeightFormat, Zoneout};
use crate::plan::constants::masked_number;
use crate::plan::decide::{Decision, Problem, SCAN_WORK};
use crate::plan::program::{self, Program};
use crate::plan::tactic::{KernelSize, Tactic, Workgroup, narrow};
use crate::plan::train::setting;
use crate::plan::weights::WeightLayout;
use crate::plan::{
    Arithmetic, BufferId, Cells, Constants, Exchange, Kernel, RecurrentKernel, Rung, Slice, StateBuffers, Strategy,
};

/// Most invocations of a workgroup that normalizes a row: WebGPU's guaranteed limit.
const NORMALIZE_WORKGROUP: u32 = 256;

/// The directions of one level, or several stacked levels of one direction.
pub(super) struct LaneSet<'a> {
    pub works: &'a [StageWork<'a>],
    /// The first level; the others are like it.
    pub level: &'a RecurrentStage,
    pub layout: &'a WeightLayout,
    /// Buffers of the matrices and the vectors.
    pub weights: [BufferId; 2],
    /// Position of the first in the layout.
    pub first_lane: usize,
    /// The directions of each level that are here.
    pub directions: Range<usize>,
    pub stacked: bool,
    /// The inputs of all timesteps, projected, where the kernels leave the sums of the gates for a backward pass.
    pub kept: Option<BufferId>,
    /// Shares of units that are drawn behind every timestep.
    pub zoneout: Zoneout,
    /// What is dropped of the input and of h.
    pub dropout: Option<LevelDropout>,
}

/// One kernel of a timestep, or of many.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub kernel: Kernel,
    pub constants: Constants,
    pub bindings: Vec<Slice>,
    pub workgroups: [u32; 3],
    pub iterations: u64,
    pub work: u64,
}

/// What the kernels of one lane set read and write in addition to their weights.
struct Places {
    h: BufferId,
    cell: BufferId,
    exchange: Option<BufferId>,
}

impl<'a> LaneSet<'a> {
    pub fn new(
        works: &'a [StageWork<'a>],
        layout: &'a WeightLayout,
        weights: [BufferId; 2],
        directions: Range<usize>,
        stacked: bool,
    ) -> Option<Self> {
        let level = works.first()?.stage.recurrent()?;
        let above = works.first()?.index - layout.stages.start;
        let first_lane = above * layout.directions.len() + directions.start - layout.directions.start;
        Some(Self {
            works,
            level,
            layout,
            weights,
            first_lane,
            directions,
            stacked,
            kept: None,
            zoneout: Zoneout::default(),
            dropout: None,
        })
    }

    pub fn lanes(&self) -> usize {
        if self.stacked { self.works.len() } else { self.directions.len() }
    }

    /// Lanes whose input is projected before the steps.
    pub fn hoisted(&self) -> usize {
        if self.stacked { 1 } else { self.lanes() }
    }

    /// What is decided upon, for a batch of `batch` rows.
    pub fn problem(&self, batch: usize) -> Problem {
        Problem {
            label: self.label(),
            steps: self.works[0].steps_in,
            batch,
            lanes: self.lanes(),
            stacked: self.stacked,
            hidden: self.level.hidden_size,
            state: self.level.state_size(),
            gates: self.level.cell().gates() as u64,
            in_halves: Program::of(self.level).kernels.len() > 1 || !self.zoneout.is_none(),
            normalizes: Program::of(self.level).normalizes,
            scan: self.level.recurrence.scan(),
            drops_state: self.dropout.is_some_and(LevelDropout::of_state),
            state_words: self.layout.lanes[self.first_lane].state.len(),
            format: self.layout.format,
        }
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
            return (WeightLayout::matrix(self.weights[0], matrix(0)), [0; 4]);
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
    ///
    /// Also where c lies and where it is kept before every step, if zoneout needs that.
    pub(super) fn launches(
        &mut self,
        set: &LaneSet<'_>,
        decision: &Decision,
    ) -> Result<(Vec<Launch>, Option<[Slice; 2]>)> {
        let places = self.places(set, decision.strategy)?;
        let Program { kernels, normalizes, .. } = Program::of(set.level);
        let mut parts: Vec<(Cells, Tactic)> = kernels.iter().map(|&cell| (cell, decision.tactic)).collect();
        if normalizes && !decision.tactic.rung().is_long() {
            let most = self.limits.max_invocations.min(NORMALIZE_WORKGROUP);
            parts.extend(kernels.last().map(|&cell| (cell, Tactic::Normalize { units: most })));
        }
        let last = parts.len() - 1;
        let launch = |(index, &(cell, tactic))| self.launch(set, tactic, &places, cell, index < last);
        let mut launches: Vec<Launch> = parts.iter().enumerate().map(launch).collect::<Result<_>>()?;
        if set.zoneout.is_none() {
            return Ok((launches, None));
        }
        let (zoneout, before) = self.zoneout_launch(set, (places.h, places.cell))?;
        launches.push(zoneout);
        Ok((launches, before))
    }

    fn places(&mut self, set: &LaneSet<'_>, strategy: Strategy) -> Result<Places> {
        let (batch, lanes) = (self.batch, set.lanes());
        let (hidden, width) = (set.level.hidden_size, set.level.state_size());
        let label = set.label();
        let h = self.buffer(format!("{label} h [2, lanes, B, H]"), 2 * lanes, batch, width)?;
        let Program { kept, label: of_kept, .. } = Program::of(set.level);
        let cell = match kept {
            // Something must be bound; nothing reads it.
            0 => self.buffer(format!("{label} {of_kept}"), 1, 1, 1)?,
            _ => self.buffer(format!("{label} {of_kept}"), kept * lanes, batch, hidden)?,
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
                c: level.cell().keeps_c().then(|| part(cell, lane, hidden)),
                more: (1..level.cell().cells().len()).map(|at| part(cell, at * lanes + lane, hidden)).collect(),
                steps: work.steps_in,
            });
        }
        let exchange = match strategy {
            Strategy::Resident => {
                let numbers = set.works[0].steps_in.saturating_mul(lanes).saturating_mul(batch).saturating_mul(width);
                let words = numbers.saturating_add(Exchange::HEAD as usize);
                let buffer = self.buffer(format!("{label} exchange [T, lanes, B, H]"), words, 1, 1)?;
                self.plan.exchanges.push(Exchange { buffer, workgroups: 0 });
                Some(buffer)
            }
            _ => None,
        };
        Ok(Places { h, cell, exchange })
    }

    fn launch(&self, set: &LaneSet<'_>, tactic: Tactic, places: &Places, cell: Cells, partial: bool) -> Result<Launch> {
        let level = set.level;
        let (hidden, state, lanes) = (level.hidden_size, level.state_size(), set.lanes());
        let [width, depth] = if cell == Cells::Projection { [state, hidden] } else { [hidden, state] };
        let below = if set.stacked { state } else { 0 };
        let vectors = {
            let start = set.layout.vector_of(set.weights[1], set.first_lane, 0).offset;
            let bytes = lanes as u64 * set.layout.vectors_lane() as u64 * super::F32;
            Slice { buffer: set.weights[1], offset: start, bytes }
        };
        let (matrices, [first, next, further, to_state]) = match cell.scans() {
            // Something must be bound; nothing reads it.
            true => (vectors, [0; 4]),
            false => set.matrices(cell, self.limits.max_binding, self.plan.whole(set.weights[0])),
        };
        let last = &set.works[set.works.len() - 1];
        let reverse = (0..lanes).filter(|&lane| set.is_reverse(lane)).fold(0, |bits, lane| bits | (1u32 << lane));
        let directions = if set.stacked { 1 } else { level.directions.len() };
        let masked = masked_number(last.mask.map(|_| level.masked_output));
        let group = tactic.workgroup(width, cell.gates(), self.limits.max_invocations);
        let Workgroup { units, second } = group;
        let sizes = Constants::sizes([
            ("WIDTH", width),
            ("STATE", state),
            ("DEPTH", depth),
            ("BELOW", below),
            ("LANES", lanes),
            ("WEIGHTS_FIRST", first),
            ("WEIGHTS_NEXT", next),
            ("WEIGHTS_LANE", further),
            ("WEIGHTS_BELOW", to_state),
            ("VECTOR", set.layout.vector),
            ("VECTORS_LANE", set.layout.vectors_lane()),
            ("OUTPUT_STRIDE", directions * state),
            ("OUTPUT_FIRST", set.directions.start * state),
        ])?;
        let constants = sizes
            .with("STACKED", set.stacked)
            .with("REVERSE", reverse)
            .with("LAST", !last.stage.sequence_out)
            .with("MASKED", masked)
            .with("PARTIAL", partial);
        let constants = constants.and(tactic.constants(group, cell.gates(), self.batch)?.iter());
        // Neither a projection nor what follows normalized sums reads h through masks.
        let reads_h = cell != Cells::Projection && !matches!(tactic, Tactic::Normalize { .. });
        let dropped = set.dropout.is_some_and(LevelDropout::of_state) && reads_h;
        let functions = &level.directions[set.directions.start].activations;
        let mut constants = constants.and(program::constants(cell, level, functions).iter());
        if dropped {
            let of_state = self.state_dropout_constants(set.dropout, (first_gate(cell), set.directions.start))?;
            constants = constants.and(of_state.iter()).with("SEED", narrow(setting::SEED as u64));
        }
        let output = if set.stacked { self.plan.whole(last.output.buffer) } else { last.output };
        let mut bindings = vec![
            self.plan.whole(self.projected_of(set)),
            matrices,
            vectors,
            self.plan.whole(places.h),
            output,
            // Something must be bound where no step is masked; nothing reads it.
            last.mask.map_or(vectors, |mask| self.plan.whole(mask)),
            self.plan.whole(places.cell),
        ];
        bindings.extend(places.exchange.map(|exchange| self.plan.whole(exchange)));
        if dropped {
            bindings.push(self.settings());
        }
        let rung = if dropped { Rung::StepDropped } else { tactic.rung() };
        let size = KernelSize { width, depth, below, gates: cell.gates(), normalizes: cell.normalizes() };
        let kernel = RecurrentKernel {
            cell,
            rung,
            // A kernel that takes no products reads no weights.
            format: if rung == Rung::Normalize || rung.scans() { WeightFormat::F32 } else { set.layout.format },
            arithmetic: match (rung, self.options.arithmetic) {
                (Rung::Normalize | Rung::Scan | Rung::ScanShared, _) => Arithmetic::F32,
                (Rung::TileMatrix(_), _) => Arithmetic::Matrix,
                // What matrix units do not do is done in f32.
                (_, Arithmetic::Matrix) => Arithmetic::F32,
                (_, arithmetic) => arithmetic,
            },
            held: tactic.held(),
            keeps_sums: set.kept.is_some() && cell == Cells::Lstm,
        };
        let rows = if rung == Rung::Resident { 1 } else { (self.batch as u64).div_ceil(rung.rows(second).into()) };
        let [x, y, z] = grid(&self.limits, (width as u64).div_ceil(units.into()), rows, &set.label())?;
        // One workgroup does all units where it does many steps, or normalizes them.
        let x = if matches!(rung, Rung::Sequence | Rung::SequenceRows | Rung::Normalize) { 1 } else { x };
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
        let steps = u64::from(tactic.stride());
        let depth = match rung {
            Rung::Normalize => 1,
            Rung::Scan | Rung::ScanShared => narrow(SCAN_WORK) as usize,
            _ => depth,
        };
        let products = (depth as u64 + below as u64 * (lanes as u64 - 1) / lanes as u64) * cell.gates();
        let work = (self.batch as u64 * width as u64 * lanes as u64).saturating_mul(products).saturating_mul(steps);
        // Slices of the state are a quarter as long where every gate has a mask.
        let iterations = tactic.iterations(self.batch, size, group) * if dropped { 4 } else { 1 };
        Ok(Launch { kernel: Kernel::Recurrent(kernel), constants, bindings, workgroups, iterations, work })
    }
}
