//! Request log and counters of the simulator, for tests and for the page.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::clock::VirtualClock;
use crate::http2::{Reply, ReplyAction, Request};

/// Older notifications and ids are forgotten.
const MAX_KEPT: usize = 10_000;
const MAX_IDS: usize = 1_000_000;
/// An hour at a thousand a second, and a little more.
const MAX_LEDGER: usize = 4_000_000;

/// Received request, as it is kept and shown.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Received {
    /// Counts up from 1.
    pub number: u64,
    /// `apns` or `fcm`.
    pub provider: String,
    /// The device token.
    pub token: String,
    /// The request path.
    pub path: String,
    /// The request headers; `authorization` is cut.
    pub headers: HashMap<String, String>,
    /// The JSON body, or its text if it is none.
    pub body: Value,
    /// Which connection it came on.
    pub connection: u64,
    /// Which stream of it.
    pub stream: u32,
    /// When, in milliseconds since 1970.
    pub received_at_ms: u64,
    /// What was answered; 0 if nothing was.
    pub status: u16,
}

/// Counters since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests to APNs.
    pub apns_requests: u64,
    /// Requests to FCM.
    pub fcm_requests: u64,
    /// Of both, how many were delivered to a phone.
    pub accepted: u64,
    /// Connections to APNs.
    pub apns_connections: u64,
    /// Connections to FCM and OAuth.
    pub fcm_connections: u64,
    /// The most connections to either that began within a second: Apple takes churn for an attack.
    pub most_connections_in_a_second: u64,
    /// Requests for an OAuth token.
    pub token_requests: u64,
    /// Deliveries of a message that had been delivered before: the same `apns-id`, or to Android the same body.
    pub duplicates: u64,
    /// Different provider tokens that APNs has seen.
    pub provider_tokens: u64,
    /// PINGs to APNs.
    pub apns_pings: u64,
    /// PINGs to FCM.
    pub fcm_pings: u64,
    /// Requests beyond those that may be open.
    pub excess_requests: u64,
    /// Open requests that faults have hit.
    pub struck_requests: u64,
    /// Requests that were sent again before the `Retry-After` of their last answer had passed.
    pub early_resends: u64,
    /// Requests that were sent again although the last answer was final.
    pub resends_after_refusal: u64,
    /// Tunnels through the CONNECT proxy, by target.
    pub tunnels: BTreeMap<String, u64>,
}

/// Request log with its counters.
#[derive(Debug)]
pub(crate) struct Record {
    clock: Arc<VirtualClock>,
    kept: Mutex<Kept>,
    pub(crate) apns_requests: AtomicU64,
    pub(crate) fcm_requests: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) apns_connections: AtomicU64,
    pub(crate) fcm_connections: AtomicU64,
    pub(crate) token_requests: AtomicU64,
    pub(crate) provider_tokens: AtomicU64,
    pub(crate) apns_pings: AtomicU64,
    pub(crate) fcm_pings: AtomicU64,
    pub(crate) excess_requests: AtomicU64,
    pub(crate) struck_requests: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    number: u64,
    notifications: VecDeque<Received>,
    delivered: HashSet<u64>,
    duplicates: u64,
    /// What the last answer to a message asked for, if it was no yes.
    resend_rule: HashMap<u64, ResendRule>,
    early_resends: u64,
    resends_after_refusal: u64,
    recent_connections: VecDeque<Instant>,
    most_connections: u64,
    tunnels: BTreeMap<String, u64>,
    /// The ack ids of what was delivered, and when.
    ledger: Vec<(Box<str>, u64)>,
}

#[derive(Debug, Clone, Copy)]
enum ResendRule {
    /// Not again before this time.
    NotBefore(Instant),
    /// Not again.
    Never,
}

pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

/// What makes a message the same message: its `apns-id`, or to Android its body.
fn identity(request: &Request) -> u64 {
    let mut hasher = DefaultHasher::new();
    match request.header("apns-id") {
        Some(id) => id.hash(&mut hasher),
        None => request.body.hash(&mut hasher),
    }
    hasher.finish()
}

/// What an answer asks of whoever sent the request.
fn resend_rule(provider: &str, reply: &Reply) -> Option<ResendRule> {
    let header = reply.headers.iter().find(|(name, _)| *name == "retry-after");
    if let Some(seconds) = header.and_then(|(_, value)| value.parse::<u64>().ok()) {
        return Some(ResendRule::NotBefore(Instant::now() + Duration::from_secs(seconds.min(86_400))));
    }
    // Apple's 403 may ask for another connection, Google's never changes.
    let is_final =
        matches!(reply.status, 400 | 404 | 410 | 413) || (provider == "fcm" && reply.status == 403);
    is_final.then_some(ResendRule::Never)
}

impl Record {
    pub(crate) fn new(clock: Arc<VirtualClock>) -> Self {
        Self {
            clock,
            kept: Mutex::default(),
            apns_requests: AtomicU64::default(),
            fcm_requests: AtomicU64::default(),
            accepted: AtomicU64::default(),
            apns_connections: AtomicU64::default(),
            fcm_connections: AtomicU64::default(),
            token_requests: AtomicU64::default(),
            provider_tokens: AtomicU64::default(),
            apns_pings: AtomicU64::default(),
            fcm_pings: AtomicU64::default(),
            excess_requests: AtomicU64::default(),
            struck_requests: AtomicU64::default(),
        }
    }

    /// Keeps a request and what became of it.
    pub(crate) fn keep(&self, provider: &str, request: &Request, token: &str, reply: &Reply) {
        let mut headers: HashMap<String, String> = request.headers.iter().cloned().collect();
        if let Some(secret) = headers.get_mut("authorization") {
            "…".clone_into(secret);
        }
        let body = serde_json::from_slice(&request.body)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&request.body)));
        let answered = matches!(reply.action, ReplyAction::Answer | ReplyAction::Half);
        // A yes that gets lost on its way has been delivered all the same.
        let delivered = reply.delivered.unwrap_or(reply.status == 200) && reply.action.is_processed();
        let identity = identity(request);
        let Ok(mut kept) = self.kept.lock() else { return };
        kept.judge(identity, delivered, resend_rule(provider, reply));
        if delivered {
            count(&self.accepted);
            if kept.ledger.len() < MAX_LEDGER {
                kept.ledger.push((ack_id(&body).unwrap_or(token).into(), self.clock.millis()));
            }
        }
        kept.number += 1;
        let number = kept.number;
        kept.notifications.push_back(Received {
            number,
            provider: provider.to_owned(),
            token: token.to_owned(),
            path: request.path.clone(),
            headers,
            body,
            connection: request.connection,
            stream: request.stream,
            received_at_ms: self.clock.millis(),
            status: if answered { reply.status } else { 0 },
        });
        if kept.notifications.len() > MAX_KEPT {
            kept.notifications.pop_front();
        }
    }

    /// Counts a new connection.
    pub(crate) fn connected(&self, counter: &AtomicU64) {
        count(counter);
        let Ok(mut kept) = self.kept.lock() else { return };
        let now = Instant::now();
        kept.recent_connections.push_back(now);
        while kept.recent_connections.front().is_some_and(|at| now - *at > Duration::from_secs(1)) {
            kept.recent_connections.pop_front();
        }
        kept.most_connections = kept.most_connections.max(kept.recent_connections.len() as u64);
    }

    /// Counts a tunnel.
    pub(crate) fn tunnelled(&self, target: &str) {
        if let Ok(mut kept) = self.kept.lock() {
            *kept.tunnels.entry(target.to_owned()).or_default() += 1;
        }
    }

    /// Returns what is kept after number `after`, oldest first.
    pub(crate) fn after(&self, after: u64) -> Vec<Received> {
        let Ok(kept) = self.kept.lock() else {
            return Vec::new();
        };
        kept.notifications.iter().filter(|received| received.number > after).cloned().collect()
    }

    /// Returns the ack ids of what was delivered, or the tokens where there is none, one a line with the time
    /// in milliseconds since 1970, in order: as often as it was.
    pub(crate) fn ledger(&self) -> String {
        let Ok(kept) = self.kept.lock() else { return String::new() };
        let mut lines = String::new();
        for (id, at) in &kept.ledger {
            let _ = writeln!(lines, "{id} {at}");
        }
        lines
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = Stats {
            apns_requests: read(&self.apns_requests),
            fcm_requests: read(&self.fcm_requests),
            accepted: read(&self.accepted),
            apns_connections: read(&self.apns_connections),
            fcm_connections: read(&self.fcm_connections),
            token_requests: read(&self.token_requests),
            provider_tokens: read(&self.provider_tokens),
            apns_pings: read(&self.apns_pings),
            fcm_pings: read(&self.fcm_pings),
            excess_requests: read(&self.excess_requests),
            struck_requests: read(&self.struck_requests),
            ..Stats::default()
        };
        if let Ok(kept) = self.kept.lock() {
            stats.duplicates = kept.duplicates;
            stats.early_resends = kept.early_resends;
            stats.resends_after_refusal = kept.resends_after_refusal;
            stats.most_connections_in_a_second = kept.most_connections;
            stats.tunnels = kept.tunnels.clone();
        }
        stats
    }

    pub(crate) fn reset(&self) {
        if let Ok(mut kept) = self.kept.lock() {
            let number = kept.number;
            *kept = Kept { number, ..Kept::default() };
        }
        for counter in [
            &self.apns_requests,
            &self.fcm_requests,
            &self.accepted,
            &self.apns_connections,
            &self.fcm_connections,
            &self.token_requests,
            &self.provider_tokens,
            &self.apns_pings,
            &self.fcm_pings,
            &self.excess_requests,
            &self.struck_requests,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// The id that the caller gave the push, where its payload has one.
fn ack_id(body: &Value) -> Option<&str> {
    let data = body.pointer("/message/data").unwrap_or(body);
    data.get("ack_id")?.as_str().filter(|id| !id.is_empty())
}

impl Kept {
    /// Counts what a well-behaved sender would not have done, and remembers what this answer asks for.
    fn judge(&mut self, identity: u64, delivered: bool, resend_rule: Option<ResendRule>) {
        match self.resend_rule.remove(&identity) {
            Some(ResendRule::NotBefore(at)) if Instant::now() < at => self.early_resends += 1,
            Some(ResendRule::Never) => self.resends_after_refusal += 1,
            Some(ResendRule::NotBefore(_)) | None => {}
        }
        if self.resend_rule.len() >= MAX_IDS {
            self.resend_rule.clear();
        }
        if let Some(resend_rule) = resend_rule {
            self.resend_rule.insert(identity, resend_rule);
        }
        if delivered {
            if self.delivered.len() >= MAX_IDS {
                self.delivered.clear();
            }
            self.duplicates += u64::from(!self.delivered.insert(identity));
        }
    }
}
