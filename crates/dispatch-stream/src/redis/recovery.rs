//! Recovery of orphaned stream entries (XCLAIM): those of dead workers, and those of our own that got lost on
//! the way here.
//!
//! One worker of a lane, its reaper, watches the heartbeats of all; the others hear of the dead from their own. While
//! nobody is dead and no connection broke, nothing is looked at.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use push_domain::{FailReason, Provider, Verdict};
use redis::{Pipeline, RedisResult, cmd};
use tokio::time::Instant;
use tracing::{error, warn};

use super::consumer::{LaneConsumer, opened, read_parcel};
use super::keys::provider_of;
use super::lane_connection::{LaneConnection, described};
use super::liveness::{DEAD_AFTER, HEARTBEAT_EVERY};
use super::script::LuaScript;
use super::value::{self, StreamEntry};
use super::{GROUP, pause};
use crate::wire;

/// Most jobs of a provider that are taken over at once.
const MAX_TAKEN: usize = 50;
/// A job that so many workers did not survive is not tried again.
const POISON_LIMIT: usize = 4;
/// Between two looks while there is something to take over.
const BUSY: Duration = Duration::from_millis(20);
/// For so long after a connection broke its lost answers are looked for.
const DOUBT: Duration = Duration::from_secs(10);
const AUDIT_EVERY: Duration = Duration::from_secs(1);
/// An entry of ours that we do not know is lost after so long; before, it may still be on its way.
const LOST_AFTER_MS: u32 = 3500;
/// Entries of one queue that are looked at.
const MAX_AUDITED: usize = 5000;

/// Heartbeat monitor of the reaper: when each worker's heartbeat last changed.
#[derive(Debug, Default)]
struct HeartbeatMonitor {
    /// The number of each one's last heartbeat, and when that was first seen.
    seen: HashMap<String, (String, Instant)>,
}

impl HeartbeatMonitor {
    /// Takes what a question showed that was asked at `asked` and answered at `heard`; returns those whose heartbeat
    /// has not changed for too long. (What came between asking and hearing may be old.)
    fn look(
        &mut self,
        beats: Vec<(String, String)>,
        asked: Instant,
        heard: Instant,
    ) -> Vec<(String, String)> {
        let mut dead = Vec::new();
        let mut seen = HashMap::with_capacity(beats.len());
        for (worker, number) in beats {
            let since = match self.seen.remove(&worker) {
                Some((before, since)) if before == number => since,
                _ => heard,
            };
            if asked.saturating_duration_since(since) >= DEAD_AFTER {
                dead.push((worker.clone(), number.clone()));
            }
            seen.insert(worker, (number, since));
        }
        self.seen = seen;
        dead
    }
}

/// Takes care until the worker is gone. Does nothing while the worker is not sure that it lives.
pub(super) async fn serve(consumer: Weak<LaneConsumer>) {
    let Some(worker) = consumer.upgrade() else { return };
    let mut recovery = Recovery {
        link: LaneConnection::commands(worker.lane.clone()),
        bury: LuaScript::bury(),
        reap: LuaScript::reap(),
        watch: HeartbeatMonitor::default(),
        watched: Instant::now(),
        audited: Instant::now(),
        doubt_until: Instant::now(),
    };
    drop(worker);
    loop {
        let Some(worker) = consumer.upgrade() else { return };
        if worker.is_closing() {
            return; // What is left is for those who stay.
        }
        if !worker.liveness.is_alive() {
            recovery.watch = HeartbeatMonitor::default();
            drop(worker);
            pause().await;
            continue;
        }
        let wait = match recovery.look(&worker).await {
            Ok(is_busy) => {
                worker.mark_up();
                if is_busy { BUSY } else { HEARTBEAT_EVERY }
            }
            Err(error) => {
                worker.mark_down(&described(&error));
                HEARTBEAT_EVERY
            }
        };
        drop(worker);
        tokio::time::sleep(wait).await;
    }
}

struct Recovery {
    link: LaneConnection,
    bury: LuaScript,
    reap: LuaScript,
    watch: HeartbeatMonitor,
    watched: Instant,
    audited: Instant,
    doubt_until: Instant,
}

impl Recovery {
    /// Looks at what there is to look at; says whether there may be more at once.
    async fn look(&mut self, consumer: &Arc<LaneConsumer>) -> RedisResult<bool> {
        if !consumer.liveness.is_reaper(&consumer.name) {
            self.watch = HeartbeatMonitor::default();
        } else if self.watched.elapsed() >= HEARTBEAT_EVERY {
            self.watch_beats(consumer).await?;
            self.watched = Instant::now();
        }
        if consumer.doubtful.swap(false, Ordering::Relaxed) {
            self.doubt_until = Instant::now() + DOUBT;
        }
        if Instant::now() < self.doubt_until && self.audited.elapsed() >= AUDIT_EVERY {
            self.audited = Instant::now();
            self.find_lost(consumer).await?;
        }
        if !consumer.liveness.knows_of_dead() {
            return Ok(false);
        }
        self.take_over(consumer).await
    }

    async fn watch_beats(&mut self, consumer: &Arc<LaneConsumer>) -> RedisResult<()> {
        let keys = &consumer.lane.keys;
        let asked = Instant::now();
        let beats = value::list(self.link.query(cmd("HGETALL").arg(keys.beats())).await?);
        let texts: Vec<_> = beats.into_iter().filter_map(value::text).collect();
        let pairs = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        let others = pairs.filter(|(worker, _)| *worker != consumer.name).collect();
        let dead = self.watch.look(others, asked, Instant::now());
        if dead.is_empty() {
            return Ok(());
        }
        let mut call = self.bury.call(2);
        call.arg(keys.beats()).arg(keys.dead());
        for (worker, number) in &dead {
            call.arg(worker).arg(number);
        }
        if value::number(&self.bury.run(&call, &mut self.link).await?).is_some_and(|added| added > 0) {
            warn!(
                lane = consumer.lane.name(),
                workers = dead.len(),
                "workers do not show themselves any more"
            );
            consumer.liveness.again().await;
        }
        Ok(())
    }

    /// Takes over what dead workers left; says whether there may be more.
    async fn take_over(&mut self, consumer: &Arc<LaneConsumer>) -> RedisResult<bool> {
        let keys = &consumer.lane.keys;
        let dead = value::list(self.link.query(cmd("SMEMBERS").arg(keys.dead())).await?);
        let mut took = false;
        for worker in dead.into_iter().filter_map(value::text) {
            took |= self.take_over_from(consumer, &worker).await?;
        }
        if !took && consumer.suspect().is_none() {
            // Nobody may be left.
            consumer.liveness.want();
        }
        Ok(true)
    }

    async fn take_over_from(&mut self, consumer: &Arc<LaneConsumer>, dead: &str) -> RedisResult<bool> {
        let incarnation = consumer.liveness.incarnation();
        // Only what can start: a worker whose hands are full leaves the rest to others.
        let reserved = Provider::ALL.map(|provider| consumer.claim_queue.reserve_now(provider, MAX_TAKEN));
        let keys = &consumer.lane.keys;
        let may_suspect = u8::from(consumer.suspect().is_none());
        let mut call = self.reap.call(2 + keys.queues().len());
        call.arg(keys.beats()).arg(keys.dead()).arg(&keys.queues());
        call.arg(GROUP).arg(&consumer.name).arg(dead).arg(POISON_LIMIT).arg(may_suspect).arg(&reserved);
        let answer = self.reap.run(&call, &mut self.link).await;
        // Not `?`: the room that was set aside has to be given back below in any case.
        let mut answer = value::list(answer.unwrap_or_else(|error| {
            consumer.mark_down(&described(&error));
            redis::Value::Nil
        }))
        .into_iter();
        let (taken, poison) = (numbered(answer.next()), numbered(answer.next()));
        if let Some(suspect) = answer.next().and_then(value::text) {
            let place =
                taken.iter().find(|(_, entry)| entry.id == suspect).map(|(queue, _)| (*queue, suspect));
            *consumer.suspect() = place.map(|place| (consumer.lane.name().to_owned(), place));
        }
        let took = !taken.is_empty() || !poison.is_empty();
        for (queue, mut entry) in poison {
            let Some(parcel) = read_parcel(&mut entry) else { continue };
            consumer.held().insert((queue, entry.id.clone()));
            let verdict = if opened(&consumer.sealer, &parcel).is_some() {
                error!(job = %parcel.job, "a push ended every worker that was to send it; it is given up");
                metrics::counter!("dispatch_poison_total").increment(1);
                wire::write_verdict(&Verdict::unsent(FailReason::Poison))
            } else {
                Vec::new()
            };
            consumer.settle((queue, entry.id), parcel.gateway, parcel.job, verdict);
        }
        if !taken.is_empty() {
            warn!(lane = consumer.lane.name(), jobs = taken.len(), "jobs of a dead worker are taken over");
            metrics::counter!("dispatch_taken_over_total").increment(taken.len() as u64);
        }
        let (apns, fcm) = taken.into_iter().partition(|(queue, _)| provider_of(*queue) == Provider::Apns);
        consumer.take_in(Provider::Apns, reserved[0], apns, incarnation);
        consumer.take_in(Provider::Fcm, reserved[1], fcm, incarnation);
        Ok(took)
    }

    /// Finds entries that the server counts as ours and that never arrived: an answer was lost on the way.
    async fn find_lost(&mut self, consumer: &Arc<LaneConsumer>) -> RedisResult<()> {
        let incarnation = consumer.liveness.incarnation();
        let queues = consumer.lane.keys.queues();
        let mut questions = Pipeline::new();
        for queue in &queues {
            let question = questions.cmd("XPENDING").arg(queue).arg(GROUP);
            question.arg("IDLE").arg(LOST_AFTER_MS).arg("-").arg("+").arg(MAX_AUDITED).arg(&consumer.name);
        }
        let answers = match self.link.pipeline(&questions).await {
            Err(error) if error.to_string().contains("NOGROUP") => return Ok(()),
            answers => answers?,
        };
        for (queue, pending) in answers.into_iter().enumerate() {
            let ids = value::list(pending).into_iter();
            for id in ids.filter_map(|it| value::text(value::list(it).into_iter().next()?)) {
                if consumer.held().contains(&(queue, id.clone())) {
                    continue;
                }
                let key = &queues[queue];
                let found = self.link.query(cmd("XRANGE").arg(key).arg(&id).arg(&id)).await?;
                match value::list(found).into_iter().next().and_then(StreamEntry::read) {
                    Some(entry) => {
                        metrics::counter!("dispatch_found_total").increment(1);
                        consumer.take_in(provider_of(queue), 0, vec![(queue, entry)], incarnation);
                    }
                    None => {
                        self.link.query(cmd("XACK").arg(key).arg(GROUP).arg(&id)).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads pairs of a queue's number and an entry.
fn numbered(value: Option<redis::Value>) -> Vec<(usize, StreamEntry)> {
    let pair = |value| {
        let [number, entry] = <[redis::Value; 2]>::try_from(value::list(value)).ok()?;
        Some((usize::try_from(value::number(&number)?).ok()?, StreamEntry::read(entry)?))
    };
    value.map(value::list).unwrap_or_default().into_iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(of: &[(&str, u32)]) -> Vec<(String, String)> {
        of.iter().map(|(worker, number)| ((*worker).to_owned(), number.to_string())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_shows_nothing_new_for_two_seconds_is_dead_and_nobody_else() {
        let mut watch = HeartbeatMonitor::default();
        for number in 0..5 {
            let now = Instant::now();
            assert!(watch.look(beats(&[("alive", number), ("dead", 7)]), now, now).is_empty());
            tokio::time::advance(HEARTBEAT_EVERY).await;
        }

        let now = Instant::now();
        assert_eq!(watch.look(beats(&[("alive", 5), ("dead", 7)]), now, now), beats(&[("dead", 7)]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_late_buries_nobody() {
        let mut watch = HeartbeatMonitor::default();
        let now = Instant::now();
        watch.look(beats(&[("w", 1)]), now, now);
        tokio::time::advance(HEARTBEAT_EVERY).await;
        let asked = Instant::now();
        // The reaper stood still, or the lane did.
        tokio::time::advance(DEAD_AFTER * 3).await;

        assert!(watch.look(beats(&[("w", 1)]), asked, Instant::now()).is_empty());
    }
}
