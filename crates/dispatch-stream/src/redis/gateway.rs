//! Producer end over Redis, for gateways: owns each job until there is a verdict.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use push_domain::{FailReason, Verdict};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::error;

use super::lane::Lane;
use super::lane_selector::{LaneSelector, SealedJob};
use super::pending_jobs::{Event, PendingJobs, tell_callers};
use super::producer::Producer;
use super::{enqueue, pause, replies};
use crate::message_auth::MessageAuthenticator;
use crate::seal::{Binding, LaneTimestamp, Sealer};
use crate::{Job, JobProducer, KeyRing, SubmitError, VitalTasks, wire};

/// A job without a verdict is submitted again after so long: its entry or its reply may be lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// Deadlines in a lane's time that differ by so many milliseconds are one.
const DEADLINE_TOLERANCE_MS: u64 = 200;
/// For so long a job is offered to other workers when those that took it cannot deliver it.
const NOT_SERVED_TIMEOUT: Duration = Duration::from_secs(1);

/// Producer end over Redis: submits jobs, gets verdicts. One a process, with one set of connections and one
/// reply stream a lane. Each of its threads submits through an end of its own.
pub struct RedisGateway {
    shared: Arc<Producer>,
    lanes: Vec<Lane>,
    waiting: Mutex<Vec<Option<mpsc::UnboundedReceiver<SealedJob>>>>,
    sealer: Arc<Sealer>,
    capacity: usize,
    queue_capacity: usize,
}

/// Producer handle of one serving thread.
#[derive(Debug)]
pub struct GatewayThread {
    thread: usize,
    shared: Arc<Producer>,
    sealer: Arc<Sealer>,
    capacity: usize,
}

impl RedisGateway {
    /// Makes the gateway's end, which does nothing before [`RedisGateway::serve`].
    ///
    /// `gateway` has to be new for each process. At most `capacity` jobs of the process wait for a verdict, and
    /// at most `queue_capacity` lie in one queue of a lane.
    #[must_use]
    pub fn new(
        gateway: String,
        lanes: &[Lane],
        ring: Arc<KeyRing>,
        capacity: usize,
        queue_capacity: usize,
    ) -> Self {
        let (senders, waiting): (Vec<_>, Vec<_>) = lanes.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let lane_selector = LaneSelector::new(&gateway, senders);
        let (pending_jobs, verdicts) = (PendingJobs::default(), MessageAuthenticator::of_verdicts(&ring));
        Self {
            shared: Arc::new(Producer { gateway, lane_selector, pending_jobs, verdicts }),
            lanes: lanes.to_vec(),
            waiting: Mutex::new(waiting.into_iter().map(Some).collect()),
            sealer: Arc::new(Sealer::new(ring)),
            capacity,
            queue_capacity,
        }
    }

    /// Starts a thread's share of the lanes, number `thread` of `threads`, and returns the thread's end. The tasks run
    /// on `tasks` until the gateway and all its ends are dropped. Call it once a thread, on the thread.
    pub fn serve(&self, thread: usize, threads: usize, tasks: &VitalTasks) -> GatewayThread {
        let (news, told) = mpsc::unbounded_channel();
        self.shared.pending_jobs.add_thread(thread, news);
        tasks.spawn(tell_callers(told));
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, lane) in self.lanes.iter().enumerate().filter(|(number, _)| number % threads == thread) {
            let Some(handovers) = waiting.get_mut(number).and_then(Option::take) else { continue };
            let here = enqueue::Here { lane: number, thread, capacity: self.queue_capacity };
            tasks.spawn(enqueue::serve(lane.clone(), here, handovers, Arc::downgrade(&self.shared)));
            tasks.spawn(replies::serve(lane.clone(), number, thread, Arc::downgrade(&self.shared)));
        }
        GatewayThread {
            thread,
            shared: Arc::clone(&self.shared),
            sealer: Arc::clone(&self.sealer),
            capacity: self.capacity,
        }
    }

    /// Says whether any lane answers. While none is read by workers, jobs are refused as what they are.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        (0..self.lanes.len()).any(|lane| self.shared.lane_selector.is_up(lane))
    }

    /// Says whether any lane answers and is read by workers.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.shared.lane_selector.any()
    }
}

impl GatewayThread {
    /// Seals a job for one lane.
    fn sealed(&self, job: &Job, deadline: LaneTimestamp) -> Option<SealedJob> {
        let push = &job.notification;
        let binding = Binding { job: push.id, gateway: &self.shared.gateway, app: &push.app.id, deadline };
        let envelope = self.sealer.seal(binding, &wire::write_push(job));
        let envelope = envelope.inspect_err(|fault| error!(%fault, "a push cannot be sealed")).ok()?;
        Some(SealedJob {
            job: push.id,
            queue: super::keys::queue_of(push.request.provider(), push.kind.is_call()),
            deadline: job.deadline,
            sealed: deadline,
            parcel: wire::write_parcel(binding, &envelope),
        })
    }
}

impl GatewayThread {
    /// Seals a job for a lane, unless that is done. What was reckoned of the lane's clock may have been wrong: then it is done
    /// again.
    fn for_lane(
        &self,
        sealed: &mut Option<(usize, SealedJob)>,
        job: &Job,
        lane: usize,
        deadline: LaneTimestamp,
    ) -> Option<SealedJob> {
        let is_for = |(of, it): &(usize, SealedJob)| {
            *of == lane
                && it.sealed.epoch == deadline.epoch
                && it.sealed.millis.abs_diff(deadline.millis) <= DEADLINE_TOLERANCE_MS
        };
        if !sealed.as_ref().is_some_and(is_for) {
            *sealed = self.sealed(job, deadline).map(|it| (lane, it));
        }
        sealed.as_ref().map(|(_, handover)| handover.clone())
    }
}

#[async_trait]
impl JobProducer for GatewayThread {
    async fn submit(&self, job: Job) -> Result<Verdict, SubmitError> {
        let Producer { lane_selector: lanes, pending_jobs, .. } = &*self.shared;
        let place = pending_jobs.register(job.notification.id, self.thread, self.capacity)?;
        let (mut lane, mut sealed) = (None, None);
        // Whether a lane may have it already; lanes that were full; since when workers cannot deliver it.
        let (mut is_repeated, mut full, mut unserved_since) = (false, 0, None);
        while Instant::now() < job.deadline {
            if let Some(verdict) = place.verdict() {
                return Ok(verdict);
            }
            lane = lanes.choose(lane);
            let Some(number) = lane else {
                if !is_repeated && lanes.is_all_down() {
                    return Err(SubmitError::NoLane);
                }
                pause().await;
                continue;
            };
            let Some(deadline) = lanes.moment(number, job.deadline) else {
                // One whose clock is not known has just come back, or is about to be found gone.
                lane = lanes.other_than(number).filter(|it| lanes.moment(*it, job.deadline).is_some());
                if lane.is_none() {
                    pause().await;
                }
                continue;
            };
            let Some(handover) = self.for_lane(&mut sealed, &job, number, deadline) else {
                return Ok(Verdict::unsent(FailReason::Internal));
            };
            let event = place.wait_on(number);
            if !lanes.hand_over(number, handover) {
                return Err(SubmitError::Closed);
            }
            let patience = job.deadline.min(Instant::now() + ASK_AGAIN);
            match tokio::time::timeout_at(patience, event).await {
                Ok(Ok(Event::Verdict(verdict))) => return Ok(verdict),
                Ok(Ok(Event::Full)) => {
                    full += 1;
                    lane = lanes.other_than(number);
                    if full >= lanes.len() || lane.is_none() {
                        // A lane that was tried before may have it, and it may be sent yet:
                        // `Full` would tell the caller that it is not.
                        if !is_repeated {
                            return Err(SubmitError::Full);
                        }
                        full = 0;
                        pause().await;
                    }
                }
                Ok(Ok(Event::LaneFailed)) => {
                    is_repeated = true;
                    pause().await;
                }
                Ok(Ok(Event::NotServed)) => {
                    let since = *unserved_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= NOT_SERVED_TIMEOUT {
                        return Err(SubmitError::NotServed);
                    }
                    lane = lanes.other_than(number);
                    pause().await;
                }
                // A lost reply, or a long way: the lane is asked again.
                Ok(Err(_)) | Err(_) => is_repeated = true,
            }
        }
        Ok(place.verdict().unwrap_or_else(|| Verdict::unsent(FailReason::Deadline)))
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("gateway", &self.gateway).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisGateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisGateway")
            .field("gateway", &self.shared.gateway)
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}
