//! `hpns all --demo`: the first run. A simulator stands in for Apple and Google, a tenant with a
//! licence is made, and what to paste is printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use anyhow::Context;
use figment::Figment;
use figment::providers::{Format, Toml};
use provider_sim::{Settings, Simulator};
use push_domain::Clock;
use tenant_registry::{LicenceDraft, LicenceKey, Plan, TenantAdmin};

use crate::config::{AppConfig, Config, LogFormat};
use crate::keyfile::write_private;

const DIRECTORY: &str = "var/demo";
const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8069);
const TENANT: &str = "demo";
const IOS_TOKEN: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
const ANDROID_TOKEN: &str = "demo-android:APA91b-demo_token";

/// A running simulator, and where the demo keeps its things.
pub(crate) struct Demo {
    directory: PathBuf,
    control: SocketAddr,
}

impl Demo {
    /// Starts the simulator in a thread of its own and points the configuration at it.
    pub(crate) fn start(config: &mut Config) -> anyhow::Result<Self> {
        if config.data_dir == Path::new(".") {
            config.data_dir = DIRECTORY.into();
        }
        if config.gateway.listen.ip().is_unspecified() {
            config.gateway.listen.set_ip(CONTROL.ip());
        }
        config.log.format = LogFormat::Text;
        config.development.custom_endpoints = true;
        let directory = config.data_dir.clone();
        let mut settings = Settings::on_free_ports(&directory.join("simulator"));
        // A demo on a port of the caller's choice has its simulator on a free one too.
        settings.control = if config.gateway.listen.port() == 0 { settings.control } else { CONTROL };
        let (started, simulator) = mpsc::channel();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                let simulator = Simulator::start(settings);
                let described = simulator
                    .as_ref()
                    .map(|it| (it.control(), it.configuration()))
                    .map_err(ToString::to_string);
                let _ = started.send(described);
                if simulator.is_ok() {
                    std::future::pending::<()>().await;
                }
            });
        };
        std::thread::Builder::new().name("hpns-simulator".into()).spawn(body)?;
        let described = simulator.recv().context("the simulator did not start")?;
        let (control, apps) =
            described.map_err(|error| anyhow::anyhow!("the simulator did not start: {error}"))?;
        config.apps =
            Figment::from(Toml::string(&apps)).extract_inner::<BTreeMap<String, AppConfig>>("apps")?;
        Ok(Self { directory, control })
    }

    /// Returns the demo tenant's licence key: the one of the last run, or a new one.
    pub(crate) async fn licence_key(
        &self,
        registry: &dyn TenantAdmin,
        region: &str,
        clock: &dyn Clock,
    ) -> anyhow::Result<String> {
        let path = self.directory.join("licence-key");
        let now = clock.now();
        if let Ok(text) = std::fs::read_to_string(&path) {
            let snapshot = registry.snapshot().await?;
            if let Ok(key) = LicenceKey::parse(text.trim())
                && snapshot.open(&key, region, now).is_ok()
            {
                return Ok(key.expose().to_owned());
            }
            std::fs::remove_file(&path)?;
        }
        let tenant = match registry.tenant_named(TENANT).await? {
            Some(tenant) => tenant,
            None => registry.create_tenant(TENANT, now).await?,
        };
        let draft = LicenceDraft {
            tenant: tenant.id,
            plan: Plan::Test,
            regions: vec![region.to_owned()],
            rate_per_second: 1000,
            burst: 2000,
            not_before: now,
            expires_at: None,
        };
        let licence = registry.create_licence(draft).await?;
        let issued = registry.issue_key(licence.id, region, now).await?;
        write_private(&path, issued.key.expose())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(issued.key.expose().to_owned())
    }

    /// Prints what to put into Mattermost, and what to paste into a terminal.
    pub(crate) fn announce(&self, gateway: SocketAddr, key: &str) -> anyhow::Result<()> {
        let host =
            if gateway.ip().is_unspecified() { "127.0.0.1".to_owned() } else { gateway.ip().to_string() };
        let url = format!("http://{host}:{}/t/{key}", gateway.port());
        let curl = |platform: &str, token: &str| {
            format!(
                r#"curl -sS {url}/api/v1/send_push -d '{{"server_id":"demo","platform":"{platform}","device_id":"{token}","type":"message","version":"v2","channel_name":"Town Square","sender_name":"ada","message":"@bob: hello :wave:","badge":1,"ack_id":"demo-ack","signature":"demo"}}'"#
            )
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "\npush URL: {url}")?;
        writeln!(out, "simulator: http://{}", self.control)?;
        writeln!(
            out,
            "\n# iOS\n{}\n\n# Android\n{}\n",
            curl("apple_rn-v2", IOS_TOKEN),
            curl("android_rn-v2", ANDROID_TOKEN)
        )?;
        out.flush()?;
        Ok(())
    }
}
