//! The forward pass of training: that of a run, but every recurrence keeps its states, and outputs are dropped.

use std::ops::Range;

use super::intervals::KeptSums;
use super::{Builder, DispatchRows, StageWork, flat_grid};
use crate::base::error::{Error, Result};
use crate::network::{Cell, HiddenOrCell, MaskedOutput, Network, RecurrentStage, Stage, StageKind, Zoneout};
use crate::plan::constants::masked_number;
use crate::plan::train::{DropoutSite, StartState};
use crate::plan::weights::WeightLayout;
use crate::plan::{BufferId, Constants, Kernel, ROW_WORKGROUP, Slice, TrainKernel};

/// What a recurrence leaves for its backward pass.
#[derive(Clone, Debug)]
pub(super) struct StageTape {
    /// Position of the stage.
    pub stage: usize,
    /// h behind every timestep, `[T, B, D*H]`.
    pub history: Slice,
    pub lanes: Vec<LanesTape>,
}

/// Directions whose functions are the same, which one dispatch can run.
#[derive(Clone, Debug)]
pub(super) struct LanesTape {
    pub directions: Range<usize>,
    /// The h that they start from, `[lanes, B, H]`.
    pub h: BufferId,
    /// The c that they start from, `[lanes, B, H]`; of an sLSTM c, n and m, `[3, lanes, B, H]`.
    pub c: Option<BufferId>,
    /// The sums of an LSTM's gates, which the forward pass keeps.
    pub sums: Option<KeptSums>,
    pub vectors: LaneVectors,
    /// Gradients of the final state `[2, lanes, B, H]`, of an sLSTM `[4, lanes, B, H]`, where a layer reads it.
    pub final_gradient: Option<Slice>,
}

/// Biases and the like of some directions, as a run reads them.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneVectors {
    pub slice: Slice,
    /// Numbers of one vector.
    pub each: usize,
    /// Numbers from one direction's to the next.
    pub lane: usize,
}

impl LaneVectors {
    /// Those of the stage at position `stage`.
    fn new(layout: &WeightLayout, buffer: BufferId, stage: usize, directions: &Range<usize>) -> Self {
        let lane = layout.vectors_lane();
        let before = (stage - layout.stages.start) * layout.directions.len();
        let first = layout.vector_of(buffer, before + directions.start - layout.directions.start, 0);
        let bytes = (directions.len() * lane) as u64 * super::F32;
        Self { slice: Slice { bytes, ..first }, each: layout.vector, lane }
    }
}

/// Bits of the directions that read the sequence from its end.
pub(super) fn reverse_bits(level: &RecurrentStage, directions: &Range<usize>) -> u32 {
    let lanes = level.directions[directions.clone()].iter().enumerate();
    lanes.filter(|(_, direction)| direction.reverse).fold(0, |bits, (lane, _)| bits | 1 << lane)
}

impl Builder {
    /// Levels that share their weights' buffers, one after the other.
    pub(super) fn kept_recurrence(
        &mut self,
        network: &Network,
        stages: Range<usize>,
        layouts: &[&WeightLayout],
        weights: &[[BufferId; 2]],
        stage_steps: &[usize],
    ) -> Result<()> {
        for index in stages {
            let stage = &network.stages()[index];
            let Some(level) = stage.recurrent() else { continue };
            if level.cell() == Cell::Slstm {
                self.trains_slstm(stage, level)?;
            }
            let output = self.output(network, index, stage_steps)?;
            self.plan.outputs.push(output);
            let of_stage = self.work(network, index, stage_steps);
            let dropped = !self.dropouts_of(index).is_empty();
            let zeroed = of_stage.mask.is_some() && level.masked_output == MaskedOutput::Zero;
            let is_history = stage.sequence_out && !dropped && !zeroed;
            let history = if is_history {
                output
            } else {
                let label = format!("{} states [T, B, N]", stage.label);
                let buffer = self.buffer(label, of_stage.steps_in, self.batch, stage.out_features)?;
                self.plan.whole(buffer)
            };
            let drawn = if self.draws_zoneout() { level.zoneout } else { Zoneout::default() };
            let kept = kept(stage, drawn);
            if let Some(training) = &mut self.training {
                training.zoneout = drawn;
            }
            let work = StageWork { stage: &kept, output: history, steps_out: of_stage.steps_in, ..of_stage };
            let (states, first_dispatch) = (self.plan.states.len(), self.plan.dispatches.len());
            for (layout, &weights) in layouts.iter().zip(weights) {
                self.recurrent(std::slice::from_ref(&work), layout, weights, false)?;
            }
            let first_start = self.training.as_ref().map_or(0, |training| training.parts.starts.len());
            let mut tape = StageTape { stage: index, history, lanes: Vec::new() };
            let sets = layouts.iter().zip(weights).flat_map(|(layout, &[_, vectors])| {
                let sets = self.together(level, layout.directions.clone(), work.steps_in).into_iter();
                sets.map(move |directions| (LaneVectors::new(layout, vectors, index, &directions), directions))
            });
            for (vectors, directions) in sets.collect::<Vec<_>>() {
                let mut lanes = self.start(&work, level, (directions, vectors), states)?;
                if self.loop_starts.is_none() {
                    self.start_of_tape(&work, level, &lanes)?;
                }
                lanes.final_gradient = self.final_gradient(network, index, level, lanes.directions.len())?;
                if !is_history {
                    self.emit(&work, stage, level, &lanes, output)?;
                }
                tape.lanes.push(lanes);
            }
            let mut starts = Vec::new();
            if let Some(training) = &mut self.training {
                training.tapes.push(tape);
                starts.extend_from_slice(&training.parts.starts[first_start..]);
            }
            self.stored_start(network, (index, first_dispatch), &starts)?;
            self.drop_out(index, output)?;
        }
        Ok(())
    }

    /// An error for an sLSTM that is trained on the CPU alone.
    fn trains_slstm(&self, stage: &Stage, level: &RecurrentStage) -> Result<()> {
        if level.recurrence.num_heads() == 1 {
            return Ok(());
        }
        let what = "training of an sLSTM with several heads on a GPU (supported on the CPU)".into();
        Err(Error::Unsupported { place: format!("layer `{}`", stage.label), what })
    }

    /// Buffers for the state that directions start from.
    fn start(
        &mut self,
        work: &StageWork<'_>,
        level: &RecurrentStage,
        (directions, vectors): (Range<usize>, LaneVectors),
        first_state: usize,
    ) -> Result<LanesTape> {
        let label = &work.stage.label;
        let h =
            self.buffer(format!("{label} start h [lanes, B, H]"), directions.len(), self.batch, level.state_size())?;
        let cells = level.cell().cells().len();
        let c = match cells {
            0 => None,
            _ => {
                let label = format!("{label} start {} [.., lanes, B, H]", level.cell().cells().join(", "));
                Some(self.buffer(label, cells * directions.len(), self.batch, level.hidden_size)?)
            }
        };
        let mut starts = Vec::new();
        for state in &self.plan.states[first_state..] {
            let direction = state.row - level.level * level.directions.len();
            if !directions.contains(&direction) {
                continue;
            }
            let lane = direction - directions.start;
            let mut add = |buffer: BufferId, to: Slice, part: usize, at: usize| {
                let from = Slice { buffer, offset: at as u64 * to.bytes, bytes: to.bytes };
                starts.push(StartState { layer: state.layer, row: state.row, part, from, to });
            };
            add(h, state.h[0], HiddenOrCell::H.place(), lane);
            for (at, &to) in state.c.iter().chain(&state.more).enumerate() {
                if let Some(c) = c {
                    add(c, to, HiddenOrCell::C.place() + at, at * directions.len() + lane);
                }
            }
        }
        if let Some(training) = &mut self.training {
            training.parts.starts.extend(starts);
        }
        let kept = self.training.as_mut().map(|training| &mut training.kept);
        let sums = kept.and_then(|kept| kept.remove(&(work.index, directions.start)));
        Ok(LanesTape { directions, h, c, sums, vectors, final_gradient: None })
    }

    /// The output of some directions from their states.
    fn emit(
        &mut self,
        work: &StageWork<'_>,
        stage: &Stage,
        level: &RecurrentStage,
        lanes: &LanesTape,
        output: Slice,
    ) -> Result<()> {
        let rows = if stage.sequence_out { work.steps_in * self.batch } else { self.batch };
        let (state, count) = (level.state_size(), lanes.directions.len());
        let constants = Constants::sizes([
            ("STATE", state),
            ("LANES", count),
            ("OUTPUT_STRIDE", stage.out_features),
            ("OUTPUT_FIRST", lanes.directions.start * state),
        ])?
        .with("REVERSE", reverse_bits(level, &lanes.directions))
        .with("LAST", !stage.sequence_out)
        .with("MASKED", masked_number(work.mask.map(|_| level.masked_output)))
        .with("WORKGROUP", ROW_WORKGROUP);
        let elements = (rows * count * state) as u64;
        let workgroups = flat_grid(&self.limits, elements, &stage.label)?;
        let h = self.plan.whole(lanes.h);
        let mask = work.mask.map_or(h, |mask| self.plan.whole(mask));
        self.push(work, DispatchRows::all(rows), Kernel::Train(TrainKernel::Emit), constants, |dispatch| {
            dispatch.bindings = vec![work.output, h, mask, output];
            dispatch.workgroups = workgroups;
            dispatch.work = elements;
        })
    }

    pub(super) fn dropouts_of(&self, stage: usize) -> Vec<(usize, DropoutSite)> {
        self.training.as_ref().map(|training| training.task.dropouts_of(stage)).unwrap_or_default()
    }

    /// Multiplies the output of a stage, or its gradient, by the stage's masks.
    pub(super) fn drop_out(&mut self, stage: usize, x: Slice) -> Result<()> {
        for (site, dropout) in self.dropouts_of(stage) {
            let Some(training) = &self.training else { continue };
            let row = if dropout.channels { training.widths[stage] * self.batch } else { 0 };
            self.draw(stage, x, (site, dropout.rate), row)?;
        }
        Ok(())
    }
}

/// A recurrent stage that hands on its states of all timesteps. Its kernels leave zoneout that is drawn to another.
fn kept(stage: &Stage, drawn: Zoneout) -> Stage {
    let mut kept = Stage { sequence_out: true, ..stage.clone() };
    if let StageKind::Recurrent(level) = &mut kept.kind {
        level.masked_output = MaskedOutput::Previous;
        if !drawn.is_none() {
            level.zoneout = Zoneout::default();
        }
    }
    kept
}
