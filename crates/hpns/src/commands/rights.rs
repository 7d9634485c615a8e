//! `hpns registry`: verifies and renews the signatures over everything that grants rights.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use push_domain::{Clock, SystemClock};
use tenant_registry::{AuditContext, RegistryError};

use crate::config::Config;
use crate::config::RoleOptions;
use crate::keyfile::KeyHolder;
use crate::registry::Registry;

/// What is done with the registry where it lies, past the admin API.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Compares every licence, key and operators' token with what was signed; ends with 1 where one differs.
    ///
    /// It lists too which licence keys need an older control key still: they were not used since it was followed by a newer one.
    Verify(RoleOptions),
    /// Signs everything. What was changed past the service is switched off first (licences suspended, keys and tokens
    /// revoked): look at it, and switch on again what is right.
    Seal(SealOptions),
}

#[derive(Debug, Args)]
pub(crate) struct SealOptions {
    #[command(flatten)]
    role: RoleOptions,
    /// Takes everything as it stands: where nothing was signed yet, or no signature holds any more.
    #[arg(long)]
    as_it_stands: bool,
}

/// Runs `hpns registry`.
pub(crate) fn run(command: &RegistryCommand) -> anyhow::Result<ExitCode> {
    let options = match command {
        RegistryCommand::Verify(options) => options,
        RegistryCommand::Seal(options) => &options.role,
    };
    let config = Config::load(options.config.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (registry, _) = Registry::open(&config, KeyHolder::Operators).await?;
        let done = match command {
            RegistryCommand::Verify(_) => verify(&registry).await,
            RegistryCommand::Seal(options) => seal(&registry, options.as_it_stands).await,
        };
        registry.close().await;
        done
    })
}

async fn seal(registry: &Registry, as_it_stands: bool) -> anyhow::Result<ExitCode> {
    let audit = AuditContext::new("hpns registry seal", SystemClock.now());
    let mut out = std::io::stdout().lock();
    for name in registry.seal_rights(as_it_stands, audit).await? {
        writeln!(out, "switched off  {name}")?;
    }
    writeln!(out, "every licence, key and operators' token is signed")?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(registry: &Registry) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    let report = match registry.admin().verify_rights().await {
        Ok(report) => report,
        Err(error @ (RegistryError::RightsUnproven | RegistryError::RightsUnsealed)) => {
            writeln!(out, "{error}")?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    for name in &report.changed {
        writeln!(out, "changed  {name}")?;
    }
    if report.deleted > 0 {
        writeln!(out, "deleted  {} rows that no operator took away", report.deleted)?;
    }
    if report.without_salt > 0 {
        writeln!(
            out,
            "no salt  {} tenants: the admin role draws new ones when it starts",
            report.without_salt
        )?;
    }
    for kid in &report.old_keys {
        writeln!(out, "old key  {kid}: not used since the control key was followed by a newer one")?;
    }
    let is_whole = report.changed.is_empty() && report.deleted == 0;
    if is_whole {
        writeln!(out, "every licence, key and operators' token is as it was written")?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
