//! A whole network on the CPU.

use super::{Real, StepShape, embedding, linear, lstm_step, softmax};
use crate::error::{Error, Result};
use crate::network::{DirectionNames, Network, StageKind, gates};
use crate::tensors::{Checked, Input, LayerState, State, Values};

/// A network prepared for the CPU in `F`.
#[derive(Clone, Debug)]
pub struct Reference<F> {
    network: Network,
    weights: Vec<StageWeights<F>>,
}

/// What [`Reference::forward`] computed, time-major.
#[derive(Clone, Debug)]
pub struct Forward<F> {
    /// Output of every stage, `[T, B, N]` or `[B, N]`; only the last when not traced.
    pub stages: Vec<Vec<F>>,
    /// Final state of every LSTM.
    pub state: State<F>,
}

#[derive(Clone, Debug)]
enum StageWeights<F> {
    Embedding(Vec<F>),
    Lstm(Vec<Direction<F>>),
    Dense { weight: Vec<F>, bias: Vec<F> },
    Softmax,
}

#[derive(Clone, Debug)]
struct Direction<F> {
    /// `[I, 4H]`
    input: Vec<F>,
    /// `[H, 4H]`
    recurrent: Vec<F>,
    /// `[4H]`, both biases summed
    bias: Vec<F>,
}

impl<F: Real> Reference<F> {
    /// Converts the weights of `network` once.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        let weights = network
            .stages()
            .iter()
            .map(|stage| match &stage.kind {
                StageKind::Embedding { weight, .. } => StageWeights::Embedding(convert(network.weight(weight))),
                StageKind::Lstm { hidden_size, directions, .. } => StageWeights::Lstm(
                    directions.iter().map(|names| direction(network, names, stage.in_features, *hidden_size)).collect(),
                ),
                StageKind::Dense { weight, bias, .. } => StageWeights::Dense {
                    weight: transposed(network.weight(weight), stage.in_features),
                    bias: summed(stage.out_features, &[network.weight(bias)]),
                },
                StageKind::Softmax => StageWeights::Softmax,
            })
            .collect();
        Self { network: network.clone(), weights }
    }

    /// The network this was made from.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Runs the network; with `trace` the output of every stage is kept.
    ///
    /// # Errors
    /// Input or state of the wrong shape, a token outside the table.
    pub fn forward(&self, input: Input<'_>, state: Option<&State>, trace: bool) -> Result<Forward<F>> {
        self.forward_checked(&Checked::new(&self.network, input, state)?, state, trace)
    }

    pub(crate) fn forward_checked(
        &self,
        checked: &Checked<'_>,
        state: Option<&State>,
        trace: bool,
    ) -> Result<Forward<F>> {
        let mut final_state = initial_state(&self.network, checked.batch, state);
        let features = match &checked.values {
            Values::Features(values) => convert(values),
            Values::Tokens(_) => Vec::new(),
        };
        let mut outputs: Vec<Vec<F>> = Vec::new();
        for (stage, weights) in self.network.stages().iter().zip(&self.weights) {
            let flow = outputs.last().unwrap_or(&features);
            let output = match (&stage.kind, weights) {
                (StageKind::Embedding { .. }, StageWeights::Embedding(table)) => match &checked.values {
                    Values::Tokens(tokens) => embedding(tokens, table, stage.out_features),
                    Values::Features(_) => return Err(mismatch(&stage.label)),
                },
                (StageKind::Lstm { lstm, level, hidden_size, .. }, StageWeights::Lstm(directions)) => {
                    let shape = LevelShape {
                        steps: checked.steps,
                        batch: checked.batch,
                        hidden_size: *hidden_size,
                        sequence_out: stage.sequence_out,
                    };
                    let state = &mut final_state.layers[*lstm];
                    lstm_level(shape, flow, directions, state, level * directions.len())
                }
                (StageKind::Dense { activation, .. }, StageWeights::Dense { weight, bias }) => {
                    linear(flow, weight, bias, *activation)
                }
                (StageKind::Softmax, StageWeights::Softmax) => softmax(flow, stage.in_features),
                _ => return Err(mismatch(&stage.label)),
            };
            if !trace {
                outputs.clear();
            }
            outputs.push(output);
        }
        Ok(Forward { stages: outputs, state: final_state })
    }
}

/// Sizes of one level of an LSTM.
#[derive(Clone, Copy)]
struct LevelShape {
    steps: usize,
    batch: usize,
    hidden_size: usize,
    sequence_out: bool,
}

/// One level in all its directions; `first_row` is the level's first row in the state `[L*D, B, H]`.
fn lstm_level<F: Real>(
    shape: LevelShape,
    input: &[F],
    directions: &[Direction<F>],
    state: &mut LayerState<F>,
    first_row: usize,
) -> Vec<F> {
    let LevelShape { steps, batch, hidden_size, sequence_out } = shape;
    let output_stride = directions.len() * hidden_size;
    let kept_steps = if sequence_out { steps } else { 1 };
    let mut output = vec![F::default(); kept_steps * batch * output_stride];
    let state_len = batch * hidden_size;
    for (index, direction) in directions.iter().enumerate() {
        let projected = linear(input, &direction.input, &direction.bias, crate::network::Activation::Linear);
        let span = (first_row + index) * state_len..(first_row + index + 1) * state_len;
        let mut h_in = state.h[span.clone()].to_vec();
        let mut h_out = vec![F::default(); state_len];
        let step_shape = StepShape { hidden_size, output_stride, output_offset: index * hidden_size };
        for step in 0..steps {
            let t = if index == 1 { steps - 1 - step } else { step };
            let row = if sequence_out { t } else { 0 };
            let width = batch * gates::COUNT * hidden_size;
            lstm_step(
                step_shape,
                &projected[t * width..][..width],
                &direction.recurrent,
                &h_in,
                &mut h_out,
                &mut state.c[span.clone()],
                &mut output[row * batch * output_stride..][..batch * output_stride],
            );
            std::mem::swap(&mut h_in, &mut h_out);
        }
        state.h[span].copy_from_slice(&h_in);
    }
    output
}

fn direction<F: Real>(network: &Network, names: &DirectionNames, inputs: usize, hidden: usize) -> Direction<F> {
    Direction {
        input: transposed(network.weight(&names.weight_ih), inputs),
        recurrent: transposed(network.weight(&names.weight_hh), hidden),
        bias: summed(gates::COUNT * hidden, &[network.weight(&names.bias_ih), network.weight(&names.bias_hh)]),
    }
}

fn initial_state<F: Real>(network: &Network, batch: usize, state: Option<&State>) -> State<F> {
    match state {
        Some(state) => State {
            layers: state
                .layers
                .iter()
                .map(|layer| LayerState {
                    name: layer.name.clone(),
                    shape: layer.shape,
                    h: convert(&layer.h),
                    c: convert(&layer.c),
                })
                .collect(),
        },
        None => State::zeros(network, batch),
    }
}

fn mismatch(stage: &str) -> Error {
    Error::network(stage, "stage", "weights and input of its own kind", &"another kind")
}

fn convert<F: Real>(numbers: &[f32]) -> Vec<F> {
    numbers.iter().map(|&x| F::from_f32(x)).collect()
}

/// `[N, K]` as `[K, N]`.
fn transposed<F: Real>(matrix: &[f32], columns: usize) -> Vec<F> {
    (0..columns).flat_map(|k| matrix.iter().skip(k).step_by(columns)).map(|&x| F::from_f32(x)).collect()
}

/// Sum of the vectors that are there (an option left out gives an empty one), in `F`.
fn summed<F: Real>(len: usize, vectors: &[&[f32]]) -> Vec<F> {
    let mut sum = vec![F::default(); len];
    for vector in vectors {
        for (sum, &x) in sum.iter_mut().zip(*vector) {
            *sum += F::from_f32(x);
        }
    }
    sum
}
