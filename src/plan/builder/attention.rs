//! Attention and its backward pass.

use super::matmul::Operand;
use super::{Builder, StageWork, flat_grid, grid};
use crate::base::error::Result;
use crate::network::{Attention, AttentionScore, Network, NetworkInput, Role, Source};
use crate::plan::{
    BufferId, Constants, Dispatch, InputBuffers, Kernel, MAX_SUBMISSION_WORK, ROW_WORKGROUP, Slice, TrainKernel,
};

/// AttentionSizes of a stage of attention.
#[derive(Clone, Copy)]
struct AttentionSizes {
    attention: Attention,
    /// T
    queries: usize,
    /// S
    steps: usize,
    embed_dim: usize,
    value_dim: usize,
}

/// A sum of rows with shares, or with the gradients of scores.
struct WeightedSum {
    shares: Slice,
    /// What is summed, and its timesteps.
    x: (Slice, usize),
    /// What the sums are of, and its timesteps and width.
    output: (Slice, [usize; 2]),
    how: SumKind,
    scale: f32,
    /// Whether the output has the rows of the keys.
    turned: bool,
    add: bool,
    /// Where the banks of the batch rows lie, if x is banks.
    banks: Option<Slice>,
}

/// What is summed, as `shaders/attention_sum.wgsl` numbers it.
#[derive(Clone, Copy)]
enum SumKind {
    Rows,
    /// The derivative of an additive score: with what the output's rows are the gradient of, and the weight.
    Derivative(Slice, Slice),
    /// The hyperbolic tangent of an additive score, with the rows that it is taken of.
    Tanh(Slice),
}

impl SumKind {
    fn number(self) -> u32 {
        match self {
            Self::Rows => 0,
            Self::Derivative(..) => 1,
            Self::Tanh(_) => 2,
        }
    }
}

impl AttentionSizes {
    fn of(work: &StageWork<'_>, attention: Attention) -> Self {
        let (queries, steps) = (work.steps_out, work.steps_in);
        Self { attention, queries, steps, embed_dim: work.stage.in_features, value_dim: work.stage.out_features }
    }

    /// Rows of the shares `[T, B, heads, S]`.
    fn rows(&self, batch: usize) -> usize {
        self.queries * batch * self.attention.num_heads
    }
}

impl Builder {
    /// What stands for an input in banks.
    pub(super) fn bank_buffers(&mut self, input: &NetworkInput) -> Result<InputBuffers> {
        let label = |what: &str| format!("{} {what}", input.name);
        let numbers = self.buffer(label("banks [R, I]"), 1, 1, input.width)?;
        let mask = Some(self.buffer(label("masks of banks [R]"), 1, 1, 1)?);
        let rows = Some(self.buffer(label("banks of rows [B, 2]"), self.batch, 2, 1)?);
        Ok(InputBuffers { numbers, mask, rows })
    }

    /// A buffer of an input of the network, of whatever size it is where the input lies in banks.
    pub(super) fn input_slice(&self, number: usize, buffer: BufferId) -> Slice {
        let banked = self.banked && number > 0;
        if banked { Slice { buffer, offset: 0, bytes: 0 } } else { self.plan.whole(buffer) }
    }

    /// Shares of the keys, then the sums of the values with them.
    pub(super) fn attention(&mut self, work: &StageWork<'_>, attention: Attention) -> Result<()> {
        let sizes = AttentionSizes::of(work, attention);
        let label = format!("{} shares [T, B, heads, S]", work.stage.label);
        let shares = self.buffer(label, sizes.rows(self.batch), sizes.steps, 1)?;
        let shares = self.plan.whole(shares);
        let [keys, queries, values] = [0, 1, 2].map(|at| work.inputs[at]);
        let additive = attention.score == AttentionScore::Additive;
        let weight = if additive { self.weight() } else { keys };
        let number = match work.stage.inputs[0] {
            Source::Input(number) => number,
            Source::Stage(_) => 0,
        };
        let mask = work.mask.map_or(keys, |mask| self.input_slice(number, mask));
        let banks = self.plan.inputs[number].rows.map(|rows| self.plan.whole(rows));
        let constants = Constants::sizes([("FEATURES", sizes.embed_dim), ("HEADS", attention.num_heads)])?
            .with("ADDITIVE", additive)
            .with("SCALE", attention.scale)
            .with("MASKED", work.mask.is_some())
            .with("BANKED", banks.is_some());
        let bindings = vec![keys, queries, weight, mask, banks.unwrap_or(queries), shares];
        self.by_head(work, sizes, (Kernel::AttentionShares, sizes.embed_dim), &constants, &bindings)?;
        let sum = WeightedSum {
            shares,
            x: (values, sizes.steps),
            output: (work.output, [sizes.queries, sizes.value_dim]),
            how: SumKind::Rows,
            scale: 1.0,
            turned: false,
            add: false,
            banks,
        };
        self.weighted_sum(work, sizes, &sum)?;
        if let Some(training) = &mut self.training {
            training.shares.insert(work.index, shares);
        }
        Ok(())
    }

    pub(super) fn attention_backward(
        &mut self,
        network: &Network,
        work: &StageWork<'_>,
        attention: Attention,
        d: Slice,
        stage_steps: &[usize],
    ) -> Result<()> {
        let sizes = AttentionSizes::of(work, attention);
        let Some(shares) = self.training.as_ref().and_then(|training| training.shares.get(&work.index).copied()) else {
            return Ok(());
        };
        let [keys, queries, values] = [0, 1, 2].map(|at| work.inputs[at]);
        let [of_keys, of_queries, of_values] = [0, 1, 2].map(|at| work.stage.inputs[at]);
        let (of_key, of_query) = ([sizes.steps, sizes.embed_dim], [sizes.queries, sizes.embed_dim]);
        if let Some(to) = self.part_of_gradient(network, of_values, stage_steps)? {
            let sum = WeightedSum {
                shares,
                x: (d, sizes.queries),
                output: (to, [sizes.steps, sizes.value_dim]),
                how: SumKind::Rows,
                scale: 1.0,
                turned: true,
                add: true,
                banks: None,
            };
            self.weighted_sum(work, sizes, &sum)?;
        }
        let d_scores = self.scratch("gradients of scores", sizes.rows(self.batch), sizes.steps, 1)?;
        let constants = Constants::sizes([("FEATURES", sizes.value_dim), ("HEADS", attention.num_heads)])?;
        let bindings = [shares, values, d, d_scores];
        let kernel = Kernel::Train(TrainKernel::AttentionScoresBackward);
        self.by_head(work, sizes, (kernel, sizes.value_dim), &constants, &bindings)?;
        let weight = self.param(work.stage, 0, Role::Weight);
        let how = |own: Slice| weight.map_or(SumKind::Rows, |weight| SumKind::Derivative(own, weight));
        let of_scores = |x, output, how, turned| WeightedSum {
            shares: d_scores,
            x,
            output,
            how,
            scale: attention.scale,
            turned,
            add: true,
            banks: None,
        };
        if let Some(to) = self.part_of_gradient(network, of_queries, stage_steps)? {
            let sum = of_scores((keys, sizes.steps), (to, of_query), how(queries), false);
            self.weighted_sum(work, sizes, &sum)?;
        }
        if let Some(to) = self.part_of_gradient(network, of_keys, stage_steps)? {
            let sum = of_scores((queries, sizes.queries), (to, of_key), how(keys), true);
            self.weighted_sum(work, sizes, &sum)?;
        }
        if let Some(of_weight) = self.param_gradient(work.stage, 0, Role::Weight) {
            let rows = sizes.steps * self.batch;
            let parts = self.scratch("gradients of a score's weight", rows, sizes.embed_dim, 1)?;
            let sum = of_scores((queries, sizes.queries), (parts, of_key), SumKind::Tanh(keys), true);
            self.weighted_sum(work, sizes, &WeightedSum { add: false, ..sum })?;
            let parts = Operand::new(parts, sizes.embed_dim);
            self.column_sums(work.index, [rows, sizes.embed_dim], parts, None, &[(of_weight, 0)])?;
        }
        Ok(())
    }

    /// A kernel of one workgroup for each head of a query, whose invocations take products of `width` numbers.
    fn by_head(
        &mut self,
        work: &StageWork<'_>,
        sizes: AttentionSizes,
        (kernel, width): (Kernel, usize),
        constants: &Constants,
        bindings: &[Slice],
    ) -> Result<()> {
        let rows = sizes.rows(self.batch);
        let products = (width / sizes.attention.num_heads) as u64;
        let per_row = products.saturating_mul(sizes.steps as u64);
        let at_once = usize::try_from(MAX_SUBMISSION_WORK / per_row.max(1)).unwrap_or(usize::MAX).max(1);
        let number = |builder: &Self, number: usize| builder.number(number, "rows of attention");
        let (batch, steps) = (number(self, self.batch)?, number(self, sizes.steps)?);
        let of_invocation = (sizes.steps as u64).div_ceil(ROW_WORKGROUP.into());
        for first in (0..rows).step_by(at_once) {
            let end = first.saturating_add(at_once).min(rows);
            let [_, x, y] = grid(&self.limits, 1, (end - first) as u64, &work.stage.label)?;
            let (first_row, end_row) = (number(self, first)?, number(self, end)?);
            self.add(Dispatch {
                stage: work.index,
                sizes: vec![("rows", end_row), ("first", first_row), ("batch", batch), ("steps", steps)],
                constants: constants.clone().with("WORKGROUP", ROW_WORKGROUP),
                bindings: bindings.to_vec(),
                workgroups: [x, y, 1],
                iterations: of_invocation * (products + 2) + 2 * u64::from(ROW_WORKGROUP),
                work: per_row.saturating_mul((end - first) as u64),
                ..Dispatch::empty(kernel)
            })?;
        }
        Ok(())
    }

    fn weighted_sum(&mut self, work: &StageWork<'_>, sizes: AttentionSizes, sum: &WeightedSum) -> Result<()> {
        let (x, others) = sum.x;
        let (output, [steps, width]) = sum.output;
        let rows = steps * self.batch;
        let per_row = (others as u64).saturating_mul(width as u64);
        let at_once = usize::try_from(MAX_SUBMISSION_WORK / per_row.max(1)).unwrap_or(usize::MAX).max(1);
        let (own, weight) = match sum.how {
            SumKind::Rows => (x, x),
            SumKind::Derivative(own, weight) => (own, weight),
            SumKind::Tanh(own) => (own, own),
        };
        let constants = Constants::sizes([("FEATURES", width), ("HEADS", sizes.attention.num_heads)])?
            .with("HOW", sum.how.number())
            .with("SCALE", sum.scale)
            .with("TURNED", sum.turned)
            .with("ADD", sum.add)
            .with("BANKED", sum.banks.is_some())
            .with("WORKGROUP", ROW_WORKGROUP);
        for first in (0..rows).step_by(at_once) {
            let end = first.saturating_add(at_once).min(rows);
            let number = |number: usize| self.number(number, "rows of attention");
            let elements = (end - first) as u64 * width as u64;
            self.add(Dispatch {
                stage: work.index,
                sizes: vec![
                    ("rows", number(end)?),
                    ("first", number(first)?),
                    ("batch", number(self.batch)?),
                    ("others", number(others)?),
                    ("steps", number(sizes.steps)?),
                ],
                constants: constants.clone(),
                bindings: vec![sum.shares, x, own, weight, sum.banks.unwrap_or(x), output],
                workgroups: flat_grid(&self.limits, elements, &work.stage.label)?,
                iterations: others as u64,
                work: elements.saturating_mul(others as u64),
                ..Dispatch::empty(Kernel::AttentionSum)
            })?;
        }
        Ok(())
    }
}
