//! The end of a server: requests are finished, sequences are stored, and the next server continues them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use gatefold::streams::QueueOptions;
use gatefold_serve::{Limits, Options};

use crate::common::{Client, I, Running, batch_first, infer, lstm, numbers, options, step, with};

#[test]
fn sequences_continue_after_a_restart_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let stored = || Options { state: Some(folder.path().join("states")), ..options() };
    let count = 20;
    let path = infer("lstm");
    let inputs: Vec<Vec<f32>> = (0..count).map(|at| numbers(6 * I, at)).collect();
    let ask = |client: &mut Client, at: usize, from: usize, to: usize| {
        let request = step(&format!("s{at}"), &inputs[at][from * I..to * I], &[to - from, 1, I], from == 0, false);
        client.post(&path, &request).good().numbers("output")
    };
    // Without a restart.
    let server = Running::start(vec![("lstm", lstm(1))], options());
    let mut client = server.client();
    let expected: Vec<Vec<f32>> =
        (0..inputs.len()).map(|at| [ask(&mut client, at, 0, 2), ask(&mut client, at, 2, 6)].concat()).collect();
    assert_eq!(server.end().stored, 0, "no folder was given");

    let server = Running::start(vec![("lstm", lstm(1))], stored());
    assert_eq!(server.restored, 0);
    let mut client = server.client();
    let first: Vec<Vec<f32>> = (0..inputs.len()).map(|at| ask(&mut client, at, 0, 2)).collect();
    drop(client);
    assert_eq!(server.end().stored, inputs.len());
    let server = Running::start(vec![("lstm", lstm(1))], stored());
    assert_eq!(server.restored, inputs.len());
    let mut client = server.client();
    for (at, first) in first.into_iter().enumerate() {
        assert_eq!([first, ask(&mut client, at, 2, 6)].concat(), expected[at], "{at}");
    }
    let facts = client.get("/v2/models/lstm/sequences/s3").good().json();
    assert_eq!(facts["steps"], 6);
    drop(client);
    assert_eq!(server.end().stored, inputs.len());

    // Another network does not continue them: they are kept beside.
    let server = Running::start(vec![("lstm", lstm(2))], stored());
    assert_eq!(server.restored, 0);
    let answer = server.client().post(&path, &step("s3", &inputs[3][..I], &[1, 1, I], false, false));
    assert_eq!(answer.status, 404);
    assert_eq!(server.end().stored, 0);
    let names: Vec<String> = std::fs::read_dir(folder.path().join("states"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let kept = names.iter().find(|name| name.contains(".of-")).unwrap_or_else(|| panic!("{names:?}"));
    // Under its name again it is continued.
    let states = folder.path().join("states");
    std::fs::rename(states.join(kept), states.join("lstm.sequences")).unwrap();
    let server = Running::start(vec![("lstm", lstm(1))], stored());
    assert_eq!(server.restored, inputs.len());
}

#[test]
fn a_damaged_file_of_sequences_is_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let stored = || Options { state: Some(folder.path().into()), ..options() };
    let server = Running::start(vec![("lstm", lstm(1))], stored());
    server.client().post(&infer("lstm"), &step("a", &numbers(I, 1), &[1, 1, I], true, false)).good();
    assert_eq!(server.end().stored, 1);
    let path = folder.path().join("lstm.sequences");
    let whole = std::fs::read(&path).unwrap();
    let start = || {
        let models = vec![gatefold_serve::Model::new("lstm", lstm(1))];
        gatefold_serve::Server::bind(&gatefold::Device::cpu(), models, stored())
    };
    let line = whole.iter().position(|&byte| byte == b'\n').unwrap();
    let twice = String::from_utf8(whole[..line].to_vec()).unwrap();
    let entry = r#"{"sequence_id":"a","steps":1}"#;
    let twice = twice.replace(entry, &format!("{entry},{}", entry.replace("\"a\"", "\"b\"")));
    let damaged: [Vec<u8>; 5] = [
        Vec::new(),
        whole[..line].to_vec(),
        whole[..whole.len() - 1].to_vec(),
        [b"{}\n", &whole[line + 1..]].concat(),
        [twice.as_bytes(), &whole[line..]].concat(),
    ];
    for content in damaged {
        std::fs::write(&path, &content).unwrap();
        let error = start().err().expect("a damaged file").to_string();
        assert!(error.contains("lstm.sequences") && !error.contains('\n'), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "it stays as it is");
    }
    std::fs::write(&path, &whole).unwrap();
    assert_eq!(start().unwrap().restored(), 1);
}

/// A server that cannot start leaves the files of all models for the next one.
#[test]
fn a_damaged_file_leaves_those_of_other_models() {
    let folder = tempfile::tempdir().unwrap();
    let stored = || Options { state: Some(folder.path().into()), ..options() };
    // They are opened in the order of their names.
    let models = || vec![("a", lstm(1)), ("b", batch_first())];
    let server = Running::start(models(), stored());
    for model in ["a", "b"] {
        server.client().post(&infer(model), &step("s", &numbers(I, 1), &[1, 1, I], true, false)).good();
    }
    assert_eq!(server.end().stored, 2);
    let [a, b] = ["a", "b"].map(|name| folder.path().join(format!("{name}.sequences")));
    let whole = std::fs::read(&b).unwrap();
    std::fs::write(&b, b"{}").unwrap();
    let given = models().into_iter().map(|(name, network)| gatefold_serve::Model::new(name, network)).collect();
    assert!(gatefold_serve::Server::bind(&gatefold::Device::cpu(), given, stored()).is_err());
    assert!(a.exists(), "it is not renamed");
    std::fs::write(&b, &whole).unwrap();
    let server = Running::start(models(), stored());
    assert_eq!(server.restored, 2);
    // Answered, so that the server runs: by now they are renamed.
    server.client().get("/v2/models/a/sequences/s").good();
    assert!(!a.exists() && !b.exists());
}

/// Sequences of another network do not replace those that an earlier server has renamed.
#[test]
fn files_that_were_renamed_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let stored = || Options { state: Some(folder.path().into()), ..options() };
    for at in 0..3 {
        let server = Running::start(vec![("lstm", lstm(1))], stored());
        server.client().post(&infer("lstm"), &step("s", &numbers(I, at), &[1, 1, I], true, false)).good();
        assert_eq!(server.end().stored, 1);
        assert_eq!(Running::start(vec![("lstm", lstm(2))], stored()).end().stored, 0);
    }
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    assert_eq!(names.iter().filter(|name| name.contains(".of-")).count(), 3, "{names:?}");
}

/// Clients ask all the time while the server ends: every request that was begun is answered, and what was answered is stored.
#[test]
fn requests_are_finished_when_the_server_ends() {
    let folder = tempfile::tempdir().unwrap();
    let stored = || Options { state: Some(folder.path().into()), ..options() };
    let mut server = Running::start(vec![("lstm", lstm(1))], stored());
    let (address, answered) = (server.address, Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|at| {
            let answered = answered.clone();
            std::thread::spawn(move || {
                let mut client = Client::new(address);
                let mut done = 0u64;
                for turn in 0.. {
                    let body = step(&format!("s{at}"), &numbers(I, turn), &[1, 1, I], turn == 0, false).to_string();
                    // Between two requests the server may have closed the connection.
                    let request = format!(
                        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                        infer("lstm"),
                        body.len()
                    );
                    if std::io::Write::write_all(&mut client.stream, request.as_bytes()).is_err() {
                        break;
                    }
                    match client.answer() {
                        Some(answer) => {
                            answer.good();
                            done += 1;
                            answered.fetch_add(1, SeqCst);
                        }
                        None => break,
                    }
                }
                done
            })
        })
        .collect();
    let start = Instant::now();
    while answered.load(SeqCst) < 600 && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.ask();
    let done: Vec<u64> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    let ended = server.end();
    assert_eq!((ended.stored, ended.cut), (6, 0));
    let server = Running::start(vec![("lstm", lstm(1))], stored());
    let mut client = server.client();
    for (at, done) in done.iter().enumerate() {
        let steps = client.get(&format!("/v2/models/lstm/sequences/s{at}")).good().json()["steps"].as_u64().unwrap();
        assert_eq!(steps, *done, "client {at}: a request that was run was answered");
        assert!(*done > 10, "{done}");
    }
}

/// A request that waits in the queue when the server is asked to end is answered; new connections are not taken.
#[test]
fn a_waiting_request_is_answered_at_the_end() {
    let queue = QueueOptions { deadline: Duration::from_millis(500), ..QueueOptions::default() };
    let mut server = Running::start(vec![("lstm", lstm(1))], with(Limits { queue, ..Limits::default() }));
    let mut client = server.client();
    let body = step("a", &numbers(I, 1), &[1, 1, I], true, false).to_string();
    client.write("POST", &infer("lstm"), &[], body.as_bytes());
    let mut idle = server.client();
    std::thread::sleep(Duration::from_millis(100));
    server.ask();
    std::thread::sleep(Duration::from_millis(100));
    assert!(std::net::TcpStream::connect(server.address).is_err(), "it takes no more connections");
    let answer = client.answer().expect("an answer").good();
    assert_eq!(answer.numbers("output").len(), 2);
    assert!(client.answer().is_none() && idle.answer().is_none(), "both connections end");
    assert_eq!(server.end().cut, 0);
}

/// A request that never ends does not keep the server from ending.
#[test]
fn what_does_not_end_is_cut() {
    let limits = Limits { drain: Duration::from_millis(200), ..Limits::default() };
    let mut server = Running::start(vec![("lstm", lstm(1))], with(limits));
    let mut slow = server.client();
    std::io::Write::write_all(
        &mut slow.stream,
        b"POST /v2/models/lstm/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(100));
    server.ask();
    let start = Instant::now();
    assert_eq!(server.end().cut, 1);
    assert!(start.elapsed() < Duration::from_secs(5));
}
