//! A made-up month of the service-level ledger, for looking at pages and for measuring reports: days and nights, a bad hour of
//! Google's and one of ours.

use std::time::Duration;

use push_domain::{
    Answer, FailReason, Objectives, Owner, Provider, Tally, TenantId, Timestamp, TrafficClass,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tenant_registry::{
    LedgerProcess, RegistryError, ServiceLevelKey, ServiceLevelLedger, everybody, hour_of,
};

/// Pushes of a tenant in its busiest hour.
const BUSY: u64 = 240;
/// So many hours ago Google was out of order, and something of ours.
const GOOGLES_HOUR: u64 = 100;
const OUR_HOUR: u64 = 30;

/// Writes so many days up to now for some tenants, under one process.
pub(crate) async fn write(
    ledger: &dyn ServiceLevelLedger,
    tenants: &[TenantId],
    days: u32,
    region: &str,
    now: Timestamp,
) -> Result<(), RegistryError> {
    let mut random = StdRng::seed_from_u64(1);
    let process = LedgerProcess {
        process: format!("seed-{}", now.millis()),
        region: region.to_owned(),
        began: now,
        flushed: now,
        ended: Some(now),
    };
    let last = hour_of(now);
    for hour in last.saturating_sub(u64::from(days) * 24)..=last {
        let mut rows = Vec::new();
        for provider in Provider::ALL {
            for class in TrafficClass::ALL {
                let mut all = Tally::default();
                for (number, tenant) in (1..).zip(tenants) {
                    let tally = an_hour(last - hour, hour % 24, number, provider, class, &mut random);
                    all.add(&tally);
                    rows.push((key(*tenant, hour, provider, class), tally));
                }
                rows.push((key(everybody(), hour, provider, class), all));
            }
        }
        ledger.write_service_level(&process, &rows).await?;
    }
    Ok(())
}

const fn key(tenant: TenantId, hour: u64, provider: Provider, class: TrafficClass) -> ServiceLevelKey {
    ServiceLevelKey { tenant, hour, provider: Some(provider), class: Some(class) }
}

/// An hour of a tenant: the first has most to say, and nights are quiet.
fn an_hour(
    ago: u64,
    of_day: u64,
    number: u64,
    provider: Provider,
    class: TrafficClass,
    random: &mut StdRng,
) -> Tally {
    let day = [1, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 9, 8, 9, 10, 10, 9, 8, 7, 6, 5, 4, 3, 2];
    let share = if class == TrafficClass::Call { 10 } else { 1 };
    let base = BUSY * day[usize::try_from(of_day).unwrap_or_default() % 24] / 10 / number.min(8) / share;
    let pushes = base + random.random_range(0..=base / 4 + 1);
    let mut tally = Tally::default();
    for _ in 0..pushes {
        let lot = random.random_range(0..1000);
        let answer = match lot {
            _ if ago == GOOGLES_HOUR && provider == Provider::Fcm && lot < 400 => {
                Answer::Fail(FailReason::ProviderDown)
            }
            _ if ago == OUR_HOUR && lot < 25 => Answer::Fail(FailReason::Deadline),
            0..4 => Answer::Remove,
            4 => Answer::Fail(FailReason::ProviderBusy),
            _ => Answer::Ok,
        };
        let usual = if provider == Provider::Apns { 60 } else { 90 };
        let tail = if lot > 990 { random.random_range(0..400) } else { random.random_range(0..40) };
        let slow = if ago == OUR_HOUR { 900 } else { 0 };
        let took = Duration::from_millis(usual + tail + slow);
        tally.answered(answer, took, Objectives::default().in_time(class));
    }
    (0..pushes / 200).for_each(|_| tally.refused(Owner::Tenant));
    tally.acks = tally.ok * 4 / 5;
    tally
}
