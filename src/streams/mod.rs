//! Many streams of one network on one device, each with a state of its own that stays there.
//!
//! ```
//! use std::sync::Arc;
//! use gatefold::network::{LayerSpec, RecurrentSpec};
//! use gatefold::{Device, Input, Network, NetworkSpec, Session, StreamPool};
//!
//! let layers = vec![LayerSpec::Lstm(RecurrentSpec::new("lstm", 2, 8))];
//! let network = Network::random(NetworkSpec { format: 1, layers, text: None, labels: vec![] }, 1)?;
//! let session = Session::new(&Device::cpu(), &network)?;
//! let pool = StreamPool::new(Arc::new(session), 1000)?;
//! let (a, b) = (pool.open()?, pool.open()?);
//! // Three timesteps of one stream and one of another, in one batch on the device.
//! let batch = [(a, Input::features(&[0.1; 6], [3, 1, 2])), (b, Input::features(&[0.2; 2], [1, 1, 2]))];
//! let answers = pool.advance(&batch)?;
//! assert_eq!((answers.steps(0), answers.values(0).len()), (3, 3 * 8)); // [T, N]
//! let other = pool.fork(a)?; // two continuations of one past
//! # assert_ne!(a, other);
//! # Ok::<(), gatefold::Error>(())
//! ```
//!
//! # What a call costs
//!
//! The states lie in one buffer `[S, ..]` for each part of every layer's state: h and c of every level, the past
//! inputs of every window over time. A call gathers the rows of its streams by slot, runs the steps and scatters the
//! rows back, all on the device; no state crosses to the host. A state that several streams hold (forks, their pasts, prefixes)
//! lies in one slot: it is gathered from there and scattered into a free one, so that its copy takes no dispatch of its own. A window reads its past inputs and the new ones as one
//! sequence. On a GPU the batch is padded to one of a few sizes, so that the plan and everything it needs is ready
//! from an earlier call: B and T up to the next number of 3 and 4 leading binary digits (1…8, 10, 12, 14, 16, 20…
//! and 1…16, 18, 20…), at most a fourth and an eighth more. Padding rows belong to no slot and change none; the
//! padding of shorter streams comes *before* their first step, so that the last step of a batch is the last step of
//! every stream, and past inputs come right before the first.
//! [`Strategy::Resident`](crate::plan::Strategy::Resident) is not used: whether its workgroups timed
//! out is known only after the slots are written.

mod advance;
mod banks;
mod batch;
#[cfg(feature = "gpu")]
mod embed;
mod histogram;
mod look;
mod options;
mod pages;
mod placing;
mod pool;
mod prefix;
mod prefix_trie;
mod queue;
mod reader;
mod recency;
mod states;
mod store;
mod streamable;
mod table;

pub(crate) use crate::base::rounded::rounded;
pub use batch::Advanced;
#[cfg(feature = "gpu")]
pub use embed::{PreparedRun, StreamRun};
pub use histogram::Histogram;
pub use options::{PagingOptions, PoolOptions};
pub(crate) use pool::Inner;
pub use pool::{PoolCounters, StreamPool};
pub use prefix::PrefixCounters;
pub use queue::{Answer, Chunk, QueueCounters, QueueOptions, StreamQueue, Ticket};
pub(crate) use store::Store;
pub use table::StreamId;
