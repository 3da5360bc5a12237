//! A device with its pipelines, shared by every session on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use super::matrix::{self, matrix_units};
use super::readback::taken;
use crate::adapter::{DeviceInfo, DeviceKind, DeviceOptions};
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::base::process::process;
use crate::data::run::Wait;
use crate::plan::{Access, Constants, Kernel, MAX_REPEAT, MatrixUnits, PARAMS_SIZE, PlanLimits, Repetition};

/// The Mesa whose compiler has been measured to be quick with long sums (25.0.7 at H 128: 2 s; 22.3.6: 14 s).
const UNROLLING_MESA: u32 = 25;
/// Size of the number of a repetition.
const REPETITION_SIZE: u32 = 4;

/// A wgpu device and what was made on it.
#[derive(Debug)]
pub(crate) struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    limits: PlanLimits,
    /// Workgroups known to run concurrently, once it has been measured.
    resident: OnceLock<u32>,
    /// Distance between two entries of a table of uniforms.
    pub uniform_stride: u64,
    pub timestamps: bool,
    pub repetitions: Repetitions,
    name: String,
    /// Who opened the device: drivers do not go on in a forked child.
    process: u32,
    /// Why the device was lost, once it is. Only known of devices opened here.
    lost: Arc<Mutex<Option<String>>>,
    /// An error that the browser reported after the call that caused it.
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    reported: Arc<Mutex<Option<Error>>>,
    pipelines: Mutex<Pipelines>,
    /// The driver's own, once a caller wants it kept.
    pub(super) cache: Mutex<Option<wgpu::PipelineCache>>,
}

/// How kernels receive the number of their dispatch's repetition.
#[derive(Debug)]
pub(crate) enum Repetitions {
    Immediates,
    /// Every number that a repetition may have, chosen by a dynamic offset.
    Table {
        layout: wgpu::BindGroupLayout,
        group: wgpu::BindGroup,
    },
}

/// Compiled kernels by their constants.
type Pipelines = HashMap<(Kernel, Constants), Arc<Pipeline>>;

/// A kernel compiled with its constants.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub pipeline: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

impl Repetitions {
    fn table(device: &wgpu::Device, queue: &wgpu::Queue, stride: u64) -> Self {
        const LABEL: Option<&str> = Some("repetitions");
        let size = wgpu::BufferSize::new(REPETITION_SIZE.into());
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: LABEL,
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Uniform,
                    has_dynamic_offset: true,
                    min_binding_size: size,
                },
                count: None,
            }],
        });
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: LABEL,
            size: MAX_REPEAT as u64 * stride,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let stride = usize::try_from(stride).unwrap_or(usize::MAX);
        let mut table = vec![0; MAX_REPEAT * stride];
        for (number, entry) in (0u32..).zip(table.chunks_exact_mut(stride)) {
            entry[..4].copy_from_slice(&number.to_ne_bytes());
        }
        queue.write_buffer(&buffer, 0, &table);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: LABEL,
            layout: &layout,
            entries: &[wgpu::BindGroupEntry {
                binding: 0,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &buffer, offset: 0, size }),
            }],
        });
        Self::Table { layout, group }
    }
}

impl Context {
    /// Opens a device that asks for no more than gatefold needs and the adapter has.
    pub async fn open(adapter: &wgpu::Adapter, info: &DeviceInfo, options: DeviceOptions) -> Result<Self> {
        let has = adapter.limits();
        let mut limits = wgpu::Limits::defaults().or_worse_values_from(&has);
        limits.max_buffer_size = has.max_buffer_size;
        limits.max_storage_buffer_binding_size = has.max_storage_buffer_binding_size;
        // Long sequences gain from large workgroups with much memory; nothing needs them.
        limits.max_compute_invocations_per_workgroup = has.max_compute_invocations_per_workgroup;
        limits.max_compute_workgroup_size_x = has.max_compute_workgroup_size_x;
        limits.max_compute_workgroup_size_y = has.max_compute_workgroup_size_y;
        limits.max_compute_workgroup_storage_size = has.max_compute_workgroup_storage_size;
        let wanted = wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::IMMEDIATES
            | wgpu::Features::SHADER_F16
            | wgpu::Features::PIPELINE_CACHE;
        let mut features = adapter.features() & wanted;
        if info.kind == DeviceKind::Software {
            features |= adapter.features() & wgpu::Features::SUBGROUP;
        }
        let units = options.matrix_units.then(|| matrix_units(adapter, adapter.features(), &limits)).flatten();
        match units {
            Some(units) => {
                features |= matrix::FEATURES;
                log::info!("{info}: with {units}");
            }
            None if options.matrix_units => log::info!("{info}: without matrix units, of which it has none"),
            None => {}
        }
        if features.contains(wgpu::Features::IMMEDIATES) {
            limits.max_immediate_size = REPETITION_SIZE;
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("gatefold"),
            required_features: features,
            required_limits: limits,
            experimental_features: units.map_or_else(wgpu::ExperimentalFeatures::disabled, |_| experimental()),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|error| Error::Gpu {
            device: info.to_string(),
            what: "opening the device".into(),
            reason: error.to_string(),
        })?;
        let context = Self::from_parts(device, queue, info, units);
        let lost = context.lost.clone();
        context.device.set_device_lost_callback(move |reason, message| {
            // Dropping a device also counts as losing it.
            if reason != wgpu::DeviceLostReason::Destroyed || !message.is_empty() {
                log::error!("device lost: {message}");
            }
            *lock(&lost) = Some(if message.is_empty() { format!("{reason:?}") } else { message });
        });
        context.device.on_uncaptured_error(Arc::new(|error| log::error!("{error}")));
        // Plans are made without waiting, which in a browser rules out this measurement.
        #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
        {
            let resident = context.resident_workgroups(Wait::Await).await;
            context.resident.get_or_init(|| resident);
        }
        Ok(context)
    }

    /// Wraps a device as it is.
    pub fn from_parts(
        device: wgpu::Device,
        queue: wgpu::Queue,
        info: &DeviceInfo,
        matrix_units: Option<MatrixUnits>,
    ) -> Self {
        let limits = device.limits();
        let features = device.features();
        let alignment = u64::from(limits.min_uniform_buffer_offset_alignment).max(1);
        let uniform_stride = PARAMS_SIZE.next_multiple_of(alignment);
        let immediates = features.contains(wgpu::Features::IMMEDIATES) && limits.max_immediate_size >= REPETITION_SIZE;
        Self {
            limits: PlanLimits {
                max_binding: limits.max_storage_buffer_binding_size,
                max_buffer: limits.max_buffer_size,
                max_workgroups: limits.max_compute_workgroups_per_dimension,
                // Workgroups are as deep as they are wide in the plan's eyes.
                max_invocations: limits
                    .max_compute_invocations_per_workgroup
                    .min(limits.max_compute_workgroup_size_x)
                    .min(limits.max_compute_workgroup_size_y),
                max_workgroup_memory: limits.max_compute_workgroup_storage_size,
                resident_workgroups: 0,
                registers: registers(&device),
                f16: features.contains(wgpu::Features::SHADER_F16),
                matrix_units,
                software: info.kind == DeviceKind::Software,
                subgroup: subgroup(&device),
                unrolls: info.driver.split("Mesa ").nth(1).is_some_and(|mesa| major(mesa) >= UNROLLING_MESA),
            },
            resident: OnceLock::new(),
            uniform_stride,
            timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
            repetitions: if immediates {
                Repetitions::Immediates
            } else {
                Repetitions::table(&device, &queue, uniform_stride)
            },
            name: info.to_string(),
            process: process(),
            lost: Arc::default(),
            #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
            reported: Arc::default(),
            pipelines: Mutex::default(),
            cache: Mutex::default(),
            device,
            queue,
        }
    }

    /// What the adapter allows. On hardware the first call measures how many workgroups run at once; in a browser
    /// [`Context::open`] has done so, and devices of the application count as not measured.
    pub fn limits(&self) -> PlanLimits {
        #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
        let resident = *self.resident.get_or_init(|| pollster::block_on(self.resident_workgroups(Wait::Block)));
        #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
        let resident = self.resident.get().copied().unwrap_or(0);
        PlanLimits { resident_workgroups: resident, ..self.limits }
    }

    /// How many workgroups may wait for each other: as many as are known to run at the same time.
    async fn resident_workgroups(&self, wait: Wait) -> u32 {
        if self.limits.software {
            return 0;
        }
        self.workgroups_at_once(wait).await.unwrap_or_else(|error| {
            log::info!("{}: workgroups at once: {error}", self.name);
            0
        })
    }

    /// Measures how many of the largest workgroups that hold weights in registers run at the same time.
    pub async fn workgroups_at_once(&self, wait: Wait) -> Result<u32> {
        super::probe::workgroups_at_once(self, wait).await
    }

    /// The matrix units that kernels may use.
    pub fn matrix_units(&self) -> Option<MatrixUnits> {
        self.limits.matrix_units
    }

    /// Invocations of the largest workgroup.
    pub fn invocations(&self) -> u32 {
        self.limits.max_invocations
    }

    /// What the device is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The error of something that failed, or the loss of the device that caused it.
    pub fn failed(&self, what: &str, reason: &dyn std::fmt::Display) -> Error {
        let device = self.name.clone();
        if lock(&self.lost).is_none() && !self.answers() {
            log::error!("{device}: lost while {what}");
            lock(&self.lost).get_or_insert_with(|| format!("{what}: {reason}"));
        }
        match lock(&self.lost).clone() {
            Some(reason) => Error::DeviceLost { device, reason },
            None => Error::Gpu { device, what: what.into(), reason: reason.to_string() },
        }
    }

    /// Whether the device still makes a buffer. Nothing else tells of the loss of an application's own
    /// device, whose handlers are the application's.
    fn answers(&self) -> bool {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("sign of life"),
            size: 4,
            usage: wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: true,
        });
        let mapped = buffer.get_mapped_range(..).is_ok();
        // In a browser the loss is reported by the device alone, and no call may wait for the scope.
        #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
        {
            drop(scope);
            mapped || lock(&self.lost).is_none()
        }
        #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
        {
            mapped || pollster::block_on(scope.pop()).is_some()
        }
    }

    /// As [`Context::check`], having asked the device: by nothing else does one learn that an application's own
    /// is gone. Makes an object of the GPU, so it is not for what is done often.
    pub fn check_by_asking(&self, what: &str) -> Result<()> {
        self.check()?;
        if self.answers() { Ok(()) } else { Err(self.failed(what, &"the device does not answer")) }
    }

    /// Submits work whose result is not read back. An error if the device is lost.
    pub fn submit_unread(&self, what: &str, encoder: wgpu::CommandEncoder) -> Result<()> {
        let submission = self.queue.submit([encoder.finish()]);
        if taken(&self.device, submission) { Ok(()) } else { Err(self.failed(what, &"the device takes no work")) }
    }

    /// An error if the device is known to be lost, or belongs to a parent process.
    pub fn check(&self) -> Result<()> {
        if self.process != process() {
            let reason = "this process was forked after the device was opened; open one here".into();
            return Err(Error::DeviceLost { device: self.name.clone(), reason });
        }
        #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
        if let Some(error) = lock(&self.reported).take() {
            return Err(error);
        }
        match lock(&self.lost).clone() {
            Some(reason) => Err(Error::DeviceLost { device: self.name.clone(), reason }),
            None => Ok(()),
        }
    }

    /// Runs `work` and turns whatever wgpu reports about it into an error.
    pub async fn scoped<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let scopes = self.scopes();
        let result = work();
        match first_report(scopes).await {
            Some(error) => Err(self.failed(what, &error)),
            None => result,
        }
    }

    /// As [`Context::scoped`], at once. In a browser the report follows after the call: it is the error of the next
    /// [`Context::check`].
    pub fn scoped_now<T>(&self, what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
        return pollster::block_on(self.scoped(what, work));
        #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
        {
            let scopes = self.scopes();
            let result = work();
            let report = first_report(scopes);
            let (reported, device, what) = (self.reported.clone(), self.name.clone(), what.to_owned());
            wasm_bindgen_futures::spawn_local(async move {
                if let Some(error) = report.await {
                    let reason = error.to_string();
                    lock(&reported).get_or_insert(Error::Gpu { device, what, reason });
                }
            });
            result
        }
    }

    fn scopes(&self) -> [wgpu::ErrorScopeGuard; 3] {
        [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal]
            .map(|filter| self.device.push_error_scope(filter))
    }

    /// The pipeline of `kernel` with `constants`, compiled at its first use.
    pub fn pipeline(&self, kernel: Kernel, constants: &Constants) -> Arc<Pipeline> {
        let key = (kernel, constants.clone());
        let mut pipelines = lock(&self.pipelines);
        pipelines.entry(key).or_insert_with(|| Arc::new(self.compile(kernel, constants))).clone()
    }

    fn compile(&self, kernel: Kernel, constants: &Constants) -> Pipeline {
        let spec = kernel.spec();
        let label = Some(spec.name.as_str());
        let (repetition, immediate_size) = match &self.repetitions {
            Repetitions::Immediates => (Repetition::Immediate, REPETITION_SIZE),
            Repetitions::Table { .. } => (Repetition::Uniform, 0),
        };
        let module = trusted_module(&self.device, &spec.name, kernel.source(constants, repetition));
        let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..)
            .zip(&spec.bindings)
            .map(|(binding, row)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match row.access {
                        Access::Uniform => wgpu::BufferBindingType::Uniform,
                        access => wgpu::BufferBindingType::Storage { read_only: access == Access::Read },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let layout =
            self.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let repeats = kernel.repeats();
        let mut layouts = vec![Some(&layout)];
        if let (true, Repetitions::Table { layout, .. }) = (repeats, &self.repetitions) {
            layouts.push(Some(layout));
        }
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &layouts,
            immediate_size: if repeats { immediate_size } else { 0 },
        });
        let constants: Vec<(&str, f64)> = constants.iter().map(|(name, value)| (name, value.number())).collect();
        let cache = lock(&self.cache).clone();
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(spec.entry_point),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Kernels write workgroup memory before they read it, and this costs minutes of
                // compile time on some backends.
                zero_initialize_workgroup_memory: false,
            },
            cache: cache.as_ref(),
        });
        log::debug!("compiled {} {constants:?}", spec.name);
        Pipeline { pipeline, layout }
    }
}

/// Ends the scopes at once, and gives the first of wgpu's reports.
fn first_report(
    [validation, memory, internal]: [wgpu::ErrorScopeGuard; 3],
) -> impl Future<Output = Option<wgpu::Error>> {
    let reports = (internal.pop(), memory.pop(), validation.pop());
    async move {
        let (internal, memory, validation) = reports;
        let first = internal.await;
        let first = first.or(memory.await);
        first.or(validation.await)
    }
}

/// The number before the first point of a version, 0 if there is none.
fn major(version: &str) -> u32 {
    version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Invocations of every subgroup of a device that allows its operations, 0 where they differ.
fn subgroup(device: &wgpu::Device) -> u32 {
    let info = device.adapter_info();
    let one = device.features().contains(wgpu::Features::SUBGROUP) && info.subgroup_min_size == info.subgroup_max_size;
    if one { info.subgroup_min_size } else { 0 }
}

/// Registers of one workgroup. No interface reports them: 64 Ki words have NVIDIA's multiprocessors and AMD's GCN, RDNA at least
/// twice as many. Mesa and AMD's drivers report subgroups of 32 on RDNA and of 64 alone on GCN.
fn registers(device: &wgpu::Device) -> u32 {
    const AMD: u32 = 0x1002;
    let info = device.adapter_info();
    let rdna = info.vendor == AMD && info.subgroup_min_size == 32;
    if rdna { 2 * PlanLimits::default().registers } else { PlanLimits::default().registers }
}

/// One of the GPU's three places with `unsafe` code: wgpu asks for it before an experimental feature may be turned on.
#[expect(unsafe_code, reason = "an experimental feature, asked for by the caller")]
fn experimental() -> wgpu::ExperimentalFeatures {
    // SAFETY: what wgpu warns of is undefined behaviour in its own unfinished code. Cooperative matrices are turned on for
    // those who ask for them alone, and what the kernels do with them is held to the reference.
    unsafe { wgpu::ExperimentalFeatures::enabled() }
}

/// The second place with `unsafe` code; the third is [`driver_cache`] below.
///
/// naga's bounds checks and loop bounds cost a factor in the hot loops. They may go because
/// every index in our kernels is below a size that the plan has checked against the buffer
/// bound there (`src/plan/builder/`), of the data-dependent indices a token id is clamped in the
/// shader, the steps and rows of an embedding's gradient are the host's own (`src/plan/train/lookup.rs`) and a slot is one of the pool's own (`src/streams/table.rs`), and every loop counts up to a constant or to the T of the plan, or is bounded
/// by a number of looks that only falls (`rungs/resident.wgsl`).
#[expect(unsafe_code, reason = "unchecked shaders; audited above")]
pub(super) fn trusted_module(device: &wgpu::Device, name: &str, source: String) -> wgpu::ShaderModule {
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(name), source: wgpu::ShaderSource::Wgsl(source.into()) };
    // SAFETY: see above; the source is our own, from `Kernel::source`.
    unsafe { device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
}

/// A cache of the driver's that begins with `data`, an error where it does not take them.
#[expect(unsafe_code, reason = "data for the driver; audited below")]
pub(super) fn driver_cache(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("gatefold"), data, fallback: false };
    // SAFETY: `data` is what `PipelineCache::get_data` gave this version of gatefold on this adapter and driver:
    // the one caller, `pipeline_cache.rs`, has held it against a header and a checksum written with it.
    unsafe { device.create_pipeline_cache(&descriptor) }
}
