//! The way to one app: its sender, and what one worker keeps for it.

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

/// The way to one app.
pub(crate) struct Route {
    pub(crate) sender: Arc<dyn PushSender>,
    pub(crate) retries: TpsBudget,
    last_alert: Mutex<Option<Instant>>,
}

impl Route {
    pub(crate) fn new(sender: Arc<dyn PushSender>) -> Self {
        let retries = TpsBudget::new(Duration::from_secs(10), RETRIES_PER_SECOND, 0.1);
        Self { sender, retries, last_alert: Mutex::default() }
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
