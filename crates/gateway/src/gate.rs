//! Who may push, and how fast.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use governor::DefaultDirectRateLimiter;
use push_domain::{Clock, FailReason, LicenceId, TenantId};
use tenant_registry::{
    DeviceKey, InvalidKey, Keys, LicenceKey, LogKey, Refusal, RegistryError, Snapshot, TenantReader,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Access;
use crate::limiter::{Limiter, weight};

/// All licences are read again after so long, whatever was told.
const RELOAD: Duration = Duration::from_mins(5);
/// After so long without an answer from the registry, an unknown key may be a new one.
const UNSURE: Duration = Duration::from_secs(15);
/// How long the registry may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// After so long the operator is told.
const STALE: Duration = Duration::from_mins(1);
/// After so long nobody may push any more.
const TOO_OLD: Duration = Duration::from_hours(24);

/// A caller that may push.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) tenant: TenantId,
    pub(crate) device_key: DeviceKey,
    /// How many turns it has for one of a test tenant while others wait.
    pub(crate) weight: u32,
    bucket: Option<Arc<DefaultDirectRateLimiter>>,
}

impl Caller {
    /// Counts a push against the licence's rate.
    pub(crate) fn take_rate(&self) -> Result<(), FailReason> {
        let over = self.bucket.as_ref().is_some_and(|bucket| bucket.check().is_err());
        if over { Err(FailReason::RateLimited) } else { Ok(()) }
    }
}

/// The licences in memory, and a limiter for each.
struct Doors {
    snapshot: Snapshot,
    limiters: HashMap<LicenceId, Limiter>,
}

/// Checks callers without asking a database.
pub struct Gate {
    access: Access,
    region: String,
    clock: Arc<dyn Clock>,
    keys: Keys,
    open: DeviceKey,
    doors: ArcSwapOption<Doors>,
    log_key: ArcSwapOption<LogKey>,
    made: Instant,
    /// When the licences were last read, in milliseconds after `made`.
    read_at: AtomicU64,
    /// Whether the last time came to nothing.
    fails: AtomicBool,
    gateways: AtomicU32,
}

impl Gate {
    /// Makes a gate that knows no licence yet; see [`Gate::load`].
    #[must_use]
    pub fn new(access: Access, region: String, keys: Keys, clock: Arc<dyn Clock>) -> Self {
        let open = keys.device_key(open_tenant(), &[0; 32]);
        Self {
            access,
            region,
            clock,
            keys,
            open,
            doors: ArcSwapOption::empty(),
            log_key: ArcSwapOption::empty(),
            made: Instant::now(),
            read_at: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            gateways: AtomicU32::new(1),
        }
    }

    /// Says whether callers can be checked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.access == Access::Open || self.doors.load().is_some()
    }

    /// Says who calls, or why that is nobody. Costs the caller nothing.
    pub(crate) fn identify(
        &self,
        key: Option<&Result<LicenceKey, InvalidKey>>,
    ) -> Result<Caller, FailReason> {
        if self.access == Access::Open {
            return Ok(Caller {
                tenant: open_tenant(),
                device_key: self.open.clone(),
                weight: 1,
                bucket: None,
            });
        }
        let key = key.ok_or(FailReason::LicenceMissing)?.as_ref().map_err(|_| FailReason::LicenceUnknown)?;
        let doors = self.doors.load();
        let doors = doors.as_deref().ok_or(FailReason::Unavailable)?;
        let permit =
            doors.snapshot.open(key, &self.region, self.clock.now()).map_err(|refusal| match refusal {
                // It may be newer than what is known.
                Refusal::Unknown if self.is_unsure() => FailReason::Unavailable,
                Refusal::Unknown => FailReason::LicenceUnknown,
                Refusal::Inactive => FailReason::LicenceInactive,
                Refusal::WrongRegion => FailReason::WrongRegion,
            })?;
        if self.age() > TOO_OLD {
            return Err(FailReason::Unavailable);
        }
        let bucket = doors.limiters.get(&permit.licence.id).map(|limit| Arc::clone(&limit.bucket));
        let weight = weight(permit.licence.terms.plan);
        Ok(Caller { tenant: permit.tenant, device_key: permit.device_key, weight, bucket })
    }

    /// Returns the key for device references in today's log lines.
    pub(crate) fn log_key(&self) -> Arc<LogKey> {
        let today = self.clock.now().day();
        if let Some(key) = self.log_key.load().as_ref().filter(|key| key.day() == today) {
            return Arc::clone(key);
        }
        let key = Arc::new(self.keys.log_key(today));
        self.log_key.store(Some(Arc::clone(&key)));
        key
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
        let known = self.doors.load_full().filter(|_| !whole);
        match known {
            None => self.refresh(registry.snapshot().await?),
            Some(doors) if registry.revision().await? == doors.snapshot.revision() => {}
            Some(doors) => {
                let changes = registry.changes_since(doors.snapshot.revision()).await?;
                info!(revision = changes.revision, "licences changed");
                self.refresh(doors.snapshot.clone().with(changes));
            }
        }
        let read_at = asked.duration_since(self.made).as_millis();
        self.read_at.store(u64::try_from(read_at).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// Returns for how long the licences could not be read.
    fn age(&self) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(self.read_at.load(Ordering::Relaxed)))
    }

    /// Says whether licences may exist that are not known here.
    fn is_unsure(&self) -> bool {
        self.fails.load(Ordering::Relaxed) || self.age() > UNSURE
    }

    /// Says how many gateways share each licence's rate.
    pub fn share_among(&self, gateways: u32) {
        if self.gateways.swap(gateways.max(1), Ordering::Relaxed) != gateways.max(1)
            && let Some(doors) = self.doors.load_full()
        {
            self.refresh(doors.snapshot.clone());
        }
    }

    /// Takes a new snapshot; a licence whose limits are the same keeps what it has used.
    fn refresh(&self, snapshot: Snapshot) {
        let old = self.doors.load();
        let gateways = self.gateways.load(Ordering::Relaxed);
        let limiters = snapshot.licences().map(|licence| {
            let known = old.as_deref().and_then(|doors| doors.limiters.get(&licence.id));
            (licence.id, Limiter::for_licence(licence, gateways, known))
        });
        let limiters = limiters.collect();
        self.doors.store(Some(Arc::new(Doors { snapshot, limiters })));
    }
}

/// The tenant of everybody where no licence is asked.
const fn open_tenant() -> TenantId {
    TenantId::from_uuid(uuid::Uuid::nil())
}

/// Reads the licences again whenever they have changed, until `stop`: when the registry says so, and
/// `every` so often all the same; now and then all of them.
///
/// An unreadable registry leaves the last licences in force: availability goes before revocation
/// while the database is down, for a day.
pub async fn keep_fresh(
    gate: Arc<Gate>,
    registry: Arc<dyn TenantReader>,
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
        let renewed = tokio::time::timeout(PATIENCE, gate.renew(&*registry, whole)).await;
        match renewed.unwrap_or(Err(RegistryError::Silent)) {
            Ok(()) if whole => whole_at = Instant::now(),
            Ok(()) => {}
            Err(error) => {
                gate.fails.store(true, Ordering::Relaxed);
                metrics::counter!("licence_refresh_failures_total").increment(1);
                warn!(%error, "licences cannot be read; the last known ones stay in force");
            }
        }
        let stale = gate.age() > STALE;
        metrics::gauge!("licences_stale").set(if stale { 1.0 } else { 0.0 });
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("access", &self.access)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use push_domain::{ManualClock, SecretBytes, Timestamp};
    use tenant_registry::{LicenceDraft, Plan, SqliteRegistry, TenantAdmin};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    struct Place {
        gate: Gate,
        registry: SqliteRegistry,
        clock: Arc<ManualClock>,
        _directory: tempfile::TempDir,
    }

    async fn a_place(access: Access) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let keys = Keys::derive(&SecretBytes::new(vec![1; 32]));
        let clock = Arc::new(ManualClock::starting_at(NOW));
        let registry = SqliteRegistry::open(&directory.path().join("r.db"), keys.clone()).await.unwrap();
        let gate = Gate::new(access, "us".into(), keys, clock.clone());
        Place { gate, registry, clock, _directory: directory }
    }

    impl Place {
        async fn a_key(&self, regions: &[&str], burst: u32) -> LicenceKey {
            let tenant = self.registry.create_tenant("acme", NOW).await.unwrap();
            let draft = LicenceDraft {
                tenant: tenant.id,
                plan: Plan::Professional,
                regions: regions.iter().map(ToString::to_string).collect(),
                rate_per_second: 1,
                burst,
                not_before: NOW,
                expires_at: Some(NOW.plus(Duration::from_mins(1))),
            };
            let licence = self.registry.create_licence(draft).await.unwrap();
            let issued = self.registry.issue_key(licence.id, "us", NOW).await.unwrap();
            self.gate.refresh(self.registry.snapshot().await.unwrap());
            issued.key
        }

        fn refusal(&self, key: &LicenceKey) -> Option<FailReason> {
            self.gate.identify(Some(&Ok(key.clone()))).and_then(|caller| caller.take_rate()).err()
        }
    }

    #[tokio::test]
    async fn an_open_gate_asks_for_nothing() {
        let place = a_place(Access::Open).await;

        assert!(place.gate.is_ready());
        assert!(place.gate.identify(None).is_ok());
    }

    #[tokio::test]
    async fn a_licensed_gate_says_what_is_wrong() {
        let place = a_place(Access::Licensed).await;
        let unknown = LicenceKey::generate("us");
        assert_eq!(place.refusal(&unknown), Some(FailReason::Unavailable));
        let key = place.a_key(&["us"], 10).await;

        assert_eq!(place.gate.identify(None).unwrap_err(), FailReason::LicenceMissing);
        assert_eq!(place.gate.identify(Some(&Err(InvalidKey))).unwrap_err(), FailReason::LicenceUnknown);
        assert_eq!(place.refusal(&unknown), Some(FailReason::LicenceUnknown));
        assert_eq!(place.refusal(&key), None);
        place.clock.advance(Duration::from_mins(1));
        assert_eq!(place.refusal(&key), Some(FailReason::LicenceInactive));
    }

    #[tokio::test]
    async fn a_licence_of_another_region_is_told_so() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["de"], 10).await;

        assert_eq!(place.refusal(&key), Some(FailReason::WrongRegion));
    }

    #[tokio::test]
    async fn a_rate_is_kept_when_the_licences_are_read_again() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["us"], 2).await;

        assert_eq!(place.refusal(&key), None);
        assert_eq!(place.refusal(&key), None);
        place.gate.refresh(place.registry.snapshot().await.unwrap());

        assert_eq!(place.refusal(&key), Some(FailReason::RateLimited));
    }

    #[tokio::test]
    async fn while_the_registry_is_silent_known_keys_hold_for_a_day_and_unknown_ones_may_be_new() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["us"], 10).await;
        let unknown = LicenceKey::generate("us");
        place.gate.load(&place.registry).await.unwrap();
        tokio::time::pause();

        tokio::time::advance(Duration::from_secs(16)).await;
        assert_eq!(place.refusal(&unknown), Some(FailReason::Unavailable));
        assert_eq!(place.refusal(&key), None);

        tokio::time::advance(Duration::from_hours(24)).await;
        assert_eq!(place.refusal(&key), Some(FailReason::Unavailable));
    }

    #[tokio::test]
    async fn gateways_share_a_rate() {
        let place = a_place(Access::Licensed).await;
        place.gate.share_among(2);
        let key = place.a_key(&["us"], 4).await;

        let answers = [(); 3].map(|()| place.refusal(&key));

        assert_eq!(answers, [None, None, Some(FailReason::RateLimited)]);
    }
}
