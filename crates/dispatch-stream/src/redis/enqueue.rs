//! Hands jobs over: one script call carries all that waits, one call at a time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use push_domain::{AppId, JobId};
use redis::{RedisResult, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::gateway::Shared;
use super::keys::moment;
use super::link::{Link, described};
use super::script::{Step, number};
use super::waiters::Event;
use super::{KEPT, Lane, MAX_BATCH, value};
use crate::wire;

/// So often a lane is asked whether workers read it, when no job is handed over.
const ASK: Duration = Duration::from_millis(500);

/// One job for one lane.
#[derive(Debug, Clone)]
pub(super) struct Handover {
    pub(super) job: JobId,
    pub(super) app: AppId,
    /// The number of its queue.
    pub(super) queue: usize,
    pub(super) deadline: Instant,
    pub(super) envelope: Bytes,
}

/// Which lane this is, on which thread it is served, and how many jobs one of its queues takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Here {
    pub(super) lane: usize,
    pub(super) thread: usize,
    pub(super) capacity: usize,
}

/// What the last call told of a server's clock.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// When the call left: the server's time is not earlier than this plus what passed since.
    sent: Instant,
    server_ms: u64,
}

impl Clock {
    /// The server's time now, or a little earlier.
    fn now_ms(self) -> u64 {
        self.server_ms + u64::try_from(self.sent.elapsed().as_millis()).unwrap_or_default()
    }
}

/// What a lane said of a job.
enum Said {
    Taken,
    Full,
    Verdict(Vec<u8>),
}

/// What a lane said.
struct Answer {
    server_ms: u64,
    /// The last heartbeat of a worker that reads it, in the server's time; 0 for none.
    beat: u64,
    jobs: Vec<Option<Said>>,
}

/// Serves one lane until its gateway is gone.
pub(super) async fn serve(
    lane: Lane,
    here: Here,
    mut waiting: mpsc::UnboundedReceiver<Handover>,
    gateway: Weak<Shared>,
) {
    let mut flushes = Flushes { step: Step::enqueue(), link: Link::commands(lane), here, clock: None };
    let mut batch = Vec::with_capacity(MAX_BATCH);
    loop {
        // The first call tells the server's time before any deadline is counted in it.
        let wait = if flushes.clock.is_none() { Duration::ZERO } else { ASK };
        if tokio::time::timeout(wait, waiting.recv_many(&mut batch, MAX_BATCH)).await == Ok(0) {
            return;
        }
        let Some(shared) = gateway.upgrade() else { return };
        // A caller that has left, or has been sent to another lane, waits for nothing here.
        batch.retain(|job| job.deadline > Instant::now() && shared.waiters.waits_on(job.job, here.lane));
        flushes.flush(&batch, &shared).await;
        batch.clear();
        if flushes.clock.is_none() {
            super::pause().await;
        }
    }
}

/// The way to one lane.
struct Flushes {
    step: Step,
    link: Link,
    here: Here,
    clock: Option<Clock>,
}

impl Flushes {
    async fn flush(&mut self, batch: &[Handover], shared: &Arc<Shared>) {
        let (lane, home) = (self.here.lane, self.here.thread);
        let answer = match self.exchange(batch, shared).await {
            Ok(answer) => answer,
            Err(error) => {
                self.clock = None;
                if shared.ways.failed(lane) {
                    warn!(
                        lane = self.link.lane().name(),
                        error = described(&error),
                        "a lane takes no pushes"
                    );
                }
                shared.waiters.lane_failed(home, lane);
                return;
            }
        };
        shared.ways.heard(lane, answer.beat, answer.server_ms);
        let mut said = answer.jobs.into_iter();
        let news = batch.iter().filter_map(|job| {
            let event = match said.next().flatten() {
                Some(Said::Taken) => return None,
                Some(Said::Full) => Event::Full,
                Some(Said::Verdict(bytes)) => match wire::read_verdict(&bytes) {
                    Ok(verdict) => Event::Verdict(verdict),
                    Err(error) => {
                        warn!(%error, job = %job.job, "a verdict cannot be read");
                        return None;
                    }
                },
                None => Event::LaneFailed,
            };
            Some((job.job, event))
        });
        shared.waiters.tell(home, news);
    }

    async fn exchange(&mut self, batch: &[Handover], shared: &Shared) -> RedisResult<Answer> {
        // Budgets are counted when the connection is there: making it may take its time.
        if self.link.open().await? {
            self.clock = None;
        }
        if self.clock.is_none() && !batch.is_empty() {
            self.call(&[], shared).await?;
        }
        match self.call(batch, shared).await {
            // The connection may be older than the server: a new one tells. The call can be repeated.
            Err(error) if error.is_io_error() && !error.is_timeout() => {
                self.call(&[], shared).await?;
                self.call(batch, shared).await
            }
            answer => answer,
        }
    }

    async fn call(&mut self, batch: &[Handover], shared: &Shared) -> RedisResult<Answer> {
        let written_at = self.clock.map_or(0, Clock::now_ms);
        let call = self.written(batch, &shared.gateway, written_at);
        let sent = Instant::now();
        let mut answers = value::list(self.step.run(&call, &mut self.link).await?).into_iter();
        let mut moment = || answers.next().and_then(value::text).and_then(|text| text.parse().ok());
        let (server_ms, beat) = (moment().unwrap_or_default(), moment().unwrap_or_default());
        self.clock = Some(Clock { sent, server_ms });
        Ok(Answer { server_ms, beat, jobs: answers.skip(1).map(said).collect() })
    }

    fn written(&self, batch: &[Handover], gateway: &str, written_at: u64) -> redis::Cmd {
        let keys = &self.link.lane().keys;
        let (mut queues, mut moments) = (Vec::new(), Vec::new());
        let mut numbers = Vec::with_capacity(batch.len());
        for job in batch {
            numbers.push([number(&mut queues, job.queue), number(&mut moments, moment(job.job))]);
        }
        let mut call = self.step.call(1 + queues.len() + moments.len());
        call.arg(keys.lane());
        for queue in &queues {
            call.arg(keys.queue(*queue));
        }
        for moment in &moments {
            call.arg(keys.marks(*moment));
        }
        let life = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
        call.arg(queues.len()).arg(self.here.capacity).arg(life).arg(gateway).arg(written_at);
        let now = Instant::now();
        for (job, numbers) in batch.iter().zip(numbers) {
            let left =
                u64::try_from(job.deadline.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
            call.arg(&numbers).arg(&job.job.uuid().as_bytes()[..]).arg(job.app.as_str()).arg(left);
            call.arg(&job.envelope[..]);
        }
        metrics::histogram!("dispatch_jobs_per_call").record(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        call
    }
}

fn said(answer: Value) -> Option<Said> {
    let answer = value::bytes(answer)?;
    match answer.first()? {
        b'A' | b'Q' => Some(Said::Taken),
        b'B' => Some(Said::Full),
        b'R' => Some(Said::Verdict(answer[1..].to_vec())),
        _ => None,
    }
}
