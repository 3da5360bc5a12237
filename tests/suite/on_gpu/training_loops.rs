//! Training of loops on the device: gradients against the f64 reference, steps against the CPU.

use std::collections::BTreeMap;

use fastrand::Rng;
use gatefold::network::{LayerSpec, Network};
use gatefold::train::{Batch, Loss, Sgd, Targets, TrainOptions, Trainer};
use gatefold::unstable::reference::{self, LossOptions, Real, Reference};
use gatefold::{Device, State};

use super::training::difference;
use super::training_example::{Example, TOLERANCE, errors, run};
use crate::common::{changed, device, selected, spec};
use crate::on_device::feedback::{Decoder, SIZES, loops};

fn example(network: Network, seed: u64) -> Example {
    let mut rng = Rng::with_seed(seed);
    let (steps, batch) = (rng.usize(1..8), rng.usize(1..6));
    Example::of_values(network, [steps, batch, 3], &mut rng)
}

#[test]
fn gradients_of_loops_agree() {
    for seed in selected(0..16) {
        let example = example(loops(seed), seed);
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "case {seed}: {tensor} is {error} tolerances off: {:#?}", example.network.spec());
    }
}

/// What is fed back first comes from a layer, and levels start from stored states.
#[test]
fn gradients_of_what_a_loop_starts_from_agree() {
    let layers = r#"[{"type": "input", "input_size": 3},
        {"type": "gru", "name": "encoder", "input_size": 3, "hidden_size": 4},
        {"type": "select", "name": "last", "step": "last_valid"},
        {"type": "dense", "name": "first", "in_features": 4, "out_features": 5, "activation": "tanh"},
        {"type": "from", "layer": "input"},
        {"type": "feedback", "name": "fed", "layer": "cell", "num_features": 5, "initial": "first"},
        {"type": "join", "name": "read", "inputs": ["fed", "encoder"], "join": "concat"},
        {"type": "CELL", "name": "cell", "input_size": 9, "hidden_size": 5, "initial_state": true},
        {"type": "dense", "name": "head", "in_features": 5, "out_features": 2}]"#;
    for (seed, cell) in ["lstm", "gru", "rnn"].into_iter().enumerate() {
        let layers: Vec<LayerSpec> = serde_json::from_str(&layers.replace("CELL", cell)).unwrap();
        let network = Network::random(spec(layers), 3).unwrap();
        let example = example(network, 20 + seed as u64);
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "{cell}: {tensor} is {error} tolerances off");
    }
}

/// The gradients of a decoder's cross-entropy by the reference.
fn of_reference<F: Real>(decoder: &Decoder, wanted: &[u32]) -> BTreeMap<String, Vec<f64>> {
    let reference = Reference::<F>::new(&decoder.network);
    decoder.with_run(|input| {
        let forward = reference.forward(input, None).unwrap();
        let last = decoder.network.stages().len() - 1;
        let from = if decoder.network.stages()[last].is_softmax() { last - 1 } else { last };
        let (options, targets) = (LossOptions::default(), Targets::Classes(wanted));
        let loss = reference::loss(Loss::CrossEntropy, &forward.stages[from], SIZES[3], targets, &options).unwrap();
        let gradients = reference.gradients(input, None, &forward, (from, &loss.d_output)).unwrap().params;
        let wide = |(name, numbers): (String, Vec<F>)| (name, numbers.into_iter().map(Real::to_f64).collect());
        // A score's bias has no gradient.
        let is_there = |(_, numbers): &(String, Vec<f64>)| numbers.iter().any(|x| x.abs() > 1e-12);
        gradients.into_iter().map(wide).filter(is_there).collect()
    })
}

/// Decoders with attention, input feeding and embeddings in the loop, whose gradients by the reference are PyTorch's.
#[test]
fn gradients_of_decoders_agree() {
    for decoder in Decoder::all() {
        let mut rng = Rng::with_seed(5);
        let wanted: Vec<u32> = (0..SIZES[1] * SIZES[2]).map(|_| rng.u32(0..7)).collect();
        let of = |network: &Network| -> BTreeMap<String, Vec<f64>> {
            let trainer = Trainer::new(device(), network, TrainOptions::new(Loss::CrossEntropy)).unwrap();
            let got = decoder.with_run(|input| {
                let batch = Batch { input, targets: Targets::Classes(&wanted), weights: None };
                trainer.gradients(&batch).unwrap()
            });
            got.into_iter().map(|(name, t)| (name, t.data().iter().map(|&x| x.into()).collect())).collect()
        };
        let (exact, single) = (of_reference::<f64>(&decoder, &wanted), of_reference::<f32>(&decoder, &wanted));
        assert!(exact.len() >= 10, "{}", decoder.name);
        let single = errors(&exact, |name| single[name].clone());
        // The largest error as a multiple of the tolerance. Where sums cancel, the f32 reference says how much is right.
        let worst = |got: &BTreeMap<String, Vec<f64>>| {
            let found = errors(&exact, |name| got[name].clone()).into_iter();
            let found = found.map(|(name, error)| (error / (8.0 * single[&name]).max(TOLERANCE), name));
            found.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
        };
        let got = of(&decoder.network);
        let (error, tensor) = worst(&got);
        assert!(error <= 1.0, "{}: {tensor} is {error} tolerances off", decoder.name);
        assert_eq!(got, of(&decoder.network), "{}: other bits", decoder.name);
        // Negative control: a weight of the score, and so what is fed back, is seen.
        let name = if decoder.name == "tutorial" { "attention.Va.weight" } else { "decoder.attn.linear_out.weight" };
        let other = of(&changed(&decoder.network, name, |w| w.iter_mut().for_each(|x| *x *= 1.05)));
        assert!(worst(&other).0 > 20.0, "{}", decoder.name);
    }
}

/// Controls: another weight of the loop, and another before it, have other gradients.
#[test]
fn other_loops_are_seen() {
    let right = example(loops(3), 3);
    let exact = right.reference::<f64>().1;
    for name in ["before.weight_hh_l0", "narrow.weight", "cell.weight_ih_l0", "out.weight"] {
        let network = changed(&right.network, name, |numbers| numbers.iter_mut().for_each(|x| *x *= 1.05));
        let got = Example { network, ..right.clone() }.trainer().gradients(&right.batch()).unwrap();
        let errors = errors(&exact, |name| got[name].data().iter().map(|&x| x.into()).collect());
        assert!(errors.values().any(|&error| error > 20.0 * TOLERANCE), "{name}: {errors:?}");
    }
}

/// Steps are those of the CPU, from the network's start and from a state, and twice the same bits.
#[test]
fn steps_of_loops_are_those_of_the_cpu() {
    for seed in selected(0..6) {
        let example = example(loops(seed), 40 + seed);
        let options = TrainOptions::new(Loss::Mse).optimizer(Sgd { learning_rate: 0.05, ..Sgd::default() });
        let on = |device: &Device, options: &TrainOptions| {
            run(Trainer::new(device, &example.network, options.clone()).unwrap(), &example, 3)
        };
        let gpu = on(device(), &options);
        assert!(gpu == on(device(), &options), "case {seed}: other bits");
        let worst = difference(&gpu, &on(&Device::cpu(), &options));
        assert!(worst <= 2e-5, "case {seed}: {worst} off");
        let from_state = |device: &Device| {
            let mut trainer = Trainer::new(device, &example.network, options.clone()).unwrap();
            let mut state = State::initial(&example.network, example.shape[1]).unwrap();
            for _ in 0..2 {
                trainer.step_from(&example.batch(), &mut state).unwrap();
            }
            state.layers.iter().flat_map(|layer| &layer.parts).flat_map(|part| part.data.clone()).collect::<Vec<f32>>()
        };
        let (gpu, cpu) = (from_state(device()), from_state(&Device::cpu()));
        let worst = gpu.iter().zip(&cpu).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(worst <= 2e-5, "case {seed}: a state is {worst} off");
        assert!(cpu.iter().any(|x| x.abs() > 1e-3));
    }
}
