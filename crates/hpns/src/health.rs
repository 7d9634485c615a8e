//! The private port: health, readiness, metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gateway::Gate;
use http_edge::{ErrorKind, Problem};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::shard::Pulse;

/// A serving thread that has not run for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// What the port looks at.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) metrics: PrometheusHandle,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pulses: Vec<Pulse>,
    pub(crate) stopping: CancellationToken,
}

pub(crate) fn router(health: Health) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/metrics", get(metrics))
        .fallback(|| async { Problem::new(ErrorKind::NotFound, "not_found", "this port has no such path") })
        .with_state(health)
}

/// Alive as long as every serving thread runs.
async fn live(State(health): State<Health>) -> Result<&'static str, Problem> {
    if health.pulses.iter().any(|pulse| pulse.silence() > STUCK_AFTER) {
        return Err(Problem::new(ErrorKind::Internal, "stuck", "a serving thread has not run for 15 s"));
    }
    Ok("live\n")
}

/// Ready once licences are known and until the process stops; Apple, Google and the database may be down.
async fn ready(State(health): State<Health>) -> Result<&'static str, Problem> {
    if health.stopping.is_cancelled() {
        return Err(Problem::new(ErrorKind::Unavailable, "stopping", "the process is stopping"));
    }
    if !health.gate.is_ready() {
        return Err(Problem::new(ErrorKind::Unavailable, "starting", "licences have not been read yet"));
    }
    Ok("ready\n")
}

async fn metrics(State(health): State<Health>) -> Response {
    ([("content-type", "text/plain; version=0.0.4")], health.metrics.render()).into_response()
}
