//! Retry policy: whether a push is tried again inside its deadline, and when.
//!
//! The caller waits for the answer, so a retry is quick or does not happen. Both providers ask for
//! longer pauses after a failure (Google 10 s, Apple 15 minutes); why one or two quick ones are
//! right all the same, while failures are rare, is in docs/adr/0006.

use std::time::Duration;

use push_domain::{Backoff, Outcome, RetryScope};
use rand::{Rng, RngExt};

const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(25) };

/// Returns how long to wait before the attempt after attempt `number`, or `None` if there is to be none.
///
/// Never against a pause that the provider asked for, never past `left`, full jitter.
pub(crate) fn wait(
    outcome: &Outcome,
    number: u32,
    quick_retries: u32,
    left: Duration,
    rng: &mut impl Rng,
) -> Option<Duration> {
    let Outcome::TryLater { after, scope: RetryScope::Attempt, .. } = outcome else {
        return None;
    };
    if number > quick_retries || after.is_some_and(|pause| !pause.is_zero()) {
        return None;
    }
    let wait = BACKOFF.after(number).mul_f64(rng.random_range(0.0..1.0));
    (wait < left).then_some(wait)
}

#[cfg(test)]
mod tests {
    use push_domain::Reason;

    use super::*;

    const LEFT: Duration = Duration::from_secs(10);

    fn later(scope: RetryScope, after: Option<Duration>) -> Outcome {
        Outcome::TryLater { after, scope, ambiguous: false, reason: Reason::known("x") }
    }

    fn is_retried(outcome: &Outcome, number: u32, left: Duration) -> bool {
        wait(outcome, number, 2, left, &mut rand::rng()).is_some()
    }

    #[test]
    fn only_a_passing_fault_is_retried_and_at_most_twice() {
        let fault = later(RetryScope::Attempt, None);

        assert!(is_retried(&fault, 1, LEFT));
        assert!(is_retried(&fault, 2, LEFT));
        assert!(!is_retried(&fault, 3, LEFT));
    }

    #[test]
    fn a_final_outcome_is_never_retried() {
        let reason = Reason::known("x");
        for outcome in [
            Outcome::Accepted,
            Outcome::TokenDead { since: None, reason: reason.clone() },
            Outcome::WrongApp { reason: reason.clone() },
            Outcome::Refused { reason: reason.clone() },
            Outcome::Misconfigured { reason },
        ] {
            assert!(!is_retried(&outcome, 1, LEFT), "{outcome:?}");
        }
    }

    #[test]
    fn a_pause_that_the_provider_asked_for_is_never_cut_short() {
        assert!(!is_retried(&later(RetryScope::Attempt, Some(Duration::from_secs(1))), 1, LEFT));
        assert!(is_retried(&later(RetryScope::Attempt, Some(Duration::ZERO)), 1, LEFT));
        assert!(!is_retried(&later(RetryScope::Device, None), 1, LEFT));
        assert!(!is_retried(&later(RetryScope::Credential, None), 1, LEFT));
    }

    #[test]
    fn no_retry_starts_after_the_deadline() {
        assert!(!is_retried(&later(RetryScope::Attempt, None), 1, Duration::ZERO));
    }

    #[test]
    fn waits_grow_and_are_spread() {
        let fault = later(RetryScope::Attempt, None);
        let waits = |number| (0..200).filter_map(move |_| wait(&fault, number, 2, LEFT, &mut rand::rng()));

        let longest = |number| waits.clone()(number).max().unwrap();
        assert!(longest(1) <= Duration::from_millis(100));
        assert!(longest(2) > Duration::from_millis(100) && longest(2) <= Duration::from_millis(200));
    }
}
