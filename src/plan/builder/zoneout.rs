//! Zoneout while a level is trained: a kernel behind every timestep gives units back what they had, and the backward pass
//! draws the same units.

use super::lanes::{LaneSet, Launch};
use super::tape::reverse_bits;
use super::{Builder, StageWork, flat_grid};
use crate::base::error::Result;
use crate::network::Zoneout;
use crate::plan::tactic::narrow;
use crate::plan::train::{TrainGoal, setting};
use crate::plan::{BufferId, Constants, Kernel, ROW_WORKGROUP, Slice, TrainKernel};
use crate::reference::{ZONEOUT_SITE, keeping};

impl Builder {
    /// Whether the units of layers with zoneout are drawn; else all keep the mean.
    pub(super) fn draws_zoneout(&self) -> bool {
        self.training.as_ref().is_some_and(|training| training.task.goal == TrainGoal::Step)
    }

    /// The constants of the kernels that draw units; `first` is the direction of lane 0.
    pub(super) fn zoneout_constants(&self, zoneout: Zoneout, stage: usize, first: usize) -> Constants {
        let site = ZONEOUT_SITE | narrow(stage as u64) << 2 | narrow(first as u64) << 1;
        Constants::default()
            .with("ZONEOUT_H", zoneout.h)
            .with("ZONEOUT_C", zoneout.c)
            .with("ZONEOUT_H_LEAST", keeping(zoneout.h).0)
            .with("ZONEOUT_C_LEAST", keeping(zoneout.c).0)
            .with("ZONEOUT_DRAWN", self.draws_zoneout())
            .with("ZONEOUT_SITE", site)
            .with("SEED", narrow(setting::SEED as u64))
    }

    /// The kernel behind every timestep of lanes whose units are drawn, and where c before the step lies, if there is one.
    pub(super) fn zoneout_launch(
        &mut self,
        set: &LaneSet<'_>,
        (h, cell): (BufferId, BufferId),
    ) -> Result<(Launch, Option<[Slice; 2]>)> {
        let level = set.level;
        let (lanes, hidden, state) = (set.lanes(), level.hidden_size, level.state_size());
        let keeps_c = level.cell().keeps_c();
        let width = if keeps_c { hidden } else { 0 };
        // Something must be bound; nothing reads it.
        let before = self.scratch("c before a timestep [lanes, B, H]", lanes, self.batch, width.max(1))?;
        let StageWork { index, mask, output, .. } = set.works[0];
        let h = self.plan.whole(h);
        let constants = Constants::sizes([
            ("WIDTH", width),
            ("STATE", state),
            ("LANES", lanes),
            ("OUTPUT_STRIDE", level.directions.len() * state),
            ("OUTPUT_FIRST", set.directions.start * state),
        ])?
        .with("REVERSE", reverse_bits(level, &set.directions))
        .with("MASKED", mask.is_some())
        .and(self.zoneout_constants(set.zoneout, index, set.directions.start).iter())
        .with("WORKGROUP", ROW_WORKGROUP);
        let cell = self.plan.whole(cell);
        let settings = self.settings();
        let mask = mask.map_or(settings, |mask| self.plan.whole(mask));
        let elements = (self.batch * state.max(width)) as u64;
        let [x, y, _] = flat_grid(&self.limits, elements, &set.label())?;
        let launch = Launch {
            kernel: Kernel::Train(TrainKernel::Zoneout),
            constants,
            bindings: vec![mask, h, output, cell, before, settings],
            workgroups: [x, y, narrow(lanes as u64)],
            iterations: 1,
            work: elements * lanes as u64,
        };
        let c = Slice { bytes: (lanes * self.batch * hidden) as u64 * super::F32, ..cell };
        Ok((launch, keeps_c.then_some([c, before])))
    }

    /// The settings of a step of training, or something to bind in their place.
    pub(super) fn settings(&self) -> Slice {
        self.plan.whole(self.training.as_ref().map_or(0, |training| training.layout.buffers.settings))
    }
}
