//! `hpns seed`: tenants and devices in bulk, for tests and demos.

use std::io::Write;

use aws_lc_rs::digest::{SHA256, digest};
use push_domain::{Clock, DeviceId, SystemClock, TenantId};
use tenant_registry::{AuditContext, DeviceActivity, DeviceState, LicenceDraft, Plan};

use super::history;
use crate::config::{Config, ConfigOptions};
use crate::keyfile::KeyHolder;
use crate::registry::{Ledger, Registry};

#[derive(Debug, clap::Args)]
pub(crate) struct SeedOptions {
    #[command(flatten)]
    pub(crate) config: ConfigOptions,
    /// How many tenants to make.
    #[arg(long, default_value_t = 1)]
    pub(crate) tenants: u32,
    /// What their names begin with; a number follows.
    #[arg(long, default_value = "seed-")]
    pub(crate) name: String,
    /// Pushes a second that each licence allows.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u32,
    /// How many devices to spread over them.
    #[arg(long, default_value_t = 0)]
    pub(crate) devices: u32,
    /// Also makes up so many days of what became of their pushes, as the service-level pages show it.
    #[arg(long, value_name = "DAYS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=400))]
    pub(crate) history: u32,
    /// Prints no keys.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Tenants, and devices, of one transaction.
const TENANTS_AT_ONCE: usize = 1000;
const DEVICES_AT_ONCE: u32 = 1024;
/// Devices were seen on so many days up to today.
const DAYS: u32 = 60;

/// Makes tenants, and prints one licence key a line. A running service sees them at its next poll.
pub(crate) fn run(options: &SeedOptions) -> anyhow::Result<()> {
    let config = Config::load(options.config.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (opened, _) = Registry::open(&config, KeyHolder::Operators).await?;
        let audit = AuditContext::new("seed", SystemClock.now());
        let names: Vec<_> = (1..=options.tenants).map(|number| format!("{}{number}", options.name)).collect();
        let terms = LicenceDraft {
            rate_per_second: options.rate,
            burst: options.rate.saturating_mul(2),
            // Of nobody yet: each tenant gets its own.
            ..LicenceDraft::new(TenantId::new(), Plan::Professional, &config.region, audit.at)
        };
        let mut tenants = Vec::new();
        let mut out = std::io::stdout().lock();
        for names in names.chunks(TENANTS_AT_ONCE) {
            for (tenant, issued) in opened.admin().seed(names, &terms, &config.region, audit).await? {
                if !options.quiet {
                    writeln!(out, "{}", issued.key.expose())?;
                }
                tenants.push(tenant.id);
            }
        }
        if options.history > 0 {
            let ledger = opened.service_level();
            history::write(&*ledger, &tenants, options.history, &config.region, audit.at).await?;
        }
        opened.close().await;
        if options.devices > 0 {
            seed_devices(&config, options.devices, &tenants, audit.at.day()).await?;
        }
        Ok(())
    })
}

async fn seed_devices(config: &Config, devices: u32, tenants: &[TenantId], today: u32) -> anyhow::Result<()> {
    let opened = Ledger::open(config).await?;
    let ledger = opened.ledger();
    for first in (0..devices).step_by(DEVICES_AT_ONCE as usize) {
        let batch = first..devices.min(first + DEVICES_AT_ONCE);
        let activities: Vec<_> = batch.filter_map(|number| a_device(number, tenants, today)).collect();
        ledger.record(&activities).await?;
    }
    opened.close().await;
    Ok(())
}

/// A device that exists nowhere. One in twenty is removed.
fn a_device(number: u32, tenants: &[TenantId], today: u32) -> Option<DeviceActivity> {
    let mut id = [0; 32];
    id.copy_from_slice(digest(&SHA256, &number.to_be_bytes()).as_ref());
    let removed = number.is_multiple_of(20);
    Some(DeviceActivity {
        tenant: *tenants.get(number as usize % tenants.len().max(1))?,
        device: DeviceId::from_bytes(id),
        app: if number.is_multiple_of(3) { "android" } else { "ios" }.into(),
        platform: if number.is_multiple_of(3) { "android_rn" } else { "apple_rn" }.into(),
        day: today.saturating_sub(number % DAYS),
        state: if removed { DeviceState::Removed } else { DeviceState::Active },
        reason: removed.then(|| "Unregistered".to_owned()),
    })
}
