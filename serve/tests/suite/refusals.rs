//! Wrong requests: a status, one line, and a server that goes on.

use serde_json::{Value, json};

use crate::common::{Client, I, Running, features, infer, lstm, numbers, options, step, tokens};

/// Sends `body` and expects this status with an error that has all `words`. The same connection then answers a right request.
fn refused(client: &mut Client, (model, body): (&str, &Value), status: u16, words: &[&str]) {
    let answer = client.post(&infer(model), body);
    assert_eq!(answer.status, status, "{body}: {}", String::from_utf8_lossy(&answer.body));
    let error = answer.error();
    for word in words {
        assert!(error.contains(word), "`{word}` in: {error}");
    }
    client.post(&infer("lstm"), &features(&numbers(I, 1), &[1, 1, I])).good();
}

fn input(name: &str, datatype: &str, shape: &Value, data: &Value) -> Value {
    json!({ "inputs": [{ "name": name, "datatype": datatype, "shape": shape, "data": data }] })
}

#[test]
fn a_wrong_request_is_one_clear_line() {
    let server = Running::start(vec![("lstm", lstm(1)), ("words", tokens())], options());
    let mut client = server.client();
    let shape = json!([1, 1, I]);
    let data = json!([0.1, 0.2, 0.3]);
    let with = |key: &str, value: Value| {
        let mut request = input("input", "FP32", &shape, &data);
        request[key] = value;
        request
    };
    let of_input = |key: &str, value: Value| {
        let mut request = input("input", "FP32", &shape, &data);
        request["inputs"][0][key] = value;
        request
    };
    let cases: Vec<(&str, Value, u16, Vec<&str>)> = vec![
        ("lstm", json!({}), 400, vec!["request", "inputs"]),
        ("lstm", json!([1, 2]), 400, vec!["request"]),
        ("lstm", json!({ "inputs": [] }), 400, vec!["expected `input`, got none"]),
        ("lstm", input("x", "FP32", &shape, &data), 400, vec!["got `x`"]),
        ("lstm", input("input", "INT64", &shape, &json!([1, 2, 3])), 400, vec!["`input`", "FP32", "INT64"]),
        ("lstm", input("input", "FLOAT", &shape, &data), 400, vec!["datatype", "FP32", "FLOAT"]),
        ("lstm", input("input", "FP32", &json!([1, 1, 4]), &json!([1, 2, 3, 4])), 400, vec!["[T, B, 3]", "[1, 1, 4]"]),
        ("lstm", input("input", "FP32", &json!([3]), &data), 400, vec!["[T, B, 3]", "[3]"]),
        ("lstm", input("input", "FP32", &json!([0, 1, 3]), &json!([])), 400, vec!["[0, 1, 3]"]),
        ("lstm", input("input", "FP32", &json!([2, 1, 3]), &data), 400, vec!["6 elements", "got 3"]),
        ("lstm", input("input", "FP32", &shape, &json!([1, 2, 3, 4])), 400, vec!["more than 3 elements"]),
        ("lstm", input("input", "FP32", &json!([-1, 1, 3]), &data), 400, vec!["-1"]),
        ("lstm", input("input", "FP32", &json!([u64::MAX, 2, 3]), &data), 400, vec!["fewer elements"]),
        ("lstm", input("input", "FP32", &json!([100_000_000, 1, 3]), &data), 413, vec!["elements"]),
        ("lstm", input("input", "FP32", &shape, &json!(["a", "b", "c"])), 400, vec!["`input`", "numbers"]),
        ("lstm", input("input", "FP32", &shape, &json!([1, null, 3])), 400, vec!["null"]),
        ("lstm", input("input", "FP32", &shape, &json!([1, 1e39, 3])), 400, vec!["finite", "element 1"]),
        ("lstm", input("input", "FP32", &shape, &json!(7)), 400, vec!["array"]),
        ("lstm", with("outputs", json!([{ "name": "y" }])), 400, vec!["`output`", "got `y`"]),
        ("lstm", with("parameters", json!({ "speed": 1 })), 400, vec!["sequence_id", "`speed`"]),
        ("lstm", with("parameters", json!({ "sequence_start": true })), 400, vec!["sequence_id"]),
        ("lstm", with("parameters", json!({ "sequence_id": 1.5 })), 400, vec!["sequence_id", "1.5"]),
        ("lstm", with("parameters", json!({ "sequence_id": "a\nb" })), 400, vec!["control"]),
        ("lstm", with("parameters", json!({ "sequence_id": "x".repeat(257) })), 400, vec!["256", "257"]),
        ("lstm", with("parameters", json!({ "sequence_id": 5, "sequence_start": 1 })), 400, vec!["expected a boolean"]),
        ("lstm", of_input("parameters", json!({ "shared_memory_region": "a" })), 400, vec!["binary_data_size"]),
        ("lstm", of_input("parameters", json!({ "binary_data_size": 12 })), 400, vec!["both"]),
        ("lstm", of_input("data", Value::Null), 400, vec!["`input`"]),
        ("words", input("input", "FP32", &json!([1, 1]), &json!([1.0])), 400, vec!["INT64", "FP32"]),
        ("words", input("input", "INT64", &json!([2, 1]), &json!([1, 11])), 400, vec!["token 11", "below 11"]),
        ("words", input("input", "INT64", &json!([2, 1]), &json!([1, -1])), 400, vec!["-1", "element 1"]),
        ("words", input("input", "INT64", &json!([2, 1]), &json!([1, 2.5])), 400, vec!["integers"]),
        ("words", input("text", "BYTES", &json!([1]), &json!(["a film"])), 400, vec!["vocabulary"]),
        ("none", input("input", "FP32", &shape, &data), 404, vec!["`lstm`", "`none`"]),
        ("lstm", step("never", &[0.1, 0.2, 0.3], &[1, 1, I], false, false), 404, vec!["`never`", "sequence_start"]),
        ("lstm", step("a", &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], &[1, 2, I], true, false), 400, vec!["B = 1", "B = 2"]),
        ("lstm", step("a", &[0.1, 0.2], &[1, 1, 2], true, false), 400, vec!["vectors of 3"]),
    ];
    for (model, body, status, words) in &cases {
        refused(&mut client, (model, body), *status, words);
    }
    // None of them left a sequence open.
    assert_eq!(client.get("/v2/models/lstm/sequences").good().json(), json!({ "sequences": [] }));
}

#[test]
fn malformed_json_and_binary_data_are_refused() {
    let server = Running::start(vec![("lstm", lstm(1))], options());
    let mut client = server.client();
    let path = infer("lstm");
    let deep = "[".repeat(100_000);
    for body in ["", "{", "null", "\u{0}", "{\"inputs\": [", &deep, "{\"inputs\": \"x\"}"] {
        let answer = client.send("POST", &path, &[], body.as_bytes());
        assert_eq!(answer.status, 400, "{body:.20}");
        answer.error();
    }
    let nested = format!(
        "{{\"inputs\": [{{\"name\": \"input\", \"datatype\": \"FP32\", \"shape\": [1, 1, 3], \"data\": {}{}}}]}}",
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    assert_eq!(client.send("POST", &path, &[], nested.as_bytes()).status, 400);
    let json = |size: usize, datatype: &str| {
        json!({ "inputs": [{ "name": "input", "datatype": datatype, "shape": [1, 1, 3],
            "parameters": { "binary_data_size": size } }] })
        .to_string()
    };
    let good: Vec<u8> = [0.1f32, 0.2, 0.3].iter().flat_map(|x| x.to_le_bytes()).collect();
    let nan: Vec<u8> = [0.1f32, f32::NAN, 0.3].iter().flat_map(|x| x.to_le_bytes()).collect();
    let mut send = |json: &str, length: &str, data: &[u8]| {
        let headers = [("Inference-Header-Content-Length", length)];
        client.send("POST", &path, &headers, &[json.as_bytes(), data].concat())
    };
    let fine = json(12, "FP32");
    let length = fine.len().to_string();
    send(&fine, &length, &good).good();
    let cases: [(&str, &str, &[u8], &str); 8] = [
        (&fine, &length, &good[..11], "11 that are left"),
        (&fine, &length, &[&good[..], &[0]].concat(), "1 bytes behind"),
        (&json(11, "FP32"), &length, &good[..11], "12 bytes, as FP32"),
        (&json(12, "FP64"), &length, &good, "24 bytes, as FP64"),
        (&fine, &length, &nan, "finite numbers, got NaN at element 1"),
        (&fine, "99999", &good, "Inference-Header-Content-Length"),
        (&fine, "-1", &good, "Inference-Header-Content-Length"),
        (&fine, "3", &good, "JSON"),
    ];
    for (json, length, data, word) in cases {
        let answer = send(json, length, data);
        assert_eq!(answer.status, 400, "{word}");
        assert!(answer.error().contains(word), "`{word}` in: {}", answer.error());
    }
    send(&fine, &length, &good).good();
    let answer = client.send("POST", &path, &[("Content-Encoding", "gzip")], fine.as_bytes());
    assert_eq!(answer.status, 415);
    answer.error();
    let answer = client.send("PUT", "/v2/models/lstm/sequences/a/state", &[], b"no state");
    assert_eq!(answer.status, 400);
    answer.error();
}
