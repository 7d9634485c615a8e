//! How often one device may be pushed to: Apple refuses more to one token, Google lets a phone have 240 a
//! minute (docs/SECURITY.md); beyond that, pushes are a mistake of the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use push_domain::DeviceId;
use quick_cache::sync::Cache;
use tokio::time::Instant;

/// Devices that are remembered; the least used are forgotten, and begin anew.
const REMEMBERED: usize = 1_000_000;

/// A rate for each device (generic cell rate algorithm), in microseconds.
#[derive(Debug)]
pub(crate) struct DeviceGuard {
    made: Instant,
    /// Between two pushes at an even pace; 0: no limit.
    step: u64,
    /// How far ahead of that pace a device may be.
    ahead: u64,
    /// When each device's next push would come at an even pace.
    arrivals: Cache<u64, Arc<AtomicU64>>,
}

impl DeviceGuard {
    /// Makes a guard with so many pushes a second for each device, and so many at once.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let step = 1_000_000_u64.checked_div(per_second.into()).unwrap_or_default();
        let ahead = step * u64::from(burst.max(1));
        Self { made: Instant::now(), step, ahead, arrivals: Cache::new(REMEMBERED) }
    }

    /// Counts a push to a device, and says whether it may go. Devices are told apart by 64 bits of their
    /// keyed hash.
    pub(crate) fn lets_through(&self, device: &DeviceId) -> bool {
        if self.step == 0 {
            return true;
        }
        let (head, _) = device.as_bytes().split_at(8);
        let key = head.iter().fold(0, |key, byte| key << 8 | u64::from(*byte));
        let now = u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX);
        let fresh = || Ok::<_, std::convert::Infallible>(Arc::default());
        let Ok(arrival) = self.arrivals.get_or_insert_with(&key, fresh);
        let next = |at: u64| Some(at.max(now) + self.step).filter(|next| *next <= now + self.ahead);
        arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_device_gets_a_burst_and_then_its_rate_and_no_other_device_pays() {
        let guard = DeviceGuard::new(4, 20);
        let (one, other) = (DeviceId::from_bytes([1; 32]), DeviceId::from_bytes([2; 32]));

        assert_eq!((0..30).filter(|_| guard.lets_through(&one)).count(), 20);
        assert!(guard.lets_through(&other));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..30).filter(|_| guard.lets_through(&one)).count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_everything_goes() {
        let guard = DeviceGuard::new(0, 1);

        assert!((0..1000).all(|_| guard.lets_through(&DeviceId::from_bytes([1; 32]))));
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
                let guard = DeviceGuard::new(per_second, burst);
                let device = DeviceId::from_bytes([1; 32]);
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
                    assert_eq!(guard.lets_through(&device), expected);
                }
            });
        }
    }
}
