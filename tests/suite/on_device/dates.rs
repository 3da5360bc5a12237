//! The shipped translator of dates against PyTorch, whose greedy answers stand in `models/dates/held_out.tsv`.

use gatefold::{Device, Network};

use crate::common::{changed, device, in_repository};
use crate::dates::Translator;

/// Texts, the right dates, and PyTorch's answers.
fn held_out() -> [Vec<String>; 3] {
    let file = std::fs::read_to_string(in_repository("models/dates/held_out.tsv")).unwrap();
    let lines: Vec<Vec<&str>> = file.lines().map(|line| line.split('\t').collect()).collect();
    assert!(lines.len() == 1000 && lines.iter().all(|columns| columns.len() == 3));
    [0, 1, 2].map(|column| lines.iter().map(|columns| columns[column].to_owned()).collect())
}

fn network() -> Network {
    Network::load(in_repository("models/dates/translator.safetensors")).unwrap()
}

fn equal(a: &[String], b: &[String]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a == b).count()
}

/// Every greedy answer is PyTorch's and right, and so is the best of a beam search.
fn answers_agree(device: &Device) {
    let [texts, dates, pytorch] = held_out();
    let translator = Translator::load(&in_repository("models/dates"), device).unwrap();
    assert_eq!(translator.device().info(), device.info());
    let greedy = translator.greedy(&texts).unwrap();
    let greedy: Vec<String> = greedy.iter().map(|sequence| translator.written(sequence)).collect();
    assert_eq!(greedy, pytorch, "{}", device.info());
    assert_eq!(equal(&greedy, &dates), 1000);
    let beams = translator.search(&texts, 4).unwrap();
    let beams: Vec<String> = beams.iter().map(|found| translator.written(&found[0])).collect();
    assert_eq!(equal(&beams, &dates), 1000);
}

#[test]
fn dates_agree_with_pytorch_on_the_device() {
    answers_agree(device());
}

#[test]
fn dates_agree_with_pytorch_on_the_cpu() {
    answers_agree(&Device::cpu());
}

/// Negative control: weights that are a little off give other answers.
#[test]
fn another_translator_is_noticed() {
    let device = device();
    let [texts, _, pytorch] = held_out();
    let file = std::fs::read_to_string(in_repository("models/dates/vocabulary.json")).unwrap();
    let letters: serde_json::Value = serde_json::from_str(&file).unwrap();
    let [source, target] = ["source", "target"].map(|side| letters[side].as_str().unwrap().chars().collect::<Vec<_>>());
    for name in ["encoder.weight_hh_l0", "decoder.weight_hh_l0", "query.weight"] {
        let network = changed(&network(), name, |w| w.iter_mut().step_by(7).for_each(|w| *w += 0.5));
        let translator = Translator::new(device, &network, source.clone(), target.clone()).unwrap();
        let greedy = translator.greedy(&texts).unwrap();
        let greedy: Vec<String> = greedy.iter().map(|sequence| translator.written(sequence)).collect();
        assert!(equal(&greedy, &pytorch) < 1000, "{}", device.info());
    }
}

#[test]
fn broken_folders_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let message = || Translator::load(folder.path(), &Device::cpu()).err().unwrap().to_string();
    assert!(message().contains("translator.safetensors"));
    let name = "translator.safetensors";
    std::fs::copy(in_repository("models/dates").join(name), folder.path().join(name)).unwrap();
    assert!(message().contains("vocabulary.json"));
    std::fs::write(folder.path().join("vocabulary.json"), r#"{"source": "abc", "target": "abc"}"#).unwrap();
    assert!(message().contains("expected 41 letters under `source`, got 3"), "{}", message());
    std::fs::write(folder.path().join("vocabulary.json"), r#"{"source": 3}"#).unwrap();
    assert!(message().contains("expected letters under `source`"), "{}", message());
}

/// The letters of the year look at the year, wherever the text has it; a letter's shares are all its attention.
#[test]
fn alignments_show_where_a_letter_is_from() {
    let translator = Translator::load(&in_repository("models/dates"), device()).unwrap();
    for text in ["the 3rd of march 1998", "1998/03/03"] {
        let found = translator.greedy(&[text.to_owned()]).unwrap();
        assert_eq!(translator.written(&found[0]), "1998-03-03");
        let alignment = translator.alignment(text, &found[0]).unwrap();
        assert_eq!(alignment.len(), 10);
        let year = text.find("1998").unwrap();
        for shares in &alignment {
            let sum: f32 = shares.iter().sum();
            assert!(shares.len() == text.len() && (sum - 1.0).abs() < 1e-4, "{shares:?}");
        }
        let of_year: f32 = alignment[2][year..year + 4].iter().sum();
        let elsewhere: f32 = alignment[9][year..year + 4].iter().sum();
        assert!(of_year > 0.5 && elsewhere < of_year, "{text}: {of_year} {elsewhere}");
    }
}
