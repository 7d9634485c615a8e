//! `hpns seed`: tenants in bulk.

use std::io::Write;
use std::time::Duration;

use push_domain::{Clock, SystemClock};
use tenant_registry::{Act, LicenceDraft, Plan, TenantDraft};

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
        let act = Act::new("seed", SystemClock.now());
        let mut out = std::io::stdout().lock();
        for number in 1..=options.tenants {
            let draft = TenantDraft::named(&format!("{}{number}", options.name));
            let tenant = registry.create_tenant(&draft, act).await?;
            let draft = LicenceDraft {
                rate_per_second: options.rate,
                burst: options.rate.saturating_mul(2),
                ..LicenceDraft::new(tenant.id, Plan::Professional, &config.region, act.at)
            };
            let licence = registry.create_licence(draft, act).await?;
            registry.accept_terms(licence.id, "seed", "seed", act).await?;
            let issued = registry.issue_key(licence.id, &config.region, Duration::ZERO, act).await?;
            writeln!(out, "{}", issued.key.expose())?;
        }
        opened.close().await;
        Ok(())
    })
}
