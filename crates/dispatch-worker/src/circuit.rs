//! Circuit that can be tripped for a while: then one probe at a time tries whether it may pass again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::Backoff;
use rand::RngExt;
use tokio::time::Instant;

/// Circuit: passes everybody, or is tripped but for probes. While it passes, a permit is one atomic read.
#[derive(Debug)]
pub(crate) struct Circuit {
    backoff: Backoff,
    open: AtomicBool,
    /// Counts how often it was opened: what was begun before says nothing about what came after.
    generation: AtomicU32,
    shut: Mutex<Shut>,
}

#[derive(Debug)]
struct Shut {
    until: Instant,
    /// How often it was found to be out of order, in a row.
    failures: u32,
    /// Whether somebody tries at the moment.
    tried: bool,
}

/// Permit to go on. A probe that is dropped without a result leaves the next one to somebody else.
#[derive(Debug)]
pub(crate) struct CircuitPermit<'a> {
    tries: Option<&'a Circuit>,
    generation: u32,
}

impl Circuit {
    /// Makes an open gate, which stays shut for as long as `backoff` says after so many failed tries.
    pub(crate) fn new(backoff: Backoff) -> Self {
        let shut = Shut { until: Instant::now(), failures: 0, tried: false };
        Self { backoff, open: AtomicBool::new(true), generation: AtomicU32::new(0), shut: Mutex::new(shut) }
    }

    fn lock(&self) -> MutexGuard<'_, Shut> {
        self.shut.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_passing(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    /// Lets everybody pass, or one who tries, or nobody.
    pub(crate) fn pass(&self) -> Option<CircuitPermit<'_>> {
        self.pass_after(Duration::ZERO)
    }

    /// The same for somebody who tries only if nobody else has for so long.
    pub(crate) fn pass_after(&self, grace: Duration) -> Option<CircuitPermit<'_>> {
        let generation = self.generation.load(Ordering::Relaxed);
        if self.is_passing() {
            return Some(CircuitPermit { tries: None, generation });
        }
        let mut shut = self.lock();
        if shut.tried || Instant::now() < shut.until + grace {
            return None;
        }
        shut.tried = true;
        Some(CircuitPermit { tries: Some(self), generation })
    }

    /// Says whether nobody may pass at the moment.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.is_passing() && {
            let shut = self.lock();
            shut.tried || Instant::now() < shut.until
        }
    }

    /// Shuts the gate, and says whether it was open.
    pub(crate) fn trip(&self) -> bool {
        let mut shut = self.lock();
        // Under the lock: who finds the gate shut has to wait for it,
        // and so never reads `until` of the time before.
        let was_open = self.open.swap(false, Ordering::Relaxed);
        if was_open {
            shut.failures = 1;
            shut.wait(self.backoff);
        }
        was_open
    }

    /// Opens the gate, and says whether it was shut.
    pub(crate) fn reset(&self) -> bool {
        let was_shut = !self.open.swap(true, Ordering::Relaxed);
        if was_shut {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        was_shut
    }

    /// Says whether a permit was granted before the gate was last opened.
    pub(crate) fn is_stale(&self, permit: &CircuitPermit<'_>) -> bool {
        permit.generation != self.generation.load(Ordering::Relaxed)
    }
}

impl Shut {
    /// Shortened by chance to three quarters at most, so that many processes do not try together.
    fn wait(&mut self, backoff: Backoff) {
        let pause = backoff.after(self.failures);
        self.until = Instant::now() + pause.mul_f64(rand::rng().random_range(0.75..1.0));
    }
}

impl CircuitPermit<'_> {
    pub(crate) const fn is_probe(&self) -> bool {
        self.tries.is_some()
    }

    /// The try failed: the gate stays shut, for twice as long.
    pub(crate) fn failed(&mut self) {
        if let Some(circuit) = self.tries.take() {
            let mut shut = circuit.lock();
            shut.tried = false;
            shut.failures = shut.failures.saturating_add(1);
            shut.wait(circuit.backoff);
        }
    }

    /// The try says nothing: the gate stays shut, for as long as before.
    pub(crate) fn inconclusive(&mut self) {
        if let Some(circuit) = self.tries.take() {
            let mut shut = circuit.lock();
            shut.tried = false;
            shut.wait(circuit.backoff);
        }
    }

    /// The try succeeded: the gate opens.
    pub(crate) fn succeeded(&mut self) -> bool {
        let Some(circuit) = self.tries.take() else {
            return false;
        };
        circuit.lock().tried = false;
        circuit.reset()
    }
}

impl Drop for CircuitPermit<'_> {
    fn drop(&mut self) {
        if let Some(circuit) = self.tries {
            circuit.lock().tried = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(3) };

    #[tokio::test(start_paused = true)]
    async fn a_shut_gate_lets_one_at_a_time_try_after_its_pause() {
        let circuit = Circuit::new(PAUSES);
        assert!(circuit.trip() && !circuit.trip());

        assert!(circuit.pass().is_none());
        tokio::time::advance(PAUSES.first).await;
        let mut first = circuit.pass().unwrap();
        assert!(first.is_probe() && circuit.pass().is_none());

        assert!(first.succeeded());
        assert!(!circuit.pass().unwrap().is_probe());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_try_doubles_the_pause_up_to_the_longest() {
        let circuit = Circuit::new(PAUSES);
        circuit.trip();
        for pause in [1, 2, 3, 3] {
            tokio::time::advance(Duration::from_millis(pause * 749)).await;
            assert!(circuit.pass().is_none());
            tokio::time::advance(Duration::from_millis(pause * 251)).await;
            circuit.pass().unwrap().failed();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_try_without_a_result_leaves_the_next_to_somebody_else() {
        let circuit = Circuit::new(PAUSES);
        circuit.trip();
        tokio::time::advance(PAUSES.first).await;

        drop(circuit.pass().unwrap());

        assert!(circuit.pass().unwrap().is_probe());
    }
}
