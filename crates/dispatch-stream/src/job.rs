//! Producer and consumer traits of the job queue, and the job that travels between them.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use push_domain::{FailReason, Notification, Provider, Verdict};
use tokio::time::Instant;

/// Job: one queued push, and the deadline after which nobody may send it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The push; shared, because the gateway keeps it until it has answered.
    pub notification: Arc<Notification>,
    /// When it was accepted.
    pub accepted_at: Instant,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

/// Error of a submission: why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many jobs wait as may wait.
    #[error("the dispatch queue is full")]
    Full,
    /// Nothing leads to the workers at the moment.
    #[error("no lane to the workers is up")]
    NoLane,
    /// Workers took it, and none of them delivers to its app.
    #[error("no worker delivers to the app")]
    NotServed,
    /// The process is stopping.
    #[error("the dispatch queue takes no more jobs")]
    Closed,
}

/// Producer end of the job queue, for gateways.
#[async_trait]
pub trait JobProducer: Send + Sync + fmt::Debug {
    /// Hands `job` over, once, and waits for its verdict, at most until its deadline.
    ///
    /// A job's id is its own: it is queued once, whatever happens on the way, and the first verdict holds.
    /// Cancel safe: a caller that stops waiting does not stop the job.
    async fn submit(&self, job: Job) -> Result<Verdict, SubmitError>;
}

/// Consumer end of the job queue, for workers.
#[async_trait]
pub trait JobConsumer: Send + Sync + fmt::Debug {
    /// Waits for jobs of `provider` and claims at most `free` of them, calls first.
    ///
    /// Returns `None` once the queue is closed and empty. Jobs past their deadline are answered
    /// here and never claimed. Cancel safe: no job is lost when the future is dropped.
    async fn claim(&self, provider: Provider, free: usize) -> Option<Vec<Claimed>>;
}

/// Sink for the verdict on a claimed job; it knows whether the claim still holds.
pub trait VerdictSink: Send + Sync {
    /// Records `verdict` for the job.
    fn finish(self: Box<Self>, job: &Job, verdict: Verdict);

    /// Says whether the job is still this worker's to send. Once it is not, it never is again.
    fn may_send(&self) -> bool {
        true
    }

    /// Leaves the job to whoever has taken it over.
    fn abandon(self: Box<Self>) {}
}

/// Claimed job, which one worker has to finish. Dropped unfinished, it answers `internal`: none is forgotten.
#[must_use = "a claimed job must be finished"]
pub struct Claimed {
    job: Job,
    sink: Option<Box<dyn VerdictSink>>,
}

impl Claimed {
    /// Binds a job to the sink that waits for its verdict.
    pub fn new(job: Job, sink: Box<dyn VerdictSink>) -> Self {
        Self { job, sink: Some(sink) }
    }

    /// Returns the job.
    #[must_use]
    pub const fn job(&self) -> &Job {
        &self.job
    }

    /// Says whether the job may still be sent. Ask before every attempt: others take the jobs of a worker
    /// that was away for too long.
    #[must_use]
    pub fn may_send(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.may_send())
    }

    /// Leaves the job, unsent, to whoever has taken it over.
    pub fn abandon(mut self) {
        if let Some(sink) = self.sink.take() {
            sink.abandon();
        }
    }

    /// Settles the job.
    pub fn finish(mut self, verdict: Verdict) {
        if let Some(sink) = self.sink.take() {
            sink.finish(&self.job, verdict);
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.finish(&self.job, Verdict::unsent(FailReason::Internal));
        }
    }
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claimed").field("job", &self.job).finish_non_exhaustive()
    }
}
