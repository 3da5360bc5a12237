//! Results on their way from the device to memory.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
use std::sync::PoisonError;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Poll, Waker};
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
use std::thread::JoinHandle;
use std::time::Duration;

use super::context::Context;
use super::engine::GpuEngine;
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
use crate::base::clock::Instant;
use crate::base::error::Result;
use crate::base::lock::lock;
use crate::base::wait::wait;
use crate::data::run::{Raw, Wait};
use crate::data::state::{State, StatePart};
use crate::plan::Exchange;

/// A submitted run whose results are being copied into `staging`.
pub(crate) struct Pending<'a> {
    pub engine: &'a GpuEngine,
    pub staging: wgpu::Buffer,
    pub parts: Vec<StagedPart>,
    /// The last submission of the run: later ones of other runs are not waited for.
    pub submission: wgpu::SubmissionIndex,
    pub state: State,
    /// Time the host spent recording and submitting.
    pub encoding: Duration,
}

/// A piece of the staging buffer.
pub(crate) struct StagedPart {
    pub target: Target,
    pub offset: u64,
    pub bytes: u64,
}

/// Where a piece belongs.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    Stage,
    /// A row of a part of a layer's state.
    State {
        layer: usize,
        part: usize,
        row: usize,
    },
    /// The last timesteps of a window's input, `[P, B, I]` or as many as there are.
    LastInputs {
        layer: usize,
    },
    /// Pairs of timestamps, one per submission.
    Timestamps,
    /// The counters that show whether so many workgroups ran at the same time.
    Exchange {
        workgroups: u32,
    },
}

/// How long another thread may take to store a result that it has already received from the driver.
pub(super) const DELIVERY: Duration = Duration::from_secs(10);

/// How long a thread that has nothing left to do is waited for.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
const ENDING: Duration = Duration::from_millis(100);

/// Result of a mapping: done, or why it failed.
type MapResult = std::result::Result<(), String>;

#[derive(Default)]
struct Mapping {
    state: Mutex<MappingState>,
    came: Condvar,
}

#[derive(Default)]
struct MappingState {
    done: bool,
    result: Option<MapResult>,
    waker: Option<Waker>,
}

impl Mapping {
    /// Sets the result; only the first call counts.
    fn complete(&self, result: MapResult) {
        let mut state = lock(&self.state);
        if state.done {
            return;
        }
        state.done = true;
        state.result = Some(result);
        self.came.notify_all();
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// The result, without blocking.
    async fn result(&self) -> MapResult {
        poll_fn(|context| {
            let mut state = lock(&self.state);
            match state.result.take() {
                Some(result) => Poll::Ready(result),
                None => {
                    state.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    /// The result, once the device has been polled. A thread that polled at the same time may be the one that
    /// received it, and may not have stored it yet.
    #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
    fn delivered(&self) -> Option<MapResult> {
        let start = Instant::now();
        let mut state = lock(&self.state);
        while state.result.is_none() {
            let left = DELIVERY.checked_sub(start.elapsed())?;
            (state, _) = self.came.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        state.result.take()
    }
}

impl Pending<'_> {
    /// Blocks until the results are in memory.
    pub fn wait(self) -> Result<Raw> {
        wait("a call that ends in `_async`, or the CPU device", self.resolve(Wait::Block))
    }

    /// Waits until the results are in memory.
    pub async fn resolve(self, wait: Wait) -> Result<Raw> {
        let device = &self.context().device;
        let result = mapped(device, &self.staging, self.bytes(), self.submission.clone(), wait).await;
        self.mapped(result)
    }

    /// Gives up the results.
    pub fn forget(self) {
        self.engine.recycle(self.staging);
    }

    fn context(&self) -> &Context {
        &self.engine.context
    }

    /// Bytes of the staging buffer that are in use.
    fn bytes(&self) -> u64 {
        self.parts.last().map_or(0, |part| part.offset + part.bytes)
    }

    fn mapped(self, result: MapResult) -> Result<Raw> {
        const WHAT: &str = "reading the result back";
        result.map_err(|error| self.context().failed(WHAT, &error))?;
        let bytes = self.bytes();
        let mut raw = Raw {
            stages: Vec::new(),
            state: self.state,
            gpu_time: None,
            encoding: Some(self.encoding),
            timed_out: false,
            fallback: None,
        };
        {
            let context = &self.engine.context;
            let view = self.staging.get_mapped_range(0..bytes).map_err(|error| context.failed(WHAT, &error))?;
            for part in &self.parts {
                let start = usize::try_from(part.offset).unwrap_or(usize::MAX);
                let end = start.saturating_add(usize::try_from(part.bytes).unwrap_or(usize::MAX));
                let Some(bytes) = view.get(start..end) else {
                    return Err(context.failed(WHAT, &"the staging buffer is too short"));
                };
                match part.target {
                    Target::Stage => raw.stages.push(bytemuck::pod_collect_to_vec(bytes)),
                    Target::State { layer, part, row } => {
                        let to = raw.state.layers[layer].parts[part].row_mut(row);
                        bytemuck::cast_slice_mut(to).copy_from_slice(bytes);
                    }
                    Target::LastInputs { layer } => {
                        let inputs: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
                        put_last(&inputs, &mut raw.state.layers[layer].parts[0]);
                    }
                    Target::Exchange { workgroups } => {
                        let words: [u32; 2] = bytemuck::pod_read_unaligned(bytes);
                        raw.timed_out |= words[Exchange::TIMED_OUT] != 0 || words[Exchange::FINISHED] != workgroups;
                    }
                    Target::Timestamps => raw.gpu_time = gpu_time(bytes, context.queue.get_timestamp_period()),
                }
            }
        }
        self.staging.unmap();
        self.engine.recycle(self.staging);
        Ok(raw)
    }
}

/// Maps the first `bytes` of a buffer that `submission` copies to, once it has ended. In a browser it never blocks.
pub(super) async fn mapped(
    device: &wgpu::Device,
    staging: &wgpu::Buffer,
    bytes: u64,
    submission: wgpu::SubmissionIndex,
    wait: Wait,
) -> MapResult {
    let mapping: Arc<Mapping> = Arc::default();
    let completed = mapping.clone();
    staging.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
        completed.complete(result.map_err(|error| error.to_string()));
    });
    #[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
    return match wait {
        Wait::Block => {
            ended(device, submission)?;
            mapping.delivered().unwrap_or_else(|| Err("the driver never answered".into()))
        }
        Wait::Await => watched(device, submission, &mapping).await,
    };
    #[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
    {
        let _ = (device, submission, wait);
        mapping.result().await
    }
}

/// The result of a mapping, while a thread watches the device.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
async fn watched(device: &wgpu::Device, submission: wgpu::SubmissionIndex, mapping: &Arc<Mapping>) -> MapResult {
    let (watched, end, completed) = (device.clone(), submission.clone(), mapping.clone());
    let watcher = std::thread::Builder::new().name("gatefold readback".into()).spawn(move || {
        // Checked here, because a mapping on a lost device may never call back.
        if let Err(error) = ended(&watched, end) {
            completed.complete(Err(error));
        }
    });
    if watcher.is_err() {
        ended(device, submission)?;
    }
    let result = mapping.result().await;
    if let Ok(watcher) = watcher {
        join(watcher);
    }
    result
}

/// Waits for the end of a thread that has nothing left to do. Mesa frees what belongs to its threads when the process ends,
/// and crashes where one of them ends at the same time.
#[cfg(not(all(target_arch = "wasm32", target_os = "unknown")))]
fn join(watcher: JoinHandle<()>) {
    let start = Instant::now();
    while !watcher.is_finished() {
        if start.elapsed() > ENDING {
            return;
        }
        std::thread::yield_now();
    }
    // It does not panic: the wait for the device catches that.
    drop(watcher.join());
}

/// Waits until a submission is through, and not for later ones; an error where the device does not tell.
pub(super) fn ended(device: &wgpu::Device, submission: wgpu::SubmissionIndex) -> MapResult {
    wait_until(submission, |submission_index| device.poll(wgpu::PollType::Wait { submission_index, timeout: None }))
}

fn wait_until<I, S>(end: I, wait: impl Fn(Option<I>) -> std::result::Result<S, wgpu::PollError>) -> MapResult {
    // wgpu panics where the driver loses the device that is waited for. That is no reason for this program to end.
    let waited = catch_unwind(AssertUnwindSafe(|| match wait(Some(end)) {
        // A device that was lost before has not taken it; the mapping fails with the loss all the same.
        Err(wgpu::PollError::WrongSubmissionIndex(..)) => wait(None),
        waited => waited,
    }));
    match waited {
        Ok(waited) => waited.map(drop).map_err(|error| error.to_string()),
        Err(panic) => Err(match panic.downcast_ref::<String>() {
            Some(message) => message.split_whitespace().collect::<Vec<_>>().join(" "),
            None => "the driver lost the device".into(),
        }),
    }
}

/// Whether the device took a submission, without waiting for its end. One that is lost takes none, and wgpu says
/// nothing about it.
pub(super) fn taken(device: &wgpu::Device, submission: wgpu::SubmissionIndex) -> bool {
    let now = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(Duration::ZERO) };
    let polled = catch_unwind(AssertUnwindSafe(|| device.poll(now)));
    matches!(polled, Ok(Ok(_) | Err(wgpu::PollError::Timeout)))
}

/// Puts the last timesteps `[.., B, I]` of an input to the end of past inputs `[1, B, P, I]`.
fn put_last(inputs: &[f32], past: &mut StatePart) {
    let &[_, batch, kept, features] = &past.shape[..] else { return };
    let missing = kept - inputs.len() / (batch * features);
    for (at, numbers) in inputs.chunks_exact(features).enumerate() {
        let (step, row) = (at / batch, at % batch);
        past.data[(row * kept + missing + step) * features..][..features].copy_from_slice(numbers);
    }
}

/// Sum of the passes' durations; `None` if the driver wrote no sensible stamps.
fn gpu_time(bytes: &[u8], period_ns: f32) -> Option<Duration> {
    let stamps: Vec<u64> = bytemuck::pod_collect_to_vec(bytes);
    let mut ticks = 0;
    for pair in stamps.chunks_exact(2) {
        ticks += pair[1].checked_sub(pair[0]).filter(|_| pair[0] != 0)?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a duration of 2^53 ticks is not to be expected")]
    let nanoseconds = ticks as f64 * f64::from(period_ns);
    Some(Duration::from_secs_f64(nanoseconds * 1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device that is lost during a wait is an error, not an abort.
    #[test]
    fn a_loss_while_waiting_is_an_error() {
        let lost = |_: Option<u64>| -> std::result::Result<(), wgpu::PollError> {
            let what = "Device::poll".to_owned();
            panic!("Error in {what}:\n  Parent device is lost")
        };
        assert_eq!(wait_until(5, lost), Err("Error in Device::poll: Parent device is lost".into()));
        let lost = |_: Option<u64>| -> std::result::Result<(), wgpu::PollError> { panic!("lost") };
        assert_eq!(wait_until(5, lost), Err("the driver lost the device".into()));
        let too_late = |_: Option<u64>| -> std::result::Result<(), wgpu::PollError> { Err(wgpu::PollError::Timeout) };
        assert!(wait_until(5, too_late).is_err());
        assert_eq!(wait_until(5, |_| Ok(())), Ok(()));
    }

    /// A device lost earlier has not taken what it is waited for; then all that it took is waited for.
    #[test]
    fn what_was_never_taken_is_not_waited_for() {
        let wait = |end: Option<u64>| end.map_or(Ok(()), |end| Err(wgpu::PollError::WrongSubmissionIndex(end, 4)));
        assert_eq!(wait_until(5, wait), Ok(()));
    }

    /// A mapping without a callback gets its result from the thread that watches the device.
    #[test]
    fn the_first_result_counts() {
        let mapping = Mapping::default();
        mapping.complete(Err("lost".into()));
        mapping.complete(Ok(()));
        assert_eq!(mapping.delivered(), Some(Err("lost".into())));
        mapping.complete(Ok(()));
        assert!(lock(&mapping.state).result.is_none(), "the result has been taken already");
    }
}
