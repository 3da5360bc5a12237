//! Internals of gatefold, for its own command, tests and benchmarks, and for inspection. **Any release may
//! change or remove anything here**, also one that changes nothing else: version numbers guarantee nothing about this
//! module. Everything outside it follows semantic versioning.

/// The parts of a [`Plan`](crate::Plan), the table of kernels, and packed weights.
///
/// ```
/// use gatefold::network::{LayerSpec, RecurrentSpec};
/// use gatefold::unstable::plan::PlanParts;
/// use gatefold::{Network, NetworkSpec, Plan, PlanLimits, PlanOptions, RunShape};
///
/// let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 2, 8))];
/// let network = Network::random(NetworkSpec { format: 1, layers, text: None, labels: vec![] }, 1)?;
/// let plan = Plan::new(&network, RunShape::new(5, 1), &PlanLimits::default(), &PlanOptions::default())?;
/// println!("{plan}"); // stable: what will be done, and why
/// let parts = PlanParts::of(&plan); // not stable
/// assert_eq!(parts.dispatches.iter().map(|one| u64::from(one.repeat)).sum::<u64>(), plan.dispatch_count());
/// # Ok::<(), gatefold::Error>(())
/// ```
pub mod plan {
    pub use crate::plan::train;
    pub use crate::plan::{
        Access, BackwardCell, BackwardKernel, BackwardRung, BeginBuffers, Binding, Blocks, BufferId, BufferSpec, CHIPS,
        CHOICE_BAD, CHOICE_HEAD, CHOICE_STOPPED, Cells, Chip, CodeRecord, Constant, ConstantValue, Constants, Dispatch,
        Exchange, HELD_WORKGROUP, Held, Kernel, KernelSpec, LINEAR_DEPTH, LINEAR_TILE, MATRIX_BLOCKS, MATRIX_SLICE,
        MATRIX_STRIPS, MAX_REPEAT, PARAMS_SIZE, PackedWeight, PartPlace, PastBuffer, PlanParts, ProductKernel,
        ROW_WORKGROUP, RecurrentKernel, Repetition, Rung, SOFTWARE_LOOP_LIMIT, Slice, SlotMoves, StateBuffers, Steps,
        Tiling, TrainKernel, WeightSize, candidates, choose, pack, parts, sizes_text, slot_moves, source_mark,
        steps_at_once, weight_sizes,
    };
}

/// The reference: a plain CPU version of every kernel, in f32 and f64, which specifies it. File stems are as in `shaders/`.
/// [`verify()`](crate::verify()) compares a device with it.
pub mod reference {
    pub use crate::host::{Forward, Gradients, Reference};
    pub use crate::reference::*;
}
