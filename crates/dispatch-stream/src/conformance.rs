//! The laws that every way of handing over must keep. `dispatch_conformance!` makes each one a test.

use std::sync::Arc;
use std::time::Duration;

use push_domain::{
    Answer, App, AppId, Audience, Content, DeviceId, DeviceToken, FailReason, FcmRequest, JobId, Kind,
    Notification, Provider, ProviderRequest, Reason, TenantId,
};
use tokio::time::Instant;

use crate::{Claimed, Job, JobSource, Submit, SubmitError, Verdict};

/// What a back-end must offer to be held to the laws.
pub(crate) trait BothEnds: Submit + JobSource + Clone + 'static {
    fn close(&self);
}

impl BothEnds for crate::InProcess {
    fn close(&self) {
        Self::close(self);
    }
}

macro_rules! dispatch_conformance {
    ($make:expr) => {
        $crate::conformance::dispatch_conformance!($make,
            a_caller_gets_the_verdict_of_the_worker,
            a_job_id_is_claimed_once_and_every_caller_gets_the_verdict,
            the_first_verdict_holds_for_a_late_submission,
            a_full_queue_refuses_and_takes_again_when_there_is_room,
            calls_are_claimed_first,
            no_more_is_claimed_than_asked_for,
            a_provider_never_gets_the_jobs_of_another,
            a_job_past_its_deadline_is_answered_and_never_claimed,
            a_caller_that_leaves_does_not_stop_the_job,
            an_abandoned_claim_is_answered_internal,
            a_closed_queue_refuses_and_ends_its_workers_when_empty,
        );
    };
    ($make:expr, $($law:ident),+ $(,)?) => {
        $(#[tokio::test(start_paused = true)]
        async fn $law() {
            $crate::conformance::$law($make(8)).await;
        })+
    };
}
pub(crate) use dispatch_conformance;

fn a_job(kind: Kind) -> Job {
    let token = DeviceToken::parse(Provider::Fcm, "token".into()).unwrap();
    let app = App {
        id: AppId::new("app"),
        platform: "android_rn".into(),
        audience: Audience::Shared,
        provider: Provider::Fcm,
        topic: String::new(),
    };
    let request = FcmRequest { token, body: Content::new("{}"), data_bytes: 0 };
    let notification = Notification {
        id: JobId::new(),
        tenant: TenantId::new(),
        app: Arc::new(app),
        device: DeviceId::from_bytes([0; 32]),
        kind,
        request: ProviderRequest::Fcm(request),
    };
    let accepted_at = Instant::now();
    Job { notification: Arc::new(notification), accepted_at, deadline: accepted_at + Duration::from_secs(10) }
}

fn a_verdict(attempts: u32) -> Verdict {
    Verdict {
        answer: Answer::Ok,
        reason: Some(Reason::known("x")),
        attempts,
        timing: crate::Timing::default(),
    }
}

/// Submits in the background and returns once the job waits in the queue.
async fn submitted(
    ends: &impl BothEnds,
    job: &Job,
) -> tokio_util::task::AbortOnDropHandle<Result<Verdict, SubmitError>> {
    let (ends, job) = (ends.clone(), job.clone());
    #[expect(clippy::disallowed_methods, reason = "a test's own task")]
    let waiting = tokio::spawn(async move { ends.submit(job).await });
    tokio::task::yield_now().await;
    tokio_util::task::AbortOnDropHandle::new(waiting)
}

async fn claim(ends: &impl BothEnds, free: usize) -> Vec<Claimed> {
    ends.claim(Provider::Fcm, free).await.expect("the queue is open")
}

async fn nothing_to_claim(ends: &impl BothEnds, provider: Provider) -> bool {
    tokio::time::timeout(Duration::from_millis(50), ends.claim(provider, 8)).await.is_err()
}

pub(crate) async fn a_caller_gets_the_verdict_of_the_worker(ends: impl BothEnds) {
    let caller = submitted(&ends, &a_job(Kind::Message)).await;

    for claimed in claim(&ends, 8).await {
        claimed.finish(a_verdict(3));
    }

    assert_eq!(caller.await.unwrap(), Ok(a_verdict(3)));
}

pub(crate) async fn a_job_id_is_claimed_once_and_every_caller_gets_the_verdict(ends: impl BothEnds) {
    let job = a_job(Kind::Message);
    let first = submitted(&ends, &job).await;
    let second = submitted(&ends, &job).await;

    let mut claims = claim(&ends, 8).await;
    assert_eq!(claims.len(), 1);
    claims.remove(0).finish(a_verdict(1));

    assert_eq!(first.await.unwrap(), Ok(a_verdict(1)));
    assert_eq!(second.await.unwrap(), Ok(a_verdict(1)));
}

pub(crate) async fn the_first_verdict_holds_for_a_late_submission(ends: impl BothEnds) {
    let job = a_job(Kind::Message);
    let caller = submitted(&ends, &job).await;
    claim(&ends, 8).await.remove(0).finish(a_verdict(1));
    caller.await.unwrap().unwrap();

    let again = ends.submit(job).await;

    assert_eq!(again, Ok(a_verdict(1)));
    assert!(nothing_to_claim(&ends, Provider::Fcm).await);
}

pub(crate) async fn a_full_queue_refuses_and_takes_again_when_there_is_room(ends: impl BothEnds) {
    let mut callers = Vec::new();
    for _ in 0..8 {
        callers.push(submitted(&ends, &a_job(Kind::Message)).await);
    }

    assert_eq!(ends.submit(a_job(Kind::Message)).await, Err(SubmitError::Full));
    claim(&ends, 1).await.remove(0).finish(a_verdict(1));
    let room = submitted(&ends, &a_job(Kind::Message)).await;

    assert!(!room.is_finished());
}

pub(crate) async fn calls_are_claimed_first(ends: impl BothEnds) {
    let _message = submitted(&ends, &a_job(Kind::Message)).await;
    let _call = submitted(&ends, &a_job(Kind::Call)).await;

    let first = claim(&ends, 1).await.remove(0);

    assert_eq!(first.job().notification.kind, Kind::Call);
}

pub(crate) async fn no_more_is_claimed_than_asked_for(ends: impl BothEnds) {
    let mut callers = Vec::new();
    for _ in 0..5 {
        callers.push(submitted(&ends, &a_job(Kind::Message)).await);
    }

    assert_eq!(claim(&ends, 3).await.len(), 3);
    assert_eq!(claim(&ends, 3).await.len(), 2);
}

pub(crate) async fn a_provider_never_gets_the_jobs_of_another(ends: impl BothEnds) {
    let _caller = submitted(&ends, &a_job(Kind::Message)).await;

    assert!(nothing_to_claim(&ends, Provider::Apns).await);
}

pub(crate) async fn a_job_past_its_deadline_is_answered_and_never_claimed(ends: impl BothEnds) {
    let caller = submitted(&ends, &a_job(Kind::Message)).await;

    tokio::time::advance(Duration::from_secs(11)).await;

    assert_eq!(caller.await.unwrap(), Ok(Verdict::unsent(FailReason::Deadline)));
    assert!(nothing_to_claim(&ends, Provider::Fcm).await);
}

pub(crate) async fn a_caller_that_leaves_does_not_stop_the_job(ends: impl BothEnds) {
    let job = a_job(Kind::Message);
    drop(submitted(&ends, &job).await);

    claim(&ends, 8).await.remove(0).finish(a_verdict(2));

    assert_eq!(ends.submit(job).await, Ok(a_verdict(2)));
}

pub(crate) async fn an_abandoned_claim_is_answered_internal(ends: impl BothEnds) {
    let caller = submitted(&ends, &a_job(Kind::Message)).await;

    drop(claim(&ends, 8).await);

    assert_eq!(caller.await.unwrap(), Ok(Verdict::unsent(FailReason::Internal)));
}

pub(crate) async fn a_closed_queue_refuses_and_ends_its_workers_when_empty(ends: impl BothEnds) {
    let caller = submitted(&ends, &a_job(Kind::Message)).await;

    ends.close();

    assert_eq!(ends.submit(a_job(Kind::Message)).await, Err(SubmitError::Closed));
    claim(&ends, 8).await.remove(0).finish(a_verdict(1));
    assert_eq!(caller.await.unwrap(), Ok(a_verdict(1)));
    assert!(ends.claim(Provider::Fcm, 8).await.is_none());
}
