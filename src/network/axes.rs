//! What the axes of an input and of an output mean, in gatefold and in the file that a network came from.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{InputKind, Network, NetworkOutput, Stage, reorder};

/// What an axis means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Axis {
    /// Timesteps.
    Time,
    /// Batch rows.
    Batch,
    /// Directions of a recurrent layer.
    Direction,
    /// Features, or hidden units.
    Feature,
    /// An axis of size 1 without a meaning.
    One,
    /// Timesteps and batch rows in one axis: all rows of the first timestep come first.
    TimeBatch,
    /// Timesteps and batch rows in one axis: all timesteps of the first row come first.
    BatchTime,
    /// Parts of the features, this many; N is then the width of one.
    Part(usize),
}

impl Axis {
    /// Its letter in shapes.
    #[must_use]
    pub fn letter(self) -> &'static str {
        match self {
            Self::Time => "T",
            Self::Batch => "B",
            Self::Direction => "D",
            Self::Feature => "N",
            Self::One => "1",
            Self::TimeBatch => "T*B",
            Self::BatchTime => "B*T",
            Self::Part(_) => "K",
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.letter())
    }
}

/// Axes as a shape in letters: `[T, B, N]`.
#[must_use]
pub fn letters(axes: &[Axis]) -> String {
    format!("[{}]", axes.iter().map(|axis| axis.letter()).collect::<Vec<_>>().join(", "))
}

/// An input or an output of the file that a network was read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileTensor {
    /// Its name in the file.
    pub name: String,
    /// Its axes in the file's order.
    pub axes: Vec<Axis>,
    /// The only row of the batch that the file gives, counted from the last where it is below 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<i64>,
}

/// The input and the output as the file orders them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileAxes {
    /// The axes of a run's input.
    pub input: FileTensor,
    /// The axes of a run's output.
    pub output: FileTensor,
    /// The axes of outputs beside the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<FileTensor>,
    /// Integer inputs that have one number in this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed: Vec<FixedInput>,
    /// Inputs that are the state before the first timestep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<FileState>,
    /// Outputs that are the state after the last timestep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub final_states: Vec<FileState>,
    /// Name of the input that is the lengths of the rows, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lengths: Option<String>,
}

/// A tensor `[R, B, H]` of the file that is states of layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileState {
    /// Its name in the file.
    pub name: String,
    /// What each of its R rows is.
    pub rows: Vec<FileStateRow>,
}

/// What a row of a [`FileState`] is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileStateRow {
    /// The layer.
    pub layer: String,
    /// The part of the layer's state: `h` or `c`.
    pub part: String,
    /// The row of the part's first axis: `level * D + direction`.
    pub row: usize,
}

/// An integer input of a file that has one number in the network that was read from it, such as a sample rate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FixedInput {
    /// Its name in the file.
    pub name: String,
    /// Its number.
    pub value: i64,
}

const SEQUENCE: [[Axis; 3]; 2] = [[Axis::Time, Axis::Batch, Axis::Feature], [Axis::Batch, Axis::Time, Axis::Feature]];

impl Network {
    /// The axes of a run's input: `[T, B, N]` or `[B, T, N]`, without the last where the network reads token ids.
    #[must_use]
    pub fn input_axes(&self) -> &'static [Axis] {
        self.axes_of_input(0)
    }

    /// As [`Network::input_axes`], of one of several inputs; `[B, N]` of one that has no time dimension.
    #[must_use]
    pub fn axes_of_input(&self, number: usize) -> &'static [Axis] {
        let sequence = &SEQUENCE[usize::from(self.batch_first())];
        match self.inputs().get(number).map(|input| input.kind) {
            Some(InputKind::Row) => &SEQUENCE[0][1..],
            Some(InputKind::Tokens) => &sequence[..2],
            _ => sequence,
        }
    }

    /// The axes of a run's output: `[T, B, N]` or `[B, T, N]`, or `[B, N]` where it has no time axis. The directions
    /// of a bidirectional layer lie side by side in N.
    #[must_use]
    pub fn output_axes(&self) -> &'static [Axis] {
        self.stages().last().map_or(&SEQUENCE[0][1..], |last| self.axes_of(last))
    }

    /// The axes and the width of one of [`Network::outputs`].
    #[must_use]
    pub fn output_of(&self, output: &NetworkOutput) -> (&'static [Axis], usize) {
        let stage = &self.stages()[output.stage];
        (self.axes_of(stage), stage.out_features)
    }

    /// The axes of a stage's output, as [`Network::output_axes`].
    pub(crate) fn axes_of(&self, stage: &Stage) -> &'static [Axis] {
        match (stage.sequence_out, self.batch_first()) {
            (true, batch_first) => &SEQUENCE[usize::from(batch_first)],
            (false, _) => &SEQUENCE[0][1..],
        }
    }

    /// The axes of the file's own input and output, where the network was read from an ONNX file, or from a
    /// Keras file without recurrent layers.
    /// They may be others than [`Network::input_axes`] and [`Network::output_axes`], which a run has.
    #[must_use]
    pub fn file_axes(&self) -> Option<&FileAxes> {
        self.file_axes.as_ref()
    }

    /// An input's numbers and their shape in the order of the file that the network was read from, as a run takes them:
    /// the shape and the numbers of [`Network::input_axes`]. `None` where the file states no order, or another shape.
    #[must_use]
    pub fn input_from_file(&self, values: &[f32], shape: &[usize]) -> Option<(Vec<usize>, Vec<f32>)> {
        let axes = &self.file_axes()?.input.axes;
        if axes.len() != shape.len() {
            return None;
        }
        reorder(values, (axes, shape), (self.input_axes(), None), 1)
    }

    /// With the axes that the file states.
    #[must_use]
    pub(crate) fn with_file_axes(mut self, axes: Option<FileAxes>) -> Self {
        self.file_axes = axes;
        self
    }
}
