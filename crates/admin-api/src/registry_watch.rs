//! Hourly registry maintenance: what grants anything is compared with what was signed, codes of licence keys
//! are renewed, and the oldest events of the audit log go.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use push_domain::Timestamp;
use tenant_registry::{AuditContext, ControlAdmin, HomeAdmin, RegistryError};
use tokio::time::Instant;
use tracing::{error, info, warn};

const EVERY: Duration = Duration::from_hours(1);
const DAY_MS: u64 = 86_400_000;

/// State of the hourly maintenance: its last run, and how many rows were found changed.
#[derive(Debug, Default)]
pub(crate) struct RegistryWatch {
    looked_at: std::sync::Mutex<Option<Instant>>,
    /// Rows that are not as they were written; [`UNKNOWN`] where the signature over all of them does not hold.
    changed: AtomicU64,
}

/// Nothing can be said of any row.
pub(crate) const UNKNOWN: u64 = u64::MAX;

impl RegistryWatch {
    /// How many rows were not as they were written when that was last looked at.
    pub(crate) fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }

    fn is_due(&self) -> bool {
        let mut looked_at = self.looked_at.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_due = looked_at.is_none_or(|at| at.elapsed() >= EVERY);
        if is_due {
            *looked_at = Some(Instant::now());
        }
        is_due
    }
}

fn is_unreadable(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Database(cause) if cause.to_string().contains("decoding"))
}

impl RegistryWatch {
    /// Maintains the registry, if an hour has passed; audit events are kept for so many days, 0: for good.
    pub(crate) async fn maintain(
        &self,
        control: &dyn ControlAdmin,
        home: &dyn HomeAdmin,
        audit_days: u32,
        now: Timestamp,
    ) {
        if !self.is_due() {
            return;
        }
        self.check_rights(control).await;
        let audit = AuditContext::new("hpns", now);
        match control.renew_keys(audit).await {
            Ok(0) => {}
            Ok(keys) => info!(keys, "licence keys are coded anew, under the newest control key"),
            Err(error) => warn!(%error, "licence keys cannot be coded anew; it is tried again"),
        }
        let days = u64::from(audit_days);
        if days > 0 {
            let before = now.millis().saturating_sub(days * DAY_MS);
            match home.cut_audit(Timestamp::from_millis(before), audit).await {
                Ok(0) => {}
                Ok(events) => info!(events, days, "audit events are forgotten: they are older than that"),
                Err(error) => warn!(%error, "old audit events cannot be forgotten; it is tried again"),
            }
        }
    }

    /// Compares, whatever the time.
    pub(crate) async fn check_rights(&self, control: &dyn ControlAdmin) {
        let found = match control.verify_rights().await {
            Ok(report) => (report.changed.len() + report.deleted) as u64,
            // A database that is away says nothing of what stands in it; one whose rows cannot be read does.
            Err(error @ (RegistryError::Timeout | RegistryError::Database(_))) if !is_unreadable(&error) => {
                return warn!(%error, "what grants anything cannot be looked at; it is tried again");
            }
            Err(error) => {
                error!(%error, "what grants anything cannot be proven");
                UNKNOWN
            }
        };
        if found > 0 {
            error!(rows = found, "the registry was changed past this service: hpns registry verify");
        }
        self.changed.store(found, Ordering::Relaxed);
    }
}
