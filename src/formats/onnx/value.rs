//! What a value of the graph is.

use std::rc::Rc;

use super::array::Array;

/// Index of an expression in [`Expressions`](super::expression::Expressions).
pub type Id = usize;

#[derive(Clone)]
pub enum Value {
    Constant(Rc<Array>),
    /// Integers computed from sizes.
    Dims {
        dims: Vec<Dim>,
        scalar: bool,
    },
    /// One number everywhere.
    Fill {
        value: f32,
        dims: Option<Vec<Dim>>,
    },
    /// A constant that is repeated along those of its axes that have size 1, in sizes that may be open.
    Spread {
        array: Rc<Array>,
        dims: Vec<Dim>,
    },
    Tensor(LabelledTensor),
    /// A state that the caller gives, or a part of it; its sizes as far as they are known.
    State {
        id: Id,
        dims: Option<Vec<Dim>>,
    },
    /// One size everywhere.
    Size(Dim),
    /// `sequence_lens` that the caller gives.
    Lengths,
    /// `sequence_lens` minus 1: the last timestep of each row; of one axis `[B]`, of two `[B, 1]`, of three in any other shape.
    LastSteps {
        rank: usize,
    },
    /// The numbers of the rows, from 0, times a size; of one axis `[B]`, of two `[B, 1]`.
    RowNumbers {
        stride: Dim,
        rank: usize,
    },
    /// Where the last timestep of each row is: row and timestep, or one number for both, in which a row has this size.
    LastPlaces(Option<Dim>),
    /// The order of the rows by their lengths, or what puts rows of that order back.
    RowOrder {
        inverse: bool,
    },
    /// States that are returned to the caller, row by row.
    States(Vec<FinalRow>),
}

/// A row of the states that are returned to the caller.
#[derive(Clone, Copy, Debug)]
pub enum FinalRow {
    /// An expression, which must turn out to be a state.
    Computed(Id),
    /// h or c of a direction of a recurrent layer.
    Layer { part: RecurrentPart, row: LayerDirection },
}

/// A size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    Known(usize),
    /// T of the network's input.
    Steps,
    /// B.
    Batch,
    /// Timesteps after the layer with this index, which reads windows.
    Windows(usize),
    /// Something computed from sizes.
    Any,
    /// Whether there is one timestep after the layer with this index, as a number.
    IsOne(usize),
    /// An integer below 0, such as the -1 of a reshape.
    Below(i64),
}

/// What an axis of a tensor means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisLabel {
    /// Size 1 and no meaning, or that of an axis of size 1 squeezed before.
    Unit,
    Time,
    /// Timesteps of another sequence.
    Other,
    Batch,
    /// Directions or states of several layers.
    Direction,
    /// Recurrent layers, whose directions have an axis of their own.
    Stack,
    Channel,
    /// Parts into which the channels are cut.
    Head,
    /// Batch rows, and the parts of each, in one axis.
    BatchHeads,
    /// Timesteps and batch rows in one axis.
    Rows {
        /// Whether all rows of a timestep lie together, instead of all timesteps of a row.
        time_first: bool,
    },
}

/// A tensor with labelled axes.
#[derive(Clone, Debug)]
pub struct LabelledTensor {
    pub of: Of,
    pub axes: Vec<AxisLabel>,
    /// Size of the channel axis; of scores, that of what was multiplied.
    pub width: usize,
    /// Size of the time axis.
    pub steps: Dim,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Of {
    /// Token ids of the input with this number.
    Tokens(usize),
    /// Token ids with a constant added, as exporters offer where an id could be below 0.
    Shifted(usize),
    Expression(Id),
    /// An expression times a number, whose features are cut into parts as wide as the tensor.
    Heads {
        id: Id,
        heads: usize,
        scale: f32,
    },
    /// Integers that the network computes, as numbers: classes.
    Integers(Id),
    /// Whether each number of the network's input equals this one, or differs from it.
    Compared {
        equal: bool,
        value: f32,
    },
    /// For each timestep, whether it counts: whether the network's input has a number other than this; or the opposite.
    Mask {
        kept: bool,
        value: f32,
        /// Whether the last timestep comes first.
        reversed: bool,
        /// The number of the input of token ids whose mask it is; 0 for the network's first input.
        input: usize,
    },
    /// For each timestep, how many numbers of the network's input differ from this one.
    AnyCount(f32),
    /// How many timesteps count, of a mask of this number.
    MaskCount(f32),
    /// The products of every timestep of one sequence (axis T) with every one of another (axis S), times a number.
    Scores {
        rows: Id,
        columns: Id,
        scale: f32,
        /// Parts of the features that have scores of their own.
        heads: usize,
        /// S
        keys: Dim,
        /// Whether they are the softmax over S.
        shares: bool,
    },
    /// Some directions of the outputs of recurrent layers.
    Directions {
        part: RecurrentPart,
        rows: Vec<LayerDirection>,
    },
}

/// An output of a recurrent node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrentPart {
    Y,
    H,
    C,
}

/// One direction of one recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerDirection {
    /// Index in the layers.
    pub layer: usize,
    pub direction: usize,
}

impl LabelledTensor {
    /// With the channels on axis `at`, where that axis and the channels have size 1 and so are one thing.
    pub fn with_channels_at(mut self, at: usize) -> Self {
        let channel = self.position(AxisLabel::Channel);
        if self.width == 1
            && self.axes.get(at) == Some(&AxisLabel::Unit)
            && matches!(self.of, Of::Expression(_) | Of::Directions { .. })
        {
            if let Some(channel) = channel {
                self.axes[channel] = AxisLabel::Unit;
            }
            self.axes[at] = AxisLabel::Channel;
        }
        self
    }

    /// As [`LabelledTensor::with_channels_at`], for the last axis.
    pub fn with_channels_last(self) -> Self {
        match self.axes.len().checked_sub(1) {
            Some(last) => self.with_channels_at(last),
            None => self,
        }
    }

    pub fn position(&self, axis: AxisLabel) -> Option<usize> {
        self.axes.iter().position(|&a| a == axis)
    }

    pub fn directions(&self) -> usize {
        match &self.of {
            Of::Directions { rows, .. } => rows.len(),
            _ => 1,
        }
    }

    /// Parts into which its features are cut.
    pub fn heads(&self) -> usize {
        match self.of {
            Of::Heads { heads, .. } | Of::Scores { heads, .. } => heads,
            _ => 1,
        }
    }

    /// The number of the input whose token ids it has; 0 for others.
    pub fn tokens(&self) -> usize {
        match self.of {
            Of::Tokens(input) | Of::Shifted(input) => input,
            _ => 0,
        }
    }

    /// How many recurrent layers it has states of.
    pub fn stacked(&self) -> usize {
        match &self.of {
            Of::Directions { rows, .. } => rows.chunk_by(|a, b| a.layer == b.layer).count(),
            _ => 1,
        }
    }

    /// Sizes of its axes.
    pub fn dims(&self, batch: Dim) -> Vec<Dim> {
        let size = |axis: &AxisLabel| match axis {
            AxisLabel::Unit => Dim::Known(1),
            AxisLabel::Time => self.steps,
            AxisLabel::Other => match self.of {
                Of::Scores { keys, .. } => keys,
                _ => Dim::Any,
            },
            AxisLabel::Batch => batch,
            AxisLabel::Direction if self.axes.contains(&AxisLabel::Stack) => {
                Dim::Known(self.directions() / self.stacked().max(1))
            }
            AxisLabel::Direction => Dim::Known(self.directions()),
            AxisLabel::Stack => Dim::Known(self.stacked()),
            AxisLabel::Channel => Dim::Known(self.width),
            AxisLabel::Head => Dim::Known(self.heads()),
            AxisLabel::BatchHeads => product(batch, Dim::Known(self.heads())),
            AxisLabel::Rows { .. } => product(self.steps, batch),
        };
        self.axes.iter().map(size).collect()
    }
}

pub fn product(a: Dim, b: Dim) -> Dim {
    match (a, b) {
        (Dim::Known(a), Dim::Known(b)) => a.checked_mul(b).map_or(Dim::Any, Dim::Known),
        (Dim::Known(1), other) | (other, Dim::Known(1)) => other,
        (Dim::Known(0), _) | (_, Dim::Known(0)) => Dim::Known(0),
        _ => Dim::Any,
    }
}
