//! What the processes of a region know of each other.
//!
//! Each process writes its state to every lane once a second (`hpns:state:<process>`, gone after 10 s), workers
//! also what speaks for and against an app (`hpns:guard:<app>`), and lease turns of rates that they share
//! (`hpns:rl:<credential>`). Without lanes there is one process, and the board is a place in its memory.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::{AppId, Clock, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use crate::Lane;
use crate::redis::LaneBoard;

/// A process that has been silent for so long is gone.
pub(crate) const STATE_LIFE: Duration = Duration::from_secs(10);
/// What was seen of an app counts for so long.
pub(crate) const EVIDENCE_LIFE: Duration = Duration::from_mins(5);

/// What one process tells the others. Fields are added, never changed; what a process does not know is skipped.
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
    /// The apps that it delivers to.
    pub apps: BTreeMap<String, AppState>,
    /// What waits in it, by app.
    pub lines: BTreeMap<String, LineState>,
    /// The tenants that it is busiest with.
    pub tenants: Vec<TenantState>,
}

/// How a worker finds an app.
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

/// What waits for an app in a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LineState {
    /// Pushes that wait for their turn.
    pub waiting: u64,
    /// For how long the first of them has waited, in milliseconds.
    pub oldest_ms: u64,
    /// Pushes that were handed over and are not answered yet.
    pub under_way: u64,
    /// How many of these there may be.
    pub window: u64,
}

impl LineState {
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

/// What a gateway does for a tenant.
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

/// What lies in one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneDepth {
    /// The lane.
    pub lane: String,
    /// Jobs that wait or are being sent, by app; nothing if the lane does not answer.
    pub depth: Option<BTreeMap<String, u64>>,
}

/// What a worker has seen of an app in the last minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// When it was told, in milliseconds since 1970.
    pub told_at_ms: u64,
    /// Devices that were called dead.
    pub dead: u32,
    /// Pushes that were accepted.
    pub accepted: u32,
    /// When the last one was, in milliseconds since 1970; 0 for never.
    pub last_accepted_ms: u64,
    /// Until when its credential is paused, in milliseconds since 1970; 0 if it is not.
    pub paused_until_ms: u64,
}

impl Evidence {
    /// Adds up what several workers have seen.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            told_at_ms: self.told_at_ms.max(other.told_at_ms),
            dead: self.dead.saturating_add(other.dead),
            accepted: self.accepted.saturating_add(other.accepted),
            last_accepted_ms: self.last_accepted_ms.max(other.last_accepted_ms),
            paused_until_ms: self.paused_until_ms.max(other.paused_until_ms),
        }
    }
}

/// What came of asking for turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// So many may leave now.
    Granted(u32),
    /// None before so long.
    Wait(Duration),
}

/// The board of one process.
pub struct Board {
    process: String,
    lanes: Vec<AsyncMutex<LaneBoard>>,
    /// The only one there is, where there are no lanes.
    own: Mutex<Option<ProcessState>>,
}

impl Board {
    /// Makes the board of a process, which goes through these lanes, if there are any.
    #[must_use]
    pub fn new(process: &str, lanes: &[Lane]) -> Self {
        let lanes = lanes.iter().map(|lane| AsyncMutex::new(LaneBoard::new(lane.clone()))).collect();
        Self { process: process.to_owned(), lanes, own: Mutex::default() }
    }

    fn own(&self) -> MutexGuard<'_, Option<ProcessState>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the others, on every lane that answers.
    pub async fn publish(&self, state: ProcessState) {
        let text = serde_json::to_string(&state).unwrap_or_default();
        for lane in &self.lanes {
            let _ = lane.lock().await.publish(&self.process, &text).await;
        }
        *self.own() = Some(state);
    }

    /// Returns the states of all processes, this one's too, from all lanes that answer; `None` if none does.
    pub async fn states(&self) -> Option<Vec<ProcessState>> {
        if self.lanes.is_empty() {
            return Some(self.own().clone().into_iter().collect());
        }
        // A lane that came back empty knows only some of them for a moment.
        let mut all: Option<HashMap<String, ProcessState>> = None;
        for lane in &self.lanes {
            let Ok(texts) = lane.lock().await.states().await else { continue };
            let states = texts.iter().filter_map(|text| serde_json::from_str::<ProcessState>(text).ok());
            all.get_or_insert_default().extend(states.map(|state| (state.process.clone(), state)));
        }
        all.map(|all| all.into_values().collect())
    }

    /// Tells what this process has seen of an app, and returns what all others have; nothing if no lane answers.
    pub async fn exchange(&self, app: &AppId, mine: Evidence, clock: &dyn Clock) -> Evidence {
        let now = clock.now();
        let text = serde_json::to_string(&Evidence { told_at_ms: now.millis(), ..mine }).unwrap_or_default();
        let mut others: Option<HashMap<String, String>> = None;
        let recent = |seen: &Evidence| now.since(Timestamp::from_millis(seen.told_at_ms)) < EVIDENCE_LIFE;
        let read = |text: &String| serde_json::from_str::<Evidence>(text).ok().filter(recent);
        for lane in &self.lanes {
            let mut lane = lane.lock().await;
            let Ok(all) = lane.exchange(app, &self.process, &text).await else { continue };
            let gone: Vec<_> =
                all.iter().filter(|(_, text)| read(text).is_none()).map(|(name, _)| name.clone()).collect();
            if !gone.is_empty() {
                let _ = lane.forget(app, &gone).await;
            }
            others.get_or_insert(all);
        }
        let others = others.unwrap_or_default();
        let evidence = others.iter().filter(|(process, _)| **process != self.process);
        evidence.filter_map(|(_, text)| read(text)).fold(Evidence::default(), Evidence::with)
    }

    /// Counts what lies in each lane for these apps.
    pub async fn depths(&self, apps: &[AppId]) -> Vec<LaneDepth> {
        let mut depths = Vec::new();
        for lane in &self.lanes {
            let mut lane = lane.lock().await;
            let depth = lane.depths(apps).await.ok();
            depths.push(LaneDepth { lane: lane.name().to_owned(), depth });
        }
        depths
    }

    /// Leases at most `wanted` turns of a rate that all processes share, from the one lane that keeps it.
    /// `None` if that lane does not answer, or there is none: then everybody has to keep to a share.
    pub async fn lease(&self, credential: &str, per_second: u32, burst: u32, wanted: u32) -> Option<Lease> {
        let home = home(credential, self.lanes.len())?;
        self.lanes.get(home)?.lock().await.lease(credential, per_second, burst, wanted).await.ok()
    }
}

/// The lane that keeps a rate: the same for all processes of all versions.
fn home(credential: &str, lanes: usize) -> Option<usize> {
    // FNV-1a.
    let hash = credential.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash.checked_rem(lanes as u64)?).ok()
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("process", &self.process).finish_non_exhaustive()
    }
}
