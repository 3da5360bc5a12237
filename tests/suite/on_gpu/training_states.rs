//! Training of networks whose layers start from the states of others, on the device against the f64 reference.

use fastrand::Rng;
use gatefold::Device;
use gatefold::network::{
    Activation, Cell, EmbeddingSpec, FinalStateSpec, FromSpec, HiddenOrCell, Init, LayerSpec, MergeMode, Network,
};
use gatefold::train::{Loss, RecurrentDropout, Sgd, TrainOptions, Trainer};

use super::training::{difference, layer};
use super::training_example::{Example, TOLERANCE, dense, errors, run};
use super::training_memory::{intervals, plan, trained};
use crate::common::{changed, device, selected, spec};

/// An encoder and a decoder with random options: the decoder starts from states of the encoder, as they are or through a
/// dense layer. Each of two final states may be that of another level or direction.
fn example([encodes, decodes]: [Cell; 2], seed: u64) -> Example {
    let mut rng = Rng::with_seed(seed);
    let mut encoder = layer(encodes, &mut rng);
    encoder.name = "encoder".into();
    if matches!(encodes, Cell::LayerNormLstm | Cell::LayerNormGru) {
        // Rounding grows with every level that normalizes: behind three it would be beyond the tolerance of two.
        encoder.num_layers = 1;
    }
    let (width, batch_first) = (encoder.input_size, encoder.batch_first);
    let mut decoder = layer(decodes, &mut rng);
    (decoder.name, decoder.num_layers, decoder.initial_state) = ("decoder".into(), 1, false);
    (decoder.input_size, decoder.batch_first) = (width, batch_first);
    let direct = rng.bool();
    if direct {
        (decoder.bidirectional, decoder.proj_size, decoder.hidden_size) = (false, 0, encoder.state_size());
        decoder.merge_mode = MergeMode::Concat;
        decoder.activations.truncate(decodes.default_activations().len());
    }
    let mask_zero = rng.bool();
    let mut layers = vec![LayerSpec::Embedding(EmbeddingSpec {
        name: "embedding".into(),
        num_embeddings: 30,
        embedding_dim: width,
        mask_zero,
    })];
    let [levels, directions, hidden, state] =
        [encoder.num_layers, encoder.directions(), encoder.hidden_size, encoder.state_size()];
    layers.push(LayerSpec::of_cell(encodes, encoder));
    let given = [(HiddenOrCell::H, decoder.state_size()), (HiddenOrCell::C, decoder.hidden_size)];
    for (part, width) in given.into_iter().take(if decodes.keeps_c() { 2 } else { 1 }) {
        let name = if part == HiddenOrCell::H { "h" } else { "c" };
        // h of the encoder where c of it would not fit.
        let fits = encodes.keeps_c() && (!direct || hidden == state);
        let part = if part == HiddenOrCell::C && fits { HiddenOrCell::C } else { HiddenOrCell::H };
        let level = rng.bool().then(|| rng.usize(0..levels));
        let direction = rng.usize(0..directions);
        let read = FinalStateSpec { name: name.into(), layer: "encoder".into(), part, level, direction };
        layers.push(LayerSpec::FinalState(read));
        let from = match direct {
            true => name.to_owned(),
            false => {
                let inputs = if part == HiddenOrCell::C { hidden } else { state };
                let bridge = format!("bridge_{name}");
                layers.push(dense(&bridge, inputs, decoder.directions() * width, true, Activation::Tanh));
                bridge
            }
        };
        *(if name == "h" { &mut decoder.initial_h } else { &mut decoder.initial_c }) = Some(from);
    }
    layers.push(LayerSpec::From(FromSpec { layer: "embedding".into() }));
    let width = decoder.output_size();
    layers.push(LayerSpec::of_cell(decodes, decoder));
    layers.push(dense("head", width, 3, true, Activation::Linear));
    let network = Network::initialized(spec(layers), Init::PyTorch, seed).unwrap();
    let (steps, batch) = (rng.usize(1..=9), rng.usize(1..=9));
    let [outer, inner] = if batch_first { [batch, steps] } else { [steps, batch] };
    let mut example = Example {
        network,
        loss: Loss::Mse,
        tokens: (0..steps * batch).map(|_| rng.u32(0..30)).collect(),
        features: Vec::new(),
        shape: [outer, inner, width],
        lengths: None,
        classes: Vec::new(),
        values: Vec::new(),
        weights: None,
    };
    if !mask_zero && rng.bool() {
        example.lengths = Some((0..batch).map(|row| [0, 1, steps, rng.usize(0..=steps)][row % 4]).collect());
    }
    example.values = (0..example.rows()[2] * 3).map(|_| rng.f32()).collect();
    example
}

const PAIRS: [[Cell; 2]; 10] = [
    [Cell::Lstm, Cell::Lstm],
    [Cell::Gru, Cell::Gru],
    [Cell::Rnn, Cell::Rnn],
    [Cell::Lstm, Cell::Gru],
    [Cell::Gru, Cell::Lstm],
    [Cell::LayerNormLstm, Cell::LayerNormLstm],
    [Cell::LayerNormGru, Cell::LayerNormGru],
    [Cell::LayerNormLstm, Cell::Rnn],
    [Cell::Sru, Cell::Qrnn],
    [Cell::MinGru, Cell::IndRnn],
];

#[test]
fn gradients_through_states_agree() {
    for seed in selected(0..18) {
        let pair = PAIRS[(seed % 10) as usize];
        let example = example(pair, 900 + seed);
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "case {seed}: {tensor} is {error} tolerances off: {:#?}", example.network.spec());
    }
}

/// What flows back through the states reaches the encoder: another encoder has other gradients.
#[test]
fn another_encoders_gradients_are_seen() {
    let mut seen = 0;
    for seed in 0..8 {
        let right = example(PAIRS[(seed % 8) as usize], 900 + seed);
        let (_, exact) = right.reference::<f64>();
        let inputs: Vec<&String> = exact.keys().filter(|name| name.starts_with("encoder.weight_ih")).collect();
        let network = inputs.iter().fold(right.network.clone(), |network, name| {
            changed(&network, name, |numbers| numbers.iter_mut().for_each(|x| *x *= 1.01))
        });
        let got = Example { network, ..right.clone() }.trainer().gradients(&right.batch()).unwrap();
        let errors = errors(&exact, |name| got[name].data().iter().map(|&x| x.into()).collect());
        seen += usize::from(inputs.iter().any(|name| errors[*name] > 100.0 * TOLERANCE));
    }
    assert!(seen > 5, "{seen} of 8");
}

/// Steps with dropout inside the encoder and the decoder are those of the CPU.
#[test]
fn steps_through_states_are_those_of_the_cpu() {
    for seed in selected(0..10) {
        let example = example(PAIRS[(seed % 5) as usize], 980 + seed);
        let options = TrainOptions::new(example.loss)
            .optimizer(Sgd { learning_rate: 0.1, ..Sgd::default() })
            .recurrent_dropout(RecurrentDropout::new("encoder", 0.2, 0.3))
            .recurrent_dropout(RecurrentDropout::new("decoder", 0.3, 0.2));
        let on = |device: &Device, options: &TrainOptions| {
            run(Trainer::new(device, &example.network, options.clone()).unwrap(), &example, 3)
        };
        let gpu = on(device(), &options);
        let worst = difference(&gpu, &on(&Device::cpu(), &options));
        assert!(worst <= 2e-5, "case {seed}: {worst} off: {:#?}", example.network.spec());
        let other = difference(&gpu, &on(&Device::cpu(), &options.clone().seed(5)));
        assert!(other > 2e-5, "case {seed}: other masks are {other} off");
    }
}

/// Intervals of time change no bit where states go from layer to layer.
#[test]
fn intervals_change_no_bit_of_an_encoder() {
    let layers: Vec<LayerSpec> = serde_json::from_str(
        r#"[{"type": "lstm", "name": "encoder", "input_size": 5, "hidden_size": 7, "bidirectional": true},
        {"type": "final_state", "name": "h", "layer": "encoder", "part": "h", "direction": 1},
        {"type": "final_state", "name": "c", "layer": "encoder", "part": "c"},
        {"type": "from", "layer": "input"},
        {"type": "lstm", "name": "decoder", "input_size": 5, "hidden_size": 7, "initial_h": "h", "initial_c": "c"},
        {"type": "dense", "name": "dense", "in_features": 7, "out_features": 3}]"#,
    )
    .unwrap();
    let network = Network::initialized(spec(layers), Init::PyTorch, 3).unwrap();
    let expected = trained(&network, true, None);
    let whole = plan(&network, true, None).unwrap();
    let shorter = plan(&network, true, Some(whole.bytes() - 1)).unwrap();
    assert!(intervals(&shorter) > 0);
    assert!(trained(&network, true, Some(whole.bytes() - 1)) == expected, "other bits");
    let reversed = changed(&network, "encoder.weight_hh_l0_reverse", |x| x.iter_mut().for_each(|x| *x = -*x));
    assert!(trained(&reversed, true, None) != expected, "another network has other bits");
}
