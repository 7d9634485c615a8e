//! Certificate-expiry monitor: a metric always, a log line a day when the end is near.

use metrics::Gauge;
use push_domain::Timestamp;
use tracing::{error, warn};

const WARN_DAYS: u32 = 30;
const ALARM_DAYS: u32 = 7;

/// Monitor of one certificate's end.
pub(crate) struct ExpiryMonitor {
    metric: &'static str,
    /// What it belongs to: `app` or `listener`, and its name.
    kind: &'static str,
    name: String,
    gauge: Option<Gauge>,
    told_on: Option<u32>,
}

impl ExpiryMonitor {
    /// Watches the certificate of an app or a listener.
    pub(crate) fn new(metric: &'static str, kind: &'static str, name: &str) -> Self {
        Self { metric, kind, name: name.to_owned(), gauge: None, told_on: None }
    }

    /// Takes note of another certificate: whatever was told was about the old one.
    pub(crate) fn renewed(&mut self) {
        self.told_on = None;
    }

    /// Shows how many days are left, and says so once a day when they are few. What does not expire
    /// has no metric.
    pub(crate) fn check(&mut self, expires_at: Option<Timestamp>, now: Timestamp) {
        let Some(expires_at) = expires_at else { return };
        let seconds = expires_at.since(now).as_secs();
        let days = u32::try_from(seconds / 86_400).unwrap_or(u32::MAX);
        let (metric, kind, name) = (self.metric, self.kind, &self.name);
        self.gauge.get_or_insert_with(|| metrics::gauge!(metric, kind => name.clone())).set(f64::from(days));
        if days >= WARN_DAYS || self.told_on == Some(now.day()) {
            return;
        }
        self.told_on = Some(now.day());
        if seconds == 0 {
            error!(kind, name, "a certificate has expired");
        } else if days < ALARM_DAYS {
            error!(kind, name, days, "a certificate expires very soon");
        } else {
            warn!(kind, name, days, "a certificate expires soon");
        }
    }
}
