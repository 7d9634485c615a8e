//! What an operator of the operators can set.

use std::time::Duration;

use http_edge::TrustedProxies;
use jsonwebtoken::Algorithm;
use serde::Deserialize;

/// Settings of the admin API. Documented in the default configuration file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The region of this process.
    pub region: String,
    /// What a customer's push URL begins with.
    pub push_url: String,
    /// Where this process reaches a gateway.
    pub gateway_url: String,
    /// For how long somebody stays signed in to the console.
    pub session: Duration,
    /// For how many days audit events are kept; 0: for good.
    pub audit_days: u32,
    /// Who may bring sign-ins over plain HTTP, and is believed about a caller's address.
    pub trusted_proxies: TrustedProxies,
    /// Whose access tokens are taken besides our own.
    pub oidc: Option<OidcConfig>,
}

/// An `OpenID` provider.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// Its name, as it stands in `iss`.
    pub issuer: String,
    /// Ours, as it stands in `aud`.
    pub audience: String,
    /// Where its public keys are.
    pub jwks_url: String,
    /// The algorithms that are taken, whatever a token says.
    #[serde(default = "usual")]
    pub algorithms: Vec<Algorithm>,
    /// The types of tokens that are taken, as they stand in `typ` (RFC 9068: `at+jwt`). Providers that write `JWT` have ID
    /// tokens of the same type.
    #[serde(default = "token_types")]
    pub token_types: Vec<String>,
    /// The claim that holds the role.
    #[serde(default = "role_claim")]
    pub role_claim: String,
}

fn usual() -> Vec<Algorithm> {
    vec![Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA]
}

fn token_types() -> Vec<String> {
    vec!["at+jwt".to_owned()]
}

fn role_claim() -> String {
    "hpns_role".to_owned()
}
