//! Resource limits of a listener group: connections, unfinished bodies and streams, counted together.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, HeaderValue};
use metrics::{Counter, Gauge};
use push_domain::LogSampler;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::activity::Activity;
use crate::connection_table::{ConnectionTable, Evictable, Network};
use crate::limits::{Limit, Limits};
use crate::{ErrorKind, Problem};

/// Connections that are being told that there is no place for them.
const REFUSED_AT_ONCE: usize = 64;

/// Listener group: its listeners, in all threads, count their callers together. What is over a limit is
/// told to the caller where that is possible, counted (`edge_over_limit_total`) and, sampled, logged.
pub struct Edge {
    name: &'static str,
    pub(crate) limits: Limits,
    answer: fn(Limit) -> Response<Body>,
    table: Mutex<ConnectionTable<Connection>>,
    /// Bytes of unfinished bodies, in all and by site.
    body_bytes: Mutex<(usize, HashMap<Network, usize>)>,
    streams: AtomicUsize,
    pub(crate) refusing: Arc<Semaphore>,
    told: [(LogSampler, Counter); Limit::ALL.len()],
    open: Gauge,
    displaced: Counter,
}

struct Connection {
    activity: Arc<Activity>,
    evict: CancellationToken,
}

impl Evictable for Connection {
    fn idle_since(&self) -> Option<Instant> {
        self.activity.idle_since()
    }

    fn evict(&self) {
        self.evict.cancel();
    }
}

/// Connection permit: holds a place until it is dropped.
pub(crate) struct ConnectionPermit {
    edge: Arc<Edge>,
    number: u64,
    pub(crate) activity: Arc<Activity>,
    /// Cancelled when somebody else needs the place more.
    pub(crate) evict: CancellationToken,
}

impl Edge {
    /// Makes an edge; `name` stands for it in metrics and logs. Who is over a limit is told a problem document.
    #[must_use]
    pub fn new(name: &'static str, limits: Limits) -> Arc<Self> {
        Self::answering(name, limits, |limit| {
            let kind = match limit {
                Limit::BodySize => ErrorKind::TooLarge,
                Limit::BodyTime | Limit::Header => ErrorKind::TooSlow,
                Limit::Connections | Limit::Site | Limit::BodyBytes | Limit::Streams => {
                    ErrorKind::Unavailable
                }
            };
            let detail = format!("the service is at its limit ({})", limit.label());
            Problem::new(kind, "over_limit", detail).into_response()
        })
    }

    /// Makes an edge that speaks another language.
    #[must_use]
    pub fn answering(name: &'static str, limits: Limits, answer: fn(Limit) -> Response<Body>) -> Arc<Self> {
        let told = Limit::ALL.map(|limit| {
            let count =
                metrics::counter!("edge_over_limit_total", "listener" => name, "limit" => limit.label());
            (LogSampler::new(), count)
        });
        Arc::new(Self {
            name,
            answer,
            table: Mutex::new(ConnectionTable::new(limits.connections, limits.connections_per_site)),
            limits,
            body_bytes: Mutex::default(),
            streams: AtomicUsize::new(0),
            refusing: Arc::new(Semaphore::new(REFUSED_AT_ONCE)),
            told,
            open: metrics::gauge!("edge_connections", "listener" => name),
            displaced: metrics::counter!("edge_displaced_total", "listener" => name),
        })
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable<Connection>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection a place.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<ConnectionPermit, Limit> {
        let (activity, evict) = (Activity::new(), CancellationToken::new());
        let seat = Connection { activity: Arc::clone(&activity), evict: evict.clone() };
        let mut table = self.table();
        let entered = table.enter(address, seat);
        self.count(&table);
        drop(table);
        let (number, displaced) = entered?;
        self.displaced.increment(displaced as u64);
        Ok(ConnectionPermit { edge: Arc::clone(self), number, activity, evict })
    }

    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    fn count(&self, table: &ConnectionTable<Connection>) {
        self.open.set(table.len() as f64);
    }

    /// Counts what is over a limit, and logs some of it.
    pub(crate) fn note(&self, limit: Limit) {
        let place = Limit::ALL.iter().position(|it| *it == limit);
        let Some((sampled, count)) = place.and_then(|place| self.told.get(place)) else { return };
        count.increment(1);
        if let Some(left_out) = sampled.turn() {
            warn!(listener = self.name, limit = limit.label(), left_out, "callers are over a limit");
        }
    }

    /// What a caller over a limit is told; it is its connection's last answer.
    pub(crate) fn answer(&self, limit: Limit) -> Response<Body> {
        let mut response = (self.answer)(limit);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    fn body_bytes(&self) -> MutexGuard<'_, (usize, HashMap<Network, usize>)> {
        self.body_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets bytes of an unfinished body aside, if there is room: for a site an eighth of all, or as much as it may have of
    /// the connections.
    pub(crate) fn hold(&self, site: Network, bytes: usize) -> bool {
        let Limits { body_bytes: most, connections, connections_per_site, .. } = self.limits;
        let eighths = (8 * connections_per_site.min(connections) / connections.max(1)).max(1);
        let mut held = self.body_bytes();
        let of_site = held.1.get(&site).copied().unwrap_or_default();
        if held.0 + bytes > most || of_site + bytes > most / 8 * eighths {
            return false;
        }
        held.0 += bytes;
        held.1.insert(site, of_site + bytes);
        true
    }

    pub(crate) fn release(&self, site: Network, bytes: usize) {
        let mut held = self.body_bytes();
        held.0 -= bytes;
        if let Some(of_site) = held.1.get_mut(&site) {
            *of_site -= bytes;
            if *of_site == 0 {
                held.1.remove(&site);
            }
        }
    }

    /// Counts a request beside others of its connection, if there is room.
    pub(crate) fn begin_stream(self: &Arc<Self>) -> Option<StreamPermit> {
        let more = |open: usize| (open < self.limits.streams).then_some(open + 1);
        let begun = self.streams.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        begun.is_ok().then(|| StreamPermit(Arc::clone(self)))
    }
}

/// HTTP/2 stream permit: a request beside others of its connection, until it is dropped.
pub(crate) struct StreamPermit(Arc<Edge>);

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut table = self.edge.table();
        table.exit(self.number);
        self.edge.count(&table);
    }
}

impl fmt::Debug for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edge").field("name", &self.name).field("limits", &self.limits).finish_non_exhaustive()
    }
}
