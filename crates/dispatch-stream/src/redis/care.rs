//! Looks after jobs that nobody works on: those of dead workers, and those of our own that got lost on
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

use super::beat::{DEAD_AFTER, EVERY};
use super::entry::read_parcel;
use super::link::{Link, described};
use super::read::provider_of;
use super::script::Step;
use super::value::{self, StreamEntry};
use super::worker::{End, opened};
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

/// What the reaper has seen of the workers' heartbeats.
#[derive(Debug, Default)]
struct Watch {
    /// The number of each one's last heartbeat, and when that was first seen.
    seen: HashMap<String, (String, Instant)>,
}

impl Watch {
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
pub(super) async fn serve(end: Weak<End>) {
    let Some(worker) = end.upgrade() else { return };
    let mut care = Care {
        link: Link::commands(worker.lane.clone()),
        bury: Step::bury(),
        reap: Step::reap(),
        watch: Watch::default(),
        watched: Instant::now(),
        audited: Instant::now(),
        doubt_until: Instant::now(),
    };
    drop(worker);
    loop {
        let Some(worker) = end.upgrade() else { return };
        if worker.is_closing() {
            return; // What is left is for those who stay.
        }
        if !worker.heart.beats() {
            care.watch = Watch::default();
            drop(worker);
            pause().await;
            continue;
        }
        let wait = match care.look(&worker).await {
            Ok(is_busy) => {
                worker.works();
                if is_busy { BUSY } else { EVERY }
            }
            Err(error) => {
                worker.trouble(&described(&error));
                EVERY
            }
        };
        drop(worker);
        tokio::time::sleep(wait).await;
    }
}

struct Care {
    link: Link,
    bury: Step,
    reap: Step,
    watch: Watch,
    watched: Instant,
    audited: Instant,
    doubt_until: Instant,
}

impl Care {
    /// Looks at what there is to look at; says whether there may be more at once.
    async fn look(&mut self, end: &Arc<End>) -> RedisResult<bool> {
        if !end.heart.is_reaper(&end.consumer) {
            self.watch = Watch::default();
        } else if self.watched.elapsed() >= EVERY {
            self.watch_beats(end).await?;
            self.watched = Instant::now();
        }
        if end.doubtful.swap(false, Ordering::Relaxed) {
            self.doubt_until = Instant::now() + DOUBT;
        }
        if Instant::now() < self.doubt_until && self.audited.elapsed() >= AUDIT_EVERY {
            self.audited = Instant::now();
            self.find_lost(end).await?;
        }
        if !end.heart.knows_of_dead() {
            return Ok(false);
        }
        self.take_over(end).await
    }

    async fn watch_beats(&mut self, end: &Arc<End>) -> RedisResult<()> {
        let keys = &end.lane.keys;
        let asked = Instant::now();
        let beats = value::list(self.link.query(cmd("HGETALL").arg(keys.beats())).await?);
        let texts: Vec<_> = beats.into_iter().filter_map(value::text).collect();
        let pairs = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        let others = pairs.filter(|(worker, _)| *worker != end.consumer).collect();
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
            warn!(lane = end.lane.name(), workers = dead.len(), "workers do not show themselves any more");
            end.heart.again().await;
        }
        Ok(())
    }

    /// Takes over what dead workers left; says whether there may be more.
    async fn take_over(&mut self, end: &Arc<End>) -> RedisResult<bool> {
        let keys = &end.lane.keys;
        let dead = value::list(self.link.query(cmd("SMEMBERS").arg(keys.dead())).await?);
        let mut took = false;
        for worker in dead.into_iter().filter_map(value::text) {
            took |= self.take_over_from(end, &worker).await?;
        }
        if !took && end.suspect().is_none() {
            // Nobody may be left.
            end.heart.want();
        }
        Ok(true)
    }

    async fn take_over_from(&mut self, end: &Arc<End>, dead: &str) -> RedisResult<bool> {
        let life = end.heart.life();
        // Only what can start: a worker whose hands are full leaves the rest to others.
        let reserved = Provider::ALL.map(|provider| end.intake.reserve_now(provider, MAX_TAKEN));
        let keys = &end.lane.keys;
        let may_suspect = u8::from(end.suspect().is_none());
        let mut call = self.reap.call(2 + keys.queues().len());
        call.arg(keys.beats()).arg(keys.dead()).arg(&keys.queues());
        call.arg(GROUP).arg(&end.consumer).arg(dead).arg(POISON_LIMIT).arg(may_suspect).arg(&reserved);
        let answer = self.reap.run(&call, &mut self.link).await;
        let mut answer = value::list(answer.unwrap_or_else(|error| {
            end.trouble(&described(&error));
            redis::Value::Nil
        }))
        .into_iter();
        let (taken, poison) = (numbered(answer.next()), numbered(answer.next()));
        if let Some(suspect) = answer.next().and_then(value::text) {
            let place =
                taken.iter().find(|(_, entry)| entry.id == suspect).map(|(queue, _)| (*queue, suspect));
            *end.suspect() = place.map(|place| (end.lane.name().to_owned(), place));
        }
        let took = !taken.is_empty() || !poison.is_empty();
        for (queue, mut entry) in poison {
            let Some(parcel) = read_parcel(&mut entry) else { continue };
            end.held().insert((queue, entry.id.clone()));
            let verdict = if opened(&end.sealer, &parcel).is_some() {
                error!(job = %parcel.job, "a push ended every worker that was to send it; it is given up");
                metrics::counter!("dispatch_poison_total").increment(1);
                wire::write_verdict(&Verdict::unsent(FailReason::Poison))
            } else {
                Vec::new()
            };
            end.settle((queue, entry.id), parcel.gateway, parcel.job, verdict);
        }
        if !taken.is_empty() {
            warn!(lane = end.lane.name(), jobs = taken.len(), "jobs of a dead worker are taken over");
            metrics::counter!("dispatch_taken_over_total").increment(taken.len() as u64);
        }
        let (apns, fcm) = taken.into_iter().partition(|(queue, _)| provider_of(*queue) == Provider::Apns);
        end.take_in(Provider::Apns, reserved[0], apns, life);
        end.take_in(Provider::Fcm, reserved[1], fcm, life);
        Ok(took)
    }

    /// Finds entries that the server counts as ours and that never arrived: an answer was lost on the way.
    async fn find_lost(&mut self, end: &Arc<End>) -> RedisResult<()> {
        let life = end.heart.life();
        let queues = end.lane.keys.queues();
        let mut questions = Pipeline::new();
        for queue in &queues {
            let question = questions.cmd("XPENDING").arg(queue).arg(GROUP);
            question.arg("IDLE").arg(LOST_AFTER_MS).arg("-").arg("+").arg(MAX_AUDITED).arg(&end.consumer);
        }
        let answers = match self.link.pipeline(&questions).await {
            Err(error) if error.to_string().contains("NOGROUP") => return Ok(()),
            answers => answers?,
        };
        for (queue, pending) in answers.into_iter().enumerate() {
            let ids = value::list(pending).into_iter();
            for id in ids.filter_map(|it| value::text(value::list(it).into_iter().next()?)) {
                if end.held().contains(&(queue, id.clone())) {
                    continue;
                }
                let key = &queues[queue];
                let found = self.link.query(cmd("XRANGE").arg(key).arg(&id).arg(&id)).await?;
                match value::list(found).into_iter().next().and_then(StreamEntry::read) {
                    Some(entry) => {
                        metrics::counter!("dispatch_found_total").increment(1);
                        end.take_in(provider_of(queue), 0, vec![(queue, entry)], life);
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
        let mut watch = Watch::default();
        for number in 0..5 {
            let now = Instant::now();
            assert!(watch.look(beats(&[("alive", number), ("dead", 7)]), now, now).is_empty());
            tokio::time::advance(EVERY).await;
        }

        let now = Instant::now();
        assert_eq!(watch.look(beats(&[("alive", 5), ("dead", 7)]), now, now), beats(&[("dead", 7)]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_late_buries_nobody() {
        let mut watch = Watch::default();
        let now = Instant::now();
        watch.look(beats(&[("w", 1)]), now, now);
        tokio::time::advance(EVERY).await;
        let asked = Instant::now();
        // The reaper stood still, or the lane did.
        tokio::time::advance(DEAD_AFTER * 3).await;

        assert!(watch.look(beats(&[("w", 1)]), asked, Instant::now()).is_empty());
    }
}
