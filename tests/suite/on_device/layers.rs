//! The layers around the recurrence against the f64 reference, each alone and joined.

use gatefold::network::{
    Activation, ActivationSpec, Conv1dSpec, DenseSpec, EmbeddingSpec, FromSpec, GlobalPoolSpec, INPUT, Join, JoinSpec,
    LayerSpec, MaskedOutput, MaskingSpec, NamedSpec, NormSpec, Padding, Pool, Pool1dSpec, RecurrentOutput,
    RecurrentSpec, SelectSpec, SelectStep,
};
use gatefold::{Input, Network, PlanOptions, RandomInput, Session, verify};

use crate::common::{assert_right, changed, device, spec};

fn dense(name: &str, in_features: usize, out_features: usize) -> LayerSpec {
    let (bias, activation) = (true, Activation::Linear);
    LayerSpec::Dense(DenseSpec { name: name.into(), in_features, out_features, bias, activation })
}

fn conv(name: &str, in_channels: usize, out_channels: usize, kernel_size: usize) -> Conv1dSpec {
    Conv1dSpec {
        name: name.into(),
        in_channels,
        out_channels,
        kernel_size,
        stride: 1,
        padding: Padding::default(),
        dilation: 1,
        groups: 1,
        bias: true,
        activation: Activation::Linear,
    }
}

fn random(layers: Vec<LayerSpec>) -> Network {
    Network::random(spec(layers), 11).unwrap()
}

fn agrees(layers: Vec<LayerSpec>, steps: usize, batch: usize) {
    let device = device();
    let network = random(layers);
    let input = RandomInput::new(&network, steps, batch, 12).unwrap();
    assert_right(device, &network, PlanOptions::default(), input.as_input(), None);
}

/// Every function over the range in which f32 can follow it.
#[test]
fn every_activation_agrees() {
    let device = device();
    for activation in Activation::ALL {
        let (low, high): (f32, f32) = match activation {
            Activation::Exp => (-20.0, 20.0),
            Activation::Sqrt => (0.0, 200.0),
            Activation::Log | Activation::Reciprocal => (0.01, 200.0),
            _ => (-120.0, 120.0),
        };
        let steps = 4000u16;
        let at = |i: u16| low + (high - low) * f32::from(i) / f32::from(steps);
        let near_zero = (0..=100u16).map(|i| (f32::from(i) / 100.0).max(low));
        let values: Vec<f32> = (0..=steps).map(at).chain(near_zero).collect();
        let layers = vec![
            LayerSpec::Conv1d(conv("wide", 1, 1, 1)),
            LayerSpec::Activation(ActivationSpec { name: "activation".into(), activation }),
        ];
        let network = changed(&random(layers), "wide.weight", |weight| weight[0] = 1.0);
        let network = changed(&network, "wide.bias", |bias| bias[0] = 0.0);
        let input = Input::features(&values, [values.len(), 1, 1]);
        let session = Session::new(device, &network).unwrap();
        let verification = verify(&session, &network, input, None).unwrap();
        assert!(verification.passed(), "{activation:?}: {:#?}", verification.checks);
    }
}

#[test]
fn convolutions_agree() {
    let paddings = [Padding::default(), Padding::Same, Padding::Zeros { left: 4, right: 1 }];
    let mut case = 0;
    for (kernel_size, stride, dilation) in [(1, 1, 1), (3, 1, 1), (3, 2, 1), (5, 3, 2), (2, 1, 4), (4, 5, 1)] {
        for padding in paddings {
            for _ in 0..2 {
                case += 1;
                let (inputs, outputs, groups) = [(1, 1, 1), (6, 4, 2), (17, 33, 1), (6, 6, 6), (40, 7, 1)][case % 5];
                let activation = Activation::ALL[case % 4];
                let bias = case % 3 > 0;
                let layer = Conv1dSpec {
                    stride,
                    dilation,
                    padding,
                    groups,
                    bias,
                    activation,
                    ..conv("conv", inputs, outputs, kernel_size)
                };
                agrees(vec![LayerSpec::Conv1d(layer)], 9 + case % 5, 1 + case % 4);
            }
        }
    }
}

#[test]
fn a_sequence_shorter_than_its_window_is_named() {
    let device = device();
    let network = random(vec![LayerSpec::Conv1d(Conv1dSpec { dilation: 2, ..conv("conv", 1, 1, 3) })]);
    let session = Session::new(device, &network).unwrap();
    let error = session.run(Input::features(&[0.0; 4], [4, 1, 1]), None).unwrap_err().to_string();
    assert_eq!(error, "input of `conv`: expected at least 5 timesteps, got 4");
}

#[test]
fn pooling_agrees() {
    for pool in [Pool::Max, Pool::Average, Pool::Sum] {
        for (kernel_size, stride) in [(1, 1), (2, 2), (3, 1), (3, 2), (4, 5)] {
            for (padding, count_include_pad) in
                [(Padding::default(), false), (Padding::Same, false), (Padding::Zeros { left: 1, right: 1 }, true)]
            {
                if padding != Padding::default() && kernel_size == 1 {
                    continue; // A window of padding alone.
                }
                let layer = Pool1dSpec { name: "pool".into(), pool, kernel_size, stride, padding, count_include_pad };
                agrees(vec![dense("dense", 3, 5), LayerSpec::Pool1d(layer)], 11, 3);
            }
        }
        let layer = GlobalPoolSpec { name: "pool".into(), pool };
        agrees(vec![dense("dense", 3, 70), LayerSpec::GlobalPool(layer.clone())], 13, 2);
        // A masked mean and a masked sum count the steps that are on.
        let device = device();
        let network = random(vec![dense("dense", 3, 5), LayerSpec::GlobalPool(layer)]);
        let input = RandomInput::new(&network, 7, 4, 3).unwrap();
        let lengths = [7, 0, 1, 4];
        assert_right(device, &network, PlanOptions::default(), input.as_input().with_lengths(&lengths), None);
    }
}

fn norm(features: usize, weight: bool, bias: bool) -> NormSpec {
    NormSpec { name: "norm".into(), num_features: features, eps: 1e-3, weight, bias }
}

#[test]
fn normalizations_agree() {
    for features in [1, 2, 63, 64, 65, 200] {
        for (weight, bias) in [(true, true), (false, true), (true, false), (false, false)] {
            agrees(vec![dense("dense", 4, features), LayerSpec::LayerNorm(norm(features, weight, bias))], 5, 3);
            agrees(vec![dense("dense", 4, features), LayerSpec::BatchNorm(norm(features, weight, bias))], 5, 3);
        }
    }
}

#[test]
fn moves_and_joins_agree() {
    for step in [SelectStep::First, SelectStep::Last] {
        agrees(vec![dense("dense", 2, 66), LayerSpec::Select(SelectSpec { name: "select".into(), step })], 7, 3);
    }
    agrees(vec![dense("dense", 2, 5), LayerSpec::Reverse(NamedSpec { name: "reverse".into() })], 7, 3);
    agrees(vec![dense("dense", 1, 1), LayerSpec::Reverse(NamedSpec { name: "reverse".into() })], 2500, 1);
    for join in [Join::Concat, Join::Add, Join::Sub, Join::Mul, Join::Average, Join::Max] {
        let width = if join == Join::Concat { 4 } else { 6 };
        let inputs = ["left", "right", INPUT].map(Into::into).to_vec();
        let layers = vec![
            dense("left", 6, 6),
            LayerSpec::From(FromSpec { layer: INPUT.into() }),
            dense("right", 6, width),
            LayerSpec::Join(JoinSpec { name: "join".into(), inputs, join }),
            LayerSpec::Rnn(RecurrentSpec::new("rnn", if join == Join::Concat { 16 } else { 6 }, 3)),
        ];
        agrees(layers, 5, 3);
    }
}

/// A common kind of network: convolutions in front, a recurrence, its last state joined with a
/// mean, a head.
#[test]
fn a_branching_network_agrees() {
    let gru = RecurrentSpec { bidirectional: true, output: RecurrentOutput::Last, ..RecurrentSpec::new("gru", 12, 7) };
    let pool = Pool1dSpec {
        name: "pool".into(),
        pool: Pool::Max,
        kernel_size: 2,
        stride: 2,
        padding: Padding::default(),
        count_include_pad: false,
    };
    let inputs = ["gru", "mean"].map(Into::into).to_vec();
    let layers = vec![
        LayerSpec::Conv1d(Conv1dSpec {
            padding: Padding::Same,
            activation: Activation::Relu,
            ..conv("conv", 5, 12, 3)
        }),
        LayerSpec::Pool1d(pool),
        LayerSpec::Gru(gru),
        LayerSpec::From(FromSpec { layer: "pool".into() }),
        LayerSpec::GlobalPool(GlobalPoolSpec { name: "mean".into(), pool: Pool::Average }),
        LayerSpec::Join(JoinSpec { name: "both".into(), inputs, join: Join::Concat }),
        LayerSpec::LayerNorm(NormSpec { name: "norm".into(), num_features: 26, eps: 1e-5, weight: true, bias: true }),
        dense("head", 26, 4),
        LayerSpec::Softmax,
    ];
    agrees(layers, 15, 3);
}

/// What a network masks itself is what the caller could have masked.
#[test]
fn masks_of_the_network_are_masks() {
    let device = device();
    let lstm = |input: usize| {
        let masked_output = MaskedOutput::Previous;
        LayerSpec::Lstm(RecurrentSpec { bidirectional: true, masked_output, ..RecurrentSpec::new("lstm", input, 5) })
    };
    let embedding = |mask_zero| {
        LayerSpec::Embedding(EmbeddingSpec { name: "embedding".into(), num_embeddings: 4, embedding_dim: 3, mask_zero })
    };
    let ids = [0, 2, 0, 1, 0, 3, 0, 0, 2, 0, 1, 1];
    let mask: Vec<bool> = ids.iter().map(|&id| id != 0).collect();
    let input = Input::tokens(&ids, [4, 3]);
    let run = |network: &Network, input| Session::new(device, network).unwrap().run(input, None).unwrap().values;
    let [with, without] = [true, false].map(|mask_zero| random(vec![embedding(mask_zero), lstm(3)]));
    assert_eq!(run(&with, input), run(&without, input.with_mask(&mask)));
    assert_ne!(run(&with, input), run(&without, input), "the mask does something");
    assert_right(device, &with, PlanOptions::default(), input, None);

    let masking = LayerSpec::Masking(MaskingSpec { name: "masking".into(), mask_value: 0.5 });
    let mut values: Vec<f32> = (0..24u8).map(|i| f32::from(i) / 24.0).collect();
    values[4..6].fill(0.5);
    values[20..22].fill(0.5);
    let mask: Vec<bool> = (0..12).map(|step| step != 2 && step != 10).collect();
    let [with, without] = [vec![masking, lstm(2)], vec![lstm(2)]].map(random);
    let input = Input::features(&values, [4, 3, 2]);
    assert_eq!(run(&with, input), run(&without, input.with_mask(&mask)));
    assert_right(device, &with, PlanOptions::default(), input, None);
}

/// Behind `unmask` all timesteps count.
#[test]
fn a_mask_ends_where_the_network_says() {
    let device = device();
    let embedding = |mask_zero| {
        LayerSpec::Embedding(EmbeddingSpec { name: "embedding".into(), num_embeddings: 4, embedding_dim: 3, mask_zero })
    };
    let network = |mask_zero, unmask: bool| {
        let first = LayerSpec::Gru(RecurrentSpec::new("first", 3, 4));
        let mut layers = vec![embedding(mask_zero), first, LayerSpec::Lstm(RecurrentSpec::new("second", 4, 5))];
        if unmask {
            layers.insert(2, LayerSpec::Unmask(NamedSpec { name: "unmask".into() }));
        }
        random(layers)
    };
    let ids = [0, 2, 0, 1, 0, 3, 0, 0, 2, 0, 1, 1];
    let input = Input::tokens(&ids, [4, 3]);
    let mask: Vec<bool> = ids.iter().map(|&id| id != 0).collect();
    let run = |network: &Network, input| Session::new(device, network).unwrap().run(input, None).unwrap().values;
    let ended = network(true, true);
    assert_eq!(run(&ended, input), run(&network(false, true), input.with_mask(&mask)));
    assert_ne!(run(&ended, input), run(&network(true, false), input), "the second layer's mask does something");
    assert_ne!(run(&ended, input), run(&network(false, false), input), "the first layer's mask does something");
    assert_eq!(run(&network(false, true), input), run(&network(false, false), input));
    assert_right(device, &ended, PlanOptions::default(), input, None);
}

#[test]
fn lengths_after_a_convolution_are_refused() {
    let device = device();
    let network = random(vec![
        LayerSpec::Conv1d(Conv1dSpec { stride: 2, ..conv("conv", 1, 4, 2) }),
        LayerSpec::Gru(RecurrentSpec::new("gru", 4, 3)),
    ]);
    let session = Session::new(device, &network).unwrap();
    let error = session.run(Input::features(&[0.0; 6], [6, 1, 1]).with_lengths(&[4]), None).unwrap_err().to_string();
    assert!(error.contains("gru.l0") && error.contains("changes the number of timesteps"), "{error}");
}

/// Negative control: a small change of any tensor is detected, at its own stage first.
#[test]
fn nudges_are_seen() {
    let device = device();
    let network = random(vec![
        LayerSpec::Conv1d(conv("conv", 3, 8, 3)),
        LayerSpec::BatchNorm(NormSpec { name: "batch".into(), num_features: 8, eps: 1e-3, weight: true, bias: true }),
        LayerSpec::LayerNorm(norm(8, true, true)),
    ]);
    let input = RandomInput::new(&network, 9, 3, 5).unwrap();
    let session = Session::new(device, &network).unwrap();
    assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
    for name in network.tensors().keys() {
        let nudged = changed(&network, name, |data| data[1] += 1e-2);
        let checks = verify(&session, &nudged, input.as_input(), None).unwrap().checks;
        let first = checks.iter().find(|check| !check.comparison.passed).unwrap_or_else(|| panic!("{name} unseen"));
        assert!(name.starts_with(first.label.as_str()), "{name} seen in {}", first.label);
    }
}
