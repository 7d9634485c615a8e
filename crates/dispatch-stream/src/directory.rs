//! Peer directory: the states that the processes of a region publish to each other through the lanes.
//!
//! Each process writes its state to every lane once a second (`hpns:state:<process>`, gone after 10 s): what is out of
//! order, and details only while an operator looks. One process reads all of them and writes the sum
//! (`hpns:summary`), which the others read: so what is told does not grow with the square of the processes. Workers also
//! count what speaks for and against an app that has news (`hpns:guard:<app>`), and lease turns of rates that all
//! share (`hpns:rl:<rate>`). Without lanes there is one process, and the board is a place in its memory.
//!
//! What is told bears a code that nobody makes without the key ring ([`BoardKeys`]): who may write to a lane and no more can
//! keep words from being heard, and say none. Rates bear none: what they can be made to do is to let pushes wait.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex as AsyncMutex;

use crate::evidence::Evidence;
use crate::redis::{LaneDirectory, LaneRates};
use crate::{BoardKeys, Lane};

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

/// Peer directory of one process: publishes its state, reads the others', and leases shared rates.
pub struct PeerDirectory {
    process: String,
    lanes: Vec<AsyncMutex<LaneDirectory>>,
    /// Rates have ways of their own: a lane that hangs must hold up nothing but what it keeps itself.
    rates: Vec<LaneRates>,
    /// The only one there is, where there are no lanes.
    own: Mutex<Option<ProcessState>>,
    /// Whether somebody wants to see details.
    watched: AtomicBool,
}

impl PeerDirectory {
    /// Makes the board of a process that has no lanes, and so is alone.
    #[must_use]
    pub fn alone(process: &str) -> Self {
        Self {
            process: process.to_owned(),
            lanes: Vec::new(),
            rates: Vec::new(),
            own: Mutex::default(),
            watched: AtomicBool::new(true),
        }
    }

    /// Makes the board of a process, which goes through these lanes and believes who has these keys.
    #[must_use]
    pub fn new(process: &str, lanes: &[Lane], keys: &BoardKeys) -> Self {
        let board = |lane: &Lane| AsyncMutex::new(LaneDirectory::new(lane.clone(), process, keys.clone()));
        Self {
            process: process.to_owned(),
            lanes: lanes.iter().map(board).collect(),
            rates: lanes.iter().map(|lane| LaneRates::new(lane.clone())).collect(),
            own: Mutex::default(),
            watched: AtomicBool::new(false),
        }
    }

    fn own(&self) -> MutexGuard<'_, Option<ProcessState>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether somebody wants to see details: what each app's credentials are, what waits, and for whom.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Tells the others, on every lane that answers, and returns what all are together; nothing if no lane answers.
    /// `adds_up` is for one process of a region: it reads what all tell, and writes the sum for the others.
    pub async fn publish(&self, state: ProcessState, adds_up: bool) -> Option<Summary> {
        *self.own() = Some(state.clone());
        if self.lanes.is_empty() {
            return Some(Summary::of(&[state]));
        }
        let text = serde_json::to_string(&state).unwrap_or_default();
        let told = self.lanes.iter().map(async |lane| {
            let mut lane = lane.lock().await;
            let heard = lane.publish(&text).await.ok()?;
            Some((heard, if adds_up { lane.states().await.ok() } else { None }))
        });
        let told: Vec<_> = join_all(told).await.into_iter().flatten().collect();
        self.watched.store(told.iter().any(|(heard, _)| heard.is_watched), Ordering::Relaxed);
        if adds_up {
            let states = read_states(told.iter().filter_map(|(_, states)| states.as_ref()).flatten());
            if states.is_empty() {
                return None; // Not even this one is heard: no lane answers, or its clock has just stepped.
            }
            let sum = Summary::of(&states);
            let text = serde_json::to_string(&sum).unwrap_or_default();
            join_all(self.lanes.iter().map(async |lane| lane.lock().await.sum_up(&text).await)).await;
            return Some(sum);
        }
        told.into_iter().find_map(|(heard, _)| serde_json::from_str(&heard.summary?).ok())
    }

    /// Returns the states of all processes, this one's too, from all lanes that answer, and asks them for details;
    /// `None` if no lane answers.
    pub async fn states(&self) -> Option<Vec<ProcessState>> {
        if self.lanes.is_empty() {
            return Some(self.own().clone().into_iter().collect());
        }
        let told = self.lanes.iter().map(async |lane| {
            let mut lane = lane.lock().await;
            let _ = lane.watch().await;
            lane.states().await.ok()
        });
        let told: Vec<_> = join_all(told).await.into_iter().flatten().collect();
        // A lane that came back empty knows only some of them for a moment.
        (!told.is_empty()).then(|| read_states(told.iter().flatten()))
    }

    /// Tells what this process has seen of some subjects (an app, or `app/tenant`) since it was last asked, and returns, for
    /// each, what all have seen in the last 5 minutes, this one too; nothing for a subject whose lanes do not answer.
    pub async fn exchange(&self, news: &[(String, Evidence)]) -> Vec<Option<Evidence>> {
        let mut heard = vec![None; news.len()];
        let count = self.lanes.len();
        // Two lanes keep what is said of an app: one may be lost.
        for copy in 0..2.min(count) {
            let asked = self.lanes.iter().enumerate().map(async |(number, lane)| {
                let is_here =
                    |subject: &str| home(subject, count).map(|it| (it + copy) % count) == Some(number);
                let mine = news.iter().enumerate().filter(|(_, (subject, _))| is_here(subject));
                let (places, mine): (Vec<_>, Vec<_>) = mine.unzip();
                let answers =
                    if mine.is_empty() { None } else { lane.lock().await.exchange(&mine).await.ok() };
                (places, answers.unwrap_or_default())
            });
            for (places, answers) in join_all(asked).await {
                for (place, answer) in places.into_iter().zip(answers) {
                    let known: &mut Option<Evidence> = &mut heard[place];
                    known.get_or_insert(answer);
                }
            }
        }
        heard
    }

    /// Counts what lies in the queues of each lane.
    pub async fn depths(&self) -> Vec<LaneDepth> {
        join_all(self.lanes.iter().map(async |lane| {
            let mut lane = lane.lock().await;
            let depth = lane.depths().await.ok();
            LaneDepth { lane: lane.name().to_owned(), depth }
        }))
        .await
    }

    /// Leases at most `wanted` turns of a rate that all processes share, from the one lane that keeps it.
    /// `None` if that lane does not answer, or there is none: then everybody has to keep to a share.
    pub async fn lease(&self, rate: &str, per_second: f64, burst: u32, wanted: u32) -> Option<Lease> {
        let home = home(rate, self.rates.len())?;
        self.rates.get(home)?.lease(rate, per_second, burst, wanted).await
    }
}

/// Reads states; one process may be told of by several lanes.
fn read_states<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<ProcessState> {
    let states = texts.filter_map(|text| serde_json::from_str::<ProcessState>(text).ok());
    let all: HashMap<_, _> = states.map(|state| (state.process.clone(), state)).collect();
    all.into_values().collect()
}

/// The lane that keeps a rate: the same for all processes of all versions.
fn home(credential: &str, lanes: usize) -> Option<usize> {
    // FNV-1a.
    let hash = credential.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash.checked_rem(lanes as u64)?).ok()
}

impl fmt::Debug for PeerDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerDirectory").field("process", &self.process).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(broken: &[&str]) -> ProcessState {
        let app = |name: &str| {
            (name.to_owned(), AppState { is_broken: broken.contains(&name), ..AppState::default() })
        };
        let apps = ["ios", "android"].map(app).into();
        ProcessState { is_worker: true, apps, ..ProcessState::default() }
    }

    #[test]
    fn gateway_threads_share_what_all_workers_can_have_under_way() {
        let worker = ProcessState { is_worker: true, slots: 300, threads: 4, ..ProcessState::default() };
        let gateway = ProcessState { is_gateway: true, threads: 2, ..ProcessState::default() };

        assert_eq!(Summary::of(&[worker.clone(), gateway.clone(), worker.clone(), gateway]).share, 150);
        assert_eq!(Summary::of(&[worker]).share, 300);
    }

    #[test]
    fn an_app_is_out_of_order_when_all_workers_say_so() {
        let gateway = ProcessState { is_gateway: true, ..ProcessState::default() };

        assert!(Summary::of(std::slice::from_ref(&gateway)).broken.is_empty());
        assert!(Summary::of(&[worker(&["ios"]), worker(&[]), gateway.clone()]).broken.is_empty());
        let all = Summary::of(&[worker(&["ios", "android"]), gateway, worker(&["ios"])]);
        assert_eq!((all.broken, all.workers, all.gateways), (vec!["ios".to_owned()], 2, 1));
    }
}
