//! `hpns all --demo`: the first run. A simulator stands in for Apple and Google, a tenant with a
//! licence and an operator's token are made, and what to paste is printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use figment::Figment;
use figment::providers::{Format, Toml};
use provider_sim::{Settings, Simulator};
use push_domain::Clock;
use tenant_registry::{
    AdminToken, AdminTokenDraft, Administration, AuditContext, LicenceDraft, LicenceKey, Plan, Role,
    TenantDraft,
};

use crate::config::{AppConfig, Config, LogFormat};
use crate::secret_file;

const DIRECTORY: &str = "var/demo";
const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8069);
const TENANT: &str = "demo";
const TOKEN_LIFE: Duration = Duration::from_hours(30 * 24);
const IOS_TOKEN: &str = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
const ANDROID_TOKEN: &str = "demo-android:APA91b-demo_token";

/// Secrets of the demo: a licence key and an admin token.
pub(crate) struct DemoSecrets {
    licence_key: String,
    admin_token: String,
}

/// Returns what an earlier run has kept in a file.
fn kept(path: &Path) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Keeps a secret in a file for its owner alone, in place of an older one.
fn keep(path: &Path, secret: &str) -> anyhow::Result<String> {
    let _ = std::fs::remove_file(path);
    secret_file::write(path, secret).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(secret.to_owned())
}

/// Demo environment: a running simulator, and the directory with the demo's files.
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
        let port = config.gateway.listen.port();
        if port != 0 {
            config.admin.push_url = format!("http://{}:{port}", config.gateway.listen.ip());
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
            Figment::from(Toml::string(&apps)).extract_inner::<BTreeMap<String, Arc<AppConfig>>>("apps")?;
        Ok(Self { directory, control })
    }

    /// Returns the demo tenant's licence key and the operator's token: those of the last run, or new ones.
    pub(crate) async fn secrets(
        &self,
        registry: &dyn Administration,
        region: &str,
        clock: &dyn Clock,
    ) -> anyhow::Result<DemoSecrets> {
        let audit = AuditContext::new("demo", clock.now());
        let licence_key = self.licence_key(registry, region, audit).await?;
        Ok(DemoSecrets { licence_key, admin_token: self.admin_token(registry, audit).await? })
    }

    async fn licence_key(
        &self,
        registry: &dyn Administration,
        region: &str,
        audit: AuditContext<'_>,
    ) -> anyhow::Result<String> {
        let path = self.directory.join("licence-key");
        if let Some(text) = kept(&path) {
            let snapshot = registry.snapshot().await?;
            if let Ok(key) = LicenceKey::parse(&text)
                && snapshot.open(&key, region, audit.at).is_ok()
            {
                return Ok(text);
            }
        }
        let tenant = match registry.tenant_named(TENANT).await? {
            Some(tenant) => tenant,
            None => registry.create_tenant(&TenantDraft::named(TENANT), audit).await?,
        };
        let draft = LicenceDraft {
            rate_per_second: 1000,
            burst: 2000,
            ..LicenceDraft::new(tenant.id, Plan::Test, region, audit.at)
        };
        let licence = registry.create_licence(draft, audit).await?;
        registry.accept_terms(licence.id, "demo", "demo", audit).await?;
        let issued = registry.issue_key(licence.id, region, Duration::ZERO, audit).await?;
        keep(&path, issued.key.expose())
    }

    async fn admin_token(
        &self,
        registry: &dyn Administration,
        audit: AuditContext<'_>,
    ) -> anyhow::Result<String> {
        let path = self.directory.join("admin-token");
        if let Some(text) = kept(&path)
            && let Ok(token) = AdminToken::parse(&text)
            && registry.open_admin_token(&token, audit.at).await?.is_some()
        {
            return Ok(text);
        }
        let draft = AdminTokenDraft {
            name: "demo".into(),
            role: Role::SecurityAdmin,
            tenant: None,
            expires_at: audit.at.plus(TOKEN_LIFE),
        };
        keep(&path, registry.issue_admin_token(draft, audit).await?.token.expose())
    }

    /// Prints what to put into Mattermost, and what to paste into a terminal.
    pub(crate) fn announce(
        &self,
        gateway: SocketAddr,
        console: SocketAddr,
        secrets: &DemoSecrets,
    ) -> anyhow::Result<()> {
        let host =
            if gateway.ip().is_unspecified() { "127.0.0.1".to_owned() } else { gateway.ip().to_string() };
        let url = format!("http://{host}:{}/t/{}", gateway.port(), secrets.licence_key);
        let curl = |platform: &str, token: &str| {
            format!(
                r#"curl -sS {url}/api/v1/send_push -d '{{"server_id":"demo","platform":"{platform}","device_id":"{token}","type":"message","version":"v2","channel_name":"Town Square","sender_name":"ada","message":"@bob: hello :wave:","badge":1,"ack_id":"demo-ack","signature":"demo"}}'"#
            )
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "\npush URL: {url}")?;
        writeln!(out, "simulator: http://{}", self.control)?;
        writeln!(out, "console: http://{console}")?;
        writeln!(out, "admin token: {}", secrets.admin_token)?;
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
