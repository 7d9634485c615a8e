//! Circuit breaker by app: fails fast while a provider is out of order, so that callers are told at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::{Backoff, Outcome, RetryScope};
use tokio::time::Instant;

use crate::circuit::{Circuit, CircuitPermit};

const WINDOW: Duration = Duration::from_secs(2);
/// So many failures in a window, being more than twice the successes, shut the breaker,
const FAILURES: u32 = 10;
/// if they go on for so long: a connection that breaks fails all its requests at once, and the next one may
/// be good.
const LASTING: Duration = Duration::from_millis(500);
const PAUSES: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(5) };

/// Circuit breaker of one app. A success costs one atomic write.
///
/// Only broken connections, 5xx and silence count as failures; whatever the provider says about a push,
/// a 4xx too, shows that it works.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) circuit: Circuit,
    successes: AtomicU32,
    failures: Mutex<(Instant, u32)>,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            circuit: Circuit::new(PAUSES),
            successes: AtomicU32::new(0),
            failures: Mutex::new((Instant::now(), 0)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Instant, u32)> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one attempt's outcome, and says whether the breaker has just opened or closed by it.
    pub(crate) fn note(&self, outcome: &Outcome, permit: &mut CircuitPermit<'_>) -> bool {
        if !matches!(outcome, Outcome::TryLater { scope: RetryScope::Attempt, .. }) {
            self.successes.fetch_add(1, Ordering::Relaxed);
            let opened = permit.succeeded();
            if opened {
                *self.lock() = (Instant::now(), 0);
            }
            return opened;
        }
        if permit.is_probe() {
            permit.failed();
            return false;
        }
        if self.circuit.is_stale(permit) {
            return false;
        }
        let mut failures = self.lock();
        if failures.0.elapsed() >= WINDOW {
            *failures = (Instant::now(), 0);
            self.successes.store(0, Ordering::Relaxed);
        }
        failures.1 += 1;
        failures.1 >= FAILURES
            && failures.0.elapsed() >= LASTING
            && failures.1 > 2 * self.successes.load(Ordering::Relaxed)
            && self.circuit.trip()
    }
}

#[cfg(test)]
mod tests {
    use push_domain::Reason;

    use super::*;

    fn failure() -> Outcome {
        let reason = Reason::known("x");
        Outcome::TryLater { after: None, scope: RetryScope::Attempt, ambiguous: false, reason }
    }

    fn note(breaker: &Breaker, outcome: &Outcome) {
        breaker.note(outcome, &mut breaker.circuit.pass().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_failures_stop_attempts_until_a_try_succeeds() {
        let breaker = Breaker::new();
        (0..100).for_each(|_| note(&breaker, &failure()));
        assert!(breaker.circuit.is_passing(), "they came all at once");

        tokio::time::advance(LASTING).await;
        note(&breaker, &failure());
        assert!(breaker.circuit.pass().is_none());
        tokio::time::advance(PAUSES.first).await;
        note(&breaker, &failure());
        assert!(breaker.circuit.pass().is_none());
        tokio::time::advance(PAUSES.first * 2).await;
        note(&breaker, &Outcome::Accepted);
        assert!(breaker.circuit.is_passing());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_of_attempts_from_before_the_recovery_do_not_count() {
        let breaker = Breaker::new();
        let mut stale: Vec<_> = (0..50).map(|_| breaker.circuit.pass().unwrap()).collect();
        (0..10).for_each(|_| note(&breaker, &failure()));
        tokio::time::advance(LASTING).await;
        note(&breaker, &failure());
        tokio::time::advance(PAUSES.first).await;
        note(&breaker, &Outcome::Accepted);

        for permit in &mut stale {
            assert!(!breaker.note(&failure(), permit));
        }
        note(&breaker, &failure());

        assert!(breaker.circuit.is_passing());
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_among_successes_or_over_a_long_time_are_borne() {
        let breaker = Breaker::new();
        (0..100).for_each(|_| note(&breaker, &Outcome::Accepted));
        (0..50).for_each(|_| note(&breaker, &failure()));
        for _ in 0..50 {
            tokio::time::advance(Duration::from_secs(1)).await;
            note(&breaker, &failure());
        }

        assert!(breaker.circuit.is_passing());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_provider_says_about_a_push_never_counts_as_a_failure() {
        let breaker = Breaker::new();
        let reason = Reason::known("x");
        let busy = Outcome::TryLater {
            after: None,
            scope: RetryScope::Device,
            ambiguous: false,
            reason: reason.clone(),
        };
        for _ in 0..100 {
            note(&breaker, &Outcome::Refused { reason: reason.clone() });
            note(&breaker, &Outcome::Misconfigured { reason: reason.clone() });
            note(&breaker, &busy);
        }

        assert!(breaker.circuit.is_passing());
    }
}
