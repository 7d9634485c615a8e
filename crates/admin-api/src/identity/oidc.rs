//! Access tokens of an `OpenID` provider: JWTs that are proven with its public keys (RFC 9068, RFC 7517).

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use push_domain::Timestamp;
use serde_json::{Map, Value};
use tenant_registry::Role;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::warn;

use super::Identity;
use crate::OidcConfig;

/// Keys are read again after so long, and for a key that is not known after so long at least.
const KEYS_LIVE: Duration = Duration::from_mins(10);
const KEYS_AGAIN: Duration = Duration::from_mins(1);
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest set of keys that is read.
const MAX_KEYS_BYTES: usize = 256 * 1024;
/// Two machines' clocks.
const LEEWAY_SECONDS: u64 = 30;

/// Proves access tokens of one provider.
pub(crate) struct Oidc {
    config: OidcConfig,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    known: HashMap<String, DecodingKey>,
    asked_at: Option<Instant>,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig) -> Self {
        Self { config, keys: Mutex::default() }
    }

    /// Returns whose token it is; nobody's, if anything about it is wrong.
    pub(super) async fn identity(
        &self,
        client: &reqwest::Client,
        token: &str,
        now: Timestamp,
    ) -> Option<Identity> {
        let header = decode_header(token).ok()?;
        // The list is ours; what the token says of itself only chooses from it.
        if !self.config.algorithms.contains(&header.alg) {
            return None;
        }
        let key = self.key(client, &header.kid?).await?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are judged here, by our clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = decode::<Map<String, Value>>(token, &key, &validation).ok()?.claims;
        let seconds = |name: &str| claims.get(name).and_then(Value::as_u64);
        let now = now.seconds();
        if seconds("exp")? + LEEWAY_SECONDS <= now
            || seconds("nbf").is_some_and(|from| from > now + LEEWAY_SECONDS)
        {
            return None;
        }
        let role: Role = claims.get(&self.config.role_claim)?.as_str()?.parse().ok()?;
        // A tenant's own view is for tokens that we give.
        if role == Role::Tenant {
            return None;
        }
        let subject = claims.get("sub")?.as_str()?;
        let plain: String = subject.chars().filter(|it| !it.is_control()).take(100).collect();
        Some(Identity { actor: format!("oidc:{plain}"), role, tenant: None, form_key: None })
    }

    async fn key(&self, client: &reqwest::Client, kid: &str) -> Option<DecodingKey> {
        let mut keys = self.keys.lock().await;
        let age = keys.asked_at.map(|at| at.elapsed());
        let old = age.is_none_or(|age| age >= KEYS_LIVE);
        let unknown = !keys.known.contains_key(kid) && age.is_none_or(|age| age >= KEYS_AGAIN);
        if old || unknown {
            keys.asked_at = Some(Instant::now());
            match self.read_keys(client).await {
                Some(known) => keys.known = known,
                None => {
                    warn!("the identity provider's keys cannot be read; the last known ones stay in force");
                }
            }
        }
        keys.known.get(kid).cloned()
    }

    async fn read_keys(&self, client: &reqwest::Client) -> Option<HashMap<String, DecodingKey>> {
        let mut response = client.get(&self.config.jwks_url).timeout(PATIENCE).send().await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.ok()? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_KEYS_BYTES {
                return None;
            }
        }
        let set: JwkSet = serde_json::from_slice(&body).ok()?;
        let usable = set
            .keys
            .iter()
            .filter_map(|jwk| Some((jwk.common.key_id.clone()?, DecodingKey::from_jwk(jwk).ok()?)));
        Some(usable.collect())
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}
