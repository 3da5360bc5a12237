//! Network and sizes to a plan.

use super::{
    BufferId, BufferSpec, Dispatch, Kernel, LINEAR_DEPTH, LINEAR_TILE, MAX_REPEAT, MAX_SUBMISSION_DISPATCHES,
    MAX_SUBMISSION_WORK, Plan, PlanLimits, PlanOptions, ROW_WORKGROUP, SOFTWARE_LOOP_LIMIT, StateBuffers, Strategy,
    weight_sizes,
};
use crate::error::{Error, Result};
use crate::network::{Activation, Network, Stage, StageKind};

const F32: u64 = 4;
/// Invocations that keep a GPU busy; below it, several share one unit's sum.
const BUSY: u64 = 16_384;
const MAX_SPLIT: u32 = 16;
/// Most invocations the step kernel puts in a workgroup, WebGPU's guaranteed limit.
const STEP_WORKGROUP: u32 = 256;

/// Plans a run of T `steps` over B `batch` rows.
///
/// # Errors
/// [`Error::TooLarge`] if a buffer or a dispatch exceeds `limits`, [`Error::Shape`] if T or B is 0,
/// [`Error::Unsupported`] for a forced split that the step kernel cannot do.
pub fn plan(network: &Network, steps: usize, batch: usize, limits: &PlanLimits, options: &PlanOptions) -> Result<Plan> {
    if steps == 0 || batch == 0 {
        return Err(Error::shape("plan", "T and B at least 1", format!("T = {steps}, B = {batch}")));
    }
    let mut builder = Builder {
        limits: *limits,
        options: *options,
        steps,
        batch,
        plan: Plan {
            steps,
            batch,
            strategy: Strategy::Step,
            reasons: vec!["strategy step: one dispatch per timestep, the rung that works for every size".into()],
            stages: network.stages().iter().map(|stage| stage.label.clone()).collect(),
            buffers: Vec::new(),
            weights: 0,
            input: 0,
            outputs: Vec::new(),
            states: Vec::new(),
            dispatches: Vec::new(),
        },
        next_weight: 0,
    };
    builder.build(network)?;
    Ok(builder.plan)
}

struct Builder {
    limits: PlanLimits,
    options: PlanOptions,
    steps: usize,
    batch: usize,
    plan: Plan,
    next_weight: BufferId,
}

/// A dispatch of rows, before its grid is laid out.
struct Rows<'a> {
    stage: &'a Stage,
    index: usize,
    rows: usize,
    input_row: usize,
    output_row: usize,
}

impl Builder {
    fn build(&mut self, network: &Network) -> Result<()> {
        for stage in network.stages() {
            for (label, elements) in weight_sizes(stage) {
                self.buffer(label, elements, 1, 1)?;
            }
        }
        self.plan.weights = self.plan.buffers.len();
        let letters = if network.num_embeddings().is_some() { "tokens [T, B]" } else { "input [T, B, I]" };
        self.plan.input = self.buffer(letters, self.steps, self.batch, network.input_size())?;
        let projected = self.projection(network)?;
        let mut flow = self.plan.input;
        for (index, stage) in network.stages().iter().enumerate() {
            let rows = if stage.sequence_out { self.steps } else { 1 };
            let letters = if stage.sequence_out { "[T, B, N]" } else { "[B, N]" };
            let output =
                self.buffer(format!("{} output {letters}", stage.label), rows, self.batch, stage.out_features)?;
            self.plan.outputs.push(output);
            let work = Rows { stage, index, rows: rows * self.batch, input_row: 0, output_row: 0 };
            match &stage.kind {
                StageKind::Embedding { num_embeddings, .. } => self.embedding(&work, *num_embeddings, flow, output)?,
                StageKind::Recurrent(_) => self.lstm(stage, index, flow, output, projected)?,
                _ => return Err(Error::Unsupported { place: stage.label.clone(), what: "not yet".into() }),
                StageKind::Dense { activation, .. } => {
                    let (w, bias) = (self.next_weight, self.next_weight + 1);
                    self.linear(&work, stage.out_features, *activation, [flow, w, bias, output])?;
                    self.next_weight += 2;
                }
                StageKind::Softmax => self.softmax(&work, flow, output)?,
            }
            flow = output;
        }
        self.cut_into_submissions();
        Ok(())
    }

    /// The buffer that the projected inputs of one chunk of time share, if there is an LSTM.
    fn projection(&mut self, network: &Network) -> Result<BufferId> {
        let widths = network.stages().iter().filter_map(|stage| match stage.kind {
            StageKind::Recurrent(ref r) => Some(4 * r.hidden_size),
            _ => None,
        });
        let chunks: Vec<_> = widths.map(|width| (self.chunk(width), width)).collect();
        match chunks.iter().max_by_key(|(chunk, width)| chunk * width) {
            Some(&(chunk, width)) => self.buffer("projected [T', B, H, 4]", chunk, self.batch, width),
            None => Ok(0),
        }
    }

    /// Timesteps whose projected inputs, `width` wide, fit the budget and a binding.
    fn chunk(&self, width: usize) -> usize {
        let per_step = (self.batch as u64).saturating_mul(width as u64).saturating_mul(F32);
        let budget = self.options.projection_budget.min(self.limits.max_binding).min(self.limits.max_buffer);
        let fitting = usize::try_from(budget / per_step).unwrap_or(usize::MAX);
        fitting.clamp(1, self.steps)
    }

    fn embedding(&mut self, work: &Rows<'_>, num_embeddings: usize, tokens: BufferId, output: BufferId) -> Result<()> {
        let width = work.stage.out_features;
        let table = self.next_weight;
        self.next_weight += 1;
        let groups = (work.rows as u64 * width as u64).div_ceil(ROW_WORKGROUP.into());
        let grid = self.grid(1, groups, &work.stage.label)?;
        self.push(work, Kernel::Embedding, vec![size(num_embeddings)?, size(width)?, ROW_WORKGROUP], |dispatch| {
            dispatch.bindings = vec![tokens, table, output];
            // A row-wise grid is flat in x and y.
            dispatch.workgroups = [grid[1], grid[2], 1];
        })
    }

    fn softmax(&mut self, work: &Rows<'_>, x: BufferId, output: BufferId) -> Result<()> {
        let width = work.stage.in_features;
        let grid = self.grid(1, work.rows as u64, &work.stage.label)?;
        self.push(work, Kernel::Softmax, vec![size(width)?, ROW_WORKGROUP], |dispatch| {
            dispatch.bindings = vec![x, output];
            dispatch.workgroups = [grid[1], grid[2], 1];
            dispatch.iterations = 3 * (width as u64).div_ceil(ROW_WORKGROUP.into()) + 2 * u64::from(ROW_WORKGROUP);
            dispatch.work = work.rows as u64 * width as u64;
        })
    }

    /// `bindings` are x, w, bias and output.
    fn linear(
        &mut self,
        work: &Rows<'_>,
        out_features: usize,
        activation: Activation,
        bindings: [BufferId; 4],
    ) -> Result<()> {
        let (inputs, outputs) = (work.stage.in_features as u64, out_features as u64);
        let tile = LINEAR_TILE as usize;
        let constants = vec![size(work.stage.in_features)?, size(out_features)?, activation_constant(activation)];
        // Whole tiles of rows, as many as one submission may take.
        let per_row = inputs.saturating_mul(outputs);
        let most = usize::try_from(MAX_SUBMISSION_WORK / per_row).unwrap_or(usize::MAX);
        let most = (most / tile).max(1) * tile;
        for first in (0..work.rows).step_by(most) {
            let rows = most.min(work.rows - first);
            let part = Rows { rows, input_row: work.input_row + first, output_row: work.output_row + first, ..*work };
            let groups = self.grid(outputs.div_ceil(tile as u64), rows.div_ceil(tile) as u64, &work.stage.label)?;
            self.push(&part, Kernel::Linear, constants.clone(), |dispatch| {
                dispatch.bindings = bindings.to_vec();
                dispatch.workgroups = groups;
                // Per slice 2 loads of 4 lanes and the depth, and 16 results at the end.
                dispatch.iterations =
                    inputs.div_ceil(LINEAR_DEPTH.into()) * (1 + 2 * (1 + 4) + u64::from(LINEAR_DEPTH)) + 16;
                dispatch.work = per_row.saturating_mul(rows as u64);
            })?;
        }
        Ok(())
    }

    /// One level of an LSTM in all its directions.
    fn lstm(
        &mut self,
        stage: &Stage,
        index: usize,
        input: BufferId,
        output: BufferId,
        projected: BufferId,
    ) -> Result<()> {
        let StageKind::Recurrent(crate::network::RecurrentStage { layer: lstm, level, hidden_size, directions, .. }) = &stage.kind else { return Ok(()) };
        let (hidden, width) = (*hidden_size, 4 * hidden_size);
        let chunk = self.chunk(width);
        let (units, split, why) = self.workgroup(hidden)?;
        self.reason(format!("{}: {why}", stage.label));
        if chunk < self.steps {
            let limit = self.options.projection_budget.min(self.limits.max_binding).min(self.limits.max_buffer);
            self.reason(format!(
                "{}: inputs are projected {chunk} of {} timesteps at a time, to stay within {}",
                stage.label,
                self.steps,
                super::print::bytes(limit)
            ));
        }
        for direction in 0..directions.len() {
            let row = level * directions.len() + direction;
            let end = if direction == 1 { " reverse" } else { "" };
            let mut state =
                |part: &str| self.buffer(format!("{}{end} {part} [B, H]", stage.label), 1, self.batch, hidden);
            let states = StateBuffers { lstm: *lstm, row, h: [state("h even")?, state("h odd")?], c: state("c")? };
            let [w, bias, recurrent] = [0, 1, 2].map(|weight| self.next_weight + weight);
            self.next_weight += 3;
            let constants =
                vec![size(hidden)?, size(directions.len() * hidden)?, size(direction * hidden)?, units, split];
            let workgroups = self.grid((hidden as u64).div_ceil(units.into()), self.batch as u64, &stage.label)?;
            let step_work = (self.batch as u64 * hidden as u64).saturating_mul(width as u64);
            let longest = usize::try_from(MAX_SUBMISSION_WORK / step_work).unwrap_or(usize::MAX).clamp(1, MAX_REPEAT);
            let bindings =
                |parity: usize| vec![projected, recurrent, states.h[parity], states.h[1 - parity], states.c, output];
            let mut done = 0;
            while done < self.steps {
                let count = chunk.min(self.steps - done);
                // The reverse direction takes the chunks of time from the end.
                let first = if direction == 1 { self.steps - done - count } else { done };
                let rows =
                    Rows { stage, index, rows: count * self.batch, input_row: first * self.batch, output_row: 0 };
                self.linear(&rows, width, Activation::Linear, [input, w, bias, projected])?;
                let mut stepped = 0;
                while stepped < count {
                    let repeat = (count - stepped).min(longest);
                    let local = if direction == 1 { count - 1 - stepped } else { stepped };
                    let advance = i32::try_from(self.batch).map_err(|_| self.too_many_rows(self.batch))?;
                    let advance = if direction == 1 { -advance } else { advance };
                    let step = Rows {
                        stage,
                        index,
                        rows: self.batch,
                        input_row: local * self.batch,
                        output_row: if stage.sequence_out { (first + local) * self.batch } else { 0 },
                    };
                    let parity = (done + stepped) % 2;
                    self.push(&step, Kernel::LstmStep, constants.clone(), |dispatch| {
                        dispatch.bindings = bindings(parity);
                        dispatch.alternate = Some(bindings(1 - parity));
                        dispatch.input_row.1 = advance;
                        dispatch.output_row.1 = if stage.sequence_out { advance } else { 0 };
                        dispatch.repeat = u32::try_from(repeat).unwrap_or(u32::MAX);
                        dispatch.workgroups = workgroups;
                        dispatch.iterations = (hidden as u64).div_ceil(split.into()) + u64::from(split);
                        dispatch.work = step_work;
                    })?;
                    stepped += repeat;
                }
                done += count;
            }
            self.plan.states.push(states);
        }
        Ok(())
    }

    /// Units per workgroup, invocations per unit, and why.
    fn workgroup(&self, hidden: usize) -> Result<(u32, u32, String)> {
        let invocations = (self.batch as u64).saturating_mul(hidden as u64);
        let widest = size(hidden.next_power_of_two().clamp(8, 64))?;
        let most = self.limits.max_invocations.min(STEP_WORKGROUP);
        let (split, why) = match self.options.split {
            Some(split) if split.is_power_of_two() && split <= MAX_SPLIT => (split, "forced by an option".to_owned()),
            Some(split) => {
                return Err(Error::Unsupported {
                    place: "plan".into(),
                    what: format!("split {split} (powers of two up to {MAX_SPLIT} are)"),
                });
            }
            None if self.limits.software => (1, "a software adapter gains nothing from sharing a sum".to_owned()),
            None if invocations >= BUSY => (1, format!("B*H = {invocations} invocations fill a GPU")),
            None => {
                let wanted = BUSY.div_ceil(invocations).next_power_of_two();
                let split = u32::try_from(wanted).unwrap_or(MAX_SPLIT).min(MAX_SPLIT);
                (split, format!("B*H = {invocations} invocations alone cannot fill a GPU"))
            }
        };
        let units = widest.min(most / split).max(1);
        Ok((units, split, format!("split {split}, {units} units per workgroup: {why}")))
    }

    fn reason(&mut self, reason: String) {
        if !self.plan.reasons.contains(&reason) {
            self.plan.reasons.push(reason);
        }
    }

    /// A buffer of `a * b * c` numbers.
    fn buffer(&mut self, label: impl Into<String>, a: usize, b: usize, c: usize) -> Result<BufferId> {
        let label = label.into();
        let bytes = (a as u64).saturating_mul(b as u64).saturating_mul(c as u64).saturating_mul(F32);
        let bounds = [
            (self.limits.max_binding, "the adapter's largest storage binding, bytes"),
            (self.limits.max_buffer, "the adapter's largest buffer, bytes"),
            // Kernels count rows and elements in 32 bits.
            (u64::from(u32::MAX) * F32, "32-bit indices, bytes"),
        ];
        for (limit, limit_name) in bounds {
            if bytes > limit {
                return Err(Error::TooLarge { what: label, needed: bytes, limit, limit_name: limit_name.into() });
            }
        }
        self.plan.buffers.push(BufferSpec { label, bytes });
        Ok(self.plan.buffers.len() - 1)
    }

    /// A grid of `x` workgroups by `y`, the second folded into y and z where one dimension is too short.
    fn grid(&self, x: u64, y: u64, what: &str) -> Result<[u32; 3]> {
        let most = u64::from(self.limits.max_workgroups);
        let folds = y.div_ceil(most);
        let longest = x.max(folds);
        if longest > most {
            return Err(Error::TooLarge {
                what: format!("{what}: workgroups"),
                needed: longest,
                limit: most,
                limit_name: "the adapter's workgroups per dimension".into(),
            });
        }
        Ok([narrow(x), narrow(y.div_ceil(folds)), narrow(folds)])
    }

    fn push(
        &mut self,
        work: &Rows<'_>,
        kernel: Kernel,
        constants: Vec<u32>,
        fill: impl FnOnce(&mut Dispatch),
    ) -> Result<()> {
        let row = |row: usize| u32::try_from(row).map_err(|_| self.too_many_rows(row));
        let mut dispatch = Dispatch {
            stage: work.index,
            kernel,
            constants,
            bindings: Vec::new(),
            alternate: None,
            rows: row(work.rows)?,
            input_row: (row(work.input_row)?, 0),
            output_row: (row(work.output_row)?, 0),
            repeat: 1,
            workgroups: [1; 3],
            iterations: 0,
            work: 0,
            submission: 0,
        };
        fill(&mut dispatch);
        if self.limits.software && dispatch.iterations > SOFTWARE_LOOP_LIMIT {
            return Err(Error::TooLarge {
                what: format!("{}: loop iterations of one invocation", work.stage.label),
                needed: dispatch.iterations,
                limit: SOFTWARE_LOOP_LIMIT,
                limit_name: "software adapters stop a shader there without a word".into(),
            });
        }
        self.plan.dispatches.push(dispatch);
        Ok(())
    }

    fn too_many_rows(&self, rows: usize) -> Error {
        Error::TooLarge {
            what: format!("rows T*B with T = {}, B = {}", self.steps, self.batch),
            needed: rows as u64,
            limit: u32::MAX.into(),
            limit_name: "32-bit indices".into(),
        }
    }

    /// Numbers the submissions, so that none runs long.
    fn cut_into_submissions(&mut self) {
        let (mut submission, mut dispatches, mut work) = (0, 0, 0u64);
        for dispatch in &mut self.plan.dispatches {
            let repeat = u64::from(dispatch.repeat);
            let more = dispatch.work.saturating_mul(repeat);
            let full =
                dispatches + repeat > MAX_SUBMISSION_DISPATCHES || work.saturating_add(more) > MAX_SUBMISSION_WORK;
            if full && dispatches > 0 {
                submission += 1;
                (dispatches, work) = (0, 0);
            }
            dispatch.submission = submission;
            dispatches += repeat;
            work = work.saturating_add(more);
        }
    }
}

/// Value of the shader constant `ACTIVATION`; the numbers stand in `shaders/common/activations.wgsl`.
fn activation_constant(activation: Activation) -> u32 {
    match activation {
        Activation::Linear => 0,
        Activation::Relu => 1,
        Activation::Tanh => 2,
        Activation::Sigmoid => 3,
        _ => 0,
    }
}

/// A size that [`Network::new`] has bounded, as a shader constant.
fn size(size: usize) -> Result<u32> {
    u32::try_from(size).map_err(|_| Error::TooLarge {
        what: "a layer's size".into(),
        needed: size as u64,
        limit: u32::MAX.into(),
        limit_name: "32-bit constants".into(),
    })
}

/// A number that a check has bounded by a `u32`.
fn narrow(x: u64) -> u32 {
    u32::try_from(x).unwrap_or(u32::MAX)
}
