//! Clock of the simulator: wall-clock time that can be moved forward.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The simulator's clock: the machine's, and as far ahead of it as it was told.
///
/// What Apple and Google judge by the wall clock obeys it: the age of provider tokens, the 20-minute
/// rule, access tokens, quotas. Delays and time-outs of connections pass in real time.
#[derive(Debug, Default)]
pub(crate) struct VirtualClock {
    ahead_ms: AtomicU64,
}

impl VirtualClock {
    /// Milliseconds since 1970.
    pub(crate) fn millis(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "the simulator's only look at the clock")]
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX) + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self) -> u64 {
        self.millis() / 1000
    }

    /// Moves the clock forward for good.
    pub(crate) fn advance(&self, millis: u64) {
        self.ahead_ms.fetch_add(millis, Ordering::Relaxed);
    }
}
