//! API schemas of service levels.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Moment;

/// Which month.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct MonthQuery {
    /// Such as `2026-11`, in UTC; this one, if it is not said.
    pub(crate) month: Option<String>,
}

/// A calendar month against what was promised. All shares are in millionths, rounded down.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ServiceLevelReport {
    /// A tenant's id, or `all`.
    pub(crate) subject: String,
    /// Its name.
    pub(crate) name: String,
    /// The region.
    pub(crate) region: String,
    /// The month, in UTC.
    pub(crate) month: String,
    /// Its first moment.
    pub(crate) from: Moment,
    /// The first moment after it.
    pub(crate) until: Moment,
    /// As it stood then.
    pub(crate) made_at: Moment,
    /// Whether every promise is kept; missing where nothing is promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_kept: Option<bool>,
    /// What may still fail by our fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<BudgetView>,
    /// Pushes that did not fail by our fault, of all but those that were refused for the tenant's own.
    pub(crate) availability: ShareView,
    /// Calls that were handed over in time, of those that were delivered.
    pub(crate) calls_in_time: ShareView,
    /// The same of everything else.
    pub(crate) messages_in_time: ShareView,
    /// What failed or was refused, by who answers for it.
    pub(crate) bad: ByOwner,
    /// All classes together, and what was refused before its class was known.
    pub(crate) total: TallyView,
    /// Each class.
    pub(crate) classes: Vec<ClassView>,
    /// When processes were lost that had counted: what they counted in these seconds is missing.
    pub(crate) gaps: Vec<GapView>,
}

/// A report, and what its hours are told by.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HashedReport {
    /// The report.
    #[serde(flatten)]
    pub(crate) report: ServiceLevelReport,
    /// SHA-256 of the hours as CSV, in hexadecimal.
    pub(crate) hours_sha256: String,
}

/// A report to keep: texts as they are, byte by byte.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SignedReport {
    /// The report in JSON, as it was signed.
    pub(crate) report: String,
    /// The hours that it was computed from, as CSV.
    pub(crate) hours: String,
    /// A signature over `report` (OpenSSH, namespace `sla-report@hpns`).
    pub(crate) signature: String,
}

/// A share, and whether it is as large as promised.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ShareView {
    /// How many were good.
    pub(crate) good: u64,
    /// Of how many.
    pub(crate) of: u64,
    /// The share; missing where there was nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ppm: Option<u64>,
    /// What is promised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) objective_ppm: Option<u32>,
    /// Whether that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) is_kept: Option<bool>,
}

/// The error budget of the availability.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct BudgetView {
    /// The whole of it, as seconds of the month.
    pub(crate) seconds: u64,
    /// What is left.
    pub(crate) left_seconds: u64,
    /// What is spent; over 1,000,000 the promise is broken.
    pub(crate) spent_ppm: u64,
}

/// Counts by who answers for them.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ByOwner {
    /// This service.
    pub(crate) ours: u64,
    /// Apple or Google.
    pub(crate) provider: u64,
    /// The caller.
    pub(crate) tenant: u64,
    /// The phone.
    pub(crate) device: u64,
}

/// Pushes of a class.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ClassView {
    /// `call`, `message` or `background`.
    pub(crate) class: String,
    /// What became of them.
    pub(crate) tally: TallyView,
}

/// What became of pushes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TallyView {
    /// Accepted.
    pub(crate) accepted: u64,
    /// Taken by Apple or Google.
    pub(crate) ok: u64,
    /// Answered `REMOVE`.
    pub(crate) removed: u64,
    /// Failed after they were accepted.
    pub(crate) failed: ByOwner,
    /// Refused.
    pub(crate) refused: ByOwner,
    /// Of those that were taken, in time.
    pub(crate) in_time: u64,
    /// Receipts of phones.
    pub(crate) receipts: u64,
    /// From acceptance to the provider's answer, in microseconds, within 3.2 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<LatencyView>,
}

/// Latencies that so many were within.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LatencyView {
    /// Half of them.
    pub(crate) p50: u64,
    /// Nine in ten.
    pub(crate) p90: u64,
    /// 99 in a hundred.
    pub(crate) p99: u64,
    /// 999 in a thousand.
    pub(crate) p999: u64,
}

/// A time of which one process's counts are missing.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct GapView {
    /// The beginning of the process's name.
    pub(crate) process: String,
    /// From when.
    pub(crate) from: Moment,
    /// Until when, at most.
    pub(crate) until: Moment,
}

/// A tenant's last hours.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TenantLevelView {
    /// Its id.
    pub(crate) tenant: String,
    /// Its name.
    pub(crate) name: String,
    /// What became of its pushes.
    pub(crate) tally: TallyView,
}
