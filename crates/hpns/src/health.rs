//! The private port: health, readiness, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gateway::Authenticator;
use http_edge::{ErrorKind, Problem};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::lanes::Lanes;
use crate::shard::Pulse;

/// A serving thread that has not run for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// What the port looks at.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) metrics: PrometheusHandle,
    /// Of a process that takes pushes.
    pub(crate) authenticator: Option<Arc<Authenticator>>,
    pub(crate) lanes: Option<Arc<Lanes>>,
    pub(crate) pulses: Vec<Pulse>,
    pub(crate) leaving: CancellationToken,
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
    if health.leaving.is_cancelled() {
        return Ok("live\n");
    }
    if health.pulses.iter().any(|pulse| pulse.silence() > STUCK_AFTER) {
        return Err(Problem::new(ErrorKind::Internal, "stuck", "a serving thread has not run for 15 s"));
    }
    if health.lanes.as_ref().is_some_and(|lanes| lanes.silence() > STUCK_AFTER) {
        return Err(Problem::new(ErrorKind::Internal, "stuck", "a reader of jobs has not moved for 15 s"));
    }
    Ok("live\n")
}

/// Ready once licences are known and a lane is up, until the process stops; Apple, Google and the database
/// may be down.
async fn ready(State(health): State<Health>) -> Result<&'static str, Problem> {
    if health.leaving.is_cancelled() {
        return Err(Problem::new(ErrorKind::Unavailable, "stopping", "the process is stopping"));
    }
    if health.authenticator.as_ref().is_some_and(|authenticator| !authenticator.is_ready()) {
        return Err(Problem::new(ErrorKind::Unavailable, "starting", "licences have not been read yet"));
    }
    if health.lanes.as_ref().is_some_and(|lanes| !lanes.are_up()) {
        return Err(Problem::new(ErrorKind::Unavailable, "no_lane", "no lane can be reached"));
    }
    Ok("ready\n")
}

async fn metrics(State(health): State<Health>) -> Response {
    ([("content-type", "text/plain; version=0.0.4")], health.metrics.render()).into_response()
}
