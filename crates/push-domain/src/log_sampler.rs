//! Log sampler: what strangers can cause must not fill a log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many at once,
const BURST: u32 = 10;
/// and one more after each of these.
const STEP: Duration = Duration::from_secs(1);

/// Log sampler for many like events: ten lines at once, then one a second. Each line is told how many were
/// left out since the one before, so nothing is lost silently.
#[derive(Debug)]
pub struct LogSampler(Mutex<State>);

#[derive(Debug)]
struct State {
    free: u32,
    since: Option<Instant>,
    left_out: u64,
}

impl LogSampler {
    /// Makes one; it can be a static.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(State { free: BURST, since: None, left_out: 0 }))
    }

    /// Counts one event; returns how many were left out before it if it is to be told.
    #[must_use]
    pub fn turn(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let since = *state.since.get_or_insert(now);
        let steps = now.saturating_duration_since(since).as_millis() / STEP.as_millis();
        if steps > 0 {
            state.free = BURST.min(state.free.saturating_add(u32::try_from(steps).unwrap_or(BURST)));
            state.since = Some(now);
        }
        if state.free == 0 {
            state.left_out += 1;
            return None;
        }
        state.free -= 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

impl Default for LogSampler {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_writes_ten_lines_and_then_one_a_second_and_says_how_many_it_left_out() {
        let sampled = LogSampler::new();
        let flood = || (0..1000).filter_map(|_| sampled.turn()).collect::<Vec<_>>();
        assert_eq!(flood(), [0; 10]);

        tokio::time::advance(STEP).await;
        assert_eq!(flood(), [990]);

        tokio::time::advance(STEP * 100).await;
        assert_eq!(flood(), [vec![999], vec![0; 9]].concat());
    }
}
