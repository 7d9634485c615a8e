//! Consumer of one lane, as all tasks of a worker share it: what it holds, what it has claimed, and whether it lives.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use push_domain::{Clock, FailReason, JobId, Provider, Verdict};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::claim_queue::ClaimQueue;
use super::lane::Lane;
use super::liveness::Liveness;
use super::value::StreamEntry;
use crate::message_auth::MessageAuthenticator;
use crate::seal::Sealer;
use crate::wire::{self, Parcel};

/// Reference to a stream entry: the number of its queue, and its id.
pub(super) type EntryRef = (usize, String);

/// Reads what stands in an entry. Fields that are not known are those of a later version.
pub(super) fn read_parcel(entry: &mut StreamEntry) -> Option<Parcel> {
    wire::read_parcel(entry.take(b"p")?).ok()
}

/// An entry that was claimed in one incarnation of its worker and waits for a thread to open it.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) consumer: Arc<LaneConsumer>,
    pub(super) place: EntryRef,
    pub(super) parcel: Parcel,
    pub(super) incarnation: u64,
}

/// A verdict on its way.
pub(super) struct Settled {
    pub(super) place: EntryRef,
    pub(super) gateway: Arc<str>,
    pub(super) job: JobId,
    /// Empty: this worker cannot deliver it, another one may.
    pub(super) verdict: Vec<u8>,
    pub(super) at: Instant,
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

/// What a consumer is made of; those of all lanes share most of it.
pub(super) struct LaneConsumerParts {
    pub(super) lane: Lane,
    pub(super) name: String,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) claim_queue: Arc<ClaimQueue<Claim>>,
    pub(super) suspect: Arc<Mutex<Option<(String, EntryRef)>>>,
    pub(super) sealer: Arc<Sealer>,
    pub(super) authenticator: Arc<MessageAuthenticator>,
    pub(super) verdicts: mpsc::UnboundedSender<Settled>,
    pub(super) readers: Arc<AtomicU64>,
}

/// Opens a push. One that cannot be opened was changed on its way, put together by somebody else, or is sealed under a key
/// that this worker does not have yet.
pub(super) fn opened(sealer: &Sealer, parcel: &Parcel) -> Option<Bytes> {
    let opened = sealer.open(parcel.binding(), &parcel.envelope);
    opened.inspect_err(|error| super::note_unauthenticated("push", error)).ok()
}

impl LaneConsumer {
    pub(super) fn new(parts: LaneConsumerParts) -> Self {
        let LaneConsumerParts {
            lane,
            name,
            clock,
            claim_queue,
            suspect,
            sealer,
            authenticator,
            verdicts,
            readers,
        } = parts;
        Self {
            lane,
            name,
            liveness: Liveness::new(clock),
            claim_queue,
            suspect,
            sealer,
            authenticator,
            held: Mutex::default(),
            verdicts,
            closing: AtomicBool::new(false),
            is_up: AtomicBool::new(false),
            doubtful: AtomicBool::new(false),
            began: Instant::now(),
            moved: Default::default(),
            readers,
        }
    }

    /// Claims no more.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Notes that a reader begins.
    pub(super) fn reader_began(&self) {
        self.readers.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether no reader goes on.
    pub(super) fn has_no_reader(&self) -> bool {
        self.readers.load(Ordering::Acquire) == 0
    }

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

    /// Returns for how long a reader has not moved.
    pub(super) fn stalled_for(&self) -> Duration {
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
