//! Consumer consumer over Redis, for workers: claims what can start, from all lanes, and gives back verdicts.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use push_domain::{AppCatalogue, Clock, FailReason, JobId, Provider, Verdict};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::claim_queue::ClaimQueue;
use super::entry::{Claim, EntryHandle, EntryRef, read_parcel};
use super::heartbeat::{self, Liveness};
use super::settle::{self, Settled};
use super::value::StreamEntry;
use super::{Lane, read, recovery};
use crate::message_auth::MessageAuthenticator;
use crate::seal::Sealer;
use crate::wire::Parcel;
use crate::{Claimed, JobConsumer, KeyRing, VitalTasks, wire};

/// No gateway gives a push more time.
const LARGEST_BUDGET: Duration = Duration::from_secs(25);

/// Consumer consumer over Redis, on all lanes: one a process, one set of connections a lane. Each thread takes
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

/// Consumer of one lane: what its reader, heartbeat, recovery and verdict tasks share.
pub(super) struct LaneConsumer {
    pub(super) lane: Lane,
    /// Names this worker for as long as it lives.
    pub(super) name: String,
    pub(super) liveness: Liveness,
    pub(super) claim_queue: Arc<ClaimQueue<Claim>>,
    /// The one suspect that the whole process runs, and its lane.
    pub(super) suspect: Arc<Mutex<Option<(String, EntryRef)>>>,
    /// Opens pushes, and says of those that it opens what became of them.
    pub(super) sealer: Arc<Sealer>,
    pub(super) authenticator: Arc<MessageAuthenticator>,
    held: Mutex<HashSet<EntryRef>>,
    verdicts: mpsc::UnboundedSender<Settled>,
    closing: AtomicBool,
    is_up: AtomicBool,
    /// A connection broke not long ago: an answer with jobs may have been lost.
    pub(super) doubtful: AtomicBool,
    began: Instant,
    /// When each provider's reader last moved, in milliseconds after `began`.
    moved: [AtomicU64; 2],
    /// Readers that go on.
    readers: Arc<AtomicU64>,
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
                let consumer = LaneConsumer {
                    lane: lane.clone(),
                    name: consumer.to_owned(),
                    liveness: Liveness::new(Arc::clone(clock)),
                    claim_queue: Arc::clone(&claim_queue),
                    suspect: Arc::clone(&suspect),
                    sealer: Arc::clone(&sealer),
                    authenticator: Arc::clone(&authenticator),
                    held: Mutex::default(),
                    verdicts,
                    closing: AtomicBool::new(false),
                    is_up: AtomicBool::new(false),
                    doubtful: AtomicBool::new(false),
                    began: Instant::now(),
                    moved: Default::default(),
                    readers: Arc::clone(&readers),
                };
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
                consumer.readers.fetch_add(1, Ordering::Relaxed);
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
            consumer.closing.store(true, Ordering::Release);
        }
        if self.consumers.iter().all(|consumer| consumer.readers.load(Ordering::Acquire) == 0)
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
        let provider = read::provider_of(place.0);
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

/// Opens a push. One that cannot be opened was changed on its way, put together by somebody else, or is sealed under a key
/// that this worker does not have yet.
pub(super) fn opened(sealer: &Sealer, parcel: &Parcel) -> Option<Bytes> {
    let opened = sealer.open(parcel.binding(), &parcel.envelope);
    opened.inspect_err(|error| super::note_unauthenticated("push", error)).ok()
}

impl LaneConsumer {
    /// Takes entries of one provider that are ours since `incarnation`, for room that was set aside.
    pub(super) fn take_in(
        self: &Arc<Self>,
        provider: Provider,
        reserved: usize,
        entries: Vec<(usize, StreamEntry)>,
        incarnation: u64,
    ) {
        let claims = entries.into_iter().filter_map(|(queue, mut entry)| {
            let place = (queue, std::mem::take(&mut entry.id));
            if !self.held().insert(place.clone()) {
                return None; // It came twice: by an answer that was late, and by looking for it.
            }
            let Some(parcel) = read_parcel(&mut entry) else {
                error!(lane = self.lane.name(), entry = place.1, "an entry cannot be read; it is dropped");
                let nobody = JobId::from_uuid(uuid::Uuid::nil());
                let verdict = wire::write_verdict(&Verdict::unsent(FailReason::Internal));
                self.settle(place, "nobody".into(), nobody, verdict);
                return None;
            };
            let app = parcel.app.clone();
            Some((app, Claim { consumer: Arc::clone(self), place, parcel, incarnation }))
        });
        let claims = claims.collect();
        self.claim_queue.deliver(provider, reserved, claims);
    }

    /// Queues a verdict for publication.
    pub(super) fn settle(&self, place: EntryRef, gateway: Arc<str>, job: JobId, verdict: Vec<u8>) {
        let settled = Settled { place, gateway, job, verdict, at: Instant::now() };
        let _ = self.verdicts.send(settled);
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HashSet<EntryRef>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn suspect(&self) -> MutexGuard<'_, Option<(String, EntryRef)>> {
        self.suspect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an entry: it is finished, or left to others.
    pub(super) fn release(&self, place: &EntryRef) {
        self.held().remove(place);
        let mut suspect = self.suspect();
        if suspect.as_ref().is_some_and(|(lane, it)| it == place && lane == self.lane.name()) {
            *suspect = None;
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Says that a reader has ended; after the last one nothing more comes.
    pub(super) fn reader_ended(&self) {
        // `AcqRel`: what the other readers delivered comes before the consumer that the last one tells of.
        if self.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.claim_queue.end();
        }
    }

    fn stalled_for(&self) -> Duration {
        let elapsed = self.began.elapsed();
        let slowest = self.moved.iter().map(|moved| moved.load(Ordering::Relaxed)).min();
        elapsed.saturating_sub(Duration::from_millis(slowest.unwrap_or_default()))
    }

    pub(super) fn move_on(&self, provider: Provider) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved[provider as usize].store(now, Ordering::Relaxed);
    }

    /// Logs that the lane does not answer, once until it does.
    pub(super) fn mark_down(&self, error: &str) {
        self.doubtful.store(true, Ordering::Relaxed);
        if self.is_up.swap(false, Ordering::Relaxed) {
            warn!(lane = self.lane.name(), error, "a lane is down");
        }
    }

    /// Notes that the lane answers.
    pub(super) fn mark_up(&self) {
        if !self.is_up.swap(true, Ordering::Relaxed) {
            info!(lane = self.lane.name(), "a lane is up");
        }
    }
}

impl fmt::Debug for LaneConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneConsumer").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWorker").field("lanes", &self.consumers.len()).finish_non_exhaustive()
    }
}
