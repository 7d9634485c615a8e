//! Maintenance: licence keys' MACs are renewed, the oldest part of the audit log is cut.

/// Writes `renew_old_keys` and `cut_audit_log`.
macro_rules! renew_sql {
    ($registry:ty, $database:ty) => {
        impl $registry {
            async fn renew_old_keys(&self, audit: AuditContext<'_>) -> Result<u64, RegistryError> {
                let pepper = self.keys.newest_pepper();
                let finished: i64 =
                    sqlx::query_scalar("SELECT finished FROM revision").fetch_one(&self.pool).await?;
                if finished < $crate::sql::DIGESTS_SINCE {
                    return Ok(0);
                }
                let due: Vec<String> = sqlx::query_scalar(
                    "SELECT k.kid FROM licence_key k LEFT JOIN key_use u ON u.kid = k.kid WHERE k.revoked_at IS NULL
                         AND ((NOT k.hashed AND (u.offered IS NOT NULL OR k.wrapped IS NOT NULL))
                             OR (k.hashed AND (k.pepper < $1 OR substr(k.wrapped, 1, 4) <> $2))) ORDER BY k.kid",
                )
                .bind(i64::from(pepper))
                .bind(&self.keys.wrap_number().to_be_bytes()[..])
                .fetch_all(&self.pool)
                .await?;
                let mut renewed = 0;
                for some in due.chunks($crate::sql::RENEW_BATCH_KEYS) {
                    let mut change = self.begin_change().await?;
                    let root = self.current_root(&mut change.transaction, TreeKind::Licences).await?;
                    let root = root.ok_or(RegistryError::NoRightsKey)?;
                    let mut rows = Vec::new();
                    for kid in some {
                        rows.extend(self.renew_key(&mut change, &root, kid).await?);
                    }
                    if rows.is_empty() {
                        continue;
                    }
                    renewed += rows.len() as u64;
                    self.sign_rights(&mut change.transaction, TreeKind::Licences, Some(change.revision), &rows).await?;
                    let detail = json!({ "keys": rows.len(), "pepper": pepper });
                    let entry = AuditEntry { action: "key.renew", object: "keys".to_owned(), tenant: None, detail };
                    self.commit_audited(change.transaction, audit, entry).await?;
                }
                Ok(renewed)
            }

            /// Codes one key anew. What a gateway offers for a key of before is believed: it sees the keys of its callers.
            async fn renew_key(
                &self,
                change: &mut Change<$database>,
                root: &Root,
                kid: &str,
            ) -> Result<Option<(RowName, Option<RowHash>)>, RegistryError> {
                let row: Option<KeyRow> = sqlx::query_as(
                    "UPDATE licence_key SET revision = revision WHERE kid = $1 AND revoked_at IS NULL
                     RETURNING kid, licence_id, mac, pepper, hashed, ends_at, revoked_at, revision",
                )
                .bind(kid)
                .fetch_optional(&mut *change.transaction)
                .await?;
                // One that is not as it was written, or cannot be read, does not keep the others from it.
                let Some(before) = decode_rows::<_, KeyRecord>(row.into_iter().collect()).pop() else { return Ok(None) };
                let (name, hash) = (RowName::key(kid), rights::key_hash(&before));
                match self.require_in(&mut change.transaction, root, name, Some(&hash)).await {
                    Ok(()) => {}
                    Err(RegistryError::RightsChanged) => {
                        $crate::rights::report_unproven_row("licence key", kid);
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                }
                let (wrapped, offered): (Option<Vec<u8>>, Option<Vec<u8>>) =
                    sqlx::query_as(
                        "SELECT k.wrapped, u.offered FROM licence_key k LEFT JOIN key_use u ON u.kid = k.kid WHERE k.kid = $1",
                    )
                        .bind(kid)
                        .fetch_one(&mut *change.transaction)
                        .await?;
                let digest = wrapped.and_then(|wrapped| self.keys.unwrap(kid, &wrapped));
                let offer = || offered.filter(|_| !before.hashed).and_then(|it| self.keys.take_offer(kid, &it));
                let digest = digest.or_else(offer);
                let Some(digest) = digest else { return Ok(None) };
                let (mac, pepper) = self.keys.mac(&digest);
                let revision = u64::try_from(change.revision).unwrap_or_default();
                let after = KeyRecord { mac, pepper, hashed: true, revision, ..before };
                let wrapped = self.keys.wrap(kid, &digest).ok_or(RegistryError::NoAuditKey)?;
                sqlx::query(
                    "UPDATE licence_key SET mac = $2, pepper = $3, hashed = TRUE, wrapped = $4, revision = $5
                     WHERE kid = $1",
                )
                .bind(kid)
                .bind(&mac[..])
                .bind(i64::from(pepper))
                .bind(wrapped)
                .bind(change.revision)
                .execute(&mut *change.transaction)
                .await?;
                sqlx::query("UPDATE key_use SET offered = NULL WHERE kid = $1 AND offered IS NOT NULL")
                    .bind(kid)
                    .execute(&mut *change.transaction)
                    .await?;
                Ok(Some((name, Some(rights::key_hash(&after)))))
            }

            async fn cut_audit_log(&self, before: Timestamp, audit: AuditContext<'_>) -> Result<u64, RegistryError> {
                let last: Option<(i64, Vec<u8>)> = sqlx::query_as(
                    "SELECT seq, hash FROM audit_event
                     WHERE seq < (SELECT min(seq) FROM audit_event WHERE at >= $1)
                         AND seq < (SELECT min(seq) FROM audit_event) + $2 ORDER BY seq DESC LIMIT 1",
                )
                .bind(stored_time(before))
                .bind($crate::sql::AUDIT_CUT_BATCH_EVENTS)
                .fetch_optional(&self.pool)
                .await?;
                let Some((seq, hash)) = last else { return Ok(0) };
                // What was tampered with is not made good by forgetting it.
                let report = $crate::OperatorAdmin::verify_audit(self, None).await?;
                if report.fault.is_some() {
                    return Err(RegistryError::AuditBroken);
                }
                let detail = $crate::audit::cut_detail(u64::try_from(seq).unwrap_or_default(), &hash);
                let entry =
                    AuditEntry { action: $crate::audit::CUT_ACTION, object: "audit".to_owned(), tenant: None, detail };
                // Noted first: whoever finds the log shorter finds why.
                self.commit_audited(self.begin_audited().await?, audit, entry).await?;
                self.delete_audit(seq).await
            }
        }
    };
}
pub(crate) use renew_sql;
