//! What all workers of a process know of an app, and what they may do by it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use dispatch_stream::{AppState, Board, Evidence};
use metrics::Gauge;
use push_domain::{App, AppId, DeviceId, Outcome, Provider, Reason, RetryScope, TenantId, Timestamp};
use tracing::{error, info, warn};

use crate::breaker::Breaker;
use crate::circuit::Passage;
use crate::hold::{Change, Hold};
use crate::isolation::Isolation;
use crate::pace::Pace;
use crate::removals::RemovalGuard;

/// How fast pushes may leave under which credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PaceLimit {
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
type Limits = Box<dyn Fn(&AppId) -> PaceLimit + Send + Sync>;

struct Shared {
    apps: ArcSwap<HashMap<AppId, Arc<AppGuard>>>,
    paces: Mutex<HashMap<String, Arc<Pace>>>,
    limit: Limits,
    proofs: Arc<dyn Proofs>,
    max_waiting: usize,
    board: Option<Arc<Board>>,
    /// How many processes deliver.
    workers: AtomicU32,
}

/// Remembers, beyond the life of a process, under which credentials a provider has accepted pushes to an app.
pub trait Proofs: Send + Sync {
    /// Says whether a push was ever accepted under the app's present credentials.
    fn is_proven(&self, app: &AppId) -> bool;

    /// Notes that one was.
    fn prove(&self, app: &AppId);
}

/// What is known of one app.
pub(crate) struct AppGuard {
    app: AppId,
    proofs: Arc<dyn Proofs>,
    /// Whether the present credentials are proven: before, a token that Apple calls bad may be one of another
    /// environment.
    is_proven: AtomicBool,
    needs_proof: bool,
    pub(crate) removals: RemovalGuard,
    isolation: Isolation,
    breaker: Breaker,
    hold: Hold,
    pub(crate) pace: Arc<Pace>,
    gauges: Gauges,
}

#[derive(Debug)]
struct Gauges {
    breaker_open: Gauge,
    held: Gauge,
    removals_doubted: Gauge,
    tenants_isolated: Gauge,
    paused: Gauge,
}

/// Why no attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Barred {
    /// The provider refuses the app.
    Held,
    /// The provider is out of order.
    Broken,
}

/// The right to make one attempt; its outcome has to be told to it.
#[derive(Debug)]
pub(crate) struct Admission<'a> {
    /// Whether the tenant's pushes travel by themselves.
    pub(crate) isolate: bool,
    guard: &'a AppGuard,
    breaker: Passage<'a>,
    hold: Passage<'a>,
}

impl Guards {
    /// Makes the guards. `limit` says how fast an app's pushes may leave; at most `max_waiting` pushes wait for the pace
    /// of one credential. With a board, all processes keep to one pace.
    #[must_use]
    pub fn new(
        limit: impl Fn(&AppId) -> PaceLimit + Send + Sync + 'static,
        proofs: Arc<dyn Proofs>,
        max_waiting: usize,
        board: Option<&Arc<Board>>,
    ) -> Self {
        Self(Arc::new(Shared {
            apps: ArcSwap::default(),
            paces: Mutex::default(),
            limit: Box::new(limit),
            proofs,
            max_waiting,
            board: board.cloned(),
            workers: AtomicU32::new(1),
        }))
    }

    /// Returns an app's guard; makes it at the app's first push.
    pub(crate) fn of(&self, app: &App) -> Arc<AppGuard> {
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
        let Some(guard) = self.known(app) else { return };
        if guard.hold.release() {
            info!(%app, "an app is released: it has new credentials");
        }
        guard.removals.reset();
        guard.is_proven.store(guard.proofs.is_proven(app), Ordering::Relaxed);
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
        let state = |guard: &AppGuard| AppState {
            is_broken: !guard.breaker.circuit.is_open(),
            is_held: !guard.hold.circuit.is_open(),
            last_accepted_ms: guard.removals.accepted_ago().map_or(0, |ago| now.before(ago).millis()),
            ..AppState::default()
        };
        told.map(|(app, guard)| (app.to_string(), state(guard))).collect()
    }

    /// Tells the other processes what this one has seen of apps that have news, and hears what they have: a mistake
    /// of ours must not cost devices because each of many workers has seen too little of it.
    pub async fn confer(&self, board: &Board) {
        let apps = self.0.apps.load_full();
        let (guards, news): (Vec<_>, Vec<_>) =
            apps.values().filter_map(|guard| Some((guard, (guard.app.clone(), guard.news()?)))).unzip();
        if news.is_empty() {
            return;
        }
        for (guard, heard) in guards.into_iter().zip(board.exchange(&news).await) {
            if let Some(heard) = heard {
                guard.hear(&heard);
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

    /// Shows the state of all apps in the metrics.
    pub fn publish(&self) {
        for guard in self.0.apps.load().values() {
            guard.publish();
        }
    }
}

impl Shared {
    fn paces(&self) -> MutexGuard<'_, HashMap<String, Arc<Pace>>> {
        self.paces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pace_of(&self, app: &AppId) -> Arc<Pace> {
        let PaceLimit { credential, per_second } = (self.limit)(app);
        let mut paces = self.paces();
        let pace = paces.entry(credential).or_insert_with_key(|credential| {
            let pace = match &self.board {
                Some(board) => Pace::shared(per_second, self.max_waiting, credential, Arc::clone(board)),
                None => Pace::new(per_second, self.max_waiting),
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

impl AppGuard {
    fn new(app: &App, pace: Arc<Pace>, proofs: Arc<dyn Proofs>) -> Self {
        let name = app.id.to_string();
        let gauges = Gauges {
            breaker_open: metrics::gauge!("provider_breaker_open", "app" => name.clone()),
            held: metrics::gauge!("app_held", "app" => name.clone()),
            removals_doubted: metrics::gauge!("app_removals_doubted", "app" => name.clone()),
            tenants_isolated: metrics::gauge!("app_tenants_isolated", "app" => name.clone()),
            paused: metrics::gauge!("app_paused", "app" => name),
        };
        Self {
            app: app.id.clone(),
            is_proven: AtomicBool::new(proofs.is_proven(&app.id)),
            needs_proof: app.provider == Provider::Apns,
            proofs,
            removals: RemovalGuard::new(app.provider),
            isolation: Isolation::default(),
            breaker: Breaker::new(),
            hold: Hold::new(),
            pace,
            gauges,
        }
    }

    /// Notes a push that the provider took: the app works, and so do its credentials.
    pub(crate) fn accepted(&self) {
        self.removals.accepted();
        if !self.is_proven.load(Ordering::Relaxed) && !self.is_proven.swap(true, Ordering::Relaxed) {
            self.proofs.prove(&self.app);
        }
    }

    /// Says whether a device may be called dead that the provider calls bad: not before it has accepted anything
    /// under these credentials, which may be another environment's.
    pub(crate) fn may_remove(&self, device: DeviceId) -> bool {
        let is_proven = !self.needs_proof || self.is_proven.load(Ordering::Relaxed) || {
            // Another process may have proven them.
            let known = self.proofs.is_proven(&self.app);
            self.is_proven.store(known, Ordering::Relaxed);
            known
        };
        self.removals.may_remove(device) && is_proven
    }

    /// Lets an attempt be made, or says why not.
    pub(crate) fn admit(&self, tenant: TenantId) -> Result<Admission<'_>, Barred> {
        let breaker = self.breaker.circuit.pass().ok_or(Barred::Broken)?;
        let hold = self.hold.circuit.pass().ok_or(Barred::Held)?;
        Ok(Admission { isolate: self.isolation.holds(tenant), guard: self, breaker, hold })
    }

    /// Says whether attempts are barred; a try that may be made at the moment is not asked for.
    pub(crate) fn is_well(&self) -> bool {
        self.breaker.circuit.is_open() && self.hold.circuit.is_open()
    }

    /// What this process has seen of the app since it was last asked; nothing if that is nothing, and nobody's word
    /// is needed.
    fn news(&self) -> Option<Evidence> {
        let (dead, accepted) = self.removals.news();
        let paused = self.pace.pause_left();
        let accepted_ago = self.removals.accepted_ago();
        let has_news = dead > 0 || accepted > 0 || !paused.is_zero() || self.removals.doubts();
        has_news.then_some(Evidence { dead, accepted, accepted_ago, paused })
    }

    fn hear(&self, all: &Evidence) {
        self.removals.hear(all.dead, all.accepted, all.accepted_ago);
        if all.paused > self.pace.pause_left() {
            self.pace.pause_exactly(all.paused);
        }
    }

    fn publish(&self) {
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        self.gauges.breaker_open.set(flag(!self.breaker.circuit.is_open()));
        self.gauges.held.set(flag(!self.hold.circuit.is_open()));
        self.gauges.removals_doubted.set(flag(self.removals.doubts()));
        self.gauges.paused.set(flag(self.pace.is_paused()));
        #[expect(clippy::cast_precision_loss, reason = "at most 10,000")]
        self.gauges.tenants_isolated.set(self.isolation.count() as f64);
    }
}

impl fmt::Debug for AppGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppGuard").field("app", &self.app).finish_non_exhaustive()
    }
}

impl Admission<'_> {
    /// Takes the outcome of the attempt.
    pub(crate) fn conclude(mut self, tenant: TenantId, outcome: &Outcome) {
        let (guard, app) = (self.guard, &self.guard.app);
        let reason = outcome.reason().map(Reason::as_str);
        // A failure on a tenant's own connections says little about the app.
        let failed = matches!(outcome, Outcome::TryLater { scope: RetryScope::Attempt, .. });
        if self.isolate && failed {
            self.breaker.inconclusive();
        } else if guard.breaker.note(outcome, &mut self.breaker) {
            if guard.breaker.circuit.is_open() {
                info!(%app, "a provider works again");
            } else {
                warn!(%app, reason, "a provider is out of order: its pushes fail at once until a try succeeds");
            }
        }
        match guard.hold.note(outcome, || guard.removals.doubts(), &mut self.hold) {
            Change::None => {}
            Change::Held => {
                error!(%app, reason, "an app is held: its provider refuses it; pushes fail until a probe is taken");
            }
            Change::Released => info!(%app, "an app is released: its provider takes its pushes again"),
        }
        match outcome {
            Outcome::TryLater { after: Some(time), scope: RetryScope::Credential, .. } => {
                guard.pace.pause(*time);
            }
            Outcome::TryLater { .. } => {}
            Outcome::TokenDead { reason, .. } => {
                guard.isolation.note(tenant, reason.as_str() == "BadDeviceToken");
            }
            Outcome::Accepted
            | Outcome::WrongApp { .. }
            | Outcome::Refused { .. }
            | Outcome::Misconfigured { .. } => guard.isolation.note(tenant, false),
        }
    }
}
