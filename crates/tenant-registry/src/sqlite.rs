//! The registry on SQLite: one file, for the embedded shape. A second one beside it holds what makes devices unlinkable, and
//! is left out of backups.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use push_domain::{DeviceId, LicenceId, TenantId, Timestamp};
use serde_json::json;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, SqlitePool, Transaction};
use tokio::sync::Notify;

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

pub(crate) static MIGRATIONS: LazyLock<Migrator> = migrations! {
    "sqlite":
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

/// The version of the schema since which what is deleted is overwritten.
const SECURE_SINCE: i64 = 5;
/// That since which what grants anything is signed.
const SIGNED_SINCE: i64 = 6;
/// Somebody else may read the file just then.
const MAX_CHECKPOINT_ATTEMPTS: u32 = 5;
const CHECKPOINT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// Most devices that one statement records.
const RECORD_BATCH_ROWS: usize = 500;

const ATTACH_SALTS: &str = "
PRAGMA apart.secure_delete = ON;
PRAGMA apart.cache_size = -64;
PRAGMA apart.journal_mode = WAL;
CREATE TABLE IF NOT EXISTS apart.device_salt (tenant_id BLOB PRIMARY KEY, salt BLOB NOT NULL) STRICT;";

const MOVE_SALTS: &str = "
INSERT OR IGNORE INTO apart.device_salt (tenant_id, salt) SELECT id, device_salt FROM tenant;
PRAGMA apart.wal_checkpoint(TRUNCATE);";

const RECORD_DEVICES: &str = "
INSERT INTO device (tenant_id, id, app, platform, first_seen, last_seen, state, reason)
SELECT unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3, value ->> 4, value ->> 4, value ->> 5, value ->> 6
FROM json_each($1) WHERE true
ON CONFLICT (tenant_id, id) DO UPDATE
SET last_seen = excluded.last_seen, state = excluded.state, reason = excluded.reason
WHERE excluded.last_seen >= device.last_seen";

/// Tenants, licences and devices in one SQLite file.
#[derive(Clone)]
pub struct SqliteRegistry {
    pool: SqlitePool,
    keys: Keys,
    /// Tells whoever reads licences through this process.
    changes: Arc<Notify>,
}

impl SqliteRegistry {
    /// Opens the file, makes it when it is missing, and brings its schema up to date.
    pub async fn open(path: &Path, keys: Keys) -> Result<Self, RegistryError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            // What is deleted is overwritten.
            .pragma("secure_delete", "ON")
            // Half a mebibyte a connection: what is read often is in memory anyway.
            .pragma("cache_size", "-512")
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(5));
        let apart = path.with_extension("salts.db").to_string_lossy().into_owned();
        let pool = pool.after_connect(move |connection, _| {
            let apart = apart.clone();
            Box::pin(async move {
                sqlx::query("ATTACH DATABASE $1 AS apart").bind(apart).execute(&mut *connection).await?;
                sqlx::raw_sql(ATTACH_SALTS).execute(connection).await.map(drop)
            })
        });
        let pool = pool.connect_with(options).await?;
        let before = crate::sql::schema_version(&pool).await?;
        if before.is_some_and(|version| version < SECURE_SINCE) {
            // Of what was deleted before, something may stand in free pages. Before the schema is of this version: who is
            // stopped here does it again.
            sqlx::query("VACUUM").execute(&pool).await?;
        }
        if before.is_some_and(|version| version < SIGNED_SINCE) {
            // Safe on disk before the migration drops them where they were.
            sqlx::raw_sql(MOVE_SALTS).execute(&pool).await?;
        }
        MIGRATIONS.run(&pool).await?;
        let registry = Self { pool, keys, changes: Arc::default() };
        registry.check_keys().await?;
        registry.seal_audit().await?;
        let audit = AuditContext::new("hpns", push_domain::Clock::now(&push_domain::SystemClock));
        if before.is_none_or(|version| version < SIGNED_SINCE) && registry.keys.can_sign_rights() {
            registry.seal_rights(true, audit).await?;
        }
        registry.make_missing_salts_or_warn(audit).await;
        if before.is_some_and(|version| version < SECURE_SINCE) {
            registry.scrub().await;
        }
        Ok(registry)
    }

    /// Refuses another key file than that of the first start: every licence key would be unknown.
    async fn check_keys(&self) -> Result<(), RegistryError> {
        let ours = self.keys.check_value();
        let stored: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT key_check FROM revision").fetch_one(&self.pool).await?;
        if stored.is_some_and(|stored| !self.keys.knows_check(&stored)) {
            return Err(RegistryError::WrongKey);
        }
        sqlx::query("UPDATE revision SET key_check = $1 WHERE key_check IS NULL")
            .bind(&ours[..])
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Binds the file to the newest pepper: the one before may be dropped, and a process without the newest is refused.
    pub async fn finish(&self) -> Result<(), RegistryError> {
        let ours = self.keys.check_value();
        sqlx::query("UPDATE revision SET key_check = $1").bind(&ours[..]).execute(&self.pool).await?;
        Ok(())
    }

    async fn delete_audit(&self, through: i64) -> Result<u64, RegistryError> {
        let cut = "DELETE FROM audit_event WHERE seq <= $1 AND seq < (SELECT max(seq) FROM audit_event)";
        let done = sqlx::query(cut).bind(through).execute(&self.pool).await?;
        self.scrub().await;
        Ok(done.rows_affected())
    }

    /// Leaves nothing of what was deleted in the log of the file.
    async fn scrub(&self) {
        for _ in 0..MAX_CHECKPOINT_ATTEMPTS {
            let busy =
                sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.pool);
            if matches!(busy.await, Ok((0, ..))) {
                return;
            }
            tokio::time::sleep(CHECKPOINT_RETRY_DELAY).await;
        }
        metrics::counter!("registry_wal_not_truncated_total").increment(1);
        tracing::warn!(
            "what was erased may still stand in the registry's log file; it is tried again at the next erasure"
        );
    }

    /// Closes the file; what was written is on disk when this returns.
    pub async fn close(&self) {
        if self.pool.is_closed() {
            return;
        }
        self.scrub().await;
        self.pool.close().await;
    }

    /// Starts what changes no licence, and whatever else is to be done is done after it.
    async fn begin_audited(&self) -> Result<Transaction<'static, Sqlite>, RegistryError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE audit_head SET seq = seq").execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// Starts a change of tenants, licences or keys: the revision grows with it.
    async fn begin_change(&self) -> Result<Change<Sqlite>, RegistryError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let revision = sqlx::query_scalar("UPDATE revision SET number = number + 1 RETURNING number")
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Change { transaction, revision })
    }

    /// A file tells nobody of what other processes change; those look from time to time.
    async fn wait_for_change(&self) {
        self.changes.notified().await;
    }

    fn notify_readers(&self) {
        self.changes.notify_one();
    }
}

read_sql!(SqliteRegistry, "BEGIN");
tenant_sql!(SqliteRegistry, Sqlite);
service_level_sql!(SqliteRegistry, Sqlite);
insert_sql!(SqliteRegistry, Sqlite);
seed_sql!(SqliteRegistry);
licence_sql!(SqliteRegistry, Sqlite);
device_sql!(SqliteRegistry);
operator_sql!(SqliteRegistry, "BEGIN");
commit_sql!(SqliteRegistry, Sqlite);
rights_sql!(SqliteRegistry, Sqlite, "BEGIN");
seal_sql!(SqliteRegistry, Sqlite, "BEGIN");
renew_sql!(SqliteRegistry, Sqlite);

#[async_trait]
impl DeliveryLedger for SqliteRegistry {
    async fn record(&self, activities: &[DeviceActivity]) -> Result<(), RegistryError> {
        // Some at once: the statement's text, and what the database reads from it, cost memory that stays.
        for some in activities.chunks(RECORD_BATCH_ROWS) {
            let rows: Vec<_> = some
                .iter()
                .map(|seen| {
                    let device = data_encoding::HEXLOWER.encode(seen.device.as_bytes());
                    let tenant = seen.tenant.uuid().simple().to_string();
                    json!([
                        tenant,
                        device,
                        seen.app,
                        seen.platform,
                        seen.day,
                        seen.state.as_str(),
                        seen.reason
                    ])
                })
                .collect();
            sqlx::query(RECORD_DEVICES).bind(json!(rows).to_string()).execute(&self.pool).await?;
        }
        Ok(())
    }

    async fn forget(&self, seen_before: u32, removed_before: u32) -> Result<u64, RegistryError> {
        let done =
            sqlx::query("DELETE FROM device WHERE last_seen < $1 OR (state = 'removed' AND last_seen < $2)")
                .bind(i64::from(seen_before))
                .bind(i64::from(removed_before))
                .execute(&self.pool)
                .await?;
        if done.rows_affected() > 0 {
            self.scrub().await;
        }
        Ok(done.rows_affected())
    }

    async fn prove(&self, app: &str, fingerprint: &str, day: u32) -> Result<(), RegistryError> {
        crate::sql::proofs::prove!(self.pool, app, fingerprint, day)
    }

    async fn proofs(&self) -> Result<Vec<(String, String)>, RegistryError> {
        crate::sql::proofs::proofs!(self.pool)
    }
}

impl fmt::Debug for SqliteRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SqliteRegistry")
    }
}

#[cfg(test)]
mod tests;
