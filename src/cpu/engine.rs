//! A network on the CPU device.

use std::sync::Arc;

use super::level::Level;
use super::matrix::Matrix;
use super::options::Cpu;
use super::simd::{Wide, on};
use crate::error::Result;
use crate::input::Checked;
use crate::network::{Network, Stage, StageKind};
use crate::reference::{Forward, StageWeights, stateless, walk, windows};
use crate::state::State;

/// A network's weights, packed.
#[derive(Debug)]
pub(crate) struct Engine {
    cpu: Cpu,
    network: Arc<Network>,
    stages: Vec<Packed>,
}

#[derive(Debug)]
enum Packed {
    Level(Level),
    Matrix(Matrix),
    /// What the reference does fast enough.
    Plain(StageWeights<f32>),
}

impl Engine {
    pub fn new(cpu: Cpu, network: &Arc<Network>) -> Self {
        let stages = network.stages().iter().map(|stage| on!(cpu.token, simd => pack(simd, network, stage)));
        Self { cpu, network: network.clone(), stages: stages.collect() }
    }

    pub fn forward(&self, checked: &Checked<'_>, state: Option<&State>) -> Result<Forward<f32>> {
        let Cpu { token, threads } = self.cpu;
        walk(&self.network, checked, state, |index, stage, flow, state| {
            let mut output = Vec::new();
            match (&self.stages[index], &stage.kind) {
                (Packed::Level(level), StageKind::Recurrent(recurrent)) => {
                    let state = &mut state.layers[recurrent.layer];
                    on!(token, simd => level.run(simd, threads, flow, state, &mut output));
                }
                (Packed::Matrix(matrix), StageKind::Conv1d { window, .. }) => {
                    let seen = windows(flow.inputs[0], flow.steps, flow.batch, stage.in_features, window);
                    on!(token, simd => matrix.run(simd, threads, &seen, &mut output));
                }
                (Packed::Matrix(matrix), _) => {
                    on!(token, simd => matrix.run(simd, threads, flow.inputs[0], &mut output));
                }
                (Packed::Plain(weights), _) => output = stateless(stage, weights, flow)?,
                (Packed::Level(_), _) => {}
            }
            Ok(output)
        })
    }
}

fn pack<S: Wide>(_: S, network: &Network, stage: &Stage) -> Packed {
    let (inputs, outputs) = (stage.in_features, stage.out_features);
    match &stage.kind {
        StageKind::Recurrent(recurrent) => Packed::Level(Level::new::<S>(network, stage, recurrent)),
        StageKind::Dense { activation, weight, bias } => {
            let matrix = (network.weight(weight), network.weight_format(weight));
            Packed::Matrix(Matrix::new::<S>(network, matrix, bias, [inputs, outputs], *activation))
        }
        StageKind::Conv1d { window, groups, activation, weight, bias } => {
            let matrix = filters(network.weight(weight), inputs, outputs, window.kernel_size, *groups);
            let matrix = (&matrix[..], network.weight_format(weight));
            let sizes = [inputs * window.kernel_size, outputs];
            Packed::Matrix(Matrix::new::<S>(network, matrix, bias, sizes, *activation))
        }
        _ => Packed::Plain(StageWeights::new(network, stage)),
    }
}

/// `[N, I/groups, K]` as `[N, K*I]`, 0 where an output does not see an input.
fn filters(weight: &[f32], inputs: usize, outputs: usize, kernel: usize, groups: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; outputs * kernel * inputs];
    let (of_inputs, of_outputs) = (inputs / groups, outputs / groups);
    for (at, &weight) in weight.iter().enumerate() {
        let (output, input, k) = (at / kernel / of_inputs, at / kernel % of_inputs, at % kernel);
        matrix[(output * kernel + k) * inputs + output / of_outputs * of_inputs + input] = weight;
    }
    matrix
}
