//! Configuration of the admin API: the section `admin`.

use std::net::{IpAddr, SocketAddr};

use http_edge::TrustedProxies;
use jsonwebtoken::Algorithm;
use push_domain::InvalidSetting;
use serde::Deserialize;

/// Settings of the admin API. Documented in the default configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where operators come in.
    pub listen: SocketAddr,
    /// What a customer's push URL begins with.
    pub push_url: String,
    /// Where this process reaches a gateway; without it, one of the same process, or `push_url`.
    pub gateway_url: Option<String>,
    /// For how many hours somebody stays signed in to the console.
    pub session_hours: u32,
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

impl Config {
    /// Names the first setting that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        InvalidSetting::out_of(&(1..=24), "session_hours", &self.session_hours)?;
        let rule = "has to be 30 to 36500, or 0 to keep the audit log for good";
        InvalidSetting::unless(matches!(self.audit_days, 0 | 30..=36_500), "audit_days", rule)?;
        let is_url = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        for (key, url) in [("push_url", Some(&self.push_url)), ("gateway_url", self.gateway_url.as_ref())] {
            let rule = "has to begin with https:// or http://";
            InvalidSetting::unless(url.is_none_or(|url| is_url(url)), key, rule)?;
        }
        let oidc = self.oidc.as_ref().map_or(Ok(()), OidcConfig::validate);
        oidc.map_err(|refused| refused.within("oidc"))
    }
}

impl OidcConfig {
    fn validate(&self) -> Result<(), InvalidSetting> {
        let url = reqwest::Url::parse(&self.jwks_url).ok();
        let is_safe = |url: reqwest::Url| {
            let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
            let is_here = host == "localhost" || host.parse().is_ok_and(|it: IpAddr| it.is_loopback());
            url.scheme() == "https" || (url.scheme() == "http" && is_here)
        };
        let rule = "has to begin with https://, or to be on this machine";
        InvalidSetting::unless(url.is_some_and(is_safe), "jwks_url", rule)?;
        let is_public =
            |it: &Algorithm| !matches!(it, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
        let rule = "must not hold HS256, HS384 or HS512: there is no secret to share";
        InvalidSetting::unless(self.algorithms.iter().all(is_public), "algorithms", rule)
    }
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
