//! Queries behind `Seeder`: very many tenants at once, for tests and demos.

/// Implements [`Seeder`](crate::Seeder).
macro_rules! seed_sql {
    ($registry:ty) => {
        #[async_trait::async_trait]
        impl $crate::Seeder for $registry {
            async fn seed(
                &self,
                names: &[String],
                terms: &LicenceDraft,
                region: &str,
                audit: AuditContext<'_>,
            ) -> Result<Vec<(Tenant, IssuedKey)>, RegistryError> {
                let mut change = self.begin_change().await?;
                let accepted = Acceptance { version: "seed".to_owned(), at: audit.at, by: "seed".to_owned() };
                let mut made = Vec::with_capacity(names.len());
                let mut rows = Vec::with_capacity(2 * names.len());
                for name in names {
                    let tenant = self.insert_tenant(&mut change, &TenantDraft::named(name), audit.at).await?;
                    let terms = LicenceDraft { tenant: tenant.id, ..terms.clone() };
                    let licence =
                        self.insert_licence(&mut change, terms, Some(accepted.clone()), audit.at).await?;
                    rows.push((RowName::licence(licence.id), Some(rights::licence_hash(&licence, &[]))));
                    let issued = self.insert_key(&mut change, licence.id, region, audit.at).await?;
                    rows.push((RowName::key(&issued.record.kid), Some(rights::key_hash(&issued.record))));
                    let set = rights::key_set_hash([&*issued.record.kid]);
                    rows.push((RowName::keys_of(licence.id), set));
                    made.push((tenant, issued));
                }
                self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &rows).await?;
                let entry = AuditEntry {
                    action: "tenant.seed",
                    object: names.first().cloned().unwrap_or_default(),
                    tenant: None,
                    detail: json!({ "tenants": names.len() }),
                };
                self.commit_audited(change.transaction, audit, entry).await?;
                Ok(made)
            }
        }
    };
}
pub(crate) use seed_sql;
