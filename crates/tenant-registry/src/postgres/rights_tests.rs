//! Tests of the database roles: what each may do, and no more.

use push_domain::DeviceId;

use super::tests::{keys, login, migrated};
use super::*;
use crate::conformance::TEST_CONTEXT;
use crate::{DeviceAdmin, DeviceState, KeyUseLedger, OperatorAdmin, TenantAdmin, TenantReader};

#[tokio::test]
async fn each_role_may_do_its_own_work_and_no_other() {
    let address = migrated().await;
    for role in ["gateway", "worker", "admin"] {
        login(&address, role).await;
    }
    let login = |role: &str| address(&(address("x").rsplit('/').next().unwrap().to_owned() + "_" + role));
    let activity = DeviceActivity {
        tenant: TenantId::new(),
        device: DeviceId::from_bytes([1; 32]),
        app: "ios".into(),
        platform: "apple_rn".into(),
        day: 1,
        state: DeviceState::Active,
        reason: None,
    };
    let record = |role: &str| PostgresLedger::new(&login(role)).unwrap();

    let gateway = PostgresRegistry::open(&login("gateway"), keys(1)).await.unwrap();
    gateway.snapshot().await.unwrap();
    assert!(denied(gateway.create_tenant(&TenantDraft::named("a"), TEST_CONTEXT).await));
    assert!(denied(record("gateway").record(std::slice::from_ref(&activity)).await));

    let worker = record("worker");
    worker.check().await.unwrap();
    worker.record(std::slice::from_ref(&activity)).await.unwrap();
    worker.forget(10, 10).await.unwrap();
    assert!(denied(PostgresRegistry::open(&login("worker"), keys(1)).await), "no licence, no key");

    let admin = PostgresRegistry::open(&login("admin"), keys(1)).await.unwrap();
    admin.create_tenant(&TenantDraft::named("a"), TEST_CONTEXT).await.unwrap();
    assert!(denied(record("admin").record(&[activity]).await));
}

/// What each role may do, by table and column: the whole of it, and nothing beside it.
const RIGHTS: &str = "
admin admin_session: DELETE INSERT SELECT
admin device_salt: INSERT SELECT UPDATE(salt)
admin rights_bucket: INSERT SELECT UPDATE(entries)
admin rights_root: INSERT SELECT UPDATE(hashes) UPDATE(key) UPDATE(revision) UPDATE(signature)
gateway device_salt: SELECT
gateway rights_bucket: SELECT
gateway rights_root: SELECT
admin admin_token: INSERT SELECT UPDATE(last_used_day) UPDATE(revoked_at)
admin audit_event: INSERT SELECT
admin audit_head: SELECT UPDATE(hash) UPDATE(mac) UPDATE(seq)
admin device: DELETE SELECT
admin erasure: INSERT SELECT
admin erasure_done: INSERT SELECT
admin key_use: SELECT UPDATE(offered)
gateway key_use: INSERT SELECT(kid) SELECT(last_used_day) UPDATE(last_used_day) UPDATE(offered)
admin request_key: DELETE INSERT SELECT
admin revision: SELECT UPDATE(key_check) UPDATE(number)
admin server: DELETE INSERT SELECT
admin service_level: DELETE INSERT SELECT
admin service_level_process: DELETE SELECT
gateway revision: SELECT(key_check) SELECT(number)
gateway service_level: INSERT SELECT UPDATE(tally)
gateway service_level_process: INSERT SELECT UPDATE(ended) UPDATE(flushed)
gateway server: SELECT(licence_id) SELECT(server_id)
gateway tenant: SELECT(id) SELECT(revision)
worker credential_proof: DELETE INSERT SELECT
worker device: DELETE INSERT SELECT UPDATE(last_seen) UPDATE(reason) UPDATE(state)";

#[tokio::test]
async fn each_role_has_these_rights_and_no_others() {
    let address = migrated().await;
    let pool = connect(&address("postgres")).unwrap();
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT substr(grantee, 6), table_name::text, privilege_type::text, '' FROM information_schema.role_table_grants
         WHERE grantee LIKE 'hpns_%' AND table_schema = 'public'
         UNION ALL
         SELECT substr(c.grantee, 6), c.table_name::text, c.privilege_type::text, '(' || c.column_name || ')'
         FROM information_schema.column_privileges AS c
         WHERE c.grantee LIKE 'hpns_%' AND c.table_schema = 'public' AND NOT EXISTS (
             SELECT FROM information_schema.role_table_grants AS t WHERE t.grantee = c.grantee
             AND t.table_name = c.table_name AND t.privilege_type = c.privilege_type)",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let mut rights: std::collections::BTreeMap<String, std::collections::BTreeSet<String>> =
        std::collections::BTreeMap::new();
    for (role, table, privilege, column) in rows {
        rights.entry(format!("{role} {table}")).or_default().insert(privilege + &column);
    }
    for line in RIGHTS.trim().lines() {
        let (place, expected) = line.split_once(": ").unwrap();
        let found = rights.remove(place).unwrap_or_default();
        assert_eq!(found.into_iter().collect::<Vec<_>>().join(" "), expected, "{place}");
    }
    // What people wrote, and what is not theirs to see or change.
    let gateway = |table: &str| rights.remove(&format!("gateway {table}")).unwrap();
    let mut gateway = gateway;
    let (licence, key) = (gateway("licence"), gateway("licence_key"));
    for hidden in ["suspended_by", "suspended_reason", "terms_accepted_by", "suspended_at", "created_at"] {
        assert!(!licence.contains(&format!("SELECT({hidden})")), "{hidden}");
    }
    let changes = |all: &std::collections::BTreeSet<String>| {
        all.iter().filter(|right| !right.starts_with("SELECT")).cloned().collect::<Vec<_>>()
    };
    assert_eq!((changes(&licence), changes(&key)), (vec![], vec![]), "control data is written by no gateway");
    for table in ["tenant", "licence", "licence_key"] {
        let admin = rights.remove(&format!("admin {table}")).unwrap();
        assert!(
            admin.iter().all(|right| right != "DELETE" && right != "UPDATE" && right != "TRUNCATE"),
            "{table}"
        );
        assert!(!admin.contains("UPDATE(id)") && !admin.contains("UPDATE(licence_id)"));
    }
    rights.retain(|place, _| !place.ends_with("_sqlx_migrations"));
    assert!(rights.is_empty(), "more than is written here: {rights:?}");
}

fn denied<T>(result: Result<T, RegistryError>) -> bool {
    matches!(result, Err(RegistryError::Database(sqlx::Error::Database(error))) if error.code().as_deref() == Some("42501"))
}

#[tokio::test]
async fn a_gateway_may_note_the_day_of_a_key_and_an_admin_may_not_rewrite_the_log() {
    let address = migrated().await;
    let database = address("x").rsplit('/').next().unwrap().to_owned();
    let pool = connect(&address("postgres")).unwrap();
    for role in ["gateway", "admin"] {
        let make = format!("CREATE ROLE {database}_{role} LOGIN IN ROLE hpns_{role}");
        sqlx::query(sqlx::AssertSqlSafe(make)).execute(&pool).await.unwrap();
    }
    let admin = PostgresRegistry::open(&address(&format!("{database}_admin")), keys(1)).await.unwrap();
    let names = ["acme".to_owned()];
    let terms = crate::LicenceDraft::new(TenantId::new(), crate::Plan::Test, "us", TEST_CONTEXT.at);
    let made = crate::Seeder::seed(&admin, &names, &terms, "us", TEST_CONTEXT).await.unwrap();
    let gateway = PostgresRegistry::open(&address(&format!("{database}_gateway")), keys(1)).await.unwrap();

    gateway.note_use(&[crate::KeyUse { kid: made[0].1.record.kid.clone(), digest: None }], 7).await.unwrap();
    assert!(denied(gateway.note("x", "y", None, serde_json::json!({}), TEST_CONTEXT).await));
    assert!(denied(gateway.order_erasure(made[0].0.id, TEST_CONTEXT).await));
    let order = admin.order_erasure(made[0].0.id, TEST_CONTEXT).await.unwrap();
    admin.carry_out(&order, TEST_CONTEXT).await.unwrap();
    for statement in ["UPDATE audit_event SET actor = 'x'", "DELETE FROM audit_event", "DELETE FROM tenant"] {
        let done = sqlx::query(statement).execute(&admin.pool).await.map_err(RegistryError::from);
        assert!(denied(done), "{statement}");
    }
}
