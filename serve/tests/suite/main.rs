//! The server as clients see it: bytes over connections of this machine.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]
#![allow(clippy::print_stdout, reason = "what was measured is shown with --nocapture")]

mod access;
mod common;
mod drain;
mod hostile;
mod metrics;
mod protocol;
mod refusals;
mod sequences;
mod soak;
