//! Training on a GPU: what a [`Trainer`] asks the device for.

use std::collections::BTreeMap;

use super::ctc::DeviceLabels;
use super::data::Batch;
use super::dropout::{Dropout, DropoutMasks, DropoutUnit, Drops};
use super::measured::{Measured, Measures};
use super::options::TrainOptions;
use super::recurrent_dropout::RecurrentDropout;
use super::trainer::Trainer;
use crate::base::error::Result;
use crate::data::input::Checked;
use crate::data::state::State;
use crate::gpu::{GpuTrainer, StepResult, TrainBatch};
use crate::network::{Network, Tensor};
use crate::plan::train::{DropoutSite, RecurrentSite, STEPS_AHEAD, TrainContents, TrainGoal, TrainMetrics, TrainTask};
use crate::plan::{Plan, PlanLimits, RunShape};
use crate::reference::{Convention, Counts, Loss, OptimizerState, Targets, row_factors};

/// The place of the result of a step that is waited for at once.
pub(super) const ALONE: usize = STEPS_AHEAD - 1;

/// What the device is asked to do for `options`; `bounds` are its matrices whose rows are bounded.
fn task(
    options: &TrainOptions,
    drops: &Drops,
    frozen: Vec<String>,
    norms: &[usize],
    bounds: Vec<(String, usize, f32)>,
) -> TrainTask {
    let site = |(stage, dropout): &(usize, Dropout)| {
        DropoutSite::new(*stage, dropout.rate, dropout.unit == DropoutUnit::Channel)
    };
    let mut task = TrainTask::new(options.loss, options.optimizer);
    task.label_smoothing = options.label_smoothing;
    task.class_weights = options.class_weights.len();
    task.dropouts = drops.outputs.iter().map(site).collect();
    let inside =
        |(layer, dropout): &(usize, RecurrentDropout)| RecurrentSite::new(*layer, dropout.input, dropout.state);
    task.recurrent_dropouts = drops.recurrent.iter().map(inside).collect();
    task.frozen = frozen;
    task.memory = options.memory;
    task.norms = norms.to_vec();
    #[expect(clippy::cast_possible_truncation, reason = "a setting")]
    let momentum = options.statistics.momentum as f32;
    (task.momentum, task.unbiased) = (momentum, options.statistics.unbiased);
    (task.weight_drops, task.bounds) = (drops.weights.clone(), bounds);
    task.average = options.average.map(|average| {
        #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
        let share = (1.0 - average.decay) as f32;
        (share, average.convention == Convention::Keras)
    });
    task
}

impl TrainOptions {
    /// What a step of training `network` would do on a GPU of these `limits`, with the memory that it would take. Nothing is
    /// allocated on a device.
    ///
    /// # Errors
    /// As [`Trainer::new`] on a GPU; [`Error::TooLarge`](crate::Error::TooLarge) for what exceeds the limits.
    pub fn plan(&self, network: &Network, shape: RunShape, limits: &PlanLimits) -> Result<Plan> {
        let mut task = Trainer::on_cpu(network, self.clone())?.task();
        // Labels have steps of their own.
        task.labels = if matches!(self.loss, Loss::Ctc { .. }) { shape.steps } else { 0 };
        let contents = TrainContents::new(network, limits, &task, &self.class_weights);
        Plan::training(network, shape, limits, &self.plan_options(), (&task, &contents.layout))
    }
}

impl StepResult {
    /// The same, of a step with so many answers that count.
    pub(super) fn measured(self, counted: u64) -> Measured {
        Measured {
            loss: self.loss.into(),
            counts: Counts { correct: self.correct.into(), counted },
            gradient_norm: self.norm.into(),
            skipped: self.skipped,
        }
    }
}

impl Trainer {
    /// What a device is asked to do.
    pub(super) fn task(&self) -> TrainTask {
        task(self.options(), self.drops(), self.frozen(), self.norms(), self.bounds())
    }

    /// A step, or as much of it as `goal` says, on the device; its result lies at `slot` and has so many answers that count.
    pub(super) fn submit(
        &self,
        gpu: &GpuTrainer,
        given: (&Batch<'_>, Option<&State>),
        goal: TrainGoal,
        slot: usize,
    ) -> Result<u64> {
        self.send(given, (slot, None), |batch| gpu.submit(batch, goal))
    }

    /// Records a step into `encoder`, as [`Trainer::submit`] submits one.
    #[cfg(feature = "gpu")]
    pub(super) fn record(
        &self,
        gpu: &GpuTrainer,
        batch: &Batch<'_>,
        slot: usize,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<u64> {
        self.send((batch, None), (slot, None), |batch| gpu.record(batch, encoder))
    }

    /// Calls `send` with what a device reads of a batch; `metrics` say what is measured beside the loss.
    fn send(
        &self,
        (batch, state): (&Batch<'_>, Option<&State>),
        (slot, metrics): (usize, Option<TrainMetrics>),
        send: impl FnOnce(&TrainBatch<'_>) -> Result<()>,
    ) -> Result<u64> {
        let network = self.structure();
        let checked = Checked::new(network, batch.input, state)?;
        let (from, width) = self.loss_stage();
        let mut stage_steps = Vec::new();
        network.stage_steps_into(|number| checked.steps_of(number), &mut stage_steps)?;
        let steps = stage_steps[from];
        let (factors, targets, counted, labels) = if let Loss::Ctc { blank } = self.options().loss {
            let labels = DeviceLabels::new(&checked, [steps, checked.batch, width], blank, batch)?;
            (Vec::new(), labels.words, checked.batch as u64, labels.room)
        } else {
            self.targets_of(&checked, steps, width, batch)?
        };
        let options = self.options();
        let rate = options.schedule.learning_rate(options.optimizer.rule.learning_rate(), self.steps());
        #[expect(clippy::cast_possible_truncation, reason = "rounded once, as the reference does")]
        let learning_rate = rate as f32;
        let seed = DropoutMasks::new(&Drops::default(), options.seed, self.steps()).seed;
        let batch = TrainBatch {
            input: &checked,
            state,
            targets: &targets,
            values: matches!(batch.targets, Targets::Values(_)),
            labels,
            metrics,
            factors: &factors,
            slot,
            learning_rate,
            seed,
        };
        send(&batch)?;
        Ok(counted)
    }

    /// The factors and the words of the targets of a batch, how many answers count, and no room for labels.
    fn targets_of(
        &self,
        checked: &Checked<'_>,
        steps: usize,
        width: usize,
        batch: &Batch<'_>,
    ) -> Result<(Vec<f32>, Vec<u32>, u64, usize)> {
        let numbers = steps * checked.batch * width;
        self.with_targets(checked, steps, width, batch, |targets, options| {
            let (factors, counted) = row_factors(self.options().loss, numbers, width, targets, options)?;
            let words: Vec<u32> = match targets {
                Targets::Classes(classes) => classes.to_vec(),
                Targets::Values(values) => values.iter().map(|x| x.to_bits()).collect(),
                // The factors were refused.
                Targets::Labels(_) => Vec::new(),
            };
            Ok((factors, words, counted, 0))
        })
    }

    /// The loss of `batch`, right answers among the K most probable classes, and pairs of classes, counted on the device.
    pub(super) fn measured_on(
        &self,
        gpu: &GpuTrainer,
        batch: &Batch<'_>,
        measures: Measures,
    ) -> Result<(Measured, u64, Vec<u32>)> {
        let top = u32::try_from(measures.top_k).unwrap_or(u32::MAX);
        let metrics = TrainMetrics::Classes { top, confusion: measures.confusion };
        let (measured, counts) = self.counted_on(gpu, batch, metrics)?;
        let mut counts = counts.into_iter();
        let right = counts.next().unwrap_or_default();
        Ok((measured, right.into(), counts.collect()))
    }

    /// The loss of `batch`, and the mean of its absolute errors, summed up on the device.
    pub(super) fn absolute_error_on(&self, gpu: &GpuTrainer, batch: &Batch<'_>) -> Result<(Measured, f64)> {
        let (measured, words) = self.counted_on(gpu, batch, TrainMetrics::AbsoluteError)?;
        let [sum, rows] = [0, 1].map(|at| words.get(at).copied().unwrap_or_default());
        #[expect(clippy::cast_precision_loss, reason = "an output has fewer than 2^53 numbers")]
        let numbers = (f64::from(rows) * self.loss_stage().1 as f64).max(1.0);
        Ok((measured, f64::from(f32::from_bits(sum)) / numbers))
    }

    /// The loss of `batch` and what `metrics` counted.
    fn counted_on(&self, gpu: &GpuTrainer, batch: &Batch<'_>, metrics: TrainMetrics) -> Result<(Measured, Vec<u32>)> {
        let _turn = gpu.turn();
        let counted =
            self.send((batch, None), (ALONE, Some(metrics)), |batch| gpu.submit(batch, TrainGoal::Evaluate))?;
        Ok((gpu.results(ALONE, 1)?[0].measured(counted), gpu.counts()?))
    }

    /// One step whose result is waited for. A state becomes the final one, unless the step is skipped.
    pub(super) fn run_on(
        &self,
        gpu: &GpuTrainer,
        batch: &Batch<'_>,
        state: Option<&mut State>,
        goal: TrainGoal,
    ) -> Result<Measured> {
        let _turn = gpu.turn();
        let counted = self.submit(gpu, (batch, state.as_deref()), goal, ALONE)?;
        let results = gpu.results(ALONE, 1)?;
        let measured = results[0].measured(counted);
        if let (Some(state), false) = (state, measured.skipped) {
            gpu.read_state(state)?;
        }
        Ok(measured)
    }

    /// The gradients of the loss of `batch`.
    pub(super) fn gradients_of(&self, gpu: &GpuTrainer, batch: &Batch<'_>) -> Result<BTreeMap<String, Tensor>> {
        let numbers = {
            let _turn = gpu.turn();
            self.submit(gpu, (batch, None), TrainGoal::Gradients, ALONE)?;
            gpu.gradients()?
        };
        let network = self.structure();
        let tensor = |(name, range): &(String, std::ops::Range<usize>)| {
            let shape = network.tensors().get(name).map(|tensor| tensor.shape().to_vec()).unwrap_or_default();
            Ok((name.clone(), Tensor::new(shape, numbers[range.clone()].to_vec())?))
        };
        gpu.layout().flat.places().iter().map(tensor).collect()
    }

    /// The network with the device's parameters.
    pub(super) fn network_of(&self, gpu: &GpuTrainer) -> Result<Network> {
        let parameters = gpu.parameters()?;
        let mut network = self.structure().clone();
        for (name, range) in gpu.layout().flat.places() {
            network.set_weight(name, &parameters[range.clone()]);
        }
        let statistics = &gpu.layout().statistics;
        if statistics.len > 0 {
            let numbers = gpu.statistics()?;
            for (name, range) in statistics.places() {
                network.set_weight(name, &numbers[range.clone()]);
            }
        }
        Ok(network)
    }

    /// The device's average of the parameters at the places of the CPU's; empty before the first step.
    pub(super) fn average_of(&self, gpu: &GpuTrainer) -> Result<Vec<f32>> {
        let Some(numbers) = gpu.average()? else { return Ok(Vec::new()) };
        let mut average = vec![0.0; self.parameter_count()];
        for (name, range) in self.places() {
            average[range.clone()].copy_from_slice(&numbers[gpu.layout().flat.get(name).unwrap_or_default()]);
        }
        Ok(average)
    }

    /// Replaces the device's average of the parameters.
    pub(super) fn set_average_of(&self, gpu: &GpuTrainer, average: &[f32]) -> Result<()> {
        let flat = &gpu.layout().flat;
        let mut numbers = vec![0.0; flat.len];
        for (name, range) in self.places() {
            numbers[flat.get(name).unwrap_or_default()].copy_from_slice(&average[range.clone()]);
        }
        gpu.set_average(&numbers)
    }

    /// What the device's optimizer keeps, at the places of the CPU's.
    pub(super) fn optimizer_state_of(&self, gpu: &GpuTrainer) -> Result<OptimizerState<f32>> {
        let (numbers, steps) = gpu.optimizer_state()?;
        let mut state = self.fresh_optimizer_state();
        state.steps = steps.into();
        (state.skipped, state.skipped_in_a_row) = self.skipped();
        let flat = &gpu.layout().flat;
        let kept = state.moments.iter_mut().filter(|moments| !moments.is_empty());
        for (moments, numbers) in kept.zip(numbers.chunks_exact(flat.len.max(1))) {
            for (name, range) in self.places() {
                moments[range.clone()].copy_from_slice(&numbers[flat.get(name).unwrap_or_default()]);
            }
        }
        Ok(state)
    }

    /// Replaces what the device's optimizer keeps.
    pub(super) fn set_optimizer_state_of(&self, gpu: &GpuTrainer, state: &OptimizerState<f32>) -> Result<()> {
        let flat = &gpu.layout().flat;
        let mut numbers = Vec::new();
        for moments in state.moments.iter().filter(|moments| !moments.is_empty()) {
            let first = numbers.len();
            numbers.resize(first + flat.len, 0.0);
            for (name, range) in self.places() {
                let place = flat.get(name).unwrap_or_default();
                numbers[first..][place].copy_from_slice(&moments[range.clone()]);
            }
        }
        gpu.set_optimizer_state(&numbers, u32::try_from(state.steps).unwrap_or(u32::MAX))
    }
}
