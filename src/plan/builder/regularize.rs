//! What is done with parameters beside the step of the optimizer: weight drop, bounds of rows, the average.

use super::{Builder, TrainBuild, flat_grid, grid};
use crate::base::error::Result;
use crate::plan::tactic::narrow;
use crate::plan::train::{TrainGoal, TrainTask, setting};
use crate::plan::{Constants, Dispatch, Kernel, ROW_WORKGROUP, Slice, TrainKernel};
use crate::reference::keeping;

/// First number of the draws of weight drop, as `src/train/weight_drop.rs` has it.
const WEIGHT_DROP: usize = 2 << 16;

impl Builder {
    /// Draws numbers of `x` and sets them to 0; the others are made larger. All timesteps share the draws of `row` numbers,
    /// unless it is 0.
    pub(super) fn draw(&mut self, stage: usize, x: Slice, (site, rate): (usize, f32), row: usize) -> Result<()> {
        let Some(training) = &self.training else { return Ok(()) };
        let settings = self.plan.whole(training.layout.buffers.settings);
        let count = x.bytes / super::F32;
        let (least, scale) = keeping(rate);
        let sizes = vec![
            ("count", narrow(count)),
            ("row", narrow(row as u64)),
            ("site", narrow(site as u64)),
            ("least", least),
            ("scale", scale.to_bits()),
            ("seed", narrow(setting::SEED as u64)),
        ];
        let workgroups = flat_grid(&self.limits, count, "dropout")?;
        self.add(Dispatch {
            stage,
            sizes,
            constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
            bindings: vec![settings, x],
            workgroups,
            work: count,
            ..Dispatch::empty(Kernel::Train(TrainKernel::Dropout))
        })
    }

    /// The tensors that a step drops numbers of: their parameters, their gradients, where the parameters are kept.
    fn weight_drops(&mut self) -> Result<Vec<([Slice; 3], f32)>> {
        let Some(TrainBuild { task, layout, dropped, .. }) = &self.training else { return Ok(Vec::new()) };
        if task.goal != TrainGoal::Step {
            return Ok(Vec::new());
        }
        let place = |name: &String| layout.flat.get(name).unwrap_or_default();
        let drops: Vec<_> = task.weight_drops.iter().map(|(name, rate)| (place(name), *rate)).collect();
        let (buffers, dropped) = (layout.buffers.clone(), *dropped);
        let total = drops.iter().map(|(range, _)| range.len().next_multiple_of(crate::plan::weights::ALIGN)).sum();
        if drops.is_empty() {
            return Ok(Vec::new());
        }
        let kept = match dropped {
            Some(kept) => kept,
            None => self.buffer("weights before they are dropped", total, 1, 1)?,
        };
        if let Some(training) = &mut self.training {
            training.dropped = Some(kept);
        }
        let mut first = 0;
        let slices = drops.into_iter().map(|(range, rate)| {
            let slice = |buffer, start: usize| Slice {
                buffer,
                offset: start as u64 * super::F32,
                bytes: range.len() as u64 * super::F32,
            };
            let slices =
                [slice(buffers.parameters, range.start), slice(buffers.gradients, range.start), slice(kept, first)];
            first += range.len().next_multiple_of(crate::plan::weights::ALIGN);
            (slices, rate)
        });
        Ok(slices.collect())
    }

    /// Drops numbers of weights before the forward pass; [`Builder::put_back_weights`] undoes it.
    pub(super) fn drop_weights(&mut self) -> Result<()> {
        let drops = self.weight_drops()?;
        for (index, ([parameters, _, kept], rate)) in drops.iter().enumerate() {
            self.copy_numbers(*parameters, *kept)?;
            self.draw(0, *parameters, (WEIGHT_DROP | index, *rate), 0)?;
        }
        if drops.is_empty() { Ok(()) } else { self.repack(0) }
    }

    /// Drops the same numbers of the gradients, and puts the weights back as they were.
    pub(super) fn put_back_weights(&mut self) -> Result<()> {
        let stage = self.plan.stages.len() - 1;
        for (index, ([parameters, gradients, kept], rate)) in self.weight_drops()?.into_iter().enumerate() {
            self.draw(stage, gradients, (WEIGHT_DROP | index, rate), 0)?;
            self.copy_numbers(kept, parameters)?;
        }
        Ok(())
    }

    fn copy_numbers(&mut self, from: Slice, to: Slice) -> Result<()> {
        let count = usize::try_from(from.bytes / super::F32).unwrap_or(usize::MAX);
        self.add_slices(0, [count, 1], from, (to, 0), false)
    }

    /// Bounds the rows of matrices.
    pub(super) fn bound_rows(&mut self, task: &TrainTask) -> Result<()> {
        let Some(TrainBuild { layout, .. }) = &self.training else { return Ok(()) };
        let layout = layout.clone();
        let norms = self.plan.whole(layout.buffers.norms);
        for (name, width, max) in &task.bounds {
            let range = layout.flat.get(name).unwrap_or_default();
            let rows = range.len() / (*width).max(1);
            let x = Slice {
                buffer: layout.buffers.parameters,
                offset: range.start as u64 * super::F32,
                bytes: range.len() as u64 * super::F32,
            };
            let [_, x_groups, y_groups] = grid(&self.limits, 1, rows as u64, "rows of a matrix")?;
            self.add(Dispatch {
                stage: self.plan.stages.len() - 1,
                constants: Constants::sizes([("FEATURES", *width)])?
                    .with("CLIP_MAX", *max)
                    .with("WORKGROUP", ROW_WORKGROUP),
                rows: self.number(rows, "rows of a matrix")?,
                bindings: vec![norms, x],
                workgroups: [x_groups, y_groups, 1],
                iterations: 2 * (*width as u64).div_ceil(ROW_WORKGROUP.into()) + u64::from(ROW_WORKGROUP),
                work: 2 * range.len() as u64,
                ..Dispatch::empty(Kernel::Train(TrainKernel::MaxNorm))
            })?;
        }
        Ok(())
    }

    /// The average of the parameters; `start` sets it to the parameters in the first step.
    pub(super) fn average(&mut self, task: &TrainTask, start: bool) -> Result<()> {
        let (Some((share, _)), Some(TrainBuild { layout, .. })) = (task.average, &self.training) else {
            return Ok(());
        };
        let count = layout.flat.len;
        let buffers = &layout.buffers;
        let bindings =
            [buffers.norms, buffers.parameters, buffers.average].map(|buffer| self.plan.whole(buffer)).to_vec();
        let sizes =
            vec![("count", self.number(count, "parameters")?), ("start", start.into()), ("share", share.to_bits())];
        self.add(Dispatch {
            stage: self.plan.stages.len() - 1,
            sizes,
            constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
            bindings,
            workgroups: flat_grid(&self.limits, count as u64, "parameters")?,
            work: count as u64,
            ..Dispatch::empty(Kernel::Train(TrainKernel::Average))
        })
    }
}
