//! `gatefold evaluate`: how well a model answers examples.

use crate::support::{Folder, answer, json, on_software, refusal, repository};

/// Two of each label of the shipped model; the third label is wrong on purpose.
const TABLE: &str = "text,label,part\n\"a warm, funny film\",positive,test\nan utter waste of time,negative,test\n\
                     a moving and powerful portrait,negative,test\nbored from the first scene,negative,test\n\
                     a dull film,negative,train\n";

fn model() -> String {
    repository("models/sentiment/sentiment.safetensors")
}

#[test]
fn the_numbers_are_those_of_classify() {
    let folder = Folder::fresh("evaluate");
    let data = folder.file("data.csv", TABLE);
    let args = ["evaluate", &model(), "--data", &data, "--split", "part", "--device", "cpu"];
    let found = json(&answer(args.iter().chain(&["--format", "json"])));
    assert_eq!(found["examples"], 4);
    assert_eq!(found["confusion"]["matrix"], serde_json::json!([[2, 1], [0, 1]]));
    assert_eq!(found["confusion"]["accuracy"], 0.75);
    let close = |value: &serde_json::Value, expected: f64| (value.as_f64().unwrap() - expected).abs() < 1e-6;
    let [negative, positive] = [&found["classes"][0], &found["classes"][1]];
    assert_eq!((&negative["label"], &positive["label"]), (&"negative".into(), &"positive".into()));
    assert!(close(&negative["precision"], 1.0) && close(&negative["recall"], 2.0 / 3.0), "{found}");
    assert!(close(&positive["precision"], 0.5) && close(&positive["f1"], 2.0 / 3.0), "{found}");
    // The loss from the probabilities that `classify` shows.
    let texts = [
        "a warm, funny film",
        "an utter waste of time",
        "a moving and powerful portrait",
        "bored from the first scene",
    ];
    let classify = ["classify", "--device", "cpu", "--model", &model(), "--format", "json"];
    let shown = json(&answer(classify.iter().chain(&texts)));
    let labels = ["positive", "negative", "negative", "negative"];
    let losses = labels
        .iter()
        .enumerate()
        .map(|(row, label)| -shown["predictions"][row]["probabilities"][label].as_f64().unwrap().ln());
    let expected = losses.sum::<f64>() / 4.0;
    assert!((found["loss"].as_f64().unwrap() - expected).abs() < 1e-4, "{found}, {expected}");
    let table = answer(args);
    for part in ["accuracy 75.0 % (3 of 4)", "predicted negative", "precision", "66.7 %", "4 examples"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let one = answer(args.iter().chain(&["--part", "train"]));
    assert!(one.contains("(1 of 1)"), "{one}");
}

#[test]
fn a_software_adapter_gives_the_same() {
    let folder = Folder::fresh("evaluate_software");
    let data = folder.file("data.csv", TABLE);
    let run = on_software(&["evaluate", &model(), "--data", &data, "--format", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(json(&run.stdout)["confusion"]["matrix"], serde_json::json!([[3, 1], [0, 1]]));
}

#[test]
fn mistakes_are_named() {
    let folder = Folder::fresh("evaluate_mistakes");
    let data = folder.file("data.csv", TABLE);
    let odd = folder.file("odd.csv", "text,label\na film,fine\n");
    let model = model();
    let golden = repository("tests/goldens/lstm.safetensors");
    let cases: [(&[&str], &[&str]); 6] = [
        (&[&model, "--data", &odd], &["odd.csv, line 2", "one of the labels of the model", "fine"]),
        (&[&model, "--data", &data, "--split", "part", "--part", "dev"], &["the split \"dev\"", "none"]),
        (&[&model, "--data", &data, "--part", "test"], &["--split"]),
        (&[&model, "--data", &data, "--batch", "0"], &["--batch", "at least 1"]),
        (&[&golden, "--data", &data], &["--text", "vocabulary"]),
        (&[&data, "--data", &data], &["data.csv"]),
    ];
    for (args, words) in cases {
        refusal(["evaluate", "--device", "cpu"].iter().chain(args), words);
    }
}
