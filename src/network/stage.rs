//! The stages that a network is lowered to, which a device runs one after the other.

use super::{
    Activation, Attention, Cell, HiddenOrCell, Join, MaskedOutput, MergeMode, NtmStage, Padding, Param, Pool,
    Rearrange, Recurrence, Role, SelectStep, Zoneout,
};
use crate::base::error::{Error, Result};

/// One step of work: a layer, or one level of a stacked recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// The layer's name; a recurrent layer adds its level (`lstm.l0`).
    pub label: String,
    /// What is computed.
    pub kind: StageKind,
    /// Its parameters, in file order.
    pub params: Vec<Param>,
    /// What is read: of a join several, of attention keys, queries and values, of a row that is expanded over time also what
    /// has the timesteps, of a recurrent level also the h and c that it starts from, if layers give them; else one.
    pub inputs: Vec<Source>,
    /// Width of the input's last dimension (1 for token ids).
    pub in_features: usize,
    /// Width of the output's last dimension.
    pub out_features: usize,
    /// Whether the input has a time dimension.
    pub sequence_in: bool,
    /// Whether the output has a time dimension.
    pub sequence_out: bool,
    /// What a mask of the network's input says about the input's timesteps.
    pub mask_reach: MaskReach,
}

/// What a mask of the network's input says about the timesteps of a stage's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskReach {
    /// They are those of this input of the network: its mask fits.
    Fits(usize),
    /// They were made from the network's own, and are others: the mask does not fit.
    Resized,
    /// They are not made from the network's own: the mask says nothing about them.
    Ended,
}

/// Where a stage's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An input of the network, by its number.
    Input(usize),
    /// The output of an earlier stage.
    Stage(usize),
}

/// What a [`Stage`] computes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StageKind {
    /// Row gather, `[T, B]` to `[T, B, E]`.
    Embedding {
        /// V, rows of the table.
        num_embeddings: usize,
    },
    /// One level of a recurrent layer, `[T, B, I]` to `[T, B, D*H]` or `[B, D*H]`.
    Recurrent(RecurrentStage),
    /// The two directions of a bidirectional layer, `[.., 2H]` to `[.., H]`.
    Merge(MergeMode),
    /// `activation(x W^T + b)`.
    Dense {
        /// Applied to every output element.
        activation: Activation,
    },
    /// Convolution over time, `[T, B, I]` to `[T', B, N]`.
    Conv1d {
        /// Which timesteps an output sees.
        window: Window,
        /// Groups of channels.
        groups: usize,
        /// Applied to every output element.
        activation: Activation,
    },
    /// Pooling over windows of time.
    Pool1d {
        /// Which timesteps an output sees.
        window: Window,
        /// What is taken from them.
        pool: Pool,
        /// Whether a mean counts the padding.
        count_include_pad: bool,
    },
    /// Pooling over all time, `[T, B, N]` to `[B, N]`.
    GlobalPool(Pool),
    /// Normalization of every row.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// `activation(x * scale + offset)` with a scale and an offset for each channel.
    Channelwise {
        /// Applied last.
        activation: Activation,
        /// Of a batch normalization, what is added to its variance; else scale and offset are 1 and 0.
        eps: Option<f32>,
    },
    /// Softmax over the last dimension, or its logarithm.
    Softmax {
        /// Whether it is the logarithm.
        log: bool,
    },
    /// Softmax over time; masked steps have no share.
    TimeSoftmax,
    /// The place of the largest number of the last dimension, `[.., N]` to `[.., 1]`.
    ArgMax,
    /// One timestep.
    Select(SelectStep),
    /// h or c after the last step of the recurrent level that it reads.
    FinalState(FinalState),
    /// The sequence backwards.
    Reverse,
    /// Numbers that only move.
    Rearrange(Rearrange),
    /// Attention of queries `[T, B, D]` or `[B, D]` to keys `[S, B, D]` with values `[S, B, V]`.
    Attention(Attention),
    /// What a later stage was at the timestep before; its input says only which timesteps there are.
    Feedback {
        /// That stage.
        from: usize,
    },
    /// A cell with a memory, `[T, B, I]` to `[T, B, H + R*M]` or `[B, H + R*M]`.
    Ntm(Box<NtmStage>),
    /// Several outputs joined.
    Join(Join),
}

/// A part of the state of a recurrent level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FinalState {
    /// Position of the layer among those that keep something ([`Network::kept`](super::Network::kept)).
    pub layer: usize,
    /// Row of the state `[L*D, B, H]`.
    pub row: usize,
    /// Which part.
    pub part: HiddenOrCell,
}

/// One level of a recurrent layer.
#[derive(Clone, Debug, PartialEq)]
pub struct RecurrentStage {
    /// Position of the layer among those that keep something ([`Network::kept`](super::Network::kept)).
    pub layer: usize,
    /// The cell and its options.
    pub recurrence: Recurrence,
    /// Level in the stack, from 0.
    pub level: usize,
    /// H.
    pub hidden_size: usize,
    /// Its directions, D of them.
    pub directions: Vec<Direction>,
    /// What the output is where the mask is off.
    pub masked_output: MaskedOutput,
    /// Bound of the pre-activations.
    pub clip: Option<f32>,
    /// Shares of units that keep what they had.
    pub zoneout: Zoneout,
    /// Of h and c, the positions among the stage's inputs of what it starts from, `[B, D*H]`, where layers give it.
    pub starts: [Option<usize>; 2],
}

impl RecurrentStage {
    /// Width of h: P with a projection, else H.
    #[must_use]
    pub fn state_size(&self) -> usize {
        match self.recurrence.proj_size() {
            0 => self.hidden_size,
            size => size,
        }
    }

    /// The cell.
    #[must_use]
    pub fn cell(&self) -> Cell {
        self.recurrence.cell()
    }

    /// Numbers that a row keeps in addition to h: H of each of [`Cell::cells`].
    #[must_use]
    pub fn cell_size(&self) -> usize {
        self.cell().cells().len() * self.hidden_size
    }

    /// G*H, rows of the weights.
    #[must_use]
    pub fn gate_rows(&self) -> usize {
        self.cell().gates() * self.hidden_size
    }
}

/// One direction of one level.
#[derive(Clone, Debug, PartialEq)]
pub struct Direction {
    /// Whether it reads the sequence from its end.
    pub reverse: bool,
    /// Its functions: gates, candidate, output (an LSTM's f, g, h; a GRU has two, an RNN one).
    pub activations: Vec<Activation>,
}

/// Timesteps that one output sees: `t*stride + k*dilation - left` for k below `kernel_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Timesteps that one output sees.
    pub kernel_size: usize,
    /// Timesteps between two outputs.
    pub stride: usize,
    /// Timesteps between two that one output sees.
    pub dilation: usize,
    /// What lies around the sequence.
    pub padding: Padding,
}

impl Window {
    /// Timesteps from the first seen to the last.
    #[must_use]
    pub fn span(&self) -> usize {
        (self.kernel_size - 1) * self.dilation + 1
    }

    /// Timesteps added before and after a sequence of `steps`.
    #[must_use]
    pub fn padding(&self, steps: usize) -> [usize; 2] {
        match self.padding {
            Padding::Zeros { left, right } => [left, right],
            Padding::Same => {
                let outputs = steps.div_ceil(self.stride);
                let total = ((outputs - 1) * self.stride + self.span()).saturating_sub(steps);
                [total / 2, total - total / 2]
            }
        }
    }

    /// Itself where `past` inputs stand for its padding at the start.
    #[must_use]
    pub(crate) fn behind(self, past: usize) -> Self {
        match self.padding {
            Padding::Zeros { right, .. } if past > 0 => Self { padding: Padding::Zeros { left: 0, right }, ..self },
            _ => self,
        }
    }

    /// Outputs for a sequence of `steps`; `None` if it is shorter than the window.
    #[must_use]
    pub fn outputs(&self, steps: usize) -> Option<usize> {
        let padded = steps + self.padding(steps).iter().sum::<usize>();
        Some(padded.checked_sub(self.span())? / self.stride + 1)
    }
}

impl Stage {
    /// Timesteps of the output for an input of `steps`; 1 where the output has no time dimension.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sequence is shorter than the layer's window.
    pub fn output_steps(&self, steps: usize) -> Result<usize> {
        match &self.kind {
            StageKind::Conv1d { window, .. } | StageKind::Pool1d { window, .. } => {
                window.outputs(steps).ok_or_else(|| {
                    let [left, right] = window.padding(steps);
                    let least = window.span().saturating_sub(left + right);
                    Error::shape(
                        format!("input of `{}`", self.label),
                        format!("at least {least} timesteps"),
                        format!("{steps}"),
                    )
                })
            }
            StageKind::Rearrange(rearrange) => rearrange
                .output_steps(steps)
                .map_err(|expected| Error::shape(format!("input of `{}`", self.label), expected, format!("{steps}"))),
            _ if self.sequence_out => Ok(steps),
            _ => Ok(1),
        }
    }

    /// Whether its output is probabilities of classes, or their logarithms, whose logits are its input.
    #[must_use]
    pub fn is_softmax(&self) -> bool {
        matches!(self.kind, StageKind::Softmax { .. })
    }

    /// The parameter of a direction with a role, if the stage has it; the direction is 0 where there is none.
    #[must_use]
    pub fn param(&self, direction: usize, role: Role) -> Option<&Param> {
        self.params.iter().find(|param| param.role == role && param.direction == direction)
    }

    /// The error for a gradient of the layer's input, where it has none.
    pub(crate) fn without_gradient(&self) -> Error {
        let what = "a gradient of arg_max, which is 0 everywhere (train without the layer),".into();
        Error::Unsupported { place: format!("layer `{}`", self.label), what }
    }

    /// Whether a mask of one of the network's inputs fits the timesteps of the stage's input.
    #[must_use]
    pub fn mask_reaches(&self) -> bool {
        matches!(self.mask_reach, MaskReach::Fits(_))
    }

    /// Whether it goes from timestep to timestep with a state: a recurrent level, or a layer with a memory.
    #[must_use]
    pub fn steps_through_time(&self) -> bool {
        matches!(self.kind, StageKind::Recurrent(_) | StageKind::Ntm(_))
    }

    /// The recurrent level, if it is one.
    #[must_use]
    pub fn recurrent(&self) -> Option<&RecurrentStage> {
        match &self.kind {
            StageKind::Recurrent(recurrent) => Some(recurrent),
            _ => None,
        }
    }
}

/// Whether a layer needs more than `steps` of a network's input.
pub(super) fn is_short(stages: &[Stage], steps: &dyn Fn(usize) -> usize) -> bool {
    let mut outputs = Vec::new();
    if stage_steps(stages, steps, &mut outputs).is_ok() {
        return false;
    }
    // The stage that refused its input.
    let stage = &stages[outputs.len()];
    let input = match stage.inputs[0] {
        Source::Input(input) => steps(input),
        Source::Stage(index) => outputs[index],
    };
    let fixed = match stage.kind {
        StageKind::Rearrange(Rearrange::Reshape { in_steps, .. }) => in_steps,
        StageKind::Rearrange(Rearrange::Transpose { steps, .. }) => steps,
        _ => return true,
    };
    input < fixed
}

/// The number of timesteps that an input must have, where a layer that reads them as they are has a fixed number.
pub(super) fn fixed_steps(stages: &[Stage], input: usize) -> Option<usize> {
    // Of every stage, whether its timesteps are those of the input.
    let mut same: Vec<bool> = Vec::with_capacity(stages.len());
    for stage in stages {
        let of_input = |source: &Source| match *source {
            Source::Input(number) => number == input,
            Source::Stage(index) => same[index],
        };
        let reads = stage.inputs.first().is_some_and(of_input);
        let keeps = match stage.kind {
            StageKind::Rearrange(Rearrange::Reshape { in_steps, .. }) if reads && stage.sequence_in => {
                return Some(in_steps);
            }
            StageKind::Rearrange(Rearrange::Transpose { steps, .. }) if reads => return Some(steps),
            StageKind::Rearrange(Rearrange::Widen | Rearrange::Channels { .. }) => reads,
            StageKind::Rearrange(_) | StageKind::Conv1d { .. } | StageKind::Pool1d { .. } => false,
            _ => reads,
        };
        same.push(keeps && stage.sequence_in && stage.sequence_out);
    }
    None
}

/// Timesteps of every stage's output for a network's inputs of `steps`, up to the stage that refuses its input.
pub(super) fn stage_steps(stages: &[Stage], steps: &dyn Fn(usize) -> usize, outputs: &mut Vec<usize>) -> Result<()> {
    outputs.clear();
    for stage in stages {
        let steps_of = |source: Source| match source {
            Source::Input(input) => steps(input),
            Source::Stage(index) => outputs[index],
        };
        let takes_timesteps = matches!(stage.kind, StageKind::Rearrange(Rearrange::Expand) | StageKind::Attention(_));
        if let (true, Some(&like)) = (takes_timesteps, stage.inputs.get(1)) {
            let steps = steps_of(like);
            outputs.push(steps);
            continue;
        }
        let first = steps_of(stage.inputs[0]);
        if matches!(stage.kind, StageKind::Join(_)) {
            let other = stage.inputs.iter().map(|&source| steps_of(source)).find(|&steps| steps != first);
            if let Some(other) = other {
                let expected = format!("outputs of {first} timesteps each");
                return Err(Error::shape(format!("inputs of `{}`", stage.label), expected, format!("one of {other}")));
            }
        }
        outputs.push(stage.output_steps(first)?);
    }
    Ok(())
}
