//! Very many tenants at once, for tests and demos.

/// Implements [`Seeder`](crate::Seeder).
macro_rules! seed_sql {
    ($registry:ty, $database:ty) => {
        impl $registry {
            async fn seed_tenant(
                &self,
                change: &mut Change<$database>,
                name: &str,
                at: Timestamp,
            ) -> Result<Tenant, RegistryError> {
                let tenant = Tenant {
                    id: TenantId::new(),
                    name: name.to_owned(),
                    device_salt: new_salt(),
                    contact: String::new(),
                    failover_consent: false,
                    created_at: at,
                    revision: u64::try_from(change.revision).unwrap_or_default(),
                };
                sqlx::query(
                    "INSERT INTO tenant (id, name, device_salt, created_at, revision) VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(tenant.id.uuid())
                .bind(name)
                .bind(&tenant.device_salt[..])
                .bind(stored_time(at))
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await
                .map_err(name_taken)?;
                Ok(tenant)
            }

            async fn seed_licence(
                &self,
                change: &mut Change<$database>,
                tenant: TenantId,
                terms: &LicenceDraft,
                at: Timestamp,
            ) -> Result<LicenceId, RegistryError> {
                let licence = LicenceId::new();
                sqlx::query(
                    "INSERT INTO licence (id, tenant_id, plan, regions, rate_per_second, burst, not_before,
                         expires_at, grace_days, created_at, terms_version, terms_accepted_at, terms_accepted_by,
                         revision)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'seed', $10, 'seed', $11)",
                )
                .bind(licence.uuid())
                .bind(tenant.uuid())
                .bind(terms.plan.as_str())
                .bind(terms.regions.join(","))
                .bind(i64::from(terms.rate_per_second))
                .bind(i64::from(terms.burst))
                .bind(stored_time(terms.not_before))
                .bind(terms.expires_at.map(stored_time))
                .bind(i64::from(terms.grace_days))
                .bind(stored_time(at))
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await?;
                Ok(licence)
            }

            async fn seed_key(
                &self,
                change: &mut Change<$database>,
                licence: LicenceId,
                region: &str,
                at: Timestamp,
            ) -> Result<IssuedKey, RegistryError> {
                let key = LicenceKey::generate(region);
                let (mac, pepper) = self.keys.mac(key.expose());
                let record = KeyRecord { kid: key.kid().to_owned(), licence, mac, pepper, ends_at: None };
                sqlx::query(
                    "INSERT INTO licence_key (kid, licence_id, mac, pepper, created_at, revision)
                     VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(&record.kid)
                .bind(licence.uuid())
                .bind(&record.mac[..])
                .bind(i64::from(pepper))
                .bind(stored_time(at))
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await?;
                Ok(IssuedKey { key, record })
            }
        }

        #[async_trait::async_trait]
        impl $crate::Seeder for $registry {
            async fn seed(
                &self,
                names: &[String],
                terms: &LicenceDraft,
                region: &str,
                act: Act<'_>,
            ) -> Result<Vec<(Tenant, IssuedKey)>, RegistryError> {
                let mut change = self.change().await?;
                let mut made = Vec::with_capacity(names.len());
                for name in names {
                    let tenant = self.seed_tenant(&mut change, name, act.at).await?;
                    let licence = self.seed_licence(&mut change, tenant.id, terms, act.at).await?;
                    made.push((tenant, self.seed_key(&mut change, licence, region, act.at).await?));
                }
                let deed = Deed {
                    action: "tenant.seed",
                    object: names.first().cloned().unwrap_or_default(),
                    tenant: None,
                    detail: json!({ "tenants": names.len() }),
                };
                self.conclude(change.transaction, act, deed).await?;
                Ok(made)
            }
        }
    };
}
pub(crate) use seed_sql;
