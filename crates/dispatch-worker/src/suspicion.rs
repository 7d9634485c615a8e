//! Detector of an app at fault, as opposed to its callers: several healthy tenants are refused in a row,
//! and nobody is served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::TenantId;
use tokio::time::Instant;

/// So many tenants have to agree.
const SEVERAL: usize = 3;
/// Without another refusal it ends by itself.
const LASTS: Duration = Duration::from_mins(10);

/// Suspicion that one app is at fault. While there is none, a success costs an atomic read.
#[derive(Debug, Default)]
pub(crate) struct Suspicion {
    any: AtomicBool,
    refused: Mutex<Refused>,
}

#[derive(Debug, Default)]
struct Refused {
    /// Different tenants that were refused since anybody was served.
    tenants: Vec<TenantId>,
    last: Option<Instant>,
}

impl Suspicion {
    fn lock(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a tenant that was well is refused now, whatever it sends.
    pub(crate) fn refused(&self, tenant: TenantId) {
        let mut refused = self.lock();
        if refused.last.is_some_and(|last| last.elapsed() >= LASTS) {
            refused.tenants.clear();
        }
        refused.last = Some(Instant::now());
        if refused.tenants.len() < SEVERAL && !refused.tenants.contains(&tenant) {
            refused.tenants.push(tenant);
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// Notes that a tenant was served: so the app works.
    pub(crate) fn served(&self) {
        if self.any.load(Ordering::Relaxed) {
            *self.lock() = Refused::default();
            self.any.store(false, Ordering::Relaxed);
        }
    }

    /// Says whether the app is suspected.
    pub(crate) fn is_raised(&self) -> bool {
        self.any.load(Ordering::Relaxed) && {
            let refused = self.lock();
            refused.tenants.len() >= SEVERAL && refused.last.is_some_and(|last| last.elapsed() < LASTS)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_app_is_suspected_when_several_tenants_agree_until_anybody_is_served() {
        let (suspicion, tenants) = (Suspicion::default(), [(); 3].map(|()| TenantId::new()));
        (0..100).for_each(|_| suspicion.refused(tenants[0]));
        suspicion.refused(tenants[1]);
        assert!(!suspicion.is_raised());

        suspicion.refused(tenants[2]);
        assert!(suspicion.is_raised());
        suspicion.served();
        assert!(!suspicion.is_raised());
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspicion_that_nothing_feeds_ends() {
        let suspicion = Suspicion::default();
        (0..3).for_each(|_| suspicion.refused(TenantId::new()));

        tokio::time::advance(LASTS).await;

        assert!(!suspicion.is_raised());
    }
}
