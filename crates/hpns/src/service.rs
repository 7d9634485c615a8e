//! A process that serves: every role in one, or one of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use admin_api::Admin;
use anyhow::{Context, ensure};
use dispatch_stream::{Board, VitalTasks};
use gateway::{Authenticator, Gateway, Parts, Version};
use http_edge::{Edge, Limits};
use push_domain::{AppCatalogue, Clock, SystemClock};
use tenant_registry::{Keys, Recorder};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::apps::{Apps, shown};
use crate::chores::{self, Neighbours};
use crate::cli::ConfigOptions;
use crate::config::Config;
use crate::credentials::Workshop;
use crate::demo::Demo;
use crate::hardening;
use crate::health::{self, Health};
use crate::keyfile::Holder;
use crate::lanes::Lanes;
use crate::lifecycle::{Goodbye, Signals, until_stopped};
use crate::listener_tls::ListenerTls;
use crate::registry::{Ledger, Registry};
use crate::shard::{Accepting, Delivering, Shard, Shared};
use crate::telemetry::{self, Telemetry};

/// How long the last writes to the registry may take.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// What a process does.
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
    const fn accepts(self) -> bool {
        matches!(self, Self::All | Self::Gateway)
    }

    const fn delivers(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    const fn serves_operators(self) -> bool {
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

/// What writes to the registry until the end may take so long for its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(role: Role, options: &ConfigOptions, demo: bool) -> anyhow::Result<()> {
    let mut config = Config::load(options.config.as_deref())?;
    let demo = if demo { Some(Demo::start(&mut config)?) } else { None };
    ensure!(
        matches!(role, Role::All | Role::Admin) || !config.dispatch.lanes.is_empty(),
        "a {} needs `dispatch.lanes`: the Redis servers between gateways and workers",
        role.name()
    );
    let telemetry = Arc::new(telemetry::install(&config.log)?);
    hardening::harden();
    let (region, threads) = (&config.region, config.threads());
    info!(role = role.name(), region, configuration = shown(options.config.as_deref()), threads, "starting");
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
    let mut process = Box::pin(Process::assemble(role, config, telemetry)).await?;
    let secrets = match (&process.front, demo) {
        (Some(front), Some(demo)) => {
            let region = &process.shared.config.region;
            Some(demo.secrets(&*front.registry.admin(), region, &*process.shared.clock).await?)
        }
        _ => None,
    };
    process.begin_chores().await?;
    let (address, shards) = process.start_shards()?;
    let console = process.serve_operators(address)?;
    let health = process.serve_health(&shards)?;
    let shown = |address: Option<SocketAddr>| address.map(tracing::field::display);
    let message = if address.is_some() { "listening" } else { "working" };
    info!(gateway = shown(address), admin = shown(console), health = %health, message);
    if let (Some(demo), Some(secrets), Some(address), Some(console)) = (demo, secrets, address, console) {
        demo.announce(address, console, &secrets)?;
    }
    let ended = until_stopped(signals, shards, process.goodbye()).await;
    if tokio::time::timeout(LAST_WRITES, process.end()).await.is_err() {
        warn!("the registry did not let go in time");
    }
    ended
}

/// What the serving threads share, and what serves them.
struct Process {
    shared: Shared,
    front: Option<Front>,
    back: Option<Back>,
    desk: Option<Desk>,
    apps: Arc<Apps>,
    /// What the processes know of each other.
    board: Arc<Board>,
    telemetry: Arc<Telemetry>,
    tasks: TaskTracker,
    /// What writes to the registry until the end.
    watches: TaskTracker,
    /// Ends what outlives the serving threads: the private port.
    at_the_end: CancellationToken,
}

/// What a process needs that takes pushes.
struct Front {
    authenticator: Arc<Authenticator>,
    registry: Registry,
    tls: Option<ListenerTls>,
}

/// What a process needs that serves operators.
struct Desk {
    registry: Registry,
    keys: Keys,
}

/// What a process needs that delivers them.
struct Back {
    ledger: Ledger,
}

impl Process {
    async fn assemble(role: Role, config: Arc<Config>, telemetry: Arc<Telemetry>) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let tasks = TaskTracker::new();
        let mut lanes = Lanes::open(&config).await?;
        let process = uuid::Uuid::new_v4().simple().to_string();
        let board = Arc::new(match &lanes {
            Some(lanes) => Board::new(&process, &lanes.all, &lanes.words),
            None => Board::alone(&process),
        });
        let shared_board = lanes.is_some().then_some(&board);
        let opened = if role.accepts() || role.serves_operators() {
            let holder = if role.serves_operators() { Holder::Operators } else { Holder::Gateway };
            Some(Registry::open(&config, holder).await?)
        } else {
            None
        };
        let (delivering, back) = if role.delivers() {
            let shared = opened.as_ref().and_then(|(registry, _)| registry.ledger());
            let ledger = match shared {
                Some(ledger) => ledger,
                None => Box::pin(Ledger::open(&config)).await?,
            };
            let workshop = Workshop::new(Arc::clone(&config), Arc::clone(&clock), tasks.clone())?;
            let apps = Arc::new(Apps::load(Arc::clone(&config), Some(workshop))?);
            let (guards, recorder) = (apps.guards(shared_board), Recorder::new(ledger.ledger()));
            (Some(Delivering { apps, guards, recorder }), Some(Back { ledger }))
        } else {
            (None, None)
        };
        let apps = match &delivering {
            Some(delivering) => Arc::clone(&delivering.apps),
            None => Arc::new(Apps::load(Arc::clone(&config), None)?),
        };
        let (accepting, front) = match &opened {
            Some((registry, keys)) if role.accepts() => {
                let front = Front::open(&config, registry.clone(), keys.clone(), &clock, shared_board)?;
                let gateway = front.gateway(&config, Arc::clone(&apps.catalogue), &clock);
                let tls = front.tls.as_ref().map(|it| it.tls.clone());
                let edge = gateway::edge(config.gateway.limits());
                (Some(Accepting { gateway, tls, edge }), Some(front))
            }
            _ => (None, None),
        };
        let desk = opened.filter(|_| role.serves_operators());
        let desk = desk.map(|(registry, keys)| Desk { registry, keys });
        if let Some(lanes) = &mut lanes {
            if accepting.is_some() {
                lanes.take_pushes(&process, &config)?;
            }
            if delivering.is_some() {
                lanes.deliver(&process, &config, &clock)?;
            }
        }
        let lanes = lanes.map(Arc::new);
        let (leaving, stop, lost) = Default::default();
        let shared = Shared { config, process, accepting, delivering, lanes, clock, leaving, stop, lost };
        let at_the_end = CancellationToken::new();
        let watches = TaskTracker::new();
        Ok(Self { shared, front, back, desk, apps, board, telemetry, tasks, watches, at_the_end })
    }

    /// Starts what goes on beside the pushes, once what they need is there.
    async fn begin_chores(&mut self) -> anyhow::Result<()> {
        let Shared { config, delivering, clock, stop, lost, .. } = &self.shared;
        let tasks = VitalTasks::new(self.tasks.clone(), lost.clone());
        if let Some(front) = &mut self.front {
            let reader = front.registry.reader();
            front.authenticator.load(&*reader).await.context("the licences cannot be read")?;
            let every = Duration::from_millis(config.registry.poll_ms);
            let authenticator = Arc::clone(&front.authenticator);
            tasks.spawn(gateway::keep_fresh(authenticator, reader, every, stop.clone()));
            if let Some(tls) = front.tls.take() {
                let every = Duration::from_millis(config.credentials.poll_ms);
                tasks.spawn(chores::keep_certificate_fresh(tls, Arc::clone(clock), every, stop.clone()));
            }
        }
        if let (Some(delivering), Some(back)) = (delivering, &self.back) {
            let Delivering { apps, guards, recorder } = delivering.clone();
            tasks.spawn(chores::publish_guards(guards));
            let (ledger, known) = (back.ledger.clone(), back.ledger.ledger());
            // A registry that does not answer is no reason not to deliver; the chore goes on asking.
            let read = Box::pin(apps.proven.read(&*known));
            let _ = tokio::time::timeout(Duration::from_secs(2), read).await;
            tasks.spawn(chores::keep_proofs(apps, ledger, Arc::clone(clock), stop.clone()));
            tasks.spawn(chores::record_devices(recorder, stop.clone()));
            tasks.spawn(chores::forget_devices(back.ledger.clone(), Arc::clone(clock), stop.clone()));
        }
        let every = Duration::from_millis(config.credentials.poll_ms);
        let guards = delivering.as_ref().map(|it| it.guards.clone());
        tasks.spawn(chores::keep_apps_fresh(Arc::clone(&self.apps), guards, every, stop.clone()));
        let outages = self.shared.accepting.as_ref().map(|it| it.gateway.outages());
        let authenticator = self.front.as_ref().map(|front| Arc::clone(&front.authenticator));
        let neighbours = Neighbours {
            gateway: self.shared.accepting.as_ref().map(|it| Arc::clone(&it.gateway)),
            apps: delivering.as_ref().map(|it| Arc::clone(&it.apps)),
            process: self.shared.process.clone(),
            board: Arc::clone(&self.board),
            // In one process the worker itself answers at once.
            front: authenticator.zip(outages).filter(|_| self.shared.lanes.is_some()),
            threads: u32::try_from(config.threads()).unwrap_or(u32::MAX),
            slots: u32::try_from(config.threads() * config.worker.slots_of_one_app()).unwrap_or(u32::MAX),
            guards: delivering.as_ref().map(|it| it.guards.clone()),
            lanes: self.shared.lanes.clone(),
            leaving: self.shared.leaving.clone(),
            clock: Arc::clone(clock),
        };
        // Who only serves operators listens, and says nothing.
        if self.front.is_some() || self.back.is_some() {
            tasks.spawn(chores::keep_in_touch(neighbours, stop.clone()));
        }
        Ok(())
    }

    /// Starts the serving threads; those that take pushes share one port. A port that another process
    /// serves is refused, although the threads themselves share it.
    fn start_shards(&self) -> anyhow::Result<(Option<SocketAddr>, Vec<Shard>)> {
        let config = &self.shared.config;
        let mut address = None;
        if self.shared.accepting.is_some() {
            let wanted = config.gateway.listen;
            let probe = http_edge::bind(wanted, false);
            let probe = probe.with_context(|| format!("gateway.listen: cannot listen on {wanted}"))?;
            address = Some(probe.local_addr()?);
        }
        let shards = (0..config.threads()).map(|number| Shard::start(number, address, self.shared.clone()));
        Ok((address, shards.collect::<anyhow::Result<_>>()?))
    }

    /// Serves the admin API and the console, where this process does; `gateway` is its own, if it has one.
    fn serve_operators(&self, gateway: Option<SocketAddr>) -> anyhow::Result<Option<SocketAddr>> {
        let Some(desk) = &self.desk else { return Ok(None) };
        let Shared { config, clock, .. } = &self.shared;
        let wanted = config.admin.listen;
        let listener = http_edge::bind(wanted, false);
        let listener = listener.with_context(|| format!("admin.listen: cannot listen on {wanted}"))?;
        let address = listener.local_addr()?;
        let admin = Admin::new(admin_api::Parts {
            config: config.admin.admin(&config.region, gateway.filter(|_| config.gateway.tls.is_none())),
            registry: desk.registry.admin(),
            keys: desk.keys.clone(),
            board: Arc::clone(&self.board),
            apps: Arc::clone(&self.apps.catalogue),
            clock: Arc::clone(clock),
        })?;
        self.watches.spawn(admin.clone().keep_watch(self.at_the_end.clone()));
        let edge = Edge::new("admin", Limits::of_a_private_port());
        let (stop, tasks) = (self.at_the_end.clone(), self.tasks.clone());
        self.tasks.spawn(http_edge::serve(listener, None, admin_api::router(admin), edge, stop, tasks));
        Ok(Some(address))
    }

    fn serve_health(&self, shards: &[Shard]) -> anyhow::Result<SocketAddr> {
        let wanted = self.shared.config.health.listen;
        let listener = http_edge::bind(wanted, false);
        let listener = listener.with_context(|| format!("health.listen: cannot listen on {wanted}"))?;
        let address = listener.local_addr()?;
        let health = Health {
            metrics: self.telemetry.metrics.clone(),
            authenticator: self.front.as_ref().map(|front| Arc::clone(&front.authenticator)),
            lanes: self.shared.lanes.clone(),
            pulses: shards.iter().map(|shard| shard.pulse.clone()).collect(),
            leaving: self.shared.leaving.clone(),
        };
        let edge = Edge::new("health", Limits::of_a_private_port());
        let (stop, tasks) = (self.at_the_end.clone(), self.tasks.clone());
        self.tasks.spawn(http_edge::serve(listener, None, health::router(health), edge, stop, tasks));
        let telemetry = Arc::clone(&self.telemetry);
        self.tasks.spawn(async move { telemetry.upkeep().await });
        Ok(address)
    }

    fn goodbye(&self) -> Goodbye {
        let Shared { config, leaving, stop, lost, .. } = &self.shared;
        Goodbye {
            lost: lost.clone(),
            leaving: leaving.clone(),
            drain: Duration::from_secs(config.server.drain_seconds),
            stop: stop.clone(),
            grace: Duration::from_secs(config.server.shutdown_grace_seconds),
        }
    }

    /// Writes what is left to write.
    async fn end(&self) {
        if let Some(delivering) = &self.shared.delivering
            && let Err(error) = delivering.recorder.flush().await
        {
            warn!(%error, "the last sightings of devices could not be written");
        }
        self.at_the_end.cancel();
        self.watches.close();
        // What they have to write last, they write now.
        let _ = tokio::time::timeout(LAST_WORDS, self.watches.wait()).await;
        if let Some(back) = &self.back {
            back.ledger.close().await;
        }
        if let Some(front) = &self.front {
            front.registry.close().await;
        }
        if let Some(desk) = &self.desk {
            desk.registry.close().await;
        }
        info!("stopped");
    }
}

impl Front {
    fn open(
        config: &Arc<Config>,
        registry: Registry,
        keys: Keys,
        clock: &Arc<dyn Clock>,
        board: Option<&Arc<Board>>,
    ) -> anyhow::Result<Self> {
        let tls = ListenerTls::load(config)?;
        let admission = config.gateway.admission(&config.region);
        let authenticator = Authenticator::new(admission, keys, Arc::clone(clock));
        let authenticator = board
            .into_iter()
            .fold(authenticator, |authenticator, board| authenticator.sharing(Arc::clone(board)));
        Ok(Self { authenticator: Arc::new(authenticator), registry, tls })
    }

    fn gateway(&self, config: &Config, apps: Arc<AppCatalogue>, clock: &Arc<dyn Clock>) -> Arc<Gateway> {
        Gateway::new(Parts {
            config: config.gateway.gateway(),
            authenticator: Arc::clone(&self.authenticator),
            apps,
            clock: Arc::clone(clock),
            version: Version { hash: env!("BUILD_COMMIT").into(), version: env!("CARGO_PKG_VERSION").into() },
        })
    }
}
