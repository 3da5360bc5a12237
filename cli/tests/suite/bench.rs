use crate::support::{answer, json, on_software};

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
    let text = answer(small(&["--shape", "hidden=4", "--device", "cpu", "--format", "csv"]));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let width = reader.headers().expect("a header").len();
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("records");
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.len() == width && &record[width - 1] == "true"), "{text}");
}

#[test]
fn a_device_named_twice_is_timed_once() {
    let all = json(&answer(small(&["--device", "cpu", "--device", "cpu", "--format", "json"])));
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
    let Some(run) = on_software(&small(&["--device", "cpu"])) else { return };
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("say nothing about any GPU"), "{run:?}");
    let rows = run.stdout.lines().filter(|line| line.ends_with("right")).count();
    assert_eq!(rows, 2, "{run:?}");
}
