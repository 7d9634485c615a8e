//! Serving thread: its own runtime, listener, queue, worker and provider connections. No lock on the way of
//! a push is shared with the other threads (docs/PERFORMANCE.md).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use dispatch_stream::{InProcessQueue, VitalTasks};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Roles;
use super::context::ProcessContext;
use super::gateway::Listeners;

const TICK: Duration = Duration::from_secs(1);

/// Handle of a running serving thread.
pub(crate) struct ServingThread {
    pub(crate) thread: JoinHandle<()>,
    /// Resolves when everything that the thread took is answered.
    pub(crate) ended: oneshot::Receiver<()>,
    pub(crate) watchdog: Watchdog,
}

impl ServingThread {
    /// Starts a thread, which serves on `address`, a port that it shares with its fellows, if there is one.
    pub(crate) fn start(
        number: usize,
        address: Option<SocketAddr>,
        context: &ProcessContext,
        roles: Arc<Roles>,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let context = context.for_thread();
        let listeners = {
            let _inside = runtime.enter();
            address.map(|first| Listeners::bind(first, &context)).transpose()?
        };
        let (ending, ended) = oneshot::channel();
        let watchdog = Watchdog::new();
        let beating = watchdog.clone();
        let body = move || {
            runtime.block_on(async {
                let tasks = TaskTracker::new();
                let vital = VitalTasks::new(tasks.clone(), context.lost.clone());
                vital.spawn(beating.beat());
                Box::pin(serve(number, listeners, &context, &roles, &vital, &tasks)).await;
            });
            let _ = ending.send(());
        };
        let thread = std::thread::Builder::new().name(format!("hpns-serve-{number}")).spawn(body)?;
        Ok(Self { thread, ended, watchdog })
    }
}

/// Serves until the process stops, and ends when everything that was taken is answered and told.
async fn serve(
    number: usize,
    listeners: Option<Listeners>,
    context: &ProcessContext,
    roles: &Roles,
    vital: &VitalTasks,
    tasks: &TaskTracker,
) {
    // Between the halves of one thread, where there are no lanes.
    let queue = InProcessQueue::new(context.config.dispatch.capacity);
    let submit =
        roles.gateway.as_ref().map(|role| role.submit(number, context.config.threads(), &queue, vital));
    let delivery =
        roles.worker.as_ref().map(|role| (role, role.deliver(number, &queue, context, vital, tasks)));
    match (&roles.gateway, listeners, submit) {
        (Some(role), Some(listeners), Some(submit)) => role.serve(listeners, submit, context).await,
        _ => context.stop.cancelled().await,
    }
    // Only now: what was taken before had to be claimed.
    queue.close();
    if let Some((role, delivery)) = delivery {
        role.close();
        delivery.wait().await;
        role.settled().await;
    }
}

/// Watchdog of a serving thread: tells for how long it has not run.
#[derive(Debug, Clone)]
pub(crate) struct Watchdog {
    began: Instant,
    /// Milliseconds after `began`.
    last: Arc<AtomicU64>,
}

impl Watchdog {
    fn new() -> Self {
        Self { began: Instant::now(), last: Arc::default() }
    }

    /// Returns for how long the thread has not run.
    pub(crate) fn stalled_for(&self) -> Duration {
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
