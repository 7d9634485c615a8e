//! Per-app guard: breaker, hold and rate limiter protect pushes against outages, against mistakes that
//! would cost devices, and the callers against each other.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dispatch_stream::{AppState, Evidence};
use metrics::Gauge;
use push_domain::{
    App, AppId, DeviceId, Notification, Outcome, ProviderRequest, PushType, Reason, RetryScope, Timestamp,
};
use rand::RngExt;
use tracing::{error, info, warn};

use crate::breaker::Breaker;
use crate::circuit::CircuitPermit;
use crate::hold::{Change, CredentialHold};
use crate::proof::{CredentialProof, CredentialProofs};
use crate::rate_limiter::ProviderRateLimiter;
use crate::suspicion::Suspicion;
use crate::tenants::{TenantGuard, Tenants};

/// So many tenants in trouble are told of to the other processes at once.
const MOST_TOLD: usize = 64;
/// For so long a probe is left to tenants that are well.
const LEFT_TO_OTHERS: Duration = Duration::from_secs(2);

/// Guard of one app: breaker, holds, rate limiter, and the guards of its tenants.
pub(crate) struct AppGuard {
    app: AppId,
    proof: CredentialProof,
    suspicion: Suspicion,
    tenants: Tenants,
    breaker: Breaker,
    /// By push type: a provider may refuse an app's calls and take its messages.
    holds: [CredentialHold; 2],
    pace: Arc<ProviderRateLimiter>,
    gauges: Gauges,
}

#[derive(Debug)]
struct Gauges {
    breaker_open: Gauge,
    held: Gauge,
    removals_doubted: Gauge,
    tenants_guarded: Gauge,
    tenants_isolated: Gauge,
    paused: Gauge,
}

/// Guard of one push: its app's guard, and its tenant's.
#[derive(Debug)]
pub(crate) struct Guard {
    app: Arc<AppGuard>,
    tenant: Arc<TenantGuard>,
    is_voip: bool,
}

/// Error of an admission: why no attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptDenied {
    /// The provider refuses the app.
    Held,
    /// The provider refuses whatever the tenant sends to the app.
    TenantHeld,
    /// The provider is out of order.
    Broken,
    /// Most of what the tenant sends is refused, so it may not send as much.
    TenantPaced,
}

/// Permit for one attempt; its outcome has to be reported to it.
#[derive(Debug)]
pub(crate) struct AttemptPermit<'a> {
    /// Whether the tenant's pushes travel by themselves.
    pub(crate) isolate: bool,
    guard: &'a Guard,
    breaker: CircuitPermit<'a>,
    hold: CircuitPermit<'a>,
    tenant_hold: CircuitPermit<'a>,
}

/// Target of the evidence of all processes: an app or a tenant.
pub(crate) enum EvidenceTarget {
    App(Arc<AppGuard>),
    Tenant(Arc<TenantGuard>),
}

impl AppGuard {
    pub(crate) fn new(app: &App, pace: Arc<ProviderRateLimiter>, proofs: Arc<dyn CredentialProofs>) -> Self {
        let name = app.id.to_string();
        let gauges = Gauges {
            breaker_open: metrics::gauge!("provider_breaker_open", "app" => name.clone()),
            held: metrics::gauge!("app_held", "app" => name.clone()),
            removals_doubted: metrics::gauge!("app_removals_doubted", "app" => name.clone()),
            tenants_guarded: metrics::gauge!("app_tenants_guarded", "app" => name.clone()),
            tenants_isolated: metrics::gauge!("app_tenants_isolated", "app" => name.clone()),
            paused: metrics::gauge!("app_paused", "app" => name),
        };
        Self {
            app: app.id.clone(),
            proof: CredentialProof::new(app, proofs),
            suspicion: Suspicion::default(),
            tenants: Tenants::new(app.provider),
            breaker: Breaker::new(),
            holds: [CredentialHold::new(), CredentialHold::new()],
            pace,
            gauges,
        }
    }

    /// Forgets what was held against it: it has new credentials. Says whether it was held.
    pub(crate) fn renew(&self) -> bool {
        self.proof.renew();
        self.suspicion.served();
        self.tenants.renew();
        self.holds.iter().filter(|hold| hold.release()).count() > 0
    }

    pub(crate) fn is_well(&self) -> bool {
        self.breaker.circuit.is_passing() && self.holds.iter().all(|hold| hold.circuit.is_passing())
    }

    /// How this process finds it.
    pub(crate) fn state(&self, now: Timestamp) -> AppState {
        AppState {
            is_broken: !self.breaker.circuit.is_passing(),
            is_held: self.holds.iter().any(|hold| !hold.circuit.is_passing()),
            last_accepted_ms: self.proof.accepted_ago().map_or(0, |ago| now.before(ago).millis()),
            ..AppState::default()
        }
    }

    /// What this process has seen of it and of its tenants in trouble since it was last asked, and who hears what others
    /// have; nothing of what has no news and needs nobody's word.
    pub(crate) fn take_unreported(self: &Arc<Self>) -> Vec<((String, Evidence), EvidenceTarget)> {
        let mut news = Vec::new();
        let (accepted, paused) = (self.proof.take_unreported(), self.pace.pause_left());
        if accepted > 0 || !paused.is_zero() {
            let told = Evidence { dead: 0, accepted, accepted_ago: self.proof.accepted_ago(), paused };
            news.push(((self.app.to_string(), told), EvidenceTarget::App(Arc::clone(self))));
        }
        let mut troubled = self.tenants.in_trouble();
        if troubled.len() > MOST_TOLD {
            // Not always the same ones.
            let first = rand::rng().random_range(0..troubled.len());
            troubled.rotate_left(first);
        }
        for tenant in troubled.into_iter().take(MOST_TOLD) {
            let (dead, accepted) = tenant.removals.take_unreported();
            if dead > 0 || accepted > 0 || tenant.is_guarded() {
                let told = Evidence { dead, accepted, ..Evidence::default() };
                news.push(((format!("{}/{}", self.app, tenant.id), told), EvidenceTarget::Tenant(tenant)));
            }
        }
        news
    }

    /// Shows its state in the metrics.
    pub(crate) fn publish(&self) {
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let (mut guarded, mut isolated) = (0_u32, 0_u32);
        for tenant in self.tenants.in_trouble() {
            guarded += u32::from(tenant.is_guarded());
            isolated += u32::from(tenant.is_isolated());
        }
        self.gauges.breaker_open.set(flag(!self.breaker.circuit.is_passing()));
        self.gauges.held.set(flag(self.holds.iter().any(|hold| !hold.circuit.is_passing())));
        self.gauges.removals_doubted.set(flag(self.suspicion.is_raised()));
        self.gauges.tenants_guarded.set(f64::from(guarded));
        self.gauges.tenants_isolated.set(f64::from(isolated));
        self.gauges.paused.set(flag(self.pace.is_paused()));
    }
}

impl EvidenceTarget {
    pub(crate) fn take(self, heard: &Evidence) {
        match self {
            Self::App(app) => {
                app.proof.merge_peers(heard.accepted_ago);
                if heard.paused > app.pace.pause_left() {
                    app.pace.pause_exactly(heard.paused);
                }
            }
            Self::Tenant(tenant) => tenant.removals.merge_peers(heard.dead, heard.accepted),
        }
    }
}

impl Guard {
    pub(crate) fn new(app: Arc<AppGuard>, push: &Notification) -> Self {
        let tenant = app.tenants.of(push.tenant);
        let is_voip =
            matches!(&push.request, ProviderRequest::Apns(request) if request.push_type == PushType::Voip);
        Self { app, tenant, is_voip }
    }

    pub(crate) fn pace(&self) -> &ProviderRateLimiter {
        &self.app.pace
    }

    fn hold(&self) -> &CredentialHold {
        &self.app.holds[usize::from(self.is_voip)]
    }

    /// Notes a push that the provider took: the app works, and so do its credentials.
    pub(crate) fn accepted(&self) {
        self.app.proof.accepted();
        self.tenant.served(&self.app.suspicion);
    }

    /// Says whether a device may be called dead that the provider calls bad.
    pub(crate) fn may_remove(&self, device: DeviceId) -> bool {
        self.app.tenants.watch(&self.tenant);
        let was_guarded = self.tenant.is_guarded();
        let believed = self.tenant.may_remove(device, &self.app.suspicion);
        if !was_guarded && self.tenant.is_guarded() {
            let (app, tenant) = (&self.app.app, self.tenant.id);
            warn!(%app, %tenant, "most of a tenant's devices are refused: its removals are doubted and its pushes slowed down");
        }
        believed && self.app.proof.has_credentials_proven()
    }

    /// The same for a device that the provider calls another app's: the app has to have worked lately, too.
    pub(crate) fn may_remove_as_foreign(&self, device: DeviceId) -> bool {
        self.may_remove(device) && self.app.proof.is_recent()
    }

    /// Says whether the tenant may make no attempt at the moment, whatever its app may: asked first, so that it takes no turn
    /// of a pace that others share.
    pub(crate) fn bars_tenant(&self) -> Option<AttemptDenied> {
        if self.tenant.hold.circuit.is_blocked() {
            return Some(AttemptDenied::TenantHeld);
        }
        (!self.tenant.keeps_pace()).then_some(AttemptDenied::TenantPaced)
    }

    /// Lets an attempt be made, or says why not.
    ///
    /// A probe is made by a tenant that is well, if there is one: what comes of another's says little of the app.
    pub(crate) fn admit(&self) -> Result<AttemptPermit<'_>, AttemptDenied> {
        let tenant_hold = self.tenant.hold.circuit.pass().ok_or(AttemptDenied::TenantHeld)?;
        let grace = if self.tenant.speaks_for_others() { Duration::ZERO } else { LEFT_TO_OTHERS };
        let breaker = self.app.breaker.circuit.pass_after(grace).ok_or(AttemptDenied::Broken)?;
        let hold = self.hold().circuit.pass_after(grace).ok_or(AttemptDenied::Held)?;
        Ok(AttemptPermit { isolate: self.tenant.is_isolated(), guard: self, breaker, hold, tenant_hold })
    }

    /// Says whether attempts are barred; a try that may be made at the moment is not asked for.
    pub(crate) fn is_well(&self) -> bool {
        self.app.breaker.circuit.is_passing()
            && self.hold().circuit.is_passing()
            && self.tenant.hold.circuit.is_passing()
    }
}

impl AttemptPermit<'_> {
    /// Takes the outcome of the attempt.
    pub(crate) fn conclude(mut self, outcome: &Outcome) {
        self.note_breaker(outcome);
        self.note_holds(outcome);
        match outcome {
            Outcome::TryLater { after: Some(time), scope: RetryScope::Credential, .. } => {
                self.guard.app.pace.pause(*time);
            }
            Outcome::TryLater { .. } => {}
            Outcome::TokenDead { reason, .. } => {
                let is_bad = reason.as_str() == "BadDeviceToken";
                self.guard.tenant.isolation.note(is_bad);
                if is_bad {
                    self.guard.app.tenants.watch(&self.guard.tenant);
                }
            }
            Outcome::Accepted
            | Outcome::WrongApp { .. }
            | Outcome::Refused { .. }
            | Outcome::Misconfigured { .. } => self.guard.tenant.isolation.note(false),
        }
    }

    fn note_breaker(&mut self, outcome: &Outcome) {
        let (breaker, app) = (&self.guard.app.breaker, &self.guard.app.app);
        // A failure on a tenant's own connections says little about the app.
        let failed = matches!(outcome, Outcome::TryLater { scope: RetryScope::Attempt, .. });
        if self.isolate && failed {
            self.breaker.inconclusive();
        } else if breaker.note(outcome, &mut self.breaker) {
            let reason = outcome.reason().map(Reason::as_str);
            if breaker.circuit.is_passing() {
                info!(%app, "a provider works again");
            } else {
                warn!(%app, reason, "a provider is out of order: its pushes fail at once until a try succeeds");
            }
        }
    }

    /// What hangs on the token holds the tenant, what the provider says of the credentials and the topic holds the app.
    fn note_holds(&mut self, outcome: &Outcome) {
        let Guard { app: guard, tenant, .. } = self.guard;
        let (app, reason) = (&guard.app, outcome.reason().map(Reason::as_str));
        let of_the_token = match outcome {
            Outcome::WrongApp { .. } => true,
            // Of the other end that a token of this kind leads to.
            Outcome::Misconfigured { reason } => reason.as_str() == "THIRD_PARTY_AUTH_ERROR",
            _ => false,
        };
        let doubted = of_the_token && (tenant.removals.doubts() || guard.suspicion.is_raised());
        match tenant.hold.note(outcome, doubted, &mut self.tenant_hold) {
            Change::None => {}
            Change::Held => {
                let tenant = tenant.id;
                warn!(%app, %tenant, reason, "a tenant is held: the provider refuses its devices; its pushes fail until a probe is taken");
            }
            Change::Released => {
                let tenant = tenant.id;
                info!(%app, %tenant, "a tenant is released: the provider takes its pushes again");
            }
        }
        let of_the_app = matches!(outcome, Outcome::Misconfigured { .. }) && !of_the_token;
        match self.guard.hold().note(outcome, of_the_app, &mut self.hold) {
            Change::None => {}
            Change::Held => {
                let calls = self.guard.is_voip;
                error!(%app, reason, calls, "an app is held: its provider refuses it; pushes fail until a probe is taken");
            }
            Change::Released => info!(%app, "an app is released: its provider takes its pushes again"),
        }
    }
}

impl fmt::Debug for AppGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppGuard").field("app", &self.app).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "app_guard_tests.rs"]
mod tests;
