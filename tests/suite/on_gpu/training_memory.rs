//! Training within a memory budget: intervals of time instead of all timesteps.

use std::collections::BTreeMap;

use fastrand::Rng;
use gatefold::network::{
    Activation, Cell, CellNorm, DenseSpec, GateNorm, Init, LayerSpec, MaskedOutput, Network, RecurrentSpec,
};
use gatefold::train::{Batch, Loss, RecurrentDropout, Targets, TrainOptions, Trainer};
use gatefold::{Error, Input, Plan, PlanLimits, RunShape, Strategy};

use crate::common::{device, selected, spec};

/// T and B: two blocks of 16 timesteps and half a block.
const SHAPE: [usize; 2] = [40, 64];
const INPUTS: usize = 5;

type Change = fn(&mut RecurrentSpec);

/// Two levels of a cell, and a class for each timestep.
fn network(cell: Cell, change: impl Fn(&mut RecurrentSpec)) -> Network {
    let mut layer = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("cell", INPUTS, 7) };
    change(&mut layer);
    let width = layer.output_size();
    let dense = DenseSpec {
        name: "dense".into(),
        in_features: width,
        out_features: 3,
        bias: true,
        activation: Activation::Linear,
    };
    let layers = vec![LayerSpec::of_cell(cell, layer), LayerSpec::Dense(dense)];
    Network::initialized(spec(layers), Init::PyTorch, 3).unwrap()
}

pub fn intervals(plan: &Plan) -> usize {
    plan.reasons.iter().filter(|reason| reason.contains("intervals")).count()
}

/// The plan of a step within `memory` bytes.
pub fn plan(network: &Network, masked: bool, memory: Option<u64>) -> gatefold::Result<Plan> {
    plan_with(network, masked, (memory, &TrainOptions::new(Loss::CrossEntropy)))
}

fn plan_with(
    network: &Network,
    masked: bool,
    (memory, options): (Option<u64>, &TrainOptions),
) -> gatefold::Result<Plan> {
    let mut shape = RunShape::new(SHAPE[0], SHAPE[1]);
    shape.masked = masked;
    let mut options = options.clone();
    options.memory = memory;
    options.plan(network, shape, &PlanLimits { software: true, ..PlanLimits::default() })
}

/// The gradients of a batch within `memory` bytes, and the final weights of two steps.
pub fn trained(network: &Network, masked: bool, memory: Option<u64>) -> Vec<BTreeMap<String, Vec<u32>>> {
    trained_with(network, masked, (memory, &TrainOptions::new(Loss::CrossEntropy)))
}

fn trained_with(
    network: &Network,
    masked: bool,
    (memory, options): (Option<u64>, &TrainOptions),
) -> Vec<BTreeMap<String, Vec<u32>>> {
    let [steps, batch] = SHAPE;
    let mut rng = Rng::with_seed(5);
    let features: Vec<f32> = (0..steps * batch * INPUTS).map(|_| rng.f32() * 2.0 - 1.0).collect();
    let classes: Vec<u32> = (0..steps * batch).map(|_| rng.u32(..3)).collect();
    let lengths: Vec<usize> = (0..batch).map(|row| if row == 0 { steps } else { rng.usize(1..=steps) }).collect();
    let input = Input::features(&features, [steps, batch, INPUTS]);
    let input = if masked { input.with_lengths(&lengths) } else { input };
    let batch = Batch { input, targets: Targets::Classes(&classes), weights: None };
    let mut options = options.clone();
    options.memory = memory;
    let mut trainer = Trainer::new(device(), network, options).unwrap();
    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    let gradients = trainer.gradients(&batch).unwrap();
    let gradients = gradients.iter().map(|(name, tensor)| (name.clone(), bits(tensor.data()))).collect();
    for _ in 0..2 {
        trainer.step(&batch).unwrap();
    }
    let network = trainer.network().unwrap();
    let weights = network.tensors().iter().map(|(name, tensor)| (name.clone(), bits(tensor.data()))).collect();
    vec![gradients, weights]
}

#[test]
fn intervals_change_no_bit() {
    let cases: [(Cell, Change); 10] = [
        (Cell::Lstm, |_| {}),
        (Cell::Lstm, |layer| (layer.bidirectional, layer.peephole) = (true, true)),
        (Cell::Lstm, |layer| (layer.proj_size, layer.reverse) = (4, true)),
        (Cell::Gru, |layer| layer.bidirectional = true),
        (Cell::Gru, |layer| layer.reset_after = false),
        (Cell::Gru, |layer| (layer.reset_after, layer.reverse) = (false, true)),
        (Cell::Rnn, |layer| layer.bidirectional = true),
        (Cell::Lstm, |layer| (layer.zoneout_h, layer.zoneout_c, layer.peephole) = (0.1, 0.4, true)),
        (Cell::Lstm, |layer| (layer.zoneout_h, layer.zoneout_c, layer.proj_size) = (0.3, 0.2, 4)),
        (Cell::Gru, |layer| (layer.zoneout_h, layer.reverse) = (0.3, true)),
    ];
    for (cell, change) in selected(cases) {
        for masked in [false, true] {
            let network = network(cell, |layer| {
                layer.masked_output = if masked { MaskedOutput::Previous } else { MaskedOutput::Zero };
                change(layer);
            });
            let whole = plan(&network, masked, None).unwrap();
            let expected = trained(&network, masked, None);
            let mut memory = whole.bytes() - 1;
            let mut found = 0;
            while let Ok(shorter) = plan(&network, masked, Some(memory)) {
                assert!(shorter.bytes() <= memory);
                assert!(cell != Cell::Lstm || intervals(&shorter) > 0);
                let got = trained(&network, masked, Some(memory));
                assert!(got == expected, "{cell:?} masked {masked}, {memory} bytes: other bits");
                memory = shorter.bytes() - 1;
                found += 1;
            }
            assert!(found > 0, "{cell:?} masked {masked}: no plan takes less than {} bytes", whole.bytes());
        }
    }
}

/// Masks of what a layer reads and of h are the same in every interval.
#[test]
fn intervals_change_no_bit_of_recurrent_dropout() {
    let cases: [(Cell, bool, Change); 3] = [
        (Cell::Lstm, true, |layer| layer.bidirectional = true),
        (Cell::Gru, false, |layer| (layer.reset_after, layer.bidirectional) = (false, true)),
        (Cell::Gru, true, |layer| layer.reverse = true),
    ];
    for (cell, masked, change) in cases {
        let network = network(cell, change);
        let of = |seed| {
            let dropout = RecurrentDropout::new("cell", 0.3, 0.4);
            TrainOptions::new(Loss::CrossEntropy).recurrent_dropout(dropout).seed(seed)
        };
        let options = of(1);
        let expected = trained_with(&network, masked, (None, &options));
        let whole = plan_with(&network, masked, (None, &options)).unwrap();
        let memory = Some(whole.bytes() - 1);
        assert!(plan_with(&network, masked, (memory, &options)).unwrap().bytes() < whole.bytes());
        assert!(trained_with(&network, masked, (memory, &options)) == expected, "{cell:?}: other bits");
        assert!(trained_with(&network, masked, (memory, &of(2))) != expected, "{cell:?}: other masks have other bits");
    }
}

/// Cells that normalize their sums, with masks and with dropout of what they read and of h.
#[test]
fn intervals_change_no_bit_of_normalized_cells() {
    let cases: [(Cell, bool, Change); 3] = [
        (Cell::LayerNormLstm, true, |layer| layer.bidirectional = true),
        (Cell::LayerNormLstm, false, |layer| {
            (layer.gate_norm, layer.cell_norm, layer.reverse) = (GateNorm::Parts, CellNorm::Output, true);
        }),
        (Cell::LayerNormGru, true, |layer| (layer.gate_norm, layer.reverse) = (GateNorm::Parts, true)),
    ];
    for (cell, masked, change) in cases {
        let network = network(cell, |layer| {
            layer.num_layers = 1;
            change(layer);
        });
        let mut options = TrainOptions::new(Loss::CrossEntropy);
        if !masked {
            options = options.recurrent_dropout(RecurrentDropout::new("cell", 0.3, 0.4));
        }
        let whole = plan_with(&network, masked, (None, &options)).unwrap();
        let memory = Some(whole.bytes() - 1);
        let shorter = plan_with(&network, masked, (memory, &options)).unwrap();
        assert!(shorter.bytes() < whole.bytes() && (cell == Cell::LayerNormGru || intervals(&shorter) > 0));
        let expected = trained_with(&network, masked, (None, &options));
        let got = trained_with(&network, masked, (memory, &options));
        for (got, expected) in got.iter().zip(&expected) {
            let other = got.iter().find(|(name, bits)| expected[*name] != **bits);
            assert!(other.is_none(), "{cell:?}: other bits of {}", other.unwrap().0);
        }
    }
}

/// Whatever strategy the timesteps go back with.
#[test]
fn intervals_change_no_bit_of_a_strategy() {
    let network = network(Cell::Lstm, |layer| (layer.reverse, layer.peephole, layer.num_layers) = (true, true, 1));
    for strategy in [Strategy::Step, Strategy::Tile, Strategy::Sequence] {
        let options = TrainOptions::new(Loss::CrossEntropy).strategy(strategy);
        let whole = plan_with(&network, true, (None, &options)).unwrap();
        assert!(whole.backward.iter().all(|choice| choice.strategy == strategy), "{whole}");
        let memory = Some(whole.bytes() - 1);
        assert!(intervals(&plan_with(&network, true, (memory, &options)).unwrap()) > 0);
        let expected = trained_with(&network, true, (None, &options));
        assert!(trained_with(&network, true, (memory, &options)) == expected, "{strategy}: other bits");
    }
}

#[test]
fn a_budget_that_is_too_small_is_named() {
    let network = network(Cell::Lstm, |_| {});
    let error = plan(&network, false, Some(1000)).unwrap_err();
    assert!(matches!(&error, Error::TooLarge { limit: 1000, .. }), "{error}");
    assert!(error.to_string().contains("the memory budget"), "{error}");
    let options = TrainOptions::new(Loss::CrossEntropy).memory(1 << 30);
    let error = Trainer::new(&gatefold::Device::cpu(), &network, options).unwrap_err();
    assert!(error.to_string().contains("memory budget"), "{error}");
}
