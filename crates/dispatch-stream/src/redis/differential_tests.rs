//! Differential tests of both back-ends: the same random steps are answered in the same way.

use std::collections::HashMap;

use push_domain::{JobId, Kind, Verdict};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::rig::Rig;
use crate::conformance::{QueueBackend, a_job, a_verdict, claim_all, submitted};
use crate::{Claimed, InProcessQueue, Job, SubmitError};

const SEQUENCES: u64 = 100;
const STEPS: usize = 60;

/// One step. Jobs and claims are named by their number.
#[derive(Debug, Clone, Copy)]
enum Step {
    Submit(usize),
    Claim(usize),
    Finish(usize, u32),
    Drop(usize),
}

type Answer = tokio_util::task::AbortOnDropHandle<Result<Verdict, SubmitError>>;

/// One way, and what has come of the steps so far.
struct Way<Ends> {
    ends: Ends,
    jobs: Vec<Job>,
    numbers: HashMap<JobId, usize>,
    callers: Vec<(usize, Answer)>,
    claimed: Vec<(usize, Claimed)>,
    waiting: usize,
    seen: Vec<String>,
}

impl<Ends: QueueBackend> Way<Ends> {
    fn new(ends: Ends, kinds: &[Kind]) -> Self {
        let jobs: Vec<_> = kinds.iter().map(|kind| a_job(*kind)).collect();
        let numbers = jobs.iter().enumerate().map(|(number, job)| (job.notification.id, number)).collect();
        let (callers, claimed, seen) = Default::default();
        Self { ends, jobs, numbers, callers, claimed, waiting: 0, seen }
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Submit(number) => {
                self.callers.push((number, submitted(&self.ends, &self.jobs[number]).await));
                self.waiting += 1;
            }
            Step::Claim(room) => {
                let count = room.min(self.waiting);
                self.waiting -= count;
                let mut batch = Vec::new();
                for claimed in claim_all(&self.ends, count).await {
                    let number = self.numbers[&claimed.job().notification.id];
                    batch.push(number);
                    self.claimed.push((number, claimed));
                }
                self.seen.push(format!("claimed {batch:?}"));
            }
            Step::Finish(which, attempts) if !self.claimed.is_empty() => {
                let (number, claimed) = self.claimed.remove(which % self.claimed.len());
                claimed.finish(a_verdict(attempts));
                self.told(number).await;
            }
            Step::Drop(which) if !self.claimed.is_empty() => {
                let (number, claimed) = self.claimed.remove(which % self.claimed.len());
                drop(claimed);
                self.told(number).await;
            }
            Step::Finish(..) | Step::Drop(_) => {}
        }
    }

    /// Waits for who asked for a job.
    async fn told(&mut self, number: usize) {
        let place = self.callers.iter().position(|(job, _)| *job == number).unwrap();
        let answer = self.callers.swap_remove(place).1.await.unwrap();
        self.seen.push(format!("job {number}: {answer:?}"));
    }

    /// Settles what is left, so that the next sequence finds nothing.
    async fn end(mut self) -> Vec<String> {
        self.step(Step::Claim(usize::MAX)).await;
        while !self.claimed.is_empty() {
            self.step(Step::Finish(0, 0)).await;
        }
        self.seen
    }
}

#[tokio::test]
async fn both_ways_answer_the_same_steps_alike() {
    let rig = Rig::start(1000).await;
    for seed in 0..SEQUENCES {
        let mut random = StdRng::seed_from_u64(seed);
        let kinds: Vec<_> =
            (0..STEPS).map(|_| if random.random_bool(0.3) { Kind::Call } else { Kind::Message }).collect();
        let steps: Vec<_> = (0..STEPS)
            .map(|step| match random.random_range(0..10) {
                0..4 => Step::Submit(step),
                4..7 => Step::Claim(random.random_range(1..5)),
                7..9 => Step::Finish(random.random_range(0..9), u32::try_from(step).unwrap()),
                _ => Step::Drop(random.random_range(0..9)),
            })
            .collect();
        let (mut one, mut other) =
            (Way::new(InProcessQueue::new(1000), &kinds), Way::new(rig.clone(), &kinds));
        for step in &steps {
            one.step(*step).await;
            other.step(*step).await;
        }
        assert_eq!(one.end().await, other.end().await, "seed {seed}: {steps:?}");
    }
}
