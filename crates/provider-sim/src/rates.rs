//! Fixed-window rate limits: a minute begins with the first push after the last one.

use std::collections::HashMap;
use std::sync::Mutex;

const MINUTE_MS: u64 = 60_000;
/// Keys beyond these make the map forget all.
const MAX_KEYS: usize = 1_000_000;

/// Counts pushes by key and minute.
#[derive(Debug, Default)]
pub(crate) struct RateWindows(Mutex<HashMap<String, (u64, u64)>>);

impl RateWindows {
    /// Counts a push at `now`, in milliseconds, and says whether it is one too many. A limit of 0 is none.
    pub(crate) fn is_over(&self, key: &str, limit: u64, now: u64) -> bool {
        if limit == 0 {
            return false;
        }
        let Ok(mut windows) = self.0.lock() else {
            return false;
        };
        if windows.len() >= MAX_KEYS {
            windows.clear();
        }
        if !windows.contains_key(key) {
            windows.insert(key.to_owned(), (now, 0));
        }
        let Some((began, count)) = windows.get_mut(key) else {
            return false;
        };
        if now.saturating_sub(*began) >= MINUTE_MS {
            (*began, *count) = (now, 0);
        }
        *count += 1;
        *count > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_begins_with_the_first_push_and_ends_sixty_seconds_later() {
        let windows = RateWindows::default();

        let over: Vec<_> = [0, 1, 2, 59_999, 60_000].map(|now| windows.is_over("a", 2, now)).into();

        assert_eq!(over, [false, false, true, true, false]);
        assert!(!windows.is_over("b", 2, 3));
        assert!((0..10).all(|now| !windows.is_over("c", 0, now)));
    }
}
