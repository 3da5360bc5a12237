//! Past inputs of windows over time: how a run continues from them, and what it leaves.

use super::{Builder, DispatchRows, F32, StageWork, flat_grid};
use crate::base::error::Result;
use crate::network::{Network, Past, Stage, StageKind};
use crate::plan::tactic::narrow;
use crate::plan::{BeginBuffers, BufferId, Constants, Kernel, PastBuffer, ROW_WORKGROUP, Slice};

impl Builder {
    /// The buffers that say where rows begin, if they do so at different timesteps.
    pub(super) fn begin_buffers(&mut self, network: &Network) -> Result<()> {
        let Some(cuts) = network.cuts().filter(|_| self.uneven) else { return Ok(()) };
        let first = self.buffer("first timesteps [B]", self.batch, 1, 1)?;
        let steps = self.plan.steps;
        let mask = |&rate: &usize| self.buffer("mask of begun rows [T', B]", (steps / rate).max(1), self.batch, 1);
        let masks = cuts.unmasked().iter().map(mask).collect::<Result<_>>()?;
        self.plan.begins = Some(BeginBuffers { first, masks });
        Ok(())
    }

    /// The mask of the rows that have begun, for a stage that no mask of the input reaches.
    pub(super) fn begin_mask(&self, network: &Network, stage: &Stage) -> Option<BufferId> {
        let (begins, cuts) = (self.plan.begins.as_ref()?, network.cuts()?);
        let at = cuts.unmasked().iter().position(|&rate| rate == cuts.rate_in(stage))?;
        begins.masks.get(at).copied()
    }

    /// A window that keeps past inputs.
    pub(super) fn layer_with_past(&mut self, network: &Network, work: &StageWork<'_>, past: Past) -> Result<()> {
        let (features, label) = (work.stage.in_features, &work.stage.label);
        let layer = past.layer;
        if !self.continues {
            // What is kept are the last timesteps of the input, which the host reads there.
            let step = self.batch as u64 * features as u64 * F32;
            let bytes = past.steps.min(work.steps_in) as u64 * step;
            let Slice { buffer, offset, .. } = work.inputs[0];
            let place = Slice { buffer, offset: offset + work.steps_in as u64 * step - bytes, bytes };
            self.plan.pasts.push(PastBuffer { layer, place, is_read: false });
            return self.layer(network, work);
        }
        let kept = self.buffer(format!("{label} past inputs [B, P, I]"), self.batch, past.steps, features)?;
        let kept = self.plan.whole(kept);
        self.plan.pasts.push(PastBuffer { layer, place: kept, is_read: true });
        let steps_in = past.steps + work.steps_in;
        if let StageKind::Rearrange(_) = work.stage.kind {
            // A layer that pads in front of a window: past inputs stand for the padding.
            self.past_inputs(work, past, false, [work.inputs[0], kept, work.output])?;
            let behind = StageWork { inputs: vec![work.output], steps_in, ..*work };
            return self.past_inputs(&behind, past, true, [work.output, kept, kept]);
        }
        let behind = self.buffer(format!("{label} input [P+T, B, I]"), steps_in, self.batch, features)?;
        let behind = self.plan.whole(behind);
        self.past_inputs(work, past, false, [work.inputs[0], kept, behind])?;
        let work = StageWork { inputs: vec![behind], steps_in, past: past.steps, ..*work };
        self.layer(network, &work)?;
        self.past_inputs(&work, past, true, [behind, kept, kept])
    }

    /// Puts the inputs of a window behind past ones, or keeps the last of them `after` it: x, past inputs and output.
    fn past_inputs(
        &mut self,
        work: &StageWork<'_>,
        past: Past,
        after: bool,
        [x, kept, output]: [Slice; 3],
    ) -> Result<()> {
        let features = work.stage.in_features;
        let steps = if after { past.steps } else { past.steps + work.steps_in };
        let rows = steps * self.batch;
        let first = self.plan.begins.as_ref().filter(|_| !after).map(|begins| begins.first);
        let constants = Constants::sizes([("FEATURES", features), ("KEPT", past.steps)])?
            .with("AFTER", after)
            .with("UNEVEN", first.is_some())
            .with("RATE", narrow(past.rate as u64))
            .with("WORKGROUP", ROW_WORKGROUP);
        let first = first.map_or(x, |first| self.plan.whole(first));
        let elements = rows as u64 * features as u64;
        let workgroups = flat_grid(&self.limits, elements, &work.stage.label)?;
        self.push(work, DispatchRows::all(rows), Kernel::Past, constants, |dispatch| {
            dispatch.bindings = vec![x, if after { x } else { kept }, first, output];
            dispatch.workgroups = workgroups;
            dispatch.work = elements;
        })
    }
}
