//! Batch normalizations while a network is trained: by the statistics of the batch, or by those that are stored.

use super::{Builder, DispatchRows, StageWork, TrainBuild, flat_grid};
use crate::base::error::Result;
use crate::network::{Activation, Network, Role, Stage};
use crate::plan::constants::{ACTIVATION, function};
use crate::plan::tactic::narrow;
use crate::plan::train::{TrainGoal, TrainTask};
use crate::plan::weights::ALIGN;
use crate::plan::{BufferId, Constants, Dispatch, Kernel, ROW_WORKGROUP, Slice, TrainKernel};

/// Rows of a slice of a sum of columns.
const SLICE: usize = 256;

/// Where the statistics lie that a batch normalization goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct NormStatistics {
    /// Means, variances and, of a batch, the count.
    moments: Slice,
    /// Whether they are the batch's.
    of_batch: bool,
}

/// Numbers from the means to the variances, and from these to the count.
fn variance_first(width: usize) -> usize {
    width.next_multiple_of(ALIGN)
}

impl Builder {
    /// The forward pass.
    pub(super) fn batch_norm(&mut self, work: &StageWork<'_>, eps: f32) -> Result<()> {
        // The weights of a run have these statistics folded into them.
        self.weight();
        let Some(training) = &self.training else { return Ok(()) };
        let of_batch = training.task.goal != TrainGoal::Evaluate && training.task.norms.contains(&work.index);
        let moments = match of_batch {
            true => {
                let width = 2 * variance_first(work.stage.out_features) + 1;
                let label = format!("{} mean, variance, count", work.stage.label);
                let buffer = self.buffer(label, width, 1, 1)?;
                self.plan.whole(buffer)
            }
            false => self.stored_statistics(work.stage),
        };
        let statistics = NormStatistics { moments, of_batch };
        if of_batch {
            self.moments_of_batch(work, moments)?;
        }
        if let Some(training) = &mut self.training {
            training.norms.insert(work.index, statistics);
        }
        let channels = self.norm_channels(work, eps, statistics, true)?;
        self.by_channels(work, channels, work.output)
    }

    /// Means and variances that are stored.
    fn stored_statistics(&self, stage: &Stage) -> Slice {
        let Some(TrainBuild { layout, .. }) = &self.training else { return self.plan.whole(0) };
        let place =
            |role| stage.param(0, role).and_then(|param| layout.statistics.get(&param.name)).unwrap_or_default();
        let [mean, variance] = [Role::RunningMean, Role::RunningVar].map(place);
        debug_assert_eq!(variance.start, mean.start + variance_first(stage.out_features), "one behind the other");
        let (buffer, offset) = (layout.buffers.statistics, mean.start as u64 * super::F32);
        Slice { buffer, offset, bytes: (variance.end - mean.start) as u64 * super::F32 }
    }

    /// Which rows count, if not all do.
    fn counting(&self, work: &StageWork<'_>) -> Option<BufferId> {
        work.mask.filter(|_| work.stage.sequence_in)
    }

    fn moments_of_batch(&mut self, work: &StageWork<'_>, moments: Slice) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.out_features);
        let mask = self.counting(work);
        let slices = rows.div_ceil(SLICE);
        let sums = self.scratch("partial sums", slices, width + 1, 1)?;
        let columns = self.groups(width.div_ceil(ROW_WORKGROUP as usize), "channels of a normalization")?;
        let slice_groups = self.groups(slices, "slices of a sum")?;
        let number = |number: usize| self.number(number, "rows of a normalization");
        let of_sums = vec![("rows", number(rows)?), ("slice", narrow(SLICE as u64))];
        let of_moments = vec![("slices", number(slices)?), ("variance_first", number(variance_first(width))?)];
        let mask_slice = mask.map_or(work.inputs[0], |mask| self.plan.whole(mask));
        for squares in [false, true] {
            let constants = Constants::sizes([("FEATURES", width)])?.with("SQUARES", squares);
            self.add(Dispatch {
                stage: work.index,
                sizes: of_sums.clone(),
                constants: constants.clone().with("MASKED", mask.is_some()).with("WORKGROUP", ROW_WORKGROUP),
                bindings: vec![work.inputs[0], mask_slice, moments, sums],
                workgroups: [columns, slice_groups, 1],
                iterations: SLICE as u64,
                work: rows as u64 * width as u64,
                ..Dispatch::empty(Kernel::Train(TrainKernel::BatchNormSums))
            })?;
            self.add(Dispatch {
                stage: work.index,
                sizes: of_moments.clone(),
                constants: constants.with("WORKGROUP", ROW_WORKGROUP),
                bindings: vec![sums, moments],
                workgroups: [columns, 1, 1],
                iterations: slices as u64,
                work: slices as u64 * width as u64,
                ..Dispatch::empty(Kernel::Train(TrainKernel::BatchNormMoments))
            })?;
        }
        Ok(())
    }

    /// Mean, scale and offset `[3, N]`; without the parameters those that only normalize.
    fn norm_channels(
        &mut self,
        work: &StageWork<'_>,
        eps: f32,
        statistics: NormStatistics,
        with_parameters: bool,
    ) -> Result<Slice> {
        let width = work.stage.out_features;
        let name = if with_parameters { "mean, scale, offset [3, N]" } else { "mean, 1 / deviation [3, N]" };
        let channels = self.scratch(name, 3, width, 1)?;
        let [weight, bias] =
            [Role::Weight, Role::Bias].map(|role| self.param(work.stage, 0, role).filter(|_| with_parameters));
        let constants = Constants::sizes([("FEATURES", width), ("VARIANCE_FIRST", variance_first(width))])?
            .with("EPS", eps)
            .with("AFFINE", weight.is_some())
            .with("BIASED", bias.is_some())
            .with("WORKGROUP", ROW_WORKGROUP);
        let moments = statistics.moments;
        let columns = self.groups(width.div_ceil(ROW_WORKGROUP as usize), "channels of a normalization")?;
        let kernel = Kernel::Train(TrainKernel::BatchNormChannels);
        self.push(work, DispatchRows::all(1), kernel, constants, |dispatch| {
            dispatch.bindings = vec![moments, weight.unwrap_or(moments), bias.unwrap_or(moments), channels];
            dispatch.workgroups = [columns, 1, 1];
            dispatch.work = width as u64;
        })?;
        Ok(channels)
    }

    /// The stage's input by `channels`.
    fn by_channels(&mut self, work: &StageWork<'_>, channels: Slice, output: Slice) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.out_features);
        let workgroups = flat_grid(&self.limits, rows as u64 * width as u64, &work.stage.label)?;
        let constants = Constants::sizes([("FEATURES", width)])?
            .and(function(ACTIVATION, Activation::Linear))
            .with("WORKGROUP", ROW_WORKGROUP);
        self.push(work, DispatchRows::all(rows), Kernel::Channelwise, constants, |dispatch| {
            dispatch.bindings = vec![work.inputs[0], channels, output];
            dispatch.workgroups = workgroups;
            dispatch.work = rows as u64 * width as u64;
        })
    }

    pub(super) fn batch_norm_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        eps: f32,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let known = self.training.as_ref().and_then(|training| training.norms.get(&work.index)).copied();
        let Some(statistics) = known else { return Ok(()) };
        let (rows, width) = (work.steps_out * self.batch, work.stage.out_features);
        let normal = self.scratch("normalized rows", rows, width, 1)?;
        let plain = self.norm_channels(work, eps, statistics, false)?;
        self.by_channels(work, plain, normal)?;
        let sums = self.scratch("gradients of weight and bias [2, N]", 2, width, 1)?;
        self.affine_backward(work, [rows, width], [d, normal], Some(sums))?;
        let Some((to, add)) = self.gradient(network, work.stage.inputs[0], stage_steps)? else { return Ok(()) };
        let channels = self.norm_channels(work, eps, statistics, true)?;
        let mask = self.counting(work).filter(|_| statistics.of_batch);
        let constants = Constants::sizes([("FEATURES", width), ("VARIANCE_FIRST", variance_first(width))])?
            .with("TRAINED", statistics.of_batch)
            .with("MASKED", mask.is_some())
            .with("ADD", add)
            .with("WORKGROUP", ROW_WORKGROUP);
        let mask = mask.map_or(normal, |mask| self.plan.whole(mask));
        let workgroups = flat_grid(&self.limits, rows as u64 * width as u64, &work.stage.label)?;
        let kernel = Kernel::Train(TrainKernel::BatchNormBackward);
        self.push(work, DispatchRows::all(rows), kernel, constants, |dispatch| {
            dispatch.bindings = vec![normal, d, channels, sums, statistics.moments, mask, to];
            dispatch.workgroups = workgroups;
            dispatch.work = rows as u64 * width as u64;
        })
    }

    /// Moves the stored statistics towards those of the batch, unless the step is left out.
    pub(super) fn follow_statistics(&mut self, network: &Network, task: &TrainTask) -> Result<()> {
        let Some(TrainBuild { layout, norms, .. }) = &self.training else { return Ok(()) };
        let made = self.plan.whole(layout.buffers.norms);
        let of_batches: Vec<(usize, Slice)> =
            norms.iter().filter(|(_, norm)| norm.of_batch).map(|(&stage, norm)| (stage, norm.moments)).collect();
        for (index, moments) in of_batches {
            let stage = &network.stages()[index];
            let width = stage.out_features;
            let stored = self.stored_statistics(stage);
            let constants = Constants::sizes([("FEATURES", width), ("VARIANCE_FIRST", variance_first(width))])?
                .with("MOMENTUM", task.momentum)
                .with("UNBIASED", task.unbiased)
                .with("WORKGROUP", ROW_WORKGROUP);
            self.add(Dispatch {
                stage: index,
                constants,
                bindings: vec![moments, made, stored],
                workgroups: [self.groups(width.div_ceil(ROW_WORKGROUP as usize), "channels of a normalization")?, 1, 1],
                work: width as u64,
                ..Dispatch::empty(Kernel::Train(TrainKernel::RunningStatistics))
            })?;
        }
        Ok(())
    }
}
