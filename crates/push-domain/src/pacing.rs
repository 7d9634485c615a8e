//! The two schedules that everything here keeps to: a rate (generic cell rate algorithm) and an exponential back-off.
//!
//! Both are arithmetic alone. Whoever uses them keeps the state, reads the clock and adds chance.

use std::time::Duration;

/// A rate with a burst, by the generic cell rate algorithm (ITU-T I.371, annex A; the virtual scheduling form).
///
/// The state is one number, the theoretical arrival time: when the next one would come at an even pace. All numbers are
/// in one unit and count from one origin, which are the caller's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    step: u64,
    tolerance: u64,
}

/// When one may go, and the state after it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// From when it may go.
    pub at: u64,
    /// The theoretical arrival time from then on.
    pub arrival: u64,
}

impl Gcra {
    /// One in `step`, and `burst` at once after a quiet time (at least one).
    #[must_use]
    pub const fn with_burst(step: u64, burst: u32) -> Self {
        Self::with_tolerance(step, step.saturating_mul(burst.saturating_sub(1) as u64))
    }

    /// One in `step`, and each at most `tolerance` ahead of the even pace.
    #[must_use]
    pub const fn with_tolerance(step: u64, tolerance: u64) -> Self {
        Self { step, tolerance }
    }

    /// Says when the next one may go, `now` at the earliest.
    #[must_use]
    pub const fn turn(self, arrival: u64, now: u64) -> Turn {
        let arrival = if arrival > now { arrival } else { now };
        let earliest = arrival.saturating_sub(self.tolerance);
        Turn { at: if earliest > now { earliest } else { now }, arrival: arrival.saturating_add(self.step) }
    }

    /// Takes a turn that may go at once: the state after it, or `None`.
    #[must_use]
    pub const fn take(self, arrival: u64, now: u64) -> Option<u64> {
        let turn = self.turn(arrival, now);
        if turn.at > now { None } else { Some(turn.arrival) }
    }
}

/// How long to wait after failures in a row: the first pause, doubled with each further failure, up to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause after one failure.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
}

impl Backoff {
    /// Returns the pause after so many failures in a row; zero after none.
    #[must_use]
    pub fn after(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(5) };

        let pauses = [0, 1, 2, 3, 4, 99].map(|failures| backoff.after(failures).as_secs());

        assert_eq!(pauses, [0, 1, 2, 4, 5, 5]);
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(10_000))]

        /// A bucket that is filled at the rate and holds the burst.
        #[test]
        fn any_schedule_is_judged_as_a_token_bucket_does(
            step in 1_u64..1000,
            burst in 1_u32..50,
            waits in proptest::collection::vec(0_u64..20_000, 1..60),
        ) {
            let gcra = Gcra::with_burst(step, burst);
            let (mut now, mut arrival) = (0, 0);
            // In time's worth; one takes a step out.
            let full = step * u64::from(burst);
            let mut filled = full;
            for wait in waits {
                now += wait;
                filled = (filled + wait).min(full);
                let expected = filled >= step;
                if expected {
                    filled -= step;
                }
                let taken = gcra.take(arrival, now);
                assert_eq!(taken.is_some(), expected);
                arrival = taken.unwrap_or(arrival);
            }
        }

        #[test]
        fn a_turn_that_is_waited_for_is_one_that_may_then_be_taken(
            step in 1_u64..1000,
            burst in 1_u32..50,
            ahead in 0_u64..100_000,
            now in 0_u64..100_000,
        ) {
            let gcra = Gcra::with_burst(step, burst);
            let turn = gcra.turn(now + ahead, now);

            assert_eq!(gcra.take(now + ahead, turn.at), Some(turn.arrival));
            assert!(turn.at == now || gcra.take(now + ahead, turn.at - 1).is_none());
        }
    }
}
