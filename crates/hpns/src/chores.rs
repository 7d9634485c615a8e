//! What a process does beside the pushes, over and over until it stops.

use std::sync::Arc;
use std::time::Duration;

use dispatch_stream::{Board, ProcessState, RedisWorker};
use dispatch_worker::Guards;
use gateway::{Authenticator, Gateway, Outages};
use push_domain::{AppId, Clock};
use rand::RngExt;
use tenant_registry::Recorder;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::apps::Apps;
use crate::lanes::Lanes;
use crate::listener_tls::ListenerTls;
use crate::registry::Ledger;

const FLUSH_DEVICES: Duration = Duration::from_secs(1);
const TALK: Duration = Duration::from_millis(500);
const PUBLISH_GUARDS: Duration = Duration::from_millis(500);
const READ_PROOFS: Duration = Duration::from_mins(1);
const FORGET_DEVICES: Duration = Duration::from_hours(1);

/// Waits, and says whether to go on.
async fn goes_on(stop: &CancellationToken, wait: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

/// Serves with the listener's certificate of the moment.
pub(crate) async fn keep_certificate_fresh(
    mut listener: ListenerTls,
    clock: Arc<dyn Clock>,
    every: Duration,
    stop: CancellationToken,
) {
    loop {
        listener.refresh(&*clock);
        if !goes_on(&stop, every).await {
            return;
        }
    }
}

/// Serves the apps of the moment, with their credentials of the moment. Files are read on a thread of their own.
pub(crate) async fn keep_apps_fresh(
    apps: Arc<Apps>,
    guards: Option<Guards>,
    every: Duration,
    stop: CancellationToken,
) {
    while goes_on(&stop, every).await {
        let (apps, guards) = (Arc::clone(&apps), guards.clone());
        let _ = tokio::task::spawn_blocking(move || apps.refresh(guards.as_ref())).await;
    }
}

/// What a process tells the others, and what it makes of what they tell.
pub(crate) struct Neighbours {
    pub(crate) process: String,
    pub(crate) board: Arc<Board>,
    pub(crate) front: Option<(Arc<Authenticator>, Arc<Outages>)>,
    pub(crate) threads: u32,
    /// How many pushes of one app this process can have under way.
    pub(crate) slots: u32,
    pub(crate) gateway: Option<Arc<Gateway>>,
    pub(crate) guards: Option<Guards>,
    pub(crate) apps: Option<Arc<Apps>>,
    pub(crate) lanes: Option<Arc<Lanes>>,
    pub(crate) leaving: CancellationToken,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Talks to the other processes of the region, through the lanes.
pub(crate) async fn keep_in_touch(neighbours: Neighbours, stop: CancellationToken) {
    loop {
        neighbours.talk().await;
        if !goes_on(&stop, TALK).await {
            return;
        }
    }
}

impl Neighbours {
    async fn talk(&self) {
        let now = self.clock.now();
        let details = self.board.is_watched();
        let states = self.guards.as_ref().map(|guards| guards.states(now, details));
        let mut apps = states.unwrap_or_default();
        if let Some(known) = self.apps.as_ref().filter(|_| details) {
            known.describe(&mut apps);
        }
        let load = self.gateway.as_ref().filter(|_| details).map(|gateway| gateway.load());
        let load = load.unwrap_or_default();
        let state = ProcessState {
            process: self.process.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            threads: self.threads,
            slots: self.slots,
            // Who leaves takes no share of anything any more.
            is_gateway: self.gateway.is_some() && !self.leaving.is_cancelled(),
            is_worker: self.guards.is_some() && !self.leaving.is_cancelled(),
            apps,
            lines: load.lines,
            tenants: load.tenants,
        };
        if let Some(guards) = &self.guards {
            guards.confer(&self.board).await;
        }
        let adds_up =
            self.lanes.as_ref().and_then(|lanes| lanes.worker.as_ref()).is_some_and(RedisWorker::is_reaper);
        // Without an answer, what was known before holds.
        let Some(sum) = self.board.publish(state, adds_up).await else { return };
        if let Some(guards) = &self.guards {
            guards.share_among(sum.workers.max(1));
        }
        if let Some((authenticator, outages)) = &self.front {
            authenticator.share_among(sum.gateways.max(1));
            if let Some(gateway) = &self.gateway {
                gateway.share(sum.share);
            }
            outages.set(sum.broken.iter().map(|name| AppId::new(name)).collect());
        }
    }
}

/// Shows the state of all apps in the metrics.
pub(crate) async fn publish_guards(guards: Guards) {
    loop {
        guards.publish();
        tokio::time::sleep(PUBLISH_GUARDS).await;
    }
}

/// Writes what was learned of devices, off the way of the pushes.
pub(crate) async fn record_devices(recorder: Recorder, stop: CancellationToken) {
    while goes_on(&stop, FLUSH_DEVICES).await {
        if let Err(error) = recorder.flush().await {
            metrics::counter!("device_ledger_failures_total").increment(1);
            warn!(%error, "devices cannot be recorded; they will be tried again");
        }
    }
}

/// Keeps which credentials are proven in the registry.
pub(crate) async fn keep_proofs(
    apps: Arc<Apps>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let ledger = ledger.ledger();
    let (mut read_at, mut goes) = (None, true);
    while goes {
        let mut done = apps.proven.write(&*ledger, clock.now().day()).await;
        if done.is_ok() && read_at.is_none_or(|at: Instant| at.elapsed() >= READ_PROOFS) {
            done = apps.proven.read(&*ledger).await;
            read_at = done.is_ok().then(Instant::now);
        }
        if let Err(error) = done {
            warn!(%error, "which credentials are proven is not in the registry; it will be tried again");
        }
        goes = goes_on(&stop, FLUSH_DEVICES).await;
    }
    let _ = apps.proven.write(&*ledger, clock.now().day()).await;
}

/// Forgets devices whose time is over. Every worker does it; not all at the same moment.
pub(crate) async fn forget_devices(ledger: Ledger, clock: Arc<dyn Clock>, stop: CancellationToken) {
    let mut wait = FORGET_DEVICES.mul_f64(rand::rng().random_range(0.0..1.0));
    while goes_on(&stop, wait).await {
        if let Err(error) = ledger.forget(clock.now()).await {
            warn!(%error, "devices whose time is over cannot be forgotten; they will be tried again");
        }
        wait = FORGET_DEVICES;
    }
}
