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
                if let Some(once) = act.once {
                    sqlx::query(
                        "INSERT INTO request_key (actor, key, fingerprint, object, created_at) VALUES ($1, $2, $3, $4, $5)",
                    )
                    .bind(act.by)
                    .bind(once.key)
                    .bind(&once.fingerprint[..])
                    .bind(&deed.object)
                    .bind(stored_time(act.at))
                    .execute(&mut *transaction)
                    .await?;
                }
                // The row is locked from here on: nobody else appends before this one is done.
                let (seq, prev_hash): (i64, Vec<u8>) =
                    sqlx::query_as("UPDATE audit_head SET seq = seq + 1 RETURNING seq, hash")
                        .fetch_one(&mut *transaction)
                        .await?;
                let hash_key = self.keys.audit_key().ok_or($crate::RegistryError::NoAuditKey)?;
                let mut event = $crate::AuditEvent {
                    seq: u64::try_from(seq).unwrap_or_default(),
                    at: act.at,
                    actor: act.by.to_owned(),
                    action: deed.action.to_owned(),
                    object: deed.object,
                    tenant: deed.tenant,
                    detail: deed.detail.to_string(),
                    prev_hash,
                    hash: Vec::new(),
                    hash_key,
                };
                let hash = event.computed_hash(&self.keys).ok_or($crate::RegistryError::NoAuditKey)?;
                event.hash = hash.to_vec();
                let code = $crate::audit::head_code(&self.keys, hash_key, event.seq, &event.hash);
                sqlx::query(
                    "INSERT INTO audit_event (seq, at, actor, action, object, tenant_id, detail, prev_hash, hash, hash_key)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                )
                .bind(seq)
                .bind(stored_time(event.at))
                .bind(&event.actor)
                .bind(&event.action)
                .bind(&event.object)
                .bind(event.tenant.map(|tenant| tenant.uuid()))
                .bind(&event.detail)
                .bind(&event.prev_hash)
                .bind(&event.hash)
                .bind(i64::from(hash_key))
                .execute(&mut *transaction)
                .await?;
                sqlx::query("UPDATE audit_head SET hash = $1, mac = $2")
                    .bind(&event.hash)
                    .bind(&code.unwrap_or_default()[..])
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                self.tell();
                Ok(())
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
