//! A load of many streams: how many frames a second a server takes, and how long an answer takes.
//!
//! `load serve 127.0.0.1:8100` serves an LSTM of 40 features, H 128, with two outputs, on the CPU. `load ask 127.0.0.1:8100 --streams 1000
//! --rate 100 --seconds 10` sends frames to it: each stream has a connection and sends 100 frames a second, one request each.
//! `--per-request N` sends the frames of N streams in one request; `--rate 0` sends the next frame as soon as the last is answered. Latencies are
//! counted from the time at which a frame should have been sent. `--state client` sends and takes the state with each frame, as
//! servers without streams need it: `peers/server` is one.
#![allow(clippy::print_stdout, reason = "an example talks")]

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatefold::network::{Activation, DenseSpec, LayerSpec, RecurrentSpec};
use gatefold::{Device, Network, NetworkSpec};
use gatefold_serve::{Limits, Model, Options, Server};
use tokio::net::TcpStream;
use tokio::sync::Barrier;

const I: usize = 40;
const H: usize = 128;
const N: usize = 2;

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match &words[..] {
        ["serve", address, rest @ ..] => serve(parsed(address)?, rest),
        ["ask", address, rest @ ..] => ask(parsed(address)?, rest),
        _ => Err(wrong("expected `serve ADDRESS` or `ask ADDRESS`, and options")),
    }
}

fn wrong(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, text.into())
}

fn parsed<T: std::str::FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| wrong(format!("not understood: {text:?}")))
}

/// The value behind an option, or `usual`.
fn option<T: std::str::FromStr>(words: &[&str], name: &str, usual: T) -> Result<T> {
    match words.iter().position(|word| *word == name) {
        None => Ok(usual),
        Some(at) => parsed(words.get(at + 1).ok_or_else(|| wrong(format!("{name}: expected a value")))?),
    }
}

fn serve(listen: SocketAddr, words: &[&str]) -> Result<()> {
    let head =
        DenseSpec { name: "head".into(), in_features: H, out_features: N, bias: true, activation: Activation::Tanh };
    let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", I, H)), LayerSpec::Dense(head)];
    let spec = NetworkSpec { format: 1, layers, text: None, labels: vec![] };
    let network = Network::random(spec, 1).map_err(Error::other)?;
    let mut limits = Limits::default();
    limits.queue.deadline = Duration::from_micros(option(words, "--wait-us", 1000)?);
    limits.queue.max_batch = option(words, "--max-batch", limits.queue.max_batch)?;
    let options = Options { listen, limits, ..Options::default() };
    let server = Server::bind(&Device::cpu(), vec![Model::new("lstm", network)], options).map_err(Error::other)?;
    server.run(std::future::pending()).map_err(Error::other)?;
    Ok(())
}

/// What a connection sends.
#[derive(Clone, Copy)]
struct Load {
    address: SocketAddr,
    streams: usize,
    per_request: usize,
    /// Time between two frames of a stream; none to send as fast as answers come.
    period: Option<Duration>,
    end: Duration,
    /// Whether requests carry the state.
    stateless: bool,
}

fn ask(address: SocketAddr, words: &[&str]) -> Result<()> {
    let rate: f64 = option(words, "--rate", 100.0)?;
    let seconds: f64 = option(words, "--seconds", 10.0)?;
    let load = Load {
        address,
        streams: option(words, "--streams", 1000)?,
        per_request: option(words, "--per-request", 1)?,
        period: (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate)),
        end: Duration::from_secs_f64(seconds),
        stateless: option(words, "--state", "server".to_owned())? == "client",
    };
    let threads: usize = option(words, "--threads", 1)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let cpu = cpu_seconds();
    // Time is taken once all connections and sequences are open.
    let all_open = Arc::new(Barrier::new(load.streams / load.per_request));
    let mut all = runtime.block_on(async {
        let tasks: Vec<_> = (0..load.streams / load.per_request)
            .map(|at| tokio::spawn(connection(load, at, all_open.clone())))
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.map_err(Error::other)??);
        }
        Ok::<_, Error>(all)
    })?;
    let cpu = cpu_seconds() - cpu;
    all.sort_unstable();
    let of = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rank"
        )]
        let at = ((all.len().max(1) - 1) as f64 * share) as usize;
        all.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let frames = (all.len() * load.per_request) as f64;
    println!(
        "{frames} frames in {seconds} s: {:.0} frames/s; latency p50 {:.2}, p95 {:.2}, p99 {:.2}, p99.9 {:.2} ms; {cpu:.1} s CPU of this process",
        frames / seconds,
        of(0.5),
        of(0.95),
        of(0.99),
        of(0.999)
    );
    Ok(())
}

/// User and system time of this process; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<f64> =
        text.rsplit(')').next().unwrap_or_default().split(' ').filter_map(|x| x.parse().ok()).collect();
    // The state, the first field behind the name, is no number.
    fields.get(10).zip(fields.get(11)).map_or(0.0, |(user, system)| (user + system) / 100.0)
}

/// The requests of one connection: the latency of each.
async fn connection(load: Load, at: usize, all_open: Arc<Barrier>) -> Result<Vec<Duration>> {
    let stream = TcpStream::connect(load.address).await?;
    stream.set_nodelay(true)?;
    let (first, next) = if load.stateless {
        let request = request("/step", "", &vec![0.1; I + 2 * H]);
        (request.clone(), request)
    } else {
        (frame(load, at, true), frame(load, at, false))
    };
    let mut buffer = Vec::new();
    send(&stream, &first).await?;
    answer(&stream, &mut buffer).await?;
    all_open.wait().await;
    let start = Instant::now();
    // Streams are spread over the time between two frames.
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let phase = at as f64 * load.per_request as f64 / load.streams as f64;
    let mut due = start + load.period.map_or(Duration::ZERO, |period| period.mul_f64(phase));
    let mut latencies = Vec::new();
    while start.elapsed() < load.end {
        if load.period.is_some() {
            tokio::time::sleep_until(due.into()).await;
        } else {
            due = Instant::now();
        }
        send(&stream, &next).await?;
        answer(&stream, &mut buffer).await?;
        latencies.push(due.elapsed());
        due += load.period.unwrap_or_default();
    }
    Ok(latencies)
}

async fn send(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads an answer, which must be a good one.
async fn answer(stream: &TcpStream, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let mut needed = None;
    loop {
        stream.readable().await?;
        let mut part = [0; 4096];
        match stream.try_read(&mut part) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer.extend(&part[..count]),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Err(_) => continue,
        }
        if needed.is_none()
            && let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = std::str::from_utf8(&buffer[..end]).map_err(Error::other)?;
            let length = head.lines().filter_map(|line| line.split_once(": "));
            let mut length = length.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            needed = Some(end + 4 + length.next().map_or(Ok(0), |(_, length)| parsed::<usize>(length))?);
        }
        if needed.is_some_and(|needed| buffer.len() >= needed) {
            return if buffer.starts_with(b"HTTP/1.1 200") {
                Ok(())
            } else {
                Err(Error::other(String::from_utf8_lossy(buffer).into_owned()))
            };
        }
    }
}

fn request(path: &str, json: &str, numbers: &[f32]) -> Vec<u8> {
    let binary: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let (all, length) = (json.len() + binary.len(), json.len());
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {all}\r\nInference-Header-Content-Length: {length}\r\n\r\n{json}"
    );
    [head.as_bytes(), &binary].concat()
}

/// A frame of each stream of a connection, as binary data.
fn frame(load: Load, at: usize, start: bool) -> Vec<u8> {
    let count = load.per_request;
    let bytes = count * I * 4;
    let input = format!(
        r#"{{"name":"input","datatype":"FP32","shape":[1,{count},{I}],"parameters":{{"binary_data_size":{bytes}}}}}"#
    );
    let json = if count == 1 {
        format!(
            r#"{{"parameters":{{"sequence_id":{},"sequence_start":{start},"binary_data_output":true}},"inputs":[{input}]}}"#,
            at + 1
        )
    } else {
        let ids: Vec<usize> = (0..count).map(|stream| at * count + stream + 1).collect();
        format!(
            r#"{{"parameters":{{"sequence_start":{start},"binary_data_output":true}},"inputs":[{input},{{"name":"sequence_id","datatype":"INT64","shape":[{count}],"data":{ids:?}}}]}}"#
        )
    };
    request("/v2/models/lstm/infer", &json, &vec![0.1; count * I])
}
