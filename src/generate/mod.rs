//! Sequence to sequence, and generation: tokens after a prompt, one by one, from a pool's streams.
//!
//! ```
//! use gatefold::network::{DenseSpec, EmbeddingSpec, LayerSpec, RecurrentSpec};
//! use gatefold::{BeamOptions, Device, GenerateOptions, Input, Network, NetworkSpec, Sampling, Session, StreamPool};
//!
//! # let embedding = |name: &str, v: usize| LayerSpec::Embedding(serde_json::from_value(serde_json::json!(
//! #     {"name": name, "num_embeddings": v, "embedding_dim": 4})).unwrap());
//! # let dense = LayerSpec::Dense(serde_json::from_value(serde_json::json!(
//! #     {"name": "dense", "in_features": 8, "out_features": 5})).unwrap());
//! # let layers = vec![embedding("source", 9), LayerSpec::Lstm(RecurrentSpec::new("reads", 4, 8))];
//! # let encoder = Network::random(NetworkSpec { format: 1, layers, text: None, labels: vec![] }, 1)?;
//! # let layers = vec![embedding("target", 5), LayerSpec::Lstm(RecurrentSpec::new("writes", 4, 8)), dense];
//! # let decoder = Network::random(NetworkSpec { format: 1, layers, text: None, labels: vec![] }, 2)?;
//! // An encoder reads, [T, B]; its final state starts the decoder's streams.
//! let device = Device::cpu();
//! let read = Session::new(&device, &encoder)?.run(Input::tokens(&[7, 1, 3, 8, 2, 6], [3, 2]), None)?;
//! let pool = StreamPool::new(Session::new(&device, &decoder)?, 10)?;
//! let streams = pool.open_from(&read.state)?; // B of them
//! let prompts = [(streams[0], &[0][..]), (streams[1], &[0][..])];
//! let beams = pool.beam_search(&prompts, &BeamOptions { num_beams: 3, max_new_tokens: 6, eos: vec![0], ..BeamOptions::default() })?;
//! println!("{:?} {}", beams[0][0].tokens, beams[0][0].log_probability); // the best of the first
//! let sampling = Some(Sampling { temperature: 0.8, top_k: Some(4), top_p: 0.95, seed: 1 });
//! let drawn = pool.generate(&prompts, &GenerateOptions { max_new_tokens: 6, sampling, ..GenerateOptions::default() })?;
//! assert_eq!((beams.len(), drawn[1].tokens.len()), (2, 6));
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! # What runs where
//!
//! The decoder reads tokens `[T, B]` and gives logits `[T, B, V]` or `[B, V]`. Embedding, recurrence and choice of the next
//! token run on the device; the token is written to where the next step's embedding reads it. [`StreamPool::generate`]
//! reads back 16 bytes a stream every [`read_every`](GenerateOptions::read_every) steps and the tokens once at the end.
//! [`StreamPool::beam_search`] keeps its beams as forks in slots of the pool: a step gathers the states
//! of the parents and scatters those of the children, on the device; what comes back are `num_beams` + E candidates
//! of each beam (E tokens of `eos`), 8 bytes each. A step creates no GPU object; a call creates a few.
//!
//! Both work on forks (one of each stream, `num_beams` of each), for which the pool grows if it is necessary and allowed.
//! A call that fails leaves every stream as it was. The pool is locked for the whole call.
//!
//! Sampling uses integer arithmetic, so that equal logits give equal tokens on every device; devices may only differ in the
//! last bits of the logits. `shaders/choose.wgsl` and [`reference::choose`](crate::reference::choose()) define it.

mod beam;
mod decoder;
mod greedy_or_sample;
mod options;
mod scratch;

pub use options::{BeamOptions, GenerateOptions, Sampling, Sequence};

#[expect(unused_imports, reason = "the documentation above names it")]
use crate::streams::StreamPool;

/// B rounded up to one of a few sizes, so that prepared plans can be reused.
fn filled_up(rows: usize) -> usize {
    crate::streams::rounded(rows, 3)
}
