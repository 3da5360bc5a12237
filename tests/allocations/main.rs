//! Runs into memory that is there take none, counted by an allocator of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails panics")]
#![allow(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts")]

#[cfg(feature = "gpu")]
mod on_gpu;
#[cfg(feature = "gpu")]
#[path = "../support/mod.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, LayerSpec, RecurrentSpec, WeightFormat};
use gatefold::{Device, Input, Network, NetworkSpec, RandomInput, Session};

struct Counting;

thread_local! {
    /// Allocations of this thread: the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn network(layers: Vec<LayerSpec>) -> Network {
    Network::random(NetworkSpec { format: 1, layers, text: None, labels: Vec::new() }, 1).unwrap()
}

fn dense(in_features: usize) -> LayerSpec {
    let activation = Activation::Relu;
    LayerSpec::Dense(DenseSpec { name: "dense".into(), in_features, out_features: 3, bias: true, activation })
}

fn allocations(run: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    run();
    ALLOCATIONS.get() - before
}

/// Of a run that goes on from a state, once it has been there.
fn count(session: &Session, input: Input<'_>) -> usize {
    let first = session.run(input, None).unwrap();
    let expected = session.run(input, Some(&first.state)).unwrap();
    let mut output = first.clone();
    // What a run hands out is not there for the next, so it takes two to fill the memory again.
    for _ in 0..2 {
        session.run_into(input, Some(&first.state), &mut output).unwrap();
    }
    let count = allocations(|| session.run_into(input, Some(&first.state), &mut output).unwrap());
    assert_eq!((&output.values, &output.shape, &output.state), (&expected.values, &expected.shape, &expected.state));
    count
}

#[test]
fn later_runs_into_an_answer_allocate_nothing() {
    let lstm = |input, hidden| LayerSpec::Lstm(RecurrentSpec::new("lstm", input, hidden));
    let gru =
        RecurrentSpec { reset_after: false, num_layers: 2, bidirectional: true, ..RecurrentSpec::new("gru", 7, 20) };
    let projected = RecurrentSpec { proj_size: 9, ..RecurrentSpec::new("lstm", 7, 20) };
    let embedding = EmbeddingSpec { name: "embedding".into(), num_embeddings: 9, embedding_dim: 5, mask_zero: false };
    let networks = [
        network(vec![lstm(7, 33), dense(33)]),
        network(vec![LayerSpec::Gru(gru)]),
        network(vec![LayerSpec::Lstm(projected), dense(9)]),
        network(vec![LayerSpec::Rnn(RecurrentSpec::new("rnn", 4, 70))]),
        network(vec![LayerSpec::Embedding(embedding), lstm(5, 16), dense(16), LayerSpec::Softmax]),
    ];
    for network in networks {
        for format in WeightFormat::ALL {
            let network = network.with_weights(format).unwrap();
            let session = Session::new(&Device::cpu(), &network).unwrap();
            for batch in [1, 3] {
                let input = RandomInput::new(&network, 6, batch, 1);
                assert_eq!(count(&session, input.as_input()), 0, "{format}, B = {batch}, {:?}", network.spec());
            }
        }
    }
}

/// The count must be able to rise.
#[test]
fn a_run_of_its_own_allocates() {
    let network = network(vec![dense(4)]);
    let session = Session::new(&Device::cpu(), &network).unwrap();
    let input = RandomInput::new(&network, 2, 1, 1);
    assert!(allocations(|| drop(session.run(input.as_input(), None).unwrap())) > 0);
}
