//! Fair queue between the faces and the workers: who goes next.
//!
//! Each serving thread has one line for each app. What fits into the app's window goes through at once.
//! When the window is full, calls go before messages, and messages before what shows nothing, which keeps a tenth;
//! in each class tenants take turns, so that one that sends too much waits behind itself.

mod app_queue;
mod round_robin;
#[cfg(test)]
mod simulation;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatch_stream::{AppQueueState, Job, JobProducer, SubmitError};
use push_domain::{Answer, AppId, FailReason, Reason, TenantId, Verdict};
use tokio::time::Instant;

use self::app_queue::{AppQueue, DispatchFeedback};
pub(crate) use self::window::Share;
use crate::outage::Outages;

/// The fair queue of one serving thread.
pub(crate) struct FairQueue {
    dispatch: Arc<dyn JobProducer>,
    outages: Arc<Outages>,
    share: Share,
    has_tenants: bool,
    /// One for each app that was pushed to.
    lines: Mutex<HashMap<AppId, Arc<AppQueue>>>,
}

impl FairQueue {
    /// Makes the queue in front of `dispatch`; `has_tenants` says whether callers are told apart.
    pub(crate) fn new(
        dispatch: Arc<dyn JobProducer>,
        outages: Arc<Outages>,
        share: Share,
        has_tenants: bool,
    ) -> Self {
        Self { dispatch, outages, share, has_tenants, lines: Mutex::default() }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<AppId, Arc<AppQueue>>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self, app: &AppId) -> Arc<AppQueue> {
        let mut lines = self.lines();
        if let Some(line) = lines.get(app) {
            return Arc::clone(line);
        }
        let line = Arc::new(AppQueue::new(app, self.share.clone(), self.has_tenants));
        lines.insert(app.clone(), Arc::clone(&line));
        line
    }

    /// Adds what waits and what is under way to what other threads have.
    pub(crate) fn add_to(
        &self,
        lines: &mut BTreeMap<String, AppQueueState>,
        under_way: &mut HashMap<TenantId, u64>,
    ) {
        for (app, line) in &*self.lines() {
            let state = line.state();
            if state.waiting > 0 || state.under_way > 0 {
                let known = lines.entry(app.to_string()).or_default();
                *known = known.with(state);
                line.add_under_way(under_way);
            }
        }
    }

    /// Waits for the push's turn, hands it over, and returns the verdict. A tenant of twice the `weight`
    /// has twice the turns while others wait.
    ///
    /// Cancel safe: a caller that leaves gives up its place; a push that was handed over is still sent.
    pub(crate) async fn submit(&self, job: Job, weight: u32) -> Verdict {
        let push = &job.notification;
        if self.outages.rejects(&push.app.id) {
            let reason = Some(Reason::known("BreakerOpen"));
            return Verdict { reason, ..Verdict::unsent(FailReason::ProviderDown) };
        }
        let class = push.kind.class();
        let place = match self.line(&push.app.id).enter(push.tenant, class, weight, job.deadline).await {
            Ok(place) => place,
            Err(refused) => return Verdict::unsent(refused),
        };
        let asked = Instant::now();
        let submitted = self.dispatch.submit(job).await;
        place.release(feedback(&submitted, asked.elapsed()));
        submitted.unwrap_or_else(|error| {
            Verdict::unsent(match error {
                SubmitError::NotServed => FailReason::Unavailable,
                SubmitError::Full | SubmitError::NoLane | SubmitError::Closed => FailReason::Busy,
            })
        })
    }
}

/// What a push's way through tells of the way.
fn feedback(submitted: &Result<Verdict, SubmitError>, took: Duration) -> DispatchFeedback {
    match submitted {
        // Past its time, or without a worker's place or turn.
        Err(SubmitError::Full)
        | Ok(
            Verdict { answer: Answer::Fail(FailReason::Deadline | FailReason::Busy), .. }
            | Verdict { answer: Answer::Fail(FailReason::ProviderBusy), attempts: 0, .. },
        ) => DispatchFeedback::Refused,
        // That nothing leads to the workers says nothing of how much they can take.
        Err(SubmitError::NoLane | SubmitError::NotServed | SubmitError::Closed) => DispatchFeedback::Unknown,
        // What was never sent says nothing of how long sending takes.
        Ok(verdict) if verdict.attempts == 0 => DispatchFeedback::Unknown,
        Ok(verdict) => {
            DispatchFeedback::Completed { took, queue_delay: took.saturating_sub(verdict.timing.sending) }
        }
    }
}

impl fmt::Debug for FairQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairQueue").field("lines", &self.lines().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_worker_had_a_place_for_is_refused_and_what_a_provider_refuses_says_nothing_of_the_way() {
        let told = |answer, attempts| {
            let verdict = Verdict { attempts, ..Verdict::unsent(answer) };
            feedback(&Ok(verdict), Duration::from_millis(5))
        };

        assert!(matches!(told(FailReason::ProviderBusy, 0), DispatchFeedback::Refused));
        assert!(matches!(told(FailReason::Deadline, 0), DispatchFeedback::Refused));
        assert!(matches!(told(FailReason::ProviderBusy, 1), DispatchFeedback::Completed { .. }));
        assert!(matches!(told(FailReason::AppMisconfigured, 0), DispatchFeedback::Unknown));
        assert!(matches!(feedback(&Err(SubmitError::Full), Duration::ZERO), DispatchFeedback::Refused));
        assert!(matches!(feedback(&Err(SubmitError::NoLane), Duration::ZERO), DispatchFeedback::Unknown));
    }
}
