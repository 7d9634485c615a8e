//! Error responses: problem+json (RFC 9457), the one form of error body.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde_json::json;

/// Error kind, by what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Mend the request.
    BadRequest,
    /// Say who you are.
    Unauthenticated,
    /// Ask somebody who may.
    Forbidden,
    /// Ask for something that exists.
    NotFound,
    /// Use another method.
    MethodNotAllowed,
    /// Look at how it is now.
    Conflict,
    /// It has changed: look again, then change it.
    PreconditionFailed,
    /// Say which state you have looked at.
    PreconditionRequired,
    /// Send less.
    TooLarge,
    /// Send it faster.
    TooSlow,
    /// Slow down.
    Throttled,
    /// Come back later.
    Unavailable,
    /// Ask another server (RFC 9110, 15.5.20).
    Misdirected,
    /// Somebody behind us is out of order.
    BadGateway,
    /// Somebody behind us did not answer in time.
    GatewayTimeout,
    /// Tell us.
    Internal,
}

impl ErrorKind {
    const fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Conflict => StatusCode::CONFLICT,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::PreconditionRequired => StatusCode::PRECONDITION_REQUIRED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Throttled => StatusCode::TOO_MANY_REQUESTS,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::GatewayTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An error for an HTTP caller: a stable code and a sentence that names the field and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: ErrorKind,
    code: &'static str,
    detail: String,
}

impl Problem {
    /// Makes a problem. `detail` must not repeat what the caller sent.
    #[must_use]
    pub fn new(kind: ErrorKind, code: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, code, detail: detail.into() }
    }
}

impl Problem {
    /// Returns the stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.code
    }

    /// Returns the sentence.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the HTTP status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.kind.status()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "code": self.code,
            "detail": self.detail,
        });
        let headers = [(CONTENT_TYPE, "application/problem+json"), (CACHE_CONTROL, "no-store")];
        (status, headers, Body::from(body.to_string())).into_response()
    }
}
