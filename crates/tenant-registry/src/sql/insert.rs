//! INSERT statements of new tenants, licences and keys.

/// Implements the writing of new rows, as parts of a change.
macro_rules! insert_sql {
    ($registry:ty, $database:ty) => {
        impl $registry {
            async fn insert_tenant(
                &self,
                change: &mut Change<$database>,
                draft: &TenantDraft,
                at: Timestamp,
            ) -> Result<Tenant, RegistryError> {
                let tenant = Tenant {
                    id: TenantId::new(),
                    name: draft.name.clone(),
                    device_salt: new_salt(),
                    contact: draft.contact.clone(),
                    failover_consent: draft.failover_consent,
                    created_at: at,
                    revision: u64::try_from(change.revision).unwrap_or_default(),
                };
                sqlx::query(
                    "INSERT INTO tenant (id, name, contact, failover_consent, created_at, revision)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(tenant.id.uuid())
                .bind(&tenant.name)
                .bind(&tenant.contact)
                .bind(tenant.failover_consent)
                .bind(stored_time(at))
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await
                .map_err(name_taken)?;
                sqlx::query("INSERT INTO device_salt (tenant_id, salt) VALUES ($1, $2)")
                    .bind(tenant.id.uuid())
                    .bind(&tenant.device_salt[..])
                    .execute(&mut *change.transaction)
                    .await?;
                Ok(tenant)
            }

            async fn insert_licence(
                &self,
                change: &mut Change<$database>,
                terms: LicenceDraft,
                accepted: Option<Acceptance>,
                at: Timestamp,
            ) -> Result<Licence, RegistryError> {
                let licence = Licence {
                    id: LicenceId::new(),
                    terms,
                    accepted,
                    suspension: None,
                    created_at: at,
                    revision: u64::try_from(change.revision).unwrap_or_default(),
                };
                let (terms, accepted) = (&licence.terms, licence.accepted.as_ref());
                let statement = sqlx::query(
                    "INSERT INTO licence (id, tenant_id, plan, regions, rate_per_second, burst, in_flight, devices,
                         privacy, not_before, expires_at, grace_days, created_at, revision, terms_version,
                         terms_accepted_at, terms_accepted_by)
                     SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17
                     FROM tenant WHERE id = $2",
                )
                .bind(licence.id.uuid())
                .bind(terms.tenant.uuid());
                let done = bind_terms!(statement, terms)
                    .bind(stored_time(at))
                    .bind(change.revision)
                    .bind(accepted.map(|it| &*it.version))
                    .bind(accepted.map(|it| stored_time(it.at)))
                    .bind(accepted.map(|it| &*it.by))
                    .execute(&mut *change.transaction)
                    .await?;
                require_found(done.rows_affected(), "tenant")?;
                Ok(licence)
            }

            async fn insert_key(
                &self,
                change: &mut Change<$database>,
                licence: LicenceId,
                region: &str,
                at: Timestamp,
            ) -> Result<IssuedKey, RegistryError> {
                let key = LicenceKey::generate(region);
                let digest = KeyDigest::of(key.expose());
                // Processes of the version before know no other code, until the migration is finished.
                let finished: i64 =
                    sqlx::query_scalar("SELECT finished FROM revision").fetch_one(&mut *change.transaction).await?;
                let hashed = finished >= $crate::sql::DIGESTS_SINCE;
                let (mac, pepper) =
                    if hashed { self.keys.mac(&digest) } else { self.keys.legacy_mac(key.expose()) };
                let revision = u64::try_from(change.revision).unwrap_or_default();
                let kid = key.kid().to_owned();
                let wrapped = self.keys.wrap(&kid, &digest).ok_or(RegistryError::NoAuditKey)?;
                let record = KeyRecord { kid, licence, mac, pepper, hashed, ends_at: None, revision };
                sqlx::query(
                    "INSERT INTO licence_key (kid, licence_id, mac, pepper, created_at, revision, hashed, wrapped)
                     VALUES ($1, $2, $3, $4, $5, $6, $8, $7)",
                )
                .bind(&record.kid)
                .bind(licence.uuid())
                .bind(&record.mac[..])
                .bind(i64::from(pepper))
                .bind(stored_time(at))
                .bind(change.revision)
                .bind(wrapped)
                .bind(hashed)
                .execute(&mut *change.transaction)
                .await?;
                Ok(IssuedKey { key, record })
            }
        }
    };
}
pub(crate) use insert_sql;
