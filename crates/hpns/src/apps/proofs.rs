//! Store of proven credentials: a provider has accepted a push under them. What one process learns, the
//! others read in the registry, also after a restart.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dispatch_worker::CredentialProofs;
use push_domain::{AppId, Clock};
use tenant_registry::{DeliveryLedger, RegistryError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Apps, goes_on};

const WRITE: Duration = Duration::from_secs(1);
const READ: Duration = Duration::from_mins(1);

/// An app, and what stands for its credentials and for where they are used.
type Proof = (String, String);

/// Cache of proven credentials, with those that are not in the registry yet.
#[derive(Debug, Default)]
pub(crate) struct ProvenCredentials {
    known: Mutex<HashSet<Proof>>,
    news: Mutex<Vec<Proof>>,
}

impl ProvenCredentials {
    fn known(&self) -> MutexGuard<'_, HashSet<Proof>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) -> MutexGuard<'_, Vec<Proof>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what the registry knows.
    pub(crate) async fn read(&self, ledger: &dyn DeliveryLedger) -> Result<(), RegistryError> {
        let mut proofs: HashSet<_> = ledger.proofs().await?.into_iter().collect();
        // Held over both, as in `add`: what is proven between them would be forgotten until the next reading.
        let news = self.news();
        proofs.extend(news.iter().cloned());
        *self.known() = proofs;
        Ok(())
    }

    /// Takes what has just been proven.
    fn add(&self, proof: Proof) {
        let mut news = self.news();
        if self.known().insert(proof.clone()) {
            news.push(proof);
        }
    }

    /// Tells the registry what is new. What fails is told the next time.
    pub(crate) async fn write(&self, ledger: &dyn DeliveryLedger, day: u32) -> Result<(), RegistryError> {
        loop {
            let Some((app, fingerprint)) = self.news().last().cloned() else { return Ok(()) };
            ledger.prove(&app, &fingerprint, day).await?;
            self.news().retain(|told| told.0 != app || told.1 != fingerprint);
        }
    }
}

impl Apps {
    /// Keeps which credentials are proven in the registry, until `stop`, and then once more.
    pub(crate) async fn keep_proofs(
        self: Arc<Self>,
        ledger: Arc<dyn DeliveryLedger>,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
    ) {
        let (mut read_at, mut goes) = (None, true);
        while goes {
            let mut done = self.proven.write(&*ledger, clock.now().day()).await;
            if done.is_ok() && read_at.is_none_or(|at: Instant| at.elapsed() >= READ) {
                done = self.proven.read(&*ledger).await;
                read_at = done.is_ok().then(Instant::now);
            }
            if let Err(error) = done {
                warn!(%error, "which credentials are proven is not in the registry; it will be tried again");
            }
            goes = goes_on(&stop, WRITE).await;
        }
        let _ = self.proven.write(&*ledger, clock.now().day()).await;
    }
}

impl CredentialProofs for Apps {
    fn is_proven(&self, app: &AppId) -> bool {
        let proof = self.standing(app).map(|standing| (app.to_string(), standing));
        proof.is_some_and(|proof| self.proven.known().contains(&proof))
    }

    fn prove(&self, app: &AppId) {
        let Some(standing) = self.standing(app) else { return };
        self.proven.add((app.to_string(), standing));
    }
}
