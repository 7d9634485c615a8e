//! Hot-swappable sender: exchanged while pushes are under way.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use push_domain::{Attempt, Outcome, ProviderRequest, PushSender, Reason};

/// Hot-swappable sender: delegates to the current one; a push ends with the sender that it began with.
#[derive(Debug, Default)]
pub(crate) struct SwappableSender(ArcSwapOption<Box<dyn PushSender>>);

impl SwappableSender {
    pub(crate) fn set(&self, sender: Box<dyn PushSender>) {
        self.0.store(Some(Arc::new(sender)));
    }
}

#[async_trait]
impl PushSender for SwappableSender {
    async fn send(&self, request: &ProviderRequest, attempt: Attempt) -> Outcome {
        match self.0.load_full() {
            Some(sender) => sender.send(request, attempt).await,
            None => Outcome::Misconfigured { reason: Reason::known("CredentialsUnusable") },
        }
    }
}
