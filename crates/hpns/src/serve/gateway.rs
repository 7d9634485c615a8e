//! The gateway role: takes pushes from customers' servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dispatch_stream::{InProcessQueue, JobProducer, RedisGateway, VitalTasks};
use gateway::{Authenticator, Gateway, Ledger, Parts, Version};
use http_edge::{DrainService, Edge, Tls};
use push_domain::AppCatalogue;
use tenant_registry::{KeyUseLedger, Keys, ServiceLevelLedger, TenantReader};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::context::ProcessContext;
use crate::listener_tls::ListenerTls;
use crate::registry::Registry;

/// Gateway role of a process.
pub(crate) struct GatewayRole {
    pub(crate) gateway: Arc<Gateway>,
    authenticator: Arc<Authenticator>,
    reader: Arc<dyn TenantReader>,
    tls: Option<Tls>,
    /// What callers may cost, all threads and listeners together.
    edge: Arc<Edge>,
    /// The way to workers in other processes.
    lanes: Option<RedisGateway>,
    /// Where the use of keys is noted.
    key_use: Arc<dyn KeyUseLedger>,
    /// Where what became of pushes is written.
    ledger: Arc<dyn ServiceLevelLedger>,
}

/// The listeners of one serving thread.
pub(super) struct Listeners {
    first: TcpListener,
    /// Plain HTTP, whatever the first speaks.
    plain: Option<TcpListener>,
}

impl GatewayRole {
    /// Puts the role together, reads the licences, and starts what keeps them fresh. Without licences nothing is taken.
    pub(super) async fn start(
        context: &ProcessContext,
        registry: &Registry,
        keys: Keys,
        apps: Arc<AppCatalogue>,
    ) -> anyhow::Result<Self> {
        let ProcessContext { config, clock, .. } = context;
        let mut authenticator =
            Authenticator::new(config.gateway.admission(&config.region), keys, Arc::clone(clock));
        if let Some(peers) = context.shared_peers() {
            authenticator = authenticator.sharing(Arc::clone(peers));
        }
        let authenticator = Arc::new(authenticator);
        let gateway = Gateway::new(Parts {
            config: config.gateway.clone(),
            authenticator: Arc::clone(&authenticator),
            apps,
            clock: Arc::clone(clock),
            version: Version { hash: env!("BUILD_COMMIT").into(), version: env!("CARGO_PKG_VERSION").into() },
            ledger: Ledger::new(&context.id, &config.region, config.service_level, Arc::clone(clock)),
        });
        let listener = ListenerTls::load(config)?;
        let tls = listener.as_ref().map(|listener| listener.tls.clone());
        let lanes = context.lanes.as_ref().map(|lanes| lanes.gateway(&context.id, config)).transpose()?;
        let edge = gateway::edge(config.gateway.limits.clone());
        let (reader, key_use, ledger) = (registry.reader(), registry.key_use(), registry.service_level());
        let role = Self { gateway, authenticator, reader, tls, edge, lanes, key_use, ledger };
        role.authenticator.load(&*role.reader).await.context("the licences cannot be read")?;
        role.keep_fresh(context, listener);
        Ok(role)
    }

    fn keep_fresh(&self, context: &ProcessContext, listener: Option<ListenerTls>) {
        let ProcessContext { config, clock, stop, .. } = context;
        let tasks = context.vital_tasks();
        let every = Duration::from_millis(config.registry.poll_ms);
        let (authenticator, reader) = (Arc::clone(&self.authenticator), Arc::clone(&self.reader));
        let key_use = Arc::clone(&self.key_use);
        tasks.spawn(gateway::keep_fresh(authenticator, reader, key_use, every, stop.clone()));
        let ledger = self.gateway.ledger().keep_written(Arc::clone(&self.ledger), context.end.clone());
        tasks.spawn(ledger);
        if let Some(listener) = listener {
            let every = Duration::from_millis(config.credentials.poll_ms);
            tasks.spawn(listener.keep_fresh(Arc::clone(clock), every, stop.clone()));
        }
    }

    /// Reserves the port that the serving threads share. One that another process serves is refused, although the
    /// threads themselves share it. The probe is closed on return; the address is the one to bind.
    pub(super) fn reserve(context: &ProcessContext) -> anyhow::Result<SocketAddr> {
        let wanted = context.config.gateway.listen;
        let probe = http_edge::bind(wanted, false);
        let probe = probe.with_context(|| format!("gateway.listen: cannot listen on {wanted}"))?;
        Ok(probe.local_addr()?)
    }

    /// Makes the way of one serving thread's pushes to the workers.
    pub(super) fn submit(
        &self,
        number: usize,
        threads: usize,
        queue: &InProcessQueue,
        tasks: &VitalTasks,
    ) -> Arc<dyn JobProducer> {
        match &self.lanes {
            Some(lanes) => Arc::new(lanes.serve(number, threads, tasks)),
            None => Arc::new(queue.clone()),
        }
    }

    /// Takes pushes until the process stops; then takes no more, and ends when all are answered and told.
    pub(super) async fn serve(
        &self,
        listeners: Listeners,
        submit: Arc<dyn JobProducer>,
        context: &ProcessContext,
    ) {
        let (connections, pushes) = (TaskTracker::new(), TaskTracker::new());
        let service =
            DrainService::new(self.gateway.service(submit, pushes.clone()), context.draining.clone());
        let (tls, stop) = (self.tls.clone(), context.stop.clone());
        if let Some(plain) = listeners.plain {
            let (service, edge) = (service.clone(), Arc::clone(&self.edge));
            let serving = http_edge::serve(plain, None, service, edge, stop.clone(), connections.clone());
            connections.spawn(serving);
        }
        let edge = Arc::clone(&self.edge);
        http_edge::serve(listeners.first, tls, service, edge, stop, connections.clone()).await;
        connections.close();
        connections.wait().await;
        // Those too whose callers have left.
        pushes.close();
        pushes.wait().await;
    }

    /// Writes what is left to write, and if all pushes are told, that nothing more will come.
    pub(super) async fn end(&self, all_told: bool) {
        if let Err(error) = self.gateway.ledger().close(&*self.ledger, all_told).await {
            warn!(%error, "the last of what became of pushes could not be written");
        }
    }

    /// Says why no push can be taken at the moment, if none can: a stable code, and a sentence.
    pub(super) fn unready(&self) -> Option<(&'static str, &'static str)> {
        if !self.authenticator.is_ready() {
            return Some(("starting", "licences have not been read yet"));
        }
        let has_lane = self.lanes.as_ref().is_none_or(RedisGateway::is_ready);
        (!has_lane).then_some(("no_lane", "no lane can be reached"))
    }
}

impl Listeners {
    /// Binds them, on a runtime's thread.
    pub(super) fn bind(first: SocketAddr, context: &ProcessContext) -> anyhow::Result<Self> {
        let listen = |address| {
            http_edge::bind(address, true).with_context(|| format!("the gateway cannot listen on {address}"))
        };
        let plain = context.config.gateway.plain_listen.map(listen).transpose()?;
        Ok(Self { first: listen(first)?, plain })
    }
}
