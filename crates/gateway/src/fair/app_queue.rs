//! Queue of one app: a congestion window, and the tenants that wait for it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatch_stream::AppQueueState;
use metrics::Gauge;
use push_domain::{AppId, FailReason, TenantId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::round_robin::DeficitRoundRobin;
use super::window::{CongestionWindow, Share};
use push_domain::TrafficClass;

/// How much of one tenant may wait, where there are several. A stock server has up to 512 senders at once.
const MAX_QUEUED_PER_TENANT: usize = 2048;
/// How much may wait in all.
const MAX_QUEUED: usize = 8192;
/// While others wait, a tenant has so much of the window, and so many places at least: half of a small window.
const SHARE: f64 = 0.2;
const MIN_IN_FLIGHT_PER_TENANT: usize = 32;
/// While others wait, all callers without a licence have so much of the window together.
const UNLICENSED_SHARE: f64 = 0.1;
/// One of so many turns goes to a lower class that waits: to each of the two in turn.
const LOWER_EVERY: u32 = 10;

pub(super) struct AppQueue {
    /// Whether tenants are told apart.
    has_tenants: bool,
    state: Mutex<State>,
    waiting: Gauge,
    window: Gauge,
}

struct State {
    window: CongestionWindow,
    under_way: usize,
    /// Pushes under way of each tenant, and its weight.
    tenants: HashMap<TenantId, (usize, u32)>,
    /// Pushes under way of callers without a licence.
    unlicensed: usize,
    classes: [DeficitRoundRobin<Waiter>; 3],
    turns: u32,
}

struct Waiter {
    turn: oneshot::Sender<DispatchPermit>,
    deadline: Instant,
    since: Instant,
    weight: u32,
}

/// The most time that a push has to have left when its turn comes; less where pushes are usually quicker.
const MAX_SEND_TIME: Duration = Duration::from_millis(2500);

/// Dispatch permit: the right to have one push under way.
#[must_use = "a place has to be left"]
#[derive(Debug)]
pub(super) struct DispatchPermit {
    line: Arc<AppQueue>,
    tenant: TenantId,
    left: bool,
}

/// Feedback of a dispatched push to the congestion window.
#[derive(Debug, Clone, Copy)]
pub(super) enum DispatchFeedback {
    /// It was answered after so long, and lay on the way for a part of that before a worker began with it.
    Completed { took: Duration, queue_delay: Duration },
    /// It was refused on the way, or there was no answer in time.
    Refused,
    /// It says nothing of the way.
    Unknown,
}

impl AppQueue {
    pub(super) fn new(app: &AppId, share: Share, has_tenants: bool) -> Self {
        let state = State {
            window: CongestionWindow::new(Instant::now(), share),
            under_way: 0,
            tenants: HashMap::new(),
            unlicensed: 0,
            classes: Default::default(),
            turns: 0,
        };
        let app = app.to_string();
        Self {
            has_tenants,
            state: Mutex::new(state),
            waiting: metrics::gauge!("fair_queue_waiting", "app" => app.clone()),
            window: metrics::gauge!("fair_queue_window", "app" => app),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what waits, and for how long.
    pub(super) fn state(&self) -> AppQueueState {
        let state = self.lock();
        let since = state.classes.iter().filter_map(|turns| turns.firsts().map(|it| it.since).min()).min();
        let oldest = since.map(|since| since.elapsed()).unwrap_or_default();
        AppQueueState {
            waiting: state.waiting() as u64,
            oldest_ms: u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX),
            under_way: state.under_way as u64,
            window: state.window.size() as u64,
        }
    }

    /// Adds the pushes of each tenant that are under way; callers without a licence are no tenants.
    pub(super) fn add_under_way(&self, sum: &mut HashMap<TenantId, u64>) {
        for (tenant, (count, _)) in &self.lock().tenants {
            if !tenant.is_unlicensed() {
                *sum.entry(*tenant).or_default() += *count as u64;
            }
        }
    }

    /// Waits for a place; refused at once if the wait would be too long.
    ///
    /// Cancel safe: who leaves has no place, and none is lost.
    pub(super) async fn enter(
        self: &Arc<Self>,
        tenant: TenantId,
        class: TrafficClass,
        weight: u32,
        deadline: Instant,
    ) -> Result<DispatchPermit, FailReason> {
        let turn = {
            let mut state = self.lock();
            if state.nobody_waits() && state.under_way < state.window.size() {
                state.take(tenant, weight);
                return Ok(self.place(tenant));
            }
            state.window.full();
            if self.is_over_queue_quota(&state, tenant) || state.would_miss_deadline(tenant, class, deadline)
            {
                return Err(FailReason::Busy);
            }
            let (turn, mine) = oneshot::channel();
            state.classes[class as usize].push(
                tenant,
                weight,
                Waiter { turn, deadline, since: Instant::now(), weight },
            );
            mine
        };
        let _shown = Shown::new(&self.waiting);
        let came = tokio::time::timeout_at(deadline, turn).await;
        came.ok().and_then(Result::ok).ok_or(FailReason::Busy)
    }

    /// Says whether a tenant has more waiting than it may. Who has nothing waiting always may have one more.
    fn is_over_queue_quota(&self, state: &State, tenant: TenantId) -> bool {
        let mine: usize = state.classes.iter().map(|turns| turns.len_of(tenant)).sum();
        let most = if self.has_tenants { MAX_QUEUED_PER_TENANT } else { MAX_QUEUED };
        mine >= most || (mine > 0 && state.waiting() >= MAX_QUEUED)
    }

    fn place(self: &Arc<Self>, tenant: TenantId) -> DispatchPermit {
        DispatchPermit { line: Arc::clone(self), tenant, left: false }
    }

    fn released(self: &Arc<Self>, tenant: TenantId, left: DispatchFeedback) {
        let now = Instant::now();
        let mut state = self.lock();
        state.under_way -= 1;
        state.unlicensed -= usize::from(tenant.is_unlicensed());
        if let Some((count, _)) = state.tenants.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                state.tenants.remove(&tenant);
            }
        }
        match left {
            DispatchFeedback::Completed { took, queue_delay } => {
                let under_way = state.under_way + 1;
                state.window.took(took, queue_delay, under_way, now);
            }
            DispatchFeedback::Refused => state.window.refused(now),
            DispatchFeedback::Unknown => {}
        }
        let waited = !state.nobody_waits();
        while state.under_way < state.window.size() && self.admit_next(&mut state, now) {}
        if waited {
            #[expect(clippy::cast_precision_loss, reason = "at most 1024")]
            self.window.set(state.window.size() as f64);
        }
    }

    /// Gives one place to whoever is next; says whether somebody was.
    fn admit_next(self: &Arc<Self>, state: &mut State, now: Instant) -> bool {
        let Some((tenant, waiter)) = state.next() else { return false };
        // Whoever has left, or comes too late to be sent before its time is over, costs nothing.
        let usual = Duration::from_secs_f64(state.window.usual_ms() / 1000.0);
        if waiter.deadline > now + (usual * 2).min(MAX_SEND_TIME) {
            match waiter.turn.send(self.place(tenant)) {
                Ok(()) => {
                    state.take(tenant, waiter.weight);
                    state.turns = state.turns.wrapping_add(1);
                }
                // It was never counted, and its `Drop` would lock the state that is locked already.
                Err(mut place) => place.left = true,
            }
        }
        true
    }
}

impl State {
    fn nobody_waits(&self) -> bool {
        self.waiting() == 0
    }

    fn waiting(&self) -> usize {
        self.classes.iter().map(DeficitRoundRobin::len).sum()
    }

    fn take(&mut self, tenant: TenantId, weight: u32) {
        self.under_way += 1;
        self.unlicensed += usize::from(tenant.is_unlicensed());
        let (count, known) = self.tenants.entry(tenant).or_default();
        (*count, *known) = (*count + 1, weight.max(1));
    }

    /// Takes out whoever is next: of the highest class in which a tenant waits that has not its share yet;
    /// where all have it, of the highest class, licensed tenants first.
    fn next(&mut self) -> Option<(TenantId, Waiter)> {
        let places = self.share(SHARE).max(MIN_IN_FLIGHT_PER_TENANT.min(self.share(0.5).max(1)));
        let unlicensed_places = self.share(UNLICENSED_SHARE);
        let order = match self.turns % (2 * LOWER_EVERY) {
            turn if turn == LOWER_EVERY - 1 => [2, 1, 0],
            turn if turn == 2 * LOWER_EVERY - 1 => [1, 2, 0],
            _ => [0, 1, 2],
        };
        let Self { classes, tenants, unlicensed, .. } = self;
        let has_room = |tenant: TenantId| {
            let barred = tenant.is_unlicensed() && *unlicensed >= unlicensed_places;
            !barred && tenants.get(&tenant).is_none_or(|(count, weight)| *count < places * *weight as usize)
        };
        let mut first =
            |may: &dyn Fn(TenantId) -> bool| order.iter().find_map(|class| classes[*class].pop(may));
        first(&has_room).or_else(|| first(&|tenant| !tenant.is_unlicensed())).or_else(|| first(&|_| true))
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of 1024"
    )]
    fn share(&self, share: f64) -> usize {
        (self.window.size() as f64 * share) as usize
    }

    /// Says whether a push would still wait when its time is over, as far as can be told.
    fn would_miss_deadline(&self, tenant: TenantId, class: TrafficClass, deadline: Instant) -> bool {
        let (class, mut before) = (class as usize, 0);
        for turns in &self.classes[..class] {
            before += turns.len();
        }
        let (turns, mine) = (&self.classes[class], self.classes[class].len_of(tenant));
        let others = turns.tenants() - usize::from(mine > 0);
        before += turns.len().min((mine + 1) * (others + 1));
        #[expect(clippy::cast_precision_loss, reason = "a prediction")]
        let rounds = before as f64 / self.window.size() as f64 + 1.0;
        let predicted = Duration::from_secs_f64(rounds * self.window.usual_ms() / 1000.0);
        Instant::now() + predicted > deadline
    }
}

impl DispatchPermit {
    /// Gives the place to the next one.
    pub(super) fn release(mut self, left: DispatchFeedback) {
        self.left = true;
        self.line.released(self.tenant, left);
    }
}

impl Drop for DispatchPermit {
    fn drop(&mut self) {
        if !self.left {
            self.line.released(self.tenant, DispatchFeedback::Unknown);
        }
    }
}

/// Guard of the waiting gauge: counts one waiter as long as it lives.
struct Shown<'a>(&'a Gauge);

impl<'a> Shown<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl fmt::Debug for AppQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppQueue").field("under_way", &self.lock().under_way).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
