//! Queries behind `OperatorAdmin`.

/// Implements [`OperatorAdmin`](crate::OperatorAdmin). `$begin_snapshot` begins a transaction that sees one moment.
macro_rules! operator_sql {
    ($registry:ty, $begin_snapshot:literal) => {
        #[async_trait::async_trait]
        impl $crate::RightsAdmin for $registry {
            async fn verify_rights(&self) -> Result<RightsReport, RegistryError> {
                self.read_rights_report().await
            }

            async fn renew_keys(&self, audit: AuditContext<'_>) -> Result<u64, RegistryError> {
                self.renew_old_keys(audit).await
            }
        }

        #[async_trait::async_trait]
        impl $crate::OperatorAdmin for $registry {
            async fn issue_admin_token(
                &self,
                terms: AdminTokenDraft,
                audit: AuditContext<'_>,
            ) -> Result<IssuedAdminToken, RegistryError> {
                let mut transaction = self.begin_audited().await?;
                if let Some(id) = self.find_replayed(&mut transaction, audit).await? {
                    return Err(RegistryError::DoneBefore(id));
                }
                if let Some(tenant) = terms.tenant {
                    let known: i64 = sqlx::query_scalar("SELECT count(*) FROM tenant WHERE id = $1")
                        .bind(tenant.uuid())
                        .fetch_one(&mut *transaction)
                        .await?;
                    require_found(u64::try_from(known).unwrap_or_default(), "tenant")?;
                }
                let token = AdminToken::generate();
                sqlx::query(
                    "INSERT INTO admin_token (id, name, role, tenant_id, mac, created_at, created_by, expires_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(token.id())
                .bind(&terms.name)
                .bind(terms.role.as_str())
                .bind(terms.tenant.map(|tenant| tenant.uuid()))
                .bind(&self.keys.token_mac(&token)[..])
                .bind(stored_time(audit.at))
                .bind(audit.by)
                .bind(stored_time(terms.expires_at))
                .execute(&mut *transaction)
                .await?;
                let record = AdminTokenRecord {
                    id: token.id().to_owned(),
                    terms: terms.clone(),
                    created_at: audit.at,
                    created_by: audit.by.to_owned(),
                    revoked_at: None,
                    last_used_day: None,
                };
                let hash = rights::token_hash(&record, &self.keys.token_mac(&token));
                let row = (RowName::token(&record.id), Some(hash));
                self.sign_rights(&mut transaction, TreeKind::Tokens, None, &[row]).await?;
                let entry = AuditEntry {
                    action: "admin_token.issue",
                    object: token.id().to_owned(),
                    tenant: terms.tenant,
                    detail: json!({
                        "name": terms.name,
                        "role": terms.role.as_str(),
                        "expires_at": terms.expires_at.millis(),
                    }),
                };
                self.commit_audited(transaction, audit, entry).await?;
                Ok(IssuedAdminToken { token, record })
            }

            async fn revoke_admin_token(&self, id: &str, audit: AuditContext<'_>) -> Result<(), RegistryError> {
                let mut transaction = self.begin_audited().await?;
                let done: Option<Option<uuid::Uuid>> = sqlx::query_scalar(
                    "UPDATE admin_token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL
                     RETURNING tenant_id",
                )
                .bind(id)
                .bind(stored_time(audit.at))
                .fetch_optional(&mut *transaction)
                .await?;
                let Some(tenant) = done else {
                    self.require_absent(&mut transaction, TreeKind::Tokens, RowName::token(id)).await?;
                    return Err(RegistryError::NotFound("admin token"));
                };
                let row = (RowName::token(id), None);
                self.sign_rights(&mut transaction, TreeKind::Tokens, None, &[row]).await?;
                sqlx::query("DELETE FROM admin_session WHERE token_id = $1")
                    .bind(id)
                    .execute(&mut *transaction)
                    .await?;
                let entry = AuditEntry {
                    action: "admin_token.revoke",
                    object: id.to_owned(),
                    tenant: tenant.map(TenantId::from_uuid),
                    detail: json!({}),
                };
                self.commit_audited(transaction, audit, entry).await
            }

            async fn admin_tokens(&self) -> Result<Vec<AdminTokenRecord>, RegistryError> {
                let rows: Vec<AdminTokenRow> = sqlx::query_as(
                    "SELECT id, name, role, tenant_id, mac, created_at, created_by, expires_at, revoked_at,
                         last_used_day
                     FROM admin_token ORDER BY created_at DESC, id LIMIT 1000",
                )
                .fetch_all(&self.pool)
                .await?;
                Ok(decode_rows(rows))
            }

            async fn open_admin_token(
                &self,
                token: &AdminToken,
                now: Timestamp,
            ) -> Result<Option<AdminTokenRecord>, RegistryError> {
                let row: Option<AdminTokenRow> = sqlx::query_as(
                    "SELECT id, name, role, tenant_id, mac, created_at, created_by, expires_at, revoked_at,
                         last_used_day
                     FROM admin_token WHERE id = $1",
                )
                .bind(token.id())
                .fetch_optional(&self.pool)
                .await?;
                // What is not known takes as long as what is.
                let matches = self.keys.token_matches(token, row.as_ref().map_or(&[0; 32], |row| &row.mac));
                let Some(row) = row.filter(|_| matches) else { return Ok(None) };
                let mac = row.mac.clone();
                let record = AdminTokenRecord::try_from(row)?;
                if record.is_live(now) && !self.is_token_proven(&record, &mac).await? {
                    return Ok(None);
                }
                if record.is_live(now) && record.last_used_day != Some(now.day()) {
                    sqlx::query("UPDATE admin_token SET last_used_day = $2 WHERE id = $1")
                        .bind(&record.id)
                        .bind(i64::from(now.day()))
                        .execute(&self.pool)
                        .await?;
                }
                Ok(Some(record).filter(|record| record.is_live(now)))
            }

            async fn admin_token(&self, id: &str) -> Result<Option<AdminTokenRecord>, RegistryError> {
                let row: Option<AdminTokenRow> = sqlx::query_as(
                    "SELECT id, name, role, tenant_id, mac, created_at, created_by, expires_at, revoked_at,
                         last_used_day
                     FROM admin_token WHERE id = $1",
                )
                .bind(id)
                .fetch_optional(&self.pool)
                .await?;
                row.map(AdminTokenRecord::try_from).transpose()
            }

            async fn note(
                &self,
                action: &str,
                object: &str,
                tenant: Option<TenantId>,
                detail: serde_json::Value,
                audit: AuditContext<'_>,
            ) -> Result<(), RegistryError> {
                let entry = AuditEntry { action, object: object.to_owned(), tenant, detail };
                let transaction = self.begin_audited().await?;
                self.commit_audited(transaction, audit, entry).await
            }

            async fn begin_session(&self, session: &AdminSession, audit: AuditContext<'_>) -> Result<(), RegistryError> {
                let mut transaction = self.begin_audited().await?;
                let tenant: Option<Option<uuid::Uuid>> =
                    sqlx::query_scalar("SELECT tenant_id FROM admin_token WHERE id = $1")
                        .bind(&session.token)
                        .fetch_optional(&mut *transaction)
                        .await?;
                let tenant = tenant.ok_or(RegistryError::NotFound("admin token"))?;
                sqlx::query("INSERT INTO admin_session (id, token_id, expires_at) VALUES ($1, $2, $3)")
                    .bind(&session.id[..])
                    .bind(&session.token)
                    .bind(stored_time(session.expires_at))
                    .execute(&mut *transaction)
                    .await?;
                let entry = AuditEntry {
                    action: "console.sign_in",
                    object: session.token.clone(),
                    tenant: tenant.map(TenantId::from_uuid),
                    detail: json!({}),
                };
                self.commit_audited(transaction, audit, entry).await
            }

            async fn session_token(
                &self,
                session: &[u8; 32],
                now: Timestamp,
            ) -> Result<Option<AdminTokenRecord>, RegistryError> {
                let row: Option<AdminTokenRow> = sqlx::query_as(
                    "SELECT t.id, name, role, tenant_id, mac, created_at, created_by, t.expires_at, revoked_at,
                         last_used_day
                     FROM admin_session AS s JOIN admin_token AS t ON t.id = s.token_id
                     WHERE s.id = $1 AND s.expires_at > $2",
                )
                .bind(&session[..])
                .bind(stored_time(now))
                .fetch_optional(&self.pool)
                .await?;
                let Some(row) = row else { return Ok(None) };
                let mac = row.mac.clone();
                let record = AdminTokenRecord::try_from(row)?;
                let opens = record.is_live(now) && self.is_token_proven(&record, &mac).await?;
                Ok(Some(record).filter(|_| opens))
            }

            async fn end_session(&self, session: &[u8; 32], audit: AuditContext<'_>) -> Result<(), RegistryError> {
                let mut transaction = self.begin_audited().await?;
                let token: Option<String> =
                    sqlx::query_scalar("DELETE FROM admin_session WHERE id = $1 RETURNING token_id")
                        .bind(&session[..])
                        .fetch_optional(&mut *transaction)
                        .await?;
                let Some(object) = token else { return Ok(()) };
                let entry = AuditEntry { action: "console.sign_out", object, tenant: None, detail: json!({}) };
                self.commit_audited(transaction, audit, entry).await
            }

            async fn audit(
                &self,
                tenant: Option<TenantId>,
                before: u64,
                limit: u32,
            ) -> Result<Vec<AuditEvent>, RegistryError> {
                let before = i64::try_from(before).unwrap_or(i64::MAX);
                let rows: Vec<AuditRow> = match tenant {
                    Some(tenant) => {
                        sqlx::query_as(
                            "SELECT seq, at, actor, action, object, tenant_id, detail, prev_hash, hash, hash_key, rights
                             FROM audit_event WHERE tenant_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3",
                        )
                        .bind(tenant.uuid())
                        .bind(before)
                        .bind(i64::from(limit))
                        .fetch_all(&self.pool)
                        .await?
                    }
                    None => {
                        sqlx::query_as(
                            "SELECT seq, at, actor, action, object, tenant_id, detail, prev_hash, hash, hash_key, rights
                             FROM audit_event WHERE seq < $1 ORDER BY seq DESC LIMIT $2",
                        )
                        .bind(before)
                        .bind(i64::from(limit))
                        .fetch_all(&self.pool)
                        .await?
                    }
                };
                rows.into_iter().map(AuditEvent::try_from).collect()
            }

            async fn verify_audit(&self, noted: Option<&AuditHead>) -> Result<AuditReport, RegistryError> {
                let mut snapshot_tx = self.pool.begin_with($begin_snapshot).await?;
                let (last, hash, code): (i64, Vec<u8>, Vec<u8>) =
                    sqlx::query_as("SELECT seq, hash, mac FROM audit_head").fetch_one(&mut *snapshot_tx).await?;
                let (mut check, mut after) = (AuditCheck::new(&self.keys, noted), i64::MIN);
                loop {
                    let rows: Vec<AuditRow> = sqlx::query_as(
                        "SELECT seq, at, actor, action, object, tenant_id, detail, prev_hash, hash, hash_key, rights
                         FROM audit_event WHERE seq > $1 ORDER BY seq LIMIT 1000",
                    )
                    .bind(after)
                    .fetch_all(&mut *snapshot_tx)
                    .await?;
                    let Some(newest) = rows.last().map(|row| row.seq) else { break };
                    after = newest;
                    for row in rows {
                        check.take(&AuditEvent::try_from(row)?);
                    }
                }
                let head = AuditHead { seq: u64::try_from(last).unwrap_or_default(), hash };
                Ok(check.finish(&head, &code))
            }

            async fn cut_audit(&self, before: Timestamp, audit: AuditContext<'_>) -> Result<u64, RegistryError> {
                self.cut_audit_log(before, audit).await
            }

            async fn forget_requests(&self, before: Timestamp) -> Result<(), RegistryError> {
                sqlx::query("DELETE FROM admin_session WHERE expires_at < $1")
                    .bind(stored_time(before))
                    .execute(&self.pool)
                    .await?;
                sqlx::query("DELETE FROM request_key WHERE created_at < $1")
                    .bind(stored_time(before))
                    .execute(&self.pool)
                    .await?;
                Ok(())
            }
        }
    };
}
pub(crate) use operator_sql;
