//! Slow, broken and greedy clients.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gatefold_serve::Limits;
use serde_json::json;

use crate::common::{Client, I, Running, features, infer, lstm, numbers, options, step, tokens, with};

/// The server still answers.
fn lives(server: &Running) {
    server.client().post(&infer("lstm"), &features(&numbers(I, 1), &[1, 1, I])).good();
}

/// What a connection reads until it ends.
fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset ends it too.
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn quick() -> Limits {
    let time = Duration::from_millis(300);
    Limits { header_time: time, body_time: time, write_time: time, body: 4096, ..Limits::default() }
}

#[test]
fn slow_headers_and_bodies_are_cut() {
    let server = Running::start(vec![("lstm", lstm(1))], with(quick()));
    // A header now and then, for ever.
    let mut slow = server.client().stream;
    slow.write_all(b"POST /v2/models/lstm/infer HTTP/1.1\r\nHost: x\r\n").unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        if slow.write_all(b"X: y\r\n").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() < Duration::from_secs(3), "cut after {:?}", start.elapsed());
    // A client that says nothing.
    let mut silent = server.client().stream;
    let start = Instant::now();
    rest(&mut silent);
    assert!(start.elapsed() < Duration::from_secs(3));
    // A body of which a part comes.
    let mut half = server.client();
    half.stream
        .write_all(b"POST /v2/models/lstm/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{\"inputs\"")
        .unwrap();
    let answer = half.answer().expect("an answer");
    assert_eq!(answer.status, 408);
    answer.error();
    assert!(half.answer().is_none(), "the connection ends");
    // A client of usual speed is not cut.
    let mut usual = server.client();
    for _ in 0..4 {
        usual.post(&infer("lstm"), &features(&numbers(I, 1), &[1, 1, I])).good();
        std::thread::sleep(Duration::from_millis(100));
    }
    lives(&server);
}

#[test]
fn broken_requests_do_no_harm() {
    let server = Running::start(vec![("lstm", lstm(1))], options());
    for bytes in [
        &b"\0\0\0\0\0\0\0\0\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"POST /v2/models/lstm/infer HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/models/lstm/infer HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut client = server.client().stream;
        client.write_all(bytes).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let got = rest(&mut client);
        assert!(got.is_empty() || got.starts_with("HTTP/1.1 400"), "{got}");
    }
    // Half a request, and a reset in the middle of one.
    for _ in 0..20 {
        let mut half = server.client().stream;
        half.write_all(b"POST /v2/models/lstm/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{\"inp").unwrap();
        drop(half);
        let mut gone = server.client();
        let body = step("gone", &numbers(I, 1), &[1, 1, I], true, false).to_string();
        gone.write("POST", &infer("lstm"), &[], body.as_bytes());
        drop(gone);
    }
    let mut long = server.client().stream;
    let header = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(200_000));
    let _ = long.write_all(header.as_bytes());
    let got = rest(&mut long);
    assert!(got.is_empty() || got.starts_with("HTTP/1.1 4"), "{got:.60}");
    lives(&server);
}

#[test]
fn bodies_beyond_the_limit_are_refused() {
    let server = Running::start(vec![("lstm", lstm(1))], with(Limits { body: 4096, ..Limits::default() }));
    // Announced: it is refused before it is sent.
    let mut client = server.client();
    client
        .stream
        .write_all(b"POST /v2/models/lstm/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5000000000\r\n\r\n")
        .unwrap();
    let answer = client.answer().expect("an answer");
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("4096"), "{}", answer.error());
    // In chunks of unknown number.
    let mut client = server.client();
    client
        .stream
        .write_all(b"POST /v2/models/lstm/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = [b"400\r\n", &[b' '; 0x400][..], b"\r\n"].concat();
    for _ in 0..5 {
        client.stream.write_all(&chunk).unwrap();
    }
    assert_eq!(client.answer().expect("an answer").status, 413);
    // A body of exactly the limit is read.
    let mut body = features(&numbers(I, 1), &[1, 1, I]).to_string();
    body += &" ".repeat(4096 - body.len());
    server.client().send("POST", &infer("lstm"), &[], body.as_bytes()).good();
    lives(&server);
}

/// An output may be much larger than its input: it is refused before it is computed.
#[test]
fn tensors_beyond_the_limit_are_refused() {
    let server = Running::start(vec![("lstm", lstm(1))], with(Limits { elements: 30, ..Limits::default() }));
    let mut client = server.client();
    client.post(&infer("lstm"), &features(&numbers(10 * I, 1), &[10, 1, I])).good();
    let answer = client.post(&infer("lstm"), &features(&numbers(11 * I, 1), &[11, 1, I]));
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("30"), "{}", answer.error());
}

/// The same limit holds for a step of a sequence, and its timesteps have one of their own.
#[test]
fn steps_beyond_the_limits_are_refused() {
    // Of token ids the output is larger than the input: 6 numbers for each timestep.
    for (limits, most, words) in [
        (Limits { elements: 30, ..Limits::default() }, 5, "30 elements"),
        (Limits { steps: 4, ..Limits::default() }, 4, "--max-steps"),
    ] {
        let server = Running::start(vec![("words", tokens())], with(limits));
        let mut client = server.client();
        let request = |steps: usize| {
            json!({ "parameters": { "sequence_id": "a", "sequence_start": true },
                "inputs": [{ "name": "input", "datatype": "INT64", "shape": [steps, 1], "data": vec![1; steps] }] })
        };
        client.post(&infer("words"), &request(most)).good();
        let answer = client.post(&infer("words"), &request(most + 1));
        assert_eq!(answer.status, 413, "{words}");
        assert!(answer.error().contains(words), "{}", answer.error());
    }
}

/// A client that sends requests and reads no answer is cut, and does not hold others up.
#[test]
fn a_client_that_does_not_read_is_cut() {
    let server = Running::start(vec![("lstm", lstm(1))], with(Limits { body: 1 << 20, ..quick() }));
    let mut greedy = server.client().stream;
    greedy.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    let body = features(&numbers(2000 * I, 1), &[2000, 1, I]).to_string();
    let request = format!("POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", infer("lstm"), body.len());
    let mut ended = false;
    for _ in 0..2000 {
        if greedy.write_all(request.as_bytes()).is_err() {
            ended = true;
            break;
        }
    }
    assert!(ended, "the server closed the connection");
    lives(&server);
}

/// Beyond the limit a client waits for a place, and gets it when another ends.
#[test]
fn connections_beyond_the_limit_wait() {
    let server = Running::start(vec![("lstm", lstm(1))], with(Limits { connections: 2, ..Limits::default() }));
    let (mut a, mut b) = (server.client(), server.client());
    a.get("/v2/health/live").good();
    b.get("/v2/health/live").good();
    let mut third = Client::new(server.address);
    third.write("GET", "/v2/health/live", &[], b"");
    third.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.stream.read(&mut [0; 1]).is_err(), "it waits");
    third.stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    drop(a);
    third.answer().unwrap().good();
}

/// Requests that are sent without waiting for answers are answered in their order.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Running::start(vec![("lstm", lstm(1))], options());
    let mut client = server.client();
    let x = numbers(50 * I, 4);
    for (turn, values) in x.chunks(I).enumerate() {
        let body = step("a", values, &[1, 1, I], turn == 0, false).to_string();
        client.write("POST", &infer("lstm"), &[], body.as_bytes());
    }
    let got: Vec<f32> = (0..50).flat_map(|_| client.answer().unwrap().good().numbers("output")).collect();
    let whole = client.post(&infer("lstm"), &step("b", &x, &[50, 1, I], true, true)).good().numbers("output");
    assert_eq!(got, whole);
}
