//! `hpns all`: every role in one process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use gateway::{Gate, Gateway, Parts, Version};
use push_domain::{Clock, SystemClock};
use tenant_registry::{Keys, Recorder, SqliteRegistry};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::apps::{Apps, shown};
use crate::cli::AllOptions;
use crate::config::Config;
use crate::demo::Demo;
use crate::health::{self, Health};
use crate::shard::{Shard, Shared};
use crate::{keyfile, telemetry};

const FLUSH_DEVICES: Duration = Duration::from_secs(1);

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(options: &AllOptions) -> anyhow::Result<()> {
    let mut config = Config::load(options.config.config.as_deref())?;
    let demo = if options.demo { Some(Demo::start(&mut config)?) } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(serve(config, options.config.config.as_deref(), demo.as_ref()));
    // A second signal or the end of the grace period leaves tasks behind; they must not hold the process.
    runtime.shutdown_background();
    ended
}

async fn serve(config: Config, file: Option<&Path>, demo: Option<&Demo>) -> anyhow::Result<()> {
    let telemetry = Arc::new(telemetry::install(&config.log)?);
    let config = Arc::new(config);
    info!(region = config.region, configuration = shown(file), threads = config.threads(), "starting");
    if config.development.custom_endpoints && demo.is_none() {
        warn!("development.custom_endpoints is on: pushes may go elsewhere than to Apple and Google");
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let keys = Keys::derive(&keyfile::load_or_make(&config.key_path())?);
    let registry = Arc::new(open_registry(&config, keys.clone()).await?);
    let gateway_config = config.gateway.gateway();
    let gate = Arc::new(Gate::new(gateway_config.access, config.region.clone(), keys, Arc::clone(&clock)));
    let apps = Arc::new(Apps::load(&config, &clock, &tasks)?);
    let key = match demo {
        Some(demo) => Some(demo.licence_key(&*registry, &config.region, &*clock).await?),
        None => None,
    };
    let poll = Duration::from_millis(config.registry.poll_ms);
    let fresh = tasks.spawn(gateway::keep_fresh(Arc::clone(&gate), registry.clone(), poll, stop.clone()));
    let recorder = Recorder::new(registry.clone());
    tasks.spawn(record_devices(recorder.clone(), stop.clone()));

    let version = Version { hash: env!("HPNS_COMMIT").into(), version: env!("CARGO_PKG_VERSION").into() };
    let catalogue = Arc::clone(&apps.catalogue);
    let parts = Parts { config: gateway_config, gate: Arc::clone(&gate), apps: catalogue, clock: Arc::clone(&clock), version };
    let shared = Shared {
        config: Arc::clone(&config),
        gateway: Gateway::new(parts),
        apps,
        recorder: recorder.clone(),
        clock: Arc::clone(&clock),
        stop: stop.clone(),
    };
    let (address, shards) = start_shards(&config, &shared)?;
    let pulses = shards.iter().map(|shard| Arc::clone(&shard.pulse)).collect();
    let health = Health { metrics: telemetry.metrics.clone(), gate: Arc::clone(&gate), pulses, clock, stopping: stop.clone() };
    let listener = http_edge::bind(config.health.listen, false)
        .with_context(|| format!("health.listen: cannot listen on {}", config.health.listen))?;
    let health_address = listener.local_addr()?;
    let hard_stop = CancellationToken::new();
    let serving = http_edge::serve(listener, health::router(health), http_edge::Limits::default(), hard_stop.clone(), tasks.clone());
    tasks.spawn(serving);
    let upkeep = Arc::clone(&telemetry);
    tasks.spawn(async move { upkeep.upkeep().await });
    info!(gateway = %address, health = %health_address, "listening");
    if let (Some(demo), Some(key)) = (demo, key) {
        demo.announce(address, &key)?;
    }
    let ended = until_stopped(shards, stop, fresh, Duration::from_secs(config.server.shutdown_grace_seconds)).await;
    if let Err(error) = recorder.flush().await {
        warn!(%error, "the last sightings of devices could not be written");
    }
    registry.close().await;
    hard_stop.cancel();
    info!("stopped");
    ended
}

async fn open_registry(config: &Config, keys: Keys) -> anyhow::Result<SqliteRegistry> {
    let path = config.registry_path();
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    SqliteRegistry::open(&path, keys).await.with_context(|| format!("registry.url: cannot open {}", path.display()))
}

/// Starts the serving threads on one port. A port that another process serves is refused, although
/// the threads themselves share it.
fn start_shards(config: &Config, shared: &Shared) -> anyhow::Result<(SocketAddr, Vec<Shard>)> {
    let wanted = config.gateway.listen;
    let probe = http_edge::bind(wanted, false).with_context(|| format!("gateway.listen: cannot listen on {wanted}"))?;
    let address = probe.local_addr()?;
    drop(probe);
    let shards = (0..config.threads()).map(|number| Shard::start(number, address, shared.clone()));
    Ok((address, shards.collect::<anyhow::Result<_>>()?))
}

async fn record_devices(recorder: Recorder, stop: CancellationToken) {
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
}

/// Waits for a signal, or for a part that ends by itself; then stops softly, within the grace period.
async fn until_stopped(
    mut shards: Vec<Shard>,
    stop: CancellationToken,
    fresh: tokio::task::JoinHandle<Result<(), tenant_registry::RegistryError>>,
    grace: Duration,
) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut fault = None;
    let unreadable = async {
        match fresh.await {
            Ok(Err(error)) => anyhow::anyhow!(error).context("the licences cannot be read"),
            Ok(Ok(())) | Err(_) => std::future::pending().await,
        }
    };
    tokio::pin!(unreadable);
    let broken = async {
        for shard in &mut shards {
            tokio::select! {
                biased;
                _ = &mut shard.ended => return,
                () = std::future::ready(()) => {}
            }
        }
        std::future::pending().await
    };
    tokio::select! {
        () = either(&mut terminate, &mut interrupt) => info!("asked to stop"),
        error = &mut unreadable => fault = Some(error),
        () = broken => fault = Some(anyhow::anyhow!("a serving thread ended by itself")),
    }
    stop.cancel();
    let all_ended = async {
        for shard in shards {
            let _ = shard.ended.await;
            let _ = shard.thread.join();
        }
    };
    tokio::select! {
        () = all_ended => {}
        () = either(&mut terminate, &mut interrupt) => fault = Some(anyhow::anyhow!("asked to stop again; requests under way are lost")),
        () = tokio::time::sleep(grace) => fault = Some(anyhow::anyhow!("requests under way did not end within the grace period")),
    }
    match fault {
        Some(fault) => {
            error!(reason = format!("{fault:#}"), "stopped hard");
            Err(fault)
        }
        None => Ok(()),
    }
}

async fn either(first: &mut Signal, second: &mut Signal) {
    tokio::select! {
        _ = first.recv() => {}
        _ = second.recv() => {}
    }
}
