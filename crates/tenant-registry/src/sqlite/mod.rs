//! The registry on SQLite: one file, for the embedded shape.

mod rows;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::rand;
use push_domain::{DeviceId, LicenceId, TenantId, Timestamp};
use serde_json::json;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Sqlite, SqlitePool, Transaction};

use self::rows::{DeviceRow, KeyRow, LicenceRow, TenantRow, stored_time};
use crate::{
    DeliveryLedger, DeviceSummary, IssuedKey, KeyRecord, Keys, Licence, LicenceDraft, LicenceKey,
    RegistryError, Sighting, Snapshot, Tenant, TenantAdmin, TenantReader,
};

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

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
            .busy_timeout(Duration::from_secs(5))
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options)
            .await?;
        MIGRATIONS.run(&pool).await?;
        let registry = Self { pool, keys };
        registry.check_keys().await?;
        Ok(registry)
    }

    /// Refuses another key file than that of the first start: every licence key would be unknown.
    async fn check_keys(&self) -> Result<(), RegistryError> {
        let ours = self.keys.check_value();
        sqlx::query("UPDATE revision SET key_check = $1 WHERE key_check IS NULL")
            .bind(&ours[..])
            .execute(&self.pool)
            .await?;
        let stored: Vec<u8> =
            sqlx::query_scalar("SELECT key_check FROM revision").fetch_one(&self.pool).await?;
        if stored == ours { Ok(()) } else { Err(RegistryError::WrongKey) }
    }

    /// Closes the file; what was written is on disk when this returns.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Starts a change of tenants, licences or keys: the revision grows with it.
    async fn change(&self) -> Result<Transaction<'static, Sqlite>, RegistryError> {
        let mut change = self.pool.begin().await?;
        sqlx::query("UPDATE revision SET number = number + 1").execute(&mut *change).await?;
        Ok(change)
    }
}

#[async_trait]
impl TenantReader for SqliteRegistry {
    async fn revision(&self) -> Result<u64, RegistryError> {
        let number: i64 = sqlx::query_scalar("SELECT number FROM revision").fetch_one(&self.pool).await?;
        u64::try_from(number).map_err(|_| RegistryError::Unreadable("revision"))
    }

    async fn snapshot(&self) -> Result<Snapshot, RegistryError> {
        let mut moment = self.pool.begin().await?;
        let number: i64 = sqlx::query_scalar("SELECT number FROM revision").fetch_one(&mut *moment).await?;
        let tenants: Vec<TenantRow> =
            sqlx::query_as("SELECT id, name, device_salt FROM tenant").fetch_all(&mut *moment).await?;
        let licences: Vec<LicenceRow> = sqlx::query_as(
            "SELECT id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at, suspended FROM licence",
        )
        .fetch_all(&mut *moment)
        .await?;
        let keys: Vec<KeyRow> =
            sqlx::query_as("SELECT kid, licence_id, mac FROM licence_key WHERE revoked_at IS NULL")
                .fetch_all(&mut *moment)
                .await?;
        let revision = u64::try_from(number).map_err(|_| RegistryError::Unreadable("revision"))?;
        let tenants: Vec<Tenant> = tenants.into_iter().map(Tenant::try_from).collect::<Result<_, _>>()?;
        let licences = licences.into_iter().map(Licence::try_from).collect::<Result<_, _>>()?;
        let records = keys.into_iter().map(KeyRecord::try_from).collect::<Result<_, _>>()?;
        Ok(Snapshot::new(revision, &self.keys, &tenants, licences, records))
    }
}

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
}

#[async_trait]
impl TenantAdmin for SqliteRegistry {
    async fn create_tenant(&self, name: &str, now: Timestamp) -> Result<Tenant, RegistryError> {
        let mut device_salt = [0; 32];
        rand::fill(&mut device_salt).map_err(|_| RegistryError::Missing("random source"))?;
        let tenant = Tenant { id: TenantId::new(), name: name.to_owned(), device_salt };
        let mut change = self.change().await?;
        sqlx::query("INSERT INTO tenant (id, name, device_salt, created_at) VALUES ($1, $2, $3, $4)")
            .bind(tenant.id.uuid())
            .bind(name)
            .bind(&device_salt[..])
            .bind(stored_time(now))
            .execute(&mut *change)
            .await
            .map_err(|error| match error.as_database_error() {
                Some(cause) if cause.is_unique_violation() => RegistryError::NameTaken,
                _ => error.into(),
            })?;
        change.commit().await?;
        Ok(tenant)
    }

    async fn tenant_named(&self, name: &str) -> Result<Option<Tenant>, RegistryError> {
        let row: Option<TenantRow> =
            sqlx::query_as("SELECT id, name, device_salt FROM tenant WHERE name = $1")
                .bind(name)
                .fetch_optional(&self.pool)
                .await?;
        row.map(Tenant::try_from).transpose()
    }

    async fn create_licence(&self, terms: LicenceDraft) -> Result<Licence, RegistryError> {
        let licence = Licence { id: LicenceId::new(), terms, suspended: false };
        let terms = &licence.terms;
        let mut change = self.change().await?;
        sqlx::query(
            "INSERT INTO licence (id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at)
             SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM tenant WHERE id = $2",
        )
        .bind(licence.id.uuid())
        .bind(terms.tenant.uuid())
        .bind(terms.plan.as_str())
        .bind(terms.regions.join(","))
        .bind(terms.rate_per_second)
        .bind(terms.burst)
        .bind(stored_time(terms.not_before))
        .bind(terms.expires_at.map(stored_time))
        .execute(&mut *change)
        .await
        .map_err(RegistryError::from)
        .and_then(|done| found(done.rows_affected(), "tenant"))?;
        change.commit().await?;
        Ok(licence)
    }

    async fn suspend_licence(&self, licence: LicenceId, suspended: bool) -> Result<(), RegistryError> {
        let mut change = self.change().await?;
        let done = sqlx::query("UPDATE licence SET suspended = $2 WHERE id = $1")
            .bind(licence.uuid())
            .bind(suspended)
            .execute(&mut *change)
            .await?;
        found(done.rows_affected(), "licence")?;
        change.commit().await?;
        Ok(())
    }

    async fn issue_key(
        &self,
        licence: LicenceId,
        region: &str,
        now: Timestamp,
    ) -> Result<IssuedKey, RegistryError> {
        let key = LicenceKey::generate(region);
        let record = KeyRecord { kid: key.kid().to_owned(), licence, mac: self.keys.mac(key.expose()) };
        let mut change = self.change().await?;
        let done = sqlx::query(
            "INSERT INTO licence_key (kid, licence_id, mac, created_at) SELECT $1, id, $3, $4 FROM licence WHERE id = $2",
        )
        .bind(&record.kid)
        .bind(licence.uuid())
        .bind(&record.mac[..])
        .bind(stored_time(now))
        .execute(&mut *change)
        .await?;
        found(done.rows_affected(), "licence")?;
        change.commit().await?;
        Ok(IssuedKey { key, record })
    }

    async fn revoke_key(&self, kid: &str, now: Timestamp) -> Result<(), RegistryError> {
        let mut change = self.change().await?;
        let done =
            sqlx::query("UPDATE licence_key SET revoked_at = $2 WHERE kid = $1 AND revoked_at IS NULL")
                .bind(kid)
                .bind(stored_time(now))
                .execute(&mut *change)
                .await?;
        found(done.rows_affected(), "licence key")?;
        change.commit().await?;
        Ok(())
    }

    async fn device(
        &self,
        tenant: TenantId,
        device: DeviceId,
    ) -> Result<Option<DeviceSummary>, RegistryError> {
        let row: Option<DeviceRow> = sqlx::query_as(
            "SELECT first_seen, last_seen, state, reason FROM device WHERE tenant_id = $1 AND id = $2",
        )
        .bind(tenant.uuid())
        .bind(&device.as_bytes()[..])
        .fetch_optional(&self.pool)
        .await?;
        row.map(DeviceSummary::try_from).transpose()
    }
}

fn found(rows: u64, what: &'static str) -> Result<(), RegistryError> {
    if rows == 0 { Err(RegistryError::Missing(what)) } else { Ok(()) }
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

        let mut schema: Vec<String> = Vec::new();
        for (table, column) in columns {
            match schema.last_mut() {
                Some(line) if line.starts_with(&format!("{table}:")) => line.extend([" ", &column]),
                _ => schema.push(format!("{table}: {column}")),
            }
        }
        let allowed = [
            "device: tenant_id id app platform first_seen last_seen state reason",
            "licence: id tenant_id plan regions rate_per_second burst not_before expires_at suspended",
            "licence_key: kid licence_id mac created_at revoked_at",
            "revision: only_row number key_check",
            "tenant: id name device_salt created_at",
        ];
        assert_eq!(schema, allowed);
    }
}
