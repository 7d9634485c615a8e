//! Evidence: counters of dead devices and accepted pushes by app or tenant, and their sum over processes.
//!
//! A statement holds counts by half minutes, in the time of the lane that it is told on. It says nothing for ever: what is
//! older than five minutes counts no more, and what lies ahead was written before that lane's clock went back.

use std::time::Duration;

use prost::Message;

/// Evidence is counted by half minutes,
pub(crate) const BUCKET_MS: u64 = 30_000;
/// and so many of them count.
const BUCKETS: u64 = 10;
/// No pause that is heard of is longer.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Counters of what processes saw of an app, or of a tenant's pushes to it. As durations: no process believes
/// another's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Devices that were called dead.
    pub dead: u64,
    /// Pushes that were accepted.
    pub accepted: u64,
    /// How long ago the last one was, if any was.
    pub accepted_ago: Option<Duration>,
    /// For how long its credential is still paused.
    pub paused: Duration,
}

/// Counters of one process, as it publishes them on a lane.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Statement {
    #[prost(message, repeated, tag = "1")]
    buckets: Vec<Bucket>,
    #[prost(uint64, optional, tag = "2")]
    accepted_at_ms: Option<u64>,
    /// A pause is kept with its end and its length: what is left of it never is more than that.
    #[prost(uint64, tag = "3")]
    paused_until_ms: u64,
    #[prost(uint64, tag = "4")]
    pause_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct Bucket {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(uint64, tag = "2")]
    dead: u64,
    #[prost(uint64, tag = "3")]
    accepted: u64,
}

impl Bucket {
    const fn counts(&self, now_ms: u64) -> bool {
        let now = now_ms / BUCKET_MS;
        self.number <= now && self.number + BUCKETS > now
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Statement {
    /// Adds what was seen since the last time.
    pub(crate) fn add(&mut self, seen: &Evidence, now_ms: u64) {
        self.buckets.retain(|bucket| bucket.counts(now_ms));
        if seen.dead > 0 || seen.accepted > 0 {
            let number = now_ms / BUCKET_MS;
            let place = self.buckets.iter().position(|bucket| bucket.number == number);
            let place = place.unwrap_or_else(|| {
                self.buckets.push(Bucket { number, dead: 0, accepted: 0 });
                self.buckets.len() - 1
            });
            let bucket = &mut self.buckets[place];
            bucket.dead = bucket.dead.saturating_add(seen.dead);
            bucket.accepted = bucket.accepted.saturating_add(seen.accepted);
        }
        let told = seen.accepted_ago.map(|ago| now_ms.saturating_sub(millis(ago)));
        self.accepted_at_ms = self.accepted_at_ms.map(|at| at.min(now_ms)).max(told);
        let (left, seen) = (self.pause_left(now_ms), millis(seen.paused.min(LONGEST_PAUSE)));
        (self.paused_until_ms, self.pause_ms) = (now_ms + left.max(seen), left.max(seen));
    }

    /// Says whether it still says anything.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        !self.buckets.iter().any(|bucket| bucket.counts(now_ms)) && self.pause_left(now_ms) == 0
    }

    fn pause_left(&self, now_ms: u64) -> u64 {
        self.paused_until_ms.saturating_sub(now_ms).min(self.pause_ms).min(millis(LONGEST_PAUSE))
    }
}

impl Evidence {
    /// Adds up what several processes say.
    pub(crate) fn of<'a>(statements: impl Iterator<Item = &'a Statement>, now_ms: u64) -> Self {
        let mut sum = Self::default();
        for statement in statements {
            for bucket in statement.buckets.iter().filter(|bucket| bucket.counts(now_ms)) {
                sum.dead = sum.dead.saturating_add(bucket.dead);
                sum.accepted = sum.accepted.saturating_add(bucket.accepted);
            }
            let ago = statement.accepted_at_ms.map(|at| Duration::from_millis(now_ms.saturating_sub(at)));
            sum.accepted_ago = sum.accepted_ago.into_iter().chain(ago).min();
            sum.paused = sum.paused.max(Duration::from_millis(statement.pause_left(now_ms)));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    fn seen(dead: u64, accepted: u64, ago: Option<u64>, paused: u64) -> Evidence {
        let accepted_ago = ago.map(Duration::from_secs);
        Evidence { dead, accepted, accepted_ago, paused: Duration::from_secs(paused) }
    }

    fn said(all: &[(Evidence, u64)]) -> Statement {
        let mut statement = Statement::default();
        for (seen, at) in all {
            statement.add(seen, *at);
        }
        statement
    }

    #[test]
    fn what_several_say_adds_up_and_counts_for_five_minutes() {
        let mut one = said(&[(seen(7, 1, Some(5), 30), NOW)]);
        let other = said(&[(seen(3, 0, None, 0), NOW)]);
        assert_eq!(Evidence::of([&one, &other].into_iter(), NOW), seen(10, 1, Some(5), 30));

        one.add(&seen(2, 0, None, 0), NOW + 60_000);
        let all = |now| Evidence::of([&one, &other].into_iter(), now);
        assert_eq!(all(NOW + 60_000), seen(12, 1, Some(65), 0));
        assert_eq!((all(NOW + 300_000).dead, all(NOW + 360_000).dead), (2, 0));
        assert!(!one.is_over(NOW + 300_000) && one.is_over(NOW + 360_000));
    }

    #[test]
    fn every_moment_in_a_statement_bears_a_clock_that_steps() {
        for step in [-86_400_000_i64, -3_600_000, -2000, 2000, 3_600_000, 86_400_000] {
            let mut statement = said(&[(seen(7, 7, Some(1), 30), NOW)]);
            let now = NOW.checked_add_signed(step).unwrap();

            // A pause is never longer than it was told, and evidence is neither made up nor kept for ever.
            let heard = Evidence::of([&statement].into_iter(), now);
            assert!(heard.paused <= Duration::from_secs(30) && heard.dead <= 7, "{step}: {heard:?}");
            // And what is told after it holds.
            statement.add(&seen(2, 0, None, 20), now);
            let heard = Evidence::of([&statement].into_iter(), now);
            assert!(heard.paused >= Duration::from_secs(20) && heard.dead >= 2, "{step}: {heard:?}");
            let later = Evidence::of([&statement].into_iter(), now + 400_000);
            assert_eq!((later.dead, later.paused), (0, Duration::ZERO), "{step}");
        }
    }

    #[test]
    fn no_word_pauses_anything_for_longer_than_an_hour() {
        let statement = Statement { paused_until_ms: u64::MAX, pause_ms: u64::MAX, ..Statement::default() };

        assert_eq!(Evidence::of([&statement].into_iter(), NOW).paused, LONGEST_PAUSE);
    }
}
