//! A network that is trained: one step on a batch, the loss of a batch, the gradients of one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::data::Batch;
use super::dropout::{Dropout, DropoutMasks};
use super::fit::FitProgress;
use super::options::TrainOptions;
use crate::base::error::{Error, Result};
use crate::cpu::{Cpu, TrainLevels, TrainMemory};
use crate::data::input::Checked;
use crate::host::{Forward, Hooks, Reference};
use crate::network::{LayerSpec, Network, Role, StageKind, Tensor, WeightFormat};
use crate::reference::{Counts, Loss, LossOptions, LossResult, OptimizerState, Part, Targets, loss};

/// What one step or one evaluation found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Measured {
    /// The loss.
    pub loss: f64,
    /// Right answers, and all that count.
    pub counts: Counts,
    /// Euclidean norm of all gradients before they were clipped; 0 where none were taken.
    pub gradient_norm: f64,
    /// Whether the step was left out, since its loss or its gradients were not finite.
    pub skipped: bool,
}

/// Trains a network on the CPU.
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
    dropouts: Vec<(usize, Dropout)>,
    cpu: Cpu,
    memory: TrainMemory,
    /// Steps so far.
    step: u64,
    /// Where the fit of a checkpoint goes on.
    pub(super) resumed: Option<Box<FitProgress>>,
}

impl Trainer {
    /// Trains a copy of `network`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for weights that are not f32 and options that do not fit the network.
    pub fn new(network: &Network, options: TrainOptions) -> Result<Self> {
        options.check()?;
        let unsupported = |place: String, what: String| Err(Error::Unsupported { place, what });
        if let Some((name, tensor)) = network.tensors().iter().find(|(_, t)| t.format() != WeightFormat::F32) {
            let what = format!("training weights stored as {} (supported: f32)", tensor.format());
            return unsupported(format!("tensor `{name}`"), what);
        }
        let layers = &network.spec().layers;
        for name in &options.frozen {
            if name.is_empty() || !layers.iter().any(|layer| layer.name() == name) {
                let names: Vec<&str> = layers.iter().map(LayerSpec::name).filter(|name| !name.is_empty()).collect();
                return Err(Error::network(name, "frozen", format!("a layer ({})", names.join(", ")), name));
            }
        }
        let is_frozen = |layer: &LayerSpec| options.frozen.iter().any(|name| name == layer.name());
        let trained_norm = |layer: &&LayerSpec| matches!(layer, LayerSpec::BatchNorm(_)) && !is_frozen(layer);
        if let Some(norm) = layers.iter().find(trained_norm) {
            let what =
                "training a batch normalization with the statistics of a batch (supported: frozen, with its own)";
            return unsupported(format!("layer `{}`", norm.name()), what.into());
        }
        let dropouts = options.dropout.iter().map(|dropout| Ok((dropout.stage(network)?, dropout.clone())));
        let dropouts = dropouts.collect::<Result<Vec<_>>>()?;
        let (mut places, mut parts, mut parameters) = (Vec::new(), Vec::new(), Vec::new());
        for layer in layers {
            let frozen = is_frozen(layer);
            let one_bias = options.one_bias && matches!(layer, LayerSpec::Lstm(_) | LayerSpec::Rnn(_));
            for param in layer.params() {
                if param.role.is_statistic() {
                    continue;
                }
                let start = parameters.len();
                parameters.extend_from_slice(network.weight(&param.name));
                let range = start..parameters.len();
                let second_bias = one_bias && param.role == Role::BiasHh;
                parts.push(Part { frozen: frozen || second_bias, ..Part::new(range.clone()) });
                places.push((param.name, range));
            }
        }
        let gradients = vec![0.0; parameters.len()];
        let state = options.optimizer.state(parameters.len());
        let network = Arc::new(network.clone());
        Ok(Self {
            network,
            options,
            places,
            parts,
            parameters,
            gradients,
            state,
            dropouts,
            cpu: Cpu::best(),
            memory: TrainMemory::default(),
            step: 0,
            resumed: None,
        })
    }

    /// Where each tensor lies in the numbers of the optimizer's state, and that state.
    pub(super) fn optimizer_state(&self) -> (&[(String, Range<usize>)], &OptimizerState<f32>) {
        (&self.places, &self.state)
    }

    /// Goes on behind `step` steps with a state of the same places.
    pub(super) fn set_optimizer_state(&mut self, step: u64, state: OptimizerState<f32>) {
        (self.step, self.state) = (step, state);
    }

    /// The network as it is now.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Steps so far.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Takes over the weights of a network of the same layers.
    pub(super) fn take_weights(&mut self, network: &Network) {
        for (name, range) in &self.places {
            self.parameters[range.clone()].copy_from_slice(network.weight(name));
        }
        self.network = Arc::new(network.clone());
    }

    /// Moves the weights against the gradients of the loss of `batch`.
    ///
    /// # Errors
    /// What [`Session::run`](crate::Session::run) refuses of an input; targets that do not fit the output; a label that
    /// no class has.
    pub fn step(&mut self, batch: &Batch<'_>) -> Result<Measured> {
        let masks = DropoutMasks::new(&self.dropouts, self.options.seed, self.step);
        let (measured, gradients) = self.gradients_with(batch, &masks)?;
        for (name, range) in &self.places {
            match gradients.get(name) {
                Some(numbers) => self.gradients[range.clone()].copy_from_slice(numbers),
                None => self.gradients[range.clone()].fill(0.0),
            }
        }
        let optimizer = &self.options.optimizer;
        let rate = self.options.schedule.learning_rate(optimizer.rule.learning_rate(), self.step);
        let report = optimizer.step(rate, &self.parts, &mut self.parameters, &self.gradients, &mut self.state);
        self.step += 1;
        let network = Arc::make_mut(&mut self.network);
        for (name, range) in &self.places {
            network.set_weight(name, &self.parameters[range.clone()]);
        }
        Ok(Measured { gradient_norm: report.norm.into(), skipped: report.skipped, ..measured })
    }

    /// The loss of `batch` and its right answers, without dropout; nothing is changed.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn evaluate(&self, batch: &Batch<'_>) -> Result<Measured> {
        let levels = TrainLevels::new(self.cpu, &self.network, &self.memory);
        let reference = Reference::beside(&self.network, &levels);
        let checked = Checked::new(&self.network, batch.input, None)?;
        let forward = reference.forward_with(&checked, None, Hooks { levels: Some(&levels), ..Hooks::default() })?;
        let (_, result) = self.loss(&checked, &forward, batch)?;
        Ok(Measured { loss: result.value.into(), counts: result.counts, ..Measured::default() })
    }

    /// The gradients of the loss of `batch` by every tensor, without dropout; nothing is changed.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn gradients(&self, batch: &Batch<'_>) -> Result<BTreeMap<String, Tensor>> {
        let (_, gradients) = self.gradients_with(batch, &DropoutMasks::none())?;
        let tensor = |(name, numbers): (String, Vec<f32>)| {
            let shape = self.network.tensors().get(&name).map(|tensor| tensor.shape().to_vec()).unwrap_or_default();
            Ok((name, Tensor::new(shape, numbers)?))
        };
        gradients.into_iter().map(tensor).collect()
    }

    fn gradients_with(
        &self,
        batch: &Batch<'_>,
        masks: &DropoutMasks<'_>,
    ) -> Result<(Measured, BTreeMap<String, Vec<f32>>)> {
        let levels = TrainLevels::new(self.cpu, &self.network, &self.memory);
        let reference = Reference::beside(&self.network, &levels);
        let checked = Checked::new(&self.network, batch.input, None)?;
        let widths: Vec<usize> = self.network.stages().iter().map(|stage| stage.out_features).collect();
        let change = |stage: usize, numbers: &mut [f32]| masks.apply(stage, widths[stage], checked.batch, numbers);
        let hooks = Hooks { change: &change, levels: Some(&levels) };
        let forward = reference.forward_with(&checked, None, hooks)?;
        let (from, result) = self.loss(&checked, &forward, batch)?;
        let measured = Measured { loss: result.value.into(), counts: result.counts, ..Measured::default() };
        let d_output = (from, &result.d_output[..]);
        // The masks of the stage that the loss reads were applied to its output already.
        let gradients = reference.gradients_with(&checked, None, &forward, d_output, hooks)?;
        Ok((measured, gradients.params))
    }

    /// The loss of a run, and the stage that it reads: where the loss wants logits, the one before a softmax.
    fn loss(
        &self,
        checked: &Checked<'_>,
        forward: &Forward<f32>,
        batch: &Batch<'_>,
    ) -> Result<(usize, LossResult<f32>)> {
        let stages = self.network.stages();
        let last = stages.len() - 1;
        let from_logits = self.options.loss == Loss::CrossEntropy;
        let from = if from_logits && last > 0 && stages[last].kind == StageKind::Softmax { last - 1 } else { last };
        let width = stages[from].out_features;
        let (classes, values, weights);
        let by_time = self.network.batch_first() && stages[last].sequence_out;
        let (targets, sample_weights) = if by_time {
            let order = Order { batch: checked.batch, steps: forward.stages[from].len() / width / checked.batch };
            let targets = match batch.targets {
                Targets::Classes(given) => {
                    classes = order.time_major(given, 1);
                    Targets::Classes(&classes[..])
                }
                Targets::Values(given) => {
                    values = order.time_major(given, width);
                    Targets::Values(&values[..])
                }
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
        Ok((from, loss(self.options.loss, &forward.stages[from], width, targets, &options)?))
    }
}

/// `[B, T, ..]` as `[T, B, ..]`.
struct Order {
    batch: usize,
    steps: usize,
}

impl Order {
    fn time_major<T: Copy>(&self, given: &[T], width: usize) -> Vec<T> {
        if given.len() != self.batch * self.steps * width {
            // Of another size: the loss names it.
            return given.to_vec();
        }
        let places = (0..self.steps).flat_map(|step| (0..self.batch).map(move |row| row * self.steps + step));
        places.flat_map(|at| &given[at * width..][..width]).copied().collect()
    }
}
