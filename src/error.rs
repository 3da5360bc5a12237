//! The one error type: every variant names what was expected and what came.

use std::path::PathBuf;

/// Result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the facts needed to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// A file or text is not what its format demands.
    #[error("{what}: expected {expected}, got {got}")]
    Malformed {
        /// The file, or the part of it.
        what: String,
        /// What the format demands there.
        expected: String,
        /// What stands there.
        got: String,
    },
    /// A tensor that the network description asks for is not in the file.
    #[error("tensor `{name}` {shape:?} is missing{}", list("; tensors nobody asked for", unexpected))]
    MissingTensor {
        /// The name expected.
        name: String,
        /// The shape expected.
        shape: Vec<usize>,
        /// Tensors in the file that the description does not mention.
        unexpected: Vec<String>,
    },
    /// The file holds a tensor that the network description does not mention.
    #[error("tensor `{name}` {shape:?} belongs to no layer{}", list("; expected", expected))]
    UnexpectedTensor {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The names the description asks for.
        expected: Vec<String>,
    },
    /// A tensor has another shape than its layer needs.
    #[error("tensor `{name}`: expected shape {expected:?}, got {got:?}")]
    TensorShape {
        /// Its name.
        name: String,
        /// The shape its layer needs.
        expected: Vec<usize>,
        /// The shape in the file.
        got: Vec<usize>,
    },
    /// A weight, or a number that a choice depends on, is NaN or infinite.
    #[error("tensor `{name}`: expected finite numbers, got {value} at element {index}")]
    NonFinite {
        /// The tensor.
        name: String,
        /// Flat index of the first such element.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A layer's description contradicts itself or its neighbour.
    #[error("layer `{layer}`: {what}: expected {expected}, got {got}")]
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
    /// Something that exists in the field and that gatefold does not do.
    #[error("{place}: {what} is not supported")]
    Unsupported {
        /// Layer, tensor or file.
        place: String,
        /// The option, dtype or kind.
        what: String,
    },
    /// An option of a call is out of its range.
    #[error("option {option}: expected {expected}, got {got}")]
    Option {
        /// Which option.
        option: String,
        /// What would do.
        expected: String,
        /// What was given.
        got: String,
    },
    /// An input or a state has the wrong shape.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// Which argument.
        what: String,
        /// The shape expected.
        expected: String,
        /// The shape given.
        got: String,
    },
    /// A stream cannot do what was asked of it; it and all others are as they were.
    #[error("{stream}: expected {expected}, got {got}")]
    Stream {
        /// Which stream.
        stream: String,
        /// What would fit.
        expected: String,
        /// What it is.
        got: String,
    },
    /// More requests wait than a queue has room for; try again later.
    #[error("the queue is full: {capacity} requests wait")]
    QueueFull {
        /// How many may wait.
        capacity: usize,
    },
    /// A queue ended before it answered.
    #[error("the queue ended before it answered")]
    QueueClosed,
    /// A token id is not in the embedding's table.
    #[error("token {token} at row {row}, step {step}: expected an id below {num_embeddings}")]
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
    /// A text holds no token.
    #[error("text {index}: expected at least one word, got {got}")]
    EmptyText {
        /// Position in the caller's list, from 1.
        index: usize,
        /// What was there.
        got: String,
    },
    /// A size is beyond what the adapter or the address space allows.
    #[error("{what}: needs {needed}, the limit is {limit} ({limit_name})")]
    TooLarge {
        /// The buffer or dispatch.
        what: String,
        /// What it would take.
        needed: u64,
        /// What is allowed.
        limit: u64,
        /// Who sets the limit.
        limit_name: String,
    },
    /// No adapter answers to the wish.
    #[error("no adapter for {wanted}{}", list("; present", present))]
    NoAdapter {
        /// The wish.
        wanted: String,
        /// The adapters that are there.
        present: Vec<String>,
    },
    /// The graphics driver refused or failed.
    #[error("{device}: {what}: {reason}")]
    Gpu {
        /// The device.
        device: String,
        /// What was being done.
        what: String,
        /// The driver's or wgpu's word.
        reason: String,
    },
    /// The device is gone; make a new one and load the network again.
    #[error("{device}: the device was lost: {reason}")]
    DeviceLost {
        /// The device.
        device: String,
        /// The driver's word.
        reason: String,
    },
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
