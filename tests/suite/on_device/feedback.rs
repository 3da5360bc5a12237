//! Loops of layers: attention before the cell and input feeding, against PyTorch and against the f64 reference.

use std::collections::{BTreeMap, HashMap};

use fastrand::Rng;
use gatefold::compare::{Tolerance, compare};
use gatefold::network::LayerSpec;
use gatefold::train::{Adam, Batch, Loss, RecurrentDropout, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::Reference;
use gatefold::{
    BeamOptions, Device, GenerateOptions, Input, NamedInput, Network, PlanOptions, Session, StreamPool, verify,
};
use safetensors::tensor::TensorView;
use safetensors::{SafeTensors, serialize};

use crate::common::{assert_right, changed, device, devices, pool, selected, spec};

const GOLDEN: &[u8] = include_bytes!("../../goldens/decoders.st");
/// Largest error of a gradient as a share of the tensor's largest; the golden is rounded to f32.
const SINGLE: f64 = 1e-6;

/// A decoder that PyTorch ran.
pub struct Decoder {
    pub name: &'static str,
    pub network: Network,
    source: Vec<u32>,
    lengths: Option<Vec<usize>>,
    target: Vec<u32>,
    output: Vec<f64>,
    d_output: Vec<f64>,
    gradients: BTreeMap<String, Vec<f64>>,
}

/// S, T, B and V.
pub const SIZES: [usize; 4] = [6, 5, 3, 7];

impl Decoder {
    pub fn all() -> Vec<Self> {
        ["tutorial", "dot", "general", "mlp"].into_iter().map(Self::new).collect()
    }

    fn new(name: &'static str) -> Self {
        let file = SafeTensors::deserialize(GOLDEN).unwrap();
        let (_, header) = SafeTensors::read_metadata(GOLDEN).unwrap();
        let layers = &header.metadata().as_ref().unwrap()[name];
        let of = |part: &str| file.tensor(&format!("{name}/{part}")).ok();
        let words = |part: &str| {
            of(part).map(|view| {
                let words = view.data().chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
                words.collect::<Vec<u32>>()
            })
        };
        let numbers = |part: &str| -> Vec<f64> {
            words(part).unwrap().into_iter().map(|word| f64::from(f32::from_bits(word))).collect()
        };
        // The file of its weights under its source's names.
        let prefix = format!("{name}/weights/");
        let weights: Vec<(String, TensorView<'_>)> = file
            .names()
            .into_iter()
            .filter_map(|stored| Some((stored.strip_prefix(&prefix)?.to_owned(), file.tensor(stored).unwrap())))
            .collect();
        let description = format!(r#"{{"format": 1, "layers": {layers}}}"#);
        let metadata = HashMap::from([("gatefold".to_owned(), description)]);
        let bytes = serialize(weights.iter().map(|(name, view)| (name, view)), Some(metadata)).unwrap();
        let network = Network::from_bytes(name, &bytes).unwrap();
        let of_gradients = format!("{name}/gradients/");
        let gradients = file.names().into_iter().filter_map(|stored| {
            let own = stored.strip_prefix(&of_gradients)?;
            Some((own.to_owned(), numbers(&format!("gradients/{own}"))))
        });
        Self {
            name,
            network,
            source: words("source").unwrap(),
            lengths: words("lengths").map(|lengths| lengths.into_iter().map(|length| length as usize).collect()),
            target: words("target").unwrap(),
            output: numbers("output"),
            d_output: numbers("d_output"),
            gradients: gradients.collect(),
        }
    }

    fn source(&self) -> Input<'_> {
        let input = Input::tokens(&self.source, [SIZES[0], SIZES[2]]);
        self.lengths.as_ref().map_or(input, |lengths| input.with_lengths(lengths))
    }

    pub fn with_run<T>(&self, run: impl FnOnce(Input<'_>) -> T) -> T {
        let others = [NamedInput::tokens("target", &self.target[..], [SIZES[1], SIZES[2]])];
        run(self.source().with_others(&others))
    }

    fn agrees(&self, output: &[f32]) -> bool {
        compare(output, &self.output, Tolerance::f32(SIZES[1])).passed
    }
}

#[test]
fn decoders_agree_with_pytorch() {
    for device in devices(device()) {
        for decoder in Decoder::all() {
            let what = format!("{} on {}", decoder.name, device.info());
            let session = Session::new(&device, &decoder.network).unwrap();
            let output = decoder.with_run(|input| session.run(input, None)).unwrap();
            assert!(
                decoder.agrees(&output.values),
                "{what}: {:?}",
                compare(&output.values, &decoder.output, Tolerance::f32(5))
            );
            // As streams, all steps in one call and one by one.
            let pool = pool(&device, &decoder.network, 1);
            for each in [SIZES[1], 1] {
                let streams = pool.open_reading(decoder.source()).unwrap();
                let mut output = vec![0.0; SIZES[1] * SIZES[2] * SIZES[3]];
                let [_, steps, batch, width] = SIZES;
                for step in (0..steps).step_by(each) {
                    let read: Vec<Vec<u32>> = (0..batch)
                        .map(|row| (step..step + each).map(|step| decoder.target[step * batch + row]).collect())
                        .collect();
                    let calls: Vec<_> =
                        streams.iter().zip(&read).map(|(&id, read)| (id, Input::tokens(read, [each, 1]))).collect();
                    for (row, values) in pool.advance(&calls).unwrap().iter().enumerate() {
                        for (at, values) in values.chunks_exact(width).enumerate() {
                            output[((step + at) * batch + row) * width..][..width].copy_from_slice(values);
                        }
                    }
                }
                assert!(decoder.agrees(&output), "{what}, {each} steps in a call");
                streams.into_iter().for_each(|id| pool.close(id).unwrap());
            }
        }
    }
}

#[test]
fn gradients_agree_with_autograd() {
    for decoder in Decoder::all() {
        let reference = Reference::<f64>::new(&decoder.network);
        let gradients = decoder.with_run(|input| {
            let forward = reference.forward(input, None).unwrap();
            let last = (forward.stages.len() - 1, &decoder.d_output[..]);
            reference.gradients(input, None, &forward, last).unwrap()
        });
        let mut compared = 0;
        for (name, expected) in &decoder.gradients {
            // PyTorch's names of a cell, and a bias of scores, which has no gradient.
            let own = if gradients.params.contains_key(name) { name.clone() } else { format!("{name}_l0") };
            let Some(got) = gradients.params.get(&own) else {
                assert!(expected.iter().all(|&x| x.abs() < 1e-12), "{}: no {name}", decoder.name);
                continue;
            };
            let largest = expected.iter().fold(1e-3f64, |most, x| most.max(x.abs()));
            let error = got.iter().zip(expected).fold(0.0f64, |most, (a, b)| most.max((a - b).abs())) / largest;
            assert!(error < SINGLE, "{} {name}: {error:e}", decoder.name);
            compared += 1;
        }
        assert!(compared >= 12, "{}: {compared}", decoder.name);
    }
}

/// Negative controls: another weight, another bank, another token.
#[test]
fn another_decoder_is_noticed() {
    for device in devices(device()) {
        for mut decoder in Decoder::all() {
            let session = |network: &Network| Session::new(&device, network).unwrap();
            let name =
                if decoder.name == "tutorial" { "attention.Va.weight" } else { "decoder.attn.linear_out.weight" };
            let other = session(&changed(&decoder.network, name, |w| w[1] += 0.02));
            let output = decoder.with_run(|input| other.run(input, None)).unwrap();
            assert!(!decoder.agrees(&output.values), "{} on {}", decoder.name, device.info());
            decoder.target[0] = (decoder.target[0] + 1) % 7;
            let same = session(&decoder.network);
            let output = decoder.with_run(|input| same.run(input, None)).unwrap();
            // What was read first is fed back to the last step.
            let last = (SIZES[1] - 1) * SIZES[2] * SIZES[3];
            assert!(
                !compare(&output.values[last..], &decoder.output[last..], Tolerance::f32(5)).passed,
                "{}",
                decoder.name
            );
        }
    }
}

fn network(layers: &str, seed: u64) -> Network {
    let layers: Vec<LayerSpec> = serde_json::from_str(layers).unwrap_or_else(|error| panic!("{layers}: {error}"));
    Network::random(spec(layers), seed).unwrap()
}

/// Loops without attention, of any cell: what is fed back, from where, layers in between.
pub fn loops(seed: u64) -> Network {
    let mut rng = Rng::with_seed(seed);
    let cells = ["lstm", "gru", "rnn", "min_gru", "layer_norm_lstm", "sru", "slstm", "ntm"];
    let cell = cells[usize::try_from(seed).unwrap() % cells.len()];
    let [fed, hidden] = [(); 2].map(|()| rng.usize(1..20));
    let levels = if matches!(cell, "sru" | "min_gru" | "slstm" | "ntm") { 1 } else { rng.usize(1..3) };
    let options = match cell {
        "layer_norm_lstm" => format!(r#", "num_layers": {levels}, "layer_norm_eps": 0.1"#),
        "ntm" => r#", "cell": "gru", "memory": {"rows": 5, "columns": 3}, "read_heads": 2, "shifts": 1"#.into(),
        _ => format!(r#", "num_layers": {levels}"#),
    };
    // A memory gives what it read beside h.
    let width = if cell == "ntm" { hidden + 2 * 3 } else { hidden };
    network(
        &format!(
            r#"[{{"type": "input", "input_size": 3}},
            {{"type": "gru", "name": "before", "input_size": 3, "hidden_size": 4}},
            {{"type": "feedback", "name": "fed", "layer": "out", "num_features": {fed}}},
            {{"type": "feedback", "name": "slow", "layer": "cell", "num_features": {width}}},
            {{"type": "dense", "name": "narrow", "in_features": {width}, "out_features": 2, "activation": "tanh"}},
            {{"type": "join", "name": "read", "inputs": ["before", "fed", "narrow", "input"], "join": "concat"}},
            {{"type": "{cell}", "name": "cell", "input_size": {}, "hidden_size": {hidden}{options}}},
            {{"type": "dense", "name": "out", "in_features": {width}, "out_features": {fed}, "activation": "tanh"}},
            {{"type": "join", "name": "all", "inputs": ["out", "before"], "join": "concat"}},
            {{"type": "lstm", "name": "behind", "input_size": {}, "hidden_size": 5}}]"#,
            9 + fed,
            fed + 4
        ),
        seed,
    )
}

fn numbers(rng: &mut Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

#[test]
fn loops_agree_with_the_reference() {
    for seed in selected(0..16u64) {
        let (network, mut rng) = (loops(seed), Rng::with_seed(seed));
        let (steps, batch) = (rng.usize(1..12), rng.usize(1..6));
        let x = numbers(&mut rng, steps * batch * 3);
        let lengths: Vec<usize> = (0..batch).map(|_| rng.usize(0..=steps)).collect();
        let input = Input::features(&x, [steps, batch, 3]);
        let input = if seed % 2 == 0 { input } else { input.with_lengths(&lengths) };
        let state = crate::common::random_state(&network, batch, seed);
        let state = (seed % 3 == 0).then_some(&state);
        assert_right(device(), &network, PlanOptions::default(), input, state);
        assert_right(&Device::cpu(), &network, PlanOptions::default(), input, state);
    }
}

/// The answers of a stream are those of the whole run, wherever it is cut and whatever other streams are in its batch.
#[test]
fn loops_stream() {
    for device in devices(device()) {
        for seed in selected(0..5u64) {
            let (network, mut rng) = (loops(seed), Rng::with_seed(seed));
            let pool = pool(&device, &network, 1);
            let x: Vec<Vec<f32>> = (0..3).map(|_| numbers(&mut rng, 12 * 3)).collect();
            let mut streams: Vec<_> = x.iter().map(|_| (pool.open().unwrap(), 0usize, Vec::<f32>::new())).collect();
            for _ in 0..7 {
                let cuts: Vec<usize> = streams.iter().map(|stream| rng.usize(0..4).min(12 - stream.1)).collect();
                let calls: Vec<_> = (0..3)
                    .filter(|&at| cuts[at] > 0)
                    .map(|at| {
                        (streams[at].0, Input::features(&x[at][streams[at].1 * 3..][..cuts[at] * 3], [cuts[at], 1, 3]))
                    })
                    .collect();
                let advanced = pool.advance(&calls).unwrap();
                for (index, at) in (0..3).filter(|&at| cuts[at] > 0).enumerate() {
                    streams[at].1 += cuts[at];
                    streams[at].2.extend(advanced.values(index));
                }
            }
            for (at, (id, steps, got)) in streams.iter().enumerate() {
                if *steps == 0 {
                    continue;
                }
                let input = Input::features(&x[at][..steps * 3], [*steps, 1, 3]);
                let forward = Reference::<f64>::new(&network).forward(input, None).unwrap();
                let comparison = compare(got, forward.stages.last().unwrap(), Tolerance::f32(*steps));
                assert!(comparison.passed, "{seed} on {}: {comparison:?}", device.info());
                let (state, fed) = (pool.snapshot(*id).unwrap(), forward.state);
                let part = |layer: usize| &state.layers[layer].part("fed").unwrap().data;
                for layer in [3, 4] {
                    let comparison = compare(part(layer), &fed.layers[layer].parts[0].data, Tolerance::f32(*steps));
                    assert!(comparison.passed, "{seed} on {}: {comparison:?}", device.info());
                }
            }
        }
    }
}

/// Negative control: a weight of the loop and a state of it are seen.
#[test]
fn another_loop_is_noticed() {
    let network = loops(2);
    let x = numbers(&mut Rng::with_seed(1), 6 * 2 * 3);
    let input = Input::features(&x, [6, 2, 3]);
    let session = Session::new(device(), &network).unwrap();
    assert!(verify(&session, &network, input, None).unwrap().passed());
    let other = changed(&network, "out.weight", |weight| weight[0] += 0.05);
    assert!(!verify(&session, &other, input, None).unwrap().passed());
    let mut state = gatefold::State::zeros(&network, 2).unwrap();
    state.layers.iter_mut().find(|layer| layer.name == "fed").unwrap().parts[0].data[0] = 0.5;
    let outputs = [None, Some(&state)].map(|state| session.run(input, state).unwrap().values);
    assert_ne!(outputs[0], outputs[1]);
}

/// Beams over a loop with attention: with as many as there are continuations, greedy is among the best.
#[test]
fn beams_go_through_loops() {
    for device in devices(device()) {
        for decoder in Decoder::all() {
            if decoder.name == "tutorial" {
                continue;
            }
            let pool: StreamPool = pool(&device, &decoder.network, 1);
            let streams = pool.open_reading(decoder.source()).unwrap();
            let prompts: Vec<_> = streams.iter().map(|&id| (id, &[1][..])).collect();
            let options = BeamOptions { num_beams: 49, max_new_tokens: 2, ..BeamOptions::default() };
            let beams = pool.beam_search(&prompts, &options).unwrap();
            let one = BeamOptions { num_beams: 1, ..options.clone() };
            let one = pool.beam_search(&prompts, &one).unwrap();
            let options = GenerateOptions { max_new_tokens: 2, ..GenerateOptions::default() };
            let greedy = pool.generate(&prompts, &options).unwrap();
            for ((beams, greedy), one) in beams.iter().zip(&greedy).zip(&one) {
                assert_eq!((beams.len(), &one[0].tokens), (49, &greedy.tokens), "{}", device.info());
                let sum: f32 = beams.iter().map(|beam| beam.log_probability.exp()).sum();
                assert!((sum - 1.0).abs() < 1e-4, "all continuations of two tokens: {sum}");
            }
        }
    }
}

/// A loop with attention learns on the CPU: to write what it reads backwards.
#[test]
fn a_loop_with_attention_trains() {
    let network = Decoder::new("general").network;
    let mut trainer = Trainer::new(
        &Device::cpu(),
        &network,
        TrainOptions::new(Loss::CrossEntropy).optimizer(Adam { learning_rate: 2e-2, ..Adam::default() }),
    )
    .unwrap();
    let mut rng = Rng::with_seed(3);
    let mut losses = Vec::new();
    for _ in 0..400 {
        let source: Vec<u32> = (0..4 * 16).map(|_| rng.u32(1..7)).collect();
        let wanted: Vec<u32> = (0..4).rev().flat_map(|step| source[step * 16..][..16].to_vec()).collect();
        let given: Vec<u32> = std::iter::repeat_n(0, 16).chain(wanted[..3 * 16].iter().copied()).collect();
        let others = [NamedInput::tokens("target", &given[..], [4, 16])];
        let input = Input::tokens(&source, [4, 16]).with_others(&others);
        let batch = Batch { input, targets: Targets::Classes(&wanted), weights: None };
        losses.push(trainer.step(&batch).unwrap().loss);
    }
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    let (first, last) = (mean(&losses[..10]), mean(&losses[390..]));
    assert!(last < 0.3 * first, "{first} {last}");
}

#[test]
fn what_does_not_loop_is_refused() {
    let layers = |between: &str, feedback: &str| {
        let text = format!(
            r#"[{{"type": "input", "input_size": 4}}, {{"type": "feedback", "name": "fed", {feedback}}},
            {{"type": "join", "name": "read", "inputs": ["input", "fed"], "join": "add"}}, {between}
            {{"type": "rnn", "name": "cell", "input_size": 4, "hidden_size": 4}}]"#
        );
        let layers: Vec<LayerSpec> = serde_json::from_str(&text).unwrap();
        Network::random(spec(layers), 1)
    };
    let fed = r#""layer": "cell", "num_features": 4"#;
    let cases = [
        ("", r#""layer": "none", "num_features": 4"#, "layer `fed`: layer: expected a later layer"),
        ("", r#""layer": "input", "num_features": 4"#, "layer `fed`: layer: expected a later layer"),
        ("", r#""layer": "cell", "num_features": 5"#, "layers of one width"),
        (
            "",
            r#""layer": "cell", "num_features": 4, "initial": "input""#,
            "initial: expected a layer that gives [B, 4]",
        ),
        (r#"{"type": "reverse", "name": "r"},"#, fed, "layer `r`: a layer over all time in a loop of a feedback"),
        (
            r#"{"type": "rnn", "name": "b", "input_size": 4, "hidden_size": 4, "reverse": true},"#,
            fed,
            "layer `b.l0`: a direction that starts at the end in a loop",
        ),
        (
            r#"{"type": "attention", "name": "a", "embed_dim": 4, "keys": "read"},"#,
            fed,
            "layer `a`: attention to the timesteps of the loop itself",
        ),
    ];
    for (between, feedback, expected) in cases {
        let error = layers(between, feedback).unwrap_err().to_string();
        assert!(error.contains(expected), "{feedback}: {error}");
    }
    // What is drawn at every step is not, in a loop.
    let network = layers("", fed).unwrap();
    let options = TrainOptions::new(Loss::Mse).recurrent_dropout(RecurrentDropout::new("cell", 0.0, 0.5));
    for device in devices(device()) {
        let error = Trainer::new(&device, &network, options.clone()).unwrap_err().to_string();
        assert!(error.contains("training with recurrent dropout in a loop of a feedback"), "{error}");
    }
}
