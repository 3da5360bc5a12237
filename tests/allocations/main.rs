//! Runs into existing memory allocate nothing, as a counting allocator shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that fails panics")]
#![allow(unsafe_code, reason = "an allocator is unsafe by nature; this one only counts")]

#[cfg(feature = "keras")]
#[allow(dead_code, reason = "what other tests read")]
#[path = "../keras/bundle.rs"]
mod bundle;
mod loading;
#[cfg(feature = "gpu")]
mod on_gpu;
mod sharing;
#[cfg(any(feature = "gpu", feature = "keras"))]
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "onnx")]
#[allow(dead_code, reason = "what other tests write")]
#[path = "../onnx/wire.rs"]
mod wire;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use gatefold::network::{
    Activation, DenseSpec, EmbeddingSpec, LayerSpec, RecurrentOutput, RecurrentSpec, WeightFormat,
};
use gatefold::train::{Batch, Loss, Targets, TrainOptions, Trainer};
use gatefold::{CpuOptions, Device, Input, Network, NetworkSpec, RandomInput, Session, StreamId, StreamPool};

struct Counting;

/// Allocations of all threads.
static ALL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Allocations of this thread: the test harness has threads of its own.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes that this thread has taken and not given back.
    static HELD: Cell<usize> = const { Cell::new(0) };
    /// The most that it held.
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// Counts `size` bytes more, and `given` back.
fn hold(size: usize, given: usize) {
    HELD.set(HELD.get().wrapping_add(size).wrapping_sub(given));
    // What other threads took may be given back here.
    PEAK.set(PEAK.get().cast_signed().max(HELD.get().cast_signed()).cast_unsigned());
}

// SAFETY: every call is passed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALL.fetch_add(1, Ordering::Relaxed);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        hold(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALL.fetch_add(1, Ordering::Relaxed);
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        hold(size, layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
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

/// Allocations of a run that continues from a state, after a first run of the same size.
fn count(session: &Session, input: Input<'_>) -> usize {
    let first = session.run(input, None).unwrap();
    let expected = session.run(input, Some(&first.state)).unwrap();
    let mut output = first.clone();
    // Memory that a run returns is not available to the next, so two runs are needed to fill it again.
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
                let input = RandomInput::new(&network, 6, batch, 1).unwrap();
                assert_eq!(count(&session, input.as_input()), 0, "{format}, B = {batch}, {:?}", network.spec());
            }
        }
    }
}

/// Frames of an amplifier's network: with a skip connection, gains, causal convolutions and normalizations.
#[cfg(any(feature = "gpu", feature = "keras"))]
#[test]
fn later_frames_of_amplifiers_allocate_nothing() {
    let files = support::bundle("amp.zip");
    let mut counts = Vec::new();
    for (name, bytes) in files.iter().filter(|(name, _)| !name.ends_with(".st")) {
        let network = Network::from_bytes(name, bytes).unwrap();
        let session = Session::new(&Device::cpu(), &network).unwrap();
        for steps in [1, 64] {
            let input = RandomInput::new(&network, steps, 1, 1).unwrap();
            counts.push((count(&session, input.as_input()), name, steps));
        }
    }
    assert!(counts.iter().all(|&(count, ..)| count == 0), "{counts:?}");
}

/// The threads of a run and their memory exist already.
#[test]
fn later_runs_of_several_threads_allocate_nothing() {
    let lstm = |size| LayerSpec::Lstm(RecurrentSpec::new("lstm", size, size));
    let projected = RecurrentSpec { proj_size: 64, ..RecurrentSpec::new("lstm", 256, 256) };
    // T, B: rows, units and projections are shared, and a plain product.
    let cases = [
        (network(vec![lstm(64), dense(64)]), 50, 48),
        (network(vec![lstm(512)]), 20, 1),
        (network(vec![lstm(128)]), 200, 1),
        (network(vec![LayerSpec::Lstm(projected)]), 60, 1),
        (network(vec![dense(512)]), 40, 100),
    ];
    let device = Device::cpu_with(CpuOptions { threads: NonZeroUsize::new(3), ..CpuOptions::default() }).unwrap();
    for (network, steps, batch) in cases {
        let session = Session::new(&device, &network).unwrap();
        let input = RandomInput::new(&network, steps, batch, 1).unwrap();
        let mut output = session.run(input.as_input(), None).unwrap();
        // The test's own harness may allocate at any time.
        let fewest = (0..20).map(|_| {
            let before = ALL.load(Ordering::Relaxed);
            session.run_into(input.as_input(), None, &mut output).unwrap();
            ALL.load(Ordering::Relaxed) - before
        });
        assert_eq!(fewest.min(), Some(0), "T = {steps}, B = {batch}");
        // The count must be able to rise.
        let before = ALL.load(Ordering::Relaxed);
        drop(session.run(input.as_input(), None).unwrap());
        assert!(ALL.load(Ordering::Relaxed) > before);
    }
    #[cfg(target_os = "linux")]
    {
        let names = std::fs::read_dir("/proc/self/task").unwrap();
        let names = names.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap());
        assert!(names.filter(|name| name.trim() == "gatefold").count() >= 2, "three threads were asked for");
    }
}

/// Steps of training have the memory of the first.
#[test]
fn later_steps_of_training_allocate_nothing() {
    let embedding = EmbeddingSpec { name: "words".into(), num_embeddings: 500, embedding_dim: 32, mask_zero: false };
    let last =
        |input, hidden| RecurrentSpec { output: RecurrentOutput::Last, ..RecurrentSpec::new("cell", input, hidden) };
    let stacked = RecurrentSpec { num_layers: 2, bidirectional: true, ..last(32, 48) };
    let networks = [
        network(vec![
            LayerSpec::Embedding(embedding.clone()),
            LayerSpec::Lstm(last(32, 64)),
            dense(64),
            LayerSpec::Softmax,
        ]),
        network(vec![LayerSpec::Embedding(embedding), LayerSpec::Gru(stacked), dense(96)]),
    ];
    let (steps, batch) = (60, 24);
    let tokens: Vec<u32> = (0..500).cycle().step_by(7).take(steps * batch).collect();
    let classes: Vec<u32> = (0..3).cycle().take(batch).collect();
    let batch =
        Batch { input: Input::tokens(&tokens, [steps, batch]), targets: Targets::Classes(&classes), weights: None };
    for network in networks {
        for threads in [1, 3] {
            let device = CpuOptions { threads: NonZeroUsize::new(threads), ..CpuOptions::default() };
            let device = Device::cpu_with(device).unwrap();
            let mut trainer = Trainer::new(&device, &network, TrainOptions::new(Loss::CrossEntropy)).unwrap();
            // The test's own harness may allocate at any time.
            let mut fewest = usize::MAX;
            for _ in 0..20 {
                let before = ALL.load(Ordering::Relaxed);
                trainer.step(&batch).unwrap();
                fewest = fewest.min(ALL.load(Ordering::Relaxed) - before);
            }
            assert_eq!(fewest, 0, "{threads} threads, {:?}", network.spec());
            // The count must be able to rise: the network is copied while another holds it.
            let held = trainer.network().unwrap();
            let before = ALL.load(Ordering::Relaxed);
            trainer.step(&batch).unwrap();
            assert!(ALL.load(Ordering::Relaxed) > before);
            drop(held);
        }
    }
}

/// A pool's streams advance by a hundred thousand steps in the memory of their first rounds.
#[test]
fn memory_does_not_grow_over_many_runs() {
    let network = network(vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 2, 4)), dense(4)]);
    let pool = StreamPool::new(Session::new(&Device::cpu(), &network).unwrap(), 60).unwrap();
    let ids: Vec<StreamId> = (0..60).map(|_| pool.open().unwrap()).collect();
    let input = [0.25; 2 * 16];
    let mut kept = Vec::new();
    let mut round = |turn: usize, keep: bool| {
        let mut steps = 0;
        // Full, one stream, ragged; and one that ends and another that begins.
        for (kind, count) in [60, 1, 33, 7].into_iter().enumerate() {
            let calls: Vec<_> = (0..count)
                .map(|i| {
                    let len = if kind < 2 { 16 } else { 1 + (i + turn) % 16 };
                    steps += len;
                    (ids[(i + turn) % 60], Input::features(&input[..2 * len], [len, 1, 2]))
                })
                .collect();
            let answers = pool.advance(&calls).unwrap();
            if keep {
                kept.push(answers);
            }
        }
        let fork = pool.fork(ids[turn % 60]).unwrap();
        pool.close(fork).unwrap();
        steps
    };
    for turn in 0..16 {
        round(turn, false);
    }
    let first = HELD.get();
    let mut steps = 0;
    for turn in 16.. {
        steps += round(turn, false);
        if steps >= 100_000 {
            break;
        }
    }
    assert_eq!(HELD.get(), first, "after {steps} steps");
    // The count must be able to rise.
    round(0, true);
    assert!(HELD.get() > first + 1000);
}

/// The count must be able to rise.
#[test]
fn a_run_of_its_own_allocates() {
    let network = network(vec![dense(4)]);
    let session = Session::new(&Device::cpu(), &network).unwrap();
    let input = RandomInput::new(&network, 2, 1, 1).unwrap();
    assert!(allocations(|| drop(session.run(input.as_input(), None).unwrap())) > 0);
}
