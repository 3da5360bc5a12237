//! The pool, which opens, advances, stores, forks and closes streams.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::batch::{Advanced, StreamBatch};
use super::reader::{BankReader, divided};
use super::store::{HostSlots, Store};
use super::streamable;
use super::table::{StreamId, Table};
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::base::rounded::rounded;
use crate::data::input::Input;
use crate::data::run::{Raw, RunRequest};
use crate::data::state::{self, PartShape, State};
use crate::gpu;
use crate::session::{Session, Timing};

/// Most slots that a pool can number.
const MOST_SLOTS: usize = 1 << 30;

/// Many streams of one network, each with a state that stays on the device.
///
/// It is `Send + Sync`: calls of several threads run one after the other, and each call is one batch. A call that
/// fails leaves every stream unchanged. If the device is lost, the states are lost with it, every
/// call returns that error, and a new pool can continue from [snapshots](StreamPool::snapshot).
#[derive(Debug)]
pub struct StreamPool {
    session: Arc<Session>,
    /// What reads the inputs beside the one over time, for a network that has several.
    pub(super) reader: Option<BankReader>,
    limit: usize,
    pub(crate) inner: Mutex<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub table: Table,
    pub store: Store,
    /// How often the pool has grown: bindings made before that refer to its old buffers.
    pub growth: u64,
    counters: PoolCounters,
    /// Memory for a batch's features.
    features: Vec<f32>,
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
}

/// A batch whose answer is complete or pending.
enum Begun<'a> {
    Done(Raw, PhantomData<&'a Session>),
    Sent(gpu::Pending<'a>),
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
    /// [`Error::Unsupported`] with the name of a layer that cannot be cut in time;
    /// [`Error::TooLarge`] for more streams than the device can hold.
    pub fn new(session: impl Into<Arc<Session>>, capacity: usize) -> Result<Self> {
        Self::with_limit(session, capacity, MOST_SLOTS)
    }

    /// As [`StreamPool::new`], never with more than `limit` streams.
    ///
    /// # Errors
    /// As [`StreamPool::new`].
    pub fn with_limit(session: impl Into<Arc<Session>>, capacity: usize, limit: usize) -> Result<Self> {
        static POOLS: AtomicU64 = AtomicU64::new(1);
        let (session, reader) = divided(session.into())?;
        streamable::check(session.network())?;
        let limit = limit.min(MOST_SLOTS);
        let capacity = capacity.max(1);
        if capacity > limit {
            return Err(too_many(capacity, limit));
        }
        let store = make_store(&session, capacity)?;
        let banks = session.network().inputs().len() - 1;
        let table = Table::new(POOLS.fetch_add(1, Ordering::Relaxed), capacity, banks)?;
        log::debug!("a pool of {capacity} streams, {} bytes of state", store.bytes());
        Ok(Self {
            limit,
            inner: Mutex::new(Inner {
                table,
                store,
                growth: 0,
                counters: PoolCounters::default(),
                features: Vec::new(),
            }),
            session,
            reader,
        })
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

    /// Number of streams that the pool can hold before it grows.
    #[must_use]
    pub fn capacity(&self) -> usize {
        lock(&self.inner).table.capacity()
    }

    /// What the pool has done so far; the session's part is in [`Session::counters`].
    #[must_use]
    pub fn counters(&self) -> PoolCounters {
        let inner = lock(&self.inner);
        PoolCounters { growth: inner.growth, ..inner.counters }
    }

    /// Bytes of all states: capacity × (the numbers of a stream's [`State`]) × 4.
    #[must_use]
    pub fn state_bytes(&self) -> u64 {
        lock(&self.inner).store.bytes()
    }

    /// A new stream in the network's initial state. Where no slot is free, the pool grows to twice its size.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the pool's limit is reached or the device allows no more; a lost device.
    pub fn open(&self) -> Result<StreamId> {
        let mut inner = lock(&self.inner);
        let (id, used) = self.take_slot(&mut inner)?;
        // A slot that no stream has used is 0, which is most networks' initial state.
        if used || !self.session.network().starts_at_zero() {
            self.put(&mut inner, id, &State::initial(self.session.network(), 1)?)?;
        }
        Ok(id)
    }

    /// Closes a stream; its slot can then be used by another stream.
    ///
    /// # Errors
    /// [`Error::Stream`] if it is not open.
    pub fn close(&self, id: StreamId) -> Result<()> {
        lock(&self.inner).table.close(id)
    }

    /// Resets a stream to the network's initial state. It keeps its bank, and starts from the state that came with it.
    ///
    /// # Errors
    /// [`Error::Stream`] if it is not open; a lost device.
    pub fn reset(&self, id: StreamId) -> Result<()> {
        let mut inner = lock(&self.inner);
        let slot = inner.table.slot(id)?;
        let initial = match inner.table.start_of(slot) {
            Some(start) => start,
            None => Arc::new(State::initial(self.session.network(), 1)?),
        };
        self.write(&mut inner, slot, &initial)?;
        inner.table.at(slot).seen = false;
        Ok(())
    }

    /// A stream's state, of batch 1, in the host's memory.
    ///
    /// # Errors
    /// [`Error::Stream`] if it is not open; a lost device.
    pub fn snapshot(&self, id: StreamId) -> Result<State> {
        let inner = lock(&self.inner);
        let slot = inner.table.slot(id)?;
        match &inner.store {
            Store::Cpu(slots) => slots.gather(self.session.network(), &[slot]),
            Store::Gpu(slots) => {
                let pending = slots.read(self.session.engine()?, slot)?;
                drop(inner);
                Ok(pending.wait()?.state)
            }
        }
    }

    /// Replaces a stream's state with a state of batch 1.
    ///
    /// # Errors
    /// [`Error::Stream`] if it is not open, [`Error::Shape`] for a state that does not fit, [`Error::Option`] for weights of heads
    /// that are not from 0 to 1; a lost device.
    pub fn restore(&self, id: StreamId, state: &State) -> Result<()> {
        state::check(self.session.network(), 1, state)?;
        let mut inner = lock(&self.inner);
        let slot = inner.table.slot(id)?;
        self.write(&mut inner, slot, state)?;
        inner.table.at(slot).seen = true;
        Ok(())
    }

    /// The states of streams, each once, as the rows of one state.
    ///
    /// # Errors
    /// [`Error::Stream`] for a stream that is not open or that comes twice; the driver's own.
    pub fn states(&self, ids: &[StreamId]) -> Result<State> {
        let slots = lock(&self.inner).table.batch(ids.iter().copied())?;
        let network = self.session.network();
        if let Store::Cpu(store) = &lock(&self.inner).store {
            return store.gather(network, &slots);
        }
        let mut state = State::zeros(network, ids.len())?;
        let parts = PartShape::all(network);
        for (row, &id) in ids.iter().enumerate() {
            let of_stream = self.snapshot(id)?;
            for part in &parts {
                let to = &mut part.of_mut(&mut state)[row * part.width..][..part.width];
                to.copy_from_slice(part.of(&of_stream));
            }
        }
        Ok(state)
    }

    /// Replaces the states of streams with the rows of one state.
    ///
    /// # Errors
    /// As [`StreamPool::states`]; [`Error::Shape`] for a state that does not fit.
    pub fn set_states(&self, ids: &[StreamId], state: &State) -> Result<()> {
        state::check(self.session.network(), ids.len(), state)?;
        ids.iter().enumerate().try_for_each(|(row, &id)| self.restore(id, &state.row(row)))
    }

    /// A new stream with a copy of a stream's state, made on the device.
    ///
    /// # Errors
    /// As [`StreamPool::open`]; [`Error::Stream`] if `id` is not open.
    pub fn fork(&self, id: StreamId) -> Result<StreamId> {
        let mut inner = lock(&self.inner);
        let from = inner.table.slot(id)?;
        let (fork, _) = self.take_slot(&mut inner)?;
        let to = inner.table.slot(fork)?;
        if let Err(error) = self.copy_slots(&mut inner, &[(from, to)]) {
            inner.table.close(fork)?;
            return Err(error);
        }
        inner.table.at(to).seen = inner.table.at(from).seen;
        inner.table.share_bank(from, to);
        Ok(fork)
    }

    /// Advances streams, each by its own number of timesteps, in one batch; any of them, in any order.
    ///
    /// Each input has B = 1: `[T, 1]` or `[T, 1, I]` (`[1, T, ..]` with `batch_first`) with T at least 1.
    ///
    /// # Errors
    /// [`Error::Stream`] for a stream that is not open or that comes twice, [`Error::Shape`],
    /// [`Error::TokenOutOfRange`] (its row counts the streams of the call), [`Error::TooLarge`] for
    /// a batch beyond the adapter's limits. After these errors every stream is unchanged. [`Error::DeviceLost`]:
    /// the states are lost with the device.
    pub fn advance(&self, streams: &[(StreamId, Input<'_>)]) -> Result<Advanced> {
        let start = Instant::now();
        let (batch, begun) = self.begin(&mut lock(&self.inner), streams)?;
        let raw = match begun {
            Begun::Done(raw, _) => raw,
            Begun::Sent(pending) => pending.wait()?,
        };
        Ok(self.answer(&batch, raw, start))
    }

    /// As [`StreamPool::advance`], without blocking the thread while the GPU works. The streams advance
    /// when the future is first polled; dropping it later drops only the answer.
    ///
    /// # Errors
    /// As [`StreamPool::advance`].
    pub async fn advance_async(&self, streams: &[(StreamId, Input<'_>)]) -> Result<Advanced> {
        let start = Instant::now();
        let (batch, begun) = self.begin(&mut lock(&self.inner), streams)?;
        let raw = match begun {
            Begun::Done(raw, _) => raw,
            Begun::Sent(pending) => pending.resolve().await?,
        };
        Ok(self.answer(&batch, raw, start))
    }

    /// Checks and submits a batch. Nothing that can fail comes after the first change of a slot.
    fn begin(&self, inner: &mut Inner, streams: &[(StreamId, Input<'_>)]) -> Result<(StreamBatch, Begun<'_>)> {
        let network = self.session.network();
        let Inner { table, store, counters, features, .. } = inner;
        let mut batch = StreamBatch::new(network, table, streams, !store.is_cpu(), features)?;
        if streams.is_empty() {
            return Ok((batch, Begun::Done(Raw::default(), PhantomData)));
        }
        let begun = match store {
            Store::Cpu(slots) => {
                let output = slots.advance(&self.session, &batch.input, &batch.list)?;
                Begun::Done(Raw { stages: vec![output], ..Raw::default() }, PhantomData)
            }
            Store::Gpu(slots) => {
                let start = gpu::Start::Slots(slots, &batch.list);
                Begun::Sent(pollster::block_on(self.session.engine()?.submit(
                    &batch.input,
                    start,
                    RunRequest::default(),
                ))?)
            }
        };
        *features = batch.take_memory();
        for (&slot, &seen) in batch.list.iter().zip(&batch.seen) {
            table.at(slot).seen = seen;
        }
        let steps: usize = batch.lengths.iter().sum();
        counters.filled += (batch.input.steps * batch.input.batch - steps) as u64;
        inner.count(batch.lengths.len(), steps);
        Ok((batch, begun))
    }

    /// As [`StreamPool::advance`] of a pool that is locked, without reading the answer back.
    pub(crate) fn advance_unread(&self, inner: &mut Inner, streams: &[(StreamId, Input<'_>)]) -> Result<()> {
        match self.begin(inner, streams)?.1 {
            Begun::Done(..) => {}
            Begun::Sent(pending) => pending.forget(),
        }
        Ok(())
    }

    /// Copies states from slot to slot; none is written twice or read after it was written.
    pub(crate) fn copy_slots(&self, inner: &mut Inner, copies: &[(u32, u32)]) -> Result<()> {
        match &mut inner.store {
            Store::Cpu(slots) => {
                let (from, to): (Vec<u32>, Vec<u32>) = copies.iter().copied().unzip();
                let state = slots.gather(self.session.network(), &from)?;
                slots.scatter(&state, &to);
                Ok(())
            }
            Store::Gpu(slots) => slots.copy(self.session.engine()?, copies),
        }
    }

    /// Copies states of another pool's streams to streams of this one, part by part in order, which have the same sizes;
    /// says whether both are on one GPU, where that is possible.
    pub(crate) fn copy_between(&self, other: &Self, from: &[StreamId], to: &[StreamId]) -> Result<bool> {
        let (Ok(engine), Ok(others)) = (self.session().engine(), other.session().engine()) else { return Ok(false) };
        if !engine.same_device(others) || std::ptr::eq(self, other) {
            return Ok(false);
        }
        // Every call locks in the same order, so that no two calls wait for each other.
        let (mut ours, theirs) = if std::ptr::from_ref(self) < std::ptr::from_ref(other) {
            let ours = lock(&self.inner);
            (ours, lock(&other.inner))
        } else {
            let theirs = lock(&other.inner);
            (lock(&self.inner), theirs)
        };
        let slots = |inner: &Inner, ids: &[StreamId]| ids.iter().map(|&id| inner.table.slot(id)).collect::<Result<_>>();
        let (from, to): (Vec<u32>, Vec<u32>) = (slots(&theirs, from)?, slots(&ours, to)?);
        let (Store::Gpu(source), Store::Gpu(target)) = (&theirs.store, &ours.store) else { return Ok(false) };
        target.copy_from(engine, source, &from, &to)?;
        to.into_iter().for_each(|slot| ours.table.at(slot).seen = true);
        Ok(true)
    }

    /// An error if so many more streams are beyond what the pool may hold.
    pub(crate) fn room_for(&self, inner: &Inner, more: usize) -> Result<()> {
        let (needed, most) = (inner.table.open_streams().saturating_add(more), most_slots(&self.session));
        if needed > self.limit.min(most) {
            return Err(too_many(needed, self.limit.min(most)));
        }
        Ok(())
    }

    fn answer(&self, batch: &StreamBatch, raw: Raw, start: Instant) -> Advanced {
        let output = raw.stages.into_iter().next_back().unwrap_or_default();
        let timing = Timing { wall: start.elapsed(), gpu: raw.gpu_time, encoding: raw.encoding };
        batch.split(self.session.network(), output, timing)
    }

    /// A slot for one more stream, and whether it holds the state of an earlier one.
    pub(crate) fn take_slot(&self, inner: &mut Inner) -> Result<(StreamId, bool)> {
        self.session.gpu().map_or(Ok(()), gpu::GpuEngine::check)?;
        if inner.table.is_full() {
            self.grow(inner)?;
        }
        inner.counters.opened += 1;
        inner.table.open().ok_or_else(|| too_many(inner.table.capacity().saturating_add(1), self.limit))
    }

    fn grow(&self, inner: &mut Inner) -> Result<()> {
        let now = inner.table.capacity();
        if now >= self.limit {
            return Err(too_many(now.saturating_add(1), self.limit));
        }
        let most = most_slots(&self.session).max(now + 1);
        let capacity = now.saturating_mul(2).min(self.limit).min(most);
        match &mut inner.store {
            Store::Cpu(slots) => slots.grow(self.session.network(), capacity)?,
            Store::Gpu(slots) => *slots = slots.grown(self.session.engine()?, capacity, rounded(capacity, 3))?,
        }
        inner.table.grow(capacity)?;
        inner.growth += 1;
        log::debug!("a pool grew from {now} to {capacity} streams, {} bytes of state", inner.store.bytes());
        Ok(())
    }

    /// Gives a stream just opened its state, or its slot back.
    fn put(&self, inner: &mut Inner, id: StreamId, state: &State) -> Result<()> {
        let slot = inner.table.slot(id)?;
        if let Err(error) = self.write(inner, slot, state) {
            inner.table.close(id)?;
            return Err(error);
        }
        Ok(())
    }

    pub(super) fn write(&self, inner: &mut Inner, slot: u32, state: &State) -> Result<()> {
        match &mut inner.store {
            Store::Cpu(slots) => {
                slots.scatter(state, &[slot]);
                Ok(())
            }
            Store::Gpu(slots) => slots.write(self.session.engine()?, slot, state),
        }
    }
}

fn make_store(session: &Session, capacity: usize) -> Result<Store> {
    match session.gpu() {
        Some(engine) => gpu::Slots::new(engine, capacity, rounded(capacity, 3)).map(Store::Gpu),
        None => HostSlots::new(session.network(), capacity).map(Store::Cpu),
    }
}

/// Most slots that the device can bind.
fn most_slots(session: &Session) -> usize {
    session.gpu().map_or(MOST_SLOTS, gpu::Slots::most)
}

fn too_many(needed: usize, limit: usize) -> Error {
    Error::TooLarge {
        what: "open streams".into(),
        needed: needed as u64,
        limit: limit as u64,
        limit_name: "the pool's limit".into(),
    }
}
