//! Isolation of a tenant's pushes to an app on connections of their own.
//!
//! Apple slows a connection down after every bad device token and ends it after many, so one tenant's
//! junk would cost the others. A tenant with more than a fifth of bad tokens in five minutes is sent
//! over connections of its own until it is well again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::window::SlidingWindow;

const WINDOW: Duration = Duration::from_mins(5);
const MIN_ANSWERS: u32 = 20;
/// One bad token in so many answers is borne.
const ONE_IN: u32 = 5;

/// Bad-token rate of one tenant. While it has sent no bad token, an answer costs an atomic read.
#[derive(Debug)]
pub(crate) struct Isolation {
    has_bad: AtomicBool,
    answers: Mutex<SlidingWindow<Answers>>,
}

#[derive(Debug, Default)]
struct Answers {
    all: u32,
    bad: u32,
}

impl Default for Isolation {
    fn default() -> Self {
        Self { has_bad: AtomicBool::new(false), answers: Mutex::new(SlidingWindow::new(WINDOW)) }
    }
}

impl Isolation {
    fn lock(&self) -> MutexGuard<'_, SlidingWindow<Answers>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes an answer to a push; `bad` if it called the device token bad.
    pub(crate) fn note(&self, bad: bool) {
        if !bad && !self.has_bad.load(Ordering::Relaxed) {
            return;
        }
        let mut answers = self.lock();
        answers.turn();
        answers.now.all += 1;
        answers.now.bad += u32::from(bad);
        self.has_bad.store(answers.has_bad(), Ordering::Relaxed);
    }

    /// Says whether the tenant's pushes travel by themselves.
    pub(crate) fn holds(&self) -> bool {
        self.has_seen_any() && self.lock().are_bad()
    }

    /// Says whether any bad token was seen in the last minutes.
    pub(crate) fn has_seen_any(&self) -> bool {
        self.has_bad.load(Ordering::Relaxed) && {
            let mut answers = self.lock();
            answers.turn();
            answers.has_bad()
        }
    }
}

impl SlidingWindow<Answers> {
    const fn has_bad(&self) -> bool {
        self.now.bad + self.before.bad > 0
    }

    const fn are_bad(&self) -> bool {
        let (all, bad) = (self.now.all + self.before.all, self.now.bad + self.before.bad);
        all >= MIN_ANSWERS && bad * ONE_IN > all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tenant_with_many_bad_tokens_is_isolated_until_it_is_well() {
        let (junk, good) = (Isolation::default(), Isolation::default());
        for answer in 0..40 {
            junk.note(answer % 4 == 0);
            good.note(answer == 0);
        }
        assert!(junk.holds() && !good.holds());

        tokio::time::advance(WINDOW).await;
        assert!(!junk.holds() && !junk.has_seen_any());
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_answers_are_no_evidence() {
        let isolation = Isolation::default();

        (0..19).for_each(|_| isolation.note(true));
        assert!(!isolation.holds());
        isolation.note(true);
        assert!(isolation.holds());
    }
}
