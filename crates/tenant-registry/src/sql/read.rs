//! Queries behind `TenantReader` and `KeyUseLedger`.

/// Implements [`TenantReader`](crate::TenantReader). `$begin_snapshot` begins a transaction that sees one moment.
macro_rules! read_sql {
    ($registry:ty, $begin_snapshot:literal) => {
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
                let mut snapshot_tx = self.pool.begin_with($begin_snapshot).await?;
                let number: i64 = sqlx::query_scalar("SELECT number FROM revision").fetch_one(&mut *snapshot_tx).await?;
                let root = self.rights_root(&mut snapshot_tx, TreeKind::Licences).await?;
                if root.as_ref().is_some_and(|root| i64::try_from(root.revision) != Ok(number)) {
                    return Err(RegistryError::RightsUnproven);
                }
                let tenants: Vec<TenantRow> = sqlx::query_as(
                    // What is of people, and what nobody needs to check a caller, is not even read.
                    "SELECT id, '' AS name, salt, '' AS contact, FALSE AS failover_consent,
                         CAST(0 AS BIGINT) AS created_at, revision
                     FROM tenant JOIN device_salt ON tenant_id = id WHERE revision > $1",
                )
                .bind(since)
                .fetch_all(&mut *snapshot_tx)
                .await?;
                let licences: Vec<LicenceRow> = sqlx::query_as(
                    "SELECT id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at,
                         CAST(0 AS BIGINT) AS created_at, grace_days, in_flight, devices, privacy, terms_version,
                         CAST(NULL AS BIGINT) AS terms_accepted_at, CAST(NULL AS TEXT) AS terms_accepted_by, suspended,
                         CAST(NULL AS BIGINT) AS suspended_at, CAST(NULL AS TEXT) AS suspended_by,
                         CAST(NULL AS TEXT) AS suspended_reason, revision
                     FROM licence WHERE revision > $1",
                )
                .bind(since)
                .fetch_all(&mut *snapshot_tx)
                .await?;
                // A licence changes with its servers.
                let servers: Vec<(uuid::Uuid, String)> = sqlx::query_as(
                    "SELECT licence_id, server_id FROM server JOIN licence ON licence.id = licence_id
                     WHERE revision > $1",
                )
                .bind(since)
                .fetch_all(&mut *snapshot_tx)
                .await?;
                // What was revoked before the first look was never known.
                let keys: Vec<KeyRow> = sqlx::query_as(
                    "SELECT kid, licence_id, mac, pepper, hashed, ends_at, revoked_at, revision FROM licence_key
                     WHERE revision > $1 AND (revoked_at IS NULL OR $1 > 0)",
                )
                .bind(since)
                .fetch_all(&mut *snapshot_tx)
                .await?;
                let (live, revoked): (Vec<_>, Vec<_>) = keys.into_iter().partition(KeyRow::is_live);
                let mut changes = Changes {
                    revision: u64::try_from(number).map_err(|_| RegistryError::Unreadable("revision"))?,
                    tenants: decode_rows(tenants),
                    licences: decode_rows(licences),
                    servers: servers.into_iter().map(|(id, server)| (LicenceId::from_uuid(id), server)).collect(),
                    keys: decode_rows(live),
                    revoked: Vec::new(),
                    unproven: Vec::new(),
                    signed: None,
                };
                if let Some(root) = root {
                    let touched = changes.touched().chain(revoked.iter().flat_map(KeyRow::buckets)).collect();
                    let names = (revision > 0).then(|| changes.names());
                    let proof = self.rights_proof(&mut snapshot_tx, &root, names.as_deref()).await?;
                    changes.keep_proven(proof, revision == 0);
                    changes.signed = Some((root.into_hashes().into(), touched));
                }
                changes.revoked.extend(revoked.into_iter().map(|key| key.kid));
                Ok(changes)
            }

            async fn changed(&self) {
                self.wait_for_change().await;
            }
        }

        #[async_trait::async_trait]
        impl $crate::KeyUseLedger for $registry {
            async fn note_use(&self, uses: &[KeyUse], day: u32) -> Result<(), RegistryError> {
                for KeyUse { kid, digest } in uses {
                    sqlx::query(
                        "INSERT INTO key_use (kid, last_used_day) SELECT kid, $2 FROM licence_key WHERE kid = $1
                         ON CONFLICT (kid) DO UPDATE SET last_used_day = excluded.last_used_day
                         WHERE key_use.last_used_day < excluded.last_used_day",
                    )
                    .bind(kid)
                    .bind(i64::from(day))
                    .execute(&self.pool)
                    .await?;
                    if let Some(offer) = digest.as_ref().and_then(|digest| self.keys.offer(kid, digest)) {
                        sqlx::query("UPDATE key_use SET offered = $2 WHERE kid = $1")
                            .bind(kid)
                            .bind(offer)
                            .execute(&self.pool)
                            .await?;
                    }
                }
                Ok(())
            }
        }
    };
}
pub(crate) use read_sql;
