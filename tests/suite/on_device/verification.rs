//! `verify` of networks whose weights and sums are as large as trained ones: right answers pass, faults do not.

use gatefold::network::{Activation, DenseSpec, LayerSpec, RecurrentSpec};
use gatefold::{Input, Network, PlanOptions, Session, Tensor, Verdict, verify};

use crate::common::{changed, device, spec};

/// T and B.
const SIZE: [usize; 2] = [20, 3];

/// Numbers of a normal distribution (Irwin-Hall).
fn normal(random: &mut fastrand::Rng, count: usize, deviation: f32) -> Vec<f32> {
    (0..count).map(|_| ((0..12).map(|_| random.f32()).sum::<f32>() - 6.0) * deviation).collect()
}

/// A network with weights of the given deviations: of matrices, and of the dense layer after the recurrence.
fn large(layers: Vec<LayerSpec>, recurrent: f32, dense: f32) -> Network {
    let mut random = fastrand::Rng::with_seed(5);
    let small = Network::random(spec(layers), 1).unwrap();
    let mut tensors = small.tensors().clone();
    for (name, tensor) in &mut tensors {
        let deviation = if name.starts_with("out") { dense } else { recurrent };
        let numbers = normal(&mut random, tensor.data().len(), deviation);
        *tensor = Tensor::new(tensor.shape().to_vec(), numbers).unwrap();
    }
    Network::new(small.spec().clone(), tensors).unwrap()
}

fn networks() -> Vec<(&'static str, Network)> {
    let stack = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("core", 12, 64) };
    let dense = DenseSpec {
        name: "out".into(),
        in_features: 64,
        out_features: 3_000,
        bias: true,
        activation: Activation::Linear,
    };
    let words = vec![LayerSpec::Lstm(RecurrentSpec::new("core", 12, 64)), LayerSpec::Dense(dense)];
    vec![
        ("GRU of large weights", large(vec![LayerSpec::Gru(stack)], 0.55, 0.0)),
        ("large vocabulary", large(words, 0.2, 3.0)),
    ]
}

/// What `verify` says of a session of `network` against `reference`.
fn verdicts(session: &Session, reference: &Network) -> Vec<Verdict> {
    let [steps, batch] = SIZE;
    let values = normal(&mut fastrand::Rng::with_seed(7), steps * batch * 12, 1.0);
    let input = Input::features(&values, [steps, batch, 12]);
    verify(session, reference, input, None).unwrap().checks.iter().map(|check| check.verdict).collect()
}

#[test]
fn right_answers_of_large_weights_pass() {
    let device = device();
    let mut as_f32 = 0;
    for (name, network) in networks() {
        let session = Session::with_options(device, &network, PlanOptions::default()).unwrap();
        let verdicts = verdicts(&session, &network);
        assert!(!verdicts.contains(&Verdict::Failed), "{name}: {verdicts:?}");
        as_f32 += verdicts.iter().filter(|verdict| **verdict == Verdict::AsF32).count();
    }
    // Without them these networks would show nothing that smaller ones do not.
    assert!(as_f32 > 0, "every tensor is within tolerance");
}

/// Negative control: faults that the wider judgement must not cover.
#[test]
fn wrong_networks_of_large_weights_fail() {
    let device = device();
    for (name, network) in networks() {
        let session = Session::with_options(device, &network, PlanOptions::default()).unwrap();
        for tensor in ["core.weight_ih_l0", "core.weight_hh_l0"] {
            let columns = network.tensors()[tensor].shape()[1];
            let turned = changed(&network, tensor, |data| {
                let block = 64 * columns;
                let (first, second) = data.split_at_mut(block);
                first.swap_with_slice(&mut second[..block]);
            });
            assert!(verdicts(&session, &turned).contains(&Verdict::Failed), "{name}: two gates of {tensor} swapped");
            for at in [0, 100, 700] {
                let nudged = changed(&network, tensor, |data| data[at] += 1e-3);
                let wrong = verdicts(&session, &nudged);
                assert!(wrong.contains(&Verdict::Failed), "{name}: {tensor}[{at}] nudged by 1e-3: {wrong:?}");
            }
        }
    }
}
