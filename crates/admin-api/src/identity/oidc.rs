//! `OpenID` access-token verifier: JWTs checked with the provider's public keys (RFC 9068, RFC 7517).

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use push_domain::{Timestamp, is_hidden};
use serde_json::{Map, Value};
use tenant_registry::Role;
use tokio::time::Instant;
use tracing::warn;

use super::Identity;
use crate::OidcConfig;

/// Keys are read again after so long, and for a key that is not known after so long at least.
const JWKS_TTL: Duration = Duration::from_mins(10);
const JWKS_RETRY_INTERVAL: Duration = Duration::from_mins(1);
const JWKS_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest set of keys that is read.
const MAX_KEYS_BYTES: usize = 256 * 1024;
/// The longest subject (`OpenID` Connect Core, 2).
const MAX_SUBJECT_BYTES: usize = 255;
/// Two machines' clocks.
const LEEWAY_SECONDS: f64 = 30.0;

/// Access-token verifier for one provider, with a cache of its keys (JWKS).
pub(crate) struct Oidc {
    config: OidcConfig,
    keys: Mutex<Keys>,
    /// Held by who asks the provider.
    asking: tokio::sync::Mutex<()>,
}

/// A key of the provider's, and the algorithm that it is for, if it says so.
#[derive(Clone)]
struct ProviderKey {
    key: DecodingKey,
    algorithm: Option<KeyAlgorithm>,
}

/// Result of a look-up in the key cache.
enum KeyLookup {
    Found(ProviderKey),
    /// It is time to ask again; until then the key holds.
    Old(ProviderKey),
    Ask,
    /// The provider was asked a moment ago.
    Unknown,
}

#[derive(Default)]
struct Keys {
    known: HashMap<String, ProviderKey>,
    asked_at: Option<Instant>,
}

impl Oidc {
    pub(crate) fn new(config: OidcConfig) -> Self {
        Self { config, keys: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    /// Returns whose token it is; nobody's, if anything about it is wrong.
    pub(crate) async fn identity(
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
        // What has to be understood to be taken (RFC 7515, 4.1.11) is not.
        if header.crit.is_some() {
            return None;
        }
        let typ = header.typ.as_deref()?.to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        if !self.config.token_types.iter().any(|known| known.eq_ignore_ascii_case(typ)) {
            return None;
        }
        let ProviderKey { key, algorithm } = self.key(client, &header.kid?).await?;
        if algorithm.is_some_and(|algorithm| algorithm != KeyAlgorithm::from(header.alg)) {
            return None;
        }
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.config.issuer]);
        validation.set_audience(&[&self.config.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are judged here, by our clock.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = decode::<Map<String, Value>>(token, &key, &validation).ok()?.claims;
        // Times may have fractions (RFC 7519, section 2).
        #[expect(clippy::cast_precision_loss, reason = "exact for some hundred million years")]
        let now = now.seconds() as f64;
        let not_before = claims.get("nbf").map_or(Some(0.0), Value::as_f64)?;
        if claims.get("exp")?.as_f64()? + LEEWAY_SECONDS <= now || not_before > now + LEEWAY_SECONDS {
            return None;
        }
        let role: Role = claims.get(&self.config.role_claim)?.as_str()?.parse().ok()?;
        // A tenant's own view is for tokens that we give.
        if role == Role::Tenant {
            return None;
        }
        let subject = claims.get("sub")?.as_str()?;
        // Shortened or cleaned, two would be one.
        if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES || subject.chars().any(is_hidden) {
            return None;
        }
        Some(Identity { actor: format!("oidc:{subject}"), role, tenant: None, form_key: None })
    }

    /// Returns a key of the provider's. Whoever brings a known one does not wait while others ask for theirs.
    async fn key(&self, client: &reqwest::Client, kid: &str) -> Option<ProviderKey> {
        let turn = match self.look(kid) {
            KeyLookup::Found(key) => return Some(key),
            KeyLookup::Unknown => return None,
            KeyLookup::Old(key) => match self.asking.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Some(key),
            },
            KeyLookup::Ask => self.asking.lock().await,
        };
        // Somebody may have asked in the meantime.
        match self.look(kid) {
            KeyLookup::Found(key) => return Some(key),
            KeyLookup::Unknown => return None,
            KeyLookup::Old(_) | KeyLookup::Ask => {}
        }
        let read = self.read_keys(client).await;
        if read.is_none() {
            warn!("the identity provider's keys cannot be read; the last known ones stay in force");
        }
        let mut keys = self.keys();
        keys.asked_at = Some(Instant::now());
        keys.known = read.unwrap_or_else(|| std::mem::take(&mut keys.known));
        drop(turn);
        keys.known.get(kid).cloned()
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, kid: &str) -> KeyLookup {
        let keys = self.keys();
        let age = keys.asked_at.map(|at| at.elapsed());
        let is_old = age.is_none_or(|age| age >= JWKS_TTL);
        match keys.known.get(kid).cloned() {
            Some(key) if is_old => KeyLookup::Old(key),
            Some(key) => KeyLookup::Found(key),
            None if age.is_none_or(|age| age >= JWKS_RETRY_INTERVAL) => KeyLookup::Ask,
            None => KeyLookup::Unknown,
        }
    }

    async fn read_keys(&self, client: &reqwest::Client) -> Option<HashMap<String, ProviderKey>> {
        let mut response = client.get(&self.config.jwks_url).timeout(JWKS_TIMEOUT).send().await.ok()?;
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
        let usable = set.keys.iter().filter(|jwk| is_for_signatures(jwk)).filter_map(|jwk| {
            let (key, algorithm) = (DecodingKey::from_jwk(jwk).ok()?, jwk.common.key_algorithm);
            Some((jwk.common.key_id.clone()?, ProviderKey { key, algorithm }))
        });
        Some(usable.collect())
    }
}

/// Says whether a key may prove anything (RFC 7517, 4.2 and 4.3).
fn is_for_signatures(jwk: &Jwk) -> bool {
    matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature))
        && jwk.common.key_operations.as_ref().is_none_or(|uses| uses.contains(&KeyOperations::Verify))
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("issuer", &self.config.issuer).finish_non_exhaustive()
    }
}
