//! Values that devices compute with, folded from the tensors of a stage: the sum of two biases, filters as a matrix, the
//! statistics of a normalization as a scale. Each folding has its inverse, which turns the gradient of what is folded
//! into gradients of the tensors.

use std::borrow::Cow;

use super::{Cell, GateNorm, Network, Normalization, Recurrence, RecurrentStage, Role, Stage, StageKind, gates};
use crate::base::Real;

/// What is added to the sums of one direction of a level.
#[derive(Clone, Debug, PartialEq)]
pub struct Biases<F> {
    /// `[G*H]`, added before the steps.
    pub bias: Vec<F>,
    /// What a step needs in addition: peepholes, an LSTM's `[3H]` or an SRU's `[2H]`, the candidate's recurrent bias `[H]` of
    /// a GRU that resets the product, or an IndRNN's u `[H]`; or empty.
    pub extra: Vec<F>,
}

/// Where a GRU's `bias_hh` is split: the reset gate multiplies the part from here on, so it is not added before the steps.
fn split_of(level: &RecurrentStage) -> Option<usize> {
    matches!(level.recurrence, Recurrence::Gru { reset_after: true }).then_some(gates::NEW * level.hidden_size)
}

/// The biases of one direction of `stage`, which is the recurrent level `level`.
pub(crate) fn biases<F: Real>(network: &Network, stage: &Stage, level: &RecurrentStage, direction: usize) -> Biases<F> {
    let of = |role| network.param(stage, direction, role);
    let mut bias: Vec<F> = or_fill(of(Role::BiasIh), level.gate_rows(), F::default());
    let mut of_state: Vec<F> = or_fill(of(Role::BiasHh), level.gate_rows(), F::default());
    let of_units = if level.cell() == Cell::IndRnn { Role::WeightHh } else { Role::WeightP };
    let mut extra = F::of_f32(of(of_units)).into_owned();
    if let Some(at) = split_of(level) {
        extra = of_state.split_off(at);
    }
    for (bias, of_state) in bias.iter_mut().zip(of_state) {
        *bias += of_state;
    }
    Biases { bias, extra }
}

/// The inverse of `biases` for gradients: those of `bias_ih`, `bias_hh` and `weight_p` (of an IndRNN its `weight_hh`);
/// they are not used for a level without such tensors.
pub fn unfold_biases<F: Real>(level: &RecurrentStage, folded: &Biases<F>) -> [Vec<F>; 3] {
    let Biases { bias, extra } = folded;
    match split_of(level) {
        Some(at) => [bias.clone(), [&bias[..at], extra].concat(), Vec::new()],
        None => [bias.clone(), bias.clone(), extra.clone()],
    }
}

/// Scale and offset `[N]` of a normalization.
pub type Affine<F> = [Vec<F>; 2];

/// The normalizations of one direction of a layer-normalized level.
#[derive(Clone, Debug, PartialEq)]
pub struct Norms<F> {
    /// What is normalized.
    pub how: Normalization,
    /// Of `W x + U h`, or of `W x` where the parts are normalized apart, `[G*H]`.
    pub input: Affine<F>,
    /// Of `U h` `[G*H]`, or empty.
    pub state: Affine<F>,
    /// Of c `[H]`, or empty.
    pub c: Affine<F>,
}

/// The normalizations of one direction of `stage`, which is the recurrent level `level`, if it has any.
pub(crate) fn norms<F: Real>(
    network: &Network,
    stage: &Stage,
    level: &RecurrentStage,
    direction: usize,
) -> Option<Norms<F>> {
    let how = level.recurrence.normalization()?;
    let affine = |weight: Role, bias: Role| {
        let weight = F::of_f32(network.param(stage, direction, weight)).into_owned();
        let bias = or_fill(network.param(stage, direction, bias), weight.len(), F::default());
        [weight, bias]
    };
    let [input, state] = match how.gate_norm {
        GateNorm::Sum => [affine(Role::NormWeight, Role::NormBias), Default::default()],
        GateNorm::Parts => [affine(Role::NormIhWeight, Role::NormIhBias), affine(Role::NormHhWeight, Role::NormHhBias)],
    };
    Some(Norms { how, input, state, c: affine(Role::NormCWeight, Role::NormCBias) })
}

/// U `[G*H, K]` of one direction of `stage`, which is the recurrent level `level`: 0 between the heads of an sLSTM.
pub(crate) fn recurrent<'a>(
    network: &'a Network,
    stage: &Stage,
    level: &RecurrentStage,
    direction: usize,
) -> Cow<'a, [f32]> {
    let weight = network.param(stage, direction, Role::WeightHh);
    let (hidden, heads) = (level.hidden_size, level.recurrence.num_heads());
    if heads == 1 {
        return Cow::Borrowed(weight);
    }
    let mut matrix = vec![0.0; heads * weight.len()];
    for (&number, at) in weight.iter().zip(head_places(weight.len(), hidden, heads)) {
        matrix[at] = number;
    }
    Cow::Owned(matrix)
}

/// The inverse of `recurrent` for gradients.
#[must_use]
pub fn unfold_recurrent<F: Real>(level: &RecurrentStage, matrix: Vec<F>) -> Vec<F> {
    let (hidden, heads) = (level.hidden_size, level.recurrence.num_heads());
    match heads {
        1 => matrix,
        _ => head_places(matrix.len() / heads, hidden, heads).map(|at| matrix[at]).collect(),
    }
}

/// Where each of the `count` numbers of `[G*H, H / heads]` lies in `[G*H, H]`.
fn head_places(count: usize, hidden: usize, heads: usize) -> impl Iterator<Item = usize> {
    let of_head = hidden / heads;
    (0..count).map(move |at| {
        let (row, column) = (at / of_head, at % of_head);
        row * hidden + row % hidden / of_head * of_head + column
    })
}

/// The matrix `[N, K]` of a dense layer or a convolution, whose inputs are `[K, I]` there.
pub(crate) fn matrix<'a>(network: &'a Network, stage: &Stage) -> Cow<'a, [f32]> {
    let weight = network.param(stage, 0, Role::Weight);
    match &stage.kind {
        StageKind::Conv1d { window, groups, .. } => {
            let sizes = [stage.in_features, stage.out_features, window.kernel_size];
            Cow::Owned(filters(weight, sizes, *groups))
        }
        _ => Cow::Borrowed(weight),
    }
}

/// Filters `[N, I/groups, K]` as `[N, K, I]`, 0 where an output does not see an input.
fn filters(weight: &[f32], sizes: [usize; 3], groups: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; sizes.iter().product()];
    for (&number, at) in weight.iter().zip(filter_places(sizes, groups)) {
        matrix[at] = number;
    }
    matrix
}

/// The inverse of `matrix` for the gradient of filters: `[N, K, I]` as `[N, I/groups, K]`. `sizes` are I, N and K.
#[must_use]
pub fn unfold_filters<F: Real>(matrix: &[F], sizes: [usize; 3], groups: usize) -> Vec<F> {
    filter_places(sizes, groups).map(|at| matrix[at]).collect()
}

/// Where each number of filters `[N, I/groups, K]` lies in `[N, K, I]`.
fn filter_places([inputs, outputs, kernel]: [usize; 3], groups: usize) -> impl Iterator<Item = usize> {
    let (of_inputs, of_outputs) = (inputs / groups, outputs / groups);
    (0..outputs).flat_map(move |output| {
        let first = output / of_outputs * of_inputs;
        (0..of_inputs).flat_map(move |input| (0..kernel).map(move |k| (output * kernel + k) * inputs + first + input))
    })
}

/// The bias `[N]` of a dense layer or a convolution, 0 where it has none.
pub(crate) fn bias<F: Real>(network: &Network, stage: &Stage) -> Vec<F> {
    or_fill(network.param(stage, 0, Role::Bias), stage.out_features, F::default())
}

/// Scale and offset `[N]` of a normalization, 1 and 0 where it has none.
pub(crate) fn scale_and_offset<F: Real>(network: &Network, stage: &Stage) -> [Vec<F>; 2] {
    let weight = or_fill(network.param(stage, 0, Role::Weight), stage.out_features, F::ONE);
    [weight, bias(network, stage)]
}

/// Mean, scale and offset of every channel, `[3, N]`: those of a batch normalization from its statistics, else 0, 1, 0.
pub(crate) fn channels<F: Real>(network: &Network, stage: &Stage, eps: Option<f32>) -> Vec<F> {
    let [mut scale, offset] = scale_and_offset::<F>(network, stage);
    let mean = or_fill(network.param(stage, 0, Role::RunningMean), stage.out_features, F::default());
    if let Some(eps) = eps {
        let variance = network.param(stage, 0, Role::RunningVar);
        for (scale, &variance) in scale.iter_mut().zip(variance) {
            *scale = *scale / (F::from_f32(variance) + F::from_f32(eps)).sqrt();
        }
    }
    [mean, scale, offset].concat()
}

/// The inverse of `channels` for gradients: those of `weight` and `bias` from that of `[3, N]`, for statistics that do
/// not change.
#[must_use]
pub fn unfold_channels<F: Real>(folded: &[F], variance: &[f32], eps: f32) -> [Vec<F>; 2] {
    let width = variance.len();
    let scale = folded[width..2 * width].iter().zip(variance);
    let weight = scale.map(|(&scale, &variance)| scale / (F::from_f32(variance) + F::from_f32(eps)).sqrt());
    [weight.collect(), folded[2 * width..].to_vec()]
}

/// The tensor, or `value` throughout where an option leaves it out, so that it is empty.
fn or_fill<F: Real>(tensor: &[f32], len: usize, value: F) -> Vec<F> {
    if tensor.is_empty() { vec![value; len] } else { F::of_f32(tensor).into_owned() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::network::{FORMAT, LayerSpec, NetworkSpec, Tensor};

    fn network(layer: &str) -> Network {
        let layers = vec![serde_json::from_str::<LayerSpec>(layer).expect("a layer")];
        Network::random(NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() }, 3).expect("a network")
    }

    /// `network` with other numbers.
    fn with(network: &Network, change: impl Fn(&str, &Tensor) -> Vec<f32>) -> Network {
        let tensors: BTreeMap<String, Tensor> = network
            .tensors()
            .iter()
            .map(|(name, tensor)| {
                let data = change(name, tensor);
                (name.clone(), Tensor::new(tensor.shape().to_vec(), data).expect("a tensor"))
            })
            .collect();
        Network::new(network.spec().clone(), tensors).expect("a network")
    }

    fn dot(x: &[f64], y: &[f64]) -> f64 {
        x.iter().zip(y).map(|(x, y)| x * y).sum()
    }

    fn wide(numbers: &[f32]) -> Vec<f64> {
        numbers.iter().copied().map(f64::from).collect()
    }

    #[test]
    fn a_group_sees_its_own_channels_only() {
        // Two groups of one input and one output each, two taps.
        let matrix = filters(&[1.0, 2.0, 3.0, 4.0], [2, 2, 2], 2);
        // output x [tap, input]
        assert_eq!(matrix, [1.0, 0.0, 2.0, 0.0, 0.0, 3.0, 0.0, 4.0]);
    }

    #[test]
    fn a_head_sees_its_own_units_only() {
        let network = network(r#"{"type": "slstm", "name": "r", "input_size": 2, "hidden_size": 4, "num_heads": 2}"#);
        let stage = &network.stages()[0];
        let level = stage.recurrent().expect("a level");
        let weight = network.param(stage, 0, Role::WeightHh);
        let matrix = recurrent(&network, stage, level, 0);
        assert_eq!((weight.len(), matrix.len()), (16 * 2, 16 * 4));
        assert_eq!(matrix[..8], [weight[0], weight[1], 0.0, 0.0, weight[2], weight[3], 0.0, 0.0]);
        assert_eq!(matrix[8..12], [0.0, 0.0, weight[4], weight[5]]);
        assert_eq!(unfold_recurrent(level, matrix.into_owned()), weight);
    }

    #[test]
    fn filters_come_back() {
        let weight: Vec<f32> = (1u8..=4 * 3 * 5).map(f32::from).collect();
        for groups in [1, 2] {
            let sizes = [3 * groups, 4, 5];
            let matrix = filters(&weight, sizes, groups);
            assert_eq!(matrix.len(), 3 * groups * 4 * 5);
            assert_eq!(unfold_filters(&matrix, sizes, groups), weight);
        }
    }

    /// A folding F is linear in biases, so its inverse for gradients G fulfils F(x)·y = x·G(y).
    #[test]
    fn gradients_of_biases_come_back() {
        let layers = [
            r#"{"type": "lstm", "name": "r", "input_size": 2, "hidden_size": 3, "peephole": true}"#,
            r#"{"type": "gru", "name": "r", "input_size": 2, "hidden_size": 3}"#,
            r#"{"type": "gru", "name": "r", "input_size": 2, "hidden_size": 3, "reset_after": false}"#,
            r#"{"type": "rnn", "name": "r", "input_size": 2, "hidden_size": 3}"#,
        ];
        let (mut random, mut apart) = (fastrand::Rng::with_seed(1), 0);
        for layer in layers {
            let network = network(layer);
            let stage = &network.stages()[0];
            let level = stage.recurrent().expect("a level");
            let folded = biases::<f64>(&network, stage, level, 0);
            let mut random = |len: usize| (0..len).map(|_| random.f64()).collect::<Vec<f64>>();
            let gradient = Biases { bias: random(folded.bias.len()), extra: random(folded.extra.len()) };
            apart += usize::from(!gradient.extra.is_empty());
            let left = dot(&folded.bias, &gradient.bias) + dot(&folded.extra, &gradient.extra);
            let tensors = [Role::BiasIh, Role::BiasHh, Role::WeightP].map(|role| wide(network.param(stage, 0, role)));
            let unfolded = unfold_biases(level, &gradient);
            let right: f64 = tensors.iter().zip(&unfolded).map(|(x, y)| dot(x, y)).sum();
            assert!((left - right).abs() < 1e-12, "{layer}: {left} and {right}");
            // Negative control: a gradient that leaves out the state's part differs.
            let wrong = dot(&tensors[0], &unfolded[0]);
            assert!((left - wrong).abs() > 1e-3, "{layer}: {left} and {wrong}");
        }
        assert_eq!(apart, 2, "an LSTM's peepholes and a GRU's bias are apart");
    }

    /// `weight` and `bias` of a batch normalization act linearly too.
    #[test]
    fn gradients_of_channels_come_back() {
        let network = network(r#"{"type": "batch_norm", "name": "n", "num_features": 5, "eps": 0.001}"#);
        let moved = with(&network, |name, tensor| {
            let trained = name == "n.weight" || name == "n.bias";
            tensor.data().iter().map(|x| if trained { x + 0.25 } else { *x }).collect()
        });
        let of = |network: &Network| channels::<f64>(network, &network.stages()[0], Some(0.001));
        let change: Vec<f64> = of(&moved).iter().zip(of(&network)).map(|(x, y)| x - y).collect();
        let gradient: Vec<f64> = (1u8..=15).map(|n| f64::from(n) / 7.0).collect();
        let variance = network.param(&network.stages()[0], 0, Role::RunningVar);
        let [weight, bias] = unfold_channels(&gradient, variance, 0.001);
        let right: f64 = weight.iter().chain(&bias).map(|g| 0.25 * g).sum();
        assert!((dot(&change, &gradient) - right).abs() < 1e-6, "{} and {right}", dot(&change, &gradient));
        let [wrong, _] = unfold_channels(&gradient, &[1.0; 5], 0.001);
        assert!(wrong.iter().zip(&weight).any(|(x, y)| (x - y).abs() > 1e-2), "the variance counts");
    }
}
