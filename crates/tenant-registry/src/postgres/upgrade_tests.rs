//! Tests of upgrades, of processes with fewer keys, and of restored dumps.

use std::path::Path;
use std::process::Command;

use push_domain::SecretBytes;

use super::tests::{a_database, fresh, keys, login, migrated, server};
use super::*;
use crate::KeyPurpose::{Control, Devices, Log, RightsCheck};
use crate::conformance::TEST_CONTEXT;
use crate::{DeviceAdmin, DeviceState, KeyUseLedger, RightsAdmin, TenantAdmin, TenantReader};

#[tokio::test]
async fn a_registry_of_before_is_signed_and_its_keys_open_what_they_opened() {
    let address = a_database().await;
    let pool = connect(&address("postgres")).unwrap();
    let before = MIGRATIONS.iter().filter(|it| it.version < SIGNED_SINCE).cloned().collect::<Vec<_>>();
    Migrator { migrations: before.into(), ..Migrator::DEFAULT }.run(&pool).await.unwrap();
    let key = LicenceKey::generate("us");
    let mac = data_encoding::HEXLOWER.encode(&keys(1).legacy_mac(key.expose()).0);
    let (id, kid) = (uuid::Uuid::from_u128(7), key.kid());
    let rows = format!(
        "INSERT INTO tenant (id, name, device_salt, created_at)
         VALUES ('{id}', 'acme', decode(repeat('07', 32), 'hex'), 1);
         INSERT INTO licence (id, tenant_id, plan, regions, rate_per_second, burst, not_before, terms_version)
         VALUES ('{id}', '{id}', 'professional', 'us', 1, 1, 1, '1');
         INSERT INTO licence_key (kid, licence_id, mac, created_at) VALUES ('{kid}', '{id}', '\\x{mac}', 1)"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&pool).await.unwrap();

    // Gateways of the version before read the column by column that they were given.
    let before = "GRANT SELECT (kid, licence_id, mac, pepper, ends_at, revoked_at, revision, last_used_day)
             ON licence_key TO hpns_gateway;
         REVOKE SELECT ON licence_key FROM hpns_gateway;
         REVOKE UPDATE ON licence_key FROM hpns_admin; GRANT UPDATE (ends_at, revoked_at, revision) ON licence_key TO hpns_admin;
         GRANT SELECT (kid, licence_id, mac, pepper, ends_at, revoked_at, revision, last_used_day)
             ON licence_key TO hpns_gateway";
    sqlx::raw_sql(before).execute(&pool).await.unwrap();
    let (admin, gateway) = (login(&address, "admin").await, login(&address, "gateway").await);

    for finish in [false, true] {
        assert!(
            PostgresRegistry::migrate(&address("postgres"), &keys(1), finish, TEST_CONTEXT).await.unwrap()
        );
        let reader = PostgresRegistry::open(&gateway, keys(1)).await.unwrap();
        let snapshot = reader.snapshot().await.unwrap();
        let first = snapshot.open(&key, "us", TEST_CONTEXT.at).unwrap().first_use.unwrap();
        reader.note_use(&[first], 7).await.unwrap();
        let registry = PostgresRegistry::open(&admin, keys(1)).await.unwrap();
        // The version before knows no code over a digest, and needs its salts where they were.
        assert_eq!(registry.renew_keys(TEST_CONTEXT).await.unwrap(), u64::from(finish));
        let new = TenantDraft::named(&format!("new {finish}"));
        let tenant = registry.create_tenant(&new, TEST_CONTEXT).await.unwrap();
        if !finish {
            let old: Vec<u8> = sqlx::query_scalar("SELECT device_salt FROM tenant WHERE id = $1")
                .bind(tenant.id.uuid())
                .fetch_one(&pool)
                .await
                .unwrap();
            assert_eq!(old, tenant.device_salt);
            // Nor does its administration write anything any more.
            let event =
                "INSERT INTO audit_event (seq, at, actor, action, object, detail, prev_hash, hash, hash_key)
                 VALUES (999, 1, 'x', 'x', 'x', '{}', '\\x', '\\x', 1)";
            assert!(sqlx::query(event).execute(&pool).await.is_err());
        }
        assert!(registry.snapshot().await.unwrap().open(&key, "us", TEST_CONTEXT.at).is_ok());
        assert_eq!(registry.tenant_named("acme").await.unwrap().unwrap().device_salt, [7; 32]);
        registry.create_tenant(&TenantDraft::named(&finish.to_string()), TEST_CONTEXT).await.unwrap();
        assert_eq!(registry.verify_rights().await.unwrap().changed.len(), 0);
    }
}

#[tokio::test]
async fn a_gateway_with_what_proves_and_nothing_that_signs_reads_and_cannot_write() {
    let address = migrated().await;
    let admin = PostgresRegistry::open(&login(&address, "admin").await, keys(1)).await.unwrap();
    let terms = crate::LicenceDraft::new(TenantId::new(), crate::Plan::Test, "us", TEST_CONTEXT.at);
    let made = crate::Seeder::seed(&admin, &["acme".to_owned()], &terms, "us", TEST_CONTEXT).await.unwrap();
    let whole = crate::KeySet::of_master(&SecretBytes::new(vec![1; 32]), &[]);
    let mut set = crate::KeySet::default();
    for purpose in [Control, Devices, Log, RightsCheck] {
        set.merge(crate::KeySet::parse(&whole.lines(purpose)).unwrap()).unwrap();
    }
    let gateway = PostgresRegistry::open(&login(&address, "gateway").await, Keys::of(&set)).await.unwrap();
    assert!(gateway.snapshot().await.unwrap().open(&made[0].1.key, "us", TEST_CONTEXT.at).is_ok());

    // Even where the database would let it.
    let owner = PostgresRegistry::open(&address("postgres"), Keys::of(&set)).await.unwrap();
    let sold = owner.create_tenant(&TenantDraft::named("b"), TEST_CONTEXT).await;
    assert!(matches!(sold, Err(RegistryError::NoAuditKey)), "{sold:?}");
    // And those of another key prove nothing to it.
    let other = crate::KeySet::of_master(&SecretBytes::new(vec![2; 32]), &[]);
    let mut wrong = crate::KeySet::default();
    for purpose in [Control, Devices, Log] {
        wrong.merge(crate::KeySet::parse(&whole.lines(purpose)).unwrap()).unwrap();
    }
    wrong.merge(crate::KeySet::parse(&other.lines(RightsCheck)).unwrap()).unwrap();
    let astray = PostgresRegistry::open(&address("postgres"), Keys::of(&wrong)).await.unwrap();
    assert!(matches!(astray.snapshot().await, Err(RegistryError::RightsUnproven)));
}

#[tokio::test]
async fn a_dump_that_is_put_back_after_an_erasure_knows_no_erased_device() {
    let both = fresh(Path::new("")).await;
    let database: String =
        sqlx::query_scalar("SELECT current_database()").fetch_one(&both.owner).await.unwrap();
    let tenant = both.registry.create_tenant(&TenantDraft::named("acme"), TEST_CONTEXT).await.unwrap();
    let token = push_domain::DeviceToken::parse(push_domain::Provider::Fcm, "a-token".into()).unwrap();
    let device = |tenant: &Tenant| {
        keys(1).device_key(tenant.id, &tenant.device_salt).device_id(&push_domain::AppId::new("a"), &token)
    };
    let (app, platform, state, reason) = ("a".into(), "android".into(), DeviceState::Active, None);
    let seen =
        DeviceActivity { tenant: tenant.id, device: device(&tenant), app, platform, day: 1, state, reason };
    both.ledger.record(&[seen]).await.unwrap();
    let directory = server().display().to_string();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(["-h", &directory, "-U", "postgres"]).args(arguments).output().unwrap()
    };
    // As docs/OPERATIONS.md tells.
    let dump = run("pg_dump", &["--exclude-table-data=device_salt", "-d", &database]);
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    both.registry.erase_devices(tenant.id, &[device(&tenant)], TEST_CONTEXT).await.unwrap();

    let address = a_database().await;
    let restored = address("postgres");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &dump.stdout).unwrap();
    let put_back =
        run("psql", &["-q", "-d", restored.rsplit('/').next().unwrap(), "-f", file.path().to_str().unwrap()]);
    assert!(put_back.status.success(), "{}", String::from_utf8_lossy(&put_back.stderr));
    let restored = PostgresRegistry::open(&restored, keys(1)).await.unwrap();
    restored.make_missing_salts(TEST_CONTEXT).await.unwrap();

    let again = restored.tenant(tenant.id).await.unwrap().unwrap();
    assert_ne!(again.device_salt, tenant.device_salt);
    assert_eq!(restored.device(tenant.id, device(&again)).await.unwrap(), None);
    assert_eq!(restored.verify_rights().await.unwrap().changed.len(), 0);
}
