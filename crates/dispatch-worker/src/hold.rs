//! `CredentialHold` (quarantine) of an app or a tenant that its provider refuses, until a probe is accepted.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use push_domain::{Backoff, Outcome, RetryScope};

use crate::circuit::{Circuit, CircuitPermit};

/// So many refusals in a row, about whatever pushes, are no accident.
const REFUSALS: u32 = 3;
const PAUSES: Backoff = Backoff { first: Duration::from_secs(5), longest: Duration::from_mins(1) };

/// `CredentialHold` after several refusals of one kind in a row; a probe that is accepted releases it.
#[derive(Debug)]
pub(crate) struct CredentialHold {
    pub(crate) circuit: Circuit,
    refusals: AtomicU32,
}

/// What an outcome did to the hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Held,
    Released,
}

impl CredentialHold {
    pub(crate) const fn pauses() -> Backoff {
        PAUSES
    }

    pub(crate) fn new() -> Self {
        Self { circuit: Circuit::new(Self::pauses()), refusals: AtomicU32::new(0) }
    }

    /// Takes one attempt's outcome; `refused` says whether it speaks against what is watched. A provider that cannot be
    /// reached says nothing.
    pub(crate) fn note(&self, outcome: &Outcome, refused: bool, permit: &mut CircuitPermit<'_>) -> Change {
        match outcome {
            _ if refused => self.refused(permit),
            Outcome::TryLater { scope: RetryScope::Attempt | RetryScope::Credential, .. }
            | Outcome::WrongApp { .. }
            | Outcome::Misconfigured { .. } => {
                permit.inconclusive();
                Change::None
            }
            Outcome::Accepted
            | Outcome::TokenDead { .. }
            | Outcome::Refused { .. }
            | Outcome::TryLater { scope: RetryScope::Device, .. } => {
                if self.refusals.load(Ordering::Relaxed) > 0 {
                    self.refusals.store(0, Ordering::Relaxed);
                }
                if permit.succeeded() { Change::Released } else { Change::None }
            }
        }
    }

    fn refused(&self, permit: &mut CircuitPermit<'_>) -> Change {
        if permit.is_probe() {
            permit.failed();
            return Change::None;
        }
        if self.circuit.is_stale(permit) {
            return Change::None;
        }
        let refusals = self.refusals.fetch_add(1, Ordering::Relaxed) + 1;
        if refusals >= REFUSALS && self.circuit.trip() { Change::Held } else { Change::None }
    }

    /// Opens it, and says whether it was shut.
    pub(crate) fn release(&self) -> bool {
        self.refusals.store(0, Ordering::Relaxed);
        self.circuit.reset()
    }
}

#[cfg(test)]
mod tests {
    use push_domain::Reason;

    use super::*;

    fn refusal() -> Outcome {
        Outcome::Misconfigured { reason: Reason::known("InvalidProviderToken") }
    }

    fn note(hold: &CredentialHold, outcome: &Outcome) -> Change {
        let is_refusal = matches!(outcome, Outcome::Misconfigured { .. });
        hold.note(outcome, is_refusal, &mut hold.circuit.pass().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_refusal_holds_nothing_however_often() {
        let (hold, wrong) =
            (CredentialHold::new(), Outcome::WrongApp { reason: Reason::known("DeviceTokenNotForTopic") });
        (0..10).for_each(|_| assert_eq!(note(&hold, &wrong), Change::None));

        let last = (0..3).map(|_| hold.note(&wrong, true, &mut hold.circuit.pass().unwrap())).last();
        assert_eq!(last, Some(Change::Held));
    }

    #[tokio::test(start_paused = true)]
    async fn three_refusals_in_a_row_hold_an_app_until_a_probe_is_taken() {
        let hold = CredentialHold::new();
        assert_eq!(
            [refusal(), refusal(), refusal()].map(|it| note(&hold, &it)),
            [Change::None, Change::None, Change::Held]
        );

        assert!(hold.circuit.pass().is_none());
        tokio::time::advance(PAUSES.first).await;
        assert_eq!(note(&hold, &refusal()), Change::None);
        assert!(hold.circuit.pass().is_none());
        tokio::time::advance(PAUSES.first * 2).await;
        assert_eq!(note(&hold, &Outcome::Accepted), Change::Released);
        assert!(hold.circuit.is_passing());
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_among_other_answers_hold_nothing() {
        let hold = CredentialHold::new();

        for _ in 0..10 {
            note(&hold, &refusal());
            note(&hold, &refusal());
            note(&hold, &Outcome::TokenDead { since: None, reason: Reason::known("Unregistered") });
        }

        assert!(hold.circuit.is_passing());
    }
}
