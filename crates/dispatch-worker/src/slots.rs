//! Concurrency limit of pushes to one provider, and the share of it that one app may have.
//!
//! Jobs of all apps come by the same streams, so an app whose provider hangs would take every slot. An app may have
//! so many slots as are free, times four (Choudhury and Hahne's dynamic threshold for shared buffers): alone it has four
//! fifths of all, two have four ninths each, and there is always room for those that have little. What an app
//! may not start yet waits here, without a slot (docs/adr/0024).

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use push_domain::AppId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

/// An app may have so many times what is free.
const TIMES_FREE: usize = 4;
/// So many jobs may wait here, all apps together, and half of that of one app: far more than gateways leave under way
/// once they see that pushes lie here, so only an app whose jobs do not end at all is refused.
const WAITING: usize = 4096;

/// Concurrency permits (slots) of one provider. Cheap to clone; all clones are one set.
#[derive(Debug, Clone)]
pub(crate) struct Slots(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    all: usize,
    free: Arc<Semaphore>,
    apps: Mutex<Apps>,
    /// Somebody wants to know when so many are free.
    awaited: AtomicUsize,
    freed: Notify,
}

/// Apps that have slots, and what of them waits. One that has none is not here.
#[derive(Debug, Default)]
struct Apps {
    loads: HashMap<AppId, Load>,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Load {
    running: usize,
    waiting: VecDeque<oneshot::Sender<Slot>>,
}

/// Permit to start one job.
pub(crate) type Slot = OwnedSemaphorePermit;

/// An app's slot, given on when it is dropped.
#[derive(Debug)]
pub(crate) struct AppSlot {
    slots: Slots,
    app: AppId,
    slot: Option<Slot>,
}

/// Error: too many jobs of the app wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crowded;

/// So many of the slots one app alone may have.
pub(crate) const fn of_one_app(slots: usize) -> usize {
    slots - slots / (TIMES_FREE + 1)
}

impl Slots {
    pub(crate) fn new(all: usize) -> Self {
        let (awaited, freed) = (AtomicUsize::new(usize::MAX), Notify::new());
        Self(Arc::new(Shared {
            all,
            free: Arc::new(Semaphore::new(all)),
            apps: Mutex::default(),
            awaited,
            freed,
        }))
    }

    /// Waits until a slot is free, and says how many jobs are welcome: as many as are free, less what waits here already, so that
    /// more go to who can start them; one at least, that may be another app's.
    pub(crate) async fn free(&self) -> usize {
        drop(self.0.free.acquire().await);
        self.welcome().max(1)
    }

    fn welcome(&self) -> usize {
        let waiting = self.lock().waiting;
        self.0.free.available_permits().saturating_sub(waiting)
    }

    /// Waits until twice as many are welcome as were: what was said of them is no longer true.
    ///
    /// Cancel safe.
    pub(crate) async fn doubled(&self, were: usize) {
        let much = were.saturating_mul(2).min(self.0.all);
        if were >= much {
            return std::future::pending().await;
        }
        loop {
            // Before the look. Who frees a slot takes the lock of `welcome` before it reads this:
            // so either it sees what is awaited, or the look below sees the slot.
            self.0.awaited.store(much, Ordering::Relaxed);
            if self.welcome() >= much {
                return;
            }
            self.0.freed.notified().await;
        }
    }

    /// Takes a slot, as soon as one is free.
    pub(crate) async fn take(&self) -> Option<Slot> {
        Arc::clone(&self.0.free).acquire_owned().await.ok()
    }

    /// Waits until all slots are free.
    pub(crate) async fn all_free(&self) {
        let _ = self.0.free.acquire_many(u32::try_from(self.0.all).unwrap_or(u32::MAX)).await;
    }

    fn lock(&self) -> MutexGuard<'_, Apps> {
        self.0.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Turns a slot into an app's; gives it back and waits while the app has its share. Fails when too many jobs of the
    /// app wait already, and at the deadline.
    ///
    /// Cancel safe: who leaves has no slot, and none is lost.
    pub(crate) async fn share(
        &self,
        slot: Option<Slot>,
        app: &AppId,
        deadline: Instant,
    ) -> Result<AppSlot, Crowded> {
        let turn = {
            let mut apps = self.lock();
            let all_waiting = apps.waiting;
            let load = apps.loads.entry(app.clone()).or_default();
            // One in any case: when the slot at hand was the last one, four times what is free is nothing.
            if load.running == 0 || load.running < self.share_of_one() {
                load.running += 1;
                return Ok(AppSlot { slots: self.clone(), app: app.clone(), slot });
            }
            if load.waiting.len() >= WAITING / 2 || all_waiting >= WAITING {
                return Err(Crowded);
            }
            let (turn, mine) = oneshot::channel();
            load.waiting.push_back(turn);
            apps.waiting += 1;
            mine
        };
        drop(slot);
        let slot = timeout_at(deadline, turn).await.ok().and_then(Result::ok).ok_or(Crowded)?;
        Ok(AppSlot { slots: self.clone(), app: app.clone(), slot: Some(slot) })
    }

    fn share_of_one(&self) -> usize {
        self.0.free.available_permits() * TIMES_FREE
    }
}

impl Drop for AppSlot {
    fn drop(&mut self) {
        let slots = self.slots.clone();
        let mut guard = slots.lock();
        let apps = &mut *guard;
        let Some(load) = apps.loads.get_mut(&self.app) else { return };
        // The next of the same app has the slot, unless the app has more than its share by now.
        let keeps = load.running == 1 || load.running <= self.slots.share_of_one().max(1);
        let mut slot = self.slot.take();
        while let Some(next) =
            slot.take_if(|_| keeps).and_then(|slot| Some((load.waiting.pop_front()?, slot)))
        {
            apps.waiting -= 1;
            match next.0.send(next.1) {
                Ok(()) => return,
                Err(unwanted) => slot = Some(unwanted),
            }
        }
        load.running -= 1;
        if load.running == 0 && load.waiting.is_empty() {
            apps.loads.remove(&self.app);
        }
        // Both before `welcome`, which counts free slots and takes the lock again.
        drop((slot, guard));
        if self.slots.welcome() >= self.slots.0.awaited.load(Ordering::Relaxed) {
            self.slots.0.awaited.store(usize::MAX, Ordering::Relaxed);
            self.slots.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn app(name: &str) -> AppId {
        AppId::new(name)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    /// How many slots an app gets that never gives one back, of those that are there.
    async fn hog(slots: &Slots, name: &str) -> Vec<AppSlot> {
        let mut places = Vec::new();
        while slots.0.free.available_permits() > 0 {
            let slot = slots.take().await;
            match tokio::time::timeout(Duration::ZERO, slots.share(slot, &app(name), soon())).await {
                Ok(Ok(place)) => places.push(place),
                _ => break,
            }
        }
        places
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_alone_has_most_slots_and_never_all() {
        let slots = Slots::new(100);

        let places = hog(&slots, "slow").await;

        assert!((78..=82).contains(&places.len()), "{}", places.len());
        drop(places);
        assert!(slots.lock().loads.values().all(|load| load.running == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn several_that_hang_still_leave_room_for_the_others() {
        let slots = Slots::new(1000);
        let mut held = Vec::new();
        for number in 0..5 {
            held.extend(hog(&slots, &format!("slow{number}")).await);
        }

        let slot = slots.take().await;
        assert!(slots.share(slot, &app("quick"), soon()).await.is_ok());
        assert!(slots.0.free.available_permits() > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_its_share_holds_no_slot_and_goes_on_when_one_of_its_app_ends() {
        let slots = Slots::new(100);
        let mut places = hog(&slots, "slow").await;
        let free = slots.0.free.available_permits();
        let slot = slots.take().await;
        let app = app("slow");
        let mut waiting = Box::pin(slots.share(slot, &app, soon()));
        assert!(futures_pending(&mut waiting).await);
        assert_eq!(slots.0.free.available_permits(), free);

        drop(places.pop());

        assert!(waiting.await.is_ok());
    }

    async fn futures_pending<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        tokio::time::timeout(Duration::ZERO, future).await.is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn that_more_are_welcome_is_told_once_they_are_twice_as_many() {
        let slots = Slots::new(100);
        let mut places = Vec::new();
        for number in 0..90 {
            let slot = slots.take().await;
            places.push(slots.share(slot, &app(&number.to_string()), soon()).await.unwrap());
        }
        let free = slots.free().await;
        assert_eq!(free, 10);
        let mut doubled = Box::pin(slots.doubled(free));
        places.truncate(81);
        assert!(futures_pending(&mut doubled).await);

        drop(places.pop());

        doubled.await;
        assert_eq!(slots.free().await, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn fewer_are_welcome_where_some_wait_already() {
        let slots = Slots::new(100);
        let _places = hog(&slots, "slow").await;
        let free = slots.free().await;
        let (slot, busy) = (slots.take().await, app("slow"));
        let mut waiting = Box::pin(slots.share(slot, &busy, soon()));
        assert!(futures_pending(&mut waiting).await);

        assert_eq!(slots.free().await, free - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn few_slots_refuse_nobody_while_they_move() {
        let slots = Slots::new(8);
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..500 {
            let slot = slots.take().await;
            let slots = slots.clone();
            crowd.spawn(async move {
                let place = slots.share(slot, &app("busy"), soon()).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
                place.is_ok()
            });
        }

        assert!(crowd.join_all().await.into_iter().all(|was_let_in| was_let_in));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_bounded_crowd_waits_and_nobody_past_its_deadline() {
        let slots = Slots::new(10);
        let places = hog(&slots, "slow").await;
        let app = app("slow");
        let mut crowd = Vec::new();
        for _ in 0..WAITING / 2 {
            let slot = slots.take().await;
            let mut waiting = Box::pin(slots.share(slot, &app, soon()));
            if futures_pending(&mut waiting).await {
                crowd.push(waiting);
            }
        }
        let slot = slots.take().await;
        assert_eq!(slots.share(slot, &app, soon()).await.err(), Some(Crowded));

        assert_eq!(crowd.pop().unwrap().await.err(), Some(Crowded), "its deadline");
        drop((places, crowd));
    }
}
