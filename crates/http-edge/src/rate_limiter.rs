//! Keyed GCRA rate limiter with bounded memory: for a device that is pushed to, an unlicensed source, an
//! address that presents wrong keys.
//!
//! Apple refuses more than some pushes to one token, Google lets a phone have 240 a minute; beyond that, pushes are a
//! mistake of the caller.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use push_domain::Gcra;
use tokio::time::Instant;

/// So many share a line of the processor's cache, and are looked through together.
const SET: usize = 8;
/// The bits of a place that hold a time, in microseconds, for nine years; the others tell whose it is.
const TIME_BITS: u32 = 48;

/// Keyed rate limiter (generic cell rate algorithm). So many keys are remembered, eight bytes each; of
/// those that share a set with a new one, the one whose last time is longest ago is forgotten, and begins anew.
#[derive(Debug)]
pub struct KeyedRateLimiter {
    made: Instant,
    /// In microseconds after `made`; `None`: no limit.
    rate: Option<Gcra>,
    /// When the next of each would come at an even pace, and whose it is.
    sets: Box<[[AtomicU64; SET]]>,
}

impl KeyedRateLimiter {
    /// Lets each have one in `step` (zero: any number), and `burst` at once; remembers `remembered` of them.
    #[must_use]
    pub fn new(step: Duration, burst: u32, remembered: usize) -> Self {
        let step = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
        let rate = (step > 0).then(|| Gcra::with_burst(step, burst));
        let sets = if rate.is_none() { 0 } else { remembered.div_ceil(SET).max(1) };
        let sets = std::iter::repeat_with(Default::default).take(sets).collect();
        Self { made: Instant::now(), rate, sets }
    }

    /// The same with so many a second; 0: any number.
    #[must_use]
    pub fn per_second(rate: u32, burst: u32, remembered: usize) -> Self {
        let step = 1_000_000_u64.checked_div(rate.into()).unwrap_or_default();
        Self::new(Duration::from_micros(step), burst, remembered)
    }

    /// Counts one, and says whether it may be. Keys are hashes: all their bits tell them apart.
    #[must_use]
    pub fn check(&self, key: u64) -> bool {
        let Some(rate) = self.rate else { return true };
        let now = u64::try_from(self.made.elapsed().as_micros()).unwrap_or(u64::MAX);
        let tag = tag_of(key) | 1;
        let next = |known: u64| {
            let arrival = if tag_of(known) == tag { time_of(known) } else { 0 };
            rate.take(arrival, now).map(|next| tag << TIME_BITS | time_of(next))
        };
        let Some(place) = self.place(key, tag) else { return true };
        place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// The place of a key, or the one that it may take.
    fn place(&self, key: u64, tag: u64) -> Option<&AtomicU64> {
        let number = key % u64::try_from(self.sets.len()).ok()?;
        let set = self.sets.get(usize::try_from(number).ok()?)?;
        let known = set.iter().find(|place| tag_of(place.load(Ordering::Relaxed)) == tag);
        known.or_else(|| set.iter().min_by_key(|place| time_of(place.load(Ordering::Relaxed))))
    }
}

/// Whose a place is; never 0, which is nobody's.
const fn tag_of(place: u64) -> u64 {
    place >> TIME_BITS
}

const fn time_of(place: u64) -> u64 {
    place & ((1 << TIME_BITS) - 1)
}

/// How many times as much as a site each larger network may have.
const ALLOWANCES: [u32; 4] = [1, 4, 16, 64];

/// Rate limiter by source and by each larger network around it ([`crate::networks`]): whoever has one of
/// those has many sources.
#[derive(Debug)]
pub struct NetworkRateLimiter([KeyedRateLimiter; 4]);

impl NetworkRateLimiter {
    /// Makes the rates; `make` is told how many times as much as a site's it has to be.
    #[must_use]
    pub fn new(make: impl Fn(u32) -> KeyedRateLimiter) -> Self {
        Self(ALLOWANCES.map(make))
    }

    /// Counts one, and says whether it may be. `networks` are hashes, the site's first.
    #[must_use]
    pub fn check(&self, networks: &[u64]) -> bool {
        // The narrowest first: what a site is refused does not count against its neighbours.
        self.0.iter().zip(networks).all(|(rates, network)| rates.check(*network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_device_gets_a_burst_and_then_its_rate_and_no_other_device_pays() {
        let guard = KeyedRateLimiter::per_second(4, 20, 1000);
        let (one, other) = (1, 2);

        assert_eq!((0..30).filter(|_| guard.check(one)).count(), 20);
        assert!(guard.check(other));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..30).filter(|_| guard.check(one)).count(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_came_last_is_remembered_among_more_than_there_is_room_for() {
        let guard = KeyedRateLimiter::per_second(4, 2, 64);
        let keys = |from: u64| (from..from + 1000).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        assert!(keys(0).all(|key| guard.check(key)));
        let last = 7;
        assert_eq!((0..9).filter(|_| guard.check(last)).count(), 2);

        tokio::time::advance(Duration::from_micros(1)).await;
        assert!(keys(5000).take(4).all(|key| guard.check(key)));

        assert!(!guard.check(last));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_everything_goes() {
        let guard = KeyedRateLimiter::per_second(0, 1, 1000);

        assert!((0..1000).all(|_| guard.check(1)));
    }
}
