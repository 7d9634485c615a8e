//! Producer of one lane: enqueues jobs in batches, one script call at a time.
//!
//! Each call has a number, and the lane keeps a book of them: when an answer is lost, the next call asks what became
//! of it before any job is handed over again. A book that is gone tells that the lane has lost all.

use std::collections::HashSet;
use std::sync::Weak;
use std::time::Duration;

use push_domain::JobId;
use redis::{Cmd, RedisResult};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::keys::QUEUES;
use super::lane_connection::{LaneConnection, described};
use super::lane_selector::SealedJob;
use super::pending_jobs::Event;
use super::producer::Producer;
use super::script::LuaScript;
use super::{Lane, MAX_BATCH, REPLY_TTL, value};
use crate::seal::LaneTimestamp;

/// So often a lane is asked whether workers read it, when no job is handed over.
const ASK: Duration = Duration::from_millis(500);

/// Parameters of a lane's producer: the lane, its serving thread, and how many jobs one of its queues takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub(super) lane: usize,
    pub(super) thread: usize,
    pub(super) capacity: usize,
}

/// `ServerClock` of a server, as the last call showed it.
#[derive(Debug, Clone, Copy)]
struct ServerClock {
    /// When the call left.
    sent: Instant,
    server_ms: u64,
}

impl ServerClock {
    /// The server's time at a moment, or later by what the call took on its way there.
    fn at(self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.sent).as_millis();
        self.server_ms + u64::try_from(since).unwrap_or_default()
    }
}

/// Reply of `enqueue.lua`.
#[derive(Debug, Default)]
struct EnqueueReply {
    server_ms: u64,
    /// The epoch of the lane's clock; 0 while no worker has told one.
    epoch: u64,
    /// The last heartbeat of a worker that reads it, in the server's time; 0 for none.
    beat: u64,
    /// The last call that the book knew of before; none if there was no book.
    last: Option<u64>,
    /// The last call with jobs that the book knew of before, and how many of them each queue took.
    before: (u64, Vec<usize>),
    /// How many jobs of this call each queue took; none if it came too late.
    taken: Option<Vec<usize>>,
}

/// Call without a reply yet: its number, and its jobs by queue.
#[derive(Debug)]
struct UnansweredCall {
    number: u64,
    jobs: Vec<Vec<JobId>>,
}

/// Serves one lane until its gateway is gone.
pub(super) async fn serve(
    lane: Lane,
    here: Here,
    mut waiting: mpsc::UnboundedReceiver<SealedJob>,
    gateway: Weak<Producer>,
) {
    let mut calls = LaneProducer::new(lane, here);
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        // The first call tells the server's time before any deadline is counted in it.
        let wait = if calls.clock.is_none() { Duration::ZERO } else { ASK };
        if tokio::time::timeout(wait, waiting.recv_many(&mut batch, MAX_BATCH)).await == Ok(0) {
            return;
        }
        let Some(shared) = gateway.upgrade() else { return };
        if let Err(error) = calls.hand_over(&batch, &shared).await {
            calls.clock = None;
            shared.lane_selector.set_clock(here.lane, None);
            if shared.lane_selector.mark_down(here.lane) {
                let lane = calls.link.lane().name();
                warn!(lane, error = described(&error), "a lane takes no pushes");
            }
            shared.pending_jobs.lane_failed(here.thread, here.lane);
        }
        batch.clear();
        if calls.clock.is_none() {
            super::pause().await;
        }
    }
}

/// Producer of one lane: makes numbered calls of `enqueue.lua`, one at a time.
struct LaneProducer {
    step: LuaScript,
    link: LaneConnection,
    here: Here,
    clock: Option<ServerClock>,
    /// The epoch of the lane's clock.
    epoch: u64,
    /// How many calls were made.
    number: u64,
    /// How often the lane has lost all, as far as is known.
    incarnation: u64,
    /// Whether the lane has a book of ours.
    has_call_record: bool,
    /// The last call with jobs, while it is not known what became of it.
    sent: Option<UnansweredCall>,
}

impl LaneProducer {
    fn new(lane: Lane, here: Here) -> Self {
        let (step, link) = (LuaScript::enqueue(), LaneConnection::commands(lane));
        Self {
            step,
            link,
            here,
            clock: None,
            epoch: 0,
            number: 0,
            incarnation: 0,
            has_call_record: false,
            sent: None,
        }
    }

    async fn hand_over(&mut self, batch: &[SealedJob], shared: &Producer) -> RedisResult<()> {
        // Budgets are counted when the connection is there: making it may take its time.
        if self.link.open().await? {
            self.clock = None;
        }
        if !batch.is_empty() && (self.clock.is_none() || self.sent.is_some()) {
            self.call(&[], shared).await?;
        }
        match self.call(batch, shared).await {
            // The connection may be older than the server. A new one tells what became of the jobs.
            Err(error) if error.is_io_error() && !error.is_timeout() => {
                self.call(&[], shared).await?;
                self.call(batch, shared).await
            }
            answer => answer,
        }
    }

    /// Hands over what is due of a batch.
    async fn call(&mut self, batch: &[SealedJob], shared: &Producer) -> RedisResult<()> {
        let Here { lane, thread, .. } = self.here;
        let now = Instant::now();
        let mut queues: [Vec<&SealedJob>; QUEUES] = Default::default();
        // What was sealed before the lane's clock was another has to be sealed again.
        let (batch, old): (Vec<_>, Vec<_>) = batch.iter().partition(|it| it.sealed.epoch == self.epoch);
        let old = old.into_iter().filter(|it| shared.pending_jobs.is_due(it.job, lane, self.incarnation));
        shared.pending_jobs.notify(thread, old.map(|it| (it.job, Event::LaneFailed)));
        // A job that was asked for again while this stood still is here twice.
        let mut seen = HashSet::new();
        // A caller that has left, or has been sent to another lane, waits for nothing here.
        for job in batch
            .into_iter()
            .filter(|it| it.deadline > now && shared.pending_jobs.is_due(it.job, lane, self.incarnation))
        {
            if seen.insert(job.job) {
                queues[job.queue].push(job);
            }
        }
        self.number += 1;
        let call = self.written(&queues, &shared.gateway, now);
        if queues.iter().any(|jobs| !jobs.is_empty()) {
            let jobs = queues.iter().filter(|jobs| !jobs.is_empty());
            let jobs: Vec<Vec<_>> = jobs.map(|jobs| jobs.iter().map(|it| it.job).collect()).collect();
            // Before it is sent: news of a job may come sooner than the answer to this call.
            for jobs in &jobs {
                shared.pending_jobs.taken(jobs, lane, self.incarnation);
            }
            self.sent = Some(UnansweredCall { number: self.number, jobs });
        }
        let answer = EnqueueReply::read(self.step.run(&call, &mut self.link).await?);
        self.clock = Some(ServerClock { sent: now, server_ms: answer.server_ms });
        self.epoch = answer.epoch;
        // A lane whose clock has just stepped has no epoch until a worker has told one.
        let shows = LaneTimestamp { millis: answer.server_ms, epoch: answer.epoch };
        shared.lane_selector.set_clock(lane, Some(shows).filter(|it| it.epoch > 0));
        shared.lane_selector.note_heartbeat(lane, answer.beat, answer.server_ms);
        let has_lost_all = self.has_call_record && answer.last.is_none();
        self.has_call_record = true;
        self.incarnation += u64::from(has_lost_all);
        let Some(UnansweredCall { number, jobs }) = self.sent.take() else { return Ok(()) };
        // An earlier call is in the book, or cannot be done any more.
        let is_this = number == self.number;
        let before = Some(answer.before.1).filter(|_| number == answer.before.0);
        let counts = if is_this { answer.taken } else { before };
        for (queue, jobs) in jobs.iter().enumerate() {
            let count = counts.as_ref().and_then(|counts| counts.get(queue)).copied().unwrap_or_default();
            let (taken, left) = jobs.split_at(count.min(jobs.len()));
            if has_lost_all {
                shared.pending_jobs.taken(taken, lane, self.incarnation);
            }
            for job in left {
                shared.pending_jobs.returned(*job, lane);
            }
            if is_this {
                let event = if counts.is_some() { Event::Full } else { Event::LaneFailed };
                shared.pending_jobs.notify(thread, left.iter().map(|job| (*job, event.clone())));
            }
        }
        Ok(())
    }

    fn written(&self, queues: &[Vec<&SealedJob>; QUEUES], gateway: &str, now: Instant) -> Cmd {
        let used = || queues.iter().enumerate().filter(|(_, jobs)| !jobs.is_empty());
        let keys = &self.link.lane().keys;
        let mut call = self.step.call(2 + used().count());
        call.arg(keys.lane()).arg(keys.call_record(gateway));
        for (queue, _) in used() {
            call.arg(keys.queue(queue));
        }
        let ttl = u64::try_from(REPLY_TTL.as_millis()).unwrap_or(u64::MAX);
        let written_at = self.clock.map_or(0, |clock| clock.at(now));
        call.arg(self.number).arg(written_at).arg(self.here.capacity).arg(ttl);
        for (_, jobs) in used() {
            call.arg(jobs.len());
        }
        let mut count = 0;
        for job in used().flat_map(|(_, jobs)| jobs) {
            call.arg(&job.parcel[..]);
            count += 1;
        }
        if count > 0 {
            metrics::histogram!("dispatch_jobs_per_call").record(count);
        }
        call
    }
}

impl EnqueueReply {
    fn read(answer: redis::Value) -> Self {
        let mut texts = value::list(answer).into_iter().map(|it| value::text(it).unwrap_or_default());
        let mut text = || texts.next().unwrap_or_default();
        let counts = |text: &str| text.split(' ').map(|count| count.parse().ok()).collect::<Option<Vec<_>>>();
        Self {
            server_ms: text().parse().unwrap_or_default(),
            epoch: text().parse().unwrap_or_default(),
            beat: text().parse().unwrap_or_default(),
            last: text().parse().ok(),
            before: (text().parse().unwrap_or_default(), counts(&text()).unwrap_or_default()),
            taken: counts(&text()),
        }
    }
}
