//! Sessions: a network on a device, ready to run.

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use crate::adapter::DeviceInfo;
use crate::base::clock::Instant;
use crate::base::error::{Error, Result};
use crate::base::room::room;
use crate::base::span::span;
use crate::base::wait::wait;
use crate::counters::{Counters, Meter};
use crate::cpu;
use crate::data::banks::BankArena;
use crate::data::input::{Checked, Input, swap_outer};
use crate::data::run::{Raw, RunRequest, Wait};
use crate::data::state::State;
use crate::device::{Device, DeviceHandle, OnDevice};
use crate::gpu;
use crate::network::{Axis, Join, Network, Source, StageKind, reorder};
use crate::plan::{Arithmetic, Plan, PlanOptions, RunShape};

/// A network whose weights are on a device. It is `Send + Sync`; runs of several threads overlap on the CPU and are done one after
/// the other on a GPU.
#[derive(Debug)]
pub struct Session {
    device: Device,
    network: Arc<Network>,
    arithmetic: Arithmetic,
    engine: Engine,
    meter: Arc<Meter>,
    options: PlanOptions,
    /// Whether the weights are a trainer's.
    shares: bool,
}

type Engine = OnDevice<cpu::CpuEngine, (Box<gpu::GpuEngine>, Fallback)>;

/// CPU fallback, created the first time tuning prefers the CPU.
type Fallback = OnceLock<(cpu::CpuEngine, Arc<DeviceInfo>)>;

/// Where a run is done. This CPU is named if it is not the session's device.
type RunTarget<'a> = OnDevice<(&'a cpu::CpuEngine, Option<&'a Arc<DeviceInfo>>), &'a gpu::GpuEngine>;

/// The answer of a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Output {
    /// Row-major numbers.
    pub values: Vec<f32>,
    /// `[T, B, N]` (`[B, T, N]` with `batch_first`), or `[B, N]` without a time dimension.
    pub shape: Vec<usize>,
    /// What the axes of `shape` mean. The file that the network was read from may have others:
    /// [`Network::file_axes`].
    pub axes: &'static [Axis],
    /// The network's other outputs ([`Network::outputs`]), in its order.
    pub others: Vec<NamedOutput>,
    /// State after the last step, to be handed to the next run.
    pub state: State,
    /// Where it was computed.
    pub device: Arc<DeviceInfo>,
    /// How long it took.
    pub timing: Timing,
}

impl Output {
    /// Its shape and its numbers in the order of the file that `network`, whose output it is, was read from; `None` where
    /// the file states no order, or states one that cannot hold these numbers.
    #[must_use]
    pub fn in_file_axes(&self, network: &Network) -> Option<(Vec<usize>, Vec<f32>)> {
        let file = network.file_axes()?;
        let last = network.stages().len().checked_sub(1)?;
        reorder(&self.values, (self.axes, &self.shape), (&file.output.axes, file.output.row), directions(network, last))
    }
}

/// Directions that lie side by side in the output of a stage: those of the recurrent level that it comes from, and of all
/// levels that it joins.
fn directions(network: &Network, stage: usize) -> usize {
    let mut all: Vec<usize> = Vec::with_capacity(stage + 1);
    for stage in &network.stages()[..=stage] {
        let of = |source: &Source| match *source {
            Source::Stage(index) => all[index],
            Source::Input(_) => 1,
        };
        all.push(match &stage.kind {
            StageKind::Recurrent(level) => level.directions.len(),
            StageKind::FinalState(_) | StageKind::Merge(_) => 1,
            StageKind::Join(Join::Concat) => {
                stage.inputs.iter().fold(0, |sum: usize, source| sum.saturating_add(of(source)))
            }
            _ => stage.inputs.first().map_or(1, of),
        });
    }
    all[stage]
}

/// An output beside that of the last layer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NamedOutput {
    /// Its name.
    pub name: String,
    /// As [`Output::values`].
    pub values: Vec<f32>,
    /// As [`Output::shape`].
    pub shape: Vec<usize>,
    /// As [`Output::axes`].
    pub axes: &'static [Axis],
}

impl NamedOutput {
    /// As [`Output::in_file_axes`].
    #[must_use]
    pub fn in_file_axes(&self, network: &Network) -> Option<(Vec<usize>, Vec<f32>)> {
        let file = network.file_axes()?.others.iter().find(|other| other.name == self.name)?;
        let stage = network.outputs().iter().find(|output| output.name == self.name)?.stage;
        reorder(&self.values, (self.axes, &self.shape), (&file.axes, file.row), directions(network, stage))
    }
}

/// How long a run took.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timing {
    /// From the call to the answer in memory.
    pub wall: Duration,
    /// On the GPU alone, from its timestamps; `None` on the CPU, or where the adapter has none.
    pub gpu: Option<Duration>,
    /// Of `wall`, the time in which the host recorded and submitted dispatches; `None` on the CPU.
    pub encoding: Option<Duration>,
}

/// Every intermediate result of a run, time-major, for comparisons stage by stage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Trace {
    /// Output of every [`Stage`](crate::network::Stage), `[T, B, N]` or `[B, N]`.
    pub stages: Vec<Vec<f32>>,
    /// State after the last step.
    pub state: State,
}

impl Session {
    /// Loads `network` onto `device`.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) if a weight exceeds the adapter's limits; the driver's own errors.
    pub fn new(device: &Device, network: &Network) -> Result<Self> {
        Self::with_options(device, network, PlanOptions::default())
    }

    /// As [`Session::new`], with options that override the plan.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn with_options(device: &Device, network: &Network, options: PlanOptions) -> Result<Self> {
        wait("Session::with_options_async", Self::with_options_async(device, network, options))
    }

    /// As [`Session::with_options`], without blocking.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub async fn with_options_async(device: &Device, network: &Network, options: PlanOptions) -> Result<Self> {
        let meter: Arc<Meter> = Arc::default();
        // The session's own network, and its weights as the device has them.
        room(|| "weights on a device".into(), network.parameters().saturating_mul(2), size_of::<f32>())?;
        let network = Arc::new(network.clone());
        let engine = match device.handle() {
            DeviceHandle::Cpu(cpu) => Engine::Cpu(cpu::CpuEngine::new(*cpu, &network)),
            DeviceHandle::Gpu(context) => {
                let (tuning, meter) = (device.tuning(), meter.clone());
                let engine = gpu::GpuEngine::new(context.clone(), &network, options, tuning, meter).await?;
                Engine::Gpu((Box::new(engine), Fallback::new()))
            }
        };
        // The CPU has no chunk size or strategy, and only one arithmetic.
        let arithmetic = if engine.is_cpu() { Arithmetic::F32 } else { options.arithmetic };
        Ok(Self { device: device.clone(), network, arithmetic, engine, meter, options, shares: false })
    }

    /// A session for a part of its network, on the same device with the same options.
    ///
    /// # Errors
    /// As [`Session::new`]; [`Error::Unsupported`] for a session that shares a trainer's weights.
    pub(crate) fn of_part(&self, network: &Network) -> Result<Self> {
        if self.shares {
            let what = "a stream of several inputs with weights that a trainer still changes".into();
            return Err(Error::Unsupported { place: "session".into(), what });
        }
        Self::with_options(&self.device, network, self.options)
    }

    /// Runs `network` with the weights of a trainer on the GPU `context` of `device`.
    pub(crate) fn sharing(
        device: &Device,
        network: &Arc<Network>,
        (context, weights): (Arc<gpu::Context>, gpu::SharedWeights),
    ) -> Result<Self> {
        let meter: Arc<Meter> = Arc::default();
        let engine = gpu::GpuEngine::sharing(context, network, weights, meter.clone())?;
        let engine = Engine::Gpu((Box::new(engine), Fallback::new()));
        let (device, network) = (device.clone(), network.clone());
        let options = PlanOptions::default();
        Ok(Self { device, network, arithmetic: Arithmetic::F32, engine, meter, options, shares: true })
    }

    /// The network. Of a session that shares the weights of a [`Trainer`](crate::train::Trainer), its tensors are those with
    /// which training began.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The arithmetic of its products.
    #[must_use]
    pub fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    /// The device.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.meter.read(self.gpu().is_some_and(|engine| engine.check().is_err()))
    }

    /// Runs the network on `input`, from `state` or from zeros, and waits for the answer.
    ///
    /// # Errors
    /// An input or a state of the wrong shape, a token outside the table, sizes beyond the
    /// adapter's limits, a lost device. The session stays usable, unless the device is lost.
    pub fn run(&self, input: Input<'_>, state: Option<&State>) -> Result<Output> {
        self.run_request(input, state, RunRequest::default())
    }

    /// As [`Session::run`], into the memory of an earlier answer. On the CPU device, for
    /// networks of embeddings, recurrent layers, dense layers, causal convolutions, normalizations by stored statistics,
    /// elementwise functions, joins and softmax, nothing is allocated after the first
    /// run of a size, so that it can be used in audio threads. `batch_first` with several rows and steps
    /// takes memory for the other order.
    ///
    /// # Errors
    /// As [`Session::run`]; then `output` may hold anything.
    pub fn run_into(&self, input: Input<'_>, state: Option<&State>, output: &mut Output) -> Result<()> {
        let start = Instant::now();
        let checked = Checked::new(&self.network, input, state)?;
        span!("run", steps = checked.steps, batch = checked.batch);
        let (engine, fallback) = match self.place(&checked) {
            RunTarget::Cpu((engine, fallback)) => (engine, fallback),
            RunTarget::Gpu(_) => {
                *output = self.run(input, state)?;
                return Ok(());
            }
        };
        self.count(&checked, fallback);
        engine.forward(&checked, state, |forward| {
            output.others =
                self.named_outputs(&checked, self.network.outputs().iter().map(|o| forward.stages[o.stage].clone()));
            if let Some(last) = forward.stages.last_mut() {
                std::mem::swap(last, &mut output.values);
            }
            std::mem::swap(&mut forward.state, &mut output.state);
            output.device.clone_from(fallback.unwrap_or(self.device.info()));
        })?;
        self.put_last_in_order(&checked, &mut output.values, &mut output.shape);
        output.axes = self.network.output_axes();
        output.timing = Timing { wall: start.elapsed(), gpu: None, encoding: None };
        Ok(())
    }

    /// As [`Session::run`], with [`Timing::gpu`] filled in where the adapter has timestamps.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_timed(&self, input: Input<'_>, state: Option<&State>) -> Result<Output> {
        self.run_request(input, state, RunRequest { timestamps: true, ..RunRequest::default() })
    }

    /// As [`Session::run`], without blocking the thread while the GPU works. On the CPU device
    /// the work is done at the first poll.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn run_async(&self, input: Input<'_>, state: Option<&State>) -> Result<Output> {
        self.run_with(input, state, RunRequest::default(), Wait::Await).await
    }

    /// As [`Session::run`], waiting as `wait` says.
    pub(crate) async fn run_with(
        &self,
        input: Input<'_>,
        state: Option<&State>,
        request: RunRequest,
        wait: Wait,
    ) -> Result<Output> {
        let start = Instant::now();
        let checked = Checked::new(&self.network, input, state)?;
        let raw = self.raw(&checked, state, request, wait);
        #[cfg(feature = "tracing")]
        let raw = {
            let span = tracing::debug_span!(target: "gatefold", "run", steps = checked.steps, batch = checked.batch);
            tracing::Instrument::instrument(raw, span)
        };
        let raw = raw.await?;
        Ok(self.output(&checked, raw, start))
    }

    /// Runs the network and keeps the output of every stage.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn trace(&self, input: Input<'_>, state: Option<&State>) -> Result<Trace> {
        wait("Session::trace_async", self.trace_with(input, state, Wait::Block))
    }

    /// As [`Session::trace`], without blocking.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub async fn trace_async(&self, input: Input<'_>, state: Option<&State>) -> Result<Trace> {
        self.trace_with(input, state, Wait::Await).await
    }

    /// As [`Session::trace`], waiting as `wait` says.
    pub(crate) async fn trace_with(&self, input: Input<'_>, state: Option<&State>, wait: Wait) -> Result<Trace> {
        let checked = Checked::new(&self.network, input, state)?;
        let request = RunRequest { trace: true, ..RunRequest::default() };
        let raw = self.raw(&checked, state, request, wait).await?;
        Ok(Trace { stages: raw.stages, state: raw.state })
    }

    /// What a run of T `steps` and B `batch` rows will do on the GPU; `None` on the CPU device,
    /// which does the same stages one after the other.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) if the adapter cannot do it.
    pub fn plan(&self, steps: usize, batch: usize) -> Result<Option<Plan>> {
        self.gpu().map(|engine| engine.plan(RunShape::new(steps, batch))).transpose()
    }

    /// The engine, on a GPU.
    pub(crate) fn gpu(&self) -> Option<&gpu::GpuEngine> {
        self.engine.gpu().map(|(engine, _)| engine.as_ref())
    }

    /// As [`Session::gpu`], for what the CPU cannot do.
    pub(crate) fn engine(&self) -> Result<&gpu::GpuEngine> {
        self.gpu().ok_or_else(|| self.no_gpu())
    }

    /// The error for a request that the CPU device does not support.
    pub(crate) fn no_gpu(&self) -> Error {
        Error::Unsupported { place: self.device.info().to_string(), what: "a run in a GPU's command encoder".into() }
    }

    fn run_request(&self, input: Input<'_>, state: Option<&State>, request: RunRequest) -> Result<Output> {
        wait("Session::run_async", self.run_with(input, state, request, Wait::Block))
    }

    pub(crate) fn execute(&self, input: &Checked<'_>, state: Option<&State>, request: RunRequest) -> Result<Raw> {
        wait("the CPU device", self.raw(input, state, request, Wait::Block))
    }

    async fn raw(&self, input: &Checked<'_>, state: Option<&State>, request: RunRequest, wait: Wait) -> Result<Raw> {
        match self.place(input) {
            RunTarget::Cpu((engine, fallback)) => {
                self.count(input, fallback);
                engine.forward(input, state, |forward| {
                    let stages = if request.trace {
                        std::mem::take(&mut forward.stages)
                    } else {
                        let named = self.network.outputs().iter().map(|output| forward.stages[output.stage].clone());
                        let named: Vec<Vec<f32>> = named.collect();
                        named.into_iter().chain(forward.stages.last_mut().map(std::mem::take)).collect()
                    };
                    let (state, fallback) = (std::mem::take(&mut forward.state), fallback.cloned());
                    Raw { stages, state, fallback, ..Raw::default() }
                })
            }
            RunTarget::Gpu(engine) => engine.run(input, state, request, wait).await,
        }
    }

    /// Why a run of T `steps` and B `batch` rows goes to the CPU although the device is a GPU: because
    /// [`tune`](crate::tuning::tune) found it faster there, and the device was chosen by [`DeviceChoice::Auto`].
    ///
    /// [`DeviceChoice::Auto`]: crate::DeviceChoice::Auto
    #[must_use]
    pub fn prefers_cpu(&self, steps: usize, batch: usize) -> Option<String> {
        // Weights that are shared lie on the GPU alone.
        if self.shares || self.engine.is_cpu() {
            return None;
        }
        self.device.tuning_of_free_choice()?.find(&self.network, self.arithmetic, steps, batch)?.prefers_cpu()
    }

    /// Where a run is done: on the session's device, or on this CPU where tuning prefers it.
    fn place(&self, input: &Checked<'_>) -> RunTarget<'_> {
        match &self.engine {
            Engine::Cpu(engine) => RunTarget::Cpu((engine, None)),
            Engine::Gpu((engine, fallback)) => {
                let Some(why) = self.prefers_cpu(input.steps, input.batch) else { return RunTarget::Gpu(engine) };
                let (engine, info) = fallback.get_or_init(|| {
                    log::info!("runs of T = {}, B = {} go to the CPU: {why}", input.steps, input.batch);
                    let device = Device::cpu();
                    (cpu::CpuEngine::new(cpu::Cpu::best(), &self.network), device.info().clone())
                });
                RunTarget::Cpu((engine, Some(info)))
            }
        }
    }

    /// Counts a run on the CPU. A GPU's engine counts its own.
    fn count(&self, input: &Checked<'_>, fallback: Option<&Arc<DeviceInfo>>) {
        if fallback.is_some() {
            self.meter.on_cpu();
        }
        self.meter.run(input.steps, input.batch, 0);
    }

    /// A run on the CPU device from and into slots of `state`: row r continues in its batch row `slots[r]`, and no two
    /// rows use the same; `banks` are what the inputs beside the first lie in. Gives the output. An error leaves the state as it
    /// was; `None` on a GPU.
    pub(crate) fn advance_on_cpu(
        &self,
        input: &Checked<'_>,
        state: &mut State,
        slots: &[u32],
        banks: &[BankArena],
    ) -> Option<Result<Vec<f32>>> {
        match &self.engine {
            Engine::Cpu(engine) => {
                self.meter.run(input.steps, input.batch, 0);
                Some(engine.advance(input, state, slots, banks))
            }
            Engine::Gpu(_) => None,
        }
    }

    /// The time-major values of the last stage in the caller's order, and their shape.
    fn put_last_in_order(&self, input: &Checked<'_>, values: &mut Vec<f32>, shape: &mut Vec<usize>) {
        // The input has been checked against the windows, so there is a number of steps.
        let steps = match input.others.len() {
            0 => self.network.output_steps(input.steps).unwrap_or(1),
            _ => self.stage_steps(input).last().copied().unwrap_or(1),
        };
        let steps = self.network.output_is_sequence().then_some(steps);
        self.put_in_order((steps, input.batch, self.network.output_size()), values, shape);
    }

    /// Timesteps of every stage's output for inputs that have been checked.
    fn stage_steps(&self, input: &Checked<'_>) -> Vec<usize> {
        let mut steps = Vec::new();
        // They fit, so there is no error.
        let _ = self.network.stage_steps_into(|number| input.steps_of(number), &mut steps);
        steps
    }

    /// Time-major values of T (none without a time dimension), B and N in the caller's order, and their shape.
    fn put_in_order(
        &self,
        (steps, batch, width): (Option<usize>, usize, usize),
        values: &mut Vec<f32>,
        shape: &mut Vec<usize>,
    ) {
        shape.clear();
        match (steps, self.network.batch_first()) {
            (None, _) => shape.extend([batch, width]),
            (Some(steps), false) => shape.extend([steps, batch, width]),
            (Some(steps), true) => {
                if batch > 1 && steps > 1 {
                    *values = swap_outer(values, steps, batch, width);
                }
                shape.extend([batch, steps, width]);
            }
        }
    }

    /// The network's other outputs from their time-major values.
    fn named_outputs(&self, input: &Checked<'_>, values: impl Iterator<Item = Vec<f32>>) -> Vec<NamedOutput> {
        if self.network.outputs().is_empty() {
            return Vec::new();
        }
        let steps = self.stage_steps(input);
        let named = self.network.outputs().iter().zip(values).map(|(output, mut values)| {
            let stage = &self.network.stages()[output.stage];
            let mut shape = Vec::new();
            let steps = stage.sequence_out.then(|| steps[output.stage]);
            self.put_in_order((steps, input.batch, stage.out_features), &mut values, &mut shape);
            NamedOutput { name: output.name.clone(), values, shape, axes: self.network.axes_of(stage) }
        });
        named.collect()
    }

    /// The last stage's output in the caller's order.
    fn output(&self, input: &Checked<'_>, raw: Raw, start: Instant) -> Output {
        let mut stages = raw.stages;
        let mut values = stages.pop().unwrap_or_default();
        let mut shape = Vec::new();
        self.put_last_in_order(input, &mut values, &mut shape);
        let others = self.named_outputs(input, stages.into_iter());
        let timing = Timing { wall: start.elapsed(), gpu: raw.gpu_time, encoding: raw.encoding };
        Output {
            values,
            shape,
            axes: self.network.output_axes(),
            others,
            state: raw.state,
            device: raw.fallback.unwrap_or_else(|| self.device.info().clone()),
            timing,
        }
    }
}
