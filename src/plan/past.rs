//! Where past inputs of windows over time and what is fed back lie, and what says where the rows of a batch begin.

use super::{BufferId, Slice};

/// Where the past inputs of a window lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PastBuffer {
    /// Position of the layer among those that keep something.
    pub layer: usize,
    /// `[B, P, I]` where the run reads them; else the last timesteps of its input, `[P, B, I]` or as many as there are.
    pub place: Slice,
    /// Whether the run reads them.
    pub is_read: bool,
}

/// Where what a feedback feeds back lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedbackBuffer {
    /// Position of the layer among those that keep something.
    pub layer: usize,
    /// `[B, N]`
    pub place: Slice,
}

/// Where the rows of a batch begin that do not begin together.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BeginBuffers {
    /// The first timestep of each row, `[B]`.
    pub first: BufferId,
    /// Masks `[T', B]` of the steps from there on, where no mask of the input reaches, in the network's order.
    pub masks: Vec<BufferId>,
}
