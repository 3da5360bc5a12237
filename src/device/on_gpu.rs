//! What a device with the feature `gpu` can do: adapters opened, devices of the application taken over.

use std::sync::Arc;

use super::{Device, Kind};
use crate::adapter::choice::Selected;
use crate::adapter::{DeviceChoice, DeviceInfo, DeviceOptions};
use crate::base::error::Result;

impl Device {
    pub(super) async fn open_adapter(choice: &DeviceChoice, options: DeviceOptions) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok();
        let chosen_freely = *choice == DeviceChoice::Auto;
        let choice = choice.narrowed(env("WGPU_BACKEND"), env("WGPU_ADAPTER_NAME"));
        let adapters = crate::gpu::adapters(&choice).await;
        let infos: Vec<DeviceInfo> = adapters.iter().map(|adapter| crate::gpu::info(&adapter.get_info())).collect();
        match choice.select(&infos)? {
            Selected::Cpu => {
                log::info!("no hardware GPU among {} adapters: running on the CPU", infos.len());
                Ok(Self::cpu())
            }
            Selected::Adapter(index) => {
                log::info!("running on {}", infos[index]);
                let context = crate::gpu::Context::open(&adapters[index], &infos[index], options).await?;
                let device = Self::from_kind(infos[index].clone(), Kind::Gpu(Arc::new(context)));
                Ok(Self { chosen_freely, ..device })
            }
        }
    }

    /// Runs on a device that the application owns; its error and loss handlers stay untouched.
    #[must_use]
    pub fn from_wgpu(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let info = crate::gpu::info(&device.adapter_info());
        let context = crate::gpu::Context::from_parts(device, queue, &info, None);
        Self::from_kind(info, Kind::Gpu(Arc::new(context)))
    }

    /// As [`Device::from_wgpu`], with the adapter that the device was opened from. It says what the matrix units of a
    /// device with `EXPERIMENTAL_COOPERATIVE_MATRIX`, `SHADER_F16` and `SUBGROUP` multiply.
    #[must_use]
    pub fn from_wgpu_adapter(adapter: &wgpu::Adapter, device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let info = crate::gpu::info(&adapter.get_info());
        let units = crate::gpu::matrix_units(adapter, device.features(), &device.limits());
        let context = crate::gpu::Context::from_parts(device, queue, &info, units);
        Self::from_kind(info, Kind::Gpu(Arc::new(context)))
    }

    /// Measures how many of the largest workgroups run at the same time; `None` on the CPU. On a
    /// GPU the plan asks by itself before workgroups wait for each other.
    ///
    /// # Errors
    /// The driver's own.
    pub fn workgroups_at_once(&self) -> Result<Option<u32>> {
        match &self.kind {
            Kind::Cpu(_) => Ok(None),
            Kind::Gpu(context) => context.workgroups_at_once().map(Some),
        }
    }

    /// Every adapter on every backend, with what matters to gatefold.
    #[must_use]
    pub fn adapters() -> Vec<crate::gpu::AdapterReport> {
        pollster::block_on(crate::gpu::reports())
    }
}
