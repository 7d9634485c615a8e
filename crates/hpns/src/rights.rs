//! `hpns registry`: is what grants anything as it was written?

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;
use push_domain::{Clock, SystemClock};
use tenant_registry::{Act, RegistryError};

use crate::cli::RoleOptions;
use crate::config::Config;
use crate::keyfile::Holder;
use crate::registry::Registry;

/// What is done with the registry where it lies, past the admin API.
#[derive(Debug, Subcommand)]
pub(crate) enum RegistryCommand {
    /// Compares every licence, key and operators' token with what was signed; ends with 1 where one differs.
    ///
    /// It lists too which licence keys need an older control key still: they were not used since it was followed by a newer one.
    Verify(RoleOptions),
    /// Signs everything as it stands. Look first: whatever was changed past the service is taken as good.
    Seal(RoleOptions),
}

/// Runs `hpns registry`.
pub(crate) fn run(command: &RegistryCommand) -> anyhow::Result<ExitCode> {
    let (RegistryCommand::Verify(options) | RegistryCommand::Seal(options)) = command;
    let config = Config::load(options.config.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (registry, _) = Registry::open(&config, Holder::Operators).await?;
        let done = match command {
            RegistryCommand::Verify(_) => verify(&registry).await,
            RegistryCommand::Seal(_) => seal(&registry).await,
        };
        registry.close().await;
        done
    })
}

async fn seal(registry: &Registry) -> anyhow::Result<ExitCode> {
    registry.seal_rights(Act::new("hpns registry seal", SystemClock.now())).await?;
    writeln!(std::io::stdout(), "every licence, key and operators' token is signed as it stands")?;
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
    for kid in &report.old_keys {
        writeln!(out, "old key  {kid}: not used since the control key was followed by a newer one")?;
    }
    let is_whole = report.changed.is_empty() && report.deleted == 0;
    if is_whole {
        writeln!(out, "every licence, key and operators' token is as it was written")?;
    }
    Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
