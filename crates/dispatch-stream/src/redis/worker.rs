//! The worker's end of one lane: claims what can start, and gives back nothing but verdicts.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use push_domain::{AppCatalogue, AppId, FailReason, JobId, Provider};
use redis::{RedisResult, cmd};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::beat::{self, Heart};
use super::entry::{Entry, Label, Place};
use super::link::{Link, described};
use super::mailbox::Mailbox;
use super::settle::{self, Settled};
use super::value::{self, StreamEntry};
use super::{BLOCK, GROUP, Lane, care, pause};
use crate::seal::{Binding, Sealer};
use crate::{Claimed, Job, JobSource, KeyRing, Verdict, wire};

/// Claims jobs from one lane. One for each lane and working thread.
///
/// Cheap to clone; all clones are one consumer. It is gone when the last one is dropped.
#[derive(Clone)]
pub struct RedisWorker {
    end: Arc<End>,
}

/// What the tasks of a worker share.
pub(super) struct End {
    pub(super) lane: Lane,
    /// Names this worker for as long as it lives.
    pub(super) consumer: String,
    pub(super) queues: Vec<Queue>,
    pub(super) heart: Heart,
    apps: Arc<AppCatalogue>,
    sealer: Sealer,
    held: Mutex<HashSet<Place>>,
    suspect: Mutex<Option<Place>>,
    mailboxes: [Mailbox; 2],
    verdicts: mpsc::UnboundedSender<Settled>,
    closing: AtomicBool,
    is_up: AtomicBool,
    began: Instant,
    /// When each provider's reader last moved, in milliseconds after `began`.
    moved: [AtomicU64; 2],
}

/// One stream of jobs.
pub(super) struct Queue {
    pub(super) key: String,
    app: AppId,
    provider: Provider,
    is_call: bool,
}

impl RedisWorker {
    /// Starts the worker's end, whose tasks run on `tasks` until it is closed and empty.
    ///
    /// `consumer` has to be new for each process and thread: a name that was used before would inherit
    /// what its bearer left.
    #[must_use]
    pub fn start(
        consumer: String,
        lane: Lane,
        apps: Arc<AppCatalogue>,
        ring: Arc<KeyRing>,
        tasks: &TaskTracker,
    ) -> Self {
        let (verdicts, waiting) = mpsc::unbounded_channel();
        let end = Arc::new(End {
            queues: queues(&lane, &apps),
            lane,
            consumer,
            heart: Heart::default(),
            apps,
            sealer: Sealer::new(ring),
            held: Mutex::default(),
            suspect: Mutex::default(),
            mailboxes: Default::default(),
            verdicts,
            closing: AtomicBool::new(false),
            is_up: AtomicBool::new(false),
            began: Instant::now(),
            moved: Default::default(),
        });
        tasks.spawn(beat::serve(Arc::downgrade(&end)));
        tasks.spawn(settle::serve(Arc::downgrade(&end), end.lane.clone(), waiting));
        tasks.spawn(care::serve(Arc::downgrade(&end)));
        for provider in [Provider::Apns, Provider::Fcm] {
            if end.queues.iter().any(|queue| queue.provider == provider) {
                tasks.spawn(read(Arc::downgrade(&end), provider));
            } else {
                end.moved[provider as usize].store(u64::MAX, Ordering::Relaxed);
            }
        }
        Self { end }
    }

    /// Claims no more jobs. Those that were claimed are still handed out; then `claim` returns `None`.
    pub fn close(&self) {
        self.end.closing.store(true, Ordering::Release);
        for provider in [Provider::Apns, Provider::Fcm] {
            if !self.end.queues.iter().any(|queue| queue.provider == provider) {
                self.end.mailboxes[provider as usize].end();
            }
        }
    }

    /// Says whether the lane answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.end.heart.beats()
    }

    /// Returns for how long a reader has not moved: it moves every second, whether or not there are jobs,
    /// room or a lane.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let elapsed = self.end.began.elapsed();
        let slowest = self.end.moved.iter().map(|moved| moved.load(Ordering::Relaxed)).min();
        elapsed.saturating_sub(Duration::from_millis(slowest.unwrap_or_default()))
    }

    /// Waits until every verdict is published, or cannot be any more.
    pub async fn settled(&self) {
        while !self.end.held().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl JobSource for RedisWorker {
    async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>> {
        self.end.mailboxes[provider as usize].take(free).await
    }
}

/// The queues of all apps, calls before the others.
fn queues(lane: &Lane, apps: &AppCatalogue) -> Vec<Queue> {
    let of = |is_call| {
        apps.iter().map(move |app| Queue {
            key: lane.keys.queue(&app.id, is_call),
            app: app.id.clone(),
            provider: app.provider,
            is_call,
        })
    };
    of(true).chain(of(false)).collect()
}

/// Reads one provider's jobs until the worker closes.
async fn read(end: Weak<End>, provider: Provider) {
    let Some(worker) = end.upgrade() else { return };
    let mut link = Link::blocking(worker.lane.clone());
    drop(worker);
    // The server may be new: it knows no heartbeat of ours, or no group.
    let (mut unproven, mut groupless) = (true, false);
    while let Some(worker) = end.upgrade() {
        worker.move_on(provider);
        if worker.is_closing() {
            worker.mailboxes[provider as usize].end();
            return;
        }
        let room = worker.mailboxes[provider as usize].room().await;
        if room == 0 {
            continue;
        }
        let unsure = unproven || !worker.heart.beats();
        if unsure && tokio::time::timeout(BLOCK, worker.heart.again()).await.is_err() {
            continue;
        }
        let life = worker.heart.life();
        let read = async {
            if groupless {
                worker.make_groups(&mut link).await?;
            }
            worker.read_queues(&mut link, provider, room).await
        };
        match read.await {
            Ok(entries) => {
                (unproven, groupless) = (false, false);
                worker.take_in(entries, life);
            }
            Err(error) if error.code() == Some("NOGROUP") => (unproven, groupless) = (true, true),
            Err(error) => {
                worker.trouble(&described(&error));
                unproven = true;
                pause().await;
            }
        }
    }
}

impl End {
    /// Claims at most `room` entries of a provider, or one of each queue: calls if there are any, else
    /// what comes first.
    async fn read_queues(
        &self,
        link: &mut Link,
        provider: Provider,
        room: usize,
    ) -> RedisResult<Vec<(usize, StreamEntry)>> {
        let calls = self.read_some(link, room, false, |queue| queue.provider == provider && queue.is_call);
        let calls = calls.await?;
        if calls.is_empty() {
            self.read_some(link, room, true, |queue| queue.provider == provider).await
        } else {
            Ok(calls)
        }
    }

    async fn read_some(
        &self,
        link: &mut Link,
        room: usize,
        waits: bool,
        chosen: impl Fn(&Queue) -> bool,
    ) -> RedisResult<Vec<(usize, StreamEntry)>> {
        let keys = || self.queues.iter().filter(|queue| chosen(queue)).map(|queue| &queue.key);
        let count = keys().count();
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg((room / count.max(1)).max(1));
        if waits {
            read.arg("BLOCK").arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX));
        }
        read.arg("STREAMS");
        for key in keys() {
            read.arg(key);
        }
        for _ in 0..count {
            read.arg(">");
        }
        let streams = value::streams(link.query(&read).await?);
        let number = |key: &str| self.queues.iter().position(|queue| queue.key == key);
        let entries = streams.into_iter().filter_map(|(key, entries)| Some((number(&key)?, entries)));
        Ok(entries
            .flat_map(|(queue, entries)| entries.into_iter().map(move |entry| (queue, entry)))
            .collect())
    }

    /// Makes the group of every queue, from its first entry on.
    async fn make_groups(&self, link: &mut Link) -> RedisResult<()> {
        for queue in &self.queues {
            let mut make = cmd("XGROUP");
            make.arg("CREATE").arg(&queue.key).arg(GROUP).arg(0).arg("MKSTREAM");
            if let Err(error) = link.query(&make).await
                && error.code() != Some("BUSYGROUP")
            {
                return Err(error);
            }
        }
        info!(lane = self.lane.name(), "a lane is new to its workers");
        Ok(())
    }

    /// Takes entries that are ours since `life`: opens each one and puts it into its mailbox. One that
    /// cannot be opened fails alone.
    pub(super) fn take_in(self: &Arc<Self>, entries: Vec<(usize, StreamEntry)>, life: u64) {
        let mut jobs: [Vec<Claimed>; 2] = Default::default();
        for (queue, entry) in entries {
            let provider = self.queues[queue].provider as usize;
            jobs[provider].extend(self.opened(queue, &entry, life));
        }
        for (mailbox, jobs) in self.mailboxes.iter().zip(jobs) {
            if !jobs.is_empty() {
                mailbox.deliver(jobs);
            }
        }
    }

    fn opened(self: &Arc<Self>, queue: usize, entry: &StreamEntry, life: u64) -> Option<Claimed> {
        let place = (queue, entry.id.clone());
        if !self.held().insert(place.clone()) {
            return None; // It came twice: by an answer that was late, and by looking for it.
        }
        let Some(label) = Label::read(entry) else {
            error!(lane = self.lane.name(), entry = entry.id, "an entry cannot be read; it is dropped");
            let nobody = JobId::from_uuid(uuid::Uuid::nil());
            self.settle(place, "nobody", nobody, &Verdict::unsent(FailReason::Internal));
            return None;
        };
        let now = Instant::now();
        let deadline = self.heart.instant_of(label.deadline_ms).unwrap_or(now);
        if deadline <= now {
            self.settle(place, &label.gateway, label.job, &Verdict::unsent(FailReason::Deadline));
            return None;
        }
        match self.open(queue, &label, entry.field(b"p").unwrap_or_default(), deadline) {
            Ok(job) => {
                let right = Entry { end: Arc::clone(self), place, gateway: label.gateway, life };
                Some(Claimed::new(job, Arc::new(right)))
            }
            Err(reason) => {
                error!(job = %label.job, app = %self.queues[queue].app, reason, "a push cannot be opened");
                self.settle(place, &label.gateway, label.job, &Verdict::unsent(FailReason::Internal));
                None
            }
        }
    }

    fn open(&self, queue: usize, label: &Label, envelope: &[u8], deadline: Instant) -> Result<Job, String> {
        let app = &self.queues[queue].app;
        let binding = Binding { job: label.job, gateway: &label.gateway, app };
        let record: Bytes = self.sealer.open(binding, envelope).map_err(|error| error.to_string())?;
        wire::read_push(record, label.job, app, &self.apps, deadline).map_err(|error| error.to_string())
    }

    /// Queues a verdict for publication.
    pub(super) fn settle(&self, place: Place, gateway: &str, job: JobId, verdict: &Verdict) {
        let verdict = wire::write_verdict(verdict);
        let settled = Settled { place, gateway: gateway.to_owned(), job, verdict, at: Instant::now() };
        let _ = self.verdicts.send(settled);
    }

    pub(super) fn held(&self) -> MutexGuard<'_, HashSet<Place>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one suspect that this worker runs.
    pub(super) fn suspect(&self) -> MutexGuard<'_, Option<Place>> {
        self.suspect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets an entry: it is finished, or left to others.
    pub(super) fn release(&self, place: &Place) {
        self.held().remove(place);
        let mut suspect = self.suspect();
        if suspect.as_ref() == Some(place) {
            *suspect = None;
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// For how many jobs there is room at this moment.
    pub(super) fn room(&self) -> usize {
        self.mailboxes.iter().map(Mailbox::wanted).sum()
    }

    fn move_on(&self, provider: Provider) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved[provider as usize].store(now, Ordering::Relaxed);
    }

    /// Logs that the lane does not answer, once until it does.
    pub(super) fn trouble(&self, error: &str) {
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

impl fmt::Debug for RedisWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisWorker").field("lane", &self.end.lane).finish_non_exhaustive()
    }
}
