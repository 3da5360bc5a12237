//! Models whose first layer turns texts into token ids.

use gatefold::compare::{Tolerance, compare};
use gatefold::{Classifier, Device, Network, TextVectorizer};
use serde::Deserialize;
use serde_json::json;

use crate::bundle::{file, files, network};
use crate::refusals::{place, with_option};

/// Texts, their token ids, and what the model answers.
#[derive(Deserialize)]
struct Golden {
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
    output: Vec<Vec<f64>>,
}

const LABELS: [&str; 2] = ["bad", "good"];

fn classifier(network: &Network) -> Classifier {
    Classifier::with_labels(&Device::cpu(), network, &LABELS.map(str::to_owned)).unwrap()
}

#[test]
fn texts_have_keras_ids_and_answers() {
    let mut seen = 0;
    for (name, golden) in files().iter().filter_map(|(name, bytes)| Some((name.strip_suffix(".texts.json")?, bytes))) {
        let golden: Golden = serde_json::from_slice(golden).unwrap();
        let network = network(&format!("{name}.keras"));
        let vectorizer = TextVectorizer::new(network.spec().text.as_ref().unwrap()).unwrap();
        let ids: Vec<Vec<u32>> = golden.texts.iter().map(|text| vectorizer.encode(text)).collect();
        assert_eq!(ids, golden.ids, "{name}");
        let answers = classifier(&network).classify(&golden.texts).unwrap();
        for (answer, expected) in answers.iter().zip(&golden.output) {
            let comparison = compare(&answer.probabilities[1..], expected, Tolerance::f32(ids[0].len()));
            assert!(comparison.passed, "{name}: {comparison:?}");
            assert_eq!(answer.label, LABELS[usize::from(answer.probabilities[1] > 0.5)]);
        }
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// The negative control: another vocabulary gives other ids.
#[test]
fn the_vocabulary_matters() {
    let name = "text_given.keras";
    let changed = with_option(name, place(name, "TextVectorization"), "vocabulary", &json!(["bad", "good", "film"]));
    let golden: Golden = serde_json::from_slice(file("text_given.texts.json")).unwrap();
    let vectorizer = TextVectorizer::new(changed.unwrap().spec().text.as_ref().unwrap()).unwrap();
    assert_ne!(vectorizer.encode(&golden.texts[0]), golden.ids[0]);
}

#[test]
fn unsupported_options_are_named() {
    let refused = |name: &str, class: &str, option: &str, value: serde_json::Value| {
        with_option(name, place(name, class), option, &value).unwrap_err().to_string()
    };
    let vectorization = |option, value| refused("text_given.keras", "TextVectorization", option, value);
    for (option, value, expected) in [
        ("output_mode", json!("multi_hot"), "option `output_mode` = \"multi_hot\""),
        ("ngrams", json!([2]), "option `ngrams`"),
        ("standardize", json!({"class_name": "function"}), "option `standardize`: a function of its own"),
        ("split", json!(null), "option `split` = null"),
        ("ragged", json!(true), "option `ragged` = true"),
        ("vocabulary", json!("words.txt"), "option `vocabulary`: expected a list of texts"),
        ("vocabulary", json!(null), "expected a vocabulary, in its options or in a file `vocabulary.txt`"),
        ("output_sequence_length", json!(u64::MAX), "output_sequence_length"),
    ] {
        let text = vectorization(option, value);
        assert!(text.contains(expected), "{option}: {text}");
    }
    let text = refused("text_words.keras", "StringLookup", "mask_token", json!(null));
    assert!(text.contains("id 0 is padding"), "{text}");
    let text = refused("text_words.keras", "StringLookup", "num_oov_indices", json!(2));
    assert!(text.contains("option `num_oov_indices` = 2"), "{text}");
}

#[test]
fn names_of_classes_must_fit_the_output() {
    let network = network("text_given.keras");
    let three = ["a", "b", "c"].map(str::to_owned);
    let error = Classifier::with_labels(&Device::cpu(), &network, &three).unwrap_err().to_string();
    assert!(error.contains("labels: expected 2, since the output is [B, 1], got 3"), "{error}");
    let twice = ["a", "a"].map(str::to_owned);
    let error = Classifier::with_labels(&Device::cpu(), &network, &twice).unwrap_err().to_string();
    assert!(error.contains("labels: expected every name once, got `a` twice"), "{error}");
}
