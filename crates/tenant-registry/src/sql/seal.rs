//! Signing and verification of all rights at once.

/// Writes `seal_rights` and `read_rights_report`. `$begin_snapshot` begins a transaction that sees one moment.
macro_rules! seal_sql {
    ($registry:ty, $database:ty, $begin_snapshot:literal) => {
        impl $registry {
            /// Signs everything: a registry of before, or one that somebody has looked through. With `as_it_stands` whatever is
            /// there; otherwise what was changed past the service is switched off first, so that an operator decides on it.
            pub async fn seal_rights(&self, as_it_stands: bool, audit: AuditContext<'_>) -> Result<Vec<String>, RegistryError> {
                let mut change = self.begin_change().await?;
                // Whoever changes tokens holds the end of the log.
                sqlx::query("UPDATE audit_head SET seq = seq").execute(&mut *change.transaction).await?;
                let changed = if as_it_stands {
                    RightsReport::default()
                } else {
                    self.rights_report(&mut change.transaction).await?
                };
                for name in &changed.changed {
                    self.suspend_or_revoke(&mut change, name, audit).await?;
                }
                let rows = self.every_licence_and_key(&mut change.transaction).await?;
                let tokens = self.every_token(&mut change.transaction).await?;
                let sealed = rows.len() + tokens.len();
                for (kind, rows) in [(TreeKind::Licences, rows), (TreeKind::Tokens, tokens)] {
                    let rows = rows.into_iter().map(|row| (row.name, row.hash));
                    self.seal_kind(&mut change.transaction, kind, change.revision, rows).await?;
                }
                let events: i64 =
                    sqlx::query_scalar("SELECT seq FROM audit_head").fetch_one(&mut *change.transaction).await?;
                if sealed == 0 && events == 0 {
                    // Nobody has done anything yet.
                    change.transaction.commit().await?;
                    return Ok(Vec::new());
                }
                let detail = json!({ "rows": sealed, "as_it_stands": as_it_stands, "switched_off": changed.changed });
                let entry =
                    AuditEntry { action: "rights.seal", object: "registry".to_owned(), tenant: None, detail };
                self.commit_audited(change.transaction, audit, entry).await?;
                Ok(changed.changed)
            }

            /// Suspends a licence, revokes a key or a token, whichever has the name.
            async fn suspend_or_revoke(
                &self,
                change: &mut Change<$database>,
                name: &str,
                audit: AuditContext<'_>,
            ) -> Result<(), RegistryError> {
                if let Ok(licence) = name.parse::<LicenceId>() {
                    sqlx::query(
                        "UPDATE licence SET suspended = TRUE, suspended_at = $2, suspended_by = $3,
                             suspended_reason = 'changed past the service', revision = $4 WHERE id = $1",
                    )
                    .bind(licence.uuid())
                    .bind(stored_time(audit.at))
                    .bind(audit.by)
                    .bind(change.revision)
                    .execute(&mut *change.transaction)
                    .await?;
                }
                sqlx::query("UPDATE licence_key SET revoked_at = $2, revision = $3 WHERE kid = $1 AND revoked_at IS NULL")
                    .bind(name)
                    .bind(stored_time(audit.at))
                    .bind(change.revision)
                    .execute(&mut *change.transaction)
                    .await?;
                sqlx::query("UPDATE admin_token SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
                    .bind(name)
                    .bind(stored_time(audit.at))
                    .execute(&mut *change.transaction)
                    .await?;
                Ok(())
            }

            async fn seal_kind(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: TreeKind,
                revision: i64,
                rows: impl Iterator<Item = (RowName, RowHash)>,
            ) -> Result<(), RegistryError> {
                let mut buckets: std::collections::BTreeMap<usize, Bucket> =
                    (0..kind.buckets()).map(|number| (number, Bucket::default())).collect();
                for (name, hash) in rows {
                    buckets.entry(name.bucket(kind)).or_default().put(name, Some(hash));
                }
                self.write_rights(connection, &mut Root::empty(kind), revision, buckets).await
            }

            /// Whether everything was signed once.
            pub async fn is_sealed(&self) -> Result<bool, RegistryError> {
                let roots: i64 =
                    sqlx::query_scalar("SELECT count(*) FROM rights_root").fetch_one(&self.pool).await?;
                Ok(roots > 0)
            }

            async fn every_licence_and_key(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
            ) -> Result<Vec<GrantRow>, RegistryError> {
                let licences: Vec<LicenceRow> = sqlx::query_as(
                    "SELECT id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at, created_at,
                         grace_days, in_flight, devices, privacy, terms_version, terms_accepted_at, terms_accepted_by,
                         suspended, suspended_at, suspended_by, suspended_reason, revision
                     FROM licence",
                )
                .fetch_all(&mut *connection)
                .await?;
                let servers: Vec<(uuid::Uuid, String)> =
                    sqlx::query_as("SELECT licence_id, server_id FROM server").fetch_all(&mut *connection).await?;
                let servers = $crate::snapshot::by_licence(
                    servers.into_iter().map(|(id, server)| (LicenceId::from_uuid(id), server)),
                );
                let keys: Vec<KeyRow> = sqlx::query_as(
                    "SELECT kid, licence_id, mac, pepper, hashed, ends_at, revoked_at, revision FROM licence_key
                     WHERE revoked_at IS NULL",
                )
                .fetch_all(connection)
                .await?;
                let licences = decode_rows::<_, Licence>(licences).into_iter().map(|it| {
                    let hash = rights::licence_hash(&it, servers.get(&it.id).map_or(&[], Vec::as_slice));
                    let public = it.id.to_string();
                    GrantRow { what: GrantKind::Licence, public, name: RowName::licence(it.id), hash }
                });
                let mut rows: Vec<_> = licences.collect();
                let mut sets: std::collections::HashMap<LicenceId, Vec<String>> = std::collections::HashMap::new();
                rows.extend(decode_rows::<_, KeyRecord>(keys).into_iter().map(|it| {
                    let (name, hash) = (RowName::key(&it.kid), rights::key_hash(&it));
                    sets.entry(it.licence).or_default().push(it.kid.clone());
                    GrantRow { what: GrantKind::Key, public: it.kid, name, hash }
                }));
                rows.extend(sets.into_iter().filter_map(|(licence, kids)| {
                    let hash = rights::key_set_hash(kids.iter().map(String::as_str))?;
                    let public = licence.to_string();
                    Some(GrantRow { what: GrantKind::KeySet, public, name: RowName::keys_of(licence), hash })
                }));
                Ok(rows)
            }

            async fn every_token(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
            ) -> Result<Vec<GrantRow>, RegistryError> {
                let rows: Vec<AdminTokenRow> = sqlx::query_as(
                    "SELECT id, name, role, tenant_id, mac, created_at, created_by, expires_at, revoked_at,
                         last_used_day
                     FROM admin_token WHERE revoked_at IS NULL",
                )
                .fetch_all(connection)
                .await?;
                // One that cannot be read opens nothing, and is missing in the tree's eyes.
                let row = |row: AdminTokenRow| {
                    let mac = row.mac.clone();
                    let token: AdminTokenRecord = decode_rows(vec![row]).pop()?;
                    let (name, hash) = (RowName::token(&token.id), rights::token_hash(&token, &mac));
                    Some(GrantRow { what: GrantKind::Token, public: token.id, name, hash })
                };
                Ok(rows.into_iter().filter_map(row).collect())
            }

            async fn read_rights_report(&self) -> Result<RightsReport, RegistryError> {
                let mut snapshot_tx = self.pool.begin_with($begin_snapshot).await?;
                self.rights_report(&mut snapshot_tx).await
            }

            async fn rights_report(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
            ) -> Result<RightsReport, RegistryError> {
                let mut report = RightsReport::default();
                for kind in TreeKind::ALL {
                    let root = self.current_root(&mut *connection, kind).await?;
                    let root = root.ok_or(RegistryError::NoRightsKey)?;
                    let mut proof = self.rights_proof(&mut *connection, &root, None).await?;
                    let rows = match kind {
                        TreeKind::Licences => self.every_licence_and_key(&mut *connection).await?,
                        TreeKind::Tokens => self.every_token(&mut *connection).await?,
                    };
                    let changed = rows.into_iter().filter(|row| !proof.covers(kind, row.name, &row.hash));
                    for row in changed {
                        // Whose keys are not those that were issued: each key is named, and the licence.
                        if row.what == GrantKind::KeySet {
                            let kids: Vec<String> = sqlx::query_scalar(
                                "SELECT kid FROM licence_key WHERE licence_id = $1 AND revoked_at IS NULL ORDER BY kid",
                            )
                            .bind(row.public.parse::<LicenceId>().map(|id| id.uuid()).unwrap_or_default())
                            .fetch_all(&mut *connection)
                            .await?;
                            report.changed.extend(kids);
                        } else {
                            report.changed.push(row.public);
                        }
                    }
                    report.deleted += proof.unseen();
                }
                report.changed.sort_unstable();
                report.changed.dedup();
                report.without_salt = sqlx::query_scalar::<_, i64>(
                    "SELECT count(*) FROM tenant WHERE id NOT IN (SELECT tenant_id FROM device_salt)",
                )
                .fetch_one(&mut *connection)
                .await?
                .unsigned_abs();
                report.old_keys = sqlx::query_scalar(
                    "SELECT kid FROM licence_key WHERE revoked_at IS NULL AND (ends_at IS NULL OR ends_at > $3)
                         AND (NOT hashed OR pepper < $1 OR substr(wrapped, 1, 4) <> $2) ORDER BY kid LIMIT 10000",
                )
                .bind(i64::from(self.keys.newest_pepper()))
                .bind(&self.keys.wrap_number().to_be_bytes()[..])
                .bind(stored_time(push_domain::Clock::now(&push_domain::SystemClock)))
                .fetch_all(&mut *connection)
                .await?;
                Ok(report)
            }
        }
    };
}
pub(crate) use seal_sql;
