//! The command as people run it: arguments and files in; stdout, stderr and an exit code out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

mod bench;
mod bench_memory;
mod classify;
mod convert;
mod devices;
mod evaluate;
mod evaluation;
mod files;
mod hostile;
mod mistakes;
mod models;
mod pipelines;
mod pipes;
mod plan;
#[cfg(feature = "score")]
mod score;
#[cfg(feature = "score")]
mod score_bad;
#[cfg(feature = "score")]
mod score_resume;
#[cfg(feature = "score")]
mod score_rows;
mod serve;
mod support;
mod tasks;
mod train;
mod train_data;
mod train_runs;
mod train_text;
mod tune;
mod verify;
