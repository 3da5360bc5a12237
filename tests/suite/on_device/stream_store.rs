//! States that streams share by reference: forks, earlier states, prefixes.

use gatefold::network::LayerSpec;
use gatefold::{Device, Error, Input, Network, PoolOptions, Session, State, StreamId, StreamPool};

use super::streams::{Source, networks};
use crate::common::{device, devices, pool, random_state, spec};

fn pool_with(device: &Device, network: &Network, options: PoolOptions) -> StreamPool {
    StreamPool::with_options(Session::new(device, network).unwrap(), options).unwrap()
}

fn network_of_tokens() -> Network {
    networks().into_iter().find(|(name, _)| *name == "tokens").unwrap().1
}

fn advance(pool: &StreamPool, id: StreamId, source: &Source, from: usize, to: usize) -> Vec<f32> {
    let network = pool.session().network().clone();
    pool.advance(&[(id, source.input(&network, from, to))]).unwrap().values(0).to_vec()
}

/// Forks take neither memory nor work of the device until they differ, and then have the bits of streams whose states were copied.
#[test]
fn forks_cost_nothing_until_they_differ() {
    for device in devices(device()) {
        for (name, network) in networks() {
            let pool = pool(&device, &network, 1);
            let id = pool.open().unwrap();
            let source = Source::new(&network, 12, 1);
            advance(&pool, id, &source, 0, 4);
            let state = pool.snapshot(id).unwrap();
            let before = (pool.state_bytes(), pool.session().counters());
            let forks: Vec<StreamId> = (0..1000).map(|_| pool.fork(id).unwrap()).collect();
            assert_eq!((pool.state_bytes(), pool.session().counters()), before, "{name}");
            assert_eq!((pool.len(), pool.states_by_place()), (1001, [1, 0, 0]), "{name}");
            // Three and the stream itself differ; the rest stay what they were.
            let few = [forks[3], id, forks[500], forks[999]];
            let input = |at: usize| source.input(&network, 4 + at, 6 + at);
            let calls: Vec<_> = few.iter().enumerate().map(|(at, &id)| (id, input(at))).collect();
            let together = pool.advance(&calls).unwrap();
            assert_eq!(pool.states_by_place(), [5, 0, 0], "{name}");
            let copies = self::pool(&device, &network, 4);
            let copied = few.map(|_| {
                let copy = copies.open().unwrap();
                copies.restore(copy, &state).unwrap();
                copy
            });
            let calls: Vec<_> = copied.iter().enumerate().map(|(at, &id)| (id, input(at))).collect();
            let apart = copies.advance(&calls).unwrap();
            // A restored stream counts as one that has begun, as this one has if any of its tokens counted.
            for (at, (fork, copy)) in few.into_iter().zip(copied).enumerate() {
                if !name.starts_with("masked") {
                    assert_eq!(together.values(at), apart.values(at), "{name}");
                    assert_eq!(pool.snapshot(fork).unwrap(), copies.snapshot(copy).unwrap(), "{name}");
                }
            }
            assert_eq!(pool.snapshot(forks[4]).unwrap(), state, "{name}");
            // Changed without a run.
            let (layer, part) = (&network.kept()[0].name, network.kept()[0].parts[0].name);
            pool.poke(forks[5], layer, part, 0, &[0.125]).unwrap();
            pool.restore(forks[6], &random_state(&network, 1, 2)).unwrap();
            pool.reset(forks[7]).unwrap();
            assert_eq!(pool.snapshot(forks[4]).unwrap(), state, "{name}");
            assert_ne!(pool.snapshot(forks[5]).unwrap(), state, "{name}");
            forks.into_iter().chain([id]).for_each(|id| pool.close(id).unwrap());
            assert_eq!(pool.states_by_place(), [0; 3], "{name}: no state has a holder");
        }
    }
}

/// A stream goes back to what it was, without a run, and from there as it went the first time.
#[test]
fn a_stream_goes_back() {
    for device in devices(device()) {
        for (name, network) in networks() {
            let pool = pool_with(&device, &network, PoolOptions { keep_last: 3, ..PoolOptions::default() });
            let id = pool.open().unwrap();
            let source = Source::new(&network, 20, 1);
            let mut states = vec![pool.snapshot(id).unwrap()];
            let mut answers = Vec::new();
            for turn in 0..5 {
                assert_eq!(pool.kept(id).unwrap(), turn.min(3), "{name}");
                answers.push(advance(&pool, id, &source, 2 * turn, 2 * turn + 2));
                states.push(pool.snapshot(id).unwrap());
            }
            let fork = pool.fork(id).unwrap();
            let before = pool.session().counters();
            pool.rewind(id, 2).unwrap();
            pool.rewind(id, 0).unwrap();
            assert_eq!(pool.session().counters(), before, "{name}: no run, no byte");
            assert_eq!((pool.snapshot(id).unwrap(), pool.kept(id).unwrap()), (states[3].clone(), 1), "{name}");
            let again: Vec<Vec<f32>> = (3..5).map(|turn| advance(&pool, id, &source, 2 * turn, 2 * turn + 2)).collect();
            assert_eq!(again, answers[3..], "{name}");
            assert_eq!(pool.snapshot(id).unwrap(), states[5], "{name}");
            // The fork has a past of its own, the same one.
            assert_eq!(pool.kept(fork).unwrap(), 3, "{name}");
            pool.rewind(fork, 3).unwrap();
            assert_eq!(pool.snapshot(fork).unwrap(), states[2], "{name}");
            assert_eq!(pool.snapshot(id).unwrap(), states[5], "{name}");
            // What else changes a state can be taken back too.
            let (layer, part) = (&network.kept()[0].name, network.kept()[0].parts[0].name);
            pool.poke(id, layer, part, 0, &[0.5]).unwrap();
            pool.restore(id, &random_state(&network, 1, 1)).unwrap();
            pool.reset(id).unwrap();
            assert_eq!(pool.snapshot(id).unwrap(), State::initial(&network, 1).unwrap(), "{name}");
            let error = pool.rewind(id, 4).unwrap_err();
            assert!(matches!(&error, Error::Stream { .. }) && error.to_string().contains("got 3 of them"), "{error}");
            pool.rewind(id, 3).unwrap();
            assert_eq!(pool.snapshot(id).unwrap(), states[5], "{name}");
            [id, fork].into_iter().for_each(|id| pool.close(id).unwrap());
            assert!(matches!(pool.rewind(id, 0), Err(Error::Stream { .. })));
            assert_eq!(pool.states_by_place(), [0; 3], "{name}: no state has a holder");
        }
        // Without the option there is nothing to go back to.
        let network = network_of_tokens();
        let pool = pool(&device, &network, 1);
        let id = pool.open().unwrap();
        advance(&pool, id, &Source::new(&network, 2, 1), 0, 2);
        assert!(matches!(pool.rewind(id, 1), Err(Error::Stream { .. })));
    }
}

/// Streams that begin alike read the beginning once.
#[test]
fn a_prefix_is_read_once() {
    for device in devices(device()) {
        let network = network_of_tokens();
        let Source::Tokens(intro) = Source::new(&network, 1000, 1) else { panic!("tokens") };
        let options = PoolOptions { prefix_bytes: 1 << 20, ..PoolOptions::default() };
        let pool = pool_with(&device, &network, options);
        let plain = self::pool(&device, &network, 1);
        let read = plain.open().unwrap();
        plain.advance(&[(read, Input::tokens(&intro, [intro.len(), 1]))]).unwrap();
        let expected = plain.snapshot(read).unwrap();
        let first = pool.open_with_prefix(&intro).unwrap();
        assert_eq!(pool.snapshot(first).unwrap(), expected);
        let before = pool.session().counters();
        let streams: Vec<StreamId> = (0..1000).map(|_| pool.open_with_prefix(&intro).unwrap()).collect();
        assert_eq!(pool.session().counters(), before, "no run, no byte");
        let counters = pool.prefix_counters();
        assert_eq!((counters.prefixes, counters.hits, counters.misses), (1, 1000, 1));
        assert_eq!((counters.bytes, counters.tokens_saved), (4 * (1000 + 16), 1000 * 1000));
        // The same answer as after reading it, and no stream touches another or what is held.
        let more = [3, 1, 2];
        let answer = |pool: &StreamPool, id| {
            let answers = pool.advance(&[(id, Input::tokens(&more, [3, 1]))]).unwrap();
            answers.values(0).to_vec()
        };
        let expected_answer = answer(&plain, read);
        assert_eq!([first, streams[7]].map(|id| answer(&pool, id)), [expected_answer.clone(), expected_answer]);
        assert_eq!(pool.snapshot(streams[8]).unwrap(), expected);
        // Only what is new is read of a longer prefix: the bits of reading it in two calls.
        let longer = [&intro[..], &more].concat();
        let steps = pool.session().counters().steps;
        let two = pool.open_with_prefix(&longer).unwrap();
        assert!(pool.session().counters().steps - steps <= 4);
        assert_eq!(pool.snapshot(two).unwrap(), plain.snapshot(read).unwrap());
        let counters = pool.prefix_counters();
        assert_eq!((counters.prefixes, counters.bytes), (2, 4 * (1003 + 32)), "the common tokens are stored once");
        // Other tokens are not found: the negative control.
        let mut other = intro.clone();
        other[998] = (other[998] + 1) % 7;
        let other = pool.open_with_prefix(&other).unwrap();
        assert_ne!(pool.snapshot(other).unwrap(), expected);
        assert_eq!(pool.prefix_counters().misses, 2);
    }
}

/// The prefix memory keeps its budget, and gives up what was used longest ago.
#[test]
fn old_prefixes_are_given_up() {
    for device in devices(device()) {
        let network = network_of_tokens();
        // Two states of 16 numbers with three tokens each.
        let pool = pool_with(&device, &network, PoolOptions { prefix_bytes: 2 * 4 * 19, ..PoolOptions::default() });
        let [a, b, c] = [[1, 2, 3], [2, 2, 3], [3, 2, 3]];
        let hits = |tokens: &[u32]| {
            let before = pool.prefix_counters().hits;
            let id = pool.open_with_prefix(tokens).unwrap();
            let state = pool.snapshot(id).unwrap();
            pool.close(id).unwrap();
            (pool.prefix_counters().hits - before, state)
        };
        let (first, state) = hits(&a);
        assert_eq!((first, hits(&b).0), (0, 0));
        assert_eq!(hits(&a), (1, state.clone()));
        assert_eq!(hits(&c).0, 0, "b is given up for it");
        assert_eq!((hits(&a).0, hits(&c).0, hits(&b).0), (1, 1, 0));
        let counters = pool.prefix_counters();
        assert_eq!((counters.prefixes, counters.evicted, counters.bytes), (2, 2, 2 * 4 * 19));
        assert_eq!(hits(&a), (0, state), "read again");
        // What is larger than the budget is read and not held.
        let long: Vec<u32> = (0..40).map(|at| at % 7).collect();
        assert_eq!((hits(&long).0, hits(&long).0), (0, 0));
        assert_eq!(pool.states_by_place(), [2, 0, 0], "no stream is open");
        // Bad input.
        assert!(matches!(pool.open_with_prefix(&[]), Err(Error::Shape { .. })));
        let error = pool.open_with_prefix(&[1, 2, 3, 9]).unwrap_err();
        assert_eq!(error.to_string(), "token 9 at row 0, step 3: expected an id below 7");
        assert!(pool.is_empty());
        let features = self::pool(&device, &networks()[0].1, 1);
        assert!(matches!(features.open_with_prefix(&[1]), Err(Error::Unsupported { .. })));
    }
}

/// The bank of a stream comes back with its past states, and is freed when no stream can rewind to it.
#[test]
fn banks_come_back_with_their_states() {
    let layers: Vec<LayerSpec> = serde_json::from_str(
        r#"[{"type": "embedding", "name": "written", "num_embeddings": 5, "embedding_dim": 4},
        {"type": "lstm", "name": "decoder", "input_size": 4, "hidden_size": 6},
        {"type": "input", "name": "source", "input_size": 6}, {"type": "from", "layer": "decoder"},
        {"type": "attention", "name": "attention", "embed_dim": 6, "keys": "source"},
        {"type": "dense", "name": "next", "in_features": 6, "out_features": 5}]"#,
    )
    .unwrap();
    let network = Network::random(spec(layers), 1).unwrap();
    for device in devices(device()) {
        let pool = pool_with(&device, &network, PoolOptions { keep_last: 2, ..PoolOptions::default() });
        let sources = [3, 4, 5].map(|steps| vec![0.1 * steps as f32; steps * 6]);
        let source = |at: usize| Input::features(&sources[at], [3 + at, 1, 6]);
        let id = pool.open_reading(source(0)).unwrap()[0];
        let advance = |id| pool.advance(&[(id, Input::tokens(&[2], [1, 1]))]).unwrap().values(0).to_vec();
        let mut answers = vec![advance(id)];
        for other in [1, 2] {
            pool.read(&[id], source(other)).unwrap();
            answers.push(advance(id));
        }
        let steps = |id| pool.bank(id).unwrap().parts[0].counts.len();
        assert_eq!((steps(id), pool.bank_steps()[0]), (5, 12));
        let fork = pool.fork(id).unwrap();
        // Before the last answer it attended to the last bank, before the one before to the second.
        pool.rewind(id, 1).unwrap();
        assert_eq!((steps(id), advance(id)), (5, answers[2].clone()));
        pool.rewind(id, 2).unwrap();
        assert_eq!((steps(id), advance(id)), (4, answers[1].clone()));
        assert_eq!(steps(fork), 5);
        [id, fork].into_iter().for_each(|id| pool.close(id).unwrap());
        assert_eq!((pool.bank_steps()[0], pool.states_by_place()), (0, [0; 3]));
    }
}
