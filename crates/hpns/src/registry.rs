//! Opens the registry that the configuration names.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use push_domain::{Clock, SystemClock, Timestamp};
use tenant_registry::{
    Act, AdminTokenDraft, Administration, DeliveryLedger, Keys, PostgresLedger, PostgresRegistry,
    RegistryError, Role, SqliteRegistry, TenantReader,
};
use tracing::{info, warn};

use crate::cli::{MigrateOptions, RoleOptions};
use crate::config::Config;
use crate::keyfile::{self, Holder};

/// A device is forgotten so many days after its last push, and so many after its token was called dead.
const DEVICE_DAYS: u32 = 90;
const REMOVED_DEVICE_DAYS: u32 = 7;

/// Tenants and licences, for those who read or sell them.
#[derive(Clone)]
pub(crate) enum Registry {
    Sqlite(Arc<SqliteRegistry>),
    Postgres(Arc<PostgresRegistry>),
}

/// Devices, for those who deliver.
#[derive(Clone)]
pub(crate) enum Ledger {
    Sqlite(Arc<SqliteRegistry>),
    Postgres(PostgresLedger),
}

impl Registry {
    /// Opens it with the service's own keys; makes a file and its keys when they are missing.
    pub(crate) async fn open(config: &Config, holder: Holder) -> anyhow::Result<(Self, Keys)> {
        let keys = keyfile::load(config, holder)?;
        let registry = match config.postgres() {
            Some(address) => {
                let opened = PostgresRegistry::open(address, keys.clone()).await;
                let opened = opened.context("registry.url: the PostgreSQL cannot be used")?;
                if holder == Holder::Operators {
                    opened.seal_audit().await.context("registry.url: the audit log")?;
                    opened.try_to_make_salts(Act::new("hpns", SystemClock.now())).await;
                }
                Self::Postgres(Arc::new(opened))
            }
            None => Self::Sqlite(open_file(config, &keys).await?),
        };
        Ok((registry, keys))
    }

    pub(crate) fn reader(&self) -> Arc<dyn TenantReader> {
        match self {
            Self::Sqlite(registry) => Arc::clone(registry) as _,
            Self::Postgres(registry) => Arc::clone(registry) as _,
        }
    }

    /// The ledger in the same file; a PostgreSQL has another login for it.
    pub(crate) fn ledger(&self) -> Option<Ledger> {
        match self {
            Self::Sqlite(registry) => Some(Ledger::Sqlite(Arc::clone(registry))),
            Self::Postgres(_) => None,
        }
    }

    pub(crate) fn admin(&self) -> Arc<dyn Administration> {
        match self {
            Self::Sqlite(registry) => Arc::clone(registry) as _,
            Self::Postgres(registry) => Arc::clone(registry) as _,
        }
    }

    /// Signs everything, and returns what was switched off for it.
    pub(crate) async fn seal_rights(
        &self,
        as_it_stands: bool,
        act: Act<'_>,
    ) -> Result<Vec<String>, RegistryError> {
        match self {
            Self::Sqlite(registry) => registry.seal_rights(as_it_stands, act).await,
            Self::Postgres(registry) => registry.seal_rights(as_it_stands, act).await,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(registry) => registry.close().await,
            Self::Postgres(registry) => registry.close().await,
        }
    }
}

impl Ledger {
    /// Opens it. A PostgreSQL that cannot be reached is no reason not to deliver; one whose schema is of
    /// another version is.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let Some(address) = config.postgres() else {
            return Ok(Self::Sqlite(open_file(config, &keyfile::load(config, Holder::Registry)?).await?));
        };
        let ledger = PostgresLedger::new(address).context("registry.url")?;
        match ledger.check().await {
            Err(RegistryError::Database(error)) => {
                let error = RegistryError::Database(error);
                warn!(%error, "the registry cannot be reached; devices are recorded when it can");
            }
            checked => checked.context("registry.url: the PostgreSQL cannot be used")?,
        }
        Ok(Self::Postgres(ledger))
    }

    pub(crate) fn ledger(&self) -> Arc<dyn DeliveryLedger> {
        match self {
            Self::Sqlite(registry) => Arc::clone(registry) as _,
            Self::Postgres(ledger) => Arc::new(ledger.clone()),
        }
    }

    /// Forgets devices whose time is over, some thousand at once.
    pub(crate) async fn forget(&self, now: Timestamp) -> Result<(), RegistryError> {
        let (today, ledger) = (now.day(), self.ledger());
        let before = |days: u32| today.saturating_sub(days);
        let mut forgotten = 0;
        loop {
            let some = ledger.forget(before(DEVICE_DAYS), before(REMOVED_DEVICE_DAYS)).await?;
            forgotten += some;
            if some == 0 {
                break;
            }
        }
        if forgotten > 0 {
            info!(devices = forgotten, "devices are forgotten: they were not seen for too long");
        }
        Ok(())
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(registry) => registry.close().await,
            Self::Postgres(ledger) => ledger.close().await,
        }
    }
}

async fn open_file(config: &Config, keys: &Keys) -> anyhow::Result<Arc<SqliteRegistry>> {
    let path = config.registry_path();
    let opened = SqliteRegistry::open(&path, keys.clone()).await;
    Ok(Arc::new(opened.with_context(|| format!("registry.url: cannot open {}", path.display()))?))
}

/// `hpns migrate`: brings the schema up to date.
pub(crate) fn migrate(options: &MigrateOptions) -> anyhow::Result<()> {
    let config = Config::load(options.config.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let keys = keyfile::load(&config, Holder::Registry)?;
        let act = Act::new("hpns migrate", SystemClock.now());
        let mut is_sealed = true;
        if let Some(address) = config.postgres() {
            let migrated = PostgresRegistry::migrate(address, &keys, options.finish, act).await;
            is_sealed = migrated.context("registry.url")?;
        } else {
            let registry = open_file(&config, &keys).await?;
            if options.finish {
                registry.finish().await?;
            }
            registry.close().await;
        }
        writeln!(std::io::stdout(), "the registry's schema is up to date")?;
        if !is_sealed {
            writeln!(
                std::io::stdout(),
                "what it grants is not signed yet: run `hpns registry seal` with the admin role's configuration"
            )?;
        }
        Ok(())
    })
}

/// For how long the first token opens anything.
const FIRST_TOKEN: Duration = Duration::from_hours(30 * 24);

/// `hpns first-token`: whoever can reach the registry with its key file may make operators.
pub(crate) fn first_token(options: &RoleOptions) -> anyhow::Result<()> {
    let config = Config::load(options.config.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (registry, _) = Registry::open(&config, Holder::Operators).await?;
        let act = Act::new("first-token", SystemClock.now());
        let expires_at = act.at.plus(FIRST_TOKEN);
        let name = "first token".to_owned();
        let draft = AdminTokenDraft { name, role: Role::SecurityAdmin, tenant: None, expires_at };
        let issued = registry.admin().issue_admin_token(draft, act).await?;
        registry.close().await;
        writeln!(std::io::stdout(), "{}", issued.token.expose())?;
        Ok(())
    })
}
