//! Health endpoint (private port): liveness, readiness, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_edge::{ErrorKind, Problem};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use super::Roles;
use super::gateway::GatewayRole;
use super::thread::Watchdog;
use super::worker::WorkerRole;

/// A serving thread that has not run for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// State of the health endpoint.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) metrics: PrometheusHandle,
    pub(crate) roles: Arc<Roles>,
    pub(crate) watchdogs: Vec<Watchdog>,
    pub(crate) draining: CancellationToken,
}

pub(crate) fn router(health: Health) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::new(ErrorKind::NotFound, "not_found", "this port has no such path") })
        .with_state(health)
}

/// Alive as long as every serving thread runs, and reads where it has something to read.
async fn live(State(health): State<Health>) -> Result<&'static str, Problem> {
    // Who leaves stands still, thread by thread.
    if health.draining.is_cancelled() {
        return Ok("live\n");
    }
    if health.watchdogs.iter().any(|thread| thread.stalled_for() > STUCK_AFTER) {
        return Err(Problem::new(ErrorKind::Internal, "stuck", "a serving thread has not run for 15 s"));
    }
    if health.roles.worker.as_ref().is_some_and(|role| role.stalled_for() > STUCK_AFTER) {
        return Err(Problem::new(ErrorKind::Internal, "stuck", "a reader of jobs has not moved for 15 s"));
    }
    Ok("live\n")
}

/// Ready once licences are known and a lane is up, until the process stops; Apple, Google and the database
/// may be down.
async fn ready(State(health): State<Health>) -> Result<&'static str, Problem> {
    if health.draining.is_cancelled() {
        return Err(Problem::new(ErrorKind::Unavailable, "stopping", "the process is stopping"));
    }
    if let Some((code, sentence)) = health.roles.gateway.as_ref().and_then(GatewayRole::unready) {
        return Err(Problem::new(ErrorKind::Unavailable, code, sentence));
    }
    if !health.roles.worker.as_ref().is_none_or(WorkerRole::is_up) {
        return Err(Problem::new(ErrorKind::Unavailable, "no_lane", "no lane can be reached"));
    }
    Ok("ready\n")
}

async fn metrics(State(health): State<Health>) -> Response {
    ([("content-type", "text/plain; version=0.0.4")], health.metrics.render()).into_response()
}
