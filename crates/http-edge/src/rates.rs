//! How often something may happen, for each of many: a device that is pushed to, a source that has no licence, an
//! address that presents wrong keys.
//!
//! Apple refuses more than some pushes to one token, Google lets a phone have 240 a minute; beyond that, pushes are a
//! mistake of the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache;
use tokio::time::Instant;

/// A rate for each of many (generic cell rate algorithm), in microseconds. So many are remembered; the least used are
/// forgotten, and begin anew.
#[derive(Debug)]
pub struct Rates {
    made: Instant,
    /// Between two pushes at an even pace; 0: no limit.
    step: u64,
    /// How far ahead of that pace one may be.
    ahead: u64,
    /// When the next of each would come at an even pace.
    arrivals: Cache<u64, Arc<AtomicU64>>,
}

impl Rates {
    /// Lets each have one in `step` (zero: any number), and `burst` at once; remembers `remembered` of them.
    #[must_use]
    pub fn new(step: Duration, burst: u32, remembered: usize) -> Self {
        let step = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
        let ahead = step * u64::from(burst.max(1));
        Self { made: Instant::now(), step, ahead, arrivals: Cache::new(remembered) }
    }

    /// The same with so many a second; 0: any number.
    #[must_use]
    pub fn per_second(rate: u32, burst: u32, remembered: usize) -> Self {
        let step = 1_000_000_u64.checked_div(rate.into()).unwrap_or_default();
        Self::new(Duration::from_micros(step), burst, remembered)
    }

    /// Counts one, and says whether it may be.
    #[must_use]
    pub fn lets_through(&self, key: u64) -> bool {
        if self.step == 0 {
            return true;
        }
        let now = u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX);
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(arrival) = self.arrivals.get_or_insert_with(&key, fresh);
        let next = |at: u64| Some(at.max(now) + self.step).filter(|next| *next <= now + self.ahead);
        arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_device_gets_a_burst_and_then_its_rate_and_no_other_device_pays() {
        let guard = Rates::per_second(4, 20, 1000);
        let (one, other) = (1, 2);

        assert_eq!((0..30).filter(|_| guard.lets_through(one)).count(), 20);
        assert!(guard.lets_through(other));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..30).filter(|_| guard.lets_through(one)).count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_everything_goes() {
        let guard = Rates::per_second(0, 1, 1000);

        assert!((0..1000).all(|_| guard.lets_through(1)));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(10_000))]

        /// A bucket that is filled at the rate and holds the burst, in whole microseconds.
        #[test]
        fn any_schedule_is_judged_as_a_token_bucket_does(
            per_second in 1_u32..1000,
            burst in 1_u32..50,
            waits in proptest::collection::vec(0_u64..400_000, 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            runtime.unwrap().block_on(async {
                let guard = Rates::per_second(per_second, burst, 1000);
                let step = 1_000_000 / u64::from(per_second);
                // What is in the bucket, in microseconds' worth; a push takes one step out.
                let mut filled = step * u64::from(burst);
                for wait in waits {
                    tokio::time::advance(Duration::from_micros(wait)).await;
                    filled = (filled + wait).min(step * u64::from(burst));
                    let expected = filled >= step;
                    if expected {
                        filled -= step;
                    }
                    assert_eq!(guard.lets_through(1), expected);
                }
            });
        }
    }
}
