//! Conformance tests of signed rights: what was changed past the service grants nothing, and is found.

use push_domain::Timestamp;

use super::{NOW, Registry, TEST_CONTEXT, a_draft, a_key, a_licence, a_tenant, another_key, refusal};
use crate::{AdminTokenDraft, AuditContext, DeviceActivity, Refusal, RegistryError, Role};

async fn changed(registry: &impl Registry) -> Vec<String> {
    registry.admin().verify_rights().await.unwrap().changed
}

pub(crate) async fn everything_that_was_sold_and_changed_is_as_it_was_signed(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let licence = issued.record.licence;
    let admin = registry.admin();
    for server in ["b", "a"] {
        admin.bind_server(licence, server, true, TEST_CONTEXT).await.unwrap();
    }
    admin.bind_server(licence, "a", false, TEST_CONTEXT).await.unwrap();
    let second = another_key(registry, licence).await;
    admin.revoke_key(issued.key.kid(), TEST_CONTEXT).await.unwrap();
    admin.suspend_licence(licence, Some("unpaid"), TEST_CONTEXT).await.unwrap();
    let draft = a_draft(admin.licence(licence).await.unwrap().unwrap().terms.tenant);
    admin.update_licence(licence, draft.clone(), None, TEST_CONTEXT).await.unwrap();
    admin.seed(&["one".to_owned(), "two".to_owned()], &draft, "us", TEST_CONTEXT).await.unwrap();
    let order = admin.order_erasure(draft.tenant, TEST_CONTEXT).await.unwrap();
    admin.carry_out(&order, TEST_CONTEXT).await.unwrap();

    let report = admin.verify_rights().await.unwrap();
    assert_eq!((report.changed.len(), report.deleted, report.old_keys.len()), (0, 0, 0), "{report:?}");
    assert_eq!(refusal(registry, &second, "us", NOW).await, Some(Refusal::Suspended));
}

pub(crate) async fn a_suspension_that_was_lifted_in_the_database_still_holds(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let licence = issued.record.licence;
    registry.admin().suspend_licence(licence, Some("unpaid"), TEST_CONTEXT).await.unwrap();

    registry.tamper("UPDATE licence SET suspended = FALSE").await;

    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
    assert_eq!(changed(registry).await, [licence.to_string()]);
    // Nor does a change make good of it.
    for done in [
        registry.admin().accept_terms(licence, "2", "ada", TEST_CONTEXT).await.map(drop),
        registry.admin().bind_server(licence, "a", true, TEST_CONTEXT).await,
        registry.admin().issue_key(licence, "us", std::time::Duration::ZERO, TEST_CONTEXT).await.map(drop),
    ] {
        assert!(matches!(done, Err(RegistryError::RightsChanged)), "{done:?}");
    }
    // What is put right by sealing is switched off first; an operator decides on it.
    registry.seal(false).await;
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Suspended));
    assert!(changed(registry).await.is_empty());
    registry.admin().suspend_licence(licence, None, TEST_CONTEXT).await.unwrap();
    assert_eq!(refusal(registry, &issued, "us", NOW).await, None);
}

pub(crate) async fn a_licence_put_back_to_what_it_was_grants_nothing(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let licence = issued.record.licence;
    registry.tamper("CREATE TABLE kept AS SELECT suspended, revision FROM licence").await;
    registry.tamper("CREATE TABLE kept_bucket AS SELECT * FROM rights_bucket").await;
    registry.tamper("CREATE TABLE kept_root AS SELECT * FROM rights_root").await;
    let known = registry.admin().snapshot().await.unwrap();
    registry.admin().suspend_licence(licence, Some("unpaid"), TEST_CONTEXT).await.unwrap();

    let put_back =
        "UPDATE licence SET suspended = (SELECT suspended FROM kept), revision = (SELECT revision FROM kept)";
    registry.tamper(put_back).await;
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
    assert_eq!(changed(registry).await, [licence.to_string()]);
    // With its bucket.
    registry
        .tamper(
            "UPDATE rights_bucket SET entries = (SELECT entries FROM kept_bucket AS k
             WHERE k.kind = rights_bucket.kind AND k.number = rights_bucket.number)",
        )
        .await;
    let unproven = |read: Result<_, RegistryError>| matches!(read, Err(RegistryError::RightsUnproven));
    assert!(unproven(registry.admin().snapshot().await.map(drop)));
    // With the signature of then.
    registry
        .tamper(
            "UPDATE rights_root SET (revision, hashes, signature) =
             (SELECT revision, hashes, signature FROM kept_root AS k WHERE k.kind = rights_root.kind)",
        )
        .await;
    assert!(unproven(registry.admin().snapshot().await.map(drop)));
    assert!(unproven(registry.admin().changes_since(known.revision()).await.map(drop)));
    // With the revision of then: whoever reads the audit log too finds it, and changes nothing from there on.
    registry
        .tamper("UPDATE revision SET number = (SELECT revision FROM kept_root WHERE kind = 'licences')")
        .await;
    assert!(registry.admin().snapshot().await.unwrap().revision() <= known.revision());
    assert!(unproven(registry.admin().verify_rights().await.map(drop)));
    assert!(unproven(registry.admin().suspend_licence(licence, Some("again"), TEST_CONTEXT).await.map(drop)));
}

pub(crate) async fn a_token_that_was_revoked_does_not_come_back_with_what_was_signed_before(
    registry: &impl Registry,
) {
    let expires_at = NOW.plus(std::time::Duration::from_hours(1));
    let draft = AdminTokenDraft { name: "a".into(), role: Role::Viewer, tenant: None, expires_at };
    let issued = registry.admin().issue_admin_token(draft, TEST_CONTEXT).await.unwrap();
    registry.tamper("CREATE TABLE kept_bucket AS SELECT * FROM rights_bucket").await;
    registry.tamper("CREATE TABLE kept_root AS SELECT * FROM rights_root").await;
    registry.admin().revoke_admin_token(issued.token.id(), TEST_CONTEXT).await.unwrap();

    registry.tamper("UPDATE admin_token SET revoked_at = NULL").await;
    registry.tamper("DELETE FROM rights_bucket").await;
    registry.tamper("INSERT INTO rights_bucket SELECT * FROM kept_bucket").await;
    registry.tamper("DELETE FROM rights_root").await;
    registry.tamper("INSERT INTO rights_root SELECT * FROM kept_root").await;

    let opened = registry.admin().open_admin_token(&issued.token, NOW).await;
    assert!(matches!(opened, Err(RegistryError::RightsUnproven)), "{opened:?}");
}

pub(crate) async fn a_key_that_was_hidden_for_a_while_is_found(registry: &impl Registry) {
    let hidden = a_key(registry).await;
    let admin = registry.admin();
    let kid = hidden.key.kid();
    registry.tamper("UPDATE licence_key SET revoked_at = 1").await;

    let issued = admin.issue_key(hidden.record.licence, "us", std::time::Duration::ZERO, TEST_CONTEXT).await;
    assert!(matches!(issued, Err(RegistryError::RightsChanged)), "{issued:?}");
    assert!(matches!(admin.revoke_key(kid, TEST_CONTEXT).await, Err(RegistryError::RightsChanged)));
    assert_eq!(admin.verify_rights().await.unwrap().deleted, 2, "the key, and the set of keys");
    registry.seal(false).await;

    registry.tamper("UPDATE licence_key SET revoked_at = NULL").await;
    assert_eq!(refusal(registry, &hidden, "us", NOW).await, Some(Refusal::Unknown));
    assert_eq!(changed(registry).await, [kid]);
}

pub(crate) async fn a_change_that_is_hidden_from_who_reads_only_changes_is_found(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let admin = registry.admin();
    let before = admin.snapshot().await.unwrap();
    admin.suspend_licence(issued.record.licence, Some("unpaid"), TEST_CONTEXT).await.unwrap();
    assert!(before.explains(&admin.changes_since(before.revision()).await.unwrap()));

    registry.tamper("UPDATE licence SET revision = 1").await;
    assert!(!before.explains(&admin.changes_since(before.revision()).await.unwrap()));
    // One that was touched grants nothing either.
    registry.tamper("UPDATE licence SET revision = (SELECT number FROM revision), suspended = FALSE").await;
    let after = before.clone().with(admin.changes_since(before.revision()).await.unwrap());
    assert_eq!(after.open(&issued.key, "us", NOW).err(), Some(Refusal::Unknown));
}

pub(crate) async fn a_key_that_was_deleted_is_found(registry: &impl Registry) {
    let issued = a_key(registry).await;
    registry.tamper("DELETE FROM licence_key").await;

    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
    assert_eq!(registry.admin().verify_rights().await.unwrap().deleted, 2, "the key, and the set of keys");
}

pub(crate) async fn a_key_that_was_copied_to_another_licence_opens_nothing(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let other = a_tenant(registry, "globex").await;
    let other = a_licence(registry, a_draft(other.id)).await;
    let before = registry.admin().snapshot().await.unwrap();
    let target = registry.bytes(other.id.uuid().as_bytes(), "uuid");

    registry.tamper(&format!("UPDATE licence_key SET licence_id = {target}")).await;
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
    let found = changed(registry).await;
    assert!(found.contains(&issued.record.kid), "{found:?}");
    // Nor for who reads only what is new.
    registry.tamper("UPDATE licence_key SET revision = (SELECT number FROM revision)").await;
    let changes = registry.admin().changes_since(before.revision() - 1).await.unwrap();
    assert_eq!(before.with(changes).open(&issued.key, "us", NOW).err(), Some(Refusal::Unknown));
}

pub(crate) async fn a_server_that_was_let_go_in_the_database_is_found(registry: &impl Registry) {
    let issued = a_key(registry).await;
    registry.admin().bind_server(issued.record.licence, "one", true, TEST_CONTEXT).await.unwrap();
    registry.tamper("DELETE FROM server").await;

    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
}

pub(crate) async fn a_token_whose_role_was_raised_opens_nothing(registry: &impl Registry) {
    let expires_at = NOW.plus(std::time::Duration::from_hours(1));
    let draft =
        |name: &str| AdminTokenDraft { name: name.into(), role: Role::Viewer, tenant: None, expires_at };
    let issued = registry.admin().issue_admin_token(draft("a"), TEST_CONTEXT).await.unwrap();
    let other = registry.admin().issue_admin_token(draft("b"), TEST_CONTEXT).await.unwrap();
    let session = crate::AdminSession { id: [7; 32], token: other.token.id().to_owned(), expires_at };
    registry.admin().begin_session(&session, TEST_CONTEXT).await.unwrap();
    let opened = registry.admin().open_admin_token(&issued.token, NOW).await.unwrap();
    assert_eq!(opened.map(|it| it.terms.role), Some(Role::Viewer));

    registry.tamper("UPDATE admin_token SET role = 'security-admin'").await;
    assert_eq!(registry.admin().open_admin_token(&issued.token, NOW).await.unwrap(), None);
    assert_eq!(registry.admin().session_token(&session.id, NOW).await.unwrap(), None);
    assert_eq!(changed(registry).await.len(), 2);
    // One that was revoked is not brought back.
    registry.tamper("UPDATE admin_token SET role = 'viewer'").await;
    registry.admin().revoke_admin_token(issued.token.id(), TEST_CONTEXT).await.unwrap();
    registry.tamper("UPDATE admin_token SET revoked_at = NULL").await;
    assert_eq!(registry.admin().open_admin_token(&issued.token, NOW).await.unwrap(), None);
    assert!(registry.admin().session_token(&session.id, NOW).await.unwrap().is_some());
}

pub(crate) async fn a_key_of_before_is_coded_anew_once_it_is_used(registry: &impl Registry) {
    let keys = super::keys();
    let (used, unused) = (a_key(registry).await, a_tenant(registry, "globex").await);
    let unused = another_key(registry, a_licence(registry, a_draft(unused.id)).await.id).await;
    for issued in [&used, &unused] {
        let mac = registry.bytes(&keys.legacy_mac(issued.key.expose()).0, "bytea");
        let kid = &issued.record.kid;
        let statement =
            format!("UPDATE licence_key SET hashed = FALSE, wrapped = NULL, mac = {mac} WHERE kid = '{kid}'");
        registry.tamper(&statement).await;
    }
    registry.seal(true).await;
    let admin = registry.admin();
    let snapshot = admin.snapshot().await.unwrap();
    let first = snapshot.open(&used.key, "us", NOW).unwrap().first_use.unwrap();
    assert!(first.digest.is_some() && snapshot.open(&unused.key, "us", NOW).is_ok());
    assert_eq!(admin.renew_keys(TEST_CONTEXT).await.unwrap(), 0, "nobody has offered anything");

    // What somebody offers who cannot make it is not taken.
    let forged = registry.bytes(&[1; 64], "bytea");
    let kid = &used.record.kid;
    let statement =
        format!("INSERT INTO key_use (kid, last_used_day, offered) VALUES ('{kid}', 6, {forged})");
    registry.tamper(&statement).await;
    assert_eq!(admin.renew_keys(TEST_CONTEXT).await.unwrap(), 0);
    registry.key_use().note_use(&[first], 7).await.unwrap();
    assert_eq!(admin.renew_keys(TEST_CONTEXT).await.unwrap(), 1);

    let snapshot = admin.snapshot().await.unwrap();
    let permit = snapshot.open(&used.key, "us", NOW).unwrap();
    assert!(permit.first_use.is_some_and(|first| first.digest.is_none()));
    assert!(snapshot.open(&unused.key, "us", NOW).is_ok());
    let report = admin.verify_rights().await.unwrap();
    assert_eq!((report.changed.len(), report.old_keys), (0, vec![unused.record.kid.clone()]));
    assert_eq!(admin.renew_keys(TEST_CONTEXT).await.unwrap(), 0);
}

pub(crate) async fn a_backup_without_its_salts_knows_no_device(registry: &impl Registry) {
    use push_domain::{AppId, DeviceToken, Provider};
    let keys = super::keys();
    let tenant = a_tenant(registry, "acme").await;
    let admin = registry.admin();
    let token = DeviceToken::parse(Provider::Fcm, "a-token".into()).unwrap();
    let device = |tenant: &crate::Tenant| {
        keys.device_key(tenant.id, &tenant.device_salt).device_id(&AppId::new("android"), &token)
    };
    let seen = DeviceActivity {
        tenant: tenant.id,
        device: device(&tenant),
        app: "android".into(),
        platform: "android".into(),
        day: 1,
        state: crate::DeviceState::Active,
        reason: None,
    };
    registry.ledger().record(&[seen]).await.unwrap();
    assert!(admin.device(tenant.id, device(&tenant)).await.unwrap().is_some());

    registry.tamper("DELETE FROM device_salt").await;
    registry.make_missing_salts().await;

    let restored = admin.tenant(tenant.id).await.unwrap().unwrap();
    assert_ne!(restored.device_salt, tenant.device_salt);
    assert_eq!(admin.device(tenant.id, device(&restored)).await.unwrap(), None);
    assert!(admin.snapshot().await.unwrap().revision() > tenant.revision);
}

pub(crate) async fn old_audit_events_go_and_the_log_says_so(registry: &impl Registry) {
    let admin = registry.admin();
    let at = |millis| AuditContext::new("test", Timestamp::from_millis(millis));
    for millis in [1, 2, 3] {
        admin.note("test", "x", None, serde_json::json!({}), at(millis * 1_000_000_000)).await.unwrap();
    }
    let whole = admin.verify_audit(None).await.unwrap();
    let before = Timestamp::from_millis(2_500_000_000);
    assert_eq!(admin.cut_audit(Timestamp::from_millis(1), TEST_CONTEXT).await.unwrap(), 0);

    let cut = admin.cut_audit(before, TEST_CONTEXT).await.unwrap();
    let report = admin.verify_audit(None).await.unwrap();
    assert_eq!(report.fault, None);
    assert_eq!((cut, report.events, report.cut_through), (2, whole.events + 1, 2));
    admin.note("test", "after", None, serde_json::json!({}), TEST_CONTEXT).await.unwrap();
    assert_eq!(admin.verify_audit(None).await.unwrap().fault, None);

    // A log that was tampered with is not made good by forgetting what it was tampered with in.
    let event = admin.audit(None, u64::MAX, 100).await.unwrap().last().unwrap().clone();
    registry.tamper(&format!("UPDATE audit_event SET at = 1 WHERE seq = {}", event.seq)).await;
    let late = Timestamp::from_millis(3_500_000_000);
    assert!(matches!(admin.cut_audit(late, TEST_CONTEXT).await, Err(RegistryError::AuditBroken)));
    registry
        .tamper(&format!("UPDATE audit_event SET at = {} WHERE seq = {}", event.at.millis(), event.seq))
        .await;

    // By hand, there is no word of it.
    let first = admin.audit(None, u64::MAX, 100).await.unwrap().last().unwrap().seq;
    registry.tamper(&format!("DELETE FROM audit_event WHERE seq <= {first}")).await;
    assert_eq!(admin.verify_audit(None).await.unwrap().fault, Some(crate::AuditFault::Cut));
}
