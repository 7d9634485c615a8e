//! The laws that every registry back-end must keep. `registry_conformance!` makes each one a test.

use push_domain::{AppId, DeviceId, TenantId, Timestamp};

use crate::{
    DeliveryLedger, DeviceState, IssuedKey, LicenceDraft, Plan, Refusal, RegistryError, Sighting, TenantAdmin,
};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// What a back-end must offer to be held to the laws.
pub(crate) trait Registry {
    fn admin(&self) -> &dyn TenantAdmin;
    fn ledger(&self) -> &dyn DeliveryLedger;
}

/// Every table and column that may exist.
pub(crate) const ALLOWED_SCHEMA: [&str; 5] = [
    "device: tenant_id id app platform first_seen last_seen state reason",
    "licence: id tenant_id plan regions rate_per_second burst not_before expires_at suspended revision",
    "licence_key: kid licence_id mac created_at revoked_at revision",
    "revision: only_row number key_check",
    "tenant: id name device_salt created_at revision",
];

/// Writes tables and columns, in order, as [`ALLOWED_SCHEMA`] does.
pub(crate) fn schema(columns: Vec<(String, String)>) -> Vec<String> {
    let mut schema: Vec<String> = Vec::new();
    for (table, column) in columns {
        match schema.last_mut() {
            Some(line) if line.starts_with(&format!("{table}:")) => line.extend([" ", &column]),
            _ => schema.push(format!("{table}: {column}")),
        }
    }
    schema
}

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
            what_is_new_since_a_revision_brings_a_snapshot_up_to_date,
            devices_are_forgotten_in_time,
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

async fn a_key(registry: &impl Registry) -> IssuedKey {
    let tenant = registry.admin().create_tenant("acme", NOW).await.unwrap();
    let licence = registry.admin().create_licence(a_draft(tenant.id)).await.unwrap();
    registry.admin().issue_key(licence.id, "us", NOW).await.unwrap()
}

async fn refusal(
    registry: &impl Registry,
    issued: &IssuedKey,
    region: &str,
    now: Timestamp,
) -> Option<Refusal> {
    registry.admin().snapshot().await.unwrap().open(&issued.key, region, now).err()
}

pub(crate) async fn a_name_is_taken_only_once(registry: &impl Registry) {
    let first = registry.admin().create_tenant("acme", NOW).await.unwrap();

    let second = registry.admin().create_tenant("acme", NOW).await;

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

    registry.admin().revoke_key(issued.key.kid(), NOW).await.unwrap();

    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
    let again = registry.admin().revoke_key(issued.key.kid(), NOW).await;
    assert!(matches!(again, Err(RegistryError::Missing("licence key"))));
}

pub(crate) async fn a_suspended_licence_is_inactive_until_it_is_resumed(registry: &impl Registry) {
    let issued = a_key(registry).await;

    registry.admin().suspend_licence(issued.record.licence, true).await.unwrap();
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Inactive));

    registry.admin().suspend_licence(issued.record.licence, false).await.unwrap();
    assert_eq!(refusal(registry, &issued, "us", NOW).await, None);
}

pub(crate) async fn a_licence_holds_from_its_first_to_its_last_moment(registry: &impl Registry) {
    let tenant = registry.admin().create_tenant("acme", NOW).await.unwrap();
    let end = Timestamp::from_millis(NOW.millis() + 1000);
    let draft = LicenceDraft { expires_at: Some(end), ..a_draft(tenant.id) };
    let licence = registry.admin().create_licence(draft).await.unwrap();
    let issued = registry.admin().issue_key(licence.id, "us", NOW).await.unwrap();

    let at = |millis| Timestamp::from_millis(NOW.millis() + millis);
    assert_eq!(
        refusal(registry, &issued, "us", Timestamp::from_millis(NOW.millis() - 1)).await,
        Some(Refusal::Inactive)
    );
    assert_eq!(refusal(registry, &issued, "us", at(0)).await, None);
    assert_eq!(refusal(registry, &issued, "us", at(999)).await, None);
    assert_eq!(refusal(registry, &issued, "us", at(1000)).await, Some(Refusal::Inactive));
}

pub(crate) async fn a_licence_needs_its_tenant_and_a_key_its_licence(registry: &impl Registry) {
    let orphan = registry.admin().create_licence(a_draft(TenantId::new())).await;
    let homeless = registry.admin().issue_key(push_domain::LicenceId::new(), "us", NOW).await;

    assert!(matches!(orphan, Err(RegistryError::Missing("tenant"))));
    assert!(matches!(homeless, Err(RegistryError::Missing("licence"))));
}

pub(crate) async fn every_change_moves_the_revision(registry: &impl Registry) {
    let mut revisions = vec![registry.admin().revision().await.unwrap()];

    let issued = a_key(registry).await;
    revisions.push(registry.admin().revision().await.unwrap());
    registry.admin().suspend_licence(issued.record.licence, true).await.unwrap();
    revisions.push(registry.admin().revision().await.unwrap());
    registry.admin().revoke_key(issued.key.kid(), NOW).await.unwrap();
    revisions.push(registry.admin().revision().await.unwrap());

    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    assert_eq!(registry.admin().snapshot().await.unwrap().revision(), revisions[3]);
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

pub(crate) async fn a_device_keeps_its_first_day_and_its_last_state(registry: &impl Registry) {
    let first = a_sighting(10, DeviceState::Active);
    let last = a_sighting(12, DeviceState::Removed);

    registry.ledger().record(std::slice::from_ref(&first)).await.unwrap();
    registry.ledger().record(std::slice::from_ref(&last)).await.unwrap();
    registry.ledger().record(&[last]).await.unwrap();

    let device = registry.admin().device(first.tenant, first.device).await.unwrap().unwrap();
    assert_eq!((device.first_seen, device.last_seen, device.state), (10, 12, DeviceState::Removed));
    assert_eq!(device.reason.as_deref(), Some("Unregistered"));
    assert_eq!(registry.admin().device(TenantId::new(), first.device).await.unwrap(), None);
}

pub(crate) async fn an_older_sighting_changes_nothing(registry: &impl Registry) {
    let newer = a_sighting(12, DeviceState::Removed);

    registry.ledger().record(std::slice::from_ref(&newer)).await.unwrap();
    registry.ledger().record(&[a_sighting(11, DeviceState::Active)]).await.unwrap();

    let device = registry.admin().device(newer.tenant, newer.device).await.unwrap().unwrap();
    assert_eq!((device.last_seen, device.state), (12, DeviceState::Removed));
}

pub(crate) async fn what_is_new_since_a_revision_brings_a_snapshot_up_to_date(registry: &impl Registry) {
    let kept = a_key(registry).await;
    let before = registry.admin().snapshot().await.unwrap();
    let second = registry.admin().issue_key(kept.record.licence, "us", NOW).await.unwrap();
    registry.admin().revoke_key(kept.key.kid(), NOW).await.unwrap();
    let tenant = registry.admin().create_tenant("globex", NOW).await.unwrap();

    let changes = registry.admin().changes_since(before.revision()).await.unwrap();
    let none = registry.admin().changes_since(changes.revision).await.unwrap();

    assert_eq!(changes.tenants, [tenant]);
    assert!(changes.licences.is_empty());
    assert!(none.tenants.is_empty() && none.keys.is_empty() && none.revoked.is_empty());
    let after = before.clone().with(changes);
    assert_eq!(after.open(&kept.key, "us", NOW).err(), Some(Refusal::Unknown));
    assert_eq!(after.open(&second.key, "us", NOW).unwrap().licence.id, kept.record.licence);
    assert!(before.open(&kept.key, "us", NOW).is_ok(), "a copy leaves the original as it is");
    assert_eq!((after.tenants(), before.tenants()), (2, 1));
}

pub(crate) async fn devices_are_forgotten_in_time(registry: &impl Registry) {
    let mut seen = Vec::new();
    for (number, day, state) in
        [(1, 9, DeviceState::Active), (2, 10, DeviceState::Active), (3, 10, DeviceState::Removed)]
    {
        let device = DeviceId::from_bytes([number; 32]);
        seen.push(Sighting { device, ..a_sighting(day, state) });
    }
    registry.ledger().record(&seen).await.unwrap();

    assert_eq!(registry.ledger().forget(10, 11).await.unwrap(), 2);

    let mut left = Vec::new();
    for sighting in &seen {
        left.push(registry.admin().device(sighting.tenant, sighting.device).await.unwrap().is_some());
    }
    assert_eq!(left, [false, true, false]);
}
