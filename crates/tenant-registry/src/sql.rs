//! What both databases understand: everything but the ledger's batches and the way to tell of changes.

use sqlx::Transaction;
use tracing::error;

use crate::RegistryError;

/// A change of tenants, licences or keys that is under way, and its number.
pub(super) struct Change<Database: sqlx::Database> {
    pub(super) transaction: Transaction<'static, Database>,
    pub(super) revision: i64,
}

pub(super) fn found(rows: u64, what: &'static str) -> Result<(), RegistryError> {
    if rows == 0 { Err(RegistryError::Missing(what)) } else { Ok(()) }
}

/// Reads rows. One that this version cannot read, such as a plan of a later one, opens nothing; the others do.
pub(super) fn readable<Row, T: TryFrom<Row, Error = RegistryError>>(rows: Vec<Row>) -> Vec<T> {
    let read = |row| {
        let read = T::try_from(row);
        read.inspect_err(|error| {
            metrics::counter!("registry_unreadable_rows_total").increment(1);
            error!(%error, "a row of the registry cannot be read; what it grants is not granted");
        })
    };
    rows.into_iter().filter_map(|row| read(row).ok()).collect()
}

/// Implements the readers' and the sellers' rights for a type with `pool`, `keys`, `change` and
/// `wait_for_change`. `$moment` begins a transaction that sees one moment.
macro_rules! common_sql {
    ($registry:ty, $moment:literal) => {
        #[async_trait::async_trait]
        impl $crate::TenantReader for $registry {
            async fn revision(&self) -> Result<u64, RegistryError> {
                let number: i64 = sqlx::query_scalar("SELECT number FROM revision").fetch_one(&self.pool).await?;
                u64::try_from(number).map_err(|_| RegistryError::Unreadable("revision"))
            }

            async fn snapshot(&self) -> Result<Snapshot, RegistryError> {
                let changes = self.changes_since(0).await?;
                Ok(Snapshot::empty(&self.keys).with(changes))
            }

            async fn changes_since(&self, revision: u64) -> Result<Changes, RegistryError> {
                let since = i64::try_from(revision).unwrap_or(i64::MAX);
                let mut moment = self.pool.begin_with($moment).await?;
                let number: i64 = sqlx::query_scalar("SELECT number FROM revision").fetch_one(&mut *moment).await?;
                let tenants: Vec<TenantRow> =
                    sqlx::query_as("SELECT id, name, device_salt FROM tenant WHERE revision > $1")
                        .bind(since)
                        .fetch_all(&mut *moment)
                        .await?;
                let licences: Vec<LicenceRow> = sqlx::query_as(
                    "SELECT id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at, suspended
                     FROM licence WHERE revision > $1",
                )
                .bind(since)
                .fetch_all(&mut *moment)
                .await?;
                // What was revoked before the first look was never known.
                let keys: Vec<KeyRow> = sqlx::query_as(
                    "SELECT kid, licence_id, mac, revoked_at FROM licence_key
                     WHERE revision > $1 AND (revoked_at IS NULL OR $1 > 0)",
                )
                .bind(since)
                .fetch_all(&mut *moment)
                .await?;
                let (live, revoked): (Vec<_>, Vec<_>) = keys.into_iter().partition(KeyRow::is_live);
                Ok(Changes {
                    revision: u64::try_from(number).map_err(|_| RegistryError::Unreadable("revision"))?,
                    tenants: readable(tenants),
                    licences: readable(licences),
                    keys: readable(live),
                    revoked: revoked.into_iter().map(|key| key.kid).collect(),
                })
            }

            async fn changed(&self) {
                self.wait_for_change().await;
            }
        }

        #[async_trait::async_trait]
        impl $crate::TenantAdmin for $registry {
            async fn create_tenant(&self, name: &str, now: Timestamp) -> Result<Tenant, RegistryError> {
                let mut device_salt = [0; 32];
                rand::fill(&mut device_salt).map_err(|_| RegistryError::Missing("random source"))?;
                let tenant = Tenant { id: TenantId::new(), name: name.to_owned(), device_salt };
                let mut change = self.change().await?;
                sqlx::query("INSERT INTO tenant (id, name, device_salt, created_at, revision) VALUES ($1, $2, $3, $4, $5)")
                    .bind(tenant.id.uuid())
                    .bind(name)
                    .bind(&device_salt[..])
                    .bind(stored_time(now))
                    .bind(change.revision)
                    .execute(&mut *change.transaction)
                    .await
                    .map_err(|error| match error.as_database_error() {
                        Some(cause) if cause.is_unique_violation() => RegistryError::NameTaken,
                        _ => error.into(),
                    })?;
                change.transaction.commit().await?;
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
                    "INSERT INTO licence
                         (id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at, revision)
                     SELECT $1, id, $3, $4, $5, $6, $7, $8, $9 FROM tenant WHERE id = $2",
                )
                .bind(licence.id.uuid())
                .bind(terms.tenant.uuid())
                .bind(terms.plan.as_str())
                .bind(terms.regions.join(","))
                .bind(i64::from(terms.rate_per_second))
                .bind(i64::from(terms.burst))
                .bind(stored_time(terms.not_before))
                .bind(terms.expires_at.map(stored_time))
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await
                .map_err(RegistryError::from)
                .and_then(|done| found(done.rows_affected(), "tenant"))?;
                change.transaction.commit().await?;
                Ok(licence)
            }

            async fn suspend_licence(&self, licence: LicenceId, suspended: bool) -> Result<(), RegistryError> {
                let mut change = self.change().await?;
                let done = sqlx::query("UPDATE licence SET suspended = $2, revision = $3 WHERE id = $1")
                    .bind(licence.uuid())
                    .bind(suspended)
                    .bind(change.revision)
                    .execute(&mut *change.transaction)
                    .await?;
                found(done.rows_affected(), "licence")?;
                change.transaction.commit().await?;
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
                    "INSERT INTO licence_key (kid, licence_id, mac, created_at, revision)
                     SELECT $1, id, $3, $4, $5 FROM licence WHERE id = $2",
                )
                .bind(&record.kid)
                .bind(licence.uuid())
                .bind(&record.mac[..])
                .bind(stored_time(now))
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await?;
                found(done.rows_affected(), "licence")?;
                change.transaction.commit().await?;
                Ok(IssuedKey { key, record })
            }

            async fn revoke_key(&self, kid: &str, now: Timestamp) -> Result<(), RegistryError> {
                let mut change = self.change().await?;
                let done =
                    sqlx::query("UPDATE licence_key SET revoked_at = $2, revision = $3 WHERE kid = $1 AND revoked_at IS NULL")
                        .bind(kid)
                        .bind(stored_time(now))
                        .bind(change.revision)
                        .execute(&mut *change.transaction)
                        .await?;
                found(done.rows_affected(), "licence key")?;
                change.transaction.commit().await?;
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
    };
}
pub(super) use common_sql;
