//! Keeps a mistake of ours from costing customers their devices.
//!
//! A wrong topic, key or environment makes Apple and Google call good tokens bad. A stock server
//! never sends to a removed token again, so `REMOVE` is only said while the app is known to work.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::{DeviceId, Provider};
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_mins(5);
/// A verdict on the app itself needs a success in this time before it.
const PROOF: Duration = Duration::from_mins(10);

/// Watches the removals of one app.
#[derive(Debug)]
pub(crate) struct RemovalGuard {
    /// So many different devices have to be called dead before the guard doubts it.
    threshold: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_accepted: Option<Instant>,
    window_began: Instant,
    current: Counts,
    previous: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: u32,
    dead: u32,
    devices: HashSet<DeviceId>,
}

impl RemovalGuard {
    pub(crate) fn new(provider: Provider) -> Self {
        let threshold = match provider {
            Provider::Apns => 20,
            Provider::Fcm => 100,
        };
        let state = State {
            last_accepted: None,
            window_began: Instant::now(),
            current: Counts::default(),
            previous: Counts::default(),
        };
        Self { threshold, state: Mutex::new(state) }
    }

    /// Notes a push that the provider took: the app works.
    pub(crate) fn accepted(&self) {
        let mut state = self.turned();
        state.last_accepted = Some(Instant::now());
        state.current.accepted += 1;
    }

    /// Notes a device that was called dead, and says whether that may be believed: not if more than
    /// half of the recent answers say so, about many devices.
    pub(crate) fn may_remove(&self, device: DeviceId) -> bool {
        let mut state = self.turned();
        state.current.dead += 1;
        if state.current.devices.len() < self.threshold {
            state.current.devices.insert(device);
        }
        let devices = state.current.devices.union(&state.previous.devices).count();
        let dead = state.current.dead + state.previous.dead;
        let accepted = state.current.accepted + state.previous.accepted;
        devices < self.threshold || dead <= accepted
    }

    /// Says whether the provider took a push of this app in the last 10 minutes.
    pub(crate) fn is_proven(&self) -> bool {
        self.turned().last_accepted.is_some_and(|time| time.elapsed() < PROOF)
    }

    /// Returns the state with its windows up to date: counts cover 2.5 to 5 minutes.
    fn turned(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let age = state.window_began.elapsed();
        if age >= WINDOW / 2 {
            let last = std::mem::take(&mut state.current);
            state.previous = if age >= WINDOW { Counts::default() } else { last };
            state.window_began = Instant::now();
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceId::from_bytes([number; 32])
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_dead_devices_are_believed_even_when_nothing_else_is_sent() {
        let guard = RemovalGuard::new(Provider::Apns);

        assert!((0..19).all(|number| guard.may_remove(device(number))));
    }

    #[tokio::test(start_paused = true)]
    async fn one_dead_device_that_is_tried_often_is_believed() {
        let guard = RemovalGuard::new(Provider::Apns);

        assert!((0..100).all(|_| guard.may_remove(device(1))));
    }

    #[tokio::test(start_paused = true)]
    async fn many_dead_devices_among_few_good_ones_are_doubted_until_the_window_has_passed() {
        let guard = RemovalGuard::new(Provider::Apns);
        (0..19).for_each(|number| assert!(guard.may_remove(device(number))));

        assert!(!guard.may_remove(device(19)));
        tokio::time::advance(WINDOW).await;
        assert!(guard.may_remove(device(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn many_dead_devices_among_more_good_ones_are_believed() {
        let guard = RemovalGuard::new(Provider::Apns);
        (0..100).for_each(|_| guard.accepted());

        assert!((0..100).all(|number| guard.may_remove(device(number))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_proven_for_ten_minutes_after_a_success() {
        let guard = RemovalGuard::new(Provider::Fcm);
        assert!(!guard.is_proven());

        guard.accepted();
        assert!(guard.is_proven());
        tokio::time::advance(PROOF).await;
        assert!(!guard.is_proven());
    }
}
