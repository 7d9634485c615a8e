//! How many pushes of an app are handed over at once: more while that helps, fewer when it does not.
//!
//! Additive increase, multiplicative decrease. Times are averaged over short spells, so that a slow push
//! now and then changes nothing; a spell that is slower than usual, or in which pushes were refused,
//! makes the window a tenth smaller.

use std::time::Duration;

use tokio::time::Instant;

const SMALLEST: f64 = 32.0;
const LARGEST: f64 = 1024.0;
const FIRST: f64 = 256.0;
/// The shortest spell.
const SPELL: Duration = Duration::from_millis(100);
/// How much a new spell counts in what is usual.
const SMOOTHING: f64 = 0.2;
/// Slower than usual by so many mean deviations is too slow,
const DEVIATIONS: f64 = 2.5;
/// and by so many milliseconds at least: less is the machine, not the way.
const LEAST_MS: f64 = 5.0;
const SHRINK: f64 = 0.9;

#[derive(Debug)]
pub(super) struct Window {
    size: f64,
    usual_ms: Option<f64>,
    deviation_ms: f64,
    spell: Spell,
}

#[derive(Debug)]
struct Spell {
    began: Instant,
    sum_ms: f64,
    count: u32,
    refused: bool,
    /// Whether the window was full, so that a larger one might have helped.
    was_full: bool,
}

impl Spell {
    fn new(now: Instant) -> Self {
        Self { began: now, sum_ms: 0.0, count: 0, refused: false, was_full: false }
    }
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self { size: FIRST, usual_ms: None, deviation_ms: 0.0, spell: Spell::new(now) }
    }

    /// How many pushes may be under way.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "32 to 1024")]
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

    /// Notes how long a push took.
    pub(super) fn took(&mut self, time: Duration, now: Instant) {
        self.spell.sum_ms += time.as_secs_f64() * 1000.0;
        self.spell.count += 1;
        self.turn(now);
    }

    fn turn(&mut self, now: Instant) {
        let usual = Duration::from_secs_f64(self.usual_ms() / 1000.0);
        if now - self.spell.began < SPELL.max(usual) {
            return;
        }
        let Spell { sum_ms, count, refused, was_full, .. } =
            std::mem::replace(&mut self.spell, Spell::new(now));
        let mut slow = false;
        if count > 0 {
            let mean = sum_ms / f64::from(count);
            if let Some(usual) = self.usual_ms {
                let distance = mean - usual;
                slow = distance > (DEVIATIONS * self.deviation_ms).max(LEAST_MS);
                self.usual_ms = Some(usual + SMOOTHING * distance);
                self.deviation_ms += SMOOTHING * (distance.abs() - self.deviation_ms);
            } else {
                self.usual_ms = Some(mean);
            }
        }
        if refused || slow {
            self.size = (self.size * SHRINK).max(SMALLEST);
        } else if was_full {
            // One more for every windowful.
            self.size = (self.size + (f64::from(count) / self.size).max(1.0)).min(LARGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Pushes for a time; a push takes as long as `time` says of the window's size.
    fn run(window: &mut Window, start: Instant, seconds: u64, time: impl Fn(usize, u64) -> Duration) {
        for step in 0..seconds * 1000 {
            let now = start + Duration::from_millis(step);
            window.full();
            window.took(time(window.size(), step), now);
        }
    }

    #[test]
    fn a_window_that_is_too_small_grows_and_noise_does_not_shrink_it() {
        let start = Instant::now();
        let mut window = Window::new(start);

        // One push in fifty takes ten times as long.
        run(&mut window, start, 30, |_, step| Duration::from_millis(if step % 50 == 0 { 200 } else { 20 }));

        assert!(window.size() > 300, "{}", window.size());
    }

    #[test]
    fn a_window_that_makes_pushes_slower_shrinks() {
        let start = Instant::now();
        let mut window = Window::new(start);
        run(&mut window, start, 5, |_, _| Duration::from_millis(20));
        let before = window.size();

        run(&mut window, start + Duration::from_secs(5), 2, |_, step| Duration::from_millis(20 + step));

        assert!(window.size() < before * 3 / 4, "{before} {}", window.size());
    }

    #[test]
    fn refusals_shrink_it_as_far_as_it_goes() {
        let start = Instant::now();
        let mut window = Window::new(start);
        for step in 0..100 {
            window.refused(start + SPELL * step);
        }

        assert_eq!(window.size(), 32);
    }

    #[test]
    fn a_window_that_is_never_full_stays_as_it_is() {
        let start = Instant::now();
        let mut window = Window::new(start);
        for step in 0..10_000 {
            window.took(Duration::from_millis(5), start + Duration::from_millis(step));
        }

        assert_eq!(window.size(), 256);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(steps: Vec<(u16, u16, bool)>) {
            let mut now = Instant::now();
            let mut window = Window::new(now);
            for (wait, took, refused) in steps {
                now += Duration::from_millis(wait.into());
                window.full();
                if refused { window.refused(now) } else { window.took(Duration::from_millis(took.into()), now) }
                prop_assert!((32..=1024).contains(&window.size()));
            }
        }
    }
}
