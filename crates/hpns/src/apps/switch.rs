//! A sender that can be exchanged while pushes are under way.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use push_domain::{Attempt, Outcome, ProviderRequest, PushSender, Reason};

/// Passes pushes on to the sender of the moment. A push under way ends with the sender that it began with.
#[derive(Debug, Default)]
pub(crate) struct Switch(ArcSwapOption<Box<dyn PushSender>>);

impl Switch {
    pub(crate) fn set(&self, sender: Box<dyn PushSender>) {
        self.0.store(Some(Arc::new(sender)));
    }
}

#[async_trait]
impl PushSender for Switch {
    async fn send(&self, request: &ProviderRequest, attempt: Attempt) -> Outcome {
        match self.0.load_full() {
            Some(sender) => sender.send(request, attempt).await,
            None => Outcome::Misconfigured { reason: Reason::known("CredentialsUnusable") },
        }
    }
}
