//! Which tenants' pushes to an app travel by themselves.
//!
//! Apple slows a connection down after every bad device token and ends it after many, so one tenant's
//! junk would cost the others. A tenant with more than a fifth of bad tokens in five minutes is sent
//! over connections of its own until it is well again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::TenantId;
use tokio::time::Instant;

const HALF_WINDOW: Duration = Duration::from_secs(150);
const MIN_ANSWERS: u32 = 20;
/// One bad token in so many answers is borne.
const ONE_IN: u32 = 5;
/// Tenants beyond these are not watched until others are forgotten.
const MAX_WATCHED: usize = 10_000;

/// Watches the tenants of one app. While no tenant has sent a bad token, an answer costs an atomic read.
#[derive(Debug, Default)]
pub(crate) struct Isolation {
    watched: AtomicUsize,
    tenants: Mutex<HashMap<TenantId, Answers>>,
}

#[derive(Debug)]
struct Answers {
    began: Instant,
    all: u32,
    bad: u32,
    all_before: u32,
    bad_before: u32,
}

impl Isolation {
    fn lock(&self) -> MutexGuard<'_, HashMap<TenantId, Answers>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer to a tenant's push; `bad` if it called the device token bad.
    pub(crate) fn note(&self, tenant: TenantId, bad: bool) {
        if !bad && self.watched.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut tenants = self.lock();
        if bad && !tenants.contains_key(&tenant) {
            if tenants.len() >= MAX_WATCHED {
                tenants.retain(|_, answers| answers.is_bad_now());
            }
            if tenants.len() < MAX_WATCHED {
                let new = Answers { began: Instant::now(), all: 0, bad: 0, all_before: 0, bad_before: 0 };
                tenants.insert(tenant, new);
            }
        }
        if let Some(answers) = tenants.get_mut(&tenant) {
            answers.turn();
            answers.all += 1;
            answers.bad += u32::from(bad);
            if !answers.is_bad_now() {
                tenants.remove(&tenant);
            }
        }
        self.watched.store(tenants.len(), Ordering::Relaxed);
    }

    /// Says whether a tenant's pushes travel by themselves.
    pub(crate) fn holds(&self, tenant: TenantId) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
            && self.lock().get_mut(&tenant).is_some_and(|answers| {
                answers.turn();
                answers.are_bad()
            })
    }

    /// Counts the tenants whose pushes travel by themselves, and forgets those that were well for a while.
    pub(crate) fn count(&self) -> usize {
        if self.watched.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let mut tenants = self.lock();
        tenants.retain(|_, answers| answers.is_bad_now());
        self.watched.store(tenants.len(), Ordering::Relaxed);
        tenants.values().filter(|answers| answers.are_bad()).count()
    }
}

impl Answers {
    fn turn(&mut self) {
        let age = self.began.elapsed();
        if age < HALF_WINDOW {
            return;
        }
        let recent = age < HALF_WINDOW * 2;
        (self.all_before, self.bad_before) = if recent { (self.all, self.bad) } else { (0, 0) };
        (self.all, self.bad) = (0, 0);
        self.began = Instant::now();
    }

    /// Whether any bad token was seen in the last five minutes.
    fn is_bad_now(&mut self) -> bool {
        self.turn();
        self.bad + self.bad_before > 0
    }

    const fn are_bad(&self) -> bool {
        let (all, bad) = (self.all + self.all_before, self.bad + self.bad_before);
        all >= MIN_ANSWERS && bad * ONE_IN > all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_many_bad_tokens_is_isolated_until_it_is_well_and_no_other_is() {
        let (isolation, junk, good) = (Isolation::default(), TenantId::new(), TenantId::new());
        for answer in 0..40 {
            isolation.note(junk, answer % 4 == 0);
            isolation.note(good, answer == 0);
        }
        assert!(isolation.holds(junk) && !isolation.holds(good));
        assert_eq!(isolation.count(), 1);

        tokio::time::advance(HALF_WINDOW * 2).await;
        assert!(!isolation.holds(junk));
        assert_eq!(isolation.count(), 0);
        assert_eq!(isolation.watched.load(Ordering::Relaxed), 0, "who left costs nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_answers_are_no_evidence() {
        let (isolation, tenant) = (Isolation::default(), TenantId::new());

        (0..19).for_each(|_| isolation.note(tenant, true));
        assert!(!isolation.holds(tenant));
        isolation.note(tenant, true);
        assert!(isolation.holds(tenant));
    }
}
