//! Quick.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unused)]
#[path = "suite/common.rs"]
mod common;
#[path = "support/device.rs"]
mod device_under_test;
#[path = "support/repository.rs"]
mod repository;
#[path = "suite/on_gpu/training.rs"]
mod training;
