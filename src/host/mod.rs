//! Runs the stages of a network on the host, one after the other. The caller, the reference or the CPU device,
//! passes the function that computes a stage.

mod walk;

pub use walk::Forward;
pub(crate) use walk::{Flow, Memory, begin, product, walk};
