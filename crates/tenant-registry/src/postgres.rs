//! The registry on PostgreSQL: for the hosted shape. Each role of the service logs in with its own rights
//! (see the migrations), and uses the type that offers no more than these.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use push_domain::{DeviceId, LicenceId, TenantId, Timestamp};
use serde_json::json;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Postgres, Transaction};
use tokio::sync::Mutex;

use crate::digest::KeyDigest;
use crate::rights::{
    self, Bucket, GrantKind, GrantRow, Proof, RightsReport, Root, RowHash, RowName, StoredRoot, TreeKind,
};
use crate::row::migrations;
use crate::rows::{
    AdminTokenRow, AuditRow, DeviceCountRow, DeviceRow, ErasureRow, KeyRow, KeySummaryRow, LastEvent,
    LicenceRow, NewDevicesRow, TenantRow, stored_number, stored_time,
};
use crate::sql::{
    AuditEntry, Change, bind_terms, commit_sql, decode_rows, device_sql, insert_sql, licence_sql,
    like_pattern, name_taken, new_salt, operator_sql, read_sql, renew_sql, require_found, require_revision,
    rights_sql, seal_sql, seed_sql, service_level_sql, stored_revision, tenant_sql, terms_json,
};
use crate::{
    Acceptance, AdminSession, AdminToken, AdminTokenDraft, AdminTokenRecord, AuditCheck, AuditContext,
    AuditEvent, AuditHead, AuditReport, Changes, DeliveryLedger, DeviceActivity, DeviceCount, DeviceSummary,
    Erasure, IssuedAdminToken, IssuedKey, KeyRecord, KeySummary, KeyUse, Keys, Licence, LicenceDraft,
    LicenceKey, NewDevices, RegistryError, Snapshot, Suspension, Tenant, TenantDraft, TenantQuery,
};

const LEAST_RIGHTS: &str = include_str!("postgres/least_rights.sql");
pub(crate) static MIGRATIONS: LazyLock<Migrator> = migrations! {
    "postgres":
    "0001_registry",
    "0002_row_revisions",
    "0003_operators",
    "0004_credential_proofs",
    "0005_proof",
    "0006_rights",
    "0007_service_level",
    "0008_service_level_merging",
    "0009_control_and_home",
};
/// The version of the schema since which what grants anything is signed.
const SIGNED_SINCE: i64 = 6;
const CHANNEL: &str = "hpns_licences";
/// A connection that tells of changes is made again after so long.
const LISTEN_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Most devices that one statement forgets: none may hold the others up.
const DELETE_BATCH_ROWS: i64 = 5000;

// Sorted, so that two workers that write the same devices lock the rows in one order: no deadlock.
const RECORD_DEVICES: &str = "
INSERT INTO device (tenant_id, id, app, platform, first_seen, last_seen, state, reason)
SELECT tenant, id, app, platform, day, day, state, reason
FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[])
    AS seen (tenant, id, app, platform, day, state, reason)
ORDER BY tenant, id
ON CONFLICT (tenant_id, id) DO UPDATE
SET last_seen = excluded.last_seen, state = excluded.state, reason = excluded.reason
WHERE excluded.last_seen >= device.last_seen
    AND (device.last_seen, device.state, device.reason)
        IS DISTINCT FROM (excluded.last_seen, excluded.state, excluded.reason)";

const DELETE_INACTIVE_DEVICES: &str = "
DELETE FROM device WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM device WHERE last_seen < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";
const DELETE_REMOVED_DEVICES: &str = "
DELETE FROM device WHERE (tenant_id, id) IN (
    SELECT tenant_id, id FROM device WHERE state = 'removed' AND last_seen < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)";

/// Registry of tenants and licences on PostgreSQL, for gateways and operators.
pub struct PostgresRegistry {
    pool: PgPool,
    keys: Keys,
    listener: Mutex<Option<PgListener>>,
}

/// Device ledger on PostgreSQL, for workers.
#[derive(Clone)]
pub struct PostgresLedger {
    pool: PgPool,
}

impl PostgresRegistry {
    /// Brings the schema up to date, and binds the registry to the key file at the first time. With `finish`, and in a new
    /// database, the roles get the least rights that this version needs: the version before may need more. What it grants is
    /// signed where that was never done, by a process that has the keys for it; says whether it is.
    pub async fn migrate(
        address: &str,
        keys: &Keys,
        finish: bool,
        audit: AuditContext<'_>,
    ) -> Result<bool, RegistryError> {
        let registry = Self { pool: pool(address, None)?, keys: keys.clone(), listener: Mutex::default() };
        let migrated = registry.bring_up_to_date(finish, audit).await;
        registry.close().await;
        migrated
    }

    async fn bring_up_to_date(&self, finish: bool, audit: AuditContext<'_>) -> Result<bool, RegistryError> {
        let before: Option<String> =
            sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations')::text").fetch_one(&self.pool).await?;
        let version: Option<i64> = match before {
            None => None,
            Some(_) => {
                sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&self.pool).await?
            }
        };
        MIGRATIONS.run(&self.pool).await?;
        // Where nothing was ever sold there is no version before; the first run may have been cut short.
        let is_unused: bool =
            sqlx::query_scalar("SELECT NOT EXISTS (SELECT FROM tenant)").fetch_one(&self.pool).await?;
        if finish || is_unused {
            sqlx::raw_sql(LEAST_RIGHTS).execute(&self.pool).await?;
        }
        bind_keys(&self.pool, &self.keys, finish).await?;
        // Later, only an operator says that what stands there is good.
        let is_new: bool = sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM tenant) AND NOT EXISTS (SELECT FROM admin_token)
                 AND NOT EXISTS (SELECT FROM audit_event)",
        )
        .fetch_one(&self.pool)
        .await?;
        let is_due = is_new || version.is_none_or(|version| version < SIGNED_SINCE);
        if is_due && self.keys.can_sign_rights() && !self.is_sealed().await? {
            self.seal_rights(true, audit).await?;
        }
        self.is_sealed().await
    }

    /// Connects; fails when the schema is not that of this version, or the key file another one.
    pub async fn open(address: &str, keys: Keys) -> Result<Self, RegistryError> {
        let pool = connect(address)?;
        check_schema(&pool).await?;
        check_keys(&pool, &keys).await?;
        Ok(Self { pool, keys, listener: Mutex::default() })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.listener.lock().await.take();
        self.pool.close().await;
    }

    /// Starts what changes no licence, and whatever else is to be done is done after it.
    async fn begin_audited(&self) -> Result<Transaction<'static, Postgres>, RegistryError> {
        let mut transaction = self.pool.begin_with("BEGIN").await?;
        sqlx::query("UPDATE audit_head SET seq = seq").execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// Starts a change of tenants, licences or keys. One goes after the other, so that whoever has seen a
    /// revision has seen all before it.
    async fn begin_change(&self) -> Result<Change<Postgres>, RegistryError> {
        let mut transaction = self.pool.begin().await?;
        let revision: i64 = sqlx::query_scalar("UPDATE revision SET number = number + 1 RETURNING number")
            .fetch_one(&mut *transaction)
            .await?;
        // Sent when the transaction commits.
        sqlx::query("SELECT pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(revision.to_string())
            .execute(&mut *transaction)
            .await?;
        Ok(Change { transaction, revision })
    }

    /// Rows that were deleted go with the next VACUUM (docs/OPERATORS.md).
    #[expect(clippy::unused_async, reason = "the other database has something to do here")]
    async fn scrub(&self) {}

    /// The database itself keeps the last 30 days.
    async fn delete_audit(&self, through: i64) -> Result<u64, RegistryError> {
        let cut: i64 =
            sqlx::query_scalar("SELECT hpns_cut_audit($1)").bind(through).fetch_one(&self.pool).await?;
        Ok(u64::try_from(cut).unwrap_or_default())
    }

    /// The transaction itself has told everybody.
    #[expect(clippy::unused_self, reason = "the other database has something to do here")]
    const fn notify_readers(&self) {}

    async fn wait_for_change(&self) {
        let mut kept = self.listener.lock().await;
        if kept.is_none() {
            match self.listen().await {
                // There may have been a change that nobody heard.
                Ok(new) => {
                    *kept = Some(new);
                    return;
                }
                Err(_) => return tokio::time::sleep(LISTEN_RETRY_DELAY).await,
            }
        }
        if let Some(listener) = kept.as_mut()
            && !matches!(listener.try_recv().await, Ok(Some(_)))
        {
            *kept = None;
            drop(kept);
            tokio::time::sleep(LISTEN_RETRY_DELAY).await;
        }
    }

    async fn listen(&self) -> Result<PgListener, sqlx::Error> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(listener)
    }
}

impl PostgresLedger {
    /// Makes a ledger that connects when it is first used.
    pub fn new(address: &str) -> Result<Self, RegistryError> {
        Ok(Self { pool: connect(address)? })
    }

    /// Fails when the schema is not that of this version, or the database cannot be reached.
    pub async fn check(&self) -> Result<(), RegistryError> {
        check_schema(&self.pool).await
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Connects for work: a statement that takes longer than 10 s is given up, also by the server.
fn connect(address: &str) -> Result<PgPool, RegistryError> {
    pool(address, Some("10s"))
}

fn pool(address: &str, patience: Option<&str>) -> Result<PgPool, RegistryError> {
    let mut options =
        PgConnectOptions::from_str(address)?.application_name("hpns").disable_statement_logging();
    if let Some(patience) = patience {
        options = options.options([("statement_timeout", patience)]);
    }
    let pool = PgPoolOptions::new().max_connections(4).acquire_timeout(Duration::from_secs(5));
    Ok(pool.connect_lazy_with(options))
}

/// Binds the registry to its key file at the first time; with `finish` to the newest pepper in it, so that the one before
/// may be dropped: a process without the newest is refused from then on.
async fn bind_keys(pool: &PgPool, keys: &Keys, finish: bool) -> Result<(), RegistryError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT key_check FROM revision").fetch_one(pool).await?;
    if stored.is_some_and(|stored| !keys.knows_check(&stored)) {
        return Err(RegistryError::WrongKey);
    }
    sqlx::query("UPDATE revision SET key_check = $1 WHERE key_check IS NULL OR $2")
        .bind(&keys.check_value()[..])
        .bind(finish)
        .execute(pool)
        .await?;
    Ok(())
}

/// Compares what was run with what this version knows.
async fn check_schema(pool: &PgPool) -> Result<(), RegistryError> {
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    let run: Result<Option<i64>, _> =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(pool).await;
    let run = match run {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P01") => None,
        run => run?,
    };
    match run.unwrap_or_default() {
        run if run < newest => Err(RegistryError::SchemaDiffers("older than")),
        // What a later version adds does not disturb this one: it is made so (docs/OPERATIONS.md).
        _ => Ok(()),
    }
}

async fn check_keys(pool: &PgPool, keys: &Keys) -> Result<(), RegistryError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT key_check FROM revision").fetch_one(pool).await?;
    match stored {
        None => Err(RegistryError::Unbound),
        Some(stored) if keys.knows_check(&stored) => Ok(()),
        Some(_) => Err(RegistryError::WrongKey),
    }
}

read_sql!(PostgresRegistry, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
tenant_sql!(PostgresRegistry, Postgres);
service_level_sql!(PostgresRegistry, Postgres);
insert_sql!(PostgresRegistry, Postgres);
seed_sql!(PostgresRegistry);
licence_sql!(PostgresRegistry, Postgres);
device_sql!(PostgresRegistry);
operator_sql!(PostgresRegistry, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
commit_sql!(PostgresRegistry, Postgres);
rights_sql!(PostgresRegistry, Postgres, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
seal_sql!(PostgresRegistry, Postgres, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
renew_sql!(PostgresRegistry, Postgres);

#[async_trait]
impl DeliveryLedger for PostgresLedger {
    async fn record(&self, activities: &[DeviceActivity]) -> Result<(), RegistryError> {
        // One statement may touch a row only once: the last activity of a device stands for all.
        let mut last: HashMap<(TenantId, DeviceId), &DeviceActivity> = HashMap::new();
        for seen in activities {
            let known = last.entry((seen.tenant, seen.device)).or_insert(seen);
            if seen.day >= known.day {
                *known = seen;
            }
        }
        let rows: Vec<&DeviceActivity> = last.into_values().collect();
        sqlx::query(RECORD_DEVICES)
            .bind(rows.iter().map(|seen| seen.tenant.uuid()).collect::<Vec<_>>())
            .bind(rows.iter().map(|seen| seen.device.as_bytes().to_vec()).collect::<Vec<_>>())
            .bind(rows.iter().map(|seen| seen.app.clone()).collect::<Vec<_>>())
            .bind(rows.iter().map(|seen| seen.platform.clone()).collect::<Vec<_>>())
            .bind(rows.iter().map(|seen| i64::from(seen.day)).collect::<Vec<_>>())
            .bind(rows.iter().map(|seen| seen.state.as_str().to_owned()).collect::<Vec<_>>())
            .bind(rows.iter().map(|seen| seen.reason.clone()).collect::<Vec<_>>())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn forget(&self, seen_before: u32, removed_before: u32) -> Result<u64, RegistryError> {
        let mut forgotten = 0;
        for (statement, before) in
            [(DELETE_INACTIVE_DEVICES, seen_before), (DELETE_REMOVED_DEVICES, removed_before)]
        {
            let done =
                sqlx::query(statement).bind(i64::from(before)).bind(DELETE_BATCH_ROWS).execute(&self.pool);
            forgotten += done.await?.rows_affected();
        }
        Ok(forgotten)
    }

    async fn prove(&self, app: &str, fingerprint: &str, day: u32) -> Result<(), RegistryError> {
        crate::sql::proofs::prove!(self.pool, app, fingerprint, day)
    }

    async fn proofs(&self) -> Result<Vec<(String, String)>, RegistryError> {
        crate::sql::proofs::proofs!(self.pool)
    }
}

impl fmt::Debug for PostgresRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresRegistry")
    }
}

impl fmt::Debug for PostgresLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgresLedger")
    }
}

#[cfg(test)]
mod rights_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;
