//! What a device will be asked to do: buffers and dispatches with their reasons, decided
//! before anything is allocated. Pure functions; nothing here knows wgpu.

mod build;
mod constants;
mod kernel;
mod print;
mod strategy;
mod traffic;
mod weights;

pub use build::plan;
pub use kernel::{Access, Binding, Constant, Kernel, KernelSpec, LINEAR_DEPTH, LINEAR_TILE, ROW_WORKGROUP};
pub use strategy::Strategy;
pub use traffic::Traffic;
pub use weights::{PackedWeight, pack, weight_sizes};

/// Loop iterations after which llvmpipe and lavapipe (Mesa 22.3) silently leave a shader.
pub const SOFTWARE_LOOP_LIMIT: u64 = 65_535;

/// Longest run of repetitions of one [`Dispatch`]; bounds the table of parameters.
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
    /// Whether the adapter is a software renderer.
    pub software: bool,
}

impl Default for PlanLimits {
    /// WebGPU's guaranteed limits, on hardware.
    fn default() -> Self {
        Self {
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_workgroups: 65_535,
            max_invocations: 256,
            software: false,
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
}

impl RunShape {
    /// T `steps` and B `batch` rows, none masked by the caller.
    #[must_use]
    pub fn new(steps: usize, batch: usize) -> Self {
        Self { steps, batch, masked: false }
    }
}

/// Wishes about how the work is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanOptions {
    /// Bytes that the projected inputs `[T, B, 4H]` of one chunk of time may take.
    pub projection_budget: u64,
    /// Invocations that share the sum of one unit; chosen from the sizes when `None`.
    pub split: Option<u32>,
    /// How the recurrence is run; chosen by the plan when `None`.
    pub strategy: Option<Strategy>,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { projection_budget: 64 << 20, split: None, strategy: None }
    }
}

impl PlanOptions {
    /// Sets [`PlanOptions::projection_budget`].
    #[must_use]
    pub fn projection_budget(mut self, bytes: u64) -> Self {
        self.projection_budget = bytes;
        self
    }

    /// Sets [`PlanOptions::split`].
    #[must_use]
    pub fn split(mut self, split: u32) -> Self {
        self.split = Some(split);
        self
    }

    /// Sets [`PlanOptions::strategy`].
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = Some(strategy);
        self
    }
}

/// Position of a buffer in [`Plan::buffers`]. The weights come first, in the order of [`pack`].
pub type BufferId = usize;

/// A buffer on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    /// What it holds, with its shape in letters.
    pub label: String,
    /// Its size.
    pub bytes: u64,
}

/// Buffers of the state of one direction of one recurrent level, each `[B, H]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateBuffers {
    /// Position of the layer among the network's recurrent layers.
    pub layer: usize,
    /// Row of the state `[L*D, B, H]`.
    pub row: usize,
    /// The ping-pong pair: step s reads `h[s % 2]` and writes the other.
    pub h: [BufferId; 2],
    /// An LSTM's cell state.
    pub c: Option<BufferId>,
    /// How many steps the direction takes.
    pub steps: usize,
}

impl StateBuffers {
    /// Where h lies after the last step.
    #[must_use]
    pub fn final_h(&self) -> BufferId {
        self.h[self.steps % 2]
    }
}

/// A kernel run once, or `repeat` times with advancing rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The [`Stage`](crate::network::Stage) it belongs to.
    pub stage: usize,
    /// What runs.
    pub kernel: Kernel,
    /// A value for each of the kernel's constants, in the table's order; of an `f32` its bits.
    pub constants: Vec<u32>,
    /// A buffer for each of the kernel's storage bindings, in the table's order.
    pub bindings: Vec<BufferId>,
    /// The bindings of every second repetition, where h has changed places.
    pub alternate: Option<Vec<BufferId>>,
    /// Rows to compute.
    pub rows: u32,
    /// First row read, and what each repetition adds to it.
    pub input_row: (u32, i32),
    /// First row written, and what each repetition adds to it.
    pub output_row: (u32, i32),
    /// First row of the mask, and what each repetition adds to it.
    pub mask_row: (u32, i32),
    /// T of the stage's input.
    pub steps: u32,
    /// B
    pub batch: u32,
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

/// Everything a run will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// T
    pub steps: usize,
    /// B
    pub batch: usize,
    /// Whether steps may be masked.
    pub masked: bool,
    /// How the recurrence is run.
    pub strategy: Strategy,
    /// Why, and what else was decided.
    pub reasons: Vec<String>,
    /// Names of the stages.
    pub stages: Vec<String>,
    /// Buffers on the device.
    pub buffers: Vec<BufferSpec>,
    /// How many of the buffers, from the first, are weights.
    pub weights: usize,
    /// The caller's input, time-major.
    pub input: BufferId,
    /// Which steps count, if steps may be masked.
    pub mask: Option<BufferId>,
    /// Output of each stage, time-major.
    pub outputs: Vec<BufferId>,
    /// State of each direction of each level.
    pub states: Vec<StateBuffers>,
    /// The work, in order.
    pub dispatches: Vec<Dispatch>,
}

impl Plan {
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

    /// Most dispatches in one submission: the length of the table of parameters.
    #[must_use]
    pub fn longest_submission(&self) -> u64 {
        let mut counts = vec![0; self.submissions()];
        for dispatch in &self.dispatches {
            counts[dispatch.submission] += u64::from(dispatch.repeat);
        }
        counts.into_iter().max().unwrap_or(0)
    }
}
