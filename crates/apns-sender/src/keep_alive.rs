//! Keep-alive of a connection: when an HTTP/2 PING is sent, and when the connection is dead.

use std::time::Duration;

use tokio::time::Instant;

/// How often a connection is looked after.
pub(crate) const WATCH: Duration = Duration::from_millis(500);
/// A connection without a request for so long is closed: an app that is hardly used costs no connection. Apple asks to keep
/// those that are used for hours to days.
const UNUSED: Duration = Duration::from_hours(1);
/// A PING on an idle connection has to be answered in this share of the interval: 15 s of a minute.
const PING_SHARE: u32 = 4;
/// The same where requests are open and nothing has come for a while.
const DOUBTFUL_PING_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that answered a PING is not doubted again so soon: Apple may take its time.
const TRUST: Duration = Duration::from_secs(5);

/// Keep-alive state of one connection.
pub(crate) struct KeepAlive {
    pub(crate) interval: Duration,
    asked_at: Instant,
    /// By when the PING that is out has to be answered.
    pub(crate) pong_due: Option<Instant>,
    reads: u64,
    was_busy: bool,
    used_at: Instant,
    /// Not doubted before this time.
    trusted_until: Instant,
}

/// Result of a keep-alive check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    Alive,
    /// A PING should be sent.
    SendPing,
    Dead,
    /// Nobody has used it for long.
    Unused,
}

impl KeepAlive {
    pub(crate) fn new(interval: Duration) -> Self {
        let now = Instant::now();
        Self {
            interval,
            asked_at: now,
            pong_due: None,
            reads: 0,
            was_busy: false,
            used_at: now,
            trusted_until: now,
        }
    }

    /// A request was made.
    pub(crate) fn used(&mut self, now: Instant) {
        self.used_at = now;
    }

    /// A PING was answered.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.pong_due = None;
        self.trusted_until = now + TRUST;
    }

    /// Looks after the connection. `reads` changes when anything is read; `busy` says whether requests
    /// are open. One with open requests that has read nothing between two looks is doubted.
    pub(crate) fn check(&mut self, now: Instant, reads: u64, busy: bool) -> Liveness {
        let silent = busy && self.was_busy && reads == self.reads && now >= self.trusted_until;
        (self.reads, self.was_busy) = (reads, busy);
        if busy {
            self.used_at = now;
        } else if now.duration_since(self.used_at) >= UNUSED {
            return Liveness::Unused;
        }
        if let Some(due) = self.pong_due {
            return if now >= due { Liveness::Dead } else { Liveness::Alive };
        }
        let idle = now.duration_since(self.asked_at) >= self.interval;
        if !silent && !idle {
            return Liveness::Alive;
        }
        self.asked_at = now;
        self.pong_due = Some(now + if silent { DOUBTFUL_PING_TIMEOUT } else { self.interval / PING_SHARE });
        Liveness::SendPing
    }

    /// When to look again: often while there are requests or an answer is due, else when it is time for a PING, so that
    /// idle connections cost next to nothing. Says also whether that is so.
    pub(crate) fn next_check(&self, now: Instant) -> (Instant, bool) {
        let soon = now + WATCH.min(self.interval);
        if self.was_busy || self.pong_due.is_some() {
            return (soon, false);
        }
        (soon.max(self.asked_at + self.interval), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every half second for `looks` times, and returns what was seen other than that all is well.
    async fn seen(
        keep_alive: &mut KeepAlive,
        looks: u32,
        reads: impl Fn(u32) -> u64,
        busy: bool,
    ) -> Vec<(u32, Liveness)> {
        let mut seen = Vec::new();
        for look in 1..=looks {
            tokio::time::advance(WATCH).await;
            match keep_alive.check(Instant::now(), reads(look), busy) {
                Liveness::Alive => {}
                other => seen.push((look, other)),
            }
        }
        seen
    }

    #[tokio::test(start_paused = true)]
    async fn silence_over_open_requests_is_found_dead_within_two_seconds() {
        let mut keep_alive = KeepAlive::new(Duration::from_mins(1));

        let seen = seen(&mut keep_alive, 4, |_| 7, true).await;

        assert_eq!(seen, [(2, Liveness::SendPing), (4, Liveness::Dead)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_reads_is_asked_once_a_minute() {
        let mut keep_alive = KeepAlive::new(Duration::from_mins(1));

        assert_eq!(seen(&mut keep_alive, 120, u64::from, true).await, [(120, Liveness::SendPing)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_asked_once_a_minute_and_has_15_seconds() {
        let mut keep_alive = KeepAlive::new(Duration::from_mins(1));

        assert_eq!(
            seen(&mut keep_alive, 150, |_| 7, false).await,
            [(120, Liveness::SendPing), (150, Liveness::Dead)]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_nobody_uses_is_looked_at_once_a_minute_and_closed_after_an_hour() {
        let mut keep_alive = KeepAlive::new(Duration::from_mins(1));
        let (start, mut looks) = (Instant::now(), 0);
        loop {
            let (next, rests) = keep_alive.next_check(Instant::now());
            tokio::time::sleep_until(next).await;
            looks += 1;
            match keep_alive.check(Instant::now(), 7, false) {
                Liveness::Unused => break,
                Liveness::SendPing => keep_alive.answered(Instant::now()),
                other => assert!(rests && other == Liveness::Alive, "{other:?}"),
            }
        }

        assert!(start.elapsed() < UNUSED + Duration::from_mins(2), "{:?}", start.elapsed());
        assert!(looks <= 62, "{looks}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_apple_that_answers_pings_is_asked_now_and_then() {
        let mut keep_alive = KeepAlive::new(Duration::from_mins(1));
        let mut asked = 0;
        for _ in 0..120 {
            tokio::time::advance(WATCH).await;
            if keep_alive.check(Instant::now(), 7, true) == Liveness::SendPing {
                asked += 1;
                keep_alive.answered(Instant::now());
            }
        }

        assert!((8..=12).contains(&asked), "{asked}");
    }
}
