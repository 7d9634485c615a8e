//! Distributed rate limiter of a licence, all gateways together; and its weight in the fair queue.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatch_stream::{Lease, PeerDirectory};
use push_domain::Gcra;
use tenant_registry::Licence;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

/// Turns that were leased and not used are forgotten after so long.
const LEASED_FOR: Duration = Duration::from_secs(5);
/// Most turns that are leased at once, and the share of the burst that is.
const MOST_LEASED: u32 = 100;
const LEASED_SHARE: u32 = 4;

/// How gateways share rates: the lease peers, and how many gateways there are.
#[derive(Debug, Clone)]
pub(crate) struct RateSharing {
    /// Where turns are leased; without it, this is the only gateway.
    pub(crate) peers: Option<Arc<PeerDirectory>>,
    /// How many gateways there are.
    pub(crate) gateways: Arc<AtomicU32>,
}

/// A licence's rate: leased in small blocks from the lane that keeps it, so that one gateway may use all of it, or kept
/// by each gateway to its share while that lane is silent.
pub(crate) struct LicenceRateLimiter {
    name: String,
    per_second: AtomicU32,
    burst: AtomicU32,
    sharing: RateSharing,
    made: Instant,
    state: Mutex<State>,
    /// One asks for all who come meanwhile.
    asking: AsyncMutex<()>,
}

#[derive(Debug)]
struct State {
    /// Turns that were leased, and until when.
    turns: u32,
    until: Instant,
    /// Nobody has a turn before that.
    denied_until: Instant,
    /// The theoretical arrival time, in nanoseconds after the rate was made, while nobody can be asked.
    arrival: u64,
}

impl LicenceRateLimiter {
    fn new(name: String, sharing: RateSharing) -> Self {
        let now = Instant::now();
        let state = State { turns: 0, until: now, denied_until: now, arrival: 0 };
        Self {
            name,
            per_second: AtomicU32::new(1),
            burst: AtomicU32::new(1),
            sharing,
            made: now,
            state: Mutex::new(state),
            asking: AsyncMutex::new(()),
        }
    }

    fn set(&self, per_second: u32, burst: u32) {
        self.per_second.store(per_second.max(1), Ordering::Relaxed);
        self.burst.store(burst.max(1), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one push; says whether it may go on.
    ///
    /// Cancel safe: a turn is lost at most.
    pub(crate) async fn take(&self) -> bool {
        let Some(peers) = &self.sharing.peers else { return self.take_local() };
        if let Some(known) = self.lock().known(Instant::now()) {
            return known;
        }
        // In a box of its own: every push would carry its state.
        Box::pin(self.ask(peers)).await
    }

    /// Asks the lanes for turns, one push at a time.
    async fn ask(&self, peers: &PeerDirectory) -> bool {
        let _asking = self.asking.lock().await;
        if let Some(known) = self.lock().known(Instant::now()) {
            return known;
        }
        let burst = self.burst.load(Ordering::Relaxed);
        let per_second = self.per_second.load(Ordering::Relaxed).into();
        let wanted = (burst / LEASED_SHARE).clamp(1, MOST_LEASED);
        match peers.lease(&self.name, per_second, burst, wanted).await {
            Some(Lease::Granted(turns)) => {
                let mut state = self.lock();
                (state.turns, state.until) = (turns - 1, Instant::now() + LEASED_FOR);
                true
            }
            Some(Lease::Wait(time)) => {
                self.lock().denied_until = Instant::now() + time;
                false
            }
            None => self.take_local(),
        }
    }

    /// Takes a turn of this gateway's own share.
    pub(crate) fn take_local(&self) -> bool {
        let gateways = self.sharing.gateways.load(Ordering::Relaxed).max(1);
        let share = |of: &AtomicU32| of.load(Ordering::Relaxed).div_ceil(gateways).max(1);
        let pace = Gcra::with_burst(1_000_000_000 / u64::from(share(&self.per_second)), share(&self.burst));
        let now = u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        let taken = pace.take(state.arrival, now);
        state.arrival = taken.unwrap_or(state.arrival);
        taken.is_some()
    }
}

impl State {
    /// What is known without asking.
    fn known(&mut self, now: Instant) -> Option<bool> {
        if self.turns > 0 && now < self.until {
            self.turns -= 1;
            return Some(true);
        }
        (now < self.denied_until).then_some(false)
    }
}

impl fmt::Debug for LicenceRateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LicenceRateLimiter").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Limiters of a licence: its rates, and its pushes in flight.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) rate: Arc<LicenceRateLimiter>,
    /// Its receipts, which cost no push: twice as many.
    pub(crate) receipts: Arc<LicenceRateLimiter>,
    pub(crate) under_way: Arc<AtomicU32>,
    /// Pushes at once; 0: any number.
    pub(crate) most: u32,
}

/// Makes the limits of a licence, or sets those that are known anew: what was used stays used.
pub(crate) fn limits(licence: &Licence, sharing: &RateSharing, known: Option<&Limits>) -> Limits {
    let rate = known.map_or_else(
        || Arc::new(LicenceRateLimiter::new(format!("licence:{}", licence.id), sharing.clone())),
        |known| Arc::clone(&known.rate),
    );
    let receipts = known.map_or_else(
        || {
            Arc::new(LicenceRateLimiter::new(
                format!("receipts:{}", licence.id),
                RateSharing { peers: None, gateways: Arc::new(AtomicU32::new(1)) },
            ))
        },
        |known| Arc::clone(&known.receipts),
    );
    rate.set(licence.terms.rate_per_second, licence.terms.burst);
    // Phones that come back send many at once; and a server may keep to one gateway, which counts for itself.
    receipts.set(licence.terms.rate_per_second.saturating_mul(2), licence.terms.burst.saturating_mul(2));
    // What is under way stays so, whatever the limit is now.
    let under_way = known.map(|known| Arc::clone(&known.under_way)).unwrap_or_default();
    let gateways = sharing.gateways.load(Ordering::Relaxed).max(1);
    let most = match licence.terms.in_flight {
        0 => 0,
        all => all.div_ceil(gateways).max(1),
    };
    Limits { rate, receipts, under_way, most }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(gateways: u32) -> (LicenceRateLimiter, Arc<AtomicU32>) {
        let gateways = Arc::new(AtomicU32::new(gateways));
        let rate = LicenceRateLimiter::new(
            "licence:x".into(),
            RateSharing { peers: None, gateways: Arc::clone(&gateways) },
        );
        rate.set(10, 20);
        (rate, gateways)
    }

    async fn taken(rate: &LicenceRateLimiter) -> u32 {
        let mut count = 0;
        while rate.take().await {
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_goes_at_once_and_the_rate_after_it() {
        let (rate, _) = alone(1);

        assert_eq!(taken(&rate).await, 20);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(taken(&rate).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn gateways_that_come_and_go_restart_no_burst() {
        let (rate, gateways) = alone(1);
        assert_eq!(taken(&rate).await, 20);

        for count in [2, 1, 4, 1] {
            gateways.store(count, Ordering::Relaxed);
            rate.set(10, 20);
            assert_eq!(taken(&rate).await, 0, "{count} gateways");
        }
    }
}
