//! Claim queue with back-pressure between the lanes' readers and the serving threads: jobs in, room out.
//!
//! Readers of all lanes share the room that the threads have. An app's jobs go to one thread while they are few, so
//! that few connections to its provider are kept and what is sent shares its cost, and to more as they become many.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::{AppId, Provider};
use tokio::sync::Notify;

/// How long a reader sleeps at most before it shows that it lives.
const TICK: Duration = Duration::from_secs(1);
/// Another thread helps with an app for each so many of its jobs, or for each half of what a thread can have under way.
const JOBS_A_THREAD: usize = 64;

/// Queue of claimed entries for the serving threads.
#[derive(Debug)]
pub(super) struct ClaimQueue<T> {
    providers: [ProviderQueue<T>; 2],
}

#[derive(Debug)]
struct ProviderQueue<T> {
    state: Mutex<State<T>>,
    /// There is room again.
    room: Notify,
    /// One for each thread: there are jobs for it.
    arrived: Vec<Notify>,
}

#[derive(Debug)]
struct State<T> {
    threads: Vec<Thread<T>>,
    /// Room that readers have set aside.
    reserved: usize,
    /// Jobs of each app that are not finished.
    apps: HashMap<AppId, usize>,
    ended: bool,
}

#[derive(Debug)]
struct Thread<T> {
    jobs: VecDeque<T>,
    room: usize,
    /// The most that it ever had room for.
    most: usize,
}

impl<T> ClaimQueue<T> {
    pub(super) fn new(threads: usize) -> Self {
        let queue = || {
            let thread = |_| Thread { jobs: VecDeque::new(), room: 0, most: 0 };
            let threads: Vec<_> = (0..threads.max(1)).map(thread).collect();
            let arrived = threads.iter().map(|_| Notify::new()).collect();
            let state = Mutex::new(State { threads, reserved: 0, apps: HashMap::new(), ended: false });
            ProviderQueue { state, room: Notify::new(), arrived }
        };
        Self { providers: [queue(), queue()] }
    }

    fn queue(&self, provider: Provider) -> &ProviderQueue<T> {
        &self.providers[provider as usize]
    }

    /// Takes what is there for a thread, at most `room` jobs, or asks for so many and waits. `None` once nothing
    /// more comes.
    ///
    /// Cancel safe: what arrives later waits for the next call.
    pub(super) async fn take(&self, provider: Provider, thread: usize, room: usize) -> Option<Vec<T>> {
        let queue = self.queue(provider);
        loop {
            {
                let mut state = queue.lock();
                let ended = state.ended;
                let mine = &mut state.threads[thread];
                mine.most = mine.most.max(room);
                let count = mine.jobs.len().min(room);
                let jobs: Vec<_> = mine.jobs.drain(..count).collect();
                mine.room = room.saturating_sub(count + mine.jobs.len());
                if mine.room > 0 {
                    queue.room.notify_one();
                }
                if !jobs.is_empty() {
                    return Some(jobs);
                }
                if ended {
                    return None;
                }
            }
            // `notify_one` leaves a permit: jobs that came since the lock was given up are not missed.
            queue.arrived[thread].notified().await;
        }
    }

    /// Sets room aside, at most `most`; 0 if there was none for a while.
    pub(super) async fn reserve(&self, provider: Provider, most: usize) -> usize {
        let queue = self.queue(provider);
        let room = queue.lock().reserve(most);
        if room > 0 || most == 0 {
            return room;
        }
        let _ = tokio::time::timeout(TICK, queue.room.notified()).await;
        queue.lock().reserve(most)
    }

    /// Sets room aside for jobs that are at hand, at most `most`: also what readers have set aside that only wait.
    pub(super) fn reserve_now(&self, provider: Provider, most: usize) -> usize {
        let mut state = self.queue(provider).lock();
        let room = state.room().min(most);
        state.reserved += room;
        room
    }

    /// Returns for how many jobs there is room at this moment.
    pub(super) fn room(&self, provider: Provider) -> usize {
        self.queue(provider).lock().free()
    }

    /// Gives back room that was set aside, and puts in what was claimed for it.
    pub(super) fn deliver(&self, provider: Provider, reserved: usize, jobs: Vec<(AppId, T)>) {
        let queue = self.queue(provider);
        let mut told = vec![false; queue.arrived.len()];
        let mut state = queue.lock();
        state.reserved -= reserved;
        for (app, job) in jobs {
            let thread = state.thread_for(&app);
            *state.apps.entry(app).or_default() += 1;
            let chosen = &mut state.threads[thread];
            chosen.jobs.push_back(job);
            chosen.room = chosen.room.saturating_sub(1);
            told[thread] = true;
        }
        if state.free() > 0 {
            queue.room.notify_one();
        }
        drop(state);
        for (thread, _) in told.iter().enumerate().filter(|(_, told)| **told) {
            queue.arrived[thread].notify_one();
        }
    }

    /// Notes that a job of an app is finished.
    pub(super) fn finished(&self, provider: Provider, app: &AppId) {
        let mut state = self.queue(provider).lock();
        if let Some(count) = state.apps.get_mut(app) {
            *count -= 1;
            if *count == 0 {
                state.apps.remove(app);
            }
        }
    }

    /// Says that nothing more comes.
    pub(super) fn end(&self) {
        for queue in &self.providers {
            queue.lock().ended = true;
            queue.arrived.iter().for_each(Notify::notify_one);
            queue.room.notify_waiters();
        }
    }
}

impl<T> ProviderQueue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn room(&self) -> usize {
        self.threads.iter().map(|thread| thread.room).sum()
    }

    fn free(&self) -> usize {
        self.room().saturating_sub(self.reserved)
    }

    fn reserve(&mut self, most: usize) -> usize {
        let room = self.free().min(most);
        self.reserved += room;
        room
    }

    /// The app's own thread, and the next ones as its jobs become many; of these the one with most room, or any that has.
    fn thread_for(&self, app: &AppId) -> usize {
        let count = self.threads.len();
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(app);
        let home = usize::try_from(hash % count as u64).unwrap_or_default();
        let jobs = self.apps.get(app).copied().unwrap_or_default();
        let helping = 1 + jobs / JOBS_A_THREAD.min(self.threads[home].most / 2).max(1);
        let nearby = |steps: std::ops::Range<usize>| steps.map(move |step| (home + step) % count);
        let room = |thread: &usize| self.threads[*thread].room;
        // `max_by_key` takes the last of equals: turned round, that is the one nearest to home.
        let mine = nearby(0..helping.min(count)).rev().max_by_key(room).unwrap_or(home);
        if room(&mine) > 0 { mine } else { nearby(0..count).find(|it| room(it) > 0).unwrap_or(mine) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APNS: Provider = Provider::Apns;

    /// An intake whose threads all have this room.
    async fn an_intake(threads: usize, room: usize) -> ClaimQueue<u32> {
        let claim_queue = ClaimQueue::new(threads);
        for thread in 0..threads {
            let asking = claim_queue.take(APNS, thread, room);
            assert!(tokio::time::timeout(Duration::ZERO, asking).await.is_err());
        }
        claim_queue
    }

    fn jobs(app: &str, count: u32) -> Vec<(AppId, u32)> {
        (0..count).map(|number| (AppId::new(app), number)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn readers_together_set_aside_no_more_than_there_is() {
        let claim_queue = an_intake(2, 50).await;

        assert_eq!(claim_queue.reserve(APNS, 60).await, 60);
        assert_eq!(claim_queue.reserve(APNS, 60).await, 40);
        assert_eq!(claim_queue.reserve(APNS, 60).await, 0);
        claim_queue.deliver(APNS, 60, jobs("a", 10));

        assert_eq!(claim_queue.room(APNS), 50);
        assert_eq!(claim_queue.room(Provider::Fcm), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn few_jobs_of_an_app_go_to_one_thread_and_many_to_all() {
        let claim_queue = an_intake(4, 1000).await;
        claim_queue.deliver(APNS, 0, jobs("a", 60));
        let with_jobs = |claim_queue: &ClaimQueue<u32>| {
            claim_queue.queue(APNS).lock().threads.iter().filter(|thread| !thread.jobs.is_empty()).count()
        };
        assert_eq!(with_jobs(&claim_queue), 1);

        claim_queue.deliver(APNS, 0, jobs("a", 200));

        assert_eq!(with_jobs(&claim_queue), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn threads_that_can_have_little_under_way_are_helped_sooner_and_evenly() {
        let claim_queue = an_intake(4, 20).await;

        claim_queue.deliver(APNS, 0, jobs("a", 32));

        let with =
            || claim_queue.queue(APNS).lock().threads.iter().map(|it| it.jobs.len()).collect::<Vec<_>>();
        assert!(with().iter().all(|jobs| *jobs <= 12), "{:?}", with());
        // Whose room is used up gets no more while others have some.
        claim_queue.deliver(APNS, 0, jobs("a", 48));
        assert_eq!(with(), [20; 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_that_has_no_job_left_costs_nothing() {
        let claim_queue = an_intake(1, 10).await;
        claim_queue.deliver(APNS, 0, jobs("a", 2));

        (0..2).for_each(|_| claim_queue.finished(APNS, &AppId::new("a")));

        assert!(claim_queue.queue(APNS).lock().apps.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_is_still_taken_after_the_end() {
        let claim_queue = an_intake(1, 10).await;
        claim_queue.deliver(APNS, 0, jobs("a", 3));
        claim_queue.end();

        assert_eq!(claim_queue.take(APNS, 0, 2).await.map(|jobs| jobs.len()), Some(2));
        assert_eq!(claim_queue.take(APNS, 0, 2).await.map(|jobs| jobs.len()), Some(1));
        assert!(claim_queue.take(APNS, 0, 2).await.is_none());
    }
}
