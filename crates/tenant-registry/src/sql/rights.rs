//! The signed hashes of what grants anything: written with each change, checked with each look.

/// Writes how roots and buckets are read, checked and signed. `$moment` begins a transaction that sees one moment.
macro_rules! rights_sql {
    ($registry:ty, $database:ty, $moment:literal) => {
        impl $registry {
            /// Reads a root; `None` for a process that cannot check any.
            async fn rights_root(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: Kind,
            ) -> Result<Option<Root>, RegistryError> {
                if !self.keys.rights().can_check() {
                    return Ok(None);
                }
                let stored: Option<StoredRoot> =
                    sqlx::query_as("SELECT revision, hashes, key, signature FROM rights_root WHERE kind = $1")
                        .bind(kind.as_str())
                        .fetch_optional(connection)
                        .await?;
                let stored = stored.ok_or(RegistryError::RightsUnsealed)?;
                Root::opened(kind, &stored, self.keys.rights()).map(Some)
            }

            /// Reads one bucket.
            async fn rights_bucket(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                root: &Root,
                number: usize,
            ) -> Result<Bucket, RegistryError> {
                let stored: Option<Vec<u8>> =
                    sqlx::query_scalar("SELECT entries FROM rights_bucket WHERE kind = $1 AND number = $2")
                        .bind(root.kind.as_str())
                        .bind(stored_number(number as u64))
                        .fetch_optional(connection)
                        .await?;
                let bucket = Bucket::opened(stored.unwrap_or_default(), root.hash(number));
                bucket.ok_or(RegistryError::RightsUnproven)
            }

            /// Reads what proves some rows, or all.
            async fn rights_proof(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                root: &Root,
                names: Option<&[RowName]>,
            ) -> Result<Proof, RegistryError> {
                let mut proof = Proof::default();
                if let Some(names) = names.filter(|names| names.len() <= $crate::sql::ROWS_ONE_BY_ONE) {
                    for name in names {
                        let number = name.bucket(root.kind);
                        proof.add(number, self.rights_bucket(&mut *connection, root, number).await?);
                    }
                    return Ok(proof);
                }
                let stored: Vec<(i64, Vec<u8>)> =
                    sqlx::query_as("SELECT number, entries FROM rights_bucket WHERE kind = $1")
                        .bind(root.kind.as_str())
                        .fetch_all(connection)
                        .await?;
                let mut stored: std::collections::HashMap<i64, Vec<u8>> = stored.into_iter().collect();
                for number in 0..root.kind.buckets() {
                    let entries = stored.remove(&stored_number(number as u64)).unwrap_or_default();
                    let bucket = Bucket::opened(entries, root.hash(number));
                    proof.add(number, bucket.ok_or(RegistryError::RightsUnproven)?);
                }
                Ok(proof)
            }

            /// Fails when a row that is about to be changed is not as it was written: nobody's change makes good of it.
            async fn require_proven(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: Kind,
                name: RowName,
                hash: &RowHash,
            ) -> Result<(), RegistryError> {
                let Some(root) = self.rights_root(&mut *connection, kind).await? else { return Ok(()) };
                let bucket = self.rights_bucket(connection, &root, name.bucket(kind)).await?;
                if bucket.get(name).as_ref() == Some(hash) { Ok(()) } else { Err(RegistryError::RightsChanged) }
            }

            /// Signs what a change has made of rows (`None`: nothing is granted by it any more). Licences' roots bear the
            /// revision of the change, tokens' one of their own.
            async fn sign_rights(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: Kind,
                revision: Option<i64>,
                rows: &[(RowName, Option<RowHash>)],
            ) -> Result<(), RegistryError> {
                let Some(mut root) = self.rights_root(&mut *connection, kind).await? else {
                    return Err(RegistryError::NoRightsKey);
                };
                let mut buckets = std::collections::BTreeMap::new();
                for (name, hash) in rows {
                    let number = name.bucket(kind);
                    if !buckets.contains_key(&number) {
                        buckets.insert(number, self.rights_bucket(&mut *connection, &root, number).await?);
                    }
                    buckets.entry(number).or_default().put(*name, *hash);
                }
                let own = stored_number(root.revision.saturating_add(1));
                self.write_rights(connection, &mut root, revision.unwrap_or(own), buckets).await
            }

            async fn write_rights(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                root: &mut Root,
                revision: i64,
                buckets: std::collections::BTreeMap<usize, Bucket>,
            ) -> Result<(), RegistryError> {
                for (number, bucket) in buckets {
                    root.set(number, bucket.hash());
                    sqlx::query(
                        "INSERT INTO rights_bucket (kind, number, entries) VALUES ($1, $2, $3)
                         ON CONFLICT (kind, number) DO UPDATE SET entries = excluded.entries",
                    )
                    .bind(root.kind.as_str())
                    .bind(stored_number(number as u64))
                    .bind(bucket.bytes())
                    .execute(&mut *connection)
                    .await?;
                }
                root.revision = u64::try_from(revision).unwrap_or_default();
                let signed = root.signed(self.keys.rights()).ok_or(RegistryError::NoRightsKey)?;
                sqlx::query(
                    "INSERT INTO rights_root (kind, revision, hashes, key, signature) VALUES ($1, $2, $3, $4, $5)
                     ON CONFLICT (kind) DO UPDATE SET revision = excluded.revision, hashes = excluded.hashes,
                         key = excluded.key, signature = excluded.signature",
                )
                .bind(root.kind.as_str())
                .bind(signed.revision)
                .bind(signed.hashes)
                .bind(signed.key)
                .bind(signed.signature)
                .execute(connection)
                .await?;
                Ok(())
            }

            /// Locks a licence's row, and returns it with its servers, if it is as it was written.
            async fn proven_licence(
                &self,
                change: &mut Change<$database>,
                id: LicenceId,
            ) -> Result<(Licence, Vec<String>), RegistryError> {
                let done = sqlx::query("UPDATE licence SET revision = revision WHERE id = $1")
                    .bind(id.uuid())
                    .execute(&mut *change.transaction)
                    .await?;
                found(done.rows_affected(), "licence")?;
                let (licence, servers) = self.rights_of(&mut change.transaction, id).await?;
                let (name, hash) = (RowName::licence(id), rights::licence_hash(&licence, &servers));
                self.require_proven(&mut change.transaction, Kind::Licences, name, &hash).await?;
                Ok((licence, servers))
            }

            /// Signs a licence as it is now, with the servers that it should have.
            async fn sign_licence(
                &self,
                change: &mut Change<$database>,
                id: LicenceId,
                servers: &[String],
            ) -> Result<(), RegistryError> {
                let (licence, _) = self.rights_of(&mut change.transaction, id).await?;
                let row = (RowName::licence(id), Some(rights::licence_hash(&licence, servers)));
                self.sign_rights(&mut change.transaction, Kind::Licences, Some(change.revision), &[row]).await
            }

            async fn rights_of(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                id: LicenceId,
            ) -> Result<(Licence, Vec<String>), RegistryError> {
                let row: Option<LicenceRow> = sqlx::query_as(
                    "SELECT id, tenant_id, plan, regions, rate_per_second, burst, not_before, expires_at, created_at,
                         grace_days, in_flight, devices, privacy, terms_version, terms_accepted_at, terms_accepted_by,
                         suspended, suspended_at, suspended_by, suspended_reason, revision
                     FROM licence WHERE id = $1",
                )
                .bind(id.uuid())
                .fetch_optional(&mut *connection)
                .await?;
                let servers =
                    sqlx::query_scalar("SELECT server_id FROM server WHERE licence_id = $1 ORDER BY server_id")
                        .bind(id.uuid())
                        .fetch_all(connection)
                        .await?;
                Ok((row.ok_or(RegistryError::Missing("licence"))?.try_into()?, servers))
            }

            /// Locks the live keys of a licence, and returns them, if they are as they were written.
            async fn proven_keys(
                &self,
                change: &mut Change<$database>,
                licence: LicenceId,
            ) -> Result<Vec<KeyRecord>, RegistryError> {
                let rows: Vec<KeyRow> = sqlx::query_as(
                    "UPDATE licence_key SET revision = revision WHERE licence_id = $1 AND revoked_at IS NULL
                     RETURNING kid, licence_id, mac, pepper, hashed, ends_at, revoked_at, revision",
                )
                .bind(licence.uuid())
                .fetch_all(&mut *change.transaction)
                .await?;
                let keys: Vec<KeyRecord> = readable(rows);
                for key in &keys {
                    let (name, hash) = (RowName::key(&key.kid), rights::key_hash(key));
                    self.require_proven(&mut change.transaction, Kind::Licences, name, &hash).await?;
                }
                Ok(keys)
            }

            /// Whether a token is as it was written.
            async fn is_token_proven(&self, token: &AdminTokenRecord, mac: &[u8]) -> Result<bool, RegistryError> {
                let mut moment = self.pool.begin_with($moment).await?;
                let (name, hash) = (RowName::token(&token.id), rights::token_hash(token, mac));
                match self.require_proven(&mut moment, Kind::Tokens, name, &hash).await {
                    Ok(()) => Ok(true),
                    Err(RegistryError::RightsChanged) => {
                        $crate::sql::tell_unproven("operators' token", &token.id);
                        Ok(false)
                    }
                    Err(error) => Err(error),
                }
            }

            /// Signs everything as it stands: a registry of before, or one that an operator has looked through.
            pub async fn seal_rights(&self, act: Act<'_>) -> Result<(), RegistryError> {
                let mut change = self.change().await?;
                // Whoever changes tokens holds the end of the log.
                sqlx::query("UPDATE audit_head SET seq = seq").execute(&mut *change.transaction).await?;
                let rows = self.every_licence_and_key(&mut change.transaction).await?;
                let tokens = self.every_token(&mut change.transaction).await?;
                let sealed = rows.len() + tokens.len();
                for (kind, rows) in [(Kind::Licences, rows), (Kind::Tokens, tokens)] {
                    let rows = rows.into_iter().map(|row| (row.name, row.hash));
                    self.seal_kind(&mut change.transaction, kind, change.revision, rows).await?;
                }
                if sealed == 0 {
                    // Nobody has done anything yet.
                    return Ok(change.transaction.commit().await?);
                }
                let deed =
                    Deed { action: "rights.seal", object: "registry".to_owned(), tenant: None, detail: json!({ "rows": sealed }) };
                self.conclude(change.transaction, act, deed).await
            }

            async fn seal_kind(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: Kind,
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
            ) -> Result<Vec<GrantingRow>, RegistryError> {
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
                let servers = $crate::sql::by_licence(
                    servers.into_iter().map(|(id, server)| (LicenceId::from_uuid(id), server)),
                );
                let keys: Vec<KeyRow> = sqlx::query_as(
                    "SELECT kid, licence_id, mac, pepper, hashed, ends_at, revoked_at, revision FROM licence_key
                     WHERE revoked_at IS NULL",
                )
                .fetch_all(connection)
                .await?;
                let licences = readable::<_, Licence>(licences).into_iter().map(|it| {
                    let hash = rights::licence_hash(&it, servers.get(&it.id).map_or(&[], Vec::as_slice));
                    GrantingRow { public: it.id.to_string(), name: RowName::licence(it.id), hash }
                });
                let mut rows: Vec<_> = licences.collect();
                rows.extend(readable::<_, KeyRecord>(keys).into_iter().map(|it| {
                    let (name, hash) = (RowName::key(&it.kid), rights::key_hash(&it));
                    GrantingRow { public: it.kid, name, hash }
                }));
                Ok(rows)
            }

            async fn every_token(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
            ) -> Result<Vec<GrantingRow>, RegistryError> {
                let rows: Vec<AdminTokenRow> = sqlx::query_as(
                    "SELECT id, name, role, tenant_id, mac, created_at, created_by, expires_at, revoked_at,
                         last_used_day
                     FROM admin_token WHERE revoked_at IS NULL",
                )
                .fetch_all(connection)
                .await?;
                let row = |row: AdminTokenRow| {
                    let mac = row.mac.clone();
                    let token = AdminTokenRecord::try_from(row)?;
                    let (name, hash) = (RowName::token(&token.id), rights::token_hash(&token, &mac));
                    Ok(GrantingRow { public: token.id, name, hash })
                };
                rows.into_iter().map(row).collect()
            }

            async fn look_at_rights(&self) -> Result<RightsReport, RegistryError> {
                let mut moment = self.pool.begin_with($moment).await?;
                let mut report = RightsReport::default();
                for kind in Kind::ALL {
                    let root = self.rights_root(&mut moment, kind).await?;
                    let root = root.ok_or(RegistryError::NoRightsKey)?;
                    let mut proof = self.rights_proof(&mut moment, &root, None).await?;
                    let rows = match kind {
                        Kind::Licences => self.every_licence_and_key(&mut moment).await?,
                        Kind::Tokens => self.every_token(&mut moment).await?,
                    };
                    let changed = rows.into_iter().filter(|row| !proof.covers(kind, row.name, &row.hash));
                    report.changed.extend(changed.map(|row| row.public));
                    report.deleted += proof.unseen();
                }
                report.old_keys = sqlx::query_scalar(
                    "SELECT kid FROM licence_key WHERE revoked_at IS NULL
                         AND (NOT hashed OR pepper < $1 OR substr(wrapped, 1, 4) <> $2) ORDER BY kid LIMIT 10000",
                )
                .bind(i64::from(self.keys.newest_pepper()))
                .bind(&self.keys.wrap_number().to_be_bytes()[..])
                .fetch_all(&mut *moment)
                .await?;
                Ok(report)
            }
        }
    };
}
pub(crate) use rights_sql;
