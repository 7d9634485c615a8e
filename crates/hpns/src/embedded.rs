//! `hpns all`: every role in one process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gateway::{Gate, Gateway, Parts, Version};
use http_edge::Tls;
use push_domain::{Clock, SystemClock};
use tenant_registry::{Recorder, SqliteRegistry};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::apps::{Apps, shown};
use crate::cli::AllOptions;
use crate::config::Config;
use crate::credentials::Workshop;
use crate::demo::Demo;
use crate::health::{self, Health};
use crate::lifecycle::{Signals, until_stopped};
use crate::listener_tls::ListenerTls;
use crate::shard::{Shard, Shared};
use crate::telemetry::{self, Telemetry};
use crate::{hardening, registry};

const FLUSH_DEVICES: Duration = Duration::from_secs(1);
const PUBLISH_GUARDS: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(options: &AllOptions) -> anyhow::Result<()> {
    let mut config = Config::load(options.config.config.as_deref())?;
    let demo = if options.demo { Some(Demo::start(&mut config)?) } else { None };
    let telemetry = Arc::new(telemetry::install(&config.log)?);
    hardening::harden();
    info!(
        region = config.region,
        configuration = shown(options.config.config.as_deref()),
        threads = config.threads(),
        "starting"
    );
    if config.development.custom_endpoints && demo.is_none() {
        warn!("development.custom_endpoints is on: pushes may go elsewhere than to Apple and Google");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(Arc::new(config), telemetry, demo.as_ref()));
    // A hard stop leaves tasks behind; they must not hold the process.
    runtime.shutdown_background();
    ended
}

async fn serve(config: Arc<Config>, telemetry: Arc<Telemetry>, demo: Option<&Demo>) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let listener_tls = ListenerTls::load(&config)?;
    let tls = listener_tls.as_ref().map(|it| it.tls.clone());
    let process = Process::assemble(config, telemetry, tls).await?;
    let key = match demo {
        Some(demo) => {
            let region = &process.shared.config.region;
            Some(demo.licence_key(&*process.registry, region, &*process.shared.clock).await?)
        }
        None => None,
    };
    process.gate.load(&*process.registry).await.context("the licences cannot be read")?;
    process.keep_licences_fresh();
    process.keep_credentials_fresh(listener_tls);
    process.publish_guards();
    let recording = process.record_devices();
    let (address, shards) = process.start_shards()?;
    let health = process.serve_health(&shards)?;
    info!(gateway = %address, health = %health, "listening");
    if let (Some(demo), Some(key)) = (demo, key) {
        demo.announce(address, &key)?;
    }
    let grace = Duration::from_secs(process.shared.config.server.shutdown_grace_seconds);
    let ended = until_stopped(signals, shards, process.shared.stop.clone(), grace).await;
    let _ = recording.await;
    process.end().await;
    ended
}

/// What the serving threads share, and what serves them.
struct Process {
    shared: Shared,
    gate: Arc<Gate>,
    registry: Arc<SqliteRegistry>,
    telemetry: Arc<Telemetry>,
    tasks: TaskTracker,
    /// Ends what outlives the serving threads: the private port.
    at_the_end: CancellationToken,
}

impl Process {
    async fn assemble(
        config: Arc<Config>,
        telemetry: Arc<Telemetry>,
        tls: Option<Tls>,
    ) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let tasks = TaskTracker::new();
        let (registry, keys) = registry::open(&config).await?;
        let registry = Arc::new(registry);
        let settings = config.gateway.gateway();
        let gate = Arc::new(Gate::new(settings.access, config.region.clone(), keys, Arc::clone(&clock)));
        let workshop = Workshop::new(Arc::clone(&config), Arc::clone(&clock), tasks.clone())?;
        let apps = Arc::new(Apps::load(workshop)?);
        let gateway = Gateway::new(Parts {
            config: settings,
            gate: Arc::clone(&gate),
            apps: Arc::clone(&apps.catalogue),
            clock: Arc::clone(&clock),
            version: Version { hash: env!("BUILD_COMMIT").into(), version: env!("CARGO_PKG_VERSION").into() },
        });
        let recorder = Recorder::new(registry.clone());
        let (guards, stop) = (apps.guards(), CancellationToken::new());
        let shared = Shared { config, gateway, apps, guards, tls, recorder, clock, stop };
        Ok(Self { shared, gate, registry, telemetry, tasks, at_the_end: CancellationToken::new() })
    }

    fn keep_licences_fresh(&self) {
        let every = Duration::from_millis(self.shared.config.registry.poll_ms);
        let (gate, registry) = (Arc::clone(&self.gate), Arc::clone(&self.registry));
        self.tasks.spawn(gateway::keep_fresh(gate, registry, every, self.shared.stop.clone()));
    }

    fn keep_credentials_fresh(&self, mut listener: Option<ListenerTls>) {
        let Shared { config, apps, guards, clock, stop, .. } = self.shared.clone();
        let every = Duration::from_millis(config.credentials.poll_ms);
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                apps.refresh(&guards);
                if let Some(listener) = &mut listener {
                    listener.refresh(&*clock);
                }
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(every) => {}
                }
            }
        });
    }

    fn publish_guards(&self) {
        let guards = self.shared.guards.clone();
        self.tasks.spawn(async move {
            loop {
                guards.publish();
                tokio::time::sleep(PUBLISH_GUARDS).await;
            }
        });
    }

    fn record_devices(&self) -> JoinHandle<()> {
        let (recorder, stop) = (self.shared.recorder.clone(), self.shared.stop.clone());
        self.tasks.spawn(async move {
            while !stop.is_cancelled() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(FLUSH_DEVICES) => {}
                }
                if let Err(error) = recorder.flush().await {
                    metrics::counter!("device_ledger_failures_total").increment(1);
                    warn!(%error, "devices cannot be recorded; they will be tried again");
                }
            }
        })
    }

    /// Starts the serving threads on one port. A port that another process serves is refused,
    /// although the threads themselves share it.
    fn start_shards(&self) -> anyhow::Result<(SocketAddr, Vec<Shard>)> {
        let config = &self.shared.config;
        let wanted = config.gateway.listen;
        let probe = http_edge::bind(wanted, false);
        let probe = probe.with_context(|| format!("gateway.listen: cannot listen on {wanted}"))?;
        let address = probe.local_addr()?;
        drop(probe);
        let shards = (0..config.threads()).map(|number| Shard::start(number, address, self.shared.clone()));
        Ok((address, shards.collect::<anyhow::Result<_>>()?))
    }

    fn serve_health(&self, shards: &[Shard]) -> anyhow::Result<SocketAddr> {
        let wanted = self.shared.config.health.listen;
        let listener = http_edge::bind(wanted, false);
        let listener = listener.with_context(|| format!("health.listen: cannot listen on {wanted}"))?;
        let address = listener.local_addr()?;
        let health = Health {
            metrics: self.telemetry.metrics.clone(),
            gate: Arc::clone(&self.gate),
            pulses: shards.iter().map(|shard| shard.pulse.clone()).collect(),
            stopping: self.shared.stop.clone(),
        };
        let limits = http_edge::Limits::default();
        let (stop, tasks) = (self.at_the_end.clone(), self.tasks.clone());
        self.tasks.spawn(http_edge::serve(listener, None, health::router(health), limits, stop, tasks));
        let telemetry = Arc::clone(&self.telemetry);
        self.tasks.spawn(async move { telemetry.upkeep().await });
        Ok(address)
    }

    /// Writes what is left to write.
    async fn end(&self) {
        if let Err(error) = self.shared.recorder.flush().await {
            warn!(%error, "the last sightings of devices could not be written");
        }
        self.registry.close().await;
        self.at_the_end.cancel();
        info!("stopped");
    }
}
