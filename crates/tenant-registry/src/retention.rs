//! Retention of devices: what is forgotten, and when.

use std::sync::Arc;
use std::time::Duration;

use push_domain::{Clock, Timestamp};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{DeliveryLedger, RegistryError};

/// A device is forgotten so many days after its last push, and so many after its token was called dead.
const DEVICE_DAYS: u32 = 90;
const REMOVED_DEVICE_DAYS: u32 = 7;
const FORGET_INTERVAL: Duration = Duration::from_hours(1);

/// Forgets devices whose time is over, every hour until `stop`. Every worker does it; not all at the same moment.
pub async fn run_device_retention(
    ledger: Arc<dyn DeliveryLedger>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut wait = FORGET_INTERVAL.mul_f64(a_fraction());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        if let Err(error) = forget(&*ledger, clock.now()).await {
            warn!(%error, "devices whose time is over cannot be forgotten; they will be tried again");
        }
        wait = FORGET_INTERVAL;
    }
}

/// Forgets them, some thousand at once.
async fn forget(ledger: &dyn DeliveryLedger, now: Timestamp) -> Result<(), RegistryError> {
    let today = now.day();
    let before = |days: u32| today.saturating_sub(days);
    let mut forgotten = 0;
    loop {
        let some = ledger.forget(before(DEVICE_DAYS), before(REMOVED_DEVICE_DAYS)).await?;
        forgotten += some;
        if some == 0 {
            break;
        }
    }
    if forgotten > 0 {
        info!(devices = forgotten, "devices are forgotten: they were not seen for too long");
    }
    Ok(())
}

/// Any number from 0 to 1: version 4 of a UUID is random but for six bits.
fn a_fraction() -> f64 {
    let [.., last] = *uuid::Uuid::new_v4().as_bytes();
    f64::from(last) / f64::from(u8::MAX)
}
