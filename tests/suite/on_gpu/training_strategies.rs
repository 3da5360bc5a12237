//! Training with every strategy of the backward pass, on the device against the f64 reference.

use fastrand::Rng;
use gatefold::network::{Activation, Cell, Init, LayerSpec, MaskedOutput, Network, RecurrentOutput, RecurrentSpec};
use gatefold::train::{Loss, RecurrentDropout, Sgd, TrainOptions, Trainer};
use gatefold::unstable::plan::{BackwardRung, Kernel, PlanParts, TrainKernel};
use gatefold::{Device, Plan, RunShape, Strategy};

use super::training::{difference, example};
use super::training_example::{Example, TOLERANCE, dense, errors, run};
use crate::common::{changed, device, own_device, spec};

const STRATEGIES: [Strategy; 3] = [Strategy::Step, Strategy::Tile, Strategy::Sequence];

/// The plan of a step.
fn plan(example: &Example, options: &TrainOptions) -> Plan {
    let [_, batch, _] = example.rows();
    let steps = example.shape[usize::from(example.network.batch_first())];
    let mut shape = RunShape::new(steps, batch);
    shape.masked = example.lengths.is_some();
    options.plan(&example.network, shape, &device().limits()).unwrap()
}

/// How the timesteps go back, by the kernels of a plan.
fn rungs(plan: &Plan) -> Vec<BackwardRung> {
    let kernels = PlanParts::of(plan).dispatches.iter().filter_map(|dispatch| match dispatch.kernel {
        Kernel::Train(TrainKernel::RecurrentBackward(kernel)) => Some(kernel.rung),
        _ => None,
    });
    kernels.collect()
}

fn rung(strategy: Strategy, split: Option<u32>) -> BackwardRung {
    match strategy {
        Strategy::Tile if split.is_none() && device().limits().software => BackwardRung::Direct,
        Strategy::Tile => BackwardRung::Tile,
        Strategy::Sequence => BackwardRung::Sequence,
        _ => BackwardRung::Step,
    }
}

/// The strategy that runs a level where `strategy` is asked for.
fn expected(example: &Example, strategy: Strategy) -> Strategy {
    let (_, layer) = example.network.spec().layers.iter().find_map(LayerSpec::recurrent).unwrap();
    let recurrence = example.network.stages().iter().find_map(|stage| stage.recurrent()).unwrap().recurrence;
    let halves = layer.proj_size > 0 || recurrence == gatefold::network::Recurrence::Gru { reset_after: false };
    match strategy {
        Strategy::Sequence if halves || recurrence.normalization().is_some() => Strategy::Step,
        strategy => strategy,
    }
}

/// Random networks of `cell`: some that the strategy `sequence` runs, some that it does not.
fn examples(cell: Cell, [served, others]: [usize; 2]) -> Vec<Example> {
    let of = |is_served: bool, count: usize| {
        let is_such = move |one: &Example| (expected(one, Strategy::Sequence) == Strategy::Sequence) == is_served;
        (1000..).map(move |seed| example(cell, seed)).filter(is_such).take(count)
    };
    of(true, served).chain(of(false, others)).collect()
}

/// Random networks with every strategy that is asked for.
fn battery(cell: Cell, split: Option<u32>, counts: [usize; 2]) {
    let mut found = 0;
    for (case, example) in examples(cell, counts).iter().enumerate() {
        for strategy in STRATEGIES {
            let mut options = example.options().strategy(strategy);
            options.split = split;
            let runs = expected(example, strategy);
            let plan = plan(example, &options);
            assert!(!plan.backward.is_empty(), "{plan}");
            assert!(plan.backward.iter().all(|choice| choice.strategy == runs), "case {case}: {runs}\n{plan}");
            assert!(rungs(&plan).iter().all(|&one| one == rung(runs, split)) && !rungs(&plan).is_empty(), "{plan}");
            found += usize::from(runs == strategy);
            let (error, tensor) = example.worst_of(&Trainer::new(device(), &example.network, options).unwrap());
            let layers = example.network.spec();
            assert!(error <= 1.0, "case {case}, {strategy}: {tensor} is {error} tolerances off: {layers:#?}");
        }
    }
    let [served, others] = counts;
    assert_eq!(found, 3 * served + 2 * others);
}

#[test]
fn lstms_agree() {
    battery(Cell::Lstm, None, [3, 1]);
}

#[test]
fn grus_agree() {
    battery(Cell::Gru, None, [2, 1]);
}

#[test]
fn rnns_agree() {
    battery(Cell::Rnn, None, [2, 0]);
}

#[test]
fn layer_normalized_lstms_agree() {
    battery(Cell::LayerNormLstm, None, [0, 1]);
}

/// Invocations that share a sum, as on GPUs. Then a software adapter runs the tiles of GPUs too.
#[test]
fn shared_sums_agree() {
    battery(Cell::Lstm, Some(4), [2, 1]);
    battery(Cell::Gru, Some(2), [1, 1]);
    battery(Cell::Rnn, Some(1), [1, 0]);
}

/// A weight that differs by a hundredth is seen with every strategy.
#[test]
fn another_networks_gradients_are_seen() {
    let right = examples(Cell::Lstm, [1, 0]).remove(0);
    let (_, exact) = right.reference::<f64>();
    let name = "cell.weight_hh_l0";
    let network = changed(&right.network, name, |numbers| numbers.iter_mut().for_each(|x| *x *= 1.01));
    for strategy in STRATEGIES {
        let trainer = Trainer::new(device(), &network, right.options().strategy(strategy)).unwrap();
        let got = trainer.gradients(&right.batch()).unwrap();
        let errors = errors(&exact, |name| got[name].data().iter().map(|&x| x.into()).collect());
        assert!(errors[name] > 100.0 * TOLERANCE, "{strategy}: {errors:?}");
    }
}

/// A layer of one kind with a batch of random numbers, and an answer for each timestep.
fn plain(cell: Cell, hidden: usize, [steps, batch]: [usize; 2], change: impl Fn(&mut RecurrentSpec)) -> Example {
    let mut layer = RecurrentSpec::new("cell", 3, hidden);
    layer.output = RecurrentOutput::Sequence;
    layer.masked_output = MaskedOutput::Previous;
    change(&mut layer);
    let width = layer.output_size();
    let layers = vec![LayerSpec::of_cell(cell, layer), dense("dense", width, 2, true, Activation::Linear)];
    let network = Network::initialized(spec(layers), Init::PyTorch, 5).unwrap();
    let mut rng = Rng::with_seed(6);
    Example {
        network,
        loss: Loss::Mse,
        tokens: Vec::new(),
        features: (0..steps * batch * 3).map(|_| 2.0 * rng.f32() - 1.0).collect(),
        shape: [steps, batch, 3],
        lengths: Some((0..batch).map(|row| if row == 0 { steps } else { rng.usize(1..=steps) }).collect()),
        classes: Vec::new(),
        values: (0..steps * batch * 2).map(|_| rng.f32()).collect(),
        weights: None,
    }
}

/// Units, rows and timesteps that take several turns: more units than a workgroup has invocations, rows that fill several
/// workgroups but not the last, more timesteps than a software adapter runs in a dispatch.
#[test]
fn large_layers_agree() {
    let cases =
        [(Cell::Rnn, 300, [3, 5]), (Cell::Gru, 130, [3, 19]), (Cell::Lstm, 2, [1300, 5]), (Cell::Lstm, 70, [4, 37])];
    let (_, wgpu_device, queue) = own_device(device().info());
    // Of WebGPU's least limits: 256 invocations.
    let least = Device::from_wgpu(wgpu_device, queue);
    for (cell, hidden, shape) in cases {
        let example = plain(cell, hidden, shape, |layer| layer.bidirectional = true);
        // The steps one by one are those of the other tests.
        for strategy in [Strategy::Sequence, Strategy::Tile].into_iter().take(if shape[0] > 1000 { 1 } else { 2 }) {
            let options = example.options().strategy(strategy);
            let planned = options.plan(&example.network, RunShape::new(shape[0], shape[1]), &least.limits()).unwrap();
            assert!(planned.backward.iter().all(|choice| choice.strategy == strategy), "{planned}");
            let back = |dispatch: &&gatefold::unstable::plan::Dispatch| {
                matches!(dispatch.kernel, Kernel::Train(TrainKernel::RecurrentBackward(_)))
            };
            let repeats: u32 = PlanParts::of(&planned).dispatches.iter().filter(back).map(|one| one.repeat).sum();
            let all = u32::try_from(shape[0]).unwrap();
            match strategy {
                Strategy::Sequence if shape[0] > 1000 && least.limits().software => {
                    assert!(repeats > 1 && repeats < all / 10, "{planned}");
                }
                Strategy::Sequence => assert!(repeats < all, "{planned}"),
                _ => assert_eq!(repeats, all, "{planned}"),
            }
            let (error, tensor) = example.worst_of(&Trainer::new(&least, &example.network, options).unwrap());
            assert!(error <= 1.0, "{cell:?} {hidden} {shape:?}, {strategy}: {tensor} is {error} tolerances off");
        }
    }
}

/// Two runs with a strategy have the same bits; dropout of the state goes back with what runs it.
#[test]
fn steps_are_repeated_bit_for_bit() {
    for cell in [Cell::Lstm, Cell::Gru] {
        let example = plain(cell, 21, [7, 18], |layer| layer.bidirectional = true);
        for strategy in STRATEGIES {
            let of = |dropped: f64, seed| {
                let options = TrainOptions::new(example.loss).optimizer(Sgd { learning_rate: 0.1, ..Sgd::default() });
                let options = options.strategy(strategy).seed(seed);
                if dropped > 0.0 { options.recurrent_dropout(RecurrentDropout::new("cell", 0.0, 0.3)) } else { options }
            };
            let on = |device: &Device, options: TrainOptions| {
                run(Trainer::new(device, &example.network, options).unwrap(), &example, 2)
            };
            let once = on(device(), of(0.0, 1));
            assert!(once == on(device(), of(0.0, 1)), "{cell:?} {strategy}: other bits");
            let dropped = on(device(), of(0.3, 1));
            assert!(once != dropped, "{cell:?} {strategy}: nothing was dropped");
            let worst = difference(&dropped, &on(&Device::cpu(), of(0.3, 1)));
            assert!(worst <= 2e-5, "{cell:?} {strategy}: {worst} off");
            assert!(difference(&dropped, &on(&Device::cpu(), of(0.3, 2))) > 1e-4, "{cell:?} {strategy}: other masks");
        }
    }
}
