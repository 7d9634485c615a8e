//! Both ends in one process: queues in memory, verdicts through channels.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use push_domain::{FailReason, JobId, Provider};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::{Claimed, Job, JobSink, JobSource, Submit, SubmitError, Verdict};

/// How many verdicts are remembered, so that a late second submission gets the first answer.
const REMEMBERED_VERDICTS: usize = 4096;

/// The in-process hand-over. Cheap to clone; all clones are one queue.
#[derive(Clone)]
pub struct InProcess {
    shared: Arc<Shared>,
}

struct Shared {
    capacity: usize,
    state: Mutex<State>,
    apns: Notify,
    fcm: Notify,
}

#[derive(Default)]
struct State {
    closed: bool,
    apns: Waiting,
    fcm: Waiting,
    jobs: HashMap<JobId, Progress>,
    settled: VecDeque<JobId>,
}

/// Jobs of one provider that no worker has claimed.
#[derive(Default)]
struct Waiting {
    calls: VecDeque<Job>,
    others: VecDeque<Job>,
}

enum Progress {
    /// Waiting or claimed; these callers wait for the verdict.
    Open(Vec<oneshot::Sender<Verdict>>),
    Settled(Verdict),
}

impl InProcess {
    /// Makes a queue in which at most `capacity` jobs of a provider wait.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let (apns, fcm) = (Notify::new(), Notify::new());
        Self { shared: Arc::new(Shared { capacity, state: Mutex::default(), apns, fcm }) }
    }

    /// Takes no more jobs. Those that wait are still claimed; then `claim` returns `None`.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.apns.notify_waiters();
        self.shared.fcm.notify_waiters();
    }

    /// Queues the job if its id is new, and returns where its verdict will arrive.
    fn enqueue(&self, job: Job) -> Result<oneshot::Receiver<Verdict>, SubmitError> {
        let (caller, verdict) = oneshot::channel();
        let provider = job.notification.request.provider();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        match state.jobs.entry(job.notification.id) {
            Entry::Occupied(mut known) => match known.get_mut() {
                Progress::Open(callers) => callers.push(caller),
                Progress::Settled(verdict) => {
                    let _ = caller.send(verdict.clone());
                }
            },
            Entry::Vacant(_) if state.closed => return Err(SubmitError::Closed),
            Entry::Vacant(new) => {
                let waiting = match provider {
                    Provider::Apns => &mut state.apns,
                    Provider::Fcm => &mut state.fcm,
                };
                if waiting.len() >= self.shared.capacity {
                    return Err(SubmitError::Full);
                }
                new.insert(Progress::Open(vec![caller]));
                waiting.push(job);
                drop(guard);
                self.shared.notify(provider).notify_one();
            }
        }
        Ok(verdict)
    }
}

#[async_trait]
impl Submit for InProcess {
    async fn submit(&self, job: Job) -> Result<Verdict, SubmitError> {
        let deadline = job.deadline;
        let verdict = self.enqueue(job)?;
        match tokio::time::timeout_at(deadline, verdict).await {
            Ok(Ok(verdict)) => Ok(verdict),
            Ok(Err(_)) => Ok(Verdict::unsent(FailReason::Internal)),
            Err(_) => Ok(Verdict::unsent(FailReason::Deadline)),
        }
    }
}

#[async_trait]
impl JobSource for InProcess {
    async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>> {
        loop {
            let arrival = self.shared.notify(provider).notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let (jobs, finished) = self.shared.take(provider, free);
            if !jobs.is_empty() {
                let sink: Arc<dyn JobSink> = self.shared.clone();
                return Some(jobs.into_iter().map(|job| Claimed::new(job, Arc::clone(&sink))).collect());
            }
            if finished {
                return None;
            }
            arrival.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    const fn notify(&self, provider: Provider) -> &Notify {
        match provider {
            Provider::Apns => &self.apns,
            Provider::Fcm => &self.fcm,
        }
    }

    /// Takes jobs that may still be sent; says whether none will ever come again.
    fn take(&self, provider: Provider, free: usize) -> (Vec<Job>, bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let mut jobs = Vec::new();
        let mut late = Vec::new();
        while jobs.len() < free {
            let Some(job) = state.waiting(provider).pop() else {
                break;
            };
            if job.deadline > now {
                jobs.push(job);
            } else {
                late.push(job);
            }
        }
        let finished = state.closed && state.waiting(provider).len() == 0;
        drop(state);
        for job in late {
            self.finish(&job, Verdict::unsent(FailReason::Deadline));
        }
        (jobs, finished)
    }
}

impl JobSink for Shared {
    fn finish(&self, job: &Job, verdict: Verdict) {
        let id = job.notification.id;
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(progress) = state.jobs.get_mut(&id) else {
            return;
        };
        let Progress::Open(callers) = progress else { return };
        let callers = std::mem::take(callers);
        *progress = Progress::Settled(verdict.clone());
        state.settled.push_back(id);
        if state.settled.len() > REMEMBERED_VERDICTS
            && let Some(oldest) = state.settled.pop_front()
        {
            state.jobs.remove(&oldest);
        }
        drop(guard);
        for caller in callers {
            let _ = caller.send(verdict.clone());
        }
    }
}

impl State {
    const fn waiting(&mut self, provider: Provider) -> &mut Waiting {
        match provider {
            Provider::Apns => &mut self.apns,
            Provider::Fcm => &mut self.fcm,
        }
    }
}

impl Waiting {
    fn len(&self) -> usize {
        self.calls.len() + self.others.len()
    }

    fn push(&mut self, job: Job) {
        if job.notification.kind.is_call() {
            self.calls.push_back(job);
        } else {
            self.others.push_back(job);
        }
    }

    fn pop(&mut self) -> Option<Job> {
        self.calls.pop_front().or_else(|| self.others.pop_front())
    }
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcess").field("capacity", &self.shared.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use push_domain::Kind;

    use super::*;
    use crate::conformance::{a_job, submitted};

    fn ends(capacity: usize) -> std::future::Ready<InProcess> {
        std::future::ready(InProcess::new(capacity))
    }

    crate::conformance::dispatch_conformance!(
        #[tokio::test(start_paused = true)]
        ends
    );

    #[tokio::test]
    async fn a_closed_queue_refuses_and_hands_out_what_waits() {
        let ends = InProcess::new(8);
        let _caller = submitted(&ends, &a_job(Kind::Message)).await;

        ends.close();

        assert_eq!(ends.submit(a_job(Kind::Message)).await, Err(SubmitError::Closed));
        assert_eq!(ends.claim(Provider::Fcm, 8).await.unwrap().len(), 1);
        assert!(ends.claim(Provider::Fcm, 8).await.is_none());
    }
}
