//! Circuit breaker by app, as the workers report outages: pushes fail at once instead of queueing up
//! for workers who would refuse them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use push_domain::AppId;
use tokio::time::Instant;

/// While an app is out of order, one push in so long still goes to the workers, who need it to find out
/// whether that is over.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Provider outages by app; shared by all serving threads.
#[derive(Debug)]
pub(crate) struct Outages {
    /// The apps, and when a push of each was last let through, in milliseconds after `made`.
    apps: ArcSwap<HashMap<AppId, AtomicU64>>,
    made: Instant,
}

impl Default for Outages {
    fn default() -> Self {
        Self { apps: ArcSwap::default(), made: Instant::now() }
    }
}

impl Outages {
    /// Says which apps no worker can deliver to at the moment.
    pub(crate) fn set(&self, apps: HashSet<AppId>) {
        let before = self.apps.load();
        let known: HashSet<AppId> = before.keys().cloned().collect();
        if known == apps {
            return;
        }
        for app in known.union(&apps) {
            let is_out = if apps.contains(app) { 1.0 } else { 0.0 };
            metrics::gauge!("provider_out_of_order", "app" => app.to_string()).set(is_out);
        }
        self.apps.store(Arc::new(apps.into_iter().map(|app| (app, AtomicU64::new(0))).collect()));
    }

    /// Says whether a push to this app fails at once.
    pub(crate) fn rejects(&self, app: &AppId) -> bool {
        let apps = self.apps.load();
        let Some(tried) = apps.get(app) else { return false };
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        let last = tried.load(Ordering::Relaxed);
        let due = u128::from(now.saturating_sub(last)) >= TRY_EVERY.as_millis();
        let passes = due && tried.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        !passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_app_that_is_out_of_order_gets_a_try_now_and_then() {
        let outages = Outages::default();
        let (ios, android) = (AppId::new("ios"), AppId::new("android"));
        assert!(!outages.rejects(&ios));
        outages.set([ios.clone()].into());

        tokio::time::advance(TRY_EVERY).await;
        let barred = [(); 3].map(|()| outages.rejects(&ios));
        assert_eq!(barred, [false, true, true]);
        assert!(!outages.rejects(&android));
        tokio::time::advance(TRY_EVERY).await;
        assert!(!outages.rejects(&ios));

        outages.set(HashSet::new());
        assert!(!outages.rejects(&ios) && !outages.rejects(&ios));
    }
}
