//! Simulated worker pool whose workers die or stall, over the in-process queue: what lanes do for the jobs
//! of such workers, in simulated time.
//!
//! What a worker had when it ended is given to another one 2 s later, and whatever it still says counts for
//! nothing. One that stands still says nothing until it goes on; after 2 s others have its jobs.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use dispatch_stream::{Claimed, InProcessQueue, Job, JobConsumer, VerdictSink};
use push_domain::{FailReason, JobId, Provider, Verdict};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// After so long without a sign of life a worker's jobs are others'.
const TAKEN_OVER_AFTER: Duration = Duration::from_secs(2);

/// Worker pool of a scenario, and the jobs that each worker has.
pub(super) struct WorkerPool {
    queue: InProcessQueue,
    state: Mutex<State>,
    news: Notify,
    tasks: TaskTracker,
}

#[derive(Default)]
struct State {
    hired: u32,
    ended: HashSet<u32>,
    still_until: HashMap<u32, Instant>,
    /// Workers to which anything happened.
    struck: HashSet<u32>,
    held: HashMap<JobId, Held>,
    /// Jobs that wait for another worker.
    left: VecDeque<JobId>,
}

/// A job that a worker has, or that waits for another one.
struct Held {
    claimed: Claimed,
    worker: Option<u32>,
}

/// Job consumer of one simulated worker.
pub(super) struct PoolWorker {
    shifts: Arc<WorkerPool>,
    pub(super) worker: u32,
}

impl WorkerPool {
    pub(super) fn new(queue: InProcessQueue, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { queue, state: Mutex::default(), news: Notify::new(), tasks })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Lets a new worker begin.
    pub(super) fn start_worker(self: &Arc<Self>) -> PoolWorker {
        let mut state = self.lock();
        state.hired += 1;
        PoolWorker { shifts: Arc::clone(self), worker: state.hired }
    }

    /// Ends a worker in the middle of its work.
    pub(super) fn end(self: &Arc<Self>, worker: u32) {
        let mut state = self.lock();
        state.ended.insert(worker);
        state.struck.insert(worker);
        drop(state);
        self.take_from(worker);
        self.news.notify_waiters();
    }

    /// Lets a worker stand still for a time.
    pub(super) fn pause(self: &Arc<Self>, worker: u32, time: Duration) {
        let mut state = self.lock();
        state.struck.insert(worker);
        state.still_until.insert(worker, Instant::now() + time);
        drop(state);
        if time > TAKEN_OVER_AFTER {
            self.take_from(worker);
        }
    }

    /// Says whether a worker ever ended or stood still.
    pub(super) fn was_struck(&self, worker: u32) -> bool {
        self.lock().struck.contains(&worker)
    }

    /// Gives what a worker has now to others, when it has been silent for long enough.
    fn take_from(self: &Arc<Self>, worker: u32) {
        let held: Vec<_> = {
            let state = self.lock();
            state.held.iter().filter(|(_, it)| it.worker == Some(worker)).map(|(id, _)| *id).collect()
        };
        for job in held {
            self.leave(worker, job);
        }
    }

    /// Puts a job back for others, when its worker has been silent for long enough.
    fn leave(self: &Arc<Self>, worker: u32, job: JobId) {
        let shifts = Arc::clone(self);
        self.tasks.spawn(async move {
            tokio::time::sleep(TAKEN_OVER_AFTER).await;
            let mut guard = shifts.lock();
            let state = &mut *guard;
            if let Some(held) = state.held.get_mut(&job).filter(|it| it.worker == Some(worker)) {
                held.worker = None;
                state.left.push_back(job);
                shifts.news.notify_waiters();
            }
        });
    }

    /// The first verdict counts, whoever has the job by now.
    fn settle(&self, job: JobId, verdict: Verdict) {
        let held = self.lock().held.remove(&job);
        if let Some(held) = held {
            held.claimed.finish(verdict);
        }
        self.news.notify_waiters();
    }

    /// Takes jobs that another worker left and that still have time.
    fn left(self: &Arc<Self>, worker: u32, free: usize) -> Vec<Claimed> {
        let (mut jobs, mut late) = (Vec::new(), Vec::new());
        let mut guard = self.lock();
        let state = &mut *guard;
        while jobs.len() < free
            && let Some(id) = state.left.pop_front()
        {
            let Some(held) = state.held.get_mut(&id) else { continue };
            if held.claimed.job().deadline > Instant::now() {
                held.worker = Some(worker);
                jobs.push(held.claimed.job().clone());
            } else {
                late.push(id);
            }
        }
        drop(guard);
        for id in late {
            self.settle(id, Verdict::unsent(FailReason::Deadline));
        }
        jobs.into_iter().map(|job| self.ticket(worker, job)).collect()
    }

    fn ticket(self: &Arc<Self>, worker: u32, job: Job) -> Claimed {
        let (shifts, id) = (Arc::clone(self), job.notification.id);
        Claimed::new(job, Box::new(Ticket { shifts, worker, job: id }))
    }
}

#[async_trait]
impl JobConsumer for PoolWorker {
    async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>> {
        loop {
            let news = self.shifts.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.shifts.lock().ended.contains(&self.worker) {
                return None;
            }
            let left = self.shifts.left(self.worker, free);
            if !left.is_empty() {
                return Some(left);
            }
            let new = tokio::select! {
                () = news => continue,
                new = self.shifts.queue.claim(provider, free) => new,
            };
            if let Some(new) = new {
                let mut jobs = Vec::new();
                for claimed in new {
                    let job = claimed.job().clone();
                    let held = Held { claimed, worker: Some(self.worker) };
                    self.shifts.lock().held.insert(job.notification.id, held);
                    jobs.push(self.shifts.ticket(self.worker, job));
                }
                return Some(jobs);
            }
            if self.shifts.lock().held.is_empty() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Job handle of a simulated worker.
struct Ticket {
    shifts: Arc<WorkerPool>,
    worker: u32,
    job: JobId,
}

impl VerdictSink for Ticket {
    fn finish(self: Box<Self>, _: &Job, verdict: Verdict) {
        let still_until = {
            let state = self.shifts.lock();
            if state.ended.contains(&self.worker) {
                return;
            }
            state.still_until.get(&self.worker).copied().filter(|until| *until > Instant::now())
        };
        match still_until {
            None => self.shifts.settle(self.job, verdict),
            Some(until) => {
                let (shifts, job) = (Arc::clone(&self.shifts), self.job);
                self.shifts.tasks.spawn(async move {
                    tokio::time::sleep_until(until).await;
                    shifts.settle(job, verdict);
                });
            }
        }
    }

    fn may_send(&self) -> bool {
        let state = self.shifts.lock();
        let stands = state.still_until.get(&self.worker).is_some_and(|until| *until > Instant::now());
        let has = state.held.get(&self.job).is_some_and(|it| it.worker == Some(self.worker));
        has && !stands && !state.ended.contains(&self.worker)
    }

    fn abandon(self: Box<Self>) {
        self.shifts.leave(self.worker, self.job);
    }
}

impl fmt::Debug for PoolWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolWorker").field("worker", &self.worker).finish_non_exhaustive()
    }
}
