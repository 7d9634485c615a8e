//! Service-level ledger: what became of pushes, by hour, tenant, provider and class.

use async_trait::async_trait;
use push_domain::{Provider, Tally, TenantId, Timestamp, TrafficClass};
use uuid::Uuid;

use crate::error::RegistryError;
use crate::row::row;

/// Hours are kept so long, days so long after them.
pub const HOURS_KEPT_DAYS: u64 = 45;
/// Days are kept for thirteen months.
pub const DAYS_KEPT: u64 = 400;

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
        tenant_id: Uuid,
        hour: i64,
        span: i16,
        provider: String,
        class: String,
        tally: Vec<u8>,
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
    /// What tells rows of one tenant and hour apart.
    pub(crate) fn kind(&self) -> (&str, &str) {
        (&self.provider, &self.class)
    }
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
        let Some(tally) = Tally::decode(&row.tally) else {
            metrics::counter!("service_level_unreadable_rows_total").increment(1);
            continue;
        };
        let key = ServiceLevelKey {
            tenant: TenantId::from_uuid(row.tenant_id),
            hour: u64::try_from(row.hour).unwrap_or_default(),
            provider: Provider::ALL.into_iter().find(|it| it.label() == row.provider),
            class: TrafficClass::ALL.into_iter().find(|it| it.label() == row.class),
        };
        let span = u64::try_from(row.span).unwrap_or(1);
        match rows.last_mut().filter(|last| last.key == key && last.span == span) {
            Some(last) => last.tally.add(&tally),
            None => rows.push(ServiceLevelRow { key, span, tally }),
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
