//! Conformance tests of the service-level ledger.

use std::time::Duration;

use push_domain::{Answer, Provider, Tally, TenantId, Timestamp, TrafficClass};

use super::{NOW, Registry};
use crate::{LedgerProcess, ServiceLevelKey, everybody, hour_of};

const HOUR: u64 = hour_of(NOW);

fn process(name: &str) -> LedgerProcess {
    LedgerProcess { process: name.into(), region: "us".into(), began: NOW, flushed: NOW, ended: None }
}

fn key(tenant: TenantId, hour: u64, class: TrafficClass) -> ServiceLevelKey {
    ServiceLevelKey { tenant, hour, provider: Some(Provider::Apns), class: Some(class) }
}

fn delivered(count: u64) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..count {
        tally.answered(Answer::Ok, Duration::from_millis(3), Duration::from_millis(500));
    }
    tally
}

fn at(hour: u64) -> Timestamp {
    Timestamp::from_millis(hour * 3_600_000)
}

pub(crate) async fn what_a_process_writes_again_replaces_and_what_others_write_adds_up(
    registry: &impl Registry,
) {
    let (ledger, tenant) = (registry.service_level(), TenantId::new());
    let call = key(tenant, HOUR, TrafficClass::Call);
    for (name, count) in [("one", 1), ("one", 3), ("one", 3), ("two", 4)] {
        let others = (key(everybody(), HOUR, TrafficClass::Call), delivered(count));
        ledger.write_service_level(&process(name), &[(call, delivered(count)), others]).await.unwrap();
    }
    let message = (key(tenant, HOUR + 1, TrafficClass::Message), delivered(5));
    ledger.write_service_level(&process("two"), &[message]).await.unwrap();

    let read = async |from, until| {
        let rows = registry.admin().service_level(tenant, from, until).await.unwrap();
        rows.into_iter().map(|row| (row.key, row.span, row.tally.ok)).collect::<Vec<_>>()
    };
    assert_eq!(read(HOUR, HOUR + 1).await, [(call, 1, 7)]);
    assert_eq!(read(HOUR, HOUR + 2).await.len(), 2);
    assert!(read(HOUR + 2, HOUR + 9).await.is_empty());
    let sums = registry.admin().service_level_by_tenant(HOUR, HOUR + 2).await.unwrap();
    let sum = sums.iter().find(|(of, _)| *of == tenant).unwrap();
    assert_eq!((sum.1.ok, sum.1.latency.total()), (12, 12));
}

pub(crate) async fn hours_that_are_over_become_one_row_and_old_ones_days_and_nothing_is_lost(
    registry: &impl Registry,
) {
    let (ledger, tenant) = (registry.service_level(), TenantId::new());
    let day = HOUR / 24;
    for name in ["one", "two"] {
        let hours = (0..30).map(|hour| (key(tenant, day * 24 + hour, TrafficClass::Message), delivered(1)));
        ledger.write_service_level(&process(name), &hours.collect::<Vec<_>>()).await.unwrap();
    }
    let kept = async |now: u64| {
        while registry.admin().keep_service_level(at(now)).await.unwrap() > 0 {}
        let rows = registry.admin().service_level(tenant, 0, u64::MAX >> 1).await.unwrap();
        let of = |span| rows.iter().filter(|row| row.span == span).collect::<Vec<_>>();
        let sum: u64 = rows.iter().map(|row| row.tally.ok).sum();
        (of(1).len(), of(24).len(), sum)
    };
    let begin = day * 24;

    assert_eq!(kept(begin + 40).await, (30, 0, 60));
    assert_eq!(kept(begin + 46 * 24).await, (6, 1, 60));
    assert_eq!(kept(begin + 48 * 24).await, (0, 2, 60));
    assert_eq!(kept(begin + 24 * 500).await, (0, 0, 0));
}

pub(crate) async fn a_process_tells_until_when_it_has_told(registry: &impl Registry) {
    let ledger = registry.service_level();
    ledger.write_service_level(&process("one"), &[]).await.unwrap();
    let later = NOW.plus(Duration::from_secs(10));
    let told = LedgerProcess { flushed: later, ended: Some(later), ..process("one") };
    ledger.write_service_level(&told, &[]).await.unwrap();
    ledger.write_service_level(&process("two"), &[]).await.unwrap();

    let listed = async |since| registry.admin().ledger_processes(since).await.unwrap();
    assert_eq!(listed(NOW).await, [told.clone(), process("two")]);
    assert_eq!(listed(later).await, [told]);
}
