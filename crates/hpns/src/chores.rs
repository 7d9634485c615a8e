//! What a process does beside the pushes, over and over until it stops.

use std::sync::Arc;
use std::time::Duration;

use dispatch_worker::Guards;
use push_domain::Clock;
use rand::RngExt;
use tenant_registry::Recorder;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::apps::Apps;
use crate::listener_tls::ListenerTls;
use crate::registry::Ledger;

const FLUSH_DEVICES: Duration = Duration::from_secs(1);
const PUBLISH_GUARDS: Duration = Duration::from_millis(500);
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

/// Delivers with the apps' credentials of the moment.
pub(crate) async fn keep_credentials_fresh(
    apps: Arc<Apps>,
    guards: Guards,
    every: Duration,
    stop: CancellationToken,
) {
    loop {
        apps.refresh(&guards);
        if !goes_on(&stop, every).await {
            return;
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
