//! Registry factory: opens the SQLite or PostgreSQL registry that the configuration names.

use std::sync::Arc;

use anyhow::Context;
use push_domain::{Clock, SystemClock};
use tenant_registry::{
    Administration, AuditContext, DeliveryLedger, KeyUseLedger, Keys, PostgresLedger, PostgresRegistry,
    RegistryError, ServiceLevelLedger, SqliteRegistry, TenantReader,
};
use tracing::warn;

use crate::config::Config;
use crate::keyfile::{self, KeyHolder};

/// Registry handle: tenants and licences, for gateways and the admin role.
#[derive(Clone)]
pub(crate) enum Registry {
    Sqlite(Arc<SqliteRegistry>),
    Postgres(Arc<PostgresRegistry>),
}

/// Device-ledger handle, for workers.
#[derive(Clone)]
pub(crate) enum Ledger {
    Sqlite(Arc<SqliteRegistry>),
    Postgres(PostgresLedger),
}

impl Registry {
    /// Opens it with the service's own keys; makes a file and its keys when they are missing.
    pub(crate) async fn open(config: &Config, holder: KeyHolder) -> anyhow::Result<(Self, Keys)> {
        let keys = keyfile::load(config, holder)?;
        let registry = match config.registry.postgres() {
            Some(address) => {
                let opened = PostgresRegistry::open(address, keys.clone()).await;
                let opened = opened.context("registry.url: the PostgreSQL cannot be used")?;
                if holder == KeyHolder::Operators {
                    opened.seal_audit().await.context("registry.url: the audit log")?;
                    opened.make_missing_salts_or_warn(AuditContext::new("hpns", SystemClock.now())).await;
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

    pub(crate) fn key_use(&self) -> Arc<dyn KeyUseLedger> {
        match self {
            Self::Sqlite(registry) => Arc::clone(registry) as _,
            Self::Postgres(registry) => Arc::clone(registry) as _,
        }
    }

    pub(crate) fn service_level(&self) -> Arc<dyn ServiceLevelLedger> {
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
        audit: AuditContext<'_>,
    ) -> Result<Vec<String>, RegistryError> {
        match self {
            Self::Sqlite(registry) => registry.seal_rights(as_it_stands, audit).await,
            Self::Postgres(registry) => registry.seal_rights(as_it_stands, audit).await,
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
        let Some(address) = config.registry.postgres() else {
            return Ok(Self::Sqlite(open_file(config, &keyfile::load(config, KeyHolder::Registry)?).await?));
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

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(registry) => registry.close().await,
            Self::Postgres(ledger) => ledger.close().await,
        }
    }
}

pub(crate) async fn open_file(config: &Config, keys: &Keys) -> anyhow::Result<Arc<SqliteRegistry>> {
    let path = config.registry_path();
    let opened = SqliteRegistry::open(&path, keys.clone()).await;
    Ok(Arc::new(opened.with_context(|| format!("registry.url: cannot open {}", path.display()))?))
}
