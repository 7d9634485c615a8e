//! Pooled connection: one open HTTP/2 connection with its counters, as the pool sees it.

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What may be unanswered on a connection: two thirds of its window of 65,535 bytes (RFC 9113, 6.9.2).
///
/// A server gives the window back when a third or a half of it is used, and that takes a round trip: what is sent beyond
/// waits for it, out of sight. Another connection serves it sooner.
const UNANSWERED_BYTES: usize = 45_000;
/// How long others are preferred to a connection on which Apple was out of order.
const DEGRADED_FOR: Duration = Duration::from_millis(500);

/// Pooled connection with its stream limit, requests in flight and health.
pub(crate) struct PooledConnection {
    pub(crate) id: u64,
    pub(crate) requests: SendRequest<Bytes>,
    pub(crate) limit: usize,
    pub(crate) in_flight: usize,
    pub(crate) in_flight_bytes: usize,
    /// Streams that are open for a late answer: Apple counts them, and nobody waits for them.
    pub(crate) late: usize,
    pub(crate) opened_at: Instant,
    /// When it last answered; until it does, Apple allows one request.
    pub(crate) answered_at: Option<Instant>,
    /// Whether a push has succeeded on it: its end is then no failure.
    pub(crate) proven: bool,
    /// When it last answered that Apple is out of order: a retry prefers another.
    pub(crate) degraded_at: Option<Instant>,
    pub(crate) retired: CancellationToken,
}

impl PooledConnection {
    pub(crate) fn new(id: u64, requests: SendRequest<Bytes>, retired: CancellationToken) -> Self {
        Self {
            id,
            requests,
            limit: 1,
            in_flight: 0,
            in_flight_bytes: 0,
            late: 0,
            opened_at: Instant::now(),
            answered_at: None,
            proven: false,
            degraded_at: None,
            retired,
        }
    }

    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let fits = self.in_flight == 0 || self.in_flight_bytes + bytes <= UNANSWERED_BYTES;
        self.in_flight + self.late < self.limit && fits && !self.retired.is_cancelled()
    }

    pub(crate) fn is_degraded(&self) -> bool {
        self.degraded_at.is_some_and(|at| at.elapsed() < DEGRADED_FOR)
    }
}
