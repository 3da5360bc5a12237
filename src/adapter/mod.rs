//! What a device is called, of which kind it is, and which one a choice leads to. Opens nothing.

pub(crate) mod choice;
mod info;

pub use choice::DeviceChoice;
pub use info::{DeviceInfo, DeviceKind, DeviceOptions};
