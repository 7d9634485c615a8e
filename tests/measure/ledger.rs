//! Reconciliation of two ledgers: what callers were answered and what arrived at the providers, and when.

use std::collections::HashMap;
use std::time::Duration;

use crate::client::{FIRST_UNRECONCILED, Outcome, Sample, Status};

/// The budget of a push, and of a call.
const BUDGET_MS: u64 = 10_000;
/// Two clocks of one machine, read before and after.
const SLACK_MS: u64 = 150;

/// Result of the reconciliation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciliation {
    /// Pushes that callers sent.
    pub sent: u64,
    /// Answered `OK`.
    pub ok: u64,
    /// Answered `FAIL`.
    pub fail: u64,
    /// Not answered: the connection broke, or there was no answer in 30 s.
    pub lost: u64,
    /// Answered `OK`, and never arrived.
    pub false_ok: u64,
    /// Answered `REMOVE`: no provider says so of any device here.
    pub false_remove: u64,
    /// Answered "never sent", and arrived.
    pub false_fail: u64,
    /// Answered `FAIL`, and arrived after that.
    pub after_fail: u64,
    /// Arrived after the time for them was over.
    pub too_late: u64,
    /// Answered twice.
    pub twice: u64,
    /// How often a push arrived again.
    pub duplicates: u64,
    /// Arrived, and nobody had sent it.
    pub strangers: u64,
    /// The longest that an answer took.
    pub slowest: Duration,
}

impl Reconciliation {
    /// Compares answers with the simulator's ledger: a push's number and the time a line, as often as it arrived.
    #[must_use]
    pub fn new(outcome: &Outcome, ledger: &str) -> Self {
        let mut arrived: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut result =
            Self { sent: outcome.samples.len() as u64, twice: outcome.extra_answers, ..Self::default() };
        for line in ledger.lines() {
            let entry = line.split_once(' ');
            let entry =
                entry.and_then(|(id, at)| Some((u64::from_str_radix(id, 16).ok()?, at.parse().ok()?)));
            match entry {
                Some((number, at)) => arrived.entry(number).or_default().push(at),
                None => result.strangers += 1,
            }
        }
        for sample in &outcome.samples {
            let times = arrived.remove(&sample.number).unwrap_or_default();
            result.judge(sample, &times);
        }
        result.strangers += arrived.keys().filter(|number| **number < FIRST_UNRECONCILED).count() as u64;
        result
    }

    fn judge(&mut self, sample: &Sample, times: &[u64]) {
        let millis = |time: Duration| time.as_millis() as u64;
        let left = sample.began_ms + millis(sample.at);
        let answered = left + millis(sample.took);
        self.duplicates += (times.len() as u64).saturating_sub(1);
        self.slowest = self.slowest.max(sample.took);
        let late = |limit: u64| times.iter().filter(|at| **at > limit + SLACK_MS).count() as u64;
        // A push may leave its caller later than it was to; never later than it was answered.
        self.too_late += late(answered.max(left + BUDGET_MS));
        match sample.status {
            Status::Ok => {
                self.ok += 1;
                self.false_ok += u64::from(times.is_empty());
            }
            Status::Unsent => {
                self.fail += 1;
                self.false_fail += u64::from(!times.is_empty());
            }
            Status::Fail => {
                self.fail += 1;
                self.after_fail += late(answered);
            }
            Status::Remove => self.false_remove += 1,
            Status::Lost => self.lost += 1,
        }
    }

    /// Says what is not true, whatever the fault was.
    #[must_use]
    pub fn untruths(&self) -> Vec<String> {
        let untruths = [
            (self.false_ok, "answered OK and never arrived"),
            (self.false_remove, "answered REMOVE though no device is dead"),
            (self.false_fail, "answered never sent and arrived"),
            (self.after_fail, "answered FAIL and arrived afterwards"),
            (self.too_late, "sent when their time was over"),
            (self.twice, "answered twice"),
            (self.strangers, "arrived and were never sent"),
        ];
        let untruths = untruths.into_iter().filter(|(count, _)| *count > 0);
        untruths.map(|(count, what)| format!("{count} pushes were {what}")).collect()
    }

    /// How many pushes that concerns.
    #[must_use]
    pub const fn untrue(&self) -> u64 {
        self.false_ok
            + self.false_remove
            + self.false_fail
            + self.after_fail
            + self.too_late
            + self.twice
            + self.strangers
    }
}
