//! Generation on a GPU: timesteps of a pool's streams, a kernel after each that decides what comes next.

use std::sync::Arc;

use super::banks::{lists, write_rows};
use super::engine::GpuEngine;
use super::readback::{Pending, StagedPart, Target};
use super::slots::{Moves, Slots};
use super::workspace::{Prepared, Ready, bind, buffer};
use crate::base::error::Result;
use crate::data::banks::BankRows;
use crate::data::state::State;
use crate::plan::{Dispatch, candidates, choose, steps_at_once};

/// Dispatches with what they need.
type PreparedDispatches = (Vec<Dispatch>, Vec<Ready>);

/// One timestep of B rows, what is before and after it, and the tokens `[B]` it reads, which no other run
/// of the session touches.
struct Timestep {
    prepared: Arc<Prepared>,
    gather: PreparedDispatches,
    /// What the plan's dispatches need, where they read banks.
    body: Option<Vec<Ready>>,
    scatter: PreparedDispatches,
    choice: PreparedDispatches,
    tokens: wgpu::Buffer,
}

/// Rows whose next tokens are chosen on the GPU.
pub(crate) struct Chooser {
    step: Timestep,
    progress: wgpu::Buffer,
    output: wgpu::Buffer,
}

/// Rows whose most probable next tokens are listed on the GPU.
pub(crate) struct Lister {
    step: Timestep,
    from: wgpu::Buffer,
    to: wgpu::Buffer,
    banks: Vec<wgpu::Buffer>,
    output: wgpu::Buffer,
}

/// A step of a beam search; all lists have B numbers.
pub(crate) struct ListerInput<'a> {
    /// Slots of the states before.
    pub from: &'a [u32],
    /// Slots of the states after.
    pub to: &'a [u32],
    /// What is read.
    pub tokens: &'a [u32],
    /// What is attended to, if anything is.
    pub banks: Option<&'a BankRows>,
}

/// What a [`Chooser`] starts from; all lists have B numbers.
pub(crate) struct ChooserInput<'a> {
    /// Slots of the states.
    pub slots: &'a [u32],
    /// What the first step reads.
    pub tokens: &'a [u32],
    /// As `shaders/choose.wgsl` has it, `[B, 4]`.
    pub progress: &'a [u32],
    /// What is attended to, if anything is.
    pub banks: Option<&'a BankRows>,
}

impl GpuEngine {
    /// Everything that choosing up to `most` tokens for these rows needs; `settings` as `shaders/choose.wgsl` has them,
    /// `ends` of them tokens that end a row.
    pub fn chooser(
        &self,
        slots: &Slots,
        rows: &ChooserInput<'_>,
        settings: &[u32],
        ends: usize,
        most: usize,
    ) -> Result<Chooser> {
        let sample = settings.first().is_some_and(|&scale| scale != 0);
        let make = || {
            let prepared = self.prepared_alone(1, rows.slots.len(), true, rows.banks)?;
            let banks = self.bank_lists(rows.slots.len(), rows.banks);
            let dispatch = choose(&prepared.plan, sample, ends, most, &self.context.limits())?;
            let list = self.filled("slots [B]", rows.slots);
            let progress = self.filled("progress [B, 4]", rows.progress);
            let output = self.empty("tokens [B, N]", rows.slots.len() * most);
            let own = [list.clone(), self.filled("settings", settings), progress.clone(), output.clone()];
            let moves = slots.moves_by(&self.context, &prepared, [&list, &list], Some(&banks))?;
            let choice = self.after_step(&prepared, dispatch, &own);
            let tokens = self.filled("next tokens [B]", rows.tokens);
            let Moves { gather, body, scatter } = moves;
            let step = Timestep { prepared, gather, body, scatter, choice, tokens };
            Ok(Chooser { step, progress, output })
        };
        self.context.check()?;
        self.context.scoped_now("preparing a generation", make)
    }

    /// Goes on by `steps` timesteps and gives the progress `[B, 4]`.
    pub fn choose(&self, chooser: &Chooser, steps: usize) -> Result<Vec<u32>> {
        self.advance(&chooser.step, steps, &chooser.progress)
    }

    /// The tokens chosen so far, `[B, most]`.
    pub fn chosen(&self, chooser: &Chooser) -> Result<Vec<u32>> {
        self.advance(&chooser.step, 0, &chooser.output)
    }

    /// Everything that listing the `count` most probable tokens of `rows` rows needs; `longest` are the banks that they attend
    /// to, or as long ones.
    pub fn lister(&self, slots: &Slots, rows: usize, count: usize, longest: Option<&BankRows>) -> Result<Lister> {
        let make = || {
            let prepared = self.prepared_alone(1, rows, true, longest)?;
            let banks = self.bank_lists(rows, longest);
            let dispatch = candidates(&prepared.plan, count, &self.context.limits())?;
            let output = self.empty("candidates [B, 2 + 2M]", rows * (2 + 2 * count));
            let [from, to] = ["slots before [B]", "slots after [B]"].map(|label| self.empty(label, rows));
            let Moves { gather, body, scatter } =
                slots.moves_by(&self.context, &prepared, [&from, &to], Some(&banks))?;
            let choice = self.after_step(&prepared, dispatch, std::slice::from_ref(&output));
            let step =
                Timestep { prepared, gather, body, scatter, choice, tokens: self.empty("next tokens [B]", rows) };
            Ok(Lister { step, from, to, banks, output })
        };
        self.context.check()?;
        self.context.scoped_now("preparing a beam search", make)
    }

    /// One timestep: row r goes on from slot `from[r]` with `tokens[r]`, and its state into `to[r]`. Gives the candidates as
    /// `shaders/candidates.wgsl` has them.
    pub fn list(&self, lister: &Lister, rows: &ListerInput<'_>) -> Result<Vec<u32>> {
        self.context.check()?;
        if let Some(banks) = rows.banks {
            write_rows(&self.context, &lister.banks, banks);
        }
        let words = [(&lister.from, rows.from), (&lister.to, rows.to), (&lister.step.tokens, rows.tokens)];
        for (buffer, words) in words {
            self.context.queue.write_buffer(buffer, 0, bytemuck::cast_slice(words));
            self.meter.sent(size_of_val(words) as u64);
        }
        self.advance(&lister.step, 1, &lister.output)
    }

    fn advance(&self, step: &Timestep, steps: usize, wanted: &wgpu::Buffer) -> Result<Vec<u32>> {
        self.context.check()?;
        let submit = || {
            let Timestep { prepared, gather, body, scatter, choice, tokens } = step;
            let body = body.as_ref().unwrap_or(&prepared.dispatches);
            let plan = &prepared.plan;
            let around = gather.0.len() + scatter.0.len() + choice.0.len();
            let most = steps_at_once(plan, around);
            let input = &prepared.buffers[plan.inputs[0].numbers];
            let mut encoder = self.encoder();
            let mut left = steps;
            while left > 0 {
                let now = left.min(most);
                encoder.copy_buffer_to_buffer(tokens, 0, input, 0, tokens.size());
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                for _ in 0..now {
                    self.meter.run(plan.steps, plan.batch, plan.dispatch_count() + around as u64);
                    self.context.record(&mut pass, &gather.0, &gather.1);
                    self.context.record(&mut pass, &plan.dispatches, body);
                    self.context.record(&mut pass, &scatter.0, &scatter.1);
                    self.context.record(&mut pass, &choice.0, &choice.1);
                }
                drop(pass);
                encoder.copy_buffer_to_buffer(input, 0, tokens, 0, tokens.size());
                left -= now;
                if left > 0 {
                    self.context.queue.submit([std::mem::replace(&mut encoder, self.encoder()).finish()]);
                }
            }
            let bytes = wanted.size();
            let staging = self.staging(bytes);
            encoder.copy_buffer_to_buffer(wanted, 0, &staging, 0, bytes);
            let submission = self.context.queue.submit([encoder.finish()]);
            self.meter.fetched(bytes);
            let parts = vec![StagedPart { target: Target::Stage, offset: 0, bytes }];
            let (state, encoding) = (State::default(), std::time::Duration::ZERO);
            Ok(Pending { engine: self, staging, parts, submission, state, encoding })
        };
        let pending = self.context.scoped_now("generating", submit)?;
        let words = pending.wait()?.stages.into_iter().next().unwrap_or_default();
        // They were words all along; the readback takes everything for numbers.
        Ok(bytemuck::cast_vec(words))
    }

    /// Lists of where the banks of `rows` rows lie, filled with the given ones.
    fn bank_lists(&self, rows: usize, banks: Option<&BankRows>) -> Vec<wgpu::Buffer> {
        let Some(banks) = banks else { return Vec::new() };
        let lists = lists(&self.context, banks.0.len(), rows);
        write_rows(&self.context, &lists, banks);
        lists
    }

    fn after_step(&self, prepared: &Prepared, dispatch: Dispatch, own: &[wgpu::Buffer]) -> PreparedDispatches {
        let buffers: Vec<wgpu::Buffer> = prepared.buffers.iter().chain(own).cloned().collect();
        let dispatches = vec![dispatch];
        let ready = bind(&self.context, &dispatches, &buffers);
        (dispatches, ready)
    }

    fn filled(&self, label: &str, words: &[u32]) -> wgpu::Buffer {
        let buffer = self.empty(label, words.len());
        self.context.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
        self.meter.sent(size_of_val(words) as u64);
        buffer
    }

    /// Of words, all 0.
    fn empty(&self, label: &str, words: usize) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        buffer(&self.context, label, words as u64 * 4, usage)
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }
}
