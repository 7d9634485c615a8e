//! Queries of the service-level ledger, for both databases.

/// So many tenants' rows are put together in one transaction.
pub(crate) const TENANTS_AT_ONCE: i64 = 200;

/// Implements [`ServiceLevelLedger`](crate::ServiceLevelLedger) and [`ServiceLevelAdmin`](crate::ServiceLevelAdmin).
macro_rules! service_level_sql {
    ($registry:ty) => {
        #[async_trait]
        impl $crate::ServiceLevelLedger for $registry {
            async fn write_service_level(
                &self,
                process: &$crate::LedgerProcess,
                tallies: &[($crate::ServiceLevelKey, push_domain::Tally)],
            ) -> Result<(), RegistryError> {
                let mut transaction = self.pool.begin().await?;
                for (key, tally) in tallies {
                    sqlx::query(
                        "INSERT INTO service_level (tenant_id, hour, span, provider, class, process, tally)
                         VALUES ($1, $2, 1, $3, $4, $5, $6)
                         ON CONFLICT (tenant_id, hour, span, provider, class, process)
                         DO UPDATE SET tally = excluded.tally",
                    )
                    .bind(key.tenant.uuid())
                    .bind(stored_number(key.hour))
                    .bind($crate::service_level::provider_label(key.provider))
                    .bind($crate::service_level::class_label(key.class))
                    .bind(&process.process)
                    .bind(tally.encode())
                    .execute(&mut *transaction)
                    .await?;
                }
                sqlx::query(
                    "INSERT INTO service_level_process (process, region, began, flushed, ended)
                     VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (process) DO UPDATE SET flushed = excluded.flushed, ended = excluded.ended",
                )
                .bind(&process.process)
                .bind(&process.region)
                .bind(stored_time(process.began))
                .bind(stored_time(process.flushed))
                .bind(process.ended.map(stored_time))
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await?;
                Ok(())
            }
        }

        #[async_trait]
        impl $crate::ServiceLevelAdmin for $registry {
            async fn service_level(
                &self,
                tenant: TenantId,
                from: u64,
                until: u64,
            ) -> Result<Vec<$crate::ServiceLevelRow>, RegistryError> {
                let rows = sqlx::query_as(
                    "SELECT tenant_id, hour, span, provider, class, tally FROM service_level
                     WHERE tenant_id = $1 AND hour >= $2 AND hour < $3 ORDER BY hour, span, provider, class",
                )
                .bind(tenant.uuid())
                .bind(stored_number(from))
                .bind(stored_number(until))
                .fetch_all(&self.pool)
                .await?;
                Ok($crate::service_level::summed(rows))
            }

            async fn service_level_by_tenant(
                &self,
                from: u64,
                until: u64,
            ) -> Result<Vec<(TenantId, push_domain::Tally)>, RegistryError> {
                let rows = sqlx::query_as(
                    "SELECT tenant_id, hour, span, provider, class, tally FROM service_level
                     WHERE hour >= $1 AND hour < $2 ORDER BY tenant_id",
                )
                .bind(stored_number(from))
                .bind(stored_number(until))
                .fetch_all(&self.pool)
                .await?;
                let mut sums: Vec<(TenantId, push_domain::Tally)> = Vec::new();
                for row in $crate::service_level::summed(rows) {
                    match sums.last_mut().filter(|(tenant, _)| *tenant == row.key.tenant) {
                        Some((_, sum)) => sum.add(&row.tally),
                        None => sums.push((row.key.tenant, row.tally)),
                    }
                }
                Ok(sums)
            }

            async fn ledger_processes(
                &self,
                since: Timestamp,
            ) -> Result<Vec<$crate::LedgerProcess>, RegistryError> {
                let rows: Vec<$crate::service_level::StoredProcess> = sqlx::query_as(
                    "SELECT process, region, began, flushed, ended FROM service_level_process
                     WHERE flushed >= $1 ORDER BY began, process",
                )
                .bind(stored_time(since))
                .fetch_all(&self.pool)
                .await?;
                Ok(rows.into_iter().map(Into::into).collect())
            }

            async fn keep_service_level(&self, now: Timestamp) -> Result<u64, RegistryError> {
                let hour = $crate::hour_of(now);
                let day = hour / 24;
                // Processes may still write the hour that has just ended.
                let merged = self.put_together(1, hour.saturating_sub(2), 1, true).await?;
                let old = day.saturating_sub($crate::HOURS_KEPT_DAYS) * 24;
                let days = self.put_together(1, old, 24, false).await?;
                let days = days + self.put_together(24, old, 24, true).await?;
                let forgotten = sqlx::query("DELETE FROM service_level WHERE span = 24 AND hour < $1")
                    .bind(stored_number(day.saturating_sub($crate::DAYS_KEPT) * 24))
                    .execute(&self.pool)
                    .await?;
                let gone = now.millis().saturating_sub($crate::DAYS_KEPT * 86_400_000);
                sqlx::query("DELETE FROM service_level_process WHERE flushed < $1")
                    .bind(stored_number(gone))
                    .execute(&self.pool)
                    .await?;
                Ok(merged + days + forgotten.rows_affected())
            }
        }

        impl $registry {
            /// Puts the rows of some tenants' spans together that began before an hour, into longer ones. Whoever takes
            /// rows away writes their sum under a name of its own: two processes may do it at once. `unmerged`: only
            /// spans of which there are rows that no such sum is.
            async fn put_together(
                &self,
                span: i16,
                before: u64,
                into: i16,
                unmerged: bool,
            ) -> Result<u64, RegistryError> {
                let mut transaction = self.pool.begin().await?;
                let wanted: Vec<(uuid::Uuid, i64)> = sqlx::query_as(if unmerged {
                    "SELECT tenant_id, hour FROM service_level WHERE span = $1 AND hour < $2
                     GROUP BY tenant_id, hour HAVING count(*) > count(DISTINCT provider || '/' || class) LIMIT $3"
                } else {
                    "SELECT DISTINCT tenant_id, hour FROM service_level WHERE span = $1 AND hour < $2 LIMIT $3"
                })
                .bind(span)
                .bind(stored_number(before))
                .bind($crate::sql::service_level::TENANTS_AT_ONCE)
                .fetch_all(&mut *transaction)
                .await?;
                let process = format!("={}", uuid::Uuid::new_v4().simple());
                let mut touched = 0;
                for (tenant, hour) in wanted {
                    let mut rows: Vec<$crate::service_level::StoredTally> = sqlx::query_as(
                        "DELETE FROM service_level WHERE tenant_id = $1 AND hour = $2 AND span = $3
                         RETURNING tenant_id, hour, span, provider, class, tally",
                    )
                    .bind(tenant)
                    .bind(hour)
                    .bind(span)
                    .fetch_all(&mut *transaction)
                    .await?;
                    touched += rows.len() as u64;
                    rows.sort_by(|a, b| a.kind().cmp(&b.kind()));
                    for row in $crate::service_level::summed(rows) {
                        // The first hour of the longer span; hours of one day lie there side by side until they are
                        // put together in their turn.
                        let hour_into = row.key.hour - row.key.hour % u64::try_from(into).unwrap_or(1);
                        let name = format!("{process}{}", row.key.hour);
                        sqlx::query(
                            "INSERT INTO service_level (tenant_id, hour, span, provider, class, process, tally)
                             VALUES ($1, $2, $3, $4, $5, $6, $7)",
                        )
                        .bind(tenant)
                        .bind(stored_number(hour_into))
                        .bind(into)
                        .bind($crate::service_level::provider_label(row.key.provider))
                        .bind($crate::service_level::class_label(row.key.class))
                        .bind(name)
                        .bind(row.tally.encode())
                        .execute(&mut *transaction)
                        .await?;
                    }
                }
                transaction.commit().await?;
                Ok(touched)
            }
        }
    };
}
pub(crate) use service_level_sql;
