//! Outcome events: one for each request that a face took, and the sinks that receive it.

use std::sync::Arc;
use std::time::Duration;

use push_domain::{App, DeviceId, FailReason, JobId, Kind, Owner, TenantId, Timestamp, Verdict};

/// Metric label of a push, in words of its face's dialect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label {
    /// The type that the caller wrote, as far as it is a known one.
    pub(crate) kind: Kind,
    /// Whether it rings over the provider's channel for calls.
    pub(crate) is_voip: bool,
    /// Whether its phone will send a receipt.
    pub(crate) wants_ack: bool,
    /// The version of the mobile app, where the dialect says one.
    pub(crate) app_version: i64,
}

/// Event of an admitted push, with its verdict.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) id: JobId,
    pub(crate) tenant: TenantId,
    pub(crate) app: Arc<App>,
    pub(crate) device: DeviceId,
    /// What the push is for.
    pub(crate) kind: Kind,
    pub(crate) label: Label,
    pub(crate) verdict: Verdict,
    /// From the request's arrival.
    pub(crate) took: Duration,
    /// Until when the caller's licence works although it has expired.
    pub(crate) grace: Option<Timestamp>,
}

impl Answered {
    /// Who answers for it, if it was not delivered.
    pub(crate) const fn owner(&self) -> Option<Owner> {
        self.verdict.answer.owner()
    }
}

/// Event of a request that was refused without asking a provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    pub(crate) id: JobId,
    /// Whose it is, if that is known.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) reason: FailReason,
}

/// Event sink (metrics, usage, log). Called on the serving thread, once a request; it neither waits nor
/// fails.
pub(crate) trait Sink: Send + Sync {
    /// A push was answered.
    fn answered(&self, event: &Answered);

    /// A request was refused.
    fn refused(&self, event: &Refused);

    /// A phone has told for the first time that it got a push of this tenant.
    fn acknowledged(&self, _tenant: TenantId) {}
}
