//! Access tokens of an identity provider that runs in the test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use data_encoding::BASE64URL_NOPAD;
use http::StatusCode;
use http_edge::{Edge, Limits};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Fixture, NOW, fixture_with};
use crate::OidcConfig;

/// A provider with one key, and how often it was asked for it.
struct Provider {
    key: KeyPair,
    asked: Arc<AtomicUsize>,
    url: String,
}

fn a_provider() -> Provider {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let point = key.der_bytes().to_vec();
    let (x, y) = (BASE64URL_NOPAD.encode(&point[1..33]), BASE64URL_NOPAD.encode(&point[33..65]));
    let jwk = |kid: &str, algorithm: &str, purpose: &str| json!({ "kty": "EC", "crv": "P-256", "alg": algorithm, "use": purpose, "kid": kid, "x": x, "y": y });
    let keys = [jwk("k1", "ES256", "sig"), jwk("k-enc", "ES256", "enc"), jwk("k-alg", "ES384", "sig")];
    let keys = json!({ "keys": keys });
    let asked = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&asked);
    let router: Router = Router::new().route(
        "/keys",
        get(async move || {
            counted.fetch_add(1, Ordering::SeqCst);
            keys.to_string()
        }),
    );
    let listener = http_edge::bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let tasks = TaskTracker::new();
    tasks.spawn(http_edge::serve(
        listener,
        None,
        router,
        Edge::new("provider", Limits::default()),
        CancellationToken::new(),
        tasks.clone(),
    ));
    Provider { key, asked, url }
}

fn claims() -> Value {
    json!({ "iss": "https://login.example.com", "aud": "hpns-admin", "sub": "ada", "exp": NOW.seconds() + 600, "hpns_role": "operator" })
}

impl Provider {
    fn token(&self, kid: &str, claims: &Value) -> String {
        let header =
            Header { typ: Some("at+jwt".into()), kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
        self.token_of(&header, claims)
    }

    fn token_of(&self, header: &Header, claims: &Value) -> String {
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        encode(header, claims, &key).unwrap()
    }

    async fn place(&self) -> Fixture {
        let oidc =
            json!({ "issuer": "https://login.example.com", "audience": "hpns-admin", "jwks_url": self.url });
        let oidc: OidcConfig = serde_json::from_value(oidc).unwrap();
        fixture_with(Some(oidc)).await
    }
}

async fn status(place: &Fixture, token: &str) -> StatusCode {
    place.ask_as(&format!("Bearer {token}"), "GET", "/v1/me", "").await.status
}

#[tokio::test]
async fn an_access_token_says_who_calls_and_with_which_role() {
    let provider = a_provider();
    let place = provider.place().await;

    let me = place.ask_as(&format!("Bearer {}", provider.token("k1", &claims())), "GET", "/v1/me", "").await;

    assert_eq!(me.json(), json!({ "actor": "oidc:ada", "role": "operator", "region": "us" }));
    status(&place, &provider.token("k1", &claims())).await;
    assert_eq!(provider.asked.load(Ordering::SeqCst), 1, "the keys are kept");
}

#[tokio::test]
async fn a_token_with_anything_wrong_is_nobodys() {
    let (provider, stranger) = (a_provider(), a_provider());
    let place = provider.place().await;
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        provider.token("k1", &claims)
    };
    let without = |name: &str| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        provider.token("k1", &claims)
    };
    let good = provider.token("k1", &claims());
    let body = good.split('.').nth(1).unwrap();
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let unsigned = format!("{}.{body}.", part(r#"{"alg":"none","kid":"k1"}"#));
    let symmetric = {
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
        encode(&header, &claims(), &EncodingKey::from_secret(provider.key.public_key_raw())).unwrap()
    };
    let headed = |change: &dyn Fn(&mut Header)| {
        let mut header =
            Header { typ: Some("at+jwt".into()), kid: Some("k1".into()), ..Header::new(Algorithm::ES256) };
        change(&mut header);
        provider.token_of(&header, &claims())
    };
    for (what, token) in [
        ("another issuer", with("iss", "https://evil.example.com".into())),
        ("another audience", with("aud", "other".into())),
        ("its time is over", with("exp", (NOW.seconds() - 31).into())),
        ("its time has not come", with("nbf", (NOW.seconds() + 31).into())),
        ("a role that is none", with("hpns_role", "root".into())),
        ("the role of a tenant", with("hpns_role", "tenant".into())),
        ("no role", without("hpns_role")),
        ("no subject", without("sub")),
        ("no end", without("exp")),
        ("another key", stranger.token("k1", &claims())),
        ("an unknown key", provider.token("k2", &claims())),
        ("no signature", unsigned),
        ("a symmetric one", symmetric),
        ("half of it", good[..good.len() / 2].to_owned()),
        ("an ID token", headed(&|header| header.typ = Some("JWT".into()))),
        ("no type", headed(&|header| header.typ = None)),
        ("something to be understood", headed(&|header| header.crit = Some(vec!["exp".into()]))),
        ("an empty subject", with("sub", "".into())),
        ("a long subject", with("sub", "a".repeat(256).into())),
        ("a subject that turns text around", with("sub", "ada\u{202e}".into())),
    ] {
        assert_eq!(status(&place, &token).await, StatusCode::UNAUTHORIZED, "{what}");
    }
    assert_eq!(status(&place, &good).await, StatusCode::OK);
}

#[tokio::test]
async fn a_key_for_encryption_or_another_algorithm_proves_nothing() {
    let provider = a_provider();
    let place = provider.place().await;
    for key in ["k-enc", "k-alg"] {
        let token = provider.token(key, &claims());
        assert_eq!(status(&place, &token).await, StatusCode::UNAUTHORIZED, "{key}");
    }
}

#[tokio::test]
async fn an_unknown_key_asks_the_provider_once_a_minute_at_most() {
    let provider = a_provider();
    let place = provider.place().await;

    for _ in 0..10 {
        status(&place, &provider.token("k2", &claims())).await;
    }

    assert_eq!(provider.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_provider_that_is_away_opens_nothing_and_breaks_nothing() {
    let provider = a_provider();
    let away = Provider { url: "http://127.0.0.1:1/keys".into(), ..a_provider() };
    let place = away.place().await;

    assert_eq!(status(&place, &provider.token("k1", &claims())).await, StatusCode::UNAUTHORIZED);
}
