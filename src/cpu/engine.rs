//! A network on the CPU device.

use std::sync::Arc;

use super::attention::attention;
use super::level::Level;
use super::matrix::Matrix;
use super::object_pool::ObjectPool;
use super::options::Cpu;
use super::simd::{Wide, on};
use super::train::{NtmMemory, NtmPanels, NtmRun, runs_ntm};
use crate::base::error::{Error, Result};
use crate::data::banks::BankArena;
use crate::data::input::Checked;
use crate::data::state::{LayerState, State, StatePart};
use crate::host::{Forward, Memory, RunStart, WalkMemory, begin, walk};
use crate::network::{Network, Stage, StageKind, StageRounding};
use crate::reference::{StageWeights, attention_run, gather, run_ntm, scatter, stateless, windows};

/// A network's weights, packed.
#[derive(Debug)]
pub(crate) struct CpuEngine {
    cpu: Cpu,
    network: Arc<Network>,
    stages: Vec<PackedStage>,
    /// Memory of every run at once, kept between them.
    memory: ObjectPool<Memory<f32>>,
    /// What the outputs of a convolution see, `[T', B, K*I]`.
    windows: ObjectPool<Vec<f32>>,
}

#[derive(Debug)]
enum PackedStage {
    Level(Level),
    Matrix(Matrix),
    Ntm(NtmPanels, ObjectPool<NtmMemory>),
    /// A stage for which the reference implementation is fast enough.
    Plain(StageWeights<f32>),
}

impl CpuEngine {
    pub fn new(cpu: Cpu, network: &Arc<Network>) -> Self {
        let stages = network.stages().iter().map(|stage| on!(cpu.token, simd => pack(simd, network, stage)));
        Self {
            cpu,
            network: network.clone(),
            stages: stages.collect(),
            memory: ObjectPool::new(),
            windows: ObjectPool::new(),
        }
    }

    /// Passes the results to `take`, which may keep any of them; the memory of the others is reused by the next run.
    pub fn forward<R>(
        &self,
        checked: &Checked<'_>,
        state: Option<&State>,
        take: impl FnOnce(&mut Forward<f32>) -> R,
    ) -> Result<R> {
        let mut memory = self.memory.take();
        let Memory { forward: Forward { stages, state: to }, steps, behind } = &mut memory;
        begin(&self.network, checked.batch, state, to);
        let start = RunStart { continues: state.is_some(), ..RunStart::default() };
        let result = self.walk(checked, (to, start), (stages, steps, behind)).map(|()| take(&mut memory.forward));
        self.memory.put(memory);
        result
    }

    /// Runs from the batch rows `slots` of a state and into them; no two rows share one. `banks` are what the inputs beside the
    /// first lie in. Gives the last stage's output. An error leaves the state as it was.
    pub fn advance(
        &self,
        checked: &Checked<'_>,
        state: &mut State,
        slots: &[u32],
        banks: &[BankArena],
    ) -> Result<Vec<f32>> {
        let mut memory = self.memory.take();
        let Memory { forward: Forward { stages, .. }, steps, behind } = &mut memory;
        let start = RunStart { continues: true, slots: Some(slots), banks };
        let result = self.walk(checked, (state, start), (stages, steps, behind));
        let output = stages.last_mut().map(std::mem::take).unwrap_or_default();
        self.memory.put(memory);
        result.map(|()| output)
    }

    fn walk(
        &self,
        checked: &Checked<'_>,
        (state, start): (&mut State, RunStart<'_>),
        outputs: WalkMemory<'_, f32>,
    ) -> Result<()> {
        let Cpu { token, threads } = self.cpu;
        walk(&self.network, checked, (state, start), outputs, |index, stage, flow, state, output| {
            match (&self.stages[index], &stage.kind) {
                (PackedStage::Level(level), StageKind::Recurrent(recurrent)) => {
                    let state = &mut state.layers[recurrent.layer];
                    on!(token, simd => level.run(simd, threads, flow, (state, start.slots), output));
                }
                (PackedStage::Matrix(matrix), StageKind::Conv1d { window, .. }) => {
                    let window = flow.window(window);
                    let mut seen = self.windows.take();
                    let sizes = [flow.steps, flow.batch, stage.in_features];
                    windows(flow.inputs[0], sizes, &window, &mut seen);
                    on!(token, simd => matrix.run(simd, threads, &seen, output));
                    self.windows.put(seen);
                }
                (PackedStage::Matrix(matrix), _) => {
                    on!(token, simd => matrix.run(simd, threads, flow.inputs[0], output));
                }
                (PackedStage::Plain(StageWeights::Attention(weight)), StageKind::Attention(how)) => {
                    let (run, inputs) = attention_run((stage, *how), weight, flow);
                    on!(token, simd => attention(simd, threads, &run, &inputs, output));
                }
                (PackedStage::Ntm(panels, pool), StageKind::Ntm(ntm)) => {
                    let run = NtmRun { stage, ntm, flow, threads };
                    let mut memory = pool.take();
                    in_slots(&mut state.layers[ntm.layer], start.slots, |layer| {
                        let state = layer.of_memory();
                        on!(token, simd => run.forward(simd, (panels, &mut memory), false, state, output));
                        Ok(())
                    })?;
                    pool.put(memory);
                }
                (PackedStage::Plain(StageWeights::Ntm(weights)), StageKind::Ntm(ntm)) => {
                    in_slots(&mut state.layers[ntm.layer], start.slots, |layer| {
                        *output = run_ntm((stage, ntm), weights, flow, StageRounding::default(), layer.of_memory())?;
                        Ok(())
                    })?;
                }
                (PackedStage::Plain(weights), _) => stateless(stage, weights, flow, output)?,
                (PackedStage::Level(_) | PackedStage::Ntm(..), _) => {
                    return Err(Error::network(&stage.label, "stage", "a recurrent level", &"another kind"));
                }
            }
            Ok(())
        })
    }
}

/// Runs a layer on its state; where there are slots, on those of the rows of a batch, in the rows' order.
fn in_slots(
    layer: &mut LayerState,
    slots: Option<&[u32]>,
    run: impl FnOnce(&mut LayerState) -> Result<()>,
) -> Result<()> {
    let Some(slots) = slots else { return run(layer) };
    let of_rows = |all: &StatePart| {
        let mut shape = all.shape.clone();
        shape[1] = slots.len();
        let mut data = vec![0.0; slots.len() * all.width()];
        gather(&all.data, slots, all.width(), &mut data);
        StatePart { name: all.name.clone(), shape, data }
    };
    let mut rows = LayerState { name: String::new(), parts: layer.parts.iter().map(of_rows).collect() };
    run(&mut rows)?;
    for (part, all) in rows.parts.iter().zip(&mut layer.parts) {
        let width = all.width();
        scatter(&part.data, slots, width, &mut all.data);
    }
    Ok(())
}

fn pack<S: Wide>(_: S, network: &Network, stage: &Stage) -> PackedStage {
    match &stage.kind {
        StageKind::Recurrent(recurrent) => PackedStage::Level(Level::new::<S>(network, stage, recurrent)),
        StageKind::Ntm(ntm) if runs_ntm(ntm) => {
            let mut panels = NtmPanels::default();
            panels.pack::<S>(network, stage, ntm, 1);
            PackedStage::Ntm(panels, ObjectPool::new())
        }
        StageKind::Dense { activation } | StageKind::Conv1d { activation, .. } => {
            PackedStage::Matrix(Matrix::new::<S>(network, stage, *activation))
        }
        _ => PackedStage::Plain(StageWeights::new(network, stage)),
    }
}
