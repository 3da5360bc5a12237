use crate::support::{Folder, answer, json, on_software, refusal, run};

const SMALL: [&str; 7] = [
    "bench",
    "--shape",
    "hidden=8,steps=3,batch=2,input=4,layers=2,bidirectional=true",
    "--runs",
    "3",
    "--warmup",
    "1",
];

fn small(more: &[&'static str]) -> Vec<&'static str> {
    SMALL.iter().chain(more).copied().collect()
}

#[test]
fn a_table_has_times_and_errors() {
    let text = answer(small(&["--device", "cpu"]));
    let row = text.lines().nth(1).expect("a row");
    assert!(row.starts_with("H8 T3 B2 I4 L2 bi  CPU") && row.ends_with("right"), "{text}");
    for word in ["median of 3 runs", "cold", "quartiles", "per step", "GPU", "max error"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
}

#[test]
fn json_has_every_sample_in_order_of_size() {
    let all = json(&answer(small(&["--device", "cpu", "--format", "json", "--seed", "7"])));
    assert_eq!((&all["seed"], &all["runs"], &all["warmup"]), (&7.into(), &3.into(), &1.into()));
    let one = &all["results"][0];
    assert_eq!(one["wall_samples_us"].as_array().expect("samples").len(), 3);
    let time = |key: &str| one["wall_us"][key].as_f64().expect("a time");
    assert!(0.0 < time("min") && time("min") <= time("lower"));
    assert!(time("lower") <= time("median") && time("median") <= time("upper"));
    assert_eq!((&one["right"], &one["gpu_us"]), (&true.into(), &serde_json::Value::Null));
    assert!(one["max_error"].as_f64().expect("a number") < 1e-5);
}

#[test]
fn csv_has_a_line_per_shape_and_device() {
    let text = answer(small(&["--shape", "hidden=4", "--device", "cpu", "--csv"]));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let width = reader.headers().expect("a header").len();
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("records");
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.len() == width && &record[width - 1] == "true"), "{text}");
}

#[test]
fn a_device_named_twice_is_timed_once() {
    let all = json(&answer(small(&["--device", "cpu", "--device", "cpu", "--json"])));
    assert_eq!(all["results"].as_array().expect("results").len(), 1);
}

#[test]
fn quick_has_shapes_of_its_own() {
    let all = json(&answer(["bench", "--quick", "--device", "cpu", "--format", "json"]));
    assert!(all["results"].as_array().expect("results").len() >= 2);
    assert_eq!(all["runs"], 5);
}

#[test]
fn software_times_come_with_a_warning() {
    let run = on_software(&small(&["--device", "cpu"]));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("say nothing about any GPU"), "{run:?}");
    let rows = run.stdout.lines().filter(|line| line.ends_with("right")).count();
    assert_eq!(rows, 2, "{run:?}");
}

/// Records a small run on this CPU and says where the file is.
fn recorded(folder: &Folder, more: &[&str]) -> String {
    let record = folder.path("record");
    let _ = std::fs::remove_dir_all(&record);
    let shapes = ["--shape", "hidden=4,steps=2", "--shape", "cell=gru,hidden=8,steps=2"];
    let rest = ["--runs", "3", "--device", "cpu", "--record", &record];
    answer(["bench"].iter().chain(&shapes).chain(&rest).chain(more));
    let folder = std::path::Path::new(&record).join("cpu-cpu");
    let files: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].to_str().expect("UTF-8").to_owned()
}

/// The record with every time multiplied.
fn scaled(file: &str, factor: f64) -> serde_json::Value {
    let mut all = json(&std::fs::read_to_string(file).expect("a record"));
    for one in all["results"].as_array_mut().expect("results") {
        for key in ["min", "lower", "median", "upper"] {
            let time = one["wall_us"][key].as_f64().expect("a time");
            one["wall_us"][key] = (time * factor).into();
        }
    }
    all
}

#[test]
fn every_set_goes_by_its_name() {
    for (set, least) in [("deepbench", 2), ("flashrnn", 1), ("stacked", 1), ("audio", 2), ("basecall", 1)] {
        let args = ["bench", "--set", set, "--quick", "--runs", "1", "--warmup", "0", "--budget", "1"];
        let run = run(args.iter().chain(&["--device", "cpu", "--format", "json"]));
        assert_eq!(run.code, 0, "{run:?}");
        let all = json(&run.stdout);
        let (results, notes) = (all["results"].as_array().expect("results"), all["notes"].as_array().expect("notes"));
        assert!(results.len() + notes.len() >= least, "{set}: {run:?}");
        for one in results {
            assert_eq!(one["right"], true, "{set}: {one}");
        }
        // A note reports each shape that would take longer than seconds.
        assert!(run.stderr.contains("--quick"), "{set}: {run:?}");
    }
}

#[test]
fn cells_and_strategies_are_told_apart() {
    let shapes = ["--shape", "cell=gru,hidden=4,steps=2", "--shape", "cell=rnn,hidden=4,steps=2"];
    let args = ["bench", "--runs", "1", "--strategy", "step", "--format", "json"];
    let args: Vec<&str> = args.iter().chain(&shapes).copied().collect();
    let run = on_software(&args);
    assert_eq!(run.code, 0, "{run:?}");
    let all = json(&run.stdout);
    for (one, cell) in all["results"].as_array().expect("results").iter().zip(["gru", "rnn"]) {
        assert_eq!((&one["shape"]["cell"], &one["strategy"]), (&cell.into(), &"step".into()));
        assert!(one["dispatches"].as_u64().expect("a count") >= 2, "{one}");
        for key in ["encode_per_dispatch_us", "gflops", "gbytes_per_s", "bandwidth_share", "bytes"] {
            assert!(one[key].as_f64().is_some_and(|number| number > 0.0), "{key} of {one}");
        }
    }
}

#[test]
fn markdown_is_a_table() {
    let text = answer(small(&["--device", "cpu", "--format", "markdown"]));
    let bars = |line: &str| line.matches('|').count();
    let lines: Vec<&str> = text.lines().take(3).collect();
    assert!(lines[0].starts_with("| shape |") && lines[1].contains("---:"), "{text}");
    assert!(lines.iter().all(|line| bars(line) == bars(lines[0])), "{text}");
}

#[test]
fn a_plot_has_a_line_per_series() {
    let folder = Folder::new("bench-plot");
    let file = folder.path("times.svg");
    let shapes = ["hidden=4,steps=2", "hidden=8,steps=2", "cell=gru,hidden=8,steps=2"];
    let shapes = shapes.iter().flat_map(|shape| ["--shape", shape]);
    answer(["bench", "--runs", "2", "--device", "cpu", "--plot", &file].into_iter().chain(shapes));
    let text = std::fs::read_to_string(&file).expect("a plot");
    let document = roxmltree::Document::parse(&text).expect("well-formed");
    let series: Vec<_> = document.descendants().filter(|node| node.attribute("class") == Some("series")).collect();
    let titles: Vec<_> =
        series.iter().map(|node| node.descendants().find_map(|node| node.text()).unwrap_or("")).collect();
    assert_eq!(series.len(), 2, "{titles:?}");
    let points = |index: usize| series[index].descendants().find_map(|node| node.attribute("points")).expect("points");
    assert_eq!((points(0).split(' ').count(), points(1).split(' ').count()), (2, 1));
    assert!(text.contains("LSTM, B 1, vectors: CPU") && text.contains("GRU, B 1, vectors: CPU"), "{text}");
}

#[test]
fn a_record_compared_with_itself_is_the_same() {
    let folder = Folder::new("bench-same");
    let file = recorded(&folder, &[]);
    let all = json(&std::fs::read_to_string(&file).expect("a record"));
    for key in ["cpu", "cores", "memory_bytes", "date", "command"] {
        assert!(!all["machine"][key].is_null(), "{key} of {all}");
    }
    let text = answer(["bench", "compare", &file, &file, "--fail-above", "1.01"]);
    assert_eq!(text.matches(" same").count(), 2 + 1, "two rows and the legend: {text}");
}

/// The negative control.
#[test]
fn doubled_times_are_slower() {
    let folder = Folder::new("bench-slower");
    let file = recorded(&folder, &[]);
    // Far enough apart that no spread hides it.
    let slower = folder.file("slower.json", scaled(&file, 100.0).to_string());
    let run = run(["bench", "compare", &file, &slower, "--fail-above", "1.5"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(run.stdout.matches("SLOWER, above the limit").count(), 2, "{run:?}");
    assert!(answer(["bench", "compare", &file, &slower]).contains("100.00"));
    let faster = answer(["bench", "compare", &slower, &file, "--fail-above", "1.5"]);
    assert_eq!(faster.matches("faster").count(), 2, "{faster}");
}

#[test]
fn what_is_in_one_record_only_is_listed() {
    let folder = Folder::new("bench-only");
    let file = recorded(&folder, &[]);
    let mut all = json(&std::fs::read_to_string(&file).expect("a record"));
    all["results"].as_array_mut().expect("results").remove(0);
    let part = folder.file("part.json", all.to_string());
    assert!(answer(["bench", "compare", &file, &part]).contains("only in A"));
    assert!(answer(["bench", "compare", &part, &file]).contains("only in B"));
}

#[test]
fn records_that_are_none_are_refused() {
    let folder = Folder::new("bench-damaged");
    let file = recorded(&folder, &[]);
    let text = std::fs::read_to_string(&file).expect("a record");
    let compare = |name: &str, content: &str, words: &[&str]| {
        let other = folder.file(name, content);
        refusal(["bench", "compare", &file, &other], &[&[name], words].concat());
        refusal(["bench", "compare", &other, &file], &[&[name], words].concat());
    };
    compare("cut.json", &text[..text.len() / 2], &["record", "damaged"]);
    compare("foreign.json", "{\"results\": []}", &["record", "another file"]);
    let mut old = scaled(&file, 1.0);
    old["record"] = 0.into();
    compare("old.json", &old.to_string(), &["version 0"]);
    compare("negative.json", &scaled(&file, -1.0).to_string(), &["out of order"]);
    refusal(["bench", "compare", &file, &folder.path("nothing.json")], &["nothing.json"]);
    refusal(["bench", "compare", &file, &file, "--fail-above", "-1"], &["above 0"]);
}

#[test]
fn targets_that_cannot_be_written_are_refused_before_the_run() {
    let folder = Folder::new("bench-unwritable");
    let blocked = folder.file("file", "");
    let long = ["bench", "--device", "cpu", "--shape", "hidden=512,steps=2000"];
    let nowhere = folder.path("none/out.svg");
    for (more, words) in
        [(["--record", &blocked], ["file", "can be written"]), (["--plot", &nowhere], ["out.svg", "can be written"])]
    {
        refusal(long.iter().chain(&more), &words);
    }
}

#[test]
fn steps_of_training_are_timed_and_checked() {
    let text = answer(small(&["--train", "--device", "cpu"]));
    let row = text.lines().nth(1).expect("a row");
    assert!(row.starts_with("H8 T3 B2 I4 L2 bi  CPU") && row.ends_with("right"), "{text}");
    for word in ["forward", "with gradients", "step", "sequences/s", "Adam"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    let run = on_software(&small(&["--train", "--json"]));
    assert_eq!(run.code, 0, "{run:?}");
    let all = json(&run.stdout);
    assert_eq!(all["kind"], "gatefold bench --train");
    let one = &all["results"][0];
    assert_eq!((&one["right"], &one["checked_steps"]), (&true.into(), &3.into()));
    assert!(one["max_error"].as_f64().expect("a number") <= 4e-6);
    assert!(one["memory_bytes"].as_u64().expect("bytes") > 10_000 * 4 * 4);
    assert_eq!(one["step_samples_us"].as_array().expect("samples").len(), 3);
    refusal(small(&["--train", "--csv"]), &["--csv", "--train"]);
    refusal(small(&["--train", "--strategy", "resident"]), &["strategy", "step, tile or sequence"]);
}
