//! Rate limiter of one provider credential (GCRA), with the provider's pauses.
//!
//! Google gives a project so many pushes a minute, all regions together; a project that is over it is
//! paused for as long as Google says, and then brought back to speed over a minute (FCM, "Scale").

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatch_stream::{Lease, PeerDirectory};
use push_domain::Gcra;
use rand::RngExt;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

/// So much may leave at once after a quiet time.
const BURST: Duration = Duration::from_millis(250);
/// From a tenth of the rate to all of it.
const RAMP: Duration = Duration::from_mins(1);
const RAMP_FROM: f64 = 0.1;
/// A pause that is worth waiting for; in a longer one callers are told at once.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
/// Most turns that are leased at once.
const MOST_LEASED: u32 = 100;
const MAX_JITTER: Duration = Duration::from_secs(10);

/// Rate limiter of one credential, for all apps and threads that use it. Without a limit and a pause a turn
/// costs one atomic read.
#[derive(Debug)]
pub(crate) struct ProviderRateLimiter {
    /// Whether there is a limit, or was a pause not long ago.
    applies: AtomicBool,
    /// Pushes a second; 0 stands for no limit.
    per_second: f64,
    /// So many may wait at once; more would keep other credentials' pushes from being worked on.
    max_waiting: usize,
    waiting: AtomicUsize,
    state: Mutex<State>,
    shared: Option<Shared>,
}

/// A rate that is shared with other processes, and the turns of it that were leased.
#[derive(Debug)]
struct Shared {
    credential: String,
    per_second: f64,
    peers: Arc<PeerDirectory>,
    turns: AtomicU32,
    /// One asks for all who wait.
    asking: AsyncMutex<()>,
    /// How many processes share the rate, and the pace of this one while nobody can be asked.
    processes: AtomicU32,
    alone: Mutex<State>,
}

#[derive(Debug)]
struct State {
    made: Instant,
    /// The theoretical arrival time of the next push, in nanoseconds after `made`.
    arrival: u64,
    paused_until: Option<Instant>,
}

/// Error: too many wait already, or it would take too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateExceeded;

impl ProviderRateLimiter {
    pub(crate) fn new(per_second: u32, max_waiting: usize) -> Self {
        Self {
            applies: AtomicBool::new(per_second > 0),
            per_second: per_second.into(),
            max_waiting,
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State::new()),
            shared: None,
        }
    }

    /// Makes the pace of a credential that other processes send under too.
    pub(crate) fn shared(
        per_second: u32,
        max_waiting: usize,
        credential: &str,
        peers: Arc<PeerDirectory>,
    ) -> Self {
        let shared = Shared {
            credential: credential.to_owned(),
            per_second: per_second.into(),
            peers,
            turns: AtomicU32::new(0),
            asking: AsyncMutex::new(()),
            processes: AtomicU32::new(1),
            alone: Mutex::new(State::new()),
        };
        Self { shared: (per_second > 0).then_some(shared), ..Self::new(per_second, max_waiting) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of one push; fails at once if it would not come before `deadline`.
    ///
    /// Cancel safe: the turn is lost, nothing else.
    pub(crate) async fn acquire(&self, deadline: Instant) -> Result<(), RateExceeded> {
        if !self.applies.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = Instant::now();
        let latest = if self.waiting.load(Ordering::Relaxed) < self.max_waiting { deadline } else { now };
        let (at, share) = {
            let mut state = self.lock();
            // Where the rate is shared, so is the way back to it after a pause: all together keep to its share.
            let share = state.share(now);
            let at = state.reserve(now, self.per_second, latest).ok_or(RateExceeded)?;
            if self.per_second == 0.0 && state.paused_until.is_none() {
                // Under the lock, under which pauses set it: one that begins now is not lost.
                self.applies.store(false, Ordering::Relaxed);
            }
            (at, share)
        };
        if at > now {
            let _place = WaitGuard::take(&self.waiting);
            tokio::time::sleep_until(at).await;
            // A pause that was asked for meanwhile holds for those who waited too.
            if self.is_paused() {
                return Err(RateExceeded);
            }
        }
        match &self.shared {
            None => Ok(()),
            Some(shared) if shared.take() => Ok(()),
            Some(_) if self.waiting.load(Ordering::Relaxed) >= self.max_waiting => Err(RateExceeded),
            Some(shared) => {
                let _place = WaitGuard::take(&self.waiting);
                shared.acquire(deadline, share).await?;
                if self.is_paused() { Err(RateExceeded) } else { Ok(()) }
            }
        }
    }

    /// Says how many processes send under the credential.
    pub(crate) fn share_among(&self, processes: u32) {
        if let Some(shared) = &self.shared {
            shared.processes.store(processes, Ordering::Relaxed);
        }
    }

    /// Returns for how long the credential is still paused.
    pub(crate) fn pause_left(&self) -> Duration {
        let until = self.lock().paused_until;
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(Instant::now()))
    }

    /// Takes over a pause that another worker was told.
    pub(crate) fn pause_exactly(&self, time: Duration) {
        let mut state = self.lock();
        state.paused_until =
            state.paused_until.max(Some(Instant::now() + time.min(Duration::from_hours(24))));
        self.applies.store(true, Ordering::Relaxed);
    }

    /// Pauses for as long as the provider asked, and a little more by chance.
    pub(crate) fn pause(&self, time: Duration) {
        let jitter = MAX_JITTER.min(time / 4).mul_f64(rand::rng().random_range(0.0..1.0));
        // Nobody asks for more than a day; whoever does is asked again then.
        let until = Instant::now() + time.min(Duration::from_hours(24)) + jitter;
        let mut state = self.lock();
        state.paused_until = state.paused_until.max(Some(until));
        self.applies.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.applies.load(Ordering::Relaxed)
            && self.lock().paused_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Shared {
    /// Takes a turn, and leases some more when there is none. While nobody can be asked, each process keeps
    /// to its share by itself.
    async fn acquire(&self, deadline: Instant, share: f64) -> Result<(), RateExceeded> {
        let rate = self.per_second * share;
        loop {
            if self.take() {
                return Ok(());
            }
            let asking = tokio::time::timeout_at(deadline, self.asking.lock()).await;
            let _asking = asking.map_err(|_| RateExceeded)?;
            if self.take() {
                return Ok(());
            }
            let wanted = whole(rate / 50.0).min(MOST_LEASED);
            match self.peers.lease(&self.credential, rate, whole(rate / 4.0), wanted).await {
                Some(Lease::Granted(turns)) => {
                    self.turns.fetch_add(turns, Ordering::AcqRel);
                }
                Some(Lease::Wait(time)) if Instant::now() + time > deadline => return Err(RateExceeded),
                Some(Lease::Wait(time)) => tokio::time::sleep(time).await,
                None => break,
            }
        }
        let mine = rate / f64::from(self.processes.load(Ordering::Relaxed).max(1));
        let at = {
            let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
            alone.reserve(Instant::now(), mine, deadline).ok_or(RateExceeded)?
        };
        tokio::time::sleep_until(at).await;
        Ok(())
    }

    fn take(&self) -> bool {
        let less = |turns: u32| turns.checked_sub(1);
        self.turns.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok()
    }
}

/// As many as that, and one at least.
fn whole(turns: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a rate")]
    {
        turns.max(1.0) as u32
    }
}

impl State {
    fn new() -> Self {
        Self { made: Instant::now(), arrival: 0, paused_until: None }
    }

    /// Returns which share of the rate holds after a pause: all of it a minute later.
    fn share(&self, now: Instant) -> f64 {
        self.paused_until.map_or(1.0, |until| {
            let ramped = now.saturating_duration_since(until).as_secs_f64() / RAMP.as_secs_f64();
            ramped.clamp(RAMP_FROM, 1.0)
        })
    }

    /// Returns when the push may leave, and counts it; or `None` if that is later than `latest`.
    fn reserve(&mut self, now: Instant, per_second: f64, latest: Instant) -> Option<Instant> {
        let earliest = match self.paused_until {
            Some(until) if until > now + SHORT_PAUSE => return None,
            Some(until) if now < until + RAMP => until.max(now),
            Some(_) => {
                self.paused_until = None;
                now
            }
            None => now,
        };
        if per_second == 0.0 {
            return (earliest <= latest).then_some(earliest);
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let step = Duration::from_secs_f64(1.0 / (per_second * self.share(now)));
        let pace = Gcra::with_tolerance(nanos(step), nanos(BURST));
        let turn = pace.turn(self.arrival, nanos(earliest.saturating_duration_since(self.made)));
        let at = self.made + Duration::from_nanos(turn.at);
        if at > latest {
            return None;
        }
        self.arrival = turn.arrival;
        Some(at)
    }
}

/// One of the places for those who wait.
struct WaitGuard<'a>(&'a AtomicUsize);

impl<'a> WaitGuard<'a> {
    fn take(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_time() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// How many of `asked` pushes leave within `time`.
    async fn leaving(pace: &ProviderRateLimiter, asked: usize, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut left = 0;
        for _ in 0..asked {
            match tokio::time::timeout_at(end, pace.acquire(in_time())).await {
                Ok(Ok(())) => left += 1,
                Ok(Err(RateExceeded)) => {}
                Err(_) => break,
            }
        }
        left
    }

    #[tokio::test(start_paused = true)]
    async fn pushes_leave_at_the_rate_after_a_short_burst() {
        let pace = ProviderRateLimiter::new(1000, 10);

        let left = leaving(&pace, 10_000, Duration::from_secs(2)).await;

        assert!((2200..=2300).contains(&left), "{left}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_without_a_rate_is_never_slowed_down() {
        assert_eq!(leaving(&ProviderRateLimiter::new(0, 0), 10_000, Duration::from_millis(1)).await, 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_told_at_once_and_speed_comes_back_over_a_minute() {
        let pace = ProviderRateLimiter::new(1000, 10);
        pace.pause(Duration::from_secs(40));
        assert_eq!(pace.acquire(in_time()).await, Err(RateExceeded));
        assert!(pace.is_paused());

        tokio::time::advance(Duration::from_secs(50)).await;
        let early = leaving(&pace, 10_000, Duration::from_secs(2)).await;
        tokio::time::advance(Duration::from_secs(90)).await;
        let late = leaving(&pace, 10_000, Duration::from_secs(2)).await;
        assert!(early < 1000 && late > 2000, "{early} {late}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_past_the_deadline_or_in_too_large_a_crowd() {
        let pace = ProviderRateLimiter::new(1, 1);
        assert_eq!(pace.acquire(in_time()).await, Ok(()));

        let soon = Instant::now() + Duration::from_millis(500);
        assert_eq!(pace.acquire(soon).await, Err(RateExceeded));
        let (one, two) = tokio::join!(pace.acquire(in_time()), pace.acquire(in_time()));
        assert_eq!((one, two), (Ok(()), Err(RateExceeded)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_also_for_those_who_wait_already() {
        let pace = ProviderRateLimiter::new(1, 10);
        assert_eq!(pace.acquire(in_time()).await, Ok(()));

        let pausing = async { pace.pause(Duration::from_mins(1)) };
        let (waiting, ()) = tokio::join!(pace.acquire(in_time()), pausing);

        assert_eq!(waiting, Err(RateExceeded));
    }

    #[tokio::test(start_paused = true)]
    async fn without_anybody_to_ask_each_process_keeps_to_its_share() {
        let peers = Arc::new(PeerDirectory::alone("one"));
        let pace = ProviderRateLimiter::shared(1000, 10, "fcm", peers);
        pace.share_among(4);

        let left = leaving(&pace, 10_000, Duration::from_secs(2)).await;

        assert!((500..=600).contains(&left), "{left}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_way_back_after_a_pause_is_shared_by_all_processes() {
        let pace = ProviderRateLimiter::shared(1000, 10, "fcm", Arc::new(PeerDirectory::alone("one")));
        pace.share_among(10);
        pace.pause_exactly(Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;

        let left = leaving(&pace, 10_000, Duration::from_secs(2)).await;

        // A tenth of the rate for all, a tenth of that for each, and what leaves at once.
        assert!((15..=50).contains(&left), "{left}");
    }
}
