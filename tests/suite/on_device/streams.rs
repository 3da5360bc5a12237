//! Pools of streams: however input is cut and streams are opened, closed or forked, each stream gets the same as alone.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use gatefold::Strategy as RunStrategy;
use gatefold::compare::{Tolerance, compare};
use gatefold::network::{
    DenseSpec, EmbeddingSpec, GlobalPoolSpec, LayerSpec, NamedSpec, NtmSpec, Pool, RecurrentOutput, RecurrentSpec,
    SelectSpec, SelectStep,
};
use gatefold::unstable::reference::Reference;
use gatefold::{
    Advanced, Device, Error, Input, Network, PlanOptions, RandomInput, Session, State, StreamId, StreamPool,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::{device, devices, lstm, pool, random_state, spec};

fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let algorithm = proptest::test_runner::RngAlgorithm::ChaCha;
    TestRunner::new_with_rng(config, proptest::test_runner::TestRng::deterministic_rng(algorithm))
}

fn dense(in_features: usize, out_features: usize) -> LayerSpec {
    let activation = gatefold::network::Activation::Tanh;
    LayerSpec::Dense(DenseSpec { name: "dense".into(), in_features, out_features, bias: true, activation })
}

/// Networks of every kind that can be streamed.
pub fn networks() -> Vec<(&'static str, Network)> {
    let deep = RecurrentSpec { num_layers: 3, ..lstm(5, 12) };
    let projected = RecurrentSpec { proj_size: 4, num_layers: 2, ..lstm(5, 9) };
    let last = RecurrentSpec { output: RecurrentOutput::Last, batch_first: true, ..lstm(5, 11) };
    let gru = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("gru", 5, 10) };
    let embedding = |mask_zero| {
        LayerSpec::Embedding(EmbeddingSpec { name: "embedding".into(), num_embeddings: 7, embedding_dim: 5, mask_zero })
    };
    let select = LayerSpec::Select(SelectSpec { name: "select".into(), step: SelectStep::Last });
    let started = RecurrentSpec { initial_state: true, ..lstm(5, 6) };
    // With less, small variances multiply rounding errors from step to step.
    let normalized = RecurrentSpec { layer_norm_eps: 0.1, ..lstm(5, 9) };
    let normalized_gru = RecurrentSpec { layer_norm_eps: 0.1, ..RecurrentSpec::new("gru", 5, 9) };
    let scans = vec![
        LayerSpec::MinGru(RecurrentSpec::new("min_gru", 5, 9)),
        LayerSpec::MinLstm(RecurrentSpec::new("min_lstm", 9, 8)),
        LayerSpec::Sru(RecurrentSpec { peephole: true, ..RecurrentSpec::new("sru", 8, 10) }),
        LayerSpec::Qrnn(RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("qrnn", 10, 7) }),
        LayerSpec::IndRnn(RecurrentSpec::new("ind_rnn", 7, 6)),
    ];
    let all = vec![
        ("lstm", vec![LayerSpec::Lstm(lstm(5, 16)), dense(16, 3)]),
        ("stacked", vec![LayerSpec::Lstm(deep)]),
        ("projected", vec![LayerSpec::Lstm(projected)]),
        ("last", vec![LayerSpec::Lstm(last), dense(11, 2), LayerSpec::Softmax]),
        ("gru", vec![LayerSpec::Gru(gru)]),
        ("rnn", vec![LayerSpec::Rnn(RecurrentSpec::new("rnn", 5, 8))]),
        ("tokens", vec![embedding(false), LayerSpec::Lstm(lstm(5, 8))]),
        ("masked tokens", vec![embedding(true), LayerSpec::Gru(RecurrentSpec::new("gru", 5, 8))]),
        ("masked tokens, stored state", vec![embedding(true), LayerSpec::Lstm(started)]),
        ("select last", vec![LayerSpec::Lstm(lstm(5, 7)), dense(7, 4), select]),
        ("normalized", vec![LayerSpec::LayerNormLstm(normalized)]),
        ("normalized gru", vec![LayerSpec::LayerNormGru(normalized_gru)]),
        (
            "slstm",
            vec![LayerSpec::Slstm(RecurrentSpec { num_layers: 2, num_heads: 2, ..RecurrentSpec::new("slstm", 5, 10) })],
        ),
        ("scans", scans),
        ("memory", vec![LayerSpec::Ntm(NtmSpec::new("memory", 5, 9, [11, 4])), dense(13, 3)]),
    ];
    all.into_iter().map(|(name, layers)| (name, Network::random(spec(layers), 3).unwrap())).collect()
}

/// The input of a stream, step by step.
#[derive(Clone)]
pub enum Source {
    Tokens(Vec<u32>),
    Features(Vec<f32>, usize),
}

impl Source {
    pub fn new(network: &Network, steps: usize, seed: u64) -> Self {
        match RandomInput::new(network, steps, 1, seed).unwrap() {
            RandomInput::Tokens(tokens, _) => Self::Tokens(tokens),
            RandomInput::Features(values, _) => Self::Features(values, network.input_size()),
            other => panic!("{other:?} cannot be streamed"),
        }
    }

    pub fn input(&self, network: &Network, from: usize, to: usize) -> Input<'_> {
        let order = |steps| if network.batch_first() { [1, steps] } else { [steps, 1] };
        match self {
            Self::Tokens(tokens) => Input::tokens(&tokens[from..to], order(to - from)),
            Self::Features(values, width) => {
                let [a, b] = order(to - from);
                Input::features(&values[from * width..to * width], [a, b, *width])
            }
        }
    }
}

/// The f64 reference's output of the first `steps`, and the state after them.
fn alone(network: &Network, source: &Source, steps: usize) -> (Vec<f64>, State<f64>) {
    let forward = Reference::<f64>::new(network).forward(source.input(network, 0, steps), None).unwrap();
    (forward.stages.into_iter().next_back().unwrap(), forward.state)
}

fn assert_near(what: &str, got: &[f32], exact: &[f64], steps: usize) {
    let comparison = compare(got, exact, Tolerance::f32(steps.max(1)));
    assert!(comparison.passed, "{what}: {comparison:?}");
}

fn assert_state(what: &str, got: &State, exact: &State<f64>, steps: usize) {
    assert_eq!(got.layers.len(), exact.layers.len());
    for (got, exact) in got.layers.iter().zip(&exact.layers) {
        assert_eq!((&got.name, got.parts.len()), (&exact.name, exact.parts.len()));
        for (part, exact) in got.parts.iter().zip(&exact.parts) {
            assert_eq!((&part.name, &part.shape), (&exact.name, &exact.shape));
            assert_near(&format!("{what}: {} of {}", part.name, got.name), &part.data, &exact.data, steps);
        }
    }
}

/// A stream in a test: where it is, and all it has answered.
pub struct Follower {
    pub id: StreamId,
    pub source: Source,
    pub at: usize,
    pub got: Vec<f32>,
}

impl Follower {
    pub fn take(&mut self, network: &Network, advanced: &Advanced, index: usize) {
        self.at += advanced.steps(index);
        if !network.output_is_sequence() {
            self.got.clear();
        }
        self.got.extend_from_slice(advanced.values(index));
    }

    pub fn check(&self, what: &str, network: &Network, pool: &StreamPool) {
        if self.at > 0 {
            let (exact, state) = alone(network, &self.source, self.at);
            assert_near(what, &self.got, &exact, self.at);
            assert_state(what, &pool.snapshot(self.id).unwrap(), &state, self.at);
        }
    }
}

/// However a sequence is cut, the answers are those of the whole.
#[test]
fn cuts_change_nothing() {
    let device = device();
    let cuts = proptest::collection::vec(1usize..=9, 1..=7);
    for device in devices(device) {
        for (name, network) in networks() {
            let pool = pool(&device, &network, 1);
            runner(4)
                .run(&(cuts.clone(), any::<u64>()), |(cuts, seed)| {
                    let steps = cuts.iter().sum();
                    let source = Source::new(&network, steps, seed);
                    let mut stream = Follower { id: pool.open().unwrap(), source, at: 0, got: Vec::new() };
                    for cut in cuts {
                        let input = stream.source.input(&network, stream.at, stream.at + cut);
                        let advanced = pool.advance(&[(stream.id, input)]).unwrap();
                        stream.take(&network, &advanced, 0);
                    }
                    stream.check(&format!("{name} on {}", device.info()), &network, &pool);
                    pool.close(stream.id).unwrap();
                    Ok(())
                })
                .unwrap();
        }
    }
}

/// What happens to a pool in one round.
#[derive(Clone, Debug)]
enum Event {
    Join,
    Leave(usize),
    /// The number of steps by which each stream advances; 0 if it does not.
    Advance(Vec<usize>),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Join),
        1 => (0usize..8).prop_map(Event::Leave),
        4 => proptest::collection::vec(0usize..=6, 1..=9).prop_map(Event::Advance),
    ];
    proptest::collection::vec(event, 1..=20)
}

/// Runs `events`; at the end, and when it is closed, every stream must have the same results as alone.
/// `swapped` is the fault of a negative control: two streams of every batch change places.
fn play(device: &Device, network: &Network, events: &[Event], seed: u64, swapped: bool) {
    let pool = pool(device, network, 1);
    let mut streams: Vec<Follower> = Vec::new();
    let what = device.info().to_string();
    for (round, event) in events.iter().enumerate() {
        match event {
            Event::Join => {
                let source = Source::new(network, 80, seed ^ round as u64);
                streams.push(Follower { id: pool.open().unwrap(), source, at: 0, got: Vec::new() });
            }
            Event::Leave(index) if *index < streams.len() => {
                let gone = streams.swap_remove(*index);
                gone.check(&what, network, &pool);
                pool.close(gone.id).unwrap();
            }
            Event::Leave(_) => {}
            Event::Advance(steps) => {
                let mut going: Vec<(usize, usize)> =
                    steps.iter().copied().enumerate().filter(|&(i, n)| n > 0 && i < streams.len()).collect();
                going.retain(|&(i, n)| streams[i].at + n <= 80);
                let mut ids: Vec<StreamId> = going.iter().map(|&(i, _)| streams[i].id).collect();
                if swapped && ids.len() > 1 {
                    ids.swap(0, 1);
                }
                let calls = ids.iter().zip(&going);
                let calls: Vec<_> = calls
                    .map(|(&id, &(i, n))| (id, streams[i].source.input(network, streams[i].at, streams[i].at + n)))
                    .collect();
                let advanced = pool.advance(&calls).unwrap();
                assert_eq!(advanced.len(), going.len());
                for (index, (i, n)) in going.into_iter().enumerate() {
                    assert_eq!(advanced.steps(index), n);
                    streams[i].take(network, &advanced, index);
                }
            }
        }
    }
    assert_eq!(pool.len(), streams.len());
    streams.iter().for_each(|stream| stream.check(&what, network, &pool));
}

#[test]
fn joins_leaves_and_raggedness_change_nothing() {
    let device = device();
    for device in devices(device) {
        for (_, network) in networks() {
            runner(4)
                .run(&(events(), any::<u64>()), |(events, seed)| {
                    play(&device, &network, &events, seed, false);
                    Ok(())
                })
                .unwrap();
        }
    }
}

/// Negative control: the randomized test above detects a swapped slot.
#[test]
fn swapped_streams_are_noticed() {
    let device = device();
    for device in devices(device) {
        let network = &networks()[0].1;
        let events = [Event::Join, Event::Join, Event::Advance(vec![2, 2]), Event::Advance(vec![3, 1])];
        play(&device, network, &events, 5, false);
        let swapped = AssertUnwindSafe(|| play(&device, network, &events, 5, true));
        let panic = std::panic::catch_unwind(swapped).expect_err("swapped slots went unseen");
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.contains("passed: false"), "{}: {message}", device.info());
    }
}

/// Every way to run a recurrence keeps the slots right.
#[test]
fn every_strategy_keeps_its_slots() {
    let device = device();
    let network =
        Network::random(spec(vec![LayerSpec::Lstm(RecurrentSpec { num_layers: 2, ..lstm(6, 24) })]), 1).unwrap();
    for strategy in [RunStrategy::Step, RunStrategy::Tile, RunStrategy::Sequence, RunStrategy::Wavefront] {
        let session = Session::with_options(device, &network, PlanOptions::default().strategy(strategy)).unwrap();
        let pool = StreamPool::new(session, 4).unwrap();
        let mut streams: Vec<Follower> = (0..9)
            .map(|seed| Follower {
                id: pool.open().unwrap(),
                source: Source::new(&network, 30, seed),
                at: 0,
                got: Vec::new(),
            })
            .collect();
        for round in 0..5 {
            let calls: Vec<_> = streams
                .iter()
                .enumerate()
                .map(|(i, s)| (s.id, s.source.input(&network, s.at, s.at + 1 + (i + round) % 5)))
                .collect();
            let advanced = pool.advance(&calls).unwrap();
            for (index, stream) in streams.iter_mut().enumerate() {
                stream.take(&network, &advanced, index);
            }
        }
        streams.iter().for_each(|stream| stream.check(&strategy.to_string(), &network, &pool));
    }
}

/// A fork is independent of its stream, and reset and restore work. `fork` is the pool's own, or the fault of a negative
/// control.
pub fn fork_apart(device: &Device, name: &str, network: &Network, fork: impl Fn(&StreamPool, StreamId) -> StreamId) {
    let pool = pool(device, network, 2);
    let a = pool.open().unwrap();
    let common = Source::new(network, 5, 1);
    pool.advance(&[(a, common.input(network, 0, 5))]).unwrap();
    let kept = pool.snapshot(a).unwrap();
    let b = fork(&pool, a);
    let c = fork(&pool, b);
    assert_eq!(pool.snapshot(c).unwrap(), kept, "{name}: a fork is a copy, bit by bit");
    let (left, right) = (Source::new(network, 4, 2), Source::new(network, 4, 3));
    let one = pool.advance(&[(a, left.input(network, 0, 4)), (b, right.input(network, 0, 4))]).unwrap();
    assert_ne!(one.values(0), one.values(1), "{name}");
    assert_eq!(pool.snapshot(c).unwrap(), kept, "{name}: the third stood still");
    // The same step from the same state in a batch of the same size gives the same bits.
    let d = fork(&pool, c);
    let again = pool.advance(&[(d, right.input(network, 0, 4)), (c, left.input(network, 0, 4))]).unwrap();
    assert_eq!((one.values(0), one.values(1)), (again.values(1), again.values(0)), "{name}");
    assert_eq!(pool.snapshot(a).unwrap(), pool.snapshot(c).unwrap());
    pool.restore(a, &kept).unwrap();
    assert_eq!(pool.snapshot(a).unwrap(), kept);
    pool.reset(a).unwrap();
    assert_eq!(pool.snapshot(a).unwrap(), State::initial(network, 1).unwrap());
}

#[test]
fn forks_are_independent() {
    let device = device();
    for device in devices(device) {
        for (name, network) in networks() {
            fork_apart(&device, name, &network, |pool, id| pool.fork(id).unwrap());
        }
    }
}

/// Negative control: a fork that forgets its past, one that is a little off and one that is the stream itself are noticed.
#[test]
fn forks_that_are_none_are_noticed() {
    type Fork = fn(&StreamPool, StreamId) -> StreamId;
    let device = device();
    let forgets = |pool: &StreamPool, _| pool.open().unwrap();
    let off = |pool: &StreamPool, id| {
        let fork = pool.fork(id).unwrap();
        let mut state = pool.snapshot(fork).unwrap();
        state.layers[0].parts[0].data[0] += 1e-6;
        pool.restore(fork, &state).unwrap();
        fork
    };
    let shared = |_: &StreamPool, id| id;
    let faults: [(Fork, &str); 3] = [(forgets, "bit by bit"), (off, "bit by bit"), (shared, "second time")];
    for device in devices(device) {
        for (fault, word) in faults {
            let (name, network) = &networks()[0];
            let check = AssertUnwindSafe(|| fork_apart(&device, name, network, fault));
            let panic = std::panic::catch_unwind(check).expect_err("a fault went unseen");
            let message = panic.downcast_ref::<String>().expect("a message");
            assert!(message.contains(word), "{}: {message}", device.info());
        }
    }
}

/// A NaN affects only the stream that reads it: the other streams are exact to the bit.
#[test]
fn nan_stays_in_its_stream() {
    let device = device();
    for device in devices(device) {
        let network = &networks()[0].1;
        let run = |poison: Option<f32>| {
            let pool = pool(&device, network, 5);
            let ids: Vec<StreamId> = (0..5).map(|_| pool.open().unwrap()).collect();
            let mut sources: Vec<Source> = (0..5).map(|seed| Source::new(network, 6, seed)).collect();
            if let (Some(poison), Source::Features(values, _)) = (poison, &mut sources[2]) {
                values[7] = poison;
            }
            let mut all = vec![Vec::new(); 5];
            for (from, to) in [(0, 2), (2, 3), (3, 6)] {
                let calls: Vec<_> = ids.iter().zip(&sources).map(|(&id, s)| (id, s.input(network, from, to))).collect();
                let advanced = pool.advance(&calls).unwrap();
                all.iter_mut().enumerate().for_each(|(i, all)| all.extend_from_slice(advanced.values(i)));
            }
            let states: Vec<State> = ids.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
            (all, states)
        };
        let (clean, clean_states) = run(None);
        for poison in [f32::NAN, f32::INFINITY] {
            let (got, states) = run(Some(poison));
            for stream in [0, 1, 3, 4] {
                assert_eq!(got[stream], clean[stream], "{}", device.info());
                assert_eq!(states[stream], clean_states[stream]);
            }
            assert_ne!(got[2], clean[2], "the poison is in the stream it was given to");
        }
        let (got, _) = run(Some(f32::NAN));
        assert!(got[2].iter().any(|x| x.is_nan()));
    }
}

/// A mistake in one stream of a batch: a typed error, and every stream as it was.
#[test]
fn mistakes_leave_every_stream_as_it_was() {
    let device = device();
    for device in devices(device) {
        let network = &networks()[0].1;
        let pool = pool(&device, network, 2);
        let other = self::pool(&device, network, 2);
        let [a, b, closed] = [(); 3].map(|()| pool.open().unwrap());
        let foreign = other.open().unwrap();
        pool.close(closed).unwrap();
        let reused = pool.open().unwrap();
        assert_ne!(closed, reused, "the slot is the same, the stream is not");
        pool.restore(a, &random_state(network, 1, 4)).unwrap();
        let kept = [a, b, reused].map(|id| pool.snapshot(id).unwrap());
        let good = Input::features(&[0.5; 10], [2, 1, 5]);
        let refused = |second: (StreamId, Input<'_>), word: &str| {
            for calls in [[(a, good), second], [second, (a, good)]] {
                let error = pool.advance(&calls).unwrap_err();
                assert!(error.to_string().contains(word), "{error}, expected {word}");
            }
            assert_eq!([a, b, reused].map(|id| pool.snapshot(id).unwrap()), kept, "{word}");
        };
        refused((closed, good), "closed");
        refused((foreign, good), "another pool");
        refused((a, good), "second time");
        refused((b, Input::features(&[0.5; 8], [2, 1, 4])), "[T, B, 5]");
        refused((b, Input::features(&[], [0, 1, 5])), "T and B at least 1");
        refused((b, Input::features(&[0.5; 10], [1, 2, 5])), "B = 1");
        refused((b, Input::tokens(&[1], [1, 1])), "token ids");
        for error in [pool.close(closed), pool.reset(closed), pool.restore(closed, &kept[0])] {
            assert!(matches!(error, Err(Error::Stream { .. })), "{error:?}");
        }
        assert!(matches!(pool.fork(closed), Err(Error::Stream { .. })));
        assert!(matches!(pool.snapshot(foreign), Err(Error::Stream { .. })));
        assert!(matches!(pool.restore(a, &State::zeros(network, 2).unwrap()), Err(Error::Shape { .. })));
        assert_eq!(pool.advance(&[]).unwrap().len(), 0);
        assert_eq!(pool.advance(&[(a, good), (b, good)]).unwrap().len(), 2, "the pool is unharmed");

        let tokens = &networks()[6].1;
        let pool = self::pool(&device, tokens, 1);
        let [a, b] = [(); 2].map(|()| pool.open().unwrap());
        let error = pool.advance(&[(a, Input::tokens(&[1], [1, 1])), (b, Input::tokens(&[1, 7], [2, 1]))]).unwrap_err();
        assert_eq!(error.to_string(), "token 7 at row 1, step 1: expected an id below 7");
    }
}

/// What depends on later steps, or on earlier ones that no state holds, is refused by its layer's name.
#[test]
fn what_cannot_be_cut_is_refused() {
    let device = device();
    let both = RecurrentSpec { bidirectional: true, ..lstm(3, 4) };
    let pooled = LayerSpec::GlobalPool(GlobalPoolSpec { name: "mean".into(), pool: Pool::Average });
    let first = LayerSpec::Select(SelectSpec { name: "first".into(), step: SelectStep::First });
    let reverse = LayerSpec::Reverse(NamedSpec { name: "backwards".into() });
    let conv: LayerSpec =
        serde_json::from_str(r#"{"type":"conv1d","name":"conv","in_channels":3,"out_channels":3,"kernel_size":2}"#)
            .unwrap();
    let lstm = || LayerSpec::Lstm(lstm(3, 4));
    for (layers, name) in [
        (vec![LayerSpec::Lstm(both)], "lstm.l0"),
        (vec![lstm(), pooled], "mean"),
        (vec![lstm(), first], "first"),
        (vec![reverse, lstm()], "backwards"),
        (vec![conv, lstm()], "conv"),
        (vec![dense(3, 4)], "network"),
    ] {
        let mut layers = layers;
        if name == "backwards" {
            layers.insert(0, dense(3, 3));
        }
        let network = Network::random(spec(layers), 1).unwrap();
        for device in devices(device) {
            let error = StreamPool::new(Session::new(&device, &network).unwrap(), 1).unwrap_err();
            assert!(matches!(&error, Error::Unsupported { place, .. } if place.contains(name)), "{name}: {error}");
        }
    }
}

/// The pool grows with every stream in its place, up to its limit, which is an error.
#[test]
fn pools_grow_up_to_their_limit() {
    let device = device();
    for device in devices(device) {
        let network = &networks()[0].1;
        let session = Arc::new(Session::new(&device, network).unwrap());
        let pool = StreamPool::with_limit(session.clone(), 1, 10).unwrap();
        let mut kept = Vec::new();
        for seed in 0..10 {
            let id = pool.open().unwrap();
            let state = random_state(network, 1, seed);
            pool.restore(id, &state).unwrap();
            kept.push((id, state));
        }
        assert_eq!((pool.capacity(), pool.len()), (10, 10));
        assert_eq!(pool.state_bytes(), 10 * 2 * 16 * 4);
        assert_eq!(pool.open().unwrap_err().to_string(), "open streams: needs 11, the limit is 10 (the pool's limit)");
        assert!(matches!(pool.fork(kept[0].0), Err(Error::TooLarge { .. })));
        kept.iter().for_each(|(id, state)| assert_eq!(pool.snapshot(*id).unwrap(), *state));
        pool.close(kept[3].0).unwrap();
        let again = pool.open().unwrap();
        assert_eq!(pool.snapshot(again).unwrap(), State::initial(network, 1).unwrap(), "a slot comes back clean");
        assert!(matches!(StreamPool::with_limit(session, 11, 10), Err(Error::TooLarge { .. })));
    }
    // 2^30 states of 64 bytes are beyond every adapter's binding and this machine's memory.
    let session = Session::new(device, &networks()[0].1).unwrap();
    let error = StreamPool::new(session, 1 << 30).unwrap_err();
    assert!(
        matches!(&error, Error::TooLarge { limit_name, .. } if limit_name.contains("adapter") || limit_name.contains("memory")),
        "{error}"
    );
}

/// Threads that use one pool at once do not affect each other's streams.
#[test]
fn concurrent_callers_do_not_meet() {
    fn shared<T: Send + Sync>(_: &T) {}
    let device = device();
    for device in devices(device) {
        let network = &networks()[1].1;
        let pool = pool(&device, network, 1);
        shared(&pool);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let pool = &pool;
                scope.spawn(move || {
                    for turn in 0..3 {
                        let source = Source::new(network, 20, thread * 10 + turn);
                        let mut stream = Follower { id: pool.open().unwrap(), source, at: 0, got: Vec::new() };
                        for cut in [1, 4, 2, 7, 6] {
                            let input = stream.source.input(network, stream.at, stream.at + cut);
                            let calls = [(stream.id, input)];
                            let advanced = if turn == 1 {
                                pollster::block_on(pool.advance_async(&calls)).unwrap()
                            } else {
                                pool.advance(&calls).unwrap()
                            };
                            stream.take(network, &advanced, 0);
                        }
                        stream.check("concurrent", network, pool);
                        pool.close(stream.id).unwrap();
                    }
                });
            }
        });
        assert!(pool.is_empty());
    }
}

/// A chunk so long that it takes several submissions, together with a short one.
#[test]
fn long_chunks_keep_their_slots() {
    let device = device();
    let network = Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 3))]), 1).unwrap();
    let session = Session::with_options(device, &network, PlanOptions::default().strategy(RunStrategy::Step)).unwrap();
    let plan = session.plan(5120, 2).unwrap();
    assert!(plan.is_none_or(|plan| plan.submissions() > 1), "on a GPU the chunk is long enough");
    let pool = StreamPool::new(session, 3).unwrap();
    let mut streams = [1, 2].map(|seed| Follower {
        id: pool.open().unwrap(),
        source: Source::new(&network, 5200, seed),
        at: 0,
        got: Vec::new(),
    });
    for lengths in [[3, 5000], [40, 7]] {
        let calls: Vec<_> =
            streams.iter().zip(lengths).map(|(s, n)| (s.id, s.source.input(&network, s.at, s.at + n))).collect();
        let advanced = pool.advance(&calls).unwrap();
        streams.iter_mut().enumerate().for_each(|(i, stream)| stream.take(&network, &advanced, i));
    }
    streams.iter().for_each(|stream| stream.check("long", &network, &pool));
}
