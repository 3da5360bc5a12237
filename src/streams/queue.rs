//! A queue for servers: requests that arrive near each other become one batch.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::pool::StreamPool;
use super::table::StreamId;
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::base::process::process;
use crate::data::input::Input;
use crate::network::Network;

/// When a batch starts, and how many requests may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueOptions {
    /// How long the oldest request waits for others.
    pub deadline: Duration,
    /// Streams of one batch; as soon as so many have a request, it starts.
    pub max_batch: usize,
    /// Requests that may wait; if there are more, callers wait too, or get [`Error::QueueFull`].
    pub capacity: usize,
}

impl Default for QueueOptions {
    /// 1 ms, batches of 256, at most 4096 waiting requests.
    fn default() -> Self {
        Self { deadline: Duration::from_millis(1), max_batch: 256, capacity: 4096 }
    }
}

/// The new timesteps of one stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Chunk {
    /// Token ids `[T]`.
    Tokens(Vec<u32>),
    /// Vectors `[T, I]`, row-major.
    Features(Vec<f32>),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Answer {
    /// `[T, N]`, or `[N]` where the network's output has no time dimension.
    pub values: Vec<f32>,
    /// T
    pub steps: usize,
    /// How many streams its batch had.
    pub batch: usize,
}

/// Collects requests of many callers into batches of a [`StreamPool`], first come, first served.
///
/// A batch takes the oldest requests, one of each stream: a stream's second request waits for the next
/// batch, so that its steps stay in order and no stream delays the others. A request that cannot be
/// done is answered with its error; the others of its batch are not affected. Dropping the queue first answers the
/// waiting requests. In a forked child, which has none of its parent's threads, every request is answered with
/// [`Error::QueueClosed`].
#[derive(Debug)]
pub struct StreamQueue {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    pool: Arc<StreamPool>,
    options: QueueOptions,
    /// The process whose thread runs the batches.
    process: u32,
    waiting: Mutex<Waiting>,
    /// Notified when a request arrives or the queue ends.
    work: Condvar,
    /// Notified when requests have been taken.
    room: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    /// How many requests each stream has.
    streams: HashMap<StreamId, usize>,
    /// Wakers of the callers that await free capacity.
    held_back: Vec<Waker>,
    ending: bool,
}

#[derive(Debug)]
struct Request {
    stream: StreamId,
    chunk: Chunk,
    since: Instant,
    reply: Reply,
}

/// The worker's side of a ticket. If it is dropped unused, the caller is informed that no answer will come.
#[derive(Debug)]
struct Reply(Arc<TicketSlot>);

/// A pending request. Wait for the answer with [`Ticket::wait`], or await it.
#[derive(Debug)]
#[must_use = "the answer comes through it"]
pub struct Ticket(Arc<TicketSlot>);

#[derive(Debug)]
struct TicketSlot {
    /// The process that answers the request.
    process: u32,
    state: Mutex<TicketState>,
    came: Condvar,
}

#[derive(Debug, Default)]
struct TicketState {
    answer: Option<Result<Answer>>,
    answered: bool,
    waker: Option<Waker>,
}

impl StreamQueue {
    /// A queue in front of `pool`, with a thread that runs its batches.
    ///
    /// # Errors
    /// [`Error::Shape`] if an option is 0; [`Error::Io`] if no thread can be started.
    pub fn new(pool: impl Into<Arc<StreamPool>>, options: QueueOptions) -> Result<Self> {
        if options.max_batch == 0 || options.capacity == 0 {
            return Err(Error::shape("queue", "max_batch and capacity at least 1", format!("{options:?}")));
        }
        let shared = Arc::new(Shared {
            pool: pool.into(),
            options,
            process: process(),
            waiting: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let own = shared.clone();
        let worker = std::thread::Builder::new().name("gatefold queue".into()).spawn(move || own.run());
        let worker = worker.map_err(|source| Error::Io { path: "thread".into(), source })?;
        Ok(Self { shared, worker: Some(worker) })
    }

    /// The pool.
    #[must_use]
    pub fn pool(&self) -> &Arc<StreamPool> {
        &self.shared.pool
    }

    /// Number of requests that wait for their batch.
    #[must_use]
    pub fn waiting(&self) -> usize {
        if self.shared.is_a_parents() { 0 } else { lock(&self.shared.waiting).requests.len() }
    }

    /// Submits a request; if the queue is full, waits until it is not.
    pub fn submit(&self, stream: StreamId, chunk: Chunk) -> Ticket {
        if self.shared.is_a_parents() {
            return Ticket::closed();
        }
        let mut waiting = lock(&self.shared.waiting);
        while self.is_full(&waiting) {
            waiting = self.shared.room.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        self.push(waiting, stream, chunk)
    }

    /// As [`StreamQueue::submit`], without blocking the thread: if the queue is full, the future waits. If it is
    /// dropped before it is ready, no request has been submitted.
    pub async fn submit_async(&self, stream: StreamId, chunk: Chunk) -> Ticket {
        if self.shared.is_a_parents() {
            return Ticket::closed();
        }
        let mut chunk = Some(chunk);
        poll_fn(|context| {
            let mut waiting = lock(&self.shared.waiting);
            if self.is_full(&waiting) {
                let waker = context.waker();
                if !waiting.held_back.iter().any(|held_back| held_back.will_wake(waker)) {
                    waiting.held_back.push(waker.clone());
                }
                return Poll::Pending;
            }
            chunk.take().map_or(Poll::Pending, |chunk| Poll::Ready(self.push(waiting, stream, chunk)))
        })
        .await
    }

    /// Submits a request if the queue is not full.
    ///
    /// # Errors
    /// [`Error::QueueFull`]
    pub fn try_submit(&self, stream: StreamId, chunk: Chunk) -> Result<Ticket> {
        if self.shared.is_a_parents() {
            return Ok(Ticket::closed());
        }
        let waiting = lock(&self.shared.waiting);
        if self.is_full(&waiting) {
            return Err(Error::QueueFull { capacity: self.shared.options.capacity });
        }
        Ok(self.push(waiting, stream, chunk))
    }

    /// Whether a request must wait because the queue is full. If the worker has ended, it is answered at once instead.
    fn is_full(&self, waiting: &Waiting) -> bool {
        waiting.requests.len() >= self.shared.options.capacity && !waiting.ending
    }

    fn push(&self, mut waiting: MutexGuard<'_, Waiting>, stream: StreamId, chunk: Chunk) -> Ticket {
        if waiting.ending {
            // The worker has ended.
            return Ticket::closed();
        }
        let slot = Arc::new(TicketSlot::new(self.shared.process));
        *waiting.streams.entry(stream).or_default() += 1;
        let reply = Reply(slot.clone());
        waiting.requests.push_back(Request { stream, chunk, since: Instant::now(), reply });
        self.shared.work.notify_one();
        Ticket(slot)
    }
}

impl Drop for StreamQueue {
    fn drop(&mut self) {
        if self.shared.is_a_parents() {
            // There is no thread to wait for.
            std::mem::forget(self.worker.take());
            return;
        }
        lock(&self.shared.waiting).ending = true;
        self.shared.work.notify_one();
        if let Some(worker) = self.worker.take() {
            // A panic of the worker has been answered through every ticket.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Whether this is a forked child: the worker is a thread of its parent, and locks may stay held.
    fn is_a_parents(&self) -> bool {
        self.process != process()
    }

    fn run(&self) {
        let _end = End(self);
        while let Some(batch) = self.next() {
            self.advance(&batch);
        }
    }

    /// The next batch, once it is full or its time has come; `None` after the last.
    fn next(&self) -> Option<Vec<Request>> {
        let mut waiting = lock(&self.waiting);
        loop {
            let Some(oldest) = waiting.requests.front() else {
                if waiting.ending {
                    return None;
                }
                waiting = self.work.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = self.options.deadline.saturating_sub(oldest.since.elapsed());
            if waiting.ending || left.is_zero() || waiting.streams.len() >= self.options.max_batch {
                let batch = waiting.take(self.options.max_batch);
                self.there_is_room(waiting);
                return Some(batch);
            }
            (waiting, _) = self.work.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Wakes all callers that wait for free capacity.
    fn there_is_room(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let held_back = std::mem::take(&mut waiting.held_back);
        drop(waiting);
        self.room.notify_all();
        held_back.into_iter().for_each(Waker::wake);
    }

    fn advance(&self, batch: &[Request]) {
        let network = self.pool.session().network();
        let inputs: Vec<_> = batch.iter().map(|request| (request.stream, request.chunk.input(network))).collect();
        match self.pool.advance(&inputs) {
            Ok(advanced) => {
                for (index, request) in batch.iter().enumerate() {
                    let (values, steps) = (advanced.values(index).to_vec(), advanced.steps(index));
                    request.reply.send(Ok(Answer { values, steps, batch: batch.len() }));
                }
            }
            // One request has an error, so the batch changed nothing. Each request is run by itself.
            Err(error) => {
                log::info!("running a batch of {} requests one by one: {error}", batch.len());
                for (request, input) in batch.iter().zip(&inputs) {
                    let alone = self.pool.advance(std::slice::from_ref(input));
                    let answer = |advanced: super::Advanced| Answer {
                        values: advanced.values(0).to_vec(),
                        steps: advanced.steps(0),
                        batch: 1,
                    };
                    request.reply.send(alone.map(answer));
                }
            }
        }
    }
}

/// When the worker ends, also by a panic, this ends the waiting of all callers.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.0.waiting);
        waiting.ending = true;
        let requests = std::mem::take(&mut waiting.requests);
        self.0.there_is_room(waiting);
        drop(requests);
    }
}

impl Waiting {
    /// The oldest requests, one of each stream.
    fn take(&mut self, most: usize) -> Vec<Request> {
        let mut taken = BTreeSet::new();
        let (mut batch, mut rest) = (Vec::new(), VecDeque::new());
        for request in self.requests.drain(..) {
            if batch.len() < most && taken.insert(request.stream) {
                batch.push(request);
            } else {
                rest.push_back(request);
            }
        }
        self.requests = rest;
        for stream in taken {
            if let Some(left) = self.streams.get_mut(&stream) {
                *left -= 1;
                if *left == 0 {
                    self.streams.remove(&stream);
                }
            }
        }
        batch
    }
}

impl Chunk {
    /// As the input of a run; its last dimension is wrong if the numbers do not make up whole steps.
    fn input(&self, network: &Network) -> Input<'_> {
        let order = |steps| if network.batch_first() { [1, steps] } else { [steps, 1] };
        match self {
            Self::Tokens(tokens) => Input::tokens(tokens, order(tokens.len())).with_axes(network.input_axes()),
            Self::Features(values) => {
                let width = network.input_size().max(1);
                let [a, b] = order(values.len().div_ceil(width));
                Input::features(values, [a, b, width]).with_axes(network.input_axes())
            }
        }
    }
}

impl Reply {
    fn send(&self, answer: Result<Answer>) {
        let mut state = lock(&self.0.state);
        state.answer = Some(answer);
        state.answered = true;
        self.0.came.notify_all();
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !lock(&self.0.state).answered {
            self.send(Err(Error::QueueClosed));
        }
    }
}

impl TicketSlot {
    /// To be answered by a thread of `process`.
    fn new(process: u32) -> Self {
        Self { process, state: Mutex::default(), came: Condvar::new() }
    }

    /// The answer in a forked child, if this was made before the fork: one that came before the fork, or an error.
    fn of_a_parent(&self) -> Option<Result<Answer>> {
        (self.process != process()).then(|| {
            let came = self.state.try_lock().ok().and_then(|mut state| state.answer.take());
            came.unwrap_or(Err(Error::QueueClosed))
        })
    }
}

impl Ticket {
    /// Of a request that no worker will see; dropping the reply reports that.
    fn closed() -> Self {
        let slot = Arc::new(TicketSlot::new(process()));
        drop(Reply(slot.clone()));
        Self(slot)
    }

    /// Blocks until the answer is there.
    ///
    /// # Errors
    /// As [`StreamPool::advance`] for this request alone; [`Error::QueueClosed`] if the queue's thread panicked
    /// or is that of a parent process.
    pub fn wait(self) -> Result<Answer> {
        if let Some(answer) = self.0.of_a_parent() {
            return answer;
        }
        let mut state = lock(&self.0.state);
        loop {
            if let Some(answer) = state.answer.take() {
                return answer;
            }
            state = self.0.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for Ticket {
    type Output = Result<Answer>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.0.of_a_parent() {
            return Poll::Ready(answer);
        }
        let mut state = lock(&self.0.state);
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
