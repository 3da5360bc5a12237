//! Clients of every kind at once, for a bounded time; `GATEFOLD_SOAK_SECONDS` makes it longer.

use std::io::Write as _;
use std::time::{Duration, Instant};

use gatefold::{Device, Input, Session, StreamPool};
use gatefold_serve::Limits;

use crate::common::{Client, I, Running, features, infer, lstm, numbers, step, with};

/// Bytes of memory that this process holds; `None` where the system does not say.
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<u64>().ok()? * 4096)
}

#[test]
fn all_kinds_of_clients_at_once() {
    let seconds = std::env::var("GATEFOLD_SOAK_SECONDS").map_or(2.0, |text| text.parse().expect("a number of seconds"));
    let limits =
        Limits { idle: Duration::from_millis(500), header_time: Duration::from_millis(500), ..Limits::default() };
    let server = Running::start(vec![("lstm", lstm(1))], with(limits));
    let (address, end) = (server.address, Instant::now() + Duration::from_secs_f64(seconds));
    let before = memory();
    let clients: Vec<_> = (0..8u64)
        .map(|kind| {
            std::thread::spawn(move || {
                let mut rng = fastrand::Rng::with_seed(kind);
                let (mut done, path) = (0usize, infer("lstm"));
                while Instant::now() < end {
                    let mut client = Client::new(address);
                    match kind {
                        // Sequences whose answers are checked.
                        0..4 => {
                            let x = numbers(rng.usize(1..30) * I, rng.u64(..));
                            let id = format!("{kind}-{}", rng.u64(..));
                            let count = x.len() / I;
                            let mut got = Vec::new();
                            for (turn, values) in x.chunks(I).enumerate() {
                                // Some never end; they are ended because they are idle.
                                let last = turn + 1 == count && rng.bool();
                                let request = step(&id, values, &[1, 1, I], turn == 0, last);
                                got.extend(client.post(&path, &request).good().numbers("output"));
                            }
                            let pool = StreamPool::new(Session::new(&Device::cpu(), &lstm(1)).unwrap(), 1).unwrap();
                            let whole = pool.advance(&[(pool.open().unwrap(), Input::features(&x, [count, 1, I]))]);
                            assert_eq!(got, whole.unwrap().values(0));
                            done += 1;
                        }
                        // Runs without state.
                        4 => {
                            let steps = rng.usize(1..20);
                            client.post(&path, &features(&numbers(steps * I, 3), &[steps, 1, I])).good();
                            done += 1;
                        }
                        // Wrong requests.
                        5 => {
                            let body: Vec<u8> = (0..rng.usize(..300)).map(|_| rng.u8(..)).collect();
                            assert_eq!(client.send("POST", &path, &[], &body).status, 400);
                            done += 1;
                        }
                        // Requests whose client goes away.
                        6 => {
                            let body = step(&rng.u64(..).to_string(), &numbers(I, 1), &[1, 1, I], true, rng.bool());
                            client.write("POST", &path, &[], body.to_string().as_bytes());
                            std::thread::sleep(Duration::from_micros(rng.u64(..2000)));
                            done += 1;
                        }
                        // Half requests.
                        _ => {
                            let _ = client.stream.write_all(b"POST /v2/models/lstm/infer HTTP/1.1\r\nContent-Le");
                            std::thread::sleep(Duration::from_millis(20));
                            done += 1;
                        }
                    }
                }
                done
            })
        })
        .collect();
    let done: Vec<usize> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    assert!(done.iter().all(|&done| done > 3), "{done:?}");
    // Everything that was not ended is idle now, and ends.
    let mut client = server.client();
    let start = Instant::now();
    let open = "gatefold_sequences_open{model=\"lstm\"} 0\n";
    while !String::from_utf8(client.get("/metrics").good().body).unwrap().contains(open) {
        assert!(start.elapsed() < Duration::from_secs(10), "sequences stay open");
        std::thread::sleep(Duration::from_millis(100));
    }
    println!("{done:?} in {seconds} s, memory {before:?} to {:?}", memory());
    if let (Some(before), Some(after)) = (before, memory()) {
        assert!(after < before + (200 << 20), "{before} bytes before, {after} after");
    }
    drop(client);
    assert_eq!(server.end().cut, 0);
}
