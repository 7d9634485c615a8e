//! Service level: what is counted of every push, and what is promised. The words that gateways, registry, reports, pages and
//! the documentation share (docs/SLA.md).

use std::time::Duration;

use serde::Deserialize;

use crate::{Answer, InvalidSetting, Owner, TrafficClass};

/// A number of a million: 999,500 are 99.95 %.
pub type PartsPerMillion = u32;

/// What is promised of a plan with a service level. A part of the configuration; agreed for a calendar month, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objectives {
    /// Of the pushes that we answer for, so many do not fail by our fault.
    pub availability_ppm: PartsPerMillion,
    /// Of the calls that were delivered, so many were handed over in time.
    pub calls_in_time_ppm: PartsPerMillion,
    /// Until the provider has taken a call, from its acceptance.
    pub call_ms: u32,
    /// The same for everything else.
    pub messages_in_time_ppm: PartsPerMillion,
    /// The same for everything else.
    pub message_ms: u32,
}

impl Default for Objectives {
    fn default() -> Self {
        Self {
            availability_ppm: 999_500,
            calls_in_time_ppm: 990_000,
            call_ms: 500,
            messages_in_time_ppm: 990_000,
            message_ms: 2000,
        }
    }
}

impl Objectives {
    /// Names the first setting that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        for (key, share) in [
            ("availability_ppm", self.availability_ppm),
            ("calls_in_time_ppm", self.calls_in_time_ppm),
            ("messages_in_time_ppm", self.messages_in_time_ppm),
        ] {
            // Below, the fastest burn rate that is worth waking somebody could not be reached.
            InvalidSetting::out_of(&(950_000..=999_999), key, &share)?;
        }
        InvalidSetting::out_of(&(1..=25_000), "call_ms", &self.call_ms)?;
        InvalidSetting::out_of(&(1..=25_000), "message_ms", &self.message_ms)
    }

    /// Until when a push of this class is in time.
    #[must_use]
    pub fn in_time(&self, class: TrafficClass) -> Duration {
        Duration::from_millis(u64::from(match class {
            TrafficClass::Call => self.call_ms,
            TrafficClass::Message | TrafficClass::Background => self.message_ms,
        }))
    }
}

/// What became of pushes: sums, and how long they took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Delivered to the provider.
    pub ok: u64,
    /// Answered `REMOVE`: the device token is dead.
    pub removed: u64,
    /// Failed after acceptance, by [`Owner`].
    pub failed: [u64; 4],
    /// Refused before that, by [`Owner`].
    pub refused: [u64; 4],
    /// Of those that were delivered, in time.
    pub in_time: u64,
    /// Receipts of phones.
    pub acks: u64,
    /// From acceptance to the answer, of those that the provider decided.
    pub latency: Latency,
}

impl Tally {
    /// Counts one push that was accepted.
    pub fn answered(&mut self, answer: Answer, took: Duration, in_time: Duration) {
        match answer {
            Answer::Ok => {
                self.ok += 1;
                self.in_time += u64::from(took <= in_time);
                self.latency.note(took);
            }
            Answer::Remove => {
                self.removed += 1;
                self.latency.note(took);
            }
            Answer::Fail(reason) => self.failed[reason.owner() as usize] += 1,
        }
    }

    /// Counts one that was refused.
    pub fn refused(&mut self, owner: Owner) {
        self.refused[owner as usize] += 1;
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Self) {
        self.ok += other.ok;
        self.removed += other.removed;
        for (mine, theirs) in self.failed.iter_mut().zip(other.failed) {
            *mine += theirs;
        }
        for (mine, theirs) in self.refused.iter_mut().zip(other.refused) {
            *mine += theirs;
        }
        self.in_time += other.in_time;
        self.acks += other.acks;
        self.latency.add(&other.latency);
    }

    /// Pushes that were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.ok + self.removed + self.failed.iter().sum::<u64>()
    }

    /// Not delivered by this owner's doing, accepted or not; a dead token is the phone's.
    #[must_use]
    pub const fn bad(&self, owner: Owner) -> u64 {
        let removed = if matches!(owner, Owner::Device) { self.removed } else { 0 };
        removed + self.failed[owner as usize] + self.refused[owner as usize]
    }

    /// What the availability is a share of: every push but those that failed by the tenant's or the phone's fault before
    /// anybody could try.
    #[must_use]
    pub fn valid(&self) -> u64 {
        self.accepted() + self.refused[Owner::Ours as usize] + self.refused[Owner::Provider as usize]
    }

    /// Writes it for storage: numbers of seven bits a byte, the lowest first (LEB128), after a version.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![1];
        let plain = [self.ok, self.removed].into_iter().chain(self.failed).chain(self.refused);
        for number in plain.chain([self.in_time, self.acks, self.latency.0.len() as u64]) {
            put(&mut bytes, number);
        }
        let mut last = 0;
        for (bucket, count) in &self.latency.0 {
            put(&mut bytes, u64::from(bucket - last));
            put(&mut bytes, *count);
            last = *bucket;
        }
        bytes
    }

    /// Reads what [`Tally::encode`] wrote; `None` if it is something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&1, mut rest) = bytes.split_first()? else { return None };
        let mut next = || take(&mut rest);
        let mut tally = Self { ok: next()?, removed: next()?, ..Self::default() };
        for count in tally.failed.iter_mut().chain(&mut tally.refused) {
            *count = next()?;
        }
        (tally.in_time, tally.acks) = (next()?, next()?);
        let (buckets, mut last) = (next()?, 0_u16);
        for _ in 0..buckets.min(u64::from(BUCKETS)) {
            last = last.checked_add(u16::try_from(next()?).ok()?)?;
            let count = next()?;
            tally.latency.0.push((last, count));
        }
        rest.is_empty().then_some(tally)
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap_or_default() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or_default());
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// How many buckets a doubling of the time has: each is 6.25 % of it wide at most.
const STEPS: u64 = 16;
/// Up to 2^26 µs, 67 s; more counts as that.
const BUCKETS: u16 = 384;

/// Latencies, counted in buckets that grow with the time: a quantile is told within 3.2 %. Only buckets that hold something
/// take room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latency(Vec<(u16, u64)>);

impl Latency {
    /// Counts one.
    pub fn note(&mut self, took: Duration) {
        self.count(bucket_of(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)), 1);
    }

    fn count(&mut self, bucket: u16, count: u64) {
        match self.0.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => self.0[at].1 += count,
            Err(at) => self.0.insert(at, (bucket, count)),
        }
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            self.count(*bucket, *count);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The time within which so many thousandths of them were, in microseconds: the middle of the bucket of the one with
    /// that rank. `None` if there are none.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> Option<u64> {
        let total = self.total();
        let rank = (total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        found.map(|(bucket, _)| {
            let (low, high) = bounds_of(*bucket);
            u64::midpoint(low, high)
        })
    }

    /// The buckets that hold something: from, to (excluded), in microseconds, and how many.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64, u64)> {
        self.0.iter().map(|(bucket, count)| {
            let (low, high) = bounds_of(*bucket);
            (low, high, *count)
        })
    }
}

/// Below 16 µs each has a bucket; above, the four bits after the highest one name it.
fn bucket_of(micros: u64) -> u16 {
    if micros < STEPS {
        return u16::try_from(micros).unwrap_or_default();
    }
    let power = u64::from(micros.ilog2());
    let step = (micros >> (power - 4)) & (STEPS - 1);
    u16::try_from((power - 3) * STEPS + step).unwrap_or(u16::MAX).min(BUCKETS - 1)
}

fn bounds_of(bucket: u16) -> (u64, u64) {
    let bucket = u64::from(bucket);
    if bucket < STEPS {
        return (bucket, bucket + 1);
    }
    let (power, step) = (bucket / STEPS - 1, bucket % STEPS);
    ((STEPS + step) << power, (STEPS + step + 1) << power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailReason;

    proptest::proptest! {
        #[test]
        fn every_time_is_in_its_bucket_and_buckets_are_narrow(micros in 0_u64..60_000_000) {
            let (low, high) = bounds_of(bucket_of(micros));

            assert!(low <= micros && micros < high, "{low} {micros} {high}");
            assert!(high - low <= (low / 16).max(1));
        }

        #[test]
        fn what_was_written_is_read(
            numbers in proptest::collection::vec(0_u64..u64::MAX / 4, 12),
            times in proptest::collection::vec(0_u64..70_000_000, 0..50),
        ) {
            let mut tally = Tally { ok: numbers[0], removed: numbers[1], in_time: numbers[10], acks: numbers[11], ..Tally::default() };
            tally.failed.copy_from_slice(&numbers[2..6]);
            tally.refused.copy_from_slice(&numbers[6..10]);
            for micros in times {
                tally.latency.note(Duration::from_micros(micros));
            }

            assert_eq!(Tally::decode(&tally.encode()), Some(tally));
        }

        #[test]
        fn what_somebody_else_wrote_is_refused_or_read_and_never_a_panic(bytes: Vec<u8>) {
            let _ = Tally::decode(&bytes);
        }

        #[test]
        fn a_quantile_is_within_five_percent(mut times in proptest::collection::vec(100_u64..60_000_000, 1..300)) {
            let mut latency = Latency::default();
            for micros in &times {
                latency.note(Duration::from_micros(*micros));
            }
            times.sort_unstable();
            for per_mille in [500, 900, 990, 999] {
                let rank = (times.len() * per_mille).div_ceil(1000).max(1);
                let (true_one, told) = (times[rank - 1], latency.quantile(per_mille as u64).unwrap());

                assert!(told.abs_diff(true_one) * 20 <= true_one, "{told} {true_one}");
            }
        }
    }

    #[test]
    fn a_fault_counts_for_its_owner_and_a_callers_mistake_for_no_availability() {
        let mut tally = Tally::default();
        let second = Duration::from_secs(1);
        tally.answered(Answer::Ok, second, second);
        tally.answered(Answer::Ok, second * 2, second);
        tally.answered(Answer::Remove, second, second);
        tally.answered(Answer::Fail(FailReason::ProviderDown), second, second);
        tally.answered(Answer::Fail(FailReason::Deadline), second, second);
        tally.refused(Owner::Tenant);
        tally.refused(Owner::Ours);

        assert_eq!((tally.accepted(), tally.valid(), tally.in_time), (5, 6, 1));
        let bad = Owner::ALL.map(|owner| tally.bad(owner));
        assert_eq!(bad, [2, 1, 1, 1]);
        assert_eq!(tally.latency.total(), 3);
    }
}
