//! Training on the device against the f64 reference: losses, gradients, steps of optimizers, dropout.

use fastrand::Rng;
use gatefold::network::{
    Activation, Cell, CellNorm, EmbeddingSpec, GateNorm, Init, LayerSpec, MaskedOutput, MergeMode, Network,
    RecurrentOutput, RecurrentSpec,
};
use gatefold::train::{
    Adagrad, Adam, AdamW, Answers, Batch, Clip, Convention, Dataset, Decay, Dropout, Event, Fit, Loss, Next, Optimizer,
    RecurrentDropout, Reduction, RmsProp, Schedule, Sgd, Targets, TrainOptions, Trainer, WeightDrop,
};
use gatefold::{Device, Input, Session};

use super::training_example::{Example, FUNCTIONS, TOLERANCE, dense, errors, run};
use crate::common::{all_are_run, changed, device, own_device, selected, spec};
use crate::on_device::cells::{functions, zone_out};

/// A layer with random options.
pub fn layer(cell: Cell, rng: &mut Rng) -> RecurrentSpec {
    let mut layer = RecurrentSpec::new("cell", rng.usize(1..=19), rng.usize(1..=70));
    layer.num_layers = rng.usize(1..=2);
    layer.bidirectional = rng.bool();
    layer.reverse = !layer.bidirectional && rng.bool();
    layer.output = [RecurrentOutput::Sequence, RecurrentOutput::Last][rng.usize(0..2)];
    layer.masked_output = [MaskedOutput::Zero, MaskedOutput::Previous][rng.usize(0..2)];
    layer.bias = rng.u8(0..4) > 0;
    // Draws nothing, so that the other tests keep their networks.
    layer.initial_state = rng.clone().u8(0..3) == 0;
    layer.batch_first = rng.bool();
    layer.clip = (rng.u8(0..4) == 0).then(|| 0.2 + rng.f32());
    if layer.bidirectional {
        layer.merge_mode = [MergeMode::Concat, MergeMode::Sum, MergeMode::Ave, MergeMode::Mul][rng.usize(0..4)];
    }
    if cell == Cell::Lstm {
        layer.peephole = rng.bool();
        layer.coupled = rng.bool();
        layer.cell_clip = (rng.u8(0..4) == 0).then(|| 0.1 + rng.f32());
        if layer.hidden_size > 1 && rng.bool() {
            layer.proj_size = rng.usize(1..layer.hidden_size);
        }
    }
    if matches!(cell, Cell::LayerNormLstm | Cell::LayerNormGru) {
        layer.clip = None;
        layer.gate_norm = [GateNorm::Sum, GateNorm::Parts][rng.usize(0..2)];
    }
    if cell.scans() {
        layer.clip = None;
        layer.peephole = cell == Cell::Sru && rng.bool();
    }
    if cell == Cell::Slstm {
        layer.clip = None;
        layer.initial_state = false;
    }
    if cell == Cell::LayerNormLstm {
        layer.cell_norm = [CellNorm::None, CellNorm::State, CellNorm::Output][rng.usize(0..3)];
    }
    if cell == Cell::Gru {
        layer.reset_after = rng.bool();
    }
    if rng.u8(0..3) == 0 {
        let sets = if rng.bool() { layer.directions() } else { 1 };
        layer.activations = functions(cell, sets, &FUNCTIONS, rng);
    }
    layer
}

/// A random network of `cell` with a random batch.
pub fn example(cell: Cell, seed: u64) -> Example {
    let mut rng = Rng::with_seed(seed);
    let layer = layer(cell, &mut rng);
    let (inputs, width, batch_first) = (layer.input_size, layer.output_size(), layer.batch_first);
    let mut layers = Vec::new();
    let embedded = rng.bool();
    if embedded {
        let mask_zero = rng.bool();
        layers.push(LayerSpec::Embedding(EmbeddingSpec {
            name: "embedding".into(),
            num_embeddings: 30,
            embedding_dim: inputs,
            mask_zero,
        }));
    }
    let masks = embedded && matches!(&layers[0], LayerSpec::Embedding(spec) if spec.mask_zero);
    layers.push(LayerSpec::of_cell(cell, layer));
    let losses = [Loss::CrossEntropy, Loss::Mse, Loss::BinaryCrossEntropy, Loss::Huber { delta: 0.3 }, Loss::Mae];
    let loss = losses[rng.usize(0..losses.len())];
    let (middle, outputs) = (rng.usize(1..=40), rng.usize(2..=7));
    layers.push(dense("first", width, middle, rng.bool(), FUNCTIONS[rng.usize(0..FUNCTIONS.len())]));
    layers.push(dense("second", middle, outputs, true, Activation::Linear));
    if loss == Loss::CrossEntropy {
        layers.push(LayerSpec::Softmax);
    }
    let network = Network::initialized(spec(layers), Init::PyTorch, seed).unwrap();
    let stored = ["cell.initial_h", "cell.initial_c"].into_iter().filter(|name| network.tensors().contains_key(*name));
    let network = stored.fold(network.clone(), |network, name| {
        let mut rng = Rng::with_seed(seed);
        changed(&network, name, |numbers| numbers.iter_mut().for_each(|x| *x = rng.f32() - 0.5))
    });
    let (steps, batch) = (rng.usize(1..=9), rng.usize(1..=9));
    let [outer, inner] = if batch_first { [batch, steps] } else { [steps, batch] };
    let mut example = Example {
        network,
        loss,
        tokens: Vec::new(),
        features: Vec::new(),
        shape: [outer, inner, inputs],
        lengths: None,
        classes: Vec::new(),
        values: Vec::new(),
        weights: None,
    };
    match embedded {
        true => example.tokens = (0..steps * batch).map(|_| rng.u32(0..30)).collect(),
        false => example.features = (0..steps * batch * inputs).map(|_| rng.f32() * 2.0 - 1.0).collect(),
    }
    if !masks && rng.bool() {
        example.lengths = Some((0..batch).map(|row| [0, 1, steps, rng.usize(0..=steps)][row % 4]).collect());
    }
    let [_, _, rows] = example.rows();
    match loss {
        Loss::CrossEntropy => {
            let outputs = u32::try_from(outputs).unwrap();
            example.classes = (0..rows).map(|_| rng.u32(0..outputs)).collect();
        }
        _ => example.values = (0..rows * outputs).map(|_| rng.f32()).collect(),
    }
    if rng.bool() {
        example.weights =
            Some((0..rows).map(|row| [0.0, 1.0, 0.5][row % 3] + rng.f32() * f32::from(row % 3 > 0)).collect());
    }
    example
}

/// `example` with another recurrent layer of the same tensors.
fn changed_layer(mut example: Example, change: impl FnOnce(&mut RecurrentSpec)) -> Example {
    let mut spec = example.network.spec().clone();
    let layer = spec.layers.iter_mut().find_map(LayerSpec::recurrent_mut);
    change(layer.unwrap().1);
    example.network = Network::new(spec, example.network.tensors().clone()).unwrap();
    example
}

fn battery(cell: Cell, cases: u64) {
    for seed in selected(0..cases) {
        let example = changed_layer(example(cell, seed), |layer| zone_out(cell, layer, &Rng::with_seed(seed)));
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "case {seed}: {tensor} is {error} tolerances off: {:#?}", example.network.spec());
    }
}

#[test]
fn gradients_of_an_lstm_agree() {
    battery(Cell::Lstm, 30);
}

#[test]
fn gradients_of_a_gru_agree() {
    battery(Cell::Gru, 30);
}

#[test]
fn gradients_of_an_rnn_agree() {
    battery(Cell::Rnn, 20);
}

#[test]
fn gradients_of_a_layer_normalized_lstm_agree() {
    battery(Cell::LayerNormLstm, 30);
}

#[test]
fn gradients_of_a_layer_normalized_gru_agree() {
    battery(Cell::LayerNormGru, 30);
}

#[test]
fn gradients_of_an_slstm_agree() {
    battery(Cell::Slstm, 15);
}

#[test]
fn heads_are_trained_on_the_cpu_alone() {
    let of = |num_heads: usize| {
        let layer = RecurrentSpec { num_heads, ..RecurrentSpec::new("cell", 3, 6) };
        let layers = vec![LayerSpec::Slstm(layer), dense("dense", 6, 2, true, Activation::Linear)];
        Network::initialized(spec(layers), Init::PyTorch, 3).unwrap()
    };
    let batch = Batch {
        input: Input::features(&[0.5; 4 * 3], [4, 1, 3]),
        targets: Targets::Classes(&[0, 1, 0, 1]),
        weights: None,
    };
    let step = |device: &Device, network: &Network| {
        Trainer::new(device, network, TrainOptions::new(Loss::CrossEntropy))
            .and_then(|mut trainer| trainer.step(&batch))
    };
    let error = step(device(), &of(2)).unwrap_err().to_string();
    assert!(error.contains("layer `cell.l0`: training of an sLSTM with several heads on a GPU"), "{error}");
    assert!(step(device(), &of(1)).is_ok() && step(&Device::cpu(), &of(2)).is_ok());
}

#[test]
fn gradients_of_scans_agree() {
    for cell in Cell::ALL.into_iter().filter(|cell| cell.scans()) {
        battery(cell, 3);
    }
}

/// A weight that differs by a hundredth is seen.
#[test]
fn another_networks_gradients_are_seen() {
    for (cell, name) in [(Cell::Lstm, "cell.weight_hh_l0"), (Cell::Sru, "cell.weight_ih_l0")] {
        let right = example(cell, 3);
        let worst = right.worst();
        assert!(worst.0 <= 1.0, "{worst:?}");
        let network = changed(&right.network, name, |numbers| numbers.iter_mut().for_each(|x| *x *= 1.01));
        let (_, exact) = Example { network, ..example(cell, 3) }.reference::<f64>();
        let got = right.trainer().gradients(&right.batch()).unwrap();
        let errors = errors(&exact, |name| got[name].data().iter().map(|&x| x.into()).collect());
        assert!(errors[name] > 100.0 * TOLERANCE, "{errors:?}");
    }
}

/// Optimizers with everything that can be set.
fn optimizers() -> Vec<Optimizer> {
    let clipped = |rule: Optimizer, clip| Optimizer { clip: Some(clip), ..rule };
    let pytorch = Convention::PyTorch;
    let keras = Convention::Keras;
    vec![
        Sgd { learning_rate: 0.1, ..Sgd::default() }.into(),
        Optimizer { l2: 0.01, ..Sgd { learning_rate: 0.1, momentum: 0.9, nesterov: true, ..Sgd::default() }.into() },
        clipped(Sgd { momentum: 0.5, ..Sgd::keras() }.into(), Clip::Norm { max: 0.1, convention: keras }),
        Adam::default().into(),
        clipped(Adam::keras().into(), Clip::GlobalNorm { max: 0.2, convention: keras }),
        clipped(AdamW::default().into(), Clip::GlobalNorm { max: 0.2, convention: pytorch }),
        clipped(RmsProp { centered: true, momentum: 0.5, ..RmsProp::default() }.into(), Clip::Value { max: 0.01 }),
        clipped(RmsProp::keras().into(), Clip::Norm { max: 0.1, convention: pytorch }),
        // With an eps below the least gradients a first step is their sign, also of those that are rounding alone.
        Adagrad { eps: 1e-6, ..Adagrad::default() }.into(),
        Adagrad::keras().into(),
    ]
}

#[test]
fn optimizers_take_the_steps_of_the_cpu() {
    for (seed, optimizer) in (0..).zip(optimizers()) {
        let example = example([Cell::Lstm, Cell::Gru][usize::from(seed % 2 == 1)], 20 + seed);
        let schedule = Schedule { warm_up: 2, then: Decay::Step { every: 2, factor: 0.5 } };
        let dropped = if example.tokens.is_empty() { "cell" } else { "embedding" };
        let options = TrainOptions::new(example.loss)
            .optimizer(optimizer)
            .schedule(schedule)
            .dropout(Dropout::elements("first", 0.3))
            .dropout(Dropout::channels(dropped, 0.5))
            .seed(seed);
        let on = |device| run(Trainer::new(device, &example.network, options.clone()).unwrap(), &example, 6);
        let (cpu, gpu) = (on(&Device::cpu()), on(device()));
        for (expected, got) in cpu.0.iter().zip(&gpu.0) {
            assert!((expected - got).abs() <= 2e-5 * expected.abs().max(1.0), "{optimizer:?}: {:?} {:?}", cpu.0, gpu.0);
        }
        let before = example.network.tensors();
        for ((name, expected), (_, got)) in cpu.1.iter().zip(&gpu.1) {
            let largest = expected.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
            let error = expected.iter().zip(got).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest;
            assert!(error <= 1e-4, "{optimizer:?}: {name} is {error} off");
        }
        let moved = gpu.1.iter().filter(|(name, got)| before[name].data() != &got[..]).count();
        assert!(2 * moved > gpu.1.len(), "{optimizer:?}: {moved} tensors moved");
        // A control: without its dropout it goes another way.
        let mut plain = options.clone();
        plain.dropout.clear();
        let other = run(Trainer::new(device(), &example.network, plain).unwrap(), &example, 6);
        assert!(other.0.iter().zip(&cpu.0).any(|(a, b)| (a - b).abs() > 1e-4), "{optimizer:?}");
    }
}

/// The largest difference of losses and weights.
pub fn difference(one: &(Vec<f64>, Vec<(String, Vec<f32>)>), other: &(Vec<f64>, Vec<(String, Vec<f32>)>)) -> f64 {
    let of_losses = one.0.iter().zip(&other.0).map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
    let of_weights = one.1.iter().zip(&other.1).map(|((_, a), (_, b))| {
        let largest = a.iter().fold(1e-3f32, |most, x| most.max(x.abs()));
        f64::from(a.iter().zip(b).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest)
    });
    of_losses.chain(of_weights).fold(0.0, |most, error| if error.is_nan() { f64::INFINITY } else { most.max(error) })
}

/// Masks of what a layer reads and of h are drawn from integers, too: in all cells, directions and levels, with stored
/// states, masked steps, projections and zoneout.
#[test]
fn recurrent_dropout_takes_the_steps_of_the_cpu() {
    let (mut others, mut unmasked) = (0, 0);
    // Case 27 of a layer-normalized LSTM has weights that grow to 20 in three steps, on the CPU too.
    for seed in selected((0..27).chain(28..32)) {
        let cell = match seed {
            ..27 => [Cell::Lstm, Cell::Gru, Cell::Rnn][(seed % 3) as usize],
            _ => [Cell::LayerNormLstm, Cell::LayerNormGru][(seed % 2) as usize],
        };
        let example = changed_layer(example(cell, 700 + seed), |layer| {
            layer.zoneout_h = if seed % 5 == 4 && seed < 27 { 0.2 } else { 0.0 };
        });
        let (_, layer) = example.network.spec().layers.iter().find_map(LayerSpec::recurrent).unwrap();
        let rates = [(0.3, 0.4), (0.3, 0.0), (0.0, 0.4)][(seed / 3 % 3) as usize];
        // A layer-normalized row with a small variance enlarges what was rounded, from step to step.
        let learning_rate = if seed < 27 { 0.3 } else { 0.05 };
        let options = TrainOptions::new(example.loss).optimizer(Sgd { learning_rate, ..Sgd::default() });
        let on = |device: &Device, seed, (input, state)| {
            let dropout = RecurrentDropout::new("cell", input, state);
            let options = options.clone().recurrent_dropout(dropout).seed(seed);
            run(Trainer::new(device, &example.network, options).unwrap(), &example, 3)
        };
        let gpu = on(device(), 1, rates);
        let from_cpu = |seed, rates| difference(&gpu, &on(&Device::cpu(), seed, rates));
        let worst = from_cpu(1, rates);
        assert!(worst <= 2e-5, "case {seed}: {rates:?} {worst} off: {layer:#?}");
        // Negative controls: other masks, and none of one of the two.
        others += u64::from(from_cpu(2, rates) > 1e-4);
        let one = if rates.1 > 0.0 { (rates.0, 0.0) } else { (0.0, 0.0) };
        unmasked += u64::from(from_cpu(1, one) > 1e-4);
    }
    assert!((others > 25 && unmasked > 22) || !all_are_run(), "{others} and {unmasked} of 31");
}

/// The units that keep their state are drawn from integers: the same on every device.
#[test]
fn zoneout_takes_the_steps_of_the_cpu() {
    let mut others = 0;
    for seed in selected(0..24) {
        let cell = [Cell::Lstm, Cell::Gru, Cell::Rnn][(seed % 3) as usize];
        let example = changed_layer(example(cell, 100 + seed), |layer| {
            (layer.zoneout_h, layer.zoneout_c) = (0.3, if cell == Cell::Lstm { 0.5 } else { 0.0 });
        });
        let (_, layer) = example.network.spec().layers.iter().find_map(LayerSpec::recurrent).unwrap();
        let options = TrainOptions::new(example.loss).optimizer(Sgd { learning_rate: 0.05, ..Sgd::default() });
        let on = |device: &Device, seed| {
            run(Trainer::new(device, &example.network, options.clone().seed(seed)).unwrap(), &example, 3)
        };
        let (cpu, gpu) = (on(&Device::cpu(), 1), on(device(), 1));
        let worst = |other: &(Vec<f64>, Vec<(String, Vec<f32>)>)| difference(&cpu, other);
        assert!(worst(&gpu) <= 2e-5, "case {seed}: {} off: {layer:#?}", worst(&gpu));
        // Negative control: other units.
        others += u64::from(worst(&on(device(), 2)) > 1e-4);
    }
    assert!(others > 18 || !all_are_run(), "{others} of 24");
}

/// Steps that an application records and submits give the bits of the trainer's own.
#[test]
fn recorded_steps_are_steps() {
    let (_, wgpu_device, queue) = own_device(device().info());
    let device = Device::from_wgpu(wgpu_device.clone(), queue.clone());
    let example = example(Cell::Lstm, 500);
    let options = TrainOptions::new(example.loss).dropout(Dropout::elements("first", 0.3)).seed(4);
    let trainer = || Trainer::new(&device, &example.network, options.clone()).unwrap();
    let weights = |trainer: &Trainer| {
        let network = trainer.network().unwrap();
        network.tensors().values().flat_map(|tensor| tensor.data().to_vec()).map(f32::to_bits).collect::<Vec<u32>>()
    };
    let mut plain = trainer();
    let expected: Vec<_> = (0..5).map(|_| plain.step(&example.batch()).unwrap()).collect();
    let mut recorded = trainer();
    let mut found = Vec::new();
    // Two steps in one submission, then one, then two.
    for count in [2, 1, 2] {
        let mut encoder = wgpu_device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for _ in 0..count {
            recorded.encode(&mut encoder, &example.batch()).unwrap();
        }
        queue.submit([encoder.finish()]);
        found.extend(recorded.encoded().unwrap());
    }
    assert_eq!(found, expected);
    assert_eq!(weights(&recorded), weights(&plain));
    assert_eq!(recorded.steps(), 5);
    // Negative control: what is not submitted changes nothing.
    let mut idle = trainer();
    let before = weights(&idle);
    let mut encoder = wgpu_device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    idle.encode(&mut encoder, &example.batch()).unwrap();
    drop(encoder);
    assert_eq!(weights(&idle), before);
    let mut cpu = Trainer::new(&Device::cpu(), &example.network, options.clone()).unwrap();
    let mut encoder = wgpu_device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let error = cpu.encode(&mut encoder, &example.batch()).unwrap_err().to_string();
    assert!(error.contains("command encoder"), "{error}");
}

/// A session of a trainer reads its buffers: what it runs is the network after the latest step.
#[test]
fn a_session_follows_its_trainer() {
    for (seed, cell) in (400..).zip([Cell::Lstm, Cell::Gru, Cell::Rnn, Cell::LayerNormLstm]) {
        let stored = |example: &Example| example.network.tensors().contains_key("cell.initial_h");
        let example = (0..).map(|more| example(cell, seed + 10 * more)).find(|example| !stored(example)).unwrap();
        let options = TrainOptions::new(example.loss).weight_drop(WeightDrop::new("cell", 0.3));
        let mut trainer = Trainer::new(device(), &example.network, options).unwrap();
        let bits = |session: &Session| {
            let output = session.run(example.batch().input, None).unwrap();
            output.values.iter().map(|x| x.to_bits()).collect::<Vec<u32>>()
        };
        let fresh = |trainer: &Trainer| bits(&Session::new(device(), &trainer.network().unwrap()).unwrap());
        let session = trainer.session().unwrap();
        let before = bits(&session);
        assert_eq!(before, fresh(&trainer), "{cell:?}");
        for _ in 0..3 {
            trainer.step(&example.batch()).unwrap();
        }
        assert_eq!(bits(&session), fresh(&trainer), "{cell:?}");
        // Negative control: the weights moved.
        assert_ne!(bits(&session), before, "{cell:?}");
        // On the CPU it is a copy.
        let mut trainer = Trainer::new(&Device::cpu(), &example.network, TrainOptions::new(example.loss)).unwrap();
        let session = trainer.session().unwrap();
        let before = bits(&session);
        trainer.step(&example.batch()).unwrap();
        assert_eq!(bits(&session), before, "{cell:?}");
        assert_ne!(bits(&trainer.session().unwrap()), before, "{cell:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    let example = example(Cell::Gru, 5);
    let options = TrainOptions::new(example.loss).dropout(Dropout::elements("first", 0.3)).seed(3);
    let bits = || {
        let (losses, weights) = run(Trainer::new(device(), &example.network, options.clone()).unwrap(), &example, 5);
        let weights = weights.into_iter().flat_map(|(_, numbers)| numbers).map(f32::to_bits).collect::<Vec<_>>();
        (losses.into_iter().map(f64::to_bits).collect::<Vec<_>>(), weights)
    };
    assert_eq!(bits(), bits());
}

#[test]
fn every_cell_learns_a_batch() {
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn] {
        let layer = RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", 3, 24) };
        let layers =
            vec![LayerSpec::of_cell(cell, layer), dense("dense", 24, 4, true, Activation::Linear), LayerSpec::Softmax];
        let network = Network::initialized(spec(layers), Init::PyTorch, 3).unwrap();
        let mut rng = Rng::with_seed(1);
        let features: Vec<f32> = (0..6 * 8 * 3).map(|_| rng.f32() * 2.0 - 1.0).collect();
        let classes: Vec<u32> = (0..8).map(|row| row % 4).collect();
        let input = Input::features(&features, [6, 8, 3]);
        let batch = Batch { input, targets: Targets::Classes(&classes), weights: None };
        let options = TrainOptions::new(Loss::CrossEntropy).optimizer(Adam { learning_rate: 0.02, ..Adam::default() });
        let mut trainer = Trainer::new(device(), &network, options).unwrap();
        let measured = (0..200).map(|_| trainer.step(&batch).unwrap()).last().unwrap();
        assert!(measured.loss < 2e-3, "{cell:?}: {measured:?}");
        assert_eq!((measured.counts.correct, measured.counts.counted), (8, 8));
    }
}

#[test]
fn a_step_without_finite_gradients_is_left_out() {
    let mut example = example(Cell::Rnn, 1);
    let weights: Vec<f32> = vec![f32::MAX; example.rows()[2]];
    example.weights = Some(weights);
    let mut options = TrainOptions::new(example.loss);
    options.reduction = Reduction::Count;
    let mut trainer = Trainer::new(device(), &example.network, options).unwrap();
    let measured = trainer.step(&example.batch()).unwrap();
    assert!(measured.skipped, "{measured:?}");
    assert_eq!(*trainer.network().unwrap(), example.network);
    example.weights = None;
    assert!(!trainer.step(&example.batch()).unwrap().skipped);
    assert_ne!(*trainer.network().unwrap(), example.network);
}

/// 5 steps are 2 steps, a checkpoint and 3 steps, bit for bit; also behind a fit.
#[test]
fn a_checkpoint_goes_on_with_the_same_bits() {
    let example = example(Cell::Lstm, 7);
    let optimizer = Optimizer { clip: Some(Clip::Value { max: 0.1 }), ..AdamW::default().into() };
    let options = TrainOptions::new(example.loss).optimizer(optimizer).dropout(Dropout::elements("first", 0.3)).seed(3);
    let trainer = || Trainer::new(device(), &example.network, options.clone()).unwrap();
    let at_once = run(trainer(), &example, 5).1;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let mut first = trainer();
    for _ in 0..2 {
        first.step(&example.batch()).unwrap();
    }
    first.save_checkpoint(&path).unwrap();
    assert_eq!(run(Trainer::resume(device(), &path).unwrap(), &example, 3).1, at_once);
    // A control: without the optimizer's state it goes another way.
    let network = first.network().unwrap();
    assert_ne!(run(Trainer::new(device(), &network, options.clone()).unwrap(), &example, 3).1, at_once);
}

#[test]
fn a_fit_on_the_device_is_that_on_the_cpu() {
    let layer = RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", 1, 12) };
    let layers =
        vec![LayerSpec::of_cell(Cell::Gru, layer), dense("dense", 12, 2, true, Activation::Linear), LayerSpec::Softmax];
    let network = Network::initialized(spec(layers), Init::PyTorch, 3).unwrap();
    let mut rng = Rng::with_seed(4);
    let sequences: Vec<Vec<f32>> =
        (0..90).map(|_| (0..rng.usize(1..=6)).map(|_| rng.f32() * 2.0 - 1.0).collect()).collect();
    let classes = sequences.iter().map(|sequence: &Vec<f32>| u32::from(sequence.iter().sum::<f32>() > 0.0)).collect();
    let set = Dataset::features(sequences, 1, Answers::Classes(classes)).unwrap();
    let fitted = |device: &Device| {
        let rate = Adam { learning_rate: 0.02, ..Adam::default() };
        let options = TrainOptions::new(Loss::CrossEntropy).optimizer(rate).seed(1);
        let mut trainer = Trainer::new(device, &network, options).unwrap();
        let mut steps = 0;
        let fit = Fit::new(4).epochs(3);
        trainer
            .fit(&set, Some(&set), &fit, |event| {
                steps += usize::from(matches!(event, Event::Step { .. }));
                Next::Continue
            })
            .unwrap();
        (steps, trainer.evaluate_all(&set, 16).unwrap())
    };
    let (cpu, gpu) = (fitted(&Device::cpu()), fitted(device()));
    assert_eq!((cpu.0, gpu.0), (69, 69), "an event of every step");
    assert!((cpu.1.loss - gpu.1.loss).abs() < 1e-3, "{cpu:?} {gpu:?}");
    assert!(gpu.1.accuracy > 0.8, "{gpu:?}");
}

/// With all layers frozen nothing moves, on any device.
#[test]
fn frozen_networks_stay() {
    let example = example(Cell::Gru, 4);
    let names = ["embedding", "cell", "first", "second"];
    let has = |name: &&&str| example.network.spec().layers.iter().any(|layer| layer.name() == **name);
    for device in [&Device::cpu(), device()] {
        let options =
            names.iter().filter(has).fold(TrainOptions::new(example.loss), |options, name| options.freeze(*name));
        let mut trainer = Trainer::new(device, &example.network, options).unwrap();
        let measured = trainer.step(&example.batch()).unwrap();
        assert_eq!((measured.gradient_norm, measured.skipped), (0.0, false));
        assert_eq!(*trainer.network().unwrap(), example.network);
    }
}
