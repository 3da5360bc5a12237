//! The paths of the server.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, Request as HttpRequest, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Body as HttpBody;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, BODY_UNIT, BodyMemory, wait_for};
use crate::failure::{Failure, Kind, Result};
use crate::infer::infer;
use crate::metrics;
use crate::model::{Loaded, VERSION};
use crate::request::checked_name;
use crate::sequences::{Listed, lock};

/// Bodies up to this size take no part in the budget for all bodies.
const SMALL: usize = 16 << 10;

type Shared = State<Arc<App>>;

/// The router of a server.
pub fn router(app: Arc<App>) -> Router {
    let model = |rest: &str| {
        [format!("/v2/models/{{model}}{rest}"), format!("/v2/models/{{model}}/versions/{{version}}{rest}")]
    };
    let mut router = Router::new()
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/models", get(index))
        .route("/v2/repository/index", post(index).get(index))
        .route("/metrics", get(metrics_text));
    for path in model("") {
        router = router.route(&path, get(metadata));
    }
    for path in model("/ready") {
        router = router.route(&path, get(model_ready));
    }
    for path in model("/infer") {
        router = router.route(&path, post(infer_model));
    }
    router
        .route("/v2/models/{model}/sequences", get(list))
        .route("/v2/models/{model}/sequences/{sequence}", get(one).delete(close))
        .route("/v2/models/{model}/sequences/{sequence}/fork", post(fork))
        .route("/v2/models/{model}/sequences/{sequence}/state", get(snapshot).put(restore))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .with_state(app)
}

/// The parts of a path.
#[derive(Deserialize)]
struct Place {
    model: String,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    sequence: String,
}

impl Place {
    fn find<'a>(&self, app: &'a App) -> Result<&'a Arc<Loaded>> {
        let model = app.model(&self.model)?;
        match self.version.as_deref() {
            None | Some(VERSION) => Ok(model),
            Some(other) => {
                Err(Failure::missing(format!("version of model `{}`: expected {VERSION}, got `{other}`", self.model)))
            }
        }
    }
}

fn json_of(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], value.to_string()).into_response()
}

async fn live() -> Response {
    json_of(&json!({ "live": true }))
}

async fn ready(State(app): Shared) -> Response {
    ready_of(app.is_ready())
}

fn ready_of(ready: bool) -> Response {
    let mut response = json_of(&json!({ "ready": ready }));
    if !ready {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

async fn server() -> Response {
    json_of(&json!({
        "name": "gatefold", "version": env!("CARGO_PKG_VERSION"),
        "extensions": ["binary_tensor_data", "classification", "sequence", "model_repository", "sequence_state"],
    }))
}

async fn index(State(app): Shared) -> Response {
    let models = app.models.values().map(|model| {
        let (state, reason) = match (model.is_ready(), model.changed_on_disk()) {
            (false, _) => ("UNAVAILABLE", "its device was lost"),
            (true, true) => {
                ("READY", "its file has changed; the model that was loaded stays until the server starts again")
            }
            (true, false) => ("READY", ""),
        };
        json!({ "name": model.name, "version": VERSION, "state": state, "reason": reason })
    });
    json_of(&models.collect())
}

async fn metadata(State(app): Shared, Path(place): Path<Place>) -> Result<Response> {
    Ok(json_of(&place.find(&app)?.metadata()))
}

async fn model_ready(State(app): Shared, Path(place): Path<Place>) -> Result<Response> {
    let model = place.find(&app)?;
    Ok(ready_of(model.is_ready() && !app.ending.load(Relaxed)))
}

async fn metrics_text(State(app): Shared) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], metrics::text(&app)).into_response()
}

async fn infer_model(State(app): Shared, Path(place): Path<Place>, request: Request) -> Result<Response> {
    timed_infer(&app, place.find(&app)?, request).await
}

/// The answer to a request for inference.
pub async fn timed_infer<B>(app: &App, model: &Arc<Loaded>, request: HttpRequest<B>) -> Result<Response>
where
    B: HttpBody<Data = Bytes, Error: Display> + Unpin,
{
    let start = Instant::now();
    let (headers, body, memory) = read(app, request).await?;
    let answer = infer(app, model, &headers, &body, memory.clone()).await;
    lock(&model.latency).add(start.elapsed().as_secs_f64());
    answer
}

async fn list(State(app): Shared, Path(place): Path<Place>) -> Result<Response> {
    let sequences = place.find(&app)?.streams()?.sequences.list();
    Ok(json_of(&json!({ "sequences": sequences })))
}

async fn one(State(app): Shared, Path(place): Path<Place>) -> Result<Response> {
    let sequences = &place.find(&app)?.streams()?.sequences;
    let sequence = sequences.look(&place.sequence)?;
    Ok(json_of(&json!(Listed::new(place.sequence, &sequence))))
}

async fn close(State(app): Shared, Path(place): Path<Place>) -> Result<Response> {
    let sequences = &place.find(&app)?.streams()?.sequences;
    let sequence = sequences.look(&place.sequence)?;
    sequences.remove(&place.sequence, &sequence);
    Ok(json_of(&json!({ "closed": place.sequence, "steps": sequence.steps() })))
}

/// A new sequence that continues from what this one is; the body names it.
async fn fork(State(app): Shared, Path(place): Path<Place>, request: Request) -> Result<Response> {
    #[derive(Deserialize)]
    struct Fork {
        to: Value,
    }
    let model = place.find(&app)?.clone();
    let (_, body, _memory) = read(&app, request).await?;
    let wrong = |got: String| Failure::bad(format!("fork: expected {{\"to\": \"NAME\"}}, got {got}"));
    let fork: Fork = serde_json::from_slice(&body).map_err(|error| wrong(error.to_string()))?;
    let to = match fork.to {
        Value::String(name) => checked_name(&name)?,
        Value::Number(number) if number.is_u64() || number.is_i64() => number.to_string(),
        other => return Err(wrong(other.to_string())),
    };
    if to == place.sequence {
        return Err(Failure::bad(format!("fork: expected another name than that of the sequence, got `{to}`")));
    }
    let steps = wait_for(move || {
        let sequences = &model.streams()?.sequences;
        let fork = sequences.fork(&*sequences.find(&place.sequence)?)?;
        sequences.insert(&to, fork.clone());
        Ok(json!({ "sequence_id": to, "steps": fork.steps() }))
    });
    Ok(json_of(&steps.await?))
}

/// The state of a sequence, as the bytes of a state file.
async fn snapshot(State(app): Shared, Path(place): Path<Place>) -> Result<Response> {
    let model = place.find(&app)?.clone();
    let (bytes, steps) = wait_for(move || {
        let sequences = &model.streams()?.sequences;
        let sequence = sequences.find(&place.sequence)?;
        // The number of steps is of the state only if no request is under way meanwhile.
        let state = sequences.pool().snapshot(sequence.stream)?;
        Ok((state.to_bytes(model.network())?, sequence.steps()))
    })
    .await?;
    let mut response = Response::new(Body::from(bytes));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(STEPS, HeaderValue::from(steps));
    Ok(response)
}

/// Header with the number of timesteps behind a state.
const STEPS: &str = "sequence-steps";

/// Opens a sequence in the state that the body is, in place of one that has its name.
async fn restore(State(app): Shared, Path(place): Path<Place>, request: Request) -> Result<Response> {
    let model = place.find(&app)?.clone();
    let name = checked_name(&place.sequence)?;
    let (headers, body, memory) = read(&app, request).await?;
    let steps = match headers.get(STEPS) {
        None => 0,
        Some(value) => value
            .to_str()
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Failure::bad(format!("{STEPS}: expected a whole number, got {value:?}")))?,
    };
    let opened = wait_for(move || {
        // The work goes on when the client goes away.
        let _held = memory;
        let sequences = &model.streams()?.sequences;
        let state = gatefold::State::from_bytes(&body, model.network())?;
        sequences.insert(&name, sequences.restore(&state, steps)?);
        Ok(json!({ "sequence_id": name, "steps": steps }))
    });
    Ok(json_of(&opened.await?))
}

async fn no_path(request: Request) -> Failure {
    Failure::missing(format!("path: expected one of the server's, got {}", request.uri().path()))
}

async fn no_method(request: Request) -> Failure {
    let (method, path) = (request.method(), request.uri().path());
    Failure::new(Kind::Method, format!("method of {path}: expected another, got {method}"))
}

/// Reads a body within the limits of size, time and memory. The time in which it waits for memory does not count as the client's.
async fn read<B>(app: &App, request: HttpRequest<B>) -> Result<(HeaderMap, Bytes, BodyMemory)>
where
    B: HttpBody<Data = Bytes, Error: Display> + Unpin,
{
    let (parts, body) = request.into_parts();
    let most = app.limits.body;
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = length.filter(|&length| length > most as u64) {
        return Err(too_large(most, &length.to_string()));
    }
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(most);
    let time = app.limits.body_time;
    let memory = if length > SMALL {
        let units = u32::try_from(length / BODY_UNIT + 1).unwrap_or(u32::MAX);
        let waits = tokio::time::timeout(time, app.bodies.clone().acquire_many_owned(units));
        let permit = waits.await.map_err(|_| {
            Failure::new(Kind::Busy, "the bodies of other requests take all memory for bodies; try again later")
        })?;
        Some(Arc::new(permit.map_err(|_| Failure::new(Kind::Unavailable, "the server is ending"))?))
    } else {
        None
    };
    match tokio::time::timeout(time, whole(body, most)).await {
        Ok(body) => Ok((parts.headers, body?, memory)),
        Err(_) => {
            let message = format!("body: expected within {} s, got a part of it", time.as_secs_f64());
            Err(Failure::new(Kind::Slow, message))
        }
    }
}

fn too_large(most: usize, got: &str) -> Failure {
    Failure::new(Kind::TooLarge, format!("body: expected at most {most} bytes, got {got}"))
}

/// All of a body, of at most `most` bytes. One that came in one piece is not copied.
async fn whole<B>(mut body: B, most: usize) -> Result<Bytes>
where
    B: HttpBody<Data = Bytes, Error: Display> + Unpin,
{
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Failure::bad(format!("body: expected as many bytes as announced, got an error: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if first.len() + all.len() + data.len() > most {
            return Err(too_large(most, "more"));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            if all.is_empty() {
                all.extend_from_slice(&first);
                first = Bytes::new();
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::Limits;

    /// Where other bodies take the memory, the error is not about the client's time.
    #[test]
    fn a_body_without_memory_is_refused_for_now() {
        let limits = Limits { body_time: Duration::from_millis(50), ..Limits::default() };
        let app = App::new(BTreeMap::new(), limits, None);
        let request = || {
            let body = vec![7; SMALL + 1];
            HttpRequest::builder().header(header::CONTENT_LENGTH, body.len()).body(Body::from(body)).unwrap()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let all = u32::try_from(app.bodies.available_permits()).unwrap();
            let taken = app.bodies.acquire_many(all).await.unwrap();
            assert_eq!(read(&app, request()).await.unwrap_err().kind, Kind::Busy);
            drop(taken);
            assert_eq!(read(&app, request()).await.unwrap().1.len(), SMALL + 1);
        });
    }
}
