//! Lane selector of a gateway: which lanes may be used at the moment, and which of them it takes.
//!
//! A lane may be used while it answers *and* somebody reads it: one that gateways reach and no worker does would
//! swallow pushes. Whether somebody reads is told by the workers' heartbeats, by whether they change, so that no
//! clock has to be right.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use push_domain::JobId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::seal::LaneTimestamp;

/// All threads of a process stay with one lane for so long: what is handed over together shares its cost.
const SLICE: Duration = Duration::from_millis(250);
/// While no lane answers, new jobs wait until that has lasted so long; after that they are refused at once.
const NO_LANE: Duration = Duration::from_millis(600);
/// While lanes answer and nobody reads them: workers may be about to come back.
const NO_WORKER: Duration = Duration::from_secs(3);
/// Without a new heartbeat of any worker for so long, nobody reads a lane.
const READER_TIMEOUT: Duration = Duration::from_millis(2500);

/// Sealed job for one lane.
#[derive(Debug, Clone)]
pub(super) struct SealedJob {
    pub(super) job: JobId,
    /// The number of its queue.
    pub(super) queue: usize,
    pub(super) deadline: Instant,
    /// The deadline in the lane's time, under which it was sealed.
    pub(super) sealed: LaneTimestamp,
    pub(super) parcel: Bytes,
}

/// Lane selector: the state of all lanes of a gateway.
#[derive(Debug)]
pub(super) struct LaneSelector {
    all: Vec<LaneState>,
    began: Instant,
    /// Processes begin with different lanes.
    offset: usize,
    /// Since when no lane may be used.
    all_down_since: Mutex<Option<Instant>>,
}

/// State of one lane: its queue of jobs, whether it answers, and until when workers read it.
#[derive(Debug)]
struct LaneState {
    handovers: mpsc::UnboundedSender<SealedJob>,
    is_up: AtomicBool,
    /// Until when somebody reads it, in milliseconds after `began`.
    read_until: AtomicU64,
    /// The last heartbeat that it told of.
    beat: AtomicU64,
    clock: Mutex<Option<LaneClock>>,
}

/// What a lane's clock showed, and when that was heard. (It showed it a little earlier: so what is reckoned from it comes
/// out early, never late.)
#[derive(Debug, Clone, Copy)]
struct LaneClock {
    heard: Instant,
    moment: LaneTimestamp,
}

impl LaneSelector {
    pub(super) fn new(gateway: &str, handovers: Vec<mpsc::UnboundedSender<SealedJob>>) -> Self {
        let way = |handovers| LaneState {
            handovers,
            is_up: AtomicBool::new(false),
            read_until: AtomicU64::new(0),
            beat: AtomicU64::new(0),
            clock: Mutex::default(),
        };
        let began = Instant::now();
        Self {
            all: handovers.into_iter().map(way).collect(),
            began,
            offset: gateway.bytes().map(usize::from).sum(),
            all_down_since: Mutex::new(Some(began)),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.all.len()
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Chooses a lane that may be used: the one before if it still may, else the process's of the moment, else any.
    pub(super) fn choose(&self, before: Option<usize>) -> Option<usize> {
        let count = self.all.len();
        let slice = self.began.elapsed().as_millis() / SLICE.as_millis();
        let of_the_moment = usize::try_from(slice).unwrap_or_default().wrapping_add(self.offset);
        let first = before.unwrap_or_else(|| of_the_moment % count.max(1));
        (0..count).map(|step| (first + step) % count).find(|lane| self.is_usable(*lane))
    }

    /// Chooses another lane than one, if there is any that may be used.
    pub(super) fn other_than(&self, lane: usize) -> Option<usize> {
        let count = self.all.len();
        (1..count).map(|step| (lane + step) % count).find(|other| self.is_usable(*other))
    }

    pub(super) fn is_usable(&self, lane: usize) -> bool {
        self.all.get(lane).is_some_and(|way| {
            way.is_up.load(Ordering::Relaxed) && self.millis() < way.read_until.load(Ordering::Relaxed)
        })
    }

    /// Says whether any lane may be used.
    pub(super) fn any(&self) -> bool {
        (0..self.all.len()).any(|lane| self.is_usable(lane))
    }

    pub(super) fn is_up(&self, lane: usize) -> bool {
        self.all.get(lane).is_some_and(|way| way.is_up.load(Ordering::Relaxed))
    }

    /// Notes what a lane's clock shows; nothing while it is not known.
    pub(super) fn set_clock(&self, lane: usize, shows: Option<LaneTimestamp>) {
        if let Some(way) = self.all.get(lane) {
            *way.clock() = shows.map(|moment| LaneClock { heard: Instant::now(), moment });
        }
    }

    /// Returns what a lane's clock will show at a moment; nothing while its clock is not known.
    pub(super) fn moment(&self, lane: usize, at: Instant) -> Option<LaneTimestamp> {
        let clock = (*self.all.get(lane)?.clock())?;
        let until = u64::try_from(at.saturating_duration_since(clock.heard).as_millis()).unwrap_or_default();
        Some(LaneTimestamp { millis: clock.moment.millis + until, ..clock.moment })
    }

    /// Queues a job for a lane; says whether the lane is still served.
    pub(super) fn hand_over(&self, lane: usize, handover: SealedJob) -> bool {
        self.all.get(lane).is_some_and(|way| way.handovers.send(handover).is_ok())
    }

    fn all_down_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.all_down_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether no lane may be used and none will be for a while. Ask when there is none.
    pub(super) fn is_all_down(&self) -> bool {
        let since = *self.all_down_since().get_or_insert_with(Instant::now);
        let answers = self.all.iter().any(|way| way.is_up.load(Ordering::Relaxed));
        since.elapsed() >= if answers { NO_WORKER } else { NO_LANE }
    }

    fn clear_all_down(&self) {
        if self.any() {
            *self.all_down_since() = None;
        }
    }

    /// Notes that a lane answers; says whether that is news.
    pub(super) fn mark_up(&self, lane: usize) -> bool {
        let is_news = self.all.get(lane).is_some_and(|way| !way.is_up.swap(true, Ordering::Relaxed));
        if is_news {
            self.clear_all_down();
        }
        is_news
    }

    /// Notes that a lane does not answer; says whether that is news.
    pub(super) fn mark_down(&self, lane: usize) -> bool {
        self.all.get(lane).is_some_and(|way| way.is_up.swap(false, Ordering::Relaxed))
    }

    /// Notes the last heartbeat of any worker that a lane knows of, in its own time, which is `now` at the moment;
    /// 0 for none.
    pub(super) fn note_heartbeat(&self, lane: usize, beat: u64, now: u64) {
        let Some(way) = self.all.get(lane) else { return };
        let before = way.beat.swap(beat, Ordering::Relaxed);
        // The first that is heard of may be of long ago; of that the lane's own clock is the judge.
        let is_old =
            before == 0 && now.abs_diff(beat) > u64::try_from(READER_TIMEOUT.as_millis()).unwrap_or_default();
        if beat == 0 || before == beat || is_old {
            return;
        }
        let until =
            self.millis().saturating_add(u64::try_from(READER_TIMEOUT.as_millis()).unwrap_or_default());
        let was_read = way.read_until.swap(until, Ordering::Relaxed) > self.millis();
        if !was_read {
            self.clear_all_down();
        }
    }
}

impl LaneState {
    fn clock(&self) -> MutexGuard<'_, Option<LaneClock>> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_in_a_lanes_time_is_reckoned_from_when_the_lane_told_it() {
        let (lane_selector, _ends) = two_ways();
        let now = Instant::now();
        assert_eq!(lane_selector.moment(0, now), None);
        lane_selector.set_clock(0, Some(LaneTimestamp { millis: 5000, epoch: 3 }));
        tokio::time::advance(Duration::from_millis(400)).await;

        let deadline = now + Duration::from_secs(10);
        assert_eq!(lane_selector.moment(0, deadline), Some(LaneTimestamp { millis: 15_000, epoch: 3 }));

        lane_selector.set_clock(0, None);
        assert_eq!(lane_selector.moment(0, deadline), None);
    }

    fn two_ways() -> (LaneSelector, Vec<mpsc::UnboundedReceiver<SealedJob>>) {
        let (senders, receivers) = (0..2).map(|_| mpsc::unbounded_channel()).unzip();
        (LaneSelector::new("g", senders), receivers)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lane_that_answers_and_that_nobody_reads_is_not_used() {
        let (lane_selector, _ends) = two_ways();
        lane_selector.mark_up(0);
        lane_selector.note_heartbeat(0, 0, 5000);
        assert_eq!(lane_selector.choose(None), None);

        lane_selector.mark_up(1);
        lane_selector.note_heartbeat(1, 4900, 5000);
        for _ in 0..8 {
            assert_eq!(lane_selector.choose(None), Some(1));
            tokio::time::advance(SLICE).await;
            lane_selector.note_heartbeat(1, lane_selector.millis(), lane_selector.millis());
        }
        tokio::time::advance(READER_TIMEOUT).await;
        assert_eq!(lane_selector.choose(None), None);
    }

    #[tokio::test(start_paused = true)]
    async fn whether_a_lane_is_read_depends_on_no_clock() {
        let (lane_selector, _ends) = two_ways();
        lane_selector.mark_up(0);
        lane_selector.note_heartbeat(0, 1_000_000, 9_000_000);
        assert!(!lane_selector.is_usable(0), "an old heartbeat, seen for the first time");

        // The lane's clock is set back by an hour, and forward: each new heartbeat counts.
        for beat in [1_000_400, 400, 90_000_000] {
            tokio::time::advance(READER_TIMEOUT).await;
            lane_selector.note_heartbeat(0, beat, beat);
            assert!(lane_selector.is_usable(0));
        }
        tokio::time::advance(READER_TIMEOUT).await;
        lane_selector.note_heartbeat(0, 90_000_000, 90_000_000);
        assert!(!lane_selector.is_usable(0), "the same one again is no life");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_stays_with_a_lane_for_a_while_and_uses_all_in_turn() {
        let (lane_selector, _ends) = two_ways();
        (0..2).for_each(|lane| {
            lane_selector.mark_up(lane);
            lane_selector.note_heartbeat(lane, 1, 1);
        });
        let first = lane_selector.choose(None).unwrap();
        tokio::time::advance(SLICE / 2).await;
        assert_eq!(lane_selector.choose(None), Some(first));
        assert_eq!(lane_selector.choose(Some(1 - first)), Some(1 - first), "who has a lane keeps it");

        tokio::time::advance(SLICE).await;

        assert_eq!(lane_selector.choose(None), Some(1 - first));
    }
}
