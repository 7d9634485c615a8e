//! Congestion window (AIMD): how many pushes of an app are handed over at once.
//!
//! A congestion window: additive increase, multiplicative decrease. Resistance is, averaged over short spells of many pushes so that a slow one now and then
//! changes nothing:
//!
//! * pushes that lie on the way: what a worker could not start at once, some other gateway's pushes, or its own, are in
//!   front of. All gateways see the same delay, and all make room, however many they are (as LEDBAT does, RFC 6817), also
//!   those whose windows are larger than what their callers have open;
//! * a full window whose pushes take longer than usual altogether: the provider has no more room;
//! * refusals.
//!
//! It grows while that brings more through.
//!
//! Windows of many gateways that shrink by what they notice do not become alike by themselves, and small ones notice
//! little. So each knows its fair share of what the workers can have under way: with that it begins, and as long as it is
//! small and has no more, it grows without a proof that it helps, and only clear signs make it smaller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

const SMALLEST: f64 = 2.0;
const LARGEST: f64 = 1024.0;
const FIRST: f64 = 256.0;
/// Pushes that lie on the way for longer than that, on average, and for more than that share of their time, are too many.
const MAX_QUEUE_DELAY_MS: f64 = 20.0;
const MAX_QUEUE_DELAY_SHARE: f64 = 0.25;
/// The same where windows are small: very many share what is behind them, and the pushes of all lie.
const MAX_QUEUE_DELAY_SHARE_OF_SMALL: f64 = 0.05;
/// So many pushes are nobody's trouble: who has no more under way keeps that room.
const NEGLIGIBLE_IN_FLIGHT: f64 = 8.0;
/// The most that one spell takes away.
const MAX_SHRINK: f64 = 0.5;
/// The shortest and the longest spell, and how many answers make one.
const SPELL: Duration = Duration::from_millis(100);
const LONGEST_SPELL: Duration = Duration::from_millis(500);
const ENOUGH: f64 = 20.0;
/// How much a new spell counts in what is usual.
const SMOOTHING: f64 = 0.2;
/// Slower than usual by so many mean deviations is too slow,
const DEVIATIONS: f64 = 2.5;
/// and by so many milliseconds at least: less is the machine, not the way.
const LEAST_MS: f64 = 5.0;
const SHRINK: f64 = 0.9;
/// A window that has grown so much has to bring so much more through; else it is as large as it was.
const GROWN: f64 = 1.1;
const BENEFIT: f64 = 1.03;
/// For so long it does not try again.
const PROBE_PAUSE: Duration = Duration::from_secs(10);
/// A larger window notices enough by itself.
const SMALL: f64 = 64.0;
/// Up to its share a small window shrinks only when pushes lie for so many times longer.
const CLEAR: f64 = 8.0;

/// A gateway thread's share of the pushes of one app that all workers can have under way; for all windows of a
/// process. 0 while it is not known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Share(Arc<AtomicU32>);

impl Share {
    pub(crate) fn set(&self, pushes: u32) {
        self.0.store(pushes, Ordering::Relaxed);
    }

    fn get(&self) -> f64 {
        self.0.load(Ordering::Relaxed).into()
    }
}

#[derive(Debug)]
pub(super) struct CongestionWindow {
    size: f64,
    usual_ms: Option<f64>,
    deviation_ms: f64,
    spell: SampleInterval,
    /// The size from which it grows, and what came through a second then.
    base: Option<(f64, f64)>,
    content_until: Instant,
    share: Share,
    is_told: bool,
}

#[derive(Debug)]
struct SampleInterval {
    began: Instant,
    sum_ms: f64,
    /// The part of it in which pushes lay on the way.
    queue_delay_ms: f64,
    count: u32,
    refused: bool,
    /// Whether the window was full, so that a larger one might have helped.
    was_full: bool,
    /// How many pushes were under way at most.
    most: f64,
}

impl SampleInterval {
    fn new(now: Instant) -> Self {
        Self {
            began: now,
            sum_ms: 0.0,
            queue_delay_ms: 0.0,
            count: 0,
            refused: false,
            was_full: false,
            most: 0.0,
        }
    }
}

impl CongestionWindow {
    pub(super) fn new(now: Instant, share: Share) -> Self {
        let (usual_ms, base) = (None, None);
        let spell = SampleInterval::new(now);
        let mut new = Self {
            size: FIRST,
            usual_ms,
            deviation_ms: 0.0,
            spell,
            base,
            content_until: now,
            share,
            is_told: false,
        };
        new.learn();
        new
    }

    /// Begins with no more than its share, as soon as that is known.
    fn learn(&mut self) {
        let share = self.share.get();
        if !self.is_told && share > 0.0 {
            self.is_told = true;
            self.size = self.size.min(share.max(SMALLEST));
        }
    }

    /// How many pushes may be under way.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "2 to 1024")]
    pub(super) const fn size(&self) -> usize {
        self.size as usize
    }

    /// How long a push usually takes, in milliseconds; nothing before the first spell.
    pub(super) fn usual_ms(&self) -> f64 {
        self.usual_ms.unwrap_or_default()
    }

    /// Notes that a push has to wait.
    pub(super) const fn full(&mut self) {
        self.spell.was_full = true;
    }

    /// Notes that a push was refused or not answered in time.
    pub(super) fn refused(&mut self, now: Instant) {
        self.spell.refused = true;
        self.turn(now);
    }

    /// Notes how long a push took, and for how much of that it lay on the way before a worker began with it; with it so
    /// many were under way.
    pub(super) fn took(&mut self, time: Duration, queue_delay: Duration, under_way: usize, now: Instant) {
        self.spell.most = self.spell.most.max(f64::from(u32::try_from(under_way).unwrap_or(u32::MAX)));
        self.spell.sum_ms += time.as_secs_f64() * 1000.0;
        self.spell.queue_delay_ms += queue_delay.as_secs_f64() * 1000.0;
        self.spell.count += 1;
        self.turn(now);
    }

    fn turn(&mut self, now: Instant) {
        let usual = Duration::from_secs_f64(self.usual_ms() / 1000.0);
        let time = now - self.spell.began;
        self.learn();
        let share = self.share.get().min(SMALL);
        let is_fair = self.size <= share;
        // Few answers say little of what is usual; that pushes were refused says enough, and a small window has few.
        let enough = f64::from(self.spell.count)
            >= ENOUGH.min(if is_fair { 2.0 * self.size } else { ENOUGH })
            || self.spell.refused;
        if time < SPELL.max(usual).min(LONGEST_SPELL) || !enough {
            return;
        }
        let SampleInterval { sum_ms, queue_delay_ms, count, refused, was_full, most, .. } =
            std::mem::replace(&mut self.spell, SampleInterval::new(now));
        let mean = |sum: f64| if count == 0 { 0.0 } else { sum / f64::from(count) };
        let slow = f64::from(count) >= ENOUGH && self.is_slow(mean(sum_ms));
        let borne = MAX_QUEUE_DELAY_MS.max(
            mean(sum_ms)
                * if share > 0.0 && self.size <= SMALL {
                    MAX_QUEUE_DELAY_SHARE_OF_SMALL
                } else {
                    MAX_QUEUE_DELAY_SHARE
                },
        );
        let (queue_delay, borne) = (mean(queue_delay_ms), if is_fair { CLEAR * borne } else { borne });
        if refused || queue_delay > borne || (was_full && slow && !is_fair) {
            // By what is too much of it, so that very many gateways find their places soon.
            let excess = if queue_delay > borne { borne / queue_delay } else { 1.0 };
            // What a window has and does not use makes no room for anybody.
            let is_used = was_full || refused;
            self.shrink(excess, if is_used { self.size } else { self.size.min(most) }, is_used, share);
        } else if was_full && self.size < share {
            self.size = (self.size * 2.0).min(share);
        } else if was_full && now >= self.content_until {
            self.grow(f64::from(count) / time.as_secs_f64(), f64::from(count), now);
        }
    }

    /// Makes it smaller than what is `used` of it. Who has more than its share gives that back first.
    fn shrink(&mut self, excess: f64, used: f64, is_used: bool, share: f64) {
        let least = if is_used { SMALLEST } else { self.size.min(NEGLIGIBLE_IN_FLIGHT) };
        let least = if used > share { least.max(share) } else { least };
        self.size = (used * SHRINK.min(excess.max(MAX_SHRINK))).max(least);
        self.base = None;
    }

    /// Compares a spell's mean with what is usual, and takes it in.
    fn is_slow(&mut self, mean_ms: f64) -> bool {
        let Some(usual) = self.usual_ms else {
            self.usual_ms = Some(mean_ms);
            return false;
        };
        let distance = mean_ms - usual;
        let is_slow = distance > (DEVIATIONS * self.deviation_ms).max(LEAST_MS);
        self.usual_ms = Some(usual + SMOOTHING * distance);
        self.deviation_ms += SMOOTHING * (distance.abs() - self.deviation_ms);
        is_slow
    }

    /// Grows by one for every windowful, as long as that brings more through.
    fn grow(&mut self, through: f64, count: f64, now: Instant) {
        let (base, before) = *self.base.get_or_insert((self.size, through));
        if self.size >= base * GROWN {
            if through < before * BENEFIT {
                self.size = base;
                self.base = None;
                self.content_until = now + PROBE_PAUSE;
                return;
            }
            self.base = Some((self.size, through));
        }
        self.size = (self.size + (count / self.size).max(1.0)).min(LARGEST);
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "some hundreds")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pushes for a time; a push takes as long as `time` says of the window's size.
    fn run(
        window: &mut CongestionWindow,
        start: Instant,
        seconds: u64,
        time: impl Fn(usize, u64) -> Duration,
    ) {
        for step in 0..seconds * 1000 {
            let now = start + Duration::from_millis(step);
            window.full();
            window.took(time(window.size(), step), Duration::ZERO, window.size(), now);
        }
    }

    /// A way that has so many places, each for 50 ms: what more is handed over waits there. Keeps the window full.
    fn crowd(window: &mut CongestionWindow, places: usize, seconds: u32) -> usize {
        let mut now = Instant::now();
        for _ in 0..seconds * 20 {
            let passed = window.size().min(places);
            let waits = Duration::from_millis(50).mul_f64(window.size() as f64 / places as f64);
            let took = waits.max(Duration::from_millis(50));
            for number in 0..passed {
                window.full();
                let at = now + Duration::from_millis(50).mul_f64(number as f64 / passed as f64);
                window.took(took, Duration::ZERO, window.size(), at);
            }
            now += Duration::from_millis(50);
        }
        window.size()
    }

    #[test]
    fn a_window_grows_to_what_is_behind_it_and_not_much_further() {
        let mut window = CongestionWindow::new(Instant::now(), Share::default());
        assert_eq!(window.size(), 256);

        let size = crowd(&mut window, 500, 60);

        assert!((450..=650).contains(&size), "{size}");
    }

    #[test]
    fn a_window_that_is_larger_than_what_is_behind_it_does_not_grow() {
        let mut window = CongestionWindow::new(Instant::now(), Share::default());

        let size = crowd(&mut window, 100, 60);

        assert!(size <= 290, "{size}");
    }

    #[test]
    fn slow_pushes_now_and_then_change_nothing_however_few_there_are() {
        for (every_ms, slow_every) in [(1, 50), (100, 10), (1000, 100)] {
            let start = Instant::now();
            let mut window = CongestionWindow::new(start, Share::default());
            for step in 0..20_000_u32 {
                let took = if step % slow_every == 0 { 4000 } else { 20 };
                let at = start + Duration::from_millis(every_ms) * step;
                window.took(Duration::from_millis(took), Duration::ZERO, window.size(), at);
            }

            assert_eq!(window.size(), 256, "{every_ms} ms");
        }
    }

    #[test]
    fn a_window_that_makes_pushes_slower_shrinks() {
        let start = Instant::now();
        let mut window = CongestionWindow::new(start, Share::default());
        run(&mut window, start, 5, |_, _| Duration::from_millis(20));
        let before = window.size();

        run(&mut window, start + Duration::from_secs(5), 2, |_, step| Duration::from_millis(20 + step));

        assert!(window.size() < before * 3 / 4, "{before} {}", window.size());
    }

    #[test]
    fn pushes_that_lie_on_the_way_shrink_a_window_full_or_not_and_leave_room_for_a_few() {
        for (is_full, under_way, least) in [(true, 256, 2), (false, 200, 8), (false, 3, 8)] {
            let start = Instant::now();
            let mut window = CongestionWindow::new(start, Share::default());
            for step in 0..2000 {
                if is_full {
                    window.full();
                }
                let queue_delay = Duration::from_millis(60);
                let took = queue_delay + Duration::from_millis(20);
                window.took(took, queue_delay, under_way, start + Duration::from_millis(step));
            }
            assert!((least..80).contains(&window.size()), "{}", window.size());
        }
    }

    #[test]
    fn refusals_shrink_it_as_far_as_it_goes() {
        let start = Instant::now();
        let mut window = CongestionWindow::new(start, Share::default());
        for step in 0..100 {
            window.refused(start + SPELL * step);
        }

        assert_eq!(window.size(), 2);
    }

    #[test]
    fn a_window_has_its_share_soon_and_gives_back_what_is_more_first() {
        let (start, share) = (Instant::now(), Share::default());
        share.set(8);
        let mut window = CongestionWindow::new(start, share.clone());
        assert_eq!(window.size(), 8);
        share.set(60);
        run(&mut window, start, 1, |_, _| Duration::from_millis(50));
        assert!(window.size() >= 60, "{}", window.size());

        share.set(40);
        let lie = |window: &mut CongestionWindow, seconds: std::ops::Range<u64>, queue_delay: u64| {
            for step in seconds.start * 1000..seconds.end * 1000 {
                let (took, queue_delay) =
                    (Duration::from_millis(50 + queue_delay), Duration::from_millis(queue_delay));
                window.full();
                window.took(took, queue_delay, window.size(), start + Duration::from_millis(step));
            }
        };
        lie(&mut window, 1..10, 40);
        assert!((40..=41).contains(&window.size()), "{}", window.size());
        lie(&mut window, 10..30, 400);
        assert!(window.size() < 20, "{}", window.size());
    }

    #[test]
    fn a_window_that_is_never_full_stays_as_it_is() {
        let start = Instant::now();
        let mut window = CongestionWindow::new(start, Share::default());
        for step in 0..10_000 {
            window.took(
                Duration::from_millis(5),
                Duration::ZERO,
                window.size(),
                start + Duration::from_millis(step),
            );
        }

        assert_eq!(window.size(), 256);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(steps: Vec<(u16, u16, bool)>) {
            let mut now = Instant::now();
            let mut window = CongestionWindow::new(now, Share::default());
            for (wait, took, refused) in steps {
                now += Duration::from_millis(wait.into());
                window.full();
                let took = Duration::from_millis(took.into());
                if refused { window.refused(now) } else { window.took(took, took / 2, window.size(), now) }
                prop_assert!((2..=1024).contains(&window.size()));
            }
        }
    }
}
