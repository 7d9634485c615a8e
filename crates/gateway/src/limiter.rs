//! How fast a licence may push through one of several gateways, and how much its turn counts.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::{Quota, RateLimiter};
use tenant_registry::{Licence, Plan};

use crate::caller::Limits;

/// A licence's rate, as one gateway keeps it.
pub(crate) struct Limiter {
    rate_per_second: u32,
    burst: u32,
    pub(crate) limits: Limits,
}

impl Limiter {
    /// Makes the limiter of one of so many gateways, or keeps the one that is known.
    pub(crate) fn for_licence(licence: &Licence, gateways: u32, known: Option<&Self>) -> Self {
        let share = |all: u32| all.div_ceil(gateways).max(1);
        let (rate_per_second, burst) = (share(licence.terms.rate_per_second), share(licence.terms.burst));
        let same = known.filter(|known| (known.rate_per_second, known.burst) == (rate_per_second, burst));
        let bucket = same.map_or_else(
            || {
                let quota = Quota::per_second(NonZeroU32::new(rate_per_second).unwrap_or(NonZeroU32::MIN))
                    .allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
                Arc::new(RateLimiter::direct(quota))
            },
            |known| Arc::clone(&known.limits.bucket),
        );
        // What is under way stays so, whatever the limit is now.
        let under_way = known.map(|known| Arc::clone(&known.limits.under_way)).unwrap_or_default();
        let most = if licence.terms.in_flight == 0 { 0 } else { share(licence.terms.in_flight) };
        Self { rate_per_second, burst, limits: Limits { bucket, under_way, most } }
    }
}

/// How many turns a tenant of this plan has for one of a test tenant, while others wait.
pub(crate) const fn weight(plan: Plan) -> u32 {
    match plan {
        Plan::Test => 1,
        Plan::Professional => 2,
        Plan::Enterprise | Plan::Cloud => 4,
    }
}
