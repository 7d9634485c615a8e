//! HTTP routes of the Mattermost face: the peer's four.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{CONTENT_TYPE, HeaderValue};
use push_domain::{FailReason, JobId};
use tokio::time::Instant;
use tower_http::catch_panic::CatchPanicLayer;

use super::ack::Ack;
use super::draft::Mattermost;
use super::metrics::Metrics;
use super::reply;
use crate::delivery::{Admission, Pipeline};
use crate::refusal::Refusal;

/// A caller that sends this header learns how long each part of its push took.
const TIMING_HEADER: &str = "x-hpns-timing";

struct Routes {
    pipeline: Arc<Pipeline>,
    face: Mattermost,
    metrics: Arc<Metrics>,
}

/// Returns the routes. A path that is none of them is 404, a method that is not theirs 405.
pub(crate) fn router(pipeline: Arc<Pipeline>, metrics: Arc<Metrics>) -> Router {
    let face = Mattermost::new(pipeline.gateway().config.mattermost.clone());
    Router::new()
        .route("/", get(welcome).fallback(|| async { reply::wrong_method("GET, HEAD") }))
        .route("/version", get(version).fallback(|| async { reply::wrong_method("GET, HEAD") }))
        .route("/api/v1/send_push", post(send_push).fallback(|| async { reply::wrong_method("POST") }))
        .route("/api/v1/ack", post(acknowledge).fallback(|| async { reply::wrong_method("POST") }))
        .fallback(|| async { reply::not_found() })
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(Arc::new(Routes { pipeline, face, metrics }))
}

/// The panic hook has logged where; what it said may hold content.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    reply::fail(FailReason::Internal)
}

async fn welcome() -> Response {
    let mut response = Response::new("<html><body>hpns push service</body></html>".into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

async fn version(State(routes): State<Arc<Routes>>) -> Response {
    let crate::Version { hash, version } = &routes.pipeline.gateway().version;
    let body = format!("{{\"hash\":\"{hash}\",\"version\":\"{version}\"}}\n");
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn send_push(State(routes): State<Arc<Routes>>, request: Request) -> impl Future<Output = Response> {
    let (started, id) = (Instant::now(), JobId::new());
    let wants_timing = request.headers().contains_key(TIMING_HEADER);
    let admission = routes.pipeline.admission(request);
    push(routes, admission, wants_timing, id, started)
}

async fn push(
    routes: Arc<Routes>,
    admission: Admission,
    wants_timing: bool,
    id: JobId,
    started: Instant,
) -> Response {
    let response = match routes.pipeline.push(&routes.face, admission, id, started).await {
        Ok((answered, caller)) => {
            // How busy the service is, is nobody's business who has no licence.
            let config = &routes.pipeline.gateway().config;
            let tells = wants_timing && (caller.is_licensed() || config.timing_without_licence);
            reply::answered(&answered, tells)
        }
        Err(refusal) => reply::refused(refusal),
    };
    routes.metrics.request_took(started.elapsed());
    reply::with_id(response, id)
}

async fn acknowledge(State(routes): State<Arc<Routes>>, request: Request) -> Response {
    let started = Instant::now();
    let response = match routes.receipt(request).await {
        Ok(()) => reply::ok(),
        Err(refusal) => {
            routes.metrics.count_refusal(refusal.reason);
            reply::refused(refusal)
        }
    };
    routes.metrics.request_took(started.elapsed());
    response
}

impl Routes {
    /// Counts a receipt once, however often it comes. Nothing is looked up: an unknown id is good.
    async fn receipt(&self, request: Request) -> Result<(), Refusal> {
        let (caller, body) = self.pipeline.receipt(self.pipeline.admission(request)).await?;
        let ack = Ack::parse(&body).map_err(|why| {
            Refusal::verbatim(FailReason::BadRequest, format!("Failed to read ack body: {why}"))
        })?;
        if let Some(missing) = ack.missing() {
            return Err(Refusal::verbatim(FailReason::BadRequest, missing));
        }
        if self.pipeline.gateway().receipts.is_new(caller.tenant, &ack.id) {
            Metrics::acked(&ack.platform, &ack.kind);
            self.pipeline.acknowledged(caller.tenant);
        }
        Ok(())
    }
}
