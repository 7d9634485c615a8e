//! Server process: assembles its roles, starts them, and shuts them down.

mod admin;
mod context;
mod gateway;
mod health;
mod peers;
mod shutdown;
mod thread;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use http_edge::{Edge, Limits};
use tenant_registry::Keys;
use tracing::{info, warn};

use self::admin::AdminRole;
use self::context::ProcessContext;
use self::gateway::GatewayRole;
use self::health::Health;
use self::peers::PeerSync;
use self::shutdown::{ShutdownSequence, until_stopped};
use self::thread::ServingThread;
use self::worker::WorkerRole;
use crate::apps::{Apps, shown};
use crate::config::Config;
use crate::config::ConfigOptions;
use crate::demo::Demo;
use crate::hardening;
use crate::keyfile::KeyHolder;
use crate::registry::Registry;
use crate::signals::Signals;
use crate::telemetry::{self, Telemetry};

/// How long the last writes to the registry may take.
const SHUTDOWN_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Role of a process, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything.
    All,
    /// Takes pushes.
    Gateway,
    /// Delivers them.
    Worker,
    /// Serves operators.
    Admin,
}

impl Role {
    const fn is_gateway(self) -> bool {
        matches!(self, Self::All | Self::Gateway)
    }

    const fn is_worker(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    const fn is_admin(self) -> bool {
        matches!(self, Self::All | Self::Admin)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Gateway => "gateway",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }
}

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(role: Role, options: &ConfigOptions, demo: bool) -> anyhow::Result<()> {
    let mut config = Config::load(options.config.as_deref())?;
    let demo = if demo { Some(Demo::start(&mut config)?) } else { None };
    ensure!(
        matches!(role, Role::All | Role::Admin) || !config.dispatch.lanes.is_empty(),
        "a {} needs `dispatch.lanes`: the Redis servers between gateways and workers",
        role.name()
    );
    let telemetry = Arc::new(telemetry::install(&config.log, &config.region)?);
    hardening::harden();
    hardening::raise_open_files();
    let threads = config.threads();
    info!(role = role.name(), configuration = shown(options.config.as_deref()), threads, "starting");
    for (before, now) in &config.renamed {
        warn!("`{before}` is called `{now}` now: the next version does not know the old name");
    }
    if config.development.custom_endpoints && demo.is_none() {
        warn!("development.custom_endpoints is on: pushes may go elsewhere than to Apple and Google");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(role, Arc::new(config), telemetry, demo.as_ref()));
    // A hard stop leaves tasks behind; they must not hold the process.
    runtime.shutdown_background();
    ended
}

async fn serve(
    role: Role,
    config: Arc<Config>,
    telemetry: Arc<Telemetry>,
    demo: Option<&Demo>,
) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let registry = open_registry(role, &config).await?;
    let context = ProcessContext::open(config).await?;
    let secrets = match (&registry, demo) {
        (Some((registry, _)), Some(demo)) => {
            let ProcessContext { config, clock, .. } = &context;
            Some(demo.secrets(&*registry.admin(), &config.region, &**clock).await?)
        }
        _ => None,
    };
    let process = Box::pin(Process::start(role, context, registry)).await?;
    let (gateway, threads) = process.start_threads()?;
    let admin = process.serve_operators(role, gateway)?;
    let health = process.serve_health(&threads, telemetry)?;
    let shown = |address: Option<SocketAddr>| address.map(tracing::field::display);
    let console = admin.as_ref().map(|role| role.address);
    let message = if gateway.is_some() { "listening" } else { "working" };
    info!(gateway = shown(gateway), admin = shown(console), health = %health, message);
    if let (Some(demo), Some(secrets), Some(gateway), Some(console)) = (demo, secrets, gateway, console) {
        demo.announce(gateway, console, &secrets)?;
    }
    let ended = until_stopped(signals, threads, process.shutdown()).await;
    if tokio::time::timeout(SHUTDOWN_WRITE_TIMEOUT, process.end(admin, ended.is_ok())).await.is_err() {
        warn!("the registry did not let go in time");
    }
    ended
}

/// Opens the registry of a gateway and of the admin role, which share one in one process.
async fn open_registry(role: Role, config: &Config) -> anyhow::Result<Option<(Registry, Keys)>> {
    let holder = if role.is_admin() { KeyHolder::Operators } else { KeyHolder::Gateway };
    let needed = role.is_gateway() || role.is_admin();
    Ok(if needed { Some(Registry::open(config, holder).await?) } else { None })
}

/// Assembled roles that the serving threads carry out.
pub(crate) struct Roles {
    gateway: Option<GatewayRole>,
    worker: Option<WorkerRole>,
}

/// Server process and its roles.
struct Process {
    context: ProcessContext,
    roles: Arc<Roles>,
    apps: Arc<Apps>,
    registry: Option<(Registry, Keys)>,
}

impl Process {
    /// Puts the roles together, and starts what goes on beside the pushes.
    async fn start(
        role: Role,
        context: ProcessContext,
        registry: Option<(Registry, Keys)>,
    ) -> anyhow::Result<Self> {
        let worker = if role.is_worker() {
            let ledger = registry.as_ref().and_then(|(registry, _)| registry.ledger());
            Some(Box::pin(WorkerRole::start(&context, ledger)).await?)
        } else {
            None
        };
        let apps = match &worker {
            Some(worker) => Arc::clone(&worker.apps),
            None => Arc::new(Apps::load(Arc::clone(&context.config), None)?),
        };
        let gateway = match &registry {
            Some((registry, keys)) if role.is_gateway() => {
                let catalogue = Arc::clone(&apps.catalogue);
                Some(GatewayRole::start(&context, registry, keys.clone(), catalogue).await?)
            }
            _ => None,
        };
        let roles = Arc::new(Roles { gateway, worker });
        let guards = roles.worker.as_ref().map(|worker| worker.guards.clone());
        let tasks = context.vital_tasks();
        tasks.spawn(Arc::clone(&apps).keep_fresh(guards, context.stop.clone()));
        // Who only serves operators listens, and says nothing.
        if role.is_gateway() || role.is_worker() {
            tasks.spawn(PeerSync::new(context.clone(), Arc::clone(&roles)).run());
        }
        Ok(Self { context, roles, apps, registry })
    }

    /// Starts the serving threads; those that take pushes share one port.
    fn start_threads(&self) -> anyhow::Result<(Option<SocketAddr>, Vec<ServingThread>)> {
        let address = match &self.roles.gateway {
            Some(_) => Some(GatewayRole::reserve(&self.context)?),
            None => None,
        };
        let start = |number| ServingThread::start(number, address, &self.context, Arc::clone(&self.roles));
        let threads = (0..self.context.config.threads()).map(start);
        Ok((address, threads.collect::<anyhow::Result<_>>()?))
    }

    /// Serves the admin API and the console, where this process does; `gateway` is its own, if it has one.
    fn serve_operators(&self, role: Role, gateway: Option<SocketAddr>) -> anyhow::Result<Option<AdminRole>> {
        let Some((registry, keys)) = self.registry.as_ref().filter(|_| role.is_admin()) else {
            return Ok(None);
        };
        let plain = gateway.filter(|_| self.context.config.gateway.tls.is_none());
        let apps = Arc::clone(&self.apps.catalogue);
        AdminRole::start(&self.context, registry.admin(), keys.clone(), apps, plain).map(Some)
    }

    fn serve_health(
        &self,
        threads: &[ServingThread],
        telemetry: Arc<Telemetry>,
    ) -> anyhow::Result<SocketAddr> {
        let wanted = self.context.config.health.listen;
        let listener = http_edge::bind(wanted, false);
        let listener = listener.with_context(|| format!("health.listen: cannot listen on {wanted}"))?;
        let address = listener.local_addr()?;
        let health = Health {
            metrics: telemetry.metrics.clone(),
            roles: Arc::clone(&self.roles),
            watchdogs: threads.iter().map(|thread| thread.watchdog.clone()).collect(),
            draining: self.context.draining.clone(),
        };
        let edge = Edge::new("health", Limits::of_a_private_port());
        let ProcessContext { end, tasks, .. } = &self.context;
        let router = health::router(health);
        tasks.spawn(http_edge::serve(listener, None, router, edge, end.clone(), tasks.clone()));
        tasks.spawn(async move { telemetry.upkeep().await });
        Ok(address)
    }

    fn shutdown(&self) -> ShutdownSequence {
        let ProcessContext { config, draining, stop, lost, .. } = &self.context;
        ShutdownSequence {
            lost: lost.clone(),
            draining: draining.clone(),
            drain: Duration::from_secs(config.server.drain_seconds),
            stop: stop.clone(),
            grace: Duration::from_secs(config.server.shutdown_grace_seconds),
        }
    }

    /// Lets the roles write what is left to write; `all_told`: no push was lost under way.
    async fn end(&self, admin: Option<AdminRole>, all_told: bool) {
        self.context.end.cancel();
        if let Some(role) = &self.roles.gateway {
            role.end(all_told).await;
        }
        if let Some(role) = &self.roles.worker {
            role.end().await;
        }
        if let Some(role) = admin {
            role.end().await;
        }
        if let Some((registry, _)) = &self.registry {
            registry.close().await;
        }
        info!("stopped");
    }
}
