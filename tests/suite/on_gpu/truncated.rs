//! Truncated backpropagation through time on a GPU, as on the CPU.

use gatefold::network::Cell;
use gatefold::train::Trainer;
use gatefold::{Device, Session, State, StreamPool};

use crate::common::device;
use crate::pure::truncated::{Examples, network, options, random_state, resumes_in_the_middle, worst};

fn assert_close(got: &State, expected: &State) {
    for (got, expected) in got.layers.iter().zip(&expected.layers) {
        let pairs = got.numbers().zip(expected.numbers());
        pairs.for_each(|(x, y)| assert!((x - y).abs() < 1e-5, "{x} and {y}"));
    }
}

#[test]
fn gradients_end_at_the_state() {
    let device = device();
    for cell in [Cell::Lstm, Cell::Gru, Cell::Rnn] {
        let network = network(cell);
        let state = random_state(&network, 2);
        let (error, after) = worst(device, &network, &state, &state);
        assert!(error <= 1.0, "{cell:?}: {error:.1e}");
        assert_close(&after, &worst(&Device::cpu(), &network, &state, &state).1);
        let zeros = State::zeros(&network, 5).unwrap();
        assert!(worst(device, &network, &zeros, &state).0 > 1000.0);
    }
}

/// A state is read behind each window, and windows of another length lie between.
#[test]
fn windows_carry_their_state() {
    let device = device();
    let (network, examples) = (network(Cell::Lstm), Examples::new(1));
    let pool = StreamPool::new(Session::new(device, &network).unwrap(), 8).unwrap();
    let streams: Vec<_> = (0..5).map(|_| pool.open().unwrap()).collect();
    let trainer = |device: &Device| Trainer::new(device, &network, options(0.1)).unwrap();
    let (mut on_cpu, mut on_gpu, mut by_streams) = (trainer(&Device::cpu()), trainer(device), trainer(device));
    let mut states = [State::initial(&network, 5).unwrap(), State::initial(&network, 5).unwrap()];
    for (first, steps) in [(0, 4), (4, 3), (7, 5)] {
        let batch = examples.window(first, steps);
        let [of_cpu, of_gpu] = &mut states;
        let expected = on_cpu.step_from(&batch, of_cpu).unwrap().loss;
        let got = on_gpu.step_from(&batch, of_gpu).unwrap().loss;
        assert!((got - expected).abs() < 1e-5, "{got} and {expected}");
        assert_close(of_gpu, of_cpu);
        assert_eq!(by_streams.step_streams(&batch, &pool, &streams).unwrap().loss.to_bits(), got.to_bits());
        on_gpu.evaluate(&examples.window(0, 2)).unwrap();
    }
}

#[test]
fn a_checkpoint_holds_the_carried_state() {
    resumes_in_the_middle(device());
}
