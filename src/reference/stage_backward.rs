//! The backward pass of [`stateless`](super::stateless): gradients of a stage's inputs and of its parameters.

use super::stage::{attention_run, rearrange_sizes, room_for_shares, selected};
use super::{
    Columns, Combine, LinearGradients, Real, StageInput, StageWeights, attention_backward, channelwise_backward,
    combine, combine_backward, embedding_backward, layer_norm_backward, linear_backward, pool_backward,
    rearrange_backward, softmax_backward, time_softmax_backward, windows, windows_backward,
};
use crate::base::error::{Error, Result};
use crate::network::fold::{unfold_channels, unfold_filters};
use crate::network::{Join, Network, Padding, Role, Stage, StageKind, Window, joining, merging};

/// The gradients that the backward pass of a stage returns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StageGradients<F> {
    /// Of every input, in the stage's order; empty for tokens.
    pub inputs: Vec<Vec<F>>,
    /// Of every parameter that is trained, in the tensor's own order.
    pub params: Vec<(Role, Vec<F>)>,
}

/// Gradients of every stage but recurrent levels, for the gradient `d_output` of the `output` that it gave for `flow`.
///
/// The statistics of a batch normalization count as constants. An embedding drops what is masked.
pub(crate) fn stateless_backward<F: Real>(
    network: &Network,
    stage: &Stage,
    weights: &StageWeights<F>,
    flow: &StageInput<'_, F>,
    output: &[F],
    d_output: &[F],
) -> Result<StageGradients<F>> {
    let x = flow.inputs[0];
    let sizes = [flow.steps, flow.batch, stage.in_features];
    let row_len = flow.batch * stage.in_features;
    let mut params = Vec::new();
    let d_x = match (&stage.kind, weights) {
        (StageKind::Embedding { num_embeddings }, _) => {
            let table = [*num_embeddings, stage.out_features];
            params.push((Role::Weight, embedding_backward(flow.tokens, table, flow.mask, d_output)));
            Vec::new()
        }
        (StageKind::Softmax { log }, _) => softmax_backward(output, stage.in_features, *log, d_output),
        (StageKind::ArgMax, _) => return Err(stage.without_gradient()),
        (StageKind::TimeSoftmax, _) => time_softmax_backward(output, row_len, d_output),
        (StageKind::Rearrange(how), _) => {
            let map = how.map(flow.steps, stage.in_features, stage.out_features);
            rearrange_backward(d_output, map, rearrange_sizes(stage, flow))
        }
        (StageKind::Select(which), _) => {
            let mut d_x = vec![F::default(); x.len()];
            for ((row, step), d) in selected(*which, flow).enumerate().zip(d_output.chunks_exact(stage.in_features)) {
                d_x[step * row_len + row * stage.in_features..][..stage.in_features].copy_from_slice(d);
            }
            d_x
        }
        (StageKind::Dense { activation, .. }, StageWeights::Matrix { weight, bias }) => {
            let LinearGradients { x, weight, bias } = linear_backward(x, weight, bias, *activation, d_output);
            params.extend([(Role::Weight, weight), (Role::Bias, bias)]);
            x
        }
        (StageKind::Conv1d { window, activation, groups }, StageWeights::Matrix { weight, bias }) => {
            let mut seen = Vec::new();
            windows(x, sizes, window, &mut seen);
            let LinearGradients { x: d_seen, weight, bias } =
                linear_backward(&seen, weight, bias, *activation, d_output);
            let filters = [stage.in_features, stage.out_features, window.kernel_size];
            params.extend([(Role::Weight, unfold_filters(&weight, filters, *groups)), (Role::Bias, bias)]);
            windows_backward(&d_seen, flow.steps, flow.batch, stage.in_features, window)
        }
        (StageKind::Pool1d { window, pool: how, count_include_pad }, _) => {
            pool_backward(x, sizes, window, *how, *count_include_pad, None, d_output)
        }
        (StageKind::GlobalPool(how), _) => {
            let padding = Padding::default();
            let window = Window { kernel_size: flow.steps, stride: 1, dilation: 1, padding };
            pool_backward(x, sizes, &window, *how, false, flow.mask, d_output)
        }
        (StageKind::LayerNorm { eps, .. }, StageWeights::LayerNorm([weight, _])) => {
            let [x, weight, bias] = layer_norm_backward(x, *eps, weight, d_output);
            params.extend([(Role::Weight, weight), (Role::Bias, bias)]);
            x
        }
        (StageKind::Channelwise { activation, eps }, StageWeights::Channels(channels)) => {
            let [x, channels] = channelwise_backward(x, channels, *activation, d_output);
            if let Some(eps) = eps {
                let variance = network.param(stage, 0, Role::RunningVar);
                let [weight, bias] = unfold_channels(&channels, variance, *eps);
                params.extend([(Role::Weight, weight), (Role::Bias, bias)]);
            }
            x
        }
        (StageKind::Attention(how), StageWeights::Attention(weight)) => {
            let (run, inputs) = attention_run((stage, *how), weight, flow);
            room_for_shares(stage, &run, &inputs)?;
            let gradients = attention_backward(&run, &inputs, d_output);
            params.push((Role::Weight, gradients.weight));
            params.retain(|&(role, _)| stage.param(0, role).is_some());
            let inputs = vec![gradients.keys, gradients.queries, gradients.values];
            return Ok(StageGradients { inputs, params });
        }
        (StageKind::Reverse, _) => d_output.chunks_exact(row_len).rev().flatten().copied().collect(),
        (StageKind::Merge(mode), _) => {
            let halves = [stage.out_features; 2];
            let (how, scale) = merging(*mode);
            let gradients = combine_backward(how, scale, &columns(x, &halves), d_output);
            side_by_side(&gradients, &halves)
        }
        (StageKind::Join(join), _) => {
            let inputs = joined_backward(*join, flow.inputs, stage.out_features, d_output);
            return Ok(StageGradients { inputs, params });
        }
        _ => return Err(Error::network(&stage.label, "stage", "weights of its own kind", &"another kind")),
    };
    // An option may leave a tensor out.
    params.retain(|&(role, _)| stage.param(0, role).is_some());
    Ok(StageGradients { inputs: vec![d_x], params })
}

fn joined_backward<F: Real>(join: Join, inputs: &[&[F]], out_features: usize, d_output: &[F]) -> Vec<Vec<F>> {
    if join == Join::Concat {
        let rows = d_output.len() / out_features;
        let widths: Vec<usize> = inputs.iter().map(|x| x.len() / rows).collect();
        return columns(d_output, &widths);
    }
    let (how, scale) = joining(join, inputs.len());
    let parts: Vec<Vec<F>> = inputs.iter().map(|x| x.to_vec()).collect();
    combine_backward(how, scale, &parts, d_output)
}

/// A matrix cut into blocks of columns of these widths.
fn columns<F: Real>(matrix: &[F], widths: &[usize]) -> Vec<Vec<F>> {
    let stride = widths.iter().sum::<usize>();
    let rows = matrix.len() / stride;
    let mut offset = 0;
    let block = |&width: &usize| {
        let mut block = vec![F::default(); rows * width];
        let to = Columns { stride: width, offset: 0 };
        combine(Combine::Copy, 1.0, width, matrix, Columns { stride, offset }, &mut block, to);
        offset += width;
        block
    };
    widths.iter().map(block).collect()
}

/// The inverse of [`columns`].
fn side_by_side<F: Real>(blocks: &[Vec<F>], widths: &[usize]) -> Vec<F> {
    let stride = widths.iter().sum::<usize>();
    let mut matrix = vec![F::default(); blocks.iter().map(Vec::len).sum()];
    let mut offset = 0;
    for (block, &width) in blocks.iter().zip(widths) {
        let from = Columns { stride: width, offset: 0 };
        combine(Combine::Copy, 1.0, width, block, from, &mut matrix, Columns { stride, offset });
        offset += width;
    }
    matrix
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::bits;
    use crate::network::{Activation, FORMAT, LayerSpec, NetworkSpec, Tensor};
    use crate::reference::stateless;

    const STEPS: usize = 7;
    const BATCH: usize = 2;

    /// The last stage of a network alone, with random numbers to read and a random gradient of its output.
    struct Case {
        network: Network,
        inputs: Vec<Vec<f64>>,
        tokens: Vec<u32>,
        mask: Option<Vec<u32>>,
        d_output: Vec<f64>,
    }

    fn with_tensor(network: &Network, name: &str, change: impl Fn(&mut [f32])) -> Network {
        let mut tensors: BTreeMap<String, Tensor> = network.tensors().clone();
        let old = &tensors[name];
        let mut data = old.data().to_vec();
        change(&mut data);
        let new = Tensor::new(old.shape().to_vec(), data).expect("a tensor");
        tensors.insert(name.to_owned(), new);
        Network::new(network.spec().clone(), tensors).expect("a network")
    }

    impl Case {
        fn new(layers: &str, seed: u64, mask: Option<&[u32]>) -> Self {
            let layers: Vec<LayerSpec> =
                serde_json::from_str(layers).unwrap_or_else(|error| panic!("{layers}: {error}"));
            let spec = NetworkSpec { format: FORMAT, layers, text: None, labels: Vec::new() };
            let positive = format!("{spec:?}").contains("Sqrt") || format!("{spec:?}").contains("Log }");
            let mut network = Network::random(spec, seed).expect("a network");
            if positive {
                let names: Vec<String> = network.tensors().keys().cloned().collect();
                for name in names {
                    network = with_tensor(&network, &name, |data| data.iter_mut().for_each(|x| *x = x.abs() + 0.1));
                }
            }
            let mut random = fastrand::Rng::with_seed(seed);
            let stage = network.stages().last().expect("a stage");
            let rows = BATCH * if stage.sequence_in { STEPS } else { 1 };
            let embedding = if let StageKind::Embedding { num_embeddings } = stage.kind { num_embeddings } else { 0 };
            let widths = stage.inputs.iter().map(|&source| match source {
                _ if embedding > 0 => 0,
                crate::network::Source::Stage(at) => network.stages()[at].out_features,
                crate::network::Source::Input(_) => stage.in_features,
            });
            let mut number = || if positive { 0.2 + random.f64() } else { 4.0 * random.f64() - 2.0 };
            let inputs: Vec<Vec<f64>> = widths.map(|width| (0..rows * width).map(|_| number()).collect()).collect();
            let tokens =
                (0..rows).map(|_| u32::try_from(random.usize(0..embedding.max(1))).expect("a token")).collect();
            let mut case = Self { network, inputs, tokens, mask: mask.map(<[u32]>::to_vec), d_output: Vec::new() };
            let output = case.output(&case.network, &case.inputs);
            let width = case.stage(&case.network).out_features;
            case.d_output = (0..output.len()).map(|_| random.f64() - 0.3).collect();
            if let (Some(mask), true) = (&case.mask, embedding > 0) {
                // No result may depend on the output of an embedding at a masked position.
                for (d_row, mask) in case.d_output.chunks_exact_mut(width).zip(mask) {
                    if mask & bits::VALID == 0 {
                        d_row.fill(0.0);
                    }
                }
            }
            case
        }

        fn stage<'a>(&self, network: &'a Network) -> &'a Stage {
            network.stages().last().expect("a stage")
        }

        fn with_flow<T>(&self, inputs: &[Vec<f64>], call: impl FnOnce(&StageInput<'_, f64>) -> T) -> T {
            let inputs: Vec<&[f64]> = inputs.iter().map(Vec::as_slice).collect();
            let (mask, stage) = (self.mask.as_deref(), self.stage(&self.network));
            let steps = if stage.sequence_in { STEPS } else { 1 };
            let steps_out = stage.output_steps(steps).expect("timesteps");
            call(&StageInput {
                inputs: &inputs,
                tokens: &self.tokens,
                steps,
                past: 0,
                steps_out,
                batch: BATCH,
                mask,
                banks: None,
            })
        }

        fn output(&self, network: &Network, inputs: &[Vec<f64>]) -> Vec<f64> {
            let stage = self.stage(network);
            let weights = StageWeights::new(network, stage);
            let mut output = Vec::new();
            self.with_flow(inputs, |flow| stateless(stage, &weights, flow, &mut output)).expect("an output");
            output
        }

        /// What the gradients are of.
        fn value(&self, network: &Network, inputs: &[Vec<f64>]) -> f64 {
            self.output(network, inputs).iter().zip(&self.d_output).map(|(x, d)| x * d).sum()
        }

        fn gradients(&self) -> StageGradients<f64> {
            let stage = self.stage(&self.network);
            let weights = StageWeights::new(&self.network, stage);
            let output = self.output(&self.network, &self.inputs);
            self.with_flow(&self.inputs, |flow| {
                stateless_backward(&self.network, stage, &weights, flow, &output, &self.d_output)
            })
            .expect("gradients")
        }

        /// By central differences.
        fn differences(&self) -> StageGradients<f64> {
            let (mut inputs, mut params) = (Vec::new(), Vec::new());
            for (at, x) in self.inputs.iter().enumerate() {
                let slope = |element: usize| {
                    let h = 1e-6 * x[element].abs().max(1.0);
                    let value = |h: f64| {
                        let mut inputs = self.inputs.clone();
                        inputs[at][element] += h;
                        self.value(&self.network, &inputs)
                    };
                    (value(h) - value(-h)) / (2.0 * h)
                };
                inputs.push((0..x.len()).map(slope).collect());
            }
            for param in &self.stage(&self.network).params {
                if matches!(param.role, Role::RunningMean | Role::RunningVar) {
                    continue;
                }
                let slope = |element: usize| {
                    let x = self.network.tensors()[&param.name].data()[element];
                    // What f32 makes of x + h and x - h is exact in f64.
                    let ends = [1.0, -1.0].map(|sign| x + sign * 1e-6 * x.abs().max(1.0));
                    let values = ends.map(|end| {
                        let network = with_tensor(&self.network, &param.name, |data| data[element] = end);
                        self.value(&network, &self.inputs)
                    });
                    (values[0] - values[1]) / (f64::from(ends[0]) - f64::from(ends[1]))
                };
                let elements = self.network.tensors()[&param.name].data().len();
                params.push((param.role, (0..elements).map(slope).collect()));
            }
            StageGradients { inputs, params }
        }
    }

    /// The largest difference of a tensor relative to its largest number, over all tensors.
    fn worst(got: &StageGradients<f64>, expected: &StageGradients<f64>) -> f64 {
        assert_eq!(got.inputs.len(), expected.inputs.len());
        let roles = |of: &StageGradients<f64>| of.params.iter().map(|&(role, _)| role).collect::<Vec<_>>();
        assert_eq!(roles(got), roles(expected));
        let tensors = |of: &StageGradients<f64>| {
            of.inputs.iter().chain(of.params.iter().map(|(_, x)| x)).cloned().collect::<Vec<_>>()
        };
        let mut worst = 0.0f64;
        for (got, expected) in tensors(got).iter().zip(&tensors(expected)) {
            assert_eq!(got.len(), expected.len());
            let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            for (got, expected) in got.iter().zip(expected) {
                worst = worst.max((got - expected).abs() / largest);
            }
        }
        worst
    }

    #[track_caller]
    fn check(layers: &str, mask: Option<&[u32]>) {
        for seed in [1, 2] {
            let case = Case::new(layers, seed, mask);
            let (got, expected) = (case.gradients(), case.differences());
            let error = worst(&got, &expected);
            assert!(error <= 1e-6, "{layers}: {error:e}");
            // Negative control: one sign of one tensor is wrong.
            for at in 0..got.inputs.len() + got.params.len() {
                let mut wrong = got.clone();
                let tensor = match at.checked_sub(wrong.inputs.len()) {
                    None => &mut wrong.inputs[at],
                    Some(at) => &mut wrong.params[at].1,
                };
                let Some(largest) = tensor.iter_mut().max_by(|a, b| a.abs().total_cmp(&b.abs())) else { continue };
                *largest = -*largest;
                assert!(worst(&wrong, &expected) > 1.0, "{layers}: a wrong sign passed");
            }
        }
    }

    fn mask() -> Vec<u32> {
        (0..STEPS * BATCH).map(|at| u32::from(at % 3 != 1 && at < 10)).collect()
    }

    #[test]
    fn dense() {
        for activation in Activation::ALL {
            // Near its pole differences are not exact enough: of positive numbers, below.
            if activation == Activation::Reciprocal {
                continue;
            }
            let activation = serde_json::to_string(&activation).expect("a name");
            for bias in [true, false] {
                check(
                    &format!(
                        r#"[{{"type": "dense", "name": "d", "in_features": 3, "out_features": 4, "bias": {bias},
                        "activation": {activation}}}]"#
                    ),
                    None,
                );
            }
        }
        check(
            r#"[{"type": "dense", "name": "d", "in_features": 3, "out_features": 4, "activation": "exp"},
                {"type": "activation", "name": "a", "activation": "reciprocal"}]"#,
            None,
        );
    }

    #[test]
    fn conv1d() {
        let paddings = [r#"{"zeros": {"left": 0, "right": 0}}"#, r#"{"zeros": {"left": 3, "right": 1}}"#, r#""same""#];
        for padding in paddings {
            for (stride, dilation, groups, bias) in
                [(1, 1, 1, true), (2, 1, 1, false), (1, 2, 2, true), (3, 2, 2, true), (5, 3, 1, true)]
            {
                check(
                    &format!(
                        r#"[{{"type": "conv1d", "name": "c", "in_channels": 4, "out_channels": 2, "kernel_size": 3,
                        "stride": {stride}, "dilation": {dilation}, "groups": {groups}, "bias": {bias},
                        "padding": {padding}, "activation": "tanh"}}]"#
                    ),
                    None,
                );
            }
        }
    }

    #[test]
    fn embedding() {
        let layers = r#"[{"type": "embedding", "name": "e", "num_embeddings": 5, "embedding_dim": 3}]"#;
        check(layers, None);
        check(layers, Some(&mask()));
    }

    #[test]
    fn what_is_masked_does_not_train_an_embedding() {
        let d_output = [1.0f64, 10.0, 100.0, 1000.0];
        let mask = [bits::VALID | bits::SEEN_REVERSE, bits::SEEN_FORWARD, bits::VALID, 0];
        let got = super::super::embedding_backward(&[2, 2, 2, 0], [3, 1], Some(&mask), &d_output);
        assert_eq!(got, [0.0, 0.0, 101.0]);
    }

    #[test]
    fn normalizations_and_activations() {
        for (weight, bias) in [(true, true), (true, false), (false, true), (false, false)] {
            for kind in ["layer_norm", "batch_norm"] {
                check(
                    &format!(
                        r#"[{{"type": "{kind}", "name": "n", "num_features": 4, "eps": 0.001, "weight": {weight},
                        "bias": {bias}}}]"#
                    ),
                    None,
                );
            }
        }
        for activation in Activation::ALL {
            let activation = serde_json::to_string(&activation).expect("a name");
            let layer = format!(r#"{{"type": "activation", "name": "a", "activation": {activation}}}"#);
            check(&format!(r#"[{{"type": "input", "input_size": 3}}, {layer}]"#), None);
        }
    }

    #[test]
    fn pools() {
        for pool in ["max", "average", "sum"] {
            for (kernel, stride, padding, counted) in [
                (2, 2, r#"{"zeros": {"left": 0, "right": 0}}"#, false),
                (3, 2, r#"{"zeros": {"left": 1, "right": 1}}"#, pool == "average"),
                (3, 1, r#""same""#, false),
                (2, 3, r#""same""#, false),
            ] {
                check(
                    &format!(
                        r#"[{{"type": "input", "input_size": 3}}, {{"type": "pool1d", "name": "p", "pool": "{pool}",
                        "kernel_size": {kernel}, "stride": {stride}, "padding": {padding},
                        "count_include_pad": {counted}}}]"#
                    ),
                    None,
                );
            }
            let layer = format!(r#"{{"type": "global_pool", "name": "p", "pool": "{pool}"}}"#);
            let layers = format!(r#"[{{"type": "input", "input_size": 3}}, {layer}]"#);
            check(&layers, None);
            check(&layers, Some(&mask()));
        }
    }

    #[test]
    fn the_first_of_equals_is_the_largest() {
        let window = Window { kernel_size: 3, stride: 1, dilation: 1, padding: Padding::Same };
        let x = [1.0f64, 2.0, 2.0, 2.0];
        let got =
            pool_backward(&x, [4, 1, 1], &window, crate::network::Pool::Max, false, None, &[1.0, 10.0, 100.0, 1e3]);
        assert_eq!(got, [0.0, 111.0, 1000.0, 0.0]);
        let parts = [vec![1.0f64, 0.0], vec![1.0, 2.0], vec![0.0, 2.0]];
        let got = combine_backward(Combine::Max, 1.0, &parts, &[3.0, 5.0]);
        assert_eq!(got, [[3.0, 0.0], [0.0, 5.0], [0.0, 0.0]]);
        // The gradient of a mean over no steps is 0.
        let got = pool_backward(&x, [4, 1, 1], &window, crate::network::Pool::Average, false, Some(&[0; 4]), &[1.0; 4]);
        assert_eq!(got, [0.0; 4]);
    }

    #[test]
    fn movements() {
        let layers = [
            r#"{"type": "softmax"}"#,
            r#"{"type": "log_softmax", "name": "s"}"#,
            r#"{"type": "time_softmax", "name": "s"}"#,
            r#"{"type": "slice", "name": "s", "start": -6, "end": 6, "step": 2}"#,
            r#"{"type": "pad", "name": "p", "left": 2, "right": -3}"#,
            r#"{"type": "channels", "name": "c", "start": 1, "count": 2}"#,
            r#"{"type": "transpose", "name": "t", "steps": 7}"#,
            r#"{"type": "reshape", "name": "r", "in_steps": 7}"#,
            r#"{"type": "reshape", "name": "r", "in_steps": 7, "out_steps": 14}"#,
            r#"{"type": "select", "name": "s", "step": "last_valid"}"#,
            r#"{"type": "select", "name": "s", "step": "first"}"#,
            r#"{"type": "select", "name": "s", "step": "last"}"#,
            r#"{"type": "reverse", "name": "r"}"#,
        ];
        for layer in layers {
            let layers = format!(r#"[{{"type": "input", "input_size": 4}}, {layer}]"#);
            check(&layers, None);
            check(&layers, Some(&mask()));
        }
        check(
            r#"[{"type": "input", "input_size": 4}, {"type": "select", "name": "s", "step": "last"},
            {"type": "repeat", "name": "r", "times": 3}]"#,
            None,
        );
        for mode in ["sum", "ave", "mul"] {
            for output in ["sequence", "last"] {
                check(
                    &format!(
                        r#"[{{"type": "lstm", "name": "l", "input_size": 2, "hidden_size": 3, "bidirectional": true,
                        "merge_mode": "{mode}", "output": "{output}"}}]"#
                    ),
                    None,
                );
            }
        }
    }

    #[test]
    fn attention() {
        for score in ["dot", "additive"] {
            for (heads, values) in [(1, 3), (2, 6)] {
                let dense = |name: &str, width: usize| {
                    format!(
                        r#"{{"type": "from", "layer": "input"}},
                        {{"type": "dense", "name": "{name}", "in_features": 3, "out_features": {width}}}"#
                    )
                };
                let layers = format!(
                    r#"[{{"type": "input", "input_size": 3}}, {}, {}, {},
                    {{"type": "attention", "name": "a", "embed_dim": 4, "keys": "k", "values": "v", "score": "{score}",
                    "num_heads": {heads}, "scale": 0.7}}]"#,
                    dense("k", 4),
                    dense("v", values),
                    dense("q", 4),
                );
                check(&layers, None);
                check(&layers, Some(&mask()));
            }
        }
    }

    #[test]
    fn joins() {
        for join in ["concat", "add", "sub", "mul", "average", "max"] {
            for last in [3, 4] {
                if last == 4 && join != "concat" {
                    continue;
                }
                let dense = |name: &str, width: usize| {
                    format!(
                        r#"{{"type": "dense", "name": "{name}", "in_features": 3, "out_features": {width}}},
                        {{"type": "from", "layer": "input"}}"#
                    )
                };
                check(
                    &format!(
                        r#"[{{"type": "input", "input_size": 3}}, {}, {},
                        {{"type": "join", "name": "j", "inputs": ["a", "input", "b"], "join": "{join}"}}]"#,
                        dense("a", 3),
                        dense("b", last)
                    ),
                    None,
                );
            }
        }
    }

    #[test]
    fn a_transposed_product_is_seen() {
        let layers = r#"[{"type": "dense", "name": "d", "in_features": 3, "out_features": 3}]"#;
        let case = Case::new(layers, 1, None);
        let mut wrong = case.gradients();
        wrong.params[0].1 = (0..9).map(|at| wrong.params[0].1[at % 3 * 3 + at / 3]).collect();
        assert!(worst(&wrong, &case.differences()) > 1e-2);
    }
}
