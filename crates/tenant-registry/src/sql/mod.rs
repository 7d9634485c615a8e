//! SQL shared by both databases: everything but the ledger's batches and change notifications.
//!
//! One macro for each trait writes its statements for a type with `pool`, `keys`, `change`, `begin_audited` and
//! `wait_for_change`; the conformance suite runs every one of them on both databases.

mod commit;
mod devices;
mod insert;
mod licences;
mod operators;
pub(crate) mod proofs;
mod read;
mod renew;
mod rights;
mod seal;
mod seed;
pub(crate) mod service_level;
mod tenants;

use aws_lc_rs::rand;
use push_domain::{TenantId, Timestamp};
use serde_json::{Value, json};
use sqlx::Transaction;
use tracing::error;

use crate::{LicenceDraft, RegistryError};

pub(super) use commit::commit_sql;
pub(super) use devices::device_sql;
pub(super) use insert::insert_sql;
pub(super) use licences::licence_sql;
pub(super) use operators::operator_sql;
pub(super) use read::read_sql;
pub(super) use renew::renew_sql;
pub(super) use rights::rights_sql;
pub(super) use seal::seal_sql;
pub(super) use seed::seed_sql;
pub(super) use service_level::service_level_sql;
pub(super) use tenants::tenant_sql;

/// The version of a file's schema before it is brought up to date; none where it is new.
pub(super) async fn schema_version(pool: &sqlx::SqlitePool) -> Result<Option<i64>, RegistryError> {
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'")
            .fetch_one(pool)
            .await?;
    if tables == 0 {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(pool).await?)
}

/// A change of tenants, licences or keys that is under way, and its number.
pub(super) struct Change<Database: sqlx::Database> {
    pub(super) transaction: Transaction<'static, Database>,
    pub(super) revision: i64,
}

/// So many rows are looked up in their own buckets; of more, all buckets are read.
pub(super) const MAX_SINGLE_BUCKET_READS: usize = 100;

/// So many audit events go at once.
pub(super) const AUDIT_CUT_BATCH_EVENTS: i64 = 10_000;
/// The version whose finished migration lets codes be over digests.
pub(super) const DIGESTS_SINCE: i64 = 6;
/// So many licence keys are coded anew in one change.
pub(super) const RENEW_BATCH_KEYS: usize = 50;

/// Binds a licence's terms to a statement, in the order of the table's columns.
macro_rules! bind_terms {
    ($statement:expr, $terms:expr) => {
        $statement
            .bind($terms.plan.as_str())
            .bind($terms.regions.join(","))
            .bind(i64::from($terms.rate_per_second))
            .bind(i64::from($terms.burst))
            .bind(i64::from($terms.in_flight))
            .bind(i64::from($terms.devices))
            .bind($terms.privacy.as_str())
            .bind(stored_time($terms.not_before))
            .bind($terms.expires_at.map(stored_time))
            .bind(i64::from($terms.grace_days))
    };
}
pub(super) use bind_terms;

/// Audit entry: what was done, for the audit log.
pub(super) struct AuditEntry<'a> {
    pub(super) action: &'a str,
    pub(super) object: String,
    pub(super) tenant: Option<TenantId>,
    pub(super) detail: Value,
}

pub(super) fn require_found(rows: u64, what: &'static str) -> Result<(), RegistryError> {
    if rows == 0 { Err(RegistryError::NotFound(what)) } else { Ok(()) }
}

/// Whether a statement that should have met one row did: if not, the row has changed, or is not there.
pub(super) const fn require_revision(
    rows: u64,
    revision: Option<u64>,
    what: &'static str,
) -> Result<(), RegistryError> {
    match (rows, revision) {
        (0, Some(_)) => Err(RegistryError::RevisionConflict),
        (0, None) => Err(RegistryError::NotFound(what)),
        _ => Ok(()),
    }
}

/// A name that another tenant has.
pub(super) fn name_taken(error: sqlx::Error) -> RegistryError {
    match error.as_database_error() {
        Some(cause) if cause.is_unique_violation() => RegistryError::NameTaken,
        _ => error.into(),
    }
}

/// Draws what makes a tenant's devices unlinkable to those of others.
pub(super) fn new_salt() -> [u8; 32] {
    let mut salt = [0; 32];
    rand::fill(&mut salt).expect("the operating system's random source does not fail once it is up");
    salt
}

/// What the audit log says of a licence's terms.
pub(super) fn terms_json(terms: &LicenceDraft) -> Value {
    json!({
        "plan": terms.plan.as_str(),
        "regions": terms.regions,
        "rate_per_second": terms.rate_per_second,
        "burst": terms.burst,
        "in_flight": terms.in_flight,
        "devices": terms.devices,
        "privacy": terms.privacy.as_str(),
        "not_before": terms.not_before.millis(),
        "expires_at": terms.expires_at.map(Timestamp::millis),
        "grace_days": terms.grace_days,
    })
}

/// What stands for a revision that does not matter.
pub(super) fn stored_revision(revision: Option<u64>) -> i64 {
    revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX))
}

/// A text to look for inside of others.
pub(super) fn like_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// Reads rows. One that this version cannot read, such as a plan of a later one, opens nothing; the others do.
pub(super) fn decode_rows<Row, T: TryFrom<Row, Error = RegistryError>>(rows: Vec<Row>) -> Vec<T> {
    let read = |row| {
        let read = T::try_from(row);
        read.inspect_err(|error| {
            metrics::counter!("registry_unreadable_rows_total").increment(1);
            error!(%error, "a row of the registry cannot be read; what it grants is not granted");
        })
    };
    rows.into_iter().filter_map(|row| read(row).ok()).collect()
}
