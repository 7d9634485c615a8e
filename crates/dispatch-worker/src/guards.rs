//! Registry of app guards, shared by all workers of a process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dispatch_stream::{AppState, PeerDirectory};
use push_domain::{App, AppId, Notification, Timestamp};
use tracing::info;

use crate::app_guard::{AppGuard, Guard};
use crate::proof::CredentialProofs;
use crate::rate_limiter::ProviderRateLimiter;

const PUBLISH: Duration = Duration::from_millis(500);

/// Rate limit of one provider credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// Names the credential; apps under one name share its pace, the slowest that any of them asks for.
    pub credential: String,
    /// Pushes a second; 0 stands for no limit.
    pub per_second: u32,
}

/// The guards of all apps, for every worker of a process. Cheap to clone; all clones are one set.
///
/// An app has a guard from its first push on: one that is not used costs nothing.
#[derive(Debug, Clone)]
pub struct Guards(Arc<Shared>);

/// Says how fast pushes of an app may leave.
type Limits = Box<dyn Fn(&AppId) -> RateLimit + Send + Sync>;

struct Shared {
    apps: ArcSwap<HashMap<AppId, Arc<AppGuard>>>,
    paces: Mutex<HashMap<String, Arc<ProviderRateLimiter>>>,
    limit: Limits,
    proofs: Arc<dyn CredentialProofs>,
    max_waiting: usize,
    peers: Option<Arc<PeerDirectory>>,
    /// How many processes deliver.
    workers: AtomicU32,
}

impl Guards {
    /// Makes the guards. `limit` says how fast an app's pushes may leave; at most `max_waiting` pushes wait for the pace
    /// of one credential. With a board, all processes keep to one pace.
    #[must_use]
    pub fn new(
        limit: impl Fn(&AppId) -> RateLimit + Send + Sync + 'static,
        proofs: Arc<dyn CredentialProofs>,
        max_waiting: usize,
        peers: Option<&Arc<PeerDirectory>>,
    ) -> Self {
        Self(Arc::new(Shared {
            apps: ArcSwap::default(),
            paces: Mutex::default(),
            limit: Box::new(limit),
            proofs,
            max_waiting,
            peers: peers.cloned(),
            workers: AtomicU32::new(1),
        }))
    }

    /// Returns what guards a push.
    pub(crate) fn of(&self, push: &Notification) -> Guard {
        Guard::new(self.of_app(&push.app), push)
    }

    /// Returns an app's guard; makes it at the app's first push.
    fn of_app(&self, app: &App) -> Arc<AppGuard> {
        if let Some(guard) = self.known(&app.id) {
            return guard;
        }
        let made = Arc::new(AppGuard::new(app, self.0.pace_of(&app.id), Arc::clone(&self.0.proofs)));
        self.0.apps.rcu(|apps| {
            let mut apps = HashMap::clone(apps);
            apps.entry(app.id.clone()).or_insert_with(|| Arc::clone(&made));
            apps
        });
        self.known(&app.id).unwrap_or(made)
    }

    fn known(&self, app: &AppId) -> Option<Arc<AppGuard>> {
        self.0.apps.load().get(app).cloned()
    }

    /// Forgets what was held against an app: it has new credentials.
    pub fn renew(&self, app: &AppId) {
        if self.known(app).is_some_and(|guard| guard.renew()) {
            info!(%app, "an app is released: it has new credentials");
        }
    }

    /// Forgets an app that is gone.
    pub fn forget(&self, app: &AppId) {
        self.0.apps.rcu(|apps| {
            let mut apps = HashMap::clone(apps);
            apps.remove(app);
            apps
        });
    }

    /// Says how this process finds the apps that it has pushed to; only those that are out of order, or all with
    /// `details`. Of their credentials it knows nothing.
    #[must_use]
    pub fn states(&self, now: Timestamp, details: bool) -> BTreeMap<String, AppState> {
        let apps = self.0.apps.load();
        let told = apps.iter().filter(|(_, guard)| details || !guard.is_well());
        told.map(|(app, guard)| (app.to_string(), guard.state(now))).collect()
    }

    /// Tells the other processes what this one has seen of apps that have news, and hears what they have: a mistake
    /// of ours must not cost devices because each of many workers has seen too little of it.
    pub async fn exchange_evidence(&self, peers: &PeerDirectory) {
        let apps = self.0.apps.load_full();
        let (news, hears): (Vec<_>, Vec<_>) = apps.values().flat_map(AppGuard::take_unreported).unzip();
        if news.is_empty() {
            return;
        }
        for (hear, heard) in hears.into_iter().zip(peers.exchange(&news).await) {
            if let Some(heard) = heard {
                hear.take(&heard);
            }
        }
    }

    /// Says how many processes deliver: what nobody can lease, each takes its share of.
    pub fn share_among(&self, workers: u32) {
        if self.0.workers.swap(workers, Ordering::Relaxed) != workers {
            for pace in self.0.paces().values() {
                pace.share_among(workers);
            }
        }
    }

    /// Shows the state of all apps in the metrics, twice a second and for ever.
    pub async fn keep_published(self) {
        loop {
            for guard in self.0.apps.load().values() {
                guard.publish();
            }
            tokio::time::sleep(PUBLISH).await;
        }
    }
}

impl Shared {
    fn paces(&self) -> MutexGuard<'_, HashMap<String, Arc<ProviderRateLimiter>>> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace_of(&self, app: &AppId) -> Arc<ProviderRateLimiter> {
        let RateLimit { credential, per_second } = (self.limit)(app);
        let mut paces = self.paces();
        let pace = paces.entry(credential).or_insert_with_key(|credential| {
            let pace = match &self.peers {
                Some(peers) => {
                    ProviderRateLimiter::shared(per_second, self.max_waiting, credential, Arc::clone(peers))
                }
                None => ProviderRateLimiter::new(per_second, self.max_waiting),
            };
            pace.share_among(self.workers.load(Ordering::Relaxed));
            Arc::new(pace)
        });
        Arc::clone(pace)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("apps", &self.apps.load().len()).finish_non_exhaustive()
    }
}
