//! Commit of a change: its audit entry is written in the same transaction.

/// Writes `commit_audited` and `find_replayed`.
macro_rules! commit_sql {
    ($registry:ty, $database:ty) => {
        impl $registry {
            /// Appends to the audit log, notes the caller's request key, and makes all of it last.
            async fn commit_audited(
                &self,
                mut transaction: sqlx::Transaction<'static, $database>,
                audit: $crate::AuditContext<'_>,
                entry: $crate::sql::AuditEntry<'_>,
            ) -> Result<(), $crate::RegistryError> {
                self.record_idempotency_key(&mut transaction, audit, &entry.object).await?;
                let hash_key = self.keys.audit_key().ok_or($crate::RegistryError::NoAuditKey)?;
                // The row is locked from here on: nobody else appends before this one is done.
                let (seq, hash, code): (i64, Vec<u8>, Vec<u8>) =
                    sqlx::query_as("UPDATE audit_head SET seq = seq + 1 RETURNING seq, hash, mac")
                        .fetch_one(&mut *transaction)
                        .await?;
                let mut seq = u64::try_from(seq).unwrap_or_default();
                let rights = self.rights_signed(&mut transaction).await?;
                let last: Option<(Vec<u8>, i64)> =
                    sqlx::query_as("SELECT hash, hash_key FROM audit_event WHERE seq = $1")
                        .bind(stored_number(seq - 1))
                        .fetch_optional(&mut *transaction)
                        .await?;
                let mut end = hash;
                // An end that was put elsewhere is not gone on from as if nothing had been: what is found is noted for good.
                if !$crate::audit::is_end(&self.keys, seq - 1, &end, &code, last) {
                    let (found, at) = ($crate::audit::TAMPERED_ACTION, audit.at);
                    tracing::error!(seq, "the audit log was tampered with: it does not end where this service ended it");
                    let event = $crate::AuditEvent {
                        seq,
                        at,
                        actor: "hpns".to_owned(),
                        action: found.to_owned(),
                        object: "audit".to_owned(),
                        tenant: None,
                        detail: "{}".to_owned(),
                        prev_hash: end,
                        hash: Vec::new(),
                        hash_key,
                        rights: rights.clone(),
                    };
                    end = self.append(&mut transaction, event).await?;
                    seq += 1;
                }
                let event = $crate::AuditEvent {
                    seq,
                    at: audit.at,
                    actor: audit.by.to_owned(),
                    action: entry.action.to_owned(),
                    object: entry.object,
                    tenant: entry.tenant,
                    detail: entry.detail.to_string(),
                    prev_hash: end,
                    hash: Vec::new(),
                    hash_key,
                    rights,
                };
                self.append(&mut transaction, event).await?;
                transaction.commit().await?;
                self.notify_readers();
                Ok(())
            }

            async fn record_idempotency_key(
                &self,
                transaction: &mut sqlx::Transaction<'static, $database>,
                audit: $crate::AuditContext<'_>,
                object: &str,
            ) -> Result<(), $crate::RegistryError> {
                let Some(idempotency_key) = audit.idempotency_key else { return Ok(()) };
                sqlx::query(
                    "INSERT INTO request_key (actor, key, fingerprint, object, created_at) VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(audit.by)
                .bind(idempotency_key.key)
                .bind(&idempotency_key.fingerprint[..])
                .bind(object)
                .bind(stored_time(audit.at))
                .execute(&mut **transaction)
                .await?;
                Ok(())
            }

            /// Hashes an event, writes it, moves the end of the log to it, and returns its hash.
            async fn append(
                &self,
                transaction: &mut sqlx::Transaction<'static, $database>,
                event: $crate::AuditEvent,
            ) -> Result<Vec<u8>, $crate::RegistryError> {
                let hash = event.computed_hash(&self.keys).ok_or($crate::RegistryError::NoAuditKey)?;
                let code = $crate::audit::head_mac(&self.keys, event.hash_key, event.seq, &hash);
                sqlx::query(
                    "INSERT INTO audit_event (seq, at, actor, action, object, tenant_id, detail, prev_hash, hash, hash_key,
                         rights)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                )
                .bind(stored_number(event.seq))
                .bind(stored_time(event.at))
                .bind(&event.actor)
                .bind(&event.action)
                .bind(&event.object)
                .bind(event.tenant.map(|tenant| tenant.uuid()))
                .bind(&event.detail)
                .bind(&event.prev_hash)
                .bind(&hash[..])
                .bind(i64::from(event.hash_key))
                .bind(&event.rights)
                .execute(&mut **transaction)
                .await?;
                sqlx::query("UPDATE audit_head SET seq = $1, hash = $2, mac = $3")
                    .bind(stored_number(event.seq))
                    .bind(&hash[..])
                    .bind(&code.unwrap_or_default()[..])
                    .execute(&mut **transaction)
                    .await?;
                Ok(hash.to_vec())
            }

            /// Puts an event under a key behind a log that ends without one, as all did before: from here on it ends under
            /// one. For those who write the log; nothing happens where there is no key, or no need.
            pub async fn seal_audit(&self) -> Result<(), $crate::RegistryError> {
                if self.keys.audit_key().is_none() {
                    return Ok(());
                }
                let last: Option<i64> =
                    sqlx::query_scalar("SELECT hash_key FROM audit_event ORDER BY seq DESC LIMIT 1")
                        .fetch_optional(&self.pool)
                        .await?;
                if last != Some(0) {
                    return Ok(());
                }
                let entry = $crate::sql::AuditEntry {
                    action: "audit.seal",
                    object: "audit".to_owned(),
                    tenant: None,
                    detail: serde_json::json!({}),
                };
                let now = push_domain::Clock::now(&push_domain::SystemClock);
                self.commit_audited(self.begin_audited().await?, $crate::AuditContext::new("hpns", now), entry).await
            }

            /// Returns what was created when the same request was sent before.
            async fn find_replayed(
                &self,
                transaction: &mut sqlx::Transaction<'static, $database>,
                audit: $crate::AuditContext<'_>,
            ) -> Result<Option<String>, $crate::RegistryError> {
                let Some(idempotency_key) = audit.idempotency_key else { return Ok(None) };
                let known: Option<(Vec<u8>, String)> =
                    sqlx::query_as("SELECT fingerprint, object FROM request_key WHERE actor = $1 AND key = $2")
                        .bind(audit.by)
                        .bind(idempotency_key.key)
                        .fetch_optional(&mut **transaction)
                        .await?;
                match known {
                    None => Ok(None),
                    Some((fingerprint, object)) if fingerprint == idempotency_key.fingerprint => Ok(Some(object)),
                    Some(_) => Err($crate::RegistryError::RequestKeyReused),
                }
            }
        }
    };
}
pub(crate) use commit_sql;
