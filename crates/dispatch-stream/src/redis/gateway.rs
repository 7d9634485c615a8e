//! The gateway's end: owns each job until there is a verdict.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use push_domain::{FailReason, JobId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::enqueue::{self, Handover};
use super::{Lane, pause, replies};
use crate::seal::{Binding, Sealer};
use crate::{Job, KeyRing, Submit, SubmitError, Verdict, wire};

/// A job without a verdict is submitted again after so long: its entry or its reply may be lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// While no lane is up, new jobs wait until that has lasted so long; after that they are refused at once.
const NO_LANE: Duration = Duration::from_millis(600);

/// Hands jobs over to the lanes, and gets their verdicts. One for each serving thread, with reply streams
/// of its own.
pub struct RedisGateway {
    shared: Arc<Shared>,
    sealer: Sealer,
    /// Most jobs that wait for a verdict at once.
    capacity: usize,
}

/// What the tasks of a gateway share.
pub(super) struct Shared {
    /// Names this gateway for as long as it lives.
    pub(super) gateway: String,
    lanes: Vec<Way>,
    /// Since when no lane is up.
    dark_since: Mutex<Option<Instant>>,
    waiters: Mutex<HashMap<JobId, Vec<Waiter>>>,
}

/// The way to one lane.
struct Way {
    handovers: mpsc::UnboundedSender<Handover>,
    is_up: AtomicBool,
}

/// One caller that waits, and the lane that has its job.
struct Waiter {
    lane: usize,
    event: oneshot::Sender<Event>,
}

/// What a waiting caller may learn.
#[derive(Debug)]
pub(super) enum Event {
    Verdict(Verdict),
    Full,
    LaneFailed,
}

impl RedisGateway {
    /// Starts the gateway's end, whose tasks run on `tasks` until it is dropped.
    ///
    /// `gateway` has to be new for each process and thread. At most `capacity` jobs wait for a verdict,
    /// and at most as many lie in one queue of a lane.
    #[must_use]
    pub fn start(
        gateway: String,
        lanes: &[Lane],
        ring: Arc<KeyRing>,
        capacity: usize,
        queue_capacity: usize,
        tasks: &TaskTracker,
    ) -> Self {
        let (ways, handovers): (Vec<_>, Vec<_>) = lanes
            .iter()
            .map(|_| {
                let (sender, receiver) = mpsc::unbounded_channel();
                (Way { handovers: sender, is_up: AtomicBool::new(false) }, receiver)
            })
            .unzip();
        let shared = Arc::new(Shared {
            gateway,
            lanes: ways,
            dark_since: Mutex::new(Some(Instant::now())),
            waiters: Mutex::default(),
        });
        for ((number, lane), waiting) in lanes.iter().enumerate().zip(handovers) {
            let known = Arc::downgrade(&shared);
            tasks.spawn(enqueue::serve(lane.clone(), number, waiting, known, queue_capacity));
            tasks.spawn(replies::serve(lane.clone(), number, Arc::downgrade(&shared)));
        }
        Self { shared, sealer: Sealer::new(ring), capacity }
    }

    /// Says whether any lane is up.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.lanes.iter().any(|lane| lane.is_up.load(Ordering::Relaxed))
    }

    fn sealed(&self, job: &Job) -> Option<Bytes> {
        let push = &job.notification;
        let binding = Binding { job: push.id, gateway: &self.shared.gateway, app: &push.app.id };
        self.sealer
            .seal(binding, &wire::write_push(job))
            .inspect_err(|fault| error!(%fault, "a push cannot be sealed"))
            .ok()
    }
}

#[async_trait]
impl Submit for RedisGateway {
    async fn submit(&self, job: Job) -> Result<Verdict, SubmitError> {
        let Some(envelope) = self.sealed(&job) else { return Ok(Verdict::unsent(FailReason::Internal)) };
        let push = &job.notification;
        let handover = Handover {
            job: push.id,
            app: push.app.id.clone(),
            is_call: push.kind.is_call(),
            deadline: job.deadline,
            envelope,
        };
        let mut lane = None;
        // Whether a lane may have it already.
        let mut is_repeated = false;
        let _leaving = Leaving { shared: &self.shared, job: push.id };
        while Instant::now() < job.deadline {
            lane = self.shared.next_lane(push.id, lane);
            let Some(number) = lane else {
                if !is_repeated && self.shared.is_dark() {
                    return Err(SubmitError::NoWay);
                }
                pause().await;
                continue;
            };
            let event = self.shared.hand_over(number, &handover, is_repeated, self.capacity)?;
            let patience = job.deadline.min(Instant::now() + ASK_AGAIN);
            match tokio::time::timeout_at(patience, event).await {
                Ok(Ok(Event::Verdict(verdict))) => return Ok(verdict),
                Ok(Ok(Event::Full)) if is_repeated => pause().await,
                Ok(Ok(Event::Full)) => return Err(SubmitError::Full),
                Ok(Ok(Event::LaneFailed)) => {
                    is_repeated = true;
                    pause().await;
                }
                // A lost reply, or a long way: the lane is asked again.
                Ok(Err(_)) | Err(_) => is_repeated = true,
            }
        }
        Ok(Verdict::unsent(FailReason::Deadline))
    }
}

/// Forgets a caller that waits no more, whatever the reason.
struct Leaving<'a> {
    shared: &'a Shared,
    job: JobId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut waiters = self.shared.waiters();
        let Some(callers) = waiters.get_mut(&self.job) else { return };
        callers.retain(|caller| !caller.event.is_closed());
        if callers.is_empty() {
            waiters.remove(&self.job);
        }
    }
}

impl Shared {
    fn waiters(&self) -> MutexGuard<'_, HashMap<JobId, Vec<Waiter>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses a lane that is up: the one before if it still is, else the job's own, else any.
    fn next_lane(&self, job: JobId, before: Option<usize>) -> Option<usize> {
        let count = self.lanes.len();
        let first = before.unwrap_or_else(|| {
            // The low bits of the id are random.
            usize::try_from(job.uuid().as_u128() % count.max(1) as u128).unwrap_or_default()
        });
        (0..count).map(|step| (first + step) % count).find(|lane| self.is_up(*lane))
    }

    pub(super) fn is_up(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.is_up.load(Ordering::Relaxed))
    }

    /// Queues a job for a lane, and returns where its news will arrive.
    fn hand_over(
        &self,
        lane: usize,
        handover: &Handover,
        is_repeated: bool,
        capacity: usize,
    ) -> Result<oneshot::Receiver<Event>, SubmitError> {
        let (event, news) = oneshot::channel();
        {
            let mut waiters = self.waiters();
            let is_new = !is_repeated && !waiters.contains_key(&handover.job);
            if is_new && waiters.len() >= capacity {
                return Err(SubmitError::Full);
            }
            let callers = waiters.entry(handover.job).or_default();
            callers.retain(|caller| !caller.event.is_closed());
            callers.push(Waiter { lane, event });
        }
        let sent = self.lanes.get(lane).map(|lane| lane.handovers.send(handover.clone()));
        if matches!(sent, Some(Ok(()))) { Ok(news) } else { Err(SubmitError::Closed) }
    }

    /// Says whether somebody waits for a job of this lane.
    pub(super) fn waits_on(&self, job: JobId, lane: usize) -> bool {
        let waiters = self.waiters();
        let callers = waiters.get(&job);
        callers.is_some_and(|all| all.iter().any(|caller| caller.lane == lane && !caller.event.is_closed()))
    }

    /// Tells all callers of a job. Nobody may wait any more.
    pub(super) fn tell(&self, job: JobId, event: Event) {
        let Some(mut callers) = self.waiters().remove(&job) else { return };
        let Some(last) = callers.pop() else { return };
        for caller in callers {
            let _ = caller.event.send(match &event {
                Event::Verdict(verdict) => Event::Verdict(verdict.clone()),
                Event::Full => Event::Full,
                Event::LaneFailed => Event::LaneFailed,
            });
        }
        let _ = last.event.send(event);
    }

    fn dark_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.dark_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether no lane has been up for a while.
    fn is_dark(&self) -> bool {
        self.dark_since().is_some_and(|since| since.elapsed() >= NO_LANE)
    }

    /// Notes that a lane answers; says whether that is news.
    pub(super) fn lane_works(&self, lane: usize) -> bool {
        *self.dark_since() = None;
        self.lanes.get(lane).is_some_and(|lane| !lane.is_up.swap(true, Ordering::Relaxed))
    }

    /// Notes that a lane does not, and sends its jobs on their way again; says whether that is news.
    pub(super) fn lane_failed(&self, lane: usize) -> bool {
        let is_news = self.lanes.get(lane).is_some_and(|lane| lane.is_up.swap(false, Ordering::Relaxed));
        if (0..self.lanes.len()).all(|lane| !self.is_up(lane)) {
            self.dark_since().get_or_insert_with(Instant::now);
        }
        let mut stranded = Vec::new();
        self.waiters().retain(|_, callers| {
            stranded.extend(callers.extract_if(.., |caller| caller.lane == lane));
            !callers.is_empty()
        });
        for caller in stranded {
            let _ = caller.event.send(Event::LaneFailed);
        }
        is_news
    }
}

impl fmt::Debug for RedisGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisGateway")
            .field("gateway", &self.shared.gateway)
            .field("lanes", &self.shared.lanes.len())
            .finish_non_exhaustive()
    }
}
