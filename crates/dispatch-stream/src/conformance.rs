//! Conformance tests of every job queue back-end. `dispatch_conformance!` makes each law a test.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use push_domain::{
    Answer, App, AppId, Audience, Content, DeviceId, DeviceToken, FailReason, FcmRequest, JobId, Kind,
    Notification, Provider, ProviderRequest, Reason, TenantId, Verdict,
};
use tokio::time::Instant;

use crate::{Claimed, Job, JobConsumer, JobProducer, SubmitError};

/// Back-end under test: both ends of a job queue.
#[async_trait]
pub(crate) trait QueueBackend: JobProducer + JobConsumer + Clone + 'static {
    /// Ends the worker's end.
    fn close(&self);

    /// Waits until the job is queued.
    async fn until_queued(&self, job: JobId);
}

#[async_trait]
impl QueueBackend for crate::InProcessQueue {
    fn close(&self) {
        Self::close(self);
    }

    async fn until_queued(&self, _: JobId) {
        tokio::task::yield_now().await;
    }
}

macro_rules! dispatch_conformance {
    (#[$test:meta] $make:expr) => {
        $crate::conformance::dispatch_conformance!(#[$test] $make,
            a_caller_gets_the_verdict_of_the_worker,
            a_job_arrives_as_it_was_handed_over,
            a_full_queue_refuses_and_takes_again_when_there_is_room,
            calls_are_claimed_first,
            no_more_is_claimed_than_asked_for,
            a_provider_never_gets_the_jobs_of_another,
            a_job_past_its_deadline_is_answered_and_never_claimed,
            a_caller_that_leaves_does_not_stop_the_job,
            an_abandoned_claim_is_answered_internal,
            a_closed_source_ends_its_workers_and_loses_no_verdict,
        );
    };
    (#[$test:meta] $make:expr, $($law:ident),+ $(,)?) => {
        $(#[$test]
        async fn $law() {
            $crate::conformance::$law($make(8).await).await;
        })+
    };
}
pub(crate) use dispatch_conformance;

/// The one app of the laws.
pub(crate) fn the_app() -> App {
    App {
        id: AppId::new("app"),
        platform: "android_rn".into(),
        audience: Audience::Shared,
        provider: Provider::Fcm,
        topic: String::new(),
    }
}

pub(crate) fn a_job(kind: Kind) -> Job {
    let token = DeviceToken::parse(Provider::Fcm, "canary-token".into()).unwrap();
    let request = FcmRequest { token, body: Content::new(r#"{"text":"canary-text"}"#), data_bytes: 0 };
    let notification = Notification {
        id: JobId::new(),
        tenant: TenantId::new(),
        app: Arc::new(the_app()),
        device: DeviceId::from_bytes([0; 32]),
        kind,
        request: ProviderRequest::Fcm(request),
    };
    let accepted_at = Instant::now();
    Job { notification: Arc::new(notification), accepted_at, deadline: accepted_at + Duration::from_secs(10) }
}

pub(crate) fn a_verdict(attempts: u32) -> Verdict {
    Verdict {
        answer: Answer::Ok,
        reason: Some(Reason::foreign("word")),
        attempts,
        timing: push_domain::Timing::default(),
    }
}

/// Submits in the background and returns once the job waits in the queue.
pub(crate) async fn submitted(
    ends: &impl QueueBackend,
    job: &Job,
) -> tokio_util::task::AbortOnDropHandle<Result<Verdict, SubmitError>> {
    let (both, again, id) = (ends.clone(), job.clone(), job.notification.id);
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let waiting = tokio::spawn(async move { both.submit(again).await });
    ends.until_queued(id).await;
    tokio_util::task::AbortOnDropHandle::new(waiting)
}

/// Claims at most `free` jobs; at least one.
async fn claim(ends: &impl QueueBackend, free: usize) -> Vec<Claimed> {
    ends.claim(Provider::Fcm, free).await.expect("the queue is open")
}

/// Claims exactly `count` jobs, however many claims it takes.
pub(crate) async fn claim_all(ends: &impl QueueBackend, count: usize) -> Vec<Claimed> {
    let mut jobs = Vec::new();
    while jobs.len() < count {
        jobs.extend(claim(ends, count - jobs.len()).await);
    }
    jobs
}

async fn nothing_to_claim(ends: &impl QueueBackend, provider: Provider) -> bool {
    tokio::time::timeout(Duration::from_millis(50), ends.claim(provider, 8)).await.is_err()
}

pub(crate) async fn a_caller_gets_the_verdict_of_the_worker(ends: impl QueueBackend) {
    let caller = submitted(&ends, &a_job(Kind::Message)).await;

    for claimed in claim(&ends, 8).await {
        claimed.finish(a_verdict(3));
    }

    assert_eq!(caller.await.unwrap(), Ok(a_verdict(3)));
}

pub(crate) async fn a_full_queue_refuses_and_takes_again_when_there_is_room(ends: impl QueueBackend) {
    let mut callers = Vec::new();
    for _ in 0..8 {
        callers.push(submitted(&ends, &a_job(Kind::Message)).await);
    }

    assert_eq!(ends.submit(a_job(Kind::Message)).await, Err(SubmitError::Full));
    claim(&ends, 1).await.remove(0).finish(a_verdict(1));
    callers.remove(0).await.unwrap().unwrap();
    let room = submitted(&ends, &a_job(Kind::Message)).await;

    assert!(!room.is_finished());
}

pub(crate) async fn calls_are_claimed_first(ends: impl QueueBackend) {
    let _message = submitted(&ends, &a_job(Kind::Message)).await;
    let _call = submitted(&ends, &a_job(Kind::Call)).await;

    let first = claim(&ends, 1).await.remove(0);

    assert_eq!(first.job().notification.kind, Kind::Call);
}

pub(crate) async fn a_job_arrives_as_it_was_handed_over(ends: impl QueueBackend) {
    let job = a_job(Kind::UpdateBadge);
    let _caller = submitted(&ends, &job).await;

    let claimed = claim(&ends, 1).await.remove(0);

    let (sent, got) = (&job.notification, &claimed.job().notification);
    assert_eq!((sent.id, sent.tenant, sent.device, sent.kind), (got.id, got.tenant, got.device, got.kind));
    assert_eq!(sent.app, got.app);
    let (ProviderRequest::Fcm(sent), ProviderRequest::Fcm(got)) = (&sent.request, &got.request) else {
        panic!("another provider")
    };
    assert_eq!(
        (sent.token.expose(), sent.body.expose(), sent.data_bytes),
        (got.token.expose(), got.body.expose(), got.data_bytes)
    );
    // Not later than it was meant, and hardly earlier.
    let early = job.deadline.saturating_duration_since(claimed.job().deadline);
    assert!(claimed.job().deadline <= job.deadline && early < Duration::from_millis(500), "{early:?}");
    assert!(claimed.may_send());
}

pub(crate) async fn no_more_is_claimed_than_asked_for(ends: impl QueueBackend) {
    let mut callers = Vec::new();
    for _ in 0..5 {
        callers.push(submitted(&ends, &a_job(Kind::Message)).await);
    }

    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 5 {
        sizes.push(claim(&ends, 2).await.len());
    }

    assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
    assert!(nothing_to_claim(&ends, Provider::Fcm).await);
}

pub(crate) async fn a_provider_never_gets_the_jobs_of_another(ends: impl QueueBackend) {
    let _caller = submitted(&ends, &a_job(Kind::Message)).await;

    assert!(nothing_to_claim(&ends, Provider::Apns).await);
}

pub(crate) async fn a_job_past_its_deadline_is_answered_and_never_claimed(ends: impl QueueBackend) {
    let mut job = a_job(Kind::Message);
    job.deadline = job.accepted_at + Duration::from_millis(200);
    let caller = submitted(&ends, &job).await;

    assert_eq!(caller.await.unwrap(), Ok(Verdict::unsent(FailReason::Deadline)));
    assert!(nothing_to_claim(&ends, Provider::Fcm).await);
}

pub(crate) async fn a_caller_that_leaves_does_not_stop_the_job(ends: impl QueueBackend) {
    let (job, other) = (a_job(Kind::Message), a_job(Kind::Message));
    drop(submitted(&ends, &job).await);
    let caller = submitted(&ends, &other).await;

    let claimed = claim_all(&ends, 2).await;

    assert_eq!(claimed[0].job().notification.id, job.notification.id);
    for claimed in claimed {
        claimed.finish(a_verdict(2));
    }
    assert_eq!(caller.await.unwrap(), Ok(a_verdict(2)));
}

pub(crate) async fn an_abandoned_claim_is_answered_internal(ends: impl QueueBackend) {
    let caller = submitted(&ends, &a_job(Kind::Message)).await;

    drop(claim(&ends, 8).await);

    assert_eq!(caller.await.unwrap(), Ok(Verdict::unsent(FailReason::Internal)));
}

pub(crate) async fn a_closed_source_ends_its_workers_and_loses_no_verdict(ends: impl QueueBackend) {
    let caller = submitted(&ends, &a_job(Kind::Message)).await;
    let claimed = claim(&ends, 8).await.remove(0);

    ends.close();

    assert!(ends.claim(Provider::Fcm, 8).await.is_none());
    claimed.finish(a_verdict(1));
    assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
}
