//! Names and kinds of devices, and the device that a choice selects. No device is opened here.

pub(crate) mod choice;
mod info;

pub use choice::DeviceChoice;
pub use info::{DeviceInfo, DeviceKind, DeviceOptions};
