use crate::support::{Folder, answer, json, on_software, refused, repository, run, run_with};

const WARM: &str = "A warm, funny and surprisingly moving film.";
const BORED: &str = "I was bored from the first scene to the last.";

#[test]
fn a_table_names_label_probability_text_and_device() {
    let text = answer(["classify", WARM, BORED, "--device", "cpu"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["label", "probability", "text"]);
    assert!(lines[1].starts_with("positive") && lines[1].contains("0.990") && lines[1].ends_with(WARM), "{text}");
    assert!(lines[2].starts_with("negative") && lines[2].contains("0.758") && lines[2].ends_with(BORED), "{text}");
    assert!(lines[4].starts_with("2 texts in ") && lines[4].ends_with(" on CPU"), "{text}");
    assert!(!text.contains('\x1b'), "no colours into a pipe");
}

/// Texts with the probabilities that Keras computed.
#[test]
fn json_agrees_with_keras() {
    let expected = std::fs::read_to_string(repository("models/sentiment/expected_texts.json")).expect("a file");
    let expected: Vec<serde_json::Value> = serde_json::from_str(&expected).expect("JSON");
    let mut checked = 0;
    for entry in expected {
        let (Some(text), Some(probabilities)) = (entry["text"].as_str(), entry["probabilities"].as_array()) else {
            continue;
        };
        if text.contains('\0') || probabilities.is_empty() {
            continue;
        }
        let got = json(&answer(["classify", "--format", "json", "--device", "cpu", "--", text]));
        let got = &got["predictions"][0];
        assert_eq!(got["text"], text);
        for (label, expected) in ["negative", "positive"].iter().zip(probabilities) {
            let got = got["probabilities"][label].as_f64().expect("a number");
            assert!((got - expected.as_f64().expect("a number")).abs() < 1e-5, "{text}: {label}");
        }
        checked += 1;
    }
    assert!(checked >= 3, "{checked} texts");
}

#[test]
fn json_says_where_it_was_computed() {
    let cpu = json(&answer(["classify", WARM, "--format", "json", "--device", "cpu"]));
    assert_eq!((&cpu["device"]["kind"], &cpu["no_gpu_found"]), (&"CPU".into(), &false.into()));
    assert_eq!(cpu["predictions"][0]["label"], "positive");
}

/// Every format names the device that `auto` takes, and says if that is the CPU.
#[test]
fn auto_says_what_it_took() {
    let auto = json(&answer(["classify", WARM, "--format", "json"]));
    let fell_back = auto["device"]["kind"] == "CPU";
    assert_eq!(auto["no_gpu_found"], fell_back);
    let table = answer(["classify", WARM]);
    let csv = run(["classify", WARM, "--format", "csv"]);
    assert_eq!(table.contains("on CPU (no GPU found)"), fell_back, "{table}");
    assert_eq!(csv.stderr.contains("no GPU found"), fell_back, "{csv:?}");
    assert!(table.contains(auto["device"]["name"].as_str().expect("a name")), "{table}");
}

#[test]
fn csv_keeps_commas_quotes_and_line_order() {
    let hard = "say \"yes\", or, well, \"no\"";
    let text = answer(["classify", hard, WARM, "--format", "csv", "--device", "cpu"]);
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().expect("a header"), vec!["label", "probability", "device", "text"]);
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("records");
    assert_eq!((records.len(), &records[0][3], &records[1][3]), (2, hard, WARM));
    assert_eq!((&records[1][0], &records[1][2]), ("positive", "CPU"));
    assert!((records[1][1].parse::<f64>().expect("a number") - 0.990_919).abs() < 1e-5);
}

#[test]
fn a_file_and_standard_input_give_the_same() {
    let folder = Folder::new("same");
    let content = format!("{WARM}\r\n{BORED}\r\n");
    let args = ["classify", "--device", "cpu", "--format", "csv", "--file"];
    let from_file = answer(args.into_iter().chain([folder.file("windows.txt", &content).as_str()]));
    let with_mark = format!("\u{feff}{WARM}\n{BORED}");
    let from_stdin = run_with(args.into_iter().chain(["-"]), with_mark.as_bytes());
    assert_eq!(from_file, from_stdin.stdout);
    assert_eq!(from_file, answer(["classify", "--device", "cpu", "--format", "csv", WARM, BORED]));
}

#[test]
fn a_long_text_is_cut_and_cannot_steer_the_terminal() {
    let long = format!("good \x1b[31m {}", "film ".repeat(100));
    let text = answer(["classify", &long, "--device", "cpu"]);
    let row = text.lines().nth(1).expect("a row");
    assert!(row.ends_with('…') && row.chars().count() < 90 && !row.contains('\x1b'), "{row}");
    let json = json(&answer(["classify", &long, "--device", "cpu", "--format", "json"]));
    assert_eq!(json["predictions"][0]["text"], long, "whole for programs");
}

#[test]
fn classes_can_be_named() {
    let args = ["classify", WARM, BORED, "--device", "cpu", "--format", "csv", "--classes"];
    let named = answer(args.into_iter().chain(["sad,glad"]));
    let own = answer(args.into_iter().chain(["negative,positive"]));
    assert_eq!(own, answer(&args[..7]));
    assert_eq!(named, own.replace("negative", "sad").replace("positive", "glad"));
    let wrong = run(args.into_iter().chain(["one,two,three"]));
    let expected = "gatefold: labels: expected 2, since the output is [B, 2], got 3\n";
    assert_eq!((wrong.code, wrong.stderr.as_str()), (2, expected));

    // The same model without their names.
    let mut bytes = std::fs::read(repository("models/sentiment/sentiment.safetensors")).expect("the model");
    let names = br#",\"labels\":[\"negative\",\"positive\"]"#;
    let place = bytes.windows(names.len()).position(|part| part == names).expect("the names");
    bytes[place..place + names.len()].fill(b' ');
    let folder = Folder::new("nameless");
    let model = folder.file("nameless.safetensors", &bytes);
    let args = |rest: &[&str]| run(["classify", "--device", "cpu", "--model", &model].iter().chain(rest));
    refused(&args(&[WARM]), &["names no classes", "--classes"]);
    let given = args(&[WARM, BORED, "--format", "csv", "--classes", "negative,positive"]);
    assert_eq!(given.stdout, own);
}

#[test]
fn a_software_adapter_agrees_with_the_cpu() {
    let texts = [WARM, BORED, "The plot makes no sense, but the cast is a joy to watch."];
    let args: Vec<&str> = ["classify", "--format", "json"].into_iter().chain(texts).collect();
    let run = on_software(&args);
    assert_eq!(run.code, 0, "{run:?}");
    let (software, cpu) = (json(&run.stdout), json(&answer(args.iter().chain(&["--device", "cpu"]))));
    assert_eq!(software["device"]["kind"], "software renderer");
    for (got, expected) in
        software["predictions"].as_array().expect("three").iter().zip(cpu["predictions"].as_array().expect("three"))
    {
        assert_eq!(got["label"], expected["label"]);
        let difference =
            got["probability"].as_f64().expect("a number") - expected["probability"].as_f64().expect("a number");
        assert!(difference.abs() < 1e-5, "{got} and {expected}");
    }
}
