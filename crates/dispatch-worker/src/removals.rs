//! Removal guard: keeps a mistake of ours from costing customers their devices.
//!
//! A wrong topic, key or environment makes Apple and Google call good tokens bad. A stock server
//! never sends to a removed token again, so `REMOVE` is only said while the app is known to work.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::{DeviceId, Provider};
use tokio::time::Instant;

use crate::window::SlidingWindow;

const WINDOW: Duration = Duration::from_mins(5);
/// What others have seen counts for so long after it was heard.
const HEARD_FOR: Duration = Duration::from_mins(1);
/// Who is doubted is believed again after so long with fewer dead devices than three in ten answers.
const HEALTHY_FOR: Duration = Duration::from_mins(10);
/// A window's devices beyond these are not told apart.
const MAX_REMEMBERED: usize = 10_000;

/// What other processes have seen in the last minutes.
#[derive(Debug, Clone, Copy, Default)]
struct Others {
    dead: usize,
    accepted: usize,
    heard_at: Option<Instant>,
}

/// What this process has told of itself.
#[derive(Debug, Default)]
struct Told {
    dead: u64,
    accepted: u64,
    /// What was told in each half minute of the last five: what all have seen, less this, is the others'.
    recent: VecDeque<(Instant, u64, u64)>,
}

/// Removal guard of one tenant in one app. A success costs two atomic writes, a removal a lock.
#[derive(Debug)]
pub(crate) struct RemovalGuard {
    /// So many different devices have to be called dead before the guard doubts it.
    threshold: usize,
    /// Whether any device was called dead lately.
    has_any: AtomicBool,
    /// Pushes accepted since the window turned.
    accepted: AtomicU32,
    /// What the other workers have seen.
    others: Mutex<Others>,
    /// Counts all devices that were called dead, and all pushes that were accepted, for those who are told.
    all_dead: AtomicU64,
    all_accepted: AtomicU64,
    told: Mutex<Told>,
    windows: Mutex<Windows>,
}

#[derive(Debug)]
struct Windows {
    dead: SlidingWindow<Dead>,
    /// How many different devices all of them name.
    devices: usize,
    accepted_before: u32,
    /// Since the answers became too bad to be true: when they were last.
    doubted_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Dead {
    devices: HashSet<DeviceId>,
    /// Answers beyond those that are told apart.
    more: usize,
}

impl RemovalGuard {
    pub(crate) fn new(provider: Provider) -> Self {
        let threshold = match provider {
            Provider::Apns => 20,
            Provider::Fcm => 100,
        };
        Self {
            threshold,
            has_any: AtomicBool::new(false),
            accepted: AtomicU32::new(0),
            others: Mutex::default(),
            all_dead: AtomicU64::new(0),
            all_accepted: AtomicU64::new(0),
            told: Mutex::default(),
            windows: Mutex::new(Windows::new()),
        }
    }

    /// Takes what all workers have seen in the last five minutes, this one too.
    pub(crate) fn merge_peers(&self, dead: u64, accepted: u64) {
        let (mut mine_dead, mut mine_accepted) = (0, 0);
        for (_, dead, accepted) in &self.told().recent {
            mine_dead += dead;
            mine_accepted += accepted;
        }
        let count = |all: u64, mine: u64| usize::try_from(all.saturating_sub(mine)).unwrap_or(usize::MAX);
        let (dead, accepted) = (count(dead, mine_dead), count(accepted, mine_accepted));
        *self.others() = Others { dead, accepted, heard_at: Some(Instant::now()) };
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to tell: what was before is nobody's news.
    pub(crate) fn begin_to_tell(&self) {
        let mut told = self.told();
        told.dead = self.all_dead.load(Ordering::Relaxed);
        told.accepted = self.all_accepted.load(Ordering::Relaxed);
    }

    /// Returns how many devices were called dead and how many pushes accepted since this was last asked.
    pub(crate) fn take_unreported(&self) -> (u64, u64) {
        let all = (self.all_dead.load(Ordering::Relaxed), self.all_accepted.load(Ordering::Relaxed));
        let mut told = self.told();
        let (dead, accepted) = (all.0 - told.dead, all.1 - told.accepted);
        (told.dead, told.accepted) = all;
        let now = Instant::now();
        match told.recent.back_mut() {
            Some((began, mine_dead, mine_accepted)) if now - *began < WINDOW / 10 => {
                *mine_dead += dead;
                *mine_accepted += accepted;
            }
            _ => told.recent.push_back((now, dead, accepted)),
        }
        while told.recent.front().is_some_and(|(began, ..)| now - *began > WINDOW) {
            told.recent.pop_front();
        }
        (dead, accepted)
    }

    /// Says whether any device was called dead in the last minutes.
    pub(crate) fn has_seen_any(&self) -> bool {
        self.has_any.load(Ordering::Relaxed)
    }

    /// Forgets that any was, once that was some minutes ago.
    pub(crate) fn settle(&self) {
        let mut windows = self.lock();
        windows.turn(&self.accepted);
        if windows.devices == 0 && windows.doubted_at.is_none() {
            self.has_any.store(false, Ordering::Relaxed);
        }
    }

    /// Notes a push that the provider took.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.all_accepted.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a device that was called dead, and says whether that may be believed: not once more than
    /// half of the recent answers said so, about many devices, and until the tenant has been well for a while.
    pub(crate) fn may_remove(&self, device: DeviceId) -> bool {
        self.has_any.store(true, Ordering::Relaxed);
        let mut windows = self.lock();
        windows.turn(&self.accepted);
        let before = windows.devices;
        windows.count(device);
        self.all_dead.fetch_add((windows.devices - before) as u64, Ordering::Relaxed);
        self.judge(&mut windows)
    }

    /// Says whether removals are doubted at the moment.
    pub(crate) fn doubts(&self) -> bool {
        let mut windows = self.lock();
        if windows.doubted_at.is_none() {
            return false;
        }
        windows.turn(&self.accepted);
        !self.judge(&mut windows)
    }

    fn judge(&self, windows: &mut Windows) -> bool {
        let heard = *self.others();
        let is_fresh = heard.heard_at.is_some_and(|at| at.elapsed() < HEARD_FOR);
        let others = if is_fresh { heard } else { Others::default() };
        let dead = windows.devices + others.dead;
        let accepted =
            (self.accepted.load(Ordering::Relaxed) + windows.accepted_before) as usize + others.accepted;
        let Some(doubted_at) = windows.doubted_at else {
            if dead >= self.threshold && dead > accepted {
                windows.doubted_at = Some(Instant::now());
            }
            return windows.doubted_at.is_none();
        };
        // Three in ten. No evidence at all is none of health, and none against it: who pushes seldom takes no longer.
        if dead + accepted > 0 && dead * 7 >= accepted * 3 {
            windows.doubted_at = Some(Instant::now());
        } else if accepted > 0 && doubted_at.elapsed() >= HEALTHY_FOR {
            windows.doubted_at = None;
        }
        windows.doubted_at.is_none()
    }
}

impl Windows {
    fn new() -> Self {
        Self { dead: SlidingWindow::new(WINDOW), devices: 0, accepted_before: 0, doubted_at: None }
    }

    /// Counts a dead device once, as long as devices are told apart.
    fn count(&mut self, device: DeviceId) {
        let SlidingWindow { now, before, .. } = &mut self.dead;
        if now.devices.len() >= MAX_REMEMBERED {
            now.more += 1;
            self.devices += 1;
        } else if now.devices.insert(device) && !before.devices.contains(&device) {
            self.devices += 1;
        }
    }

    /// Turns over every 2.5 minutes, so that counts cover 2.5 to 5 minutes.
    fn turn(&mut self, accepted: &AtomicU32) {
        let Some(age) = self.dead.turn() else { return };
        let accepted = accepted.swap(0, Ordering::Relaxed);
        self.devices = self.dead.before.devices.len() + self.dead.before.more;
        // After a longer time without removals, as many as came in half a window on average.
        let share = (WINDOW.as_secs_f64() / 2.0 / age.as_secs_f64()).min(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        {
            self.accepted_before = (f64::from(accepted) * share) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(number: u8) -> DeviceId {
        DeviceId::from_bytes([number; 32])
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_dead_devices_are_believed_even_when_nothing_else_is_sent() {
        let guard = RemovalGuard::new(Provider::Apns);

        assert!((0..19).all(|number| guard.may_remove(device(number))));
    }

    #[tokio::test(start_paused = true)]
    async fn what_other_workers_have_seen_counts_too() {
        let guard = RemovalGuard::new(Provider::Apns);
        guard.merge_peers(19, 0);
        assert!(!guard.may_remove(device(1)));

        let guard = RemovalGuard::new(Provider::Apns);
        tokio::time::advance(WINDOW).await;
        guard.merge_peers(19, 1000);
        assert!(guard.may_remove(device(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_worker_has_told_itself_does_not_count_twice() {
        let guard = RemovalGuard::new(Provider::Apns);
        (0..12).for_each(|number| assert!(guard.may_remove(device(number))));
        assert_eq!(guard.take_unreported(), (12, 0));
        assert_eq!(guard.take_unreported(), (0, 0));

        guard.merge_peers(12, 0);
        assert!(guard.may_remove(device(12)));
        guard.merge_peers(19, 0);
        assert!(!guard.may_remove(device(13)), "seven of others");
    }

    #[tokio::test(start_paused = true)]
    async fn one_dead_device_that_is_tried_often_is_believed() {
        let guard = RemovalGuard::new(Provider::Apns);

        assert!((0..100).all(|_| guard.may_remove(device(1))));
    }

    /// A guard that has begun to doubt.
    fn a_doubting_guard() -> RemovalGuard {
        let guard = RemovalGuard::new(Provider::Apns);
        (0..19).for_each(|number| assert!(guard.may_remove(device(number))));
        assert!(!guard.may_remove(device(19)));
        guard
    }

    #[tokio::test(start_paused = true)]
    async fn many_dead_devices_among_few_good_ones_are_doubted_however_long_it_lasts() {
        let guard = a_doubting_guard();

        for number in 20..80 {
            tokio::time::advance(Duration::from_mins(1)).await;
            assert!(!guard.may_remove(device(number)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_doubted_tenant_is_believed_again_after_ten_healthy_minutes() {
        let guard = a_doubting_guard();
        for _ in 0..20 {
            tokio::time::advance(Duration::from_mins(1)).await;
            (0..10).for_each(|_| guard.accepted());
            guard.doubts();
        }

        assert!(!guard.doubts());
        assert!(guard.may_remove(device(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_pushes_seldom_is_believed_again_too() {
        let guard = a_doubting_guard();
        for _ in 0..3 {
            tokio::time::advance(HEALTHY_FOR).await;
            guard.doubts();
            guard.accepted();
        }

        assert!(!guard.doubts());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_makes_nobody_healthy() {
        let guard = a_doubting_guard();
        tokio::time::advance(HEALTHY_FOR * 3).await;
        assert!(!guard.may_remove(device(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_very_busy_tenant_is_doubted_too() {
        let guard = RemovalGuard::new(Provider::Fcm);
        let device = |number: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&number.to_be_bytes());
            DeviceId::from_bytes(bytes)
        };
        (0..30_000).for_each(|_| guard.accepted());

        let believed = (0..60_000).filter(|number| guard.may_remove(device(*number))).count();

        assert_eq!(believed, 30_000);
    }

    #[tokio::test(start_paused = true)]
    async fn many_dead_devices_among_more_good_ones_are_believed() {
        let guard = RemovalGuard::new(Provider::Apns);
        (0..100).for_each(|_| guard.accepted());

        assert!((0..100).all(|number| guard.may_remove(device(number))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_tenant_is_believed_also_after_a_long_time_without_removals() {
        let guard = RemovalGuard::new(Provider::Apns);
        tokio::time::advance(WINDOW * 2).await;
        (0..1000).for_each(|_| guard.accepted());
        tokio::time::advance(WINDOW * 2).await;

        assert!((0..40).all(|number| guard.may_remove(device(number))));
    }
}
