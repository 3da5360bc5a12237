//! A running server, a small client, and networks.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use gatefold::network::{Activation, DenseSpec, EmbeddingSpec, LayerSpec, RecurrentSpec};
use gatefold::{Device, Network, NetworkSpec};
use gatefold_serve::{Ended, Limits, Model, Options, Server};
use serde_json::Value;
use tokio::sync::oneshot;

/// Width of the input and of the output of [`lstm`].
pub const I: usize = 3;
pub const N: usize = 2;

pub fn network(layers: Vec<LayerSpec>, seed: u64) -> Network {
    Network::random(NetworkSpec { format: 1, layers, text: None, labels: vec![] }, seed).unwrap()
}

fn dense(in_features: usize) -> LayerSpec {
    let activation = Activation::Tanh;
    LayerSpec::Dense(DenseSpec { name: "dense".into(), in_features, out_features: N, bias: true, activation })
}

/// `[T, B, 3]` to `[T, B, 2]`.
pub fn lstm(seed: u64) -> Network {
    network(vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", I, 7)), dense(7)], seed)
}

/// `[B, T, 3]` to `[B, T, 2]`.
pub fn batch_first() -> Network {
    let gru = RecurrentSpec { batch_first: true, ..RecurrentSpec::new("gru", I, 6) };
    network(vec![LayerSpec::Gru(gru), dense(6)], 5)
}

/// `[T, B]` of ids below 11 to `[T, B, 6]`.
pub fn tokens() -> Network {
    let embedding = EmbeddingSpec { name: "e".into(), num_embeddings: 11, embedding_dim: 4, mask_zero: false };
    network(vec![LayerSpec::Embedding(embedding), LayerSpec::Lstm(RecurrentSpec::new("lstm", 4, 6))], 3)
}

/// Reads its input from both ends.
pub fn bidirectional() -> Network {
    network(vec![LayerSpec::Lstm(RecurrentSpec { bidirectional: true, ..RecurrentSpec::new("both", I, 4) })], 4)
}

pub fn sentiment() -> Network {
    Network::load(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/sentiment/sentiment.safetensors")).unwrap()
}

/// Numbers within ±1.
pub fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..count).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

/// A port of this machine, and limits that tests can reach.
pub fn options() -> Options {
    Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }
}

pub fn with(limits: Limits) -> Options {
    Options { limits, ..options() }
}

pub struct Running {
    pub address: SocketAddr,
    pub restored: usize,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<gatefold::Result<Ended>>>,
}

impl Running {
    pub fn start(models: Vec<(&str, Network)>, options: Options) -> Self {
        let models = models.into_iter().map(|(name, network)| Model::new(name, network)).collect();
        let server = Server::bind(&Device::cpu(), models, options).unwrap();
        let (address, restored) = (server.address().unwrap(), server.restored());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            server.run(async {
                let _ = stopped.await;
            })
        });
        Self { address, restored, stop: Some(stop), thread: Some(thread) }
    }

    /// Asks the server to end.
    pub fn ask(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }

    /// Ends the server, which must have nothing to say against it.
    pub fn end(mut self) -> Ended {
        self.ask();
        self.thread.take().unwrap().join().expect("the server did not panic").unwrap()
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.ask();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the server did not panic").unwrap();
            }
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The answer to a request that was done.
    pub fn good(self) -> Self {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The error's text, which is one line; the answer has nothing else.
    pub fn error(&self) -> String {
        let json = self.json();
        let text = json["error"].as_str().unwrap_or_else(|| panic!("{json}")).to_owned();
        assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
        assert!(!text.contains('\n') && !text.is_empty(), "{text}");
        for internal in ["Error {", "Os {", "unwrap", "panicked"] {
            assert!(!text.contains(internal), "{text}");
        }
        text
    }

    /// The numbers of an output of JSON.
    pub fn numbers(&self, name: &str) -> Vec<f32> {
        let json = self.json();
        let output = json["outputs"].as_array().unwrap().iter().find(|output| output["name"] == name).unwrap().clone();
        #[expect(clippy::cast_possible_truncation, reason = "the shortest text of an f32")]
        output["data"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    /// The JSON part and the binary part of a body.
    pub fn parts(&self) -> (Value, &[u8]) {
        let length: usize = self.header("inference-header-content-length").expect("a binary answer").parse().unwrap();
        let (json, binary) = self.body.split_at(length);
        (serde_json::from_slice(json).unwrap(), binary)
    }
}

/// A connection that is kept.
pub struct Client {
    pub stream: TcpStream,
    rest: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, rest: Vec::new() }
    }

    pub fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    pub fn post(&mut self, path: &str, json: &Value) -> Answer {
        self.send("POST", path, &[], json.to_string().as_bytes())
    }

    pub fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.write(method, path, headers, body);
        self.answer().expect("an answer")
    }

    /// Sends a request whose answer is read later.
    pub fn write(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        let bytes = [request.as_bytes(), b"\r\n", body].concat();
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next answer; `None` if the connection has ended.
    pub fn answer(&mut self) -> Option<Answer> {
        let head_end = loop {
            if let Some(at) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.rest[..head_end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, n)| n.parse().unwrap());
        while self.rest.len() < head_end + length {
            self.more()?;
        }
        let body = self.rest[head_end..head_end + length].to_vec();
        self.rest.drain(..head_end + length);
        Some(Answer { status, headers, body })
    }

    fn more(&mut self) -> Option<()> {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => None,
            Ok(count) => {
                self.rest.extend(&buffer[..count]);
                Some(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The path of inference of a model.
pub fn infer(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

/// A request with one input `input` of f32.
pub fn features(values: &[f32], shape: &[usize]) -> Value {
    serde_json::json!({ "inputs": [{ "name": "input", "datatype": "FP32", "shape": shape, "data": values }] })
}

/// The same in a sequence.
pub fn step(id: &str, values: &[f32], shape: &[usize], start: bool, end: bool) -> Value {
    let mut request = features(values, shape);
    request["parameters"] = serde_json::json!({ "sequence_id": id, "sequence_start": start, "sequence_end": end });
    request
}
