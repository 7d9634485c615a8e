//! Batching ledger writer: remembers what was already written, batches the rest.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::DeviceId;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{DeliveryLedger, DeviceActivity, DeviceState, RegistryError};

/// How many devices are remembered as written, and how many activities wait at most.
const MAX_REMEMBERED: usize = 262_144;
const MAX_WAITING: usize = 16_384;
/// So many are recorded at once.
const BATCH: usize = 1024;
const FLUSH: Duration = Duration::from_secs(1);

/// Batching writer of device activity. A device costs one write a day, and one when its state changes.
///
/// Cheap to clone; all clones are one collector. When the ledger is down, at most 16,384 activities
/// wait; later ones are forgotten, and the next push of the device brings them again.
#[derive(Clone)]
pub struct LedgerWriter {
    ledger: Arc<dyn DeliveryLedger>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What was written lately, and before that: when the first is full, it takes the place of the second.
    written: HashMap<HashPrefix, (u32, DeviceState)>,
    written_before: HashMap<HashPrefix, (u32, DeviceState)>,
    waiting: VecDeque<DeviceActivity>,
}

/// The beginning of a device's keyed hash. Two devices of a process that share one are less likely than one in a hundred
/// million; then a day's write of the second waits for another process or day.
type HashPrefix = u64;

fn hash_prefix(device: DeviceId) -> HashPrefix {
    device.as_bytes().first_chunk().copied().map_or(0, HashPrefix::from_be_bytes)
}

impl LedgerWriter {
    /// Makes a recorder in front of `ledger`.
    #[must_use]
    pub fn new(ledger: Arc<dyn DeliveryLedger>) -> Self {
        Self { ledger, state: Arc::default() }
    }

    /// Notes what became of a push to a device; `activity` is only made when it is news.
    pub fn note(
        &self,
        device: DeviceId,
        day: u32,
        device_state: DeviceState,
        activity: impl FnOnce() -> DeviceActivity,
    ) {
        let key = hash_prefix(device);
        let mut state = self.lock();
        let known = state.written.get(&key).or_else(|| state.written_before.get(&key));
        if known == Some(&(day, device_state)) || state.waiting.len() >= MAX_WAITING {
            return;
        }
        if state.written.len() >= MAX_REMEMBERED {
            state.written_before = std::mem::take(&mut state.written);
        }
        state.written.insert(key, (day, device_state));
        state.waiting.push_back(activity());
    }

    /// Writes what waits, in batches. On failure what is not written waits for the next flush.
    pub async fn flush(&self) -> Result<(), RegistryError> {
        let mut waiting = Vec::from(std::mem::take(&mut self.lock().waiting));
        // In the order in which the database has them: neighbours lie on one page, which is then read and written once. A
        // stable sort: what a device did last stays last.
        waiting.sort_by_key(|activity| (activity.tenant.uuid(), *activity.device.as_bytes()));
        let mut written = 0;
        for batch in waiting.chunks(BATCH) {
            if let Err(error) = self.ledger.record(batch).await {
                self.put_back(waiting.split_off(written));
                return Err(error);
            }
            written += batch.len();
        }
        Ok(())
    }

    fn put_back(&self, mut unwritten: Vec<DeviceActivity>) {
        let mut state = self.lock();
        let room = MAX_WAITING.saturating_sub(state.waiting.len());
        for forgotten in unwritten.drain(room.min(unwritten.len())..) {
            state.written.remove(&hash_prefix(forgotten.device));
            state.written_before.remove(&hash_prefix(forgotten.device));
        }
        for activity in unwritten.into_iter().rev() {
            state.waiting.push_front(activity);
        }
    }

    /// Writes what waits every second, until `stop`; what is left then is left to a last [`LedgerWriter::flush`].
    pub async fn keep_flushed(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(FLUSH) => {}
            }
            if let Err(error) = self.flush().await {
                metrics::counter!("device_ledger_failures_total").increment(1);
                warn!(%error, "devices cannot be recorded; they will be tried again");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for LedgerWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerWriter").field("waiting", &self.lock().waiting.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use push_domain::TenantId;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Ledger {
        written: Mutex<Vec<DeviceActivity>>,
        down: AtomicBool,
    }

    #[async_trait]
    impl DeliveryLedger for Ledger {
        async fn record(&self, activities: &[DeviceActivity]) -> Result<(), RegistryError> {
            if self.down.load(Ordering::SeqCst) {
                return Err(RegistryError::NotFound("database"));
            }
            self.written.lock().unwrap().extend_from_slice(activities);
            Ok(())
        }

        async fn forget(&self, _: u32, _: u32) -> Result<u64, RegistryError> {
            Ok(0)
        }

        async fn prove(&self, _: &str, _: &str, _: u32) -> Result<(), RegistryError> {
            Ok(())
        }

        async fn proofs(&self) -> Result<Vec<(String, String)>, RegistryError> {
            Ok(Vec::new())
        }
    }

    fn note(ledger_writer: &LedgerWriter, day: u32, state: DeviceState) {
        let device = DeviceId::from_bytes([1; 32]);
        let tenant = TenantId::new();
        let (app, platform) = (String::from("app"), String::from("apple_rn"));
        ledger_writer.note(device, day, state, || DeviceActivity {
            tenant,
            device,
            app,
            platform,
            day,
            state,
            reason: None,
        });
    }

    #[tokio::test]
    async fn a_device_is_written_once_a_day_and_when_its_state_changes() {
        let ledger = Arc::new(Ledger::default());
        let ledger_writer = LedgerWriter::new(ledger.clone());

        for (day, state) in [
            (1, DeviceState::Active),
            (1, DeviceState::Active),
            (2, DeviceState::Active),
            (2, DeviceState::Removed),
            (2, DeviceState::Removed),
        ] {
            note(&ledger_writer, day, state);
        }
        ledger_writer.flush().await.unwrap();

        assert_eq!(ledger.written.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_a_broken_ledger_refused_is_written_when_it_is_back() {
        let ledger = Arc::new(Ledger::default());
        let ledger_writer = LedgerWriter::new(ledger.clone());
        ledger.down.store(true, Ordering::SeqCst);
        note(&ledger_writer, 1, DeviceState::Active);

        assert!(ledger_writer.flush().await.is_err());
        ledger.down.store(false, Ordering::SeqCst);
        ledger_writer.flush().await.unwrap();

        assert_eq!(ledger.written.lock().unwrap().len(), 1);
    }
}
