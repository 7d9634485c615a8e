//! What becomes of each request that a face took: one event, and the sinks that hear of it.

use std::sync::Arc;
use std::time::Duration;

use push_domain::{App, DeviceId, FailReason, JobId, Kind, Owner, TenantId, Timestamp, Verdict};

/// By what a face counts a push, in words of its dialect.
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

/// A push that was admitted, and its verdict.
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

/// A request that was answered without asking a provider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refused {
    pub(crate) id: JobId,
    /// Whose it is, if that is known.
    pub(crate) tenant: Option<TenantId>,
    pub(crate) reason: FailReason,
}

/// Hears of every end: metrics, usage, the log. Called on the serving thread, once for each request; it neither waits nor
/// fails.
pub(crate) trait Sink: Send + Sync {
    /// A push was answered.
    fn answered(&self, event: &Answered);

    /// A request was refused.
    fn refused(&self, event: &Refused);
}
