//! A server of recurrent networks that keeps the state of every sequence.
//!
//! It speaks the Open Inference Protocol (version 2) over HTTP, with its binary tensors, and sequences as Triton has them: a request
//! names its sequence, and the server keeps the state on the device. Beyond that, sequences can be forked, stored and put back.
//! `docs/serving.md` in the repository lists the paths.
//!
//! ```
//! use gatefold::network::{LayerSpec, RecurrentSpec};
//! use gatefold::{Device, Network, NetworkSpec};
//! use gatefold_serve::{Model, Options, Server};
//!
//! let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 2, 8))];
//! let network = Network::random(NetworkSpec { format: 1, layers, text: None, labels: vec![] }, 1)?;
//! let options = Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() };
//! let server = Server::bind(&Device::cpu(), vec![Model::new("lstm", network)], options)?;
//! println!("http://{}", server.address()?);
//! let ended = server.run(async {})?; // until this is ready; here at once
//! assert_eq!(ended.stored, 0);
//! # Ok::<(), gatefold::Error>(())
//! ```

mod access;
mod app;
mod datatype;
mod failure;
mod infer;
mod metrics;
mod model;
mod patient;
mod request;
mod response;
mod routes;
mod sequences;
mod server;
mod states;
mod tensor;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use gatefold::streams::QueueOptions;
use gatefold::{Error, Network, Result};

pub use server::{Ended, Server};

/// A model to be served.
#[derive(Debug)]
pub struct Model {
    /// Its name in paths: letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Its network.
    pub network: Network,
    /// The file it was read from, to tell when that has changed.
    pub path: Option<PathBuf>,
}

impl Model {
    /// A model that is of no file.
    #[must_use]
    pub fn new(name: impl Into<String>, network: Network) -> Self {
        Self { name: name.into(), network, path: None }
    }
}

/// What a server does.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address and port; port 0 lets the system choose one.
    pub listen: SocketAddr,
    /// Clients must send it as `Authorization: Bearer TOKEN`; without one everybody may ask.
    pub token: Option<String>,
    /// Folder in which sequences are stored when the server ends, and from which they are opened when it begins.
    pub state: Option<PathBuf>,
    /// What a client may take.
    pub limits: Limits,
}

impl Default for Options {
    /// Port 8000 of this machine alone, without a token; sequences are not stored.
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 8000).into(), token: None, state: None, limits: Limits::default() }
    }
}

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body.
    pub body: usize,
    /// Bytes of all bodies at once, those of up to 16 KiB not counted.
    pub bodies: usize,
    /// Elements of a tensor, of inputs and of outputs.
    pub elements: usize,
    /// Timesteps of each sequence in a request; the other sequences of its batch wait for them.
    pub steps: usize,
    /// Open sequences of a model.
    pub sequences: usize,
    /// A sequence that no request uses for longer than this ends.
    pub idle: Duration,
    /// When a batch of sequences starts, and how many requests of a model may wait. As many runs without state may wait too.
    pub queue: QueueOptions,
    /// Open connections; further clients wait until one ends.
    pub connections: usize,
    /// Time for the headers of a request, also from the end of the request before.
    pub header_time: Duration,
    /// Time for the body of a request.
    pub body_time: Duration,
    /// Time in which a client must take a part of the answer.
    pub write_time: Duration,
    /// Time in which requests must be done when the server ends.
    pub drain: Duration,
}

impl Default for Limits {
    /// Bodies of 16 MiB, 256 MiB in all, tensors of 16 Mi elements; 16,384 timesteps of a sequence; 100,000 sequences, 60 s
    /// idle; 4096 connections; 30 s for headers, bodies,
    /// answers and the end; the queue's defaults.
    fn default() -> Self {
        let time = Duration::from_secs(30);
        Self {
            body: 16 << 20,
            bodies: 256 << 20,
            elements: 16 << 20,
            steps: 16 << 10,
            sequences: 100_000,
            idle: Duration::from_secs(60),
            queue: QueueOptions::default(),
            connections: 4096,
            header_time: time,
            body_time: time,
            write_time: time,
            drain: time,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<()> {
        let numbers = [
            ("body", self.body),
            ("elements", self.elements),
            ("steps", self.steps),
            ("sequences", self.sequences),
            ("connections", self.connections),
        ];
        match numbers.iter().find(|(_, number)| *number == 0) {
            None => Ok(()),
            Some((name, _)) => {
                Err(Error::Option { option: (*name).into(), expected: "at least 1".into(), got: "0".into() })
            }
        }
    }

    /// An error if an output has more elements than a tensor may have.
    fn check_output(&self, elements: usize) -> failure::Result<()> {
        if elements > self.elements {
            let message = format!("output: expected at most {} elements, got a request for {elements}", self.elements);
            return Err(failure::Failure::new(failure::Kind::TooLarge, message));
        }
        Ok(())
    }
}
