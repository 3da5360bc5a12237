//! Every test that needs more than one module. `on_device` runs once per adapter
//! (`GATEFOLD_TEST_DEVICE`, see `test.sh`), `pure` needs no adapter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

mod common;
#[path = "../../examples/dates/mod.rs"]
mod dates;
mod on_device;
mod pure;
#[path = "../support/repository.rs"]
mod repository;
