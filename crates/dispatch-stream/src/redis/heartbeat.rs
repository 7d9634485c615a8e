//! Worker heartbeat on one lane: shows that the worker lives, fences it, and reads the lane's clock.
//!
//! A worker whose heartbeat has not changed for 2 s is dead to the others, who then take its jobs. So it must not
//! send a job that it has had since before such a gap: it *fences* itself, a little earlier than they act. All of
//! this is measured with each process's own steady clock; no wall clock, and not the server's, has a say.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use push_domain::Clock;
use redis::{Value, cmd};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use super::lane_connection::{LaneConnection, described};
use super::script::LuaScript;
use super::worker::LaneConsumer;
use super::{pause, value};

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

#[derive(Debug, Clone)]
struct Heartbeat {
    /// When it left. (The server's time is later, if anything: so deadlines come out early, never late.)
    sent: Instant,
    /// For how long the machine had been suspended by then: the steady clock does not count that.
    slept: Duration,
    server_ms: u64,
    epoch: u64,
    reaper: String,
    dead: u64,
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

    fn note(&self, beat: Heartbeat, was_dead: bool) -> bool {
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

/// Election of the lane's reaper: one that shows no heartbeat for as long as a dead worker is replaced.
struct ReaperElection {
    seen: String,
    since: Instant,
}

impl ReaperElection {
    /// Returns the reaper that may be replaced now.
    fn replaced(&self, now: Instant) -> &str {
        let is_gone = self.seen.is_empty() || now - self.since >= DEAD_AFTER;
        if is_gone { &self.seen } else { "-" }
    }

    fn saw(&mut self, reaper: &str, now: Instant) {
        if self.seen != reaper {
            reaper.clone_into(&mut self.seen);
            self.since = now;
        }
    }
}

/// Beats until the worker is gone.
pub(super) async fn serve(consumer: Weak<LaneConsumer>) {
    let Some(worker) = consumer.upgrade() else { return };
    let step = LuaScript::beat();
    let mut link = LaneConnection::commands(worker.lane.clone());
    drop(worker);
    let mut election = ReaperElection { seen: String::new(), since: Instant::now() };
    let mut number = 0_u64;
    loop {
        let Some(worker) = consumer.upgrade() else { return };
        number += 1;
        let (sent, slept) = (Instant::now(), worker.liveness.clock.slept());
        // Who leaves looks after nothing any more.
        let leaves = worker.is_closing();
        let keys = &worker.lane.keys;
        let mut call = step.call(3);
        call.arg(keys.beats()).arg(keys.dead()).arg(keys.lane());
        call.arg(&worker.name).arg(number).arg(u8::from(!leaves));
        call.arg(if leaves { "-" } else { election.replaced(sent) });
        drop(worker);
        let answer = step.run(&call, &mut link).await;
        let Some(worker) = consumer.upgrade() else { return };
        let heard = Instant::now();
        match answer.map(|answer| read(answer, sent, slept)) {
            Ok(Some((beat, was_dead))) => {
                let was_reaper = worker.liveness.is_reaper(&worker.name);
                election.saw(&beat.reaper, heard);
                if worker.liveness.note(beat, was_dead) {
                    warn!(
                        lane = worker.lane.name(),
                        "no heartbeat for too long: jobs that were not sent yet are left to others"
                    );
                }
                if !was_reaper && worker.liveness.is_reaper(&worker.name) {
                    info!(lane = worker.lane.name(), "this process looks after the lane");
                }
                let wanted = worker.liveness.wanted.notified();
                let _ = tokio::time::timeout(HEARTBEAT_EVERY, wanted).await;
            }
            Ok(None) => pause().await,
            Err(error) => {
                worker.mark_down(&described(&error));
                drop(worker);
                if error.code() == Some("BUSY") {
                    // A script that has run for half a second is none of ours.
                    let ended = link.query(cmd("SCRIPT").arg("KILL")).await.is_ok();
                    warn!(ended, "somebody's script holds a lane up");
                }
                pause().await;
            }
        }
    }
}

fn read(answer: Value, sent: Instant, slept: Duration) -> Option<(Heartbeat, bool)> {
    let [now, epoch, reaper, dead, was_dead] = <[Value; 5]>::try_from(value::list(answer)).ok()?;
    let beat = Heartbeat {
        sent,
        slept,
        // The server's milliseconds are rounded down.
        server_ms: value::text(now)?.parse::<u64>().ok()? + 1,
        epoch: value::text(epoch)?.parse().ok()?,
        reaper: value::text(reaper)?,
        dead: u64::try_from(value::number(&dead)?).ok()?,
    };
    Some((beat, value::number(&was_dead)? > 0))
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

    #[tokio::test(start_paused = true)]
    async fn a_reaper_is_replaced_only_when_it_has_not_shown_itself() {
        let mut election = ReaperElection { seen: String::new(), since: Instant::now() };
        assert_eq!(election.replaced(Instant::now()), "");
        for number in 0..10 {
            election.saw(&format!("other {number}"), Instant::now());
            tokio::time::advance(HEARTBEAT_EVERY).await;
            assert_eq!(election.replaced(Instant::now()), "-");
        }

        tokio::time::advance(DEAD_AFTER).await;

        assert_eq!(election.replaced(Instant::now()), "other 9");
    }
}
