//! Shows that a worker lives, and tells the lane's time from the answer.
//!
//! A worker without a heartbeat for 2 s is dead to the others, who then take its jobs. So it must not
//! send a job that it has had since before such a gap: it *fences* itself, a little earlier than they act.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use super::link::{Link, described};
use super::script::Step;
use super::worker::End;
use super::{pause, value};

/// Between two heartbeats.
const EVERY: Duration = Duration::from_millis(400);
/// Others count a worker as dead after so long.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(2);
/// The worker itself stops so much earlier.
const FENCED_AFTER: Duration = Duration::from_millis(1900);

/// What the last heartbeats tell.
#[derive(Debug, Default)]
pub(super) struct Heart {
    last: Mutex<Option<Beat>>,
    /// Grows with every gap that was too long.
    life: AtomicU64,
    wanted: Notify,
    done: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    /// When it left. (The server's time is later, if anything: so deadlines come out early, never late.)
    sent: Instant,
    server_ms: u64,
}

impl Heart {
    fn last(&self) -> Option<Beat> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the time since the last gap; a job that was claimed in another one is no longer ours.
    pub(super) fn life(&self) -> u64 {
        self.life.load(Ordering::Acquire)
    }

    /// Says whether the others still count this worker as alive, for sure.
    pub(super) fn beats(&self) -> bool {
        self.last().is_some_and(|beat| beat.sent.elapsed() < FENCED_AFTER)
    }

    /// Returns when the server's clock shows `server_ms`, by ours.
    pub(super) fn instant_of(&self, server_ms: u64) -> Option<Instant> {
        let beat = self.last()?;
        let at = if server_ms >= beat.server_ms {
            beat.sent.checked_add(Duration::from_millis(server_ms - beat.server_ms))
        } else {
            beat.sent.checked_sub(Duration::from_millis(beat.server_ms - server_ms))
        };
        Some(at.unwrap_or(beat.sent))
    }

    /// Waits for a heartbeat from now on: a server that was restarted has forgotten the last one, and who
    /// reads without a heartbeat is dead at once.
    pub(super) async fn again(&self) {
        let now = Instant::now();
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.last().is_some_and(|beat| beat.sent >= now) {
                return;
            }
            self.wanted.notify_one();
            done.await;
        }
    }

    fn note(&self, beat: Beat) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // By either clock: the others judge by the server's, which a late command or a step of it moves on.
        let gap = last.is_some_and(|before| {
            let served = Duration::from_millis(beat.server_ms.saturating_sub(before.server_ms));
            (beat.sent - before.sent).max(served) >= FENCED_AFTER
        });
        if gap {
            self.life.fetch_add(1, Ordering::Release);
        }
        *last = Some(beat);
        self.done.notify_waiters();
        gap
    }
}

/// Beats until the worker is gone.
pub(super) async fn serve(end: Weak<End>) {
    let Some(worker) = end.upgrade() else { return };
    let step = Step::beat();
    let mut beat = step.call(1);
    beat.arg(worker.lane.keys.heartbeats()).arg(&worker.consumer);
    let mut link = Link::commands(worker.lane.clone());
    drop(worker);
    loop {
        let sent = Instant::now();
        let answer = step.run(&beat, &mut link).await;
        let Some(worker) = end.upgrade() else { return };
        match answer.map(|time| value::text(time).and_then(|text| text.parse::<u64>().ok())) {
            Ok(Some(server_ms)) => {
                // The server's milliseconds are rounded down.
                if worker.heart.note(Beat { sent, server_ms: server_ms + 1 }) {
                    warn!(
                        lane = worker.lane.name(),
                        "no heartbeat for too long: jobs that were not sent yet are left to others"
                    );
                }
                let wanted = worker.heart.wanted.notified();
                let _ = tokio::time::timeout(EVERY, wanted).await;
            }
            Ok(None) => pause().await,
            Err(error) => {
                worker.trouble(&described(&error));
                drop(worker);
                pause().await;
            }
        }
    }
}
