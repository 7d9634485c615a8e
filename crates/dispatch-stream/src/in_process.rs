//! In-process job queue: both ends in one process, queues in memory, verdicts through channels.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use push_domain::{FailReason, Provider, Verdict};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::{Claimed, Job, JobConsumer, JobProducer, SubmitError, VerdictSink};

/// In-process job queue. Cheap to clone; all clones are one queue.
#[derive(Clone)]
pub struct InProcessQueue {
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
}

/// Jobs of one provider that no worker has claimed.
#[derive(Default)]
struct Waiting {
    calls: VecDeque<(Job, Caller)>,
    others: VecDeque<(Job, Caller)>,
}

/// Who waits for a job's verdict.
struct Caller(oneshot::Sender<Verdict>);

impl InProcessQueue {
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

    /// Queues the job, and returns where its verdict will arrive.
    fn enqueue(&self, job: Job) -> Result<oneshot::Receiver<Verdict>, SubmitError> {
        let (caller, verdict) = oneshot::channel();
        let provider = job.notification.request.provider();
        let mut state = self.shared.lock();
        if state.closed {
            return Err(SubmitError::Closed);
        }
        let waiting = state.waiting(provider);
        if waiting.len() >= self.shared.capacity {
            return Err(SubmitError::Full);
        }
        waiting.push(job, Caller(caller));
        drop(state);
        self.shared.notify(provider).notify_one();
        Ok(verdict)
    }
}

#[async_trait]
impl JobProducer for InProcessQueue {
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
impl JobConsumer for InProcessQueue {
    async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>> {
        loop {
            let arrival = self.shared.notify(provider).notified();
            tokio::pin!(arrival);
            arrival.as_mut().enable();
            let (jobs, finished) = self.shared.take(provider, free);
            if !jobs.is_empty() {
                return Some(jobs);
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
    fn take(&self, provider: Provider, free: usize) -> (Vec<Claimed>, bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let mut jobs = Vec::new();
        while jobs.len() < free {
            let Some((job, caller)) = state.waiting(provider).pop() else { break };
            if job.deadline > now {
                jobs.push(Claimed::new(job, Box::new(caller)));
            } else {
                Box::new(caller).finish(&job, Verdict::unsent(FailReason::Deadline));
            }
        }
        let finished = state.closed && state.waiting(provider).len() == 0;
        (jobs, finished)
    }
}

impl VerdictSink for Caller {
    fn finish(self: Box<Self>, _: &Job, verdict: Verdict) {
        // Who waits no more is told nothing.
        let _ = self.0.send(verdict);
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

    fn push(&mut self, job: Job, caller: Caller) {
        let queue = if job.notification.kind.is_call() { &mut self.calls } else { &mut self.others };
        queue.push_back((job, caller));
    }

    fn pop(&mut self) -> Option<(Job, Caller)> {
        self.calls.pop_front().or_else(|| self.others.pop_front())
    }
}

impl fmt::Debug for InProcessQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InProcessQueue").field("capacity", &self.shared.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use push_domain::Kind;

    use super::*;
    use crate::conformance::{a_job, submitted};

    fn ends(capacity: usize) -> std::future::Ready<InProcessQueue> {
        std::future::ready(InProcessQueue::new(capacity))
    }

    crate::conformance::dispatch_conformance!(
        #[tokio::test(start_paused = true)]
        ends
    );

    #[tokio::test]
    async fn a_closed_queue_refuses_and_hands_out_what_waits() {
        let ends = InProcessQueue::new(8);
        let _caller = submitted(&ends, &a_job(Kind::Message)).await;

        ends.close();

        assert_eq!(ends.submit(a_job(Kind::Message)).await, Err(SubmitError::Closed));
        assert_eq!(ends.claim(Provider::Fcm, 8).await.unwrap().len(), 1);
        assert!(ends.claim(Provider::Fcm, 8).await.is_none());
    }
}
