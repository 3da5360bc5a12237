//! Bits of a step's mask, as the shaders have them.

/// The step counts.
pub const VALID: u32 = 1;
/// An earlier step counts.
pub const SEEN_FORWARD: u32 = 2;
/// A later step counts.
pub const SEEN_REVERSE: u32 = 4;
