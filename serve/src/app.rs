//! What all requests share: models, limits, and the threads that run networks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Limits;
use crate::access::Token;
use crate::failure::{Failure, Kind, Result};
use crate::metrics::Metrics;
use crate::model::Loaded;

/// Bytes that one permit of [`App::bodies`] stands for.
pub const BODY_UNIT: usize = 1 << 10;

/// The memory of a body: its place in [`App::bodies`], until the request and all of its work are done.
pub type BodyMemory = Option<Arc<OwnedSemaphorePermit>>;

pub struct App {
    pub models: BTreeMap<String, Arc<Loaded>>,
    pub limits: Limits,
    pub token: Option<Token>,
    pub metrics: Metrics,
    /// Whether the server takes no more connections.
    pub ending: AtomicBool,
    /// Memory for bodies, in units of [`BODY_UNIT`].
    pub bodies: Arc<Semaphore>,
    runs: Arc<Semaphore>,
    /// Runs without state that wait or go on.
    waiting: Arc<AtomicUsize>,
}

impl App {
    pub fn new(models: BTreeMap<String, Arc<Loaded>>, limits: Limits, token: Option<Token>) -> Self {
        let threads = gatefold::CpuOptions::default_threads();
        let units = (limits.bodies.max(limits.body) / BODY_UNIT + 1).min(Semaphore::MAX_PERMITS);
        Self {
            models,
            limits,
            token,
            metrics: Metrics::default(),
            ending: AtomicBool::new(false),
            bodies: Arc::new(Semaphore::new(units)),
            runs: Arc::new(Semaphore::new(threads)),
            waiting: Arc::default(),
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

    /// Runs a network on a thread of its own; as many run at once as there are cores, and the others wait. A run goes on when its client
    /// goes away: until it is done it counts, and it holds the memory of its body.
    pub async fn run<T: Send + 'static>(
        &self,
        memory: BodyMemory,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        struct Waits(Arc<AtomicUsize>);
        impl Drop for Waits {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Relaxed);
            }
        }
        let most = self.limits.queue.capacity;
        let before = self.waiting.fetch_add(1, Relaxed);
        let waits = Waits(self.waiting.clone());
        if before >= most {
            return Err(Failure::new(Kind::Busy, format!("{most} runs wait already; try again later")));
        }
        let turn = self.runs.clone().acquire_owned().await.map_err(|_| ended())?;
        wait_for(move || {
            let _held = (waits, turn, memory);
            work()
        })
        .await
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gatefold::streams::QueueOptions;

    use super::*;

    /// The work of a client that went away goes on, so that it takes its place until it is done.
    #[test]
    fn a_run_without_its_client_counts() {
        let queue = QueueOptions { capacity: 1, ..QueueOptions::default() };
        let app = App::new(BTreeMap::new(), Limits { queue, ..Limits::default() }, None);
        let memory = app.bodies.available_permits();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let body = Arc::new(app.bodies.clone().acquire_many_owned(3).await.unwrap());
            let run = app.run(Some(body), move || {
                let _ = wait.recv();
                Ok(())
            });
            assert!(tokio::time::timeout(Duration::from_millis(100), run).await.is_err(), "its client goes away");
            assert_eq!(app.bodies.available_permits(), memory - 3);
            assert_eq!(app.run(None, || Ok(())).await.unwrap_err().kind, Kind::Busy);
            go.send(()).unwrap();
            let mut tries = 0;
            while app.run(None, || Ok(())).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                tries += 1;
                assert!(tries < 1000, "its place is free once it is done");
            }
            assert_eq!(app.bodies.available_permits(), memory);
        });
    }
}
