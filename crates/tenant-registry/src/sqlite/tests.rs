//! Conformance tests of the SQLite registry, and what only a file can get wrong.

use super::*;

async fn fresh(directory: &Path) -> SqliteRegistry {
    let keys = Keys::derive(&push_domain::SecretBytes::new(vec![1; 32]));
    SqliteRegistry::open(&directory.join("registry.db"), keys).await.unwrap()
}

impl crate::conformance::Registry for SqliteRegistry {
    fn admin(&self) -> &dyn crate::Administration {
        self
    }

    fn ledger(&self) -> &dyn DeliveryLedger {
        self
    }

    fn service_level(&self) -> &dyn crate::ServiceLevelLedger {
        self
    }

    fn key_use(&self) -> &dyn crate::KeyUseLedger {
        self
    }

    async fn tamper(&self, statement: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&self.pool).await.unwrap();
    }

    fn bytes(&self, bytes: &[u8], _: &str) -> String {
        format!("x'{}'", data_encoding::HEXLOWER.encode(bytes))
    }

    async fn seal(&self, as_it_stands: bool) {
        self.seal_rights(as_it_stands, crate::conformance::TEST_CONTEXT).await.unwrap();
    }

    async fn make_missing_salts(&self) {
        SqliteRegistry::make_missing_salts(self, crate::conformance::TEST_CONTEXT).await.unwrap();
    }
}

crate::conformance::registry_conformance!(fresh);

#[tokio::test]
async fn another_key_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fresh(directory.path()).await.close().await;

    let other = Keys::derive(&push_domain::SecretBytes::new(vec![2; 32]));
    let opened = SqliteRegistry::open(&directory.path().join("registry.db"), other).await;

    assert!(matches!(opened, Err(RegistryError::WrongKey)));
}

#[tokio::test]
async fn no_other_table_or_column_exists() {
    let directory = tempfile::tempdir().unwrap();
    let registry = fresh(directory.path()).await;

    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c
         WHERE m.type = 'table' AND m.name <> '_sqlx_migrations'
         UNION ALL
         SELECT m.name, c.name FROM apart.sqlite_master m, pragma_table_info(m.name, 'apart') c WHERE m.type = 'table'
         ORDER BY 1",
    )
    .fetch_all(&registry.pool)
    .await
    .unwrap();

    assert_eq!(crate::conformance::schema(columns), crate::conformance::ALLOWED_SCHEMA);
}

/// Whether bytes stand anywhere in the file or in its log.
fn stands(directory: &Path, bytes: &[u8]) -> bool {
    let files = ["registry.db", "registry.db-wal"].map(|name| std::fs::read(directory.join(name)));
    files.into_iter().flatten().any(|file| file.windows(bytes.len()).any(|part| part == bytes))
}

#[tokio::test]
async fn an_erased_device_is_in_no_byte_of_the_files() {
    use crate::{DeviceAdmin, DeviceState, TenantAdmin};
    let directory = tempfile::tempdir().unwrap();
    let registry = fresh(directory.path()).await;
    // Role `all` has the file open twice.
    let other = fresh(directory.path()).await;
    let audit = crate::conformance::TEST_CONTEXT;
    let tenant = registry.create_tenant(&TenantDraft::named("acme"), audit).await.unwrap().id;
    let device =
        |number: u8| DeviceId::from_bytes(std::array::from_fn(|at| number ^ u8::try_from(at * 7).unwrap()));
    let seen: Vec<_> = (0..41)
        .map(|number| DeviceActivity {
            tenant,
            device: device(number),
            app: "ios".into(),
            platform: "apple_rn".into(),
            day: 1,
            state: DeviceState::Active,
            reason: None,
        })
        .collect();
    other.record(&seen).await.unwrap();
    assert!(stands(directory.path(), device(7).as_bytes()));

    registry.erase_devices(tenant, &[device(7)], audit).await.unwrap();
    assert!(!stands(directory.path(), device(7).as_bytes()));
    assert!(stands(directory.path(), device(8).as_bytes()));
    let order = registry.order_erasure(tenant, audit).await.unwrap();
    registry.carry_out(&order, audit).await.unwrap();
    assert!((0..41).all(|number| !stands(directory.path(), device(number).as_bytes())));
}

#[tokio::test]
async fn a_pepper_is_followed_by_a_newer_one_and_dropped_without_a_new_registry() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let secret = |byte: u8| push_domain::SecretBytes::new(vec![byte; 32]);
    let both = crate::KeySet::of_master(&secret(1), &[secret(2)]);
    let newer = both.lines(crate::KeyPurpose::Control);
    let newer = newer.split_once('\n').unwrap().1;
    let newer = crate::KeySet::parse(newer).unwrap();

    for (set, opens) in
        [(&crate::KeySet::of_master(&secret(1), &[]), true), (&newer, false), (&both, true), (&newer, true)]
    {
        let opened = SqliteRegistry::open(&path, Keys::of(set)).await;
        assert_eq!(opened.is_ok(), opens, "{set:?}");
        if set.newest(crate::KeyPurpose::Control) == 2
            && let Ok(registry) = opened
        {
            registry.finish().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_log_that_was_tampered_with_stays_so_whatever_is_written_after_it() {
    use crate::{AuditFault, OperatorAdmin, TenantAdmin};
    let audit = crate::conformance::TEST_CONTEXT;
    for (tamper, found) in [
        // Cut back, and the head put there.
        (
            "DELETE FROM audit_event WHERE seq > 2;
          UPDATE audit_head SET seq = 2, hash = (SELECT hash FROM audit_event WHERE seq = 2)",
            3,
        ),
        // All of it.
        ("DELETE FROM audit_event; UPDATE audit_head SET seq = 0, hash = x'aa', mac = x''", 1),
        // The last one changed, with a hash that anybody can make.
        ("UPDATE audit_event SET hash = x'bb' WHERE seq = 4; UPDATE audit_head SET hash = x'bb'", 5),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let registry = fresh(directory.path()).await;
        for name in ["a", "b", "c", "d"] {
            registry.create_tenant(&TenantDraft::named(name), audit).await.unwrap();
        }
        sqlx::raw_sql(tamper).execute(&registry.pool).await.unwrap();
        // Nobody goes on as if nothing had been; once somebody has looked, what was found stays noted.
        if let Err(refused) = registry.create_tenant(&TenantDraft::named("e"), audit).await {
            assert!(matches!(refused, RegistryError::RightsUnproven), "{refused:?}");
            registry.seal_rights(true, audit).await.unwrap();
        }

        let report = registry.verify_audit(None).await.unwrap();
        let marked = registry.audit(None, u64::MAX, 10).await.unwrap();
        let marked =
            marked.iter().find(|event| event.action == crate::audit::TAMPERED_ACTION).map(|event| event.seq);
        assert_eq!(marked, Some(found), "{tamper}");
        assert!(
            matches!(
                report.fault,
                Some(AuditFault::Found(_) | AuditFault::Broken(_) | AuditFault::Changed(_))
            ),
            "{report:?}"
        );
    }
}

#[tokio::test]
async fn a_log_of_before_is_sealed_when_it_is_opened() {
    use crate::{OperatorAdmin, TenantAdmin};
    let directory = tempfile::tempdir().unwrap();
    let registry = fresh(directory.path()).await;
    let audit = crate::conformance::TEST_CONTEXT;
    registry.create_tenant(&TenantDraft::named("a"), audit).await.unwrap();
    // As the version before wrote it.
    let mut event = registry.audit(None, u64::MAX, 1).await.unwrap().remove(0);
    event.hash_key = 0;
    let hash = event.computed_hash(&registry.keys).unwrap();
    for statement in
        ["UPDATE audit_event SET hash_key = 0, hash = $1", "UPDATE audit_head SET hash = $1, mac = x''"]
    {
        sqlx::query(statement).bind(&hash[..]).execute(&registry.pool).await.unwrap();
    }
    registry.close().await;

    let registry = fresh(directory.path()).await;

    let report = registry.verify_audit(None).await.unwrap();
    assert_eq!((report.fault, report.keyed_from.map(|(seq, _)| seq)), (None, Some(2)));
}

#[tokio::test]
async fn a_pepper_may_go_once_every_key_is_coded_under_the_next() {
    use crate::{LicenceAdmin, RightsAdmin, Seeder, TenantReader};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let secret = |byte: u8| push_domain::SecretBytes::new(vec![byte; 32]);
    let first = crate::KeySet::of_master(&secret(1), &[]);
    let both = crate::KeySet::of_master(&secret(1), &[secret(2)]);
    let mut second = crate::KeySet::default();
    for purpose in crate::KeyPurpose::ALL {
        let lines = both.lines(purpose);
        let kept =
            if purpose == crate::KeyPurpose::Control { lines.split_once('\n').unwrap().1 } else { &lines };
        second.merge(crate::KeySet::parse(kept).unwrap()).unwrap();
    }
    let audit = crate::conformance::TEST_CONTEXT;
    let terms = LicenceDraft::new(TenantId::new(), crate::Plan::Test, "us", audit.at);
    let names: Vec<_> = (0..250).map(|number| number.to_string()).collect();
    let registry = SqliteRegistry::open(&path, Keys::of(&first)).await.unwrap();
    let made = registry.seed(&names, &terms, "us", audit).await.unwrap();
    registry.close().await;

    let registry = SqliteRegistry::open(&path, Keys::of(&both)).await.unwrap();
    assert_eq!(registry.verify_rights().await.unwrap().old_keys.len(), 250);
    assert_eq!(registry.renew_keys(audit).await.unwrap(), 250);
    assert!(registry.verify_rights().await.unwrap().old_keys.is_empty());
    registry.finish().await.unwrap();
    registry.close().await;

    let registry = SqliteRegistry::open(&path, Keys::of(&second)).await.unwrap();
    let snapshot = registry.snapshot().await.unwrap();
    assert!(made.iter().all(|(_, issued)| snapshot.open(&issued.key, "us", audit.at).is_ok()));
    assert_eq!(registry.keys_of(made[0].1.record.licence).await.unwrap()[0].pepper, 2);
}

#[tokio::test]
async fn a_file_that_was_put_back_after_an_erasure_knows_no_erased_device() {
    use crate::{DeviceAdmin, DeviceState, TenantAdmin};
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (directory.path().join("registry.db"), directory.path().join("backup.db"));
    let registry = fresh(directory.path()).await;
    let keys = crate::conformance::keys();
    let audit = crate::conformance::TEST_CONTEXT;
    let tenant = registry.create_tenant(&TenantDraft::named("acme"), audit).await.unwrap();
    let token = push_domain::DeviceToken::parse(push_domain::Provider::Fcm, "a-token".into()).unwrap();
    let device = |tenant: &Tenant| {
        keys.device_key(tenant.id, &tenant.device_salt).device_id(&push_domain::AppId::new("a"), &token)
    };
    let (app, platform, reason) = ("a".into(), "android".into(), None);
    let seen = DeviceActivity {
        tenant: tenant.id,
        device: device(&tenant),
        app,
        platform,
        day: 1,
        state: DeviceState::Active,
        reason,
    };
    registry.record(&[seen]).await.unwrap();
    // As docs/OPERATIONS.md tells: the registry, and not what stands beside it.
    sqlx::query("VACUUM INTO $1").bind(backup.to_str().unwrap()).execute(&registry.pool).await.unwrap();
    registry.erase_devices(tenant.id, &[device(&tenant)], audit).await.unwrap();
    registry.close().await;

    for rest in ["registry.db", "registry.db-wal", "registry.db-shm", "registry.salts.db"] {
        let _ = std::fs::remove_file(directory.path().join(rest));
    }
    std::fs::rename(&backup, &path).unwrap();
    let restored = fresh(directory.path()).await;

    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM device").fetch_one(&restored.pool).await.unwrap();
    let again = restored.tenant(tenant.id).await.unwrap().unwrap();
    assert_eq!(count, 1, "the backup holds the row, and nobody can tell whose it is");
    assert_eq!(restored.device(tenant.id, device(&again)).await.unwrap(), None);
    assert_ne!(again.device_salt, tenant.device_salt);
}

#[tokio::test]
async fn a_registry_of_before_is_signed_and_its_keys_open_what_they_opened() {
    use crate::{RightsAdmin, TenantReader};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(options).await.unwrap();
    let before = MIGRATIONS.iter().filter(|it| it.version < SIGNED_SINCE).cloned().collect::<Vec<_>>();
    Migrator { migrations: before.into(), ..Migrator::DEFAULT }.run(&pool).await.unwrap();
    let (keys, key) = (crate::conformance::keys(), LicenceKey::generate("us"));
    let mac = data_encoding::HEXLOWER.encode(&keys.legacy_mac(key.expose()).0);
    let (kid, salt) = (key.kid(), "07".repeat(32));
    let rows = format!(
        "INSERT INTO tenant (id, name, device_salt, created_at) VALUES (zeroblob(16), 'acme', x'{salt}', 1);
         INSERT INTO licence (id, tenant_id, plan, regions, rate_per_second, burst, not_before, terms_version)
         VALUES (zeroblob(16), zeroblob(16), 'professional', 'us', 1, 1, 1, '1');
         INSERT INTO licence_key (kid, licence_id, mac, created_at) VALUES ('{kid}', zeroblob(16), x'{mac}', 1)"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&pool).await.unwrap();
    pool.close().await;

    for _ in 0..2 {
        let registry = SqliteRegistry::open(&path, keys.clone()).await.unwrap();
        let permit = registry.snapshot().await.unwrap().open(&key, "us", crate::conformance::NOW).unwrap();
        assert!(permit.first_use.is_some_and(|first| first.digest.is_some()));
        let tenant = crate::TenantAdmin::tenant_named(&registry, "acme").await.unwrap().unwrap();
        assert_eq!(tenant.device_salt, [7; 32], "its devices are known as before");
        let report = registry.verify_rights().await.unwrap();
        assert_eq!((report.changed.len(), report.deleted), (0, 0));
        registry.close().await;
    }
}
