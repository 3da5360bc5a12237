//! Every test that needs more than one module. `on_device` runs once per adapter
//! (`GATEFOLD_TEST_DEVICE`, see `test.sh`) and on the CPU device, `on_gpu` once per adapter, `pure`
//! needs neither.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]

mod common;
#[path = "../../examples/dates/mod.rs"]
mod dates;
#[path = "../support/device.rs"]
mod device_under_test;
#[path = "../support/exact.rs"]
mod exact;
mod on_device;
mod on_gpu;
mod pure;
#[path = "../support/repository.rs"]
mod repository;
#[path = "../support/selection.rs"]
mod selection;
