//! The worker's end: claims what can start, from all lanes, and gives back nothing but verdicts.

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

use super::beat::{self, Heart};
use super::entry::{Claim, Entry, Place, read_parcel};
use super::intake::Intake;
use super::settle::{self, Settled};
use super::value::StreamEntry;
use super::{Lane, care, read};
use crate::attest::Attestor;
use crate::seal::Sealer;
use crate::wire::Parcel;
use crate::{Claimed, JobSource, KeyRing, VitalTasks, wire};

/// No gateway gives a push more time.
const LARGEST_BUDGET: Duration = Duration::from_secs(25);

/// Claims jobs from all lanes: one for a process, with one set of connections a lane. Each of its threads takes
/// them from an end of its own.
///
/// Cheap to clone; all clones are one consumer. It is gone when the last one and all ends are dropped.
#[derive(Clone)]
pub struct RedisWorker {
    ends: Arc<[Arc<End>]>,
    ring: Arc<KeyRing>,
    verdicts: Arc<Mutex<Vec<Option<mpsc::UnboundedReceiver<Settled>>>>>,
}

/// One serving thread's end.
#[derive(Debug)]
pub struct WorkerThread {
    thread: usize,
    intake: Arc<Intake<Claim>>,
    apps: Arc<AppCatalogue>,
    sealer: Arc<Sealer>,
}

/// What the tasks of one lane share.
pub(super) struct End {
    pub(super) lane: Lane,
    /// Names this worker for as long as it lives.
    pub(super) consumer: String,
    pub(super) heart: Heart,
    pub(super) intake: Arc<Intake<Claim>>,
    /// The one suspect that the whole process runs, and its lane.
    pub(super) suspect: Arc<Mutex<Option<(String, Place)>>>,
    /// Opens pushes, and says of those that it opens what became of them.
    pub(super) sealer: Arc<Sealer>,
    pub(super) attestor: Arc<Attestor>,
    held: Mutex<HashSet<Place>>,
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
        let intake = Arc::new(Intake::new(threads));
        let (sealer, attestor) =
            (Arc::new(Sealer::new(Arc::clone(ring))), Arc::new(Attestor::of_verdicts(ring)));
        let (suspect, readers) = (Arc::default(), Arc::default());
        let (ends, verdicts) = lanes
            .iter()
            .map(|lane| {
                let (verdicts, waiting) = mpsc::unbounded_channel();
                let end = End {
                    lane: lane.clone(),
                    consumer: consumer.to_owned(),
                    heart: Heart::new(Arc::clone(clock)),
                    intake: Arc::clone(&intake),
                    suspect: Arc::clone(&suspect),
                    sealer: Arc::clone(&sealer),
                    attestor: Arc::clone(&attestor),
                    held: Mutex::default(),
                    verdicts,
                    closing: AtomicBool::new(false),
                    is_up: AtomicBool::new(false),
                    doubtful: AtomicBool::new(false),
                    began: Instant::now(),
                    moved: Default::default(),
                    readers: Arc::clone(&readers),
                };
                (Arc::new(end), Some(waiting))
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        Self { ends: ends.into(), ring: Arc::clone(ring), verdicts: Arc::new(Mutex::new(verdicts)) }
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
        for (number, end) in self.ends.iter().enumerate().filter(|(number, _)| number % threads == thread) {
            let Some(waiting) = verdicts.get_mut(number).and_then(Option::take) else { continue };
            tasks.spawn(beat::serve(Arc::downgrade(end)));
            tasks.spawn(settle::serve(Arc::downgrade(end), end.lane.clone(), waiting));
            tasks.spawn(care::serve(Arc::downgrade(end)));
            for provider in Provider::ALL {
                end.readers.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(read::serve(Arc::downgrade(end), provider, self.ends.len()));
            }
        }
        let intake =
            self.ends.first().map_or_else(|| Arc::new(Intake::new(threads)), |end| Arc::clone(&end.intake));
        WorkerThread { thread, intake, apps, sealer: Arc::new(Sealer::new(Arc::clone(&self.ring))) }
    }

    /// Claims no more jobs. Those that were claimed are still handed out; then `claim` returns `None`.
    pub fn close(&self) {
        for end in &*self.ends {
            end.closing.store(true, Ordering::Release);
        }
        if self.ends.iter().all(|end| end.readers.load(Ordering::Acquire) == 0)
            && let Some(end) = self.ends.first()
        {
            end.intake.end();
        }
    }

    /// Says whether any lane answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.ends.iter().any(|end| end.heart.beats())
    }

    /// Says whether this process is the one that looks after a lane that answers, for all.
    #[must_use]
    pub fn is_reaper(&self) -> bool {
        self.ends.iter().find(|end| end.heart.beats()).is_some_and(|end| end.heart.is_reaper(&end.consumer))
    }

    /// Returns for how long a reader has not moved: it moves every second, whether or not there are jobs,
    /// room or a lane.
    #[must_use]
    pub fn silence(&self) -> Duration {
        self.ends.iter().map(|end| end.silence()).max().unwrap_or_default()
    }

    /// Waits until every verdict is published, or cannot be any more.
    pub async fn settled(&self) {
        while self.ends.iter().any(|end| !end.held().is_empty()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl JobSource for WorkerThread {
    async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>> {
        loop {
            let claims = self.intake.take(provider, self.thread, free).await?;
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
        let Claim { end, place, parcel, life } = claim;
        let provider = read::provider_of(place.0);
        let now = Instant::now();
        // Whatever the lane's clock says, no push has longer than the largest budget.
        let deadline = end.heart.instant_of(parcel.deadline.millis).unwrap_or(now).min(now + LARGEST_BUDGET);
        let verdict = if parcel.deadline.epoch != end.heart.epoch() || self.apps.get(&parcel.app).is_none() {
            // The gateway knows how much time is left, and another worker may know the app.
            Vec::new()
        } else {
            match opened(&self.sealer, &parcel).map(|record| (record, deadline > now)) {
                Some((record, true)) => {
                    let job = wire::read_push(record, parcel.job, &parcel.app, &self.apps, deadline);
                    match job {
                        Ok(job) => {
                            let Parcel { gateway, app, .. } = parcel;
                            let entry = Entry { end, place, gateway, app, provider, life };
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
        end.intake.finished(provider, &parcel.app);
        end.settle(place, parcel.gateway, parcel.job, verdict);
        None
    }
}

/// Opens a push. One that cannot be opened was changed on its way, put together by somebody else, or is sealed under a key
/// that this worker does not have yet.
pub(super) fn opened(sealer: &Sealer, parcel: &Parcel) -> Option<Bytes> {
    let opened = sealer.open(parcel.binding(), &parcel.envelope);
    opened.inspect_err(|error| super::unbelieved("push", error)).ok()
}

impl End {
    /// Takes entries of one provider that are ours since `life`, for room that was set aside.
    pub(super) fn take_in(
        self: &Arc<Self>,
        provider: Provider,
        reserved: usize,
        entries: Vec<(usize, StreamEntry)>,
        life: u64,
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
            Some((app, Claim { end: Arc::clone(self), place, parcel, life }))
        });
        let claims = claims.collect();
        self.intake.deliver(provider, reserved, claims);
    }

    /// Queues a verdict for publication.
    pub(super) fn settle(&self, place: Place, gateway: Arc<str>, job: JobId, verdict: Vec<u8>) {
        let settled = Settled { place, gateway, job, verdict, at: Instant::now() };
        let _ = self.verdicts.send(settled);
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HashSet<Place>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn suspect(&self) -> MutexGuard<'_, Option<(String, Place)>> {
        self.suspect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an entry: it is finished, or left to others.
    pub(super) fn release(&self, place: &Place) {
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
        if self.readers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.intake.end();
        }
    }

    fn silence(&self) -> Duration {
        let elapsed = self.began.elapsed();
        let slowest = self.moved.iter().map(|moved| moved.load(Ordering::Relaxed)).min();
        elapsed.saturating_sub(Duration::from_millis(slowest.unwrap_or_default()))
    }

    pub(super) fn move_on(&self, provider: Provider) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved[provider as usize].store(now, Ordering::Relaxed);
    }

    /// Logs that the lane does not answer, once until it does.
    pub(super) fn trouble(&self, error: &str) {
        self.doubtful.store(true, Ordering::Relaxed);
        if self.is_up.swap(false, Ordering::Relaxed) {
            warn!(lane = self.lane.name(), error, "a lane is down");
        }
    }

    /// Notes that the lane answers.
    pub(super) fn works(&self) {
        if !self.is_up.swap(true, Ordering::Relaxed) {
            info!(lane = self.lane.name(), "a lane is up");
        }
    }
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("End").field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWorker").field("lanes", &self.ends.len()).finish_non_exhaustive()
    }
}
