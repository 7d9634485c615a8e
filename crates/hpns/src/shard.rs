//! One serving thread: its own runtime, listener, way to the workers, worker and provider connections. No lock on
//! the way of a push is shared with the other threads (docs/PERFORMANCE.md).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use dispatch_stream::{GatewayThread, InProcess, JobSource, RedisWorker, Submit, VitalTasks, WorkerThread};
use dispatch_worker::{Guards, Parts, Worker};
use gateway::Gateway;
use http_edge::{Edge, Farewell, Tls};
use push_domain::{Clock, Provider};
use tenant_registry::Recorder;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apps::{Apps, ThreadSenders};
use crate::config::Config;
use crate::lanes::Lanes;

const TICK: Duration = Duration::from_secs(1);
/// How long the last verdicts may take to their gateways when a worker stops.
const LAST_VERDICTS: Duration = Duration::from_secs(5);

/// What every serving thread gets.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    /// Names this process for as long as it runs.
    pub(crate) process: String,
    pub(crate) accepting: Option<Accepting>,
    pub(crate) delivering: Option<Delivering>,
    pub(crate) lanes: Option<Arc<Lanes>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Asks callers to go elsewhere.
    pub(crate) leaving: CancellationToken,
    /// Takes no more.
    pub(crate) stop: CancellationToken,
    /// A task that the process cannot do without has panicked.
    pub(crate) lost: CancellationToken,
}

/// What takes pushes.
#[derive(Clone)]
pub(crate) struct Accepting {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) tls: Option<Tls>,
    /// What callers may cost, all threads and listeners together.
    pub(crate) edge: Arc<Edge>,
}

/// Where pushes come in.
struct Listeners {
    first: TcpListener,
    /// Plain HTTP, whatever the first speaks.
    plain: Option<TcpListener>,
}

/// What delivers them.
#[derive(Clone)]
pub(crate) struct Delivering {
    pub(crate) apps: Arc<Apps>,
    pub(crate) guards: Guards,
    pub(crate) recorder: Recorder,
}

/// A running thread.
pub(crate) struct Shard {
    pub(crate) thread: JoinHandle<()>,
    /// Resolves when everything that the thread took is answered.
    pub(crate) ended: oneshot::Receiver<()>,
    pub(crate) pulse: Pulse,
}

impl Shard {
    /// Starts a thread, which serves on `address`, a port that it shares with its fellows, if there is one.
    pub(crate) fn start(number: usize, address: Option<SocketAddr>, shared: Shared) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listeners = {
            let _inside = runtime.enter();
            let listen = |address| {
                http_edge::bind(address, true)
                    .with_context(|| format!("the gateway cannot listen on {address}"))
            };
            let listeners = |first| -> anyhow::Result<Listeners> {
                let plain = shared.config.gateway.plain_listen.map(listen).transpose()?;
                Ok(Listeners { first: listen(first)?, plain })
            };
            address.map(listeners).transpose()?
        };
        let pulse = Pulse::new();
        let (ending, ended) = oneshot::channel();
        let heart = pulse.clone();
        let tasks = TaskTracker::new();
        let body = move || {
            runtime.block_on(async {
                let vital = VitalTasks::new(tasks.clone(), shared.lost.clone());
                vital.spawn(heart.beat());
                let dispatch = Dispatch::start(number, &shared, &vital);
                let delivery = shared.delivering.as_ref();
                let delivery = delivery.map(|delivering| deliver(delivering, &dispatch, &shared, &tasks));
                match (&shared.accepting, listeners) {
                    (Some(accepting), Some(listeners)) => {
                        accept(accepting, listeners, &dispatch, &shared, &tasks).await;
                    }
                    _ => shared.stop.cancelled().await,
                }
                dispatch.close();
                if let Some(delivery) = delivery {
                    delivery.wait().await;
                    dispatch.settled().await;
                }
            });
            let _ = ending.send(());
        };
        let thread = std::thread::Builder::new().name(format!("hpns-serve-{number}")).spawn(body)?;
        Ok(Self { thread, ended, pulse })
    }
}

/// Tells when a thread last ran.
#[derive(Debug, Clone)]
pub(crate) struct Pulse {
    began: Instant,
    /// Milliseconds after `began`.
    last: Arc<AtomicU64>,
}

impl Pulse {
    fn new() -> Self {
        Self { began: Instant::now(), last: Arc::default() }
    }

    /// Returns for how long the thread has not run.
    pub(crate) fn silence(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    /// Beats until the thread's runtime ends.
    async fn beat(self) {
        loop {
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last.store(now, Ordering::Relaxed);
            tokio::time::sleep(TICK).await;
        }
    }
}

/// The way between the halves: inside this thread, or through the lanes.
enum Dispatch {
    InProcess(InProcess),
    Lanes { lanes: Arc<Lanes>, gateway: Option<Arc<GatewayThread>>, worker: Option<Arc<WorkerThread>> },
}

impl Dispatch {
    fn start(number: usize, shared: &Shared, tasks: &VitalTasks) -> Self {
        let settings = &shared.config.dispatch;
        let Some(lanes) = &shared.lanes else {
            return Self::InProcess(InProcess::new(settings.capacity));
        };
        let threads = shared.config.threads();
        let gateway = lanes.gateway.as_ref().map(|it| Arc::new(it.serve(number, threads, tasks)));
        let worker = lanes.worker.as_ref().zip(shared.delivering.as_ref()).map(|(worker, delivering)| {
            Arc::new(worker.serve(number, threads, Arc::clone(&delivering.apps.catalogue), tasks))
        });
        Self::Lanes { lanes: Arc::clone(lanes), gateway, worker }
    }

    fn submit(&self) -> Option<Arc<dyn Submit>> {
        match self {
            Self::InProcess(queue) => Some(Arc::new(queue.clone())),
            Self::Lanes { gateway, .. } => gateway.clone().map(|gateway| gateway as _),
        }
    }

    fn source(&self) -> Option<Arc<dyn JobSource>> {
        match self {
            Self::InProcess(queue) => Some(Arc::new(queue.clone())),
            Self::Lanes { worker, .. } => worker.clone().map(|worker| worker as _),
        }
    }

    /// Claims no more.
    fn close(&self) {
        match self {
            Self::InProcess(queue) => queue.close(),
            Self::Lanes { lanes, .. } => lanes.worker.iter().for_each(RedisWorker::close),
        }
    }

    /// Waits until every verdict is published, as long as that may take.
    async fn settled(&self) {
        if let Self::Lanes { lanes, .. } = self
            && let Some(worker) = &lanes.worker
        {
            let _ = tokio::time::timeout(LAST_VERDICTS, worker.settled()).await;
        }
    }
}

/// Starts a worker for everything that this thread claims; what it returns ends when all of that is finished.
fn deliver(
    delivering: &Delivering,
    dispatch: &Dispatch,
    shared: &Shared,
    tasks: &TaskTracker,
) -> TaskTracker {
    let worker = Worker::new(Parts {
        senders: Box::new(ThreadSenders::new(Arc::clone(&delivering.apps), tasks.clone())),
        guards: delivering.guards.clone(),
        recorder: delivering.recorder.clone(),
        clock: Arc::clone(&shared.clock),
        config: shared.config.worker.clone(),
        tasks: tasks.clone(),
    });
    let loops = TaskTracker::new();
    let vital = VitalTasks::new(loops.clone(), shared.lost.clone());
    if let Some(source) = dispatch.source() {
        for provider in [Provider::Apns, Provider::Fcm] {
            vital.spawn(Arc::clone(&worker).run(Arc::clone(&source), provider, shared.config.worker.slots));
        }
    }
    loops.close();
    loops
}

/// Takes pushes until `stop`; then takes no more, and ends when all are answered.
async fn accept(
    accepting: &Accepting,
    listeners: Listeners,
    dispatch: &Dispatch,
    shared: &Shared,
    tasks: &TaskTracker,
) {
    let Some(submit) = dispatch.submit() else { return };
    let connections = TaskTracker::new();
    let service = Farewell::new(accepting.gateway.service(submit, tasks.clone()), shared.leaving.clone());
    let (tls, stop) = (accepting.tls.clone(), shared.stop.clone());
    if let Some(plain) = listeners.plain {
        let (service, edge) = (service.clone(), Arc::clone(&accepting.edge));
        let serving = http_edge::serve(plain, None, service, edge, stop.clone(), connections.clone());
        connections.spawn(serving);
    }
    let edge = Arc::clone(&accepting.edge);
    http_edge::serve(listeners.first, tls, service, edge, stop, connections.clone()).await;
    connections.close();
    connections.wait().await;
}
