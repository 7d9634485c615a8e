//! The way from the hot path to the ledger: remembers what was already written, batches the rest.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::DeviceId;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{DeliveryLedger, DeviceState, RegistryError, Sighting};

/// How many devices are remembered as written, and how many sightings wait at most.
const MAX_REMEMBERED: usize = 262_144;
const MAX_WAITING: usize = 16_384;
const FLUSH: Duration = Duration::from_secs(1);

/// Collects sightings of devices. A device costs one write a day, and one whenever its state changes.
///
/// Cheap to clone; all clones are one collector. When the ledger is down, at most 16,384 sightings
/// wait; later ones are forgotten, and the next push of the device brings them again.
#[derive(Clone)]
pub struct Recorder {
    ledger: Arc<dyn DeliveryLedger>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// What was written lately, and before that: when the first is full, it takes the place of the second.
    written: HashMap<Short, (u32, DeviceState)>,
    written_before: HashMap<Short, (u32, DeviceState)>,
    waiting: VecDeque<Sighting>,
}

/// The beginning of a device's keyed hash. Two devices of a process that share one are less likely than one in a hundred
/// million; then a day's write of the second waits for another process or day.
type Short = u64;

fn short(device: DeviceId) -> Short {
    device.as_bytes().first_chunk().copied().map_or(0, Short::from_be_bytes)
}

impl Recorder {
    /// Makes a recorder in front of `ledger`.
    #[must_use]
    pub fn new(ledger: Arc<dyn DeliveryLedger>) -> Self {
        Self { ledger, state: Arc::default() }
    }

    /// Notes what became of a push to a device; `sighting` is only made when it is news.
    pub fn note(
        &self,
        device: DeviceId,
        day: u32,
        device_state: DeviceState,
        sighting: impl FnOnce() -> Sighting,
    ) {
        let key = short(device);
        let mut state = self.lock();
        let known = state.written.get(&key).or_else(|| state.written_before.get(&key));
        if known == Some(&(day, device_state)) || state.waiting.len() >= MAX_WAITING {
            return;
        }
        if state.written.len() >= MAX_REMEMBERED {
            state.written_before = std::mem::take(&mut state.written);
        }
        state.written.insert(key, (day, device_state));
        state.waiting.push_back(sighting());
    }

    /// Writes what waits, in batches. On failure the batch waits for the next flush.
    pub async fn flush(&self) -> Result<(), RegistryError> {
        loop {
            let batch: Vec<_> = {
                let mut state = self.lock();
                let size = state.waiting.len().min(1024);
                state.waiting.drain(..size).collect()
            };
            if batch.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.ledger.record(&batch).await {
                let mut state = self.lock();
                let room = MAX_WAITING.saturating_sub(state.waiting.len());
                let mut batch = batch;
                for forgotten in batch.drain(room.min(batch.len())..) {
                    state.written.remove(&short(forgotten.device));
                    state.written_before.remove(&short(forgotten.device));
                }
                for sighting in batch.into_iter().rev() {
                    state.waiting.push_front(sighting);
                }
                return Err(error);
            }
        }
    }

    /// Writes what waits every second, until `stop`; what is left then is left to a last [`Recorder::flush`].
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

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("waiting", &self.lock().waiting.len()).finish_non_exhaustive()
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
        written: Mutex<Vec<Sighting>>,
        down: AtomicBool,
    }

    #[async_trait]
    impl DeliveryLedger for Ledger {
        async fn record(&self, sightings: &[Sighting]) -> Result<(), RegistryError> {
            if self.down.load(Ordering::SeqCst) {
                return Err(RegistryError::Missing("database"));
            }
            self.written.lock().unwrap().extend_from_slice(sightings);
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

    fn note(recorder: &Recorder, day: u32, state: DeviceState) {
        let device = DeviceId::from_bytes([1; 32]);
        let tenant = TenantId::new();
        let (app, platform) = (String::from("app"), String::from("apple_rn"));
        recorder.note(device, day, state, || Sighting {
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
        let recorder = Recorder::new(ledger.clone());

        for (day, state) in [
            (1, DeviceState::Active),
            (1, DeviceState::Active),
            (2, DeviceState::Active),
            (2, DeviceState::Removed),
            (2, DeviceState::Removed),
        ] {
            note(&recorder, day, state);
        }
        recorder.flush().await.unwrap();

        assert_eq!(ledger.written.lock().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_a_broken_ledger_refused_is_written_when_it_is_back() {
        let ledger = Arc::new(Ledger::default());
        let recorder = Recorder::new(ledger.clone());
        ledger.down.store(true, Ordering::SeqCst);
        note(&recorder, 1, DeviceState::Active);

        assert!(recorder.flush().await.is_err());
        ledger.down.store(false, Ordering::SeqCst);
        recorder.flush().await.unwrap();

        assert_eq!(ledger.written.lock().unwrap().len(), 1);
    }
}
