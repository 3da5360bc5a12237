//! The one error type: every variant names what was expected and what was found.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use crate::base::printable::printable;

/// Most characters of a message: names come from files and may have any length.
const MOST: usize = 1000;

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the facts needed to correct it. Its text is one line that a terminal can show, even if names from
/// files contain control characters: see [`printable`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file or text is not what its format demands.
    Malformed {
        /// The file, or the part of it.
        what: String,
        /// What the format demands there.
        expected: String,
        /// What was found there.
        got: String,
    },
    /// A tensor that the network description asks for is not in the file.
    MissingTensor {
        /// The name expected.
        name: String,
        /// The shape expected.
        shape: Vec<usize>,
        /// Tensors in the file that the description does not mention.
        unexpected: Vec<String>,
    },
    /// The file holds a tensor that the network description does not mention.
    UnexpectedTensor {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The names the description asks for.
        expected: Vec<String>,
    },
    /// A tensor has another shape than its layer needs.
    TensorShape {
        /// Its name.
        name: String,
        /// The shape its layer needs.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// A weight, or a number that a choice depends on, is NaN or infinite.
    NonFinite {
        /// The tensor.
        name: String,
        /// Flat index of the first such element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A layer's description contradicts itself or its neighbour.
    Network {
        /// The layer's name.
        layer: String,
        /// The option or size at fault.
        what: String,
        /// What would fit.
        expected: String,
        /// What was given.
        got: String,
    },
    /// A feature of other frameworks that gatefold does not support.
    Unsupported {
        /// Layer, tensor or file.
        place: String,
        /// The option, dtype or kind.
        what: String,
    },
    /// An option of a call is out of its range.
    Option {
        /// Which option.
        option: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        got: String,
    },
    /// An input or a state has the wrong shape.
    Shape {
        /// Which argument.
        what: String,
        /// The shape expected.
        expected: String,
        /// The shape given.
        got: String,
    },
    /// A stream cannot do what was asked of it; it and all others are as they were.
    Stream {
        /// Which stream.
        stream: String,
        /// What would fit.
        expected: String,
        /// What it is.
        got: String,
    },
    /// The queue is full; try again later.
    QueueFull {
        /// How many may wait.
        capacity: usize,
    },
    /// A queue ended before it answered.
    QueueClosed,
    /// A token id is not in the embedding's table.
    TokenOutOfRange {
        /// The id.
        token: u32,
        /// Batch row.
        row: usize,
        /// Timestep.
        step: usize,
        /// Number of rows in the table.
        num_embeddings: usize,
    },
    /// A label is no class of the network's output.
    LabelOutOfRange {
        /// The label.
        label: u32,
        /// Row of the output: step times batch plus batch row, where every step has a label.
        row: usize,
        /// Number of classes.
        classes: usize,
    },
    /// The losses or gradients of several training steps in a row were not finite.
    Diverged {
        /// The last of these steps, from 1.
        step: u64,
        /// Its loss.
        loss: f64,
    },
    /// A text holds no token.
    EmptyText {
        /// Position in the caller's list, from 1.
        index: usize,
        /// What was found.
        got: String,
    },
    /// A size is beyond what the adapter or the address space allows.
    TooLarge {
        /// The buffer or dispatch.
        what: String,
        /// What would be needed.
        needed: u64,
        /// What is allowed.
        limit: u64,
        /// The name of the limit.
        limit_name: String,
    },
    /// No adapter matches the request.
    NoAdapter {
        /// The request.
        wanted: String,
        /// The adapters that are present.
        present: Vec<String>,
    },
    /// The graphics driver refused or failed.
    Gpu {
        /// The device.
        device: String,
        /// What was being done.
        what: String,
        /// The error message of the driver or of wgpu.
        reason: String,
    },
    /// The device was lost; open a new one and load the network again.
    DeviceLost {
        /// The device.
        device: String,
        /// The driver's error message.
        reason: String,
    },
}

impl Display for Error {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(&self.message(), MOST))
    }
}

fn list(lead: &str, names: &[String]) -> String {
    const SHOWN: usize = 8;
    if names.is_empty() {
        return String::new();
    }
    let rest = match names.len().checked_sub(SHOWN) {
        Some(more) if more > 0 => format!(" and {more} more"),
        _ => String::new(),
    };
    format!("{lead}: {}{rest}", names[..names.len().min(SHOWN)].join(", "))
}

impl Error {
    /// The text as it is, with names from files.
    fn message(&self) -> String {
        match self {
            Self::Io { path, source } => format!("{}: {source}", path.display()),
            Self::Malformed { what, expected, got } | Self::Shape { what, expected, got } => {
                format!("{what}: expected {expected}, got {got}")
            }
            Self::MissingTensor { name, shape, unexpected } => {
                format!("tensor `{name}` {shape:?} is missing{}", list("; tensors of no layer", unexpected))
            }
            Self::UnexpectedTensor { name, shape, expected } => {
                format!("tensor `{name}` {shape:?} belongs to no layer{}", list("; expected", expected))
            }
            Self::TensorShape { name, expected, got } => {
                format!("tensor `{name}`: expected shape {expected:?}, got {got:?}")
            }
            Self::NonFinite { name, index, value } => {
                format!("tensor `{name}`: expected finite numbers, got {value} at element {index}")
            }
            Self::Network { layer, what, expected, got } => {
                format!("layer `{layer}`: {what}: expected {expected}, got {got}")
            }
            Self::Unsupported { place, what } => format!("{place}: {what} is not supported"),
            Self::Option { option, expected, got } => format!("option {option}: expected {expected}, got {got}"),
            Self::Stream { stream, expected, got } => format!("{stream}: expected {expected}, got {got}"),
            Self::QueueFull { capacity } => format!("the queue is full: {capacity} requests wait"),
            Self::QueueClosed => "the queue ended before it answered".into(),
            Self::TokenOutOfRange { token, row, step, num_embeddings } => {
                format!("token {token} at row {row}, step {step}: expected an id below {num_embeddings}")
            }
            Self::LabelOutOfRange { label, row, classes } => {
                format!("label {label} at row {row}: expected a class below {classes}")
            }
            Self::Diverged { step, loss } => format!(
                "training: gradients that are not finite, several steps in a row, the last at step {step} with loss {loss}; \
                 expected finite ones (a smaller learning rate, or gradients clipped)"
            ),
            Self::EmptyText { index, got } => format!("text {index}: expected at least one word, got {got}"),
            Self::TooLarge { what, needed, limit, limit_name } => {
                format!("{what}: needs {needed}, the limit is {limit} ({limit_name})")
            }
            Self::NoAdapter { wanted, present } => format!("no adapter for {wanted}{}", list("; present", present)),
            Self::Gpu { device, what, reason } => format!("{device}: {what}: {reason}"),
            Self::DeviceLost { device, reason } => format!("{device}: the device was lost: {reason}"),
        }
    }

    pub(crate) fn shape(what: impl Into<String>, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Shape { what: what.into(), expected: expected.into(), got: got.into() }
    }

    pub(crate) fn option(option: &str, expected: &str, got: &dyn std::fmt::Display) -> Self {
        Self::Option { option: option.into(), expected: expected.into(), got: got.to_string() }
    }

    pub(crate) fn network(
        layer: impl Into<String>,
        what: impl Into<String>,
        expected: impl Into<String>,
        got: &dyn std::fmt::Display,
    ) -> Self {
        Self::Network { layer: layer.into(), what: what.into(), expected: expected.into(), got: got.to_string() }
    }
}
