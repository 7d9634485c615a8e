//! Queries behind `DeviceAdmin`.

/// Implements [`DeviceAdmin`](crate::DeviceAdmin).
macro_rules! device_sql {
    ($registry:ty) => {
        #[async_trait::async_trait]
        impl $crate::DeviceAdmin for $registry {
            async fn device(
                &self,
                tenant: TenantId,
                device: DeviceId,
            ) -> Result<Option<DeviceSummary>, RegistryError> {
                let row: Option<DeviceRow> = sqlx::query_as(
                    "SELECT app, platform, first_seen, last_seen, state, reason FROM device
                     WHERE tenant_id = $1 AND id = $2",
                )
                .bind(tenant.uuid())
                .bind(&device.as_bytes()[..])
                .fetch_optional(&self.pool)
                .await?;
                row.map(DeviceSummary::try_from).transpose()
            }

            async fn count_devices(&self, tenant: TenantId) -> Result<Vec<DeviceCount>, RegistryError> {
                let rows: Vec<DeviceCountRow> = sqlx::query_as(
                    "SELECT app, platform, state, count(*) AS number FROM device WHERE tenant_id = $1
                     GROUP BY app, platform, state ORDER BY app, platform, state",
                )
                .bind(tenant.uuid())
                .fetch_all(&self.pool)
                .await?;
                Ok(decode_rows(rows))
            }

            async fn erase_devices(
                &self,
                tenant: TenantId,
                devices: &[DeviceId],
                audit: AuditContext<'_>,
            ) -> Result<u64, RegistryError> {
                let mut transaction = self.begin_audited().await?;
                let mut erased = 0;
                for device in devices {
                    let done = sqlx::query("DELETE FROM device WHERE tenant_id = $1 AND id = $2")
                        .bind(tenant.uuid())
                        .bind(&device.as_bytes()[..])
                        .execute(&mut *transaction)
                        .await?;
                    erased += done.rows_affected();
                }
                let entry = AuditEntry {
                    action: "device.erase",
                    object: tenant.to_string(),
                    tenant: Some(tenant),
                    detail: json!({ "asked": devices.len(), "erased": erased }),
                };
                self.commit_audited(transaction, audit, entry).await?;
                self.scrub().await;
                Ok(erased)
            }

            async fn carry_out(&self, order: &Erasure, audit: AuditContext<'_>) -> Result<u64, RegistryError> {
                let tenant = order.tenant;
                let mut change = self.begin_change().await?;
                // As all who erase do, before they touch devices.
                sqlx::query("UPDATE audit_head SET seq = seq").execute(&mut *change.transaction).await?;
                let done: Option<i64> = sqlx::query_scalar("SELECT devices FROM erasure_done WHERE erasure_id = $1")
                    .bind(order.id)
                    .fetch_optional(&mut *change.transaction)
                    .await?;
                if done.is_some() {
                    return Ok(0);
                }
                // With the salt gateways here have to read the tenant again.
                let found = sqlx::query("UPDATE tenant SET revision = $2 WHERE id = $1")
                    .bind(tenant.uuid())
                    .bind(change.revision)
                    .execute(&mut *change.transaction)
                    .await?;
                require_found(found.rows_affected(), "tenant")?;
                sqlx::query("UPDATE device_salt SET salt = $2 WHERE tenant_id = $1")
                    .bind(tenant.uuid())
                    .bind(&new_salt()[..])
                    .execute(&mut *change.transaction)
                    .await?;
                let erased = sqlx::query("DELETE FROM device WHERE tenant_id = $1")
                    .bind(tenant.uuid())
                    .execute(&mut *change.transaction)
                    .await?
                    .rows_affected();
                sqlx::query("INSERT INTO erasure_done (erasure_id, done_at, devices) VALUES ($1, $2, $3)")
                    .bind(order.id)
                    .bind(stored_time(audit.at))
                    .bind(stored_number(erased))
                    .execute(&mut *change.transaction)
                    .await?;
                let entry = AuditEntry {
                    action: "device.erase_all",
                    object: tenant.to_string(),
                    tenant: Some(tenant),
                    detail: json!({ "erased": erased, "order": order.id.to_string() }),
                };
                self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &[]).await?;
                self.commit_audited(change.transaction, audit, entry).await?;
                self.scrub().await;
                Ok(erased)
            }

            async fn open_erasures(&self) -> Result<Vec<Erasure>, RegistryError> {
                let rows: Vec<ErasureRow> = sqlx::query_as(
                    "SELECT id, tenant_id, ordered_at, ordered_by, CAST(NULL AS BIGINT) AS done_at,
                         CAST(NULL AS BIGINT) AS devices
                     FROM erasure WHERE id NOT IN (SELECT erasure_id FROM erasure_done) ORDER BY ordered_at LIMIT 100",
                )
                .fetch_all(&self.pool)
                .await?;
                Ok(decode_rows(rows))
            }

            async fn erasures_of(&self, tenant: TenantId) -> Result<Vec<Erasure>, RegistryError> {
                let rows: Vec<ErasureRow> = sqlx::query_as(
                    "SELECT id, tenant_id, ordered_at, ordered_by, done_at, devices
                     FROM erasure LEFT JOIN erasure_done ON erasure_id = id
                     WHERE tenant_id = $1 ORDER BY ordered_at DESC LIMIT 100",
                )
                .bind(tenant.uuid())
                .fetch_all(&self.pool)
                .await?;
                Ok(decode_rows(rows))
            }

            async fn unusual_growth(&self, day: u32, least: u64) -> Result<Vec<NewDevices>, RegistryError> {
                let rows: Vec<NewDevicesRow> = sqlx::query_as(
                    "SELECT tenant_id, today, week_before FROM (
                         SELECT tenant_id, count(*) FILTER (WHERE first_seen = $1) AS today,
                             count(*) FILTER (WHERE first_seen < $1) AS week_before
                         FROM device WHERE first_seen > $1 - 8 AND first_seen <= $1 GROUP BY tenant_id
                     ) growth WHERE today >= $2 AND today * 7 > week_before * 3 ORDER BY today DESC LIMIT 100",
                )
                .bind(i64::from(day))
                .bind(i64::try_from(least).unwrap_or(i64::MAX))
                .fetch_all(&self.pool)
                .await?;
                Ok(decode_rows(rows))
            }
        }

        impl $registry {
            /// The same, where it must not keep a process from starting: whoever looks what is wrong needs the registry open.
            pub async fn make_missing_salts_or_warn(&self, audit: AuditContext<'_>) {
                if let Err(error) = self.make_missing_salts(audit).await {
                    tracing::warn!(%error, "tenants without a salt have none yet; their callers are not known");
                }
            }

            /// Draws new salts for tenants that have none: they were left out of the backup that this registry was put back
            /// from, so that nobody knows the devices in it any more.
            pub async fn make_missing_salts(&self, audit: AuditContext<'_>) -> Result<(), RegistryError> {
                const MISSING: &str =
                    "SELECT id FROM tenant WHERE id NOT IN (SELECT tenant_id FROM device_salt) LIMIT 1000";
                loop {
                    let missing: Vec<uuid::Uuid> = sqlx::query_scalar(MISSING).fetch_all(&self.pool).await?;
                    if missing.is_empty() {
                        return Ok(());
                    }
                    let mut change = self.begin_change().await?;
                    for tenant in &missing {
                        sqlx::query(
                            "INSERT INTO device_salt (tenant_id, salt) VALUES ($1, $2) ON CONFLICT (tenant_id) DO NOTHING",
                        )
                        .bind(tenant)
                        .bind(&new_salt()[..])
                        .execute(&mut *change.transaction)
                        .await?;
                        sqlx::query("UPDATE tenant SET revision = $2 WHERE id = $1")
                            .bind(tenant)
                            .bind(change.revision)
                            .execute(&mut *change.transaction)
                            .await?;
                    }
                    self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &[]).await?;
                    let detail = json!({ "tenants": missing.len() });
                    let entry = AuditEntry { action: "device.new_salts", object: "registry".to_owned(), tenant: None, detail };
                    self.commit_audited(change.transaction, audit, entry).await?;
                }
            }
        }
    };
}
pub(crate) use device_sql;
