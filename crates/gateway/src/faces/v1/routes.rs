//! HTTP routes of `/v1`, and what becomes of a push as its caller is told.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue};
use http_edge::{ErrorKind, Problem};
use push_domain::{Answer, FailReason, JobId, Reason};
use serde_json::json;
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

use super::V1;
use crate::delivery::{Admission, Pipeline};
use crate::event::Answered;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns the routes.
pub(crate) fn router(pipeline: Arc<Pipeline>) -> Router {
    Router::new()
        .route("/v1/notifications", post(notify).fallback(wrong_method))
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(pipeline)
}

/// The panic hook has logged where; what it said may hold content.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    problem(FailReason::Internal, None)
}

async fn wrong_method() -> Response {
    let refused = Problem::new(ErrorKind::MethodNotAllowed, "method_not_allowed", "this route takes POST");
    let mut response = refused.into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    response
}

fn notify(State(pipeline): State<Arc<Pipeline>>, request: Request) -> impl Future<Output = Response> {
    let (started, id) = (Instant::now(), JobId::new());
    let admission = pipeline.admission(request);
    push(pipeline, admission, id, started)
}

async fn push(pipeline: Arc<Pipeline>, admission: Admission, id: JobId, started: Instant) -> Response {
    let mut response = match pipeline.push(&V1, admission, id, started).await {
        Ok((answered, _)) => told(&answered),
        Err(refusal) => {
            let mut response = problem(refusal.reason, refusal.text);
            if refusal.closes {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    };
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// `sent`: the provider has taken it. `removed`: the provider calls the device dead. All else is an error.
fn told(answered: &Answered) -> Response {
    let reason = answered.verdict.reason.as_ref().map(Reason::as_str).filter(|reason| !reason.is_empty());
    let status = match answered.verdict.answer {
        Answer::Ok => "sent",
        Answer::Remove => "removed",
        Answer::Fail(why) => return problem(why, reason.map(|reason| format!("{}: {reason}", why.code()))),
    };
    let mut body = json!({ "id": answered.id.to_string(), "status": status });
    if let (Answer::Remove, Some(reason)) = (answered.verdict.answer, reason) {
        body["reason"] = json!(reason);
    }
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (headers, Body::from(body.to_string())).into_response()
}

/// An error with the reason's code; its sentence is the text behind the code, where a better one than the reason's is known.
fn problem(reason: FailReason, text: Option<String>) -> Response {
    let text = text.unwrap_or_else(|| reason.to_string());
    let detail = text.strip_prefix(reason.code()).map_or(&*text, |rest| rest.trim_start_matches(": "));
    let mut response = Problem::new(kind(reason), reason.code(), detail).into_response();
    if matches!(kind(reason), ErrorKind::Throttled | ErrorKind::Unavailable) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if matches!(kind(reason), ErrorKind::Unauthenticated) {
        // RFC 9110, 15.5.2: a 401 says how to log in.
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// What a caller can do about it.
const fn kind(reason: FailReason) -> ErrorKind {
    match reason {
        FailReason::BadRequest | FailReason::BadDeviceToken => ErrorKind::BadRequest,
        FailReason::BodyTooLarge | FailReason::PayloadTooLarge => ErrorKind::TooLarge,
        FailReason::LicenceMissing | FailReason::LicenceUnknown => ErrorKind::Unauthenticated,
        FailReason::LicenceInactive
        | FailReason::LicenceExpired
        | FailReason::LicenceSuspended
        | FailReason::LicenceNeedsTls
        | FailReason::ServerNotBound
        | FailReason::ContentNotAllowed
        | FailReason::TokensDoubted => ErrorKind::Forbidden,
        FailReason::WrongRegion => ErrorKind::Misdirected,
        FailReason::UnknownPlatform => ErrorKind::NotFound,
        FailReason::RateLimited => ErrorKind::Throttled,
        FailReason::Busy | FailReason::Unavailable => ErrorKind::Unavailable,
        FailReason::Deadline => ErrorKind::GatewayTimeout,
        FailReason::ProviderBusy
        | FailReason::ProviderDown
        | FailReason::AppMisconfigured
        | FailReason::Rejected => ErrorKind::BadGateway,
        FailReason::Poison | FailReason::Internal => ErrorKind::Internal,
    }
}
