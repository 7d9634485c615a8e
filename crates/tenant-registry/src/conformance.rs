//! The laws that every registry back-end must keep. `registry_conformance!` makes each one a test.

use std::time::Duration;

use push_domain::{AppId, DeviceId, LicenceId, TenantId, Timestamp};

use crate::{
    Acceptance, Act, AdminToken, AdminTokenDraft, Administration, DeliveryLedger, DeviceState, IssuedKey,
    Licence, LicenceDraft, NewDevices, Once, Plan, Privacy, Refusal, RegistryError, Role, Sighting, Snapshot,
    Tenant, TenantDraft, TenantQuery,
};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// What a back-end must offer to be held to the laws.
pub(crate) trait Registry {
    fn admin(&self) -> &dyn Administration;
    fn ledger(&self) -> &dyn DeliveryLedger;
}

/// What somebody does at that time.
pub(crate) const ACT: Act<'static> = Act::new("test", NOW);

/// Every table and column that may exist.
pub(crate) const ALLOWED_SCHEMA: [&str; 11] = [
    "admin_token: id name role tenant_id mac created_at created_by expires_at revoked_at last_used_day",
    "audit_event: seq at actor action object tenant_id detail prev_hash hash",
    "audit_head: only_row seq hash",
    "credential_proof: app fingerprint proven_day",
    "device: tenant_id id app platform first_seen last_seen state reason",
    "licence: id tenant_id plan regions rate_per_second burst not_before expires_at suspended revision created_at \
     grace_days in_flight devices privacy terms_version terms_accepted_at terms_accepted_by suspended_at suspended_by \
     suspended_reason",
    "licence_key: kid licence_id mac created_at revoked_at revision pepper ends_at last_used_day",
    "request_key: actor key fingerprint object created_at",
    "revision: only_row number key_check",
    "server: licence_id server_id bound_at",
    "tenant: id name device_salt created_at revision contact failover_consent",
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
            credentials_that_were_proven_are_remembered_the_latest_eight_of_each_app,
            a_name_is_taken_only_once,
            a_key_opens_its_licence_and_no_other_region,
            a_key_with_a_wrong_secret_opens_nothing,
            a_revoked_key_opens_nothing,
            a_suspended_licence_opens_nothing_until_it_is_resumed,
            a_licence_without_accepted_terms_is_not_active,
            a_licence_holds_from_its_first_moment_to_the_end_of_its_grace,
            a_new_key_ends_the_one_before_after_the_overlap,
            the_day_of_a_keys_last_use_only_moves_forward,
            a_licence_is_bound_to_its_servers,
            a_change_is_made_only_to_what_was_looked_at,
            tenants_are_listed_by_name_a_page_at_a_time,
            a_request_that_is_sent_again_creates_nothing_more,
            licences_that_end_soon_are_listed_with_their_tenants,
            an_admin_token_opens_until_it_ends_or_is_revoked,
            every_deed_stands_in_the_audit_log,
            a_refused_change_leaves_no_trace,
            devices_are_counted_and_erased,
            unusual_growth_is_told,
            many_tenants_are_made_at_once_or_none,
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
        regions: vec!["us".into(), "de".into()],
        ..LicenceDraft::new(tenant, Plan::Professional, "us", NOW)
    }
}

async fn a_tenant(registry: &impl Registry, name: &str) -> Tenant {
    registry.admin().create_tenant(&TenantDraft::named(name), ACT).await.unwrap()
}

/// A licence whose terms are accepted.
async fn a_licence(registry: &impl Registry, draft: LicenceDraft) -> Licence {
    let licence = registry.admin().create_licence(draft, ACT).await.unwrap();
    registry.admin().accept_terms(licence.id, "1", "ada", ACT).await.unwrap()
}

async fn another_key(registry: &impl Registry, licence: LicenceId) -> IssuedKey {
    registry.admin().issue_key(licence, "us", Duration::from_hours(1), ACT).await.unwrap()
}

async fn a_key(registry: &impl Registry) -> IssuedKey {
    let tenant = a_tenant(registry, "acme").await;
    let licence = a_licence(registry, a_draft(tenant.id)).await;
    another_key(registry, licence.id).await
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
    let first = a_tenant(registry, "acme").await;

    let second = registry.admin().create_tenant(&TenantDraft::named("acme"), ACT).await;

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

    registry.admin().revoke_key(issued.key.kid(), ACT).await.unwrap();

    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Unknown));
    let again = registry.admin().revoke_key(issued.key.kid(), ACT).await;
    assert!(matches!(again, Err(RegistryError::Missing("licence key"))));
}

pub(crate) async fn a_suspended_licence_opens_nothing_until_it_is_resumed(registry: &impl Registry) {
    let issued = a_key(registry).await;

    let licence = registry.admin().suspend_licence(issued.record.licence, Some("unpaid"), ACT).await.unwrap();
    let suspension = licence.suspension.unwrap();
    assert_eq!((&*suspension.by, &*suspension.reason, suspension.at), ("test", "unpaid", NOW));
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Suspended));

    registry.admin().suspend_licence(issued.record.licence, None, ACT).await.unwrap();
    assert_eq!(refusal(registry, &issued, "us", NOW).await, None);
}

pub(crate) async fn a_licence_without_accepted_terms_is_not_active(registry: &impl Registry) {
    let tenant = a_tenant(registry, "acme").await;
    let licence = registry.admin().create_licence(a_draft(tenant.id), ACT).await.unwrap();
    let issued = another_key(registry, licence.id).await;
    assert_eq!(refusal(registry, &issued, "us", NOW).await, Some(Refusal::Inactive));

    let licence = registry.admin().accept_terms(licence.id, "2026-11", "ada", ACT).await.unwrap();

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
    let third = registry.admin().issue_key(old.record.licence, "us", Duration::ZERO, ACT).await;
    assert!(matches!(third, Err(RegistryError::TooManyKeys)));
    let later = Act::new("test", after);
    registry.admin().issue_key(old.record.licence, "us", Duration::ZERO, later).await.unwrap();
    let live = registry.admin().keys_of(old.record.licence).await.unwrap();
    assert_eq!(live.iter().filter(|key| key.is_live(after)).count(), 1);
}

pub(crate) async fn the_day_of_a_keys_last_use_only_moves_forward(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let kids = [issued.record.kid.clone(), "unknown".to_owned()];
    for day in [7, 9, 8] {
        registry.admin().note_use(&kids, day).await.unwrap();
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
        registry.admin().bind_server(licence, server, true, ACT).await.unwrap();
    }
    let bound = before.clone().with(registry.admin().changes_since(before.revision()).await.unwrap());
    registry.admin().bind_server(licence, "one", false, ACT).await.unwrap();
    let fewer = bound.clone().with(registry.admin().changes_since(bound.revision()).await.unwrap());
    registry.admin().bind_server(licence, "two", false, ACT).await.unwrap();
    let none = fewer.clone().with(registry.admin().changes_since(fewer.revision()).await.unwrap());

    let names = |snapshot| servers(snapshot).map(|servers| servers.len());
    assert_eq!([&bound, &fewer, &none].map(names), [Some(2), Some(1), None]);
    assert_eq!(servers(&registry.admin().snapshot().await.unwrap()), None);
    let again = registry.admin().bind_server(licence, "two", false, ACT).await;
    assert!(matches!(again, Err(RegistryError::Missing("server"))));
}

pub(crate) async fn a_change_is_made_only_to_what_was_looked_at(registry: &impl Registry) {
    let tenant = a_tenant(registry, "acme").await;
    let licence = a_licence(registry, a_draft(tenant.id)).await;
    let draft = TenantDraft { name: "Acme".into(), contact: "ada@acme".into(), failover_consent: true };

    let changed =
        registry.admin().update_tenant(tenant.id, &draft, Some(tenant.revision), ACT).await.unwrap();
    let late = registry.admin().update_tenant(tenant.id, &draft, Some(tenant.revision), ACT).await;
    let terms = LicenceDraft { rate_per_second: 7, privacy: Privacy::Generic, ..a_draft(tenant.id) };
    let licence_late = registry.admin().update_licence(licence.id, terms.clone(), Some(1), ACT).await;
    let updated =
        registry.admin().update_licence(licence.id, terms.clone(), Some(licence.revision), ACT).await;

    assert_eq!((&*changed.name, &*changed.contact, changed.failover_consent), ("Acme", "ada@acme", true));
    assert!(
        matches!(late, Err(RegistryError::Changed)) && matches!(licence_late, Err(RegistryError::Changed))
    );
    assert_eq!(updated.unwrap().terms, terms);
    let foreign = LicenceDraft { tenant: TenantId::new(), ..terms };
    let moved = registry.admin().update_licence(licence.id, foreign, None, ACT).await;
    assert!(matches!(moved, Err(RegistryError::Missing("licence"))));
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
    let sent = |key, fingerprint| Act { once: Some(Once { key, fingerprint }), ..ACT };
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
    let issued = registry.admin().issue_admin_token(a_token(end), ACT).await.unwrap();
    let open = async |token: &AdminToken, at| registry.admin().open_admin_token(token, at).await.unwrap();

    let record = open(&issued.token, NOW).await.unwrap();

    assert_eq!((record.terms, record.id), (a_token(end), issued.token.id().to_owned()));
    assert_eq!(open(&AdminToken::generate(), NOW).await, None);
    assert_eq!(open(&issued.token, end).await, None);
    let listed = registry.admin().admin_tokens().await.unwrap();
    assert_eq!(listed[0].last_used_day, Some(NOW.day()));
    registry.admin().revoke_admin_token(issued.token.id(), ACT).await.unwrap();
    assert_eq!(open(&issued.token, NOW).await, None);
    let again = registry.admin().revoke_admin_token(issued.token.id(), ACT).await;
    assert!(matches!(again, Err(RegistryError::Missing("admin token"))));
    let orphan = AdminTokenDraft { tenant: Some(TenantId::new()), role: Role::Tenant, ..a_token(end) };
    let orphan = registry.admin().issue_admin_token(orphan, ACT).await;
    assert!(matches!(orphan, Err(RegistryError::Missing("tenant"))));
}

pub(crate) async fn every_deed_stands_in_the_audit_log(registry: &impl Registry) {
    let issued = a_key(registry).await;
    let licence = issued.record.licence;
    let tenant = registry.admin().tenant_named("acme").await.unwrap().unwrap();
    registry.admin().update_tenant(tenant.id, &TenantDraft::named("acme"), None, ACT).await.unwrap();
    registry.admin().update_licence(licence, a_draft(tenant.id), None, ACT).await.unwrap();
    registry.admin().suspend_licence(licence, Some("unpaid"), ACT).await.unwrap();
    registry.admin().suspend_licence(licence, None, ACT).await.unwrap();
    registry.admin().bind_server(licence, "srv", true, ACT).await.unwrap();
    registry.admin().bind_server(licence, "srv", false, ACT).await.unwrap();
    registry.admin().erase_devices(tenant.id, &[DeviceId::from_bytes([1; 32])], ACT).await.unwrap();
    registry.admin().erase_all_devices(tenant.id, ACT).await.unwrap();
    registry.admin().revoke_key(issued.key.kid(), ACT).await.unwrap();
    let token =
        registry.admin().issue_admin_token(a_token(NOW.plus(Duration::from_hours(1))), ACT).await.unwrap();
    registry.admin().revoke_admin_token(token.token.id(), ACT).await.unwrap();
    registry.admin().note("app.test_push", "ios", None, ACT).await.unwrap();

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
    let report = registry.admin().verify_audit().await.unwrap();
    assert_eq!((report.events, report.fault), (16, None));
    let own = registry.admin().audit(Some(tenant.id), u64::MAX, 100).await.unwrap();
    assert_eq!(own.len(), 13);
    let older = registry.admin().audit(None, 3, 100).await.unwrap();
    assert_eq!(older.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 1]);
}

pub(crate) async fn many_tenants_are_made_at_once_or_none(registry: &impl Registry) {
    let names: Vec<_> = (0..20).map(|number| format!("many {number}")).collect();
    let terms = a_draft(TenantId::new());

    let made = registry.admin().seed(&names, &terms, "us", ACT).await.unwrap();
    let again = registry.admin().seed(&["new".into(), "many 3".into()], &terms, "us", ACT).await;

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

    let _ = registry.admin().create_tenant(&TenantDraft::named("acme"), ACT).await;
    let _ = registry.admin().suspend_licence(LicenceId::new(), None, ACT).await;
    let _ = registry.admin().revoke_key("nothing", ACT).await;

    assert_eq!(registry.admin().revision().await.unwrap(), before);
    assert_eq!(registry.admin().audit(None, u64::MAX, 9).await.unwrap().len(), 1);
}

pub(crate) async fn devices_are_counted_and_erased(registry: &impl Registry) {
    let tenant = a_tenant(registry, "acme").await;
    let seen = |number: u8, state| Sighting {
        tenant: tenant.id,
        device: DeviceId::from_bytes([number; 32]),
        ..a_sighting(10, state)
    };
    let devices = [seen(1, DeviceState::Active), seen(2, DeviceState::Active), seen(3, DeviceState::Removed)];
    registry.ledger().record(&devices).await.unwrap();
    registry.ledger().record(&[a_sighting(10, DeviceState::Active)]).await.unwrap();
    let counts = async || {
        let counts = registry.admin().count_devices(tenant.id).await.unwrap();
        counts.into_iter().map(|it| (it.state, it.count)).collect::<Vec<_>>()
    };

    assert_eq!(counts().await, [(DeviceState::Active, 2), (DeviceState::Removed, 1)]);
    let some = [devices[0].device, DeviceId::from_bytes([99; 32])];
    assert_eq!(registry.admin().erase_devices(tenant.id, &some, ACT).await.unwrap(), 1);
    assert_eq!(registry.admin().erase_all_devices(tenant.id, ACT).await.unwrap(), 2);
    assert_eq!(counts().await, []);
    let after = registry.admin().tenant(tenant.id).await.unwrap().unwrap();
    assert_ne!(after.device_salt, tenant.device_salt);
    let other = a_sighting(10, DeviceState::Active);
    assert!(registry.admin().device(other.tenant, other.device).await.unwrap().is_some());
}

pub(crate) async fn unusual_growth_is_told(registry: &impl Registry) {
    let (busy, usual) = (TenantId::new(), TenantId::new());
    let mut seen = Vec::new();
    let mut add = |tenant, day, count: u8, first: u8| {
        for number in 0..count {
            let mut id = [first; 32];
            id[0] = number;
            let device = DeviceId::from_bytes(id);
            seen.push(Sighting { tenant, device, ..a_sighting(day, DeviceState::Active) });
        }
    };
    add(busy, 20, 30, 1);
    add(busy, 15, 10, 2);
    add(usual, 20, 30, 3);
    add(usual, 15, 100, 4);
    add(usual, 3, 200, 5);
    registry.ledger().record(&seen).await.unwrap();

    let growth = registry.admin().unusual_growth(20, 10).await.unwrap();

    assert_eq!(growth, [NewDevices { tenant: busy, today: 30, week_before: 10 }]);
}

pub(crate) async fn a_licence_needs_its_tenant_and_a_key_its_licence(registry: &impl Registry) {
    let orphan = registry.admin().create_licence(a_draft(TenantId::new()), ACT).await;
    let homeless = registry.admin().issue_key(LicenceId::new(), "us", Duration::ZERO, ACT).await;

    assert!(matches!(orphan, Err(RegistryError::Missing("tenant"))));
    assert!(matches!(homeless, Err(RegistryError::Missing("licence"))));
}

pub(crate) async fn every_change_moves_the_revision(registry: &impl Registry) {
    let mut revisions = vec![registry.admin().revision().await.unwrap()];

    let issued = a_key(registry).await;
    revisions.push(registry.admin().revision().await.unwrap());
    registry.admin().suspend_licence(issued.record.licence, Some("unpaid"), ACT).await.unwrap();
    revisions.push(registry.admin().revision().await.unwrap());
    registry.admin().revoke_key(issued.key.kid(), ACT).await.unwrap();
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
    let second = another_key(registry, kept.record.licence).await;
    registry.admin().revoke_key(kept.key.kid(), ACT).await.unwrap();
    let tenant = a_tenant(registry, "globex").await;

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

pub(crate) async fn credentials_that_were_proven_are_remembered_the_latest_eight_of_each_app(
    registry: &impl Registry,
) {
    let ledger = registry.ledger();
    ledger.prove("other", "one", 1).await.unwrap();
    for day in 1..=10 {
        for _ in 0..2 {
            ledger.prove("ios", &format!("{day:02}"), day).await.unwrap();
        }
    }

    let proofs = ledger.proofs().await.unwrap();

    let of_ios: Vec<_> = proofs.iter().filter(|(app, _)| app == "ios").map(|(_, it)| it.as_str()).collect();
    assert_eq!(of_ios, ["03", "04", "05", "06", "07", "08", "09", "10"]);
    assert!(proofs.contains(&("other".into(), "one".into())));
}
