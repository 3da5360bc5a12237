//! The choice of a device.

use std::num::NonZeroUsize;

use gatefold::{CpuOptions, Device, DeviceChoice, DeviceInfo, DeviceKind, Error};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::errors::{unlocked, value_error};

/// Opens the device of this name; `threads` are those of the CPU.
pub fn open(py: Python<'_>, name: &str, threads: Option<usize>) -> PyResult<Device> {
    let threads = match threads.map(NonZeroUsize::new) {
        Some(None) => return Err(value_error("threads", "at least 1", 0)),
        Some(threads) => threads,
        None => None,
    };
    let cpu = || Device::cpu_with(CpuOptions { threads, ..CpuOptions::default() });
    let device = unlocked(py, || match name.parse()? {
        DeviceChoice::Cpu => cpu(),
        choice => {
            let device = Device::open(&choice)?;
            if device.info().kind == DeviceKind::Cpu { cpu() } else { Ok::<_, Error>(device) }
        }
    })?;
    if threads.is_some() && device.info().kind != DeviceKind::Cpu && name != "auto" {
        return Err(value_error("threads", "the device `cpu` or `auto` with it", device.info()));
    }
    Ok(device)
}

/// The devices of this machine, the CPU first: dicts of name, backend, kind and driver. `backend:name` selects one.
#[pyfunction]
pub fn devices(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    #[cfg(feature = "gpu")]
    let adapters = unlocked(py, || Ok(Device::adapters()))?.into_iter().map(|report| report.info);
    #[cfg(not(feature = "gpu"))]
    let adapters = std::iter::empty();
    let all = std::iter::once((**Device::cpu().info()).clone()).chain(adapters);
    let list = PyList::empty(py);
    for DeviceInfo { name, backend, kind, driver, .. } in all {
        let device = PyDict::new(py);
        device.set_item("name", name)?;
        device.set_item("backend", backend)?;
        device.set_item("kind", format!("{kind:?}").to_lowercase())?;
        device.set_item("driver", driver)?;
        list.append(device)?;
    }
    Ok(list)
}
