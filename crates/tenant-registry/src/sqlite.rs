//! The registry on SQLite: one file, for the embedded shape.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use push_domain::{DeviceId, LicenceId, TenantId, Timestamp};
use serde_json::json;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, SqlitePool, Transaction};
use tokio::sync::Notify;

use crate::rows::{
    AdminTokenRow, AuditRow, DeviceCountRow, DeviceRow, KeyRow, KeySummaryRow, LicenceRow, NewDevicesRow,
    TenantRow, stored_number, stored_time,
};
use crate::sql::{
    Change, Deed, bind_terms, conclude_sql, described, device_sql, found, insert_sql, licence_sql,
    name_taken, new_salt, operator_sql, pattern, read_sql, readable, seed_sql, stored_revision, tenant_sql,
    unchanged,
};
use crate::{
    Acceptance, Act, AdminSession, AdminToken, AdminTokenDraft, AdminTokenRecord, AuditCheck, AuditEvent,
    AuditHead, AuditReport, Changes, DeliveryLedger, DeviceCount, DeviceSummary, IssuedAdminToken, IssuedKey,
    KeyRecord, KeySummary, Keys, Licence, LicenceDraft, LicenceKey, NewDevices, RegistryError, Sighting,
    Snapshot, Tenant, TenantDraft, TenantQuery,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// The version of the schema since which what is deleted is overwritten.
const SECURE_SINCE: i64 = 5;
/// Somebody else may read the file just then.
const SCRUB_TRIES: u32 = 5;
const SCRUB_AGAIN: Duration = Duration::from_millis(50);

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
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new().max_connections(2).acquire_timeout(Duration::from_secs(5));
        let pool = pool.connect_with(options).await?;
        let before = crate::sql::schema_version(&pool).await;
        if before.is_some_and(|version| version < SECURE_SINCE) {
            // Of what was deleted before, something may stand in free pages. Before the schema is of this version: who is
            // stopped here does it again.
            sqlx::query("VACUUM").execute(&pool).await?;
        }
        MIGRATIONS.run(&pool).await?;
        let registry = Self { pool, keys, changes: Arc::default() };
        registry.check_keys().await?;
        registry.seal_audit().await?;
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

    /// Leaves nothing of what was deleted in the log of the file.
    async fn scrub(&self) {
        for _ in 0..SCRUB_TRIES {
            let busy =
                sqlx::query_as::<_, (i64, i64, i64)>("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&self.pool);
            if matches!(busy.await, Ok((0, ..))) {
                return;
            }
            tokio::time::sleep(SCRUB_AGAIN).await;
        }
        metrics::counter!("registry_wal_not_truncated_total").increment(1);
        tracing::warn!(
            "what was erased may still stand in the registry's log file; it is tried again at the next erasure"
        );
    }

    /// Closes the file; what was written is on disk when this returns.
    pub async fn close(&self) {
        self.scrub().await;
        self.pool.close().await;
    }

    /// Starts what changes no licence, and whatever else is to be done is done after it.
    async fn deed(&self) -> Result<Transaction<'static, Sqlite>, RegistryError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE audit_head SET seq = seq").execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// Starts a change of tenants, licences or keys: the revision grows with it.
    async fn change(&self) -> Result<Change<Sqlite>, RegistryError> {
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

    fn tell(&self) {
        self.changes.notify_one();
    }
}

read_sql!(SqliteRegistry, "BEGIN");
tenant_sql!(SqliteRegistry, Sqlite);
insert_sql!(SqliteRegistry, Sqlite);
seed_sql!(SqliteRegistry);
licence_sql!(SqliteRegistry, Sqlite);
device_sql!(SqliteRegistry);
operator_sql!(SqliteRegistry, "BEGIN");
conclude_sql!(SqliteRegistry, Sqlite);

#[async_trait]
impl DeliveryLedger for SqliteRegistry {
    async fn record(&self, sightings: &[Sighting]) -> Result<(), RegistryError> {
        let rows: Vec<_> = sightings
            .iter()
            .map(|seen| {
                let device = data_encoding::HEXLOWER.encode(seen.device.as_bytes());
                let tenant = seen.tenant.uuid().simple().to_string();
                json!([tenant, device, seen.app, seen.platform, seen.day, seen.state.as_str(), seen.reason])
            })
            .collect();
        sqlx::query(RECORD_DEVICES).bind(json!(rows).to_string()).execute(&self.pool).await?;
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
mod tests {
    use super::*;

    async fn fresh(directory: &Path) -> SqliteRegistry {
        let keys = Keys::derive(&push_domain::SecretBytes::new(vec![1; 32]));
        SqliteRegistry::open(&directory.join("registry.db"), keys).await.unwrap()
    }

    impl crate::conformance::Registry for SqliteRegistry {
        fn admin(&self) -> &dyn crate::Administration {
            self
        }

        fn ledger(&self) -> &dyn DeliveryLedger {
            self
        }
    }

    crate::conformance::registry_conformance!(fresh);

    #[tokio::test]
    async fn another_key_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fresh(directory.path()).await.close().await;

        let other = Keys::derive(&push_domain::SecretBytes::new(vec![2; 32]));
        let opened = SqliteRegistry::open(&directory.path().join("registry.db"), other).await;

        assert!(matches!(opened, Err(RegistryError::WrongKey)));
    }

    #[tokio::test]
    async fn no_other_table_or_column_exists() {
        let directory = tempfile::tempdir().unwrap();
        let registry = fresh(directory.path()).await;

        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c
             WHERE m.type = 'table' AND m.name <> '_sqlx_migrations' ORDER BY m.name, c.cid",
        )
        .fetch_all(&registry.pool)
        .await
        .unwrap();

        assert_eq!(crate::conformance::schema(columns), crate::conformance::ALLOWED_SCHEMA);
    }

    /// Whether bytes stand anywhere in the file or in its log.
    fn stands(directory: &Path, bytes: &[u8]) -> bool {
        let files = ["registry.db", "registry.db-wal"].map(|name| std::fs::read(directory.join(name)));
        files.into_iter().flatten().any(|file| file.windows(bytes.len()).any(|part| part == bytes))
    }

    #[tokio::test]
    async fn an_erased_device_is_in_no_byte_of_the_files() {
        use crate::{DeviceAdmin, DeviceState, TenantAdmin};
        let directory = tempfile::tempdir().unwrap();
        let registry = fresh(directory.path()).await;
        // Role `all` has the file open twice.
        let other = fresh(directory.path()).await;
        let act = crate::conformance::ACT;
        let tenant = registry.create_tenant(&TenantDraft::named("acme"), act).await.unwrap().id;
        let device = |number: u8| {
            DeviceId::from_bytes(std::array::from_fn(|at| number ^ u8::try_from(at * 7).unwrap()))
        };
        let seen: Vec<_> = (0..41)
            .map(|number| Sighting {
                tenant,
                device: device(number),
                app: "ios".into(),
                platform: "apple_rn".into(),
                day: 1,
                state: DeviceState::Active,
                reason: None,
            })
            .collect();
        other.record(&seen).await.unwrap();
        assert!(stands(directory.path(), device(7).as_bytes()));

        registry.erase_devices(tenant, &[device(7)], act).await.unwrap();
        assert!(!stands(directory.path(), device(7).as_bytes()));
        assert!(stands(directory.path(), device(8).as_bytes()));
        registry.erase_all_devices(tenant, act).await.unwrap();
        assert!((0..41).all(|number| !stands(directory.path(), device(number).as_bytes())));
    }

    #[tokio::test]
    async fn a_pepper_is_followed_by_a_newer_one_and_dropped_without_a_new_registry() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registry.db");
        let secret = |byte: u8| push_domain::SecretBytes::new(vec![byte; 32]);
        let both = crate::KeySet::of_master(&secret(1), &[secret(2)]);
        let newer = both.lines(crate::KeyPurpose::Control);
        let newer = newer.split_once('\n').unwrap().1;
        let newer = crate::KeySet::parse(newer).unwrap();

        for (set, opens) in [
            (&crate::KeySet::of_master(&secret(1), &[]), true),
            (&newer, false),
            (&both, true),
            (&newer, true),
        ] {
            let opened = SqliteRegistry::open(&path, Keys::of(set)).await;
            assert_eq!(opened.is_ok(), opens, "{set:?}");
            if set.newest(crate::KeyPurpose::Control) == 2
                && let Ok(registry) = opened
            {
                registry.finish().await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_log_that_was_tampered_with_stays_so_whatever_is_written_after_it() {
        use crate::{AuditFault, OperatorAdmin, TenantAdmin};
        let act = crate::conformance::ACT;
        for (tamper, found) in [
            // Cut back, and the head put there.
            (
                "DELETE FROM audit_event WHERE seq > 2;
              UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_event WHERE seq = 2)",
                3,
            ),
            // All of it.
            ("DELETE FROM audit_event; UPDATE audit_head SET seq = 0, hash = x'aa', mac = x''", 1),
            // The last one changed, with a hash that anybody can make.
            ("UPDATE audit_event SET hash = x'bb' WHERE seq = 4; UPDATE audit_head SET hash = x'bb'", 5),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let registry = fresh(directory.path()).await;
            for name in ["a", "b", "c", "d"] {
                registry.create_tenant(&TenantDraft::named(name), act).await.unwrap();
            }
            sqlx::raw_sql(tamper).execute(&registry.pool).await.unwrap();
            registry.create_tenant(&TenantDraft::named("e"), act).await.unwrap();

            let report = registry.verify_audit(None).await.unwrap();
            let marked = registry.audit(None, u64::MAX, 10).await.unwrap();
            let marked =
                marked.iter().find(|event| event.action == crate::audit::BROKEN).map(|event| event.seq);
            assert_eq!(marked, Some(found), "{tamper}");
            assert!(
                matches!(
                    report.fault,
                    Some(AuditFault::Found(_) | AuditFault::Broken(_) | AuditFault::Changed(_))
                ),
                "{report:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_log_of_before_is_sealed_when_it_is_opened() {
        use crate::{OperatorAdmin, TenantAdmin};
        let directory = tempfile::tempdir().unwrap();
        let registry = fresh(directory.path()).await;
        let act = crate::conformance::ACT;
        registry.create_tenant(&TenantDraft::named("a"), act).await.unwrap();
        // As the version before wrote it.
        let mut event = registry.audit(None, u64::MAX, 1).await.unwrap().remove(0);
        event.hash_key = 0;
        let hash = event.computed_hash(&registry.keys).unwrap();
        for statement in
            ["UPDATE audit_event SET hash_key = 0, hash = $1", "UPDATE audit_head SET hash = $1, mac = x''"]
        {
            sqlx::query(statement).bind(&hash[..]).execute(&registry.pool).await.unwrap();
        }
        registry.close().await;

        let registry = fresh(directory.path()).await;

        let report = registry.verify_audit(None).await.unwrap();
        assert_eq!((report.fault, report.keyed_from.map(|(seq, _)| seq)), (None, Some(2)));
    }
}
