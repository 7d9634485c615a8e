//! Peer-state exchange: what the processes of a region tell each other through the lanes.

use std::sync::Arc;
use std::time::Duration;

use dispatch_stream::ProcessState;

use super::Roles;
use super::context::ProcessContext;

const EXCHANGE_INTERVAL: Duration = Duration::from_millis(500);

/// Peer sync: publishes this process's state to the others, and acts on theirs.
pub(super) struct PeerSync {
    context: ProcessContext,
    roles: Arc<Roles>,
    threads: u32,
    /// How many pushes of one app this process can have under way.
    slots: u32,
}

impl PeerSync {
    pub(super) fn new(context: ProcessContext, roles: Arc<Roles>) -> Self {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let threads = context.config.threads();
        let slots = count(threads * context.config.worker.slots_of_one_app());
        Self { context, roles, threads: count(threads), slots }
    }

    /// Exchanges states until the process stops.
    pub(super) async fn run(self) {
        loop {
            self.exchange().await;
            tokio::select! {
                () = self.context.stop.cancelled() => return,
                () = tokio::time::sleep(EXCHANGE_INTERVAL) => {}
            }
        }
    }

    async fn exchange(&self) {
        let ProcessContext { peers, .. } = &self.context;
        let state = self.state(peers.is_watched());
        let worker = self.roles.worker.as_ref();
        if let Some(role) = worker {
            role.guards.exchange_evidence(peers).await;
        }
        let adds_up = worker.is_some_and(super::worker::WorkerRole::is_reaper);
        // Without an answer, what was known before holds.
        let Some(summary) = peers.publish(state, adds_up).await else { return };
        if let Some(role) = worker {
            role.guards.share_among(summary.workers.max(1));
        }
        // In one process the worker itself answers at once.
        if let Some(role) = self.roles.gateway.as_ref().filter(|_| self.context.lanes.is_some()) {
            role.gateway.apply_summary(&summary);
        }
    }

    /// What this process tells; details only while somebody looks at them.
    fn state(&self, details: bool) -> ProcessState {
        let Roles { gateway, worker, .. } = &*self.roles;
        let mut apps = worker
            .as_ref()
            .map(|role| role.guards.states(self.context.clock.now(), details))
            .unwrap_or_default();
        if let Some(role) = worker.as_ref().filter(|_| details) {
            role.apps.describe(&mut apps);
        }
        let load = gateway.as_ref().filter(|_| details).map(|role| role.gateway.load()).unwrap_or_default();
        // Who leaves takes no share of anything any more.
        let stays = !self.context.draining.is_cancelled();
        ProcessState {
            process: self.context.id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            threads: self.threads,
            slots: self.slots,
            is_gateway: gateway.is_some() && stays,
            is_worker: worker.is_some() && stays,
            apps,
            lines: load.lines,
            tenants: load.tenants,
        }
    }
}
