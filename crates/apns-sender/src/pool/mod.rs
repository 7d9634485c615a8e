//! Connection pool of one APNs endpoint: grants stream permits, in the order of asking.
//!
//! A request needs a [`StreamPermit`]: one stream within what Apple allows at the moment, and its body's share of what an
//! HTTP/2 connection may well have unanswered (more would be split, and not be answered sooner). When there is none,
//! callers wait in order, and one more connection is opened, up to a limit.

pub(crate) mod permit;
mod pooled;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use push_domain::{Backoff, Reason};
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use self::permit::StreamPermit;
use self::pooled::PooledConnection;
use crate::connection::{ConnectionError, Dialler, Driver};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// While Apple cannot be reached at all; the first success of a push must not wait for long.
const DIAL_BACKOFF: Backoff = Backoff { first: FIRST_PAUSE, longest: Duration::from_secs(2) };
/// While connections are made but come to nothing: Apple takes that for an attack.
const BACKOFF: Backoff = Backoff { first: FIRST_PAUSE, longest: Duration::from_mins(1) };
/// How long a new connection may be alone in being tried before another is opened beside it.
const WARM_UP: Duration = Duration::from_secs(2);
/// Somebody waiting all of this time, whoever it is, is worth another connection; less is a small crowd on its way.
const GROW_AFTER: Duration = Duration::from_millis(10);
/// A pause that callers wait for; during a longer one they are told at once.
const SHORT_PAUSE: Duration = Duration::from_millis(200);

/// Error of the pool: why there is no connection, and none is tried at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoConnection {
    /// Apple cannot be reached.
    Unreachable,
    /// Apple refuses the credentials on every new connection, with this word.
    Refused(Reason),
    /// As many wait as may.
    Crowded,
}

/// Connection pool under one provider key. Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub(crate) struct Pool {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    name: String,
    dialler: Dialler,
    max_connections: usize,
    max_waiting: usize,
    tasks: TaskTracker,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    connections: Vec<PooledConnection>,
    waiting: VecDeque<Waiting>,
    /// Since when somebody has been waiting at every moment.
    waiting_since: Option<Instant>,
    next_id: u64,
    dialling: bool,
    /// Connections in a row that came to nothing, and dials.
    pub(crate) failures: u32,
    dial_failures: u32,
    pub(crate) not_before: Option<Instant>,
    pub(crate) last_replaced: Option<Instant>,
    /// Why the last connection came to nothing, if Apple refused the credentials on it.
    pub(crate) refused: Option<Reason>,
    /// Somebody will look whether those who wait need another connection.
    watched: bool,
    /// No connection is opened any more.
    closed: bool,
}

struct Waiting {
    bytes: usize,
    caller: oneshot::Sender<Result<StreamPermit, NoConnection>>,
}

impl Pool {
    /// Makes a pool without a connection. At most `max_waiting` callers wait for a permit.
    pub(crate) fn new(
        name: String,
        dialler: Dialler,
        max_connections: usize,
        max_waiting: usize,
        tasks: &TaskTracker,
    ) -> Self {
        let (tasks, state) = (tasks.clone(), Mutex::default());
        Self { shared: Arc::new(Shared { name, dialler, max_connections, max_waiting, tasks, state }) }
    }

    /// Waits for a permit for a body of `bytes`. Fails at once while the endpoint is known to be out of reach.
    ///
    /// Cancel safe: a caller that stops waiting loses its place and nothing else.
    pub(crate) async fn acquire(&self, bytes: usize) -> Result<StreamPermit, NoConnection> {
        let granted = {
            let mut state = self.shared.lock();
            if state.waiting.is_empty()
                && let Some(permit) = self.take(&mut state, bytes)
            {
                return Ok(permit);
            }
            if state.connections.is_empty() && state.pause() > SHORT_PAUSE {
                return Err(state.no_connection());
            }
            if state.waiting.len() >= self.shared.max_waiting {
                state.waiting.retain(|waiting| !waiting.caller.is_closed());
                if state.waiting.len() >= self.shared.max_waiting {
                    return Err(NoConnection::Crowded);
                }
            }
            let (caller, granted) = oneshot::channel();
            state.waiting.push_back(Waiting { bytes, caller });
            self.grow(&mut state);
            granted
        };
        granted.await.unwrap_or(Err(NoConnection::Unreachable))
    }

    fn take(&self, state: &mut State, bytes: usize) -> Option<StreamPermit> {
        let roomy = state.connections.iter_mut().filter(|connection| connection.has_room(bytes));
        let connection = roomy.min_by_key(|connection| (connection.is_degraded(), connection.in_flight))?;
        connection.in_flight += 1;
        connection.in_flight_bytes += bytes;
        let requests = connection.requests.clone();
        Some(StreamPermit {
            pool: self.clone(),
            connection_id: connection.id,
            bytes,
            requests,
            is_late: AtomicBool::new(false),
        })
    }

    /// Gives free permits to those who wait, in order, and opens a connection if some still wait.
    pub(crate) fn serve(&self, mut state: MutexGuard<'_, State>) {
        let mut unwanted = Vec::new();
        while let Some(front) = state.waiting.front() {
            if front.caller.is_closed() {
                state.waiting.pop_front();
                continue;
            }
            let bytes = front.bytes;
            let Some(permit) = self.take(&mut state, bytes) else {
                break;
            };
            let Some(waiting) = state.waiting.pop_front() else {
                break;
            };
            // Not dropped here: `StreamPermit::drop` locks the state that is locked already.
            if let Err(permit) = waiting.caller.send(Ok(permit)) {
                unwanted.push(permit);
            }
        }
        self.grow(&mut state);
        let hopeless = state.connections.is_empty() && state.pause() > SHORT_PAUSE;
        let abandoned = if hopeless { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        let why = state.no_connection();
        drop(state);
        drop(unwanted);
        for waiting in abandoned {
            let _ = waiting.caller.send(Err(why.clone()));
        }
    }

    /// Opens a connection if some caller or other has been waiting for a while, none is being opened or warming up,
    /// and there may be one more. (That each waits for a moment only says nothing: the callers' own limit of pushes
    /// under way may be just above what the connections carry.)
    fn grow(&self, state: &mut State) {
        if state.waiting.is_empty() {
            state.waiting_since = None;
            return;
        }
        let since = *state.waiting_since.get_or_insert_with(Instant::now);
        let warming = state
            .connections
            .iter()
            .any(|connection| connection.answered_at.is_none() && connection.opened_at.elapsed() < WARM_UP);
        if !state.connections.is_empty() && !warming && since.elapsed() < GROW_AFTER {
            self.schedule_growth_check(state);
            return;
        }
        if state.closed
            || state.dialling
            || state.pause() > SHORT_PAUSE
            || warming
            || state.connections.len() >= self.shared.max_connections
        {
            return;
        }
        state.dialling = true;
        let (pool, not_before) = (self.clone(), state.not_before);
        self.shared.tasks.spawn(async move {
            if let Some(time) = not_before {
                tokio::time::sleep_until(time).await;
            }
            pool.dial().await;
        });
    }

    /// Looks once more when the first of those who wait has waited for long enough.
    fn schedule_growth_check(&self, state: &mut State) {
        if !std::mem::replace(&mut state.watched, true) {
            let pool = self.clone();
            self.shared.tasks.spawn(async move {
                tokio::time::sleep(GROW_AFTER).await;
                let mut state = pool.shared.lock();
                state.watched = false;
                pool.serve(state);
            });
        }
    }

    async fn dial(&self) {
        match self.shared.dialler.dial().await {
            Ok((requests, driver)) => self.opened(requests, driver),
            Err(error) => {
                let mut state = self.shared.lock();
                state.dialling = false;
                state.dial_failures += 1;
                let failures = state.dial_failures;
                state.pause_for(DIAL_BACKOFF.after(failures));
                self.serve(state);
                warn!(app = self.shared.name, failures, %error, "cannot connect to APNs");
                metrics::counter!("apns_connect_failures_total", "app" => self.shared.name.clone())
                    .increment(1);
            }
        }
    }

    fn opened(&self, requests: SendRequest<Bytes>, driver: Driver) {
        let retired = CancellationToken::new();
        let mut state = self.shared.lock();
        if state.closed {
            return;
        }
        let id = state.next_id;
        state.next_id += 1;
        state.dialling = false;
        state.dial_failures = 0;
        state.connections.push(PooledConnection::new(id, requests, retired.clone()));
        self.serve(state);
        metrics::counter!("apns_connections_opened_total", "app" => self.shared.name.clone()).increment(1);
        debug!(app = self.shared.name, connection = id, "connected to APNs");
        let pool = self.clone();
        self.shared.tasks.spawn(async move {
            // A connection that answers nothing wakes nobody: without this look,
            // those who wait would never get a second one.
            tokio::time::sleep(WARM_UP).await;
            pool.serve(pool.shared.lock());
        });
        let pool = self.clone();
        self.shared.tasks.spawn(async move {
            let is_busy =
                || pool.shared.lock().connection(id).is_some_and(|connection| connection.in_flight > 0);
            let limit_changed = |limit| pool.limit_changed(id, limit);
            let ended = driver.run(retired, limit_changed, is_busy, || pool.retire(id)).await;
            pool.closed(id, ended);
        });
    }

    fn limit_changed(&self, id: u64, limit: usize) {
        let mut state = self.shared.lock();
        if let Some(connection) = state.connection(id) {
            connection.limit = limit;
        }
        debug!(
            app = self.shared.name,
            connection = id,
            limit,
            "APNs allows another number of requests at once"
        );
        self.serve(state);
    }

    pub(crate) fn retire(&self, id: u64) {
        self.retire_matching(self.shared.lock(), |connection| connection.id == id);
    }

    /// Takes connections out of use. One that had to go before a push succeeded on it is a failure:
    /// reconnects slow down.
    pub(crate) fn retire_matching(
        &self,
        mut state: MutexGuard<'_, State>,
        goes: impl Fn(&PooledConnection) -> bool,
    ) {
        let (going, staying) =
            std::mem::take(&mut state.connections).into_iter().partition(|connection| goes(connection));
        state.connections = staying;
        let going: Vec<PooledConnection> = going;
        if going.iter().any(|connection| !connection.proven) {
            state.record_failure();
        }
        self.serve(state);
        for connection in going {
            connection.retired.cancel();
        }
    }

    /// Opens no more connections, and lets the present ones end with their last request.
    pub(crate) fn close(&self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let connections = std::mem::take(&mut state.connections);
        drop(state);
        for connection in connections {
            connection.retired.cancel();
        }
    }

    fn closed(&self, id: u64, ended: Result<(), ConnectionError>) {
        let mut state = self.shared.lock();
        // One that was retired is no longer in the list; its failure was counted then.
        if state.connection(id).is_some_and(|connection| !connection.proven) {
            state.record_failure();
        }
        state.connections.retain(|connection| connection.id != id);
        self.serve(state);
        match ended {
            Ok(()) => debug!(app = self.shared.name, connection = id, "connection to APNs closed"),
            Err(error) => warn!(app = self.shared.name, connection = id, %error, "connection to APNs lost"),
        }
    }
}

impl State {
    /// Begins to watch the crowd anew: a connection has just begun to carry.
    pub(crate) const fn reset_waiting_since(&mut self) {
        self.waiting_since = None;
    }

    fn no_connection(&self) -> NoConnection {
        self.refused.clone().map_or(NoConnection::Unreachable, NoConnection::Refused)
    }

    /// How long it is until a connection may be tried.
    fn pause(&self) -> Duration {
        self.not_before.map_or(Duration::ZERO, |time| time.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn connection(&mut self, id: u64) -> Option<&mut PooledConnection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    /// A connection ended before a push succeeded on it.
    fn record_failure(&mut self) {
        self.failures += 1;
        self.pause_for(BACKOFF.after(self.failures));
    }

    /// Opens no connection for so long, shortened by chance to half at most.
    fn pause_for(&mut self, longest: Duration) {
        self.not_before = Some(Instant::now() + longest.mul_f64(rand::rng().random_range(0.5..1.0)));
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.shared.name).finish_non_exhaustive()
    }
}
