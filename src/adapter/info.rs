//! The description of a device, and the options for opening one.

use std::fmt::{self, Display, Formatter};

/// Options for opening a device, in addition to the features that every run may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// Turns on matrix units, which wgpu calls experimental, if the adapter has some. They are for
    /// [`Arithmetic::Matrix`](crate::plan::Arithmetic::Matrix). If it has none, the device is opened without them.
    pub matrix_units: bool,
}

impl DeviceOptions {
    /// Sets [`DeviceOptions::matrix_units`].
    #[must_use]
    pub fn matrix_units(mut self, on: bool) -> Self {
        self.matrix_units = on;
        self
    }
}

/// The description of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// The adapter's name.
    pub name: String,
    /// Its backend in lower case (`vulkan`, `metal`, `dx12`, `gl`, `webgpu`), `cpu` for this CPU.
    pub backend: String,
    /// Its kind.
    pub kind: DeviceKind,
    /// Driver and its version.
    pub driver: String,
}

/// Kinds of devices, in the order in which the default choice prefers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeviceKind {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU of a virtual machine.
    Virtual,
    /// A GPU whose kind the driver does not report.
    Other,
    /// This CPU through gatefold's own code.
    Cpu,
    /// A graphics driver that computes on the CPU (lavapipe, llvmpipe, SwiftShader, WARP).
    Software,
}

impl DeviceKind {
    /// Whether it is a real GPU.
    #[must_use]
    pub fn is_gpu(self) -> bool {
        self < Self::Cpu
    }
}

impl Display for DeviceKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Other => "GPU",
            Self::Cpu => "CPU",
            Self::Software => "software renderer",
        })
    }
}

impl DeviceInfo {
    /// This CPU.
    #[must_use]
    pub fn cpu() -> Self {
        Self { name: "CPU".into(), backend: "cpu".into(), kind: DeviceKind::Cpu, driver: String::new() }
    }
}

impl Display for DeviceInfo {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.kind {
            DeviceKind::Cpu => f.write_str("CPU"),
            kind => write!(f, "{} ({}, {kind})", self.name, self.backend),
        }
    }
}
