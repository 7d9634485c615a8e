//! Queries behind `TenantAdmin`.

/// Implements [`TenantAdmin`](crate::TenantAdmin).
macro_rules! tenant_sql {
    ($registry:ty, $database:ty) => {
        #[async_trait::async_trait]
        impl $crate::TenantAdmin for $registry {
            async fn create_tenant(&self, draft: &TenantDraft, audit: AuditContext<'_>) -> Result<Tenant, RegistryError> {
                let mut change = self.begin_change().await?;
                if let Some(before) = self.find_replayed(&mut change.transaction, audit).await? {
                    drop(change);
                    let id = before.parse().map_err(|_| RegistryError::RequestKeyReused)?;
                    return self.tenant(id).await?.ok_or(RegistryError::NotFound("tenant"));
                }
                let tenant = self.insert_tenant(&mut change, draft, audit.at).await?;
                let entry = AuditEntry {
                    action: "tenant.create",
                    object: tenant.id.to_string(),
                    tenant: Some(tenant.id),
                    detail: json!({ "name": tenant.name }),
                };
                self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &[]).await?;
                self.commit_audited(change.transaction, audit, entry).await?;
                Ok(tenant)
            }

            async fn update_tenant(
                &self,
                tenant: TenantId,
                draft: &TenantDraft,
                revision: Option<u64>,
                audit: AuditContext<'_>,
            ) -> Result<Tenant, RegistryError> {
                let mut change = self.begin_change().await?;
                let done = sqlx::query(
                    "UPDATE tenant SET name = $2, contact = $3, failover_consent = $4, revision = $5
                     WHERE id = $1 AND ($6 < 0 OR revision = $6)",
                )
                .bind(tenant.uuid())
                .bind(&draft.name)
                .bind(&draft.contact)
                .bind(draft.failover_consent)
                .bind(change.revision)
                .bind(stored_revision(revision))
                .execute(&mut *change.transaction)
                .await
                .map_err(name_taken)?;
                require_revision(done.rows_affected(), revision, "tenant")?;
                let entry = AuditEntry {
                    action: "tenant.update",
                    object: tenant.to_string(),
                    tenant: Some(tenant),
                    detail: json!({
                        "name": draft.name,
                        "failover_consent": draft.failover_consent,
                        "has_contact": !draft.contact.is_empty(),
                    }),
                };
                self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &[]).await?;
                self.commit_audited(change.transaction, audit, entry).await?;
                self.tenant(tenant).await?.ok_or(RegistryError::NotFound("tenant"))
            }

            async fn tenant(&self, tenant: TenantId) -> Result<Option<Tenant>, RegistryError> {
                let row: Option<TenantRow> = sqlx::query_as(
                    "SELECT id, name, salt, contact, failover_consent, created_at, revision
                     FROM tenant JOIN device_salt ON tenant_id = id WHERE id = $1",
                )
                .bind(tenant.uuid())
                .fetch_optional(&self.pool)
                .await?;
                row.map(Tenant::try_from).transpose()
            }

            async fn tenant_named(&self, name: &str) -> Result<Option<Tenant>, RegistryError> {
                let row: Option<TenantRow> = sqlx::query_as(
                    "SELECT id, name, salt, contact, failover_consent, created_at, revision
                     FROM tenant JOIN device_salt ON tenant_id = id WHERE name = $1",
                )
                .bind(name)
                .fetch_optional(&self.pool)
                .await?;
                row.map(Tenant::try_from).transpose()
            }

            async fn tenants(
                &self,
                query: TenantQuery<'_>,
            ) -> Result<(Vec<Tenant>, Vec<Licence>), RegistryError> {
                let TenantQuery { search, after, limit } = query;
                // A database folds the case of ASCII, and of more only where it is told to: other letters are
                // looked for as they stand too.
                let as_it_stands = if search.is_ascii() { String::new() } else { like_pattern(search) };
                let tenants: Vec<TenantRow> = sqlx::query_as(
                    "SELECT id, name, salt, contact, failover_consent, created_at, revision
                     FROM tenant JOIN device_salt ON tenant_id = id WHERE name > $1 AND ($2 = '%%' OR lower(name) LIKE $2 ESCAPE '\\'
                         OR ($4 <> '' AND name LIKE $4 ESCAPE '\\'))
                     ORDER BY name LIMIT $3",
                )
                .bind(after)
                .bind(like_pattern(&search.to_lowercase()))
                .bind(i64::from(limit))
                .bind(as_it_stands)
                .fetch_all(&self.pool)
                .await?;
                let tenants: Vec<Tenant> = decode_rows(tenants);
                if tenants.is_empty() {
                    return Ok((tenants, Vec::new()));
                }
                let mut licences = sqlx::QueryBuilder::<$database>::new(
                    "SELECT id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at,
                         created_at, grace_days, in_flight, devices, privacy, terms_version, terms_accepted_at,
                         terms_accepted_by, suspended, suspended_at, suspended_by, suspended_reason, revision
                     FROM licence WHERE tenant_id IN (",
                );
                let mut ids = licences.separated(", ");
                for tenant in &tenants {
                    ids.push_bind(tenant.id.uuid());
                }
                licences.push(")");
                let licences: Vec<LicenceRow> = licences.build_query_as().fetch_all(&self.pool).await?;
                Ok((tenants, decode_rows(licences)))
            }

            async fn order_erasure(
                &self,
                tenant: TenantId,
                audit: AuditContext<'_>,
            ) -> Result<Erasure, RegistryError> {
                let mut change = self.begin_change().await?;
                let order = Erasure {
                    id: uuid::Uuid::now_v7(),
                    tenant,
                    ordered_at: audit.at,
                    ordered_by: audit.by.to_owned(),
                    done: None,
                };
                let known = sqlx::query("UPDATE tenant SET revision = $2 WHERE id = $1")
                    .bind(tenant.uuid())
                    .bind(change.revision)
                    .execute(&mut *change.transaction)
                    .await?;
                require_found(known.rows_affected(), "tenant")?;
                sqlx::query(
                    "INSERT INTO erasure (id, tenant_id, ordered_at, ordered_by, revision) VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(order.id)
                .bind(tenant.uuid())
                .bind(stored_time(order.ordered_at))
                .bind(&order.ordered_by)
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await?;
                let entry = AuditEntry {
                    action: "device.order_erasure",
                    object: tenant.to_string(),
                    tenant: Some(tenant),
                    detail: json!({ "order": order.id.to_string() }),
                };
                self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &[]).await?;
                self.commit_audited(change.transaction, audit, entry).await?;
                Ok(order)
            }

            async fn totals(&self, now: Timestamp) -> Result<[u64; 3], RegistryError> {
                let (tenants, licences, keys): (i64, i64, i64) = sqlx::query_as(
                    "SELECT (SELECT count(*) FROM tenant), (SELECT count(*) FROM licence),
                         (SELECT count(*) FROM licence_key
                          WHERE revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $1))",
                )
                .bind(stored_time(now))
                .fetch_one(&self.pool)
                .await?;
                Ok([tenants, licences, keys].map(|count| u64::try_from(count).unwrap_or_default()))
            }
        }
    };
}
pub(crate) use tenant_sql;
