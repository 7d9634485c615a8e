//! The pipeline, under a face that is not Mattermost's: admitted, limited, queued, counted and logged like the first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::Request;
use dispatch_stream::{Job, JobProducer, SubmitError};
use http_edge::{Limits, TrustedProxies};
use push_domain::{
    Answer, App, AppCatalogue, AppId, Audience, ManualClock, Provider, SecretBytes, Timestamp, Verdict,
};
use tenant_registry::{
    AuditContext, Keys, LicenceAdmin, LicenceDraft, LicenceKey, Plan, SqliteRegistry, TenantAdmin,
    TenantDraft,
};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::admission::Authenticator;
use crate::credential::{CredentialService, with_credentials};
use crate::event::{Answered, Refused, Sink};
use crate::faces::second;
use crate::fair::{FairQueue, Share};
use crate::{Access, AdmissionConfig, Config, Gateway, MattermostConfig, Parts, TestTier, Version};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Workers that deliver everything.
#[derive(Debug)]
struct Delivers;

#[async_trait]
impl JobProducer for Delivers {
    async fn submit(&self, _: Job) -> Result<Verdict, SubmitError> {
        Ok(Verdict { answer: Answer::Ok, reason: None, attempts: 1, timing: push_domain::Timing::default() })
    }
}

/// Keeps what it hears, as words.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Sink for Heard {
    fn answered(&self, event: &Answered) {
        self.0.lock().unwrap().push(format!("{} {}", event.app.id, event.verdict.answer.label()));
    }

    fn refused(&self, event: &Refused) {
        let whose = if event.tenant.is_some() { "a tenant's" } else { "nobody's" };
        self.0.lock().unwrap().push(format!("{whose} {}", event.reason.code()));
    }
}

struct Fixture {
    service: CredentialService,
    gateway: Arc<Gateway>,
    heard: Arc<Heard>,
    key: LicenceKey,
    _directory: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    let keys = Keys::derive(&SecretBytes::new(vec![1; 32]));
    let registry = SqliteRegistry::open(&directory.path().join("r.db"), keys.clone()).await.unwrap();
    let audit = AuditContext::new("test", NOW);
    let tenant = registry.create_tenant(&TenantDraft::named("acme"), audit).await.unwrap();
    let terms = LicenceDraft {
        rate_per_second: 1,
        burst: 3,
        ..LicenceDraft::new(tenant.id, Plan::Professional, "us", NOW)
    };
    let licence = registry.create_licence(terms, audit).await.unwrap();
    registry.accept_terms(licence.id, "1", "ada", audit).await.unwrap();
    let key = registry.issue_key(licence.id, "us", Duration::ZERO, audit).await.unwrap().key;
    let clock = Arc::new(ManualClock::starting_at(NOW));
    let authenticator = Authenticator::new(AdmissionConfig::new(Access::Licensed, "us"), keys, clock.clone());
    authenticator.load(&registry).await.unwrap();
    let app = App {
        id: AppId::new("android"),
        platform: "a".into(),
        audience: Audience::Shared,
        provider: Provider::Fcm,
        topic: String::new(),
    };
    let ledger = crate::Ledger::new("test", "us", push_domain::Objectives::default(), clock.clone());
    let gateway = Gateway::new(Parts {
        config: config(),
        authenticator: Arc::new(authenticator),
        apps: Arc::new(AppCatalogue::new([app]).unwrap()),
        clock,
        version: Version { hash: "0".into(), version: "0".into() },
        ledger,
    });
    let queue = FairQueue::new(Arc::new(Delivers), Arc::default(), Share::default(), true);
    let heard = Arc::new(Heard::default());
    let pipeline = gateway.pipeline(Arc::new(queue), vec![heard.clone() as _], TaskTracker::new());
    let service = with_credentials(second::router(pipeline));
    Fixture { service, gateway, heard, key, _directory: directory }
}

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        plain_listen: None,
        tls: None,
        limits: Limits::default(),
        trusted_proxies: TrustedProxies::default(),
        test_tier: TestTier { enabled: false, rate_per_second: 1, burst: 1 },
        region_urls: BTreeMap::new(),
        global_hosts: Vec::new(),
        endpoints_notice: String::new(),
        access: Access::Licensed,
        budget_ms: 10_000,
        test_budget_ms: 2500,
        call_budget_ms: 5000,
        device_rate_per_second: 10,
        device_burst: 40,
        timing_without_licence: false,
        mattermost: MattermostConfig {
            message_ttl_seconds: 0,
            call_ttl_seconds: 30,
            clear_with_normal_priority: false,
            collapse_by_ack_id: false,
        },
    }
}

impl Fixture {
    async fn push(&self, key: Option<&str>, app: &str) -> String {
        let mut request = Request::builder().method("POST").uri("/notes");
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let body = format!(r#"{{"server":"s","app":"{app}","to":"token","say":"hello"}}"#);
        let answer = self.service.clone().oneshot(request.body(Body::from(body)).unwrap()).await.unwrap();
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }
}

#[tokio::test]
async fn another_face_is_admitted_limited_and_counted_like_the_first() {
    let place = fixture().await;
    let key = Some(place.key.expose());

    let answers = [
        place.push(None, "a").await,
        place.push(Some("hpns_us_wrong"), "a").await,
        place.push(key, "a").await,
        place.push(key, "b").await,
        place.push(key, "a").await,
        place.push(key, "a").await,
    ];

    let expected = ["licence_missing", "licence_unknown", "ok", "unknown_platform", "ok", "rate_limited"];
    assert_eq!(answers, expected);
    let heard = place.heard.0.lock().unwrap().clone();
    assert_eq!(
        heard,
        [
            "nobody's licence_missing",
            "nobody's licence_unknown",
            "android ok",
            "a tenant's unknown_platform",
            "android ok",
            "a tenant's rate_limited",
        ]
    );
    assert!(place.gateway.load().lines.is_empty(), "nothing is left under way");
}
