//! The connections to one endpoint, and who may use which.
//!
//! A request needs a [`Slot`]: one stream within what Apple allows at the moment, and its body's
//! share of the 65,535 bytes that an HTTP/2 connection may have unanswered (RFC 9113, 6.9.2; more
//! would be split and could not be answered sooner). When there is none, callers wait in order, and
//! one more connection is opened, up to a limit.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use rand::RngExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::connection::{ConnectionError, Dialler, Driver};

const WINDOW_BYTES: usize = 65_535;
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const MAX_BACK_OFF: Duration = Duration::from_mins(1);
/// A pause that callers wait for; during a longer one they are told at once.
const SHORT_PAUSE: Duration = Duration::from_millis(200);

/// The endpoint cannot be reached at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreachable;

/// All connections under one provider key. Cheap to clone; all clones are one pool.
#[derive(Clone)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    name: String,
    dialler: Dialler,
    max_connections: usize,
    tasks: TaskTracker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    links: Vec<Link>,
    waiting: VecDeque<Waiting>,
    next_id: u64,
    dialling: bool,
    failures: u32,
    not_before: Option<Instant>,
}

/// One open connection.
struct Link {
    id: u64,
    requests: SendRequest<Bytes>,
    limit: usize,
    in_flight: usize,
    in_flight_bytes: usize,
    /// Whether it has answered once: until then Apple allows one request.
    warm: bool,
    retired: CancellationToken,
}

struct Waiting {
    bytes: usize,
    caller: oneshot::Sender<Result<Slot, Unreachable>>,
}

impl Link {
    fn has_room(&self, bytes: usize) -> bool {
        let fits = self.in_flight == 0 || self.in_flight_bytes + bytes <= WINDOW_BYTES;
        self.in_flight < self.limit && fits && !self.retired.is_cancelled()
    }
}

/// The right to send one request on one connection. Given back when dropped.
pub(crate) struct Slot {
    pool: Pool,
    link: u64,
    bytes: usize,
    pub(crate) requests: SendRequest<Bytes>,
}

impl Slot {
    /// Takes the connection out of use; requests in flight on it are still answered.
    pub(crate) fn retire_connection(&self) {
        self.pool.retire(self.link);
    }

    /// Notes that the connection works.
    pub(crate) fn answered(&self) {
        let mut state = self.pool.shared.lock();
        if let Some(link) = state.link(self.link) {
            if link.warm {
                return;
            }
            link.warm = true;
        }
        state.failures = 0;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.pool.shared.lock();
        if let Some(link) = state.link(self.link) {
            link.in_flight -= 1;
            link.in_flight_bytes -= self.bytes;
        }
        self.pool.serve(state);
    }
}

impl Pool {
    pub(crate) fn new(name: String, dialler: Dialler, max_connections: usize, tasks: TaskTracker) -> Self {
        Self { shared: Arc::new(Shared { name, dialler, max_connections, tasks, state: Mutex::default() }) }
    }

    /// Waits for a slot for a body of `bytes`. Fails at once while the endpoint is known to be out of reach.
    ///
    /// Cancel safe: a caller that stops waiting loses its place and nothing else.
    pub(crate) async fn slot(&self, bytes: usize) -> Result<Slot, Unreachable> {
        let granted = {
            let mut state = self.shared.lock();
            if state.waiting.is_empty()
                && let Some(slot) = self.take(&mut state, bytes)
            {
                return Ok(slot);
            }
            let pause = state.not_before.map_or(Duration::ZERO, |time| time.duration_since(Instant::now()));
            if state.links.is_empty() && pause > SHORT_PAUSE {
                return Err(Unreachable);
            }
            let (caller, granted) = oneshot::channel();
            state.waiting.push_back(Waiting { bytes, caller });
            self.grow(&mut state);
            granted
        };
        granted.await.unwrap_or(Err(Unreachable))
    }

    /// Returns how many connections are open.
    pub(crate) fn connections(&self) -> usize {
        self.shared.lock().links.len()
    }

    fn take(&self, state: &mut State, bytes: usize) -> Option<Slot> {
        let link =
            state.links.iter_mut().filter(|link| link.has_room(bytes)).min_by_key(|link| link.in_flight)?;
        link.in_flight += 1;
        link.in_flight_bytes += bytes;
        Some(Slot { pool: self.clone(), link: link.id, bytes, requests: link.requests.clone() })
    }

    /// Gives free slots to those who wait, in order, and opens a connection if some still wait.
    fn serve(&self, mut state: MutexGuard<'_, State>) {
        let mut unwanted = Vec::new();
        while let Some(front) = state.waiting.front() {
            if front.caller.is_closed() {
                state.waiting.pop_front();
                continue;
            }
            let bytes = front.bytes;
            let Some(slot) = self.take(&mut state, bytes) else {
                break;
            };
            let Some(waiting) = state.waiting.pop_front() else {
                break;
            };
            if let Err(slot) = waiting.caller.send(Ok(slot)) {
                unwanted.push(slot);
            }
        }
        self.grow(&mut state);
        drop(state);
        drop(unwanted);
    }

    /// Opens a connection if callers wait, none is being opened or warming up, and there may be one more.
    fn grow(&self, state: &mut State) {
        let warming = state.links.iter().any(|link| !link.warm && !link.retired.is_cancelled());
        if state.waiting.is_empty()
            || state.dialling
            || warming
            || state.links.len() >= self.shared.max_connections
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

    async fn dial(&self) {
        match self.shared.dialler.dial().await {
            Ok((requests, driver)) => self.opened(requests, driver),
            Err(error) => {
                let mut state = self.shared.lock();
                state.dialling = false;
                state.back_off();
                let failures = state.failures;
                let abandoned =
                    if state.links.is_empty() { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
                drop(state);
                warn!(app = self.shared.name, failures, %error, "cannot connect to APNs");
                metrics::counter!("apns_connect_failures_total", "app" => self.shared.name.clone())
                    .increment(1);
                for waiting in abandoned {
                    let _ = waiting.caller.send(Err(Unreachable));
                }
            }
        }
    }

    fn opened(&self, requests: SendRequest<Bytes>, driver: Driver) {
        let retired = CancellationToken::new();
        let mut state = self.shared.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.dialling = false;
        state.links.push(Link {
            id,
            requests,
            limit: 1,
            in_flight: 0,
            in_flight_bytes: 0,
            warm: false,
            retired: retired.clone(),
        });
        self.serve(state);
        metrics::counter!("apns_connections_opened_total", "app" => self.shared.name.clone()).increment(1);
        debug!(app = self.shared.name, connection = id, "connected to APNs");
        let pool = self.clone();
        self.shared.tasks.spawn(async move {
            let ended = driver.run(retired, |limit| pool.limit_changed(id, limit)).await;
            pool.closed(id, ended);
        });
    }

    fn limit_changed(&self, id: u64, limit: usize) {
        let mut state = self.shared.lock();
        if let Some(link) = state.link(id) {
            link.limit = limit;
        }
        debug!(
            app = self.shared.name,
            connection = id,
            limit,
            "APNs allows other number of requests at once"
        );
        self.serve(state);
    }

    fn retire(&self, id: u64) {
        let mut state = self.shared.lock();
        if let Some(link) = state.link(id) {
            link.retired.cancel();
            state.links.retain(|link| link.id != id);
        }
        self.serve(state);
    }

    fn closed(&self, id: u64, ended: Result<(), ConnectionError>) {
        let mut state = self.shared.lock();
        if state.link(id).is_some_and(|link| !link.warm) {
            state.back_off();
        }
        state.links.retain(|link| link.id != id);
        self.serve(state);
        match ended {
            Ok(()) => debug!(app = self.shared.name, connection = id, "connection to APNs closed"),
            Err(error) => warn!(app = self.shared.name, connection = id, %error, "connection to APNs lost"),
        }
    }
}

impl State {
    fn link(&mut self, id: u64) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.id == id)
    }

    /// Waits 0.1 s, 0.2 s, … 60 s, each shortened by chance to half at most: Apple takes rapid
    /// connecting and disconnecting for an attack.
    fn back_off(&mut self) {
        let full = FIRST_BACK_OFF.saturating_mul(1 << self.failures.min(10)).min(MAX_BACK_OFF);
        self.failures += 1;
        self.not_before = Some(Instant::now() + full.mul_f64(rand::rng().random_range(0.5..1.0)));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("name", &self.shared.name).finish_non_exhaustive()
    }
}
