//! Gateway state, shared by the serving threads, and its assembly.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use dispatch_stream::{AppQueueState, Summary, TenantState};
use http_edge::KeyedRateLimiter;
use push_domain::{AppCatalogue, AppId, Clock, TenantId};

use crate::admission::Authenticator;
use crate::config::Config;
use crate::fair::{FairQueue, Share};
use crate::ledger::Ledger;
use crate::outage::Outages;
use crate::push_log::PushLog;
use crate::receipts::Receipts;
use crate::refusal_log::RefusalLogLimiter;
use crate::usage::Usage;

/// How many devices are, so that none gets too many pushes.
const REMEMBERED_DEVICES: usize = 262_144;
/// How many tenants are told of.
const BUSIEST: usize = 100;

/// What `/version` says.
#[derive(Debug, Clone)]
pub struct Version {
    /// The commit.
    pub hash: String,
    /// The release.
    pub version: String,
}

/// Dependencies of a gateway.
#[derive(Debug)]
pub struct Parts {
    /// Its settings.
    pub config: Config,
    /// Who may push.
    pub authenticator: Arc<Authenticator>,
    /// To which apps.
    pub apps: Arc<AppCatalogue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What `/version` says.
    pub version: Version,
    /// Where what became of pushes is counted.
    pub ledger: Arc<Ledger>,
}

/// The gateway of one process: shared by its serving threads, each of which has its own way to the workers.
pub struct Gateway {
    pub(crate) config: Config,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) apps: Arc<AppCatalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) version: Version,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) receipts: Receipts,
    pub(crate) log: Arc<PushLog>,
    pub(crate) devices: KeyedRateLimiter,
    pub(crate) outages: Arc<Outages>,
    pub(crate) share: Share,
    /// What its serving threads have.
    pub(crate) threads: Mutex<Vec<Thread>>,
}

/// Handles to one serving thread's queue and usage; gone when the thread is.
pub(crate) struct Thread {
    pub(crate) queue: Weak<FairQueue>,
    pub(crate) usage: Weak<Usage>,
}

/// Report of a gateway's load: its queues and busiest tenants.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// What waits for each app.
    pub lines: BTreeMap<String, AppQueueState>,
    /// The tenants that it is busiest with.
    pub tenants: Vec<TenantState>,
}

impl Gateway {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { config, authenticator, apps, clock, version, ledger } = parts;
        let devices = KeyedRateLimiter::per_second(
            config.device_rate_per_second,
            config.device_burst,
            REMEMBERED_DEVICES,
        );
        let (receipts, refusals) = (Receipts::default(), Arc::new(RefusalLogLimiter::new()));
        let log = Arc::new(PushLog::new(Arc::clone(&authenticator), refusals));
        let outages = Arc::default();
        let (share, threads) = (Share::default(), Mutex::default());
        Arc::new(Self {
            config,
            authenticator,
            apps,
            clock,
            version,
            ledger,
            receipts,
            log,
            devices,
            outages,
            share,
            threads,
        })
    }

    /// Says what it has to do at the moment, and for whom: the busiest tenants only.
    #[must_use]
    pub fn load(&self) -> LoadReport {
        let (mut lines, mut under_way) = (BTreeMap::<String, AppQueueState>::new(), HashMap::new());
        let mut answers = HashMap::new();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| {
            let (Some(queue), Some(usage)) = (thread.queue.upgrade(), thread.usage.upgrade()) else {
                return false;
            };
            queue.add_to(&mut lines, &mut under_way);
            usage.add_to(&mut answers);
            true
        });
        drop(threads);
        let busy = |answers: &BTreeMap<&'static str, u64>| answers.values().sum::<u64>();
        for tenant in under_way.keys() {
            answers.entry(*tenant).or_default();
        }
        let mut tenants: Vec<_> = answers.into_iter().collect();
        tenants.sort_by_key(|(tenant, answers)| {
            std::cmp::Reverse((under_way.get(tenant).copied().unwrap_or_default(), busy(answers)))
        });
        tenants.truncate(BUSIEST);
        let state = |(tenant, answers): (TenantId, BTreeMap<&'static str, u64>)| TenantState {
            tenant: tenant.to_string(),
            under_way: under_way.get(&tenant).copied().unwrap_or_default(),
            answers: answers.into_iter().map(|(label, count)| (label.to_owned(), count)).collect(),
        };
        LoadReport { lines, tenants: tenants.into_iter().map(state).collect() }
    }

    /// Returns where what became of pushes is counted.
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// Acts on what all processes of the region told: how many gateways share what there is, and which apps' providers are
    /// out of order.
    pub fn apply_summary(&self, summary: &Summary) {
        self.authenticator.share_among(summary.gateways.max(1));
        self.share.set(summary.share);
        self.outages.set(summary.broken.iter().map(|name| AppId::new(name)).collect());
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("authenticator", &self.authenticator).finish_non_exhaustive()
    }
}
