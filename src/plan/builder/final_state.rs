//! States that go from layer to layer while they are trained: the gradient of a final state, and that of what a level starts
//! from.

use super::backward::Move;
use super::recurrent_backward::Lanes;
use super::tape::LanesTape;
use super::{Builder, DispatchRows, StageWork};
use crate::base::error::Result;
use crate::network::{Cell, Columns, FinalState, HiddenOrCell, Network, RecurrentStage, Source, StageKind};
use crate::plan::Slice;
use crate::plan::train::TrainGoal;

impl Builder {
    /// Where the gradients of the final state of some directions of a level are added up, `[2, lanes, B, H]` of h and of c, of an
    /// sLSTM also of n and m, if a layer reads that state.
    pub(super) fn final_gradient(
        &mut self,
        network: &Network,
        stage: usize,
        level: &RecurrentStage,
        lanes: usize,
    ) -> Result<Option<Slice>> {
        let reads = |kind: &StageKind, source: Source| {
            matches!(kind, StageKind::FinalState(_)) && source == Source::Stage(stage)
        };
        // In a loop every step begins with what the step behind it hands on.
        let is_read =
            self.loop_starts.is_some() || network.stages().iter().any(|other| reads(&other.kind, other.inputs[0]));
        let Some(training) = self.training.as_ref().filter(|_| is_read) else { return Ok(None) };
        if training.task.goal == TrainGoal::Evaluate {
            return Ok(None);
        }
        let label = format!("{} gradient of the final state [.., lanes, B, H]", network.stages()[stage].label);
        let buffer = self.buffer(label, carried_parts(level) * lanes, self.batch, state_room(level))?;
        let slice = self.plan.whole(buffer);
        if let Some(training) = &mut self.training {
            training.parts.clears.push(slice);
        }
        Ok(Some(slice))
    }

    /// Copies what layers give as the initial state to where the backward pass of some directions reads it.
    pub(super) fn start_of_tape(
        &mut self,
        work: &StageWork<'_>,
        level: &RecurrentStage,
        tape: &LanesTape,
    ) -> Result<()> {
        let parts = [(Some(tape.h), level.state_size()), (tape.c, level.hidden_size)];
        for (position, (place, width)) in level.starts.iter().zip(parts) {
            let (Some(position), Some(place)) = (position, place) else { continue };
            let to = self.plan.whole(place);
            for (lane, direction) in tape.directions.clone().enumerate() {
                let mut block = Move::whole(work.inputs[*position], to, width, false);
                block.from.1 = Columns { stride: level.directions.len() * width, offset: direction * width };
                let rows = DispatchRows { count: self.batch, input: 0, output: lane * self.batch };
                self.moved(work, rows, block)?;
            }
        }
        Ok(())
    }

    /// Adds the gradient of a final state to what the backward pass of its level begins with.
    pub(super) fn final_state_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        (from, d): (FinalState, Slice),
        stage_steps: &[usize],
    ) -> Result<()> {
        let source = work.stage.inputs[0];
        let Source::Stage(index) = source else { return Ok(()) };
        let Some(level) = network.stages()[index].recurrent() else { return Ok(()) };
        // The level goes back even if nothing reads its output.
        self.part_of_gradient(network, source, stage_steps)?;
        let direction = from.row - level.level * level.directions.len();
        let tapes = self.training.iter().flat_map(|training| &training.tapes).filter(|tape| tape.stage == index);
        let lanes = tapes.flat_map(|tape| &tape.lanes).find(|lanes| lanes.directions.contains(&direction));
        let Some((to, directions)) = lanes.and_then(|lanes| Some((lanes.final_gradient?, lanes.directions.clone())))
        else {
            return Ok(());
        };
        let part = usize::from(from.part == HiddenOrCell::C);
        let row = (part * directions.len() + direction - directions.start) * self.batch;
        let mut block = Move::whole(d, to, work.stage.out_features, true);
        block.to.1 = Columns { stride: state_room(level), offset: 0 };
        self.moved(work, DispatchRows { count: self.batch, input: 0, output: row }, block)
    }

    /// Puts the gradients of the final state, if something read it, where the last step takes them.
    pub(super) fn begin_with_final(&mut self, lanes: &Lanes<'_>, carry: Slice) -> Result<()> {
        let &Lanes { work, level, tape, interval, .. } = lanes;
        match tape.final_gradient {
            Some(from) if interval.done + interval.count == work.steps_in => {
                let rows = DispatchRows::all(carried_parts(level) * lanes.count() * self.batch);
                self.moved(work, rows, Move::whole(from, carry, state_room(level), false))
            }
            _ => Ok(()),
        }
    }

    /// Adds what the first step of a lane hands on, which `carry` holds, to the gradients of what the level starts from.
    pub(super) fn starts_backward(
        &mut self,
        network: &Network,
        (lanes, lane): (&Lanes<'_>, usize),
        carry: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let &Lanes { work, level, .. } = lanes;
        let direction = lanes.tape.directions.start + lane;
        for (part, width) in [level.state_size(), level.hidden_size].into_iter().enumerate() {
            let Some(position) = level.starts[part] else { continue };
            let Some(to) = self.part_of_gradient(network, work.stage.inputs[position], stage_steps)? else { continue };
            let mut block = Move::whole(carry, to, width, true);
            block.from.1 = Columns { stride: state_room(level), offset: 0 };
            block.to.1 = Columns { stride: level.directions.len() * width, offset: direction * width };
            let input = (part * lanes.count() + lane) * self.batch;
            self.moved(work, DispatchRows { count: self.batch, input, output: 0 }, block)?;
        }
        Ok(())
    }
}

/// Parts of the state that the backward pass of a level hands from timestep to timestep.
pub(super) fn carried_parts(level: &RecurrentStage) -> usize {
    if level.cell() == Cell::Slstm { 4 } else { 2 }
}

/// Units that arrays of h and of c have room for.
fn state_room(level: &RecurrentStage) -> usize {
    level.hidden_size.max(level.state_size())
}
