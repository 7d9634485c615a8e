//! Authenticated caller, and the limits of its licence.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use push_domain::{FailReason, Privacy, TenantId, Timestamp};
use tenant_registry::DeviceKey;

use super::origin::Networks;
use super::rate::Limits;

/// Authenticated caller: its tenant, device key, privacy policy and limits.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) device_key: DeviceKey,
    /// How many turns it has for one of a test tenant while others wait.
    pub(crate) weight: u32,
    /// How much of a message may leave the service.
    pub(crate) privacy: Privacy,
    /// Until when its licence works although it has expired.
    pub(crate) grace: Option<Timestamp>,
    /// The servers that may use its licence; none: every server.
    pub(crate) servers: Option<Arc<HashSet<String>>>,
    pub(crate) limits: Option<Limits>,
    /// The networks that it comes from, as keyed hashes; none where nobody counts by them.
    pub(crate) networks: Networks,
}

/// In-flight guard: one push of a licence under way, as long as this lives.
#[derive(Debug)]
pub(crate) struct InFlightGuard(Option<Arc<AtomicU32>>);

impl Caller {
    /// Whether it has a licence.
    pub(crate) const fn is_licensed(&self) -> bool {
        self.limits.is_some()
    }

    /// Says whether a server may push with this licence.
    pub(crate) fn allows_server(&self, server: &str) -> bool {
        self.servers.as_ref().is_none_or(|servers| servers.contains(server))
    }

    /// Counts a push against the licence's rate.
    pub(crate) async fn take_rate(&self) -> Result<(), FailReason> {
        match &self.limits {
            Some(limits) if !limits.rate.take().await => Err(FailReason::RateLimited),
            _ => Ok(()),
        }
    }

    /// Counts a receipt against the licence's rate for those.
    pub(crate) fn take_receipt(&self) -> Result<(), FailReason> {
        match &self.limits {
            Some(limits) if !limits.receipts.take_local() => Err(FailReason::RateLimited),
            _ => Ok(()),
        }
    }

    /// Counts a push that is under way, if the licence allows one more at once.
    pub(crate) fn enter(&self) -> Result<InFlightGuard, FailReason> {
        let Some(limits) = &self.limits else { return Ok(InFlightGuard(None)) };
        let most = if limits.most == 0 { u32::MAX } else { limits.most };
        let one_more = |count: u32| (count < most).then_some(count + 1);
        match limits.under_way.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(InFlightGuard(Some(Arc::clone(&limits.under_way)))),
            Err(_) => Err(FailReason::RateLimited),
        }
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if let Some(count) = &self.0 {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
