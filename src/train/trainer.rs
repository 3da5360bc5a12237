//! A network that is trained: one step on a batch, the loss of a batch, the gradients of one.

mod enqueued;
mod metrics;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::batch_norm::trained_norms;
use super::ctc::{check_ctc, ctc_loss};
use super::data::Batch;
use super::dropout::{DropoutMasks, Drops};
use super::fit::FitProgress;
use super::flat::FlatGradients;
use super::max_norm::{BoundedRows, bound_rows, bounded_rows};
use super::measured::Measured;
use super::options::TrainOptions;
use super::order::Order;
use super::recurrent_dropout::MaskedLevels;
use super::update::{UpdateMemory, copy_weights, update};
use super::weight_drop::{drop_gradients, dropped};
use crate::base::error::{Error, Result};
use crate::base::span::span;
use crate::cpu::{Cpu, ObjectPool, TrainMemory, TrainStages};
use crate::data::input::Checked;
use crate::data::state::State;
use crate::device::{Device, DeviceHandle};
use crate::gpu::GpuTrainer;
use crate::host::{BackwardMemory, BatchNorms, Forward, Hooks, Memory, ReferenceRun, StageRunner};
use crate::network::{Cell, LayerSpec, Network, Role, Tensor, WeightFormat};
use crate::plan::train::TrainGoal;
use crate::reference::{BatchMoments, Loss, LossOptions, OptimizerState, Part, StageWeights, Targets, loss_into};
use crate::session::Session;
use crate::streams::{StreamId, StreamPool};
use enqueued::Found;

/// Memory of a step on the CPU, kept for the next.
#[derive(Debug, Default)]
struct StepMemory {
    forward: Memory<f32>,
    backward: BackwardMemory<f32>,
    stages: TrainMemory,
    /// Of the stages that the reference runs.
    weights: Vec<StageWeights<f32>>,
    /// Gradient of the output.
    d_output: Vec<f32>,
    update: UpdateMemory,
}

/// Takes over the weights of the stages of `network` that `runner` does not run.
fn set_weights(weights: &mut Vec<StageWeights<f32>>, network: &Network, runner: &dyn StageRunner<f32>) {
    weights.clear();
    let of_stage = |(index, stage)| match runner.runs(stage) && !network.is_stepwise(index) {
        true => StageWeights::None,
        false => StageWeights::new(network, stage),
    };
    weights.extend(network.stages().iter().enumerate().map(of_stage));
}

/// Trains a network.
#[derive(Debug)]
pub struct Trainer {
    network: Arc<Network>,
    options: TrainOptions,
    /// Where each tensor lies in the flat parameters.
    places: Vec<(String, Range<usize>)>,
    parts: Vec<Part>,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    state: OptimizerState<f32>,
    bounded: Vec<BoundedRows>,
    /// The average of the parameters; empty before the first step and without [`TrainOptions::average`].
    average: Vec<f32>,
    drops: Drops,
    /// Stages that normalize by the statistics of a batch.
    norms: Vec<usize>,
    cpu: Cpu,
    device: Device,
    /// Where the device is a GPU, everything that changes lies there.
    gpu: Option<GpuTrainer>,
    memory: ObjectPool<StepMemory>,
    /// Steps whose results were not asked for, each with its number of sequences.
    enqueued: Vec<(Found, usize)>,
    /// Steps so far.
    step: u64,
    /// Where the fit of a checkpoint goes on.
    pub(super) resumed: Option<Box<FitProgress>>,
    /// The state that a checkpoint held.
    pub(super) carried: Option<State>,
}

/// An error for what a loop of a feedback draws at every step.
fn check_loop(network: &Network, drops: &Drops) -> Result<()> {
    let Some(steps_loop) = network.step_loop() else { return Ok(()) };
    for stage in &network.stages()[steps_loop.stages.clone()] {
        let Some(level) = stage.recurrent() else { continue };
        let what = match drops.recurrent.iter().any(|(layer, _)| *layer == level.layer) {
            true => "recurrent dropout",
            false if !level.zoneout.is_none() => "zoneout",
            false => continue,
        };
        let what = format!("training with {what} in a loop of a feedback");
        return Err(Error::Unsupported { place: format!("layer `{}`", stage.label), what });
    }
    Ok(())
}

/// Whether a layer's two biases always have the same gradient.
fn has_equal_biases(layer: &LayerSpec) -> bool {
    match layer {
        LayerSpec::Lstm(_) | LayerSpec::Rnn(_) => true,
        LayerSpec::Ntm(memory) => matches!(memory.cell, Cell::Lstm | Cell::Rnn),
        _ => false,
    }
}

impl Trainer {
    /// Trains a copy of `network` on `device`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for weights that are not f32, options that do not fit the network, and recurrent dropout on a
    /// GPU; the driver's own.
    pub fn new(device: &Device, network: &Network, options: TrainOptions) -> Result<Self> {
        let mut trainer = Self { device: device.clone(), ..Self::on_cpu(network, options)? };
        match device.handle() {
            DeviceHandle::Cpu(_) if trainer.options.memory.is_some() => {
                let what = "a memory budget of training on the CPU (supported on a GPU)";
                return Err(Error::Unsupported { place: "options".into(), what: what.into() });
            }
            DeviceHandle::Cpu(cpu) => trainer.cpu = *cpu,
            DeviceHandle::Gpu(context) => {
                let task = trainer.task();
                let (options, weights) = (trainer.options.plan_options(), &trainer.options.class_weights);
                trainer.gpu = Some(GpuTrainer::new(context, network, options, task, weights)?);
            }
        }
        Ok(trainer)
    }

    /// A trainer without a GPU.
    pub(super) fn on_cpu(network: &Network, options: TrainOptions) -> Result<Self> {
        options.check()?;
        check_ctc(network, &options)?;
        let unsupported = |place: String, what: String| Err(Error::Unsupported { place, what });
        if let Some((name, tensor)) = network.tensors().iter().find(|(_, t)| t.format() != WeightFormat::F32) {
            let what = format!("training weights stored as {} (supported: f32)", tensor.format());
            return unsupported(format!("tensor `{name}`"), what);
        }
        let layers = &network.spec().layers;
        for name in &options.frozen {
            let of_layer = layers.iter().any(|layer| layer.name() == name);
            if name.is_empty() || !of_layer && !network.tensors().contains_key(name) {
                let names: Vec<&str> = layers.iter().map(LayerSpec::name).filter(|name| !name.is_empty()).collect();
                return Err(Error::network(
                    name,
                    "frozen",
                    format!("a layer ({}) or a tensor", names.join(", ")),
                    name,
                ));
            }
        }
        let is_frozen = |layer: &LayerSpec| options.frozen.iter().any(|name| name == layer.name());
        let norms = trained_norms(network, is_frozen);
        let drops = Drops::new(network, &options)?;
        check_loop(network, &drops)?;
        let (mut places, mut parts, mut parameters) = (Vec::new(), Vec::new(), Vec::new());
        for layer in layers {
            let frozen = is_frozen(layer);
            let one_bias = options.one_bias && has_equal_biases(layer);
            for param in layer.params() {
                if param.role.is_statistic() {
                    continue;
                }
                let start = parameters.len();
                parameters.extend_from_slice(network.weight(&param.name));
                let range = start..parameters.len();
                let second_bias = one_bias && param.role == Role::BiasHh;
                let is_named = options.frozen.contains(&param.name);
                parts.push(Part { frozen: frozen || second_bias || is_named, ..Part::new(range.clone()) });
                places.push((param.name, range));
            }
        }
        let gradients = vec![0.0; parameters.len()];
        let state = options.optimizer.state(parameters.len());
        let bounded = bounded_rows(network, &options, &places)?;
        let network = Arc::new(network.clone());
        Ok(Self {
            network,
            options,
            places,
            parts,
            parameters,
            gradients,
            state,
            bounded,
            average: Vec::new(),
            drops,
            norms,
            cpu: Cpu::best(),
            device: Device::cpu(),
            gpu: None,
            memory: ObjectPool::new(),
            enqueued: Vec::new(),
            step: 0,
            resumed: None,
            carried: None,
        })
    }

    /// Where each tensor lies among the parameters, and so in what the optimizer keeps.
    pub(super) fn places(&self) -> &[(String, Range<usize>)] {
        &self.places
    }

    /// Names of the tensors that stay.
    pub(super) fn frozen(&self) -> Vec<String> {
        let parts = self.parts.iter().zip(&self.places);
        parts.filter(|(part, _)| part.frozen).map(|(_, (name, _))| name.clone()).collect()
    }

    pub(super) fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Stages that normalize by the statistics of a batch.
    pub(super) fn norms(&self) -> &[usize] {
        &self.norms
    }

    /// Numbers of all parameters.
    pub(super) fn parameter_count(&self) -> usize {
        self.parameters.len()
    }

    /// What the optimizer keeps before the first step.
    pub(super) fn fresh_optimizer_state(&self) -> OptimizerState<f32> {
        self.options.optimizer.state(self.parameters.len())
    }

    /// What the optimizer keeps; from a GPU it is read.
    pub(super) fn optimizer_state(&self) -> Result<Cow<'_, OptimizerState<f32>>> {
        match &self.gpu {
            Some(gpu) => self.optimizer_state_of(gpu).map(Cow::Owned),
            None => Ok(Cow::Borrowed(&self.state)),
        }
    }

    /// Goes on behind `step` steps with a state of the same places.
    pub(super) fn set_optimizer_state(&mut self, step: u64, state: OptimizerState<f32>) -> Result<()> {
        if let Some(gpu) = &self.gpu {
            self.set_optimizer_state_of(gpu, &state)?;
        }
        (self.step, self.state) = (step, state);
        Ok(())
    }

    /// The average of the parameters, empty where there is none; from a GPU it is read.
    pub(super) fn average(&self) -> Result<Cow<'_, [f32]>> {
        match &self.gpu {
            Some(gpu) => self.average_of(gpu).map(Cow::Owned),
            None => Ok(Cow::Borrowed(&self.average)),
        }
    }

    pub(super) fn set_average(&mut self, average: Vec<f32>) -> Result<()> {
        if let Some(gpu) = self.gpu.as_ref().filter(|_| !average.is_empty()) {
            self.set_average_of(gpu, &average)?;
        }
        self.average = average;
        Ok(())
    }

    /// Matrices whose rows are bounded, each with the width of a row and its largest norm.
    pub(super) fn bounds(&self) -> Vec<(String, usize, f32)> {
        let name = |range: &Range<usize>| self.places.iter().find(|(_, place)| place == range).map(|(name, _)| name);
        let bounds = self.bounded.iter();
        bounds.filter_map(|(range, width, max)| Some((name(range)?.clone(), *width, *max))).collect()
    }

    /// The network as it is now; from a GPU its weights are read.
    ///
    /// # Errors
    /// The driver's own.
    pub fn network(&self) -> Result<Arc<Network>> {
        match &self.gpu {
            Some(gpu) => self.network_of(gpu).map(Arc::new),
            None => Ok(self.network.clone()),
        }
    }

    /// A session that runs the network as it is now, to use it while it is trained.
    ///
    /// On a GPU the session reads the trainer's own buffers: nothing is copied, and its later runs see the weights of later
    /// steps. Where a run reads more than those buffers, statistics of a batch normalization that is trained or a stored
    /// initial state, and on the CPU, the session gets a copy of the weights of now.
    ///
    /// # Errors
    /// The driver's own.
    pub fn session(&self) -> Result<Session> {
        let stored = self.network.kept().iter().flat_map(|layer| &layer.parts).any(|part| part.stored.is_some());
        match &self.gpu {
            Some(gpu) if self.norms.is_empty() && !stored => {
                Session::sharing(&self.device, &self.network, gpu.shared_weights())
            }
            _ => Session::new(&self.device, &*self.network()?),
        }
    }

    /// The network's layers, with weights of any time.
    pub(super) fn structure(&self) -> &Network {
        &self.network
    }

    /// The network with the average of the weights over the steps, and with the statistics of now; `None` before the first
    /// step and without [`TrainOptions::average`].
    ///
    /// # Errors
    /// The driver's own.
    pub fn averaged(&self) -> Result<Option<Network>> {
        let average = self.average()?;
        if average.is_empty() {
            return Ok(None);
        }
        let mut network = Network::clone(&*self.network()?);
        for (name, range) in &self.places {
            network.set_weight(name, &average[range.clone()]);
        }
        Ok(Some(network))
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Where it trains.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Takes over the weights of a network of the same layers.
    pub(super) fn take_weights(&mut self, network: &Network) -> Result<()> {
        if let Some(gpu) = &self.gpu {
            gpu.set_weights(network)?;
        }
        for (name, range) in &self.places {
            self.parameters[range.clone()].copy_from_slice(network.weight(name));
        }
        self.network = Arc::new(network.clone());
        Ok(())
    }

    /// Moves the weights against the gradients of the loss of `batch`.
    ///
    /// # Errors
    /// What [`Session::run`](crate::Session::run) refuses of an input; targets that do not fit the output; a label that
    /// no class has.
    pub fn step(&mut self, batch: &Batch<'_>) -> Result<Measured> {
        span!("train_step", step = self.steps());
        self.step_with(batch, None)
    }

    /// As [`Trainer::step`], from a state in place of the network's initial one: truncated backpropagation through time. The
    /// gradients end at the state, which becomes that after the last step of the batch, for the next window of the same
    /// sequences. A step that is skipped or fails leaves it as it was.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Shape`] for a state that does not fit.
    pub fn step_from(&mut self, batch: &Batch<'_>, state: &mut State) -> Result<Measured> {
        self.step_with(batch, Some(state))
    }

    /// As [`Trainer::step_from`], each row of the batch from the state of a stream, which becomes that after the row. The
    /// network of the pool has recurrent layers of the same names and sizes; its weights are not read.
    ///
    /// # Errors
    /// As [`Trainer::step_from`]; [`Error::Stream`] for a stream that is not open or that comes twice.
    pub fn step_streams(&mut self, batch: &Batch<'_>, pool: &StreamPool, streams: &[StreamId]) -> Result<Measured> {
        let mut state = pool.states(streams)?;
        let measured = self.step_from(batch, &mut state)?;
        if !measured.skipped {
            pool.set_states(streams, &state)?;
        }
        Ok(measured)
    }

    fn step_with(&mut self, batch: &Batch<'_>, mut state: Option<&mut State>) -> Result<Measured> {
        state.as_ref().map_or(Ok(()), |_| self.network.trains_from_states())?;
        if let Some(gpu) = &self.gpu {
            let measured = self.run_on(gpu, batch, state, TrainGoal::Step)?;
            self.step += 1;
            self.count_skipped(&measured);
            return Ok(measured);
        }
        let masks = DropoutMasks::new(&self.drops, self.options.seed, self.step);
        let mut memory = self.memory.take();
        let mut gradients = std::mem::take(&mut self.gradients);
        let result = self.gradients_into((batch, state.as_deref()), &masks, &mut memory, &mut gradients);
        self.gradients = gradients;
        let (measured, moments) = result?;
        let optimizer = &self.options.optimizer;
        let rate = self.options.schedule.learning_rate(optimizer.rule.learning_rate(), self.step);
        let before = if self.options.average.is_some() { self.parameters.clone() } else { Vec::new() };
        let numbers = (&mut self.parameters[..], &self.gradients[..]);
        let report = update((self.cpu, &mut memory.update), (optimizer, rate), &self.parts, numbers, &mut self.state);
        if let (Some(state), false) = (&mut state, report.skipped) {
            state.copy_from(memory.forward.state());
        }
        self.memory.put(memory);
        if !report.skipped {
            bound_rows(&self.bounded, &mut self.parameters);
            if let Some(average) = self.options.average {
                average.update(&mut self.average, &before, &self.parameters);
            }
        }
        self.step += 1;
        let network = Arc::make_mut(&mut self.network);
        copy_weights(self.cpu, network, &self.places, &self.parameters);
        if !report.skipped {
            self.options.statistics.update(network, &moments);
        }
        Ok(Measured { gradient_norm: report.norm.into(), skipped: report.skipped, ..measured })
    }

    /// The loss of `batch` and its right answers, without dropout; nothing is changed.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn evaluate(&self, batch: &Batch<'_>) -> Result<Measured> {
        self.evaluate_with(batch, None)
    }

    /// As [`Trainer::evaluate`], from a state, which becomes that after the last step of the batch.
    ///
    /// # Errors
    /// As [`Trainer::step_from`].
    pub fn evaluate_from(&self, batch: &Batch<'_>, state: &mut State) -> Result<Measured> {
        self.evaluate_with(batch, Some(state))
    }

    fn evaluate_with(&self, batch: &Batch<'_>, state: Option<&mut State>) -> Result<Measured> {
        state.as_ref().map_or(Ok(()), |_| self.network.trains_from_states())?;
        if let Some(gpu) = &self.gpu {
            return self.run_on(gpu, batch, state, TrainGoal::Evaluate);
        }
        let mut memory = self.memory.take();
        let result = self.loss_of(batch, state.as_deref(), &mut memory);
        if let (Some(state), Ok(_)) = (state, &result) {
            state.copy_from(memory.forward.state());
        }
        self.memory.put(memory);
        result
    }

    /// The loss of `batch` without dropout.
    fn loss_of(&self, batch: &Batch<'_>, state: Option<&State>, memory: &mut StepMemory) -> Result<Measured> {
        let StepMemory { forward, stages, weights, d_output, .. } = memory;
        let network = &*self.network;
        let stages = TrainStages::new(self.cpu, network, stages);
        set_weights(weights, network, &stages);
        let run = ReferenceRun { network, weights, roundings: &[] };
        let checked = Checked::new(network, batch.input, state)?;
        run.forward(&checked, state, Hooks { stages: Some(&stages), ..Hooks::default() }, forward)?;
        let (_, measured) = self.loss(&checked, &forward.forward, batch, d_output)?;
        Ok(measured)
    }

    /// The gradients of the loss of `batch` by every tensor, without dropout; nothing is changed. A batch
    /// normalization that is not frozen normalizes by the statistics of the batch.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradients(&self, batch: &Batch<'_>) -> Result<BTreeMap<String, Tensor>> {
        if let Some(gpu) = &self.gpu {
            return self.gradients_of(gpu, batch);
        }
        let mut memory = self.memory.take();
        let mut gradients = vec![0.0; self.parameters.len()];
        let result = self.gradients_into((batch, None), &DropoutMasks::none(), &mut memory, &mut gradients);
        self.memory.put(memory);
        result?;
        let tensor = |(name, range): &(String, Range<usize>)| {
            let shape = self.network.tensors().get(name).map(|tensor| tensor.shape().to_vec()).unwrap_or_default();
            Ok((name.clone(), Tensor::new(shape, gradients[range.clone()].to_vec())?))
        };
        self.places.iter().map(tensor).collect()
    }

    /// The loss of a batch from a state with `masks`, its gradients, and the statistics of the batch by the position of each batch
    /// normalization that is trained.
    fn gradients_into(
        &self,
        (batch, state): (&Batch<'_>, Option<&State>),
        masks: &DropoutMasks<'_>,
        memory: &mut StepMemory,
        gradients: &mut [f32],
    ) -> Result<(Measured, BTreeMap<usize, BatchMoments<f32>>)> {
        let DropoutMasks { drops, seed } = *masks;
        let StepMemory { forward, backward, stages, weights, d_output, .. } = memory;
        let network = dropped(&self.network, &drops.weights, seed);
        let network = &*network;
        let stages = TrainStages::new(self.cpu, network, stages);
        let stages = MaskedLevels::new(Some(&stages), network, drops, seed);
        set_weights(weights, network, &stages);
        let run = ReferenceRun { network, weights, roundings: &[] };
        let checked = Checked::new(network, batch.input, state)?;
        let change = |stage: usize, numbers: &mut [f32]| {
            masks.apply(stage, network.stages()[stage].out_features, checked.batch, numbers);
        };
        let norms = BatchNorms::new(network, &self.norms);
        let hooks = Hooks { change: &change, stages: Some(&stages), norms: Some(&norms) };
        run.forward(&checked, state, hooks, forward)?;
        let forward = &forward.forward;
        let (from, measured) = self.loss(&checked, forward, batch, d_output)?;
        // The masks of the stage that the loss reads were applied to its output already.
        let mut gradients = FlatGradients { numbers: gradients, places: &self.places };
        run.gradients((&checked, state), forward, (from, d_output), hooks, backward, &mut gradients)?;
        drop_gradients(&mut gradients, &drops.weights, seed);
        Ok((measured, norms.into_moments()))
    }

    /// The stage that the loss reads, and its width: where the loss wants logits, the one before a softmax.
    pub(super) fn loss_stage(&self) -> (usize, usize) {
        let stages = self.network.stages();
        let last = stages.len() - 1;
        let from_logits = matches!(self.options.loss, Loss::CrossEntropy | Loss::Ctc { .. });
        let from = if from_logits && last > 0 && stages[last].is_softmax() { last - 1 } else { last };
        (from, stages[from].out_features)
    }

    /// Calls `run` with the targets of `batch` and the options of the loss, time-major; the output has so many `steps` and
    /// is `width` wide.
    pub(super) fn with_targets<T>(
        &self,
        checked: &Checked<'_>,
        steps: usize,
        width: usize,
        batch: &Batch<'_>,
        run: impl FnOnce(Targets<'_, f32>, &LossOptions<'_, f32>) -> Result<T>,
    ) -> Result<T> {
        let (classes, values, weights);
        let by_time = self.network.batch_first() && self.network.output_is_sequence();
        let (targets, sample_weights) = if by_time {
            let order = Order { batch: checked.batch, steps };
            let targets = match batch.targets {
                Targets::Classes(given) => {
                    classes = order.time_major(given, 1);
                    Targets::Classes(&classes[..])
                }
                Targets::Values(given) => {
                    values = order.time_major(given, width);
                    Targets::Values(&values[..])
                }
                Targets::Labels(labels) => Targets::Labels(labels),
            };
            weights = batch.weights.map(|weights| order.time_major(weights, 1));
            (targets, weights.as_deref())
        } else {
            (batch.targets, batch.weights)
        };
        let options = LossOptions {
            label_smoothing: self.options.label_smoothing,
            class_weights: Some(&self.options.class_weights[..]).filter(|weights| !weights.is_empty()),
            sample_weights,
            reduction: self.options.reduction,
        };
        run(targets, &options)
    }

    /// The stage that the loss reads, and the loss of a run; `d_output` becomes the gradient of that stage's output.
    fn loss(
        &self,
        checked: &Checked<'_>,
        forward: &Forward<f32>,
        batch: &Batch<'_>,
        d_output: &mut Vec<f32>,
    ) -> Result<(usize, Measured)> {
        let (from, width) = self.loss_stage();
        let output = &forward.stages[from];
        let steps = output.len() / width / checked.batch;
        if let Loss::Ctc { blank } = self.options.loss {
            let found = ctc_loss((output, [steps, checked.batch, width]), checked, blank, batch, d_output)?;
            return Ok((from, found));
        }
        let (value, counts) = self.with_targets(checked, steps, width, batch, |targets, options| {
            loss_into(self.options.loss, output, width, targets, options, d_output)
        })?;
        Ok((from, Measured { loss: value.into(), counts, ..Measured::default() }))
    }
}
