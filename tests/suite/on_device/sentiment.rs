//! The shipped classifier against Keras, whose answers stand in `models/sentiment/`.

use std::collections::HashMap;

use gatefold::{Classifier, Device, Network};
use serde_json::Value;

use crate::common::{device, in_repository};

/// Largest difference from Keras' probabilities.
const TOLERANCE: f64 = 1e-5;

fn classifier(device: &Device) -> Classifier {
    let network = Network::load(in_repository("models/sentiment/sentiment.safetensors")).unwrap();
    Classifier::new(device, &network).unwrap()
}

fn assert_close(what: &str, got: &[f32], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (&got, &expected) in got.iter().zip(expected) {
        let error = (f64::from(got) - expected).abs();
        assert!(error <= TOLERANCE, "{what}: got {got}, Keras says {expected}");
    }
}

/// Text of a case: itself, or `{"repeat": [words, n]}`.
fn text(case: &Value) -> String {
    match &case["text"] {
        Value::String(text) => text.clone(),
        repeat => {
            let words = repeat["repeat"][0].as_str().unwrap();
            let times = usize::try_from(repeat["repeat"][1].as_u64().unwrap()).unwrap();
            vec![words; times].join(" ")
        }
    }
}

fn texts_agree(device: &Device) {
    let classifier = classifier(device);
    let file = std::fs::read_to_string(in_repository("models/sentiment/expected_texts.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&file).unwrap();
    assert!(cases.len() >= 40);
    for case in &cases {
        let text = text(case);
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        assert_eq!(classifier.encode(&text), ids, "{text:?}");
        if ids.is_empty() {
            let error = classifier.classify(&[&text]).unwrap_err();
            assert!(matches!(error, gatefold::Error::EmptyText { index: 1, .. }), "{error}");
        } else {
            let expected: Vec<f64> = serde_json::from_value(case["probabilities"].clone()).unwrap();
            let answer = &classifier.classify(&[&text]).unwrap()[0];
            assert_close(&text.chars().take(60).collect::<String>(), &answer.probabilities, &expected);
        }
    }
}

#[test]
fn texts_agree_with_keras_on_the_device() {
    texts_agree(device());
}

#[test]
fn texts_agree_with_keras_on_the_cpu() {
    texts_agree(&Device::cpu());
}

/// The 1,066 test sentences, which may not be redistributed: they are beside the repository, or the
/// test reports that it did not run. `GATEFOLD_REQUIRE_DATA` makes that an error.
fn test_split_agrees(device: &Device) {
    let folder = in_repository("../shared/data/movie-reviews");
    if !folder.is_dir() {
        assert!(std::env::var_os("GATEFOLD_REQUIRE_DATA").is_none(), "no {}", folder.display());
        eprintln!("NOT RUN, no {}", folder.display());
        return;
    }
    let mut lines: HashMap<&str, Vec<String>> = HashMap::new();
    for name in ["rt-polarity.neg", "rt-polarity.pos"] {
        let text = String::from_utf8(std::fs::read(folder.join(name)).unwrap()).unwrap();
        lines.insert(name, text.split('\n').map(Into::into).collect());
    }
    let csv = std::fs::read_to_string(in_repository("models/sentiment/expected_test.csv")).unwrap();
    let mut rows = csv.lines();
    assert_eq!(rows.next(), Some("file,line,label,negative,positive"));
    let (mut texts, mut labels, mut expected) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let cells: Vec<&str> = row.split(',').collect();
        texts.push(lines[cells[0]][cells[1].parse::<usize>().unwrap() - 1].as_str());
        labels.push(cells[2]);
        expected.push([cells[3].parse::<f64>().unwrap(), cells[4].parse().unwrap()]);
    }
    assert_eq!(texts.len(), 1066);
    let classifier = classifier(device);
    let answers = classifier.classify(&texts).unwrap();
    let (mut right, mut keras_right) = (0, 0);
    for (index, answer) in answers.iter().enumerate() {
        assert_close(texts[index], &answer.probabilities, &expected[index]);
        let keras = &classifier.labels()[usize::from(expected[index][1] > expected[index][0])];
        right += usize::from(answer.label == labels[index]);
        keras_right += usize::from(keras == labels[index]);
    }
    assert_eq!(right, keras_right, "accuracy differs from Keras'");
    eprintln!("{right} of 1066 right on {}", device.info());
}

#[test]
fn test_split_agrees_with_keras_on_the_device() {
    test_split_agrees(device());
}

#[test]
fn test_split_agrees_with_keras_on_the_cpu() {
    test_split_agrees(&Device::cpu());
}
