//! Between the task that reads a lane and the loop that works: jobs in, room out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::Claimed;

/// How long a reader sleeps at most before it shows that it lives.
const TICK: Duration = Duration::from_secs(1);

/// Jobs that were claimed, for the one loop that takes them.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    jobs: Mutex<VecDeque<Claimed>>,
    arrived: Notify,
    room: AtomicUsize,
    asked: Notify,
    ended: AtomicBool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Claimed>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is there, at most `room` jobs, or asks for so many and waits. `None` once nothing more comes.
    ///
    /// Cancel safe: what arrives later waits for the next call.
    pub(super) async fn take(&self, room: usize) -> Option<Vec<Claimed>> {
        loop {
            let jobs: Vec<_> = {
                let mut waiting = self.lock();
                let count = waiting.len().min(room);
                waiting.drain(..count).collect()
            };
            if !jobs.is_empty() {
                return Some(jobs);
            }
            if self.ended.load(Ordering::Acquire) {
                return None;
            }
            self.room.store(room, Ordering::Release);
            self.asked.notify_one();
            self.arrived.notified().await;
        }
    }

    /// Returns for how many jobs there is room; 0 if nobody asked for a while.
    pub(super) async fn room(&self) -> usize {
        let room = self.room.load(Ordering::Acquire);
        if room == 0 {
            let _ = tokio::time::timeout(TICK, self.asked.notified()).await;
            return self.room.load(Ordering::Acquire);
        }
        room
    }

    /// Returns for how many jobs somebody waits at this moment.
    pub(super) fn wanted(&self) -> usize {
        self.room.load(Ordering::Acquire)
    }

    /// Puts in what was claimed.
    pub(super) fn deliver(&self, jobs: impl IntoIterator<Item = Claimed>) {
        self.room.store(0, Ordering::Release);
        self.lock().extend(jobs);
        self.arrived.notify_one();
    }

    /// Says that nothing more comes.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.arrived.notify_one();
    }
}
