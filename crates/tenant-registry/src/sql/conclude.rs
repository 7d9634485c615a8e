//! The end of every change: what was done goes into the audit log in the same transaction.

/// Writes `conclude` and `done_before`.
macro_rules! conclude_sql {
    ($registry:ty, $database:ty) => {
        impl $registry {
            /// Appends to the audit log, notes the caller's request key, and makes all of it last.
            async fn conclude(
                &self,
                mut transaction: sqlx::Transaction<'static, $database>,
                act: $crate::Act<'_>,
                deed: $crate::sql::Deed<'_>,
            ) -> Result<(), $crate::RegistryError> {
                self.note_request(&mut transaction, act, &deed.object).await?;
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
                    let (found, at) = ($crate::audit::BROKEN, act.at);
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
                    at: act.at,
                    actor: act.by.to_owned(),
                    action: deed.action.to_owned(),
                    object: deed.object,
                    tenant: deed.tenant,
                    detail: deed.detail.to_string(),
                    prev_hash: end,
                    hash: Vec::new(),
                    hash_key,
                    rights,
                };
                self.append(&mut transaction, event).await?;
                transaction.commit().await?;
                self.tell();
                Ok(())
            }

            async fn note_request(
                &self,
                transaction: &mut sqlx::Transaction<'static, $database>,
                act: $crate::Act<'_>,
                object: &str,
            ) -> Result<(), $crate::RegistryError> {
                let Some(once) = act.once else { return Ok(()) };
                sqlx::query(
                    "INSERT INTO request_key (actor, key, fingerprint, object, created_at) VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(act.by)
                .bind(once.key)
                .bind(&once.fingerprint[..])
                .bind(object)
                .bind(stored_time(act.at))
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
                let code = $crate::audit::head_code(&self.keys, event.hash_key, event.seq, &hash);
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
                let deed = $crate::sql::Deed {
                    action: "audit.seal",
                    object: "audit".to_owned(),
                    tenant: None,
                    detail: serde_json::json!({}),
                };
                let now = push_domain::Clock::now(&push_domain::SystemClock);
                self.conclude(self.deed().await?, $crate::Act::new("hpns", now), deed).await
            }

            /// Returns what was created when the same request was sent before.
            async fn done_before(
                &self,
                transaction: &mut sqlx::Transaction<'static, $database>,
                act: $crate::Act<'_>,
            ) -> Result<Option<String>, $crate::RegistryError> {
                let Some(once) = act.once else { return Ok(None) };
                let known: Option<(Vec<u8>, String)> =
                    sqlx::query_as("SELECT fingerprint, object FROM request_key WHERE actor = $1 AND key = $2")
                        .bind(act.by)
                        .bind(once.key)
                        .fetch_optional(&mut **transaction)
                        .await?;
                match known {
                    None => Ok(None),
                    Some((fingerprint, object)) if fingerprint == once.fingerprint => Ok(Some(object)),
                    Some(_) => Err($crate::RegistryError::RequestKeyReused),
                }
            }
        }
    };
}
pub(crate) use conclude_sql;
