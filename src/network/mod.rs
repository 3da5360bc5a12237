//! Networks: layers with their options and weights. They are plain data, independent of devices and files.

mod activation;
mod attention;
mod axes;
mod cell;
mod combine;
mod cuts;
mod division;
mod dropout;
mod feedback;
mod final_state;
mod fingerprint;
pub(crate) mod fold;
pub mod gates;
mod initialize;
mod input;
mod lower;
mod ntm;
mod params;
mod random;
mod rearrange;
mod recurrent;
mod reorder;
mod rounding;
mod spec;
mod stage;
mod state;
mod tensor;
mod validate;
mod weight_format;

use std::cell::RefCell;
use std::collections::BTreeMap;

pub use activation::Activation;
pub use attention::{Attention, AttentionScore, AttentionSpec};
pub use axes::{Axis, FileAxes, FileState, FileStateRow, FileTensor, FixedInput, letters};
pub use cell::{Cell, Normalization, Recurrence, ScanCell};
pub use combine::{Columns, Combine};
pub(crate) use combine::{joining, merging};
pub(crate) use cuts::{Cuts, Past};
pub(crate) use division::{BankSource, Division, StartSource};
pub use dropout::FileDropout;
pub use feedback::FeedbackSpec;
pub(crate) use feedback::StepLoop;
pub use final_state::{FinalStateSpec, HiddenOrCell, SelectSpec, SelectStep};
pub use fold::{Affine, Biases, Norms, unfold_biases, unfold_channels, unfold_filters, unfold_recurrent};
pub use initialize::Init;
pub use input::{InputKind, InputSpec, NetworkInput, NetworkOutput};
pub use ntm::{HeadOrder, MemorySpec, MemoryStart, NtmSpec, NtmStage, StartWeights};
pub use params::{Param, Role, expected_tensors};
pub use rearrange::{
    ChannelsSpec, PadMode, PadSpec, Rearrange, RepeatSpec, ReshapeSpec, RowMap, SliceSpec, TransposeSpec,
};
pub use recurrent::{CellNorm, GateNorm, MaskedOutput, MergeMode, RecurrentOutput, RecurrentSpec, Zoneout};
pub(crate) use reorder::reorder;
pub use rounding::{Rounding, StageRounding};
pub use spec::{
    ActivationSpec, Conv1dSpec, DenseSpec, EmbeddingSpec, FORMAT, FromSpec, GlobalPoolSpec, INPUT, Join, JoinSpec,
    LayerSpec, MaskingSpec, NamedSpec, NetworkSpec, NormSpec, Padding, Pool, Pool1dSpec, Split, Standardize, TextSpec,
};
pub use stage::{Direction, FinalState, MaskReach, RecurrentStage, Source, Stage, StageKind, Window};
pub use state::{PartSpec, StateSpec};
pub use tensor::Tensor;
pub use weight_format::{WeightFormat, quantize_row};

use crate::base::error::{Error, Result};
use lower::LoweredNetwork;

/// No single dimension may exceed this, so that products of two dimensions cannot overflow.
pub(crate) const MAX_DIMENSION: usize = 1 << 24;
pub(crate) const MAX_LAYERS: usize = 1024;
/// Inputs of a network.
pub(crate) const MAX_INPUTS: usize = 8;

thread_local! {
    /// Memory of [`Network::output_steps`], so that a run into an existing answer allocates nothing.
    static OUTPUT_STEPS: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Which steps of its input a network masks.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum MaskRule {
    /// Token id 0.
    TokenZero,
    /// Vectors that are this value throughout; they are read as 0.
    Value(f32),
}

/// A validated network: its description and every weight, in PyTorch's names and shapes.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    spec: NetworkSpec,
    stages: Vec<Stage>,
    inputs: Vec<NetworkInput>,
    outputs: Vec<NetworkOutput>,
    kept: Vec<StateSpec>,
    /// What it takes to cut it in time, where that is possible.
    cuts: Option<Cuts>,
    /// Stages that run step by step.
    step_loop: Option<StepLoop>,
    tensors: BTreeMap<String, Tensor>,
    file_axes: Option<FileAxes>,
    file_dropout: Vec<FileDropout>,
}

impl Network {
    /// Joins a description and its weights.
    ///
    /// # Errors
    /// Layers that contradict themselves or each other, a tensor that is missing, unknown or
    /// of the wrong shape, a weight that is not finite.
    pub fn new(spec: NetworkSpec, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        validate::options(&spec)?;
        let LoweredNetwork { stages, inputs, outputs } = lower::lowered(&spec)?;
        validate::labels(&spec, &stages)?;
        let expected = expected_tensors(&spec);
        let known: BTreeMap<&str, &[usize]> = expected.iter().map(|(n, s)| (n.as_str(), s.as_slice())).collect();
        let unexpected: Vec<String> = tensors.keys().filter(|n| !known.contains_key(n.as_str())).cloned().collect();
        for (name, shape) in &expected {
            let Some(tensor) = tensors.get(name) else {
                return Err(Error::MissingTensor { name: name.clone(), shape: shape.clone(), unexpected });
            };
            if tensor.shape() != shape {
                return Err(Error::TensorShape {
                    name: name.clone(),
                    expected: shape.clone(),
                    got: tensor.shape().to_vec(),
                });
            }
            if let Some(index) = tensor.data().iter().position(|x| !x.is_finite()) {
                return Err(Error::NonFinite { name: name.clone(), index, value: tensor.data()[index] });
            }
        }
        if let Some(name) = unexpected.into_iter().next() {
            let shape = tensors.get(&name).map(|t| t.shape().to_vec()).unwrap_or_default();
            return Err(Error::UnexpectedTensor { name, shape, expected: expected.into_iter().map(|e| e.0).collect() });
        }
        validate::variances(&spec, &tensors)?;
        let (file_axes, file_dropout) = (None, Vec::new());
        let (kept, cuts, step_loop) = (Vec::new(), None, None);
        let mut network =
            Self { spec, stages, inputs, outputs, kept, cuts, step_loop, tensors, file_axes, file_dropout };
        network.cuts = network.cut().ok();
        network.kept = state::kept(&network.spec, &network.stages, network.cuts.as_ref());
        network.step_loop = StepLoop::new(&network.stages, &network.kept)?;
        network.unmark_others();
        Ok(network)
    }

    /// The description.
    #[must_use]
    pub fn spec(&self) -> &NetworkSpec {
        &self.spec
    }

    /// The stages that the layers are lowered to, in order.
    #[must_use]
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// What it reads, the first input first.
    #[must_use]
    pub fn inputs(&self) -> &[NetworkInput] {
        &self.inputs
    }

    /// Its outputs beside that of the last layer.
    #[must_use]
    pub fn outputs(&self) -> &[NetworkOutput] {
        &self.outputs
    }

    /// Every weight by name.
    #[must_use]
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.tensors
    }

    /// The weight `name`, which [`Network::new`] has seen; empty for an option left out (bias).
    pub(crate) fn weight(&self, name: &str) -> &[f32] {
        self.tensors.get(name).map_or(&[], Tensor::data)
    }

    /// Replaces the numbers of the tensor `name`, which are as many.
    pub(crate) fn set_weight(&mut self, name: &str, numbers: &[f32]) {
        if let Some(tensor) = self.tensors.get_mut(name) {
            tensor.numbers_mut().copy_from_slice(numbers);
        }
    }

    /// The numbers of all tensors, to be replaced by as many.
    pub(crate) fn weights_mut(&mut self) -> impl Iterator<Item = (&str, &mut [f32])> {
        self.tensors.iter_mut().map(|(name, tensor)| (&name[..], tensor.numbers_mut()))
    }

    /// The numbers of a parameter of `stage`; empty where an option leaves it out.
    pub(crate) fn param(&self, stage: &Stage, direction: usize, role: Role) -> &[f32] {
        stage.param(direction, role).map_or(&[], |param| self.weight(&param.name))
    }

    /// Whether the caller's arrays are batch-major, `[B, T, ..]`.
    #[must_use]
    pub fn batch_first(&self) -> bool {
        let mut layers = self.recurrent_layers().peekable();
        if layers.peek().is_none() {
            // No layer states it, but a file may.
            let mut axes = self.file_axes().into_iter().flat_map(|file| &file.input.axes);
            return axes.find(|axis| matches!(axis, Axis::Batch | Axis::Time)) == Some(&Axis::Batch);
        }
        layers.any(|(_, layer)| layer.batch_first)
    }

    /// The layers that keep something from timestep to timestep, as a [`State`](crate::State) has them: the recurrent layers
    /// and those with a memory in order, then, if the network can be cut anywhere in time, the layers with windows over time, then feedbacks.
    #[must_use]
    pub fn kept(&self) -> &[StateSpec] {
        &self.kept
    }

    /// What it takes to cut the network in time.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if that is not possible.
    pub(crate) fn cut(&self) -> Result<Cuts> {
        Cuts::new(&self.stages, self.stepping_layers())
    }

    /// As [`Network::cut`], if it is possible.
    pub(crate) fn cuts(&self) -> Option<&Cuts> {
        self.cuts.as_ref()
    }

    /// The stages that run step by step, if there are any.
    pub(crate) fn step_loop(&self) -> Option<&StepLoop> {
        self.step_loop.as_ref()
    }

    /// Whether a stage is one of them.
    pub(crate) fn is_stepwise(&self, stage: usize) -> bool {
        self.step_loop.as_ref().is_some_and(|steps_loop| steps_loop.stages.contains(&stage))
    }

    /// What stage `index` keeps of its input.
    pub(crate) fn past(&self, index: usize) -> Option<Past> {
        self.cuts.as_ref().and_then(|cuts| cuts.past(index))
    }

    /// Whether any stage keeps some of its input.
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "the CPU asks stage by stage"))]
    pub(crate) fn keeps_inputs(&self) -> bool {
        self.cuts.as_ref().is_some_and(Cuts::keeps_inputs)
    }

    /// An error if the network keeps what a gradient does not go through.
    pub(crate) fn trains_from_states(&self) -> Result<()> {
        let found = (0..self.stages.len()).find(|&index| self.past(index).is_some());
        found.map_or(Ok(()), |index| {
            Err(Error::Unsupported {
                place: format!("layer `{}`", self.stages[index].label),
                what: "training that carries the past inputs of a window from batch to batch".into(),
            })
        })
    }

    /// Whether everything that it keeps is 0 before the first timestep.
    pub(crate) fn starts_at_zero(&self) -> bool {
        let mut parts = self.kept.iter().flat_map(|layer| &layer.parts);
        parts.all(|part| part.stored.is_none() && part.start.to_bits() == 0)
    }

    /// Layers that keep something beside windows: the recurrent ones and those with a memory. They come first in
    /// [`Network::kept`].
    pub(crate) fn stepping_layers(&self) -> usize {
        let steps = |layer: &&LayerSpec| layer.recurrent().is_some() || matches!(layer, LayerSpec::Ntm(_));
        self.spec.layers.iter().filter(steps).count()
    }

    /// The recurrent layers in order.
    pub fn recurrent_layers(&self) -> impl Iterator<Item = (Cell, &RecurrentSpec)> {
        self.spec.layers.iter().filter_map(LayerSpec::recurrent)
    }

    /// Which steps of its first input the network itself masks, in addition to those that the caller masks.
    #[must_use]
    pub fn masks(&self) -> Option<MaskRule> {
        self.inputs.first().and_then(|input| input.masks)
    }

    /// V, if the first input is token ids `[T, B]`; `None` if it is vectors.
    #[must_use]
    pub fn num_embeddings(&self) -> Option<usize> {
        self.inputs.first().and_then(|input| input.num_embeddings)
    }

    /// I, width of the first input's vectors; 1 for token ids.
    #[must_use]
    pub fn input_size(&self) -> usize {
        self.inputs.first().map_or(0, |input| input.width)
    }

    /// Width of the output's last dimension.
    #[must_use]
    pub fn output_size(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.out_features)
    }

    /// Whether the output has a time dimension.
    #[must_use]
    pub fn output_is_sequence(&self) -> bool {
        self.stages.last().is_some_and(|stage| stage.sequence_out)
    }

    /// Timesteps of the shortest input that every layer can read: its window fits in, or it is as long as the layer's
    /// fixed number of timesteps.
    #[must_use]
    pub fn least_steps(&self) -> usize {
        // Longer inputs never make a window too large, so the search may double and then halve.
        let short = |steps: usize| stage::is_short(&self.stages, &|input| self.steps_of_input(input, steps));
        let Some(enough) = (0..usize::BITS / 2).map(|bit| 1usize << bit).find(|&steps| !short(steps)) else {
            // Sequences that are joined with a fixed number of timesteps.
            let fixed = self.stages.iter().filter_map(|stage| match stage.kind {
                StageKind::Rearrange(Rearrange::Repeat { times }) => Some(times),
                StageKind::Rearrange(Rearrange::Reshape { out_steps, .. }) => Some(out_steps),
                _ => None,
            });
            return fixed.into_iter().find(|&steps| !short(steps)).unwrap_or(1);
        };
        let (mut least, mut enough) = (enough / 2, enough);
        while enough - least > 1 {
            let middle = least + (enough - least) / 2;
            if short(middle) {
                least = middle;
            } else {
                enough = middle;
            }
        }
        enough
    }

    /// Timesteps of every stage's output where every input has `steps`; 1 where it has no time dimension.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sequence is shorter than a layer's window, or branches of
    /// different length are joined.
    pub fn stage_steps(&self, steps: usize) -> Result<Vec<usize>> {
        let mut outputs = Vec::with_capacity(self.stages.len());
        self.stage_steps_into(|input| self.steps_of_input(input, steps), &mut outputs)?;
        Ok(outputs)
    }

    /// As [`Network::stage_steps`] for inputs of these timesteps by their numbers, into existing memory.
    pub(crate) fn stage_steps_into(&self, steps: impl Fn(usize) -> usize, outputs: &mut Vec<usize>) -> Result<()> {
        stage::stage_steps(&self.stages, &steps, outputs)
    }

    /// Timesteps of an input, where it has a time dimension `steps`, else 1.
    pub(crate) fn steps_of_input(&self, input: usize, steps: usize) -> usize {
        if self.inputs.get(input).is_some_and(|input| input.kind == InputKind::Row) {
            return 1;
        }
        // Of several inputs each may have a fixed number of its own.
        (self.inputs.len() > 1).then(|| stage::fixed_steps(&self.stages, input)).flatten().unwrap_or(steps)
    }

    /// Timesteps of the output for an input of `steps`; 1 where it has no time dimension.
    ///
    /// # Errors
    /// As [`Network::stage_steps`].
    pub(crate) fn output_steps(&self, steps: usize) -> Result<usize> {
        let keeps_time = |stage: &Stage| {
            !matches!(
                stage.kind,
                StageKind::Conv1d { .. } | StageKind::Pool1d { .. } | StageKind::Join(_) | StageKind::Rearrange(_)
            )
        };
        if self.inputs.len() == 1 && self.stages.iter().all(keeps_time) {
            return Ok(if self.output_is_sequence() { steps } else { 1 });
        }
        OUTPUT_STEPS.with_borrow_mut(|outputs| {
            self.stage_steps_into(|input| self.steps_of_input(input, steps), outputs)?;
            Ok(outputs.last().copied().unwrap_or(1))
        })
    }

    /// Number of weights.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.tensors.values().map(|tensor| tensor.data().len()).sum()
    }
}
