//! What Prometheus reads.

use std::collections::BTreeMap;

use crate::common::{I, Running, features, infer, lstm, numbers, options, step};

/// Samples by name and labels. Every family has a help and a type before its samples.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let (mut family, mut samples) = (String::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            family = kind.split(' ').next().unwrap().to_owned();
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with(&family) && !family.is_empty(), "{line} of {family}");
            assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "{line} twice");
        }
    }
    samples
}

#[test]
fn everything_is_counted() {
    let server = Running::start(vec![("a", lstm(1)), ("b", lstm(2))], options());
    let mut client = server.client();
    for turn in 0..5 {
        client.post(&infer("a"), &features(&numbers(I, turn), &[1, 1, I])).good();
        client.post(&infer("b"), &step("x", &numbers(I, turn), &[1, 1, I], turn == 0, false)).good();
    }
    assert_eq!(client.get("/v2/models/none").status, 404);
    assert_eq!(client.post(&infer("a"), &features(&[0.0], &[1, 1, 1])).status, 400);
    let answer = client.get("/metrics").good();
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let samples = parse(&String::from_utf8(answer.body).unwrap());
    let of = |name: &str| *samples.get(name).unwrap_or_else(|| panic!("{name} in {samples:#?}"));
    let expected = [
        ("gatefold_http_answers_total{status=\"200\"}", 10.0),
        ("gatefold_http_answers_total{status=\"404\"}", 1.0),
        ("gatefold_errors_total{kind=\"not_found\"}", 1.0),
        ("gatefold_errors_total{kind=\"bad_request\"}", 1.0),
        ("gatefold_connections", 1.0),
        ("gatefold_model_loads_total{model=\"a\"}", 1.0),
        ("gatefold_infer_seconds_count{model=\"a\"}", 6.0),
        ("gatefold_infer_seconds_bucket{model=\"b\",le=\"+Inf\"}", 5.0),
        ("gatefold_queue_answered_total{model=\"b\"}", 5.0),
        ("gatefold_queue_wait_seconds_count{model=\"b\"}", 5.0),
        ("gatefold_batch_sequences_bucket{model=\"b\",le=\"1\"}", 5.0),
        ("gatefold_sequences_open{model=\"b\"}", 1.0),
        ("gatefold_sequences_open{model=\"a\"}", 0.0),
        ("gatefold_queue_requests{model=\"b\"}", 0.0),
    ];
    for (name, value) in expected {
        assert!((of(name) - value).abs() < 1e-9, "{name}: {} instead of {value}", of(name));
    }
    assert!(of("gatefold_infer_seconds_sum{model=\"a\"}") > 0.0);
    // Ranges of a histogram hold those below them too.
    let ranges: Vec<f64> = samples
        .iter()
        .filter(|(name, _)| name.starts_with("gatefold_infer_seconds_bucket{model=\"a\""))
        .map(|(_, &value)| value)
        .collect();
    assert!(ranges.len() > 10 && ranges.iter().all(|&count| count <= 6.0), "{ranges:?}");
}
