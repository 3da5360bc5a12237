use crate::support::{Folder, answer, json, refusal};

/// Small networks on few sequences, so that a test takes seconds.
fn small<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let set = ["bench", "--set", "memory", "--device", "cpu", "--quick", "--runs", "1", "--warmup", "0"];
    set.iter().chain(more).copied().collect()
}

fn number(one: &serde_json::Value, key: &str) -> f64 {
    one[key].as_f64().unwrap_or_else(|| panic!("{key} in {one}"))
}

#[test]
fn every_network_is_measured_at_equal_state_and_at_equal_time() {
    let folder = Folder::new("bench-memory");
    let plot = folder.path("memory.svg");
    let all = json(&answer(small(&["--sequences", "16", "--json", "--plot", &plot])));
    assert_eq!(all["kind"], "gatefold bench --set memory");
    let results = all["results"].as_array().expect("results");
    assert_eq!(results.len(), 2 * 3 * 5);
    for task in ["copy", "recall", "questions"] {
        for model in ["LSTM", "GRU", "NTM", "attention", "minGRU"] {
            let of = |one: &&serde_json::Value| one["task"] == task && one["model"] == model;
            let [bytes, time] = results.iter().filter(of).collect::<Vec<_>>()[..] else {
                panic!("{task} {model}: expected two results");
            };
            assert_eq!((&bytes["asked_bytes"], &time["asked_bytes"]), (&512.into(), &serde_json::Value::Null));
            assert!(number(time, "asked_step_us") > 0.0);
            // The outputs that attention looks at come in whole timesteps.
            let kept = number(bytes, "state_bytes");
            assert!(if model == "attention" { (1.0..=512.0).contains(&kept) } else { kept == 512.0 }, "{bytes}");
        }
    }
    for one in results {
        assert_eq!(
            (&one["control"], &one["right"], &one["trained_sequences"]),
            (&true.into(), &true.into(), &16.into())
        );
        let (untrained, chance) = (number(one, "untrained_accuracy"), number(one, "chance"));
        assert!((untrained - chance).abs() < 0.15, "{one}");
        assert!(number(one, "step_us") > 0.0 && number(one, "answers") >= 400.0, "{one}");
        let points = 100.0 * (number(one, "accuracy") - chance) / (1.0 - chance);
        assert!((number(one, "points") - points).abs() < 1e-9, "{one}");
    }
    let text = std::fs::read_to_string(plot).expect("a plot");
    let document = roxmltree::Document::parse(&text).expect("well-formed");
    let series = document.descendants().filter(|node| node.attribute("class") == Some("series")).count();
    assert_eq!(series, 3 * 2 * 5);
}

/// What was learned is more than chance, and more than the control.
#[test]
fn a_network_that_has_learned_is_better_than_one_that_has_not() {
    let args = small(&["--sequences", "3200", "--tasks", "copy", "--models", "gru", "--json"]);
    let all = json(&answer(&args));
    let one = &all["results"][0];
    let (untrained, learned) = (number(one, "untrained_accuracy"), number(one, "accuracy"));
    assert!(untrained < 0.53 && learned > 0.57, "{one}");
    let again = json(&answer(&args));
    assert_eq!(again["results"][0]["right_answers"], one["right_answers"], "the same sequences, the same bits");
}

#[test]
fn options_that_mean_nothing_are_refused() {
    for (args, words) in [
        (small(&["--set", "audio"]), ["--set memory", "another --set"]),
        (small(&["--shape", "hidden=4"]), ["--set memory", "--shape"]),
        (small(&["--strategy", "step"]), ["--set memory", "--strategy"]),
        (small(&["--train"]), ["--set memory", "--train"]),
        (small(&["--state-bytes", "100"]), ["--state-bytes", "512"]),
        (small(&["--state-bytes", "516"]), ["multiple of 8", "516"]),
        (small(&["--sequences", "16", "--tasks", "recall", "--models", "lstm", "--csv"]), ["--format", "csv"]),
        (vec!["bench", "--models", "lstm", "--device", "cpu"], ["--models", "--set memory"]),
    ] {
        refusal(args, &words);
    }
}
