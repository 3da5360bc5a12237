//! Functions of a device that need the feature `gpu`: to use a device of the application, to list adapters, and to store
//! what the driver has compiled.

mod pipeline_cache;

use std::sync::Arc;

use super::{Device, DeviceHandle};
use crate::base::error::Result;
use crate::gpu;

impl Device {
    /// Runs on a device that the application owns; its error and loss handlers are not changed.
    #[must_use]
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let info = gpu::info(&device.adapter_info());
        let context = gpu::Context::from_parts(device, queue, &info, None);
        Self::with_handle(info, DeviceHandle::Gpu(Arc::new(context)))
    }

    /// As [`Device::from_wgpu`], with the adapter that the device was opened from. It says what the matrix units of a
    /// device with `EXPERIMENTAL_COOPERATIVE_MATRIX`, `SHADER_F16` and `SUBGROUP` multiply.
    #[must_use]
    pub fn from_wgpu_adapter(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let info = gpu::info(&adapter.get_info());
        let units = gpu::matrix_units(adapter, device.features(), &device.limits());
        let context = gpu::Context::from_parts(device, queue, &info, units);
        Self::with_handle(info, DeviceHandle::Gpu(Arc::new(context)))
    }

    /// Measures how many of the largest workgroups run at the same time; `None` on the CPU. On a
    /// GPU, gatefold measures this by itself before it uses a plan in which workgroups wait for each other.
    ///
    /// # Errors
    /// The driver's own.
    pub fn workgroups_at_once(&self) -> Result<Option<u32>> {
        self.handle.gpu().map(|context| context.workgroups_at_once()).transpose()
    }

    /// Every adapter on every backend, with what matters to gatefold.
    #[must_use]
    pub fn adapters() -> Vec<gpu::AdapterReport> {
        pollster::block_on(gpu::reports())
    }
}
