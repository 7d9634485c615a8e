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

/// Hours of a tenant that are kept, days, and the sum of what was delivered in them; nothing is left to put together.
async fn kept(registry: &impl Registry, tenant: TenantId, now: u64) -> (usize, usize, u64) {
    while registry.admin().keep_service_level(at(now)).await.unwrap() > 0 {}
    let rows = registry.admin().service_level(tenant, 0, u64::MAX >> 1).await.unwrap();
    let of = |span| rows.iter().filter(|row| row.span == span).count();
    (of(1), of(24), rows.iter().map(|row| row.tally.ok).sum())
}

pub(crate) async fn hours_that_are_over_become_one_row_and_old_ones_days_and_nothing_is_lost(
    registry: &impl Registry,
) {
    let (ledger, tenant) = (registry.service_level(), TenantId::new());
    let begin = HOUR / 24 * 24;
    for name in ["one", "two"] {
        let told = LedgerProcess { flushed: at(begin + 40), ..process(name) };
        let hours = (0..30).map(|hour| (key(tenant, begin + hour, TrafficClass::Message), delivered(1)));
        ledger.write_service_level(&told, &hours.collect::<Vec<_>>()).await.unwrap();
    }

    assert_eq!(kept(registry, tenant, begin + 40).await, (30, 0, 60));
    assert_eq!(kept(registry, tenant, begin + 46 * 24).await, (6, 1, 60));
    assert_eq!(kept(registry, tenant, begin + 48 * 24).await, (0, 2, 60));
    assert_eq!(kept(registry, tenant, begin + 24 * 500).await, (0, 0, 0));
}

pub(crate) async fn an_hour_that_its_process_may_still_write_is_not_put_together(registry: &impl Registry) {
    let (ledger, tenant) = (registry.service_level(), TenantId::new());
    let call = key(tenant, HOUR, TrafficClass::Call);
    let write = async |flushed: u64, ended: Option<u64>, count| {
        let told = LedgerProcess { flushed: at(flushed), ended: ended.map(at), ..process("late") };
        ledger.write_service_level(&told, &[(call, delivered(count))]).await.unwrap();
    };

    // The registry was away for hours: what the process told before is not all, and it writes the whole hour again.
    write(HOUR, None, 2).await;
    assert_eq!(kept(registry, tenant, HOUR + 5).await.2, 2);
    write(HOUR + 1, None, 7).await;
    assert_eq!(kept(registry, tenant, HOUR + 6).await.2, 7);
    let other = LedgerProcess { flushed: at(HOUR + 3), ..process("in time") };
    ledger.write_service_level(&other, &[(call, delivered(1))]).await.unwrap();
    assert_eq!(kept(registry, tenant, HOUR + 6).await.2, 8);
    write(HOUR + 1, None, 9).await;
    assert_eq!(kept(registry, tenant, HOUR + 6).await.2, 10);

    // It says no more for a day.
    assert_eq!(kept(registry, tenant, HOUR + 26).await, (1, 0, 10));
}

pub(crate) async fn any_number_of_rows_is_written_and_put_together(registry: &impl Registry) {
    let ledger = registry.service_level();
    let tenants: Vec<_> = std::iter::repeat_with(TenantId::new).take(2600).collect();
    for (name, count) in [("many", 1), ("many", 2), ("more", 3)] {
        let told = LedgerProcess { flushed: at(HOUR + 3), ended: Some(at(HOUR + 3)), ..process(name) };
        let rows = tenants.iter().flat_map(|tenant| {
            [TrafficClass::Call, TrafficClass::Message]
                .map(|class| (key(*tenant, HOUR, class), delivered(count)))
        });
        ledger.write_service_level(&told, &rows.collect::<Vec<_>>()).await.unwrap();
    }

    for tenant in [tenants[0], tenants[1300], tenants[2599]] {
        assert_eq!(kept(registry, tenant, HOUR + 3).await, (2, 0, 10));
    }
    assert_eq!(kept(registry, tenants[7], HOUR + 24 * 50).await, (0, 2, 10));
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
