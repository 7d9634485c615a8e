//! A sliding window of counts, in two halves.

use std::time::Duration;

use tokio::time::Instant;

/// What was counted lately: in the present half of the window and in the one before it, so between half of the window
/// and all of it. Nothing runs while nobody counts.
#[derive(Debug)]
pub(crate) struct SlidingWindow<T> {
    half: Duration,
    began: Instant,
    pub(crate) now: T,
    pub(crate) before: T,
}

impl<T: Default> SlidingWindow<T> {
    pub(crate) fn new(length: Duration) -> Self {
        Self { half: length / 2, began: Instant::now(), now: T::default(), before: T::default() }
    }

    /// Begins a new half when it is time. Returns then how long the one that ended was: more than half of the window
    /// if nobody counted for a while.
    pub(crate) fn turn(&mut self) -> Option<Duration> {
        let age = self.began.elapsed();
        if age < self.half {
            return None;
        }
        let ended = std::mem::take(&mut self.now);
        // What ended more than half a window ago is older than the window.
        self.before = if age < self.half * 2 { ended } else { T::default() };
        self.began = Instant::now();
        Some(age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_the_window_is_forgotten() {
        let mut window = SlidingWindow::<u32>::new(Duration::from_secs(10));
        window.now = 7;
        assert_eq!((window.turn(), window.now), (None, 7));

        tokio::time::advance(Duration::from_secs(6)).await;
        assert!(window.turn().is_some());
        assert_eq!((window.now, window.before), (0, 7));
        window.now = 1;

        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(window.turn(), Some(Duration::from_secs(11)));
        assert_eq!((window.now, window.before), (0, 0));
    }
}
