//! The laws that every registry back-end must keep. `registry_conformance!` makes each one a test.

use push_domain::{AppId, DeviceId, TenantId, Timestamp};

use crate::{
    DeliveryLedger, DeviceState, IssuedKey, LicenceDraft, Plan, Refusal, RegistryError, Sighting, TenantAdmin,
};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

macro_rules! registry_conformance {
    ($fresh:expr) => {
        $crate::conformance::registry_conformance!($fresh,
            a_name_is_taken_only_once,
            a_key_opens_its_licence_and_no_other_region,
            a_key_with_a_wrong_secret_opens_nothing,
            a_revoked_key_opens_nothing,
            a_suspended_licence_is_inactive_until_it_is_resumed,
            a_licence_holds_from_its_first_to_its_last_moment,
            a_licence_needs_its_tenant_and_a_key_its_licence,
            every_change_moves_the_revision,
            a_device_keeps_its_first_day_and_its_last_state,
            an_older_sighting_changes_nothing,
        );
    };
    ($fresh:expr, $($law:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $law() {
            let directory = tempfile::tempdir().unwrap();
            let registry = $fresh(directory.path()).await;
            $crate::conformance::$law(&registry).await;
        })+
    };
}
pub(crate) use registry_conformance;

fn a_draft(tenant: TenantId) -> LicenceDraft {
    LicenceDraft {
        tenant,
        plan: Plan::Professional,
        regions: vec!["us".into(), "de".into()],
        rate_per_second: 100,
        burst: 200,
        not_before: NOW,
        expires_at: None,
    }
}

async fn a_key(registry: &impl TenantAdmin) -> IssuedKey {
    let tenant = registry.create_tenant("acme", NOW).await.unwrap();
    let licence = registry.create_licence(a_draft(tenant.id)).await.unwrap();
    registry.issue_key(licence.id, "us", NOW).await.unwrap()
}

async fn refusal(
    registry: &impl TenantAdmin,
    issued: &IssuedKey,
    region: &str,
    now: Timestamp,
) -> Option<Refusal> {
    registry.snapshot().await.unwrap().open(&issued.key, region, now).err()
}

pub(crate) async fn a_name_is_taken_only_once(registry: &impl TenantAdmin) {
    let first = registry.create_tenant("acme", NOW).await.unwrap();

    let second = registry.create_tenant("acme", NOW).await;

    assert!(matches!(second, Err(RegistryError::NameTaken)));
    assert_eq!(registry.tenant_named("acme").await.unwrap(), Some(first));
    assert_eq!(registry.tenant_named("nobody").await.unwrap(), None);
}

pub(crate) async fn a_key_opens_its_licence_and_no_other_region(registry: &impl TenantAdmin) {
    let issued = a_key(registry).await;

    let snapshot = registry.snapshot().await.unwrap();

    let permit = snapshot.open(&issued.key, "de", NOW).unwrap();
    assert_eq!(permit.licence.id, issued.record.licence);
    assert_eq!(permit.licence.terms, a_draft(permit.tenant));
    assert_eq!(snapshot.open(&issued.key, "jp", NOW).err(), Some(Refusal::WrongRegion));
}

pub(crate) async fn a_key_with_a_wrong_secret_opens_nothing(registry: &impl TenantAdmin) {
    let issued = a_key(registry).await;
    let other = crate::LicenceKey::generate("us");
    let body = format!("hpns_us_{}_{}", issued.key.kid(), &other.expose()[21..64]);
    let forged = crate::LicenceKey::parse(&with_crc(&body)).unwrap();

    let snapshot = registry.snapshot().await.unwrap();

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

pub(crate) async fn a_revoked_key_opens_nothing(registry: &impl TenantAdmin) {
    let issued = a_key(registry).await;

    registry.revoke_key(issued.key.kid(), NOW).await.unwrap();

    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
    let again = registry.revoke_key(issued.key.kid(), NOW).await;
    assert!(matches!(again, Err(RegistryError::Missing("licence key"))));
}

pub(crate) async fn a_suspended_licence_is_inactive_until_it_is_resumed(registry: &impl TenantAdmin) {
    let issued = a_key(registry).await;

    registry.suspend_licence(issued.record.licence, true).await.unwrap();
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Inactive));

    registry.suspend_licence(issued.record.licence, false).await.unwrap();
    assert_eq!(refusal(registry, &issued, "us", NOW).await, None);
}

pub(crate) async fn a_licence_holds_from_its_first_to_its_last_moment(registry: &impl TenantAdmin) {
    let tenant = registry.create_tenant("acme", NOW).await.unwrap();
    let end = Timestamp::from_millis(NOW.millis() + 1000);
    let draft = LicenceDraft { expires_at: Some(end), ..a_draft(tenant.id) };
    let licence = registry.create_licence(draft).await.unwrap();
    let issued = registry.issue_key(licence.id, "us", NOW).await.unwrap();

    let at = |millis| Timestamp::from_millis(NOW.millis() + millis);
    assert_eq!(
        refusal(registry, &issued, "us", Timestamp::from_millis(NOW.millis() - 1)).await,
        Some(Refusal::Inactive)
    );
    assert_eq!(refusal(registry, &issued, "us", at(0)).await, None);
    assert_eq!(refusal(registry, &issued, "us", at(999)).await, None);
    assert_eq!(refusal(registry, &issued, "us", at(1000)).await, Some(Refusal::Inactive));
}

pub(crate) async fn a_licence_needs_its_tenant_and_a_key_its_licence(registry: &impl TenantAdmin) {
    let orphan = registry.create_licence(a_draft(TenantId::new())).await;
    let homeless = registry.issue_key(push_domain::LicenceId::new(), "us", NOW).await;

    assert!(matches!(orphan, Err(RegistryError::Missing("tenant"))));
    assert!(matches!(homeless, Err(RegistryError::Missing("licence"))));
}

pub(crate) async fn every_change_moves_the_revision(registry: &impl TenantAdmin) {
    let mut revisions = vec![registry.revision().await.unwrap()];

    let issued = a_key(registry).await;
    revisions.push(registry.revision().await.unwrap());
    registry.suspend_licence(issued.record.licence, true).await.unwrap();
    revisions.push(registry.revision().await.unwrap());
    registry.revoke_key(issued.key.kid(), NOW).await.unwrap();
    revisions.push(registry.revision().await.unwrap());

    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    assert_eq!(registry.snapshot().await.unwrap().revision(), revisions[3]);
}

fn a_sighting(day: u32, state: DeviceState) -> Sighting {
    Sighting {
        tenant: TenantId::from_uuid(uuid::Uuid::from_u128(5)),
        device: DeviceId::from_bytes([9; 32]),
        app: AppId::new("ios").to_string(),
        platform: "apple_rn".into(),
        day,
        state,
        reason: (state == DeviceState::Removed).then(|| "Unregistered".to_owned()),
    }
}

pub(crate) async fn a_device_keeps_its_first_day_and_its_last_state(
    registry: &(impl TenantAdmin + DeliveryLedger),
) {
    let first = a_sighting(10, DeviceState::Active);
    let last = a_sighting(12, DeviceState::Removed);

    registry.record(std::slice::from_ref(&first)).await.unwrap();
    registry.record(std::slice::from_ref(&last)).await.unwrap();
    registry.record(&[last]).await.unwrap();

    let device = registry.device(first.tenant, first.device).await.unwrap().unwrap();
    assert_eq!((device.first_seen, device.last_seen, device.state), (10, 12, DeviceState::Removed));
    assert_eq!(device.reason.as_deref(), Some("Unregistered"));
    assert_eq!(registry.device(TenantId::new(), first.device).await.unwrap(), None);
}

pub(crate) async fn an_older_sighting_changes_nothing(registry: &(impl TenantAdmin + DeliveryLedger)) {
    let newer = a_sighting(12, DeviceState::Removed);

    registry.record(std::slice::from_ref(&newer)).await.unwrap();
    registry.record(&[a_sighting(11, DeviceState::Active)]).await.unwrap();

    let device = registry.device(newer.tenant, newer.device).await.unwrap().unwrap();
    assert_eq!((device.last_seen, device.state), (12, DeviceState::Removed));
}
