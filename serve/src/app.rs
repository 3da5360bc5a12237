//! What all requests share: models, limits, and the threads that run networks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Semaphore;

use crate::Limits;
use crate::access::Token;
use crate::failure::{Failure, Kind, Result};
use crate::metrics::Metrics;
use crate::model::Loaded;

/// Bytes that one permit of [`App::bodies`] stands for.
pub const BODY_UNIT: usize = 1 << 10;

pub struct App {
    pub models: BTreeMap<String, Arc<Loaded>>,
    pub limits: Limits,
    pub token: Option<Token>,
    pub metrics: Metrics,
    /// Whether the server takes no more connections.
    pub ending: AtomicBool,
    /// Memory for bodies, in units of [`BODY_UNIT`].
    pub bodies: Semaphore,
    runs: Semaphore,
    /// Runs without state that wait or go on.
    waiting: AtomicUsize,
}

impl App {
    pub fn new(models: BTreeMap<String, Arc<Loaded>>, limits: Limits, token: Option<Token>) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let units = (limits.bodies.max(limits.body) / BODY_UNIT + 1).min(Semaphore::MAX_PERMITS);
        Self {
            models,
            limits,
            token,
            metrics: Metrics::default(),
            ending: AtomicBool::new(false),
            bodies: Semaphore::new(units),
            runs: Semaphore::new(threads),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Whether every model can answer and the server is not ending.
    pub fn is_ready(&self) -> bool {
        !self.ending.load(Relaxed) && self.models.values().all(|model| model.is_ready())
    }

    pub fn model(&self, name: &str) -> Result<&Arc<Loaded>> {
        self.models.get(name).ok_or_else(|| {
            let names: Vec<String> = self.models.keys().map(|name| format!("`{name}`")).collect();
            Failure::missing(format!("model: expected one of {}, got `{name}`", names.join(", ")))
        })
    }

    /// Runs a network on a thread of its own; as many run at once as there are cores, and the others wait.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        struct Waits<'a>(&'a AtomicUsize);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        let most = self.limits.queue.capacity;
        let before = self.waiting.fetch_add(1, Relaxed);
        let _waits = Waits(&self.waiting);
        if before >= most {
            return Err(Failure::new(Kind::Busy, format!("{most} runs wait already; try again later")));
        }
        let _turn = self.runs.acquire().await.map_err(|_| ended())?;
        wait_for(work).await
    }
}

/// Waits for work that may block.
pub async fn wait_for<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            log::error!("a request failed: {error}");
            Err(Failure::new(Kind::Internal, "the server failed at this request; its log has the reason"))
        }
    }
}

fn ended() -> Failure {
    Failure::new(Kind::Unavailable, "the server is ending")
}
