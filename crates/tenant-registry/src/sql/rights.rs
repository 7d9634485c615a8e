//! Queries of the signed rights' hash tree: written with each change, checked with each read.

/// Writes how roots and buckets are read, checked and signed. `$begin_snapshot` begins a transaction that sees one moment.
macro_rules! rights_sql {
    ($registry:ty, $database:ty, $begin_snapshot:literal) => {
        impl $registry {
            /// Reads a root; `None` for a process that cannot check any.
            async fn rights_root(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: TreeKind,
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
                if let Some(names) = names.filter(|names| names.len() <= $crate::sql::MAX_SINGLE_BUCKET_READS) {
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
                kind: TreeKind,
                name: RowName,
                hash: &RowHash,
            ) -> Result<(), RegistryError> {
                let Some(root) = self.current_root(&mut *connection, kind).await? else { return Ok(()) };
                self.require_in(connection, &root, name, Some(hash)).await
            }

            /// Fails where a row is gone that still grants something: it would come back.
            async fn require_absent(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: TreeKind,
                name: RowName,
            ) -> Result<(), RegistryError> {
                let Some(root) = self.current_root(&mut *connection, kind).await? else { return Ok(()) };
                self.require_in(connection, &root, name, None).await
            }

            async fn require_in(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                root: &Root,
                name: RowName,
                hash: Option<&RowHash>,
            ) -> Result<(), RegistryError> {
                let bucket = self.rights_bucket(connection, root, name.bucket(root.kind)).await?;
                if bucket.get(name).as_ref() == hash { Ok(()) } else { Err(RegistryError::RightsChanged) }
            }

            /// Reads a root, and compares it with what the last audit event found signed: neither goes back alone. For those
            /// who may read the audit log.
            async fn current_root(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: TreeKind,
            ) -> Result<Option<Root>, RegistryError> {
                let Some(root) = self.rights_root(&mut *connection, kind).await? else { return Ok(None) };
                let signature: Vec<u8> =
                    sqlx::query_scalar("SELECT signature FROM rights_root WHERE kind = $1")
                        .bind(kind.as_str())
                        .fetch_one(&mut *connection)
                        .await?;
                if self.keys.audit_key().is_none() {
                    return Err(RegistryError::NoAuditKey);
                }
                // One statement, so that both are of one moment.
                let last: Option<LastEvent> = sqlx::query_as(
                    "SELECT e.seq, at, actor, action, object, tenant_id, detail, prev_hash, e.hash, hash_key, rights, mac
                     FROM audit_head AS h JOIN audit_event AS e ON e.seq = h.seq",
                )
                .fetch_optional(connection)
                .await?;
                let is_current = match last {
                    None => root.is_empty(),
                    Some(LastEvent { event, mac }) => {
                        let event = AuditEvent::try_from(event)?;
                        let is_ours = event.computed_hash(&self.keys).is_some_and(|hash| event.hash == hash)
                            && $crate::audit::head_mac(&self.keys, event.hash_key, event.seq, &event.hash)
                                .is_some_and(|code| mac == code);
                        let expected = rights::signed_digest(&[Some(signature)]);
                        let found = rights::part_of(kind, &event.rights);
                        // Nothing was sold before the first event that was signed for.
                        (event.rights.is_empty() && root.is_empty()) || (is_ours && found == Some(&expected[..]))
                    }
                };
                if is_current { Ok(Some(root)) } else { Err(RegistryError::RightsUnproven) }
            }

            /// What is signed at the moment, for the audit log.
            async fn rights_signed(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
            ) -> Result<Vec<u8>, RegistryError> {
                let mut signatures = Vec::new();
                for kind in TreeKind::ALL {
                    let signature: Option<Vec<u8>> =
                        sqlx::query_scalar("SELECT signature FROM rights_root WHERE kind = $1")
                            .bind(kind.as_str())
                            .fetch_optional(&mut *connection)
                            .await?;
                    signatures.push(signature);
                }
                Ok(rights::signed_digest(&signatures))
            }

            /// Signs what a change has made of rows (`None`: nothing is granted by it any more). Licences' roots bear the
            /// revision of the change, tokens' one of their own.
            async fn sign_rights(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                kind: TreeKind,
                revision: Option<i64>,
                rows: &[(RowName, Option<RowHash>)],
            ) -> Result<(), RegistryError> {
                let Some(mut root) = self.current_root(&mut *connection, kind).await? else {
                    return Err(RegistryError::NoRightsKey);
                };
                // A change follows the one before it.
                if revision.is_some_and(|revision| revision != stored_number(root.revision.saturating_add(1))) {
                    return Err(RegistryError::RightsUnproven);
                }
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
                require_found(done.rows_affected(), "licence")?;
                let (licence, servers) = self.rights_of(&mut change.transaction, id).await?;
                let (name, hash) = (RowName::licence(id), rights::licence_hash(&licence, &servers));
                self.require_proven(&mut change.transaction, TreeKind::Licences, name, &hash).await?;
                Ok((licence, servers))
            }

            /// Signs a licence as this change should have made it, whatever stands there.
            async fn sign_licence(
                &self,
                change: &mut Change<$database>,
                licence: Licence,
                servers: &[String],
            ) -> Result<(), RegistryError> {
                let licence = Licence { revision: u64::try_from(change.revision).unwrap_or_default(), ..licence };
                let row = (RowName::licence(licence.id), Some(rights::licence_hash(&licence, servers)));
                self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &[row]).await
            }

            async fn rights_of(
                &self,
                connection: &mut <$database as sqlx::Database>::Connection,
                id: LicenceId,
            ) -> Result<(Licence, Vec<String>), RegistryError> {
                let licence = self.licence_row(&mut *connection, id).await?;
                let servers =
                    sqlx::query_scalar("SELECT server_id FROM server WHERE licence_id = $1 ORDER BY server_id")
                        .bind(id.uuid())
                        .fetch_all(connection)
                        .await?;
                Ok((licence.ok_or(RegistryError::NotFound("licence"))?, servers))
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
                let keys: Vec<KeyRecord> = decode_rows(rows);
                let Some(root) = self.current_root(&mut change.transaction, TreeKind::Licences).await? else {
                    return Ok(keys);
                };
                for key in &keys {
                    let (name, hash) = (RowName::key(&key.kid), rights::key_hash(key));
                    self.require_in(&mut change.transaction, &root, name, Some(&hash)).await?;
                }
                let set = rights::key_set_hash(keys.iter().map(|key| &*key.kid));
                self.require_in(&mut change.transaction, &root, RowName::keys_of(licence), set.as_ref()).await?;
                Ok(keys)
            }

            /// Whether a token is as it was written.
            async fn is_token_proven(&self, token: &AdminTokenRecord, mac: &[u8]) -> Result<bool, RegistryError> {
                let mut snapshot_tx = self.pool.begin_with($begin_snapshot).await?;
                let (name, hash) = (RowName::token(&token.id), rights::token_hash(token, mac));
                match self.require_proven(&mut snapshot_tx, TreeKind::Tokens, name, &hash).await {
                    Ok(()) => Ok(true),
                    Err(RegistryError::RightsChanged) => {
                        $crate::rights::report_unproven_row("operators' token", &token.id);
                        Ok(false)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    };
}
pub(crate) use rights_sql;
