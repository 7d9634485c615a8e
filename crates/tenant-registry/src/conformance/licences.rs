//! Conformance tests of licences, their keys, and the servers that they are bound to.

use std::time::Duration;

use push_domain::{LicenceId, TenantId, Timestamp};

use super::{NOW, Registry, TEST_CONTEXT, a_draft, a_key, a_licence, a_tenant, another_key, refusal};
use crate::{Acceptance, AuditContext, KeyUse, LicenceDraft, Refusal, RegistryError, Snapshot, TenantDraft};

pub(crate) async fn a_name_is_taken_only_once(registry: &impl Registry) {
    let first = a_tenant(registry, "acme").await;

    let second = registry.admin().create_tenant(&TenantDraft::named("acme"), TEST_CONTEXT).await;

    assert!(matches!(second, Err(RegistryError::NameTaken)));
    assert_eq!(registry.admin().tenant_named("acme").await.unwrap(), Some(first));
    assert_eq!(registry.admin().tenant_named("nobody").await.unwrap(), None);
}

pub(crate) async fn a_key_opens_its_licence_and_no_other_region(registry: &impl Registry) {
    let issued = a_key(registry).await;

    let snapshot = registry.admin().snapshot().await.unwrap();

    let permit = snapshot.open(&issued.key, "de", NOW).unwrap();
    assert_eq!(permit.licence.id, issued.record.licence);
    assert_eq!(permit.licence.terms, a_draft(permit.tenant));
    assert_eq!(snapshot.open(&issued.key, "jp", NOW).err(), Some(Refusal::WrongRegion));
}

pub(crate) async fn a_key_with_a_wrong_secret_opens_nothing(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let other = crate::LicenceKey::generate("us");
    let body = format!("hpns_us_{}_{}", issued.key.kid(), &other.expose()[21..64]);
    let forged = crate::LicenceKey::parse(&with_crc(&body)).unwrap();

    let snapshot = registry.admin().snapshot().await.unwrap();

    assert_eq!(snapshot.open(&forged, "us", NOW).err(), Some(Refusal::Unknown));
    assert_eq!(snapshot.open(&other, "us", NOW).err(), Some(Refusal::Unknown));
}

/// Appends the check sum that makes `body` well formed.
fn with_crc(body: &str) -> String {
    let alphabet: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').collect();
    let mut number = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = number % 62;
        number /= 62;
    }
    body.chars().chain(digits.map(|digit| alphabet[digit])).collect()
}

pub(crate) async fn a_revoked_key_opens_nothing(registry: &impl Registry) {
    let issued = a_key(registry).await;

    registry.admin().revoke_key(issued.key.kid(), TEST_CONTEXT).await.unwrap();

    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
    let again = registry.admin().revoke_key(issued.key.kid(), TEST_CONTEXT).await;
    assert!(matches!(again, Err(RegistryError::NotFound("licence key"))));
}

pub(crate) async fn a_suspended_licence_opens_nothing_until_it_is_resumed(registry: &impl Registry) {
    let issued = a_key(registry).await;

    let licence =
        registry.admin().suspend_licence(issued.record.licence, Some("unpaid"), TEST_CONTEXT).await.unwrap();
    let suspension = licence.suspension.unwrap();
    assert_eq!((&*suspension.by, &*suspension.reason, suspension.at), ("test", "unpaid", NOW));
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Suspended));

    registry.admin().suspend_licence(issued.record.licence, None, TEST_CONTEXT).await.unwrap();
    assert_eq!(refusal(registry, &issued, "us", NOW).await, None);
}

pub(crate) async fn a_licence_without_accepted_terms_is_not_active(registry: &impl Registry) {
    let tenant = a_tenant(registry, "acme").await;
    let licence = registry.admin().create_licence(a_draft(tenant.id), TEST_CONTEXT).await.unwrap();
    let issued = another_key(registry, licence.id).await;
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Inactive));

    let licence = registry.admin().accept_terms(licence.id, "2026-11", "ada", TEST_CONTEXT).await.unwrap();

    let accepted = Acceptance { version: "2026-11".into(), at: NOW, by: "ada".into() };
    assert_eq!(licence.accepted, Some(accepted));
    assert_eq!(refusal(registry, &issued, "us", NOW).await, None);
}

pub(crate) async fn a_licence_holds_from_its_first_moment_to_the_end_of_its_grace(registry: &impl Registry) {
    let tenant = a_tenant(registry, "acme").await;
    let end = Timestamp::from_millis(NOW.millis() + 1000);
    let draft = LicenceDraft { expires_at: Some(end), grace_days: 1, ..a_draft(tenant.id) };
    let licence = a_licence(registry, draft).await;
    let issued = another_key(registry, licence.id).await;
    let at = |millis| Timestamp::from_millis(NOW.millis() + millis);
    let day = 86_400_000;

    let early = Timestamp::from_millis(NOW.millis() - 1);
    assert_eq!(refusal(registry, &issued, "us", early).await, Some(Refusal::Inactive));
    let snapshot = registry.admin().snapshot().await.unwrap();
    let grace = |millis| snapshot.open(&issued.key, "us", at(millis)).unwrap().grace;
    assert_eq!(
        [0, 999, 1000, day + 999].map(grace),
        [None, None, Some(at(day + 1000)), Some(at(day + 1000))]
    );
    assert_eq!(refusal(registry, &issued, "us", at(day + 1000)).await, Some(Refusal::Expired));
}

pub(crate) async fn a_new_key_ends_the_one_before_after_the_overlap(registry: &impl Registry) {
    let old = a_key(registry).await;
    let new = another_key(registry, old.record.licence).await;
    let (before, after) = (NOW.plus(Duration::from_mins(59)), NOW.plus(Duration::from_hours(1)));

    for key in [&old, &new] {
        assert_eq!(refusal(registry, key, "us", before).await, None);
    }
    assert_eq!(refusal(registry, &old, "us", after).await, Some(Refusal::Unknown));
    assert_eq!(refusal(registry, &new, "us", after).await, None);
    let third = registry.admin().issue_key(old.record.licence, "us", Duration::ZERO, TEST_CONTEXT).await;
    assert!(matches!(third, Err(RegistryError::TooManyKeys)));
    let later = AuditContext::new("test", after);
    registry.admin().issue_key(old.record.licence, "us", Duration::ZERO, later).await.unwrap();
    let live = registry.admin().keys_of(old.record.licence).await.unwrap();
    assert_eq!(live.iter().filter(|key| key.is_live(after)).count(), 1);
}

pub(crate) async fn the_day_of_a_keys_last_use_only_moves_forward(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let kids = [issued.record.kid.clone(), "unknown".to_owned()].map(|kid| KeyUse { kid, digest: None });
    for day in [7, 9, 8] {
        registry.key_use().note_use(&kids, day).await.unwrap();
    }

    let keys = registry.admin().keys_of(issued.record.licence).await.unwrap();

    assert_eq!(keys[0].last_used_day, Some(9));
}

pub(crate) async fn a_licence_is_bound_to_its_servers(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let licence = issued.record.licence;
    let before = registry.admin().snapshot().await.unwrap();
    let servers = |snapshot: &Snapshot| snapshot.open(&issued.key, "us", NOW).unwrap().servers;
    assert_eq!(servers(&before), None);

    for server in ["one", "two", "one"] {
        registry.admin().bind_server(licence, server, true, TEST_CONTEXT).await.unwrap();
    }
    let bound = before.clone().with(registry.admin().changes_since(before.revision()).await.unwrap());
    registry.admin().bind_server(licence, "one", false, TEST_CONTEXT).await.unwrap();
    let fewer = bound.clone().with(registry.admin().changes_since(bound.revision()).await.unwrap());
    registry.admin().bind_server(licence, "two", false, TEST_CONTEXT).await.unwrap();
    let none = fewer.clone().with(registry.admin().changes_since(fewer.revision()).await.unwrap());

    let names = |snapshot| servers(snapshot).map(|servers| servers.len());
    assert_eq!([&bound, &fewer, &none].map(names), [Some(2), Some(1), None]);
    assert_eq!(servers(&registry.admin().snapshot().await.unwrap()), None);
    let again = registry.admin().bind_server(licence, "two", false, TEST_CONTEXT).await;
    assert!(matches!(again, Err(RegistryError::NotFound("server"))));
}

pub(crate) async fn a_licence_needs_its_tenant_and_a_key_its_licence(registry: &impl Registry) {
    let orphan = registry.admin().create_licence(a_draft(TenantId::new()), TEST_CONTEXT).await;
    let homeless = registry.admin().issue_key(LicenceId::new(), "us", Duration::ZERO, TEST_CONTEXT).await;

    assert!(matches!(orphan, Err(RegistryError::NotFound("tenant"))));
    assert!(matches!(homeless, Err(RegistryError::NotFound("licence"))));
}

pub(crate) async fn every_change_moves_the_revision(registry: &impl Registry) {
    let mut revisions = vec![registry.admin().revision().await.unwrap()];

    let issued = a_key(registry).await;
    revisions.push(registry.admin().revision().await.unwrap());
    registry.admin().suspend_licence(issued.record.licence, Some("unpaid"), TEST_CONTEXT).await.unwrap();
    revisions.push(registry.admin().revision().await.unwrap());
    registry.admin().revoke_key(issued.key.kid(), TEST_CONTEXT).await.unwrap();
    revisions.push(registry.admin().revision().await.unwrap());

    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    assert_eq!(registry.admin().snapshot().await.unwrap().revision(), revisions[3]);
}

pub(crate) async fn what_is_new_since_a_revision_brings_a_snapshot_up_to_date(registry: &impl Registry) {
    let kept = a_key(registry).await;
    let before = registry.admin().snapshot().await.unwrap();
    let second = another_key(registry, kept.record.licence).await;
    registry.admin().revoke_key(kept.key.kid(), TEST_CONTEXT).await.unwrap();
    let tenant = a_tenant(registry, "globex").await;

    let changes = registry.admin().changes_since(before.revision()).await.unwrap();
    let none = registry.admin().changes_since(changes.revision).await.unwrap();

    // What is of people, and not needed to check a caller, is not read.
    let read = changes.tenants.iter().map(|it| (it.id, it.device_salt, it.revision)).collect::<Vec<_>>();
    assert_eq!(read, [(tenant.id, tenant.device_salt, tenant.revision)]);
    assert!(changes.tenants.iter().all(|it| it.name.is_empty() && it.contact.is_empty()));
    assert!(changes.licences.is_empty());
    assert!(none.tenants.is_empty() && none.keys.is_empty() && none.revoked.is_empty());
    let after = before.clone().with(changes);
    assert_eq!(after.open(&kept.key, "us", NOW).err(), Some(Refusal::Unknown));
    assert_eq!(after.open(&second.key, "us", NOW).unwrap().licence.id, kept.record.licence);
    assert!(before.open(&kept.key, "us", NOW).is_ok(), "a copy leaves the original as it is");
    assert_eq!((after.tenants(), before.tenants()), (2, 1));
}
