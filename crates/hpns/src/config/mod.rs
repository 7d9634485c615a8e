//! Settings: one file of defaults, one file, the environment; strict and redacted.

mod app;
mod environment;
mod error;
mod rules;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use figment::Figment;
use figment::providers::{Format, Toml};
use http_edge::TrustedProxies;
use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

pub(crate) use app::{ApnsConfig, AppConfig, FcmConfig};
pub(crate) use error::explained;
pub(crate) use rules::check_app;

const DEFAULTS: &str = include_str!("default.toml");

/// Everything that can be set. Documented in `default.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) region: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: LogConfig,
    pub(crate) server: ServerConfig,
    pub(crate) gateway: GatewayConfig,
    pub(crate) admin: AdminConfig,
    pub(crate) health: HealthConfig,
    pub(crate) registry: RegistryConfig,
    pub(crate) dispatch: DispatchConfig,
    pub(crate) worker: dispatch_worker::Config,
    pub(crate) credentials: CredentialsConfig,
    pub(crate) outbound: OutboundConfig,
    pub(crate) development: DevelopmentConfig,
    pub(crate) apps_dir: PathBuf,
    pub(crate) apps: BTreeMap<String, Arc<AppConfig>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogConfig {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Json,
    Text,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ServerConfig {
    pub(crate) threads: usize,
    pub(crate) drain_seconds: u64,
    pub(crate) shutdown_grace_seconds: u64,
}

/// The gateway's own settings and those of its listener. (`serde(flatten)` would accept unknown keys.)
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GatewayConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) plain_listen: Option<SocketAddr>,
    pub(crate) tls: Option<TlsConfig>,
    pub(crate) trusted_proxies: Vec<IpNet>,
    test_tier: TestTierConfig,
    region_urls: BTreeMap<String, String>,
    connections: usize,
    connections_per_address: usize,
    header_timeout_ms: u64,
    idle_timeout_ms: u64,
    access: gateway::Access,
    max_body_bytes: usize,
    body_bytes: usize,
    streams: usize,
    timing_without_licence: bool,
    body_timeout_ms: u64,
    budget_ms: u64,
    test_budget_ms: u64,
    call_budget_ms: u64,
    device_rate_per_second: u32,
    device_burst: u32,
    mattermost: gateway::MattermostConfig,
}

/// What servers without a licence may do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestTierConfig {
    enabled: bool,
    rate_per_second: u32,
    burst: u32,
}

/// The operators' API and console.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) push_url: String,
    pub(crate) gateway_url: Option<String>,
    pub(crate) session_hours: u32,
    pub(crate) audit_days: u32,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) oidc: Option<admin_api::OidcConfig>,
}

/// The certificate of the gateway's listener, in PEM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TlsConfig {
    pub(crate) certificate_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CredentialsConfig {
    pub(crate) poll_ms: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutboundConfig {
    pub(crate) proxy: SecretString,
    pub(crate) no_proxy: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HealthConfig {
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegistryConfig {
    url: SecretString,
    pub(crate) poll_ms: u64,
    key_file: PathBuf,
    key_files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DispatchConfig {
    pub(crate) capacity: usize,
    pub(crate) lanes: Vec<SecretString>,
    pub(crate) lanes_ca_file: Option<PathBuf>,
    pub(crate) check_lanes: bool,
    pub(crate) key_prefix: String,
    pub(crate) key_ring_file: PathBuf,
    pub(crate) queue_capacity: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DevelopmentConfig {
    pub(crate) custom_endpoints: bool,
}

impl AdminConfig {
    /// The settings of the admin API; a gateway of the same process is the nearest one.
    pub(crate) fn admin(&self, region: &str, own: Option<SocketAddr>) -> admin_api::Config {
        let own = own.map(|address| {
            let host =
                if address.ip().is_unspecified() { "127.0.0.1".into() } else { address.ip().to_string() };
            format!("http://{host}:{}", address.port())
        });
        admin_api::Config {
            region: region.to_owned(),
            push_url: self.push_url.clone(),
            gateway_url: self.gateway_url.clone().or(own).unwrap_or_else(|| self.push_url.clone()),
            session: Duration::from_hours(self.session_hours.into()),
            audit_days: self.audit_days,
            trusted_proxies: TrustedProxies::new(self.trusted_proxies.clone()),
            oidc: self.oidc.clone(),
        }
    }
}

impl GatewayConfig {
    pub(crate) fn gateway(&self) -> gateway::Config {
        gateway::Config {
            access: self.access,
            timing_without_licence: self.timing_without_licence,
            budget_ms: self.budget_ms,
            test_budget_ms: self.test_budget_ms,
            call_budget_ms: self.call_budget_ms,
            device_rate_per_second: self.device_rate_per_second,
            device_burst: self.device_burst,
            mattermost: self.mattermost.clone(),
        }
    }

    /// How callers may come in.
    pub(crate) fn admission(&self, region: &str) -> gateway::AdmissionConfig {
        let TestTierConfig { enabled, rate_per_second, burst } = self.test_tier;
        gateway::AdmissionConfig {
            access: self.access,
            region: region.to_owned(),
            region_urls: self.region_urls.clone(),
            trusted_proxies: TrustedProxies::new(self.trusted_proxies.clone()),
            test_tier: enabled.then_some(gateway::TestTier { rate_per_second, burst }),
        }
    }

    /// What callers may cost, all threads and listeners together.
    pub(crate) fn limits(&self) -> http_edge::Limits {
        http_edge::Limits {
            connections: self.connections,
            connections_per_site: self.connections_per_address,
            header_timeout: Duration::from_millis(self.header_timeout_ms),
            idle_timeout: Duration::from_millis(self.idle_timeout_ms),
            body_timeout: Duration::from_millis(self.body_timeout_ms),
            max_body_bytes: self.max_body_bytes,
            body_bytes: self.body_bytes,
            streams: self.streams,
        }
    }
}

impl Config {
    /// Reads all layers. The error names the key and the rule, and repeats no value.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut layers = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            ensure!(path.exists(), "configuration file {} does not exist", path.display());
            layers = layers.merge(Toml::file_exact(path));
        }
        Self::extract(&environment::over(layers))
    }

    /// Reads a file's text over the defaults; nothing else counts.
    pub(crate) fn parsed(toml: &str) -> anyhow::Result<Self> {
        Self::extract(&Figment::from(Toml::string(DEFAULTS)).merge(Toml::string(toml)))
    }

    fn extract(layers: &Figment) -> anyhow::Result<Self> {
        let config: Self = layers.extract().map_err(|error| anyhow::anyhow!(explained(&error)))?;
        config.validate().context("configuration")?;
        Ok(config)
    }

    /// Returns how many threads serve.
    pub(crate) fn threads(&self) -> usize {
        match self.server.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Returns the registry's file, if it is one.
    pub(crate) fn registry_path(&self) -> PathBuf {
        let url = self.registry.url.expose_secret();
        self.path(Path::new(url.strip_prefix("sqlite:").unwrap_or_default().trim_start_matches("//")))
    }

    /// Returns the registry's address, if it is a PostgreSQL.
    pub(crate) fn postgres(&self) -> Option<&str> {
        let url = self.registry.url.expose_secret();
        (url.starts_with("postgres://") || url.starts_with("postgresql://")).then_some(url)
    }

    /// Returns the file with the service's own secret.
    /// The service's own keys, by purpose; none where one file holds all.
    pub(crate) fn key_files(&self) -> Vec<PathBuf> {
        self.registry.key_files.iter().map(|file| self.path(file)).collect()
    }

    pub(crate) fn key_path(&self) -> PathBuf {
        self.path(&self.registry.key_file)
    }

    /// Returns a path of this configuration as it is to be opened.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.data_dir.join(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(toml: &str) -> String {
        format!("{:#}", Config::parsed(toml).unwrap_err())
    }

    fn accepted(toml: &str) -> Config {
        Config::parsed(toml).unwrap()
    }

    /// The app examples of the default file, without their comment signs.
    fn the_examples() -> String {
        let examples = DEFAULTS.split("# [apps.ios]").nth(1).unwrap();
        let lines = examples.lines().filter_map(|line| line.strip_prefix("# "));
        format!(
            "[development]\ncustom_endpoints = true\n[apps.ios]\n{}",
            lines.collect::<Vec<_>>().join("\n")
        )
    }

    #[test]
    fn the_defaults_and_the_examples_in_them_are_valid() {
        assert!(accepted("").apps.is_empty());
        assert_eq!(accepted(&the_examples()).apps.len(), 2);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        let message = refusal("[gateway]\nlisten_on = \"0.0.0.0:1\"");

        assert!(
            message.contains("`gateway.listen_on`") && message.contains("did you mean `listen`?"),
            "{message}"
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_key_and_without_the_value() {
        let message = refusal("[worker]\nslots = \"canary\"");

        assert!(message.contains("`worker.slots`") && !message.contains("canary"), "{message}");
    }

    #[test]
    fn rules_across_keys_name_the_key() {
        assert!(refusal("[gateway]\nbudget_ms = 26000").contains("`gateway.budget_ms` has to be 1 to 25000"));
        assert!(refusal("region = \"u/s\"").contains("`region`"));
        assert!(refusal("[registry]\nurl = \"mysql://x\"").contains("`registry.url`"));
    }

    #[test]
    fn a_custom_endpoint_needs_the_development_switch() {
        let examples = the_examples().replace("custom_endpoints = true", "");

        assert!(refusal(&examples).contains("needs `development.custom_endpoints = true`"));
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let config =
            accepted(&the_examples().replace("key_file = \"/run/secrets/apns.p8\"", "key = \"canary\""));

        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn an_identity_providers_keys_are_read_over_tls_alone_and_prove_signatures() {
        let with = |url: &str, algorithm: &str| {
            Config::parsed(&format!(
                "[admin.oidc]\nissuer = \"i\"\naudience = \"a\"\njwks_url = \"{url}\"\nalgorithms = [\"{algorithm}\"]"
            ))
        };
        assert!(with("https://login.example/keys", "ES256").is_ok());
        assert!(with("http://127.0.0.1:9/keys", "ES256").is_ok());
        for (url, algorithm) in [
            ("http://login.example/keys", "ES256"),
            ("keys", "ES256"),
            ("https://login.example/keys", "HS256"),
        ] {
            assert!(with(url, algorithm).is_err(), "{url} {algorithm}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_configuration_or_a_refusal(text: String, key in "[a-z_.]{1,20}") {
            let _ = Config::parsed(&text);
            let _ = Config::parsed(&format!("{key} = 1"));
        }
    }
}
