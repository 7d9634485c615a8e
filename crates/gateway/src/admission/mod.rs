//! Authentication and authorisation of callers, over the licences in memory: who calls, may they, and how fast.

mod caller;
mod licences;
mod origin;
pub(crate) mod rate;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dispatch_stream::PeerDirectory;
use push_domain::{Clock, FailReason, LicenceId, Privacy, TenantId};
use tenant_registry::{DeviceKey, KeyUse, Keys, LicenceKey, LogKey, Refusal as KeyRefusal, Snapshot};
use tokio::time::Instant;

use self::origin::{Networks, SourceLimiter};
use self::rate::{Limits, RateSharing};
use crate::config::{Access, AdmissionConfig};
use crate::refusal::Refusal;
use crate::regions::Regions;

pub(crate) use self::caller::Caller;
pub use self::licences::keep_fresh;
pub(crate) use self::origin::RequestOrigin;

/// After so long without an answer from the registry, an unknown key may be a new one.
const UNCERTAIN_AFTER: Duration = Duration::from_secs(15);
/// After so long nobody may push any more.
const MAX_STALENESS: Duration = Duration::from_hours(24);

/// The licences in memory, and a limiter for each.
struct LicenceTable {
    snapshot: Snapshot,
    limits: HashMap<LicenceId, Limits>,
}

/// Authenticator of callers over the licence snapshot: asks no database.
pub struct Authenticator {
    admission: AdmissionConfig,
    sources: SourceLimiter,
    clock: Arc<dyn Clock>,
    keys: Keys,
    open: DeviceKey,
    table: ArcSwapOption<LicenceTable>,
    log_key: ArcSwapOption<LogKey>,
    made: Instant,
    /// When the licences were last read, in milliseconds after `made`.
    read_at: AtomicU64,
    /// Whether the last time came to nothing.
    fails: AtomicBool,
    sharing: RateSharing,
    /// Keys that were used for the first time today, and that the registry has not been told of.
    used: Mutex<Vec<KeyUse>>,
}

impl Authenticator {
    /// Makes one that knows no licence yet; see [`Authenticator::load`].
    #[must_use]
    pub fn new(admission: AdmissionConfig, keys: Keys, clock: Arc<dyn Clock>) -> Self {
        let open = keys.device_key(open_tenant(), &[0; 32]);
        Self {
            sources: SourceLimiter::new(&admission, &keys),
            admission,
            clock,
            keys,
            open,
            table: ArcSwapOption::empty(),
            log_key: ArcSwapOption::empty(),
            made: Instant::now(),
            read_at: AtomicU64::new(0),
            fails: AtomicBool::new(false),
            sharing: RateSharing { peers: None, gateways: Arc::new(AtomicU32::new(1)) },
            used: Mutex::default(),
        }
    }

    /// Shares each licence's rate with the other gateways, by way of the lanes.
    #[must_use]
    pub fn sharing(mut self, peers: Arc<PeerDirectory>) -> Self {
        self.sharing.peers = Some(peers);
        self
    }

    /// Says whether callers can be checked.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.admission.access == Access::Open || self.table.load().is_some()
    }

    /// Says who calls, or why that is nobody. Costs the caller nothing but, for a wrong key, its right to try more.
    pub(crate) fn admit(&self, origin: &RequestOrigin<'_>) -> Result<Caller, Refusal> {
        self.identify(origin).map_err(|reason| match reason {
            FailReason::WrongRegion => match self.right_region(origin) {
                Some(sentence) => Refusal::because(reason, sentence),
                None => Refusal::plain(reason),
            },
            FailReason::RateLimited => Refusal::because(reason, "too many wrong keys from this address"),
            reason => Refusal::plain(reason),
        })
    }

    /// Counts a push of a caller without a licence, and says whether one with a licence may come from this server.
    pub(crate) fn check(&self, caller: &Caller, server: &str) -> Result<(), Refusal> {
        let is_over =
            caller.tenant.is_unlicensed() && !self.sources.check_unlicensed(caller.networks, server);
        if is_over {
            let sentence = "more pushes than servers without a licence may send from one address";
            return Err(Refusal::because(FailReason::RateLimited, sentence));
        }
        if caller.allows_server(server) { Ok(()) } else { Err(Refusal::plain(FailReason::ServerNotBound)) }
    }

    fn identify(&self, origin: &RequestOrigin<'_>) -> Result<Caller, FailReason> {
        if self.admission.access == Access::Open {
            return Ok(self.without_licence(open_tenant()));
        }
        let Some(key) = origin.key else {
            return match self.admission.test_tier {
                Some(_) => {
                    let networks = self.sources.networks(origin);
                    Ok(Caller { networks, ..self.without_licence(networks.tenant()) })
                }
                None => Err(FailReason::LicenceMissing),
            };
        };
        if !self.sources.may_present_key(origin) {
            return Err(FailReason::LicenceNeedsTls);
        }
        let licensed = |key| self.licensed(key, origin.is_global);
        let caller = key.as_ref().map_err(|_| FailReason::LicenceUnknown).and_then(licensed);
        if matches!(caller, Err(FailReason::LicenceUnknown)) && !self.sources.check_wrong_key(origin) {
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

    fn licensed(&self, key: &LicenceKey, is_global: bool) -> Result<Caller, FailReason> {
        let table = self.table.load();
        let table = table.as_deref().ok_or(FailReason::Unavailable)?;
        let now = self.clock.now();
        let permit =
            table.snapshot.open(key, &self.admission.regions.own, now).map_err(|refusal| match refusal {
                // A region does not know the others' keys: where one would be known is all that can be said, of a forged one too.
                KeyRefusal::Unknown if self.admission.regions.other(key.region()).is_some() => {
                    FailReason::WrongRegion
                }
                // It may be newer than what is known.
                KeyRefusal::Unknown if self.is_unsure() => FailReason::Unavailable,
                KeyRefusal::Unknown => FailReason::LicenceUnknown,
                KeyRefusal::Inactive => FailReason::LicenceInactive,
                KeyRefusal::Expired => FailReason::LicenceExpired,
                KeyRefusal::Suspended => FailReason::LicenceSuspended,
                KeyRefusal::WrongRegion => FailReason::WrongRegion,
            })?;
        if self.age() > MAX_STALENESS {
            return Err(FailReason::Unavailable);
        }
        if is_global && !self.admission.regions.are_all(&permit.licence.terms.regions) {
            return Err(FailReason::WrongRegion);
        }
        if let Some(first) = permit.first_use {
            self.used().push(first);
        }
        let terms = &permit.licence.terms;
        Ok(Caller {
            tenant: permit.tenant,
            device_key: permit.device_key,
            weight: terms.plan.terms().weight,
            privacy: terms.privacy,
            grace: permit.grace,
            servers: permit.servers,
            limits: table.limits.get(&permit.licence.id).cloned(),
            networks: Networks::default(),
        })
    }

    /// Counts a receipt, which costs no push.
    pub(crate) fn admit_receipt(&self, caller: &Caller) -> Result<(), FailReason> {
        if caller.tenant.is_unlicensed() && !self.sources.check_receipt(caller.networks) {
            return Err(FailReason::RateLimited);
        }
        caller.take_receipt()
    }

    /// The regions of the service.
    pub(crate) const fn regions(&self) -> &Regions {
        &self.admission.regions
    }

    /// Says where a licence that does not hold here does hold; of a key that is not known here, where it says so itself.
    fn right_region(&self, origin: &RequestOrigin<'_>) -> Option<String> {
        let key = origin.key?.as_ref().ok()?;
        let (table, known) = (self.table.load(), &self.admission.regions);
        let Some(regions) = table.as_deref().and_then(|table| table.snapshot.regions(key)) else {
            let (region, url) = known.other(key.region())?;
            metrics::counter!("wrong_region_keys_total", "hinted" => region.to_owned()).increment(1);
            return Some(format!("this is a key of {region}: use {url} as the push URL"));
        };
        let names = regions.join(", ");
        Some(match regions.iter().find_map(|region| known.urls.get(region)) {
            Some(url) => format!("the licence holds in {names}: use {url} as the push URL"),
            None => format!("the licence holds in {names}, not here"),
        })
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
}

/// The tenant of everybody where no licence is asked.
const fn open_tenant() -> TenantId {
    TenantId::from_uuid(uuid::Uuid::nil())
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator")
            .field("access", &self.admission.access)
            .field("region", &self.admission.regions.own)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
