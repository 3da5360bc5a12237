//! A network on a GPU: does what the plan says.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::context::Context;
use super::readback::{Pending, StagedPart, Target};
use super::slots::Slots;
use super::train::SharedWeights;
use super::workspace::{Key, Prepared, Workspace, buffer};
use crate::base::clock::Instant;
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::base::rounded::rounded;
use crate::base::span::span;
use crate::counters::Meter;
use crate::data::banks::BankRows;
use crate::data::input::Checked;
use crate::data::run::{Raw, RunRequest, Wait};
use crate::data::state::State;
use crate::measured::Tuning;
use crate::network::Network;
use crate::plan::{
    Exchange, OtherShape, PartPlace, Plan, PlanLimits, PlanOptions, RunShape, Slice, Strategy, pack, parts,
};

/// WebGPU's largest query set.
const MAX_QUERIES: usize = 4096;
const RUNNING: &str = "running the network";
/// Bytes of a timestamp.
const TIMESTAMP_SIZE: u64 = 8;

/// Where the states of a run come from, and where they go.
pub(crate) enum Start<'a> {
    /// From the caller's memory, or from the network's own initial state; read back after the run.
    Host(Option<&'a State>),
    /// From the slots of a pool, one for each row, and into others or the same.
    Slots(&'a mut Slots, [&'a [u32]; 2]),
}

/// A network whose weights lie on a GPU.
#[derive(Debug)]
pub(crate) struct GpuEngine {
    pub(super) context: Arc<Context>,
    network: Network,
    options: PlanOptions,
    tuning: Option<Arc<Tuning>>,
    weights: Vec<wgpu::Buffer>,
    workspace: Mutex<Workspace>,
    pub(super) meter: Arc<Meter>,
    /// True after a `resident` run timed out; from then on the strategy is not used.
    no_waiting: AtomicBool,
}

impl GpuEngine {
    pub async fn new(
        context: Arc<Context>,
        network: &Network,
        options: PlanOptions,
        tuning: Option<&Arc<Tuning>>,
        meter: Arc<Meter>,
    ) -> Result<Self> {
        const WHAT: &str = "uploading the weights";
        context.check_by_asking(WHAT)?;
        // The smallest plan checks every weight against the adapter's limits.
        Plan::new(network, RunShape::new(network.least_steps(), 1), &context.limits(), &options)?;
        let upload = || {
            let weights = pack(network, &context.limits());
            Ok(weights
                .iter()
                .map(|weight| {
                    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
                    let bytes: &[u8] = bytemuck::cast_slice(&weight.words);
                    let buffer = buffer(&context, &weight.label, bytes.len() as u64, usage);
                    context.queue.write_buffer(&buffer, 0, bytes);
                    buffer
                })
                .collect())
        };
        let weights = context.scoped(WHAT, upload).await?;
        let (network, workspace) = (network.clone(), Mutex::default());
        let tuning = tuning.cloned();
        Ok(Self { network, options, tuning, weights, workspace, meter, no_waiting: AtomicBool::new(false), context })
    }

    /// An engine whose weights are buffers that a trainer writes.
    pub fn sharing(
        context: Arc<Context>,
        network: &Network,
        SharedWeights(weights): SharedWeights,
        meter: Arc<Meter>,
    ) -> Result<Self> {
        context.check()?;
        let options = PlanOptions::default();
        Plan::new(network, RunShape::new(network.least_steps(), 1), &context.limits(), &options)?;
        let (network, workspace, no_waiting) = (network.clone(), Mutex::default(), AtomicBool::new(false));
        Ok(Self { network, options, tuning: None, weights, workspace, meter, no_waiting, context })
    }

    /// An error if the device is known to be lost.
    pub fn check(&self) -> Result<()> {
        self.context.check()
    }

    /// Whether both are on one device.
    pub fn same_device(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.context, &other.context)
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    pub fn plan(&self, shape: RunShape) -> Result<Plan> {
        self.plan_for(Key { shape, waits: true, goal: None })
    }

    fn plan_for(&self, Key { shape, waits, .. }: Key) -> Result<Plan> {
        span!("plan", steps = shape.steps, batch = shape.batch);
        let (mut limits, mut options) = (self.context.limits(), self.options);
        let waits = waits && !self.no_waiting.load(Ordering::Relaxed);
        let allowed = |strategy: Option<Strategy>| strategy.filter(|&strategy| waits || strategy != Strategy::Resident);
        if !waits {
            limits = PlanLimits { resident_workgroups: 0, ..limits };
            options.strategy = allowed(options.strategy);
        }
        let tuned = self.tuning.as_ref().and_then(|tuning| tuning.apply(&self.network, shape, options));
        if let Some(tuned) = tuned.filter(|tuned| allowed(tuned.strategy) == tuned.strategy) {
            match Plan::new(&self.network, shape, &limits, &tuned) {
                Ok(plan) => return Ok(plan),
                // Measured at another T, it may not fit this one.
                Err(error) => log::info!("what was measured does not run here: {error}"),
            }
        }
        Plan::new(&self.network, shape, &limits, &options)
    }

    /// Runs and reads back. A `resident` run that timed out is repeated one step at a time.
    pub async fn run(
        &self,
        input: &Checked<'_>,
        state: Option<&State>,
        request: RunRequest,
        wait: Wait,
    ) -> Result<Raw> {
        let once = async || {
            let pending = self.submit(input, Start::Host(state), request).await?;
            pending.resolve(wait).await
        };
        let raw = once().await?;
        if !raw.timed_out {
            return Ok(raw);
        }
        self.stop_waiting();
        once().await
    }

    /// From now on no workgroup waits for another.
    fn stop_waiting(&self) {
        log::warn!("{}: a resident run timed out; running one step per dispatch from now on", self.context.name());
        self.meter.fall_back();
        self.no_waiting.store(true, Ordering::Relaxed);
        lock(&self.workspace).clear();
    }

    /// Submits a run; the results follow through [`Pending`].
    pub async fn submit(&self, input: &Checked<'_>, start: Start<'_>, request: RunRequest) -> Result<Pending<'_>> {
        self.context.check()?;
        let submit = || self.encode_prepared(input, start, request);
        self.submitted(self.context.scoped(RUNNING, submit).await)
    }

    /// As [`GpuEngine::submit`], at once.
    pub fn submit_now(&self, input: &Checked<'_>, start: Start<'_>, request: RunRequest) -> Result<Pending<'_>> {
        self.context.check()?;
        let submit = || self.encode_prepared(input, start, request);
        self.submitted(self.context.scoped_now(RUNNING, submit))
    }

    fn encode_prepared(&self, input: &Checked<'_>, start: Start<'_>, request: RunRequest) -> Result<Pending<'_>> {
        let mut workspace = lock(&self.workspace);
        let continues = self.network.keeps_inputs() && !matches!(start, Start::Host(None));
        let shape = RunShape { continues, ..run_shape(input) };
        // A pool's slots are overwritten before the host can see whether the run timed out.
        let key = Key { shape, waits: matches!(start, Start::Host(_)), goal: None };
        let prepared = self.prepared(&mut workspace, key)?;
        self.encode(&mut workspace, &prepared, input, start, request)
    }

    fn submitted<'a>(&self, submitted: Result<Pending<'a>>) -> Result<Pending<'a>> {
        if matches!(submitted, Err(Error::Gpu { .. } | Error::DeviceLost { .. })) {
            lock(&self.workspace).clear();
        }
        submitted
    }

    /// The plan of a run with everything it needs, made at its first use.
    fn prepared(&self, workspace: &mut Workspace, key: Key) -> Result<Arc<Prepared>> {
        if let Some(prepared) = workspace.ready(key) {
            return Ok(prepared);
        }
        let plan = self.plan_for(key)?;
        log::debug!("{plan}");
        self.meter.plan();
        Ok(workspace.prepare(&self.context, &self.weights, plan, key))
    }

    /// As [`GpuEngine::prepared`], of a run of T `steps` and B `batch` rows whose result is not read; `continues` says whether it
    /// goes on from states, not from the network's own; `banks` where the rows attend to.
    pub(super) fn prepared_alone(
        &self,
        steps: usize,
        batch: usize,
        continues: bool,
        banks: Option<&BankRows>,
    ) -> Result<Arc<Prepared>> {
        let continues = continues && self.network.keeps_inputs();
        let shape = RunShape { continues, ..with_banks(RunShape::new(steps, batch), banks) };
        self.prepared(&mut lock(&self.workspace), Key { shape, waits: false, goal: None })
    }

    /// A staging buffer of at least `bytes`.
    pub(super) fn staging(&self, bytes: u64) -> wgpu::Buffer {
        self.staging_of(&mut lock(&self.workspace), bytes)
    }

    fn staging_of(&self, workspace: &mut Workspace, bytes: u64) -> wgpu::Buffer {
        let make = || {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            buffer(&self.context, "staging", bytes, usage)
        };
        workspace.staging.take(bytes).unwrap_or_else(make)
    }

    /// Takes a staging buffer back for the next run.
    pub(super) fn recycle(&self, staging: wgpu::Buffer) {
        lock(&self.workspace).staging.keep(staging.size(), staging);
    }

    fn encode(
        &self,
        workspace: &mut Workspace,
        prepared: &Arc<Prepared>,
        input: &Checked<'_>,
        start: Start<'_>,
        request: RunRequest,
    ) -> Result<Pending<'_>> {
        let Context { device, queue, .. } = &*self.context;
        let plan = &prepared.plan;
        self.meter.run(plan.steps, plan.batch, plan.dispatch_count());
        for (number, buffers) in plan.inputs.iter().enumerate() {
            if buffers.rows.is_some() {
                continue;
            }
            let bytes = input.values_of(number).bytes();
            queue.write_buffer(&prepared.buffers[buffers.numbers], 0, bytes);
            self.meter.sent(bytes.len() as u64);
            if let (Some(id), Some(mask)) = (buffers.mask, input.mask_of(number)) {
                queue.write_buffer(&prepared.buffers[id], 0, bytemuck::cast_slice(mask));
                self.meter.sent(size_of_val(mask) as u64);
            }
        }
        if let (Some(buffers), Some(begins)) = (&plan.begins, &input.begins) {
            let masks = buffers.masks.iter().zip(&begins.masks);
            for (&id, words) in std::iter::once((&buffers.first, &begins.first)).chain(masks) {
                queue.write_buffer(&prepared.buffers[id], 0, bytemuck::cast_slice(words));
                self.meter.sent(size_of_val(&words[..]) as u64);
            }
        }

        let submissions = plan.submissions();
        let queries = (request.timestamps && self.context.timestamps && 2 * submissions <= MAX_QUERIES)
            .then(|| workspace.queries(&self.context, narrow(2 * submissions)));
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let moves = match start {
            Start::Host(state) => {
                self.start_state(prepared, state, &mut encoder)?;
                None
            }
            Start::Slots(slots, lists) => {
                slots.write_lists(&self.context, lists, input.banks.as_ref());
                lists.into_iter().for_each(|list| self.meter.sent(size_of_val(list) as u64));
                Some(slots.moves(&self.context, prepared)?)
            }
        };
        for exchange in &plan.exchanges {
            encoder.clear_buffer(&prepared.buffers[exchange.buffer], 0, Some(plan.buffers[exchange.buffer].bytes));
        }
        let start = Instant::now();
        let mut rest = plan.dispatches.as_slice();
        let mut first = 0;
        while let Some(head) = rest.first() {
            let (now, later) = rest.split_at(rest.partition_point(|d| d.submission == head.submission));
            let query = narrow(2 * head.submission);
            let timestamp_writes = queries.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
                query_set,
                beginning_of_pass_write_index: Some(query),
                end_of_pass_write_index: Some(query + 1),
            });
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            if let (0, Some(moves)) = (first, &moves) {
                self.context.record(&mut pass, &moves.gather.0, &moves.gather.1);
            }
            let ready = moves.as_ref().and_then(|moves| moves.body.as_ref()).unwrap_or(&prepared.dispatches);
            self.context.record(&mut pass, now, &ready[first..][..now.len()]);
            if let (true, Some(moves)) = (later.is_empty(), &moves) {
                self.context.record(&mut pass, &moves.scatter.0, &moves.scatter.1);
            }
            drop(pass);
            // What follows goes along with the last, but for timestamps, which some Vulkan drivers
            // read as 0 in the submission that wrote them.
            if !later.is_empty() || queries.is_some() {
                let next = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                queue.submit([std::mem::replace(&mut encoder, next).finish()]);
            }
            first += now.len();
            rest = later;
        }
        let state = match &moves {
            Some(_) => State::default(),
            // Of a run with fewer timesteps than a window keeps, some stay what they are before the first.
            None if self.network.keeps_inputs() => State::initial(&self.network, plan.batch)?,
            None => State::zeros(&self.network, plan.batch)?,
        };
        let pieces = pieces(plan, &self.network, request.trace, moves.is_none());
        let (staging, parts, submission) = self.copy_out(workspace, prepared, &pieces, queries.as_ref(), encoder);
        Ok(Pending { engine: self, staging, parts, submission, state, encoding: start.elapsed() })
    }

    /// Writes the caller's state, or the network's own, where the first step reads it.
    fn start_state(
        &self,
        prepared: &Prepared,
        state: Option<&State>,
        encoder: &mut wgpu::CommandEncoder,
    ) -> Result<()> {
        let initial = match state {
            None if !self.network.starts_at_zero() => Some(State::initial(&self.network, prepared.plan.batch)?),
            _ => None,
        };
        for place in parts(&prepared.plan) {
            let Some(Slice { buffer, offset, bytes }) = place.start else { continue };
            let buffer = &prepared.buffers[buffer];
            match state.or(initial.as_ref()) {
                Some(state) => {
                    let numbers = state.layers[place.layer].parts[place.part].row(place.row);
                    self.context.queue.write_buffer(buffer, offset, bytemuck::cast_slice(numbers));
                    self.meter.sent(bytes);
                }
                None => encoder.clear_buffer(buffer, offset, Some(bytes)),
            }
        }
        Ok(())
    }

    /// Copies what the caller will read into a staging buffer.
    fn copy_out(
        &self,
        workspace: &mut Workspace,
        prepared: &Prepared,
        pieces: &[(Target, Slice)],
        queries: Option<&wgpu::QuerySet>,
        mut encoder: wgpu::CommandEncoder,
    ) -> (wgpu::Buffer, Vec<StagedPart>, wgpu::SubmissionIndex) {
        let plan = &prepared.plan;
        let mut parts = Vec::with_capacity(pieces.len() + 1);
        let mut bytes = 0;
        for &(target, place) in pieces {
            parts.push(StagedPart { target, offset: bytes, bytes: place.bytes });
            bytes += place.bytes;
        }
        // Timestamps are 8 bytes.
        let stamps = queries.map(|queries| {
            let offset = bytes.next_multiple_of(8);
            let len = 2 * plan.submissions() as u64 * TIMESTAMP_SIZE;
            parts.push(StagedPart { target: Target::Timestamps, offset, bytes: len });
            bytes = offset + len;
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            (queries, buffer(&self.context, "timestamps", len, usage), offset)
        });
        let staging = self.staging_of(workspace, bytes);
        for (part, (_, place)) in parts.iter().zip(pieces) {
            let from = &prepared.buffers[place.buffer];
            encoder.copy_buffer_to_buffer(from, place.offset, &staging, part.offset, part.bytes);
        }
        if let Some((queries, resolved, offset)) = stamps {
            encoder.resolve_query_set(queries, 0..narrow(2 * plan.submissions()), &resolved, 0);
            encoder.copy_buffer_to_buffer(&resolved, 0, &staging, offset, resolved.size());
        }
        let submission = self.context.queue.submit([encoder.finish()]);
        self.meter.fetched(bytes);
        (staging, parts, submission)
    }
}

/// The sizes of a run.
pub(super) fn run_shape(input: &Checked<'_>) -> RunShape {
    let (masked, uneven) = (input.mask.is_some(), input.begins.is_some());
    let mut shape = RunShape { masked, uneven, ..RunShape::new(input.steps, input.batch) };
    for (to, other) in shape.others.iter_mut().zip(&input.others) {
        *to = OtherShape { steps: other.steps, masked: other.mask.is_some() };
    }
    with_banks(shape, input.banks.as_ref())
}

/// A shape whose inputs beside the first lie in banks, if they do. Their timesteps are rounded up, so that plans can be reused.
fn with_banks(mut shape: RunShape, banks: Option<&BankRows>) -> RunShape {
    let Some(banks) = banks else { return shape };
    shape.banked = true;
    for (number, to) in shape.others.iter_mut().enumerate().take(banks.0.len()) {
        *to = OtherShape { steps: rounded(banks.steps(number), 3), masked: true };
    }
    shape
}

/// What of a run the host reads: the named outputs and the last, or all, the states, and whether workgroups met.
fn pieces(plan: &Plan, network: &Network, trace: bool, states: bool) -> Vec<(Target, Slice)> {
    // Those of a pool's streams have no other outputs.
    let named = network.outputs().iter().filter(|_| states).map(|output| plan.outputs[output.stage]);
    let outputs = if trace { plan.outputs.clone() } else { named.chain(plan.outputs.last().copied()).collect() };
    let mut pieces: Vec<(Target, Slice)> = outputs.into_iter().map(|place| (Target::Stage, place)).collect();
    let places = if states { parts(plan) } else { Vec::new() };
    pieces.extend(places.into_iter().map(|PartPlace { layer, part, row, start, end, .. }| match start {
        Some(_) => (Target::State { layer, part, row }, end),
        None => (Target::LastInputs { layer }, end),
    }));
    for exchange in &plan.exchanges {
        let head = Slice { buffer: exchange.buffer, offset: 0, bytes: Exchange::READ };
        pieces.push((Target::Exchange { workgroups: exchange.workgroups }, head));
    }
    pieces
}

fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
