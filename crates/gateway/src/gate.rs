//! Who may push, and how fast.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dispatch_stream::Board;
use push_domain::{Clock, FailReason, LicenceId, TenantId};
use tenant_registry::{
    DeviceKey, InvalidKey, KeyUse, Keys, LicenceKey, LogKey, Privacy, Refusal, RegistryError, Snapshot,
    TenantReader,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::caller::{Caller, Limits};
use crate::entrance::{Approach, Networks, Sources};
use crate::limiter::{Sharing, limits, weight};
use crate::{Access, Entrance};

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

/// The licences in memory, and a limiter for each.
struct Doors {
    snapshot: Snapshot,
    limits: HashMap<LicenceId, Limits>,
}

/// Checks callers without asking a database.
pub struct Gate {
    entrance: Entrance,
    sources: Sources,
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
    sharing: Sharing,
    /// Keys that were used for the first time today, and that the registry has not been told of.
    used: Mutex<Vec<KeyUse>>,
}

impl Gate {
    /// Makes a gate that knows no licence yet; see [`Gate::load`].
    #[must_use]
    pub fn new(entrance: Entrance, keys: Keys, clock: Arc<dyn Clock>) -> Self {
        let open = keys.device_key(open_tenant(), &[0; 32]);
        Self {
            sources: Sources::new(&entrance, &keys),
            entrance,
            clock,
            keys,
            open,
            doors: ArcSwapOption::empty(),
            log_key: ArcSwapOption::empty(),
            made: Instant::now(),
            read_at: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            sharing: Sharing { board: None, gateways: Arc::new(AtomicU32::new(1)) },
            used: Mutex::default(),
        }
    }

    /// Shares each licence's rate with the other gateways, by way of the lanes.
    #[must_use]
    pub fn sharing(mut self, board: Arc<Board>) -> Self {
        self.sharing.board = Some(board);
        self
    }

    /// Says whether callers can be checked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.entrance.access == Access::Open || self.doors.load().is_some()
    }

    /// Says who calls, or why that is nobody. Costs the caller nothing but, for a wrong key, its right to try more.
    pub(crate) fn identify(&self, approach: &Approach<'_>) -> Result<Caller, FailReason> {
        if self.entrance.access == Access::Open {
            return Ok(self.without_licence(open_tenant()));
        }
        let Some(key) = approach.key else {
            return match self.entrance.test_tier {
                Some(_) => {
                    let networks = self.sources.networks(approach);
                    Ok(Caller { networks, ..self.without_licence(networks.tenant()) })
                }
                None => Err(FailReason::LicenceMissing),
            };
        };
        if !self.sources.may_bring_a_key(approach) {
            return Err(FailReason::LicenceNeedsTls);
        }
        let caller = key.as_ref().map_err(|_| FailReason::LicenceUnknown).and_then(|key| self.licensed(key));
        if matches!(caller, Err(FailReason::LicenceUnknown)) && !self.sources.may_fail(approach) {
            metrics::counter!("wrong_keys_limited_total").increment(1);
            return Err(FailReason::RateLimited);
        }
        caller
    }

    /// Everybody where no licence is asked, or a source of the test tier.
    fn without_licence(&self, tenant: TenantId) -> Caller {
        Caller {
            tenant,
            device_key: self.open.clone(),
            weight: 1,
            privacy: Privacy::Full,
            grace: None,
            servers: None,
            limits: None,
            networks: Networks::default(),
        }
    }

    fn licensed(&self, key: &LicenceKey) -> Result<Caller, FailReason> {
        let doors = self.doors.load();
        let doors = doors.as_deref().ok_or(FailReason::Unavailable)?;
        let now = self.clock.now();
        let permit =
            doors.snapshot.open(key, &self.entrance.region, now).map_err(|refusal| match refusal {
                // It may be newer than what is known.
                Refusal::Unknown if self.is_unsure() => FailReason::Unavailable,
                Refusal::Unknown => FailReason::LicenceUnknown,
                Refusal::Inactive => FailReason::LicenceInactive,
                Refusal::Expired => FailReason::LicenceExpired,
                Refusal::Suspended => FailReason::LicenceSuspended,
                Refusal::WrongRegion => FailReason::WrongRegion,
            })?;
        if self.age() > TOO_OLD {
            return Err(FailReason::Unavailable);
        }
        if let Some(first) = permit.first_use {
            self.used().push(first);
        }
        let terms = &permit.licence.terms;
        Ok(Caller {
            tenant: permit.tenant,
            device_key: permit.device_key,
            weight: weight(terms.plan),
            privacy: terms.privacy,
            grace: permit.grace,
            servers: permit.servers,
            limits: doors.limits.get(&permit.licence.id).cloned(),
            networks: Networks::default(),
        })
    }

    /// Counts a push of a caller without a licence.
    pub(crate) fn admit(&self, caller: &Caller, server: &str) -> Result<(), FailReason> {
        let over = caller.tenant.is_unlicensed() && !self.sources.lets_unlicensed(caller.networks, server);
        if over { Err(FailReason::RateLimited) } else { Ok(()) }
    }

    /// Counts a receipt, which costs no push.
    pub(crate) fn admit_receipt(&self, caller: &Caller) -> Result<(), FailReason> {
        if caller.tenant.is_unlicensed() && !self.sources.lets_receipt(caller.networks) {
            return Err(FailReason::RateLimited);
        }
        caller.take_receipt()
    }

    /// Says where a licence that does not hold here does hold.
    pub(crate) fn right_region(&self, key: Option<&Result<LicenceKey, InvalidKey>>) -> Option<String> {
        let key = key?.as_ref().ok()?;
        let doors = self.doors.load();
        let regions = doors.as_deref()?.snapshot.regions(key)?;
        let url = regions.iter().find_map(|region| self.entrance.region_urls.get(region));
        let names = regions.join(", ");
        Some(match url {
            Some(url) => format!("the licence holds in {names}: use {url} as the push URL"),
            None => format!("the licence holds in {names}, not here"),
        })
    }

    fn used(&self) -> MutexGuard<'_, Vec<KeyUse>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the registry which keys are in use.
    async fn note_use(&self, registry: &dyn TenantReader) {
        let used = std::mem::take(&mut *self.used());
        if used.is_empty() {
            return;
        }
        if let Err(error) = registry.note_use(&used, self.clock.now().day()).await {
            warn!(%error, "the days on which licence keys were used are not noted; they will be tried again");
            self.used().extend(used);
        }
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
        let known = self.doors.load_full();
        let last = known.as_ref().map_or(0, |doors| doors.snapshot.revision());
        match known.filter(|_| !whole) {
            None => self.refresh(newer(registry.snapshot().await?, last)?),
            Some(_) if registry.revision().await? == last => {}
            Some(doors) => {
                let changes = registry.changes_since(last).await?;
                info!(revision = changes.revision, "licences changed");
                let snapshot = if doors.snapshot.explains(&changes) {
                    doors.snapshot.clone().with(changes)
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
    fn age(&self) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(self.read_at.load(Ordering::Relaxed)))
    }

    /// Says whether licences may exist that are not known here.
    fn is_unsure(&self) -> bool {
        self.fails.load(Ordering::Relaxed) || self.age() > UNSURE
    }

    /// Says how many gateways share each licence's limits.
    pub fn share_among(&self, gateways: u32) {
        if self.sharing.gateways.swap(gateways.max(1), Ordering::Relaxed) != gateways.max(1)
            && let Some(doors) = self.doors.load_full()
        {
            self.refresh(doors.snapshot.clone());
        }
    }

    /// Takes a new snapshot; a licence whose limits are the same keeps what it has used.
    fn refresh(&self, mut snapshot: Snapshot) {
        let old = self.doors.load();
        let limits = snapshot.licences().map(|licence| {
            let known = old.as_deref().and_then(|doors| doors.limits.get(&licence.id));
            (licence.id, limits(licence, &self.sharing, known))
        });
        let limits = limits.collect();
        if let Some(old) = old.as_deref() {
            snapshot.keep_use(&old.snapshot);
        }
        self.doors.store(Some(Arc::new(Doors { snapshot, limits })));
    }
}

/// The tenant of everybody where no licence is asked.
const fn open_tenant() -> TenantId {
    TenantId::from_uuid(uuid::Uuid::nil())
}

/// A registry that goes back takes nothing back that was known.
fn newer(snapshot: Snapshot, last: u64) -> Result<Snapshot, RegistryError> {
    if snapshot.revision() < last { Err(RegistryError::WentBack) } else { Ok(snapshot) }
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
        gate.note_use(&*registry).await;
        let stale = gate.age() > STALE;
        metrics::gauge!("licences_stale").set(if stale { 1.0 } else { 0.0 });
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("access", &self.entrance.access)
            .field("region", &self.entrance.region)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_edge::Peer;
    use push_domain::{ManualClock, SecretBytes, Timestamp};
    use tenant_registry::{Act, LicenceAdmin, LicenceDraft, Plan, SqliteRegistry, TenantAdmin, TenantDraft};

    use super::*;
    use crate::TestTier;

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
        let gate = Gate::new(Entrance::new(access, "us"), keys, clock.clone());
        Place { gate, registry, clock, _directory: directory }
    }

    impl Place {
        async fn a_key(&self, regions: &[&str], burst: u32) -> LicenceKey {
            let act = Act::new("test", NOW);
            let tenant = self.registry.create_tenant(&TenantDraft::named("acme"), act).await.unwrap();
            let draft = LicenceDraft {
                regions: regions.iter().map(ToString::to_string).collect(),
                rate_per_second: 1,
                burst,
                in_flight: 2,
                expires_at: Some(NOW.plus(Duration::from_mins(1))),
                grace_days: 1,
                ..LicenceDraft::new(tenant.id, Plan::Professional, "us", NOW)
            };
            let licence = self.registry.create_licence(draft, act).await.unwrap();
            self.registry.accept_terms(licence.id, "1", "ada", act).await.unwrap();
            let issued = self.registry.issue_key(licence.id, "us", Duration::ZERO, act).await.unwrap();
            self.gate.refresh(self.registry.snapshot().await.unwrap());
            issued.key
        }

        fn caller(&self, key: Option<&Result<LicenceKey, InvalidKey>>) -> Result<Caller, FailReason> {
            self.gate.identify(&Approach { key, peer: None, headers: &HeaderMap::new() })
        }

        fn caller_from(&self, address: &str, is_tls: bool, key: &LicenceKey) -> Result<Caller, FailReason> {
            let peer = Some(Peer { address: address.parse().unwrap(), is_tls });
            self.gate.identify(&Approach { key: Some(&Ok(key.clone())), peer, headers: &HeaderMap::new() })
        }

        async fn refusal(&self, key: &LicenceKey) -> Option<FailReason> {
            match self.caller(Some(&Ok(key.clone()))) {
                Ok(caller) => caller.take_rate().await.err(),
                Err(reason) => Some(reason),
            }
        }
    }

    #[tokio::test]
    async fn a_registry_that_went_back_takes_nothing_back() {
        let place = a_place(Access::Licensed).await;
        let (empty, key) = (place.registry.snapshot().await.unwrap(), place.a_key(&["us"], 10).await);
        let known = place.registry.revision().await.unwrap();

        assert!(matches!(newer(empty, known), Err(RegistryError::WentBack)));
        place.gate.load(&place.registry).await.unwrap();
        assert_eq!(place.refusal(&key).await, None);
    }

    #[tokio::test]
    async fn an_open_gate_asks_for_nothing() {
        let place = a_place(Access::Open).await;

        assert!(place.gate.is_ready());
        assert!(place.caller(None).is_ok());
    }

    #[tokio::test]
    async fn a_licensed_gate_says_what_is_wrong() {
        let place = a_place(Access::Licensed).await;
        let unknown = LicenceKey::generate("us");
        assert_eq!(place.refusal(&unknown).await, Some(FailReason::Unavailable));
        let key = place.a_key(&["us"], 10).await;

        assert_eq!(place.caller(None).unwrap_err(), FailReason::LicenceMissing);
        assert_eq!(place.caller(Some(&Err(InvalidKey))).unwrap_err(), FailReason::LicenceUnknown);
        assert_eq!(place.refusal(&unknown).await, Some(FailReason::LicenceUnknown));
        assert_eq!(place.refusal(&key).await, None);
        place.clock.advance(Duration::from_mins(1));
        assert_eq!(place.refusal(&key).await, None, "in its grace");
        assert!(place.caller(Some(&Ok(key.clone()))).unwrap().grace.is_some());
        place.clock.advance(Duration::from_hours(24));
        assert_eq!(place.refusal(&key).await, Some(FailReason::LicenceExpired));
    }

    #[tokio::test]
    async fn a_key_in_the_clear_is_refused_unless_a_trusted_proxy_brings_it() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["us"], 10).await;

        for (address, is_tls, refused) in
            [("192.0.2.1", false, true), ("192.0.2.1", true, false), ("127.0.0.1", false, false)]
        {
            let refusal = place.caller_from(address, is_tls, &key).err();
            assert_eq!(refusal, refused.then_some(FailReason::LicenceNeedsTls), "{address}");
        }
    }

    #[tokio::test]
    async fn wrong_keys_are_limited_by_their_source_and_right_ones_are_not() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["us"], 1000).await;
        tokio::time::pause();

        let wrong = |address| place.caller_from(address, true, &LicenceKey::generate("us")).unwrap_err();
        let told = (0..40).filter(|_| wrong("192.0.2.1") == FailReason::LicenceUnknown).count();

        assert_eq!(told, 20);
        assert_eq!(wrong("192.0.2.1"), FailReason::RateLimited);
        assert_eq!(wrong("192.0.2.2"), FailReason::LicenceUnknown);
        assert!(place.caller_from("192.0.2.1", true, &key).is_ok());
    }

    #[tokio::test]
    async fn no_more_pushes_are_under_way_than_a_licence_allows() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["us"], 10).await;
        let caller = || place.caller(Some(&Ok(key.clone()))).unwrap();

        let first = caller().enter().unwrap();
        let _second = caller().enter().unwrap();
        place.gate.refresh(place.registry.snapshot().await.unwrap());
        assert_eq!(caller().enter().unwrap_err(), FailReason::RateLimited);

        drop(first);
        assert!(caller().enter().is_ok());
    }

    #[tokio::test]
    async fn a_source_without_a_licence_has_a_rate_of_its_own_where_there_is_a_test_tier() {
        let mut place = a_place(Access::Licensed).await;
        let test_tier = Some(TestTier { rate_per_second: 1, burst: 3 });
        let entrance = Entrance { test_tier, ..Entrance::new(Access::Licensed, "us") };
        let keys = Keys::derive(&SecretBytes::new(vec![1; 32]));
        place.gate = Gate::new(entrance, keys, place.clock.clone());
        tokio::time::pause();
        let push = |address: &str, server: &str| {
            let peer = Some(Peer { address: address.parse().unwrap(), is_tls: false });
            let approach = Approach { key: None, peer, headers: &HeaderMap::new() };
            place.gate.admit(&place.gate.identify(&approach).unwrap(), server)
        };

        let sent = (0..9).filter(|number| push("192.0.2.1", &format!("server{number}")).is_ok()).count();

        assert_eq!(sent, 3, "a new server id helps nobody");
        assert!(push("192.0.2.2", "server0").is_ok());
        assert!(push("2001:db8::1", "a").is_ok() && push("2001:db8::2", "a").is_ok());
        assert!(push("2001:db8::3", "b").is_ok() && push("2001:db8::4", "c").is_err(), "one site");
    }

    #[tokio::test]
    async fn the_first_use_of_a_day_is_noted() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["us"], 10).await;
        assert_eq!(place.refusal(&key).await, None);
        assert_eq!(place.refusal(&key).await, None);
        place.gate.refresh(place.registry.snapshot().await.unwrap());
        assert_eq!(place.refusal(&key).await, None);

        assert!(place.gate.used().iter().map(|it| &*it.kid).eq([key.kid()]));
        place.gate.note_use(&place.registry).await;

        assert!(place.gate.used().is_empty());
        let licence = place.registry.licence_of_key(key.kid()).await.unwrap().unwrap();
        let keys = place.registry.keys_of(licence).await.unwrap();
        assert_eq!(keys[0].last_used_day, Some(NOW.day()));
    }

    #[tokio::test]
    async fn a_licence_of_another_region_is_told_so() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["de"], 10).await;

        assert_eq!(place.refusal(&key).await, Some(FailReason::WrongRegion));
    }

    #[tokio::test]
    async fn a_rate_is_kept_when_the_licences_are_read_again() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["us"], 2).await;

        assert_eq!(place.refusal(&key).await, None);
        assert_eq!(place.refusal(&key).await, None);
        place.gate.refresh(place.registry.snapshot().await.unwrap());

        assert_eq!(place.refusal(&key).await, Some(FailReason::RateLimited));
    }

    #[tokio::test]
    async fn while_the_registry_is_silent_known_keys_hold_for_a_day_and_unknown_ones_may_be_new() {
        let place = a_place(Access::Licensed).await;
        let key = place.a_key(&["us"], 10).await;
        let unknown = LicenceKey::generate("us");
        place.gate.load(&place.registry).await.unwrap();
        tokio::time::pause();

        tokio::time::advance(Duration::from_secs(16)).await;
        assert_eq!(place.refusal(&unknown).await, Some(FailReason::Unavailable));
        assert_eq!(place.refusal(&key).await, None);

        tokio::time::advance(Duration::from_hours(24)).await;
        assert_eq!(place.refusal(&key).await, Some(FailReason::Unavailable));
    }

    #[tokio::test]
    async fn gateways_share_a_rate() {
        let place = a_place(Access::Licensed).await;
        place.gate.share_among(2);
        let key = place.a_key(&["us"], 4).await;

        let answers = [place.refusal(&key).await, place.refusal(&key).await, place.refusal(&key).await];

        assert_eq!(answers, [None, None, Some(FailReason::RateLimited)]);
    }
}
