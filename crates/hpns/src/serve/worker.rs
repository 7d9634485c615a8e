//! The worker role: delivers what gateways have taken.

use std::sync::Arc;
use std::time::Duration;

use dispatch_stream::{InProcessQueue, JobConsumer, RedisWorker, VitalTasks};
use dispatch_worker::{Guards, Parts, Worker};
use push_domain::Provider;
use tenant_registry::LedgerWriter;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::context::ProcessContext;
use crate::apps::{Apps, CredentialLoader, ThreadSenders};
use crate::registry::Ledger;

/// How long the last verdicts may take to their gateways when a worker stops.
const VERDICT_FLUSH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the registry may keep a start waiting for what is known of credentials.
const PROOFS_TIMEOUT: Duration = Duration::from_secs(2);

/// Worker role of a process.
pub(crate) struct WorkerRole {
    pub(crate) apps: Arc<Apps>,
    pub(crate) guards: Guards,
    ledger_writer: LedgerWriter,
    ledger: Ledger,
    /// The way from gateways in other processes.
    lanes: Option<RedisWorker>,
}

impl WorkerRole {
    /// Puts the role together and starts what goes on beside the pushes; `ledger` is that of a registry which is open
    /// already.
    pub(super) async fn start(context: &ProcessContext, ledger: Option<Ledger>) -> anyhow::Result<Self> {
        let ProcessContext { config, clock, .. } = context;
        let ledger = match ledger {
            Some(ledger) => ledger,
            None => Box::pin(Ledger::open(config)).await?,
        };
        let loader = CredentialLoader::new(Arc::clone(config), Arc::clone(clock), context.tasks.clone())?;
        let apps = Arc::new(Apps::load(Arc::clone(config), Some(loader))?);
        let guards = apps.guards(context.shared_peers());
        let lanes =
            context.lanes.as_ref().map(|lanes| lanes.worker(&context.id, config, clock)).transpose()?;
        let role = Self { apps, guards, ledger_writer: LedgerWriter::new(ledger.ledger()), ledger, lanes };
        // A registry that does not answer is no reason not to deliver; it is asked again.
        let known = role.ledger.ledger();
        let _ = tokio::time::timeout(PROOFS_TIMEOUT, Box::pin(role.apps.proven.read(&*known))).await;
        role.keep_records(context);
        Ok(role)
    }

    fn keep_records(&self, context: &ProcessContext) {
        let ProcessContext { clock, stop, .. } = context;
        let (tasks, ledger) = (context.vital_tasks(), self.ledger.ledger());
        tasks.spawn(self.guards.clone().keep_published());
        let (apps, known) = (Arc::clone(&self.apps), Arc::clone(&ledger));
        tasks.spawn(apps.keep_proofs(known, Arc::clone(clock), stop.clone()));
        tasks.spawn(self.ledger_writer.clone().keep_flushed(stop.clone()));
        tasks.spawn(tenant_registry::run_device_retention(ledger, Arc::clone(clock), stop.clone()));
    }

    /// Starts a worker for everything that a serving thread claims; what it returns ends when all of that is finished.
    pub(super) fn deliver(
        &self,
        number: usize,
        queue: &InProcessQueue,
        context: &ProcessContext,
        vital: &VitalTasks,
        tasks: &TaskTracker,
    ) -> TaskTracker {
        let config = &context.config;
        let source: Arc<dyn JobConsumer> = match &self.lanes {
            Some(lanes) => {
                Arc::new(lanes.serve(number, config.threads(), Arc::clone(&self.apps.catalogue), vital))
            }
            None => Arc::new(queue.clone()),
        };
        let worker = Worker::new(Parts {
            senders: Box::new(ThreadSenders::new(Arc::clone(&self.apps), tasks.clone())),
            guards: self.guards.clone(),
            ledger_writer: self.ledger_writer.clone(),
            clock: Arc::clone(&context.clock),
            config: config.worker.clone(),
            tasks: tasks.clone(),
        });
        let loops = TaskTracker::new();
        let vital = VitalTasks::new(loops.clone(), context.lost.clone());
        for provider in Provider::ALL {
            vital.spawn(Arc::clone(&worker).run(Arc::clone(&source), provider, config.worker.slots));
        }
        loops.close();
        loops
    }

    /// Claims no more.
    pub(super) fn close(&self) {
        self.lanes.iter().for_each(RedisWorker::close);
    }

    /// Waits until every verdict is published, as long as that may take.
    pub(super) async fn settled(&self) {
        if let Some(lanes) = &self.lanes {
            let _ = tokio::time::timeout(VERDICT_FLUSH_TIMEOUT, lanes.settled()).await;
        }
    }

    /// Whether this process adds up what all tell.
    pub(super) fn is_reaper(&self) -> bool {
        self.lanes.as_ref().is_some_and(RedisWorker::is_reaper)
    }

    pub(super) fn is_up(&self) -> bool {
        self.lanes.as_ref().is_none_or(RedisWorker::is_up)
    }

    /// Returns for how long the slowest reader of jobs has not moved.
    pub(super) fn stalled_for(&self) -> Duration {
        self.lanes.as_ref().map(RedisWorker::stalled_for).unwrap_or_default()
    }

    /// Writes what is left to write.
    pub(super) async fn end(&self) {
        if let Err(error) = self.ledger_writer.flush().await {
            warn!(%error, "the last sightings of devices could not be written");
        }
        self.ledger.close().await;
    }
}
