//! Where networks run: which device to take, and what it is called.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;

use crate::cpu::{Cpu, CpuOptions};
use crate::error::{Error, Result};
use crate::plan::MatrixUnits;
use crate::tuning::Tuning;

/// A place to run networks: a GPU, or this CPU. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Device {
    info: Arc<DeviceInfo>,
    kind: Kind,
    tuning: Option<Arc<Tuning>>,
    /// Whether its owner left the choice to gatefold, so that a run may be better off on the CPU.
    #[cfg(feature = "gpu")]
    chosen_freely: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Cpu(Cpu),
    #[cfg(feature = "gpu")]
    Gpu(Arc<crate::gpu::Context>),
}

/// What a device is opened with beyond what every run may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceOptions {
    /// Turns on matrix units, which wgpu calls experimental, where the adapter has some: for
    /// [`Arithmetic::Matrix`](crate::plan::Arithmetic::Matrix). Where it has none the device opens without.
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

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
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
pub enum DeviceKind {
    /// A GPU with its own memory.
    Discrete,
    /// A GPU that shares the CPU's memory.
    Integrated,
    /// A GPU lent to a virtual machine.
    Virtual,
    /// A GPU whose driver does not say more.
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

/// Which device to take.
///
/// As text (the command's `--device`): `auto`, `cpu`, `gpu`, `software`, a backend (`vulkan`,
/// `metal`, `dx12`, `gl`), a part of an adapter's name, or `backend:name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The best real GPU (discrete, then integrated), else the CPU. The environment variables
    /// `WGPU_BACKEND` and `WGPU_ADAPTER_NAME` narrow the choice, then even to software adapters.
    #[default]
    Auto,
    /// This CPU.
    Cpu,
    /// The best real GPU, or an error.
    Gpu,
    /// A software adapter: right, but slower than [`DeviceChoice::Cpu`].
    Software,
    /// An adapter, of any kind, that answers to this backend and this part of its name.
    Adapter {
        /// As [`DeviceInfo::backend`].
        backend: Option<String>,
        /// Part of the name, case ignored.
        name: Option<String>,
    },
}

const BACKENDS: [&str; 5] = ["vulkan", "metal", "dx12", "gl", "webgpu"];

impl FromStr for DeviceChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.trim().to_ascii_lowercase();
        let (backend, name) = match lower.split_once(':') {
            Some((backend, name)) if BACKENDS.contains(&backend) => (Some(backend), Some(name)),
            _ if BACKENDS.contains(&lower.as_str()) => (Some(lower.as_str()), None),
            _ => (None, Some(lower.as_str())),
        };
        Ok(match lower.as_str() {
            "auto" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            "software" => Self::Software,
            _ if name == Some("") => {
                return Err(Error::Malformed {
                    what: "device".into(),
                    expected: format!(
                        "auto, cpu, gpu, software, {}, part of an adapter's name, or backend:name",
                        BACKENDS.join(", ")
                    ),
                    got: format!("{text:?}"),
                });
            }
            _ => Self::Adapter { backend: backend.map(Into::into), name: name.map(Into::into) },
        })
    }
}

impl Display for DeviceChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::Software => f.write_str("software"),
            Self::Adapter { backend: Some(backend), name: Some(name) } => write!(f, "{backend}:{name}"),
            Self::Adapter { backend, name } => {
                f.write_str(backend.as_ref().or(name.as_ref()).map_or("", String::as_str))
            }
        }
    }
}

/// Where a choice leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    Cpu,
    Adapter(usize),
}

impl DeviceChoice {
    /// The choice with [`DeviceChoice::Auto`] narrowed by the environment's wishes.
    pub(crate) fn narrowed(&self, backend: Option<String>, name: Option<String>) -> Self {
        let filled = |wish: Option<String>| wish.map(|w| w.trim().to_ascii_lowercase()).filter(|w| !w.is_empty());
        match (self, filled(backend), filled(name)) {
            (Self::Auto, None, None) => Self::Auto,
            (Self::Auto, backend, name) => Self::Adapter { backend, name },
            _ => self.clone(),
        }
    }

    /// Picks among the adapters that are there.
    pub(crate) fn select(&self, adapters: &[DeviceInfo]) -> Result<Selected> {
        let fits = |info: &DeviceInfo| match self {
            Self::Auto | Self::Gpu => info.kind.is_gpu(),
            Self::Cpu => false,
            Self::Software => info.kind == DeviceKind::Software,
            Self::Adapter { backend, name } => {
                // WGPU_BACKEND may list several, and spells some in its own way.
                let same = |wish: &str| match wish.trim() {
                    "opengl" | "gles" => info.backend == "gl",
                    "vk" => info.backend == "vulkan",
                    "mtl" => info.backend == "metal",
                    "d3d12" => info.backend == "dx12",
                    wish => info.backend == wish,
                };
                backend.as_ref().is_none_or(|wish| wish.split(',').any(same))
                    && name
                        .as_ref()
                        .is_none_or(|wish| info.name.to_ascii_lowercase().contains(&wish.to_ascii_lowercase()))
            }
        };
        // GL is the slowest road to a GPU that another backend reaches too.
        let best = adapters
            .iter()
            .enumerate()
            .filter(|(_, info)| fits(info))
            .min_by_key(|(index, info)| (info.kind, info.backend == "gl", *index));
        match (best, self) {
            (_, Self::Cpu) | (None, Self::Auto) => Ok(Selected::Cpu),
            (Some((index, _)), _) => Ok(Selected::Adapter(index)),
            (None, _) => Err(Error::NoAdapter {
                wanted: match self {
                    Self::Gpu => "`gpu`, a hardware adapter".into(),
                    other => format!("`{other}`"),
                },
                present: adapters.iter().map(ToString::to_string).collect(),
            }),
        }
    }
}

impl Device {
    /// This CPU, with all that it offers.
    #[must_use]
    pub fn cpu() -> Self {
        Self::of_cpu(Cpu::best())
    }

    /// This CPU, as `options` say.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if the CPU has no such instruction set.
    pub fn cpu_with(options: CpuOptions) -> Result<Self> {
        Ok(Self::of_cpu(Cpu::new(options)?))
    }

    fn of_cpu(cpu: Cpu) -> Self {
        Self::from_kind(DeviceInfo { driver: cpu.describe(), ..DeviceInfo::cpu() }, Kind::Cpu(cpu))
    }

    /// Opens the device that `choice` leads to.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if there is none, the driver's own errors.
    pub fn open(choice: &DeviceChoice) -> Result<Self> {
        Self::open_with(choice, DeviceOptions::default())
    }

    /// As [`Device::open`], with more than every run may use.
    ///
    /// # Errors
    /// As [`Device::open`].
    pub fn open_with(choice: &DeviceChoice, options: DeviceOptions) -> Result<Self> {
        pollster::block_on(Self::open_with_async(choice, options))
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
        Self::open_adapter(choice, options).await
    }

    /// The matrix units that it was opened with.
    #[must_use]
    pub fn matrix_units(&self) -> Option<MatrixUnits> {
        match &self.kind {
            Kind::Cpu(_) => None,
            #[cfg(feature = "gpu")]
            Kind::Gpu(context) => context.matrix_units(),
        }
    }

    /// The tuning that may send a run to the CPU.
    #[cfg(feature = "gpu")]
    pub(crate) fn tuning_of_free_choice(&self) -> Option<&Arc<Tuning>> {
        self.tuning.as_ref().filter(|_| self.chosen_freely)
    }

    /// What it is.
    #[must_use]
    pub fn info(&self) -> &Arc<DeviceInfo> {
        &self.info
    }

    fn from_kind(info: DeviceInfo, kind: Kind) -> Self {
        Self {
            info: Arc::new(info),
            kind,
            tuning: None,
            #[cfg(feature = "gpu")]
            chosen_freely: false,
        }
    }

    /// The device, whose sessions from now on run as `tuning` says where it has measured. A device of
    /// [`DeviceChoice::Auto`] leaves to the CPU what was measured to be faster there.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the tuning is another adapter's.
    pub fn tuned(mut self, tuning: Tuning) -> Result<Self> {
        tuning.check(&self.info)?;
        self.tuning = Some(Arc::new(tuning));
        Ok(self)
    }

    /// The device without what has been measured.
    pub(crate) fn untuned(&self) -> Self {
        Self { tuning: None, ..self.clone() }
    }

    /// Whether workgroups of one dispatch surely run at the same time, as far as anybody knows.
    pub(crate) fn workgroups_meet(&self) -> bool {
        match &self.kind {
            Kind::Cpu(_) => false,
            #[cfg(feature = "gpu")]
            Kind::Gpu(context) => context.limits().resident_workgroups > 0,
        }
    }

    #[cfg(feature = "gpu")]
    pub(crate) fn tuning(&self) -> Option<&Arc<Tuning>> {
        self.tuning.as_ref()
    }

    /// Bytes read and written per second when memory is copied on the device: what its kernels can reach at best.
    /// Takes a fraction of a second and 256 MiB of the device's memory.
    ///
    /// # Errors
    /// The driver's own errors.
    pub fn measure_bandwidth(&self) -> Result<f64> {
        match &self.kind {
            Kind::Cpu(_) => Ok(copy_bandwidth()),
            #[cfg(feature = "gpu")]
            Kind::Gpu(context) => pollster::block_on(crate::gpu::bandwidth(context)),
        }
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.kind
    }
}

/// Of this CPU, one thread; the best of five copies.
fn copy_bandwidth() -> f64 {
    const NUMBERS: usize = 16 << 20;
    let (from, mut to) = (vec![1_u32; NUMBERS], vec![0_u32; NUMBERS]);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = std::time::Instant::now();
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
        best = best.min(start.elapsed().as_secs_f64());
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
    let moved = (2 * NUMBERS * size_of::<u32>()) as f64;
    moved / best.max(1e-9)
}

#[cfg(not(feature = "gpu"))]
impl Device {
    #[expect(clippy::unused_async, reason = "the build with a GPU awaits here")]
    async fn open_adapter(choice: &DeviceChoice, _: DeviceOptions) -> Result<Self> {
        choice.narrowed(None, None).select(&[]).map(|_| Self::cpu())
    }
}

#[cfg(feature = "gpu")]
impl Device {
    async fn open_adapter(choice: &DeviceChoice, options: DeviceOptions) -> Result<Self> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, backend: &str, kind: DeviceKind) -> DeviceInfo {
        DeviceInfo { name: name.into(), backend: backend.into(), kind, driver: String::new() }
    }

    fn machine() -> Vec<DeviceInfo> {
        vec![
            adapter("llvmpipe (LLVM 15)", "vulkan", DeviceKind::Software),
            adapter("Radeon Graphics", "gl", DeviceKind::Integrated),
            adapter("Radeon Graphics", "vulkan", DeviceKind::Integrated),
            adapter("GeForce RTX", "gl", DeviceKind::Discrete),
            adapter("GeForce RTX", "vulkan", DeviceKind::Discrete),
        ]
    }

    fn select(choice: &str, adapters: &[DeviceInfo]) -> Result<Selected> {
        choice.parse::<DeviceChoice>()?.select(adapters)
    }

    #[test]
    fn auto_takes_the_best_real_gpu() {
        let machine = machine();
        assert_eq!(select("auto", &machine).ok(), Some(Selected::Adapter(4)));
        assert_eq!(select("auto", &machine[..3]).ok(), Some(Selected::Adapter(2)));
        assert_eq!(select("auto", &machine[..1]).ok(), Some(Selected::Cpu), "never a software adapter unasked");
        assert_eq!(select("auto", &[]).ok(), Some(Selected::Cpu));
    }

    #[test]
    fn a_wish_is_granted_or_refused() {
        let machine = machine();
        for (wish, index) in [
            ("gpu", 4),
            ("software", 0),
            ("vulkan", 4),
            ("gl", 3),
            ("GL", 3),
            ("radeon", 2),
            ("gl:radeon", 1),
            ("vulkan:LLVMpipe", 0),
            ("llvmpipe", 0),
        ] {
            assert_eq!(select(wish, &machine).ok(), Some(Selected::Adapter(index)), "{wish}");
        }
        assert_eq!(select("cpu", &machine).ok(), Some(Selected::Cpu));
        for wish in ["metal", "arc", "gl:arc"] {
            let error = select(wish, &machine).expect_err(wish).to_string();
            assert!(error.starts_with(&format!("no adapter for `{wish}`; present: llvmpipe")), "{error}");
        }
        assert!(select("gpu", &machine[..1]).is_err());
        assert!(select("software", &machine[1..]).is_err());
        assert!(select("", &machine).is_err() && select("gl:", &machine).is_err());
    }

    #[test]
    fn the_environment_narrows_auto_only() {
        let wish = |text: &str| Some(text.to_owned());
        let narrowed = |choice: &str, backend, name| {
            choice.parse::<DeviceChoice>().expect("valid").narrowed(backend, name).select(&machine()).ok()
        };
        assert_eq!(narrowed("auto", wish("gl"), None), Some(Selected::Adapter(3)));
        assert_eq!(narrowed("auto", wish("opengl"), wish("Radeon")), Some(Selected::Adapter(1)));
        assert_eq!(narrowed("auto", wish("metal,vk"), wish("LLVM")), Some(Selected::Adapter(0)));
        assert_eq!(narrowed("auto", wish("metal"), None), None, "an unfulfilled wish is an error");
        assert_eq!(narrowed("auto", wish(""), None), Some(Selected::Adapter(4)));
        assert_eq!(narrowed("cpu", wish("gl"), None), Some(Selected::Cpu));
    }
}
