//! How a network is trained.

use serde::{Deserialize, Serialize};

use super::average::Average;
use super::batch_norm::RunningStatistics;
use super::dropout::Dropout;
use super::max_norm::MaxNorm;
use super::recurrent_dropout::RecurrentDropout;
use super::weight_drop::WeightDrop;
use crate::base::error::{Error, Result};
use crate::network::{FileDropout, Network};
use crate::plan::{PlanOptions, Strategy};
use crate::reference::{Adam, Loss, Optimizer, Reduction, Schedule};

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TrainOptions {
    /// What is made small.
    pub loss: Loss,
    /// ε of [`Loss::CrossEntropy`].
    pub label_smoothing: f32,
    /// How much each class counts `[C]`; all alike where empty.
    pub class_weights: Vec<f32>,
    /// What the sum of the losses is divided by.
    pub reduction: Reduction,
    /// How the weights move.
    pub optimizer: Optimizer,
    /// The learning rate over time, as a factor of the optimizer's.
    pub schedule: Schedule,
    /// Dropout of the outputs of layers.
    pub dropout: Vec<Dropout>,
    /// Dropout inside recurrent layers.
    pub recurrent_dropout: Vec<RecurrentDropout>,
    /// Dropout of the weights of recurrent layers.
    pub weight_drop: Vec<WeightDrop>,
    /// Bounds of the weights of layers.
    pub max_norm: Vec<MaxNorm>,
    /// Whether an average of the weights is kept: [`Trainer::averaged`](super::Trainer::averaged).
    pub average: Option<Average>,
    /// How the statistics of a batch normalization that is not frozen follow those of the batches.
    pub statistics: RunningStatistics,
    /// Names of layers, or of single tensors, that do not change. A frozen batch normalization normalizes by its stored statistics.
    pub frozen: Vec<String>,
    /// Whether an LSTM and an RNN, also as the controller of a memory, train one bias, as Keras does, instead of PyTorch's two,
    /// which move the sum twice as far.
    pub one_bias: bool,
    /// Seed of dropout and of the order of the examples.
    pub seed: u64,
    /// Most bytes of device memory that training may take on a GPU, where the backward pass goes through intervals of time to stay
    /// within them; no bit of a result depends on it.
    #[serde(default)]
    pub memory: Option<u64>,
    /// How recurrences are run on a GPU, forward and backward: [`Strategy::Step`], [`Strategy::Tile`] or [`Strategy::Sequence`].
    /// Where one does not run a level, `step` does, and the plan says why. Without it the plan chooses.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Invocations that share a sum of a recurrence on a GPU, as [`PlanOptions::split`].
    #[serde(default)]
    pub split: Option<u32>,
}

impl TrainOptions {
    /// PyTorch's Adam and nothing else.
    #[must_use]
    pub fn new(loss: Loss) -> Self {
        Self {
            loss,
            label_smoothing: 0.0,
            class_weights: Vec::new(),
            reduction: Reduction::default(),
            optimizer: Adam::default().into(),
            schedule: Schedule::default(),
            dropout: Vec::new(),
            recurrent_dropout: Vec::new(),
            weight_drop: Vec::new(),
            max_norm: Vec::new(),
            average: None,
            statistics: RunningStatistics::default(),
            frozen: Vec::new(),
            one_bias: false,
            seed: 0,
            memory: None,
            strategy: None,
            split: None,
        }
    }

    /// The optimizer: a rule, such as [`Adam`], or one with weight decay and a bound of the gradients.
    #[must_use]
    pub fn optimizer(mut self, optimizer: impl Into<Optimizer>) -> Self {
        self.optimizer = optimizer.into();
        self
    }

    /// The learning rate over time.
    #[must_use]
    pub fn schedule(mut self, schedule: Schedule) -> Self {
        self.schedule = schedule;
        self
    }

    /// One more dropout.
    #[must_use]
    pub fn dropout(mut self, dropout: Dropout) -> Self {
        self.dropout.push(dropout);
        self
    }

    /// One more dropout inside a recurrent layer.
    #[must_use]
    pub fn recurrent_dropout(mut self, dropout: RecurrentDropout) -> Self {
        self.recurrent_dropout.push(dropout);
        self
    }

    /// All dropout that the file of `network` states: [`Network::file_dropout`].
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what no training here does.
    pub fn file_dropout(mut self, network: &Network) -> Result<Self> {
        for dropout in network.file_dropout() {
            match dropout {
                FileDropout::Elements { layer, rate } => self.dropout.push(Dropout::elements(layer, *rate)),
                FileDropout::Channels { layer, rate } => self.dropout.push(Dropout::channels(layer, *rate)),
                FileDropout::Recurrent { layer, input, state } => {
                    self.recurrent_dropout.push(RecurrentDropout::new(layer, *input, *state));
                }
                FileDropout::Other { layer, what } => {
                    let (place, what) = (format!("layer `{layer}`"), format!("training with {what}"));
                    return Err(Error::Unsupported { place, what });
                }
            }
        }
        Ok(self)
    }

    /// One more dropout of the weights of a recurrent layer.
    #[must_use]
    pub fn weight_drop(mut self, drop: WeightDrop) -> Self {
        self.weight_drop.push(drop);
        self
    }

    /// One more bound of the weights of a layer.
    #[must_use]
    pub fn max_norm(mut self, bound: MaxNorm) -> Self {
        self.max_norm.push(bound);
        self
    }

    /// An average of the weights over the steps.
    #[must_use]
    pub fn average(mut self, average: Average) -> Self {
        self.average = Some(average);
        self
    }

    /// How the statistics of batch normalizations follow those of the batches.
    #[must_use]
    pub fn statistics(mut self, statistics: RunningStatistics) -> Self {
        self.statistics = statistics;
        self
    }

    /// A layer, or a tensor, that does not change.
    #[must_use]
    pub fn freeze(mut self, name: impl Into<String>) -> Self {
        self.frozen.push(name.into());
        self
    }

    /// Whether LSTMs and RNNs train one bias.
    #[must_use]
    pub fn one_bias(mut self, one_bias: bool) -> Self {
        self.one_bias = one_bias;
        self
    }

    /// Seed of dropout and of the order of the examples.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Most bytes of device memory that training may take on a GPU.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// How recurrences are run on a GPU, forward and backward.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Invocations that share a sum of a recurrence on a GPU; a power of two.
    #[must_use]
    pub fn split(mut self, split: u32) -> Self {
        self.split = Some(split);
        self
    }

    /// What a plan is asked for.
    pub(super) fn plan_options(&self) -> PlanOptions {
        PlanOptions { strategy: self.strategy, split: self.split, ..PlanOptions::default() }
    }

    pub(super) fn check(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.label_smoothing) {
            return Err(Error::option("label_smoothing", "a number from 0 to below 1", &self.label_smoothing));
        }
        if let Some(strategy @ (Strategy::Wavefront | Strategy::Resident | Strategy::Scan)) = self.strategy {
            return Err(Error::option("strategy", "step, tile or sequence for training", &strategy));
        }
        self.optimizer.check()?;
        self.statistics.check()?;
        self.average.map_or(Ok(()), Average::check)?;
        self.schedule.check()
    }
}
