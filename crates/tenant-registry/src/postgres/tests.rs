//! The laws of the registry on a PostgreSQL of the tests' own, and who may do what in it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use push_domain::SecretBytes;
use tempfile::TempDir;

use super::*;
use crate::conformance::ACT;
use crate::{Administration, DeviceAdmin, DeviceState, OperatorAdmin, TenantAdmin, TenantReader};

/// The server of this test run; it ends with it.
pub(super) fn server() -> &'static Path {
    static SERVER: OnceLock<(TempDir, Child)> = OnceLock::new();
    let (directory, _) = SERVER.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/postgres.sh");
        let mut process = Command::new(script)
            .arg("--forget")
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("ready"), "PostgreSQL does not start");
        (directory, process)
    });
    directory.path()
}

/// Makes an empty database, and returns its address for a login.
pub(super) async fn a_database() -> impl Fn(&str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("test{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let directory = server().display().to_string().replace('/', "%2F");
    let address = move |user: &str, database: &str| format!("postgres://{user}@{directory}/{database}");
    let pool = connect(&address("postgres", "postgres")).unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&pool).await.unwrap();
    pool.close().await;
    move |user| address(user, &name)
}

pub(super) fn keys(seed: u8) -> Keys {
    Keys::derive(&SecretBytes::new(vec![seed; 32]))
}

pub(super) async fn migrated() -> impl Fn(&str) -> String {
    let address = a_database().await;
    PostgresRegistry::migrate(&address("postgres"), &keys(1), false, ACT).await.unwrap();
    address
}

/// Both halves as one, for the laws that they share with the other database.
pub(super) struct Both {
    pub(super) registry: PostgresRegistry,
    pub(super) ledger: PostgresLedger,
    pub(super) owner: PgPool,
}

/// Makes a login in one of the service's roles, and returns its address.
pub(super) async fn login(address: &impl Fn(&str) -> String, role: &str) -> String {
    let name = format!("{}_{role}", address("x").rsplit('/').next().unwrap());
    let pool = connect(&address("postgres")).unwrap();
    let make = format!("CREATE ROLE {name} LOGIN IN ROLE hpns_{role}");
    sqlx::query(sqlx::AssertSqlSafe(make)).execute(&pool).await.unwrap();
    pool.close().await;
    address(&name)
}

/// Every law holds with the rights of those who do it in the service.
pub(super) async fn fresh(_: &Path) -> Both {
    let address = migrated().await;
    let registry = PostgresRegistry::open(&login(&address, "admin").await, keys(1)).await.unwrap();
    let ledger = PostgresLedger::new(&login(&address, "worker").await).unwrap();
    Both { registry, ledger, owner: connect(&address("postgres")).unwrap() }
}

impl crate::conformance::Registry for Both {
    fn admin(&self) -> &dyn Administration {
        &self.registry
    }

    fn ledger(&self) -> &dyn DeliveryLedger {
        &self.ledger
    }

    async fn tamper(&self, statement: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&self.owner).await.unwrap();
    }

    fn bytes(&self, bytes: &[u8], kind: &str) -> String {
        let prefix = if kind == "bytea" { "\\x" } else { "" };
        format!("'{prefix}{}'::{kind}", data_encoding::HEXLOWER.encode(bytes))
    }

    async fn seal(&self, as_it_stands: bool) {
        self.registry.seal_rights(as_it_stands, ACT).await.unwrap();
    }

    async fn make_missing_salts(&self) {
        self.registry.make_missing_salts(ACT).await.unwrap();
    }
}

crate::conformance::registry_conformance!(fresh);

#[tokio::test]
async fn a_schema_that_is_behind_is_refused_and_says_what_to_do() {
    let address = a_database().await;
    let opened = PostgresRegistry::open(&address("postgres"), keys(1)).await;

    assert!(opened.unwrap_err().to_string().contains("run `hpns migrate`"));
    let ledger = PostgresLedger::new(&address("postgres")).unwrap();
    assert!(matches!(ledger.check().await, Err(RegistryError::SchemaDiffers("older than"))));
}

#[tokio::test]
async fn another_key_file_is_refused() {
    let address = migrated().await;

    assert!(matches!(
        PostgresRegistry::open(&address("postgres"), keys(2)).await,
        Err(RegistryError::WrongKey)
    ));
    assert!(matches!(
        PostgresRegistry::migrate(&address("postgres"), &keys(2), false, ACT).await,
        Err(RegistryError::WrongKey)
    ));
}

#[tokio::test]
async fn a_change_is_told_at_once() {
    let address = migrated().await;
    let reader = PostgresRegistry::open(&address("postgres"), keys(1)).await.unwrap();
    let writer = PostgresRegistry::open(&address("postgres"), keys(1)).await.unwrap();
    reader.changed().await; // It listens from now on.

    let draft = TenantDraft::named("acme");
    let (told, made) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(20), reader.changed()),
        writer.create_tenant(&draft, ACT)
    );

    made.unwrap();
    told.expect("told in vain");
}

#[tokio::test]
async fn each_role_may_do_its_own_work_and_no_other() {
    let address = migrated().await;
    for role in ["gateway", "worker", "admin"] {
        login(&address, role).await;
    }
    let login = |role: &str| address(&(address("x").rsplit('/').next().unwrap().to_owned() + "_" + role));
    let sighting = Sighting {
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
    assert!(denied(gateway.create_tenant(&TenantDraft::named("a"), ACT).await));
    assert!(denied(record("gateway").record(std::slice::from_ref(&sighting)).await));

    let worker = record("worker");
    worker.check().await.unwrap();
    worker.record(std::slice::from_ref(&sighting)).await.unwrap();
    worker.forget(10, 10).await.unwrap();
    assert!(denied(PostgresRegistry::open(&login("worker"), keys(1)).await), "no licence, no key");

    let admin = PostgresRegistry::open(&login("admin"), keys(1)).await.unwrap();
    admin.create_tenant(&TenantDraft::named("a"), ACT).await.unwrap();
    assert!(denied(record("admin").record(&[sighting]).await));
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
admin request_key: DELETE INSERT SELECT
admin revision: SELECT UPDATE(key_check) UPDATE(number)
admin server: DELETE INSERT SELECT
gateway revision: SELECT(key_check) SELECT(number)
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
    assert_eq!(
        (changes(&licence), changes(&key)),
        (vec![], vec!["UPDATE(last_used_day)".to_owned(), "UPDATE(offered)".to_owned()])
    );
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
async fn no_other_table_or_column_exists() {
    let address = migrated().await;
    let pool = connect(&address("postgres")).unwrap();

    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT table_name::text, column_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name <> '_sqlx_migrations'
         ORDER BY table_name, ordinal_position",
    )
    .fetch_all(&pool)
    .await
    .unwrap();

    assert_eq!(crate::conformance::schema(columns), crate::conformance::ALLOWED_SCHEMA);
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |database: &str| {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(database);
        let files = std::fs::read_dir(directory).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        names.sort();
        names
    };

    assert_eq!(names("postgres"), names("sqlite"));
}

#[tokio::test]
async fn a_batch_with_the_same_device_twice_keeps_the_last() {
    let both = fresh(Path::new("")).await;
    let seen = |day, state| Sighting {
        tenant: TenantId::from_uuid(uuid::Uuid::from_u128(7)),
        device: DeviceId::from_bytes([2; 32]),
        app: "ios".into(),
        platform: "apple_rn".into(),
        day,
        state,
        reason: None,
    };

    let batch = [seen(3, DeviceState::Active), seen(3, DeviceState::Removed), seen(2, DeviceState::Active)];
    both.ledger.record(&batch).await.unwrap();

    let device = both.registry.device(batch[0].tenant, batch[0].device).await.unwrap().unwrap();
    assert_eq!((device.last_seen, device.state), (3, DeviceState::Removed));
}

/// A hundred writers at once; then a thousand ways to tamper with what they wrote.
#[tokio::test]
async fn the_audit_chain_never_forks_and_every_change_of_it_is_found() {
    const WRITERS: usize = 100;
    #[expect(clippy::disallowed_methods, reason = "the scorecard asks for more than a test run")]
    let events: usize = std::env::var("HPNS_AUDIT_EVENTS").map_or(20, |it| it.parse().unwrap());
    let address = migrated().await;
    let registry = std::sync::Arc::new(PostgresRegistry::open(&address("postgres"), keys(1)).await.unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let registry = std::sync::Arc::clone(&registry);
        writers.spawn(async move {
            for event in 0..events {
                registry
                    .note("test", &format!("{writer}/{event}"), None, serde_json::json!({}), ACT)
                    .await
                    .unwrap();
            }
        });
    }
    writers.join_all().await;

    let report = registry.verify_audit(None).await.unwrap();
    assert_eq!((report.events, report.fault), ((WRITERS * events) as u64, None));

    let keys = keys(1);
    // The same events, tampered with in memory: each way once more than by hand.
    let mut whole = registry.audit(None, u64::MAX, u32::MAX).await.unwrap();
    whole.reverse();
    let mut dice = 25_u64;
    let mut below = |below: usize| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) as usize % below
    };
    for turn in 0..1000 {
        let at = below(whole.len());
        let mut chain = whole.clone();
        match turn % 6 {
            0 => chain[at].actor.push('x'),
            1 => chain[at].detail = "{}x".into(),
            2 => drop(chain.remove(at)),
            3 => chain.truncate(at),
            4 => {
                let other = (at + 1 + below(chain.len() - 1)) % chain.len();
                chain.swap(at, other);
            }
            _ => {
                // Rewritten with a hash that fits: the next event does not.
                chain[at].object.push('x');
                chain[at].hash = chain[at].computed_hash(&keys).unwrap().to_vec();
            }
        }
        let mut check = AuditCheck::new(&keys, None);
        for event in &chain {
            check.take(event);
        }
        let last = whole.last().unwrap();
        let code = crate::audit::head_code(&keys, 1, last.seq, &last.hash).unwrap();
        let head = AuditHead { seq: last.seq, hash: last.hash.clone() };
        assert!(check.finish(&head, &code).fault.is_some(), "turn {turn} at {at}");
    }
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
    let terms = crate::LicenceDraft::new(TenantId::new(), crate::Plan::Test, "us", ACT.at);
    let made = crate::Seeder::seed(&admin, &names, &terms, "us", ACT).await.unwrap();
    let gateway = PostgresRegistry::open(&address(&format!("{database}_gateway")), keys(1)).await.unwrap();

    gateway.note_use(&[crate::KeyUse { kid: made[0].1.record.kid.clone(), digest: None }], 7).await.unwrap();
    assert!(denied(gateway.note("x", "y", None, serde_json::json!({}), ACT).await));
    admin.erase_all_devices(made[0].0.id, ACT).await.unwrap();
    for statement in ["UPDATE audit_event SET actor = 'x'", "DELETE FROM audit_event", "DELETE FROM tenant"] {
        let done = sqlx::query(statement).execute(&admin.pool).await.map_err(RegistryError::from);
        assert!(denied(done), "{statement}");
    }
}
