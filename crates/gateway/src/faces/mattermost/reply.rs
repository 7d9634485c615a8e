//! HTTP responses as a stock server reads them: status 200, a JSON object of texts, a length.
//!
//! Servers from 11.x on throw the body of any other status away, so the administrator would never see
//! the reason. Only what was not asked of a face at all keeps its HTTP status.

use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, StatusCode};
use push_domain::{Answer, FailReason, JobId, Reason, Timestamp, Verdict};
use serde::Serialize;

use crate::event::Answered;
use crate::refusal::Refusal;

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

/// The answer to a request that was refused. A body that was too large to be read keeps its HTTP status.
pub(super) fn refused(refusal: Refusal) -> Response {
    let mut response = refusal.text.map_or_else(|| fail(refusal.reason), |text| fail_text(&text));
    if refusal.reason == FailReason::BodyTooLarge {
        *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    }
    if refusal.closes {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a push, with what its caller may know besides.
pub(super) fn answered(answered: &Answered, tells_timing: bool) -> Response {
    let mut response = verdict(&answered.verdict);
    if let Some(until) = answered.grace {
        metrics::counter!("licence_grace_pushes_total").increment(1);
        response = with_grace(response, until);
    }
    if tells_timing { with_timing(response, &answered.verdict, answered.took) } else { response }
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
fn verdict(verdict: &Verdict) -> Response {
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
fn with_grace(mut response: Response, until: Timestamp) -> Response {
    response.headers_mut().insert(LICENCE, HeaderValue::from_static("grace"));
    let until = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(until.millis()));
    if let Ok(until) = HeaderValue::try_from(until) {
        response.headers_mut().insert(LICENCE_UNTIL, until);
    }
    response
}

/// Adds how long each part took, for callers that ask.
fn with_timing(mut response: Response, verdict: &Verdict, total: Duration) -> Response {
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
