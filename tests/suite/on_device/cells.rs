//! Every cell with every option, in random networks, against the f64 reference: every stage, h_T
//! and c_T.

use fastrand::Rng;
use gatefold::network::{
    Activation, Cell, CellNorm, GateNorm, LayerSpec, MaskedOutput, MergeMode, RecurrentOutput, RecurrentSpec,
};
use gatefold::{Check, Input, Network, PlanOptions, RandomInput, Session, State, verify};

use crate::common::{all_are_run, changed, device, random_state, selected, spec};

/// ONNX's functions of a recurrence.
const FUNCTIONS: std::ops::Range<usize> = 1..12;

/// Whether `cell` normalizes its sums.
pub fn normalizes(cell: Cell) -> bool {
    cell.name().starts_with("layer_norm")
}

/// Sets the rates of zoneout of some layers. Draws nothing from `rng`, so that the other options stay as they are.
pub fn zone_out(cell: Cell, layer: &mut RecurrentSpec, rng: &Rng) {
    let mut rng = rng.clone();
    let mut rate = || if rng.u8(0..3) == 0 { rng.f32() } else { 0.0 };
    if !normalizes(cell) && !cell.scans() && cell != Cell::Slstm {
        layer.zoneout_h = rate();
    }
    if cell == Cell::Lstm {
        layer.zoneout_c = rate();
    }
}

/// `sets` times the functions of `cell`, each drawn from `all` where the cell takes any.
pub fn functions(cell: Cell, sets: usize, all: &[Activation], rng: &mut Rng) -> Vec<Activation> {
    let count = cell.default_activations().len();
    let function = |at: usize| match cell {
        Cell::Slstm if at.is_multiple_of(count) => [Activation::Sigmoid, Activation::Exp][rng.usize(0..2)],
        _ => all[rng.usize(..all.len())],
    };
    (0..sets * count).map(function).collect()
}

/// Options of an sLSTM.
pub fn of_slstm(layer: &mut RecurrentSpec, rng: &mut Rng) {
    layer.clip = None;
    layer.initial_state = false;
    let divisors: Vec<usize> =
        (1..=layer.hidden_size).filter(|&heads| layer.hidden_size.is_multiple_of(heads)).collect();
    layer.num_heads = divisors[rng.usize(..divisors.len())];
}

/// A layer of `cell` in which every option that it has may be set.
pub fn layer(cell: Cell, rng: &mut Rng) -> RecurrentSpec {
    let hidden_size = rng.usize(1..=37);
    let mut layer = RecurrentSpec::new("cell", rng.usize(1..=19), hidden_size);
    layer.num_layers = 1 + rng.usize(0..3) / 2 + rng.usize(0..8) / 7;
    layer.bidirectional = rng.bool();
    layer.reverse = !layer.bidirectional && rng.bool();
    if layer.bidirectional {
        layer.merge_mode = [MergeMode::Concat, MergeMode::Sum, MergeMode::Ave, MergeMode::Mul][rng.usize(0..4)];
    }
    layer.bias = rng.u8(0..4) > 0;
    layer.batch_first = rng.bool();
    layer.output = [RecurrentOutput::Sequence, RecurrentOutput::Last][rng.usize(0..2)];
    layer.masked_output = [MaskedOutput::Zero, MaskedOutput::Previous][rng.usize(0..2)];
    layer.clip = rng.bool().then(|| 0.2 + rng.f32());
    layer.initial_state = rng.u8(0..4) == 0;
    match cell {
        Cell::Lstm => {
            layer.proj_size = if hidden_size > 1 && rng.bool() { rng.usize(1..hidden_size) } else { 0 };
            layer.peephole = rng.bool();
            layer.coupled = rng.bool();
            layer.cell_clip = rng.bool().then(|| 0.1 + rng.f32());
        }
        Cell::Gru => layer.reset_after = rng.bool(),
        Cell::Rnn => {}
        Cell::LayerNormLstm | Cell::LayerNormGru => {
            layer.clip = None;
            layer.gate_norm = [GateNorm::Sum, GateNorm::Parts][rng.usize(0..2)];
            if cell == Cell::LayerNormLstm {
                layer.cell_norm = [CellNorm::State, CellNorm::Output, CellNorm::None][rng.usize(0..3)];
            }
            layer.layer_norm_eps = [1e-5, 1e-3, 0.1][rng.usize(0..3)];
        }
        Cell::MinGru | Cell::MinLstm | Cell::Sru | Cell::Qrnn | Cell::IndRnn => {
            layer.clip = None;
            layer.peephole = cell == Cell::Sru && rng.bool();
        }
        Cell::Slstm => of_slstm(&mut layer, rng),
        other => panic!("no options for {other:?}"),
    }
    zone_out(cell, &mut layer, rng);
    if rng.bool() {
        let sets = if rng.bool() { layer.directions() } else { 1 };
        layer.activations = functions(cell, sets, &Activation::ALL[FUNCTIONS], rng);
    }
    layer
}

pub fn network(cell: Cell, layer: &RecurrentSpec, seed: u64) -> Network {
    let layer = layer.clone();
    let layer = LayerSpec::of_cell(cell, layer);
    Network::random(spec(vec![layer]), seed).unwrap()
}

/// Runs `cases` random cases of `cell`.
fn random_networks(cell: Cell, cases: u64) {
    let device = device();
    let mut masked = 0;
    for seed in selected(0..cases) {
        let mut rng = Rng::with_seed(seed);
        let layer = layer(cell, &mut rng);
        let network = network(cell, &layer, seed);
        let (batch, steps) = (rng.usize(1..=5), rng.usize(1..=9));
        let input = RandomInput::new(&network, steps, batch, seed ^ 1).unwrap();
        let state = rng.bool().then(|| random_state(&network, batch, seed ^ 2));
        let lengths: Vec<usize> = (0..batch).map(|row| [0, 1, steps, rng.usize(0..=steps)][row % 4]).collect();
        let mask: Vec<bool> = (0..steps * batch).map(|_| rng.bool()).collect();
        let mut given = input.as_input();
        let kind = rng.u8(0..4);
        match kind {
            0 => given = given.with_lengths(&lengths),
            1 => given = given.with_mask(&mask),
            2 => given = given.with_lengths(&lengths).with_mask(&mask),
            _ => {}
        }
        let mut options = PlanOptions::default();
        if rng.bool() {
            options = options.split(1 << rng.u32(0..=4));
        }
        if rng.bool() {
            // A few timesteps at a time.
            options =
                options.projection_budget((rng.usize(1..4) * batch * cell.gates() * layer.hidden_size * 4) as u64);
        }
        let session = Session::with_options(device, &network, options).unwrap();
        let verification = verify(&session, &network, given, state.as_ref()).unwrap();
        // A small variance multiplies rounding errors: there the f32 reference says how much is right.
        let right = |check: &Check| if normalizes(cell) { check.passed() } else { check.comparison.passed };
        let failures: Vec<_> = verification.checks.iter().filter(|check| !right(check)).collect();
        assert!(failures.is_empty(), "case {seed}, T = {steps}, B = {batch}: {layer:#?}\n{failures:#?}");
        masked += u64::from(kind < 3);
    }
    assert!(masked > cases / 2 || !all_are_run(), "lengths and masks must occur: {masked} of {cases}");
}

#[test]
fn every_lstm_agrees() {
    random_networks(Cell::Lstm, 60);
}

#[test]
fn every_gru_agrees() {
    random_networks(Cell::Gru, 40);
}

#[test]
fn every_rnn_agrees() {
    random_networks(Cell::Rnn, 30);
}

#[test]
fn every_layer_normalized_lstm_agrees() {
    random_networks(Cell::LayerNormLstm, 60);
}

#[test]
fn every_layer_normalized_gru_agrees() {
    random_networks(Cell::LayerNormGru, 40);
}

#[test]
fn every_slstm_agrees() {
    random_networks(Cell::Slstm, 60);
}

#[test]
fn every_scan_agrees() {
    for cell in Cell::ALL.into_iter().filter(|cell| cell.scans()) {
        random_networks(cell, 8);
    }
}

/// Sizes around the boundaries of workgroups, for the kernels that the tests of LSTM sizes do not run.
#[test]
fn sizes_at_block_boundaries_agree() {
    let device = device();
    let mut cases = Vec::new();
    for hidden_size in [1, 2, 8, 9, 63, 64, 65, 129] {
        for (cell, reset_after, proj_size) in [
            (Cell::Gru, true, 0),
            (Cell::Gru, false, 0),
            (Cell::Rnn, true, 0),
            (Cell::Lstm, true, hidden_size / 2),
            (Cell::LayerNormLstm, true, 0),
            (Cell::LayerNormGru, true, 0),
            (Cell::Sru, true, 0),
        ] {
            cases.push((hidden_size, cell, reset_after, proj_size));
        }
    }
    for (hidden_size, cell, reset_after, proj_size) in selected(cases) {
        let layer =
            RecurrentSpec { reset_after, proj_size, bidirectional: true, ..RecurrentSpec::new("cell", 7, hidden_size) };
        let network = network(cell, &layer, 3);
        let input = RandomInput::new(&network, 3, 5, 4).unwrap();
        crate::common::assert_right(device, &network, PlanOptions::default(), input.as_input(), None);
    }
}

/// A row of length n gives the same as the row alone with n steps, in both
/// directions, and the numbers after its length do not matter.
#[test]
fn a_short_row_is_as_if_alone() {
    let device = device();
    let layer = RecurrentSpec { bidirectional: true, num_layers: 2, ..RecurrentSpec::new("cell", 3, 6) };
    // Of scans one that keeps c and one that does not.
    for cell in Cell::ALL.into_iter().filter(|cell| !cell.scans() || matches!(cell, Cell::MinLstm | Cell::Sru)) {
        let network = network(cell, &layer, 5);
        let session = Session::new(device, &network).unwrap();
        let (steps, batch, width) = (6, 3, 3);
        let lengths = [6, 1, 4];
        let mut rng = Rng::with_seed(1);
        let values: Vec<f32> = (0..steps * batch * width).map(|_| rng.f32() - 0.5).collect();
        let together =
            session.run(Input::features(&values, [steps, batch, width]).with_lengths(&lengths), None).unwrap();
        let columns = 2 * layer.hidden_size;
        for (row, &length) in lengths.iter().enumerate() {
            let alone: Vec<f32> =
                (0..length).flat_map(|t| &values[(t * batch + row) * width..][..width]).copied().collect();
            let alone = session.run(Input::features(&alone, [length, 1, width]), None).unwrap();
            for t in 0..steps {
                let got = &together.values[(t * batch + row) * columns..][..columns];
                if t < length {
                    assert_eq!(got, &alone.values[t * columns..][..columns], "{cell:?}, row {row}, step {t}");
                } else {
                    assert!(got.iter().all(|&x| x == 0.0), "{cell:?}, row {row}, step {t}: {got:?}");
                }
            }
            let h = |state: &State, batch: usize, row: usize| -> Vec<f32> {
                let h = &state.layers[0].parts[0];
                let size = h.width();
                (0..h.rows()).flat_map(|d| h.data[(d * batch + row) * size..][..size].to_vec()).collect()
            };
            assert_eq!(h(&together.state, batch, row), h(&alone.state, 1, 0), "{cell:?}, row {row}");
        }
    }
}

/// Negative controls: for each cell a small change of any tensor, and a length that is off by one.
/// Negative control: a device that left zoneout out would fail.
#[test]
fn a_zoneout_that_is_left_out_is_seen() {
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn] {
        let of = |zoneout_h, zoneout_c| {
            network(cell, &RecurrentSpec { zoneout_h, zoneout_c, ..RecurrentSpec::new("cell", 4, 9) }, 7)
        };
        let plain = Session::new(device(), &of(0.0, 0.0)).unwrap();
        let input = RandomInput::new(&of(0.0, 0.0), 5, 3, 8).unwrap();
        let mut others = vec![of(0.01, 0.0)];
        if cell == Cell::Lstm {
            others.push(of(0.0, 0.01));
        }
        for other in others {
            assert!(!verify(&plain, &other, input.as_input(), None).unwrap().passed(), "{cell:?}");
        }
    }
}

#[test]
fn nudges_are_seen() {
    let device = device();
    let cases = [
        (
            Cell::Lstm,
            RecurrentSpec { peephole: true, proj_size: 5, initial_state: true, ..RecurrentSpec::new("cell", 4, 9) },
        ),
        (Cell::Gru, RecurrentSpec { reset_after: false, initial_state: true, ..RecurrentSpec::new("cell", 4, 9) }),
        (Cell::Gru, RecurrentSpec::new("cell", 4, 9)),
        (Cell::Rnn, RecurrentSpec { reverse: true, ..RecurrentSpec::new("cell", 4, 9) }),
        (Cell::LayerNormGru, RecurrentSpec { initial_state: true, ..RecurrentSpec::new("cell", 4, 9) }),
        (Cell::LayerNormGru, RecurrentSpec { gate_norm: GateNorm::Parts, ..RecurrentSpec::new("cell", 4, 9) }),
        (Cell::LayerNormLstm, RecurrentSpec { initial_state: true, ..RecurrentSpec::new("cell", 4, 9) }),
        (
            Cell::LayerNormLstm,
            RecurrentSpec {
                gate_norm: GateNorm::Parts,
                cell_norm: CellNorm::Output,
                ..RecurrentSpec::new("cell", 4, 9)
            },
        ),
        (Cell::MinGru, RecurrentSpec { initial_state: true, ..RecurrentSpec::new("cell", 4, 9) }),
        (Cell::Sru, RecurrentSpec { peephole: true, ..RecurrentSpec::new("cell", 4, 9) }),
        (Cell::Qrnn, RecurrentSpec { bidirectional: true, ..RecurrentSpec::new("cell", 4, 9) }),
        (Cell::IndRnn, RecurrentSpec { activations: vec![Activation::Tanh], ..RecurrentSpec::new("cell", 4, 9) }),
    ];
    for (cell, layer) in cases {
        let network = network(cell, &layer, 7);
        let session = Session::new(device, &network).unwrap();
        let input = RandomInput::new(&network, 5, 3, 8).unwrap();
        assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
        for name in network.tensors().keys() {
            let nudged = changed(&network, name, |data| data[0] += 1e-3);
            let passed = verify(&session, &nudged, input.as_input(), None).unwrap().passed();
            assert!(!passed, "{cell:?} {name}: the nudge went unseen");
        }
        let of = |lengths: &[usize]| session.run(input.as_input().with_lengths(lengths), None).unwrap().values;
        assert_ne!(of(&[5, 3, 2]), of(&[5, 4, 2]));
    }
}

#[test]
fn lengths_and_masks_that_do_not_fit_are_named() {
    let device = device();
    let network = network(Cell::Gru, &RecurrentSpec::new("cell", 2, 3), 1);
    let session = Session::new(device, &network).unwrap();
    let values = [0.0; 12];
    let input = Input::features(&values, [3, 2, 2]);
    let error = |input| session.run(input, None).unwrap_err().to_string();
    assert_eq!(error(input.with_lengths(&[3])), "lengths: expected 2, one per batch row, got 1");
    assert_eq!(error(input.with_lengths(&[3, 4])), "lengths: expected 0 to T = 3, got 4 in row 1");
    assert_eq!(error(input.with_mask(&[true; 5])), "mask: expected 6 elements, one per step and row, got 5");
    assert!(session.run(input.with_lengths(&[0, 0]), None).unwrap().values.iter().all(|&x| x == 0.0));
}
