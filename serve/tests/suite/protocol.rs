//! The protocol: paths, metadata, tensors in JSON and as binary data.

use gatefold::{Classifier, Device, Input, NamedInput, Network, Session};
use half::{bf16, f16};
use serde_json::{Value, json};

use crate::common::{
    Answer, Client, I, N, Running, batch_first, bidirectional, features, infer, lstm, network, numbers, options,
    sentiment, tokens,
};

fn several() -> Network {
    let layers = serde_json::from_str(
        r#"[{"type": "input", "name": "series", "input_size": 2},
        {"type": "lstm", "name": "lstm", "input_size": 2, "hidden_size": 8, "output": "last"},
        {"type": "input", "name": "fixed", "kind": "row", "input_size": 3},
        {"type": "join", "name": "both", "inputs": ["lstm", "fixed"], "join": "concat"},
        {"type": "dense", "name": "head", "in_features": 11, "out_features": 1}]"#,
    );
    network(layers.unwrap(), 1)
}

fn session(network: &Network) -> Session {
    Session::new(&Device::cpu(), network).unwrap()
}

#[test]
fn the_paths_are_those_of_the_protocol() {
    let server = Running::start(vec![("lstm", lstm(1)), ("words", tokens())], options());
    let mut client = server.client();
    assert_eq!(client.get("/v2/health/live").good().json(), json!({ "live": true }));
    assert_eq!(client.get("/v2/health/ready").good().json(), json!({ "ready": true }));
    let facts = client.get("/v2").good().json();
    assert_eq!(facts["name"], "gatefold");
    assert!(facts["extensions"].as_array().unwrap().contains(&"binary_tensor_data".into()), "{facts}");
    for path in ["/v2/models/lstm", "/v2/models/lstm/versions/1"] {
        let metadata = client.get(path).good().json();
        assert_eq!((&metadata["name"], &metadata["versions"]), (&json!("lstm"), &json!(["1"])));
        assert_eq!(metadata["inputs"][0]["shape"], json!([-1, -1, 3]));
        let (name, datatype) = (&metadata["outputs"][0]["name"], &metadata["outputs"][0]["datatype"]);
        assert_eq!((name, datatype), (&json!("output"), &json!("FP32")));
        assert_eq!(metadata["parameters"]["changed_on_disk"], false);
    }
    assert_eq!(client.get("/v2/models/words").good().json()["inputs"][0]["datatype"], "INT64");
    assert_eq!(client.get("/v2/models/lstm/ready").good().json(), json!({ "ready": true }));
    let index = client.post("/v2/repository/index", &json!({})).good().json();
    assert_eq!(index.as_array().unwrap().len(), 2, "{index}");
    assert_eq!((&index[0]["name"], &index[0]["state"]), (&json!("lstm"), &json!("READY")));
    for path in ["/v2/models/none", "/v2/models/lstm/versions/2", "/v3", "/v2/models/lstm/sequences/none"] {
        let answer = client.get(path);
        assert_eq!(answer.status, 404, "{path}");
        answer.error();
    }
    assert!(client.get("/v2/models/none").error().contains("expected one of `lstm`, `words`, got `none`"));
    let wrong = client.send("DELETE", "/v2/models/lstm/infer", &[], b"");
    assert_eq!(wrong.status, 405);
    wrong.error();
}

/// A run over the network has the bits of a run in the process.
#[test]
fn json_has_the_bits_of_a_run() {
    let server = Running::start(vec![("lstm", lstm(1)), ("gru", batch_first()), ("words", tokens())], options());
    let mut client = server.client();
    let x = numbers(4 * 5 * I, 7);
    for (model, network) in [("lstm", lstm(1)), ("gru", batch_first())] {
        let expected = session(&network).run(Input::features(&x, [4, 5, I]), None).unwrap();
        let flat = client.post(&infer(model), &features(&x, &[4, 5, I])).good();
        assert_eq!(flat.json()["outputs"][0]["shape"], json!([4, 5, N]));
        assert_eq!(flat.numbers("output"), expected.values);
        // The same as nested arrays, by the path with a version, with an id.
        let nested: Vec<Vec<&[f32]>> = x.chunks(5 * I).map(|step| step.chunks(I).collect()).collect();
        let mut request = features(&x, &[4, 5, I]);
        request["inputs"][0]["data"] = json!(nested);
        request["id"] = "seven".into();
        let answer = client.post(&format!("/v2/models/{model}/versions/1/infer"), &request).good();
        assert_eq!(answer.numbers("output"), expected.values);
        let json = answer.json();
        assert_eq!(
            (&json["id"], &json["model_name"], &json["model_version"]),
            (&json!("seven"), &json!(model), &json!("1"))
        );
        // The comparison can fail.
        let mut other = x.clone();
        other[0] += 0.01;
        assert_ne!(client.post(&infer(model), &features(&other, &[4, 5, I])).good().numbers("output"), expected.values);
    }
    let ids = [1, 4, 10, 0, 2, 3];
    let expected = session(&tokens()).run(Input::tokens(&ids, [3, 2]), None).unwrap().values;
    for datatype in ["INT64", "INT32", "UINT8"] {
        let request = json!({ "inputs": [{ "name": "input", "datatype": datatype, "shape": [3, 2], "data": ids }] });
        assert_eq!(client.post(&infer("words"), &request).good().numbers("output"), expected, "{datatype}");
    }
}

#[test]
fn lengths_and_masks_count() {
    let server = Running::start(vec![("both", bidirectional())], options());
    let (mut client, x) = (server.client(), numbers(4 * 2 * I, 3));
    let session = session(&bidirectional());
    let whole = session.run(Input::features(&x, [4, 2, I]), None).unwrap().values;
    let expected = session.run(Input::features(&x, [4, 2, I]).with_lengths(&[2, 4]), None).unwrap().values;
    assert_ne!(whole, expected);
    let mut request = features(&x, &[4, 2, I]);
    assert_eq!(client.post(&infer("both"), &request).good().numbers("output"), whole);
    let lengths = json!({ "name": "lengths", "datatype": "INT32", "shape": [2], "data": [2, 4] });
    request["inputs"].as_array_mut().unwrap().push(lengths);
    assert_eq!(client.post(&infer("both"), &request).good().numbers("output"), expected);
    let mask = [true, true, true, true, false, true, false, true];
    request["inputs"][1] = json!({ "name": "mask", "datatype": "BOOL", "shape": [4, 2], "data": mask });
    assert_eq!(client.post(&infer("both"), &request).good().numbers("output"), expected);
    // It has no streams, and says why.
    let metadata = client.get("/v2/models/both").good().json();
    assert!(metadata["parameters"]["sequences"].as_str().unwrap().contains("both"), "{metadata}");
}

#[test]
fn several_inputs_and_outputs_by_name() {
    let server = Running::start(vec![("several", several())], options());
    let mut client = server.client();
    let (series, fixed) = (numbers(3 * 2 * 2, 1), numbers(2 * 3, 2));
    let others = [NamedInput::rows("fixed", &fixed[..], [2, 3])];
    let expected = session(&several()).run(Input::features(&series, [3, 2, 2]).with_others(&others), None).unwrap();
    let request = json!({ "inputs": [
        { "name": "fixed", "datatype": "FP32", "shape": [2, 3], "data": fixed },
        { "name": "series", "datatype": "FP32", "shape": [3, 2, 2], "data": series },
    ] });
    let answer = client.post(&infer("several"), &request).good();
    assert_eq!(answer.numbers("output"), expected.values);
    let mut missing = request;
    missing["inputs"].as_array_mut().unwrap().remove(0);
    let answer = client.post(&infer("several"), &missing);
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("expected `fixed`"), "{}", answer.error());
}

/// A body with a JSON part and binary data.
fn binary(client: &mut Client, model: &str, json: &Value, data: &[u8]) -> Answer {
    let json = json.to_string();
    let length = json.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    client.send("POST", &infer(model), &headers, &[json.as_bytes(), data].concat())
}

#[test]
fn binary_tensors_have_the_same_bits() {
    let server = Running::start(vec![("lstm", lstm(1)), ("words", tokens())], options());
    let (mut client, x) = (server.client(), numbers(4 * 2 * I, 7));
    // Of fewer bits, so that every type holds it.
    let x: Vec<f32> = x.iter().map(|&x| bf16::from_f32(x).to_f32()).map(|x| f16::from_f32(x).to_f32()).collect();
    let expected = session(&lstm(1)).run(Input::features(&x, [4, 2, I]), None).unwrap().values;
    let types: [(&str, Vec<u8>); 4] = [
        ("FP32", x.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ("FP64", x.iter().flat_map(|&x| f64::from(x).to_le_bytes()).collect()),
        ("FP16", x.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()),
        ("BF16", x.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect()),
    ];
    for (datatype, data) in &types {
        let request = json!({ "inputs": [{ "name": "input", "datatype": datatype, "shape": [4, 2, I],
            "parameters": { "binary_data_size": data.len() } }], "parameters": { "binary_data_output": true } });
        let answer = binary(&mut client, "lstm", &request, data).good();
        let (json, bytes) = answer.parts();
        let size = json["outputs"][0]["parameters"]["binary_data_size"].as_u64().unwrap();
        assert_eq!((size, bytes.len()), (4 * 2 * N as u64 * 4, 4 * 2 * N * 4));
        let got: Vec<f32> = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(got, expected, "{datatype}");
    }
    // One output as JSON although the rest is binary, and the other way round.
    let data = &types[0].1;
    let mut request = json!({ "inputs": [{ "name": "input", "datatype": "FP32", "shape": [4, 2, I],
        "parameters": { "binary_data_size": data.len() } }], "parameters": { "binary_data_output": true },
        "outputs": [{ "name": "output", "parameters": { "binary_data": false } }] });
    assert_eq!(binary(&mut client, "lstm", &request, data).good().numbers("output"), expected);
    request["parameters"] = json!({});
    request["outputs"][0]["parameters"]["binary_data"] = true.into();
    assert_eq!(binary(&mut client, "lstm", &request, data).good().parts().1.len(), expected.len() * 4);
    let ids = [1u32, 4, 10, 0];
    let expected = session(&tokens()).run(Input::tokens(&ids, [4, 1]), None).unwrap().values;
    let data: Vec<u8> = ids.iter().flat_map(|&id| i64::from(id).to_le_bytes()).collect();
    let request = json!({ "inputs": [{ "name": "input", "datatype": "INT64", "shape": [4, 1],
        "parameters": { "binary_data_size": data.len() } }] });
    assert_eq!(binary(&mut client, "words", &request, &data).good().numbers("output"), expected);
}

#[test]
fn texts_are_classified() {
    let server = Running::start(vec![("sentiment", sentiment())], options());
    let mut client = server.client();
    let texts = ["a warm, funny and deeply moving film", "two hours i will never get back"];
    let classifier = Classifier::new(&Device::cpu(), &sentiment()).unwrap();
    let predictions = classifier.classify(&texts).unwrap();
    let expected: Vec<f32> = predictions.iter().flat_map(|answer| answer.probabilities.clone()).collect();
    let mut request = json!({ "inputs": [{ "name": "text", "datatype": "BYTES", "shape": [2], "data": texts }] });
    assert_eq!(client.post(&infer("sentiment"), &request).good().numbers("output"), expected);
    request["outputs"] = json!([{ "name": "output", "parameters": { "classification": 1 } }]);
    let json = client.post(&infer("sentiment"), &request).good().json();
    let output = &json["outputs"][0];
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([2, 1])));
    for (got, prediction) in output["data"].as_array().unwrap().iter().zip(&predictions) {
        let text = format!("{}:{}:{}", prediction.probability(), prediction.class, prediction.label);
        assert_eq!(got, &json!(text));
    }
    assert_ne!(predictions[0].label, predictions[1].label);
    let data: Vec<u8> = texts
        .iter()
        .flat_map(|text| [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat())
        .collect();
    let request = json!({ "inputs": [{ "name": "text", "datatype": "BYTES", "shape": [2],
        "parameters": { "binary_data_size": data.len() } }] });
    assert_eq!(binary(&mut client, "sentiment", &request, &data).good().numbers("output"), expected);
    let cut = &data[..data.len() - 1];
    let request = json!({ "inputs": [{ "name": "text", "datatype": "BYTES", "shape": [2],
        "parameters": { "binary_data_size": cut.len() } }] });
    let answer = binary(&mut client, "sentiment", &request, cut);
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("end within element 1"), "{}", answer.error());
}
