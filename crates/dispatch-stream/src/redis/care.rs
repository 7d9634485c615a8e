//! Looks after jobs that nobody works on: those of dead workers, and those of our own that got lost on
//! the way here.

use std::sync::{Arc, Weak};
use std::time::Duration;

use push_domain::FailReason;
use rand::RngExt;
use redis::{Pipeline, RedisResult, cmd};
use tokio::time::Instant;
use tracing::{error, warn};

use super::beat::DEAD_AFTER;
use super::entry::Label;
use super::link::{Link, described};
use super::script::Step;
use super::value::{self, StreamEntry};
use super::worker::End;
use super::{GROUP, pause};
use crate::Verdict;

/// Most jobs that are taken over at once.
const MAX_TAKEN: usize = 50;
/// A job that so many workers did not survive is not tried again.
const POISON_LIMIT: usize = 4;
/// Between two looks at a suspect's fate.
const SUSPECT: Duration = Duration::from_millis(20);
const AUDIT_EVERY: Duration = Duration::from_secs(1);
/// An entry of ours that we do not know is lost after so long; before, it may still be on its way.
const LOST_AFTER_MS: u32 = 3500;
/// Entries of one queue that are looked at.
const MAX_AUDITED: usize = 5000;

/// Takes care until the worker is gone. Does nothing while the worker is not sure that it lives.
pub(super) async fn serve(end: Weak<End>) {
    let Some(worker) = end.upgrade() else { return };
    let reap = Step::reap();
    let mut link = Link::commands(worker.lane.clone());
    drop(worker);
    let mut audited = Instant::now();
    loop {
        let Some(worker) = end.upgrade() else { return };
        if worker.is_closing() {
            return; // What is left is for those who stay.
        }
        if !worker.heart.beats() {
            drop(worker);
            pause().await;
            continue;
        }
        let cared = async {
            take_over(&worker, &reap, &mut link).await?;
            if audited.elapsed() >= AUDIT_EVERY {
                audited = Instant::now();
                find_lost(&worker, &mut link).await?;
            }
            Ok::<_, redis::RedisError>(())
        };
        match cared.await {
            Ok(()) => worker.works(),
            Err(error) => worker.trouble(&described(&error)),
        }
        let wait = if worker.suspect().is_some() {
            SUSPECT
        } else {
            Duration::from_millis(rand::rng().random_range(400..800))
        };
        drop(worker);
        tokio::time::sleep(wait).await;
    }
}

/// Takes over what dead workers left.
async fn take_over(end: &Arc<End>, reap: &Step, link: &mut Link) -> RedisResult<()> {
    let life = end.heart.life();
    let mut call = reap.call(1 + end.queues.len());
    call.arg(end.lane.keys.heartbeats());
    for queue in &end.queues {
        call.arg(&queue.key);
    }
    // Only what can start: a worker whose hands are full leaves the rest to others.
    let room = end.room().min(MAX_TAKEN);
    let may_suspect = u8::from(room > 0 && end.suspect().is_none());
    let dead_after = u64::try_from(DEAD_AFTER.as_millis()).unwrap_or(u64::MAX);
    call.arg(GROUP).arg(&end.consumer).arg(dead_after).arg(room).arg(POISON_LIMIT).arg(may_suspect);
    let mut answer = value::list(reap.run(&call, link).await?).into_iter();
    let (taken, poison) = (numbered(answer.next()), numbered(answer.next()));
    if let Some(suspect) = answer.next().and_then(value::text) {
        let place = taken.iter().find(|(_, entry)| entry.id == suspect).map(|(queue, _)| (*queue, suspect));
        *end.suspect() = place;
    }
    for (queue, entry) in poison {
        let Some(label) = Label::read(&entry) else { continue };
        error!(job = %label.job, "a push ended every worker that was to send it; it is given up");
        metrics::counter!("dispatch_poison_total").increment(1);
        end.held().insert((queue, entry.id.clone()));
        end.settle((queue, entry.id), &label.gateway, label.job, &Verdict::unsent(FailReason::Poison));
    }
    if !taken.is_empty() {
        warn!(lane = end.lane.name(), jobs = taken.len(), "jobs of a dead worker are taken over");
        metrics::counter!("dispatch_taken_over_total").increment(taken.len() as u64);
        end.take_in(taken, life);
    }
    Ok(())
}

/// Reads pairs of a queue's number and an entry.
fn numbered(value: Option<redis::Value>) -> Vec<(usize, StreamEntry)> {
    let pair = |value| {
        let [number, entry] = <[redis::Value; 2]>::try_from(value::list(value)).ok()?;
        let number = usize::try_from(value::number(&number)?).ok()?.checked_sub(1)?;
        Some((number, StreamEntry::read(entry)?))
    };
    value.map(value::list).unwrap_or_default().into_iter().filter_map(pair).collect()
}

/// Finds entries that the server counts as ours and that never arrived: an answer was lost on the way.
async fn find_lost(end: &Arc<End>, link: &mut Link) -> RedisResult<()> {
    let life = end.heart.life();
    let mut questions = Pipeline::new();
    for queue in &end.queues {
        let question = questions.cmd("XPENDING").arg(&queue.key).arg(GROUP);
        question.arg("IDLE").arg(LOST_AFTER_MS).arg("-").arg("+").arg(MAX_AUDITED).arg(&end.consumer);
    }
    let answers = match link.pipeline(&questions).await {
        Err(error) if error.to_string().contains("NOGROUP") => return Ok(()),
        answers => answers?,
    };
    for (queue, pending) in answers.into_iter().enumerate() {
        for id in
            value::list(pending).into_iter().filter_map(|it| value::text(value::list(it).into_iter().next()?))
        {
            if end.held().contains(&(queue, id.clone())) {
                continue;
            }
            let key = &end.queues[queue].key;
            let found = link.query(cmd("XRANGE").arg(key).arg(&id).arg(&id)).await?;
            match value::list(found).into_iter().next().and_then(StreamEntry::read) {
                Some(entry) => {
                    metrics::counter!("dispatch_found_total").increment(1);
                    end.take_in(vec![(queue, entry)], life);
                }
                None => {
                    link.query(cmd("XACK").arg(key).arg(GROUP).arg(&id)).await?;
                }
            }
        }
    }
    Ok(())
}
