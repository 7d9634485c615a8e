//! Google's token endpoint: exchanges a signed assertion for an access token (RFC 7523).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::json;

use crate::clock::VirtualClock;
use crate::credentials::Files;
use crate::http2::{Reply, Request};

const SCOPE: &str = "https://www.googleapis.com/auth/firebase.messaging";
const GRANT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";

/// Grants access tokens and knows which are good.
#[derive(Debug)]
pub(crate) struct OAuth {
    key: Vec<u8>,
    audience: String,
    clock: Arc<VirtualClock>,
    granted: Mutex<HashMap<String, u64>>,
    number: AtomicU64,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    scope: String,
    aud: String,
    iat: u64,
    exp: u64,
}

impl OAuth {
    pub(crate) fn new(key: Vec<u8>, audience: String, clock: Arc<VirtualClock>) -> Self {
        Self { key, audience, clock, granted: Mutex::default(), number: AtomicU64::new(0) }
    }

    /// Says whether an access token was granted and has not expired.
    pub(crate) fn knows(&self, token: &str) -> bool {
        let granted = self.granted.lock();
        granted.is_ok_and(|granted| granted.get(token).is_some_and(|end| *end > self.clock.seconds()))
    }

    /// Refuses every token granted so far.
    pub(crate) fn revoke_all(&self) {
        if let Ok(mut granted) = self.granted.lock() {
            granted.clear();
        }
    }

    /// Answers a token request.
    pub(crate) fn grant(&self, request: &Request, life_seconds: u64) -> Reply {
        if let Err(description) = self.check(&request.body) {
            let body = json!({ "error": "invalid_grant", "error_description": description });
            Reply { status: 400, body: Bytes::from(body.to_string()), ..Reply::default() }
        } else {
            let token = format!("ya29.simulated-{}", self.number.fetch_add(1, Ordering::Relaxed));
            if let Ok(mut granted) = self.granted.lock() {
                granted.insert(token.clone(), self.clock.seconds() + life_seconds);
            }
            let body = json!({ "access_token": token, "expires_in": life_seconds, "token_type": "Bearer" });
            Reply { status: 200, body: Bytes::from(body.to_string()), ..Reply::default() }
        }
    }

    fn check(&self, body: &[u8]) -> Result<(), &'static str> {
        let form = std::str::from_utf8(body).map_err(|_| "Invalid form.")?;
        let fields: HashMap<_, _> = form.split('&').filter_map(|field| field.split_once('=')).collect();
        if fields.get("grant_type") != Some(&GRANT) {
            return Err("Invalid grant_type.");
        }
        let assertion = fields.get("assertion").ok_or("Missing assertion.")?;
        let (email, key_id) = Files::fcm_identity();
        let header = jsonwebtoken::decode_header(assertion).map_err(|_| "Invalid JWT.")?;
        if header.alg != Algorithm::RS256 || header.kid.as_deref() != Some(key_id) {
            return Err("Invalid JWT Signature.");
        }
        let mut rules = Validation::new(Algorithm::RS256);
        rules.required_spec_claims.clear();
        rules.validate_exp = false;
        rules.validate_aud = false;
        let claims = jsonwebtoken::decode::<Claims>(assertion, &DecodingKey::from_rsa_der(&self.key), &rules)
            .map_err(|_| "Invalid JWT Signature.")?
            .claims;
        let now = self.clock.seconds();
        if claims.exp.saturating_sub(claims.iat) > 3600 || claims.iat > now || claims.exp < now {
            return Err(
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values",
            );
        }
        if claims.iss != email || claims.scope != SCOPE || claims.aud != self.audience {
            return Err("Invalid JWT: iss, scope or aud.");
        }
        Ok(())
    }
}
