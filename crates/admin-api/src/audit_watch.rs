//! Audit-log background jobs: publishes the head of the log, and records failed sign-ins in sum.
//!
//! Its end goes into the log and the metrics each hour: a log that was put back, or written anew by somebody who has the
//! keys, no longer holds it. Failed sign-ins come in any number from anybody: their sum is noted, not each.

use std::time::Duration;

use push_domain::TenantId;
use serde_json::{Value, json};
use tenant_registry::{AuditContext, AuditHead};
use tokio::time::Instant;
use tracing::{error, info};

use crate::failure::Failure;
use crate::state::Admin;

const AUDIT_HEAD_INTERVAL: Duration = Duration::from_hours(1);
/// Audit-log head that was published last, and whether the log has lost it since.
#[derive(Debug, Default)]
pub(crate) struct PublishedAuditHead {
    last: Option<(AuditHead, Instant)>,
    was_lost: bool,
}

#[cfg(test)]
impl PublishedAuditHead {
    pub(crate) fn seq(&self) -> Option<u64> {
        self.last.as_ref().map(|(head, _)| head.seq)
    }

    pub(crate) fn make_old(&mut self) {
        if let Some((_, at)) = &mut self.last {
            *at = at.checked_sub(AUDIT_HEAD_INTERVAL).unwrap_or(*at);
        }
    }

    pub(crate) const fn was_lost(&self) -> bool {
        self.was_lost
    }
}

impl Admin {
    /// Notes something that changed nothing, at the rate that one caller has for it: a token that may only read must not
    /// fill the log. What is not noted is not done.
    pub(crate) async fn note(
        &self,
        action: &str,
        object: &str,
        tenant: Option<TenantId>,
        detail: Value,
        audit: AuditContext<'_>,
    ) -> Result<(), Failure> {
        self.may_note(audit.by)?;
        Ok(self.home.note(action, object, tenant, detail, audit).await?)
    }

    /// Counts something that will be noted.
    pub(crate) fn may_note(&self, actor: &str) -> Result<(), Failure> {
        let may = self.noted.check(self.keys.source_hash(&[b"noted", actor.as_bytes()]));
        if may { Ok(()) } else { Err(Failure::too_many_notes()) }
    }

    /// Notes how many sign-ins failed since the last time.
    pub(crate) async fn note_failures(&self) {
        let tally = self.failed.take();
        if tally.failures == 0 {
            return;
        }
        let detail = json!({ "failures": tally.failures, "sources": tally.sources.len() });
        let audit = AuditContext::new("nobody", self.now());
        if let Err(error) = self.home.note("sign_in.failed", "console", None, detail, audit).await {
            error!(%error, "failed sign-ins cannot be noted; they will be tried again");
            self.failed.put_back(tally);
        }
    }

    /// Tells the end of the log, once an hour; and looks whether the log still holds the one that was told before.
    pub(crate) async fn publish_audit_head(&self, told: &mut PublishedAuditHead) {
        if told.last.as_ref().is_some_and(|(_, at)| at.elapsed() < AUDIT_HEAD_INTERVAL) {
            return;
        }
        if let Some((before, _)) = &told.last {
            let found = self.home.audit(None, before.seq + 1, 1).await;
            let holds =
                |event: &tenant_registry::AuditEvent| (event.seq, &event.hash) == (before.seq, &before.hash);
            if found.is_ok_and(|events| before.seq > 0 && !events.first().is_some_and(holds)) {
                told.was_lost = true;
                error!(
                    seq = before.seq,
                    "the audit log does not hold the end any more that it had: it was put back or rewritten"
                );
            }
        }
        let events = match self.home.audit(None, u64::MAX, 1).await {
            Ok(events) => events,
            Err(error) => return error!(%error, "the end of the audit log cannot be read; it is tried again"),
        };
        let newest = events.into_iter().next();
        let head = newest
            .map_or(AuditHead { seq: 0, hash: Vec::new() }, |it| AuditHead { seq: it.seq, hash: it.hash });
        info!(seq = head.seq, head = data_encoding::HEXLOWER.encode(&head.hash), "the end of the audit log");
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53, and the mark has six bytes")]
        {
            metrics::gauge!("audit_head_seq").set(head.seq as f64);
            let mark = head.hash.iter().take(6).fold(0_u64, |mark, byte| mark << 8 | u64::from(*byte));
            metrics::gauge!("audit_head_mark").set(mark as f64);
        }
        metrics::gauge!("audit_head_lost").set(f64::from(u8::from(told.was_lost)));
        told.last = Some((head, Instant::now()));
    }
}
