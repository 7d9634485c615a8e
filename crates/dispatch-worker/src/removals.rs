//! Keeps a mistake of ours from costing customers their devices.
//!
//! A wrong topic, key or environment makes Apple and Google call good tokens bad. A stock server
//! never sends to a removed token again, so `REMOVE` is only said while the app is known to work.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::{DeviceId, Provider};
use tokio::time::Instant;

const WINDOW: Duration = Duration::from_mins(5);
/// A doubted app is believed again after so long with fewer dead devices than three in ten answers.
const HEALTHY_FOR: Duration = Duration::from_mins(10);
const NEVER: u64 = u64::MAX;
/// A window's devices beyond these are not told apart.
const MAX_REMEMBERED: usize = 10_000;
/// A verdict on the app itself needs a success in this time before it.
const PROOF: Duration = Duration::from_mins(10);

/// What other processes have seen of the app in the last minutes.
#[derive(Debug, Clone, Copy, Default)]
struct Others {
    dead: usize,
    accepted: usize,
    /// When one of them last had a push accepted.
    accepted_at: Option<Instant>,
}

/// What this process has told of itself.
#[derive(Debug, Default)]
struct Told {
    dead: u64,
    accepted: u64,
    /// What was told in each half minute of the last five: what all have seen, less this, is the others'.
    recent: VecDeque<(Instant, u64, u64)>,
}

/// Watches the removals of one app. A success costs two atomic writes, a removal a lock.
#[derive(Debug)]
pub(crate) struct RemovalGuard {
    /// So many different devices have to be called dead before the guard doubts it.
    threshold: usize,
    made: Instant,
    /// Pushes accepted since the window turned.
    accepted: AtomicU32,
    /// When the last one was, in milliseconds after `made`, or [`NEVER`].
    last_accepted: AtomicU64,
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
    began: Instant,
    dead: HashSet<DeviceId>,
    dead_before: HashSet<DeviceId>,
    /// Answers beyond those that are told apart, now and before.
    more: usize,
    more_before: usize,
    /// How many different devices all of them name.
    devices: usize,
    accepted_before: u32,
    /// Since the answers became too bad to be true: when they were last.
    doubted_at: Option<Instant>,
}

impl RemovalGuard {
    pub(crate) fn new(provider: Provider) -> Self {
        let threshold = match provider {
            Provider::Apns => 20,
            Provider::Fcm => 100,
        };
        let windows = Windows::new();
        Self {
            threshold,
            made: windows.began,
            accepted: AtomicU32::new(0),
            last_accepted: AtomicU64::new(NEVER),
            others: Mutex::default(),
            all_dead: AtomicU64::new(0),
            all_accepted: AtomicU64::new(0),
            told: Mutex::default(),
            windows: Mutex::new(windows),
        }
    }

    /// Takes what all workers have seen in the last five minutes, this one too.
    pub(crate) fn hear(&self, dead: u64, accepted: u64, accepted_ago: Option<Duration>) {
        let (mut mine_dead, mut mine_accepted) = (0, 0);
        for (_, dead, accepted) in &self.told().recent {
            mine_dead += dead;
            mine_accepted += accepted;
        }
        let count = |all: u64, mine: u64| usize::try_from(all.saturating_sub(mine)).unwrap_or(usize::MAX);
        let accepted_at = accepted_ago.and_then(|ago| Instant::now().checked_sub(ago));
        *self.others_lock() =
            Others { dead: count(dead, mine_dead), accepted: count(accepted, mine_accepted), accepted_at };
    }

    fn others_lock(&self) -> MutexGuard<'_, Others> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn others(&self) -> Others {
        *self.others_lock()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many devices were called dead and how many pushes accepted since this was last asked.
    pub(crate) fn news(&self) -> (u64, u64) {
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

    /// Returns how long ago this process last had a push accepted.
    pub(crate) fn accepted_ago(&self) -> Option<Duration> {
        let last = self.last_accepted.load(Ordering::Relaxed);
        (last != NEVER).then(|| self.made.elapsed().saturating_sub(Duration::from_millis(last)))
    }

    /// Notes a push that the provider took: the app works.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.all_accepted.fetch_add(1, Ordering::Relaxed);
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(NEVER);
        self.last_accepted.store(now, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a device that was called dead, and says whether that may be believed: not once more than
    /// half of the recent answers said so, about many devices, and until the app has been well for a while.
    pub(crate) fn may_remove(&self, device: DeviceId) -> bool {
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

    /// Forgets its doubts and its proof: the app has new credentials.
    pub(crate) fn reset(&self) {
        let mut windows = self.lock();
        self.accepted.store(0, Ordering::Relaxed);
        self.last_accepted.store(NEVER, Ordering::Relaxed);
        *self.others_lock() = Others::default();
        *windows = Windows::new();
    }

    fn judge(&self, windows: &mut Windows) -> bool {
        let others = self.others();
        let dead = windows.devices + others.dead;
        let accepted =
            (self.accepted.load(Ordering::Relaxed) + windows.accepted_before) as usize + others.accepted;
        let Some(doubted_at) = windows.doubted_at else {
            if dead >= self.threshold && dead > accepted {
                windows.doubted_at = Some(Instant::now());
            }
            return windows.doubted_at.is_none();
        };
        // Three in ten, and no evidence at all is no evidence of health.
        if accepted == 0 || dead * 7 >= accepted * 3 {
            windows.doubted_at = Some(Instant::now());
        } else if doubted_at.elapsed() >= HEALTHY_FOR {
            windows.doubted_at = None;
        }
        windows.doubted_at.is_none()
    }

    /// Says whether the provider took a push of this app in the last 10 minutes.
    pub(crate) fn is_proven(&self) -> bool {
        let ago = [self.accepted_ago(), self.others().accepted_at.map(|at| at.elapsed())];
        ago.into_iter().flatten().any(|ago| ago < PROOF)
    }
}

impl Windows {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            dead: HashSet::new(),
            dead_before: HashSet::new(),
            more: 0,
            more_before: 0,
            devices: 0,
            accepted_before: 0,
            doubted_at: None,
        }
    }

    /// Counts a dead device once, as long as devices are told apart.
    fn count(&mut self, device: DeviceId) {
        if self.dead.len() >= MAX_REMEMBERED {
            self.more += 1;
            self.devices += 1;
        } else if self.dead.insert(device) && !self.dead_before.contains(&device) {
            self.devices += 1;
        }
    }

    /// Turns over every 2.5 minutes, so that counts cover 2.5 to 5 minutes.
    fn turn(&mut self, accepted: &AtomicU32) {
        let age = self.began.elapsed();
        if age < WINDOW / 2 {
            return;
        }
        let (dead, accepted) = (std::mem::take(&mut self.dead), accepted.swap(0, Ordering::Relaxed));
        let recent = age < WINDOW;
        let more = std::mem::take(&mut self.more);
        (self.dead_before, self.more_before) = if recent { (dead, more) } else { (HashSet::new(), 0) };
        self.devices = self.dead_before.len() + self.more_before;
        // After a longer time without removals, as many as came in half a window on average.
        let share = (WINDOW.as_secs_f64() / 2.0 / age.as_secs_f64()).min(1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        {
            self.accepted_before = (f64::from(accepted) * share) as u32;
        }
        self.began = Instant::now();
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
        guard.hear(19, 0, None);
        assert!(!guard.may_remove(device(1)));

        let guard = RemovalGuard::new(Provider::Apns);
        tokio::time::advance(WINDOW).await;
        guard.hear(19, 1000, Some(Duration::from_mins(1)));
        assert!(guard.may_remove(device(1)) && guard.is_proven());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_worker_has_told_itself_does_not_count_twice() {
        let guard = RemovalGuard::new(Provider::Apns);
        (0..12).for_each(|number| assert!(guard.may_remove(device(number))));
        assert_eq!(guard.news(), (12, 0));
        assert_eq!(guard.news(), (0, 0));

        guard.hear(12, 0, None);
        assert!(guard.may_remove(device(12)));
        guard.hear(19, 0, None);
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
    async fn a_doubted_app_is_believed_again_after_ten_healthy_minutes() {
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
    async fn silence_does_not_make_an_app_healthy_but_new_credentials_do() {
        let guard = a_doubting_guard();
        tokio::time::advance(HEALTHY_FOR * 3).await;
        assert!(!guard.may_remove(device(20)));

        guard.reset();
        assert!(guard.may_remove(device(20)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_very_busy_app_is_doubted_too() {
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
    async fn a_busy_app_is_believed_also_after_a_long_time_without_removals() {
        let guard = RemovalGuard::new(Provider::Apns);
        tokio::time::advance(WINDOW * 2).await;
        (0..1000).for_each(|_| guard.accepted());
        tokio::time::advance(WINDOW * 2).await;

        assert!((0..40).all(|number| guard.may_remove(device(number))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_proven_for_ten_minutes_after_a_success() {
        let guard = RemovalGuard::new(Provider::Fcm);
        assert!(!guard.is_proven());

        guard.accepted();
        assert!(guard.is_proven());
        tokio::time::advance(PROOF).await;
        assert!(!guard.is_proven());
    }
}
