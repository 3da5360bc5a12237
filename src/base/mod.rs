//! Errors, numbers, files, memory. It uses no other folder of the crate.

pub(crate) mod bits;
pub(crate) mod clock;
pub(crate) mod error;
pub mod files;
pub(crate) mod hash;
pub(crate) mod lock;
pub(crate) mod printable;
pub(crate) mod process;
mod real;
pub(crate) mod room;
pub(crate) mod rounded;
pub(crate) mod span;
pub(crate) mod wait;

pub use real::Real;
