//! Hands jobs over: one script call carries all that waits, one call at a time.

use bytes::Bytes;
use push_domain::{AppId, JobId};
use redis::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::gateway::{Event, Shared};
use super::keys::moment;
use super::link::{Link, described};
use super::script::{Step, number};
use super::{KEPT, Lane, MAX_BATCH, value};
use crate::wire;

use std::sync::{Arc, Weak};

/// One job for one lane.
#[derive(Debug, Clone)]
pub(super) struct Handover {
    pub(super) job: JobId,
    pub(super) app: AppId,
    pub(super) is_call: bool,
    pub(super) deadline: Instant,
    pub(super) envelope: Bytes,
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

/// Serves one lane until its gateway is gone.
pub(super) async fn serve(
    lane: Lane,
    number: usize,
    mut waiting: mpsc::UnboundedReceiver<Handover>,
    gateway: Weak<Shared>,
    capacity: usize,
) {
    let step = Step::enqueue();
    let mut link = Link::commands(lane);
    let mut batch = Vec::with_capacity(MAX_BATCH);
    let mut clock = None;
    while waiting.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let Some(shared) = gateway.upgrade() else { return };
        // A caller that has left, or has been sent to another lane, waits for nothing here.
        batch.retain(|job| job.deadline > Instant::now() && shared.waits_on(job.job, number));
        if !batch.is_empty() {
            flush(&step, &mut link, number, &batch, &shared, capacity, &mut clock).await;
        }
        batch.clear();
    }
}

async fn flush(
    step: &Step,
    link: &mut Link,
    number: usize,
    batch: &[Handover],
    shared: &Arc<Shared>,
    capacity: usize,
    clock: &mut Option<Clock>,
) {
    // Budgets are counted when the connection is there: making it may take its time.
    let opened = link.open().await.map(drop);
    let written_at = clock.map_or(0, Clock::now_ms);
    let limits = Limits { gateway: &shared.gateway, capacity, written_at };
    let call = |link: &Link| written(step, link.lane(), batch, &limits);
    let mut sent = Instant::now();
    let mut answered = match opened {
        Ok(()) => step.run(&call(link), link).await,
        Err(error) => Err(error),
    };
    if answered.as_ref().is_err_and(|error| error.is_io_error() && !error.is_timeout()) {
        // The connection may be older than the server: a new one tells. The call can be repeated.
        sent = Instant::now();
        answered = step.run(&call(link), link).await;
    }
    let answers = match answered {
        Ok(answers) => {
            let mut answers = value::list(answers).into_iter();
            let time = answers.next().and_then(value::text).and_then(|text| text.parse().ok());
            *clock = time.map(|server_ms| Clock { sent, server_ms });
            answers.map(said).collect()
        }
        Err(error) => {
            warn!(lane = link.lane().name(), error = described(&error), "a lane takes no pushes");
            shared.lane_failed(number);
            Vec::new()
        }
    };
    let mut answers = answers.into_iter();
    for job in batch {
        match answers.next().flatten() {
            Some(Said::Taken) => {}
            Some(Said::Full) => shared.tell(job.job, Event::Full),
            Some(Said::Verdict(bytes)) => match wire::read_verdict(&bytes) {
                Ok(verdict) => shared.tell(job.job, Event::Verdict(verdict)),
                Err(error) => warn!(%error, job = %job.job, "a verdict cannot be read"),
            },
            None => shared.tell(job.job, Event::LaneFailed),
        }
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

/// What all jobs of a call share.
struct Limits<'a> {
    gateway: &'a str,
    capacity: usize,
    /// The server's time, or 0.
    written_at: u64,
}

fn written(step: &Step, lane: &Lane, batch: &[Handover], limits: &Limits<'_>) -> redis::Cmd {
    let (mut queues, mut moments) = (Vec::new(), Vec::new());
    let mut numbers = Vec::with_capacity(batch.len());
    for job in batch {
        numbers.push([number(&mut queues, (&job.app, job.is_call)), number(&mut moments, moment(job.job))]);
    }
    let mut call = step.call(queues.len() + moments.len());
    for (app, is_call) in &queues {
        call.arg(lane.keys.queue(app, *is_call));
    }
    for moment in &moments {
        call.arg(lane.keys.marks(*moment));
    }
    let life = u64::try_from(KEPT.as_millis()).unwrap_or(u64::MAX);
    call.arg(queues.len()).arg(limits.capacity).arg(life).arg(limits.gateway).arg(limits.written_at);
    let now = Instant::now();
    for (job, numbers) in batch.iter().zip(numbers) {
        let left = u64::try_from(job.deadline.saturating_duration_since(now).as_millis()).unwrap_or(u64::MAX);
        call.arg(&numbers).arg(&job.job.uuid().as_bytes()[..]).arg(left).arg(&job.envelope[..]);
    }
    call
}
