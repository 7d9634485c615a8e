//! The report of a month: sums, shares against the objectives, error budget, and what the ledger cannot speak for.

use push_domain::{Objectives, Owner, PartsPerMillion, Tally, Timestamp, TrafficClass};
use tenant_registry::{LedgerProcess, ServiceLevelRow};

use super::Month;
use crate::wire::{
    BudgetView, ByOwner, ClassView, GapView, LatencyView, Moment, ServiceLevelReport, ShareView, TallyView,
};

const MILLION: u64 = 1_000_000;
/// A process that has told nothing for so long, and not that it ended, is gone.
const SILENT_MS: u64 = 600_000;
/// What a process that is gone may have counted since it last told.
const UNTOLD_MS: u64 = 10_000;

/// What a report is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// A tenant's id, or `all`.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// The region.
    pub(crate) region: String,
    /// What is promised; nothing to who has no plan with a service level.
    pub(crate) objectives: Option<Objectives>,
}

/// Makes the report of a month, as it stands at a moment.
pub(crate) fn report(
    subject: &Subject,
    month: Month,
    rows: &[ServiceLevelRow],
    processes: &[LedgerProcess],
    now: Timestamp,
) -> ServiceLevelReport {
    let sum = |of: &dyn Fn(&ServiceLevelRow) -> bool| {
        let mut sum = Tally::default();
        rows.iter().filter(|row| of(row)).for_each(|row| sum.add(&row.tally));
        sum
    };
    let all = sum(&|_| true);
    let of_class = TrafficClass::ALL.map(|class| (class, sum(&|row| row.key.class == Some(class))));
    let [calls, messages, background] = [&of_class[0].1, &of_class[1].1, &of_class[2].1];
    let objectives = subject.objectives;
    let (good, valid) = (all.valid() - all.bad(Owner::Ours), all.valid());
    let availability = share(good, valid, objectives.map(|it| it.availability_ppm));
    let calls_in_time = share(calls.in_time, calls.ok, objectives.map(|it| it.calls_in_time_ppm));
    let messages_in_time = share(
        messages.in_time + background.in_time,
        messages.ok + background.ok,
        objectives.map(|it| it.messages_in_time_ppm),
    );
    let (from, until) = month.hours();
    let shares = [&availability, &calls_in_time, &messages_in_time];
    let moment = |hour: u64| Moment(Timestamp::from_millis(hour * 3_600_000));
    ServiceLevelReport {
        subject: subject.id.clone(),
        name: subject.name.clone(),
        region: subject.region.clone(),
        month: month.to_string(),
        from: moment(from),
        until: moment(until),
        made_at: Moment(now),
        is_kept: objectives.map(|_| shares.iter().all(|share| share.is_kept != Some(false))),
        budget: objectives.map(|it| budget(all.bad(Owner::Ours), valid, it.availability_ppm, until - from)),
        availability,
        calls_in_time,
        messages_in_time,
        bad: by_owner(Owner::ALL.map(|owner| all.bad(owner))),
        total: tally_view(&all),
        classes: of_class.iter().map(|(class, tally)| class_view(class.label(), tally)).collect(),
        gaps: gaps(processes, from * 3_600_000, until * 3_600_000, now),
    }
}

/// Nothing to take a share of keeps every promise.
fn share(good: u64, of: u64, objective: Option<PartsPerMillion>) -> ShareView {
    let ppm = of_times(good, MILLION, of);
    let is_kept = objective.map(|objective| ppm.is_none_or(|ppm| ppm >= u64::from(objective)));
    ShareView { good, of, ppm, objective_ppm: objective, is_kept }
}

/// `count × times / of`, rounded down, however large; nothing of nothing.
fn of_times(count: u64, times: u64, of: u64) -> Option<u64> {
    let share = (u128::from(count) * u128::from(times)).checked_div(u128::from(of))?;
    Some(u64::try_from(share).unwrap_or(u64::MAX))
}

/// What may fail by our fault in a month, in seconds of it: as much as the pushes that did fail are of those that may.
fn budget(bad: u64, valid: u64, objective: PartsPerMillion, hours: u64) -> BudgetView {
    let allowed_ppm = MILLION - u64::from(objective);
    let seconds = hours * 3600 * allowed_ppm / MILLION;
    let spent_ppm = of_times(bad, MILLION * MILLION, valid.saturating_mul(allowed_ppm)).unwrap_or_default();
    let left_seconds = seconds * MILLION.saturating_sub(spent_ppm) / MILLION;
    BudgetView { seconds, left_seconds, spent_ppm }
}

fn by_owner(counts: [u64; 4]) -> ByOwner {
    let [ours, provider, tenant, device] = counts;
    ByOwner { ours, provider, tenant, device }
}

fn class_view(class: &str, tally: &Tally) -> ClassView {
    ClassView { class: class.to_owned(), tally: tally_view(tally) }
}

pub(crate) fn tally_view(tally: &Tally) -> TallyView {
    let quantile = |per_mille| tally.latency.quantile(per_mille);
    TallyView {
        accepted: tally.accepted(),
        ok: tally.ok,
        removed: tally.removed,
        failed: by_owner(tally.failed),
        refused: by_owner(tally.refused),
        in_time: tally.in_time,
        receipts: tally.acks,
        latency_us: quantile(500).map(|p50| LatencyView {
            p50,
            p90: quantile(900).unwrap_or(p50),
            p99: quantile(990).unwrap_or(p50),
            p999: quantile(999).unwrap_or(p50),
        }),
    }
}

/// When processes were gone that had not said so: what they counted last is not known.
fn gaps(processes: &[LedgerProcess], from: u64, until: u64, now: Timestamp) -> Vec<GapView> {
    let is_gone = |it: &&LedgerProcess| {
        it.ended.is_none() && now.millis().saturating_sub(it.flushed.millis()) > SILENT_MS
    };
    let inside = |it: &&LedgerProcess| (from..until).contains(&it.flushed.millis());
    let gone = processes.iter().filter(is_gone).filter(inside);
    let gap = |it: &LedgerProcess| GapView {
        process: it.process.chars().take(8).collect(),
        from: Moment(it.flushed),
        until: Moment(Timestamp::from_millis(it.flushed.millis() + UNTOLD_MS)),
    };
    gone.map(gap).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use push_domain::{Answer, FailReason, Provider};
    use tenant_registry::{ServiceLevelKey, everybody};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn row(class: TrafficClass, tally: Tally) -> ServiceLevelRow {
        let key = ServiceLevelKey {
            tenant: everybody(),
            hour: Month::of(NOW).hours().0,
            provider: Some(Provider::Apns),
            class: Some(class),
        };
        ServiceLevelRow { key, span: 1, tally }
    }

    fn pushes(answers: &[(Answer, u64, u64)]) -> Tally {
        let mut tally = Tally::default();
        for (answer, count, millis) in answers {
            for _ in 0..*count {
                let took = Duration::from_millis(*millis);
                tally.answered(*answer, took, Duration::from_millis(500));
            }
        }
        tally
    }

    fn of(rows: &[ServiceLevelRow], objectives: Option<Objectives>) -> ServiceLevelReport {
        let subject = Subject { id: "all".into(), name: "all".into(), region: "us".into(), objectives };
        report(&subject, Month::of(NOW), rows, &[], NOW)
    }

    #[test]
    fn what_was_promised_is_kept_to_the_push() {
        let with = |ours| {
            let failed = Answer::Fail(FailReason::Internal);
            let tally = pushes(&[(Answer::Ok, 10_000 - ours, 3), (failed, ours, 3)]);
            of(&[row(TrafficClass::Message, tally)], Some(Objectives::default()))
        };

        assert_eq!((with(5).is_kept, with(6).is_kept), (Some(true), Some(false)));
        let budget = with(1).budget.unwrap();
        assert_eq!((budget.spent_ppm, with(10).budget.unwrap().left_seconds), (200_000, 0));
        assert_eq!(budget.left_seconds, budget.seconds * 4 / 5);
    }

    #[test]
    fn what_others_broke_breaks_no_promise_and_is_told_by_its_owner() {
        let tally = pushes(&[
            (Answer::Ok, 100, 3),
            (Answer::Fail(FailReason::ProviderDown), 50, 3),
            (Answer::Fail(FailReason::TokensDoubted), 20, 3),
            (Answer::Remove, 10, 3),
        ]);

        let report = of(&[row(TrafficClass::Call, tally)], Some(Objectives::default()));

        assert_eq!((report.is_kept, report.availability.ppm), (Some(true), Some(MILLION)));
        let bad = &report.bad;
        assert_eq!((bad.ours, bad.provider, bad.tenant, bad.device), (0, 50, 20, 10));
    }

    #[test]
    fn a_late_call_counts_and_a_plan_without_a_promise_has_none() {
        let tally = pushes(&[(Answer::Ok, 98, 3), (Answer::Ok, 2, 501)]);
        let rows = [row(TrafficClass::Call, tally)];

        let promised = of(&rows, Some(Objectives::default()));
        assert_eq!((promised.is_kept, promised.calls_in_time.is_kept), (Some(false), Some(false)));
        let free = of(&rows, None);
        assert_eq!(
            (free.is_kept, free.budget.is_none(), free.calls_in_time.ppm),
            (None, true, Some(980_000))
        );
        assert_eq!(of(&[], Some(Objectives::default())).is_kept, Some(true));
    }

    #[test]
    fn a_month_of_a_thousand_times_twenty_thousand_a_second_is_computed_too() {
        let all = 1000 * 20_000 * 86_400 * 31;
        let spent = budget(all / 1000, all, 999_500, 744).spent_ppm;
        let whole = share(all - all / 1000, all, Some(999_500));

        assert_eq!((spent, whole.ppm, whole.is_kept), (2 * MILLION, Some(999_000), Some(false)));
    }

    #[test]
    fn a_process_that_is_gone_without_a_word_leaves_a_gap() {
        let process = |flushed: u64, ended| LedgerProcess {
            process: "0123456789".into(),
            region: "us".into(),
            began: NOW,
            flushed: Timestamp::from_millis(NOW.millis() - flushed),
            ended,
        };
        let (from, until) = Month::of(NOW).hours();
        let of = |process| gaps(&[process], from * 3_600_000, until * 3_600_000, NOW).len();

        assert_eq!(of(process(SILENT_MS + 1, None)), 1);
        assert_eq!(of(process(SILENT_MS + 1, Some(NOW))), 0);
        assert_eq!(of(process(5000, None)), 0);
        assert_eq!(of(process(60 * 86_400_000, None)), 0);
    }
}
