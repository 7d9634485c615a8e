//! `hpns seed`: tenants in bulk.

use std::io::Write;

use push_domain::{Clock, SystemClock};
use tenant_registry::{LicenceDraft, Plan};

use crate::cli::SeedOptions;
use crate::config::Config;
use crate::registry::Registry;

/// Makes tenants, and prints one licence key a line. A running service sees them at its next poll.
pub(crate) fn run(options: &SeedOptions) -> anyhow::Result<()> {
    let config = Config::load(options.config.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (opened, _) = Registry::open(&config).await?;
        let registry = opened.admin();
        let now = SystemClock.now();
        let mut out = std::io::stdout().lock();
        for number in 1..=options.tenants {
            let tenant = registry.create_tenant(&format!("{}{number}", options.name), now).await?;
            let draft = LicenceDraft {
                tenant: tenant.id,
                plan: Plan::Professional,
                regions: vec![config.region.clone()],
                rate_per_second: options.rate,
                burst: options.rate.saturating_mul(2),
                not_before: now,
                expires_at: None,
            };
            let licence = registry.create_licence(draft).await?;
            let issued = registry.issue_key(licence.id, &config.region, now).await?;
            writeln!(out, "{}", issued.key.expose())?;
        }
        opened.close().await;
        Ok(())
    })
}
