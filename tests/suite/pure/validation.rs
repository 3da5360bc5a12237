//! Layers that contradict themselves or each other.

use gatefold::network::{
    Activation, DenseSpec, EmbeddingSpec, LayerSpec, RecurrentOutput, RecurrentSpec, Split, Standardize, TextSpec,
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
        (vec![dense(4), embedding()], "layer `embedding`: position: expected the first layer, got a later one"),
        (
            vec![LayerSpec::Softmax],
            "layer `softmax`: position: expected behind a layer with a width, got the first layer",
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
