//! Service-level ledger: what became of pushes, by hour, tenant, provider and class.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use push_domain::{Provider, Tally, TenantId, Timestamp, TrafficClass};
use uuid::Uuid;

use crate::error::RegistryError;
use crate::row::row;

/// Hours are kept so long, days so long after them.
pub const HOURS_KEPT_DAYS: u64 = 45;
/// Days are kept for thirteen months.
pub const DAYS_KEPT: u64 = 400;

/// A process writes the hour that runs and the one before, and what it could not write: no older than so many hours. One
/// that has told nothing for a day writes nothing of that time any more.
pub const HOURS_HELD: u64 = 20;
/// After so many hours of silence what a process has written is put together as if it had ended.
const SILENT_HOURS: u64 = 24;

/// Whose pushes of what kind a tally is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceLevelKey {
    /// The tenant, [`everybody`] or [`nobody`].
    pub tenant: TenantId,
    /// Hours since 1970, in UTC.
    pub hour: u64,
    /// Of the app; none for a request that was refused before that was known.
    pub provider: Option<Provider>,
    /// The same.
    pub class: Option<TrafficClass>,
}

/// All tenants together.
#[must_use]
pub const fn everybody() -> TenantId {
    TenantId::from_uuid(Uuid::max())
}

/// Callers that are no tenant: without a licence, or not known.
#[must_use]
pub const fn nobody() -> TenantId {
    TenantId::from_uuid(Uuid::nil())
}

/// The hour of a moment.
#[must_use]
pub const fn hour_of(moment: Timestamp) -> u64 {
    moment.millis() / 3_600_000
}

/// A tally of an hour, or of a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceLevelRow {
    /// What it is about.
    pub key: ServiceLevelKey,
    /// Hours that it covers: 1 or 24.
    pub span: u64,
    /// The sums.
    pub tally: Tally,
}

/// A process that counts, and until when it has told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerProcess {
    /// Its name, as long as it runs.
    pub process: String,
    /// The region that it serves.
    pub region: String,
    /// Since when.
    pub began: Timestamp,
    /// Until when all that it counted is written.
    pub flushed: Timestamp,
    /// When it ended, if it said so.
    pub ended: Option<Timestamp>,
}

/// Writer of the ledger, for gateways.
#[async_trait]
pub trait ServiceLevelLedger: Send + Sync {
    /// Writes what a process has counted: each tally replaces what it wrote of that key before. Idempotent.
    async fn write_service_level(
        &self,
        process: &LedgerProcess,
        tallies: &[(ServiceLevelKey, Tally)],
    ) -> Result<(), RegistryError>;
}

/// Reader and keeper of the ledger, for operators.
#[async_trait]
pub trait ServiceLevelAdmin: Send + Sync {
    /// Reads hours and days of a tenant, [`everybody`] or [`nobody`], from one hour to another (excluded), the earliest first;
    /// what several processes counted is added up.
    async fn service_level(
        &self,
        tenant: TenantId,
        from: u64,
        until: u64,
    ) -> Result<Vec<ServiceLevelRow>, RegistryError>;

    /// Sums up each tenant's hours from one to another (excluded), all providers and classes together.
    async fn service_level_by_tenant(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<(TenantId, Tally)>, RegistryError>;

    /// Lists the processes that counted since a moment.
    async fn ledger_processes(&self, since: Timestamp) -> Result<Vec<LedgerProcess>, RegistryError>;

    /// Makes one row of those of all processes in hours that are over, days of old hours, and forgets old days: a part of
    /// them, at most. Returns how many rows it touched; 0: all is done.
    async fn keep_service_level(&self, now: Timestamp) -> Result<u64, RegistryError>;
}

row! {
    /// A row of `service_level`.
    pub(crate) struct StoredTally {
        pub(crate) tenant_id: Uuid,
        pub(crate) hour: i64,
        pub(crate) span: i16,
        pub(crate) provider: String,
        pub(crate) class: String,
        pub(crate) tally: Vec<u8>,
    }
}

row! {
    /// A row of `service_level_process`.
    pub(crate) struct StoredProcess {
        process: String,
        region: String,
        began: i64,
        flushed: i64,
        ended: Option<i64>,
    }
}

impl StoredTally {
    /// What the row says; nothing where a later version wrote it in words of its own.
    fn read(&self) -> Option<ServiceLevelRow> {
        let provider = Provider::ALL.into_iter().find(|it| it.label() == self.provider);
        let class = TrafficClass::ALL.into_iter().find(|it| it.label() == self.class);
        let is_known = |label: &str, is_one: bool| if label.is_empty() || is_one { Some(()) } else { None };
        is_known(&self.provider, provider.is_some())?;
        is_known(&self.class, class.is_some())?;
        let tenant = TenantId::from_uuid(self.tenant_id);
        let key = ServiceLevelKey { tenant, hour: u64::try_from(self.hour).ok()?, provider, class };
        Some(ServiceLevelRow {
            key,
            span: u64::try_from(self.span).ok()?,
            tally: Tally::decode(&self.tally)?,
        })
    }
}

/// Before which hour all are over for every process that tells, and since when one that does not is silent.
pub(crate) fn over(now: Timestamp) -> (u64, Timestamp) {
    let silent = now.millis().saturating_sub(SILENT_HOURS * 3_600_000);
    (hour_of(now).saturating_sub(2), Timestamp::from_millis(silent))
}

/// Before which hour all are old: a whole day at a time.
pub(crate) const fn old(now: Timestamp) -> u64 {
    (hour_of(now) / 24).saturating_sub(HOURS_KEPT_DAYS) * 24
}

/// The longer spans that rows belong to: of which tenant, and their first hours.
pub(crate) fn longer(rows: &[StoredTally], span: i16) -> Vec<(Uuid, i64)> {
    let first = |row: &StoredTally| (row.tenant_id, row.hour - row.hour % i64::from(span));
    rows.iter().map(first).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Adds rows up to longer ones. What cannot be read is moved there as it is: the version that wrote it can.
pub(crate) fn put_together(rows: Vec<StoredTally>, span: i16) -> Vec<StoredTally> {
    let mut sums = BTreeMap::<_, Tally>::new();
    let mut together = Vec::new();
    for mut row in rows {
        row.hour -= row.hour % i64::from(span);
        row.span = span;
        match row.read() {
            Some(read) => {
                sums.entry((row.tenant_id, row.hour, row.provider, row.class)).or_default().add(&read.tally);
            }
            None => together.push(row),
        }
    }
    let summed = |((tenant_id, hour, provider, class), tally): ((Uuid, i64, String, String), Tally)| {
        StoredTally { tenant_id, hour, span, provider, class, tally: tally.encode() }
    };
    together.extend(sums.into_iter().map(summed));
    together
}

pub(crate) fn provider_label(provider: Option<Provider>) -> &'static str {
    provider.map_or("", Provider::label)
}

pub(crate) fn class_label(class: Option<TrafficClass>) -> &'static str {
    class.map_or("", TrafficClass::label)
}

/// Adds up what stands in rows, by key and span; unreadable ones are left out, and counted.
pub(crate) fn summed(stored: Vec<StoredTally>) -> Vec<ServiceLevelRow> {
    let mut rows: Vec<ServiceLevelRow> = Vec::new();
    for row in stored {
        let Some(row) = row.read() else {
            metrics::counter!("service_level_unreadable_rows_total").increment(1);
            continue;
        };
        match rows.last_mut().filter(|last| last.key == row.key && last.span == row.span) {
            Some(last) => last.tally.add(&row.tally),
            None => rows.push(row),
        }
    }
    rows
}

impl From<StoredProcess> for LedgerProcess {
    fn from(row: StoredProcess) -> Self {
        let moment = |stored: i64| Timestamp::from_millis(u64::try_from(stored).unwrap_or_default());
        Self {
            process: row.process,
            region: row.region,
            began: moment(row.began),
            flushed: moment(row.flushed),
            ended: row.ended.map(moment),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(provider: &str, class: &str, tally: Vec<u8>) -> StoredTally {
        let tenant_id = Uuid::from_u128(7);
        StoredTally { tenant_id, hour: 49, span: 1, provider: provider.into(), class: class.into(), tally }
    }

    #[test]
    fn what_a_later_version_wrote_is_kept_as_it_is() {
        let known = Tally { ok: 2, ..Tally::default() }.encode();
        let later = [row("hms", "message", known.clone()), row("apns", "call", vec![255; 9])];
        let rows = later.into_iter().chain([row("", "", known.clone()), row("", "", known)]).collect();

        let days = put_together(rows, 24);

        let told = |row: &StoredTally| (row.hour, row.span, row.provider.clone(), row.tally.clone());
        assert_eq!(told(&days[0]).2, "hms");
        assert_eq!(told(&days[1]), (48, 24, "apns".into(), vec![255; 9]));
        assert_eq!(days.len(), 3);
        assert_eq!(days[2].read().unwrap().tally.ok, 4);
        assert_eq!(summed(days).len(), 1);
    }
}
