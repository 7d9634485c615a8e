//! Conformance tests of administration: tenants, tokens, sessions, the audit log.

use std::time::Duration;

use push_domain::{DeviceId, LicenceId, Privacy, TenantId, Timestamp};

use super::{NOW, Registry, TEST_CONTEXT, a_draft, a_key, a_licence, a_tenant};
use crate::{
    AdminSession, AdminToken, AdminTokenDraft, AuditContext, IdempotencyKey, LicenceDraft, RegistryError,
    Role, TenantDraft, TenantQuery,
};

pub(crate) async fn a_change_is_made_only_to_what_was_looked_at(registry: &impl Registry) {
    let tenant = a_tenant(registry, "acme").await;
    let licence = a_licence(registry, a_draft(tenant.id)).await;
    let draft = TenantDraft { name: "Acme".into(), contact: "ada@acme".into(), failover_consent: true };

    let changed =
        registry.admin().update_tenant(tenant.id, &draft, Some(tenant.revision), TEST_CONTEXT).await.unwrap();
    let late = registry.admin().update_tenant(tenant.id, &draft, Some(tenant.revision), TEST_CONTEXT).await;
    let terms = LicenceDraft { rate_per_second: 7, privacy: Privacy::Generic, ..a_draft(tenant.id) };
    let licence_late =
        registry.admin().update_licence(licence.id, terms.clone(), Some(1), TEST_CONTEXT).await;
    let updated = registry
        .admin()
        .update_licence(licence.id, terms.clone(), Some(licence.revision), TEST_CONTEXT)
        .await;

    assert_eq!((&*changed.name, &*changed.contact, changed.failover_consent), ("Acme", "ada@acme", true));
    assert!(
        matches!(late, Err(RegistryError::RevisionConflict))
            && matches!(licence_late, Err(RegistryError::RevisionConflict))
    );
    assert_eq!(updated.unwrap().terms, terms);
    let foreign = LicenceDraft { tenant: TenantId::new(), ..terms };
    let moved = registry.admin().update_licence(licence.id, foreign, None, TEST_CONTEXT).await;
    assert!(matches!(moved, Err(RegistryError::NotFound("licence"))));
}

pub(crate) async fn tenants_are_listed_by_name_a_page_at_a_time(registry: &impl Registry) {
    for name in ["beta", "alpha", "gamma_1", "gamma%2", "Delta"] {
        a_tenant(registry, name).await;
    }
    let alpha = registry.admin().tenant_named("alpha").await.unwrap().unwrap();
    let licence = a_licence(registry, a_draft(alpha.id)).await;
    let names = async |search, after, limit| {
        let (tenants, licences) =
            registry.admin().tenants(TenantQuery { search, after, limit }).await.unwrap();
        (tenants.into_iter().map(|tenant| tenant.name).collect::<Vec<_>>(), licences.len())
    };

    let (first, licences) = names("", "", 3).await;
    let last = first[2].clone();
    let (second, _) = names("", &last, 3).await;

    let mut all = [first, second].concat();
    all.sort();
    assert_eq!(all, ["Delta", "alpha", "beta", "gamma%2", "gamma_1"]);
    assert!(licences <= 1);
    assert_eq!(names("ALPH", "", 9).await, (vec!["alpha".to_owned()], 1));
    assert_eq!(names("a%", "", 9).await.0, ["gamma%2"]);
    assert_eq!(names("a_", "", 9).await.0, ["gamma_1"]);
    assert_eq!(names("elt", "", 9).await.0, ["Delta"]);
    assert_eq!(registry.admin().licences_of(alpha.id).await.unwrap(), [licence]);
    assert_eq!(registry.admin().totals(NOW).await.unwrap(), [5, 1, 0]);
    a_tenant(registry, "Ärzte in Überlingen").await;
    assert_eq!(names("Ärzte", "", 9).await.0, ["Ärzte in Überlingen"]);
    assert_eq!(names("INGEN", "", 9).await.0, ["Ärzte in Überlingen"]);
}

pub(crate) async fn a_request_that_is_sent_again_creates_nothing_more(registry: &impl Registry) {
    let (one, other) = ([1; 32], [2; 32]);
    let sent = |key, fingerprint| AuditContext {
        idempotency_key: Some(IdempotencyKey { key, fingerprint }),
        ..TEST_CONTEXT
    };
    let draft = TenantDraft::named("acme");

    let first = registry.admin().create_tenant(&draft, sent("a", &one)).await.unwrap();
    let again = registry.admin().create_tenant(&draft, sent("a", &one)).await.unwrap();
    let reused = registry.admin().create_tenant(&draft, sent("a", &other)).await;
    let licence = registry.admin().create_licence(a_draft(first.id), sent("b", &one)).await.unwrap();
    let same = registry.admin().create_licence(a_draft(first.id), sent("b", &one)).await.unwrap();
    let key = registry.admin().issue_key(licence.id, "us", Duration::ZERO, sent("c", &one)).await.unwrap();
    let shown = registry.admin().issue_key(licence.id, "us", Duration::ZERO, sent("c", &one)).await;

    assert_eq!((first, licence.id), (again, same.id));
    assert!(matches!(reused, Err(RegistryError::RequestKeyReused)));
    assert!(matches!(shown, Err(RegistryError::DoneBefore(kid)) if kid == key.record.kid));
    registry.admin().forget_requests(Timestamp::from_millis(NOW.millis() + 1)).await.unwrap();
    let forgotten = registry.admin().create_tenant(&draft, sent("a", &other)).await;
    assert!(matches!(forgotten, Err(RegistryError::NameTaken)));
}

pub(crate) async fn licences_that_end_soon_are_listed_with_their_tenants(registry: &impl Registry) {
    let tenant = a_tenant(registry, "acme").await;
    let day = |days: u64| NOW.plus(Duration::from_hours(24 * days));
    // The days on which they end; the grace is of ten.
    for days in [5, 10, 25, 60] {
        let terms = LicenceDraft { expires_at: Some(day(days)), grace_days: 10, ..a_draft(tenant.id) };
        a_licence(registry, terms).await;
    }

    let soon = registry.admin().expiring(day(16), day(46)).await.unwrap();

    let ends: Vec<_> = soon.iter().map(|(licence, name)| (licence.terms.expires_at, &**name)).collect();
    assert_eq!(ends, [(Some(day(10)), "acme"), (Some(day(25)), "acme")]);
}

fn a_token(expires_at: Timestamp) -> AdminTokenDraft {
    AdminTokenDraft { name: "ci".into(), role: Role::Operator, tenant: None, expires_at }
}

pub(crate) async fn an_admin_token_opens_until_it_ends_or_is_revoked(registry: &impl Registry) {
    let end = NOW.plus(Duration::from_hours(1));
    let issued = registry.admin().issue_admin_token(a_token(end), TEST_CONTEXT).await.unwrap();
    let open = async |token: &AdminToken, at| registry.admin().open_admin_token(token, at).await.unwrap();

    let record = open(&issued.token, NOW).await.unwrap();

    assert_eq!((record.terms, record.id), (a_token(end), issued.token.id().to_owned()));
    assert_eq!(open(&AdminToken::generate(), NOW).await, None);
    assert_eq!(open(&issued.token, end).await, None);
    let listed = registry.admin().admin_tokens().await.unwrap();
    assert_eq!(listed[0].last_used_day, Some(NOW.day()));
    registry.admin().revoke_admin_token(issued.token.id(), TEST_CONTEXT).await.unwrap();
    assert_eq!(open(&issued.token, NOW).await, None);
    let again = registry.admin().revoke_admin_token(issued.token.id(), TEST_CONTEXT).await;
    assert!(matches!(again, Err(RegistryError::NotFound("admin token"))));
    let orphan = AdminTokenDraft { tenant: Some(TenantId::new()), role: Role::Tenant, ..a_token(end) };
    let orphan = registry.admin().issue_admin_token(orphan, TEST_CONTEXT).await;
    assert!(matches!(orphan, Err(RegistryError::NotFound("tenant"))));
}

pub(crate) async fn every_deed_stands_in_the_audit_log(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let licence = issued.record.licence;
    let tenant = registry.admin().tenant_named("acme").await.unwrap().unwrap();
    registry.admin().update_tenant(tenant.id, &TenantDraft::named("acme"), None, TEST_CONTEXT).await.unwrap();
    registry.admin().update_licence(licence, a_draft(tenant.id), None, TEST_CONTEXT).await.unwrap();
    registry.admin().suspend_licence(licence, Some("unpaid"), TEST_CONTEXT).await.unwrap();
    registry.admin().suspend_licence(licence, None, TEST_CONTEXT).await.unwrap();
    registry.admin().bind_server(licence, "srv", true, TEST_CONTEXT).await.unwrap();
    registry.admin().bind_server(licence, "srv", false, TEST_CONTEXT).await.unwrap();
    registry.admin().erase_devices(tenant.id, &[DeviceId::from_bytes([1; 32])], TEST_CONTEXT).await.unwrap();
    let erasure = registry.admin().order_erasure(tenant.id, TEST_CONTEXT).await.unwrap();
    registry.admin().carry_out(&erasure, TEST_CONTEXT).await.unwrap();
    registry.admin().revoke_key(issued.key.kid(), TEST_CONTEXT).await.unwrap();
    let token = registry
        .admin()
        .issue_admin_token(a_token(NOW.plus(Duration::from_hours(1))), TEST_CONTEXT)
        .await
        .unwrap();
    registry.admin().revoke_admin_token(token.token.id(), TEST_CONTEXT).await.unwrap();
    registry.admin().note("app.test_push", "ios", None, serde_json::json!({}), TEST_CONTEXT).await.unwrap();

    let events = registry.admin().audit(None, u64::MAX, 100).await.unwrap();

    let actions: Vec<_> = events.iter().rev().map(|event| &*event.action).collect();
    assert_eq!(
        actions,
        [
            "tenant.create",
            "licence.create",
            "licence.accept_terms",
            "key.issue",
            "tenant.update",
            "licence.update",
            "licence.suspend",
            "licence.resume",
            "server.bind",
            "server.unbind",
            "device.erase",
            "device.order_erasure",
            "device.erase_all",
            "key.revoke",
            "admin_token.issue",
            "admin_token.revoke",
            "app.test_push",
        ]
    );
    assert!(events.iter().all(|event| event.actor == "test" && event.at == NOW));
    let secrets = [issued.key.expose(), token.token.expose()];
    assert!(events.iter().all(|event| !secrets.iter().any(|secret| event.detail.contains(&secret[24..]))));
    let report = registry.admin().verify_audit(None).await.unwrap();
    assert_eq!((report.events, report.fault), (17, None));
    let own = registry.admin().audit(Some(tenant.id), u64::MAX, 100).await.unwrap();
    assert_eq!(own.len(), 14);
    let older = registry.admin().audit(None, 3, 100).await.unwrap();
    assert_eq!(older.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 1]);
}

pub(crate) async fn many_tenants_are_made_at_once_or_none(registry: &impl Registry) {
    let names: Vec<_> = (0..20).map(|number| format!("many {number}")).collect();
    let terms = a_draft(TenantId::new());

    let made = registry.admin().seed(&names, &terms, "us", TEST_CONTEXT).await.unwrap();
    let again = registry.admin().seed(&["new".into(), "many 3".into()], &terms, "us", TEST_CONTEXT).await;

    assert_eq!(made.len(), 20);
    for (tenant, key) in &made {
        let permit = registry.admin().snapshot().await.unwrap().open(&key.key, "us", NOW).unwrap();
        assert_eq!(permit.tenant, tenant.id);
    }
    assert!(matches!(again, Err(RegistryError::NameTaken)));
    assert_eq!(registry.admin().tenant_named("new").await.unwrap(), None);
}

pub(crate) async fn a_refused_change_leaves_no_trace(registry: &impl Registry) {
    a_tenant(registry, "acme").await;
    let before = registry.admin().revision().await.unwrap();

    let _ = registry.admin().create_tenant(&TenantDraft::named("acme"), TEST_CONTEXT).await;
    let _ = registry.admin().suspend_licence(LicenceId::new(), None, TEST_CONTEXT).await;
    let _ = registry.admin().revoke_key("nothing", TEST_CONTEXT).await;

    assert_eq!(registry.admin().revision().await.unwrap(), before);
    assert_eq!(registry.admin().audit(None, u64::MAX, 9).await.unwrap().len(), 1);
}

pub(crate) async fn a_session_lives_until_it_ends_is_ended_or_loses_its_token(registry: &impl Registry) {
    let admin = registry.admin();
    let expires_at = NOW.plus(Duration::from_hours(24));
    let draft = AdminTokenDraft { name: "ada".into(), role: Role::Viewer, tenant: None, expires_at };
    let token = admin.issue_admin_token(draft, TEST_CONTEXT).await.unwrap().record;
    let session = |number: u8, hours| AdminSession {
        id: [number; 32],
        token: token.id.clone(),
        expires_at: NOW.plus(Duration::from_hours(hours)),
    };
    let lives = async |number: u8, now: Timestamp| {
        let found = admin.session_token(&[number; 32], now).await.unwrap();
        found.is_some_and(|found| found.id == token.id)
    };
    for (number, hours) in [(1, 1), (2, 8), (3, 8)] {
        admin.begin_session(&session(number, hours), TEST_CONTEXT).await.unwrap();
    }
    let later = NOW.plus(Duration::from_hours(1));
    assert!(lives(1, NOW).await && !lives(1, later).await, "it ends by itself");
    assert!(!lives(9, NOW).await, "nobody's");

    admin.end_session(&[2; 32], TEST_CONTEXT).await.unwrap();
    admin.end_session(&[2; 32], TEST_CONTEXT).await.unwrap();
    assert!(!lives(2, NOW).await && lives(3, NOW).await);

    admin.revoke_admin_token(&token.id, TEST_CONTEXT).await.unwrap();
    assert!(!lives(3, NOW).await);
    let unknown = AdminSession { token: "nobody".into(), ..session(4, 1) };
    assert!(matches!(
        admin.begin_session(&unknown, TEST_CONTEXT).await,
        Err(RegistryError::NotFound("admin token"))
    ));
}
