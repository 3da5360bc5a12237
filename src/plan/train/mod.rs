//! What a device will be asked to do for a step of training: a forward pass that keeps what the backward pass reads, the
//! loss, the backward pass, the optimizer. One plan, as that of a run.

mod lookup;
mod parameters;
mod persistent;

pub use lookup::lookup;
pub use parameters::FlatParameters;
pub(crate) use persistent::is_keras;
#[cfg(test)]
pub(crate) use persistent::{NORMS_HEAD, SEGMENT_DECAYS, SEGMENT_FROZEN};
pub use persistent::{RESULT_WORDS, STEPS_AHEAD, setting};
pub use persistent::{TrainContents, TrainLayout};

use super::{BufferId, Slice};
use crate::reference::{Loss, Optimizer};

/// What is trained, and how.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TrainTask {
    /// How far a run goes.
    pub goal: TrainGoal,
    /// What is made small.
    pub loss: Loss,
    /// Whether targets are numbers instead of classes.
    pub values: bool,
    /// Most labels of a sequence, for [`Loss::Ctc`].
    pub labels: usize,
    /// What is measured beside the loss.
    pub metrics: Option<TrainMetrics>,
    /// Of the loss.
    pub label_smoothing: f32,
    /// How many class weights there are, 0 for none.
    pub class_weights: usize,
    /// Where outputs are dropped.
    pub dropouts: Vec<DropoutSite>,
    /// Where what a recurrent layer reads, and its h, are dropped.
    pub recurrent_dropouts: Vec<RecurrentSite>,
    /// How the parameters move.
    pub optimizer: Optimizer,
    /// Names of tensors that stay.
    pub frozen: Vec<String>,
    /// Most bytes that a step may take, with all that stays from step to step.
    pub memory: Option<u64>,
    /// Positions of batch normalizations that go by the statistics of the batch.
    pub norms: Vec<usize>,
    /// The share of a batch in the statistics that are stored.
    pub momentum: f32,
    /// Whether a variance is stored divided by the count less 1.
    pub unbiased: bool,
    /// Tensors that a step drops numbers of, each with the share.
    pub weight_drops: Vec<(String, f32)>,
    /// Matrices whose rows are bounded, each with the width of a row and its largest norm.
    pub bounds: Vec<(String, usize, f32)>,
    /// The share of the parameters in their average, if there is one, and whether it starts from those before the first step.
    pub average: Option<(f32, bool)>,
}

/// What is measured of a batch beside the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrainMetrics {
    /// Counts of classes.
    Classes {
        /// How many of the most probable classes are looked at.
        top: u32,
        /// Whether pairs of classes are counted.
        confusion: bool,
    },
    /// The sum of the absolute errors, and how many rows count.
    AbsoluteError,
}

/// How far a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TrainGoal {
    /// The loss, without dropout.
    Evaluate,
    /// The loss and the gradients, without dropout.
    Gradients,
    /// Also a step of the optimizer, with dropout.
    Step,
}

/// Dropout behind a stage.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DropoutSite {
    /// Position of the stage.
    pub stage: usize,
    /// The share that is dropped.
    pub rate: f32,
    /// Whether all steps of a sequence share a mask.
    pub channels: bool,
}

/// Dropout inside a recurrent layer, with masks that stay for all steps of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecurrentSite {
    /// Position among the recurrent layers.
    pub layer: usize,
    /// The share of the input that is dropped.
    pub input: f32,
    /// The share of h that is dropped; above 0 every gate has masks of its own.
    pub state: f32,
}

impl RecurrentSite {
    /// Dropout of the shares `input` and `state` in the recurrent layer `layer`.
    #[must_use]
    pub fn new(layer: usize, input: f32, state: f32) -> Self {
        Self { layer, input, state }
    }

    /// Which draws are those of a direction of the level that is stage `stage`: of its input, or of h.
    pub(crate) fn draws(stage: usize, direction: usize, of_state: bool) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "a network has fewer than 2^13 stages")]
        let [stage, direction] = [stage as u32, direction as u32];
        1 << 16 | stage << 2 | direction << 1 | u32::from(of_state)
    }
}

impl DropoutSite {
    /// Dropout of `rate` behind the stage `stage`; `channels` says whether all steps of a sequence share a mask.
    #[must_use]
    pub fn new(stage: usize, rate: f32, channels: bool) -> Self {
        Self { stage, rate, channels }
    }
}

impl TrainTask {
    /// A step of `optimizer` against `loss`, without anything else.
    #[must_use]
    pub fn new(loss: Loss, optimizer: Optimizer) -> Self {
        Self {
            goal: TrainGoal::Step,
            loss,
            values: false,
            labels: 0,
            metrics: None,
            label_smoothing: 0.0,
            class_weights: 0,
            dropouts: Vec::new(),
            recurrent_dropouts: Vec::new(),
            optimizer,
            frozen: Vec::new(),
            memory: None,
            norms: Vec::new(),
            momentum: 0.1,
            unbiased: true,
            weight_drops: Vec::new(),
            bounds: Vec::new(),
            average: None,
        }
    }

    /// The same, as far as `goal` goes.
    #[must_use]
    pub fn goal(mut self, goal: TrainGoal) -> Self {
        self.goal = goal;
        self
    }

    /// The dropouts of a stage, each with its number.
    pub(super) fn dropouts_of(&self, stage: usize) -> Vec<(usize, DropoutSite)> {
        let all = if self.goal == TrainGoal::Step { &self.dropouts[..] } else { &[] };
        all.iter().copied().enumerate().filter(|(_, dropout)| dropout.stage == stage).collect()
    }
}

/// What a plan for training has in addition to its forward pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrainParts {
    /// Position of the stage that the loss reads.
    pub output: usize,
    /// M, rows of that output.
    pub rows: usize,
    /// What the rows should be: classes, or the bits of numbers.
    pub targets: BufferId,
    /// How much each row counts, divided as the loss is, `[M]`.
    pub factors: BufferId,
    /// Which steps read which rows of each embedding's table, by stage.
    pub lookups: Vec<(usize, BufferId)>,
    /// Where recurrences start.
    pub starts: Vec<StartState>,
    /// What the metrics count, or the bits of their sum.
    pub counts: Option<Slice>,
    /// What is cleared before the first dispatch.
    pub clears: Vec<Slice>,
    /// Bytes of what stays from step to step, by kind.
    pub memory: Vec<(&'static str, u64)>,
}

/// A part of the state that a direction of a level, or a layer with a memory, starts from, and where a run wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartState {
    /// Position of the layer among those that keep something.
    pub layer: usize,
    /// Row of the state `[L*D, B, H]`.
    pub row: usize,
    /// Position of the part in its layer.
    pub part: usize,
    /// Where the caller's lies.
    pub from: Slice,
    /// Where the first step reads it.
    pub to: Slice,
}
