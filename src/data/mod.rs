//! Data that a run reads and returns: inputs, states, requests and results. It uses `base` and `network` only.

pub(crate) mod banks;
pub(crate) mod file_state;
pub(crate) mod input;
pub(crate) mod named_input;
pub(crate) mod run;
pub(crate) mod state;
