//! Training of networks of all kinds of layers on the device against the f64 reference and the CPU.

use fastrand::Rng;
use gatefold::network::{Init, LayerSpec, Network, RecurrentSpec};
use gatefold::train::{
    Average, Batch, Convention, Dropout, Loss, MaxNorm, Sgd, Targets, TrainOptions, Trainer, WeightDrop,
};
use gatefold::unstable::reference::{self, LossOptions, Reference};
use gatefold::{Device, Input, NamedInput};

use super::training_example::{Example, FUNCTIONS, TOLERANCE, errors, run};
use crate::common::{all_are_run, changed, device, selected, spec};

/// Layers as they are written in a file, with the width of what flows between them.
struct Layers {
    layers: Vec<LayerSpec>,
    width: usize,
    sequence: bool,
    /// Whether the caller's arrays are `[B, T, ..]`.
    batch_first: bool,
    rng: Rng,
}

impl Layers {
    fn add(&mut self, text: &str) {
        self.layers.push(serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}")));
    }

    fn name(&self) -> String {
        format!("layer{}", self.layers.len())
    }

    fn function(&mut self) -> String {
        serde_json::to_string(&FUNCTIONS[self.rng.usize(0..FUNCTIONS.len())]).unwrap()
    }

    fn dense(&mut self, outputs: usize) -> String {
        let (name, inputs, function, bias) = (self.name(), self.width, self.function(), self.rng.bool());
        self.add(&format!(
            r#"{{"type": "dense", "name": "{name}", "in_features": {inputs}, "out_features": {outputs}, "bias": {bias},
                "activation": {function}}}"#
        ));
        self.width = outputs;
        name
    }

    fn padding(&mut self) -> String {
        let [left, right] = [(); 2].map(|()| self.rng.usize(0..3));
        if self.rng.bool() {
            r#""same""#.into()
        } else {
            format!(r#"{{"zeros": {{"left": {left}, "right": {right}}}}}"#)
        }
    }

    fn convolution(&mut self) {
        let groups = if self.width.is_multiple_of(2) { self.rng.usize(1..3) } else { 1 };
        let outputs = groups * self.rng.usize(2..9);
        let (name, inputs, function, padding) = (self.name(), self.width, self.function(), self.padding());
        let [kernel, stride, dilation] = [4, 3, 3].map(|most| self.rng.usize(1..most));
        let bias = self.rng.bool();
        self.add(&format!(
            r#"{{"type": "conv1d", "name": "{name}", "in_channels": {inputs}, "out_channels": {outputs}, "bias": {bias},
                "kernel_size": {kernel}, "stride": {stride}, "dilation": {dilation}, "groups": {groups},
                "padding": {padding}, "activation": {function}}}"#
        ));
        self.width = outputs;
    }

    fn norm(&mut self, kind: &str) {
        let (name, width, weight, bias) = (self.name(), self.width, self.rng.bool(), self.rng.bool());
        self.add(&format!(
            r#"{{"type": "{kind}", "name": "{name}", "num_features": {width}, "eps": 0.01, "weight": {weight},
                "bias": {bias}}}"#
        ));
    }

    fn pool(&mut self) -> String {
        [r#""max""#, r#""average""#, r#""sum""#][self.rng.usize(0..3)].into()
    }

    /// A random layer, or several that belong together.
    fn random(&mut self) {
        let name = self.name();
        match self.rng.usize(0..if self.sequence { 16 } else { 8 }) {
            0 => {
                // Of a tensor of few numbers nothing says how much is rounded.
                let outputs = self.rng.usize(4..40);
                self.dense(outputs);
            }
            1 => self.norm("layer_norm"),
            2 if self.rng.bool() => self.add(r#"{"type": "softmax"}"#),
            2 => self.add(&format!(r#"{{"type": "log_softmax", "name": "{name}"}}"#)),
            3 => {
                let function = self.function();
                self.add(&format!(r#"{{"type": "activation", "name": "{name}", "activation": {function}}}"#));
            }
            4 => {
                let outputs = self.rng.usize(4..20);
                let (inputs, first) = (self.width, self.dense(outputs));
                let mut branches = vec![first];
                for _ in 0..self.rng.usize(1..3) {
                    let before = branches[0].clone();
                    let source = if self.rng.bool() || self.layers.len() < 2 { before } else { self.behind(&before) };
                    self.add(&format!(r#"{{"type": "from", "layer": "{source}"}}"#));
                    self.width = if source == branches[0] { outputs } else { inputs };
                    branches.push(self.dense(outputs));
                }
                let join = ["mul", "max", "add", "average", "sub"][self.rng.usize(0..5)];
                let name = self.name();
                self.add(&format!(r#"{{"type": "join", "name": "{name}", "inputs": {branches:?}, "join": "{join}"}}"#));
            }
            5 => self.norm("batch_norm"),
            6 => {
                let start = self.rng.usize(0..self.width.div_ceil(2));
                let count = self.rng.usize(1..=self.width - start);
                self.add(&format!(r#"{{"type": "channels", "name": "{name}", "start": {start}, "count": {count}}}"#));
                self.width = count;
            }
            7 => {
                // A gate of width 1 for all channels.
                let width = self.width;
                let first = self.dense(width);
                self.dense(1);
                let gate = self.layers.last().unwrap().name().to_owned();
                self.add(&format!(
                    r#"{{"type": "join", "name": "{}", "inputs": ["{first}", "{gate}"], "join": "mul"}}"#,
                    self.name()
                ));
                self.width = width;
            }
            8 => self.convolution(),
            9 => {
                let (pool, padding, pad) = (self.pool(), self.padding(), self.rng.bool());
                let [kernel, stride] = [(); 2].map(|()| self.rng.usize(1..4));
                let count = format!(r#", "count_include_pad": {}"#, pad && pool.contains("average"));
                self.add(&format!(
                    r#"{{"type": "pool1d", "name": "{name}", "pool": {pool}, "kernel_size": {kernel},
                        "stride": {stride}, "padding": {padding}{count}}}"#
                ));
            }
            10 => self.add(&format!(r#"{{"type": "reverse", "name": "{name}"}}"#)),
            11 => self.add(&format!(r#"{{"type": "time_softmax", "name": "{name}"}}"#)),
            12 => {
                let (start, step) = (self.rng.i32(-4..2), self.rng.usize(1..3));
                self.add(&format!(
                    r#"{{"type": "slice", "name": "{name}", "start": {start}, "end": 9, "step": {step}}}"#
                ));
            }
            13 => {
                let [left, right] = [(); 2].map(|()| self.rng.i32(-1..3));
                self.add(&format!(r#"{{"type": "pad", "name": "{name}", "left": {left}, "right": {right}}}"#));
            }
            14 => {
                // The last valid row beside every timestep, and a row as a short sequence.
                let width = self.width;
                let before = self.dense(width);
                let step = ["last_valid", "first"][self.rng.usize(0..2)];
                self.add(&format!(r#"{{"type": "select", "name": "{}", "step": "{step}"}}"#, self.name()));
                let row = self.layers.last().unwrap().name().to_owned();
                if self.rng.bool() {
                    self.add(&format!(r#"{{"type": "repeat", "name": "{}", "times": 4}}"#, self.name()));
                    self.add(&format!(
                        r#"{{"type": "reshape", "name": "{}", "in_steps": 4, "out_steps": 2}}"#,
                        self.name()
                    ));
                    self.width = 2 * width;
                    if self.rng.bool() {
                        self.add(&format!(r#"{{"type": "transpose", "name": "{}", "steps": 2}}"#, self.name()));
                        self.width = 2;
                    }
                } else {
                    let join = ["add", "mul", "concat"][self.rng.usize(0..3)];
                    let name = self.name();
                    self.add(&format!(
                        r#"{{"type": "join", "name": "{name}", "inputs": ["{row}", "{before}"], "join": "{join}"}}"#
                    ));
                    self.width = if join == "concat" { 2 * width } else { width };
                }
            }
            _ => {
                let hidden = self.rng.usize(4..12);
                let (inputs, first, stored) = (self.width, self.batch_first, self.rng.bool());
                self.add(&format!(
                    r#"{{"type": "gru", "name": "{name}", "input_size": {inputs}, "hidden_size": {hidden},
                        "initial_state": {stored}, "batch_first": {first}}}"#
                ));
                self.width = hidden;
            }
        }
    }

    /// The layer before the one of this name, if it has a name.
    fn behind(&self, name: &str) -> String {
        let at = self.layers.iter().position(|layer| layer.name() == name).unwrap();
        let before = self.layers[at - 1].name();
        if before.is_empty() || matches!(self.layers[at - 1], LayerSpec::From(_)) { name.into() } else { before.into() }
    }
}

/// A random network with a random batch; `None` for one that cannot run.
fn example(seed: u64) -> Option<Example> {
    let mut rng = Rng::with_seed(seed);
    let (inputs, embedded) = (rng.usize(1..12), rng.bool());
    let mask_zero = rng.bool();
    let mut layers = Layers { layers: Vec::new(), width: inputs, sequence: true, batch_first: rng.bool(), rng };
    match embedded {
        true => layers.add(&format!(
            r#"{{"type": "embedding", "name": "embedding", "num_embeddings": 30, "embedding_dim": {inputs},
                "mask_zero": {mask_zero}}}"#
        )),
        false => layers.add(&format!(r#"{{"type": "input", "input_size": {inputs}}}"#)),
    }
    // One layer says what the caller's arrays look like.
    let first = layers.batch_first;
    layers.add(&format!(
        r#"{{"type": "rnn", "name": "rnn", "input_size": {inputs}, "hidden_size": 8, "batch_first": {first},
            "initial_state": true}}"#
    ));
    layers.width = 8;
    for _ in 0..layers.rng.usize(1..4) {
        layers.random();
    }
    match layers.rng.usize(0..4) {
        0 => {}
        1 => {
            let name = layers.name();
            layers.add(&format!(r#"{{"type": "select", "name": "{name}", "step": "last"}}"#));
            layers.sequence = false;
        }
        _ => {
            let (name, pool) = (layers.name(), layers.pool());
            layers.add(&format!(r#"{{"type": "global_pool", "name": "{name}", "pool": {pool}}}"#));
            layers.sequence = false;
        }
    }
    if layers.rng.bool() {
        layers.random();
    }
    let outputs = layers.rng.usize(2..7);
    layers.dense(outputs);
    if layers.rng.bool() {
        layers.add(r#"{"type": "softmax"}"#);
    }
    let Layers { layers, mut rng, batch_first, .. } = layers;
    let losses = [Loss::CrossEntropy, Loss::Mse, Loss::Huber { delta: 0.3 }];
    let loss = losses[rng.usize(0..losses.len())];
    let mut network = Network::initialized(spec(layers), Init::PyTorch, seed).unwrap();
    for name in network.tensors().keys().cloned().collect::<Vec<_>>() {
        // What begins as 0 or 1 throughout shows few mistakes.
        let least = if name.ends_with("running_var") { 0.0 } else { -0.3 };
        network = changed(&network, &name, |numbers| numbers.iter_mut().for_each(|x| *x += rng.f32() * 0.6 + least));
    }
    let (steps, batch) = (rng.usize(3..10), rng.usize(1..9));
    network.stage_steps(steps).ok()?;
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
    if !(embedded && mask_zero) && rng.bool() {
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
    // A recurrence behind a change of the timesteps takes no lengths.
    Reference::<f32>::new(&example.network).forward(example.batch().input, None).ok()?;
    Some(example)
}

#[test]
fn gradients_of_all_layers_agree() {
    let mut found = std::collections::BTreeMap::<&str, usize>::new();
    for (seed, example) in selected(0..220).filter_map(|seed| Some((seed, example(seed)?))) {
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "case {seed}: {tensor} is {error} tolerances off: {:#?}", example.network.spec());
        let text = format!("{:?}", example.network.stages());
        for kind in [
            "eps: Some",
            "Conv1d",
            "Pool1d",
            "GlobalPool",
            "LayerNorm",
            "Softmax",
            "Join(Mul)",
            "Join(Max)",
            "InitialH",
            "log: true",
            "TimeSoftmax",
            "Repeat",
            "Reshape",
            "Transpose",
            "Slice",
            "Pad ",
            "Channels",
            "Expand",
            "Widen",
            "LastValid",
            "GlobalPool(Sum)",
            "Join(Sub)",
        ] {
            *found.entry(kind).or_default() += usize::from(text.contains(kind));
        }
    }
    let all_are_found = found.len() == 22 && found.values().all(|&cases| cases >= 5);
    assert!(all_are_found || !all_are_run(), "{found:?}");
}

/// Controls: a number of a tensor that differs by a hundredth is seen, whatever the layer.
#[test]
fn other_layers_gradients_are_seen() {
    let mut seen = 0;
    for right in (0..40).filter_map(example) {
        let got = right.trainer().gradients(&right.batch()).unwrap();
        for name in right.network.tensors().keys().filter(|name| name.starts_with("layer")) {
            let network = changed(&right.network, name, |numbers| numbers.iter_mut().for_each(|x| *x *= 1.01));
            let other = Example { network, ..right.clone() };
            let errors =
                errors(&other.reference::<f64>().1, |name| got[name].data().iter().map(|&x| x.into()).collect());
            seen += usize::from(errors.values().any(|&error| error > 50.0 * TOLERANCE));
        }
    }
    assert!(seen >= 40, "{seen}");
}

/// Sequences so long that windows, pools and states of a layer-normalized LSTM are cut into several dispatches.
#[test]
fn gradients_of_long_sequences_agree() {
    let conv = r#"[{"type": "input", "input_size": 256}, {"type": "conv1d", "name": "conv", "in_channels": 256,
        "out_channels": 8, "kernel_size": 16, "stride": 1, "padding": "same", "activation": "tanh"},
        {"type": "global_pool", "name": "pool", "pool": "average"},
        {"type": "dense", "name": "dense", "in_features": 8, "out_features": 3}]"#;
    let pool = r#"[{"type": "input", "input_size": 2}, {"type": "dense", "name": "first", "in_features": 2, "out_features": 4},
        {"type": "pool1d", "name": "pool", "pool": "max", "kernel_size": 4, "stride": 1},
        {"type": "global_pool", "name": "all", "pool": "average"},
        {"type": "dense", "name": "dense", "in_features": 4, "out_features": 3}]"#;
    let lstm = r#"[{"type": "layer_norm_lstm", "name": "lstm", "input_size": 2, "hidden_size": 5, "output": "last"},
        {"type": "dense", "name": "dense", "in_features": 5, "out_features": 3}]"#;
    for (layers, shape) in [(conv, [600, 8, 256]), (pool, [9000, 1, 2]), (lstm, [1200, 2, 2])] {
        let network = Network::initialized(spec(serde_json::from_str(layers).unwrap()), Init::PyTorch, 3).unwrap();
        let mut rng = Rng::with_seed(4);
        let example = Example {
            network,
            loss: Loss::Mse,
            tokens: Vec::new(),
            features: (0..shape.iter().product()).map(|_| rng.f32() * 2.0 - 1.0).collect(),
            shape,
            lengths: None,
            classes: Vec::new(),
            values: (0..shape[1] * 3).map(|_| rng.f32()).collect(),
            weights: None,
        };
        let (error, tensor) = example.worst();
        assert!(error <= 1.0, "{layers}: {tensor} is {error} tolerances off");
    }
}

#[test]
fn steps_of_all_layers_are_those_of_the_cpu() {
    for (seed, example) in selected(200..230).filter_map(|seed| Some((seed, example(seed)?))) {
        let options = TrainOptions::new(example.loss)
            // Adam makes whole steps of gradients that are 0 but for rounding, as before a normalization.
            .optimizer(Sgd { learning_rate: 0.05, momentum: 0.9, ..Sgd::default() })
            .dropout(Dropout::elements("rnn", 0.3))
            .seed(seed);
        let on = |device| run(Trainer::new(device, &example.network, options.clone()).unwrap(), &example, 5);
        let (cpu, gpu) = (on(&Device::cpu()), on(device()));
        for (expected, got) in cpu.0.iter().zip(&gpu.0) {
            assert!((expected - got).abs() <= 2e-5 * expected.abs().max(1.0), "case {seed}: {:?} {:?}", cpu.0, gpu.0);
        }
        for ((name, expected), (_, got)) in cpu.1.iter().zip(&gpu.1) {
            let largest = expected.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
            let error = expected.iter().zip(got).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest;
            assert!(error <= 1e-3, "case {seed}: {name} is {error} off");
        }
    }
}

/// Five steps of a batch normalization, with lengths, are those of PyTorch and of Keras.
#[test]
fn batch_normalizations_follow_pytorch_and_keras() {
    crate::pure::batch_norm::assert_follows(device());
}

/// Weight drop, bounds of rows and an average go the CPU's way; without each they go another.
#[test]
fn regularizations_are_those_of_the_cpu() {
    for convention in [Convention::PyTorch, Convention::Keras] {
        let layer = RecurrentSpec { num_layers: 2, bidirectional: true, ..RecurrentSpec::new("gru", 3, 9) };
        let dense = r#"{"type": "dense", "name": "dense", "in_features": 18, "out_features": 2}"#;
        let layers = vec![LayerSpec::Gru(layer), serde_json::from_str(dense).unwrap()];
        let network = Network::initialized(spec(layers), Init::PyTorch, 7).unwrap();
        let mut rng = Rng::with_seed(8);
        let mut numbers = |count: usize| (0..count).map(|_| rng.f32() - 0.5).collect::<Vec<f32>>();
        let (features, values) = (numbers(5 * 4 * 3), numbers(5 * 4 * 2));
        let batch =
            Batch { input: Input::features(&features, [5, 4, 3]), targets: Targets::Values(&values), weights: None };
        let plain = || TrainOptions::new(Loss::Mse).optimizer(Sgd { learning_rate: 0.3, ..Sgd::default() }).seed(5);
        let average = Average { convention, ..Average::new(0.7) };
        let drop = || plain().weight_drop(WeightDrop::new("gru", 0.4));
        let bound = |options: TrainOptions| options.max_norm(MaxNorm::new("gru", 0.7));
        // The weights, or their average.
        let after = |device: &Device, options: TrainOptions| {
            let mut trainer = Trainer::new(device, &network, options).unwrap();
            assert!(trainer.averaged().unwrap().is_none());
            let losses: Vec<f64> = (0..4).map(|_| trainer.step(&batch).unwrap().loss).collect();
            let network = match trainer.averaged().unwrap() {
                Some(averaged) => averaged,
                None => Network::clone(&*trainer.network().unwrap()),
            };
            let evaluated = trainer.evaluate(&batch).unwrap().loss;
            let weights: Vec<f32> = network.tensors().values().flat_map(|tensor| tensor.data().to_vec()).collect();
            (weights, [losses, vec![evaluated]].concat())
        };
        let same = |a: &(Vec<f32>, Vec<f64>), b: &(Vec<f32>, Vec<f64>)| {
            let weights = a.0.iter().zip(&b.0).all(|(a, b)| (a - b).abs() < 1e-5);
            weights && a.1.iter().zip(&b.1).all(|(a, b)| (a - b).abs() < 1e-5)
        };
        for options in [drop(), bound(plain()), plain().average(average), bound(drop()).average(average)] {
            let (cpu, gpu) = (after(&Device::cpu(), options.clone()), after(device(), options.clone()));
            assert!(same(&cpu, &gpu), "{options:?}: {:?} {:?}", cpu.1, gpu.1);
            assert!(!same(&after(device(), plain()), &gpu), "{options:?} changes nothing");
        }
        // A checkpoint keeps the average.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("last.safetensors");
        let options = bound(drop()).average(average);
        let mut first = Trainer::new(device(), &network, options.clone()).unwrap();
        first.step(&batch).unwrap();
        first.save_checkpoint(&path).unwrap();
        let mut second = Trainer::resume(device(), &path).unwrap();
        for trainer in [&mut first, &mut second] {
            trainer.step(&batch).unwrap();
        }
        let averages = [first, second].map(|trainer| trainer.averaged().unwrap().unwrap());
        assert_eq!(averages[0], averages[1]);
    }
}

/// A network of a series and fixed features, joined, whose gradients are the reference's and the CPU's.
#[test]
fn gradients_of_several_inputs_agree() {
    let layers = r#"[{"type": "input", "name": "series", "input_size": 3},
        {"type": "gru", "name": "gru", "input_size": 3, "hidden_size": 5},
        {"type": "input", "name": "words", "kind": "tokens"},
        {"type": "embedding", "name": "table", "num_embeddings": 6, "embedding_dim": 4},
        {"type": "lstm", "name": "lstm", "input_size": 4, "hidden_size": 3, "output": "last"},
        {"type": "input", "name": "fixed", "kind": "row", "input_size": 2},
        {"type": "join", "name": "both", "inputs": ["gru", "lstm", "fixed"], "join": "concat"},
        {"type": "dense", "name": "head", "in_features": 10, "out_features": 2}]"#;
    let network = Network::initialized(spec(serde_json::from_str(layers).unwrap()), Init::PyTorch, 3).unwrap();
    let mut rng = Rng::with_seed(4);
    let mut numbers = |count: usize| (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect::<Vec<f32>>();
    let (series, fixed, values) = (numbers(5 * 3 * 3), numbers(3 * 2), numbers(5 * 3 * 2));
    let words = [5u32, 1, 2, 2, 0, 3, 1, 4, 4, 4, 4, 0];
    // The words have other timesteps, and lengths of their own.
    let others = [
        NamedInput::rows("fixed", &fixed[..], [3, 2]),
        NamedInput::tokens("words", &words[..], [4, 3]).with_lengths(&[4, 1, 2][..]),
    ];
    let input = Input::features(&series, [5, 3, 3]).with_others(&others);
    let batch = Batch { input, targets: Targets::Values(&values), weights: None };
    let reference = Reference::<f64>::new(&network);
    let forward = reference.forward(input, None).unwrap();
    let last = network.stages().len() - 1;
    let wide: Vec<f64> = values.iter().map(|&x| x.into()).collect();
    let options = LossOptions::default();
    let loss = reference::loss(Loss::Mse, &forward.stages[last], 2, Targets::Values(&wide), &options).unwrap();
    let exact = reference.gradients(input, None, &forward, (last, &loss.d_output)).unwrap().params;
    for device in [&Device::cpu(), device()] {
        let trainer = Trainer::new(device, &network, TrainOptions::new(Loss::Mse)).unwrap();
        let got = trainer.gradients(&batch).unwrap();
        let found = errors(&exact, |name| got[name].data().iter().map(|&x| x.into()).collect());
        assert!(found.values().all(|&error| error <= TOLERANCE), "{found:?}");
        // Negative control: the gradient of the table is not that of other words.
        let others = [others[0].clone(), NamedInput::tokens("words", vec![1; 12], [4, 3])];
        let input = Input::features(&series, [5, 3, 3]).with_others(&others);
        let wrong = trainer.gradients(&Batch { input, ..batch }).unwrap();
        let found = errors(&exact, |name| wrong[name].data().iter().map(|&x| x.into()).collect());
        assert!(found["table.weight"] > 0.1, "{found:?}");
    }
}
