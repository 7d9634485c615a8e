//! Queries of the service-level ledger, for both databases.

/// So many rows are put together in one transaction.
pub(crate) const TAKEN_AT_ONCE: i64 = 5000;
/// So many are written by one statement: no database takes any number of parameters.
pub(crate) const ROWS_AT_ONCE: usize = 500;

/// Takes hours that are over and that their processes do not write any more: such as have told of a later hour, have ended,
/// or have been silent for so long that they would write none that old. Put together already is what is called `=…`.
pub(crate) const TAKE_DONE: &str = "
DELETE FROM service_level WHERE (tenant_id, hour, span, provider, class, process) IN (
    SELECT l.tenant_id, l.hour, l.span, l.provider, l.class, l.process
    FROM service_level l JOIN service_level_process p ON p.process = l.process
    WHERE l.span = 1 AND substr(l.process, 1, 1) <> '=' AND l.hour < $1
        AND (p.flushed >= (l.hour + 2) * 3600000 OR p.ended IS NOT NULL OR p.flushed < $2)
    ORDER BY l.hour, l.tenant_id LIMIT $3)
RETURNING tenant_id, hour, span, provider, class, tally";

/// Takes hours that are old enough to become days, by whomever they are: who was silent for weeks is gone.
pub(crate) const TAKE_OLD: &str = "
DELETE FROM service_level WHERE (tenant_id, hour, span, provider, class, process) IN (
    SELECT tenant_id, hour, span, provider, class, process FROM service_level
    WHERE span = 1 AND hour < $1 ORDER BY hour LIMIT $2)
RETURNING tenant_id, hour, span, provider, class, tally";

/// Implements [`ServiceLevelLedger`](crate::ServiceLevelLedger) and [`ServiceLevelAdmin`](crate::ServiceLevelAdmin).
macro_rules! service_level_sql {
    ($registry:ty, $database:ty) => {
        #[async_trait]
        impl $crate::ServiceLevelLedger for $registry {
            async fn write_service_level(
                &self,
                process: &$crate::LedgerProcess,
                tallies: &[($crate::ServiceLevelKey, push_domain::Tally)],
            ) -> Result<(), RegistryError> {
                let mut transaction = self.pool.begin().await?;
                for some in tallies.chunks($crate::sql::service_level::ROWS_AT_ONCE) {
                    let mut rows = sqlx::QueryBuilder::<$database>::new(
                        "INSERT INTO service_level (tenant_id, hour, span, provider, class, process, tally) ",
                    );
                    rows.push_values(some, |mut row, (key, tally)| {
                        row.push_bind(key.tenant.uuid())
                            .push_bind(stored_number(key.hour))
                            .push_bind(1_i16)
                            .push_bind($crate::service_level::provider_label(key.provider))
                            .push_bind($crate::service_level::class_label(key.class))
                            .push_bind(&process.process)
                            .push_bind(tally.encode());
                    });
                    rows.push(
                        " ON CONFLICT (tenant_id, hour, span, provider, class, process)
                         DO UPDATE SET tally = excluded.tally",
                    );
                    rows.build().persistent(false).execute(&mut *transaction).await?;
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
                     WHERE span IN (1, 24) AND hour >= $1 AND hour < $2 ORDER BY tenant_id",
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
                let day = $crate::hour_of(now) / 24;
                let (over, silent) = $crate::service_level::over(now);
                let done = sqlx::query_as($crate::sql::service_level::TAKE_DONE)
                    .bind(stored_number(over))
                    .bind(stored_time(silent));
                let merged = self.put_together(done, 1).await?;
                let old = sqlx::query_as($crate::sql::service_level::TAKE_OLD)
                    .bind(stored_number($crate::service_level::old(now)));
                let days = self.put_together(old, 24).await?;
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
            /// Takes rows of single hours away, and the longer ones that they belong to, and writes their sums under a name
            /// of its own: two processes may do it at once, as nobody gets what another has taken.
            async fn put_together(
                &self,
                taken: sqlx::query::QueryAs<
                    '_,
                    $database,
                    $crate::service_level::StoredTally,
                    <$database as sqlx::Database>::Arguments,
                >,
                span: i16,
            ) -> Result<u64, RegistryError> {
                let mut transaction = self.pool.begin().await?;
                let taken = taken.bind($crate::sql::service_level::TAKEN_AT_ONCE);
                let mut rows = taken.fetch_all(&mut *transaction).await?;
                let count = rows.len() as u64;
                let longer = $crate::service_level::longer(&rows, span);
                for some in longer.chunks($crate::sql::service_level::ROWS_AT_ONCE) {
                    let mut before = sqlx::QueryBuilder::<$database>::new(
                        "DELETE FROM service_level WHERE substr(process, 1, 1) = '=' AND (tenant_id, hour, span) IN (",
                    );
                    before.push_values(some, |mut row, (tenant, hour)| {
                        row.push_bind(*tenant).push_bind(*hour).push_bind(span);
                    });
                    before.push(") RETURNING tenant_id, hour, span, provider, class, tally");
                    let before = before.build_query_as().persistent(false);
                    rows.extend(before.fetch_all(&mut *transaction).await?);
                }
                let name = format!("={}", uuid::Uuid::new_v4().simple());
                let sums = $crate::service_level::put_together(rows, span);
                let sums: Vec<_> = sums.into_iter().enumerate().collect();
                for some in sums.chunks($crate::sql::service_level::ROWS_AT_ONCE) {
                    let mut written = sqlx::QueryBuilder::<$database>::new(
                        "INSERT INTO service_level (tenant_id, hour, span, provider, class, process, tally) ",
                    );
                    written.push_values(some, |mut row, (number, sum)| {
                        row.push_bind(sum.tenant_id)
                            .push_bind(sum.hour)
                            .push_bind(sum.span)
                            .push_bind(&sum.provider)
                            .push_bind(&sum.class)
                            .push_bind(format!("{name}.{number}"))
                            .push_bind(&sum.tally);
                    });
                    written.build().persistent(false).execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
                Ok(count)
            }
        }
    };
}
pub(crate) use service_level_sql;
