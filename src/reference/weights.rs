//! Weights in the order in which the CPU reads them.

use super::Real;
use crate::network::fold::{self, Biases};
use crate::network::{Network, Norms, RecurrentStage, Role, Rounding, Stage, StageKind, StageRounding};

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
    /// Of an additive score, `[D]`; else empty.
    Attention(Vec<F>),
    Ntm(Box<NtmWeights<F>>),
}

/// The weights of one direction.
#[derive(Clone, Debug)]
pub(crate) struct DirectionWeights<F> {
    /// `[I, G*H]`
    pub input: Vec<F>,
    /// `[K, G*H]`
    pub recurrent: Vec<F>,
    pub biases: Biases<F>,
    /// Of a layer-normalized cell.
    pub norms: Option<Norms<F>>,
    /// `[H, P]`, or empty
    pub projection: Vec<F>,
}

/// The weights of a cell with a memory.
#[derive(Clone, Debug)]
pub(crate) struct NtmWeights<F> {
    pub controller: DirectionWeights<F>,
    /// `[H, P]`
    pub heads: Vec<F>,
    /// `[P]`
    pub bias: Vec<F>,
}

impl<F: Real> StageWeights<F> {
    /// Those of the directions of a recurrent level.
    pub fn recurrent(&self) -> Option<&[DirectionWeights<F>]> {
        match self {
            Self::Recurrent(directions) => Some(directions),
            _ => None,
        }
    }

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
        match &stage.kind {
            StageKind::Embedding { .. } => {
                Self::Embedding(F::of_f32(network.param(stage, 0, Role::Weight)).into_owned())
            }
            StageKind::Recurrent(level) => {
                let directions = 0..level.directions.len();
                let inputs = stage.in_features;
                Self::Recurrent(directions.map(|index| direction(network, stage, (level, inputs), index)).collect())
            }
            StageKind::Dense { .. } | StageKind::Conv1d { .. } => {
                let matrix = fold::matrix(network, stage);
                let inputs = matrix.len() / stage.out_features;
                Self::Matrix { weight: transposed(&matrix, inputs), bias: fold::bias(network, stage) }
            }
            StageKind::LayerNorm { .. } => Self::LayerNorm(fold::scale_and_offset(network, stage)),
            StageKind::Channelwise { eps, .. } => Self::Channels(fold::channels(network, stage, *eps)),
            StageKind::Attention(_) => Self::Attention(F::of_f32(network.param(stage, 0, Role::Weight)).into_owned()),
            StageKind::Ntm(ntm) => {
                let inputs = stage.in_features + ntm.read_size();
                Self::Ntm(Box::new(NtmWeights {
                    controller: direction(network, stage, (&ntm.controller, inputs), 0),
                    heads: transposed(network.param(stage, 0, Role::HeadsWeight), ntm.hidden_size()),
                    bias: F::of_f32(network.param(stage, 0, Role::HeadsBias)).into_owned(),
                }))
            }
            StageKind::Merge(_)
            | StageKind::Pool1d { .. }
            | StageKind::GlobalPool(_)
            | StageKind::Softmax { .. }
            | StageKind::TimeSoftmax
            | StageKind::ArgMax
            | StageKind::Select(_)
            | StageKind::FinalState(_)
            | StageKind::Reverse
            | StageKind::Feedback { .. }
            | StageKind::Rearrange(_)
            | StageKind::Join(_) => Self::None,
        }
    }
}

fn direction<F: Real>(
    network: &Network,
    stage: &Stage,
    (level, inputs): (&RecurrentStage, usize),
    index: usize,
) -> DirectionWeights<F> {
    let matrix = |role, inputs| transposed(network.param(stage, index, role), inputs);
    DirectionWeights {
        input: matrix(Role::WeightIh, inputs),
        recurrent: transposed(&fold::recurrent(network, stage, level, index), level.state_size()),
        norms: fold::norms(network, stage, level, index),
        biases: fold::biases(network, stage, level, index),
        projection: matrix(Role::WeightHr, level.hidden_size),
    }
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
