//! Layers that contradict themselves or each other.

use gatefold::network::{
    Activation, CellNorm, DenseSpec, EmbeddingSpec, FromSpec, GateNorm, Join, JoinSpec, LayerSpec, MergeMode,
    RecurrentOutput, RecurrentSpec, Split, Standardize, TextSpec,
};
use gatefold::{Network, NetworkSpec, TextVectorizer};

use crate::common::{lstm, spec};

fn dense(in_features: usize) -> LayerSpec {
    let activation = Activation::Linear;
    LayerSpec::Dense(DenseSpec { name: "dense".into(), in_features, out_features: 2, bias: true, activation })
}

fn embedding() -> LayerSpec {
    LayerSpec::Embedding(EmbeddingSpec {
        name: "embedding".into(),
        num_embeddings: 3,
        embedding_dim: 4,
        mask_zero: false,
    })
}

fn text(vocabulary: &[&str]) -> TextSpec {
    TextSpec {
        standardize: Standardize::LowerAndStripPunctuation,
        split: Split::Whitespace,
        vocabulary: vocabulary.iter().map(ToString::to_string).collect(),
        output_sequence_length: None,
    }
}

fn refusal(spec: NetworkSpec) -> String {
    Network::random(spec, 1).unwrap_err().to_string()
}

#[test]
fn neighbours_must_fit() {
    let last = || LayerSpec::Lstm(RecurrentSpec { output: RecurrentOutput::Last, ..lstm(4, 5) });
    for (layers, expected) in [
        (vec![embedding(), dense(5)], "layer `dense`: in_features: expected 4, the width of its input, got 5"),
        (vec![last(), dense(6)], "layer `dense`: in_features: expected 5, the width of its input, got 6"),
        (
            vec![last(), LayerSpec::Lstm(RecurrentSpec { name: "second".into(), ..lstm(5, 5) })],
            "layer `second`: input: expected a sequence [T, B, I], got one vector per row [B, I]",
        ),
        (
            vec![dense(4), embedding()],
            "layer `embedding`: input: expected an input of the network, got the output of a layer",
        ),
        (
            vec![LayerSpec::Softmax],
            "layer `softmax`: position: expected after a layer with a width, got the first layer",
        ),
        (vec![last(), last()], "layer `lstm`: name: expected a name that no other layer has, got \"lstm\""),
        (
            vec![LayerSpec::Lstm(RecurrentSpec { name: String::new(), ..lstm(4, 5) })],
            "layer ``: name: expected a name that no other layer has, got \"\"",
        ),
        (
            vec![
                LayerSpec::Lstm(RecurrentSpec { batch_first: true, ..lstm(4, 5) }),
                LayerSpec::Lstm(RecurrentSpec { name: "second".into(), ..lstm(5, 5) }),
            ],
            "layer `second`: batch_first: expected the same in every recurrent layer of a network, got false",
        ),
    ] {
        assert_eq!(refusal(spec(layers)), expected);
    }
}

/// An option that a cell does not have, or that contradicts another, is named.
#[test]
fn options_of_recurrent_layers_must_fit() {
    let layer = || lstm(4, 5);
    let cases = [
        (LayerSpec::Gru(RecurrentSpec { proj_size: 2, ..layer() }), "proj_size: expected it only on an LSTM, got gru"),
        (
            LayerSpec::Rnn(RecurrentSpec { peephole: true, ..layer() }),
            "peephole: expected it only on an LSTM or an SRU, got rnn",
        ),
        (LayerSpec::Gru(RecurrentSpec { coupled: true, ..layer() }), "coupled: expected it only on an LSTM, got gru"),
        (
            LayerSpec::Rnn(RecurrentSpec { cell_clip: Some(1.0), ..layer() }),
            "cell_clip: expected it only on an LSTM, got rnn",
        ),
        (
            LayerSpec::Lstm(RecurrentSpec { reset_after: false, ..layer() }),
            "reset_after: expected it only on a GRU, got lstm",
        ),
        (
            LayerSpec::Lstm(RecurrentSpec { gate_norm: GateNorm::Parts, ..layer() }),
            "gate_norm: expected it only on a layer-normalized LSTM or a layer-normalized GRU, got lstm",
        ),
        (
            LayerSpec::LayerNormLstm(RecurrentSpec { clip: Some(1.0), ..layer() }),
            "clip: expected it only on an LSTM or a GRU or an RNN, got layer_norm_lstm",
        ),
        (
            LayerSpec::LayerNormGru(RecurrentSpec { zoneout_h: 0.1, ..layer() }),
            "zoneout_h: expected it only on an LSTM or a GRU or an RNN, got layer_norm_gru",
        ),
        (
            LayerSpec::Gru(RecurrentSpec { zoneout_c: 0.1, ..layer() }),
            "zoneout_c: expected it only on an LSTM, got gru",
        ),
        (
            LayerSpec::Gru(RecurrentSpec { zoneout_h: 1.0, ..layer() }),
            "zoneout_h: expected a rate from 0 to below 1, got 1",
        ),
        (
            LayerSpec::Slstm(RecurrentSpec { num_heads: 3, hidden_size: 4, ..layer() }),
            "num_heads: expected a divisor of hidden_size, 4, got 3",
        ),
        (
            LayerSpec::Lstm(RecurrentSpec { num_heads: 2, ..layer() }),
            "num_heads: expected it only on an sLSTM, got lstm",
        ),
        (
            LayerSpec::Slstm(RecurrentSpec { activations: vec![Activation::Tanh; 2], ..layer() }),
            "activations: expected sigmoid or exp as the function of an sLSTM's forget gate, got Tanh",
        ),
        (
            LayerSpec::Slstm(RecurrentSpec { initial_state: true, ..layer() }),
            "initial_state: expected none of an sLSTM, whose c has an n and an m, got one",
        ),
        (
            LayerSpec::LayerNormGru(RecurrentSpec { cell_norm: CellNorm::Output, ..layer() }),
            "cell_norm: expected it only on a layer-normalized LSTM, got layer_norm_gru",
        ),
        (
            LayerSpec::LayerNormLstm(RecurrentSpec { layer_norm_eps: -1.0, ..layer() }),
            "layer_norm_eps: expected a number from 0, got -1",
        ),
        (
            LayerSpec::Lstm(RecurrentSpec { proj_size: 5, ..layer() }),
            "proj_size: expected less than hidden_size, 5, got 5",
        ),
        (
            LayerSpec::Lstm(RecurrentSpec { reverse: true, bidirectional: true, ..layer() }),
            "reverse: expected false, since bidirectional has both directions, got true",
        ),
        (
            LayerSpec::Gru(RecurrentSpec { merge_mode: MergeMode::Ave, ..layer() }),
            "merge_mode: expected concat, unless bidirectional, got ave",
        ),
        (
            LayerSpec::Lstm(RecurrentSpec { activations: vec![Activation::Tanh; 2], ..layer() }),
            "activations: expected none, 3 or 3 functions, got 2",
        ),
        (LayerSpec::Rnn(RecurrentSpec { clip: Some(-1.0), ..layer() }), "clip: expected a number above 0, got -1"),
        (
            LayerSpec::Rnn(RecurrentSpec { activations: vec![Activation::Elu { alpha: f32::NAN }], ..layer() }),
            "activation: expected finite numbers, got NaN",
        ),
    ];
    for (layer, expected) in cases {
        assert_eq!(refusal(spec(vec![layer])), format!("layer `lstm`: {expected}"));
    }
}

#[test]
fn branches_must_fit() {
    let from = |layer: &str| LayerSpec::From(FromSpec { layer: layer.into() });
    let join = |inputs: &[&str], join| {
        let inputs = inputs.iter().map(ToString::to_string).collect();
        LayerSpec::Join(JoinSpec { name: "join".into(), inputs, join })
    };
    let add = join(&["lstm", "input"], Join::Add);
    let lstm = || LayerSpec::Lstm(lstm(4, 5));
    for (layers, expected) in [
        (
            vec![lstm(), from("nowhere"), dense(5)],
            "layer `from`: input: expected an earlier layer (input, lstm), got nowhere",
        ),
        (
            vec![lstm(), from("input"), dense(5)],
            "layer `dense`: in_features: expected 4, the width of its input, got 5",
        ),
        (vec![lstm(), from("input")], "layer `network`: last layer: expected one that computes something, got none"),
        (vec![lstm(), add], "layer `join`: inputs: expected layers of one width, or of width 1, got [5, 4]"),
        (vec![lstm(), join(&["lstm"], Join::Concat)], "layer `join`: inputs: expected at least 2, got 1"),
    ] {
        assert_eq!(refusal(spec(layers)), expected);
    }
}

#[test]
fn labels_and_vocabulary_must_fit() {
    let classes = |labels: &[&str]| NetworkSpec {
        labels: labels.iter().map(ToString::to_string).collect(),
        ..spec(vec![LayerSpec::Lstm(RecurrentSpec { output: RecurrentOutput::Last, ..lstm(4, 5) }), dense(5)])
    };
    assert!(Network::random(classes(&["a", "b"]), 1).is_ok());
    assert_eq!(refusal(classes(&["a", "b", "c"])), "layer `dense`: output: expected [B, 3], one per label, got [B, 2]");
    let with_text = |words: &[&str]| NetworkSpec { text: Some(text(words)), ..spec(vec![embedding()]) };
    assert!(Network::random(with_text(&["", "[UNK]", "a"]), 1).is_ok());
    assert!(refusal(with_text(&["", "[UNK]", "a", "b"])).contains("at least the vocabulary's 4 tokens, got 3"));
    assert!(TextVectorizer::new(&text(&[""])).is_err());
    assert!(TextVectorizer::new(&text(&["", "[UNK]", "a", "a"])).unwrap_err().to_string().contains("`a` twice"));
}

#[test]
fn a_random_network_of_absurd_size_is_refused() {
    let huge = spec(vec![LayerSpec::Lstm(lstm(1 << 24, 1 << 24))]);
    assert!(refusal(huge).starts_with("random network, weights: needs "));
}
