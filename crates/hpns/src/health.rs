//! The private port: health, readiness, metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gateway::Gate;
use http_edge::{ErrorKind, Problem};
use metrics_exporter_prometheus::PrometheusHandle;
use push_domain::Clock;
use tokio_util::sync::CancellationToken;

/// A serving thread that has not run for so long is stuck.
const STUCK_AFTER_MS: u64 = 15_000;

/// What the port looks at.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) metrics: PrometheusHandle,
    pub(crate) gate: Arc<Gate>,
    pub(crate) pulses: Vec<Arc<AtomicU64>>,
    pub(crate) clock: Arc<dyn Clock>,
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
    let now = health.clock.now().millis();
    let stuck = |pulse: &Arc<AtomicU64>| now.saturating_sub(pulse.load(Ordering::Relaxed)) > STUCK_AFTER_MS;
    if health.pulses.iter().any(stuck) {
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
