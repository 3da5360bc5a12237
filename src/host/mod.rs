//! Runs the stages of a network on the host, one after the other. [`Reference`] and the CPU device pass the function
//! that computes a stage.

mod backward;
mod batch_norms;
mod forward;
mod step_loop;
mod step_loop_backward;
mod walk;

pub(crate) use backward::BackwardMemory;
pub use backward::Gradients;
pub(crate) use batch_norms::BatchNorms;
pub use forward::Reference;
pub(crate) use forward::{Hooks, ParamGradients, ReferenceRun, StageBackward, StageRunner};
pub use walk::Forward;
pub(crate) use walk::{Memory, RunStart, WalkMemory, begin, product, walk};
