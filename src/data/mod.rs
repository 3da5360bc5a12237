//! What goes into a run and comes out of it: inputs, states, requests and results. Uses `base` and `network` only.

pub(crate) mod input;
pub(crate) mod run;
pub(crate) mod state;
