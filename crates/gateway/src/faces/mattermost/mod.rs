//! The Mattermost face: what a stock Mattermost server sends to its push proxy, and what it is told.
//!
//! The peer is mattermost-push-proxy. Its wire contract is kept, save for what docs/MATTERMOST.md
//! lists as mended.

mod ack;
mod apns;
mod draft;
mod emoji;
mod fcm;
mod fields;
mod message;
mod metrics;
mod platform;
mod privacy;
mod reply;
mod routes;
mod text;

use std::sync::Arc;

use http_edge::{Edge, Limits};
use push_domain::FailReason;

pub(crate) use metrics::Metrics;
pub(crate) use routes::router;

/// Makes the edge of the listeners that serve this face: who is over a limit is told `busy`, as servers read it.
#[must_use]
pub fn edge(limits: Limits) -> Arc<Edge> {
    Edge::answering("gateway", limits, |_| reply::fail(FailReason::Busy))
}

#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod tests;
