//! What a device will be asked to do: buffers and dispatches with their reasons, decided
//! before anything is allocated. Pure functions; nothing here uses wgpu.

mod builder;
mod chips;
mod constants;
mod decide;
mod decide_backward;
mod decode;
mod exchange;
mod kernel;
mod ntm;
mod past;
mod print;
mod program;
mod rounding;
mod slots;
mod strategy;
mod tactic;
mod traffic;
pub mod train;
mod weights;

use std::sync::Arc;

use crate::base::error::Result;
use crate::network::{MAX_INPUTS, Network};
pub use chips::{CHIPS, Chip, CodeRecord, sizes_text, source_mark};
pub use constants::{ConstantValue, Constants};
pub use decide::HELD_WORKGROUP;
pub use decode::{CHOICE_BAD, CHOICE_HEAD, CHOICE_STOPPED, candidates, choose, steps_at_once};
pub use exchange::Exchange;
pub use kernel::{
    Access, BackwardCell, BackwardKernel, BackwardRung, Binding, Blocks, Cells, Constant, Held, Kernel, KernelSpec,
    LINEAR_DEPTH, LINEAR_TILE, MATRIX_BLOCKS, MATRIX_SLICE, MATRIX_STRIPS, ProductKernel, ROW_WORKGROUP,
    RecurrentKernel, Repetition, Rung, Tiling, TrainKernel,
};
pub use ntm::MemoryPlace;
use ntm::{ntm_sums, ntm_weights, ntm_words};
pub use past::{BeginBuffers, FeedbackBuffer, PastBuffer};
pub use slots::{PartPlace, SlotMoves, parts, slot_moves};
#[cfg(feature = "gpu")]
pub(crate) use slots::{check_banks, check_slots, most_slots};
pub use strategy::{Arithmetic, MatrixSide, MatrixUnits, Strategy};
pub use traffic::Traffic;
use train::{TrainLayout, TrainParts, TrainTask};
pub use weights::{PackedWeight, WeightSize, pack, weight_sizes};

/// Loop iterations after which llvmpipe and lavapipe (Mesa 22.3) silently leave a shader.
pub const SOFTWARE_LOOP_LIMIT: u64 = 65_535;

/// Most repetitions of one [`Dispatch`]; bounds the table of their numbers.
pub const MAX_REPEAT: usize = 1024;

/// Dispatches in one submission, and multiply-adds in one submission. Operating systems take
/// a GPU away that is busy for about 2 s; both numbers stay well below that on a slow one.
const MAX_SUBMISSION_DISPATCHES: u64 = 4096;
const MAX_SUBMISSION_WORK: u64 = 4 << 30;

/// What an adapter allows, as far as the plan cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Largest storage binding, bytes.
    pub max_binding: u64,
    /// Largest buffer, bytes.
    pub max_buffer: u64,
    /// Workgroups per dimension of a dispatch.
    pub max_workgroups: u32,
    /// Invocations of one workgroup.
    pub max_invocations: u32,
    /// Memory of one workgroup, bytes.
    pub max_workgroup_memory: u32,
    /// Number of workgroups of up to [`HELD_WORKGROUP`] invocations, with all the registers that weights take, known to run
    /// concurrently; 0 if unknown.
    pub resident_workgroups: u32,
    /// Registers of one workgroup, words of 32 bits: weights stay in registers where these hold them.
    pub registers: u32,
    /// Whether shaders may compute in f16.
    pub f16: bool,
    /// Matrix units, where the device was opened with them.
    pub matrix_units: Option<MatrixUnits>,
    /// Whether the adapter is a software renderer.
    pub software: bool,
    /// Invocations of every subgroup, where kernels may use its operations; else 0.
    pub subgroup: u32,
    /// Whether its compiler is quick with long sums written out, as that of Mesa 25 is and that of 22.3 is not.
    pub unrolls: bool,
}

impl Default for PlanLimits {
    /// WebGPU's guaranteed limits, on hardware.
    fn default() -> Self {
        Self {
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_workgroups: 65_535,
            max_invocations: 256,
            max_workgroup_memory: 16 << 10,
            resident_workgroups: 0,
            registers: 64 << 10,
            f16: false,
            matrix_units: None,
            software: false,
            subgroup: 0,
            unrolls: false,
        }
    }
}

/// The sizes of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunShape {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// Whether the caller masks steps, or gives lengths.
    pub masked: bool,
    /// Of the inputs beside the first, in the network's order.
    pub others: [OtherShape; MAX_INPUTS - 1],
    /// Whether the run goes on from a state: windows over time continue from its inputs, not from their padding, and training
    /// starts from no stored tensor.
    pub continues: bool,
    /// Whether the rows begin at different timesteps, as those of streams do.
    pub uneven: bool,
    /// Whether the inputs beside the first lie in banks; their T is then that of the longest bank.
    pub banked: bool,
}

/// The sizes of an input beside the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherShape {
    /// T; 0 for that of the first input.
    pub steps: usize,
    /// Whether the caller masks steps, or gives lengths.
    pub masked: bool,
}

impl RunShape {
    /// T `steps` and B `batch` rows, none masked by the caller.
    #[must_use]
    pub fn new(steps: usize, batch: usize) -> Self {
        let others = [OtherShape::default(); MAX_INPUTS - 1];
        Self { steps, batch, masked: false, others, continues: false, uneven: false, banked: false }
    }
}

/// Options that override the plan. What is `None` the plan chooses by shape and adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Bytes that the projected inputs `[T, B, 4H]` of one chunk of time may take.
    pub projection_budget: u64,
    /// How every recurrence is run.
    pub strategy: Option<Strategy>,
    /// In which numbers products are taken.
    pub arithmetic: Arithmetic,
    /// Invocations that share the sum of one unit, or quads of rows in a workgroup of
    /// [`Strategy::Tile`] (on matrix units: blocks of as many rows as these have, up to 4); a power of two.
    pub split: Option<u32>,
    /// Units of one workgroup.
    pub units: Option<u32>,
    /// Whether [`Strategy::Sequence`] takes four rows in a workgroup.
    pub four_rows: Option<bool>,
    /// Whether weights stay in registers, on a software adapter in private memory, where a dispatch runs many steps.
    pub held: Option<bool>,
    /// Looks at missing values after which an invocation of [`Strategy::Resident`] times out, of a whole dispatch.
    pub spins: Option<u32>,
    /// Whether the choice comes from measuring, so that plans can say so.
    pub measured: bool,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            projection_budget: 64 << 20,
            strategy: None,
            arithmetic: Arithmetic::F32,
            split: None,
            units: None,
            four_rows: None,
            held: None,
            spins: None,
            measured: false,
        }
    }
}

impl PlanOptions {
    /// Sets [`PlanOptions::projection_budget`].
    #[must_use]
    pub fn projection_budget(mut self, bytes: u64) -> Self {
        self.projection_budget = bytes;
        self
    }

    /// Sets [`PlanOptions::strategy`].
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }

    /// Sets [`PlanOptions::arithmetic`].
    #[must_use]
    pub fn arithmetic(mut self, arithmetic: Arithmetic) -> Self {
        self.arithmetic = arithmetic;
        self
    }

    /// Sets [`PlanOptions::split`].
    #[must_use]
    pub fn split(mut self, split: u32) -> Self {
        self.split = Some(split);
        self
    }

    /// Sets [`PlanOptions::units`].
    #[must_use]
    pub fn units(mut self, units: u32) -> Self {
        self.units = Some(units);
        self
    }

    /// Sets [`PlanOptions::four_rows`].
    #[must_use]
    pub fn four_rows(mut self, four_rows: bool) -> Self {
        self.four_rows = Some(four_rows);
        self
    }

    /// Sets [`PlanOptions::held`].
    #[must_use]
    pub fn held(mut self, held: bool) -> Self {
        self.held = Some(held);
        self
    }

    /// Sets [`PlanOptions::spins`].
    #[must_use]
    pub fn spins(mut self, spins: u32) -> Self {
        self.spins = Some(spins);
        self
    }
}

/// Position of a buffer in [`PlanParts::buffers`]. The weights come first, in the order of [`pack`].
pub type BufferId = usize;

/// A buffer on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BufferSpec {
    /// What it holds, with its shape in letters.
    pub label: String,
    /// Its size.
    pub bytes: u64,
}

/// A part of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The buffer.
    pub buffer: BufferId,
    /// Where it begins, bytes.
    pub offset: u64,
    /// Its size; 0 for all of a buffer in banks.
    pub bytes: u64,
}

/// Where an input lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InputBuffers {
    /// Its token ids or vectors.
    pub numbers: BufferId,
    /// Which of its steps count, if steps may be masked.
    pub mask: Option<BufferId>,
    /// Of an input in banks, where the bank of each batch row lies: first timestep and length, `[B, 2]`. `numbers` and `mask`
    /// stand for buffers of any size then, `[R, I]` and `[R]`.
    pub rows: Option<BufferId>,
}

/// Where the state of one direction of one recurrent level lies, each part `[B, H]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StateBuffers {
    /// Position of the layer among those that keep something.
    pub layer: usize,
    /// Row of the state `[L*D, B, H]`.
    pub row: usize,
    /// The ping-pong pair: step s reads `h[s % 2]` and writes the other.
    pub h: [Slice; 2],
    /// An LSTM's cell state.
    pub c: Option<Slice>,
    /// What the cell keeps behind c: n and m of an sLSTM.
    pub more: Vec<Slice>,
    /// How many steps the direction takes.
    pub steps: usize,
}

impl StateBuffers {
    /// Where h lies after the last step.
    #[must_use]
    pub fn final_h(&self) -> Slice {
        self.h[self.steps % 2]
    }
}

/// How the recurrence of some stages is run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// Position of the first stage.
    pub stage: usize,
    /// How many stages it is, more than 1 for a wavefront.
    pub stages: usize,
    /// The strategy.
    pub strategy: Strategy,
    /// Why.
    pub reason: String,
}

/// The timesteps of a dispatch of a recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Steps {
    /// Steps before the projected chunk.
    pub done: u32,
    /// Steps in the projected chunk.
    pub count: u32,
    /// Step of the first repetition.
    pub first: u32,
    /// Steps of one repetition.
    pub stride: u32,
    /// Step after the last.
    pub end: u32,
    /// Gates between the projected inputs of two lanes.
    pub projected_lane: u32,
    /// Numbers between the outputs of two lanes.
    pub output_lane: u32,
}

/// A kernel run once, or `repeat` times with advancing timesteps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dispatch {
    /// The [`Stage`](crate::network::Stage) it belongs to, the first of several.
    pub stage: usize,
    /// What runs.
    pub kernel: Kernel,
    /// A value for each of the kernel's constants.
    pub constants: Constants,
    /// What is bound to each of the kernel's storage bindings, in the table's order.
    pub bindings: Vec<Slice>,
    /// Values of the kernel's own uniform by the names of its fields; empty where it is `Params`.
    pub sizes: Vec<(&'static str, u32)>,
    /// Rows to compute.
    pub rows: u32,
    /// First row read.
    pub input_row: u32,
    /// First row written.
    pub output_row: u32,
    /// T of the stage's input.
    pub steps: u32,
    /// B
    pub batch: u32,
    /// The timesteps, of a recurrence.
    pub recurrence: Option<Steps>,
    /// How often it runs.
    pub repeat: u32,
    /// Whether its repetitions take turns with those of the next dispatch.
    pub interleaved: bool,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
    /// Loop iterations of one invocation of one repetition, all loops together.
    pub iterations: u64,
    /// Multiply-adds of one repetition.
    pub work: u64,
    /// Number of the submission it is part of, from 0 and never falling.
    pub submission: usize,
}

/// Bytes of the uniform that [`Dispatch::params`] fills.
pub const PARAMS_SIZE: u64 = 12 * 4;

impl Dispatch {
    /// One repetition of `kernel` in one workgroup, without rows, bindings and constants.
    pub(crate) fn empty(kernel: Kernel) -> Self {
        Self {
            stage: 0,
            kernel,
            constants: Constants::default(),
            bindings: Vec::new(),
            sizes: Vec::new(),
            rows: 0,
            input_row: 0,
            output_row: 0,
            steps: 0,
            batch: 0,
            recurrence: None,
            repeat: 1,
            interleaved: false,
            workgroups: [1; 3],
            iterations: 0,
            work: 0,
            submission: 0,
        }
    }

    /// The uniform of a dispatch by the names of its fields: `Params` of `shaders/common/params.wgsl`, or the kernel's own,
    /// whose unused end has no names.
    #[must_use]
    pub fn params(&self) -> [(&'static str, u32); 12] {
        if !self.sizes.is_empty() {
            return std::array::from_fn(|at| self.sizes.get(at).copied().unwrap_or(("", 0)));
        }
        let of_steps = |value: fn(&Steps) -> u32| self.recurrence.as_ref().map_or(0, value);
        [
            ("rows", self.rows),
            ("input_row", self.input_row),
            ("output_row", self.output_row),
            ("steps", self.steps),
            ("batch", self.batch),
            ("done", of_steps(|steps| steps.done)),
            ("count", of_steps(|steps| steps.count)),
            ("first", of_steps(|steps| steps.first)),
            ("stride", of_steps(|steps| steps.stride)),
            ("end", of_steps(|steps| steps.end)),
            ("projected_lane", of_steps(|steps| steps.projected_lane)),
            ("output_lane", of_steps(|steps| steps.output_lane)),
        ]
    }

    /// Its constants as `NAME=value`, in the order of the kernel's table.
    #[must_use]
    pub fn constants_text(&self) -> String {
        let declared = self.kernel.spec().constants;
        let value = |name| Some(format!("{name}={}", self.constants.get(name)?.number()));
        let pairs: Vec<String> = declared.iter().filter_map(|constant| value(constant.name)).collect();
        pairs.join(" ")
    }

    /// The value of one of its kernel's constants; of an `f32` its bits.
    #[must_use]
    pub fn constant(&self, name: &str) -> Option<u32> {
        self.constants.get(name).map(ConstantValue::bits)
    }
}

/// Everything a run will do, to be read or printed ([`Display`](std::fmt::Display)); its parts are
/// [unstable](crate::unstable::plan::PlanParts).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// Whether steps may be masked.
    pub masked: bool,
    /// How each recurrence is run, and why.
    pub choices: Vec<Choice>,
    /// The same of the backward passes, in a plan for training.
    pub backward: Vec<Choice>,
    /// What else was decided, and why.
    pub reasons: Vec<String>,
    /// Names of the stages.
    pub stages: Vec<String>,
    /// Buffers on the device.
    pub(crate) buffers: Vec<BufferSpec>,
    /// How many of the buffers, from the first, are weights.
    pub(crate) weights: usize,
    /// The caller's inputs, time-major.
    pub(crate) inputs: Vec<InputBuffers>,
    /// Output of each stage, time-major.
    pub(crate) outputs: Vec<Slice>,
    /// State of each direction of each level.
    pub(crate) states: Vec<StateBuffers>,
    /// Past inputs of each window that keeps some.
    pub(crate) pasts: Vec<PastBuffer>,
    /// What each feedback feeds back.
    pub(crate) feedbacks: Vec<FeedbackBuffer>,
    /// The state of each layer with a memory.
    pub(crate) memories: Vec<MemoryPlace>,
    /// Where the rows begin, if they do so at different timesteps.
    pub(crate) begins: Option<BeginBuffers>,
    /// What workgroups hand each other, of each recurrence that is run so.
    pub(crate) exchanges: Vec<Exchange>,
    /// The work, in order.
    pub(crate) dispatches: Vec<Dispatch>,
    /// What it has in addition where it is for training.
    pub(crate) train: Option<TrainParts>,
}

/// The unstable parts of a [`Plan`]: everything that a device is given.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PlanParts<'a> {
    /// Buffers on the device.
    pub buffers: &'a [BufferSpec],
    /// How many of the buffers, from the first, are weights.
    pub weights: usize,
    /// The caller's inputs, time-major.
    pub inputs: &'a [InputBuffers],
    /// Output of each stage, time-major.
    pub outputs: &'a [Slice],
    /// State of each direction of each level.
    pub states: &'a [StateBuffers],
    /// What workgroups hand each other, of each recurrence that is run so.
    pub exchanges: &'a [Exchange],
    /// The work, in order.
    pub dispatches: &'a [Dispatch],
}

impl<'a> PlanParts<'a> {
    /// Of `plan`.
    #[must_use]
    pub fn of(plan: &'a Plan) -> Self {
        let Plan { buffers, weights, inputs, outputs, states, exchanges, dispatches, .. } = plan;
        Self { buffers, weights: *weights, inputs, outputs, states, exchanges, dispatches }
    }

    /// The whole of a buffer.
    #[must_use]
    pub fn whole(&self, buffer: BufferId) -> Slice {
        Slice { buffer, offset: 0, bytes: self.buffers[buffer].bytes }
    }
}

impl Plan {
    /// Plans a run of `network`: pure, of the sizes and limits alone.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) and [`Error::Unsupported`](crate::Error::Unsupported) for what an adapter
    /// of these limits cannot do.
    pub fn new(network: &Network, shape: RunShape, limits: &PlanLimits, options: &PlanOptions) -> Result<Self> {
        builder::plan(network, shape, limits, options)
    }

    /// Plans a step of training, or as much of it as `task` says.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub(crate) fn training(
        network: &Network,
        shape: RunShape,
        limits: &PlanLimits,
        options: &PlanOptions,
        task: (&TrainTask, &Arc<TrainLayout>),
    ) -> Result<Self> {
        builder::plan_training(network, shape, limits, options, task)
    }

    /// Bytes of all buffers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(|buffer| buffer.bytes).sum()
    }

    /// Number of dispatches, repetitions counted.
    #[must_use]
    pub fn dispatch_count(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| u64::from(dispatch.repeat)).sum()
    }

    /// Multiply-adds of a run.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.dispatches.iter().map(|dispatch| dispatch.work * u64::from(dispatch.repeat)).sum()
    }

    /// Number of submissions to the queue.
    #[must_use]
    pub fn submissions(&self) -> usize {
        self.dispatches.last().map_or(0, |dispatch| dispatch.submission + 1)
    }

    /// Most dispatches in one submission.
    #[must_use]
    pub fn longest_submission(&self) -> u64 {
        let mut counts = vec![0; self.submissions()];
        for dispatch in &self.dispatches {
            counts[dispatch.submission] += u64::from(dispatch.repeat);
        }
        counts.into_iter().max().unwrap_or(0)
    }

    /// The whole of a buffer.
    pub(crate) fn whole(&self, buffer: BufferId) -> Slice {
        PlanParts::of(self).whole(buffer)
    }
}
