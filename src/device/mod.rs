//! Opened devices, on which networks run.

mod on_device;
#[cfg(feature = "gpu")]
mod on_gpu;

use std::sync::Arc;

use crate::adapter::{DeviceChoice, DeviceInfo, DeviceOptions};
use crate::base::clock::Instant;
use crate::base::error::Result;
use crate::base::wait::wait;
use crate::cpu::{Cpu, CpuOptions};
use crate::data::run::Wait;
use crate::gpu;
use crate::measured::Tuning;
use crate::plan::{MatrixUnits, PlanLimits};

pub(crate) use on_device::OnDevice;

/// A device that runs networks: a GPU, or this CPU. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Device {
    info: Arc<DeviceInfo>,
    handle: DeviceHandle,
    tuning: Option<Arc<Tuning>>,
    /// Whether gatefold chose the device, so that it may run on the CPU what is faster there.
    chosen_freely: bool,
}

pub(crate) type DeviceHandle = OnDevice<Cpu, Arc<gpu::Context>>;

impl Device {
    /// This CPU, with all its cores and its widest instruction set.
    #[must_use]
    pub fn cpu() -> Self {
        Self::of_cpu(Cpu::best())
    }

    /// This CPU, as `options` say.
    ///
    /// # Errors
    /// [`Error::NoAdapter`](crate::Error::NoAdapter) if the CPU has no such instruction set.
    pub fn cpu_with(options: CpuOptions) -> Result<Self> {
        Ok(Self::of_cpu(Cpu::new(options)?))
    }

    fn of_cpu(cpu: Cpu) -> Self {
        Self::with_handle(DeviceInfo { driver: cpu.describe(), ..DeviceInfo::cpu() }, DeviceHandle::Cpu(cpu))
    }

    /// Opens the device that `choice` selects.
    ///
    /// # Errors
    /// [`Error::NoAdapter`](crate::Error::NoAdapter) if there is none, the driver's own errors.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        Self::open_with(choice, DeviceOptions::default())
    }

    /// As [`Device::open`], with additional features of the adapter.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_with(choice: &DeviceChoice, options: DeviceOptions) -> Result<Self> {
        wait("Device::open_with_async", Self::open_with_async(choice, options))
    }

    /// As [`Device::open`], without blocking.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn open_async(choice: &DeviceChoice) -> Result<Self> {
        Self::open_with_async(choice, DeviceOptions::default()).await
    }

    /// As [`Device::open_with`], without blocking.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub async fn open_with_async(choice: &DeviceChoice, options: DeviceOptions) -> Result<Self> {
        if *choice == DeviceChoice::Cpu {
            return Ok(Self::cpu());
        }
        let Some((info, context)) = gpu::open(choice, options).await? else { return Ok(Self::cpu()) };
        let device = Self::with_handle(info, DeviceHandle::Gpu(Arc::new(context)));
        Ok(Self { chosen_freely: *choice == DeviceChoice::Auto, ..device })
    }

    /// The matrix units that it was opened with.
    #[must_use]
    pub fn matrix_units(&self) -> Option<MatrixUnits> {
        self.handle.gpu()?.matrix_units()
    }

    /// What plans for it must keep to; WebGPU's default limits on the CPU, which needs no plan.
    #[must_use]
    pub fn limits(&self) -> PlanLimits {
        self.handle.gpu().map_or_else(PlanLimits::default, |context| context.limits())
    }

    /// The tuning results, by which a run may be done on the CPU.
    pub(crate) fn tuning_of_free_choice(&self) -> Option<&Arc<Tuning>> {
        self.tuning.as_ref().filter(|_| self.chosen_freely)
    }

    /// The description of the device.
    #[must_use]
    pub fn info(&self) -> &Arc<DeviceInfo> {
        &self.info
    }

    fn with_handle(info: DeviceInfo, handle: DeviceHandle) -> Self {
        Self { info: Arc::new(info), handle, tuning: None, chosen_freely: false }
    }

    /// The device with tuning results: its sessions run each measured case with the fastest choice. A device of
    /// [`DeviceChoice::Auto`] runs on the CPU what was measured to be faster there.
    ///
    /// # Errors
    /// [`Error::Malformed`](crate::Error::Malformed) if the tuning is another adapter's.
    pub fn tuned(mut self, tuning: Tuning) -> Result<Self> {
        tuning.check(&self.info)?;
        self.tuning = Some(Arc::new(tuning));
        Ok(self)
    }

    /// The device without tuning results.
    pub(crate) fn untuned(&self) -> Self {
        Self { tuning: None, ..self.clone() }
    }

    /// Whether workgroups of one dispatch are known to run concurrently.
    pub(crate) fn workgroups_meet(&self) -> bool {
        self.handle.gpu().is_some_and(|context| context.limits().resident_workgroups > 0)
    }

    pub(crate) fn tuning(&self) -> Option<&Arc<Tuning>> {
        self.tuning.as_ref()
    }

    /// Bytes read and written per second when memory is copied on the device: an upper bound for its kernels.
    /// Takes a fraction of a second and 256 MiB of the device's memory.
    ///
    /// # Errors
    /// The driver's own errors.
    pub fn measure_bandwidth(&self) -> Result<f64> {
        wait("Device::measure_bandwidth_async", self.bandwidth(Wait::Block))
    }

    /// As [`Device::measure_bandwidth`], without blocking.
    ///
    /// # Errors
    /// As [`Device::measure_bandwidth`].
    pub async fn measure_bandwidth_async(&self) -> Result<f64> {
        self.bandwidth(Wait::Await).await
    }

    async fn bandwidth(&self, wait: Wait) -> Result<f64> {
        match &self.handle {
            DeviceHandle::Cpu(_) => Ok(copy_bandwidth()),
            DeviceHandle::Gpu(context) => gpu::bandwidth(context, wait).await,
        }
    }

    pub(crate) fn handle(&self) -> &DeviceHandle {
        &self.handle
    }
}

/// Of this CPU, one thread; the best of five copies.
fn copy_bandwidth() -> f64 {
    const NUMBERS: usize = 16 << 20;
    let (from, mut to) = (vec![1_u32; NUMBERS], vec![0_u32; NUMBERS]);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        best = best.min(start.elapsed().as_secs_f64());
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    let moved = (2 * NUMBERS * size_of::<u32>()) as f64;
    moved / best.max(1e-9)
}
