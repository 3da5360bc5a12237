//! Generation: greedy, sampled and by beam search, each compared with an independent implementation.

use gatefold::network::{
    Activation, Conv1dSpec, DenseSpec, EmbeddingSpec, LayerSpec, Padding, RecurrentOutput, RecurrentSpec,
};
use gatefold::unstable::reference::{Real, Reference, log_probability};
use gatefold::{
    BeamOptions, Device, Error, GenerateOptions, Input, Network, Sampling, Sequence, Session, State, StreamId,
    StreamPool,
};

use crate::common::{changed, device, lstm, random_state, spec};
use crate::common::{devices, pool};

fn embedding(num_embeddings: usize, embedding_dim: usize, mask_zero: bool) -> LayerSpec {
    LayerSpec::Embedding(EmbeddingSpec { name: "embedding".into(), num_embeddings, embedding_dim, mask_zero })
}

fn dense(in_features: usize, out_features: usize) -> LayerSpec {
    let activation = Activation::Linear;
    LayerSpec::Dense(DenseSpec { name: "dense".into(), in_features, out_features, bias: true, activation })
}

/// A convolution over a timestep and the two before it, `dilation` apart.
fn causal(name: &str, channels: usize, dilation: usize) -> LayerSpec {
    LayerSpec::Conv1d(Conv1dSpec {
        name: name.into(),
        in_channels: channels,
        out_channels: channels,
        kernel_size: 3,
        stride: 1,
        padding: Padding::Zeros { left: 2 * dilation, right: 0 },
        dilation,
        groups: 1,
        bias: true,
        activation: Activation::Tanh,
    })
}

/// Reads and writes `vocabulary` tokens, with logits far enough apart that devices agree on their order.
pub fn decoder(vocabulary: usize, seed: u64) -> Network {
    let layers = vec![embedding(vocabulary, 6, false), LayerSpec::Lstm(lstm(6, 10)), dense(10, vocabulary)];
    let network = Network::random(spec(layers), seed).unwrap();
    let network = changed(&network, "embedding.weight", |w| w.iter_mut().for_each(|w| *w *= 4.0));
    changed(&network, "dense.weight", |w| w.iter_mut().for_each(|w| *w *= 8.0))
}

/// Decoders of other shapes: stacked and projected, batch first and the last step alone, GRU, convolutions alone.
fn decoders() -> Vec<Network> {
    let deep = RecurrentSpec { num_layers: 2, proj_size: 5, ..lstm(4, 9) };
    let last = RecurrentSpec { output: RecurrentOutput::Last, batch_first: true, ..lstm(4, 7) };
    let all = [
        vec![embedding(65, 4, false), LayerSpec::Lstm(deep), dense(5, 65)],
        vec![embedding(9, 4, false), LayerSpec::Lstm(last), dense(7, 9)],
        vec![embedding(130, 4, false), LayerSpec::Gru(RecurrentSpec::new("gru", 4, 8)), dense(8, 130)],
        vec![embedding(11, 4, false), causal("near", 4, 1), causal("far", 4, 2), dense(4, 11)],
    ];
    let random = |layers| {
        changed(&Network::random(spec(layers), 5).unwrap(), "dense.weight", |w| {
            w.iter_mut().for_each(|w| *w *= 9.0);
        })
    };
    all.into_iter().map(random).chain([decoder(7, 3)]).collect()
}

/// A network that gives the same logits for any input.
fn constant(logits: &[f32]) -> Network {
    let vocabulary = logits.len();
    let layers = vec![embedding(vocabulary, 2, false), LayerSpec::Lstm(lstm(2, 3)), dense(3, vocabulary)];
    let network = Network::random(spec(layers), 1).unwrap();
    let network = changed(&network, "dense.weight", |w| w.fill(0.0));
    changed(&network, "dense.bias", |bias| bias.copy_from_slice(logits))
}

pub fn open(pool: &StreamPool, network: &Network, streams: u64) -> Vec<StreamId> {
    let started = |seed| {
        let id = pool.open().unwrap();
        pool.restore(id, &random_state(network, 1, seed)).unwrap();
        id
    };
    (0..streams).map(started).collect()
}

/// Logits `[V]` of the f64 reference after all of `tokens`.
pub fn logits(network: &Network, start: &State, tokens: &[u32]) -> Vec<f64> {
    let shape = if network.batch_first() { [1, tokens.len()] } else { [tokens.len(), 1] };
    let forward = Reference::<f64>::new(network).forward(Input::tokens(tokens, shape), Some(start)).unwrap();
    let all = forward.stages.last().unwrap();
    all[all.len() - network.output_size()..].to_vec()
}

/// Greedy decoding by hand: the whole sequence again for every token, its largest logit found by a loop.
fn by_hand(network: &Network, start: &State, prompt: &[u32], options: &GenerateOptions) -> Sequence {
    let mut sequence = Sequence { tokens: Vec::new(), log_probability: 0.0, stopped: false };
    while sequence.tokens.len() < options.max_new_tokens && !sequence.stopped {
        let logits = logits(network, start, &[prompt, &sequence.tokens].concat());
        let mut token = 0;
        for candidate in 1..logits.len() {
            if logits[candidate] > logits[token] {
                token = candidate;
            }
        }
        let id = u32::try_from(token).unwrap();
        sequence.tokens.push(id);
        sequence.log_probability += log_probability(&logits, token).to_f32();
        sequence.stopped = options.eos.contains(&id);
    }
    sequence
}

pub fn assert_same(what: &str, got: &[Sequence], expected: &[Sequence]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!((&got.tokens, got.stopped), (&expected.tokens, expected.stopped), "{what}");
        let error = (got.log_probability - expected.log_probability).abs();
        assert!(error <= 1e-4 * (1.0 + expected.log_probability.abs()), "{what}: {got:?}, expected {expected:?}");
    }
}

pub const PROMPTS: [&[u32]; 5] = [&[0], &[1, 4, 2], &[3], &[6, 6, 5, 1, 0, 2], &[2, 5]];

/// Greedy is argmax by hand, for several prompts of different length at once, with and without tokens that stop; `fault`
/// changes what the device is given.
fn greedy(device: &Device, fault: impl Fn(&Network) -> Network) {
    for network in decoders() {
        let pool = pool(device, &fault(&network), 1);
        let streams = open(&pool, &network, 5);
        let starts: Vec<State> = streams.iter().map(|&id| pool.snapshot(id).unwrap()).collect();
        let prompts: Vec<_> = streams.iter().copied().zip(PROMPTS).collect();
        let mut eos = Vec::new();
        for read_every in [1, 4, 100] {
            let options = GenerateOptions { max_new_tokens: 11, eos: eos.clone(), read_every, ..Default::default() };
            for (&id, start) in streams.iter().zip(&starts) {
                pool.restore(id, start).unwrap();
            }
            let got = pool.generate(&prompts, &options).unwrap();
            let expected = starts.iter().zip(PROMPTS).map(|(start, prompt)| by_hand(&network, start, prompt, &options));
            let expected: Vec<Sequence> = expected.collect();
            assert_same(&format!("{} every {read_every}", device.info()), &got, &expected);
            // From now on what some sequence had in its middle ends it.
            if eos.is_empty() {
                eos = vec![got[0].tokens[5], got[3].tokens[2]];
            }
        }
        assert_eq!(pool.len(), 5, "forks are gone");
    }
}

#[test]
fn greedy_is_argmax_by_hand() {
    let device = device();
    devices(device).iter().for_each(|device| greedy(device, Network::clone));
}

/// Negative control: a decoder whose head is a little off is noticed.
#[test]
fn another_head_is_noticed() {
    let device = device();
    for device in devices(device) {
        let nudge = |network: &Network| changed(network, "dense.bias", |bias| bias[1] += 0.05);
        let nudged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| greedy(&device, nudge)));
        assert!(nudged.is_err(), "{}", device.info());
    }
}

/// A stream continues after generated tokens as if they had been its input.
#[test]
fn streams_continue_after_their_sequence() {
    let device = device();
    for device in devices(device) {
        let network = decoder(7, 3);
        let pool = pool(&device, &network, 2);
        let streams = open(&pool, &network, 3);
        let told: Vec<StreamId> = streams.iter().map(|&id| pool.fork(id).unwrap()).collect();
        let prompts: Vec<_> = streams.iter().copied().zip(PROMPTS).collect();
        let first = pool.generate(&prompts, &GenerateOptions { max_new_tokens: 5, ..Default::default() }).unwrap();
        let eos = vec![first[1].tokens[1]];
        let options = GenerateOptions { max_new_tokens: 4, eos, ..Default::default() };
        let last: Vec<[u32; 1]> = first.iter().map(|sequence| [*sequence.tokens.last().unwrap()]).collect();
        let again: Vec<_> = streams.iter().zip(&last).map(|(&id, last)| (id, &last[..])).collect();
        let second = pool.generate(&again, &options).unwrap();
        for (index, &id) in told.iter().enumerate() {
            let all = [PROMPTS[index], &first[index].tokens, &second[index].tokens].concat();
            let read = &all[..all.len() - 1];
            pool.advance(&[(id, Input::tokens(read, [read.len(), 1]))]).unwrap();
            let [a, b] = [streams[index], id].map(|id| pool.snapshot(id).unwrap());
            for (a, b) in a.layers.iter().zip(&b.layers) {
                let mut pairs = a.numbers().zip(b.numbers());
                assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-4), "{}, stream {index}", device.info());
            }
        }
    }
}

/// Tokens of 64 streams, drawn from the same logits over and over.
fn drawn(device: &Device, logits: &[f32], sampling: Sampling, steps: usize) -> Vec<Vec<u32>> {
    let network = constant(logits);
    let pool = pool(device, &network, 128);
    let streams: Vec<StreamId> = (0..64).map(|_| pool.open().unwrap()).collect();
    let prompts: Vec<_> = streams.iter().map(|&id| (id, &[0][..])).collect();
    let options = GenerateOptions { max_new_tokens: steps, sampling: Some(sampling), ..Default::default() };
    pool.generate(&prompts, &options).unwrap().into_iter().map(|sequence| sequence.tokens).collect()
}

/// Logits with neighbours, ties and a long tail.
fn uneven(vocabulary: usize) -> Vec<f32> {
    (0..vocabulary).map(|i| ((i * 7 % 13) as f32 * 0.37).sin() * 2.5 - (i / 16) as f32 * 0.1).collect()
}

fn samplings() -> Vec<Sampling> {
    let all = Sampling { seed: 3, ..Sampling::default() };
    vec![
        all,
        Sampling { temperature: 0.4, seed: u64::MAX - 5, ..all },
        Sampling { temperature: 3.0, ..all },
        Sampling { temperature: 1e-30, ..all },
        Sampling { top_k: Some(5), ..all },
        Sampling { top_k: Some(1000), ..all },
        Sampling { top_p: 0.7, ..all },
        Sampling { top_p: 1e-9, ..all },
        Sampling { temperature: 1.3, top_k: Some(9), top_p: 0.9, seed: 11 },
    ]
}

/// From equal logits every device draws equal tokens; another seed draws others.
#[test]
fn draws_are_seeded_and_the_same_everywhere() {
    let device = device();
    for vocabulary in [1, 2, 12, 64, 65, 200] {
        let logits = uneven(vocabulary);
        for sampling in samplings() {
            let here = drawn(device, &logits, sampling, 5);
            assert_eq!(here, drawn(&Device::cpu(), &logits, sampling, 5), "{vocabulary} {sampling:?}");
            assert!(here.iter().flatten().all(|&token| (token as usize) < vocabulary));
            if vocabulary > 2 && sampling.temperature >= 0.4 && sampling.top_p > 1e-3 {
                let other = Sampling { seed: sampling.seed ^ 1 << 40, ..sampling };
                assert_ne!(here, drawn(device, &logits, other, 5), "{vocabulary} {sampling:?}");
                assert_ne!(here[0], here[1], "streams draw apart");
            }
        }
    }
}

/// The probability of each token under a sampling, straight from its definition: sorted, cut, normalized.
fn exact(logits: &[f32], sampling: Sampling) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&x| f64::from(x) / f64::from(sampling.temperature)).collect();
    let highest = scaled.iter().copied().fold(f64::MIN, f64::max);
    let mut weights: Vec<f64> = scaled.iter().map(|x| (x - highest).exp()).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    order[sampling.top_k.unwrap_or(usize::MAX).min(order.len())..].iter().for_each(|&i| weights[i] = 0.0);
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    for &i in &order {
        if sum >= f64::from(sampling.top_p) * total {
            weights[i] = 0.0;
        }
        sum += weights[i];
    }
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// Pearson's statistic of 64 × 100 tokens, and whether all of them may come at all.
fn chi_squared(tokens: &[Vec<u32>], exact: &[f64]) -> (f64, bool) {
    let mut counts = vec![0.0; exact.len()];
    tokens.iter().flatten().for_each(|&token| counts[token as usize] += 1.0);
    let all: f64 = counts.iter().sum();
    let terms = counts.iter().zip(exact).filter(|(_, p)| **p > 0.0).map(|(n, p)| (n - all * p).powi(2) / (all * p));
    (terms.sum(), counts.iter().zip(exact).all(|(&n, &p)| p > 0.0 || n == 0.0))
}

/// Logits without ties, of which the definition is clear.
const APART: [f32; 8] = [0.3, 1.7, -0.4, 1.1, 0.9, -1.5, 2.0, 0.0];

#[test]
fn draws_have_their_distribution() {
    let device = device();
    for device in devices(device) {
        for sampling in samplings().into_iter().filter(|sampling| sampling.temperature > 0.1) {
            let exact = exact(&APART, sampling);
            let tokens = drawn(&device, &APART, sampling, 100);
            let (statistic, allowed) = chi_squared(&tokens, &exact);
            assert!(allowed, "{sampling:?}: a token that was filtered out");
            // With 7 degrees of freedom once in a million.
            assert!(statistic < 41.0, "{sampling:?}: {statistic}");
            // Steps and streams are drawn apart: pairs side by side have the product of their probabilities.
            let pairs = |pairs: &mut dyn Iterator<Item = (u32, u32)>| {
                let joint: Vec<f64> = exact.iter().flat_map(|a| exact.iter().map(move |b| a * b)).collect();
                let tokens = vec![pairs.map(|(a, b)| 8 * a + b).collect()];
                chi_squared(&tokens, &joint).0
            };
            let steps = pairs(&mut tokens.iter().flat_map(|row| row.chunks_exact(2).map(|pair| (pair[0], pair[1]))));
            let streams = tokens.chunks_exact(2).flat_map(|rows| rows[0].iter().copied().zip(rows[1].iter().copied()));
            let streams = pairs(&mut streams.into_iter());
            // With 63 degrees of freedom once in a million; rare pairs make the tail heavier.
            assert!(steps < 160.0 && streams < 160.0, "{sampling:?}: {steps} {streams}");
        }
    }
}

/// Negative control: a distribution that is a little off is noticed, and so is a filter that is left out.
#[test]
fn another_distribution_is_noticed() {
    let device = device();
    for device in devices(device) {
        let sampling = Sampling { seed: 3, ..Sampling::default() };
        let warm = drawn(&device, &APART, Sampling { temperature: 1.15, ..sampling }, 100);
        assert!(chi_squared(&warm, &exact(&APART, sampling)).0 > 41.0);
        let all = drawn(&device, &APART, sampling, 100);
        assert!(!chi_squared(&all, &exact(&APART, Sampling { top_k: Some(5), ..sampling })).1);
        assert!(!chi_squared(&all, &exact(&APART, Sampling { top_p: 0.7, ..sampling })).1);
    }
}

/// Of equals the lowest token is taken, first and in order.
#[test]
fn the_lowest_of_equals_is_taken() {
    let device = device();
    for device in devices(device) {
        for vocabulary in [3usize, 64, 131] {
            let mut logits = vec![0.5; vocabulary];
            logits[0] = 0.0;
            let pool = pool(&device, &constant(&logits), 1);
            let prompts = [(pool.open().unwrap(), &[0][..])];
            let greedy = pool.generate(&prompts, &GenerateOptions { max_new_tokens: 2, ..Default::default() }).unwrap();
            assert_eq!(greedy[0].tokens, [1, 1]);
            let options = BeamOptions { num_beams: 2, max_new_tokens: 1, ..Default::default() };
            let beams = pool.beam_search(&prompts, &options).unwrap();
            assert_eq!([&beams[0][0].tokens, &beams[0][1].tokens], [&[1], &[2]]);
        }
    }
}

/// Generation from a fork changes neither the stream that it was forked from nor other streams.
#[test]
fn forks_generate_independently() {
    let device = device();
    for device in devices(device) {
        let network = decoder(7, 3);
        let pool = pool(&device, &network, 4);
        let streams = open(&pool, &network, 2);
        let fork = pool.fork(streams[0]).unwrap();
        let kept = streams.iter().map(|&id| pool.snapshot(id).unwrap()).collect::<Vec<_>>();
        let options = GenerateOptions { max_new_tokens: 6, ..Default::default() };
        let first = pool.generate(&[(fork, &[5])], &options).unwrap();
        assert_ne!(pool.snapshot(fork).unwrap(), kept[0], "the fork went on");
        assert_eq!(streams.iter().map(|&id| pool.snapshot(id).unwrap()).collect::<Vec<_>>(), kept);
        // The same prompt from the same state, with other prompts in the batch.
        let again = pool.generate(&[(streams[1], &[1, 2]), (streams[0], &[5])], &options).unwrap();
        assert_eq!(again[1].tokens, first[0].tokens);
    }
}

/// An encoder's final state starts a decoder's streams, under any names of the layers.
#[test]
fn a_decoder_starts_from_its_encoder() {
    let device = device();
    let reads = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("reads", 6, 10) };
    let writes = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("writes", 6, 10) };
    let encoder = Network::random(spec(vec![embedding(11, 6, false), LayerSpec::Lstm(reads)]), 8).unwrap();
    let decoder =
        Network::random(spec(vec![embedding(7, 6, false), LayerSpec::Lstm(writes), dense(10, 7)]), 9).unwrap();
    let decoder = changed(&decoder, "dense.weight", |w| w.iter_mut().for_each(|w| *w *= 20.0));
    for device in devices(device) {
        let read = Session::new(&device, &encoder).unwrap();
        let tokens = [3, 9, 1, 10, 4, 4, 0, 7, 2];
        let output = read.run(Input::tokens(&tokens, [3, 3]).with_lengths(&[3, 1, 2]), None).unwrap();
        let pool = pool(&device, &decoder, 1);
        let streams = pool.open_from(&output.state).unwrap();
        assert_eq!(streams.len(), 3);
        let prompts: Vec<_> = streams.iter().map(|&id| (id, &[0][..])).collect();
        let options = GenerateOptions { max_new_tokens: 6, ..Default::default() };
        let got = pool.generate(&prompts, &options).unwrap();
        let rows = [&[3, 10, 0][..], &[9], &[1, 4]];
        let mut different = Vec::new();
        for (got, tokens) in got.iter().zip(rows) {
            let alone = Session::new(&Device::cpu(), &encoder).unwrap();
            let state = alone.run(Input::tokens(tokens, [tokens.len(), 1]), None).unwrap().state;
            let start = state.handed_to(&decoder).unwrap();
            assert_same("a row alone", std::slice::from_ref(got), &[by_hand(&decoder, &start, &[0], &options)]);
            different.push(got.log_probability);
        }
        assert!(different[0] != different[1] && different[1] != different[2], "each row has its own start");
        // The same through a pool of encoders, whose states need not see the host.
        let encoders = self::pool(&device, &encoder, 1);
        let reading: Vec<StreamId> = rows.iter().map(|_| encoders.open().unwrap()).collect();
        let calls: Vec<_> =
            reading.iter().zip(rows).map(|(&id, row)| (id, Input::tokens(row, [row.len(), 1]))).collect();
        encoders.advance(&calls).unwrap();
        let before = pool.session().counters().bytes_from_device + encoders.session().counters().bytes_from_device;
        let after = pool.open_after(&encoders, &reading).unwrap();
        let back =
            pool.session().counters().bytes_from_device + encoders.session().counters().bytes_from_device - before;
        assert_eq!(back, 0, "nothing is read back");
        let prompts: Vec<_> = after.iter().map(|&id| (id, &[0][..])).collect();
        assert_same("after an encoder's streams", &pool.generate(&prompts, &options).unwrap(), &got);
        let elsewhere = self::pool(&Device::cpu(), &encoder, 1);
        let reading = [elsewhere.open().unwrap()];
        elsewhere.advance(&[(reading[0], Input::tokens(rows[1], [1, 1]))]).unwrap();
        let from_elsewhere = pool.open_after(&elsewhere, &reading).unwrap();
        let again = pool.generate(&[(from_elsewhere[0], &[0])], &options).unwrap();
        assert_same("from another device", &again, &got[1..2]);
        after.into_iter().chain(from_elsewhere).for_each(|id| pool.close(id).unwrap());
        elsewhere.close(reading[0]).unwrap();
        assert!(matches!(pool.open_after(&elsewhere, &reading), Err(Error::Stream { .. })));
        assert!(matches!(
            pool.open_after(&self::pool(&device, &self::decoder(7, 3), 1), &[]),
            Err(Error::Shape { .. })
        ));
        // States that do not fit are refused, and no stream is left open.
        let narrow = Network::random(spec(vec![embedding(11, 6, false), LayerSpec::Lstm(lstm(6, 10))]), 8).unwrap();
        let wide = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("reads", 6, 11) };
        let wide = Network::random(spec(vec![embedding(11, 6, false), LayerSpec::Lstm(wide)]), 8).unwrap();
        let gru = RecurrentSpec { num_layers: 2, ..RecurrentSpec::new("reads", 6, 10) };
        let gru = Network::random(spec(vec![embedding(11, 6, false), LayerSpec::Gru(gru)]), 8).unwrap();
        for other in [narrow, wide, gru] {
            let error = pool.open_from(&random_state(&other, 2, 1)).unwrap_err();
            assert!(matches!(error, Error::Shape { .. }), "{error}");
        }
        assert!(matches!(pool.open_from(&State { layers: Vec::new() }), Err(Error::Shape { .. })));
        assert_eq!(pool.len(), 3);
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let device = device();
    for device in devices(device) {
        let network = decoder(7, 3);
        let session = Session::new(&device, &network).unwrap();
        let pool = StreamPool::with_limit(session, 2, 6).unwrap();
        let streams = open(&pool, &network, 2);
        let kept = streams.iter().map(|&id| pool.snapshot(id).unwrap()).collect::<Vec<_>>();
        let good = (streams[0], &[1u32][..]);
        let unharmed = || {
            assert_eq!(streams.iter().map(|&id| pool.snapshot(id).unwrap()).collect::<Vec<_>>(), kept);
            assert_eq!(pool.len(), 2);
        };
        let sampled = |sampling: Sampling| GenerateOptions { sampling: Some(sampling), ..Default::default() };
        let all = Sampling::default();
        for (options, option) in [
            (sampled(Sampling { temperature: 0.0, ..all }), "temperature"),
            (sampled(Sampling { temperature: -1.0, ..all }), "temperature"),
            (sampled(Sampling { temperature: f32::NAN, ..all }), "temperature"),
            (sampled(Sampling { temperature: f32::INFINITY, ..all }), "temperature"),
            (sampled(Sampling { top_k: Some(0), ..all }), "top_k"),
            (sampled(Sampling { top_p: 0.0, ..all }), "top_p"),
            (sampled(Sampling { top_p: 1.5, ..all }), "top_p"),
            (sampled(Sampling { top_p: f32::NAN, ..all }), "top_p"),
            (GenerateOptions { max_new_tokens: 0, ..Default::default() }, "max_new_tokens"),
            (GenerateOptions { read_every: 0, ..Default::default() }, "read_every"),
            (GenerateOptions { eos: vec![2, 7], ..Default::default() }, "eos"),
        ] {
            let error = pool.generate(&[good], &options).unwrap_err();
            assert!(matches!(&error, Error::Option { option: got, .. } if got == option), "{error}");
        }
        for (options, option) in [
            (BeamOptions { num_beams: 0, ..Default::default() }, "num_beams"),
            (BeamOptions { max_new_tokens: 0, ..Default::default() }, "max_new_tokens"),
            (BeamOptions { eos: vec![7], ..Default::default() }, "eos"),
            (BeamOptions { length_penalty: f32::NAN, ..Default::default() }, "length_penalty"),
        ] {
            let error = pool.beam_search(&[good], &options).unwrap_err();
            assert!(matches!(&error, Error::Option { option: got, .. } if got == option), "{error}");
        }
        for num_beams in [5, usize::MAX] {
            let error = pool.beam_search(&[good], &BeamOptions { num_beams, ..Default::default() }).unwrap_err();
            assert!(matches!(error, Error::TooLarge { limit: 6, .. }), "{error}");
        }
        assert!(pool.beam_search(&[good], &BeamOptions { max_new_tokens: 2, ..Default::default() }).is_ok());
        unharmed();

        let closed = pool.open().unwrap();
        pool.close(closed).unwrap();
        let refused = |second: (StreamId, &[u32]), word: &str| {
            let prompts = [good, second];
            for error in [
                pool.generate(&prompts, &GenerateOptions::default()).unwrap_err(),
                pool.beam_search(&prompts, &BeamOptions { num_beams: 2, ..Default::default() }).unwrap_err(),
            ] {
                assert!(error.to_string().contains(word), "{error}, expected {word}");
            }
            unharmed();
        };
        refused((closed, &[1]), "closed");
        refused(good, "second time");
        refused((streams[1], &[]), "at least one token");
        refused((streams[1], &[3, 7]), "token 7 at row 1, step 1");
        assert!(pool.generate(&[], &GenerateOptions::default()).unwrap().is_empty());
        assert!(pool.beam_search(&[], &BeamOptions::default()).unwrap().is_empty());
    }
}

/// Logits that are no numbers are an error that names the stream, and every stream is as it was.
#[test]
fn logits_that_are_no_numbers_are_refused() {
    let device = device();
    for device in devices(device) {
        let network = decoder(7, 3);
        let pool = pool(&device, &network, 2);
        let streams = open(&pool, &network, 3);
        let mut state = random_state(&network, 1, 1);
        state.layers[0].parts[0].data[2] = f32::NAN;
        pool.restore(streams[1], &state).unwrap();
        let kept = [0, 2].map(|at| pool.snapshot(streams[at]).unwrap());
        let prompts: Vec<_> = streams.iter().copied().zip(PROMPTS).collect();
        let generated =
            |sampling| pool.generate(&prompts, &GenerateOptions { sampling, ..Default::default() }).map(drop);
        let searched = pool.beam_search(&prompts, &BeamOptions::default()).map(drop);
        for result in [generated(None), generated(Some(Sampling::default())), searched] {
            let error = result.unwrap_err();
            let named = format!("logits of {}", streams[1]);
            assert!(
                matches!(&error, Error::NonFinite { name, value, .. } if *name == named && value.is_nan()),
                "{error}"
            );
            assert_eq!([0, 2].map(|at| pool.snapshot(streams[at]).unwrap()), kept);
            assert_eq!(pool.len(), 3);
        }
        // Sums that overflow.
        let huge = changed(&network, "dense.weight", |w| w.iter_mut().for_each(|w| *w = 3e38));
        let huge = changed(&huge, "dense.bias", |b| b.fill(3e38));
        let pool = self::pool(&device, &huge, 2);
        let streams = open(&pool, &huge, 40);
        let prompts: Vec<_> = streams.iter().map(|&id| (id, &[1][..])).collect();
        let error = pool.generate(&prompts, &GenerateOptions::default()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    }
}

#[test]
fn what_is_no_decoder_is_refused() {
    let device = device();
    let lstm = || LayerSpec::Lstm(lstm(6, 10));
    for (layers, word) in [
        (vec![lstm(), dense(10, 6)], "reads vectors"),
        (vec![embedding(7, 6, false), lstm(), dense(10, 6)], "each of the 7 tokens"),
        (vec![embedding(7, 6, true), lstm(), dense(10, 7)], "masks token 0"),
        (vec![embedding(7, 6, false), lstm(), dense(10, 7), LayerSpec::Softmax], "softmax"),
    ] {
        let network = Network::random(spec(layers), 1).unwrap();
        for device in devices(device) {
            let pool = pool(&device, &network, 1);
            let prompts = [(pool.open().unwrap(), &[1][..])];
            for error in [
                pool.generate(&prompts, &GenerateOptions::default()).unwrap_err(),
                pool.beam_search(&prompts, &BeamOptions::default()).unwrap_err(),
            ] {
                assert!(error.to_string().contains(word), "{error}, expected {word}");
            }
        }
    }
}
