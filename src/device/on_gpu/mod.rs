//! Functions of a device that need the feature `gpu`: to use a device of the application, to list adapters, and to store
//! what the driver has compiled.

mod pipeline_cache;

use std::sync::Arc;

use super::{Device, DeviceHandle};
use crate::base::error::Result;
use crate::base::wait::wait;
use crate::data::run::Wait;
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
        wait("Device::workgroups_at_once_async", self.count_workgroups(Wait::Block))
    }

    /// As [`Device::workgroups_at_once`], without blocking.
    ///
    /// # Errors
    /// The driver's own.
    pub async fn workgroups_at_once_async(&self) -> Result<Option<u32>> {
        self.count_workgroups(Wait::Await).await
    }

    async fn count_workgroups(&self, wait: Wait) -> Result<Option<u32>> {
        match self.handle.gpu() {
            Some(context) => context.workgroups_at_once(wait).await.map(Some),
            None => Ok(None),
        }
    }

    /// Every adapter on every backend, with what matters to gatefold. Empty in a browser, where
    /// [`Device::adapters_async`] lists the one that it offers.
    #[must_use]
    pub fn adapters() -> Vec<gpu::AdapterReport> {
        wait("Device::adapters_async", async { Ok(gpu::reports().await) }).unwrap_or_default()
    }

    /// As [`Device::adapters`], without blocking.
    pub async fn adapters_async() -> Vec<gpu::AdapterReport> {
        gpu::reports().await
    }
}
