//! Queries of proven credentials, behind `DeliveryLedger`.

/// So many are remembered of each app.
pub(crate) const MAX_PROOFS_PER_APP: i64 = 8;

/// Implements [`DeliveryLedger::prove`](crate::DeliveryLedger::prove).
macro_rules! prove {
    ($pool:expr, $app:expr, $fingerprint:expr, $day:expr) => {{
        let mut transaction = $pool.begin().await?;
        sqlx::query(
            "INSERT INTO credential_proof (app, fingerprint, proven_day) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        )
        .bind($app)
        .bind($fingerprint)
        .bind(i64::from($day))
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM credential_proof WHERE app = $1 AND fingerprint <> $2 AND fingerprint NOT IN
             (SELECT fingerprint FROM credential_proof WHERE app = $1 ORDER BY proven_day DESC, fingerprint LIMIT $3)",
        )
        .bind($app)
        .bind($fingerprint)
        .bind($crate::sql::proofs::MAX_PROOFS_PER_APP)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }};
}
pub(crate) use prove;

/// Implements [`DeliveryLedger::proofs`](crate::DeliveryLedger::proofs).
macro_rules! proofs {
    ($pool:expr) => {
        Ok(sqlx::query_as("SELECT app, fingerprint FROM credential_proof ORDER BY app, fingerprint")
            .fetch_all(&$pool)
            .await?)
    };
}
pub(crate) use proofs;
