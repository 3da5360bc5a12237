//! Streams of decoders that attend to what an encoder read once: against the f64 reference of the whole network.

use fastrand::Rng;
use gatefold::compare::{Tolerance, compare};
use gatefold::network::LayerSpec;
use gatefold::unstable::reference::{Real, Reference, log_probability};
use gatefold::{
    BeamOptions, Device, Error, GenerateOptions, Input, NamedInput, Network, Sequence, Session, StreamId, StreamPool,
};

use super::generate::assert_same;
use crate::common::{changed, device, devices, pool, selected, spec};

/// Letters that encoders read.
const SOURCE: usize = 9;

pub fn network(layers: &str, seed: u64) -> Network {
    let layers: Vec<LayerSpec> = serde_json::from_str(layers).unwrap_or_else(|error| panic!("{layers}: {error}"));
    Network::random(spec(layers), seed).unwrap()
}

/// Whole networks: an encoder of `source` and a decoder of `target`, of `vocabulary` tokens each.
fn networks(vocabulary: usize) -> Vec<(&'static str, Network)> {
    let encoder = format!(
        r#"{{"type": "embedding", "name": "letters", "num_embeddings": {SOURCE}, "embedding_dim": 5}},
        {{"type": "gru", "name": "encoder", "input_size": 5, "hidden_size": 4, "bidirectional": true}}"#
    );
    let written =
        format!(r#"{{"type": "embedding", "name": "written", "num_embeddings": {vocabulary}, "embedding_dim": 6}}"#);
    let dense = |inputs: usize| {
        format!(r#"{{"type": "dense", "name": "next", "in_features": {inputs}, "out_features": {vocabulary}}}"#)
    };
    let join = r#"{"type": "join", "name": "both", "inputs": ["decoder", "attention"], "join": "concat"}"#;
    // The encoder in front, whose last state starts the decoder; Luong's `general` score.
    let general = format!(
        r#"[{{"type": "input", "name": "source", "kind": "tokens"}}, {encoder},
        {{"type": "final_state", "name": "read", "layer": "encoder", "part": "h"}},
        {{"type": "dense", "name": "start", "in_features": 4, "out_features": 7, "activation": "tanh"}},
        {{"type": "input", "name": "target", "kind": "tokens"}}, {written},
        {{"type": "lstm", "name": "decoder", "input_size": 6, "hidden_size": 7, "initial_h": "start"}},
        {{"type": "dense", "name": "query", "in_features": 7, "out_features": 8, "bias": false}},
        {{"type": "attention", "name": "attention", "embed_dim": 8, "keys": "encoder", "scale": 0.7}}, {join}, {}]"#,
        dense(15)
    );
    // The decoder in front; additive scores of two heads, keys and values of their own, two recurrent layers, the first of
    // which attends too.
    let additive = format!(
        r#"[{{"type": "input", "name": "target", "kind": "tokens"}}, {written},
        {{"type": "input", "name": "source", "kind": "tokens"}}, {encoder},
        {{"type": "dense", "name": "keys", "in_features": 8, "out_features": 6}},
        {{"type": "from", "layer": "encoder"}},
        {{"type": "dense", "name": "values", "in_features": 8, "out_features": 4}},
        {{"type": "from", "layer": "written"}},
        {{"type": "attention", "name": "first", "embed_dim": 6, "keys": "keys", "score": "additive"}},
        {{"type": "gru", "name": "decoder", "input_size": 6, "hidden_size": 6, "num_layers": 2}},
        {{"type": "attention", "name": "attention", "embed_dim": 6, "keys": "keys", "values": "values", "score": "additive",
        "num_heads": 2}}, {join}, {}]"#,
        dense(10)
    );
    // Vectors that are attended to as they are, without an encoder.
    let plain = format!(
        r#"[{written}, {{"type": "lstm", "name": "decoder", "input_size": 6, "hidden_size": 5}},
        {{"type": "input", "name": "source", "input_size": 5}}, {{"type": "from", "layer": "decoder"}},
        {{"type": "attention", "name": "attention", "embed_dim": 5, "keys": "source"}}, {join}, {}]"#,
        dense(10)
    );
    // The same with the vectors as the first input.
    let first = format!(
        r#"[{{"type": "input", "input_size": 5}}, {{"type": "input", "name": "target", "kind": "tokens"}}, {written},
        {{"type": "lstm", "name": "decoder", "input_size": 6, "hidden_size": 5}},
        {{"type": "attention", "name": "attention", "embed_dim": 5, "keys": "input"}}, {join}, {}]"#,
        dense(10)
    );
    let all = [("general", general), ("additive", additive), ("plain", plain), ("first", first)];
    let sharp = |network: Network| {
        // Logits and shares far enough apart that a fault is seen.
        let network = changed(&network, "next.weight", |w| w.iter_mut().for_each(|w| *w *= 6.0));
        changed(&network, "written.weight", |w| w.iter_mut().for_each(|w| *w *= 3.0))
    };
    all.into_iter().map(|(name, layers)| (name, sharp(network(&layers, 4)))).collect()
}

/// What a decoder attends to: a row of each length, in one batch.
struct Sources {
    tokens: Vec<u32>,
    vectors: Vec<f32>,
    lengths: Vec<usize>,
    longest: usize,
}

impl Sources {
    fn new(lengths: &[usize], seed: u64) -> Self {
        let (mut rng, longest) = (Rng::with_seed(seed), lengths.iter().copied().max().unwrap());
        let count = longest * lengths.len();
        let tokens = (0..count).map(|_| rng.u32(..u32::try_from(SOURCE).unwrap())).collect();
        let vectors = (0..count * 5).map(|_| rng.f32() * 4.0 - 2.0).collect();
        Self { tokens, vectors, lengths: lengths.to_vec(), longest }
    }

    fn input(&self, network: &Network) -> Input<'_> {
        let (batch, steps) = (self.lengths.len(), self.longest);
        let input = match self.is_tokens(network) {
            true => Input::tokens(&self.tokens, [steps, batch]),
            false => Input::features(&self.vectors, [steps, batch, 5]),
        };
        input.with_lengths(&self.lengths)
    }

    fn is_tokens(&self, network: &Network) -> bool {
        network.spec().layers.iter().any(|layer| layer.name() == "letters")
    }

    /// The same row of the source alone.
    fn row(&self, row: usize) -> Self {
        let (batch, length) = (self.lengths.len(), self.lengths[row].max(1));
        let steps = || (0..length).map(|step| step * batch + row);
        let tokens = steps().map(|at| self.tokens[at]).collect();
        let vectors = steps().flat_map(|at| self.vectors[at * 5..][..5].to_vec()).collect();
        Self { tokens, vectors, lengths: vec![self.lengths[row]], longest: length }
    }

    /// The whole network's f64 output `[T, V]` for one row of the source and what its decoder reads.
    fn whole(&self, network: &Network, row: usize, target: &[u32]) -> Vec<f64> {
        let (alone, shape) = (self.row(row), [target.len(), 1]);
        let reference = Reference::<f64>::new(network);
        let first = network.inputs()[0].name.as_str();
        let forward = if first == "target" || network.inputs()[1].name == "source" && first == "input" {
            let others = match self.is_tokens(network) {
                true => NamedInput::tokens("source", &alone.tokens[..], [alone.longest, 1]),
                false => NamedInput::features("source", &alone.vectors[..], [alone.longest, 1, 5]),
            };
            let others = [others.with_lengths(&alone.lengths[..])];
            reference.forward(Input::tokens(target, shape).with_others(&others), None)
        } else {
            let others = [NamedInput::tokens("target", target, shape)];
            reference.forward(alone.input(network).with_others(&others), None)
        };
        forward.unwrap().stages.pop().unwrap()
    }
}

fn tokens(rng: &mut Rng, count: usize, vocabulary: u32) -> Vec<u32> {
    (0..count).map(|_| rng.u32(..vocabulary)).collect()
}

fn assert_near(what: &str, got: &[f32], exact: &[f64], steps: usize) {
    let comparison = compare(got, exact, Tolerance::f32(steps.max(1)));
    assert!(comparison.passed, "{what}: {comparison:?}");
}

/// Streams of banks of many lengths, each advanced by other steps, some forked on the way.
fn play(device: &Device, name: &str, network: &Network, seed: u64, swapped: bool) {
    let mut rng = Rng::with_seed(seed);
    let pool = pool(device, network, 1);
    let lengths = [1, 7, 3, rng.usize(1..20), 65 + rng.usize(0..20), 0];
    let sources = Sources::new(&lengths, seed);
    let ids = pool.open_reading(sources.input(network)).unwrap();
    let mut streams: Vec<(StreamId, usize, Vec<u32>, Vec<f32>)> =
        ids.into_iter().enumerate().map(|(row, id)| (id, row, Vec::new(), Vec::new())).collect();
    for round in 0..6 {
        let cuts: Vec<Vec<u32>> = streams
            .iter()
            .map(|_| {
                let steps = rng.usize(0..4);
                tokens(&mut rng, steps, 5)
            })
            .collect();
        let going: Vec<usize> = (0..streams.len()).filter(|&at| !cuts[at].is_empty()).collect();
        let mut of: Vec<usize> = going.clone();
        if swapped && of.len() > 1 {
            of.swap(0, 1);
        }
        let calls: Vec<_> = going
            .iter()
            .zip(&of)
            .map(|(&at, &of)| (streams[of].0, Input::tokens(&cuts[at], [cuts[at].len(), 1])))
            .collect();
        let advanced = pool.advance(&calls).unwrap();
        for (index, &at) in going.iter().enumerate() {
            streams[at].2.extend(&cuts[at]);
            streams[at].3.extend(advanced.values(index));
        }
        if round % 2 == 1 {
            let at = rng.usize(..streams.len());
            let (id, row, read, got) = streams[at].clone();
            streams.push((pool.fork(id).unwrap(), row, read, got));
            if streams.len() > 7 {
                pool.close(streams.remove(0).0).unwrap();
            }
        }
    }
    for (_, row, read, got) in &streams {
        if !read.is_empty() {
            let exact = sources.whole(network, *row, read);
            assert_near(&format!("{name} on {}, row {row}", device.info()), got, &exact, read.len());
        }
    }
    streams.into_iter().for_each(|stream| pool.close(stream.0).unwrap());
    assert_eq!(pool.bank_steps()[0], 0, "no bank outlives its streams");
}

#[test]
fn streams_agree_with_whole_runs() {
    for device in devices(device()) {
        for (name, network) in networks(5) {
            for seed in selected(0..6) {
                play(&device, name, &network, seed, false);
            }
        }
    }
}

/// Negative control: two streams that change places are noticed.
#[test]
fn another_bank_is_noticed() {
    for device in devices(device()) {
        for (name, network) in networks(5) {
            let swapped = std::panic::AssertUnwindSafe(|| play(&device, name, &network, 1, true));
            assert!(std::panic::catch_unwind(swapped).is_err(), "{name} on {}", device.info());
        }
    }
}

/// Cut at every step, its state and bank saved there and restored in another pool: the same bits.
#[test]
fn a_stream_goes_on_elsewhere() {
    for device in devices(device()) {
        for (name, network) in networks(5) {
            let what = format!("{name} on {}", device.info());
            let sources = Sources::new(&[11, 4], 3);
            let pool = pool(&device, &network, 1);
            let read = tokens(&mut Rng::with_seed(8), 12, 5);
            let [uncut, stepwise] = [(); 2].map(|()| pool.open_reading(sources.input(&network)).unwrap()[0]);
            let at_once = pool.advance(&[(uncut, Input::tokens(&read, [12, 1]))]).unwrap().values(0).to_vec();
            let (mut elsewhere, mut moved) = (None::<StreamPool>, stepwise);
            let (mut expected, mut got) = (Vec::new(), Vec::new());
            let still = pool.open_reading(sources.input(&network)).unwrap()[0];
            for token in &read {
                let input = Input::tokens(std::slice::from_ref(token), [1, 1]);
                expected.extend(pool.advance(&[(still, input)]).unwrap().values(0).to_vec());
                let here = elsewhere.as_ref().unwrap_or(&pool);
                let (state, bank) = (here.snapshot(moved).unwrap(), here.bank(moved).unwrap());
                let decoder = here.session().network();
                let bank = gatefold::Bank::from_bytes(&bank.to_bytes(decoder).unwrap(), decoder).unwrap();
                let state = gatefold::State::from_bytes(&state.to_bytes(decoder).unwrap(), decoder).unwrap();
                let next = crate::common::pool(&device, &network, 1);
                moved = next.open().unwrap();
                next.set_bank(moved, &bank).unwrap();
                next.restore(moved, &state).unwrap();
                assert_eq!(next.bank(moved).unwrap(), bank, "{what}");
                got.extend(next.advance(&[(moved, input)]).unwrap().values(0).to_vec());
                elsewhere = Some(next);
            }
            assert_eq!(got, expected, "{what}");
            assert_near(&what, &at_once, &sources.whole(&network, 0, &read), 12);
            assert_eq!(got, at_once, "{what}: uncut");
        }
    }
}

/// Saved on one device and restored on the other.
#[test]
fn a_bank_moves_between_devices() {
    let [one, other] = devices(device());
    for (name, network) in networks(5) {
        let sources = Sources::new(&[9, 30], 5);
        let read = tokens(&mut Rng::with_seed(2), 6, 5);
        let [from, to] = [&one, &other].map(|device| pool(device, &network, 2));
        let id = from.open_reading(sources.input(&network)).unwrap()[1];
        from.advance(&[(id, Input::tokens(&read[..3], [3, 1]))]).unwrap();
        let there = to.open().unwrap();
        to.set_bank(there, &from.bank(id).unwrap()).unwrap();
        to.restore(there, &from.snapshot(id).unwrap()).unwrap();
        let got = to.advance(&[(there, Input::tokens(&read[3..], [3, 1]))]).unwrap().values(0).to_vec();
        assert_near(name, &got, &sources.whole(&network, 1, &read)[3 * 5..], 6);
        // Back to where the encoder left it.
        to.reset(there).unwrap();
        let again = to.advance(&[(there, Input::tokens(&read, [6, 1]))]).unwrap().values(0).to_vec();
        assert_near(name, &again, &sources.whole(&network, 1, &read), 6);
    }
}

/// Ten thousand forks of a stream with a bank of 200 kB take no further bank.
#[test]
fn forks_share_their_bank() {
    for device in devices(device()) {
        let network = network(
            r#"[{"type": "embedding", "name": "written", "num_embeddings": 5, "embedding_dim": 4},
            {"type": "lstm", "name": "decoder", "input_size": 4, "hidden_size": 4},
            {"type": "dense", "name": "query", "in_features": 4, "out_features": 64},
            {"type": "input", "name": "source", "input_size": 64}, {"type": "from", "layer": "query"},
            {"type": "attention", "name": "attention", "embed_dim": 64, "keys": "source"},
            {"type": "dense", "name": "next", "in_features": 64, "out_features": 5}]"#,
            1,
        );
        let pool = pool(&device, &network, 10_001);
        let (steps, mut rng) = (800, Rng::with_seed(1));
        let source: Vec<f32> = (0..steps * 64).map(|_| rng.f32() - 0.5).collect();
        let id = pool.open_reading(Input::features(&source, [steps, 1, 64])).unwrap()[0];
        let before = (pool.bank_steps(), pool.state_bytes());
        let forks: Vec<StreamId> = (0..10_000).map(|_| pool.fork(id).unwrap()).collect();
        assert_eq!((pool.bank_steps(), pool.state_bytes()), before, "{}", device.info());
        assert!(before.0[0] == steps && before.1 < 2_000_000, "{before:?}");
        let token = [3];
        let few: Vec<_> = forks.iter().step_by(1000).map(|&fork| (fork, Input::tokens(&token, [1, 1]))).collect();
        let advanced = pool.advance(&few).unwrap();
        assert!(advanced.iter().all(|values| values == advanced.values(0)));
        pool.close(id).unwrap();
        assert_eq!(pool.bank_steps()[0], steps, "forks hold it");
        forks.into_iter().for_each(|fork| pool.close(fork).unwrap());
        assert_eq!(pool.bank_steps()[0], 0);
    }
}

/// Logits `[V]` behind a prompt.
fn logits(sources: &Sources, network: &Network, row: usize, read: &[u32]) -> Vec<f64> {
    let all = sources.whole(network, row, read);
    all[all.len() - network.output_size()..].to_vec()
}

/// Every continuation of up to `most` tokens, the best first.
fn exhaustive(
    sources: &Sources,
    network: &Network,
    row: usize,
    prompt: &[u32],
    options: &BeamOptions,
) -> Vec<Sequence> {
    let (mut all, none) = (Vec::new(), Sequence { tokens: Vec::new(), log_probability: 0.0, stopped: false });
    let mut open = vec![none];
    while let Some(sequence) = open.pop() {
        if sequence.stopped || sequence.tokens.len() == options.max_new_tokens {
            all.push(sequence);
            continue;
        }
        let logits = logits(sources, network, row, &[prompt, &sequence.tokens].concat());
        open.extend((0u32..).zip(0..logits.len()).map(|(id, token)| Sequence {
            tokens: [&sequence.tokens[..], &[id]].concat(),
            log_probability: sequence.log_probability + log_probability(&logits, token).to_f32(),
            stopped: options.eos.contains(&id),
        }));
    }
    let score = |sequence: &Sequence| sequence.score(options.length_penalty);
    all.sort_by(|a, b| score(b).total_cmp(&score(a)));
    all.truncate(options.num_beams);
    all
}

fn search(device: &Device, fault: impl Fn(&Network) -> Network) {
    let options = BeamOptions { num_beams: 64, max_new_tokens: 3, eos: vec![0], length_penalty: 1.0 };
    for (name, network) in networks(4) {
        let sources = Sources::new(&[6, 2, 9], 7);
        let pool = pool(device, &fault(&network), 1);
        let streams = pool.open_reading(sources.input(&network)).unwrap();
        let prompts: Vec<_> = streams.iter().copied().zip([&[0][..], &[1, 3, 2], &[2, 2]]).collect();
        let before = pool.bank_steps()[0];
        let got = pool.beam_search(&prompts, &options).unwrap();
        for (row, ((_, prompt), got)) in prompts.iter().zip(&got).enumerate() {
            let expected = exhaustive(&sources, &network, row, prompt, &options);
            assert_same(&format!("{name} on {}", device.info()), got, &expected);
        }
        assert_eq!((pool.len(), pool.bank_steps()[0]), (3, before), "forks are gone");
        // Greedy: the most probable token again and again.
        let options = GenerateOptions { max_new_tokens: 4, ..GenerateOptions::default() };
        let greedy = pool.generate(&prompts, &options).unwrap();
        for (row, ((_, prompt), got)) in prompts.iter().zip(&greedy).enumerate() {
            let mut read = prompt.to_vec();
            for &token in &got.tokens {
                let logits = logits(&sources, &network, row, &read);
                let most = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
                assert_eq!(token as usize, most, "{name} on {}", device.info());
                read.push(token);
            }
        }
    }
}

/// Beams that share the banks of their prompts, of several lengths, find what an exhaustive search finds.
#[test]
fn wide_beams_are_an_exhaustive_search() {
    for device in devices(device()) {
        search(&device, Network::clone);
    }
}

/// Negative control: a decoder a little off gives other continuations.
#[test]
fn another_search_is_noticed() {
    for device in devices(device()) {
        let nudge = |network: &Network| changed(network, "next.bias", |bias| bias[1] += 0.05);
        let nudged = std::panic::AssertUnwindSafe(|| search(&device, nudge));
        assert!(std::panic::catch_unwind(nudged).is_err(), "{}", device.info());
    }
}

/// What is not right is a typed error, and the other streams are unharmed.
#[test]
fn mistakes_harm_no_other_stream() {
    for device in devices(device()) {
        let all = networks(5);
        let (general, plain) = (&all[0].1, &all[2].1);
        let [pool, other] = [general, plain].map(|network| pool(&device, network, 2));
        let sources = Sources::new(&[6, 2], 7);
        let streams = pool.open_reading(sources.input(general)).unwrap();
        let token = [3];
        let input = Input::tokens(&token, [1, 1]);
        let twin = pool.fork(streams[0]).unwrap();
        let (kept, bank) = (pool.snapshot(streams[0]).unwrap(), pool.bank(streams[0]).unwrap());
        let missing = pool.open().unwrap();
        let error = pool.advance(&[(streams[0], input), (missing, input)]).unwrap_err();
        assert!(matches!(error, Error::Stream { .. }) && error.to_string().contains("a stream with a bank"), "{error}");
        let error = pool.generate(&[(missing, &[0])], &GenerateOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Stream { .. }), "{error}");
        let error = pool.bank(missing).unwrap_err();
        assert!(matches!(error, Error::Stream { .. }), "{error}");
        let foreign = other.bank(other.open_reading(sources.input(plain)).unwrap()[0]).unwrap();
        let error = pool.set_bank(missing, &foreign).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }) && error.to_string().contains("`source` [6, 5]"), "{error}");
        let mut broken = bank.clone();
        broken.parts[0].values[3] = f32::NAN;
        assert!(matches!(pool.set_bank(missing, &broken).unwrap_err(), Error::NonFinite { .. }));
        broken.parts[0].values.pop();
        assert!(matches!(pool.set_bank(missing, &broken).unwrap_err(), Error::Shape { .. }));
        let error = pool.read(&streams[..1], sources.input(general)).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
        let out = [99; 3];
        let error = pool.open_reading(Input::tokens(&out, [3, 1])).unwrap_err();
        assert!(matches!(error, Error::TokenOutOfRange { .. }), "{error}");
        let others = [NamedInput::tokens("source", &token[..], [1, 1])];
        let error = pool.advance(&[(streams[0], input.with_others(&others))]).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{error}");
        assert_eq!((pool.len(), pool.snapshot(streams[0]).unwrap()), (4, kept));
        assert_eq!(pool.bank(streams[0]).unwrap(), bank);
        pool.close(missing).unwrap();
        let advanced = pool.advance(&[(streams[0], input), (twin, input)]).unwrap();
        assert_eq!(advanced.values(0), advanced.values(1), "{}", device.info());
        // Another bank for a stream alone changes what it says, and not what its fork says.
        pool.set_bank(twin, &pool.bank(streams[1]).unwrap()).unwrap();
        let advanced = pool.advance(&[(streams[0], input), (twin, input)]).unwrap();
        assert_ne!(advanced.values(0), advanced.values(1), "{}", device.info());
    }
}

/// The shares of a run are what its contexts are made of.
#[test]
fn alignments_are_what_was_summed() {
    for device in devices(device()) {
        let network = &networks(5)[3].1;
        let session = Session::new(&device, network).unwrap();
        let sources = Sources::new(&[6, 2, 0], 7);
        let target = tokens(&mut Rng::with_seed(2), 4 * 3, 5);
        let others = [NamedInput::tokens("target", &target[..], [4, 3])];
        let input = sources.input(network).with_others(&others);
        let alignments = session.alignments(input, None).unwrap();
        let [alignment] = &alignments[..] else { panic!("{alignments:?}") };
        assert_eq!((&alignment.layer[..], alignment.shape), ("attention", [4, 3, 1, 6]));
        let stages = session.trace(input, None).unwrap().stages;
        let at = network.stages().iter().position(|stage| stage.label == "attention").unwrap();
        for (row, context) in stages[at].chunks_exact(5).enumerate() {
            let shares = alignment.row(row / 3, row % 3, 0);
            let sum = shares.iter().sum::<f32>();
            assert!((sum - if row % 3 == 2 { 0.0 } else { 1.0 }).abs() < 1e-5, "{shares:?}");
            assert!(row % 3 != 1 || shares[2..] == [0.0; 4]);
            for (unit, got) in context.iter().enumerate() {
                let of = |(step, share): (usize, &f32)| share * sources.vectors[(step * 3 + row % 3) * 5 + unit];
                let expected: f32 = shares.iter().enumerate().map(of).sum();
                assert!((got - expected).abs() < 1e-5, "{got} {expected}");
            }
        }
        assert!(alignment.row(4, 0, 0).is_empty() && alignment.row(0, 0, 1).is_empty());
    }
}
