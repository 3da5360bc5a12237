//! Training of layers with a memory on the device: gradients against the f64 reference, steps against the CPU, and no bit that
//! depends on how the timesteps are cut up.

use fastrand::Rng;
use gatefold::network::{Activation, Cell, HeadOrder, Init, LayerSpec, MemoryStart, Network, NtmSpec, StartWeights};
use gatefold::train::{Batch, Loss, Sgd, Targets, TrainOptions, Trainer};
use gatefold::{Device, Input, Plan, PlanLimits, RunShape, State};

use super::training::difference;
use super::training_example::{Example, TOLERANCE, dense, errors, run};
use super::training_memory::intervals;
use crate::common::{changed, device, selected, spec};
use crate::on_device::ntm::random_memory;

/// A layer with a dense one before it, so that the gradient of what it reads counts, and one behind it.
fn example(layer: NtmSpec, [steps, batch]: [usize; 2], seed: u64) -> Example {
    let mut rng = Rng::with_seed(seed);
    let (inputs, width) = (layer.input_size, layer.output_size());
    let layers = vec![
        dense("before", 4, inputs, true, Activation::Tanh),
        LayerSpec::Ntm(layer),
        dense("head", width, 3, true, Activation::Linear),
    ];
    let network = Network::initialized(spec(layers), Init::PyTorch, seed).unwrap();
    Example::of_values(network, [steps, batch, 4], &mut rng)
}

fn random(seed: u64) -> Example {
    let mut rng = Rng::with_seed(seed);
    let layer = random_memory(&mut rng);
    let cell = [Cell::Lstm, Cell::Gru, Cell::Rnn][(seed % 3) as usize];
    let shape = [rng.usize(1..8), rng.usize(1..7)];
    example(NtmSpec { cell, ..layer }, shape, seed)
}

#[test]
fn gradients_of_every_memory_agree() {
    for seed in selected(0..24) {
        let example = random(seed);
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "case {seed}: {tensor} is {error} tolerances off: {:#?}", example.network.spec());
    }
}

/// The sizes of the paper, those that no workgroup divides, and a memory that no workgroup holds.
#[test]
fn gradients_of_large_memories_agree() {
    for (hidden, rows, columns, heads, cell) in [
        (100, 128, 20, 1, Cell::Lstm),
        (33, 300, 7, 2, Cell::Gru),
        (20, 500, 30, 1, Cell::Lstm),
        (9, 17, 90, 1, Cell::Rnn),
    ] {
        let layer = NtmSpec {
            cell,
            read_heads: heads,
            write_heads: heads,
            clip: Some(20.0),
            order: HeadOrder::Sequential,
            initial_state: true,
            ..NtmSpec::new("memory", 9, hidden, [rows, columns])
        };
        let example = example(layer, [12, 3], 5);
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "{rows} x {columns}: {tensor} is {error} tolerances off");
    }
}

/// Negative controls: another network, whose tensor differs by 5 %, has other gradients; each tensor that the layer has is seen.
#[test]
fn other_memories_are_seen() {
    let layer = NtmSpec {
        memory: gatefold::network::MemorySpec { rows: 8, columns: 5, start: MemoryStart::Learned },
        start_weights: StartWeights::Learned,
        initial_state: true,
        write_heads: 2,
        ..NtmSpec::new("memory", 3, 7, [8, 5])
    };
    let right = example(layer, [6, 3], 4);
    let exact = right.reference::<f64>().1;
    for name in right.network.tensors().keys().filter(|name| name.starts_with("memory.")) {
        let network = changed(&right.network, name, |numbers| numbers.iter_mut().for_each(|x| *x = *x * 1.05 + 0.01));
        let got = Example { network, ..right.clone() }.trainer().gradients(&right.batch()).unwrap();
        let errors = errors(&exact, |name| got[name].data().iter().map(|&x| x.into()).collect());
        assert!(errors.values().any(|&error| error > 20.0 * TOLERANCE), "{name}: {errors:?}");
    }
}

/// Steps are those of the CPU, and twice the same bits.
#[test]
fn steps_are_those_of_the_cpu() {
    for seed in selected(0..6) {
        let example = random(300 + seed);
        let options = TrainOptions::new(Loss::Mse).optimizer(Sgd { learning_rate: 0.05, ..Sgd::default() });
        let on = |device: &Device, options: &TrainOptions| {
            run(Trainer::new(device, &example.network, options.clone()).unwrap(), &example, 3)
        };
        let gpu = on(device(), &options);
        assert!(gpu == on(device(), &options), "case {seed}: other bits");
        let worst = difference(&gpu, &on(&Device::cpu(), &options));
        assert!(worst <= 2e-5, "case {seed}: {worst} off: {:#?}", example.network.spec());
        let faster = options.optimizer(Sgd { learning_rate: 0.06, ..Sgd::default() });
        assert!(difference(&gpu, &on(&Device::cpu(), &faster)) > 2e-5, "case {seed}: another rate is not seen");
    }
}

/// Training that goes on from a state: its final state and its gradients are the CPU's, which are 0 for what the layer would
/// start from.
#[test]
fn steps_from_a_state_are_those_of_the_cpu() {
    let layer = NtmSpec { initial_state: true, cell: Cell::Gru, ..NtmSpec::new("memory", 3, 6, [7, 4]) };
    let example = example(layer, [5, 2], 8);
    let options = TrainOptions::new(Loss::Mse).optimizer(Sgd { learning_rate: 0.05, ..Sgd::default() });
    let on = |device: &Device| {
        let mut trainer = Trainer::new(device, &example.network, options.clone()).unwrap();
        let mut state = State::initial(&example.network, 2).unwrap();
        for _ in 0..3 {
            trainer.step_from(&example.batch(), &mut state).unwrap();
        }
        let network = trainer.network().unwrap();
        let numbers: Vec<f32> = state.layers[0].parts.iter().flat_map(|part| part.data.clone()).collect();
        (numbers, network)
    };
    let ((gpu, trained), (cpu, other)) = (on(device()), on(&Device::cpu()));
    let worst = gpu.iter().zip(&cpu).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(worst <= 2e-5, "{worst} off");
    for name in ["memory.initial_h", "memory.initial_read", "memory.weight_hh_l0"] {
        let of = |network: &Network| network.tensors()[name].data().to_vec();
        let is_start = name.contains("initial");
        assert_eq!(of(&trained) == of(&example.network), is_start, "{name}");
        assert_eq!(of(&other) == of(&example.network), is_start, "{name}");
    }
    // Negative control: without the state the network starts from its own.
    let mut trainer = Trainer::new(device(), &example.network, options.clone()).unwrap();
    trainer.step(&example.batch()).unwrap();
    let own = trainer.network().unwrap().tensors()["memory.initial_h"].data().to_vec();
    assert_ne!(own, example.network.tensors()["memory.initial_h"].data());
}

const SHAPE: [usize; 2] = [40, 64];

fn plan(network: &Network, memory: Option<u64>) -> gatefold::Result<Plan> {
    let mut options = TrainOptions::new(Loss::Mse);
    options.memory = memory;
    let shape = RunShape::new(SHAPE[0], SHAPE[1]);
    options.plan(network, shape, &PlanLimits { software: true, ..PlanLimits::default() })
}

/// Within a budget the state is kept in front of every interval, and an interval runs again: no bit depends on that.
#[test]
fn intervals_change_no_bit() {
    for cell in selected([Cell::Lstm, Cell::Gru]) {
        let layer = NtmSpec { cell, write_heads: 2, initial_state: true, ..NtmSpec::new("memory", 3, 5, [6, 4]) };
        let mut example = example(layer, SHAPE, 3);
        example.lengths = None;
        let trained = |memory: Option<u64>| {
            let mut options = TrainOptions::new(Loss::Mse).optimizer(Sgd::default());
            options.memory = memory;
            let mut trainer = Trainer::new(device(), &example.network, options).unwrap();
            let gradients = trainer.gradients(&example.batch()).unwrap();
            let mut state = State::initial(&example.network, SHAPE[1]).unwrap();
            trainer.step_from(&example.batch(), &mut state).unwrap();
            let network = trainer.network().unwrap();
            let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
            let gradients: Vec<Vec<u32>> = gradients.values().map(|tensor| bits(tensor.data())).collect();
            let weights: Vec<Vec<u32>> = network.tensors().values().map(|tensor| bits(tensor.data())).collect();
            (gradients, weights, state)
        };
        let whole = plan(&example.network, None).unwrap();
        let expected = trained(None);
        let mut memory = whole.bytes() - 1;
        let mut found = 0;
        while let Ok(shorter) = plan(&example.network, Some(memory)) {
            assert!(shorter.bytes() <= memory && intervals(&shorter) == 1);
            assert!(trained(Some(memory)) == expected, "{cell:?}, {memory} bytes: other bits");
            memory = shorter.bytes() - 1;
            found += 1;
        }
        assert!(found > 0, "no plan takes less than {} bytes", whole.bytes());
        assert!(trained(Some(whole.bytes())).0 == expected.0);
        let error = Trainer::new(device(), &example.network, TrainOptions::new(Loss::Mse).memory(1000)).err();
        assert!(error.is_some(), "a budget of 1000 bytes");
    }
}

/// The plan says where the gradient of the memory lies.
#[test]
fn a_plan_says_where_the_gradient_is() {
    let of = |rows: usize, columns: usize, bytes: u32| {
        let network = example(NtmSpec::new("memory", 9, 100, [rows, columns]), [3, 2], 1).network;
        let limits = PlanLimits { max_workgroup_memory: bytes, ..PlanLimits::default() };
        TrainOptions::new(Loss::Mse).plan(&network, RunShape::new(3, 2), &limits).unwrap().reasons
    };
    let has = |reasons: &[String], text: &str| reasons.iter().any(|reason| reason.contains(text));
    let paper = of(128, 20, 16_384);
    assert!(has(&paper, "the gradient of the memory of 128 x 20 in workgroup memory"), "{paper:?}");
    let large = of(256, 20, 16_384);
    assert!(has(&large, "the gradient of the memory of 256 x 20 in storage, since it takes"), "{large:?}");
}

/// A mask that is not NaN's: a sequence without a step leaves every gradient a number.
#[test]
fn a_batch_of_wrong_targets_is_refused() {
    let example = example(NtmSpec::new("memory", 3, 5, [6, 4]), [4, 2], 1);
    let mut trainer = example.trainer();
    let short = [0.0; 4];
    let batch =
        Batch { input: Input::features(&example.features, [4, 2, 4]), targets: Targets::Values(&short), weights: None };
    assert!(trainer.step(&batch).is_err());
    let nan = vec![f32::NAN; 4 * 2 * 4];
    let batch = Batch { input: Input::features(&nan, [4, 2, 4]), ..example.batch() };
    assert!(trainer.step(&batch).is_err() || trainer.step(&batch).unwrap().skipped);
    // The network is as it was, and goes on.
    assert!(trainer.step(&example.batch()).unwrap().loss.is_finite());
}
