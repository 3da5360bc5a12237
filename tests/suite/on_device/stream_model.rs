//! The store of states under random operations, against a plain model: a list of states for each stream, and a pool in which
//! nothing is shared, kept or moved.

use std::panic::{AssertUnwindSafe, catch_unwind};

use fastrand::Rng;
use gatefold::network::{EmbeddingSpec, LayerSpec, RecurrentSpec};
use gatefold::{Device, Error, Input, Network, PagingOptions, PoolOptions, Session, State, StreamId, StreamPool};

use crate::common::{device, devices, lstm, pool, selected, spec};

const VOCABULARY: u32 = 5;
/// Earlier states that a stream keeps.
const KEPT: usize = 2;
/// Most open streams.
const MOST: usize = 12;
const OPERATIONS: usize = 60;

/// What is done wrong to the pool under test, for the negative controls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// A fork is a new stream.
    Fork,
    /// One state less is gone back.
    Rewind,
    /// Another stream is changed in place.
    Poke,
    /// A state is not restored.
    Restore,
    /// One token of a prefix is another.
    Prefix,
}

/// Tokens, with a state that the network stores or zeros at first.
fn network(initial_state: bool) -> Network {
    let embedding = EmbeddingSpec { name: "e".into(), num_embeddings: 5, embedding_dim: 4, mask_zero: false };
    let cell = RecurrentSpec { initial_state, ..lstm(4, 6) };
    let gru = RecurrentSpec::new("gru", 6, 5);
    Network::random(spec(vec![LayerSpec::Embedding(embedding), LayerSpec::Lstm(cell), LayerSpec::Gru(gru)]), 7).unwrap()
}

/// A pool for whose streams the device and the host's memory are too small.
fn store(device: &Device, network: &Network, file: &std::path::Path) -> StreamPool {
    let initial: State = State::initial(network, 1).unwrap();
    let numbers: usize = initial.layers.iter().map(|layer| layer.numbers().count()).sum();
    let bytes = |states: usize| (states * numbers * 4) as u64;
    let paging =
        PagingOptions { device_bytes: bytes(7), host_bytes: bytes(9), file_bytes: bytes(200), file: Some(file.into()) };
    let options =
        PoolOptions { limit: MOST, keep_last: KEPT, prefix_bytes: bytes(3), paging: Some(paging), capacity: 1 };
    StreamPool::with_options(Session::new(device, network).unwrap(), options).unwrap()
}

/// A stream of the pool under test, and what it must be: its states, the last one present.
#[derive(Clone)]
struct Modelled {
    id: StreamId,
    states: Vec<State>,
}

impl Modelled {
    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn change(&mut self, state: State) {
        self.states.push(state);
        let outdated = self.states.len().saturating_sub(KEPT + 1);
        self.states.drain(..outdated);
    }
}

fn tokens(rng: &mut Rng, count: usize) -> Vec<u32> {
    (0..count).map(|_| rng.u32(..VOCABULARY)).collect()
}

fn input(tokens: &[u32]) -> Input<'_> {
    Input::tokens(tokens, [tokens.len(), 1])
}

/// What streams in these states answer and become.
fn plainly(plain: &StreamPool, calls: &[(&State, &[u32])]) -> Vec<(Vec<f32>, State)> {
    let ids: Vec<StreamId> = calls.iter().map(|_| plain.open().unwrap()).collect();
    ids.iter().zip(calls).for_each(|(&id, (state, _))| plain.restore(id, state).unwrap());
    let rows: Vec<_> = ids.iter().zip(calls).map(|(&id, (_, tokens))| (id, input(tokens))).collect();
    let answers = plain.advance(&rows).unwrap();
    let after = ids.iter().zip(answers.iter()).map(|(&id, values)| (values.to_vec(), plain.snapshot(id).unwrap()));
    let after: Vec<_> = after.collect();
    ids.into_iter().for_each(|id| plain.close(id).unwrap());
    after
}

fn play(device: &Device, network: &Network, seed: u64, fault: Option<Fault>) {
    let folder = tempfile::tempdir().unwrap();
    let store = store(device, network, &folder.path().join("pages"));
    let plain = pool(device, network, MOST);
    let initial = State::initial(network, 1).unwrap();
    let mut rng = Rng::with_seed(seed);
    let mut streams: Vec<Modelled> = Vec::new();
    let mut saved: Vec<(Vec<u8>, State)> = Vec::new();
    let (introductions, mut done) = ([tokens(&mut rng, 5), tokens(&mut rng, 7)], [0; 10]);
    for step in 0..OPERATIONS {
        let operation = if streams.is_empty() { 0 } else { rng.usize(0..10) };
        let at = rng.usize(0..streams.len().max(1));
        done[operation] += 1;
        let what = format!("{}: seed {seed}, operation {step}, kind {operation}", device.info());
        match operation {
            0 if streams.len() < MOST => {
                streams.push(Modelled { id: store.open().unwrap(), states: vec![initial.clone()] });
            }
            0 => assert!(matches!(store.open(), Err(Error::TooLarge { .. })), "{what}"),
            1 if streams.len() < MOST => {
                let id = match fault {
                    Some(Fault::Fork) => store.open().unwrap(),
                    _ => store.fork(streams[at].id).unwrap(),
                };
                streams.push(Modelled { id, ..streams[at].clone() });
            }
            2 if streams.len() < MOST => {
                let length = rng.usize(2..=5);
                let mut tokens = introductions[rng.usize(0..2)][..length].to_vec();
                let (_, state) = plainly(&plain, &[(&initial, &tokens)]).remove(0);
                if fault == Some(Fault::Prefix) {
                    tokens[0] = (tokens[0] + 1) % VOCABULARY;
                }
                streams.push(Modelled { id: store.open_with_prefix(&tokens).unwrap(), states: vec![state] });
            }
            3 => {
                let gone = streams.swap_remove(at);
                store.close(gone.id).unwrap();
                assert!(matches!(store.snapshot(gone.id), Err(Error::Stream { .. })), "{what}");
            }
            4 => {
                let (count, kept) = (rng.usize(0..=KEPT + 1), streams[at].states.len() - 1);
                assert_eq!(store.kept(streams[at].id).unwrap(), kept, "{what}");
                let wrong = usize::from(fault == Some(Fault::Rewind) && count > 0);
                let went = store.rewind(streams[at].id, count - wrong);
                if count <= kept {
                    went.unwrap();
                    streams[at].states.truncate(kept + 1 - count);
                } else if wrong == 0 {
                    assert!(matches!(went, Err(Error::Stream { .. })), "{what}");
                }
            }
            5 => {
                let mut state = streams[at].now().clone();
                let first = rng.usize(0..3);
                state.layers[1].parts[0].data[first..first + 2].copy_from_slice(&[0.25, -0.5]);
                let other = if fault == Some(Fault::Poke) { (at + 1) % streams.len() } else { at };
                store.poke(streams[other].id, "gru", "h", first, &[0.25, -0.5]).unwrap();
                streams[at].change(state);
            }
            6 => {
                let bytes = store.snapshot(streams[at].id).unwrap().to_bytes(network).unwrap();
                saved.push((bytes, streams[at].now().clone()));
            }
            7 if !saved.is_empty() => {
                let (bytes, state) = &saved[rng.usize(0..saved.len())];
                if fault != Some(Fault::Restore) {
                    store.restore(streams[at].id, &State::from_bytes(bytes, network).unwrap()).unwrap();
                }
                streams[at].change(state.clone());
            }
            8 if rng.u8(0..4) == 0 => {
                store.reset(streams[at].id).unwrap();
                streams[at].change(initial.clone());
            }
            _ => {
                let mut order: Vec<usize> = (0..streams.len()).collect();
                rng.shuffle(&mut order);
                order.truncate(rng.usize(1..=3));
                let read: Vec<Vec<u32>> = order
                    .iter()
                    .map(|_| {
                        let count = rng.usize(1..4);
                        tokens(&mut rng, count)
                    })
                    .collect();
                let calls: Vec<_> = order.iter().zip(&read).map(|(&at, read)| (streams[at].id, input(read))).collect();
                let answers = store.advance(&calls).unwrap();
                let calls: Vec<_> = order.iter().zip(&read).map(|(&at, read)| (streams[at].now(), &read[..])).collect();
                let expected = plainly(&plain, &calls);
                for ((row, at), (values, state)) in order.into_iter().enumerate().zip(expected) {
                    assert_eq!(answers.values(row), values, "{what}");
                    streams[at].change(state);
                }
            }
        }
        assert_eq!(store.len(), streams.len(), "{what}");
        if let Some(stream) = streams.get(rng.usize(0..streams.len().max(1))) {
            let part = store.look(stream.id, "lstm", "c").unwrap();
            assert_eq!(part.data, stream.now().layers[0].parts[1].data, "{what}");
        }
        if step % 5 == 4 {
            for (number, stream) in streams.iter().enumerate() {
                assert_eq!(store.snapshot(stream.id).unwrap(), *stream.now(), "{what}, stream {number}");
            }
        }
    }
    let places = store.states_by_place();
    assert!(places[0] <= 7 && places[1] <= 9, "{places:?}");
    assert!(fault.is_some() || done.iter().filter(|&&count| count > 0).count() >= 8, "{done:?}");
    let held = store.prefix_counters().prefixes;
    streams.into_iter().for_each(|stream| store.close(stream.id).unwrap());
    assert_eq!(store.states_by_place().iter().sum::<usize>(), held, "only prefixes hold states");
}

#[test]
fn random_operations_agree_with_a_plain_model() {
    for device in devices(device()) {
        for network in [false, true].map(network) {
            selected(0..12).for_each(|seed| play(&device, &network, seed, None));
        }
    }
}

/// Negative control: each fault is noticed by one of the plays at least.
#[test]
fn faults_of_the_store_are_noticed() {
    let (device, network) = (Device::cpu(), network(true));
    for fault in [Fault::Fork, Fault::Rewind, Fault::Poke, Fault::Restore, Fault::Prefix] {
        let noticed =
            (0..12).any(|seed| catch_unwind(AssertUnwindSafe(|| play(&device, &network, seed, Some(fault)))).is_err());
        assert!(noticed, "{fault:?} went unseen");
    }
}
