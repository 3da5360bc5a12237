//! Weights in the order in which the CPU reads them.

use super::Real;
use crate::network::{BatchNorm, Cell, Direction, Network, RecurrentStage, Stage, StageKind, gates};
use crate::network::{Rounding, StageRounding};

/// The weights of one stage.
#[derive(Clone, Debug)]
pub(crate) enum StageWeights<F> {
    /// Stages that only move or join numbers.
    None,
    Embedding(Vec<F>),
    Recurrent(Vec<DirectionWeights<F>>),
    /// `[K, N]` and `[N]`, of a dense layer or a convolution.
    Matrix {
        weight: Vec<F>,
        bias: Vec<F>,
    },
    /// Scale and offset.
    LayerNorm([Vec<F>; 2]),
    /// Mean, scale and offset, `[3, N]`.
    Channels(Vec<F>),
}

/// The weights of one direction.
#[derive(Clone, Debug)]
pub(crate) struct DirectionWeights<F> {
    /// `[I, G*H]`
    pub input: Vec<F>,
    /// `[K, G*H]`
    pub recurrent: Vec<F>,
    /// `[G*H]`, what is added before the steps
    pub bias: Vec<F>,
    /// An LSTM's peepholes `[3H]` or a GRU's recurrent bias of the candidate `[H]`, or empty
    pub extra: Vec<F>,
    /// `[H, P]`, or empty
    pub projection: Vec<F>,
}

impl<F: Real> StageWeights<F> {
    /// With the weights rounded that `rounding` names.
    pub fn rounded(mut self, rounding: StageRounding) -> Self {
        let StageRounding { input, state, projection } = rounding;
        match &mut self {
            Self::Recurrent(directions) => {
                for direction in directions {
                    round(&mut direction.input, input);
                    round(&mut direction.recurrent, state);
                    round(&mut direction.projection, projection);
                }
            }
            Self::Matrix { weight, .. } => round(weight, input),
            _ => {}
        }
        self
    }

    pub fn new(network: &Network, stage: &Stage) -> Self {
        let width = stage.out_features;
        match &stage.kind {
            StageKind::Embedding { weight, .. } => Self::Embedding(convert(network.weight(weight))),
            StageKind::Recurrent(recurrent) => Self::Recurrent(
                recurrent.directions.iter().map(|d| direction(network, recurrent, d, stage.in_features)).collect(),
            ),
            StageKind::Dense { weight, bias, .. } => Self::Matrix {
                weight: transposed(network.weight(weight), stage.in_features),
                bias: or_fill(network.weight(bias), width, F::default()),
            },
            StageKind::Conv1d { window, groups, weight, bias, .. } => Self::Matrix {
                weight: filters(network.weight(weight), stage.in_features, width, window.kernel_size, *groups),
                bias: or_fill(network.weight(bias), width, F::default()),
            },
            StageKind::LayerNorm { names: [weight, bias], .. } => Self::LayerNorm([
                or_fill(network.weight(weight), width, F::ONE),
                or_fill(network.weight(bias), width, F::default()),
            ]),
            StageKind::Channelwise { norm, .. } => Self::Channels(channels(network, norm.as_ref(), width)),
            StageKind::Merge(_)
            | StageKind::Pool1d { .. }
            | StageKind::GlobalPool(_)
            | StageKind::Softmax
            | StageKind::Select(_)
            | StageKind::Reverse
            | StageKind::Join(_) => Self::None,
        }
    }
}

fn direction<F: Real>(
    network: &Network,
    stage: &RecurrentStage,
    direction: &Direction,
    inputs: usize,
) -> DirectionWeights<F> {
    let names = &direction.names;
    let mut bias: Vec<F> = or_fill(network.weight(&names.bias_ih), stage.gate_rows(), F::default());
    let mut of_state: Vec<F> = or_fill(network.weight(&names.bias_hh), stage.gate_rows(), F::default());
    let mut extra = convert(network.weight(&names.weight_p));
    if stage.cell == Cell::Gru && stage.reset_after {
        // The reset gate multiplies this one, so it stays apart.
        extra = of_state.split_off(gates::NEW * stage.hidden_size);
    }
    for (bias, of_state) in bias.iter_mut().zip(of_state) {
        *bias += of_state;
    }
    DirectionWeights {
        input: transposed(network.weight(&names.weight_ih), inputs),
        recurrent: transposed(network.weight(&names.weight_hh), stage.state_size()),
        bias,
        extra,
        projection: transposed(network.weight(&names.weight_hr), stage.hidden_size),
    }
}

fn channels<F: Real>(network: &Network, norm: Option<&BatchNorm>, width: usize) -> Vec<F> {
    let Some(norm) = norm else {
        return [F::default(), F::ONE, F::default()].into_iter().flat_map(|x| std::iter::repeat_n(x, width)).collect();
    };
    let mut channels = convert(network.weight(&norm.running_mean));
    let variance: Vec<F> = convert(network.weight(&norm.running_var));
    let weight = or_fill(network.weight(&norm.weight), width, F::ONE);
    channels.extend(variance.iter().zip(weight).map(|(&var, weight)| weight / (var + F::from_f32(norm.eps)).sqrt()));
    channels.extend(or_fill::<F>(network.weight(&norm.bias), width, F::default()));
    channels
}

/// `[N, I/groups, K]` as `[K*I, N]`, 0 where an output does not see an input.
fn filters<F: Real>(weight: &[f32], inputs: usize, outputs: usize, kernel: usize, groups: usize) -> Vec<F> {
    let mut matrix = vec![F::default(); kernel * inputs * outputs];
    let (of_inputs, of_outputs) = (inputs / groups, outputs / groups);
    for (at, &weight) in weight.iter().enumerate() {
        let (output, input, k) = (at / kernel / of_inputs, at / kernel % of_inputs, at % kernel);
        let channel = output / of_outputs * of_inputs + input;
        matrix[(k * inputs + channel) * outputs + output] = F::from_f32(weight);
    }
    matrix
}

pub(super) fn convert<F: Real>(numbers: &[f32]) -> Vec<F> {
    numbers.iter().map(|&x| F::from_f32(x)).collect()
}

/// `[N, K]` as `[K, N]`.
fn transposed<F: Real>(matrix: &[f32], columns: usize) -> Vec<F> {
    (0..columns).flat_map(|k| matrix.iter().skip(k).step_by(columns)).map(|&x| F::from_f32(x)).collect()
}

fn round<F: Real>(weights: &mut [F], rounding: Rounding) {
    if rounding.weights {
        weights.iter_mut().for_each(|weight| *weight = weight.to_half());
    }
}

/// The tensor, or `value` throughout where an option leaves it out (which makes it empty).
fn or_fill<F: Real>(tensor: &[f32], len: usize, value: F) -> Vec<F> {
    if tensor.is_empty() { vec![value; len] } else { convert(tensor) }
}
