//! The backward pass: from the gradient of the last output to those of all parameters, stage by stage.

use super::layers::ALL_TIME;
use super::matmul::{Also, Operand};
use super::{Builder, DispatchRows, StageWork, TrainBuild, flat_grid, grid};
use crate::base::error::Result;
use crate::network::{
    Activation, Columns, Combine, Join, MergeMode, Network, Role, SelectStep, Source, Stage, StageKind, joining,
    merging,
};
use crate::plan::constants::{LAST_VALID, combination, pool_number};
use crate::plan::train::{RESULT_WORDS, TrainGoal, TrainMetrics, TrainTask};
use crate::plan::{BufferId, Constants, Dispatch, Kernel, ROW_WORKGROUP, Slice, TrainKernel};
use crate::reference::Loss;

/// A block of columns that goes from one matrix into another.
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub from: (Slice, Columns),
    pub to: (Slice, Columns),
    pub columns: usize,
    pub how: Combine,
    pub scale: f32,
    pub reversed: bool,
}

impl Move {
    /// Rows of `width` that keep their place.
    pub fn whole(from: Slice, to: Slice, width: usize, add: bool) -> Self {
        let columns = Columns { stride: width, offset: 0 };
        let how = if add { Combine::Add } else { Combine::Copy };
        Self { from: (from, columns), to: (to, columns), columns: width, how, scale: 1.0, reversed: false }
    }
}

impl Move {
    /// The same, written `numbers` behind the beginning.
    pub fn behind(mut self, numbers: usize) -> Self {
        self.to.1.offset = numbers;
        self
    }
}

impl Builder {
    /// The loss, and what the task wants behind it; nothing in a plan of a run.
    pub(super) fn train(&mut self, network: &Network, stage_steps: &[usize]) -> Result<()> {
        let Some(training) = &self.training else { return Ok(()) };
        let task = training.task.clone();
        let (from, logits) = loss_stage(network, task.loss);
        let rows = stage_steps[from] * self.batch;
        let targets = match (task.loss, task.values) {
            (Loss::CrossEntropy, false) => self.buffer("targets [M]", rows, 1, 1)?,
            (Loss::Ctc { .. }, _) => self.buffer("labels [B, 2, 1 + N]", self.batch, 2, 1 + task.labels.max(1))?,
            _ => self.buffer("targets [M, N]", rows, logits.out_features, 1)?,
        };
        let factors = self.buffer("weights of the rows [M]", rows, 1, 1)?;
        if let Some(TrainBuild { parts, .. }) = &mut self.training {
            (parts.output, parts.rows, parts.targets, parts.factors) = (from, rows, targets, factors);
        }
        if let Some((d, _)) = self.gradient(network, Source::Stage(from), stage_steps)? {
            self.loss(&task, from, rows, logits, d)?;
        }
        if let Some(metrics) = task.metrics {
            match metrics {
                TrainMetrics::Classes { top, confusion } => {
                    self.class_metrics((top, confusion), (from, logits.out_features), rows)?;
                }
                TrainMetrics::AbsoluteError => self.absolute_error((from, logits.out_features), rows)?,
            }
        }
        if task.goal != TrainGoal::Evaluate {
            let mut next = from + 1;
            while next > 0 {
                let index = next - 1;
                next = index;
                if let Some(steps_loop) = network.step_loop().filter(|steps_loop| steps_loop.stages.contains(&index)) {
                    self.step_loop_backward(network, steps_loop, stage_steps)?;
                    next = steps_loop.stages.start;
                    continue;
                }
                let Some((d, _)) = self.training.as_ref().and_then(|training| training.gradients[index]) else {
                    continue;
                };
                self.drop_out(index, d)?;
                let work = self.work(network, index, stage_steps);
                self.stage_backward(network, &work, d, stage_steps)?;
            }
        }
        if task.goal == TrainGoal::Step {
            self.update(network, &task)?;
        }
        if let Some(TrainBuild { layout, mut parts, .. }) = self.training.take() {
            parts.memory = layout.memory(&self.plan.buffers[..self.plan.weights]);
            self.plan.train = Some(parts);
        }
        Ok(())
    }

    /// Where the gradient of a stage's output goes, and whether it is added to what is there; `None` for an input whose
    /// gradient nothing needs.
    pub(super) fn gradient(
        &mut self,
        network: &Network,
        source: Source,
        stage_steps: &[usize],
    ) -> Result<Option<(Slice, bool)>> {
        let Source::Stage(index) = source else { return Ok(None) };
        if let Some(known) = self.training.as_ref().and_then(|training| training.gradients[index]) {
            return Ok(Some(known));
        }
        let stage = &network.stages()[index];
        let label = format!("{} gradient of the output", stage.label);
        let buffer = self.buffer(label, stage_steps[index], self.batch, stage.out_features)?;
        let slice = self.plan.whole(buffer);
        if let Some(training) = &mut self.training {
            training.gradients[index] = Some((slice, true));
        }
        Ok(Some((slice, false)))
    }

    /// As [`Builder::gradient`] for one that writes a part: what nothing wrote before is cleared.
    pub(super) fn part_of_gradient(
        &mut self,
        network: &Network,
        source: Source,
        stage_steps: &[usize],
    ) -> Result<Option<Slice>> {
        let Some((slice, add)) = self.gradient(network, source, stage_steps)? else { return Ok(None) };
        if let (false, Some(training)) = (add, &mut self.training) {
            training.parts.clears.push(slice);
        }
        Ok(Some(slice))
    }

    fn loss(&mut self, task: &TrainTask, stage: usize, rows: usize, logits: &Stage, d: Slice) -> Result<()> {
        let Some(TrainBuild { layout, parts, .. }) = &self.training else { return Ok(()) };
        let buffers = &layout.buffers;
        let [targets, factors] = [parts.targets, parts.factors].map(|buffer| self.plan.whole(buffer));
        let whole = |buffer: BufferId| self.plan.whole(buffer);
        let [class_weights, settings, results] =
            [whole(buffers.class_weights), whole(buffers.settings), whole(buffers.results)];
        let x = self.plan.outputs[stage];
        if let Loss::Ctc { blank } = task.loss {
            let found = self.scratch("losses of the rows [M, 2]", self.batch, 2, 1)?;
            self.ctc_loss((task, blank), (stage, logits.out_features), [x, d, found])?;
            return self.loss_sum(stage, self.batch, [found, settings, results]);
        }
        let constants = Constants::sizes([("FEATURES", logits.out_features)])?
            .with("VALUES", task.values)
            .with("SMOOTHING", task.label_smoothing)
            .with("CLASS_WEIGHTS", task.class_weights > 0)
            .with("WORKGROUP", ROW_WORKGROUP);
        // As `shaders/training/elementwise_loss.wgsl` numbers them.
        let elementwise = |number: u32, delta: f32| {
            (TrainKernel::ElementwiseLoss, constants.clone().with("LOSS", number).with("DELTA", delta))
        };
        let (kernel, constants) = match task.loss {
            Loss::CrossEntropy => (TrainKernel::CrossEntropy, constants),
            Loss::BinaryCrossEntropy => elementwise(0, 0.0),
            Loss::Mse => elementwise(1, 0.0),
            Loss::Mae => elementwise(2, 0.0),
            Loss::Huber { delta } => elementwise(3, delta),
            // Refused before.
            Loss::Ctc { .. } => return Ok(()),
        };
        let found = self.scratch("losses of the rows [M, 2]", rows, 2, 1)?;
        let [_, x_groups, y_groups] = grid(&self.limits, 1, rows as u64, "rows of the loss")?;
        let rows = self.number(rows, "rows of the loss")?;
        let width = logits.out_features as u64;
        self.add(Dispatch {
            stage,
            constants,
            rows,
            bindings: vec![x, targets, factors, class_weights, d, found],
            workgroups: [x_groups, y_groups, 1],
            iterations: 4 * width.div_ceil(ROW_WORKGROUP.into()) + 5 * u64::from(ROW_WORKGROUP),
            work: u64::from(rows) * width,
            ..Dispatch::empty(Kernel::Train(kernel))
        })?;
        self.loss_sum(stage, rows as usize, [found, settings, results])
    }

    /// Counts of the most probable classes of `rows` rows.
    fn class_metrics(
        &mut self,
        (top, confusion): (u32, bool),
        (stage, classes): (usize, usize),
        rows: usize,
    ) -> Result<()> {
        let pairs = if confusion { classes.saturating_mul(classes) } else { 0 };
        let counts = self.buffer("counts of classes [1 + C*C]", pairs.saturating_add(1), 1, 1)?;
        let counts = self.plan.whole(counts);
        let Some(TrainBuild { parts, .. }) = &mut self.training else { return Ok(()) };
        parts.counts = Some(counts);
        parts.clears.push(counts);
        let [targets, factors] = [parts.targets, parts.factors].map(|buffer| self.plan.whole(buffer));
        let [_, x_groups, y_groups] = grid(&self.limits, 1, rows as u64, "rows of the loss")?;
        self.add(Dispatch {
            stage,
            constants: Constants::sizes([("FEATURES", classes)])?
                .with("TOP", top)
                .with("CONFUSION", confusion)
                .with("WORKGROUP", ROW_WORKGROUP),
            rows: self.number(rows, "rows of the loss")?,
            bindings: vec![self.plan.outputs[stage], targets, factors, counts],
            workgroups: [x_groups, y_groups, 1],
            iterations: (classes as u64).div_ceil(ROW_WORKGROUP.into()) + u64::from(ROW_WORKGROUP),
            work: rows as u64 * classes as u64,
            ..Dispatch::empty(Kernel::Train(TrainKernel::ClassMetrics))
        })
    }

    /// The sum of the absolute errors of `rows` rows, and how many count.
    fn absolute_error(&mut self, (stage, width): (usize, usize), rows: usize) -> Result<()> {
        let sum = self.buffer("sum of absolute errors", RESULT_WORDS, 1, 1)?;
        let place = self.buffer("place of a sum", 1, 1, 1)?;
        let [sum, place] = [sum, place].map(|buffer| self.plan.whole(buffer));
        let found = self.scratch("errors of the rows [M, 2]", rows, 2, 1)?;
        let Some(TrainBuild { parts, .. }) = &mut self.training else { return Ok(()) };
        parts.counts = Some(sum);
        parts.clears.push(place);
        let [targets, factors] = [parts.targets, parts.factors].map(|buffer| self.plan.whole(buffer));
        let [_, x_groups, y_groups] = grid(&self.limits, 1, rows as u64, "rows of the loss")?;
        self.add(Dispatch {
            stage,
            constants: Constants::sizes([("FEATURES", width)])?.with("WORKGROUP", ROW_WORKGROUP),
            rows: self.number(rows, "rows of the loss")?,
            bindings: vec![self.plan.outputs[stage], targets, factors, found],
            workgroups: [x_groups, y_groups, 1],
            iterations: (width as u64).div_ceil(ROW_WORKGROUP.into()) + u64::from(ROW_WORKGROUP),
            work: rows as u64 * width as u64,
            ..Dispatch::empty(Kernel::Train(TrainKernel::AbsoluteErrors))
        })?;
        self.loss_sum(stage, rows, [found, place, sum])
    }

    fn loss_sum(&mut self, stage: usize, rows: usize, bindings: [Slice; 3]) -> Result<()> {
        let rows = self.number(rows, "rows of the loss")?;
        self.add(Dispatch {
            stage,
            constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
            rows,
            bindings: bindings.to_vec(),
            iterations: u64::from(rows.div_ceil(ROW_WORKGROUP) + ROW_WORKGROUP),
            work: rows.into(),
            ..Dispatch::empty(Kernel::Train(TrainKernel::LossSum))
        })
    }

    pub(super) fn stage_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let (stage, rows) = (work.stage, work.steps_out * self.batch);
        let (inputs, outputs) = (stage.in_features, stage.out_features);
        let all = DispatchRows::all(rows);
        match &stage.kind {
            StageKind::Embedding { .. } => self.embedding_backward(work, d),
            // Has a file of its own.
            StageKind::Feedback { .. } => Ok(()),
            StageKind::Recurrent(level) => self.recurrent_backward(network, work, level, d, stage_steps),
            StageKind::Dense { activation } => self.dense_backward(network, work, *activation, d, stage_steps),
            StageKind::Merge(mode) => {
                let Some(to) = self.part_of_gradient(network, stage.inputs[0], stage_steps)? else { return Ok(()) };
                let (_, scale) = merging(*mode);
                for half in [0, outputs] {
                    let of_half = |offset| Columns { stride: inputs, offset };
                    let mut block = Move::whole(d, to, outputs, true);
                    block.to.1 = of_half(half);
                    if *mode == MergeMode::Mul {
                        // The other half is the derivative.
                        let product = self.scratch("products", rows, outputs, 1)?;
                        self.moved(work, all, Move::whole(d, product, outputs, false))?;
                        let mut other = Move::whole(work.inputs[0], product, outputs, false);
                        other.from.1 = of_half(outputs - half);
                        other.how = Combine::Mul;
                        self.moved(work, all, other)?;
                        block.from.0 = product;
                    }
                    self.scaled(work, all, block, scale)?;
                }
                Ok(())
            }
            StageKind::Join(join) => self.join_backward(network, work, *join, d, stage_steps),
            StageKind::Attention(attention) => self.attention_backward(network, work, *attention, d, stage_steps),
            StageKind::Select(SelectStep::LastValid) if work.mask.is_some() => {
                self.pool_backward(network, work, (&ALL_TIME, LAST_VALID, false), d, stage_steps)
            }
            StageKind::Select(step) => {
                let Some(to) = self.part_of_gradient(network, stage.inputs[0], stage_steps)? else { return Ok(()) };
                let first = if *step == SelectStep::First { 0 } else { (work.steps_in - 1) * self.batch };
                let rows = DispatchRows { count: rows, input: 0, output: first };
                self.moved(work, rows, Move::whole(d, to, outputs, true))
            }
            StageKind::FinalState(from) => self.final_state_backward(network, work, (*from, d), stage_steps),
            StageKind::Reverse => {
                let Some((to, add)) = self.gradient(network, stage.inputs[0], stage_steps)? else { return Ok(()) };
                self.moved(work, all, Move { reversed: true, ..Move::whole(d, to, outputs, add) })
            }
            StageKind::Softmax { log } => self.softmax_backward(network, work, *log, d, stage_steps),
            StageKind::ArgMax => Err(stage.without_gradient()),
            StageKind::Ntm(ntm) => self.ntm_backward(network, (work, ntm), d, stage_steps),
            StageKind::TimeSoftmax => self.time_softmax_backward(network, work, d, stage_steps),
            StageKind::Rearrange(rearrange) => self.rearrange_backward(network, work, *rearrange, d, stage_steps),
            StageKind::LayerNorm { eps } => self.layer_norm_backward(network, work, *eps, d, stage_steps),
            StageKind::Channelwise { activation, eps: None } => {
                self.activation_backward(network, work, *activation, d, stage_steps)
            }
            StageKind::Channelwise { eps: Some(eps), .. } => {
                self.batch_norm_backward(network, work, *eps, d, stage_steps)
            }
            StageKind::Pool1d { window, pool, count_include_pad } => {
                self.pool_backward(network, work, (window, pool_number(*pool), *count_include_pad), d, stage_steps)
            }
            StageKind::GlobalPool(pool) => {
                self.pool_backward(network, work, (&ALL_TIME, pool_number(*pool), false), d, stage_steps)
            }
            StageKind::Conv1d { .. } => self.conv_backward(network, work, d, stage_steps),
        }
    }

    fn join_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        join: Join,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let (stage, rows) = (work.stage, work.steps_out * self.batch);
        if matches!(join, Join::Mul | Join::Max) {
            return self.branches_backward(network, work, join, d, stage_steps);
        }
        let (_, scale) = joining(join, stage.inputs.len());
        let mut offset = 0;
        for (index, (&source, &x)) in stage.inputs.iter().zip(&work.inputs).enumerate() {
            let width = usize::try_from(x.bytes / super::F32).unwrap_or(usize::MAX) / rows;
            let columns = Columns { stride: stage.out_features, offset: if join == Join::Concat { offset } else { 0 } };
            offset += width;
            let Some(to) = self.part_of_gradient(network, source, stage_steps)? else { continue };
            let mut block = Move::whole(d, to, width, true);
            block.from.1 = columns;
            let scale = if join == Join::Sub && index > 0 { -scale } else { scale };
            self.scaled(work, DispatchRows::all(rows), block, scale)?;
        }
        Ok(())
    }

    /// Adds a block times `scale`.
    fn scaled(&mut self, work: &StageWork<'_>, rows: DispatchRows, block: Move, scale: f32) -> Result<()> {
        #[expect(clippy::float_cmp, reason = "a scale of exactly 1 changes nothing")]
        if scale == 1.0 {
            return self.moved(work, rows, block);
        }
        // The kernel scales what it writes, so what is there must not be.
        let scratch = self.scratch("scaled gradients", rows.count, block.columns, 1)?;
        let mut first = Move::whole(block.from.0, scratch, block.columns, false);
        (first.from.1, first.scale) = (block.from.1, scale);
        self.moved(work, rows, first)?;
        let columns = Columns { stride: block.columns, offset: 0 };
        self.moved(work, rows, Move { from: (scratch, columns), ..block })
    }

    pub(super) fn moved(&mut self, work: &StageWork<'_>, rows: DispatchRows, block: Move) -> Result<()> {
        let elements = rows.count as u64 * block.columns as u64;
        let workgroups = flat_grid(&self.limits, elements, &work.stage.label)?;
        let constants = Constants::sizes([
            ("COLUMNS", block.columns),
            ("IN_STRIDE", block.from.1.stride),
            ("IN_OFFSET", block.from.1.offset),
            ("OUT_STRIDE", block.to.1.stride),
            ("OUT_OFFSET", block.to.1.offset),
        ])?
        .with("HOW", combination(block.how))
        .with("SCALE", block.scale)
        .with("REVERSED", block.reversed)
        .with("WORKGROUP", ROW_WORKGROUP);
        self.push(work, rows, Kernel::Combine, constants, |dispatch| {
            dispatch.bindings = vec![block.from.0, block.to.0];
            dispatch.workgroups = workgroups;
            dispatch.work = elements;
        })
    }

    fn embedding_backward(&mut self, work: &StageWork<'_>, d: Slice) -> Result<()> {
        let (steps, width) = (work.steps_out * self.batch, work.stage.out_features);
        let Some(table) = self.param_gradient(work.stage, 0, Role::Weight) else { return Ok(()) };
        let lookup = self.buffer(format!("{} lookup", work.stage.label), 4, steps + 1, 1)?;
        let pieces = self.scratch("pieces of an embedding", steps, width, 1)?;
        if let Some(TrainBuild { parts, .. }) = &mut self.training {
            parts.lookups.push((work.index, lookup));
            parts.clears.push(table);
        }
        let lookup = self.plan.whole(lookup);
        let elements = steps as u64 * width as u64;
        let workgroups = flat_grid(&self.limits, elements, &work.stage.label)?;
        let sizes = vec![
            ("width", self.number(width, "an embedding's width")?),
            ("steps", self.number(steps, "steps of an embedding")?),
        ];
        let parts = [
            (TrainKernel::EmbeddingPieces, vec![lookup, d, pieces]),
            (TrainKernel::EmbeddingRows, vec![lookup, pieces, table]),
        ];
        for (kernel, bindings) in parts {
            self.add(Dispatch {
                stage: work.index,
                sizes: sizes.clone(),
                constants: Constants::default().with("WORKGROUP", ROW_WORKGROUP),
                bindings,
                workgroups,
                iterations: (steps as u64).div_ceil(64).max(64),
                work: elements,
                ..Dispatch::empty(Kernel::Train(kernel))
            })?;
        }
        Ok(())
    }

    fn dense_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        activation: Activation,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let (stage, rows) = (work.stage, work.steps_out * self.batch);
        let (inputs, outputs) = (stage.in_features, stage.out_features);
        let x = Operand::new(work.inputs[0], inputs);
        let Some(weight) = self.param(stage, 0, Role::Weight) else { return Ok(()) };
        let w = Operand::new(weight, inputs);
        if activation != Activation::Linear {
            let sums = self.scratch("sums of a dense layer", rows, outputs, 1)?;
            let bias = self.param(stage, 0, Role::Bias).map(|bias| (bias, 0));
            let c = Operand::new(sums, outputs);
            let also = Also { accumulate: false, bias };
            self.matmul(work.index, [rows, outputs, inputs], [x, w.turned(), c], also)?;
            self.function_backward(work, activation, [sums, d], rows * outputs)?;
        }
        let d = Operand::new(d, outputs);
        if let Some(of_weight) = self.param_gradient(stage, 0, Role::Weight) {
            let c = Operand::new(of_weight, inputs);
            self.weights_product(work.index, [outputs, inputs, rows], [d.turned(), x, c], false)?;
        }
        if let Some(of_bias) = self.param_gradient(stage, 0, Role::Bias) {
            self.column_sums(work.index, [rows, outputs], d, None, &[(of_bias, 0)])?;
        }
        if let Some((to, accumulate)) = self.gradient(network, stage.inputs[0], stage_steps)? {
            let also = Also { accumulate, bias: None };
            self.matmul(work.index, [rows, inputs, outputs], [d, w, Operand::new(to, inputs)], also)?;
        }
        Ok(())
    }

    /// A tensor of a stage among the parameters, if the stage has it.
    pub(super) fn param(&self, stage: &Stage, direction: usize, role: Role) -> Option<Slice> {
        self.in_flat(stage, direction, role, self.training.as_ref()?.layout.buffers.parameters)
    }

    /// Its gradient; in a loop that of one step.
    pub(super) fn param_gradient(&self, stage: &Stage, direction: usize, role: Role) -> Option<Slice> {
        let training = self.training.as_ref()?;
        let buffer = training.step_gradients.unwrap_or(training.layout.buffers.gradients);
        self.in_flat(stage, direction, role, buffer)
    }

    fn in_flat(&self, stage: &Stage, direction: usize, role: Role, buffer: BufferId) -> Option<Slice> {
        let range = self.training.as_ref()?.layout.flat.get(&stage.param(direction, role)?.name)?;
        Some(Slice { buffer, offset: range.start as u64 * super::F32, bytes: range.len() as u64 * super::F32 })
    }

    /// Where a tensor begins in the array of all parameters.
    pub(super) fn first(&self, stage: &Stage, direction: usize, role: Role) -> Option<usize> {
        Some(self.training.as_ref()?.layout.flat.get(&stage.param(direction, role)?.name)?.start)
    }
}

/// The stage whose output a loss reads: logits where it takes them.
fn loss_stage(network: &Network, loss: Loss) -> (usize, &Stage) {
    let stages = network.stages();
    let last = stages.len() - 1;
    let from_logits = matches!(loss, Loss::CrossEntropy | Loss::Ctc { .. });
    let from = if from_logits && last > 0 && stages[last].is_softmax() { last - 1 } else { last };
    (from, &stages[from])
}
