//! FCM sender: one notification over HTTP/2, resent once after re-authentication, and the outcome.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use push_domain::{Attempt, FcmRequest, Outcome, ProviderRequest, PushSender, Reason, RetryScope};
use tokio::time::{Instant, timeout_at};

use crate::response::{ClassifiedResponse, classify, retry_after};
use crate::settings::Settings;
use crate::shards::{ClientError, ClientMaker, Shards, tls_config};
use crate::token::{AccessToken, NoToken, TokenSource};

const DEFAULT_RETRY_AFTER: Duration = Duration::from_mins(1);
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Sends to one Firebase project.
pub struct FcmSender {
    url: String,
    shards: Shards,
    tokens: TokenSource,
}

impl FcmSender {
    /// Makes a sender for the project of `tokens`; it connects when it is first used.
    pub fn new(settings: &Settings, tokens: TokenSource) -> Result<Self, ClientError> {
        let url = format!("{}/v1/projects/{}/messages:send", settings.base_url, tokens.project());
        let Settings { roots, proxy, ping_interval, .. } = settings.clone();
        let make = ClientMaker { tls: tls_config(roots)?, proxy, ping_interval };
        let shards = Shards::new(settings.name.clone(), settings.shards, make)?;
        Ok(Self { url, shards, tokens })
    }

    /// Sends once, and once more with a new access token if Google refused ours.
    async fn push(&self, push: &FcmRequest, attempt: Attempt) -> Outcome {
        let mut reauthenticated = false;
        loop {
            let token = match timeout_at(attempt.deadline, self.tokens.token()).await {
                Ok(Ok(token)) => token,
                Ok(Err(NoToken::Refused)) => {
                    return Outcome::Misconfigured { reason: Reason::known("OAUTH_REFUSED") };
                }
                Ok(Err(NoToken::Unavailable)) | Err(_) => return later(false, "OAUTH_UNAVAILABLE"),
            };
            let generation = token.generation;
            let classified = match self.attempt(push, token, attempt).await {
                Ok(classified) => classified,
                Err(outcome) => return outcome,
            };
            if !classified.reauthenticate || reauthenticated || !self.tokens.invalidate(generation) {
                return classified.outcome;
            }
            reauthenticated = true;
        }
    }

    /// Waits for a permit until the deadline, then sends. At the deadline the request is given up, wherever it is: what
    /// still waits for a connection, or unseen inside the library for a stream, must not leave after its time. On the
    /// wire that resets the stream, at most once an attempt of 10 s.
    async fn attempt(
        &self,
        push: &FcmRequest,
        token: AccessToken,
        attempt: Attempt,
    ) -> Result<ClassifiedResponse, Outcome> {
        let Attempt { number, deadline, .. } = attempt;
        let Ok(Some(permit)) = timeout_at(deadline, self.shards.permit(number)).await else {
            return Err(later(false, "NO_CONNECTION"));
        };
        let (shard, sent_at) = (permit.shard, Instant::now());
        let sending = self.exchange(shard, push.body.expose(), token);
        timeout_at(deadline, sending).await.unwrap_or_else(|_| {
            self.shards.unanswered(shard, sent_at);
            Err(later(true, "TIMEOUT"))
        })
    }

    async fn exchange(
        &self,
        shard: usize,
        body: Bytes,
        token: AccessToken,
    ) -> Result<ClassifiedResponse, Outcome> {
        let client = self.shards.client(shard).map_err(|_| later(false, "NO_CONNECTION"))?;
        let sent = client
            .post(&self.url)
            .header(AUTHORIZATION, token.header.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"))
            .body(body)
            .send()
            .await;
        let mut answer = sent.map_err(|error| later(!error.is_connect(), "CONNECTION_LOST"))?;
        self.shards.answered(shard);
        let now = UNIX_EPOCH + Duration::from_millis(self.tokens.clock().now().millis());
        let wait = answer.headers().get(RETRY_AFTER).map(|value| {
            // One that we cannot read is still a wish to wait.
            value.to_str().ok().and_then(|text| retry_after(text, now)).unwrap_or(DEFAULT_RETRY_AFTER)
        });
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| later(true, "CONNECTION_LOST"))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER_BYTES {
                break;
            }
        }
        let classified = classify(status, &body, wait);
        if classified.outcome == Outcome::Accepted {
            token.prove();
        }
        Ok(classified)
    }
}

const fn later(ambiguous: bool, word: &'static str) -> Outcome {
    Outcome::TryLater { after: None, scope: RetryScope::Attempt, ambiguous, reason: Reason::known(word) }
}

#[async_trait]
impl PushSender for FcmSender {
    async fn send(&self, request: &ProviderRequest, attempt: Attempt) -> Outcome {
        let ProviderRequest::Fcm(push) = request else {
            return Outcome::Refused { reason: Reason::known("WRONG_PROVIDER") };
        };
        self.push(push, attempt).await
    }
}

impl fmt::Debug for FcmSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FcmSender").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}
