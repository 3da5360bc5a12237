//! The sequences of a model: which stream of the pool each one is, and when it was last used.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gatefold::streams::Ticket;
use gatefold::{State, StreamId, StreamPool};

use crate::failure::{Failure, Kind, Result};

/// A lock's content even after another thread's panic.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open sequence. Its stream is closed when it is in no table and no request uses it.
#[derive(Debug)]
pub struct Sequence {
    pub stream: StreamId,
    /// Timesteps that it has read.
    steps: AtomicU64,
    used: Mutex<Instant>,
    common: Arc<Common>,
}

/// What the sequences of a model share.
#[derive(Debug)]
struct Common {
    pool: Arc<StreamPool>,
    /// Streams whose sequences have ended. They are closed by a thread that may wait for the pool.
    ended: Mutex<Vec<StreamId>>,
    /// Sequences that exist, those with requests under way included.
    open: AtomicU64,
}

impl Drop for Sequence {
    fn drop(&mut self) {
        lock(&self.common.ended).push(self.stream);
        self.common.open.fetch_sub(1, Relaxed);
    }
}

impl Sequence {
    pub fn steps(&self) -> u64 {
        self.steps.load(Relaxed)
    }

    /// How long no request has used it.
    pub fn idle(&self) -> Duration {
        lock(&self.used).elapsed()
    }

    fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }
}

/// The sequences of a model by name.
#[derive(Debug)]
pub struct Sequences {
    table: Mutex<HashMap<String, Arc<Sequence>>>,
    common: Arc<Common>,
    most: usize,
    idle: Duration,
    opened: AtomicU64,
    expired: AtomicU64,
}

/// A sequence as a list shows it.
#[derive(Debug, serde::Serialize)]
pub struct Listed {
    pub sequence_id: String,
    pub steps: u64,
    pub idle_seconds: f64,
}

impl Sequences {
    /// At most `most`; those that no request uses for longer than `idle` end.
    pub fn new(pool: Arc<StreamPool>, most: usize, idle: Duration) -> Self {
        let common = Arc::new(Common { pool, ended: Mutex::default(), open: AtomicU64::new(0) });
        let (opened, expired) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { table: Mutex::default(), common, most, idle, opened, expired }
    }

    /// The sequence of this name, which is used now.
    pub fn find(&self, name: &str) -> Result<Arc<Sequence>> {
        self.look(name).inspect(|sequence| sequence.touch())
    }

    /// As [`Sequences::find`], without using it.
    pub fn look(&self, name: &str) -> Result<Arc<Sequence>> {
        let found = lock(&self.table).get(name).cloned();
        found.ok_or_else(|| {
            let idle = self.idle.as_secs_f64();
            Failure::missing(format!(
                "sequence `{name}` is not open: expected sequence_start in its first request, and less than {idle} s between two"
            ))
        })
    }

    /// A sequence in the network's initial state, in no table yet. It may wait for the pool.
    pub fn open(&self) -> Result<Arc<Sequence>> {
        self.open_after(0)
    }

    /// As [`Sequences::open`], for a state behind so many timesteps.
    pub fn open_after(&self, steps: u64) -> Result<Arc<Sequence>> {
        self.add(StreamPool::open, steps)
    }

    /// A sequence that is what another is. It may wait for the pool.
    pub fn fork(&self, from: &Sequence) -> Result<Arc<Sequence>> {
        self.add(|pool| pool.fork(from.stream), from.steps())
    }

    /// A sequence in a state. It may wait for the pool.
    pub fn restore(&self, state: &State, steps: u64) -> Result<Arc<Sequence>> {
        let sequence = self.open_after(steps)?;
        self.common.pool.restore(sequence.stream, state)?;
        Ok(sequence)
    }

    fn add(&self, open: impl FnOnce(&StreamPool) -> gatefold::Result<StreamId>, steps: u64) -> Result<Arc<Sequence>> {
        self.close_ended();
        if self.common.open.fetch_add(1, Relaxed) >= self.most as u64 {
            self.common.open.fetch_sub(1, Relaxed);
            return Err(Failure::new(
                Kind::Busy,
                format!("sequences: expected at most {} open ones (--max-sequences), got one more", self.most),
            ));
        }
        let stream = match open(&self.common.pool) {
            Ok(stream) => stream,
            Err(error) => {
                self.common.open.fetch_sub(1, Relaxed);
                return Err(error.into());
            }
        };
        self.opened.fetch_add(1, Relaxed);
        let (steps, used) = (AtomicU64::new(steps), Mutex::new(Instant::now()));
        Ok(Arc::new(Sequence { stream, steps, used, common: self.common.clone() }))
    }

    /// Puts a sequence into the table. One that has its name ends, once the requests that use it are done.
    pub fn insert(&self, name: &str, sequence: Arc<Sequence>) {
        let before = lock(&self.table).insert(name.to_owned(), sequence);
        drop(before);
    }

    /// Takes a sequence out of the table. It ends once the requests that use it are done.
    pub fn remove(&self, name: &str, sequence: &Arc<Sequence>) {
        let mut table = lock(&self.table);
        // Meanwhile the name may be that of another sequence.
        let removed = match table.get(name) {
            Some(found) if Arc::ptr_eq(found, sequence) => table.remove(name),
            _ => None,
        };
        drop(table);
        drop(removed);
    }

    /// Ends sequences that were idle for too long, and closes the streams of those that have ended. It may wait for the pool.
    pub fn sweep(&self) {
        let mut old = Vec::new();
        lock(&self.table).retain(|_, sequence| {
            // The table alone holds a sequence without requests.
            let keep = Arc::strong_count(sequence) > 1 || sequence.idle() <= self.idle;
            if !keep {
                old.push(sequence.clone());
            }
            keep
        });
        self.expired.fetch_add(old.len() as u64, Relaxed);
        drop(old);
        self.close_ended();
    }

    fn close_ended(&self) {
        let ended = std::mem::take(&mut *lock(&self.common.ended));
        for stream in ended {
            if let Err(error) = self.common.pool.close(stream) {
                log::warn!("{error}");
            }
        }
    }

    /// All sequences by name, in the order of their names.
    pub fn all(&self) -> Vec<(String, Arc<Sequence>)> {
        let mut all: Vec<_> =
            lock(&self.table).iter().map(|(name, sequence)| (name.clone(), sequence.clone())).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    pub fn list(&self) -> Vec<Listed> {
        self.all().into_iter().map(|(name, sequence)| Listed::new(name, &sequence)).collect()
    }

    /// Open sequences, how many were opened, and how many ended because they were idle.
    pub fn counts(&self) -> [u64; 3] {
        [self.common.open.load(Relaxed), self.opened.load(Relaxed), self.expired.load(Relaxed)]
    }

    pub fn pool(&self) -> &Arc<StreamPool> {
        &self.common.pool
    }
}

impl Listed {
    pub fn new(sequence_id: String, sequence: &Sequence) -> Self {
        Self { sequence_id, steps: sequence.steps(), idle_seconds: sequence.idle().as_secs_f64() }
    }
}

/// A request of a sequence that is under way. If the client goes away, it is taken back unless it is running already.
#[derive(Debug)]
pub struct UnderWay {
    pub sequence: Arc<Sequence>,
    ticket: Option<Ticket>,
    steps: u64,
}

impl UnderWay {
    pub fn new(sequence: Arc<Sequence>, ticket: Ticket, steps: usize) -> Self {
        Self { sequence, ticket: Some(ticket), steps: steps as u64 }
    }

    /// Waits for the output.
    pub async fn answer(mut self) -> Result<Vec<f32>> {
        let Some(ticket) = &mut self.ticket else { return Ok(Vec::new()) };
        let answer = ticket.await;
        self.ticket = None;
        self.sequence.touch();
        let answer = answer?;
        self.sequence.steps.fetch_add(self.steps, Relaxed);
        Ok(answer.values)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && !ticket.cancel()
        {
            self.sequence.steps.fetch_add(self.steps, Relaxed);
        }
    }
}
