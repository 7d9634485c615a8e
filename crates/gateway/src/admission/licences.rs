//! Licence snapshot in memory: loading and refreshing it from the registry.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use tenant_registry::{KeyUse, KeyUseLedger, RegistryError, Snapshot, TenantReader};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::rate::limits;
use super::{Authenticator, LicenceTable, UNCERTAIN_AFTER};

/// All licences are read again after so long, whatever was told.
const RELOAD: Duration = Duration::from_mins(5);
/// How long the registry may take to answer.
const REGISTRY_TIMEOUT: Duration = Duration::from_secs(15);
/// After so long the operator is told.
const STALE: Duration = Duration::from_mins(1);

impl Authenticator {
    pub(super) fn used(&self) -> MutexGuard<'_, Vec<KeyUse>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the ledger which keys are in use.
    pub(super) async fn note_use(&self, ledger: &dyn KeyUseLedger) {
        let used = std::mem::take(&mut *self.used());
        if used.is_empty() {
            return;
        }
        if let Err(error) = ledger.note_use(&used, self.clock.now().day()).await {
            warn!(%error, "the days on which licence keys were used are not noted; they will be tried again");
            self.used().extend(used);
        }
    }

    /// Reads the licences for the first time.
    pub async fn load(&self, registry: &dyn TenantReader) -> Result<(), RegistryError> {
        self.renew(registry, true).await
    }

    /// Reads what is new, or everything.
    async fn renew(&self, registry: &dyn TenantReader, whole: bool) -> Result<(), RegistryError> {
        let read = self.read(registry, whole).await;
        self.fails.store(read.is_err(), Ordering::Relaxed);
        read
    }

    async fn read(&self, registry: &dyn TenantReader, whole: bool) -> Result<(), RegistryError> {
        let asked = Instant::now();
        let known = self.table.load_full();
        let last = known.as_ref().map_or(0, |table| table.snapshot.revision());
        match known.filter(|_| !whole) {
            None => self.refresh(newer(registry.snapshot().await?, last)?),
            Some(_) if registry.revision().await? == last => {}
            Some(table) => {
                let changes = registry.changes_since(last).await?;
                info!(revision = changes.revision, "licences changed");
                let snapshot = if table.snapshot.explains(&changes) {
                    table.snapshot.clone().with(changes)
                } else {
                    // Something was signed anew whose row did not come with it.
                    registry.snapshot().await?
                };
                self.refresh(newer(snapshot, last)?);
            }
        }
        let read_at = asked.duration_since(self.made).as_millis();
        self.read_at.store(u64::try_from(read_at).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// Returns for how long the licences could not be read.
    pub(super) fn age(&self) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(self.read_at.load(Ordering::Relaxed)))
    }

    /// Says whether licences may exist that are not known here.
    pub(super) fn is_unsure(&self) -> bool {
        self.fails.load(Ordering::Relaxed) || self.age() > UNCERTAIN_AFTER
    }

    /// Says how many gateways share each licence's limits.
    pub fn share_among(&self, gateways: u32) {
        if self.sharing.gateways.swap(gateways.max(1), Ordering::Relaxed) != gateways.max(1)
            && let Some(table) = self.table.load_full()
        {
            self.refresh(table.snapshot.clone());
        }
    }

    /// Takes a new snapshot; a licence whose limits are the same keeps what it has used.
    pub(super) fn refresh(&self, mut snapshot: Snapshot) {
        let old = self.table.load();
        let limits = snapshot.licences().map(|licence| {
            let known = old.as_deref().and_then(|table| table.limits.get(&licence.id));
            (licence.id, limits(licence, &self.sharing, known))
        });
        let limits = limits.collect();
        if let Some(old) = old.as_deref() {
            snapshot.keep_use(&old.snapshot);
        }
        self.table.store(Some(Arc::new(LicenceTable { snapshot, limits })));
    }
}

/// A registry that goes back takes nothing back that was known.
pub(super) fn newer(snapshot: Snapshot, last: u64) -> Result<Snapshot, RegistryError> {
    if snapshot.revision() < last { Err(RegistryError::RevisionRegressed) } else { Ok(snapshot) }
}

/// Reads the licences again whenever they have changed, until `stop`: when the registry says so, and
/// `every` so often all the same; now and then all of them.
///
/// An unreadable registry leaves the last licences in force: availability goes before revocation
/// while the database is down, for a day.
pub async fn keep_fresh(
    authenticator: Arc<Authenticator>,
    registry: Arc<dyn TenantReader>,
    ledger: Arc<dyn KeyUseLedger>,
    every: Duration,
    stop: CancellationToken,
) {
    let mut whole_at = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
            () = registry.changed() => {}
        }
        let whole = whole_at.elapsed() >= RELOAD;
        let renewed = tokio::time::timeout(REGISTRY_TIMEOUT, authenticator.renew(&*registry, whole)).await;
        match renewed.unwrap_or(Err(RegistryError::Timeout)) {
            Ok(()) if whole => whole_at = Instant::now(),
            Ok(()) => {}
            Err(error) => {
                authenticator.fails.store(true, Ordering::Relaxed);
                metrics::counter!("licence_refresh_failures_total").increment(1);
                warn!(%error, "licences cannot be read; the last known ones stay in force");
            }
        }
        authenticator.note_use(&*ledger).await;
        let stale = authenticator.age() > STALE;
        metrics::gauge!("licences_stale").set(if stale { 1.0 } else { 0.0 });
    }
}
