//! `hpns migrate` and `hpns first-token`: the registry before anybody can sign in.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use push_domain::{Clock, SystemClock};
use tenant_registry::{AdminTokenDraft, AuditContext, PostgresRegistry, Role};

use crate::config::{Config, ConfigOptions, RoleOptions};
use crate::keyfile::{self, KeyHolder};
use crate::registry::{Registry, open_file};

#[derive(Debug, clap::Args)]
pub(crate) struct MigrateOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// Takes from the roles what only the version before needed, and binds the registry to the newest control key. Run it
    /// when no process of the version before, or without that key, is left.
    #[arg(long)]
    pub(crate) finish: bool,
}

/// `hpns migrate`: brings the schema up to date.
pub(crate) fn migrate(options: &MigrateOptions) -> anyhow::Result<()> {
    let config = Config::load(options.config.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let keys = keyfile::load(&config, KeyHolder::Registry)?;
        let audit = AuditContext::new("hpns migrate", SystemClock.now());
        let mut is_sealed = true;
        if let Some(address) = config.registry.postgres() {
            let migrated = PostgresRegistry::migrate(address, &keys, options.finish, audit).await;
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
        let (registry, _) = Registry::open(&config, KeyHolder::Operators).await?;
        let audit = AuditContext::new("first-token", SystemClock.now());
        let expires_at = audit.at.plus(FIRST_TOKEN);
        let name = "first token".to_owned();
        let draft = AdminTokenDraft { name, role: Role::SecurityAdmin, tenant: None, expires_at };
        let issued = registry.admin().issue_admin_token(draft, audit).await?;
        registry.close().await;
        writeln!(std::io::stdout(), "{}", issued.token.expose())?;
        Ok(())
    })
}
