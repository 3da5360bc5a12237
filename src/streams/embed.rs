//! Records networks into an application's command encoder: they read and write buffers of the application.

#[cfg(doc)]
use super::options::PoolOptions;
use super::pool::{Inner, StreamPool};
use super::states::{StatePlace, Tier};
use super::table::{StreamId, StreamVersion};
use crate::base::error::Result;
use crate::base::lock::lock;
use crate::data::state::{PartShape, State};
use crate::gpu::{DeviceRun, GpuEngine, Slots};
use crate::session::Session;
use crate::streams::store::Store;

/// A run from the network's initial state, ready to be recorded any number of times.
#[derive(Debug)]
pub struct PreparedRun(DeviceRun);

/// A run of certain streams, ready to be recorded any number of times.
#[derive(Debug)]
pub struct StreamRun {
    streams: Vec<StreamId>,
    steps: usize,
    /// Slots of the streams.
    list: Vec<u32>,
    /// How often the pool had grown.
    growth: u64,
    run: DeviceRun,
}

impl PreparedRun {
    /// Bytes that are read of the input `[T, B, I]` (of token ids `[T, B]`) and written of the output
    /// `[T, B, N]` or `[B, N]`.
    #[must_use]
    pub fn bytes(&self) -> [u64; 2] {
        self.0.bytes()
    }
}

impl StreamRun {
    /// The streams, in the order of the batch rows.
    #[must_use]
    pub fn streams(&self) -> &[StreamId] {
        &self.streams
    }

    /// As [`PreparedRun::bytes`].
    #[must_use]
    pub fn bytes(&self) -> [u64; 2] {
        self.run.bytes()
    }
}

impl Session {
    /// Makes everything that [`Session::encode`] needs for T `steps` and B `batch` rows.
    ///
    /// # Errors
    /// [`Error::Unsupported`](crate::Error::Unsupported) on the CPU device and for a network that masks steps by their
    /// content; [`Error::TooLarge`](crate::Error::TooLarge); a lost device.
    pub fn prepare(&self, steps: usize, batch: usize) -> Result<PreparedRun> {
        let engine = self.engine()?;
        // Every row starts from the one slot, and none goes back to it.
        let slots = Slots::new(engine, 1, 1)?;
        let mut row = Vec::new();
        let parts = PartShape::all(self.network());
        PartShape::take_row(&parts, &State::initial(self.network(), 1)?, 0, &mut row);
        slots.write(engine, &[0], &row)?;
        engine.device_run(&slots, &vec![0; batch], steps, false).map(PreparedRun)
    }

    /// Records a run into the application's encoder; nothing is submitted and nothing read back.
    ///
    /// Reads `input` (usage `COPY_SRC`) as `f32` `[T, B, I]` or `u32` `[T, B]`, time-major whatever
    /// `batch_first` says, and writes `output` (usage `COPY_DST`) as `f32` `[T, B, N]` or `[B, N]`; each from
    /// its first byte, see [`PreparedRun::bytes`]. A token id outside the table is read as its last id. The call creates no
    /// GPU object. The work is one submission: choose T so small that no operating system's watchdog ends it.
    ///
    /// # Errors
    /// [`Error::Shape`](crate::Error::Shape) for a buffer that is too small or lacks its usage; a device that an earlier call found lost:
    /// the application, which submits, is the first to learn of it.
    pub fn encode(
        &self,
        run: &PreparedRun,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
    ) -> Result<()> {
        self.engine()?.record_run(&run.0, encoder, input, output)
    }
}

impl StreamPool {
    /// Makes everything that [`StreamPool::encode`] needs to advance these streams by T `steps` each.
    ///
    /// # Errors
    /// As [`Session::prepare`]; [`Error::Stream`](crate::Error::Stream) for a stream that is not open or that comes twice.
    pub fn prepare(&self, streams: &[StreamId], steps: usize) -> Result<StreamRun> {
        let mut inner = lock(&self.inner);
        let numbers = inner.table.batch(streams.iter().copied())?;
        let engine = self.session().engine()?;
        let list = self.own(&mut inner, &numbers, |_| true)?;
        self.run_of(engine, &inner, streams, steps, list)
    }

    fn run_of(
        &self,
        engine: &GpuEngine,
        inner: &Inner,
        streams: &[StreamId],
        steps: usize,
        list: Vec<u32>,
    ) -> Result<StreamRun> {
        let Store::Gpu(slots) = &inner.store else { return Err(self.session().no_gpu()) };
        let run = engine.device_run(slots, &list, steps, true)?;
        Ok(StreamRun { streams: streams.to_vec(), steps, list, growth: inner.growth, run })
    }

    /// Records a batch into the application's encoder: its streams advance by T steps once that is
    /// submitted, and their states stay in the pool. Buffers as for [`Session::encode`], row r being stream r
    /// of the run. The call creates no GPU object, unless the pool has grown since or one of the streams is in another slot:
    /// after a fork, a reset or a rewind, or because it was away from the device. With [`PoolOptions::keep_last`] it copies the states
    /// before, in a submission of its own.
    ///
    /// What is recorded must be submitted before the next call on this pool, because a slot may then belong to another stream.
    ///
    /// # Errors
    /// As [`Session::encode`]; [`Error::Stream`](crate::Error::Stream) if a stream has been closed.
    pub fn encode(
        &self,
        run: &mut StreamRun,
        encoder: &mut wgpu::CommandEncoder,
        input: &wgpu::Buffer,
        output: &wgpu::Buffer,
    ) -> Result<()> {
        let engine = self.session().engine()?;
        let mut inner = lock(&self.inner);
        let numbers = inner.table.batch(run.streams.iter().copied())?;
        let list = self.own(&mut inner, &numbers, |_| true)?;
        self.keep_copies(&mut inner, &numbers)?;
        if run.growth != inner.growth || run.list != list {
            *run = self.run_of(engine, &inner, &run.streams, run.steps, list)?;
        }
        engine.record_run(&run.run, encoder, input, output)?;
        for stream in numbers {
            let state = inner.table.now(stream).state;
            inner.table.states.set_seen(state, true);
        }
        Ok(())
    }

    /// Keeps a copy of what each of these streams is in its past; they stay in their slots, which they own.
    fn keep_copies(&self, inner: &mut Inner, streams: &[u32]) -> Result<()> {
        let keep = self.options.keep_last;
        if keep == 0 {
            return Ok(());
        }
        self.make_room(inner, streams.len(), [0; 3])?;
        let states = &mut inner.table.states;
        let to: Vec<u32> = streams.iter().filter_map(|_| states.take_row(Tier::Device)).collect();
        let from = inner.slots_of(streams).unwrap_or_default();
        if let Err(error) = inner.store.copy(self.session(), &from, &to) {
            to.into_iter().for_each(|slot| inner.table.states.give_row_back(Tier::Device, slot));
            return Err(error);
        }
        for (&stream, slot) in streams.iter().zip(to) {
            let (StreamVersion { bank, .. }, seen) = (inner.table.now(stream), inner.table.seen(stream));
            let state = inner.table.states.add(StatePlace::At(Tier::Device, slot), seen);
            bank.into_iter().for_each(|bank| inner.table.banks.hold(bank));
            inner.table.keep(stream, StreamVersion { state, bank }, keep);
        }
        Ok(())
    }
}
