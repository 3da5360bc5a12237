//! A queue for servers: requests that arrive near each other become one batch.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use super::histogram::Histogram;
use super::pool::StreamPool;
use super::table::StreamId;
use crate::base::clock::Instant;
use crate::base::error::{Error, Result};
use crate::base::lock::lock;
use crate::base::process::process;
use crate::data::input::{Checked, Input};
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

/// What a queue has done since it was made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct QueueCounters {
    /// Requests that were answered with an output.
    pub answered: u64,
    /// Requests that were answered with an error.
    pub failed: u64,
    /// Requests that [`Ticket::cancel`] took back.
    pub cancelled: u64,
    /// Calls of [`StreamQueue::try_submit`] and [`StreamQueue::try_submit_all`] that found no room.
    pub refused: u64,
    /// Seconds that requests waited for their batch to begin.
    pub waited: Histogram,
    /// Seconds that batches took.
    pub ran: Histogram,
    /// Streams of the batches.
    pub batches: Histogram,
}

impl Default for QueueCounters {
    fn default() -> Self {
        let [waited, ran, batches] = [Histogram::SECONDS, Histogram::SECONDS, Histogram::BATCHES].map(Histogram::new);
        Self { answered: 0, failed: 0, cancelled: 0, refused: 0, waited, ran, batches }
    }
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
    counters: Mutex<QueueCounters>,
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
    /// Whether a batch has the request.
    taken: bool,
    cancelled: bool,
    /// Whether a thread waits for the answer.
    waits: bool,
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
            counters: Mutex::default(),
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

    /// What it has done so far.
    #[must_use]
    pub fn counters(&self) -> QueueCounters {
        if self.shared.is_a_parents() { QueueCounters::default() } else { lock(&self.shared.counters).clone() }
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
        Ok(self.try_submit_all([(stream, chunk)])?.pop().unwrap_or_else(Ticket::closed))
    }

    /// Submits several requests if the queue has room for all of them; otherwise none. The tickets are in their order.
    ///
    /// # Errors
    /// [`Error::QueueFull`]
    pub fn try_submit_all(
        &self,
        requests: impl IntoIterator<Item = (StreamId, Chunk), IntoIter: ExactSizeIterator>,
    ) -> Result<Vec<Ticket>> {
        let requests = requests.into_iter();
        if self.shared.is_a_parents() {
            return Ok(requests.map(|_| Ticket::closed()).collect());
        }
        let mut waiting = lock(&self.shared.waiting);
        let capacity = self.shared.options.capacity;
        if waiting.requests.len() + requests.len() > capacity && !waiting.ending {
            lock(&self.shared.counters).refused += 1;
            return Err(Error::QueueFull { capacity });
        }
        let (mut tickets, mut wakes) = (Vec::with_capacity(requests.len()), false);
        for (stream, chunk) in requests {
            let (ticket, wake) = self.shared.add(&mut waiting, stream, chunk);
            tickets.push(ticket);
            wakes |= wake;
        }
        drop(waiting);
        if wakes {
            self.shared.work.notify_one();
        }
        Ok(tickets)
    }

    /// Whether a request must wait because the queue is full. If the worker has ended, it is answered at once instead.
    fn is_full(&self, waiting: &Waiting) -> bool {
        waiting.requests.len() >= self.shared.options.capacity && !waiting.ending
    }

    fn push(&self, mut waiting: MutexGuard<'_, Waiting>, stream: StreamId, chunk: Chunk) -> Ticket {
        let (ticket, wakes) = self.shared.add(&mut waiting, stream, chunk);
        drop(waiting);
        if wakes {
            self.shared.work.notify_one();
        }
        ticket
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

    /// Adds a request. Says too whether the worker must be woken: it sleeps until there is a request, and then until the batch is full
    /// or its time has come.
    fn add(&self, waiting: &mut Waiting, stream: StreamId, chunk: Chunk) -> (Ticket, bool) {
        if waiting.ending {
            // The worker has ended.
            return (Ticket::closed(), false);
        }
        let slot = Arc::new(TicketSlot::new(self.process));
        *waiting.streams.entry(stream).or_default() += 1;
        let reply = Reply(slot.clone());
        waiting.requests.push_back(Request { stream, chunk, since: Instant::now(), reply });
        let wakes = waiting.requests.len() == 1 || waiting.streams.len() >= self.options.max_batch;
        (Ticket(slot), wakes)
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
                let before = waiting.requests.len();
                let batch = waiting.take(self.options.max_batch);
                let cancelled = before - waiting.requests.len() - batch.len();
                self.there_is_room(waiting);
                lock(&self.counters).cancelled += cancelled as u64;
                if batch.is_empty() {
                    waiting = lock(&self.waiting);
                    continue;
                }
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
        let start = Instant::now();
        let network = self.pool.session().network();
        let inputs: Vec<_> = batch.iter().map(|request| (request.stream, request.chunk.input(network))).collect();
        match self.pool.advance(&inputs) {
            Ok(advanced) => {
                self.count(batch, start, 0);
                for (index, request) in batch.iter().enumerate() {
                    let (values, steps) = (advanced.values(index).to_vec(), advanced.steps(index));
                    request.reply.send(Ok(Answer { values, steps, batch: batch.len() }));
                }
            }
            // One request has an error, so the batch changed nothing. Each request is run by itself.
            Err(error) => {
                log::info!("running a batch of {} requests one by one: {error}", batch.len());
                let mut failed = 0;
                for (request, input) in batch.iter().zip(&inputs) {
                    let alone = self.pool.advance(std::slice::from_ref(input));
                    failed += u64::from(alone.is_err());
                    let answer = |advanced: super::Advanced| Answer {
                        values: advanced.values(0).to_vec(),
                        steps: advanced.steps(0),
                        batch: 1,
                    };
                    request.reply.send(alone.map(answer));
                }
                self.count(batch, start, failed);
            }
        }
    }

    /// Counts a batch that began at `start`, of whose requests some `failed`.
    fn count(&self, batch: &[Request], start: Instant, failed: u64) {
        let mut counters = lock(&self.counters);
        counters.answered += batch.len() as u64 - failed;
        counters.failed += failed;
        counters.ran.add(start.elapsed().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a batch has few streams")]
        counters.batches.add(batch.len() as f64);
        for request in batch {
            counters.waited.add(start.duration_since(request.since).as_secs_f64());
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
    /// The oldest requests, one of each stream; those that were cancelled are left out.
    fn take(&mut self, most: usize) -> Vec<Request> {
        let mut taken = HashSet::with_capacity(most.min(self.requests.len()));
        let (mut batch, mut rest) = (Vec::with_capacity(most.min(self.requests.len())), VecDeque::new());
        let mut requests = std::mem::take(&mut self.requests);
        while let Some(request) = requests.pop_front() {
            if batch.len() == most {
                rest.push_back(request);
                break;
            }
            if taken.contains(&request.stream) {
                // One that was cancelled must not make the next batch start early.
                if lock(&request.reply.0.state).cancelled {
                    self.forget(request.stream);
                } else {
                    rest.push_back(request);
                }
                continue;
            }
            self.forget(request.stream);
            if request.reply.take() {
                taken.insert(request.stream);
                batch.push(request);
            }
        }
        rest.append(&mut requests);
        self.requests = rest;
        batch
    }

    /// Counts one request of a stream less.
    fn forget(&mut self, stream: StreamId) {
        if let Some(left) = self.streams.get_mut(&stream) {
            *left -= 1;
            if *left == 0 {
                self.streams.remove(&stream);
            }
        }
    }
}

impl Chunk {
    /// Whether a stream of `network` can be advanced by it. A request that cannot be done makes the queue run the others of its batch one
    /// by one, which a server prevents with this check.
    ///
    /// # Errors
    /// As [`StreamPool::advance`] for a chunk of the wrong kind or width, of no steps, or with a token outside the table.
    pub fn check(&self, network: &Network) -> Result<()> {
        let checked = Checked::of_first(network, self.input(network))?;
        network.cuts().map_or(Ok(()), |cuts| cuts.check_steps("input", checked.steps))
    }

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
    /// Puts the request into a batch, unless it was cancelled.
    fn take(&self) -> bool {
        let mut state = lock(&self.0.state);
        state.taken = !state.cancelled;
        state.taken
    }

    fn send(&self, answer: Result<Answer>) {
        let mut state = lock(&self.0.state);
        state.answer = Some(answer);
        state.answered = true;
        // Without this question every answer costs a call of the system.
        if state.waits {
            self.0.came.notify_all();
        }
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

    /// Takes the request back, if it is not in a batch yet: then it will not be run, and this returns true. Otherwise it is run, and its
    /// answer is lost.
    pub fn cancel(self) -> bool {
        if self.0.process != process() {
            return false;
        }
        let mut state = lock(&self.0.state);
        state.cancelled = !state.taken && !state.answered;
        state.cancelled
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
            state.waits = true;
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
