//! The CPU device: every instruction set, every format of weights, any number of threads.

use std::num::NonZeroUsize;

use fastrand::Rng;
use gatefold::network::{Activation, Cell, DenseSpec, LayerSpec, RecurrentOutput, RecurrentSpec, WeightFormat};
use gatefold::{CpuOptions, Device, Input, InstructionSet, Network, Output, PlanOptions, RandomInput, Session, State};

use crate::common::{assert_right, assert_right_as_f32, changed, random_state, spec};
use crate::on_device::cells::{layer, network, normalizes};

const CELLS: [Cell; 11] = Cell::ALL;

fn with(set: InstructionSet, threads: usize) -> Device {
    let options = CpuOptions { threads: NonZeroUsize::new(threads), instruction_set: Some(set) };
    Device::cpu_with(options).unwrap()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

fn all_bits(output: &Output) -> Vec<Vec<u32>> {
    let states = output.state.layers.iter().flat_map(|layer| &layer.parts).map(|part| bits(&part.data));
    std::iter::once(bits(&output.values)).chain(states).collect()
}

#[test]
fn every_instruction_set_is_right_with_every_format() {
    for set in InstructionSet::available() {
        let device = with(set, 1);
        assert!(device.info().driver.starts_with(&set.to_string()), "{:?}", device.info());
        for cell in CELLS {
            for format in WeightFormat::ALL {
                for seed in 0..12 {
                    let mut rng = Rng::with_seed(seed);
                    let layer = layer(cell, &mut rng);
                    let network = network(cell, &layer, seed).with_weights(format).unwrap();
                    let (steps, batch) = (rng.usize(1..=9), rng.usize(1..=9));
                    let input = RandomInput::new(&network, steps, batch, seed).unwrap();
                    let state = random_state(&network, batch, seed);
                    if normalizes(cell) {
                        assert_right_as_f32(&device, &network, input.as_input(), Some(&state));
                    } else {
                        assert_right(&device, &network, PlanOptions::default(), input.as_input(), Some(&state));
                    }
                }
            }
        }
    }
}

/// Layers of sizes around those of vectors and blocks.
#[test]
fn dense_layers_of_every_size_are_right() {
    for set in InstructionSet::available() {
        for format in WeightFormat::ALL {
            for (in_features, out_features) in [(1, 1), (3, 7), (16, 16), (17, 33), (64, 64), (65, 130), (5, 200)] {
                let dense = DenseSpec {
                    name: "dense".into(),
                    in_features,
                    out_features,
                    bias: true,
                    activation: Activation::Gelu,
                };
                let network = Network::random(spec(vec![LayerSpec::Dense(dense)]), 3).unwrap();
                let network = network.with_weights(format).unwrap();
                let input = RandomInput::new(&network, 3, 5, 1).unwrap();
                assert_right(&with(set, 2), &network, PlanOptions::default(), input.as_input(), None);
            }
        }
    }
}

/// Sums of bytes end at what 32 bits hold, so rows that could exceed it are summed otherwise.
#[test]
fn many_inputs_do_not_overflow() {
    let inputs = 70_001;
    let (name, activation) = ("dense".to_owned(), Activation::Linear);
    let dense = DenseSpec { name, in_features: inputs, out_features: 2, bias: false, activation };
    let network = Network::random(spec(vec![LayerSpec::Dense(dense)]), 3).unwrap();
    let network = changed(&network, "dense.weight", |weights| weights.fill(1.0));
    for format in WeightFormat::ALL {
        let session = Session::new(&Device::cpu(), &network.with_weights(format).unwrap()).unwrap();
        let output = session.run(Input::features(&vec![1.0; inputs], [1, 1, inputs]), None).unwrap();
        assert!(output.values.iter().all(|x| (x / 70_001.0 - 1.0).abs() < 1e-6), "{format}: {:?}", output.values);
    }
}

/// Layers so large that threads share rows, units or projections.
fn large() -> Vec<(&'static str, Network, usize, usize)> {
    let of = |cell, layer: RecurrentSpec| network(cell, &layer, 7);
    let plain = || RecurrentSpec::new("cell", 40, 230);
    let long = || RecurrentSpec::new("cell", 150, 90);
    // With less, small variances multiply rounding errors from step to step.
    let normalized = |layer| RecurrentSpec { layer_norm_eps: 0.1, ..layer };
    let backwards = RecurrentSpec { bidirectional: true, output: RecurrentOutput::Last, ..plain() };
    vec![
        ("units of an LSTM", of(Cell::Lstm, plain()), 60, 1),
        ("units of two rows", of(Cell::Lstm, plain()), 40, 2),
        ("both directions", of(Cell::Lstm, backwards), 40, 1),
        ("a projection", of(Cell::Lstm, RecurrentSpec { proj_size: 150, ..plain() }), 60, 1),
        ("units of a GRU", of(Cell::Gru, plain()), 60, 1),
        ("reset first", of(Cell::Gru, RecurrentSpec { reset_after: false, ..plain() }), 60, 1),
        ("units of an RNN", of(Cell::Rnn, RecurrentSpec::new("cell", 40, 700)), 60, 1),
        ("a row that is normalized", of(Cell::LayerNormLstm, normalized(plain())), 60, 1),
        ("rows that are normalized", of(Cell::LayerNormLstm, normalized(plain())), 9, 21),
        ("rows of a normalized GRU", of(Cell::LayerNormGru, normalized(plain())), 9, 21),
        ("projections of normalized rows", of(Cell::LayerNormLstm, normalized(long())), 203, 1),
        ("projections", of(Cell::Lstm, long()), 203, 1),
        ("projections of a GRU backwards", of(Cell::Gru, RecurrentSpec { bidirectional: true, ..long() }), 203, 1),
        ("rows", of(Cell::Lstm, plain()), 9, 21),
        ("rows of both directions", of(Cell::Gru, RecurrentSpec { bidirectional: true, ..plain() }), 9, 21),
    ]
}

#[test]
fn threads_change_no_bit() {
    for (what, network, steps, batch) in large() {
        for format in WeightFormat::ALL {
            let network = network.with_weights(format).unwrap();
            let input = RandomInput::new(&network, steps, batch, 5).unwrap();
            let lengths: Vec<usize> = (0..batch).map(|row| steps - row % 3).collect();
            let input = input.as_input().with_lengths(&lengths);
            let state = random_state(&network, batch, 2);
            let set = InstructionSet::available()[0];
            let run = |threads| {
                let session = Session::new(&with(set, threads), &network).unwrap();
                // Twice, so that kept memory must not show.
                session.run(input, None).unwrap();
                all_bits(&session.run(input, Some(&state)).unwrap())
            };
            let alone = run(1);
            for threads in [2, 3, 5] {
                assert!(run(threads) == alone, "{what}, {format}, {threads} threads");
            }
            assert_right(&with(set, 3), &network, PlanOptions::default(), input, Some(&state));
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    for set in InstructionSet::available() {
        let device = with(set, 1);
        for (cell, format) in CELLS.iter().flat_map(|&cell| WeightFormat::ALL.map(|format| (cell, format))) {
            let network = network(cell, &RecurrentSpec::new("cell", 5, 37), 1).with_weights(format).unwrap();
            let session = Session::new(&device, &network).unwrap();
            let steps = 6;
            // Rows that are taken by six and one, four, three, two.
            for batch in [4, 7, 8, 11] {
                let values: Vec<f32> = (0..steps * batch * 5).map(|i| (i as f32 * 0.37).sin()).collect();
                let together = session.run(Input::features(&values, [steps, batch, 5]), None).unwrap();
                for row in 0..batch {
                    let of_row = |numbers: &[f32], width: usize| -> Vec<f32> {
                        numbers.chunks_exact(width).skip(row).step_by(batch).flatten().copied().collect()
                    };
                    let own = of_row(&values, 5);
                    let alone = session.run(Input::features(&own, [steps, 1, 5]), None).unwrap();
                    let of_all = of_row(&together.values, 37);
                    assert_eq!(bits(&alone.values), bits(&of_all), "{set}, {cell:?}, {format}, row {row} of {batch}");
                }
            }
        }
    }
}

/// A NaN in one row leaves the others exact.
#[test]
fn nan_in_a_row_does_not_reach_other_rows() {
    for set in InstructionSet::available() {
        for format in WeightFormat::ALL {
            let network = network(Cell::Lstm, &RecurrentSpec::new("cell", 3, 20), 1).with_weights(format).unwrap();
            let session = Session::new(&with(set, 1), &network).unwrap();
            let sound = [0.5; 5 * 3];
            let mut poisoned = sound;
            poisoned[3] = f32::NAN;
            let [expected, got] =
                [&sound, &poisoned].map(|x| session.run(Input::features(x, [1, 5, 3]), None).unwrap().values);
            for (row, (expected, got)) in expected.chunks(20).zip(got.chunks(20)).enumerate() {
                if row == 1 {
                    assert!(got.iter().all(|x| x.is_nan()), "{set}, {format}: {got:?}");
                } else {
                    assert_eq!(bits(got), bits(expected), "{set}, {format}, row {row}");
                }
            }
        }
    }
}

/// Negative control: the randomized tests can fail.
#[test]
fn a_nudged_weight_is_seen_by_every_instruction_set() {
    for set in InstructionSet::available() {
        for format in WeightFormat::ALL {
            let network = network(Cell::Lstm, &RecurrentSpec::new("cell", 4, 33), 1).with_weights(format).unwrap();
            let wrong = changed(&network, "cell.weight_hh_l0", |weights| weights[40] += 0.01);
            let input = RandomInput::new(&network, 6, 2, 1).unwrap();
            let session = Session::new(&with(set, 1), &wrong).unwrap();
            let seen = gatefold::verify(&session, &network, input.as_input(), None).unwrap();
            assert!(!seen.passed(), "{set}, {format}");
        }
    }
}

#[test]
fn what_the_cpu_lacks_is_an_error() {
    let present = InstructionSet::available();
    let absent = InstructionSet::ALL.into_iter().find(|set| !present.contains(set)).expect("no CPU has all");
    let error = Device::cpu_with(CpuOptions { instruction_set: Some(absent), threads: None }).unwrap_err().to_string();
    assert!(error.contains(&absent.to_string()) && error.contains("portable"), "{error}");
    assert!("mmx".parse::<InstructionSet>().unwrap_err().to_string().contains("avx2"));
    for set in InstructionSet::ALL {
        assert_eq!(set.to_string().parse::<InstructionSet>().unwrap(), set);
    }
}

/// What is stored as the start is where every row starts.
#[test]
fn no_state_is_zeros() {
    let network = network(Cell::Gru, &RecurrentSpec::new("cell", 3, 18), 1);
    let session = Session::new(&Device::cpu(), &network).unwrap();
    let input = RandomInput::new(&network, 4, 3, 1).unwrap();
    let [without, with_zeros] = [None, Some(State::zeros(&network, 3).unwrap())]
        .map(|state| session.run(input.as_input(), state.as_ref()).unwrap());
    assert_eq!(all_bits(&without), all_bits(&with_zeros));
}
