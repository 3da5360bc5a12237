//! Advances streams, in batches.

use std::marker::PhantomData;

use super::batch::{Advanced, StreamBatch};
use super::placing::Claim;
use super::pool::{Inner, StreamPool};
use super::store::Store;
use super::table::StreamId;
use crate::base::clock::Instant;
#[cfg(doc)]
use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::lock::lock;
use crate::base::span::span;
use crate::base::wait::may_block;
use crate::data::input::Input;
use crate::data::run::{Raw, RunRequest, Wait};
use crate::gpu;
use crate::reference::NO_SLOT;
use crate::session::{Session, Timing};

/// A batch whose answer is complete or pending.
enum Begun<'a> {
    Done(Raw, PhantomData<&'a Session>),
    Sent(gpu::Pending<'a>),
}

impl StreamPool {
    /// Advances streams, each by its own number of timesteps, in one batch; any of them, in any order.
    ///
    /// Each input has B = 1: `[T, 1]` or `[T, 1, I]` (`[1, T, ..]` with `batch_first`) with T at least 1.
    ///
    /// # Errors
    /// [`Error::Stream`] for a stream that is not open or that comes twice, [`Error::Shape`],
    /// [`Error::TokenOutOfRange`] (its row counts the streams of the call), [`Error::TooLarge`] for
    /// a batch beyond the adapter's limits or where there is no memory for its states, [`Error::Io`] and [`Error::Malformed`] of a
    /// page file. After these errors every stream is unchanged. [`Error::DeviceLost`]: the states are lost with the device.
    pub fn advance(&self, streams: &[(StreamId, Input<'_>)]) -> Result<Advanced> {
        if self.session.gpu().is_some() {
            // Before any stream has advanced.
            may_block("StreamPool::advance_async")?;
        }
        let start = Instant::now();
        let (batch, begun) = self.begin(&mut lock(&self.inner), streams)?;
        let raw = match begun {
            Begun::Done(raw, _) => raw,
            Begun::Sent(pending) => pending.wait()?,
        };
        Ok(self.answer(&batch, raw, start))
    }

    /// As [`StreamPool::advance`], without blocking the thread while the GPU works. The streams advance
    /// when the future is first polled; dropping it later drops only the answer. States that move away from the device
    /// ([`PoolOptions::paging`](crate::streams::PoolOptions::paging)) are waited for.
    ///
    /// # Errors
    /// As [`StreamPool::advance`].
    pub async fn advance_async(&self, streams: &[(StreamId, Input<'_>)]) -> Result<Advanced> {
        let start = Instant::now();
        let (batch, begun) = self.begin(&mut lock(&self.inner), streams)?;
        let raw = match begun {
            Begun::Done(raw, _) => raw,
            Begun::Sent(pending) => pending.resolve(Wait::Await).await?,
        };
        Ok(self.answer(&batch, raw, start))
    }

    /// Checks and submits a batch. Nothing that can fail comes after the first change of a stream.
    fn begin(&self, inner: &mut Inner, streams: &[(StreamId, Input<'_>)]) -> Result<(StreamBatch, Begun<'_>)> {
        span!("batch", streams = streams.len());
        let network = self.session.network();
        let keep = self.options.keep_last;
        let fill = !inner.store.is_cpu();
        let mut batch = StreamBatch::new(network, &mut inner.table, streams, fill, &mut inner.features)?;
        if streams.is_empty() {
            return Ok((batch, Begun::Done(Raw::default(), PhantomData)));
        }
        let claim = self.claim(inner, &batch.streams, keep > 0, |_| true)?;
        let begun = match self.submit(&mut inner.store, &batch, &claim) {
            Ok(begun) => begun,
            Err(error) => {
                inner.abandon(&claim);
                return Err(error);
            }
        };
        inner.commit(&batch.streams, &claim, &batch.seen, keep);
        inner.features = batch.take_memory();
        let steps: usize = batch.lengths.iter().sum();
        inner.counters.filled += (batch.input.steps * batch.input.batch - steps) as u64;
        inner.count(batch.lengths.len(), steps);
        Ok((batch, begun))
    }

    fn submit(&self, store: &mut Store, batch: &StreamBatch, claim: &Claim) -> Result<Begun<'_>> {
        match store {
            Store::Cpu(slots) => {
                let output = slots.advance(&self.session, &batch.input, &claim.from, &claim.to)?;
                Ok(Begun::Done(Raw { stages: vec![output], ..Raw::default() }, PhantomData))
            }
            Store::Gpu(slots) => {
                let [mut from, mut to] = [claim.from.clone(), claim.to.clone()];
                [&mut from, &mut to].into_iter().for_each(|list| list.resize(batch.input.batch, NO_SLOT));
                let start = gpu::Start::Slots(slots, [&from, &to]);
                let run = self.session.engine()?.submit_now(&batch.input, start, RunRequest::default());
                Ok(Begun::Sent(run?))
            }
        }
    }

    /// As [`StreamPool::advance`] of a pool that is locked, without reading the answer back.
    pub(crate) fn advance_unread(&self, inner: &mut Inner, streams: &[(StreamId, Input<'_>)]) -> Result<()> {
        match self.begin(inner, streams)?.1 {
            Begun::Done(..) => {}
            Begun::Sent(pending) => pending.forget(),
        }
        Ok(())
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
        let numbers =
            |inner: &Inner, ids: &[StreamId]| ids.iter().map(|&id| inner.table.number(id)).collect::<Result<_>>();
        let (from, streams): (Vec<u32>, Vec<u32>) = (numbers(&theirs, from)?, numbers(&ours, to)?);
        let Some(from) = theirs.slots_of(&from) else { return Ok(false) };
        let to = self.own(&mut ours, &streams, |_| true)?;
        let (Store::Gpu(source), Store::Gpu(target)) = (&theirs.store, &ours.store) else { return Ok(false) };
        target.copy_from(engine, source, &from, &to)?;
        for stream in streams {
            let state = ours.table.now(stream).state;
            ours.table.states.set_seen(state, true);
        }
        Ok(true)
    }

    fn answer(&self, batch: &StreamBatch, raw: Raw, start: Instant) -> Advanced {
        let output = raw.stages.into_iter().next_back().unwrap_or_default();
        let timing = Timing { wall: start.elapsed(), gpu: raw.gpu_time, encoding: raw.encoding };
        batch.split(self.session.network(), output, timing)
    }
}
