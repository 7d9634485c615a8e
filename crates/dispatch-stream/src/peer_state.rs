//! What the processes of a region tell each other: states, their sum, and leases of shared rates. Data alone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A process that has been silent for so long is gone.
pub(crate) const STATE_TTL: Duration = Duration::from_secs(10);

/// State that one process publishes to its peers. Fields are added, never changed; unknown ones are skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessState {
    /// Its name, for as long as it runs.
    pub process: String,
    /// Whether it takes pushes.
    pub is_gateway: bool,
    /// Whether it delivers them.
    pub is_worker: bool,
    /// Its version.
    pub version: String,
    /// Its serving threads.
    pub threads: u32,
    /// How many pushes of one app it can have under way, if it delivers.
    pub slots: u32,
    /// The apps that it delivers to.
    pub apps: BTreeMap<String, AppState>,
    /// What waits in it, by app.
    pub lines: BTreeMap<String, AppQueueState>,
    /// The tenants that it is busiest with.
    pub tenants: Vec<TenantState>,
}

/// State of an app, as one worker sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppState {
    /// Whether its provider is out of order.
    pub is_broken: bool,
    /// Whether its provider refuses it.
    pub is_held: bool,
    /// What kind of credentials it has; empty if they cannot be used.
    pub credentials: String,
    /// Tells one content of its credential files from another.
    pub fingerprint: String,
    /// For how many days its certificate is still good, if it has one.
    pub days_left: Option<u32>,
    /// When its provider last accepted a push, in milliseconds since 1970; 0 for never.
    pub last_accepted_ms: u64,
}

/// Queue state of an app in a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AppQueueState {
    /// Pushes that wait for their turn.
    pub waiting: u64,
    /// For how long the first of them has waited, in milliseconds.
    pub oldest_ms: u64,
    /// Pushes that were handed over and are not answered yet.
    pub under_way: u64,
    /// How many of these there may be.
    pub window: u64,
}

impl AppQueueState {
    /// Adds up what several gateways, or several threads of one, have.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            oldest_ms: self.oldest_ms.max(other.oldest_ms),
            under_way: self.under_way + other.under_way,
            window: self.window + other.window,
        }
    }
}

/// Activity of a tenant in a gateway: pushes under way, and recent answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantState {
    /// Its id.
    pub tenant: String,
    /// Its pushes that were handed over and are not answered yet.
    pub under_way: u64,
    /// What its pushes of the last minutes were answered: `ok`, `remove` or a fail code.
    pub answers: BTreeMap<String, u64>,
}

/// Queue depths of one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDepth {
    /// The lane.
    pub lane: String,
    /// Jobs that wait or are being sent, by queue; nothing if the lane does not answer.
    pub depth: Option<BTreeMap<String, u64>>,
}

/// Summary of all processes of a region, as one of them computes it for the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    /// Processes that take pushes.
    pub gateways: u32,
    /// Processes that deliver them.
    pub workers: u32,
    /// A gateway thread's share of the pushes of one app that all workers together can have under way.
    pub share: u32,
    /// The apps that every worker finds out of order.
    pub broken: Vec<String>,
}

impl Summary {
    /// Adds up what all processes tell.
    #[must_use]
    pub fn of(states: &[ProcessState]) -> Self {
        let count = |is: fn(&ProcessState) -> bool| {
            u32::try_from(states.iter().filter(|state| is(state)).count()).unwrap_or(u32::MAX)
        };
        let mut broken: BTreeMap<&str, u32> = BTreeMap::new();
        for state in states.iter().filter(|state| state.is_worker) {
            for (app, _) in state.apps.iter().filter(|(_, app)| app.is_broken) {
                *broken.entry(app).or_default() += 1;
            }
        }
        let workers = count(|state| state.is_worker);
        let sum = |is: fn(&ProcessState) -> bool, of: fn(&ProcessState) -> u32| {
            states.iter().filter(|state| is(state)).map(of).fold(0, u32::saturating_add)
        };
        let slots = sum(|state| state.is_worker, |state| state.slots);
        let threads = sum(|state| state.is_gateway, |state| state.threads);
        let broken = broken.into_iter().filter(|(_, count)| *count == workers);
        Self {
            gateways: count(|state| state.is_gateway),
            workers,
            share: slots / threads.max(1),
            broken: broken.map(|(app, _)| app.to_owned()).collect(),
        }
    }
}

/// Result of leasing permits of a shared rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// So many may leave now.
    Granted(u32),
    /// None before so long.
    Wait(Duration),
}
