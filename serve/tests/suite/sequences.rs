//! Sequences: their states stay on the server, in order, forked, stored and put back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatefold::streams::QueueOptions;
use gatefold::{Device, Input, Network, Session, State, StreamPool};
use gatefold_serve::Limits;
use serde_json::{Value, json};

use crate::common::{Client, I, N, Running, batch_first, features, infer, lstm, numbers, options, step, tokens, with};

/// The whole sequence in one call of a pool in this process.
fn whole(network: &Network, x: &[f32]) -> Vec<f32> {
    let pool = StreamPool::new(Session::new(&Device::cpu(), network).unwrap(), 1).unwrap();
    let steps = x.len() / I;
    let shape = if network.batch_first() { [1, steps, I] } else { [steps, 1, I] };
    pool.advance(&[(pool.open().unwrap(), Input::features(x, shape))]).unwrap().values(0).to_vec()
}

fn steps(client: &mut Client, model: &str, id: &str) -> u64 {
    client.get(&format!("/v2/models/{model}/sequences/{id}")).good().json()["steps"].as_u64().unwrap()
}

#[test]
fn a_sequence_in_parts_has_the_bits_of_the_whole() {
    let server = Running::start(vec![("lstm", lstm(1)), ("gru", batch_first())], options());
    let (mut client, x) = (server.client(), numbers(12 * I, 9));
    for (model, network) in [("lstm", lstm(1)), ("gru", batch_first())] {
        let expected = whole(&network, &x);
        let shape = |steps: usize| if network.batch_first() { [1, steps, I] } else { [steps, 1, I] };
        let mut got = Vec::new();
        let cuts = [0, 1, 2, 6, 12];
        for (part, cut) in cuts.windows(2).enumerate() {
            let values = &x[cut[0] * I..cut[1] * I];
            let request = step("a", values, &shape(cut[1] - cut[0]), part == 0, false);
            got.extend(client.post(&infer(model), &request).good().numbers("output"));
        }
        assert_eq!(got, expected, "{model}");
        assert_eq!(steps(&mut client, model, "a"), 12);
        // Without the state the last part is another: the comparison can fail.
        let alone = client.post(&infer(model), &features(&x[6 * I..], &shape(6))).good();
        assert_ne!(alone.numbers("output"), expected[6 * N..]);
    }
    // A number and the same number as a text are one sequence; each model has its own.
    let mut request = step("", &x[..I], &[1, 1, I], true, false);
    request["parameters"]["sequence_id"] = 17.into();
    client.post(&infer("lstm"), &request).good();
    client.post(&infer("lstm"), &step("17", &x[..I], &[1, 1, I], false, false)).good();
    assert_eq!(client.post(&infer("gru"), &step("17", &x[..I], &[1, 1, I], false, false)).status, 404);
}

#[test]
fn a_sequence_starts_and_ends() {
    let server = Running::start(vec![("lstm", lstm(1))], options());
    let (mut client, x) = (server.client(), numbers(2 * I, 9));
    let (path, shape) = (infer("lstm"), [1, 1, I]);
    let mut ask =
        |at: usize, start: bool, end: bool| client.post(&path, &step("a", &x[at * I..][..I], &shape, start, end));
    let expected = whole(&lstm(1), &x);
    let (first, second) = (expected[..N].to_vec(), expected[N..].to_vec());
    assert_ne!(first, second);
    assert_eq!(ask(0, true, false).good().numbers("output"), first);
    assert_eq!(ask(1, false, true).good().numbers("output"), second);
    let answer = ask(1, false, false);
    assert_eq!(answer.status, 404);
    assert!(answer.error().contains("sequence_start"));
    // Started again, also in its middle, and started and ended by one request.
    assert_eq!(ask(0, true, false).good().numbers("output"), first);
    assert_eq!(ask(0, true, false).good().numbers("output"), first);
    assert_eq!(ask(1, false, false).good().numbers("output"), second);
    assert_eq!(ask(0, true, true).good().numbers("output"), first);
    assert_eq!(ask(1, false, false).status, 404);
    assert_eq!(ask(0, true, false).good().numbers("output"), first);
    let closed = client.send("DELETE", "/v2/models/lstm/sequences/a", &[], b"").good().json();
    assert_eq!(closed, json!({ "closed": "a", "steps": 1 }));
    assert_eq!(client.send("DELETE", "/v2/models/lstm/sequences/a", &[], b"").status, 404);
}

/// A request for several sequences by tensors.
fn many(ids: &[&str], x: &[f32], lengths: Option<&[usize]>, steps: usize, start: bool) -> Value {
    let mut inputs = vec![
        json!({ "name": "input", "datatype": "FP32", "shape": [steps, ids.len(), I], "data": x }),
        json!({ "name": "sequence_id", "datatype": "BYTES", "shape": [ids.len()], "data": ids }),
    ];
    if let Some(lengths) = lengths {
        inputs.push(json!({ "name": "lengths", "datatype": "INT64", "shape": [ids.len()], "data": lengths }));
    }
    json!({ "inputs": inputs, "parameters": { "sequence_start": start } })
}

#[test]
fn several_sequences_advance_in_one_request() {
    let server = Running::start(vec![("lstm", lstm(1)), ("words", tokens())], options());
    let (mut client, path) = (server.client(), infer("lstm"));
    let ids = ["a", "b", "c"];
    let rows: Vec<Vec<f32>> = (0..3).map(|row| numbers(5 * I, row)).collect();
    let time_major = |from: usize, to: usize| -> Vec<f32> {
        (from..to).flat_map(|step| rows.iter().flat_map(move |row| row[step * I..][..I].to_vec())).collect()
    };
    let first = client.post(&path, &many(&ids, &time_major(0, 2), None, 2, true)).good();
    assert_eq!(first.json()["outputs"][0]["shape"], json!([2, 3, N]));
    // The second time of b one step alone.
    let lengths = [3, 1, 2];
    let second = client.post(&path, &many(&ids, &time_major(2, 5), Some(&lengths), 3, false)).good();
    for (row, input) in rows.iter().enumerate() {
        let expected = whole(&lstm(1), &input[..(2 + lengths[row]) * I]);
        let of = |answer: &[f32], steps: usize| -> Vec<f32> {
            (0..steps).flat_map(|step| answer[(step * 3 + row) * N..][..N].to_vec()).collect()
        };
        let mut got = of(&first.numbers("output"), 2);
        got.extend(of(&second.numbers("output"), lengths[row]));
        assert_eq!(got, expected, "row {row}");
        assert_eq!(steps(&mut client, "lstm", ids[row]), 2 + lengths[row] as u64);
    }
    for (wrong, words) in [
        (many(&["a", "a", "b"], &time_major(0, 1), None, 1, false), "twice"),
        (many(&["a", "b"], &time_major(0, 1), None, 1, false), "6 elements"),
        (many(&ids, &time_major(0, 1), Some(&[1, 0, 1]), 1, false), "from 1 to 1"),
        (many(&["a", "b", "never"], &time_major(0, 1), None, 1, false), "`never`"),
    ] {
        let answer = client.post(&path, &wrong);
        assert!(answer.status == 400 || answer.status == 404, "{}", answer.status);
        assert!(answer.error().contains(words), "{}", answer.error());
    }
    // A refused request advanced none of its sequences.
    assert_eq!(steps(&mut client, "lstm", "a"), 5);
    let request = json!({ "inputs": [
        { "name": "input", "datatype": "INT32", "shape": [1, 2], "data": [1, 2] },
        { "name": "sequence_id", "datatype": "UINT64", "shape": [2], "data": [u64::MAX, 5] },
        { "name": "sequence_start", "datatype": "BOOL", "shape": [2], "data": [true, true] },
        { "name": "sequence_end", "datatype": "BOOL", "shape": [2], "data": [false, true] },
    ] });
    client.post(&infer("words"), &request).good();
    let list = client.get("/v2/models/words/sequences").good().json();
    assert_eq!(list["sequences"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(list["sequences"][0]["sequence_id"], u64::MAX.to_string());
}

#[test]
fn forks_and_stored_states_continue_with_the_same_bits() {
    let network = lstm(1);
    let server = Running::start(vec![("lstm", network.clone())], options());
    let (mut client, x) = (server.client(), numbers(6 * I, 2));
    let path = infer("lstm");
    client.post(&path, &step("a", &x[..3 * I], &[3, 1, I], true, false)).good();
    let forked = client.post("/v2/models/lstm/sequences/a/fork", &json!({ "to": "b" })).good().json();
    assert_eq!(forked, json!({ "sequence_id": "b", "steps": 3 }));
    let snapshot = client.get("/v2/models/lstm/sequences/a/state").good();
    assert_eq!(snapshot.header("sequence-steps"), Some("3"));
    // The bytes are a state file of the library.
    let state = State::from_bytes(&snapshot.body, &network).unwrap();
    let session = Session::new(&Device::cpu(), &network).unwrap();
    let tail = session.run(Input::features(&x[3 * I..], [3, 1, I]), Some(&state)).unwrap().values;
    let expected = whole(&network, &x)[3 * N..].to_vec();
    assert_eq!(tail, expected);
    let headers = [("sequence-steps", "3")];
    client.send("PUT", "/v2/models/lstm/sequences/r%C3%A9sum%C3%A9", &[], b"");
    client.send("PUT", "/v2/models/lstm/sequences/r%C3%A9/state", &headers, &snapshot.body).good();
    for id in ["a", "b", "ré"] {
        let answer = client.post(&path, &step(id, &x[3 * I..], &[3, 1, I], false, false)).good();
        assert_eq!(answer.numbers("output"), expected, "{id}");
    }
    assert_eq!(steps(&mut client, "lstm", "r%C3%A9"), 6);
    // The fork went its own way: another input, another state.
    client.post(&path, &step("b", &x[..I], &[1, 1, I], false, false)).good();
    let [a, b] = ["a", "b"].map(|id| client.get(&format!("/v2/models/lstm/sequences/{id}/state")).good().body);
    assert_ne!(a, b);
    let other = Running::start(vec![("lstm", lstm(2))], options());
    let refused = other.client().send("PUT", "/v2/models/lstm/sequences/a/state", &[], &a);
    assert_eq!(refused.status, 400);
    assert!(refused.error().contains("state of network"), "{}", refused.error());
    assert_eq!(client.post("/v2/models/lstm/sequences/none/fork", &json!({ "to": "c" })).status, 404);
    assert_eq!(client.post("/v2/models/lstm/sequences/a/fork", &json!({ "to": "a" })).status, 400);
    assert_eq!(client.post("/v2/models/lstm/sequences/a/fork", &json!({})).status, 400);
}

#[test]
fn an_idle_sequence_ends_and_a_used_one_does_not() {
    let limits = Limits { idle: Duration::from_millis(400), ..Limits::default() };
    let server = Running::start(vec![("lstm", lstm(1))], with(limits));
    let mut client = server.client();
    let path = infer("lstm");
    let mut ask =
        |id: &str, start: bool| client.post(&path, &step(id, &numbers(I, 1), &[1, 1, I], start, false)).status;
    assert_eq!((ask("idle", true), ask("used", true)), (200, 200));
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(900) {
        assert_eq!(ask("used", false), 200);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!((ask("idle", false), ask("used", false)), (404, 200));
    let text = String::from_utf8(client.get("/metrics").good().body).unwrap();
    assert!(text.contains("gatefold_sequences_expired_total{model=\"lstm\"} 1\n"), "{text}");
    assert!(text.contains("gatefold_sequences_open{model=\"lstm\"} 1\n"), "{text}");
}

#[test]
fn more_sequences_than_allowed_are_refused_for_now() {
    let limits = Limits { sequences: 2, ..Limits::default() };
    let server = Running::start(vec![("lstm", lstm(1))], with(limits));
    let mut client = server.client();
    let path = infer("lstm");
    let mut ask = |id: &str, end: bool| client.post(&path, &step(id, &numbers(I, 1), &[1, 1, I], true, end));
    ask("a", false).good();
    ask("b", false).good();
    let refused = ask("c", false);
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    refused.error();
    client.send("DELETE", "/v2/models/lstm/sequences/a", &[], b"").good();
    client.post(&path, &step("c", &numbers(I, 1), &[1, 1, I], true, true)).good();
    client.post(&path, &step("d", &numbers(I, 1), &[1, 1, I], true, true)).good();
}

/// Requests that wait beyond the queue's capacity are refused, and those before them are answered.
#[test]
fn a_full_queue_says_so() {
    let queue = QueueOptions { deadline: Duration::from_millis(600), max_batch: 100, capacity: 2 };
    let server = Running::start(vec![("lstm", lstm(1))], with(Limits { queue, ..Limits::default() }));
    let path = infer("lstm");
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        let body = step(&at.to_string(), &numbers(I, 1), &[1, 1, I], true, false).to_string();
        client.write("POST", &path, &[], body.as_bytes());
        std::thread::sleep(Duration::from_millis(60));
    }
    let refused = clients[2].answer().unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert!(refused.error().contains("queue"), "{}", refused.error());
    clients[0].answer().unwrap().good();
    clients[1].answer().unwrap().good();
    // More at once than ever fit are another error.
    let answer = clients[0].post(&path, &many(&["x", "y", "z"], &numbers(3 * I, 1), None, 1, true));
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("--max-queue"), "{}", answer.error());
    // Those that were refused were not opened either.
    let list = clients[0].get("/v2/models/lstm/sequences").good().json();
    assert_eq!(list["sequences"].as_array().unwrap().len(), 2, "{list}");
}

/// A client that goes away takes its waiting request back: the sequence does not read it.
#[test]
fn a_request_of_a_client_that_went_away_is_taken_back() {
    let queue = QueueOptions { deadline: Duration::from_millis(500), max_batch: 100, capacity: 100 };
    let server = Running::start(vec![("lstm", lstm(1))], with(Limits { queue, ..Limits::default() }));
    let (mut client, x, path) = (server.client(), numbers(3 * I, 5), infer("lstm"));
    client.post(&path, &step("a", &x[..I], &[1, 1, I], true, false)).good();
    let mut gone = server.client();
    let body = step("a", &x[I..2 * I], &[1, 1, I], false, false).to_string();
    gone.write("POST", &path, &[], body.as_bytes());
    std::thread::sleep(Duration::from_millis(100));
    drop(gone);
    std::thread::sleep(Duration::from_millis(100));
    let next = client.post(&path, &step("a", &x[2 * I..], &[1, 1, I], false, false)).good().numbers("output");
    let expected = whole(&lstm(1), &[&x[..I], &x[2 * I..]].concat());
    assert_eq!(next, expected[N..]);
    assert_ne!(next, whole(&lstm(1), &x)[2 * N..], "with the request it would be another");
    assert_eq!(steps(&mut client, "lstm", "a"), 2);
}

/// Many clients at once, each with sequences of its own: every one gets its own bits.
#[test]
fn clients_do_not_meet_each_other() {
    let server = Arc::new(Running::start(vec![("lstm", lstm(1))], options()));
    let address = server.address;
    let clients: Vec<_> = (0..8u64)
        .map(|at| {
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                let x = numbers(40 * I, at);
                let mut got = Vec::new();
                for (turn, values) in x.chunks(I).enumerate() {
                    let request = step(&at.to_string(), values, &[1, 1, I], turn == 0, turn == 39);
                    got.extend(client.post(&infer("lstm"), &request).good().numbers("output"));
                }
                (got, x)
            })
        })
        .collect();
    let results: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    for (got, x) in &results {
        assert_eq!(*got, whole(&lstm(1), x));
    }
    assert_ne!(results[0].0, results[1].0);
}

/// Ten thousand sequences that do nothing cost little, and one among them answers.
#[test]
fn ten_thousand_idle_sequences() {
    let count = 10_000;
    let server = Running::start(vec![("lstm", lstm(1))], options());
    let (mut client, path) = (server.client(), infer("lstm"));
    let start = Instant::now();
    for part in (0..count).collect::<Vec<usize>>().chunks(500) {
        let names: Vec<String> = part.iter().map(|at| format!("s{at}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let x: Vec<f32> = part.iter().flat_map(|&at| numbers(I, at as u64)).collect();
        client.post(&path, &many(&names, &x, None, 1, true)).good();
    }
    let opened = start.elapsed();
    let text = String::from_utf8(client.get("/metrics").good().body).unwrap();
    assert!(text.contains(&format!("gatefold_sequences_open{{model=\"lstm\"}} {count}\n")), "{text}");
    let mut slowest = Duration::ZERO;
    for at in [0u64, 4_999, 9_999] {
        let (first, second) = (numbers(I, at), numbers(I, 77));
        let start = Instant::now();
        let answer = client.post(&path, &step(&format!("s{at}"), &second, &[1, 1, I], false, false)).good();
        slowest = slowest.max(start.elapsed());
        assert_eq!(answer.numbers("output"), whole(&lstm(1), &[first, second].concat())[N..], "{at}");
    }
    let list = client.get("/v2/models/lstm/sequences").good().json();
    assert_eq!(list["sequences"].as_array().unwrap().len(), count);
    println!("{count} sequences opened in {opened:?}; the slowest of three answers took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}
