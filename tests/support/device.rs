//! The device under test. Without it a test that needs it fails: a test that did not run must not count as passed.

use gatefold::{Device, DeviceChoice, Result};

/// Which device to test, as `--device` reads it; where unset a real GPU if there is one, else a software adapter.
const TEST_DEVICE: &str = "GATEFOLD_TEST_DEVICE";

pub fn choice() -> DeviceChoice {
    std::env::var(TEST_DEVICE).map_or_else(|_| best(), |text| text.parse().unwrap())
}

fn best() -> DeviceChoice {
    let real = Device::adapters().iter().any(|adapter| adapter.info.kind.is_gpu());
    if real { DeviceChoice::Gpu } else { DeviceChoice::Software }
}

/// What was opened, or the end of the test.
pub fn opened(device: Result<Device>) -> Device {
    device.unwrap_or_else(|error| {
        panic!("NOT RUN, this test needs a device: {error} (CONTRIBUTING.md: \"Tests\" says how to get one)")
    })
}
