//! What a request is answered with where it cannot be done: a status and one line of JSON, `{"error": "..."}`.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use gatefold::Error;

/// Seconds after which a client that was refused for lack of room may try again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Kinds of errors, each with a status of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The request is wrong.
    BadRequest,
    /// The token is missing or wrong.
    Unauthorized,
    /// There is no such path, model, version or sequence.
    NotFound,
    /// The path has other methods.
    Method,
    /// The body came too slowly.
    Slow,
    /// The sequence was closed or started again while the request was under way.
    Conflict,
    /// The body or a tensor is larger than a limit.
    TooLarge,
    /// The body is compressed.
    Encoding,
    /// A queue is full, or there are as many sequences as there may be.
    Busy,
    /// The server or the device failed.
    Internal,
    /// The server is ending, or the device is lost.
    Unavailable,
}

impl Kind {
    /// Its name in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Method => "method",
            Self::Slow => "slow",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Encoding => "encoding",
            Self::Busy => "busy",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Encoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// An error with its text, one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub fn bad(message: impl Into<String>) -> Self {
        Self::new(Kind::BadRequest, message)
    }

    pub fn missing(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = match error {
            Error::QueueFull { .. } => Kind::Busy,
            Error::QueueClosed | Error::DeviceLost { .. } => Kind::Unavailable,
            Error::Stream { .. } => Kind::Conflict,
            Error::TooLarge { .. } => Kind::TooLarge,
            Error::Gpu { .. } | Error::Io { .. } | Error::NoAdapter { .. } => Kind::Internal,
            _ => Kind::BadRequest,
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        // Texts of a client are shown as they are in errors of the library, escaped and cut.
        let message = gatefold::printable(&self.message, 1000);
        let mut response = Response::new(Body::from(serde_json::json!({ "error": message }).to_string()));
        *response.status_mut() = self.kind.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.kind {
            Kind::Busy => {
                headers.insert(header::RETRY_AFTER, RETRY_SECONDS);
            }
            Kind::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What remains of the body is not read.
            Kind::Slow => {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self.kind);
        response
    }
}
