//! The pool, which opens, stores, forks, rewinds and closes streams.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::options::{MOST_STREAMS, PoolOptions};
use super::pages::Pages;
use super::placing::too_many;
use super::prefix::PrefixMemory;
use super::reader::{BankReader, divided};
use super::states::{StatePlace, Tier};
use super::store::{HostSlots, Store};
use super::streamable;
use super::table::{StreamId, Table};
use crate::base::error::Result;
use crate::base::lock::lock;
use crate::base::rounded::rounded;
use crate::data::state::{self, PartShape, State};
use crate::gpu;
use crate::session::Session;

/// Many streams of one network, each with a state that stays on the device.
///
/// It is `Send + Sync`: calls of several threads run one after the other, and each call is one batch. A call that
/// fails leaves every stream unchanged. If the device is lost, the states on it are lost with it, every
/// call that needs the device returns that error, and a new pool can continue from [snapshots](StreamPool::snapshot).
#[derive(Debug)]
pub struct StreamPool {
    pub(super) session: Arc<Session>,
    /// What reads the inputs beside the one over time, for a network that has several.
    pub(super) reader: Option<BankReader>,
    pub(super) options: PoolOptions,
    /// Most states on the device, in the host's memory and in the page file.
    pub(super) most: [usize; 3],
    pub(crate) inner: Mutex<Inner>,
}

/// Names of limits.
const LIMIT: &str = "the pool's limit";
pub(super) const DEVICE: &str = "the device's limit";

#[derive(Debug)]
pub(crate) struct Inner {
    pub table: Table,
    pub store: Store,
    /// States that are not on the device.
    pub pages: Pages,
    /// Numbers of a state.
    pub width: usize,
    /// The network's initial state.
    pub initial: u32,
    pub prefixes: PrefixMemory,
    /// How often the pool has grown: bindings made before that refer to its old buffers.
    pub growth: u64,
    pub counters: PoolCounters,
    /// Memory for a batch's features.
    pub features: Vec<f32>,
}

/// What a pool has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolCounters {
    /// Calls that advanced a stream.
    pub batches: u64,
    /// Streams of all batches.
    pub streams: u64,
    /// Timesteps of all streams.
    pub steps: u64,
    /// Timesteps × rows of padding.
    pub filled: u64,
    /// Streams that were opened, forks included.
    pub opened: u64,
    /// How often the pool grew.
    pub growth: u64,
    /// States that moved away from the device.
    pub paged_out: u64,
    /// States that came back.
    pub paged_in: u64,
    /// Of these, those that came from the page file.
    pub read_from_file: u64,
}

impl Inner {
    /// Counts a call that advanced so many streams by so many steps in all.
    pub fn count(&mut self, streams: usize, steps: usize) {
        self.counters.batches += 1;
        self.counters.streams += streams as u64;
        self.counters.steps += steps as u64;
    }
}

impl StreamPool {
    /// A pool for `capacity` streams before it grows, as far as the device allows.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) with the name of a layer that cannot be cut in time;
    /// [`Error::TooLarge`](crate::Error::TooLarge) for more streams than the device can hold.
    pub fn new(session: impl Into<Arc<Session>>, capacity: usize) -> Result<Self> {
        Self::with_options(session, PoolOptions { capacity, ..PoolOptions::default() })
    }

    /// As [`StreamPool::new`], never with more than `limit` streams.
    ///
    /// # Errors
    /// As [`StreamPool::new`].
    pub fn with_limit(session: impl Into<Arc<Session>>, capacity: usize, limit: usize) -> Result<Self> {
        Self::with_options(session, PoolOptions { capacity, limit, ..PoolOptions::default() })
    }

    /// A pool as `options` say.
    ///
    /// # Errors
    /// As [`StreamPool::new`]; [`Error::Option`](crate::Error::Option) for options that contradict each other,
    /// [`Error::Io`](crate::Error::Io) if the page file cannot be made.
    pub fn with_options(session: impl Into<Arc<Session>>, options: PoolOptions) -> Result<Self> {
        static POOLS: AtomicU64 = AtomicU64::new(1);
        let (session, reader) = divided(session.into())?;
        let network = session.network();
        streamable::check(network)?;
        let limit = options.limit.min(MOST_STREAMS);
        if options.capacity.max(1) > limit {
            return Err(too_many("open streams", options.capacity.max(1), limit, LIMIT));
        }
        let options = PoolOptions { limit, ..options };
        let width = PartShape::row_width(&PartShape::all(network));
        let on_device = session.gpu().map_or(MOST_STREAMS, gpu::Slots::most);
        let most = options.most_rows((width * size_of::<f32>()) as u64, on_device)?;
        let capacity = match options.paging {
            Some(_) => options.capacity.clamp(1, most[0].max(1)),
            None => options.capacity.max(1),
        };
        let file = options.paging.as_ref().and_then(|paging| paging.file.as_deref());
        let pages = Pages::new(width, file)?;
        let store = match session.gpu() {
            Some(engine) => gpu::Slots::new(engine, capacity, rounded(capacity, 3)).map(Store::Gpu),
            None => HostSlots::new(network, capacity).map(Store::Cpu),
        }?;
        log::debug!("a pool of {capacity} states, {} bytes", store.bytes());
        let mut table = Table::new(POOLS.fetch_add(1, Ordering::Relaxed), network.inputs().len() - 1);
        table.states.grow(Tier::Device, capacity)?;
        let (prefixes, counters) = (PrefixMemory::default(), PoolCounters::default());
        let mut inner =
            Inner { table, store, pages, width, initial: 0, prefixes, growth: 0, counters, features: Vec::new() };
        inner.initial = if network.starts_at_zero() {
            inner.table.states.add_fixed(StatePlace::Zero)
        } else {
            inner.add_fixed(network, &State::initial(network, 1)?)?
        };
        Ok(Self { session, reader, options, most, inner: Mutex::new(inner) })
    }

    /// The network on its device. Of a network of several inputs it is the decoder: its first input is the one over time, the
    /// others are what it attends to.
    #[must_use]
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Number of open streams.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.inner).table.open_streams()
    }

    /// Whether no stream is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of states that the device has memory for before the pool grows.
    #[must_use]
    pub fn capacity(&self) -> usize {
        lock(&self.inner).table.states.rows(Tier::Device)
    }

    /// What the pool has done so far; the session's part is in [`Session::counters`].
    #[must_use]
    pub fn counters(&self) -> PoolCounters {
        let inner = lock(&self.inner);
        PoolCounters { growth: inner.growth, ..inner.counters }
    }

    /// Bytes of all states on the device: capacity × (the numbers of a stream's [`State`]) × 4.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        lock(&self.inner).store.bytes()
    }

    /// Number of states on the device, in the host's memory and in the page file. Forks share states until they differ, and streams in
    /// the network's initial state have none.
    #[must_use]
    pub fn states_by_place(&self) -> [usize; 3] {
        let inner = lock(&self.inner);
        [Tier::Device, Tier::Host, Tier::File].map(|tier| inner.table.states.movable(tier))
    }

    /// A new stream in the network's initial state. Where the device has no memory left for it, the pool grows to twice its size, or
    /// another state moves away ([`PoolOptions::paging`]) once the stream is advanced.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) if the pool's limit is reached or the device allows no more; a lost device.
    pub fn open(&self) -> Result<StreamId> {
        let mut inner = lock(&self.inner);
        self.check_device()?;
        self.room_for(&inner, 1)?;
        let needed = inner.table.originals() + 1;
        if needed > inner.table.states.rows(Tier::Device) && self.options.paging.is_none() {
            if needed > self.most[0] {
                return Err(too_many("open streams", needed, self.most[0], DEVICE));
            }
            self.grow(&mut inner, needed)?;
        }
        inner.counters.opened += 1;
        let initial = inner.initial;
        inner.table.open(initial)
    }

    /// Closes a stream. What it alone held is free for other streams.
    ///
    /// # Errors
    /// [`Error::Stream`](crate::Error::Stream) if it is not open.
    pub fn close(&self, id: StreamId) -> Result<()> {
        lock(&self.inner).table.close(id)
    }

    /// Resets a stream to the network's initial state. It keeps its bank, and starts from the state that came with it.
    ///
    /// # Errors
    /// [`Error::Stream`](crate::Error::Stream) if it is not open; a device that is known to be lost.
    pub fn reset(&self, id: StreamId) -> Result<()> {
        let mut inner = lock(&self.inner);
        let stream = inner.table.number(id)?;
        self.check_device()?;
        let bank = inner.table.now(stream).bank;
        let state = bank.and_then(|bank| inner.table.banks.at(bank).start).unwrap_or(inner.initial);
        inner.table.set_state(stream, state, self.options.keep_last);
        Ok(())
    }

    /// A stream's state, of batch 1, in the host's memory.
    ///
    /// # Errors
    /// [`Error::Stream`](crate::Error::Stream) if it is not open; [`Error::Io`](crate::Error::Io) and
    /// [`Error::Malformed`](crate::Error::Malformed) of a page file; a lost device.
    pub fn snapshot(&self, id: StreamId) -> Result<State> {
        let mut inner = lock(&self.inner);
        let stream = inner.table.number(id)?;
        let row = match (&inner.store, inner.slots_of(&[stream])) {
            (Store::Gpu(slots), Some(list)) => {
                let pending = slots.read(self.session.engine()?, &list)?;
                drop(inner);
                pending.wait()?.stages.pop().unwrap_or_default()
            }
            _ => {
                let state = inner.table.now(stream).state;
                self.rows(&mut inner, &[state])?
            }
        };
        self.state_of(&row, 1)
    }

    /// Replaces a stream's state with a state of batch 1.
    ///
    /// # Errors
    /// [`Error::Stream`](crate::Error::Stream) if it is not open, [`Error::Shape`](crate::Error::Shape) for a state that does not
    /// fit, [`Error::Option`](crate::Error::Option) for weights of heads that are not from 0 to 1; as [`StreamPool::advance`]
    /// where there is no memory for it; a lost device.
    pub fn restore(&self, id: StreamId, state: &State) -> Result<()> {
        state::check(self.session.network(), 1, state)?;
        let mut inner = lock(&self.inner);
        let stream = inner.table.number(id)?;
        let mut row = Vec::with_capacity(inner.width);
        PartShape::take_row(&PartShape::all(self.session.network()), state, 0, &mut row);
        self.set_row(&mut inner, stream, &row)
    }

    /// The states of streams, each once, as the rows of one state.
    ///
    /// # Errors
    /// As [`StreamPool::snapshot`]; [`Error::Stream`](crate::Error::Stream) for a stream that comes twice.
    pub fn states(&self, ids: &[StreamId]) -> Result<State> {
        let mut inner = lock(&self.inner);
        let streams = inner.table.batch(ids.iter().copied())?;
        let states: Vec<u32> = streams.into_iter().map(|stream| inner.table.now(stream).state).collect();
        let rows = self.rows(&mut inner, &states)?;
        self.state_of(&rows, ids.len())
    }

    /// Replaces the states of streams with the rows of one state.
    ///
    /// # Errors
    /// As [`StreamPool::states`] and [`StreamPool::restore`].
    pub fn set_states(&self, ids: &[StreamId], state: &State) -> Result<()> {
        state::check(self.session.network(), ids.len(), state)?;
        ids.iter().enumerate().try_for_each(|(row, &id)| self.restore(id, &state.row(row)))
    }

    /// A new stream that is what a stream is: its state, its bank and its past are shared by reference, and nothing is done on the
    /// device. A state is copied there by the first call that makes the two differ.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge) if the pool's limit is reached, [`Error::Stream`](crate::Error::Stream) if `id` is
    /// not open; a device that is known to be lost.
    pub fn fork(&self, id: StreamId) -> Result<StreamId> {
        let mut inner = lock(&self.inner);
        let from = inner.table.number(id)?;
        self.check_device()?;
        self.room_for(&inner, 1)?;
        inner.counters.opened += 1;
        inner.table.fork(from, true)
    }

    /// How many states a stream can go back by: as many as have been replaced since it was opened or forked from one that was, at most
    /// [`PoolOptions::keep_last`].
    ///
    /// # Errors
    /// [`Error::Stream`](crate::Error::Stream) if it is not open.
    pub fn kept(&self, id: StreamId) -> Result<usize> {
        let inner = lock(&self.inner);
        Ok(inner.table.past(inner.table.number(id)?))
    }

    /// Makes a stream what it was before the last `count` calls that changed its state, the bank included. Nothing runs and
    /// nothing is copied; what the stream was until now is gone, unless a fork holds it. Forks do not change.
    ///
    /// # Errors
    /// [`Error::Stream`](crate::Error::Stream) if it is not open, or if it does not keep so many states
    /// ([`PoolOptions::keep_last`]); a device that is known to be lost.
    pub fn rewind(&self, id: StreamId, count: usize) -> Result<()> {
        let mut inner = lock(&self.inner);
        let stream = inner.table.number(id)?;
        self.check_device()?;
        let kept = inner.table.past(stream);
        if count > kept {
            let expected = format!("one with {count} earlier states (PoolOptions::keep_last)");
            return Err(id.error(&expected, &format!("{kept} of them")));
        }
        inner.table.rewind(stream, count);
        Ok(())
    }

    /// An error if so many more streams are beyond what the pool may hold.
    pub(crate) fn room_for(&self, inner: &Inner, more: usize) -> Result<()> {
        let needed = inner.table.open_streams().saturating_add(more);
        if needed > self.options.limit {
            return Err(too_many("open streams", needed, self.options.limit, LIMIT));
        }
        Ok(())
    }

    /// How many earlier states a stream keeps.
    pub(crate) fn keep_last(&self) -> usize {
        self.options.keep_last
    }

    /// An error if the device is known to be lost.
    pub(super) fn check_device(&self) -> Result<()> {
        self.session.gpu().map_or(Ok(()), gpu::GpuEngine::check)
    }

    /// A state of `batch` rows from the numbers of each.
    pub(super) fn state_of(&self, rows: &[f32], batch: usize) -> Result<State> {
        let network = self.session.network();
        let (parts, mut state) = (PartShape::all(network), State::zeros(network, batch)?);
        let width = PartShape::row_width(&parts);
        for (row, numbers) in rows.chunks_exact(width).enumerate() {
            PartShape::put_row(&parts, &mut state, row, numbers);
        }
        Ok(state)
    }
}
