//! Sender trait: the interface between the worker and a provider's client.

use std::fmt;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{Outcome, ProviderRequest};

/// Parameters of one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// When the caller stops waiting; the sender answers [`Outcome::TryLater`] by then.
    pub deadline: Instant,
    /// Whether it is to travel over connections that other tenants' pushes do not share: this tenant's
    /// tokens are bad too often, and the provider slows down whole connections for that.
    pub isolate: bool,
}

/// Sender of requests to one provider, under one app's credentials.
#[async_trait]
pub trait PushSender: Send + Sync + fmt::Debug {
    /// Sends and waits for the provider's decision, at most until `attempt.deadline`.
    ///
    /// Not cancel safe towards the provider: once polled, the request may be delivered even if the
    /// future is dropped. Callers let it finish.
    async fn send(&self, request: &ProviderRequest, attempt: Attempt) -> Outcome;
}
