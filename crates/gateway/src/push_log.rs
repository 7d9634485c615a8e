//! Access log of pushes: who, which app, what became of it, and nothing of what it said.

use std::sync::Arc;

use push_domain::Reason;
use tracing::info;

use crate::admission::Authenticator;
use crate::event::{Answered, Refused, Sink};
use crate::refusal_log::RefusalLogLimiter;

/// Event sink that logs each push, and refusals within a rate.
pub(crate) struct PushLog {
    authenticator: Arc<Authenticator>,
    refusals: Arc<RefusalLogLimiter>,
}

impl PushLog {
    pub(crate) const fn new(authenticator: Arc<Authenticator>, refusals: Arc<RefusalLogLimiter>) -> Self {
        Self { authenticator, refusals }
    }
}

impl Sink for PushLog {
    fn answered(&self, event: &Answered) {
        let device = self.authenticator.log_key().reference(&event.device);
        let reason = event.verdict.reason.as_ref().map(Reason::as_str);
        let owner = event.owner().map(push_domain::Owner::label);
        let latency_us = u64::try_from(event.took.as_micros()).unwrap_or(u64::MAX);
        info!(
            target: "hpns::push",
            request_id = %event.id,
            tenant = %event.tenant,
            app = %event.app.id,
            kind = event.kind.label(),
            device,
            outcome = event.verdict.answer.label(),
            owner,
            reason,
            attempts = event.verdict.attempts,
            latency_us,
            "push answered"
        );
    }

    fn refused(&self, event: &Refused) {
        // Strangers, and who is over a limit, must not fill the log.
        let Some(left_out) = self.refusals.turn(event.tenant, event.reason) else { return };
        let tenant = event.tenant.map(tracing::field::display);
        let left_out = Some(left_out).filter(|count| *count > 0);
        let (outcome, owner) = (event.reason.code(), event.reason.owner().label());
        info!(target: "hpns::push", request_id = %event.id, tenant, outcome, owner, left_out, "push refused");
    }
}
