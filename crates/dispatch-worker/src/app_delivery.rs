//! Delivery state of one app in one worker: its sender, retry budget and usual latency.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dispatch_stream::Job;
use push_domain::PushSender;
use tokio::time::Instant;
use tower::retry::budget::TpsBudget;
use tracing::{error, warn};

/// So many pushes of an app may be retried in any case, in each thread; more only while they are a tenth
/// of all.
const RETRIES_PER_SECOND: u32 = 10;
/// How often one app's trouble is logged.
const ALERT_EVERY: Duration = Duration::from_mins(1);

/// Delivery state of one app.
pub(crate) struct AppDelivery {
    pub(crate) sender: Arc<dyn PushSender>,
    pub(crate) retries: TpsBudget,
    last_alert: Mutex<Option<Instant>>,
    /// How long the provider takes to accept a push, smoothed; microseconds.
    accepts_in: AtomicU64,
}

/// A new answer counts as one of so many in what is usual.
const SMOOTHING: u64 = 8;

impl AppDelivery {
    pub(crate) fn new(sender: Arc<dyn PushSender>) -> Self {
        let retries = TpsBudget::new(Duration::from_secs(10), RETRIES_PER_SECOND, 0.1);
        Self { sender, retries, last_alert: Mutex::default(), accepts_in: AtomicU64::new(0) }
    }

    /// Notes how long the provider took to accept a push.
    pub(crate) fn accepted(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Two threads at once may lose one of their notes: it is an average.
        let usual = self.accepts_in.load(Relaxed);
        self.accepts_in.store(usual - usual / SMOOTHING + took / SMOOTHING, Relaxed);
    }

    /// How long before its last moment a job may still be tried: an attempt that is cut off is told to have failed, and may
    /// arrive all the same. Twice what is usual, and at most a quarter of the job's whole time, so that a slow provider is
    /// never given up.
    pub(crate) fn time_to_try(&self, whole: Duration) -> Duration {
        Duration::from_micros(self.accepts_in.load(Relaxed).saturating_mul(2)).min(whole / 4)
    }

    /// Tells the operator of an app whose set-up is wrong, in a metric each time and in the log once a
    /// minute.
    pub(crate) fn alert(&self, job: &Job, reason: &str) {
        let app = &job.notification.app.id;
        metrics::counter!("app_misconfigured_total", "app" => app.to_string()).increment(1);
        if self.may_log() {
            error!(%app, reason, "an app's pushes fail because of its set-up: check its credentials, topic and environment");
        }
    }

    /// The same of a credential that its provider wants to send less.
    pub(crate) fn slow_down(&self, job: &Job, reason: &str) {
        let app = &job.notification.app.id;
        metrics::counter!("provider_quota_total", "app" => app.to_string()).increment(1);
        if self.may_log() {
            warn!(%app, reason, "a provider asks an app to send less");
        }
    }

    fn may_log(&self) -> bool {
        let mut last = self.last_alert.lock().unwrap_or_else(PoisonError::into_inner);
        let may = last.is_none_or(|time| time.elapsed() >= ALERT_EVERY);
        if may {
            *last = Some(Instant::now());
        }
        may
    }
}
