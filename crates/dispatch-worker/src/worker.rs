//! Worker loop: claims jobs, makes the attempts for each, and settles it with a verdict.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dispatch_stream::{Claimed, Job, JobConsumer};
use metrics::Histogram;
use push_domain::{
    Answer, AppId, Attempt, Clock, FailReason, Outcome, Provider, PushSender, Reason, RetryScope, Timing,
    Verdict,
};
use tenant_registry::{DeviceActivity, DeviceState, LedgerWriter};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::retry::budget::Budget;

use crate::Config;
use crate::app_delivery::AppDelivery;
use crate::app_guard::{AttemptDenied, Guard};
use crate::guards::Guards;
use crate::retry;
use crate::slots::Slots;

/// Source of the senders, by app.
pub trait SenderSource: Send + Sync + fmt::Debug {
    /// Returns the sender of an app for one worker; makes it, if need be. `None` if the app is not (or no longer) one
    /// that this process delivers to.
    fn sender(&self, app: &AppId) -> Option<Arc<dyn PushSender>>;

    /// Grows whenever an app goes: what was returned before may be of an app that is gone.
    fn generation(&self) -> u64 {
        0
    }
}

impl<S: BuildHasher + Send + Sync> SenderSource for HashMap<AppId, Arc<dyn PushSender>, S> {
    fn sender(&self, app: &AppId) -> Option<Arc<dyn PushSender>> {
        self.get(app).cloned()
    }
}

/// What is left of a push's time for telling its outcome.
const ANSWER_TIME: Duration = Duration::from_millis(50);

/// Dependencies and settings of a worker.
#[derive(Debug)]
pub struct Parts {
    /// How each app is delivered to.
    pub senders: Box<dyn SenderSource>,
    /// What is known of the apps; shared by all workers of a process.
    pub guards: Guards,
    /// Where what was learned of devices goes.
    pub ledger_writer: LedgerWriter,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Its settings.
    pub config: Config,
    /// Where its attempts run.
    pub tasks: TaskTracker,
}

/// Worker: delivers jobs to all apps of a process.
pub struct Worker {
    senders: Box<dyn SenderSource>,
    /// The ways to the apps that were pushed to, and the generation of senders that they are of.
    deliveries: Mutex<(u64, HashMap<AppId, Arc<AppDelivery>>)>,
    guards: Guards,
    ledger_writer: LedgerWriter,
    clock: Arc<dyn Clock>,
    config: Config,
    tasks: TaskTracker,
    attempts: [Histogram; 2],
    requests: [Histogram; 2],
}

/// Attempts made for one push so far.
#[derive(Default)]
struct Tries {
    /// What came of the last attempt.
    last: Option<Outcome>,
    count: u32,
    /// For how long the provider had it.
    provider: Duration,
}

impl Worker {
    /// Makes a worker.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { senders, guards, ledger_writer, clock, config, tasks } = parts;
        let attempts = Provider::ALL
            .map(|provider| metrics::histogram!("service_notification_duration_seconds", "platform" => provider.label()));
        let requests = [
            metrics::histogram!("service_apns_request_duration_seconds"),
            metrics::histogram!("service_fcm_request_duration_seconds"),
        ];
        let deliveries = Mutex::default();
        Arc::new(Self {
            senders,
            deliveries,
            guards,
            ledger_writer,
            clock,
            config,
            tasks,
            attempts,
            requests,
        })
    }

    /// Delivers a source's jobs of one provider, at most `slots` at once, until the source is closed and
    /// empty and every claimed job is finished.
    ///
    /// Never claims more than it can start; another provider's or lane's trouble takes none of these slots, and an app
    /// whose provider is slow leaves some to the others.
    pub async fn run(self: Arc<Self>, source: Arc<dyn JobConsumer>, provider: Provider, slots: usize) {
        let slots = Slots::new(slots);
        loop {
            let free = slots.free().await;
            let jobs = tokio::select! {
                biased;
                jobs = source.claim(provider, free) => jobs,
                () = slots.doubled(free) => continue,
            };
            let Some(jobs) = jobs else { break };
            for claimed in jobs {
                let slot = slots.take().await;
                let (worker, slots) = (Arc::clone(&self), slots.clone());
                self.tasks.spawn(async move {
                    let job = claimed.job();
                    if let Ok(place) = slots.share(slot, &job.notification.app.id, job.deadline).await {
                        worker.deliver(claimed).await;
                        drop(place);
                    } else {
                        let reason = Some(Reason::known("AppBusy"));
                        claimed.finish(Verdict { reason, ..Verdict::unsent(FailReason::ProviderBusy) });
                    }
                });
            }
        }
        slots.all_free().await;
    }

    async fn deliver(&self, claimed: Claimed) {
        let started = Instant::now();
        let job = claimed.job();
        let queued = started.duration_since(job.accepted_at);
        let verdict = match self.delivery(&job.notification.app.id) {
            Some(delivery) => {
                let guard = self.guards.of(&job.notification);
                self.settle(&delivery, &guard, &claimed).await
            }
            None => Some(Verdict::unsent(FailReason::UnknownPlatform)),
        };
        match verdict {
            Some(mut verdict) => {
                verdict.timing.queued = queued;
                verdict.timing.sending = started.elapsed();
                claimed.finish(verdict);
            }
            None => claimed.abandon(),
        }
    }

    /// Returns the way to an app; makes it at the app's first push.
    fn delivery(&self, app: &AppId) -> Option<Arc<AppDelivery>> {
        let mut deliveries = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.senders.generation();
        if deliveries.0 != generation {
            *deliveries = (generation, HashMap::new());
        }
        if let Some(delivery) = deliveries.1.get(app) {
            return Some(Arc::clone(delivery));
        }
        let delivery = Arc::new(AppDelivery::new(self.senders.sender(app)?));
        deliveries.1.insert(app.clone(), Arc::clone(&delivery));
        Some(delivery)
    }

    /// Tries until there is a verdict; `None` if the job is no longer this worker's.
    async fn settle(&self, delivery: &AppDelivery, guard: &Guard, claimed: &Claimed) -> Option<Verdict> {
        let job = claimed.job();
        let push = &job.notification;
        // The verdict has to be out before the caller stops waiting for it.
        let whole = job.deadline.duration_since(job.accepted_at);
        let last_moment = job.deadline - ANSWER_TIME.min(whole / 2);
        let mut tries = Tries::default();
        loop {
            if let Some(barred) = guard.bars_tenant() {
                return Some(self.barred(delivery, guard, job, barred, &tries));
            }
            let last_start = last_moment - delivery.time_to_try(whole);
            let turn = guard.pace().acquire(last_start).await;
            let now = Instant::now();
            if !claimed.may_send() {
                return None; // Also after an attempt: whoever has it now may be answered better.
            }
            if let Some(outcome) = &tries.last
                && (turn.is_err() || now >= last_start)
            {
                return Some(self.conclude(delivery, guard, job, outcome, &tries));
            }
            if turn.is_err() {
                let paced = Some(Reason::known("Paced"));
                return Some(Verdict { reason: paced, ..Verdict::unsent(FailReason::ProviderBusy) });
            }
            if now >= last_start {
                return Some(Verdict::unsent(FailReason::Deadline));
            }
            let admission = match guard.admit() {
                Ok(admission) => admission,
                Err(barred) => return Some(self.barred(delivery, guard, job, barred, &tries)),
            };
            tries.count += 1;
            if tries.count == 1 {
                delivery.retries.deposit();
            }
            let deadline = last_moment.min(now + self.config.attempt_timeout(push.app.provider));
            let attempt = Attempt { number: tries.count, deadline, isolate: admission.isolate };
            let outcome = delivery.sender.send(&push.request, attempt).await;
            admission.conclude(&outcome);
            let took = now.elapsed();
            tries.provider += took;
            self.attempts[push.app.provider as usize].record(took);
            self.requests[push.app.provider as usize].record(took);
            if outcome == Outcome::Accepted {
                delivery.accepted(took);
            }
            let left = last_start.saturating_duration_since(Instant::now());
            let wait = retry::wait(&outcome, tries.count, self.config.quick_retries, left, &mut rand::rng());
            match wait.filter(|_| guard.is_well() && delivery.retries.withdraw()) {
                Some(wait) => {
                    tries.last = Some(outcome);
                    tokio::time::sleep(wait).await;
                }
                None => return Some(self.conclude(delivery, guard, job, &outcome, &tries)),
            }
        }
    }

    /// The verdict on a push that may not be tried, or not again.
    fn barred(
        &self,
        delivery: &AppDelivery,
        guard: &Guard,
        job: &Job,
        barred: AttemptDenied,
        tries: &Tries,
    ) -> Verdict {
        if let Some(outcome) = &tries.last {
            return self.conclude(delivery, guard, job, outcome, tries);
        }
        let (fail, word) = match barred {
            AttemptDenied::Held => (FailReason::AppMisconfigured, "AppHeld"),
            AttemptDenied::TenantHeld => (FailReason::TokensDoubted, "TenantHeld"),
            AttemptDenied::Broken => (FailReason::ProviderDown, "BreakerOpen"),
            AttemptDenied::TenantPaced => (FailReason::ProviderBusy, "TenantPaced"),
        };
        if barred == AttemptDenied::Held {
            delivery.alert(job, word);
        }
        Verdict { reason: Some(Reason::known(word)), ..Verdict::unsent(fail) }
    }

    /// Turns the last outcome into the answer, and records what it says of the device.
    fn conclude(
        &self,
        delivery: &AppDelivery,
        guard: &Guard,
        job: &Job,
        outcome: &Outcome,
        tries: &Tries,
    ) -> Verdict {
        let device = job.notification.device;
        let reason = outcome.reason().cloned();
        let answer = match outcome {
            Outcome::Accepted => {
                guard.accepted();
                self.note(job, DeviceState::Active, None);
                Answer::Ok
            }
            Outcome::TokenDead { reason, .. } => {
                let certain = matches!(reason.as_str(), "Unregistered" | "ExpiredToken");
                if certain || guard.may_remove(device) {
                    self.note(job, DeviceState::Removed, Some(reason));
                    Answer::Remove
                } else {
                    delivery.alert(job, "MassRemoval");
                    Answer::Fail(FailReason::AppMisconfigured)
                }
            }
            Outcome::WrongApp { reason } => {
                if guard.may_remove_as_foreign(device) {
                    self.note(job, DeviceState::Removed, Some(reason));
                    Answer::Remove
                } else {
                    delivery.alert(job, reason.as_str());
                    Answer::Fail(FailReason::AppMisconfigured)
                }
            }
            Outcome::Refused { reason } => {
                metrics::counter!("provider_refusals_total", "reason" => reason.label()).increment(1);
                Answer::Fail(FailReason::Rejected)
            }
            Outcome::Misconfigured { reason } => {
                delivery.alert(job, reason.as_str());
                Answer::Fail(FailReason::AppMisconfigured)
            }
            Outcome::TryLater { scope: RetryScope::Attempt, .. } => Answer::Fail(FailReason::ProviderDown),
            Outcome::TryLater { scope: RetryScope::Device, .. } => Answer::Fail(FailReason::ProviderBusy),
            Outcome::TryLater { scope: RetryScope::Credential, reason, .. } => {
                delivery.slow_down(job, reason.as_str());
                Answer::Fail(FailReason::ProviderBusy)
            }
        };
        let timing = Timing { provider: tries.provider, ..Timing::default() };
        Verdict { answer, reason, attempts: tries.count, timing }
    }

    fn note(&self, job: &Job, state: DeviceState, reason: Option<&Reason>) {
        let push = &job.notification;
        if push.tenant.is_unlicensed() {
            return;
        }
        let day = self.clock.now().day();
        self.ledger_writer.note(push.device, day, state, || DeviceActivity {
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

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
