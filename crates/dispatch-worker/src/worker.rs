//! The loop, and the life of one job in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dispatch_stream::{Claimed, Job, JobSource, Timing, Verdict};
use metrics::Histogram;
use push_domain::{
    Answer, AppCatalogue, AppId, Attempt, Clock, FailReason, Outcome, Provider, PushSender, Reason,
    RetryScope,
};
use tenant_registry::{DeviceState, Recorder, Sighting};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::retry::budget::{Budget, TpsBudget};
use tracing::error;

use crate::Config;
use crate::guards::{AppGuard, Barred, Guards};
use crate::retry;

/// The senders of all apps.
pub type Senders = HashMap<AppId, Arc<dyn PushSender>>;

/// What is left of a push's time for telling its outcome.
const ANSWER_TIME: Duration = Duration::from_millis(50);
/// How often one app's trouble is logged.
const ALERT_EVERY: Duration = Duration::from_mins(1);

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where jobs come from.
    pub source: Arc<dyn JobSource>,
    /// The apps that it delivers to.
    pub apps: Arc<AppCatalogue>,
    /// How each of them is delivered to.
    pub senders: Senders,
    /// What is known of the apps; shared by all workers of a process.
    pub guards: Guards,
    /// Where what was learned of devices goes.
    pub recorder: Recorder,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Its settings.
    pub config: Config,
    /// Where its attempts run.
    pub tasks: TaskTracker,
}

/// Delivers jobs to all apps of a process.
pub struct Worker {
    source: Arc<dyn JobSource>,
    lanes: HashMap<AppId, Lane>,
    guards: Guards,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    config: Config,
    tasks: TaskTracker,
    attempts: [Histogram; 2],
    requests: [Histogram; 2],
}

/// What the worker keeps for one app.
struct Lane {
    sender: Arc<dyn PushSender>,
    retries: TpsBudget,
    last_alert: Mutex<Option<Instant>>,
}

impl Worker {
    /// Makes a worker for every app of the catalogue.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { source, apps, mut senders, guards, recorder, clock, config, tasks } = parts;
        let lane = |sender| Lane {
            sender,
            retries: TpsBudget::new(Duration::from_secs(10), 1, 0.1),
            last_alert: Mutex::default(),
        };
        let lanes =
            apps.iter().filter_map(|app| Some((app.id.clone(), lane(senders.remove(&app.id)?)))).collect();
        let attempts = [Provider::Apns, Provider::Fcm]
            .map(|provider| metrics::histogram!("service_notification_duration_seconds", "platform" => provider.label()));
        let requests = [
            metrics::histogram!("service_apns_request_duration_seconds"),
            metrics::histogram!("service_fcm_request_duration_seconds"),
        ];
        Arc::new(Self { source, lanes, guards, recorder, clock, config, tasks, attempts, requests })
    }

    /// Delivers jobs of one provider until the queue is closed and empty and every claimed job is finished.
    ///
    /// Never claims more than it can start; another provider's trouble takes none of these slots.
    pub async fn run(self: Arc<Self>, provider: Provider) {
        let all = u32::try_from(self.config.slots).unwrap_or(u32::MAX);
        let slots = Arc::new(Semaphore::new(self.config.slots));
        loop {
            drop(slots.acquire().await);
            let Some(jobs) = self.source.claim(provider, slots.available_permits()).await else {
                break;
            };
            for claimed in jobs {
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                    break;
                };
                let worker = Arc::clone(&self);
                self.tasks.spawn(async move {
                    worker.deliver(claimed).await;
                    drop(slot);
                });
            }
        }
        let _ = slots.acquire_many(all).await;
    }

    async fn deliver(&self, claimed: Claimed) {
        let started = Instant::now();
        let job = claimed.job();
        let queued = started.duration_since(job.accepted_at);
        let app = &job.notification.app.id;
        let mut verdict = match (self.lanes.get(app), self.guards.of(app)) {
            (Some(lane), Some(guard)) => self.settle(lane, guard, job).await,
            _ => Verdict::unsent(FailReason::UnknownPlatform),
        };
        verdict.timing = Timing { queued, sending: started.elapsed() };
        claimed.finish(verdict);
    }

    /// Tries until there is a verdict.
    async fn settle(&self, lane: &Lane, guard: &AppGuard, job: &Job) -> Verdict {
        let push = &job.notification;
        // The verdict has to be out before the caller stops waiting for it.
        let last_moment = job.deadline - ANSWER_TIME.min(job.deadline.duration_since(job.accepted_at) / 2);
        let mut number = 0;
        let mut last = None;
        loop {
            if guard.pace.turn(last_moment).await.is_err() {
                if let Some(outcome) = last {
                    return self.conclude(lane, guard, job, &outcome, number);
                }
                return Verdict {
                    reason: Some(Reason::known("Paced")),
                    ..Verdict::unsent(FailReason::ProviderBusy)
                };
            }
            let now = Instant::now();
            if now >= last_moment {
                return match last {
                    Some(outcome) => self.conclude(lane, guard, job, &outcome, number),
                    None => Verdict::unsent(FailReason::Deadline),
                };
            }
            let admission = match guard.admit(push.tenant) {
                Ok(admission) => admission,
                Err(barred) => return self.barred(lane, guard, job, barred, last.as_ref(), number),
            };
            number += 1;
            if number == 1 {
                lane.retries.deposit();
            }
            let deadline = last_moment.min(now + self.config.attempt_timeout(push.app.provider));
            let attempt = Attempt { number, deadline, isolate: admission.isolate };
            let outcome = lane.sender.send(&push.request, attempt).await;
            admission.conclude(push.tenant, &outcome);
            let took = now.elapsed();
            self.attempts[push.app.provider as usize].record(took);
            self.requests[push.app.provider as usize].record(took);
            let left = last_moment.saturating_duration_since(Instant::now());
            let wait = retry::wait(&outcome, number, self.config.quick_retries, left, &mut rand::rng());
            match wait.filter(|_| guard.is_well() && lane.retries.withdraw()) {
                Some(wait) => {
                    last = Some(outcome);
                    tokio::time::sleep(wait).await;
                }
                None => return self.conclude(lane, guard, job, &outcome, number),
            }
        }
    }

    /// The verdict on a push that may not be tried, or not again.
    fn barred(
        &self,
        lane: &Lane,
        guard: &AppGuard,
        job: &Job,
        barred: Barred,
        last: Option<&Outcome>,
        attempts: u32,
    ) -> Verdict {
        if let Some(outcome) = last {
            return self.conclude(lane, guard, job, outcome, attempts);
        }
        let (fail, word) = match barred {
            Barred::Held => (FailReason::AppMisconfigured, "AppHeld"),
            Barred::Broken => (FailReason::ProviderDown, "BreakerOpen"),
        };
        if barred == Barred::Held {
            lane.alert(job, word);
        }
        Verdict { reason: Some(Reason::known(word)), ..Verdict::unsent(fail) }
    }

    /// Turns the last outcome into the answer, and records what it says of the device.
    fn conclude(
        &self,
        lane: &Lane,
        guard: &AppGuard,
        job: &Job,
        outcome: &Outcome,
        attempts: u32,
    ) -> Verdict {
        let device = job.notification.device;
        let reason = outcome.reason().cloned();
        let answer = match outcome {
            Outcome::Accepted => {
                guard.removals.accepted();
                self.note(job, DeviceState::Active, None);
                Answer::Ok
            }
            Outcome::TokenDead { reason, .. } => {
                let certain = matches!(reason.as_str(), "Unregistered" | "ExpiredToken");
                if certain || guard.removals.may_remove(device) {
                    self.note(job, DeviceState::Removed, Some(reason));
                    Answer::Remove
                } else {
                    lane.alert(job, "MassRemoval");
                    Answer::Fail(FailReason::AppMisconfigured)
                }
            }
            Outcome::WrongApp { reason } => {
                if guard.removals.may_remove(device) && guard.removals.is_proven() {
                    self.note(job, DeviceState::Removed, Some(reason));
                    Answer::Remove
                } else {
                    lane.alert(job, reason.as_str());
                    Answer::Fail(FailReason::AppMisconfigured)
                }
            }
            Outcome::Refused { reason } => {
                metrics::counter!("provider_refusals_total", "reason" => reason.label()).increment(1);
                Answer::Fail(FailReason::Rejected)
            }
            Outcome::Misconfigured { reason } => {
                lane.alert(job, reason.as_str());
                Answer::Fail(FailReason::AppMisconfigured)
            }
            Outcome::TryLater { scope: RetryScope::Attempt, .. } => Answer::Fail(FailReason::ProviderDown),
            Outcome::TryLater { scope: RetryScope::Device, .. } => Answer::Fail(FailReason::ProviderBusy),
            Outcome::TryLater { scope: RetryScope::Credential, reason, .. } => {
                lane.alert(job, reason.as_str());
                Answer::Fail(FailReason::ProviderBusy)
            }
        };
        Verdict { answer, reason, attempts, timing: Timing::default() }
    }

    fn note(&self, job: &Job, state: DeviceState, reason: Option<&Reason>) {
        let push = &job.notification;
        let day = self.clock.now().day();
        self.recorder.note(push.device, day, state, || Sighting {
            tenant: push.tenant,
            device: push.device,
            app: push.app.id.to_string(),
            platform: push.app.platform.clone(),
            day,
            state,
            reason: reason.map(ToString::to_string),
        });
    }
}

impl Lane {
    /// Tells the operator, in a metric each time and in the log once a minute.
    fn alert(&self, job: &Job, reason: &str) {
        let app = &job.notification.app.id;
        metrics::counter!("app_misconfigured_total", "app" => app.to_string()).increment(1);
        let mut last = self.last_alert.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|time| time.elapsed() >= ALERT_EVERY) {
            *last = Some(Instant::now());
            error!(%app, reason, "an app's pushes fail for a reason of ours: check its credentials, topic and environment");
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use dispatch_stream::{InProcess, Submit};
    use push_domain::{
        App, Audience, Content, DeviceId, DeviceToken, FcmRequest, JobId, Kind, Notification,
        ProviderRequest, SystemClock, TenantId,
    };
    use tenant_registry::{DeliveryLedger, RegistryError};

    use super::*;
    use crate::PaceLimit;

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
                Some(outcome) => outcome,
                None => Outcome::Accepted,
            }
        }
    }

    struct NoLedger;

    #[async_trait]
    impl DeliveryLedger for NoLedger {
        async fn record(&self, _: &[Sighting]) -> Result<(), RegistryError> {
            Ok(())
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
        let queue = InProcess::new(100);
        let tasks = TaskTracker::new();
        let config = Config {
            slots: 4,
            apns_attempt_timeout_ms: 4000,
            fcm_attempt_timeout_ms: 4000,
            quick_retries: 2,
        };
        let apps = Arc::new(AppCatalogue::new([an_app()]).unwrap());
        let worker = Worker::new(Parts {
            source: Arc::new(queue.clone()),
            guards: Guards::new(&apps, |_| PaceLimit { credential: "test".into(), per_second: 0 }, 100),
            apps,
            senders,
            recorder: Recorder::new(Arc::new(NoLedger)),
            clock: Arc::new(SystemClock),
            config,
            tasks: tasks.clone(),
        });
        let loop_ended = tasks.spawn(worker.run(Provider::Fcm));
        let mut verdicts = Vec::new();
        if pushes > 10 {
            let mut at_once = tokio::task::JoinSet::new();
            for number in 0..pushes {
                let queue = queue.clone();
                at_once.spawn(async move { queue.submit(a_job(number)).await.unwrap() });
            }
            verdicts = at_once.join_all().await;
        } else {
            for number in 0..pushes {
                verdicts.push(queue.submit(a_job(number)).await.unwrap());
            }
        }
        queue.close();
        loop_ended.await.unwrap();
        verdicts
    }

    fn a_job(number: u8) -> Job {
        let token = DeviceToken::parse(Provider::Fcm, format!("token{number}")).unwrap();
        let request = FcmRequest { token, body: Content::new("{}"), data_bytes: 0 };
        let notification = Notification {
            id: JobId::new(),
            tenant: TenantId::new(),
            app: Arc::new(an_app()),
            device: DeviceId::from_bytes([number; 32]),
            kind: Kind::Message,
            request: ProviderRequest::Fcm(request),
        };
        let accepted_at = Instant::now();
        Job {
            notification: Arc::new(notification),
            accepted_at,
            deadline: accepted_at + Duration::from_secs(10),
        }
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
        assert!(verdicts[0].timing.sending > Duration::from_secs(9));
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
        let (_, sends) = deliver(vec![busy(RetryScope::Attempt); 300], 100).await;

        assert!((101..=130).contains(&sends), "{sends}");
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
}
