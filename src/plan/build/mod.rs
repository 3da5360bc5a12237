//! Network and sizes to a plan.

mod layers;
mod recurrent;

use super::{
    BufferId, BufferSpec, Dispatch, Kernel, MAX_SUBMISSION_DISPATCHES, MAX_SUBMISSION_WORK, Plan, PlanLimits,
    PlanOptions, ROW_WORKGROUP, RunShape, SOFTWARE_LOOP_LIMIT, Strategy, weight_sizes,
};
use crate::error::{Error, Result};
use crate::network::{Network, Source, Stage, StageKind};

const F32: u64 = 4;

/// Plans a run of `shape`.
///
/// # Errors
/// [`Error::TooLarge`] if a buffer or a dispatch exceeds `limits`, [`Error::Shape`] if T or B is 0
/// or T is less than a layer needs, [`Error::Unsupported`] for a forced split that the step
/// kernel cannot do.
pub fn plan(network: &Network, shape: RunShape, limits: &PlanLimits, options: &PlanOptions) -> Result<Plan> {
    let RunShape { steps, batch, masked } = shape;
    if steps == 0 || batch == 0 {
        return Err(Error::shape("plan", "T and B at least 1", format!("T = {steps}, B = {batch}")));
    }
    let mut builder = Builder {
        limits: *limits,
        options: *options,
        batch,
        plan: Plan {
            steps,
            batch,
            masked: masked || network.masks().is_some(),
            strategy: Strategy::Step,
            reasons: vec!["strategy step: one dispatch per timestep, the rung that works for every size".into()],
            stages: network.stages().iter().map(|stage| stage.label.clone()).collect(),
            buffers: Vec::new(),
            weights: 0,
            input: 0,
            mask: None,
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
    batch: usize,
    plan: Plan,
    next_weight: BufferId,
}

/// A stage with its buffers.
struct Work<'a> {
    stage: &'a Stage,
    index: usize,
    inputs: Vec<BufferId>,
    output: BufferId,
    /// Timesteps of the input; 1 without a time dimension.
    steps_in: usize,
    /// Timesteps of the output; 1 without a time dimension.
    steps_out: usize,
    /// Bits `[T, B]`, where steps may be masked.
    mask: Option<BufferId>,
}

/// Rows of a dispatch.
#[derive(Clone, Copy)]
struct Rows {
    count: usize,
    input: usize,
    output: usize,
}

impl Rows {
    /// `count` rows from the first.
    fn all(count: usize) -> Self {
        Self { count, input: 0, output: 0 }
    }
}

impl Builder {
    fn build(&mut self, network: &Network) -> Result<()> {
        for stage in network.stages() {
            for (label, elements) in weight_sizes(stage) {
                self.buffer(label, elements, 1, 1)?;
            }
        }
        self.plan.weights = self.plan.buffers.len();
        let (steps, batch) = (self.plan.steps, self.batch);
        let letters = if network.num_embeddings().is_some() { "tokens [T, B]" } else { "input [T, B, I]" };
        self.plan.input = self.buffer(letters, steps, batch, network.input_size())?;
        if self.plan.masked {
            self.plan.mask = Some(self.buffer("mask [T, B]", steps, batch, 1)?);
        }
        let stage_steps = network.stage_steps(steps)?;
        let projected = self.projection(network, &stage_steps)?;
        for (index, stage) in network.stages().iter().enumerate() {
            let steps_of = |source: &Source| match *source {
                Source::Input => steps,
                Source::Stage(earlier) => stage_steps[earlier],
            };
            let letters = if stage.sequence_out { "[T, B, N]" } else { "[B, N]" };
            let label = format!("{} output {letters}", stage.label);
            let output = self.buffer(label, stage_steps[index], batch, stage.out_features)?;
            let inputs = stage.inputs.iter().map(|source| match *source {
                Source::Input => self.plan.input,
                Source::Stage(earlier) => self.plan.outputs[earlier],
            });
            let work = Work {
                stage,
                index,
                inputs: inputs.collect(),
                output,
                steps_in: steps_of(&stage.inputs[0]),
                steps_out: stage_steps[index],
                mask: self.plan.mask.filter(|_| stage.mask_reaches),
            };
            self.plan.outputs.push(output);
            match &stage.kind {
                StageKind::Recurrent(recurrent) => self.recurrent(&work, recurrent, projected)?,
                _ => self.layer(&work)?,
            }
        }
        self.cut_into_submissions();
        Ok(())
    }

    /// The buffer that the projected inputs of one chunk of time share, if anything is recurrent.
    fn projection(&mut self, network: &Network, stage_steps: &[usize]) -> Result<BufferId> {
        let chunks = network.stages().iter().zip(stage_steps).filter_map(|(stage, &steps)| {
            let rows = stage.recurrent()?.gate_rows();
            // A level that hands on one step has read as many as there are.
            let steps = if stage.sequence_out { steps } else { self.input_steps(network, stage, stage_steps) };
            Some((self.chunk(rows, steps), rows))
        });
        match chunks.max_by_key(|(chunk, rows)| chunk * rows) {
            Some((chunk, rows)) => self.buffer("projected [T', B, H, G]", chunk, self.batch, rows),
            None => Ok(0),
        }
    }

    fn input_steps(&self, network: &Network, stage: &Stage, stage_steps: &[usize]) -> usize {
        match stage.inputs[0] {
            Source::Input => self.plan.steps,
            Source::Stage(earlier) if network.stages()[earlier].sequence_out => stage_steps[earlier],
            Source::Stage(_) => 1,
        }
    }

    /// Of `steps`, the timesteps whose projected inputs, `width` wide, fit the budget and a binding.
    fn chunk(&self, width: usize, steps: usize) -> usize {
        let per_step = (self.batch as u64).saturating_mul(width as u64).saturating_mul(F32);
        let fitting = usize::try_from(self.budget() / per_step).unwrap_or(usize::MAX);
        fitting.clamp(1, steps)
    }

    fn budget(&self) -> u64 {
        self.options.projection_budget.min(self.limits.max_binding).min(self.limits.max_buffer)
    }

    /// The next weight buffer, in the order of [`pack`](super::pack).
    fn weight(&mut self) -> BufferId {
        self.next_weight += 1;
        self.next_weight - 1
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

    /// A grid of enough workgroups of [`ROW_WORKGROUP`] for `elements`, flat in x and y.
    fn flat_grid(&self, elements: u64, what: &str) -> Result<[u32; 3]> {
        let [_, x, y] = self.grid(1, elements.div_ceil(ROW_WORKGROUP.into()), what)?;
        Ok([x, y, 1])
    }

    fn push(
        &mut self,
        work: &Work<'_>,
        rows: Rows,
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
            rows: row(rows.count)?,
            input_row: (row(rows.input)?, 0),
            output_row: (row(rows.output)?, 0),
            mask_row: (0, 0),
            steps: row(work.steps_in)?,
            batch: row(self.batch)?,
            repeat: 1,
            interleaved: false,
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
            what: format!("rows T*B with T = {}, B = {}", self.plan.steps, self.batch),
            needed: rows as u64,
            limit: u32::MAX.into(),
            limit_name: "32-bit indices".into(),
        }
    }

    /// Numbers the submissions, so that none runs long. Interleaved dispatches stay together.
    fn cut_into_submissions(&mut self) {
        let (mut submission, mut dispatches, mut work) = (0, 0, 0u64);
        for group in self.plan.dispatches.chunk_by_mut(|dispatch, _| dispatch.interleaved) {
            let count: u64 = group.iter().map(|dispatch| u64::from(dispatch.repeat)).sum();
            let more = group
                .iter()
                .fold(0u64, |sum, dispatch| sum.saturating_add(dispatch.work.saturating_mul(dispatch.repeat.into())));
            let full =
                dispatches + count > MAX_SUBMISSION_DISPATCHES || work.saturating_add(more) > MAX_SUBMISSION_WORK;
            if full && dispatches > 0 {
                submission += 1;
                (dispatches, work) = (0, 0);
            }
            group.iter_mut().for_each(|dispatch| dispatch.submission = submission);
            dispatches += count;
            work = work.saturating_add(more);
        }
    }
}

/// A number that a check has bounded by a `u32`.
fn narrow(x: u64) -> u32 {
    u32::try_from(x).unwrap_or(u32::MAX)
}
