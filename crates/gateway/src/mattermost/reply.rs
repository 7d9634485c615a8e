//! Answers as a stock server reads them: status 200, a JSON object of texts, a length.
//!
//! Servers from 11.x on throw the body of any other status away, so the administrator would never see
//! the reason. Only what was not asked of a face at all keeps its HTTP status.

use std::fmt::Display;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use push_domain::{Answer, FailReason, JobId, Reason, TenantId, Timestamp, Verdict};
use serde::Serialize;

const OK: &[u8] = b"{\"status\":\"OK\"}\n";
const REMOVE: &[u8] = b"{\"status\":\"REMOVE\"}\n";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const LICENCE: HeaderName = HeaderName::from_static("x-hpns-licence");
const LICENCE_UNTIL: HeaderName = HeaderName::from_static("x-hpns-licence-until");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

fn reply(body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Why a request is answered without asking a provider.
pub(super) struct Refusal {
    /// What it is, for metrics and the log.
    pub(super) reason: FailReason,
    /// Whose request it is, if that is known.
    pub(super) tenant: Option<TenantId>,
    /// The peer's own text, or a sentence that fits better than the reason's.
    text: Option<String>,
    /// Whether the rest of the request cannot be read, so that the connection has to end.
    closes: bool,
}

impl Refusal {
    /// With the reason's own sentence.
    pub(super) const fn plain(reason: FailReason) -> Self {
        Self { reason, tenant: None, text: None, closes: false }
    }

    /// With the reason's code and a sentence that fits better.
    pub(super) fn because(reason: FailReason, sentence: impl Display) -> Self {
        Self { text: Some(format!("{}: {sentence}", reason.code())), ..Self::plain(reason) }
    }

    /// With the peer's own text.
    pub(super) fn peer(reason: FailReason, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::plain(reason) }
    }

    /// The same, of a caller that is known.
    pub(super) fn of(self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    /// The same, and the connection ends.
    pub(super) fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The answer. A body that was too large to be read keeps its HTTP status.
    pub(super) fn response(self) -> Response {
        let mut response = self.text.map_or_else(|| fail(self.reason), |text| fail_text(&text));
        if self.reason == FailReason::BodyTooLarge {
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        }
        if self.closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// `{"status":"OK"}`.
pub(super) fn ok() -> Response {
    reply(OK)
}

/// A `FAIL` with the peer's own text, or ours.
fn fail_text(error: &str) -> Response {
    #[derive(Serialize)]
    struct Fail<'a> {
        error: &'a str,
        status: &'static str,
    }
    let mut body = serde_json::to_vec(&Fail { error, status: "FAIL" }).unwrap_or_default();
    body.push(b'\n');
    reply(body)
}

/// A `FAIL` with a stable code.
pub(super) fn fail(reason: FailReason) -> Response {
    fail_text(&reason.to_string())
}

/// The verdict on a push.
pub(super) fn verdict(verdict: &Verdict) -> Response {
    let word = verdict.reason.as_ref().map(Reason::as_str).filter(|word| !word.is_empty());
    match (verdict.answer, word) {
        (Answer::Ok, _) => ok(),
        (Answer::Remove, _) => reply(REMOVE),
        (Answer::Fail(reason), Some(word)) => fail_text(&format!("{reason} ({word})")),
        (Answer::Fail(reason), None) => fail(reason),
    }
}

/// Adds the id under which the push stands in the log.
pub(super) fn with_id(mut response: Response, id: JobId) -> Response {
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Adds that the licence has expired, and until when it still works.
pub(super) fn with_grace(mut response: Response, until: Timestamp) -> Response {
    response.headers_mut().insert(LICENCE, HeaderValue::from_static("grace"));
    let until = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(until.millis()));
    if let Ok(until) = HeaderValue::try_from(until) {
        response.headers_mut().insert(LICENCE_UNTIL, until);
    }
    response
}

/// Adds how long each part took, for callers that ask.
pub(super) fn with_timing(mut response: Response, verdict: &Verdict, total: Duration) -> Response {
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let timing = verdict.timing;
    let text = format!(
        "queue;dur={:.3}, provider;dur={:.3}, total;dur={:.3}, attempts;desc=\"{}\"",
        millis(timing.queued),
        millis(timing.sending),
        millis(total),
        verdict.attempts
    );
    if let Ok(value) = HeaderValue::try_from(text) {
        response.headers_mut().insert(SERVER_TIMING, value);
    }
    response
}

/// 405, with the method that would do.
pub(super) fn wrong_method(allowed: &'static str) -> Response {
    let mut response =
        fail_text(&format!("{}: this path takes {allowed} only", FailReason::BadRequest.code()));
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// 404, as Go says it.
pub(super) fn not_found() -> Response {
    let mut response = Response::new(Body::from("404 page not found\n"));
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
