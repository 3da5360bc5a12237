//! CTC: the loss of every row and the gradient of its logits. A workgroup goes through the timesteps of one row, many in a
//! dispatch.

use super::{Builder, TrainBuild, grid};
use crate::base::error::Result;
use crate::plan::tactic::narrow;
use crate::plan::train::{TrainGoal, TrainTask};
use crate::plan::{
    Constants, Dispatch, Kernel, MAX_REPEAT, MAX_SUBMISSION_WORK, ROW_WORKGROUP, SOFTWARE_LOOP_LIMIT, Slice, Steps,
    TrainKernel,
};

/// Most timesteps of a dispatch.
const MOST_STEPS: u64 = 256;

impl Builder {
    /// The gradient `d` of the logits `x` `[T, B, C]`, and the part of the loss of every row in `found` `[B, 2]`.
    pub(super) fn ctc_loss(
        &mut self,
        (task, blank): (&TrainTask, u32),
        (stage, classes): (usize, usize),
        [x, d, found]: [Slice; 3],
    ) -> Result<()> {
        let Some(TrainBuild { parts, .. }) = &self.training else { return Ok(()) };
        let targets = self.plan.whole(parts.targets);
        let batch = self.batch;
        let steps = parts.rows / batch;
        let (labels, places) = (task.labels, 2 * task.labels + 1);
        let of_steps = self.scratch("probabilities of the steps [T, B, 2]", steps, batch, 2)?;
        let forward = self.scratch("places forward [T, B, S]", steps, batch, places)?;
        let rows = self.scratch("rows of CTC [B, 4]", batch, 4, 1)?;
        let [_, x_groups, y_groups] = grid(&self.limits, 1, (steps * batch) as u64, "steps of the loss")?;
        let workgroup = u64::from(ROW_WORKGROUP);
        let of_classes = (classes as u64).div_ceil(workgroup);
        self.add(Dispatch {
            stage,
            constants: Constants::sizes([("FEATURES", classes)])?.with("WORKGROUP", ROW_WORKGROUP),
            rows: self.number(steps * batch, "steps of the loss")?,
            bindings: vec![x, of_steps],
            workgroups: [x_groups, y_groups, 1],
            iterations: 2 * of_classes + 2 * workgroup,
            work: (steps * batch * classes) as u64,
            ..Dispatch::empty(Kernel::Train(TrainKernel::CtcRows))
        })?;
        let of_places = (places as u64).div_ceil(workgroup);
        let constants = Constants::sizes([("FEATURES", classes), ("LABELS", labels.max(1))])?
            .with("BLANK", blank)
            .with("WORKGROUP", ROW_WORKGROUP);
        let shared = [x, targets, of_steps, forward, rows];
        let halvings = u64::from(ROW_WORKGROUP.ilog2());
        let with = |more: &[Slice]| [&shared[..], more].concat();
        // Iterations of a timestep, and what it computes.
        let of_step = 1 + 2 * of_places + halvings;
        self.ctc_pass(TrainKernel::CtcForward, &constants, &with(&[found]), (stage, steps), [of_step, places as u64])?;
        if task.goal == TrainGoal::Evaluate {
            return Ok(());
        }
        let behind = self.scratch("places backward [3, B, S]", 3, batch, places)?;
        let of_step = 1 + 4 * of_places + labels as u64 + 2 * of_classes + 4 * halvings;
        let work = (places + classes) as u64;
        self.ctc_pass(TrainKernel::CtcBackward, &constants, &with(&[behind, d]), (stage, steps), [of_step, work])
    }

    /// All timesteps of one direction.
    fn ctc_pass(
        &mut self,
        kernel: TrainKernel,
        constants: &Constants,
        bindings: &[Slice],
        (stage, steps): (usize, usize),
        [iterations, work]: [u64; 2],
    ) -> Result<()> {
        let most = if self.limits.software { SOFTWARE_LOOP_LIMIT } else { u64::MAX };
        let stride = (most / iterations).clamp(1, MOST_STEPS).min(steps as u64);
        let work = (work * self.batch as u64 * stride).max(1);
        let longest = usize::try_from(MAX_SUBMISSION_WORK / work).unwrap_or(usize::MAX).clamp(1, MAX_REPEAT) as u64;
        let (mut first, end) = (0, steps as u64);
        while first < end {
            let repeat = (end - first).div_ceil(stride).min(longest);
            self.add(Dispatch {
                stage,
                constants: constants.clone(),
                bindings: bindings.to_vec(),
                rows: narrow(self.batch as u64),
                steps: narrow(end),
                batch: narrow(self.batch as u64),
                recurrence: Some(Steps {
                    done: 0,
                    count: narrow(end),
                    first: narrow(first),
                    stride: narrow(stride),
                    end: narrow(end),
                    projected_lane: 0,
                    output_lane: 0,
                }),
                repeat: narrow(repeat),
                workgroups: [self.groups(self.batch, "rows of the loss")?, 1, 1],
                iterations: stride * iterations,
                work,
                ..Dispatch::empty(Kernel::Train(kernel))
            })?;
            first += repeat * stride;
        }
        Ok(())
    }
}
