//! LSTMs of all sizes against the f64 reference: every stage, h_T and c_T.

use gatefold::network::{LayerSpec, RecurrentOutput, RecurrentSpec};
use gatefold::{Network, PlanOptions, RandomInput, Session, verify};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::{assert_right, changed, device, lstm, random_state, selected, spec};

/// One random case.
#[derive(Clone, Debug)]
struct Problem {
    layer: RecurrentSpec,
    steps: usize,
    batch: usize,
    split: Option<u32>,
    /// Timesteps per projected chunk, to be forced by the budget.
    chunk: Option<usize>,
    state: bool,
    seed: u64,
}

impl Problem {
    fn network(&self) -> Network {
        Network::random(spec(vec![LayerSpec::Lstm(self.layer.clone())]), self.seed).unwrap()
    }

    fn options(&self) -> PlanOptions {
        let mut options = PlanOptions::default();
        if let Some(split) = self.split {
            options = options.split(split);
        }
        if let Some(chunk) = self.chunk {
            options = options.projection_budget((chunk * self.batch * 16 * self.layer.hidden_size) as u64);
        }
        options
    }
}

fn problems() -> impl Strategy<Value = Problem> {
    let sizes = (1usize..=70, 1usize..=131, 1usize..=3, 1usize..=40, 1usize..=7);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let cuts = (proptest::option::of(0u32..=4), proptest::option::of(1usize..=9), any::<u64>());
    (sizes, switches, cuts).prop_map(|(sizes, switches, cuts)| {
        let (input_size, hidden_size, num_layers, steps, batch) = sizes;
        let (bidirectional, bias, batch_first, last, state) = switches;
        let (split, chunk, seed) = cuts;
        // Work stays near 10^7 multiply-adds, which a software adapter does in a moment.
        let per_step = batch * num_layers * (1 + usize::from(bidirectional)) * hidden_size * hidden_size;
        let steps = steps.min(10_000_000 / per_step).max(1);
        let output = if last { RecurrentOutput::Last } else { RecurrentOutput::Sequence };
        let layer =
            RecurrentSpec { num_layers, bidirectional, bias, batch_first, output, ..lstm(input_size, hidden_size) };
        Problem { layer, steps, batch, split: split.map(|s| 1 << s), chunk, state, seed }
    })
}

#[test]
fn any_size_agrees_with_the_reference() {
    let device = device();
    let config = Config {
        cases: u32::try_from(selected(0..64).count()).unwrap(),
        failure_persistence: None,
        ..Config::default()
    };
    // A fixed seed, so that a failure in CI can be reproduced.
    let mut runner = TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    runner
        .run(&problems(), |problem| {
            let network = problem.network();
            let input = RandomInput::new(&network, problem.steps, problem.batch, problem.seed ^ 1).unwrap();
            let state = problem.state.then(|| random_state(&network, problem.batch, problem.seed ^ 2));
            assert_right(device, &network, problem.options(), input.as_input(), state.as_ref());
            Ok(())
        })
        .unwrap();
}

/// Sizes around block boundaries: tiles of 32, workgroups of 64, slices of 16, ping-pong parity.
#[test]
fn sizes_at_block_boundaries_agree() {
    let device = device();
    for hidden_size in selected([1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 129]) {
        for (steps, batch) in [(1, 1), (2, 5), (3, 33)] {
            let layer = RecurrentSpec { bidirectional: true, num_layers: 2, ..lstm(17, hidden_size) };
            let network = Network::random(spec(vec![LayerSpec::Lstm(layer)]), 7).unwrap();
            let input = RandomInput::new(&network, steps, batch, 8).unwrap();
            assert_right(device, &network, PlanOptions::default(), input.as_input(), None);
        }
    }
}

/// Every way to split the sum gives the same numbers, also where a workgroup is not full.
#[test]
fn every_split_agrees() {
    let device = device();
    for hidden_size in [5, 64, 100] {
        let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(9, hidden_size))]), 3).unwrap();
        let input = RandomInput::new(&network, 6, 3, 4).unwrap();
        for split in [1, 2, 4, 8, 16] {
            assert_right(device, &network, PlanOptions::default().split(split), input.as_input(), None);
        }
    }
}

/// Gates driven to ±50, ±100 and ±1e4 saturate; nothing overflows.
#[test]
fn saturated_gates_agree() {
    let device = device();
    for drive in [50.0f32, 100.0, 1e4] {
        let mut network = Network::random(spec(vec![LayerSpec::Lstm(lstm(3, 20))]), 5).unwrap();
        // Every sign of every gate occurs.
        network = changed(&network, "lstm.bias_ih_l0", |bias| {
            for (index, bias) in bias.iter_mut().enumerate() {
                *bias = if index % 3 == 0 {
                    drive
                } else if index % 3 == 1 {
                    -drive
                } else {
                    *bias
                };
            }
        });
        let input = RandomInput::new(&network, 9, 4, 6).unwrap();
        assert_right(device, &network, PlanOptions::default(), input.as_input(), None);
        let session = Session::new(device, &network).unwrap();
        let output = session.run(input.as_input(), None).unwrap();
        assert!(output.values.iter().all(|x| x.is_finite() && x.abs() <= 1.0));
    }
}

/// Long enough that a shader with a loop over T would exceed lavapipe's limit, and that
/// one table of parameters does not hold all steps.
#[test]
fn a_long_sequence_agrees() {
    let device = device();
    let network =
        Network::random(spec(vec![LayerSpec::Lstm(RecurrentSpec { bidirectional: true, ..lstm(2, 3) })]), 1).unwrap();
    let input = RandomInput::new(&network, 5000, 2, 2).unwrap();
    assert_right(device, &network, PlanOptions::default(), input.as_input(), None);
    assert_right(device, &network, PlanOptions::default().projection_budget(40_000), input.as_input(), None);
}

#[test]
fn two_runs_give_the_same_bits() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(33, 65))]), 1).unwrap();
    let input = RandomInput::new(&network, 20, 3, 2).unwrap();
    let session = Session::new(device, &network).unwrap();
    let first = session.run(input.as_input(), None).unwrap();
    let other = RandomInput::new(&network, 7, 5, 9).unwrap();
    session.run(other.as_input(), None).unwrap();
    let second = session.run(input.as_input(), None).unwrap();
    assert_eq!(first.values, second.values);
    assert_eq!(first.state, second.state);
}

/// Negative control: one weight of thousands is changed by 1e-3.
#[test]
fn a_nudged_weight_is_seen() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(9, 40))]), 11).unwrap();
    let input = RandomInput::new(&network, 12, 3, 12).unwrap();
    let session = Session::new(device, &network).unwrap();
    assert!(verify(&session, &network, input.as_input(), None).unwrap().passed());
    for name in ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0"] {
        let nudged = changed(&network, name, |data| {
            let middle = data.len() / 2;
            data[middle] += 1e-3;
        });
        let verification = verify(&session, &nudged, input.as_input(), None).unwrap();
        assert!(!verification.passed(), "{name}: the nudge went unseen");
    }
}
