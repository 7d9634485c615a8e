//! Conformance suite of the registry back-ends. `registry_conformance!` makes each law a test.

mod devices;
mod licences;
mod operators;
mod rights;
mod service_level;

use std::time::Duration;

use push_domain::{LicenceId, TenantId, Timestamp};

pub(crate) use self::devices::*;
pub(crate) use self::licences::*;
pub(crate) use self::operators::*;
pub(crate) use self::rights::*;
pub(crate) use self::service_level::*;
use crate::{
    Administration, AuditContext, DeliveryLedger, IssuedKey, Licence, LicenceDraft, Plan, Refusal,
    ServiceLevelLedger, Tenant, TenantDraft,
};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// What a back-end must offer to be held to the laws.
pub(crate) trait Registry {
    fn admin(&self) -> &dyn Administration;
    fn ledger(&self) -> &dyn DeliveryLedger;
    fn service_level(&self) -> &dyn ServiceLevelLedger;
    fn key_use(&self) -> &dyn crate::KeyUseLedger;
    /// Runs a statement as somebody who may write everything.
    async fn tamper(&self, statement: &str);
    /// Bytes as a literal; of a type that one database has and the other has not.
    fn bytes(&self, bytes: &[u8], kind: &str) -> String;
    async fn seal(&self, as_it_stands: bool);
    async fn make_missing_salts(&self);
}

/// The keys of every back-end under test.
pub(crate) fn keys() -> crate::Keys {
    crate::Keys::derive(&push_domain::SecretBytes::new(vec![1; 32]))
}

/// What somebody does at that time.
pub(crate) const TEST_CONTEXT: AuditContext<'static> = AuditContext::new("test", NOW);

/// Every table and column that may exist.
pub(crate) const ALLOWED_SCHEMA: [&str; 20] = [
    "admin_session: id token_id expires_at",
    "admin_token: id name role tenant_id mac created_at created_by expires_at revoked_at last_used_day",
    "audit_event: seq at actor action object tenant_id detail prev_hash hash hash_key rights",
    "audit_head: only_row seq hash mac",
    "credential_proof: app fingerprint proven_day",
    "device: tenant_id id app platform first_seen last_seen state reason",
    "device_salt: tenant_id salt",
    "erasure: id tenant_id ordered_at ordered_by revision",
    "erasure_done: erasure_id done_at devices",
    "key_use: kid last_used_day offered",
    "licence: id tenant_id plan regions rate_per_second burst not_before expires_at suspended revision created_at \
     grace_days in_flight devices privacy terms_version terms_accepted_at terms_accepted_by suspended_at suspended_by \
     suspended_reason",
    "licence_key: kid licence_id mac created_at revoked_at revision pepper ends_at hashed wrapped",
    "request_key: actor key fingerprint object created_at",
    "revision: only_row number key_check finished",
    "rights_bucket: kind number entries",
    "rights_root: kind revision hashes key signature",
    "server: licence_id server_id bound_at",
    "service_level: tenant_id hour span provider class process tally",
    "service_level_process: process region began flushed ended",
    "tenant: id name created_at revision contact failover_consent",
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
            what_a_process_writes_again_replaces_and_what_others_write_adds_up,
            hours_that_are_over_become_one_row_and_old_ones_days_and_nothing_is_lost,
            an_hour_that_its_process_may_still_write_is_not_put_together,
            any_number_of_rows_is_written_and_put_together,
            a_process_tells_until_when_it_has_told,
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
            a_session_lives_until_it_ends_is_ended_or_loses_its_token,
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
            everything_that_was_sold_and_changed_is_as_it_was_signed,
            a_suspension_that_was_lifted_in_the_database_still_holds,
            a_licence_put_back_to_what_it_was_grants_nothing,
            a_key_that_was_deleted_is_found,
            a_key_that_was_copied_to_another_licence_opens_nothing,
            a_server_that_was_let_go_in_the_database_is_found,
            a_token_whose_role_was_raised_opens_nothing,
            a_key_of_before_is_coded_anew_once_it_is_used,
            a_backup_without_its_salts_knows_no_device,
            old_audit_events_go_and_the_log_says_so,
            a_token_that_was_revoked_does_not_come_back_with_what_was_signed_before,
            a_key_that_was_hidden_for_a_while_is_found,
            a_change_that_is_hidden_from_who_reads_only_changes_is_found,
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
    registry.admin().create_tenant(&TenantDraft::named(name), TEST_CONTEXT).await.unwrap()
}

/// A licence whose terms are accepted.
async fn a_licence(registry: &impl Registry, draft: LicenceDraft) -> Licence {
    let licence = registry.admin().create_licence(draft, TEST_CONTEXT).await.unwrap();
    registry.admin().accept_terms(licence.id, "1", "ada", TEST_CONTEXT).await.unwrap()
}

async fn another_key(registry: &impl Registry, licence: LicenceId) -> IssuedKey {
    registry.admin().issue_key(licence, "us", Duration::from_hours(1), TEST_CONTEXT).await.unwrap()
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
