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

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::Mutex as AsyncMutex;

use crate::evidence::Evidence;
use crate::message_auth::BoardKeys;
use crate::peer_state::{LaneDepth, Lease, ProcessState, Summary};
use crate::redis::{Lane, LaneDirectory, LaneRates};

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
    use crate::peer_state::AppState;

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
