//! Streams through windows over time: convolutions and poolings whose past inputs are state.

use std::panic::AssertUnwindSafe;

use gatefold::network::LayerSpec;
use gatefold::{Device, DeviceKind, Error, Network, PlanOptions, RandomInput, Session, State, StreamId, StreamPool};

use super::stream_files::continue_elsewhere;
use super::streams::{Follower, Source, fork_apart};
use crate::common::{assert_right, device, devices, pool, random_state, spec};

fn layers(text: &str) -> Vec<LayerSpec> {
    serde_json::from_str(text).unwrap()
}

/// A temporal convolutional network: dilated causal convolutions, each joined with what it reads.
const TCN: &str = r#"[
    {"type": "conv1d", "name": "in", "in_channels": 5, "out_channels": 8, "kernel_size": 1},
    {"type": "conv1d", "name": "one", "in_channels": 8, "out_channels": 8, "kernel_size": 3,
        "padding": {"zeros": {"left": 2, "right": 0}}, "activation": "relu"},
    {"type": "join", "name": "after_one", "inputs": ["in", "one"], "join": "add"},
    {"type": "conv1d", "name": "two", "in_channels": 8, "out_channels": 8, "kernel_size": 3, "dilation": 2,
        "padding": {"zeros": {"left": 4, "right": 0}}, "activation": "tanh"},
    {"type": "join", "name": "after_two", "inputs": ["after_one", "two"], "join": "add"},
    {"type": "conv1d", "name": "four", "in_channels": 8, "out_channels": 6, "kernel_size": 2, "dilation": 4,
        "padding": {"zeros": {"left": 4, "right": 0}}, "groups": 2},
    {"type": "dense", "name": "out", "in_features": 6, "out_features": 3}]"#;

/// As GTCRN has it: separable convolutions in front of a GRU, and a path around it.
const CONVOLUTIONS_AND_GRU: &str = r#"[
    {"type": "conv1d", "name": "depthwise", "in_channels": 5, "out_channels": 5, "kernel_size": 3, "groups": 5,
        "padding": {"zeros": {"left": 2, "right": 0}}},
    {"type": "conv1d", "name": "pointwise", "in_channels": 5, "out_channels": 8, "kernel_size": 1},
    {"type": "batch_norm", "name": "norm", "num_features": 8, "eps": 0.001},
    {"type": "activation", "name": "act", "activation": "relu"},
    {"type": "gru", "name": "gru", "input_size": 8, "hidden_size": 8},
    {"type": "join", "name": "around", "inputs": ["act", "gru"], "join": "add"},
    {"type": "conv1d", "name": "out", "in_channels": 8, "out_channels": 5, "kernel_size": 2,
        "padding": {"zeros": {"left": 1, "right": 0}}, "activation": "sigmoid"}]"#;

/// As Silero VAD has it: convolutions with strides, an LSTM, a head.
const STRIDES_AND_LSTM: &str = r#"[
    {"type": "conv1d", "name": "half", "in_channels": 3, "out_channels": 8, "kernel_size": 3, "stride": 2,
        "padding": {"zeros": {"left": 1, "right": 1}}, "activation": "relu"},
    {"type": "conv1d", "name": "quarter", "in_channels": 8, "out_channels": 6, "kernel_size": 3, "stride": 2,
        "padding": {"zeros": {"left": 2, "right": 0}}, "activation": "relu"},
    {"type": "lstm", "name": "lstm", "input_size": 6, "hidden_size": 7},
    {"type": "dense", "name": "head", "in_features": 7, "out_features": 1, "activation": "sigmoid"}]"#;

/// Every pooling, with and without padding that counts.
const POOLS: &str = r#"[
    {"type": "input", "input_size": 4},
    {"type": "pool1d", "name": "max", "pool": "max", "kernel_size": 3, "stride": 1,
        "padding": {"zeros": {"left": 2, "right": 0}}},
    {"type": "from", "layer": "input"},
    {"type": "pool1d", "name": "mean", "pool": "average", "kernel_size": 3, "stride": 1,
        "padding": {"zeros": {"left": 2, "right": 0}}},
    {"type": "from", "layer": "input"},
    {"type": "pool1d", "name": "padded", "pool": "average", "kernel_size": 4, "stride": 1,
        "padding": {"zeros": {"left": 3, "right": 0}}, "count_include_pad": true},
    {"type": "from", "layer": "input"},
    {"type": "pool1d", "name": "sum", "pool": "sum", "kernel_size": 2, "stride": 1,
        "padding": {"zeros": {"left": 1, "right": 0}}},
    {"type": "join", "name": "all", "inputs": ["max", "mean", "padded", "sum"], "join": "concat"},
    {"type": "pool1d", "name": "pairs", "pool": "max", "kernel_size": 2, "stride": 2},
    {"type": "rnn", "name": "rnn", "input_size": 16, "hidden_size": 4, "output": "last"}]"#;

const TOKENS: &str = r#"[
    {"type": "embedding", "name": "table", "num_embeddings": 9, "embedding_dim": 4, "mask_zero": true},
    {"type": "lstm", "name": "first", "input_size": 4, "hidden_size": 5},
    {"type": "conv1d", "name": "conv", "in_channels": 5, "out_channels": 5, "kernel_size": 2,
        "padding": {"zeros": {"left": 1, "right": 0}}},
    {"type": "gru", "name": "second", "input_size": 5, "hidden_size": 6}]"#;

/// As PyTorch has it: a convolution pads both ends and what it adds behind is removed, or its input is padded in front.
const PADDED_AND_CHOMPED: &str = r#"[
    {"type": "conv1d", "name": "conv", "in_channels": 4, "out_channels": 4, "kernel_size": 3, "dilation": 2,
        "padding": {"zeros": {"left": 4, "right": 4}}},
    {"type": "slice", "name": "chomp", "start": 0, "end": -4},
    {"type": "activation", "name": "act", "activation": "relu"},
    {"type": "pad", "name": "pad", "left": 3, "right": 0},
    {"type": "conv1d", "name": "valid", "in_channels": 4, "out_channels": 3, "kernel_size": 4}]"#;

/// Networks with windows, each with the timesteps that make whole outputs.
fn networks() -> Vec<(&'static str, Network, usize)> {
    let all = [
        ("tcn", TCN, 1),
        ("convolutions and gru", CONVOLUTIONS_AND_GRU, 1),
        ("strides and lstm", STRIDES_AND_LSTM, 4),
        ("pools", POOLS, 2),
        ("tokens", TOKENS, 1),
        ("padded and chomped", PADDED_AND_CHOMPED, 1),
    ];
    all.into_iter().map(|(name, text, whole)| (name, network(text), whole)).collect()
}

fn network(text: &str) -> Network {
    Network::random(spec(layers(text)), 3).unwrap()
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// The answers to a stream that is cut at `cut` of `steps`: saved, loaded, restored as another stream, forked, and continued.
fn cut_stream(pool: &StreamPool, source: &Source, [cut, steps]: [usize; 2], fault: impl Fn(&mut State)) -> Vec<f32> {
    let network = pool.session().network();
    let [first, second] = [(); 2].map(|()| pool.open().unwrap());
    let mut got = pool.advance(&[(first, source.input(network, 0, cut))]).unwrap().values(0).to_vec();
    let bytes = pool.snapshot(first).unwrap().to_bytes(network).unwrap();
    let mut state = State::from_bytes(&bytes, network).unwrap();
    fault(&mut state);
    pool.restore(second, &state).unwrap();
    let fork = pool.fork(second).unwrap();
    let rest = pool.advance(&[(fork, source.input(network, cut, steps))]).unwrap();
    if !network.output_is_sequence() {
        got.clear();
    }
    got.extend_from_slice(rest.values(0));
    [first, second, fork].into_iter().for_each(|id| pool.close(id).unwrap());
    got
}

/// Cut anywhere, saved, loaded and forked, the answers are those of the whole run, to the bit.
#[test]
fn cuts_of_windows_change_no_bit() {
    const STEPS: usize = 200;
    let device = device();
    for device in devices(device) {
        for (name, network, whole) in networks() {
            let pool = pool(&device, &network, 3);
            let source = Source::new(&network, STEPS, 7);
            let expected = pool.session().run(source.input(&network, 0, STEPS), None).unwrap().values;
            // On a GPU some places in front, where the past is not yet complete, and some others.
            let sampled =
                |&place: &usize| device.info().kind == DeviceKind::Cpu || [1, 2, 3, 7, 20, 41].contains(&place);
            let places = (1..STEPS / whole).filter(sampled);
            for cut in places.map(|place| place * whole) {
                let got = cut_stream(&pool, &source, [cut, STEPS], |_| {});
                assert_eq!(bits(&got), bits(&expected), "{name} cut at {cut} on {}", device.info());
            }
            // Negative control: a past that is a little off.
            let off =
                |state: &mut State| state.layers.last_mut().unwrap().parts[0].data.iter_mut().for_each(|x| *x += 0.1);
            if network.output_is_sequence() {
                let got = cut_stream(&pool, &source, [STEPS / 2, STEPS], off);
                assert_ne!(bits(&got), bits(&expected), "{name}: a past that is off goes unseen");
            }
        }
    }
}

/// Streams that advance by different numbers of steps in one batch. `swapped` is the fault of a negative control.
fn advance_unevenly(device: &Device, network: &Network, whole: usize, swapped: bool) {
    let pool = pool(device, network, 2);
    let mut streams: Vec<Follower> = (0..4)
        .map(|seed| Follower {
            id: pool.open().unwrap(),
            source: Source::new(network, 60 * whole, seed),
            at: 0,
            got: Vec::new(),
        })
        .collect();
    for round in [[1, 1, 1, 1], [1, 5, 2, 9], [0, 3, 0, 1], [2, 0, 7, 1], [1, 2, 3, 4]] {
        let going: Vec<usize> = (0..4).filter(|&index| round[index] > 0).collect();
        let mut ids: Vec<StreamId> = going.iter().map(|&index| streams[index].id).collect();
        if swapped {
            ids.rotate_left(1);
        }
        let input = |index: usize| {
            let Follower { source, at, .. } = &streams[index];
            source.input(network, *at, at + round[index] * whole)
        };
        let calls: Vec<_> = ids.into_iter().zip(going.iter().map(|&index| input(index))).collect();
        let advanced = pool.advance(&calls).unwrap();
        for (at, &index) in going.iter().enumerate() {
            streams[index].take(network, &advanced, at);
        }
    }
    streams.iter().for_each(|stream| stream.check(&device.info().to_string(), network, &pool));
}

#[test]
fn uneven_streams_keep_their_own_past() {
    let device = device();
    for device in devices(device) {
        for (_, network, whole) in networks() {
            advance_unevenly(&device, &network, whole, false);
        }
        let swapped = AssertUnwindSafe(|| advance_unevenly(&device, &network(TCN), 1, true));
        let panic = std::panic::catch_unwind(swapped).expect_err("swapped streams went unseen");
        assert!(panic.downcast_ref::<String>().unwrap().contains("passed: false"), "{}", device.info());
    }
}

#[test]
fn forks_of_windows_are_independent() {
    let device = device();
    for device in devices(device) {
        for text in [TCN, PADDED_AND_CHOMPED] {
            fork_apart(&device, text, &network(text), |pool, id| pool.fork(id).unwrap());
        }
    }
}

#[test]
fn saved_windows_continue_elsewhere() {
    let device = device();
    for (name, network, _) in networks() {
        for way in [[device, &Device::cpu()], [&Device::cpu(), device]] {
            continue_elsewhere(way, name, &network, |_| {});
        }
    }
    let lost = |state: &mut State| state.layers[0].parts[0].data.fill(0.0);
    let check = AssertUnwindSafe(|| continue_elsewhere([device, device], "tcn", &network(TCN), lost));
    std::panic::catch_unwind(check).expect_err("a past that was lost goes unseen");
}

/// A session's runs, each from the state that the one before left, are one run.
#[test]
fn runs_from_a_state_continue_windows() {
    let device = device();
    for device in devices(device) {
        for (name, network, whole) in networks().into_iter().filter(|(_, network, _)| network.output_is_sequence()) {
            let session = Session::new(&device, &network).unwrap();
            let source = Source::new(&network, 12 * whole, 5);
            let expected = session.run(source.input(&network, 0, 12 * whole), None).unwrap();
            let pieces = |carry: bool| {
                let (mut got, mut state) = (Vec::new(), None);
                for (from, to) in [(0, 1), (1, 3), (3, 10), (10, 12)] {
                    let input = source.input(&network, from * whole, to * whole);
                    let output = session.run(input, state.as_ref()).unwrap();
                    got.extend(output.values);
                    state = Some(output.state).filter(|_| carry);
                }
                (got, state)
            };
            let (got, state) = pieces(true);
            assert_eq!(bits(&got), bits(&expected.values), "{name} on {}", device.info());
            assert_eq!(state.as_ref(), Some(&expected.state), "{name} on {}", device.info());
            assert_ne!(bits(&pieces(false).0), bits(&expected.values), "{name}: without its past");
        }
    }
}

/// Random windows that can be streamed, from their padding, from any state, and cut.
#[test]
fn random_windows_agree() {
    let device = device();
    let mut rng = fastrand::Rng::with_seed(11);
    // A GPU compiles every one.
    for seed in 0..if device.info().kind == DeviceKind::Cpu { 48 } else { 16 } {
        let case = usize::try_from(seed).unwrap();
        let (kernel, stride) = (rng.usize(1..=4), rng.usize(1..=3));
        let dilation = if case % 2 == 0 { rng.usize(1..=3) } else { 1 };
        let span = (kernel - 1) * dilation + 1;
        let left = rng.usize(span.saturating_sub(stride)..span);
        let right = rng.usize(0..span - left);
        let window = format!(
            r#""name": "window", "kernel_size": {kernel}, "stride": {stride}, "padding": {{"zeros": {{"left": {left}, "right": {right}}}}}"#
        );
        let text = match (case % 2, case / 2 % 4) {
            (0, _) => format!(
                r#"[{{"type": "conv1d", "in_channels": 3, "out_channels": 5, "dilation": {dilation}, {window}}}]"#
            ),
            (_, pool) => {
                let options = ["\"max\"", "\"sum\"", "\"average\"", "\"average\", \"count_include_pad\": true"][pool];
                format!(r#"[{{"type": "input", "input_size": 3}}, {{"type": "pool1d", "pool": {options}, {window}}}]"#)
            }
        };
        let network = network(&text);
        let (steps, batch) = (stride * rng.usize(1..=9), rng.usize(1..=3));
        let input = RandomInput::new(&network, steps, batch, seed).unwrap();
        for state in [None, Some(random_state(&network, batch, seed)), Some(State::initial(&network, batch).unwrap())] {
            assert_right(device, &network, PlanOptions::default(), input.as_input(), state.as_ref());
        }
        if left == 0 {
            continue;
        }
        let (pool, source) = (pool(device, &network, 1), Source::new(&network, 12 * stride, seed));
        let whole = pool.session().run(source.input(&network, 0, 12 * stride), None).unwrap().values;
        let cut = stride * rng.usize(1..12);
        let got = cut_stream(&pool, &source, [cut, 12 * stride], |_| {});
        assert_eq!(bits(&got), bits(&whole), "{text} cut at {cut}");
        // Negative control: without what came before, some output is another.
        let forgets = |state: &mut State| *state = State::initial(&network, 1).unwrap();
        assert_ne!(bits(&cut_stream(&pool, &source, [cut, 12 * stride], forgets)), bits(&whole), "{text} cut at {cut}");
    }
}

/// What a network keeps, in shapes; a state of other shapes is refused.
#[test]
fn pasts_are_parts_of_a_state() {
    let device = device();
    let network = network(CONVOLUTIONS_AND_GRU);
    let state = random_state(&network, 2, 1);
    let shapes = |state: &State| -> Vec<(String, String, Vec<usize>)> {
        let layers = state.layers.iter();
        layers
            .flat_map(|layer| {
                layer.parts.iter().map(|part| (layer.name.clone(), part.name.to_string(), part.shape.to_vec()))
            })
            .collect()
    };
    let part = |layer: &str, part: &str, shape: &[usize]| (layer.to_owned(), part.to_owned(), shape.to_vec());
    let expected =
        [part("gru", "h", &[1, 2, 8]), part("depthwise", "past", &[1, 2, 2, 5]), part("out", "past", &[1, 2, 1, 8])];
    assert_eq!(shapes(&state), expected);
    for device in devices(device) {
        let session = Session::new(&device, &network).unwrap();
        let input = RandomInput::new(&network, 3, 2, 1).unwrap();
        assert_eq!(shapes(&session.run(input.as_input(), Some(&state)).unwrap().state), expected);
        let refused = |change: &dyn Fn(&mut State)| {
            let mut state = state.clone();
            change(&mut state);
            session.run(input.as_input(), Some(&state)).unwrap_err().to_string()
        };
        let wide = refused(&|state| state.layers[1].parts[0].shape[2] = 3);
        assert!(
            wide.starts_with("state of `depthwise`, past: expected [1, B, P, I] = [1, 2, 2, 5], got past"),
            "{wide}"
        );
        let none = refused(&|state| state.layers[2].parts.clear());
        assert_eq!(none, "state of `out`: expected `past`, got ");
        let fewer = refused(&|state| drop(state.layers.pop()));
        assert!(fewer.contains("3 layers (`gru`, `depthwise`, `out`), got 2 layers"), "{fewer}");
        let pool = StreamPool::new(session, 1).unwrap();
        assert_eq!(pool.state_bytes(), (8 + 10 + 8) * 4);
    }
}

/// A piece that does not make whole outputs is refused, and every stream is as it was.
#[test]
fn parts_of_strides_are_refused() {
    let device = device();
    for device in devices(device) {
        let network = network(STRIDES_AND_LSTM);
        let pool = pool(&device, &network, 2);
        let [a, b] = [(); 2].map(|()| pool.open().unwrap());
        let source = Source::new(&network, 16, 1);
        let calls = [(a, source.input(&network, 0, 8)), (b, source.input(&network, 0, 6))];
        let error = pool.advance(&calls).unwrap_err();
        assert!(matches!(&error, Error::Shape { .. }), "{error}");
        let expected = "expected a multiple of 4 timesteps, which make whole outputs, got 6";
        assert!(error.to_string().ends_with(expected), "{error}");
        assert_eq!(pool.snapshot(a).unwrap(), State::initial(&network, 1).unwrap());
        let advanced = pool.advance(&calls[..1]).unwrap();
        assert_eq!((advanced.steps(0), advanced.values(0).len()), (8, 2));
    }
}

/// What is not causal is refused, with the reason.
#[test]
fn windows_that_look_ahead_are_refused() {
    let conv = |padding: &str| {
        let text = r#"[{"type": "conv1d", "name": "conv", "in_channels": 3, "out_channels": 3, "kernel_size": 3,
            "padding": PADDING}, {"type": "lstm", "name": "lstm", "input_size": 3, "hidden_size": 2}]"#;
        network(&text.replace("PADDING", padding))
    };
    for (padding, reason) in [
        (r#"{"zeros": {"left": 1, "right": 1}}"#, "a stream through a window that sees 1 later timesteps"),
        (r#""same""#, "a stream through a window that sees 1 later timesteps"),
        (r#"{"zeros": {"left": 0, "right": 0}}"#, "without the 2 timesteps of padding at the start"),
        (r#"{"zeros": {"left": 3, "right": 0}}"#, "a stream through timesteps that padding added"),
    ] {
        let network = conv(padding);
        let error = StreamPool::new(Session::new(&Device::cpu(), &network).unwrap(), 1).unwrap_err();
        assert!(error.to_string().contains(reason), "{padding}: {error}");
        // Its runs are what they were: the state is the recurrent layer's alone.
        assert_eq!(State::<f32>::zeros(&network, 1).unwrap().layers.len(), 1);
    }
    StreamPool::new(Session::new(&Device::cpu(), &conv(r#"{"zeros": {"left": 2, "right": 0}}"#)).unwrap(), 1).unwrap();
}

/// An encoder with a window in front hands over the state of its recurrent layer alone, to a decoder with another window.
#[test]
fn windows_are_not_handed_over() {
    let device = device();
    let encoder = network(
        r#"[{"type": "conv1d", "name": "conv", "in_channels": 3, "out_channels": 4, "kernel_size": 2,
            "padding": {"zeros": {"left": 1, "right": 0}}}, {"type": "gru", "name": "gru", "input_size": 4, "hidden_size": 6}]"#,
    );
    let decoder = network(
        r#"[{"type": "conv1d", "name": "front", "in_channels": 2, "out_channels": 3, "kernel_size": 4,
            "padding": {"zeros": {"left": 3, "right": 0}}}, {"type": "gru", "name": "back", "input_size": 3, "hidden_size": 6}]"#,
    );
    for device in devices(device) {
        let (encoders, decoders) = (pool(&device, &encoder, 1), pool(&device, &decoder, 1));
        let id = encoders.open().unwrap();
        let source = Source::new(&encoder, 5, 1);
        encoders.advance(&[(id, source.input(&encoder, 0, 5))]).unwrap();
        let handed = encoders.snapshot(id).unwrap();
        let opened = decoders.open_after(&encoders, &[id]).unwrap();
        let state = decoders.snapshot(opened[0]).unwrap();
        assert_eq!(state.layers[0].h(), handed.layers[0].h(), "{}", device.info());
        assert!(state.layers[0].h().iter().any(|x| *x != 0.0));
        assert_eq!(state.layers[1], State::initial(&decoder, 1).unwrap().layers[1]);
        assert_eq!(state, handed.handed_to(&decoder).unwrap());
    }
}
