//! The right to use a connection, and what its holder learns of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use push_domain::Reason;
use tokio::time::Instant;

use crate::pool::Pool;

/// A request that has waited for less says nothing about its connection.
const SUSPICIOUS_SILENCE: Duration = Duration::from_secs(1);
/// How often refused credentials may be answered with a new connection.
const REPLACE_EVERY: Duration = Duration::from_secs(30);

/// A connection with more than one in so many of its streams waiting for late answers is left.
const LATE_SHARE: usize = 4;

/// The right to send one request on one connection. Given back when dropped.
pub(crate) struct Slot {
    pub(crate) pool: Pool,
    pub(crate) link: u64,
    pub(crate) bytes: usize,
    pub(crate) requests: SendRequest<Bytes>,
    /// Its place was given back, and its answer is still waited for.
    pub(crate) is_late: AtomicBool,
}

impl Slot {
    /// Takes the connection out of use; requests in flight on it are still answered.
    pub(crate) fn retire_connection(&self) {
        self.pool.retire(self.link);
    }

    /// Takes all present connections out of use because Apple refuses the credentials on this one, and
    /// says whether a new one may be tried: not when this is the new one, made for that reason a moment
    /// ago. (An app that was added to the team later needs new connections, says Apple; so does a key
    /// that was changed.)
    pub(crate) fn replace_connection(&self, reason: &Reason) -> bool {
        let mut state = self.pool.shared.lock();
        let last = state.last_replaced.filter(|time| time.elapsed() < REPLACE_EVERY);
        let Some(link) = state.link(self.link) else {
            return true;
        };
        // One on which pushes succeeded is wedged, whatever became of the last one.
        let proven = link.proven;
        let in_vain = !proven && last.is_some_and(|time| link.opened_at > time);
        if !proven {
            state.refused = Some(reason.clone());
        }
        if in_vain {
            let id = self.link;
            self.pool.retire_links(state, |link| link.id == id);
            return false;
        }
        state.last_replaced = last.or_else(|| Some(Instant::now()));
        self.pool.retire_links(state, |_| true);
        true
    }

    /// Takes the connection out of use if it has answered nothing since `sent_at`, a while ago: it may
    /// be dead.
    pub(crate) fn suspect_connection(&self, sent_at: Instant) {
        if sent_at.elapsed() < SUSPICIOUS_SILENCE {
            return;
        }
        let mut state = self.pool.shared.lock();
        let silent =
            state.link(self.link).is_some_and(|link| link.answered_at.is_none_or(|time| time < sent_at));
        drop(state);
        if silent {
            self.pool.retire(self.link);
        }
    }

    /// Gives the place back before the answer is there: its time is over. The stream stays open for a moment more; a
    /// connection on which too many streams wait in vain is left.
    pub(crate) fn give_back(&self) {
        let mut state = self.pool.shared.lock();
        if self.is_late.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut is_worn = false;
        if let Some(link) = state.link(self.link) {
            link.in_flight -= 1;
            link.in_flight_bytes -= self.bytes;
            link.late += 1;
            is_worn = link.late * LATE_SHARE > link.limit.max(LATE_SHARE);
        }
        if is_worn {
            let id = self.link;
            self.pool.retire_links(state, |link| link.id == id);
        } else {
            self.pool.serve(state);
        }
    }

    /// Notes that Apple was out of order on it.
    pub(crate) fn troubled(&self) {
        if let Some(link) = self.pool.shared.lock().link(self.link) {
            link.troubled_at = Some(Instant::now());
        }
    }

    /// Notes that the connection answers; `accepted`, that it is good for something.
    pub(crate) fn answered(&self, accepted: bool) {
        let mut state = self.pool.shared.lock();
        if accepted && state.failures > 0 {
            state.failures = 0;
            state.not_before = None;
            state.refused = None;
        }
        let Some(link) = state.link(self.link) else { return };
        link.proven |= accepted;
        let was_cold = link.answered_at.replace(Instant::now()).is_none();
        if was_cold {
            state.crowded_anew();
            self.pool.serve(state);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.pool.shared.lock();
        if let Some(link) = state.link(self.link) {
            if *self.is_late.get_mut() {
                link.late -= 1;
            } else {
                link.in_flight -= 1;
                link.in_flight_bytes -= self.bytes;
            }
        }
        self.pool.serve(state);
    }
}
