//! Bits of a step's mask, as the shaders have them.

/// The step counts.
pub const VALID: u32 = 1;
/// An earlier step counts.
pub const SEEN_FORWARD: u32 = 2;
/// A later step counts.
pub const SEEN_REVERSE: u32 = 4;

/// The slot of a row that belongs to no stream: it reads 0 and writes nothing.
pub const NO_SLOT: u32 = u32::MAX;
