//! Stream permit: the right to send one request on a pooled connection, and feedback on its health.

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

/// Stream permit: the right to send one request on one connection. Given back when dropped.
pub(crate) struct StreamPermit {
    pub(crate) pool: Pool,
    pub(crate) connection_id: u64,
    pub(crate) bytes: usize,
    pub(crate) requests: SendRequest<Bytes>,
    /// Its place was given back, and its answer is still waited for.
    pub(crate) is_late: AtomicBool,
}

impl StreamPermit {
    /// Takes the connection out of use; requests in flight on it are still answered.
    pub(crate) fn retire_connection(&self) {
        self.pool.retire(self.connection_id);
    }

    /// Takes all present connections out of use because Apple refuses the credentials on this one, and
    /// says whether a new one may be tried: not when this is the new one, made for that reason a moment
    /// ago. (An app that was added to the team later needs new connections, says Apple; so does a key
    /// that was changed.)
    pub(crate) fn replace_connection(&self, reason: &Reason) -> bool {
        let mut state = self.pool.shared.lock();
        let last = state.last_replaced.filter(|time| time.elapsed() < REPLACE_EVERY);
        let Some(connection) = state.connection(self.connection_id) else {
            return true;
        };
        // One on which pushes succeeded is wedged, whatever became of the last one.
        let proven = connection.proven;
        let in_vain = !proven && last.is_some_and(|time| connection.opened_at > time);
        if !proven {
            state.refused = Some(reason.clone());
        }
        if in_vain {
            let id = self.connection_id;
            self.pool.retire_matching(state, |connection| connection.id == id);
            return false;
        }
        // The first time stays: with a later one, a connection made since would pass for an old one,
        // and refused credentials would be tried on new connections without end.
        state.last_replaced = last.or_else(|| Some(Instant::now()));
        self.pool.retire_matching(state, |_| true);
        true
    }

    /// Takes the connection out of use if it has answered nothing since `sent_at`, a while ago: it may
    /// be dead.
    pub(crate) fn suspect_connection(&self, sent_at: Instant) {
        if sent_at.elapsed() < SUSPICIOUS_SILENCE {
            return;
        }
        let mut state = self.pool.shared.lock();
        let silent = state
            .connection(self.connection_id)
            .is_some_and(|connection| connection.answered_at.is_none_or(|time| time < sent_at));
        drop(state);
        if silent {
            self.pool.retire(self.connection_id);
        }
    }

    /// Gives the place back before the answer is there: its time is over. The stream stays open for a moment more; a
    /// connection on which too many streams wait in vain is left.
    pub(crate) fn release_before_response(&self) {
        let mut state = self.pool.shared.lock();
        // Relaxed is enough: the pool's lock is held, and `Drop` has the permit to itself.
        if self.is_late.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut is_worn = false;
        if let Some(connection) = state.connection(self.connection_id) {
            connection.in_flight -= 1;
            connection.in_flight_bytes -= self.bytes;
            connection.late += 1;
            is_worn = connection.late * LATE_SHARE > connection.limit.max(LATE_SHARE);
        }
        if is_worn {
            let id = self.connection_id;
            self.pool.retire_matching(state, |connection| connection.id == id);
        } else {
            self.pool.serve(state);
        }
    }

    /// Notes that Apple was out of order on it.
    pub(crate) fn mark_degraded(&self) {
        if let Some(connection) = self.pool.shared.lock().connection(self.connection_id) {
            connection.degraded_at = Some(Instant::now());
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
        let Some(connection) = state.connection(self.connection_id) else { return };
        connection.proven |= accepted;
        let was_cold = connection.answered_at.replace(Instant::now()).is_none();
        if was_cold {
            state.reset_waiting_since();
            self.pool.serve(state);
        }
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut state = self.pool.shared.lock();
        if let Some(connection) = state.connection(self.connection_id) {
            if *self.is_late.get_mut() {
                connection.late -= 1;
            } else {
                connection.in_flight -= 1;
                connection.in_flight_bytes -= self.bytes;
            }
        }
        self.pool.serve(state);
    }
}
