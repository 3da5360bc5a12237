//! The backward passes of layers without a recurrence that have kernels of their own.

use super::backward::Move;
use super::layers::{pool_mask, rearrange_constants};
use super::matmul::{Also, Operand};
use super::{Builder, DispatchRows, StageWork, flat_grid, grid};
use crate::base::error::Result;
use crate::network::{Activation, Combine, Join, Network, Rearrange, Role, Source, StageKind, Window};
use crate::plan::constants::{ACTIVATION, function};
use crate::plan::{
    Constants, Dispatch, Kernel, MAX_SUBMISSION_WORK, ROW_WORKGROUP, SOFTWARE_LOOP_LIMIT, Slice, TrainKernel,
};

/// The sizes of a convolution.
struct Convolution<'a> {
    window: &'a Window,
    activation: Activation,
    groups: usize,
}

impl Builder {
    /// The gradient of the input of a stage, where it is wanted; else where a kernel may write what nothing reads. Also
    /// whether it is added to what is there.
    fn wanted_gradient(
        &mut self,
        network: &Network,
        source: Source,
        stage_steps: &[usize],
        [rows, width]: [usize; 2],
    ) -> Result<(Slice, bool)> {
        match self.gradient(network, source, stage_steps)? {
            Some(wanted) => Ok(wanted),
            None => Ok((self.scratch("gradients of the input", rows, width, 1)?, false)),
        }
    }

    /// The derivative of an elementwise function at `x`, multiplied into `d`.
    pub(super) fn function_backward(
        &mut self,
        work: &StageWork<'_>,
        activation: Activation,
        [x, d]: [Slice; 2],
        elements: usize,
    ) -> Result<()> {
        let constants = Constants::default().and(function(ACTIVATION, activation)).with("WORKGROUP", ROW_WORKGROUP);
        let workgroups = flat_grid(&self.limits, elements as u64, &work.stage.label)?;
        let kernel = Kernel::Train(TrainKernel::ActivationBackward);
        self.push(work, DispatchRows::all(elements), kernel, constants, |dispatch| {
            dispatch.bindings = vec![x, d];
            dispatch.workgroups = workgroups;
            dispatch.work = elements as u64;
        })
    }

    /// An elementwise function.
    pub(super) fn activation_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        activation: Activation,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let Some((to, add)) = self.gradient(network, work.stage.inputs[0], stage_steps)? else { return Ok(()) };
        let (rows, width) = (work.steps_out * self.batch, work.stage.in_features);
        if activation != Activation::Linear {
            self.function_backward(work, activation, [work.inputs[0], d], rows * width)?;
        }
        self.moved(work, DispatchRows::all(rows), Move::whole(d, to, width, add))
    }

    pub(super) fn softmax_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        log: bool,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let Some((to, add)) = self.gradient(network, work.stage.inputs[0], stage_steps)? else { return Ok(()) };
        let (rows, width) = (work.steps_out * self.batch, work.stage.in_features);
        let constants =
            Constants::sizes([("FEATURES", width)])?.with("ADD", add).with("LOG", log).with("WORKGROUP", ROW_WORKGROUP);
        self.by_row(work, TrainKernel::SoftmaxBackward, constants, vec![work.output, d, to], [rows, width])
    }

    pub(super) fn time_softmax_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let Some((to, add)) = self.gradient(network, work.stage.inputs[0], stage_steps)? else { return Ok(()) };
        let columns = self.batch * work.stage.in_features;
        let constants = Constants::default().with("ADD", add).with("WORKGROUP", ROW_WORKGROUP);
        let bindings = vec![work.output, d, to];
        self.by_row(work, TrainKernel::TimeSoftmaxBackward, constants, bindings, [columns, work.steps_in])
    }

    /// Numbers that only moved.
    pub(super) fn rearrange_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        rearrange: Rearrange,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let Some(to) = self.part_of_gradient(network, work.stage.inputs[0], stage_steps)? else { return Ok(()) };
        let [inputs, outputs] = [work.stage.in_features, work.stage.out_features];
        let map = rearrange.map(work.steps_in, inputs, outputs);
        let rows = work.steps_in * self.batch;
        let elements = rows as u64 * inputs as u64;
        let workgroups = flat_grid(&self.limits, elements, &work.stage.label)?;
        let constants = rearrange_constants(work, map)?;
        let [offset, stride] = [map.offset, map.stride].map(|place| Self::place(place, [work.steps_out, outputs]));
        let (offset, stride) = (offset?, stride?);
        // Of a number that is given at all timesteps, or in all channels, all gradients are summed.
        let channels = if map.one_channel { outputs as u64 } else { 1 };
        let summed = if map.stride == 0 { work.steps_out } else { 1 };
        let fitting = (SOFTWARE_LOOP_LIMIT / (channels + 1)).min(MAX_SUBMISSION_WORK / elements.max(1)).max(1);
        let at_once = if map.stride == 0 { usize::try_from(fitting).unwrap_or(usize::MAX) } else { work.steps_out };
        for first in (0..work.steps_out).step_by(at_once) {
            let end = first.saturating_add(at_once).min(work.steps_out);
            let number = |number: usize| self.number(number, "numbers of a row");
            let sizes = vec![
                ("rows", number(rows)?),
                ("batch", number(self.batch)?),
                ("offset", offset),
                ("stride", stride),
                ("first", number(first)?),
                ("end", number(end)?),
            ];
            let iterations = (end - first).min(summed) as u64 * (channels + 1);
            self.add(Dispatch {
                stage: work.index,
                sizes,
                constants: constants.clone(),
                bindings: vec![d, to],
                workgroups,
                iterations,
                work: elements.saturating_mul(iterations),
                ..Dispatch::empty(Kernel::Train(TrainKernel::RearrangeBackward))
            })?;
        }
        Ok(())
    }

    pub(super) fn layer_norm_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        eps: f32,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.in_features);
        let (to, add) = self.wanted_gradient(network, work.stage.inputs[0], stage_steps, [rows, width])?;
        let normal = self.scratch("normalized rows", rows, width, 1)?;
        let weight = self.param(work.stage, 0, Role::Weight);
        let constants = Constants::sizes([("FEATURES", width)])?
            .with("EPS", eps)
            .with("AFFINE", weight.is_some())
            .with("ADD", add)
            .with("WORKGROUP", ROW_WORKGROUP);
        let bindings = vec![work.inputs[0], weight.unwrap_or(work.inputs[0]), d, normal, to];
        self.by_row(work, TrainKernel::LayerNormBackward, constants, bindings, [rows, width])?;
        self.affine_backward(work, [rows, width], [d, normal], None)
    }

    /// The gradients of the weight and the bias of a normalization, and where both are wanted beside their places.
    pub(super) fn affine_backward(
        &mut self,
        work: &StageWork<'_>,
        [rows, width]: [usize; 2],
        [d, normal]: [Slice; 2],
        also: Option<Slice>,
    ) -> Result<()> {
        let [d, normal] = [d, normal].map(|slice| Operand::new(slice, width));
        for (role, factor, at) in [(Role::Weight, Some(normal), 0), (Role::Bias, None, width)] {
            let own = self.param_gradient(work.stage, 0, role).map(|slice| (slice, 0));
            let outputs: Vec<(Slice, usize)> = own.into_iter().chain(also.map(|slice| (slice, at))).collect();
            if !outputs.is_empty() {
                self.column_sums(work.index, [rows, width], d, factor, &outputs)?;
            }
        }
        Ok(())
    }

    /// A kernel that takes a row in a workgroup, and goes through it a few times.
    pub(super) fn by_row(
        &mut self,
        work: &StageWork<'_>,
        kernel: TrainKernel,
        constants: Constants,
        bindings: Vec<Slice>,
        [rows, width]: [usize; 2],
    ) -> Result<()> {
        let [_, x, y] = grid(&self.limits, 1, rows as u64, &work.stage.label)?;
        self.push(work, DispatchRows::all(rows), Kernel::Train(kernel), constants, |dispatch| {
            dispatch.bindings = bindings;
            dispatch.workgroups = [x, y, 1];
            dispatch.iterations = 4 * (width as u64).div_ceil(ROW_WORKGROUP.into()) + 3 * u64::from(ROW_WORKGROUP);
            dispatch.work = 4 * rows as u64 * width as u64;
        })
    }

    /// A product or a maximum of branches.
    pub(super) fn branches_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        join: Join,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let (rows, width) = (work.steps_out * self.batch, work.stage.out_features);
        let all = DispatchRows::all(rows);
        let elements = rows * width;
        let highest = match join {
            // The stage's own output may have been dropped.
            Join::Max => {
                let highest = self.scratch("products", rows, width, 1)?;
                for (branch, &x) in work.inputs.iter().enumerate() {
                    let how = if branch == 0 { Combine::Copy } else { Combine::Max };
                    self.moved(work, all, Move { how, ..Move::whole(x, highest, width, false) })?;
                }
                Some(highest)
            }
            _ => None,
        };
        for (branch, (&source, &x)) in work.stage.inputs.iter().zip(&work.inputs).enumerate() {
            let to = match self.part_of_gradient(network, source, stage_steps)? {
                Some(to) => to,
                // A maximum must know what this branch takes.
                None if highest.is_some() => self.scratch("gradients of the input", rows, width, 1)?,
                None => continue,
            };
            let Some(highest) = highest else {
                let product = self.scratch("products", rows, width, 1)?;
                self.moved(work, all, Move::whole(d, product, width, false))?;
                for (_, &other) in work.inputs.iter().enumerate().filter(|&(other, _)| other != branch) {
                    let how = Combine::Mul;
                    self.moved(work, all, Move { how, ..Move::whole(other, product, width, false) })?;
                }
                self.moved(work, all, Move::whole(product, to, width, true))?;
                continue;
            };
            let workgroups = flat_grid(&self.limits, elements as u64, &work.stage.label)?;
            let constants = Constants::default().with("WORKGROUP", ROW_WORKGROUP);
            let kernel = Kernel::Train(TrainKernel::MaxBackward);
            self.push(work, DispatchRows::all(elements), kernel, constants, |dispatch| {
                dispatch.bindings = vec![x, highest, d, to];
                dispatch.workgroups = workgroups;
                dispatch.work = elements as u64;
            })?;
        }
        Ok(())
    }

    /// A pooling over windows of time, or over all time where the window's size is 0.
    pub(super) fn pool_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        (window, how, count_pad): (&Window, u32, bool),
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let Some(to) = self.part_of_gradient(network, work.stage.inputs[0], stage_steps)? else { return Ok(()) };
        let width = work.stage.in_features;
        let all_time = window.kernel_size == 0;
        let [left, right] = if all_time { [0; 2] } else { window.padding(work.steps_in) };
        let mask = pool_mask(work, window, how);
        let constants = Constants::sizes([
            ("FEATURES", width),
            ("KERNEL", window.kernel_size),
            ("STRIDE", window.stride),
            ("LEFT", left),
            ("RIGHT", right),
        ])?
        .with("HOW", how)
        .with("COUNT_PAD", count_pad)
        .with("MASKED", mask.is_some())
        .with("WORKGROUP", ROW_WORKGROUP);
        let mask = mask.map_or(work.inputs[0], |mask| self.plan.whole(mask));
        let columns = self.batch * width;
        let workgroups = flat_grid(&self.limits, columns as u64, &work.stage.label)?;
        // A window is gone through twice.
        let each = 2 * if all_time { work.steps_in } else { window.kernel_size } + 1;
        let fitting =
            (SOFTWARE_LOOP_LIMIT / each as u64).min(MAX_SUBMISSION_WORK / (columns as u64 * each as u64).max(1));
        let at_once = usize::try_from(fitting).unwrap_or(usize::MAX).max(1);
        for first in (0..work.steps_out).step_by(at_once) {
            let end = first.saturating_add(at_once).min(work.steps_out);
            let number = |number: usize| self.number(number, "timesteps of a pooling");
            let sizes = vec![
                ("batch", number(self.batch)?),
                ("steps", number(work.steps_in)?),
                ("first", number(first)?),
                ("end", number(end)?),
            ];
            self.add(Dispatch {
                stage: work.index,
                sizes,
                constants: constants.clone(),
                bindings: vec![work.inputs[0], mask, d, to],
                workgroups,
                iterations: (end - first) as u64 * each as u64,
                work: (columns as u64).saturating_mul((end - first) as u64 * each as u64),
                ..Dispatch::empty(Kernel::Train(TrainKernel::PoolBackward))
            })?;
        }
        Ok(())
    }

    pub(super) fn conv_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let StageKind::Conv1d { window, activation, groups } = &work.stage.kind else { return Ok(()) };
        let conv = Convolution { window, activation: *activation, groups: *groups };
        let (rows, outputs) = (work.steps_out * self.batch, work.stage.out_features);
        let seen_width = work.stage.in_features * window.kernel_size;
        let Some(product) = self.training.as_ref().and_then(|training| training.products.get(&work.index)).copied()
        else {
            return Ok(());
        };
        if conv.activation != Activation::Linear {
            let sums = self.scratch("sums of a dense layer", rows, outputs, 1)?;
            self.convolution(
                network,
                work,
                Activation::Linear,
                [product[0], product[1], product[2], product[3], sums],
            )?;
            self.function_backward(work, conv.activation, [sums, d], rows * outputs)?;
        }
        let of_weight = self.param_gradient(work.stage, 0, Role::Weight);
        if let Some(of_bias) = self.param_gradient(work.stage, 0, Role::Bias) {
            self.column_sums(work.index, [rows, outputs], Operand::new(d, outputs), None, &[(of_bias, 0)])?;
        }
        let to = self.part_of_gradient(network, work.stage.inputs[0], stage_steps)?;
        let matrix = self.scratch("filters as a matrix [N, K, I]", outputs, seen_width, 1)?;
        // What the outputs see is K times the input: as many timesteps of it as the budget has room for.
        let at_once = self.chunk(seen_width, work.steps_out);
        for first in (0..work.steps_out).step_by(at_once) {
            let steps = at_once.min(work.steps_out - first);
            let count = steps * self.batch;
            let seen = self.scratch("what outputs see [T', B, K, I]", count, seen_width, 1)?;
            let d = Operand::new(d, outputs).from(first * self.batch * outputs);
            let of_seen = Operand::new(seen, seen_width);
            if of_weight.is_some() {
                self.conv_windows(work, &conv, DispatchRows { count, input: first * self.batch, output: 0 }, seen)?;
                let c = Operand::new(matrix, seen_width);
                self.weights_product(work.index, [outputs, seen_width, count], [d.turned(), of_seen, c], first > 0)?;
            }
            if let Some(to) = to {
                let w = Operand::new(product[1], outputs).turned();
                self.matmul(work.index, [count, seen_width, outputs], [d, w, of_seen], Also::default())?;
                self.conv_gather(work, &conv, [first, first + steps], [seen, to])?;
            }
        }
        match of_weight {
            Some(of_weight) => self.filters(work, &conv, [matrix, of_weight]),
            None => Ok(()),
        }
    }

    /// Which windows a convolution has.
    fn windows_of(&self, work: &StageWork<'_>, window: &Window) -> Result<Constants> {
        let [left, _] = window.padding(work.steps_in);
        Ok(Constants::sizes([
            ("CHANNELS", work.stage.in_features),
            ("TAPS", window.kernel_size),
            ("STRIDE", window.stride),
            ("DILATION", window.dilation),
            ("LEFT", left),
        ])?
        .with("WORKGROUP", ROW_WORKGROUP))
    }

    fn conv_windows(
        &mut self,
        work: &StageWork<'_>,
        conv: &Convolution<'_>,
        rows: DispatchRows,
        seen: Slice,
    ) -> Result<()> {
        let constants = self.windows_of(work, conv.window)?;
        let elements = rows.count as u64 * (work.stage.in_features * conv.window.kernel_size) as u64;
        let workgroups = flat_grid(&self.limits, elements, &work.stage.label)?;
        self.push(work, rows, Kernel::Train(TrainKernel::ConvWindows), constants, |dispatch| {
            dispatch.bindings = vec![work.inputs[0], seen];
            dispatch.workgroups = workgroups;
            dispatch.work = elements;
        })
    }

    fn conv_gather(
        &mut self,
        work: &StageWork<'_>,
        conv: &Convolution<'_>,
        [first, end]: [usize; 2],
        [seen, to]: [Slice; 2],
    ) -> Result<()> {
        // The timesteps that these windows see.
        let [left, _] = conv.window.padding(work.steps_in);
        let [from, to_step] = [first * conv.window.stride, (end - 1) * conv.window.stride + conv.window.span()]
            .map(|padded| padded.saturating_sub(left).min(work.steps_in));
        let (rows, taps) = ((to_step - from) * self.batch, conv.window.kernel_size as u64);
        if rows == 0 {
            return Ok(());
        }
        let number = |number: usize| self.number(number, "rows of a convolution");
        let sizes = vec![
            ("input_row", number(from * self.batch)?),
            ("rows", number(rows)?),
            ("batch", number(self.batch)?),
            ("first", number(first)?),
            ("end", number(end)?),
        ];
        let elements = rows as u64 * work.stage.in_features as u64;
        self.add(Dispatch {
            stage: work.index,
            sizes,
            constants: self.windows_of(work, conv.window)?,
            bindings: vec![seen, to],
            workgroups: flat_grid(&self.limits, elements, &work.stage.label)?,
            iterations: taps,
            work: elements.saturating_mul(taps),
            ..Dispatch::empty(Kernel::Train(TrainKernel::ConvGather))
        })
    }

    fn filters(&mut self, work: &StageWork<'_>, conv: &Convolution<'_>, [matrix, of_weight]: [Slice; 2]) -> Result<()> {
        let (inputs, outputs, taps) = (work.stage.in_features, work.stage.out_features, conv.window.kernel_size);
        let elements = outputs * (inputs / conv.groups) * taps;
        let constants = Constants::sizes([
            ("OUT_FEATURES", outputs),
            ("CHANNELS", inputs),
            ("TAPS", taps),
            ("GROUPS", conv.groups),
        ])?
        .with("WORKGROUP", ROW_WORKGROUP);
        let workgroups = flat_grid(&self.limits, elements as u64, &work.stage.label)?;
        let kernel = Kernel::Train(TrainKernel::Filters);
        self.push(work, DispatchRows::all(elements), kernel, constants, |dispatch| {
            dispatch.bindings = vec![matrix, of_weight];
            dispatch.workgroups = workgroups;
            dispatch.work = elements as u64;
        })
    }
}
