//! Two ledgers, compared: what callers were answered, and what arrived at the providers.

use std::collections::HashMap;
use std::time::Duration;

use crate::client::{Outcome, Status};

/// What the comparison shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reconciled {
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
    /// Answered "never sent", and arrived.
    pub false_fail: u64,
    /// How often a push arrived again.
    pub duplicates: u64,
    /// Arrived, and nobody had sent it.
    pub strangers: u64,
    /// The longest that an answer took.
    pub slowest: Duration,
}

impl Reconciled {
    /// Compares answers with the simulator's ledger: a push's number a line, as often as it arrived.
    #[must_use]
    pub fn new(outcome: &Outcome, ledger: &str) -> Self {
        let mut arrived: HashMap<u64, u64> = HashMap::new();
        let mut result = Self { sent: outcome.samples.len() as u64, ..Self::default() };
        for line in ledger.lines() {
            match u64::from_str_radix(line, 16) {
                Ok(number) => *arrived.entry(number).or_default() += 1,
                Err(_) => result.strangers += 1,
            }
        }
        for sample in &outcome.samples {
            let times = arrived.remove(&sample.number).unwrap_or_default();
            result.duplicates += times.saturating_sub(1);
            result.slowest = result.slowest.max(sample.took);
            match sample.status {
                Status::Ok => {
                    result.ok += 1;
                    result.false_ok += u64::from(times == 0);
                }
                Status::Unsent => {
                    result.fail += 1;
                    result.false_fail += u64::from(times > 0);
                }
                Status::Remove | Status::Fail => result.fail += 1,
                Status::Lost => result.lost += 1,
            }
        }
        result.strangers += arrived.len() as u64;
        result
    }

    /// Says what is not true, whatever the fault was.
    #[must_use]
    pub fn untruths(&self) -> Vec<String> {
        let untruths = [
            (self.false_ok, "answered OK and never arrived"),
            (self.false_fail, "answered never sent and arrived"),
            (self.strangers, "arrived and were never sent"),
        ];
        let untruths = untruths.into_iter().filter(|(count, _)| *count > 0);
        untruths.map(|(count, what)| format!("{count} pushes were {what}")).collect()
    }
}
