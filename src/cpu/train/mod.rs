//! Stages while they are trained: recurrent levels, cells with a memory, dense layers and embeddings, each with a forward pass
//! that keeps what the gradients need, and the gradients. The reference runs the other stages.
//!
//! All products are of packed matrices, as in inference. Gates lie in blocks of H units, filled up to whole vectors. Threads
//! share the rows of the batch, and the lines of the gradients of matrices; every sum has one order, so that results do not
//! depend on the number of threads.

mod cells;
mod dense;
mod embedding;
mod level;
mod ntm;
mod product;
mod rows;
mod share_memory;
mod weight_gradient;

use std::cell::RefCell;

use self::dense::{DenseMemory, TrainDense};
use self::level::{LaneMemory, TrainLane};
pub(super) use self::ntm::{NtmMemory, NtmPanels, NtmRun, runs_ntm};
use self::product::movers;
use super::options::Cpu;
use super::simd::{Wide, on};
use super::threads::share;
use crate::data::state::{LayerState, State};
use crate::host::{StageBackward, StageRunner};
use crate::network::{Network, NtmStage, Recurrence, RecurrentStage, Role, Stage, StageKind};
use crate::reference::StageInput;

/// What each stage keeps between its passes and, as memory, between steps of training.
#[derive(Debug, Default)]
pub(crate) struct TrainMemory(Vec<StageMemory>);

/// What one stage keeps.
#[derive(Debug, Default)]
enum StageMemory {
    #[default]
    None,
    /// By direction.
    Level(Vec<LaneMemory>),
    Dense(Box<DenseMemory>),
    Ntm(Box<(NtmPanels, NtmMemory)>),
}

impl StageMemory {
    fn level(&mut self, directions: usize) -> &mut [LaneMemory] {
        if !matches!(self, Self::Level(_)) {
            *self = Self::Level(Vec::new());
        }
        match self {
            Self::Level(lanes) => {
                lanes.resize_with(directions, LaneMemory::default);
                lanes
            }
            _ => &mut [],
        }
    }
}

/// The stages of a network that is trained on the CPU.
pub(crate) struct TrainStages<'a> {
    cpu: Cpu,
    network: &'a Network,
    memory: RefCell<&'a mut Vec<StageMemory>>,
}

impl<'a> TrainStages<'a> {
    pub fn new(cpu: Cpu, network: &'a Network, memory: &'a mut TrainMemory) -> Self {
        memory.0.resize_with(network.stages().len(), StageMemory::default);
        Self { cpu, network, memory: RefCell::new(&mut memory.0) }
    }

    fn level_forward(
        &self,
        (stage, level): (&Stage, &RecurrentStage),
        lanes: &mut [LaneMemory],
        flow: &StageInput<'_, f32>,
        state: &mut LayerState<f32>,
        output: &mut Vec<f32>,
    ) {
        let Cpu { token, threads } = self.cpu;
        let network = self.network;
        let lane = |direction| TrainLane { network, stage, level, direction, flow, threads };
        for (direction, memory) in lanes.iter_mut().enumerate() {
            let state = of_direction(state, level, direction);
            on!(token, simd => lane(direction).forward(simd, memory, state));
        }
        let steps = if stage.sequence_out { flow.steps } else { 1 };
        let of_step = flow.batch * stage.out_features;
        output.resize(steps * of_step, 0.0);
        let movers = movers(threads, output.len());
        let part = steps.div_ceil(movers);
        share(movers, output.chunks_mut(part * of_step).enumerate(), |(index, output)| {
            for (direction, memory) in lanes.iter().enumerate() {
                on!(token, simd => lane(direction).write_output(simd, memory, index * part, output));
            }
        });
    }
}

/// The rows of h and of c that a direction of a level has in its layer's state.
fn of_direction<'a>(
    state: &'a mut LayerState<f32>,
    level: &RecurrentStage,
    direction: usize,
) -> (&'a mut [f32], &'a mut [f32]) {
    let [h, c] = state.row_of_h_and_c(level.level * level.directions.len() + direction);
    (h, c)
}

impl StageRunner<f32> for TrainStages<'_> {
    fn runs(&self, stage: &Stage) -> bool {
        match &stage.kind {
            StageKind::Recurrent(level) => runs(level),
            StageKind::Ntm(ntm) => runs_ntm(ntm),
            StageKind::Embedding { .. } | StageKind::Dense { .. } => true,
            _ => false,
        }
    }

    fn forward(
        &self,
        index: usize,
        stage: &Stage,
        flow: &StageInput<'_, f32>,
        state: &mut State<f32>,
        output: &mut Vec<f32>,
    ) -> bool {
        if !self.runs(stage) {
            return false;
        }
        let Cpu { token, threads } = self.cpu;
        let memory = &mut self.memory.borrow_mut()[index];
        match &stage.kind {
            StageKind::Recurrent(level) => {
                let lanes = memory.level(level.directions.len());
                self.level_forward((stage, level), lanes, flow, &mut state.layers[level.layer], output);
            }
            StageKind::Ntm(ntm) => {
                if !matches!(memory, StageMemory::Ntm(_)) {
                    *memory = StageMemory::Ntm(Box::default());
                }
                let StageMemory::Ntm(memory) = memory else { return false };
                let (panels, memory) = &mut **memory;
                let state = state.layers[ntm.layer].of_memory();
                on!(token, simd => {
                    pack_ntm(simd, panels, (self.network, stage, ntm), threads);
                    NtmRun { stage, ntm, flow, threads }.forward(simd, (panels, memory), true, state, output);
                });
            }
            StageKind::Dense { activation } => {
                if !matches!(memory, StageMemory::Dense(_)) {
                    *memory = StageMemory::Dense(Box::default());
                }
                let StageMemory::Dense(memory) = memory else { return false };
                let dense = TrainDense { network: self.network, stage, activation: *activation, threads };
                on!(token, simd => dense.forward(simd, memory, flow.inputs[0], output));
            }
            _ => embedding::forward(self.network, stage, threads, flow.tokens, output),
        }
        true
    }

    fn backward(
        &self,
        index: usize,
        stage: &Stage,
        flow: &StageInput<'_, f32>,
        pass: &mut StageBackward<'_, f32>,
    ) -> bool {
        if !self.runs(stage) {
            return false;
        }
        let Cpu { token, threads } = self.cpu;
        let network = self.network;
        let memory = &mut self.memory.borrow_mut()[index];
        match (&stage.kind, memory) {
            (StageKind::Recurrent(level), StageMemory::Level(lanes)) => {
                // The state's gradient is taken out, so that the pass can be lent.
                let mut d_state = std::mem::take(&mut pass.d_state.layers);
                for (direction, memory) in lanes.iter_mut().enumerate() {
                    let d_state = of_direction(&mut d_state[level.layer], level, direction);
                    let lane = TrainLane { network, stage, level, direction, flow, threads };
                    on!(token, simd => lane.backward(simd, memory, pass, d_state));
                }
                pass.d_state.layers = d_state;
            }
            (StageKind::Ntm(ntm), StageMemory::Ntm(memory)) => {
                let mut d_state = std::mem::take(&mut pass.d_state.layers);
                let run = NtmRun { stage, ntm, flow, threads };
                let of_layer = d_state[ntm.layer].of_memory();
                on!(token, simd => run.backward(simd, network, &mut memory.1, pass, of_layer));
                pass.d_state.layers = d_state;
            }
            (StageKind::Dense { activation }, StageMemory::Dense(memory)) => {
                let dense = TrainDense { network, stage, activation: *activation, threads };
                on!(token, simd => dense.backward(simd, memory, flow.inputs[0], pass));
            }
            (StageKind::Embedding { .. }, _) => {
                if let Some(to) = stage.param(0, Role::Weight).and_then(|param| pass.params.place(param)) {
                    embedding::backward(threads, stage.out_features, flow, pass.d_output, to);
                }
            }
            _ => return false,
        }
        true
    }
}

fn pack_ntm<S: Wide>(_: S, panels: &mut NtmPanels, of: (&Network, &Stage, &NtmStage), threads: usize) {
    panels.pack::<S>(of.0, of.1, of.2, threads);
}

/// Whether the fast passes run a level: an LSTM, a GRU that resets the product, or a plain RNN, each with its usual
/// functions, no bound and no zoneout.
fn runs(level: &RecurrentStage) -> bool {
    let plain = match level.recurrence {
        Recurrence::Lstm { proj_size, peephole, coupled, cell_clip } => {
            proj_size == 0 && !peephole && !coupled && cell_clip.is_none()
        }
        Recurrence::Gru { reset_after } => reset_after,
        Recurrence::Rnn => true,
        _ => false,
    };
    let usual = |activations: &[_]| activations == level.cell().default_activations();
    plain
        && level.clip.is_none()
        && level.zoneout.is_none()
        && level.directions.iter().all(|direction| usual(&direction.activations))
}
