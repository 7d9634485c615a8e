//! What was received: for tests that ask, and for the page.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::now_millis;
use crate::http2::Request;

/// Older notifications and ids are forgotten.
const MAX_KEPT: usize = 10_000;
const MAX_IDS: usize = 1_000_000;

/// One request that a provider got.
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

/// Counts since the start or the last reset.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Requests to APNs.
    pub apns_requests: u64,
    /// Requests to FCM.
    pub fcm_requests: u64,
    /// Of both, how many were accepted.
    pub accepted: u64,
    /// Connections to APNs.
    pub apns_connections: u64,
    /// Connections to FCM and OAuth.
    pub fcm_connections: u64,
    /// Requests for an OAuth token.
    pub token_requests: u64,
    /// Accepted APNs requests whose `apns-id` had been accepted before.
    pub duplicates: u64,
    /// Different provider tokens that APNs has seen.
    pub provider_tokens: u64,
}

/// Everything that was counted and kept.
#[derive(Debug, Default)]
pub(crate) struct Record {
    kept: Mutex<Kept>,
    pub(crate) apns_requests: AtomicU64,
    pub(crate) fcm_requests: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) apns_connections: AtomicU64,
    pub(crate) fcm_connections: AtomicU64,
    pub(crate) token_requests: AtomicU64,
    duplicates: AtomicU64,
    pub(crate) provider_tokens: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    number: u64,
    notifications: VecDeque<Received>,
    ids: HashSet<String>,
}

pub(crate) fn count(counter: &AtomicU64) -> u64 {
    counter.fetch_add(1, Ordering::Relaxed)
}

impl Record {
    /// Keeps a request and what was answered; 200 counts as accepted, and the `apns-id` of an
    /// accepted request that was accepted before as a duplicate.
    pub(crate) fn keep(&self, provider: &str, request: &Request, token: &str, status: u16) {
        let mut headers: HashMap<String, String> = request.headers.iter().cloned().collect();
        if let Some(secret) = headers.get_mut("authorization") {
            "…".clone_into(secret);
        }
        let body = serde_json::from_slice(&request.body)
            .unwrap_or_else(|_| json!(String::from_utf8_lossy(&request.body)));
        let Ok(mut kept) = self.kept.lock() else { return };
        if status == 200 {
            count(&self.accepted);
            if kept.ids.len() >= MAX_IDS {
                kept.ids.clear();
            }
            if headers.get("apns-id").is_some_and(|id| !kept.ids.insert(id.clone())) {
                count(&self.duplicates);
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
            received_at_ms: now_millis(),
            status,
        });
        if kept.notifications.len() > MAX_KEPT {
            kept.notifications.pop_front();
        }
    }

    /// Returns what is kept after number `after`, oldest first.
    pub(crate) fn after(&self, after: u64) -> Vec<Received> {
        let Ok(kept) = self.kept.lock() else {
            return Vec::new();
        };
        kept.notifications.iter().filter(|received| received.number > after).cloned().collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            apns_requests: read(&self.apns_requests),
            fcm_requests: read(&self.fcm_requests),
            accepted: read(&self.accepted),
            apns_connections: read(&self.apns_connections),
            fcm_connections: read(&self.fcm_connections),
            token_requests: read(&self.token_requests),
            duplicates: read(&self.duplicates),
            provider_tokens: read(&self.provider_tokens),
        }
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
            &self.duplicates,
            &self.provider_tokens,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
