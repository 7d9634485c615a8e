//! Liveness of a worker on one lane: its last heartbeat, and what follows from it. The worker *fences* itself before the
//! others count it as dead; the lane's clock is known by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Between two heartbeats.
pub(super) const HEARTBEAT_EVERY: Duration = Duration::from_millis(400);
/// Others count a worker as dead after so long.
pub(super) const DEAD_AFTER: Duration = Duration::from_secs(2);
/// The worker itself stops so much earlier.
const FENCED_AFTER: Duration = Duration::from_millis(1900);

/// Liveness of this worker on one lane: its last heartbeat, the lane's clock, epoch and reaper.
#[derive(Debug)]
pub(super) struct Liveness {
    clock: Arc<dyn Clock>,
    last: Mutex<Option<Heartbeat>>,
    /// Grows with every gap that was too long.
    incarnation: AtomicU64,
    wanted: Notify,
    done: Notify,
}

/// One heartbeat, and what the lane said to it.
#[derive(Debug, Clone)]
pub(super) struct Heartbeat {
    /// When it left. (The server's time is later, if anything: so deadlines come out early, never late.)
    pub(super) sent: Instant,
    /// For how long the machine had been suspended by then: the steady clock does not count that.
    pub(super) slept: Duration,
    pub(super) server_ms: u64,
    pub(super) epoch: u64,
    pub(super) reaper: String,
    pub(super) dead: u64,
}

impl Liveness {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            last: Mutex::default(),
            incarnation: AtomicU64::new(0),
            wanted: Notify::new(),
            done: Notify::new(),
        }
    }

    fn last(&self) -> MutexGuard<'_, Option<Heartbeat>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the time since the last gap; a job that was claimed in another one is no longer ours.
    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// Says whether the others still count this worker as alive, for sure.
    pub(super) fn is_alive(&self) -> bool {
        let slept = self.clock.slept();
        self.last()
            .as_ref()
            .is_some_and(|beat| beat.sent.elapsed() + slept.saturating_sub(beat.slept) < FENCED_AFTER)
    }

    /// Returns when the server's clock shows `server_ms`, by ours.
    pub(super) fn instant_of(&self, server_ms: u64) -> Option<Instant> {
        let last = self.last();
        let beat = last.as_ref()?;
        let at = if server_ms >= beat.server_ms {
            beat.sent.checked_add(Duration::from_millis(server_ms - beat.server_ms))
        } else {
            beat.sent.checked_sub(Duration::from_millis(beat.server_ms - server_ms))
        };
        Some(at.unwrap_or(beat.sent))
    }

    /// Counts the steps of the server's clock.
    pub(super) fn epoch(&self) -> u64 {
        self.last().as_ref().map_or(0, |beat| beat.epoch)
    }

    /// Says whether a worker is the one that looks for dead ones.
    pub(super) fn is_reaper(&self, me: &str) -> bool {
        self.last().as_ref().is_some_and(|beat| beat.reaper.split(' ').next() == Some(me))
    }

    /// Says whether dead workers have left anything.
    pub(super) fn knows_of_dead(&self) -> bool {
        self.last().as_ref().is_some_and(|beat| beat.dead > 0)
    }

    /// Waits for a heartbeat from now on: a server that was restarted has forgotten the last one, and who
    /// reads without a heartbeat is dead at once.
    pub(super) async fn again(&self) {
        let now = Instant::now();
        loop {
            // Before the look: `notify_waiters` leaves nothing for who comes later.
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.last().as_ref().is_some_and(|beat| beat.sent >= now) {
                return;
            }
            self.wanted.notify_one();
            done.await;
        }
    }

    /// Says whether a heartbeat is wanted before its time.
    pub(super) fn want(&self) {
        self.wanted.notify_one();
    }

    /// Returns for how long the machine has been suspended in all.
    pub(super) fn slept(&self) -> Duration {
        self.clock.slept()
    }

    /// Waits for somebody who wants a heartbeat before its time, or for `time`.
    pub(super) async fn wanted_within(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.wanted.notified()).await;
    }

    /// Takes a heartbeat that was answered, and says whether it came too late: jobs from before it are others' then.
    pub(super) fn note(&self, beat: Heartbeat, was_dead: bool) -> bool {
        let mut last = self.last();
        let gap = last.as_ref().is_some_and(|before| {
            beat.sent - before.sent + beat.slept.saturating_sub(before.slept) >= FENCED_AFTER
        });
        if gap || was_dead {
            self.incarnation.fetch_add(1, Ordering::Release);
        }
        *last = Some(beat);
        drop(last);
        self.done.notify_waiters();
        gap || was_dead
    }
}

#[cfg(test)]
mod tests {
    use push_domain::{ManualClock, Timestamp};

    use super::*;

    fn a_beat(liveness: &Liveness, server_ms: u64) -> Heartbeat {
        let (sent, slept) = (Instant::now(), liveness.clock.slept());
        Heartbeat { sent, slept, server_ms, epoch: 0, reaper: "w 1".into(), dead: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_machine_that_was_suspended_sends_nothing_that_it_had_before() {
        let clock = Arc::new(ManualClock::starting_at(Timestamp::from_millis(1_800_000_000_000)));
        let liveness = Liveness::new(clock.clone());
        liveness.note(a_beat(&liveness, 1000), false);
        let incarnation = liveness.incarnation();
        assert!(liveness.is_alive());

        clock.suspend(Duration::from_hours(1));
        assert!(!liveness.is_alive(), "the steady clock does not know of it");

        liveness.note(a_beat(&liveness, 3_601_000), false);
        assert!(liveness.is_alive() && liveness.incarnation() != incarnation);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_whose_clock_steps_takes_nobody_from_life() {
        let liveness = Liveness::new(Arc::new(ManualClock::starting_at(Timestamp::from_millis(1))));
        for server_ms in [1000, 3_600_000, 500, 3000] {
            liveness.note(a_beat(&liveness, server_ms), false);
            tokio::time::advance(HEARTBEAT_EVERY).await;
            assert!(liveness.is_alive() && liveness.incarnation() == 0);
        }
        tokio::time::advance(FENCED_AFTER).await;
        assert!(!liveness.is_alive());
    }
}
