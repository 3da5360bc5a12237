//! The server: it loads, listens, answers and ends.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use axum::response::{IntoResponse as _, Response};
use gatefold::{Device, Error, Result};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tower_service::Service as _;

use crate::access::Token;
use crate::app::App;
use crate::failure::Kind;
use crate::model::Loaded;
use crate::patient::Patient;
use crate::routes::{router, timed_infer};
use crate::{Model, Options, states};

/// How often sequences that are idle are looked for.
const SWEEP: Duration = Duration::from_millis(100);
/// After this time a failed accept is tried again, and it is asked whether to end.
const PAUSE: Duration = Duration::from_millis(50);

/// A server that has loaded its models and has its address.
pub struct Server {
    app: Arc<App>,
    listener: StdListener,
    options: Options,
    restored: usize,
    /// Files of the sequences that were opened.
    read: Vec<states::Read>,
}

/// What a server that has ended says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ended {
    /// Sequences that were stored.
    pub stored: usize,
    /// Connections that were cut because their requests did not end in time.
    pub cut: u64,
}

impl Server {
    /// Loads `models` onto `device`, opens the sequences that an earlier server stored, and takes the address. Clients can connect from
    /// now on; they are answered once the server runs.
    ///
    /// # Errors
    /// [`Error::Option`] for names that no path can hold, two models of one name, none at all, and a token that is too short; what
    /// [`Session::new`](gatefold::Session::new) refuses; [`Error::Malformed`] for damaged files of sequences; [`Error::Io`].
    pub fn bind(device: &Device, models: Vec<Model>, options: Options) -> Result<Self> {
        let option = |option: &str, expected: &str, got: String| Error::Option {
            option: option.into(),
            expected: expected.into(),
            got,
        };
        if models.is_empty() {
            return Err(option("models", "at least one", "none".into()));
        }
        options.limits.check()?;
        let token = options.token.as_deref().map(Token::new).transpose()?;
        let io = |path: &str, source| Error::Io { path: path.into(), source };
        let listener = StdListener::bind(options.listen).map_err(|source| io(&options.listen.to_string(), source))?;
        listener.set_nonblocking(true).map_err(|source| io("listener", source))?;
        let mut loaded = BTreeMap::new();
        for model in models {
            let name = model.name.clone();
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.len() > 128 || !name.chars().all(plain) || name.starts_with('.') {
                return Err(option("model name", "letters, digits, ., _ and -, at most 128", format!("{name:?}")));
            }
            if loaded.insert(name.clone(), Arc::new(Loaded::new(device, model, &options.limits)?)).is_some() {
                return Err(option("model name", "each name once", format!("`{name}` twice")));
            }
        }
        let (mut restored, mut read) = (0, Vec::new());
        if let Some(folder) = &options.state {
            std::fs::create_dir_all(folder).map_err(|source| io(&folder.display().to_string(), source))?;
            for model in loaded.values() {
                let (opened, file) = states::restore(folder, model)?;
                restored += opened;
                read.extend(file);
            }
        }
        let app = Arc::new(App::new(loaded, options.limits, token));
        Ok(Self { app, listener, options, restored, read })
    }

    /// The address it listens on; the port is that of the system where 0 was asked for.
    ///
    /// # Errors
    /// [`Error::Io`]
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|source| Error::Io { path: "listener".into(), source })
    }

    /// How many sequences of an earlier server were opened.
    #[must_use]
    pub fn restored(&self) -> usize {
        self.restored
    }

    /// As [`Server::run`], until `stop` says so; it is asked twenty times a second.
    ///
    /// # Errors
    /// As [`Server::run`].
    pub fn run_until(self, stop: impl Fn() -> bool) -> Result<Ended> {
        self.run(async {
            while !stop() {
                tokio::time::sleep(PAUSE).await;
            }
        })
    }

    /// Answers until `stop` is ready; then it takes no more connections, finishes the requests that have begun, and stores
    /// the sequences.
    ///
    /// # Errors
    /// [`Error::Io`] if threads or the files of the sequences cannot be made, or those that were read cannot be renamed.
    pub fn run(self, stop: impl Future<Output = ()>) -> Result<Ended> {
        let Self { app, listener, options, read, .. } = self;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("gatefold serve")
            .build()
            .map_err(|source| Error::Io { path: "thread".into(), source })?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener).map_err(|source| Error::Io { path: "listener".into(), source })?
        };
        // Only now: a server that fails before it answers leaves the files as they were.
        if let Some(folder) = &options.state {
            states::rename_read(folder, &read)?;
        }
        let cut = runtime.block_on(serve(&app, listener, stop));
        // Waits for no thread that still runs a request of a connection that was cut.
        runtime.shutdown_timeout(Duration::from_millis(if cut == 0 { 1000 } else { 1 }));
        let (mut stored, mut failed) = (0, None);
        if let Some(folder) = &options.state {
            // The sequences of one model are stored also if those of another cannot be.
            for model in app.models.values() {
                match states::save(folder, model) {
                    Ok(count) => stored += count,
                    Err(error) => {
                        log::error!("model `{}`: its sequences are not stored: {error}", model.name);
                        failed = failed.or(Some(error));
                    }
                }
            }
        }
        failed.map_or(Ok(Ended { stored, cut }), Err)
    }
}

/// Accepts connections until `stop` is ready, and waits until they have ended. Says how many had not.
async fn serve(app: &Arc<App>, listener: TcpListener, stop: impl Future<Output = ()>) -> u64 {
    let router = router(app.clone());
    let places = Arc::new(Semaphore::new(app.limits.connections));
    let (ending, ends) = watch::channel(false);
    // Every connection holds a sender, so that the receiver knows when all have ended.
    let (alive, mut all_ended) = mpsc::channel::<()>(1);
    let sweeper = tokio::spawn(sweep(app.clone()));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (app, router, ends, alive) = (app.clone(), router.clone(), ends.clone(), alive.clone());
                tokio::spawn(async move {
                    app.metrics.accepted.fetch_add(1, Relaxed);
                    app.metrics.connections.fetch_add(1, Relaxed);
                    let counted = Counted(app);
                    connection(&counted.0, router, stream, ends).await;
                    drop((counted, place, alive));
                });
            }
            Err(error) => {
                log::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    app.ending.store(true, Relaxed);
    // There is no receiver left if there is no connection.
    let _ = ending.send(true);
    drop((alive, ends));
    let drained = tokio::time::timeout(app.limits.drain, all_ended.recv()).await;
    sweeper.abort();
    if drained.is_ok() { 0 } else { app.metrics.connections.load(Relaxed) }
}

/// Counts an open connection as long as it lives.
struct Counted(Arc<App>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.fetch_sub(1, Relaxed);
    }
}

type Place = tokio::sync::OwnedSemaphorePermit;

/// The next connection, once there is a place for it.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, Place)> {
    let place = places.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// Answers the requests of a connection, one after the other.
async fn connection(app: &Arc<App>, router: Router, stream: TcpStream, mut ends: watch::Receiver<bool>) {
    // Answers are sent at once; without this they are only later.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Patient::new(stream, app.limits.write_time));
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, mut router) = (app.clone(), router.clone());
        async move { Ok::<_, std::convert::Infallible>(answer(&app, &mut router, request).await) }
    });
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(app.limits.header_time)
            .max_buf_size(64 << 10)
            .pipeline_flush(true)
            .serve_connection(io, service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = ends.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client may go away at any time.
    if let Err(error) = ended {
        log::debug!("a connection ended: {error}");
    }
}

/// The answer to a request: it needs the token, except to ask for the server's health.
async fn answer(app: &App, router: &mut Router, request: Request<Incoming>) -> Response {
    let refused = match &app.token {
        Some(token) if !request.uri().path().starts_with("/v2/health/") => token.check(request.headers()).err(),
        _ => None,
    };
    let response = match refused {
        Some(failure) => failure.into_response(),
        None => match inferring(app, &request) {
            Some(model) => {
                timed_infer(app, model, request).await.unwrap_or_else(axum::response::IntoResponse::into_response)
            }
            None => match router.call(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
        },
    };
    let kind = response.extensions().get::<Kind>().copied();
    if kind == Some(Kind::Internal) {
        log::error!("a request failed with status {}", response.status());
    }
    app.metrics.count(response.status().as_u16(), kind);
    response
}

/// The model that a request for inference names, by the path that most requests have: it is found without the router, whose work
/// takes as long as a timestep of a small network.
fn inferring<'a>(app: &'a App, request: &Request<Incoming>) -> Option<&'a Arc<Loaded>> {
    let name = request.uri().path().strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
    app.models.get(name).filter(|_| request.method() == Method::POST)
}

/// Ends sequences that are idle.
async fn sweep(app: Arc<App>) {
    let mut clock = tokio::time::interval(SWEEP);
    loop {
        clock.tick().await;
        let app = app.clone();
        let swept = crate::app::wait_for(move || {
            app.models.values().filter_map(|model| model.streams.as_ref().ok()).for_each(|streams| {
                streams.sequences.sweep();
            });
            Ok(())
        });
        // A panic has been logged.
        let _ = swept.await;
    }
}
