//! Consumer over Redis, for workers: claims what can start, from all lanes, and gives back verdicts.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use push_domain::{AppCatalogue, Clock, FailReason, Provider, Verdict};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::error;

use super::claim_queue::ClaimQueue;
use super::consumer::{Claim, LaneConsumer, LaneConsumerParts, Settled, opened};
use super::entry::EntryHandle;
use super::keys::provider_of;
use super::lane::Lane;
use super::{heartbeat, read, recovery, settle};
use crate::job::{Claimed, JobConsumer};
use crate::message_auth::MessageAuthenticator;
use crate::seal::{KeyRing, Sealer};
use crate::vital::VitalTasks;
use crate::wire::{self, Parcel};

/// No gateway gives a push more time.
const LARGEST_BUDGET: Duration = Duration::from_secs(25);

/// Consumer over Redis, on all lanes: one a process, one set of connections a lane. Each thread takes
/// them from an end of its own.
///
/// Cheap to clone; all clones are one consumer. It is gone when the last one and all ends are dropped.
#[derive(Clone)]
pub struct RedisWorker {
    consumers: Arc<[Arc<LaneConsumer>]>,
    ring: Arc<KeyRing>,
    verdicts: Arc<Mutex<Vec<Option<mpsc::UnboundedReceiver<Settled>>>>>,
}

/// Consumer handle of one serving thread.
#[derive(Debug)]
pub struct WorkerThread {
    thread: usize,
    claim_queue: Arc<ClaimQueue<Claim>>,
    apps: Arc<AppCatalogue>,
    sealer: Arc<Sealer>,
}

impl RedisWorker {
    /// Makes the worker's end, for so many serving threads; it does nothing before [`RedisWorker::serve`].
    ///
    /// `consumer` has to be new for each process: a name that was used before would inherit what its bearer left.
    #[must_use]
    pub fn new(
        consumer: &str,
        lanes: &[Lane],
        ring: &Arc<KeyRing>,
        threads: usize,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let claim_queue = Arc::new(ClaimQueue::new(threads));
        let (sealer, authenticator) =
            (Arc::new(Sealer::new(Arc::clone(ring))), Arc::new(MessageAuthenticator::of_verdicts(ring)));
        let (suspect, readers) = (Arc::default(), Arc::default());
        let (consumers, verdicts) = lanes
            .iter()
            .map(|lane| {
                let (verdicts, waiting) = mpsc::unbounded_channel();
                let consumer = LaneConsumer::new(LaneConsumerParts {
                    lane: lane.clone(),
                    name: consumer.to_owned(),
                    clock: Arc::clone(clock),
                    claim_queue: Arc::clone(&claim_queue),
                    suspect: Arc::clone(&suspect),
                    sealer: Arc::clone(&sealer),
                    authenticator: Arc::clone(&authenticator),
                    verdicts,
                    readers: Arc::clone(&readers),
                });
                (Arc::new(consumer), Some(waiting))
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Self { consumers: consumers.into(), ring: Arc::clone(ring), verdicts: Arc::new(Mutex::new(verdicts)) }
    }

    /// Starts a thread's share of the lanes, number `thread` of `threads`, and returns the thread's end. The tasks run
    /// on `tasks` until the worker is closed and empty. Call it once a thread, on the thread.
    pub fn serve(
        &self,
        thread: usize,
        threads: usize,
        apps: Arc<AppCatalogue>,
        tasks: &VitalTasks,
    ) -> WorkerThread {
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, consumer) in
            self.consumers.iter().enumerate().filter(|(number, _)| number % threads == thread)
        {
            let Some(waiting) = verdicts.get_mut(number).and_then(Option::take) else { continue };
            tasks.spawn(heartbeat::serve(Arc::downgrade(consumer)));
            tasks.spawn(settle::serve(Arc::downgrade(consumer), consumer.lane.clone(), waiting));
            tasks.spawn(recovery::serve(Arc::downgrade(consumer)));
            for provider in Provider::ALL {
                consumer.reader_began();
                tasks.spawn(read::serve(Arc::downgrade(consumer), provider, self.consumers.len()));
            }
        }
        let claim_queue = self
            .consumers
            .first()
            .map_or_else(|| Arc::new(ClaimQueue::new(threads)), |consumer| Arc::clone(&consumer.claim_queue));
        WorkerThread { thread, claim_queue, apps, sealer: Arc::new(Sealer::new(Arc::clone(&self.ring))) }
    }

    /// Claims no more jobs. Those that were claimed are still handed out; then `claim` returns `None`.
    pub fn close(&self) {
        for consumer in &*self.consumers {
            consumer.close();
        }
        if self.consumers.iter().all(|consumer| consumer.has_no_reader())
            && let Some(consumer) = self.consumers.first()
        {
            consumer.claim_queue.end();
        }
    }

    /// Says whether any lane answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.consumers.iter().any(|consumer| consumer.liveness.is_alive())
    }

    /// Says whether this process is the one that looks after a lane that answers, for all.
    #[must_use]
    pub fn is_reaper(&self) -> bool {
        self.consumers
            .iter()
            .find(|consumer| consumer.liveness.is_alive())
            .is_some_and(|consumer| consumer.liveness.is_reaper(&consumer.name))
    }

    /// Returns for how long a reader has not moved: it moves every second, whether or not there are jobs,
    /// room or a lane.
    #[must_use]
    pub fn stalled_for(&self) -> Duration {
        self.consumers.iter().map(|consumer| consumer.stalled_for()).max().unwrap_or_default()
    }

    /// Waits until every verdict is published, or cannot be any more.
    pub async fn settled(&self) {
        while self.consumers.iter().any(|consumer| !consumer.held().is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl JobConsumer for WorkerThread {
    async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>> {
        loop {
            let claims = self.claim_queue.take(provider, self.thread, free).await?;
            let jobs: Vec<_> = claims.into_iter().filter_map(|claim| self.opened(claim)).collect();
            if !jobs.is_empty() {
                return Some(jobs);
            }
        }
    }
}

impl WorkerThread {
    /// Opens a claim. One that cannot be opened fails alone.
    fn opened(&self, claim: Claim) -> Option<Claimed> {
        let Claim { consumer, place, parcel, incarnation } = claim;
        let provider = provider_of(place.0);
        let now = Instant::now();
        // Whatever the lane's clock says, no push has longer than the largest budget.
        let deadline =
            consumer.liveness.instant_of(parcel.deadline.millis).unwrap_or(now).min(now + LARGEST_BUDGET);
        let verdict = if parcel.deadline.epoch != consumer.liveness.epoch()
            || self.apps.get(&parcel.app).is_none()
        {
            // The gateway knows how much time is left, and another worker may know the app.
            Vec::new()
        } else {
            match opened(&self.sealer, &parcel).map(|record| (record, deadline > now)) {
                Some((record, true)) => {
                    let job = wire::read_push(record, parcel.job, &parcel.app, &self.apps, deadline);
                    match job {
                        Ok(job) => {
                            let Parcel { gateway, app, .. } = parcel;
                            let entry = EntryHandle { consumer, place, gateway, app, provider, incarnation };
                            return Some(Claimed::new(job, Box::new(entry)));
                        }
                        Err(reason) => {
                            error!(job = %parcel.job, app = %parcel.app, %reason, "a push cannot be read");
                            wire::write_verdict(&Verdict::unsent(FailReason::Internal))
                        }
                    }
                }
                Some((_, false)) => wire::write_verdict(&Verdict::unsent(FailReason::Deadline)),
                // Nothing is said of a push that was not seen: anybody who writes to the lane may have put it there.
                None => Vec::new(),
            }
        };
        consumer.claim_queue.finished(provider, &parcel.app);
        consumer.settle(place, parcel.gateway, parcel.job, verdict);
        None
    }
}

impl fmt::Debug for RedisWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWorker").field("lanes", &self.consumers.len()).finish_non_exhaustive()
    }
}
