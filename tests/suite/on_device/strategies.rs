//! Every strategy, in every arithmetic and with weights in every format, for every cell.

use fastrand::Rng;
use gatefold::network::{Activation, Cell, LayerSpec, MaskedOutput, RecurrentOutput, RecurrentSpec, WeightFormat};
use gatefold::plan::{Arithmetic, Strategy};
use gatefold::{Error, Network, PlanOptions, RandomInput, Session, verify};

use crate::common::{device_or_return, random_state, spec};

fn network(cell: Cell, layer: RecurrentSpec, seed: u64) -> Network {
    let layer = match cell {
        Cell::Lstm => LayerSpec::Lstm(layer),
        Cell::Gru => LayerSpec::Gru(layer),
        Cell::Rnn => LayerSpec::Rnn(layer),
    };
    Network::random(spec(vec![layer]), seed).unwrap()
}

/// A layer that every strategy may run, but for the number of levels.
fn layer(cell: Cell, strategy: Strategy, rng: &mut Rng) -> RecurrentSpec {
    let mut layer = RecurrentSpec::new("cell", rng.usize(1..=19), rng.usize(1..=70));
    match strategy {
        Strategy::Wavefront => layer.num_layers = rng.usize(2..=4),
        _ => {
            layer.num_layers = rng.usize(1..=2);
            layer.bidirectional = rng.bool();
        }
    }
    layer.reverse = !layer.bidirectional && rng.bool();
    layer.output = [RecurrentOutput::Sequence, RecurrentOutput::Last][rng.usize(0..2)];
    layer.masked_output = [MaskedOutput::Zero, MaskedOutput::Previous][rng.usize(0..2)];
    layer.bias = rng.u8(0..4) > 0;
    layer.clip = rng.bool().then(|| 0.2 + rng.f32());
    if cell == Cell::Lstm {
        layer.peephole = rng.bool();
        layer.coupled = rng.bool();
        layer.cell_clip = rng.bool().then(|| 0.1 + rng.f32());
        if matches!(strategy, Strategy::Step | Strategy::Tile) && layer.hidden_size > 1 && rng.bool() {
            layer.proj_size = rng.usize(1..layer.hidden_size);
        }
    }
    if cell == Cell::Gru && matches!(strategy, Strategy::Step | Strategy::Tile) {
        layer.reset_after = rng.bool();
    }
    if rng.u8(0..3) == 0 {
        let sets = if rng.bool() { layer.directions() } else { 1 };
        let count = sets * cell.default_activations().len();
        layer.activations = (0..count).map(|_| Activation::ALL[rng.usize(1..12)]).collect();
    }
    layer
}

fn battery(strategy: Strategy, cases: u64) {
    let device = device_or_return!();
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn] {
        for seed in 0..cases {
            let mut rng = Rng::with_seed(seed);
            let layer = layer(cell, strategy, &mut rng);
            let format = WeightFormat::ALL[rng.usize(0..3)];
            let network = network(cell, layer.clone(), seed).with_weights(format).unwrap();
            let (batch, steps) = (rng.usize(1..=9), rng.usize(1..=9));
            let batch = if strategy == Strategy::Resident { batch.min(4) } else { batch };
            let input = RandomInput::new(&network, steps, batch, seed ^ 1);
            let state = rng.bool().then(|| random_state(&network, batch, seed ^ 2));
            let lengths: Vec<usize> = (0..batch).map(|row| [0, 1, steps, rng.usize(0..=steps)][row % 4]).collect();
            let mask: Vec<bool> = (0..steps * batch).map(|_| rng.bool()).collect();
            let mut given = input.as_input();
            match rng.u8(0..4) {
                0 => given = given.with_lengths(&lengths),
                1 => given = given.with_mask(&mask),
                _ => {}
            }
            let mut options = PlanOptions::default().strategy(strategy);
            if rng.bool() {
                options = options.split(1 << rng.u32(0..=3));
            }
            if rng.u8(0..3) == 0 && strategy != Strategy::Resident {
                options = options.units(1 << rng.u32(3..=5));
            }
            if strategy == Strategy::Sequence {
                options = options.four_rows(rng.bool());
            }
            if rng.bool() {
                // A few timesteps at a time.
                let width = 4 * cell.gates() * layer.hidden_size * layer.directions();
                options = options.projection_budget((rng.usize(1..4) * batch * width) as u64);
            }
            let what = format!("case {seed}, T = {steps}, B = {batch}, {format} {options:?}: {layer:#?}");
            let session = Session::with_options(device, &network, options).unwrap_or_else(|e| panic!("{e}\n{what}"));
            let verification = verify(&session, &network, given, state.as_ref()).unwrap();
            let failures: Vec<_> = verification.checks.iter().filter(|check| !check.comparison.passed).collect();
            assert!(failures.is_empty(), "{what}\n{failures:#?}");
        }
    }
}

#[test]
fn step_agrees() {
    battery(Strategy::Step, 20);
}

#[test]
fn tile_agrees() {
    battery(Strategy::Tile, 20);
}

#[test]
fn sequence_agrees() {
    battery(Strategy::Sequence, 20);
}

#[test]
fn wavefront_agrees() {
    battery(Strategy::Wavefront, 20);
}

#[test]
fn resident_agrees() {
    battery(Strategy::Resident, 20);
}
