use std::io::Write as _;
use std::path::Path;

use crate::support::{Folder, answer, json, refusal, repository, run};

const TEXTS: &str =
    "a warm, funny film\nan utter waste of time\na moving and powerful portrait\nbored from the first scene\n";

fn args<'a>(texts: &'a str, labels: &'a str, format: &'a str) -> [&'a str; 9] {
    ["classify", "--device", "cpu", "--file", texts, "--labels", labels, "--format", format]
}

#[test]
fn a_confusion_matrix_sums_to_the_texts() {
    let folder = Folder::new("matrix");
    let texts = folder.file("texts.txt", TEXTS);
    // The third label is wrong on purpose.
    let labels = folder.file("labels.txt", "positive\nnegative\nnegative\nnegative\n");
    let evaluation = json(&answer(args(&texts, &labels, "json")))["evaluation"].clone();
    assert_eq!(evaluation["labels"], serde_json::json!(["negative", "positive"]));
    assert_eq!(evaluation["matrix"], serde_json::json!([[2, 1], [0, 1]]));
    assert_eq!(evaluation["total"], 4);
    assert_eq!(evaluation["correct"], 3);
    assert_eq!(evaluation["accuracy"], 0.75);

    let table = answer(args(&texts, &labels, "table"));
    assert!(table.contains("accuracy 75.0 % (3 of 4)"), "{table}");
    assert!(table.contains("predicted negative") && table.contains("expected"), "{table}");

    let csv = run(args(&texts, &labels, "csv"));
    assert!(csv.stderr.contains("accuracy 75.0 %"), "{csv:?}");
    let mut reader = csv::Reader::from_reader(csv.stdout.as_bytes());
    let expected: Vec<String> = reader.records().map(|record| record.expect("a record")[4].to_owned()).collect();
    assert_eq!(expected, ["positive", "negative", "negative", "negative"]);
}

#[test]
fn labels_must_fit_the_texts_and_the_model() {
    let folder = Folder::new("labels");
    let texts = folder.file("texts.txt", TEXTS);
    let few = folder.file("few.txt", "positive\nnegative\n");
    refusal(args(&texts, &few, "table"), &["few.txt", "4 labels", "got 2"]);
    let unknown = folder.file("unknown.txt", "positive\nneutral\nnegative\nnegative\n");
    refusal(args(&texts, &unknown, "table"), &["unknown.txt, line 2", "negative, positive", "neutral"]);
    refusal(args(&texts, &folder.path("none.txt"), "table"), &["none.txt"]);
    refusal(args("-", "-", "table"), &["standard input"]);
}

/// The accuracy of the model card, through files as users pass them. The sentences may not be redistributed: they are beside the
/// repository, or the test reports that it did not run; `GATEFOLD_REQUIRE_DATA` makes that an error.
#[test]
fn the_test_split_has_the_accuracy_of_the_model_card() {
    let data = repository("../shared/data/movie-reviews");
    if !Path::new(&data).is_dir() {
        assert!(std::env::var_os("GATEFOLD_REQUIRE_DATA").is_none(), "no {data}");
        let _ = writeln!(std::io::stderr(), "NOT RUN: no {data}");
        return;
    }
    let read = |path: String| std::fs::read_to_string(path).expect("a file");
    let (negative, positive) = (read(format!("{data}/rt-polarity.neg")), read(format!("{data}/rt-polarity.pos")));
    let (mut texts, mut labels) = (String::new(), String::new());
    for row in read(repository("models/sentiment/expected_test.csv")).lines().skip(1) {
        let cells: Vec<&str> = row.split(',').collect();
        let file = if cells[0] == "rt-polarity.neg" { &negative } else { &positive };
        let line = file.split('\n').nth(cells[1].parse::<usize>().expect("a line") - 1).expect("a line");
        texts += &format!("{line}\n");
        labels += &format!("{}\n", cells[2]);
    }
    let folder = Folder::new("split");
    let (texts, labels) = (folder.file("reviews.txt", texts), folder.file("labels.txt", labels));
    let evaluation = json(&answer(args(&texts, &labels, "json")))["evaluation"].clone();
    assert_eq!((&evaluation["correct"], &evaluation["total"]), (&801.into(), &1066.into()));
}
