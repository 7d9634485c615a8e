//! Table of pending jobs: which caller waits for which verdict, for all serving threads of a gateway.
//!
//! A caller is registered for as long as it waits, on whichever lane its job is: a verdict that comes by a former
//! way counts too. News is told to each thread at once, because waking a thread costs a system call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use push_domain::{JobId, Verdict};
use tokio::sync::{mpsc, oneshot};

use crate::SubmitError;

const PARTS: usize = 16;

/// Event for a waiting caller.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Verdict(Verdict),
    /// The lane takes nothing more.
    Full,
    /// The job has to go another way.
    LaneFailed,
    /// The worker that took the job cannot deliver it.
    NotServed,
}

/// Batch of events for the callers of one thread.
pub(super) type EventBatch = Vec<(oneshot::Sender<Event>, Event)>;

/// Table of the jobs that wait for a verdict, by id.
#[derive(Debug, Default)]
pub(super) struct PendingJobs {
    parts: [Mutex<HashMap<JobId, PendingJob>>; PARTS],
    count: AtomicUsize,
    /// How each serving thread is told.
    threads: Mutex<Vec<(usize, mpsc::UnboundedSender<EventBatch>)>>,
}

#[derive(Debug)]
struct PendingJob {
    thread: usize,
    /// The lane that the job is to take, and how its news is told, once; none between two ways.
    way: Option<(usize, oneshot::Sender<Event>)>,
    /// What came while the caller was between two ways.
    verdict: Option<Verdict>,
    /// The lane that has it, and in which of its lives; and those that had it before.
    taken: Option<(usize, u64)>,
    taken_before: Vec<(usize, u64)>,
}

/// Registration of one caller; it waits no more when this is dropped.
#[derive(Debug)]
pub(super) struct Registration<'a> {
    pending_jobs: &'a PendingJobs,
    job: JobId,
}

impl PendingJobs {
    fn part(&self, job: JobId) -> MutexGuard<'_, HashMap<JobId, PendingJob>> {
        // The low bits of the id are random.
        let part = usize::try_from(job.uuid().as_u128() % PARTS as u128).unwrap_or_default();
        self.parts[part].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<(usize, mpsc::UnboundedSender<EventBatch>)>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns how a thread is told.
    pub(super) fn add_thread(&self, thread: usize, news: mpsc::UnboundedSender<EventBatch>) {
        self.threads().push((thread, news));
    }

    /// Registers the caller of a job, on its thread. At most `capacity` callers wait at once.
    pub(super) fn register(
        &self,
        job: JobId,
        thread: usize,
        capacity: usize,
    ) -> Result<Registration<'_>, SubmitError> {
        if self.count.load(Ordering::Relaxed) >= capacity {
            return Err(SubmitError::Full);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let waiting = PendingJob { thread, way: None, verdict: None, taken: None, taken_before: Vec::new() };
        self.part(job).insert(job, waiting);
        Ok(Registration { pending_jobs: self, job })
    }

    /// Says whether a job still has to be handed over to this lane, in its present incarnation: not if nobody waits for it
    /// there, and not if the lane has taken it.
    pub(super) fn is_due(&self, job: JobId, lane: usize, incarnation: u64) -> bool {
        let part = self.part(job);
        part.get(&job).is_some_and(|waiting| {
            waiting.way.as_ref().is_some_and(|(way, event)| *way == lane && !event.is_closed())
                && waiting.taken != Some((lane, incarnation))
                && !waiting.taken_before.contains(&(lane, incarnation))
        })
    }

    /// Notes that a lane has taken jobs, in one of its lives.
    pub(super) fn taken(&self, jobs: &[JobId], lane: usize, incarnation: u64) {
        for job in jobs {
            if let Some(waiting) = self.part(*job).get_mut(job) {
                waiting.taken_before.extend(waiting.taken.replace((lane, incarnation)));
            }
        }
    }

    /// Notes that a lane has a job no more, without a verdict.
    pub(super) fn returned(&self, job: JobId, lane: usize) {
        if let Some(waiting) = self.part(job).get_mut(&job) {
            waiting.taken.take_if(|(taker, _)| *taker == lane);
            waiting.taken_before.retain(|(taker, _)| *taker != lane);
        }
    }

    /// Tells the callers of some jobs; `home` is the thread that this runs on.
    pub(super) fn notify(&self, home: usize, news: impl IntoIterator<Item = (JobId, Event)>) {
        let mut told = Vec::new();
        for (job, event) in news {
            let mut part = self.part(job);
            let Some(waiting) = part.get_mut(&job) else { continue };
            match (waiting.way.take(), event) {
                (Some((_, caller)), event) => told.push((waiting.thread, caller, event)),
                (None, Event::Verdict(verdict)) => {
                    waiting.verdict.get_or_insert(verdict);
                }
                (None, _) => {}
            }
        }
        self.pass_on(home, told);
    }

    /// Sends all callers of a lane on their way again.
    pub(super) fn lane_failed(&self, home: usize, lane: usize) {
        let mut told = Vec::new();
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            for waiting in part.values_mut() {
                if let Some((_, caller)) = waiting.way.take_if(|(way, _)| *way == lane) {
                    told.push((waiting.thread, caller, Event::LaneFailed));
                }
            }
        }
        self.pass_on(home, told);
    }

    fn pass_on(&self, home: usize, told: Vec<(usize, oneshot::Sender<Event>, Event)>) {
        let mut away: Vec<(usize, EventBatch)> = Vec::new();
        for (thread, sender, event) in told {
            if thread == home {
                let _ = sender.send(event);
            } else if let Some((_, news)) = away.iter_mut().find(|(known, _)| *known == thread) {
                news.push((sender, event));
            } else {
                away.push((thread, vec![(sender, event)]));
            }
        }
        if away.is_empty() {
            return;
        }
        let threads = self.threads();
        for (thread, news) in away {
            let known = threads.iter().find(|(known, _)| *known == thread);
            // A thread that is gone has no callers any more.
            let _ = known.map(|(_, sender)| sender.send(news));
        }
    }
}

impl Registration<'_> {
    /// Takes a verdict that came between two ways.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.pending_jobs.part(self.job).get_mut(&self.job)?.verdict.take()
    }

    /// Says that the job goes to a lane, and returns where its news will arrive.
    pub(super) fn wait_on(&self, lane: usize) -> oneshot::Receiver<Event> {
        let (event, news) = oneshot::channel();
        if let Some(waiting) = self.pending_jobs.part(self.job).get_mut(&self.job) {
            if let Some(verdict) = waiting.verdict.take() {
                let _ = event.send(Event::Verdict(verdict));
            } else {
                waiting.way = Some((lane, event));
            }
        }
        news
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.pending_jobs.count.fetch_sub(1, Ordering::Relaxed);
        self.pending_jobs.part(self.job).remove(&self.job);
    }
}

/// Tells the callers of one thread, on that thread, until the gateway is gone.
pub(super) async fn tell_callers(mut news: mpsc::UnboundedReceiver<EventBatch>) {
    while let Some(news) = news.recv().await {
        for (caller, event) in news {
            let _ = caller.send(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use push_domain::FailReason;

    use super::*;

    fn a_verdict() -> Event {
        Event::Verdict(Verdict::unsent(FailReason::Poison))
    }

    #[tokio::test]
    async fn a_verdict_that_comes_between_two_ways_is_not_lost() {
        let (pending_jobs, job) = (PendingJobs::default(), JobId::new());
        let place = pending_jobs.register(job, 0, 10).unwrap();
        let first = place.wait_on(0);
        pending_jobs.lane_failed(0, 0);
        assert!(matches!(first.await, Ok(Event::LaneFailed)));

        pending_jobs.notify(0, [(job, a_verdict())]);

        assert!(matches!(place.wait_on(1).await, Ok(Event::Verdict(_))));
    }

    #[tokio::test]
    async fn callers_of_other_threads_are_told_on_their_threads() {
        let (pending_jobs, job) = (PendingJobs::default(), JobId::new());
        let (sender, mut news) = mpsc::unbounded_channel();
        pending_jobs.add_thread(1, sender);
        let place = pending_jobs.register(job, 1, 10).unwrap();
        let mine = place.wait_on(0);

        pending_jobs.notify(0, [(job, a_verdict())]);

        for (caller, event) in news.try_recv().unwrap() {
            caller.send(event).unwrap();
        }
        assert!(matches!(mine.await, Ok(Event::Verdict(_))));
    }

    #[test]
    fn what_a_lane_has_taken_is_not_due_there_until_it_has_lost_all() {
        let (pending_jobs, job) = (PendingJobs::default(), JobId::new());
        let place = pending_jobs.register(job, 0, 1).unwrap();
        let _first = place.wait_on(0);
        assert!(pending_jobs.is_due(job, 0, 7));
        assert!(!pending_jobs.is_due(job, 1, 7), "it waits on another lane");

        pending_jobs.taken(&[job], 0, 7);
        assert!(!pending_jobs.is_due(job, 0, 7));
        let _second = place.wait_on(1);
        pending_jobs.taken(&[job], 1, 3);
        let _third = place.wait_on(0);

        assert!(!pending_jobs.is_due(job, 0, 7), "it is back, and so is the lane");
        assert!(pending_jobs.is_due(job, 0, 8));
    }

    #[test]
    fn who_waits_no_more_leaves_nothing_behind() {
        let (pending_jobs, job) = (PendingJobs::default(), JobId::new());
        let place = pending_jobs.register(job, 0, 1).unwrap();
        assert_eq!(pending_jobs.register(job, 0, 1).unwrap_err(), SubmitError::Full);
        drop(place.wait_on(0));
        assert!(!pending_jobs.is_due(job, 0, 0));

        drop(place);

        assert!(pending_jobs.parts.iter().all(|part| part.lock().unwrap().is_empty()));
        assert!(pending_jobs.register(job, 0, 1).is_ok());
    }
}
