//! Sizes and names that a caller or a file chooses: an error, in one line that a terminal can show.

use std::path::PathBuf;

use gatefold::network::{Activation, Conv1dSpec, EmbeddingSpec, LayerSpec, Padding, RecurrentSpec};
use gatefold::{
    BeamOptions, Device, Error, Input, Network, Plan, PlanLimits, PlanOptions, RandomInput, RunShape, Session, State,
    StreamPool, printable,
};

use crate::common::{lstm, spec};

fn network() -> Network {
    Network::random(spec(vec![LayerSpec::Lstm(lstm(2, 3))]), 1).unwrap()
}

#[test]
fn random_inputs_of_any_size_are_refused() {
    let tokens = EmbeddingSpec { name: "e".into(), num_embeddings: 5, embedding_dim: 1 << 20, mask_zero: false };
    let tokens = Network::random(spec(vec![LayerSpec::Embedding(tokens)]), 1).unwrap();
    for network in [network(), tokens] {
        for (steps, batch) in
            [(usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX), (1 << 40, 1), (1 << 14, 1 << 15)]
        {
            let error = RandomInput::new(&network, steps, batch, 0).unwrap_err();
            assert!(matches!(error, Error::TooLarge { limit: 0x1000_0000, .. }), "{error}");
            let (text, expected) = (error.to_string(), format!("T = {steps}, B = {batch}"));
            assert!(text.contains(&expected) && text.contains("2^28"), "{text}");
        }
        assert!(RandomInput::new(&network, 3, 2, 0).is_ok());
    }
}

#[test]
fn states_of_any_size_are_refused() {
    for batch in [usize::MAX, usize::MAX / 2, 1 << 50] {
        assert!(matches!(State::<f32>::zeros(&network(), batch), Err(Error::TooLarge { .. })), "{batch}");
        assert!(matches!(State::<f64>::initial(&network(), batch), Err(Error::TooLarge { .. })), "{batch}");
    }
    assert_eq!(State::<f32>::zeros(&network(), 2).unwrap().layers[0].parts[0].shape, [1, 2, 3]);
}

#[test]
fn pools_of_any_size_are_refused() {
    let pool = |capacity| StreamPool::new(Session::new(&Device::cpu(), &network()).unwrap(), capacity);
    for capacity in [usize::MAX, 1 << 31] {
        assert!(matches!(pool(capacity), Err(Error::TooLarge { .. })), "{capacity}");
    }
    assert!(pool(2).is_ok());
}

#[test]
fn beams_of_any_number_are_followed() {
    let embedding = EmbeddingSpec { name: "e".into(), num_embeddings: 3, embedding_dim: 2, mask_zero: false };
    let network = spec(vec![LayerSpec::Embedding(embedding), LayerSpec::Lstm(lstm(2, 3))]);
    let session = Session::new(&Device::cpu(), &Network::random(network, 1).unwrap()).unwrap();
    let pool = StreamPool::new(session, 1).unwrap();
    let stream = pool.open().unwrap();
    let options = BeamOptions { num_beams: usize::MAX, max_new_tokens: 1, ..BeamOptions::default() };
    // No more than the vocabulary has tokens, or a refusal.
    match pool.beam_search(&[(stream, &[1])], &options) {
        Ok(found) => assert!(found[0].len() <= 3, "{found:?}"),
        Err(error) => assert!(matches!(error, Error::TooLarge { .. } | Error::Option { .. }), "{error}"),
    }
}

/// A few weights of a convolution in groups stand for many numbers on a device.
#[test]
fn filters_that_no_memory_holds_are_refused() {
    let conv = |channels, groups| {
        let conv = Conv1dSpec {
            name: "conv".into(),
            in_channels: channels,
            out_channels: channels,
            kernel_size: 1,
            stride: 1,
            padding: Padding::default(),
            dilation: 1,
            groups,
            bias: false,
            activation: Activation::Linear,
        };
        Network::random(spec(vec![LayerSpec::Conv1d(conv)]), 1)
    };
    let error = conv(1 << 20, 1 << 20).unwrap_err();
    assert!(matches!(&error, Error::TooLarge { needed, .. } if *needed == 1 << 40), "{error}");
    assert!(conv(64, 64).is_ok());
    let error = conv(1 << 24, 1 << 24).unwrap_err().to_string();
    assert!(error.contains("layer `conv`"), "{error}");
}

/// Output of an embedding in f64: refused before it is asked of the system, not by the end of the process.
#[test]
fn outputs_that_no_memory_holds_are_refused() {
    let embedding =
        |name: &str| EmbeddingSpec { name: name.into(), num_embeddings: 2, embedding_dim: 1 << 20, mask_zero: false };
    let network = Network::random(spec(vec![LayerSpec::Embedding(embedding("e"))]), 1).unwrap();
    let tokens = vec![0; 1 << 20];
    let error = gatefold::unstable::reference::Reference::<f64>::new(&network)
        .forward(Input::tokens(&tokens, [1 << 20, 1]), None)
        .unwrap_err();
    assert!(matches!(&error, Error::TooLarge { needed, .. } if *needed == 1 << 43), "{error}");
}

/// Formatted widths end at 65,535: a longer name once ended the process.
#[test]
fn plans_of_any_name_are_shown() {
    let name = HOSTILE.repeat(5_000);
    let network = Network::random(spec(vec![LayerSpec::Lstm(RecurrentSpec::new(name, 2, 3))]), 1).unwrap();
    let plan = Plan::new(&network, RunShape::new(3, 1), &PlanLimits::default(), &PlanOptions::default()).unwrap();
    for line in plan.to_string().lines() {
        assert!(line.chars().count() < 10_000 && !line.chars().any(char::is_control), "{line}");
    }
}

const HOSTILE: &str = "a\x1b[31m\x1b]0;title\x07\n\r\u{9b}2J\u{202e}b";

#[test]
fn errors_are_one_line_that_a_terminal_can_show() {
    let long = HOSTILE.repeat(5_000);
    for name in [HOSTILE, &long] {
        let name = || name.to_owned();
        let errors = [
            Error::Io { path: PathBuf::from(name()), source: std::io::ErrorKind::NotFound.into() },
            Error::Malformed { what: name(), expected: name(), got: name() },
            Error::MissingTensor { name: name(), shape: vec![1], unexpected: vec![name(); 20] },
            Error::UnexpectedTensor { name: name(), shape: vec![1], expected: vec![name(); 20] },
            Error::TensorShape { name: name(), expected: vec![1], got: vec![2] },
            Error::NonFinite { name: name(), index: 1, value: f32::NAN },
            Error::Network { layer: name(), what: name(), expected: name(), got: name() },
            Error::Unsupported { place: name(), what: name() },
            Error::Option { option: name(), expected: name(), got: name() },
            Error::EmptyText { index: 1, got: name() },
            Error::TooLarge { what: name(), needed: 2, limit: 1, limit_name: name() },
            Error::NoAdapter { wanted: name(), present: vec![name(); 20] },
            Error::Gpu { device: name(), what: name(), reason: name() },
        ];
        for error in errors {
            let text = error.to_string();
            assert!(text.chars().count() <= 10 * 1000 && !text.chars().any(char::is_control), "{text:?}");
            assert!(!text.contains('\u{202e}') && text.contains("\\u{1b}[31m"), "{text}");
        }
    }
    // What is in order is left as it is.
    let error = Error::MissingTensor { name: "lstm.weight_hh_l0".into(), shape: vec![12, 3], unexpected: Vec::new() };
    assert_eq!(error.to_string(), "tensor `lstm.weight_hh_l0` [12, 3] is missing");
    assert_eq!(printable("ok", 10), "ok");
}
