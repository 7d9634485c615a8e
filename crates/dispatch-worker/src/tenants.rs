//! Per-tenant guards of an app: what a tenant's pushes say, they say of that tenant alone.
//!
//! A token is a tenant's input: whatever depends on it is evidence about the tenant. What one sends changes no answer of
//! another (docs/adr/0025).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use push_domain::{DeviceId, Provider, TenantId};
use tokio::time::Instant;

use crate::hold::CredentialHold;
use crate::isolation::Isolation;
use crate::removals::RemovalGuard;
use crate::suspicion::Suspicion;

/// So many tenants of an app are known at once.
const MOST: usize = 16_384;
/// One that was quiet for so long, and well, is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(5);
/// The same of one that was in trouble.
const TROUBLE_FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// How often room is made for new ones.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// A guarded tenant's attempts a second, and how many at once.
const GUARDED_PER_SECOND: u32 = 50;
const GUARDED_BURST: u32 = 50;
/// So many different devices refused in a row are no accident.
const IN_A_ROW: usize = 3;

/// Table of the tenants that pushed to one app lately.
#[derive(Debug)]
pub(crate) struct Tenants {
    provider: Provider,
    made: Instant,
    /// Those with a licence, and those without: these never take the others' place.
    known: [RwLock<Known>; 2],
    /// Those of which anything bad is known.
    troubled: Mutex<HashMap<TenantId, Arc<TenantGuard>>>,
}

#[derive(Debug, Default)]
struct Known {
    guards: HashMap<TenantId, Arc<TenantGuard>>,
    swept_at: Option<Instant>,
}

/// Guard of one tenant's pushes to one app. A success costs some atomic writes.
#[derive(Debug)]
pub(crate) struct TenantGuard {
    pub(crate) id: TenantId,
    pub(crate) removals: RemovalGuard,
    pub(crate) isolation: Isolation,
    pub(crate) hold: CredentialHold,
    /// One of too many: nothing is known of it, and it travels by itself.
    is_stranger: bool,
    was_well: AtomicBool,
    is_guarded: AtomicBool,
    is_watched: AtomicBool,
    /// Whether a device was refused since one was served.
    is_refused: AtomicBool,
    /// When it last pushed, in milliseconds after its app's first push.
    used: AtomicU64,
    refused: Mutex<Refused>,
}

#[derive(Debug)]
struct Refused {
    /// Different devices, since one was served.
    in_a_row: Vec<DeviceId>,
    /// When a guarded tenant's next attempt would be made, at an even pace.
    next: Instant,
}

impl Tenants {
    pub(crate) fn new(provider: Provider) -> Self {
        Self { provider, made: Instant::now(), known: Default::default(), troubled: Mutex::default() }
    }

    fn read(&self, id: TenantId) -> RwLockReadGuard<'_, Known> {
        self.known[usize::from(id.is_unlicensed())].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, id: TenantId) -> RwLockWriteGuard<'_, Known> {
        self.known[usize::from(id.is_unlicensed())].write().unwrap_or_else(PoisonError::into_inner)
    }

    fn troubled(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<TenantGuard>>> {
        self.troubled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Returns a tenant's guard; makes it at its first push.
    pub(crate) fn of(&self, id: TenantId) -> Arc<TenantGuard> {
        let now = self.now();
        if let Some(known) = self.read(id).guards.get(&id) {
            known.used.store(now, Ordering::Relaxed);
            return Arc::clone(known);
        }
        let mut known = self.write(id);
        if known.guards.len() >= MOST && known.swept_at.is_none_or(|at| at.elapsed() >= SWEEP_EVERY) {
            known.swept_at = Some(Instant::now());
            known.guards.retain(|_, guard| {
                let quiet = guard.quiet_for(now);
                quiet < FORGOTTEN_AFTER || (quiet < TROUBLE_FORGOTTEN_AFTER && !guard.is_well())
            });
            if known.guards.len() >= MOST {
                known.guards.retain(|_, guard| !guard.is_well());
            }
        }
        let is_stranger = known.guards.len() >= MOST;
        let new = || Arc::new(TenantGuard::new(id, self.provider, is_stranger, now));
        if is_stranger { new() } else { Arc::clone(known.guards.entry(id).or_insert_with(new)) }
    }

    /// Forgets all of them: the app has new credentials.
    pub(crate) fn renew(&self) {
        for known in &self.known {
            known.write().unwrap_or_else(PoisonError::into_inner).guards.clear();
        }
        self.troubled().clear();
    }

    /// Keeps an eye on a tenant of which something bad is known.
    pub(crate) fn watch(&self, tenant: &Arc<TenantGuard>) {
        if !tenant.is_stranger && !tenant.is_watched.swap(true, Ordering::Relaxed) {
            tenant.removals.begin_to_tell();
            let before = self.troubled().insert(tenant.id, Arc::clone(tenant));
            // One that was forgotten with the app's old credentials, and had a push under way.
            before.inspect(|before| before.is_watched.store(false, Ordering::Relaxed));
        }
    }

    /// Those of which anything bad is known, judged again as time has passed.
    pub(crate) fn in_trouble(&self) -> Vec<Arc<TenantGuard>> {
        let (now, mut troubled) = (self.now(), self.troubled());
        troubled.retain(|id, guard| {
            guard.judge();
            let is_gone = guard.quiet_for(now) >= TROUBLE_FORGOTTEN_AFTER;
            if is_gone {
                self.write(*id).guards.remove(id);
            }
            let stays = !guard.is_well() && !is_gone;
            guard.is_watched.store(stays, Ordering::Relaxed);
            stays
        });
        troubled.values().map(Arc::clone).collect()
    }
}

impl TenantGuard {
    fn new(id: TenantId, provider: Provider, is_stranger: bool, now: u64) -> Self {
        Self {
            id,
            removals: RemovalGuard::new(provider),
            isolation: Isolation::default(),
            hold: CredentialHold::new(),
            is_stranger,
            was_well: AtomicBool::new(false),
            is_guarded: AtomicBool::new(false),
            is_watched: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
            used: AtomicU64::new(now),
            refused: Mutex::new(Refused { in_a_row: Vec::new(), next: Instant::now() }),
        }
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a push that the provider took.
    pub(crate) fn served(&self, suspicion: &Suspicion) {
        self.removals.accepted();
        if !self.was_well.load(Ordering::Relaxed) {
            self.was_well.store(true, Ordering::Relaxed);
        }
        if self.is_refused.swap(false, Ordering::Relaxed) {
            self.refused().in_a_row.clear();
        }
        // A caller without a licence, or with bad tokens, speaks for nobody else.
        if self.speaks_for_others() {
            suspicion.served();
        }
    }

    /// Notes a device that the provider calls bad, and says whether that may be believed.
    pub(crate) fn may_remove(&self, device: DeviceId, suspicion: &Suspicion) -> bool {
        let believed = self.removals.may_remove(device);
        self.is_refused.store(true, Ordering::Relaxed);
        let is_refused = {
            let in_a_row = &mut self.refused().in_a_row;
            if in_a_row.len() < IN_A_ROW && !in_a_row.contains(&device) {
                in_a_row.push(device);
            }
            in_a_row.len() >= IN_A_ROW
        };
        if is_refused && self.was_well.load(Ordering::Relaxed) && self.speaks_for_others() {
            suspicion.refused(self.id);
        }
        self.is_guarded.store(!believed, Ordering::Relaxed);
        believed && !suspicion.is_raised()
    }

    /// Says whether what comes of its pushes says anything of its app: not without a licence, and not while it is in trouble.
    pub(crate) fn speaks_for_others(&self) -> bool {
        !self.id.is_unlicensed() && !self.is_isolated() && !self.is_guarded()
    }

    /// Says whether its pushes travel by themselves.
    pub(crate) fn is_isolated(&self) -> bool {
        self.is_stranger || self.isolation.holds()
    }

    /// Says whether its removals are doubted, and its pushes slowed down.
    pub(crate) fn is_guarded(&self) -> bool {
        self.is_guarded.load(Ordering::Relaxed)
    }

    fn judge(&self) {
        if self.removals.has_seen_any() {
            self.is_guarded.store(self.removals.doubts(), Ordering::Relaxed);
            self.removals.settle();
        }
    }

    /// Says whether a guarded tenant's next attempt is not too early.
    pub(crate) fn keeps_pace(&self) -> bool {
        if !self.is_guarded() {
            return true;
        }
        let (now, step) = (Instant::now(), Duration::from_secs(1) / GUARDED_PER_SECOND);
        let mut refused = self.refused();
        let next = refused.next.max(now);
        let keeps = next <= now + step * GUARDED_BURST;
        if keeps {
            refused.next = next + step;
        }
        keeps
    }

    fn quiet_for(&self, now: u64) -> Duration {
        Duration::from_millis(now.saturating_sub(self.used.load(Ordering::Relaxed)))
    }

    fn is_well(&self) -> bool {
        !self.is_guarded()
            && self.hold.circuit.is_passing()
            && !self.removals.has_seen_any()
            && !self.isolation.has_seen_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u32) -> DeviceId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        DeviceId::from_bytes(bytes)
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_whose_tokens_are_bad_is_guarded_and_no_other_is() {
        let (tenants, suspicion) = (Tenants::new(Provider::Apns), Suspicion::default());
        let [junk, good] = [(); 2].map(|()| tenants.of(TenantId::new()));
        good.served(&suspicion);
        let believed = (0..100).filter(|number| junk.may_remove(device(*number), &suspicion)).count();

        assert_eq!(believed, 19);
        assert!(junk.is_guarded() && !good.is_guarded());
        assert!(good.may_remove(device(1), &suspicion));
        let paced = (0..1000).filter(|_| junk.keeps_pace()).count();
        assert!((50..=52).contains(&paced), "{paced}");
        assert!((0..1000).all(|_| good.keeps_pace()));
    }

    #[tokio::test(start_paused = true)]
    async fn three_tenants_that_were_well_speak_for_the_app_and_no_stranger_does() {
        let (tenants, suspicion) = (Tenants::new(Provider::Apns), Suspicion::default());
        let refuse = |id: TenantId, was_well: bool| {
            let tenant = tenants.of(id);
            if was_well {
                tenant.served(&suspicion);
            }
            for number in 0..5 {
                tenant.may_remove(device(number), &suspicion);
            }
        };

        (0..10).for_each(|source| refuse(TenantId::unlicensed(source), true));
        (0..10).for_each(|_| refuse(TenantId::new(), false));
        assert!(!suspicion.is_raised());

        let three = [(); 3].map(|()| TenantId::new());
        for id in three {
            tenants.of(id).served(&suspicion);
        }
        for id in three {
            refuse(id, false);
        }
        assert!(suspicion.is_raised());
        let quiet = tenants.of(TenantId::new());
        assert!(!quiet.may_remove(device(1), &suspicion));
        quiet.served(&suspicion);
        assert!(quiet.may_remove(device(1), &suspicion), "the app serves it");
    }

    #[tokio::test(start_paused = true)]
    async fn very_many_tenants_cost_a_bounded_memory_and_strangers_travel_by_themselves() {
        let (tenants, suspicion) = (Tenants::new(Provider::Apns), Suspicion::default());
        let mut bad = Vec::new();
        let mut bring = |number: usize, is_bad: bool| {
            for _ in 0..number {
                let tenant = tenants.of(TenantId::new());
                if is_bad {
                    tenant.may_remove(device(1), &suspicion);
                    bad.push(tenant);
                }
            }
        };
        bring(1, true);
        bring(2 * MOST, false);
        tokio::time::advance(SWEEP_EVERY).await;
        bring(MOST, true);

        assert!(tenants.read(bad[0].id).guards.len() <= MOST);
        assert!(Arc::ptr_eq(&bad[0], &tenants.of(bad[0].id)), "nothing bad is forgotten");
        assert!(tenants.of(TenantId::new()).is_isolated() && !bad[0].is_isolated());
        assert!(!tenants.of(TenantId::unlicensed(1)).is_isolated(), "they have places of their own");

        tokio::time::advance(TROUBLE_FORGOTTEN_AFTER).await;
        tenants.in_trouble();
        assert!(!tenants.of(TenantId::new()).is_isolated(), "who left is forgotten");
    }
}
