//! The loop, and the life of one job in it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
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
use tower::retry::budget::Budget;

use crate::Config;
use crate::guards::{AppGuard, Barred, Guards};
use crate::lane::Lane;
use crate::retry;

/// The senders of all apps.
pub type Senders = HashMap<AppId, Arc<dyn PushSender>>;

/// What is left of a push's time for telling its outcome.
const ANSWER_TIME: Duration = Duration::from_millis(50);

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
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
    lanes: HashMap<AppId, Lane>,
    guards: Guards,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    config: Config,
    tasks: TaskTracker,
    attempts: [Histogram; 2],
    requests: [Histogram; 2],
}

impl Worker {
    /// Makes a worker for every app of the catalogue.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { apps, mut senders, guards, recorder, clock, config, tasks } = parts;
        let lanes = apps
            .iter()
            .filter_map(|app| Some((app.id.clone(), Lane::new(senders.remove(&app.id)?))))
            .collect();
        let attempts = [Provider::Apns, Provider::Fcm]
            .map(|provider| metrics::histogram!("service_notification_duration_seconds", "platform" => provider.label()));
        let requests = [
            metrics::histogram!("service_apns_request_duration_seconds"),
            metrics::histogram!("service_fcm_request_duration_seconds"),
        ];
        Arc::new(Self { lanes, guards, recorder, clock, config, tasks, attempts, requests })
    }

    /// Delivers a source's jobs of one provider, at most `slots` at once, until the source is closed and
    /// empty and every claimed job is finished.
    ///
    /// Never claims more than it can start; another provider's or lane's trouble takes none of these slots.
    pub async fn run(self: Arc<Self>, source: Arc<dyn JobSource>, provider: Provider, slots: usize) {
        let all = u32::try_from(slots).unwrap_or(u32::MAX);
        let slots = Arc::new(Semaphore::new(slots));
        loop {
            drop(slots.acquire().await);
            let Some(jobs) = source.claim(provider, slots.available_permits()).await else {
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
        let verdict = match (self.lanes.get(app), self.guards.of(app)) {
            (Some(lane), Some(guard)) => self.settle(lane, guard, &claimed).await,
            _ => Some(Verdict::unsent(FailReason::UnknownPlatform)),
        };
        match verdict {
            Some(mut verdict) => {
                verdict.timing = Timing { queued, sending: started.elapsed() };
                claimed.finish(verdict);
            }
            None => claimed.abandon(),
        }
    }

    /// Tries until there is a verdict; `None` if the job is no longer this worker's.
    async fn settle(&self, lane: &Lane, guard: &AppGuard, claimed: &Claimed) -> Option<Verdict> {
        let job = claimed.job();
        let push = &job.notification;
        // The verdict has to be out before the caller stops waiting for it.
        let last_moment = job.deadline - ANSWER_TIME.min(job.deadline.duration_since(job.accepted_at) / 2);
        let mut number = 0;
        let mut last = None;
        loop {
            let turn = guard.pace.turn(last_moment).await;
            let now = Instant::now();
            if !claimed.may_send() {
                return None; // Also after an attempt: whoever has it now may be answered better.
            }
            if let Some(outcome) = &last
                && (turn.is_err() || now >= last_moment)
            {
                return Some(self.conclude(lane, guard, job, outcome, number));
            }
            if turn.is_err() {
                let paced = Some(Reason::known("Paced"));
                return Some(Verdict { reason: paced, ..Verdict::unsent(FailReason::ProviderBusy) });
            }
            if now >= last_moment {
                return Some(Verdict::unsent(FailReason::Deadline));
            }
            let admission = match guard.admit(push.tenant) {
                Ok(admission) => admission,
                Err(barred) => return Some(self.barred(lane, guard, job, barred, last.as_ref(), number)),
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
                None => return Some(self.conclude(lane, guard, job, &outcome, number)),
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
                lane.slow_down(job, reason.as_str());
                Answer::Fail(FailReason::ProviderBusy)
            }
        };
        Verdict { answer, reason, attempts, timing: Timing::default() }
    }

    fn note(&self, job: &Job, state: DeviceState, reason: Option<&Reason>) {
        let push = &job.notification;
        if push.tenant.is_unlicensed() {
            return;
        }
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

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").field("config", &self.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
