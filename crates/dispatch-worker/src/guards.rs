//! What all workers of a process know of an app, and what they may do by it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use dispatch_stream::{AppState, Board, Evidence};
use metrics::Gauge;
use push_domain::{App, AppCatalogue, AppId, Clock, Outcome, Reason, RetryScope, TenantId, Timestamp};
use tracing::{error, info, warn};

use crate::breaker::Breaker;
use crate::circuit::Passage;
use crate::hold::{Change, Hold};
use crate::isolation::Isolation;
use crate::pace::Pace;
use crate::removals::{Others, RemovalGuard};

/// How fast pushes may leave under which credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PaceLimit {
    /// Names the credential; apps under one name share its pace, the slowest that any of them asks for.
    pub credential: String,
    /// Pushes a second; 0 stands for no limit.
    pub per_second: u32,
}

/// The guards of all apps, for every worker of a process. Cheap to clone; all clones are one set.
#[derive(Debug, Clone)]
pub struct Guards(Arc<HashMap<AppId, AppGuard>>);

/// What is known of one app.
#[derive(Debug)]
pub(crate) struct AppGuard {
    app: AppId,
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
    /// Makes a guard for every app. At most `max_waiting` pushes wait for the pace of one credential. With a
    /// board, all processes keep to one pace.
    #[must_use]
    pub fn new(
        apps: &AppCatalogue,
        limit: impl Fn(&App) -> PaceLimit,
        max_waiting: usize,
        board: Option<&Arc<Board>>,
    ) -> Self {
        let mut slowest = HashMap::new();
        for PaceLimit { credential, per_second } in apps.iter().map(|app| limit(app)) {
            let rate = slowest.entry(credential).or_insert(per_second);
            *rate = if *rate == 0 {
                per_second
            } else if per_second == 0 {
                *rate
            } else {
                per_second.min(*rate)
            };
        }
        let paces: HashMap<_, _> = slowest
            .into_iter()
            .map(|(credential, rate)| {
                let pace = match board {
                    Some(board) => Pace::shared(rate, max_waiting, &credential, Arc::clone(board)),
                    None => Pace::new(rate, max_waiting),
                };
                (credential, Arc::new(pace))
            })
            .collect();
        let guards = apps.iter().filter_map(|app| {
            let pace = paces.get(&limit(app).credential)?;
            Some((app.id.clone(), AppGuard::new(app, Arc::clone(pace))))
        });
        Self(Arc::new(guards.collect()))
    }

    pub(crate) fn of(&self, app: &AppId) -> Option<&AppGuard> {
        self.0.get(app)
    }

    /// Forgets what was held against an app: it has new credentials.
    pub fn renew(&self, app: &AppId) {
        let Some(guard) = self.of(app) else { return };
        if guard.hold.release() {
            info!(%app, "an app is released: it has new credentials");
        }
        guard.removals.reset();
    }

    /// Says how this process finds its apps; of their credentials it knows nothing.
    #[must_use]
    pub fn states(&self, now: Timestamp) -> BTreeMap<String, AppState> {
        let state = |guard: &AppGuard| AppState {
            is_broken: !guard.breaker.circuit.is_open(),
            is_held: !guard.hold.circuit.is_open(),
            last_accepted_ms: guard.evidence(now).last_accepted_ms,
            ..AppState::default()
        };
        self.0.iter().map(|(app, guard)| (app.to_string(), state(guard))).collect()
    }

    /// Tells the other processes what this one has seen of its apps, and hears what they have: a mistake of
    /// ours must not cost devices because each of many workers has seen too little of it.
    pub async fn confer(&self, board: &Board, clock: &dyn Clock) {
        for (app, guard) in &*self.0 {
            let now = clock.now();
            let others = board.exchange(app, guard.evidence(now), clock).await;
            guard.hear(others, clock.now());
        }
    }

    /// Says how many processes deliver: what nobody can lease, each takes its share of.
    pub fn share_among(&self, workers: u32) {
        for guard in self.0.values() {
            guard.pace.share_among(workers);
        }
    }

    /// Shows the state of all apps in the metrics.
    pub fn publish(&self) {
        for guard in self.0.values() {
            guard.publish();
        }
    }
}

impl AppGuard {
    fn new(app: &App, pace: Arc<Pace>) -> Self {
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
            removals: RemovalGuard::new(app.provider),
            isolation: Isolation::default(),
            breaker: Breaker::new(),
            hold: Hold::new(),
            pace,
            gauges,
        }
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

    fn evidence(&self, now: Timestamp) -> Evidence {
        let (dead, accepted, accepted_ago) = self.removals.seen();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let pause = self.pace.pause_left();
        Evidence {
            told_at_ms: now.millis(),
            dead: u32::try_from(dead).unwrap_or(u32::MAX),
            accepted: u32::try_from(accepted).unwrap_or(u32::MAX),
            last_accepted_ms: accepted_ago.map_or(0, |ago| now.millis().saturating_sub(millis(ago))),
            paused_until_ms: if pause.is_zero() { 0 } else { now.plus(pause).millis() },
        }
    }

    fn hear(&self, others: Evidence, now: Timestamp) {
        let ago =
            (others.last_accepted_ms > 0).then(|| now.since(Timestamp::from_millis(others.last_accepted_ms)));
        self.removals.hear(Others {
            dead: others.dead as usize,
            accepted: others.accepted as usize,
            accepted_ago: ago,
        });
        let pause = Timestamp::from_millis(others.paused_until_ms).since(now);
        if pause > self.pace.pause_left() {
            self.pace.pause_exactly(pause);
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
