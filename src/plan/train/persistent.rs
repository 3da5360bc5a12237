//! Buffers that stay from step to step: parameters, gradients, what an optimizer keeps, and tables.

use std::sync::Arc;

use super::super::tactic::narrow;
use super::super::weights::ALIGN;
use super::super::{BufferId, BufferSpec, PlanLimits, weight_sizes};
use super::{FlatParameters, TrainTask};
use crate::network::Network;
use crate::reference::{Convention, Rule};

/// Most numbers of a piece of the gradients whose squares one workgroup adds.
const PIECE: usize = 4096;
/// Steps whose results are kept until the host reads them.
pub const STEPS_AHEAD: usize = 64;
/// Words of the results of one step: the bits of the loss, right answers, the bits of the norm, whether it was skipped.
pub const RESULT_WORDS: usize = 4;
/// Most steps of Adam that have corrections of their own. Behind 18,000 steps those of the usual β are 1.
const MOST_CORRECTIONS: usize = 1 << 18;
/// Words of the norms before those of the tensors.
pub(crate) const NORMS_HEAD: usize = 3;
/// Flags of a segment: its parameters stay, or decay.
pub(crate) const SEGMENT_FROZEN: u32 = 1;
pub(crate) const SEGMENT_DECAYS: u32 = 2;

/// Words of the settings, which the host writes before every step.
pub mod setting {
    /// Place of the step among the results.
    pub const SLOT: usize = 0;
    /// The bits of the learning rate.
    pub const LEARNING_RATE: usize = 1;
    /// The seed of the step's dropout, two words.
    pub const SEED: usize = 2;
    /// How many there are.
    pub const COUNT: usize = 4;
}

/// Which buffers of a plan stay from step to step. They follow the packed weights.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrainBuffers {
    /// All parameters, as [`FlatParameters`] says.
    pub parameters: BufferId,
    /// Their gradients.
    pub gradients: BufferId,
    /// What the optimizer keeps: m, v, the mean, each if it is kept.
    pub moments: BufferId,
    /// Steps made, whether the last was, norms.
    pub norms: BufferId,
    /// Adam's corrections `[steps, 2]`.
    pub corrections: BufferId,
    /// Flags and tensor of every 64 parameters.
    pub segments: BufferId,
    /// First number and end of every piece.
    pub pieces: BufferId,
    /// First piece of every tensor.
    pub first_pieces: BufferId,
    /// Sums of the squares of the pieces.
    pub squares: BufferId,
    /// What the host says before every step.
    pub settings: BufferId,
    /// Results of the last steps.
    pub results: BufferId,
    /// Weights of the classes.
    pub class_weights: BufferId,
    /// Statistics of batch normalizations.
    pub statistics: BufferId,
    /// The average of the parameters.
    pub average: BufferId,
    /// Parameters of every packed weight; `None` where nothing of it is trained.
    pub maps: Vec<Option<BufferId>>,
}

/// The buffers that stay, as plans need to know them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TrainLayout {
    /// Where each tensor lies.
    pub flat: FlatParameters,
    /// Where the statistics of each batch normalization lie.
    pub statistics: FlatParameters,
    /// Which buffer is which.
    pub buffers: TrainBuffers,
    /// All of them in order.
    pub specs: Vec<BufferSpec>,
    /// Tensors and pieces.
    pub counts: [usize; 2],
    /// Steps that have corrections of their own.
    pub corrections: usize,
    /// Numbers and sources (1 or 2) of each packed weight.
    pub packed: Vec<[usize; 2]>,
}

impl TrainLayout {
    /// Bytes by kind of `buffers`, which are the packed weights and those of this layout.
    pub(crate) fn memory(&self, buffers: &[BufferSpec]) -> Vec<(&'static str, u64)> {
        let TrainBuffers { parameters, gradients, moments, .. } = self.buffers;
        let weights: u64 = buffers[..self.packed.len()].iter().map(|buffer| buffer.bytes).sum();
        let all: u64 = buffers.iter().map(|buffer| buffer.bytes).sum();
        let [parameters, gradients, moments] = [parameters, gradients, moments].map(|id| buffers[id].bytes);
        vec![
            ("parameters", parameters),
            ("weights as the kernels read them", weights),
            ("gradients", gradients),
            ("optimizer state", moments),
            ("tables", all - parameters - weights - gradients - moments),
        ]
    }
}

/// The buffers that stay, and what they hold at the beginning.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TrainContents {
    /// What plans need to know.
    pub layout: Arc<TrainLayout>,
    /// The words of each buffer, in order; nothing stands for zeros.
    pub words: Vec<Option<Vec<u32>>>,
}

impl TrainContents {
    /// Those of `network` for `task`, which begin behind the packed weights. `class_weights` are those of the loss.
    #[must_use]
    pub fn new(network: &Network, limits: &PlanLimits, task: &TrainTask, class_weights: &[f32]) -> Self {
        let flat = FlatParameters::of(network);
        let statistics = FlatParameters::statistics(network);
        let weights = weight_sizes(network, limits);
        let is_frozen = |name: &String| task.frozen.contains(name);
        let (mut segments, mut pieces, mut first_pieces) = (Vec::new(), Vec::new(), vec![0u32]);
        for (tensor, (name, range)) in flat.places().iter().enumerate() {
            let flags = if is_frozen(name) { SEGMENT_FROZEN } else { SEGMENT_DECAYS };
            for _ in 0..range.len().div_ceil(ALIGN) {
                segments.extend([flags, narrow(tensor as u64)]);
            }
            if !is_frozen(name) {
                for first in range.clone().step_by(PIECE) {
                    pieces.extend([narrow(first as u64), narrow((first + PIECE).min(range.end) as u64)]);
                }
            }
            first_pieces.push(narrow((pieces.len() / 2) as u64));
        }
        let counts = [flat.places().len(), pieces.len() / 2];
        let corrections = corrections(task.optimizer.rule);
        let maps = flat.maps(network, limits);
        let initial = match task.optimizer.rule {
            Rule::Adagrad(adagrad) => adagrad.initial,
            _ => 0.0,
        };
        let kept = task.optimizer.rule.keeps().iter().filter(|&&kept| kept).count();
        #[expect(clippy::cast_possible_truncation, reason = "a setting of the optimizer")]
        let moments = (initial != 0.0).then(|| vec![(initial as f32).to_bits(); kept * flat.len]);

        let mut all: Vec<(BufferSpec, Option<Vec<u32>>)> = Vec::new();
        let mut add = |label: &str, words: usize, contents: Option<Vec<u32>>| {
            // A buffer of nothing cannot be bound.
            let bytes = words.max(1) as u64 * 4;
            all.push((BufferSpec { label: label.into(), bytes }, contents.filter(|words| !words.is_empty())));
            weights.len() + all.len() - 1
        };
        let bits = |numbers: &[f32]| -> Vec<u32> { numbers.iter().map(|x| x.to_bits()).collect() };
        let numbers = bits(&flat.numbers(network));
        let buffers = TrainBuffers {
            parameters: add("parameters [P]", flat.len, Some(numbers)),
            gradients: add("gradients [P]", flat.len, None),
            moments: add("optimizer state [.., P]", kept * flat.len, moments),
            norms: add("norms [tensors]", NORMS_HEAD + counts[0], None),
            corrections: add("corrections [steps, 2]", corrections.len(), Some(bits(&corrections))),
            segments: add("segments [P/64, 2]", segments.len(), Some(segments.clone())),
            pieces: add("pieces [pieces, 2]", pieces.len(), Some(pieces.clone())),
            first_pieces: add("first pieces [tensors + 1]", first_pieces.len(), Some(first_pieces.clone())),
            squares: add("sums of squares [pieces]", counts[1], None),
            settings: add("settings", setting::COUNT, None),
            results: add("results [steps, 4]", STEPS_AHEAD * RESULT_WORDS, None),
            class_weights: add("class weights [C]", class_weights.len(), Some(bits(class_weights))),
            statistics: add("statistics", statistics.len, Some(bits(&statistics.numbers(network)))),
            average: add("average [P]", if task.average.is_some() { flat.len } else { 0 }, None),
            maps: Vec::new(),
        };
        let mut buffers = buffers;
        let mut packed = Vec::new();
        for (map, weight) in maps.into_iter().zip(&weights) {
            let trained = map.iter().any(|&at| at > 0);
            packed.push([weight.words, map.len() / weight.words.max(1)]);
            let label = format!("{}: parameters", weight.label);
            buffers.maps.push(trained.then(|| add(&label, map.len(), Some(map))));
        }
        let corrections = corrections.len() / 2;
        let (specs, words) = all.into_iter().unzip();
        Self { layout: Arc::new(TrainLayout { flat, statistics, buffers, specs, counts, corrections, packed }), words }
    }
}

/// `√c2 / c1` and `√c2` of Adam's steps from the first to one from which both are 1.
fn corrections(rule: Rule) -> Vec<f32> {
    let Rule::Adam(adam) = rule else { return vec![1.0, 1.0] };
    let mut corrections = Vec::new();
    for step in 1..=MOST_CORRECTIONS {
        #[expect(clippy::cast_precision_loss, reason = "a number of steps is far below 2^53")]
        let [of_mean, of_square] = [adam.beta1, adam.beta2].map(|beta| 1.0 - beta.powf(step as f64));
        #[expect(clippy::cast_possible_truncation, reason = "rounded once")]
        let [rate, root] = [of_square.sqrt() / of_mean, of_square.sqrt()].map(|x| x as f32);
        // The root stands for the factor of eps; Keras' is 1, which the kernel knows.
        corrections.extend([rate, root]);
        if rate.to_bits() == 1f32.to_bits() && root.to_bits() == 1f32.to_bits() {
            break;
        }
    }
    corrections
}

/// Whose formula a rule follows.
pub(crate) fn is_keras(rule: Rule) -> bool {
    let convention = match rule {
        Rule::Sgd(sgd) => sgd.convention,
        Rule::Adam(adam) => adam.convention,
        Rule::RmsProp(rms) => rms.convention,
        Rule::Adagrad(adagrad) => adagrad.convention,
    };
    convention == Convention::Keras
}
