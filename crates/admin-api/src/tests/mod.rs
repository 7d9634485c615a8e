//! The API and the console as callers see them, on a registry of each test's own.

mod access;
mod audit;
mod console;
mod input;
mod oidc;
mod registry_watch;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use dispatch_stream::PeerDirectory;
use http::{HeaderMap, Request, StatusCode};
use http_edge::{Peer, TrustedProxies};
use push_domain::{
    App, AppCatalogue, AppId, Audience, LicenceId, ManualClock, Provider, SecretBytes, TenantId, Timestamp,
};
use serde_json::Value;
use tempfile::TempDir;
use tenant_registry::{
    AdminTokenDraft, AuditContext, Keys, LicenceAdmin, LicenceDraft, OperatorAdmin, Plan, Role,
    SqliteRegistry, TenantAdmin, TenantDraft,
};
use tower::ServiceExt;

use crate::{Admin, Config, OidcConfig, Parts};

pub(super) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TEST_CONTEXT: AuditContext<'static> = AuditContext::new("test", NOW);

/// The API over a registry in a directory of its own.
pub(super) struct Fixture {
    pub(super) admin: Admin,
    router: Router,
    pub(super) registry: Arc<SqliteRegistry>,
    pub(super) clock: Arc<ManualClock>,
    directory: TempDir,
}

/// An answer as it came.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(super) async fn fixture() -> Fixture {
    fixture_with(None).await
}

pub(super) async fn fixture_with(oidc: Option<OidcConfig>) -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys::derive(&SecretBytes::new(vec![1; 32]));
    let registry = SqliteRegistry::open(&directory.path().join("r.db"), keys.clone()).await.unwrap();
    let registry = Arc::new(registry);
    let clock = Arc::new(ManualClock::starting_at(NOW));
    let app = App {
        id: AppId::new("android"),
        platform: "android_rn".into(),
        audience: Audience::Shared,
        provider: Provider::Fcm,
        topic: String::new(),
    };
    let admin = Admin::new(Parts {
        config: Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            push_url: "https://push.example.com".into(),
            gateway_url: Some("http://127.0.0.1:1".into()),
            session_hours: 8,
            audit_days: 400,
            trusted_proxies: TrustedProxies::new(vec!["127.0.0.0/8".parse().unwrap()]),
            oidc,
        },
        region: "us".into(),
        objectives: push_domain::Objectives::default(),
        own_gateway: None,
        control: registry.clone(),
        home: registry.clone(),
        keys,
        peers: Arc::new(PeerDirectory::alone("test")),
        apps: Arc::new(AppCatalogue::new([app]).unwrap()),
        clock: clock.clone(),
    });
    let admin = admin.unwrap();
    Fixture { router: crate::router(admin.clone()), admin, registry, clock, directory }
}

impl Fixture {
    /// Makes a token, and returns what stands in the header.
    pub(super) async fn bearer(&self, role: Role, tenant: Option<TenantId>) -> String {
        format!("Bearer {}", self.token(role, tenant).await)
    }

    pub(super) async fn token(&self, role: Role, tenant: Option<TenantId>) -> String {
        let expires_at = NOW.plus(Duration::from_hours(24));
        let draft = AdminTokenDraft { name: "test".into(), role, tenant, expires_at };
        self.registry.issue_admin_token(draft, TEST_CONTEXT).await.unwrap().token.expose().to_owned()
    }

    /// Makes a tenant with a licence.
    pub(super) async fn tenant(&self, name: &str) -> (TenantId, LicenceId) {
        let tenant = self.registry.create_tenant(&TenantDraft::named(name), TEST_CONTEXT).await.unwrap();
        let draft = LicenceDraft::new(tenant.id, Plan::Professional, "us", NOW);
        let licence = self.registry.create_licence(draft, TEST_CONTEXT).await.unwrap();
        (tenant.id, licence.id)
    }

    pub(super) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_from("192.0.2.1", method, path, headers, body).await
    }

    pub(super) async fn ask_from(
        &self,
        address: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let peer = Peer { address: address.parse().unwrap(), is_tls: true };
        self.ask_over(peer, method, path, headers, body).await
    }

    pub(super) async fn ask_over(
        &self,
        peer: Peer,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        request.extensions_mut().insert(peer);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Asks as somebody.
    pub(super) async fn ask_as(&self, bearer: &str, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, &[("authorization", bearer)], body).await
    }
}
