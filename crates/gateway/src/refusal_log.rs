//! Log rate limiter for refusals: all are counted, some are logged; anybody can cause any number.

use http_edge::KeyedRateLimiter;
use push_domain::{FailReason, LogSampler, TenantId};

/// Refusals of one tenant that are logged: ten a second, and a hundred at once.
const PER_SECOND: u32 = 10;
const AT_ONCE: u32 = 100;
const TENANTS: usize = 16_384;

/// Log rate limiter for refusals, by tenant; for strangers, by reason.
#[derive(Debug)]
pub(crate) struct RefusalLogLimiter {
    /// Of callers who are nobody, by reason.
    strangers: Vec<LogSampler>,
    tenants: KeyedRateLimiter,
}

impl RefusalLogLimiter {
    pub(crate) fn new() -> Self {
        let strangers = FailReason::ALL.iter().map(|_| LogSampler::new()).collect();
        Self { strangers, tenants: KeyedRateLimiter::per_second(PER_SECOND, AT_ONCE, TENANTS) }
    }

    /// Counts a refusal; returns how many of strangers were left out before it, if it is to be logged.
    pub(crate) fn turn(&self, tenant: Option<TenantId>, reason: FailReason) -> Option<u64> {
        let turn = if let Some(tenant) = tenant.filter(|tenant| !tenant.is_unlicensed()) {
            let (high, low) = tenant.uuid().as_u64_pair();
            self.tenants.check(high ^ low).then_some(0)
        } else {
            let place = FailReason::ALL.iter().position(|it| *it == reason);
            place.and_then(|place| self.strangers.get(place)).and_then(LogSampler::turn)
        };
        if turn.is_none() {
            metrics::counter!("gateway_refusals_unlogged_total").increment(1);
        }
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn strangers_write_few_lines_and_keep_nobody_elses_out() {
        let (refusals, tenant) = (RefusalLogLimiter::new(), TenantId::new());
        let count = |tenant, reason| (0..1000).filter_map(|_| refusals.turn(tenant, reason)).count();

        assert_eq!(count(None, FailReason::LicenceMissing), 10);
        assert_eq!(count(Some(TenantId::unlicensed(7)), FailReason::RateLimited), 10);
        assert_eq!(count(None, FailReason::LicenceUnknown), 10, "another reason");
        assert_eq!(count(Some(tenant), FailReason::RateLimited), 100);
        assert!(refusals.turn(Some(TenantId::new()), FailReason::RateLimited).is_some());
    }
}
