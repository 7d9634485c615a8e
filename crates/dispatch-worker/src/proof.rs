//! `CredentialProof` that an app's credentials work: what its provider has accepted, here and elsewhere.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use push_domain::{App, AppId, Provider};
use tokio::time::Instant;

/// A verdict on the app itself needs a success in this time before it.
const RECENT: Duration = Duration::from_mins(10);
const NEVER: u64 = u64::MAX;

/// Store, beyond the life of a process, of the credentials under which a provider has accepted pushes.
pub trait CredentialProofs: Send + Sync {
    /// Says whether a push was ever accepted under the app's present credentials.
    fn is_proven(&self, app: &AppId) -> bool;

    /// Notes that one was.
    fn prove(&self, app: &AppId);
}

/// `CredentialProof` that one app's credentials work. A success costs an atomic write.
pub(crate) struct CredentialProof {
    app: AppId,
    proofs: Arc<dyn CredentialProofs>,
    /// Whether the present credentials are proven: before, a token that Apple calls bad may be one of another
    /// environment.
    is_proven: AtomicBool,
    is_needed: bool,
    made: Instant,
    /// When a push was last accepted, in milliseconds after `made`, or [`NEVER`].
    last: AtomicU64,
    /// When another process last had one accepted.
    others: Mutex<Option<Instant>>,
    /// Pushes accepted since this was last asked.
    news: AtomicU64,
}

impl CredentialProof {
    pub(crate) fn new(app: &App, proofs: Arc<dyn CredentialProofs>) -> Self {
        Self {
            app: app.id.clone(),
            is_proven: AtomicBool::new(proofs.is_proven(&app.id)),
            proofs,
            is_needed: app.provider == Provider::Apns,
            made: Instant::now(),
            last: AtomicU64::new(NEVER),
            others: Mutex::default(),
            news: AtomicU64::new(0),
        }
    }

    fn others(&self) -> MutexGuard<'_, Option<Instant>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a push that the provider took: the app works, and so do its credentials.
    pub(crate) fn accepted(&self) {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(NEVER);
        self.last.store(now, Ordering::Relaxed);
        self.news.fetch_add(1, Ordering::Relaxed);
        if !self.is_proven.load(Ordering::Relaxed) && !self.is_proven.swap(true, Ordering::Relaxed) {
            self.proofs.prove(&self.app);
        }
    }

    /// Says whether a token may be called dead that the provider calls bad: not before it has accepted anything
    /// under these credentials, which may be another environment's.
    pub(crate) fn has_credentials_proven(&self) -> bool {
        !self.is_needed || self.is_proven.load(Ordering::Relaxed) || {
            // Another process may have proven them.
            let known = self.proofs.is_proven(&self.app);
            // Never the contrary: a success may have come meanwhile.
            self.is_proven.fetch_or(known, Ordering::Relaxed);
            known
        }
    }

    /// Says whether the provider took a push of this app in the last 10 minutes.
    pub(crate) fn is_recent(&self) -> bool {
        let ago = [self.accepted_ago(), self.others().map(|at| at.elapsed())];
        ago.into_iter().flatten().any(|ago| ago < RECENT)
    }

    /// Returns how long ago this process last had a push accepted.
    pub(crate) fn accepted_ago(&self) -> Option<Duration> {
        let last = self.last.load(Ordering::Relaxed);
        (last != NEVER).then(|| self.made.elapsed().saturating_sub(Duration::from_millis(last)))
    }

    /// Returns how many pushes were accepted since this was last asked.
    pub(crate) fn take_unreported(&self) -> u64 {
        self.news.swap(0, Ordering::Relaxed)
    }

    /// Takes when any process last had a push accepted.
    pub(crate) fn merge_peers(&self, accepted_ago: Option<Duration>) {
        *self.others() = accepted_ago.and_then(|ago| Instant::now().checked_sub(ago));
    }

    /// Begins anew: the app has new credentials.
    pub(crate) fn renew(&self) {
        self.last.store(NEVER, Ordering::Relaxed);
        *self.others() = None;
        self.is_proven.store(self.proofs.is_proven(&self.app), Ordering::Relaxed);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use push_domain::Audience;

    use super::*;

    /// Whether every app has had a success.
    pub(crate) struct Proven(pub(crate) bool);

    impl CredentialProofs for Proven {
        fn is_proven(&self, _: &AppId) -> bool {
            self.0
        }

        fn prove(&self, _: &AppId) {}
    }

    pub(crate) fn an_apple_app() -> App {
        App {
            id: AppId::new("ios"),
            platform: "apple_rn".into(),
            audience: Audience::Shared,
            provider: Provider::Apns,
            topic: "com.example".into(),
        }
    }

    fn a_proof() -> CredentialProof {
        CredentialProof::new(&an_apple_app(), Arc::new(Proven(false)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_proven_for_ten_minutes_after_a_success_here_or_elsewhere() {
        let proof = a_proof();
        assert!(!proof.is_recent());

        proof.accepted();
        assert!(proof.is_recent());
        tokio::time::advance(RECENT).await;
        assert!(!proof.is_recent());
        proof.merge_peers(Some(Duration::from_mins(1)));
        assert!(proof.is_recent());
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_proven_by_their_first_success_until_there_are_new_ones() {
        let proof = a_proof();
        assert!(!proof.has_credentials_proven());

        proof.accepted();
        assert!(proof.has_credentials_proven());
        proof.renew();
        assert!(!proof.has_credentials_proven());
    }
}
