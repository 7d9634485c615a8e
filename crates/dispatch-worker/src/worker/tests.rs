//! Tests of the worker loop against a scripted provider.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;
use dispatch_stream::{InProcessQueue, JobProducer};
use push_domain::{
    ApnsRequest, App, Audience, Content, DeviceId, DeviceToken, FcmRequest, JobId, Kind, Notification,
    Priority, ProviderRequest, PushType, SystemClock, TenantId,
};
use tenant_registry::{DeliveryLedger, RegistryError};

use super::*;
use crate::RateLimit;
use crate::proof::tests::{Proven, an_apple_app};

type Senders = HashMap<AppId, Arc<dyn PushSender>>;

/// Answers what it was told to, in order; then accepts.
#[derive(Debug, Default)]
struct Scripted {
    outcomes: Mutex<VecDeque<Outcome>>,
    sends: Mutex<u32>,
}

#[async_trait]
impl PushSender for Scripted {
    async fn send(&self, _: &ProviderRequest, attempt: Attempt) -> Outcome {
        *self.sends.lock().unwrap() += 1;
        let next = self.outcomes.lock().unwrap().pop_front();
        match next {
            Some(Outcome::Refused { reason }) if reason.as_str() == "panic" => panic!("scripted"),
            Some(Outcome::Refused { reason }) if reason.as_str() == "hang" => {
                tokio::time::sleep_until(attempt.deadline).await;
                busy(RetryScope::Attempt)
            }
            Some(Outcome::Refused { reason }) if reason.as_str() == "slow" => {
                tokio::time::sleep(Duration::from_millis(1500)).await;
                Outcome::Accepted
            }
            Some(outcome) => outcome,
            None => Outcome::Accepted,
        }
    }
}

struct NoLedger;

#[async_trait]
impl DeliveryLedger for NoLedger {
    async fn record(&self, _: &[DeviceActivity]) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn forget(&self, _: u32, _: u32) -> Result<u64, RegistryError> {
        Ok(0)
    }

    async fn prove(&self, _: &str, _: &str, _: u32) -> Result<(), RegistryError> {
        Ok(())
    }

    async fn proofs(&self) -> Result<Vec<(String, String)>, RegistryError> {
        Ok(Vec::new())
    }
}

fn busy(scope: RetryScope) -> Outcome {
    Outcome::TryLater { after: None, scope, ambiguous: false, reason: Reason::known("busy") }
}

fn an_app() -> App {
    App {
        id: AppId::new("app"),
        platform: "android_rn".into(),
        audience: Audience::Shared,
        provider: Provider::Fcm,
        topic: String::new(),
    }
}

/// Delivers `pushes` pushes through a worker whose provider answers `outcomes`; more than 10 at once.
async fn deliver(outcomes: Vec<Outcome>, pushes: u8) -> (Vec<Verdict>, u32) {
    let sender = Arc::new(Scripted { outcomes: Mutex::new(outcomes.into()), ..Scripted::default() });
    let senders: Senders = [(AppId::new("app"), sender.clone() as Arc<dyn PushSender>)].into();
    let verdicts = deliver_with(senders, pushes).await;
    let sends = *sender.sends.lock().unwrap();
    (verdicts, sends)
}

async fn deliver_with(senders: Senders, pushes: u8) -> Vec<Verdict> {
    deliver_as(true, Provider::Fcm, senders, pushes).await
}

async fn deliver_as(is_proven: bool, provider: Provider, senders: Senders, pushes: u8) -> Vec<Verdict> {
    let queue = InProcessQueue::new(1000);
    let tasks = TaskTracker::new();
    let config =
        Config { slots: 300, apns_attempt_timeout_ms: 4000, fcm_attempt_timeout_ms: 4000, quick_retries: 2 };
    let worker = Worker::new(Parts {
        guards: Guards::new(
            |_| RateLimit { credential: "test".into(), per_second: 0 },
            Arc::new(Proven(is_proven)),
            100,
            None,
        ),
        senders: Box::new(senders),
        ledger_writer: LedgerWriter::new(Arc::new(NoLedger)),
        clock: Arc::new(SystemClock),
        config,
        tasks: tasks.clone(),
    });
    let loop_ended = tasks.spawn(worker.run(Arc::new(queue.clone()), provider, 300));
    let mut verdicts = Vec::new();
    if pushes > 10 {
        let mut at_once = tokio::task::JoinSet::new();
        for number in 0..pushes {
            let queue = queue.clone();
            at_once.spawn(async move { queue.submit(a_job(provider, number)).await.unwrap() });
        }
        verdicts = at_once.join_all().await;
    } else {
        for number in 0..pushes {
            verdicts.push(queue.submit(a_job(provider, number)).await.unwrap());
        }
    }
    queue.close();
    loop_ended.await.unwrap();
    verdicts
}

fn a_job(provider: Provider, number: u8) -> Job {
    let id = JobId::new();
    let token = |text: String| DeviceToken::parse(provider, text).unwrap();
    let request = match provider {
        Provider::Fcm => ProviderRequest::Fcm(FcmRequest {
            token: token(format!("token{number}")),
            body: Content::new("{}"),
            data_bytes: 0,
        }),
        Provider::Apns => ProviderRequest::Apns(ApnsRequest {
            token: token(format!("{number:064x}")),
            id,
            push_type: PushType::Alert,
            priority: Priority::High,
            expires_at: None,
            collapse_id: None,
            body: Content::new("{}"),
        }),
    };
    let app = match provider {
        Provider::Fcm => an_app(),
        Provider::Apns => an_apple_app(),
    };
    let notification = Notification {
        id,
        tenant: TenantId::new(),
        app: Arc::new(app),
        device: DeviceId::from_bytes([number; 32]),
        kind: Kind::Message,
        request,
    };
    let accepted_at = Instant::now();
    Job { notification: Arc::new(notification), accepted_at, deadline: accepted_at + Duration::from_secs(10) }
}

#[tokio::test(start_paused = true)]
async fn a_dead_token_is_never_retried() {
    let dead = Outcome::TokenDead { since: None, reason: Reason::known("UNREGISTERED") };

    let (verdicts, sends) = deliver(vec![dead], 1).await;

    assert_eq!((verdicts[0].answer, sends), (Answer::Remove, 1));
}

#[tokio::test(start_paused = true)]
async fn a_passing_fault_is_retried_until_it_passes() {
    let (verdicts, sends) = deliver(vec![busy(RetryScope::Attempt); 2], 1).await;

    assert_eq!((verdicts[0].answer, verdicts[0].attempts, sends), (Answer::Ok, 3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lasting_fault_fails_after_three_attempts_with_the_providers_word() {
    let (verdicts, sends) = deliver(vec![busy(RetryScope::Attempt); 9], 1).await;

    assert_eq!((verdicts[0].answer, sends), (Answer::Fail(FailReason::ProviderDown), 3));
    assert_eq!(verdicts[0].reason, Some(Reason::known("busy")));
}

#[tokio::test(start_paused = true)]
async fn a_device_that_gets_too_many_pushes_is_left_alone() {
    let (verdicts, sends) = deliver(vec![busy(RetryScope::Device)], 1).await;

    assert_eq!((verdicts[0].answer, sends), (Answer::Fail(FailReason::ProviderBusy), 1));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_app_verdict_removes_only_after_a_proof_that_the_app_works() {
    let wrong = Outcome::WrongApp { reason: Reason::known("SENDER_ID_MISMATCH") };

    let (verdicts, _) = deliver(vec![wrong.clone(), Outcome::Accepted, wrong], 3).await;

    let answers: Vec<_> = verdicts.iter().map(|verdict| verdict.answer).collect();
    assert_eq!(answers, [Answer::Fail(FailReason::AppMisconfigured), Answer::Ok, Answer::Remove]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_own_push_and_no_other() {
    let panics = Outcome::Refused { reason: Reason::known("panic") };

    let (verdicts, _) = deliver(vec![panics], 2).await;

    let answers: Vec<_> = verdicts.iter().map(|verdict| verdict.answer).collect();
    assert_eq!(answers, [Answer::Fail(FailReason::Internal), Answer::Ok]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_ends_in_time_for_another() {
    let hangs = Outcome::Refused { reason: Reason::known("hang") };

    let (verdicts, sends) = deliver(vec![hangs], 1).await;

    assert_eq!((verdicts[0].answer, sends), (Answer::Ok, 2));
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_hangs_to_the_end_is_told_as_such() {
    let hangs = Outcome::Refused { reason: Reason::known("hang") };

    let (verdicts, sends) = deliver(vec![hangs; 9], 1).await;

    assert_eq!((verdicts[0].answer, sends), (Answer::Fail(FailReason::ProviderDown), 3));
    assert_eq!(verdicts[0].attempts, 3);
    let timing = verdicts[0].timing;
    assert!(timing.sending > timing.provider && timing.provider > Duration::from_secs(8), "{timing:?}");
}

#[tokio::test(start_paused = true)]
async fn no_attempt_begins_that_would_probably_be_cut_off() {
    let [slow, hangs] = ["slow", "hang"].map(|word| Outcome::Refused { reason: Reason::known(word) });
    let (verdicts, sends) = deliver([vec![slow; 9], vec![hangs; 3]].concat(), 10).await;

    // Two attempts of 4 s leave less than twice what the provider usually takes.
    assert_eq!(verdicts[9].answer, Answer::Fail(FailReason::ProviderDown));
    assert_eq!((verdicts[9].attempts, sends), (2, 11));
}

fn refused() -> Outcome {
    Outcome::Misconfigured { reason: Reason::known("InvalidProviderToken") }
}

#[tokio::test(start_paused = true)]
async fn a_refused_app_is_held_and_its_pushes_are_not_sent() {
    let (verdicts, sends) = deliver(vec![refused(); 9], 9).await;

    assert!(verdicts.iter().all(|it| it.answer == Answer::Fail(FailReason::AppMisconfigured)));
    assert_eq!(sends, 3);
    assert_eq!(verdicts[8].reason, Some(Reason::known("AppHeld")));
}

#[tokio::test(start_paused = true)]
async fn retries_stop_when_most_pushes_fail() {
    let (_, sends) = deliver(vec![busy(RetryScope::Attempt); 1000], 250).await;

    // A tenth, and ten a second over ten seconds.
    assert!((300..=380).contains(&sends), "{sends}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_credential_is_told_at_once() {
    let quota = Outcome::TryLater {
        after: Some(Duration::from_mins(1)),
        scope: RetryScope::Credential,
        ambiguous: false,
        reason: Reason::known("RATE_LIMIT_EXCEEDED"),
    };

    let (verdicts, sends) = deliver(vec![quota], 5).await;

    assert!(verdicts.iter().all(|it| it.answer == Answer::Fail(FailReason::ProviderBusy)));
    assert_eq!(sends, 1);
}

#[tokio::test]
async fn a_token_that_apple_calls_bad_is_not_dead_before_its_app_had_a_success() {
    let bad = || Outcome::TokenDead { since: None, reason: Reason::known("BadDeviceToken") };
    let gone = || Outcome::TokenDead { since: None, reason: Reason::known("Unregistered") };
    let answers = async |is_proven, outcomes: Vec<Outcome>| {
        let count = u8::try_from(outcomes.len()).unwrap();
        let sender = Arc::new(Scripted { outcomes: Mutex::new(outcomes.into()), ..Scripted::default() });
        let senders: Senders = [(AppId::new("ios"), sender as Arc<dyn PushSender>)].into();
        let verdicts = deliver_as(is_proven, Provider::Apns, senders, count).await;
        verdicts.into_iter().map(|verdict| verdict.answer).collect::<Vec<_>>()
    };
    let misconfigured = Answer::Fail(FailReason::AppMisconfigured);

    let fresh = answers(false, vec![bad(), gone(), bad(), Outcome::Accepted, bad()]).await;
    assert_eq!(fresh, [misconfigured, Answer::Remove, misconfigured, Answer::Ok, Answer::Remove]);
    // Another process had one, or this one before it was started again.
    assert_eq!(answers(true, vec![bad()]).await, [Answer::Remove]);
}
