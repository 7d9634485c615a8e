//! One serving thread: its own runtime, listener, queue, worker and provider connections. No lock on
//! the way of a push is shared with the other threads (docs/PERFORMANCE.md).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use dispatch_stream::InProcess;
use dispatch_worker::{Guards, Parts, Worker};
use gateway::Gateway;
use http_edge::Tls;
use push_domain::{Clock, Provider};
use tenant_registry::Recorder;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::apps::Apps;
use crate::config::Config;

const TICK: Duration = Duration::from_secs(1);

/// What every serving thread gets.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) apps: Arc<Apps>,
    pub(crate) guards: Guards,
    pub(crate) tls: Option<Tls>,
    pub(crate) recorder: Recorder,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: CancellationToken,
}

/// A running thread.
pub(crate) struct Shard {
    pub(crate) thread: JoinHandle<()>,
    /// Resolves when everything that the thread took is answered.
    pub(crate) ended: oneshot::Receiver<()>,
    pub(crate) pulse: Pulse,
}

impl Shard {
    /// Starts a thread that serves on `address`, a port that it shares with its fellows.
    pub(crate) fn start(number: usize, address: SocketAddr, shared: Shared) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            http_edge::bind(address, true)
                .with_context(|| format!("gateway.listen: cannot listen on {address}"))?
        };
        let pulse = Pulse::new();
        let (ending, ended) = oneshot::channel();
        let heart = pulse.clone();
        let tasks = TaskTracker::new();
        let senders = shared.apps.senders(&tasks)?;
        let body = move || {
            runtime.block_on(async {
                tasks.spawn(heart.beat());
                serve(listener, shared, senders, tasks).await;
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

/// Serves until `stop`; then takes no more, answers what was taken, and ends.
async fn serve(
    listener: tokio::net::TcpListener,
    shared: Shared,
    senders: dispatch_worker::Senders,
    tasks: TaskTracker,
) {
    let Shared { config, gateway, apps, guards, tls, recorder, clock, stop } = shared;
    let queue = InProcess::new(config.dispatch.capacity);
    let worker = Worker::new(Parts {
        apps: Arc::clone(&apps.catalogue),
        senders,
        guards,
        recorder,
        clock,
        config: config.worker.clone(),
        tasks: tasks.clone(),
    });
    let workers = TaskTracker::new();
    for provider in [Provider::Apns, Provider::Fcm] {
        let source = Arc::new(queue.clone());
        workers.spawn(Arc::clone(&worker).run(source, provider, config.worker.slots));
    }
    workers.close();
    let connections = TaskTracker::new();
    let limits = config.gateway.limits(config.threads());
    let service = gateway.service(Arc::new(queue.clone()), tasks);
    http_edge::serve(listener, tls, service, limits, stop, connections.clone()).await;
    connections.close();
    connections.wait().await;
    queue.close();
    workers.wait().await;
}
