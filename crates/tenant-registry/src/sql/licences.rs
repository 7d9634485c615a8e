//! Queries behind `LicenceAdmin`.

/// Implements [`LicenceAdmin`](crate::LicenceAdmin).
macro_rules! licence_sql {
    ($registry:ty, $database:ty) => {
        #[async_trait::async_trait]
        impl $crate::LicenceAdmin for $registry {
            async fn create_licence(&self, terms: LicenceDraft, audit: AuditContext<'_>) -> Result<Licence, RegistryError> {
                let mut change = self.begin_change().await?;
                if let Some(before) = self.find_replayed(&mut change.transaction, audit).await? {
                    drop(change);
                    let id = before.parse().map_err(|_| RegistryError::RequestKeyReused)?;
                    return self.licence(id).await?.ok_or(RegistryError::NotFound("licence"));
                }
                let licence = self.insert_licence(&mut change, terms, None, audit.at).await?;
                self.sign_licence(&mut change, licence.clone(), &[]).await?;
                let entry = AuditEntry {
                    action: "licence.create",
                    object: licence.id.to_string(),
                    tenant: Some(licence.terms.tenant),
                    detail: terms_json(&licence.terms),
                };
                self.commit_audited(change.transaction, audit, entry).await?;
                Ok(licence)
            }

            async fn update_licence(
                &self,
                licence: LicenceId,
                terms: LicenceDraft,
                revision: Option<u64>,
                audit: AuditContext<'_>,
            ) -> Result<Licence, RegistryError> {
                let mut change = self.begin_change().await?;
                let (before, servers) = self.proven_licence(&mut change, licence).await?;
                let statement = sqlx::query(
                    "UPDATE licence SET plan = $2, regions = $3, rate_per_second = $4, burst = $5, in_flight = $6,
                         devices = $7, privacy = $8, not_before = $9, expires_at = $10, grace_days = $11,
                         revision = $12
                     WHERE id = $1 AND tenant_id = $13 AND ($14 < 0 OR revision = $14)",
                )
                .bind(licence.uuid());
                let done = bind_terms!(statement, terms)
                    .bind(change.revision)
                    .bind(terms.tenant.uuid())
                    .bind(stored_revision(revision))
                    .execute(&mut *change.transaction)
                    .await?;
                require_revision(done.rows_affected(), revision, "licence")?;
                let after = Licence { terms: terms.clone(), ..before };
                self.sign_licence(&mut change, after, &servers).await?;
                let entry = AuditEntry {
                    action: "licence.update",
                    object: licence.to_string(),
                    tenant: Some(terms.tenant),
                    detail: terms_json(&terms),
                };
                self.commit_audited(change.transaction, audit, entry).await?;
                self.licence(licence).await?.ok_or(RegistryError::NotFound("licence"))
            }

            async fn accept_terms(
                &self,
                licence: LicenceId,
                version: &str,
                by: &str,
                audit: AuditContext<'_>,
            ) -> Result<Licence, RegistryError> {
                let mut change = self.begin_change().await?;
                let (before, servers) = self.proven_licence(&mut change, licence).await?;
                let done = sqlx::query(
                    "UPDATE licence SET terms_version = $2, terms_accepted_by = $3, terms_accepted_at = $4,
                         revision = $5
                     WHERE id = $1",
                )
                .bind(licence.uuid())
                .bind(version)
                .bind(by)
                .bind(stored_time(audit.at))
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await?;
                require_found(done.rows_affected(), "licence")?;
                let detail = json!({ "version": version, "by": by });
                let accepted = Some(Acceptance { version: version.to_owned(), at: audit.at, by: by.to_owned() });
                let after = Licence { accepted, ..before };
                self.commit_licence(change, audit, "licence.accept_terms", after, &servers, detail).await
            }

            async fn suspend_licence(
                &self,
                licence: LicenceId,
                reason: Option<&str>,
                audit: AuditContext<'_>,
            ) -> Result<Licence, RegistryError> {
                let mut change = self.begin_change().await?;
                let (before, servers) = self.proven_licence(&mut change, licence).await?;
                let done = sqlx::query(
                    "UPDATE licence SET suspended = $2, suspended_at = $3, suspended_by = $4, suspended_reason = $5,
                         revision = $6
                     WHERE id = $1",
                )
                .bind(licence.uuid())
                .bind(reason.is_some())
                .bind(reason.map(|_| stored_time(audit.at)))
                .bind(reason.map(|_| audit.by))
                .bind(reason)
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await?;
                require_found(done.rows_affected(), "licence")?;
                let action = if reason.is_some() { "licence.suspend" } else { "licence.resume" };
                let detail = json!({ "reason": reason });
                let suspension = reason.map(|reason| Suspension {
                    at: audit.at,
                    by: audit.by.to_owned(),
                    reason: reason.to_owned(),
                });
                let after = Licence { suspension, ..before };
                self.commit_licence(change, audit, action, after, &servers, detail).await
            }

            async fn licence(&self, licence: LicenceId) -> Result<Option<Licence>, RegistryError> {
                let mut connection = self.pool.acquire().await?;
                self.licence_row(&mut connection, licence).await
            }

            async fn licences_of(&self, tenant: TenantId) -> Result<Vec<Licence>, RegistryError> {
                let rows: Vec<LicenceRow> = sqlx::query_as(
                    "SELECT id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at, created_at,
                         grace_days, in_flight, devices, privacy, terms_version, terms_accepted_at, terms_accepted_by,
                         suspended, suspended_at, suspended_by, suspended_reason, revision
                     FROM licence WHERE tenant_id = $1 ORDER BY id",
                )
                .bind(tenant.uuid())
                .fetch_all(&self.pool)
                .await?;
                Ok(decode_rows(rows))
            }

            async fn expiring(
                &self,
                now: Timestamp,
                until: Timestamp,
            ) -> Result<Vec<(Licence, String)>, RegistryError> {
                struct Row {
                    licence: LicenceRow,
                    name: String,
                }
                crate::row::read_from! { Row: name; licence }
                let rows: Vec<Row> = sqlx::query_as(
                    "SELECT licence.id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at,
                         licence.created_at, grace_days, in_flight, devices, privacy, terms_version,
                         terms_accepted_at, terms_accepted_by, suspended, suspended_at, suspended_by,
                         suspended_reason, licence.revision, name
                     FROM licence JOIN tenant ON tenant.id = tenant_id
                     WHERE expires_at + grace_days * CAST(86400000 AS BIGINT) > $1 AND expires_at < $2
                     ORDER BY expires_at LIMIT 1000",
                )
                .bind(stored_time(now))
                .bind(stored_time(until))
                .fetch_all(&self.pool)
                .await?;
                let named = rows.into_iter().map(|row| (decode_rows(vec![row.licence]).pop(), row.name));
                Ok(named.filter_map(|(licence, name)| Some((licence?, name))).collect())
            }

            async fn issue_key(
                &self,
                licence: LicenceId,
                region: &str,
                overlap: Duration,
                audit: AuditContext<'_>,
            ) -> Result<IssuedKey, RegistryError> {
                let mut change = self.begin_change().await?;
                if let Some(kid) = self.find_replayed(&mut change.transaction, audit).await? {
                    return Err(RegistryError::DoneBefore(kid));
                }
                let tenant = self.proven_licence(&mut change, licence).await?.0.terms.tenant;
                let keys = self.proven_keys(&mut change, licence).await?;
                let live: i64 = sqlx::query_scalar(
                    "SELECT count(*) FROM licence_key
                     WHERE licence_id = $1 AND revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $2)",
                )
                .bind(licence.uuid())
                .bind(stored_time(audit.at))
                .fetch_one(&mut *change.transaction)
                .await?;
                if live >= 2 {
                    return Err(RegistryError::TooManyKeys);
                }
                sqlx::query(
                    "UPDATE licence_key SET ends_at = $2, revision = $3
                     WHERE licence_id = $1 AND revoked_at IS NULL AND ends_at IS NULL",
                )
                .bind(licence.uuid())
                .bind(stored_time(audit.at.plus(overlap)))
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await?;
                let issued = self.insert_key(&mut change, licence, region, audit.at).await?;
                let revision = issued.record.revision;
                let kids = keys.iter().map(|key| &*key.kid).chain([&*issued.record.kid]);
                let set = (RowName::keys_of(licence), rights::key_set_hash(kids));
                let ended = keys.iter().cloned().filter(|key| key.ends_at.is_none());
                // The databases keep times as whole milliseconds.
                let ended = ended
                    .map(|key| KeyRecord { ends_at: Some(audit.at.plus(overlap)), revision, ..key })
                    .map(|key| (RowName::key(&key.kid), Some(rights::key_hash(&key))));
                let mut rows: Vec<_> = ended.collect();
                rows.extend([set, (RowName::key(&issued.record.kid), Some(rights::key_hash(&issued.record)))]);
                self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &rows).await?;
                let entry = AuditEntry {
                    action: "key.issue",
                    object: issued.record.kid.clone(),
                    tenant: Some(tenant),
                    detail: json!({ "licence": licence.to_string(), "overlap_hours": overlap.as_secs() / 3600 }),
                };
                self.commit_audited(change.transaction, audit, entry).await?;
                Ok(issued)
            }

            async fn revoke_key(&self, kid: &str, audit: AuditContext<'_>) -> Result<(), RegistryError> {
                let mut change = self.begin_change().await?;
                let licence: Option<uuid::Uuid> =
                    sqlx::query_scalar("SELECT licence_id FROM licence_key WHERE kid = $1 AND revoked_at IS NULL")
                        .bind(kid)
                        .fetch_optional(&mut *change.transaction)
                        .await?;
                let Some(licence) = licence.map(LicenceId::from_uuid) else {
                    // One that was only hidden would come back.
                    self.require_absent(&mut change.transaction, TreeKind::Licences, RowName::key(kid)).await?;
                    return Err(RegistryError::NotFound("licence key"));
                };
                let keys = self.proven_keys(&mut change, licence).await?;
                sqlx::query("UPDATE licence_key SET revoked_at = $2, revision = $3 WHERE kid = $1")
                    .bind(kid)
                    .bind(stored_time(audit.at))
                    .bind(change.revision)
                    .execute(&mut *change.transaction)
                    .await?;
                let left = keys.iter().map(|key| &*key.kid).filter(|known| *known != kid);
                let rows =
                    [(RowName::key(kid), None), (RowName::keys_of(licence), rights::key_set_hash(left))];
                self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &rows).await?;
                let tenant: uuid::Uuid = sqlx::query_scalar("SELECT tenant_id FROM licence WHERE id = $1")
                    .bind(licence.uuid())
                    .fetch_one(&mut *change.transaction)
                    .await?;
                let entry = AuditEntry {
                    action: "key.revoke",
                    object: kid.to_owned(),
                    tenant: Some(TenantId::from_uuid(tenant)),
                    detail: json!({ "licence": licence.to_string() }),
                };
                self.commit_audited(change.transaction, audit, entry).await
            }

            async fn licence_of_key(&self, kid: &str) -> Result<Option<LicenceId>, RegistryError> {
                let licence: Option<uuid::Uuid> =
                    sqlx::query_scalar("SELECT licence_id FROM licence_key WHERE kid = $1")
                        .bind(kid)
                        .fetch_optional(&self.pool)
                        .await?;
                Ok(licence.map(LicenceId::from_uuid))
            }

            async fn keys_of(&self, licence: LicenceId) -> Result<Vec<KeySummary>, RegistryError> {
                let rows: Vec<KeySummaryRow> = sqlx::query_as(
                    "SELECT k.kid, pepper, created_at, ends_at, revoked_at, nullif(u.last_used_day, 0) AS last_used_day
                     FROM licence_key k LEFT JOIN key_use u ON u.kid = k.kid
                     WHERE licence_id = $1 ORDER BY created_at DESC, k.kid LIMIT 100",
                )
                .bind(licence.uuid())
                .fetch_all(&self.pool)
                .await?;
                Ok(decode_rows(rows))
            }

            async fn bind_server(
                &self,
                licence: LicenceId,
                server: &str,
                bound: bool,
                audit: AuditContext<'_>,
            ) -> Result<(), RegistryError> {
                let mut change = self.begin_change().await?;
                let (before, mut servers) = self.proven_licence(&mut change, licence).await?;
                sqlx::query("UPDATE licence SET revision = $2 WHERE id = $1")
                    .bind(licence.uuid())
                    .bind(change.revision)
                    .execute(&mut *change.transaction)
                    .await?;
                servers.retain(|known| known != server);
                if bound {
                    servers.push(server.to_owned());
                    sqlx::query(
                        "INSERT INTO server (licence_id, server_id, bound_at) VALUES ($1, $2, $3)
                         ON CONFLICT DO NOTHING",
                    )
                    .bind(licence.uuid())
                    .bind(server)
                    .bind(stored_time(audit.at))
                    .execute(&mut *change.transaction)
                    .await?;
                } else {
                    let done = sqlx::query("DELETE FROM server WHERE licence_id = $1 AND server_id = $2")
                        .bind(licence.uuid())
                        .bind(server)
                        .execute(&mut *change.transaction)
                        .await?;
                    require_found(done.rows_affected(), "server")?;
                }
                let action = if bound { "server.bind" } else { "server.unbind" };
                let detail = json!({ "server": server });
                self.commit_licence(change, audit, action, before, &servers, detail).await.map(drop)
            }

            async fn servers_of(&self, licence: LicenceId) -> Result<Vec<String>, RegistryError> {
                let servers =
                    sqlx::query_scalar("SELECT server_id FROM server WHERE licence_id = $1 ORDER BY server_id");
                Ok(servers.bind(licence.uuid()).fetch_all(&self.pool).await?)
            }
        }

        impl $registry {
            async fn licence_row(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                licence: LicenceId,
            ) -> Result<Option<Licence>, RegistryError> {
                let row: Option<LicenceRow> = sqlx::query_as(
                    "SELECT id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at, created_at,
                         grace_days, in_flight, devices, privacy, terms_version, terms_accepted_at, terms_accepted_by,
                         suspended, suspended_at, suspended_by, suspended_reason, revision
                     FROM licence WHERE id = $1",
                )
                .bind(licence.uuid())
                .fetch_optional(connection)
                .await?;
                row.map(Licence::try_from).transpose()
            }

            /// Signs and concludes a change of a licence, and returns how it is now.
            async fn commit_licence(
                &self,
                mut change: Change<$database>,
                audit: AuditContext<'_>,
                action: &str,
                after: Licence,
                servers: &[String],
                detail: serde_json::Value,
            ) -> Result<Licence, RegistryError> {
                let (licence, tenant) = (after.id, Some(after.terms.tenant));
                self.sign_licence(&mut change, after, servers).await?;
                let entry = AuditEntry { action, object: licence.to_string(), tenant, detail };
                self.commit_audited(change.transaction, audit, entry).await?;
                $crate::LicenceAdmin::licence(self, licence).await?.ok_or(RegistryError::NotFound("licence"))
            }
        }
    };
}
pub(crate) use licence_sql;
