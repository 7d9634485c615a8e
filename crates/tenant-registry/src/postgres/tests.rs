//! Conformance and other tests of the PostgreSQL registry, on a server of the tests' own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use push_domain::SecretBytes;
use tempfile::TempDir;

use super::*;
use crate::conformance::TEST_CONTEXT;
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
    PostgresRegistry::migrate(&address("postgres"), &keys(1), false, TEST_CONTEXT).await.unwrap();
    address
}

/// Both halves as one, for the laws that they share with the other database.
pub(super) struct Both {
    pub(super) registry: PostgresRegistry,
    gateway: PostgresRegistry,
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
    let gateway = PostgresRegistry::open(&login(&address, "gateway").await, keys(1)).await.unwrap();
    let ledger = PostgresLedger::new(&login(&address, "worker").await).unwrap();
    Both { registry, gateway, ledger, owner: connect(&address("postgres")).unwrap() }
}

impl crate::conformance::Registry for Both {
    fn admin(&self) -> &dyn Administration {
        &self.registry
    }

    fn ledger(&self) -> &dyn DeliveryLedger {
        &self.ledger
    }

    fn service_level(&self) -> &dyn crate::ServiceLevelLedger {
        &self.gateway
    }

    fn key_use(&self) -> &dyn crate::KeyUseLedger {
        &self.gateway
    }

    async fn tamper(&self, statement: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&self.owner).await.unwrap();
    }

    fn bytes(&self, bytes: &[u8], kind: &str) -> String {
        let prefix = if kind == "bytea" { "\\x" } else { "" };
        format!("'{prefix}{}'::{kind}", data_encoding::HEXLOWER.encode(bytes))
    }

    async fn seal(&self, as_it_stands: bool) {
        self.registry.seal_rights(as_it_stands, TEST_CONTEXT).await.unwrap();
    }

    async fn make_missing_salts(&self) {
        self.registry.make_missing_salts(TEST_CONTEXT).await.unwrap();
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
        PostgresRegistry::migrate(&address("postgres"), &keys(2), false, TEST_CONTEXT).await,
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
        writer.create_tenant(&draft, TEST_CONTEXT)
    );

    made.unwrap();
    told.expect("told in vain");
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
    let seen = |day, state| DeviceActivity {
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
                    .note("test", &format!("{writer}/{event}"), None, serde_json::json!({}), TEST_CONTEXT)
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
        let code = crate::audit::head_mac(&keys, 1, last.seq, &last.hash).unwrap();
        let head = AuditHead { seq: last.seq, hash: last.hash.clone() };
        assert!(check.finish(&head, &code).fault.is_some(), "turn {turn} at {at}");
    }
}
