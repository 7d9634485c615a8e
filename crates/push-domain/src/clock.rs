//! Clock trait and implementations: wall-clock time as an argument, so that tests can set it.
//!
//! Durations are measured with `tokio::time`, which tests can pause.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// Timestamp: milliseconds since 1970-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// Wraps milliseconds since 1970.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns milliseconds since 1970.
    #[must_use]
    pub const fn millis(self) -> u64 {
        self.0
    }

    /// Returns whole seconds since 1970, as JWTs and `apns-expiration` want them.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Returns whole days since 1970; devices are remembered by day only.
    #[must_use]
    pub const fn day(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "11 million years from now")]
        {
            (self.0 / 86_400_000) as u32
        }
    }

    /// Returns the time `by` later.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "580 million years")]
        Self(self.0.saturating_add(by.as_millis() as u64))
    }

    /// Returns the time so long ago.
    #[must_use]
    pub const fn before(self, ago: Duration) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "580 million years")]
        Self(self.0.saturating_sub(ago.as_millis() as u64))
    }

    /// Returns how long ago `earlier` was; nothing if it lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Clock: tells the wall-clock time, and for how long the machine was suspended.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Returns the time now.
    fn now(&self) -> Timestamp;

    /// Returns for how long the machine has been suspended since it was started. `Instant`s stand still meanwhile
    /// (`clock_gettime(2)`: `CLOCK_MONOTONIC` against `CLOCK_BOOTTIME`), so whatever must not outlive its time adds
    /// this to what they say.
    fn slept(&self) -> Duration {
        Duration::ZERO
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the Clock that everybody else asks")]
        let since_1970 = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(0).plus(since_1970)
    }

    fn slept(&self) -> Duration {
        let read = |clock| {
            let time = rustix::time::clock_gettime(clock);
            Duration::new(
                time.tv_sec.try_into().unwrap_or_default(),
                time.tv_nsec.try_into().unwrap_or_default(),
            )
        };
        // In this order, so that what passes between the two counts as sleep, if anything.
        let awake = read(rustix::time::ClockId::Monotonic);
        read(rustix::time::ClockId::Boottime).saturating_sub(awake)
    }
}

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct ManualClock(AtomicU64, AtomicU64);

impl ManualClock {
    /// Makes a clock that shows `start`.
    #[must_use]
    pub const fn starting_at(start: Timestamp) -> Self {
        Self(AtomicU64::new(start.0), AtomicU64::new(0))
    }

    /// Suspends the machine for a time: the clock goes on meanwhile, and nothing else does.
    pub fn suspend(&self, time: Duration) {
        self.advance(time);
        self.1.fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    /// Lets the clock show another time, as a machine's may be set.
    pub fn step_to(&self, time: Timestamp) {
        self.0.store(time.0, Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.store(self.now().plus(by).0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn slept(&self) -> Duration {
        Duration::from_millis(self.1.load(Ordering::SeqCst))
    }
}
