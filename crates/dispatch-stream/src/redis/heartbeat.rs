//! Worker heartbeat on one lane: shows that the worker lives, fences it, and reads the lane's clock.
//!
//! A worker whose heartbeat has not changed for 2 s is dead to the others, who then take its jobs. So it must not
//! send a job that it has had since before such a gap: it *fences* itself, a little earlier than they act. All of
//! this is measured with each process's own steady clock; no wall clock, and not the server's, has a say.

use std::sync::Weak;
use std::time::Duration;

use redis::{Value, cmd};
use tokio::time::Instant;
use tracing::{info, warn};

use super::consumer::LaneConsumer;
use super::lane_connection::{LaneConnection, described};
use super::liveness::{DEAD_AFTER, HEARTBEAT_EVERY, Heartbeat};
use super::script::LuaScript;
use super::{pause, value};

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
        let (sent, slept) = (Instant::now(), worker.liveness.slept());
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
                worker.liveness.wanted_within(HEARTBEAT_EVERY).await;
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
    use super::*;

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
