//! Configuration loading: one file of defaults, one file, the environment; strict and redacted.

mod app;
mod environment;
mod error;
mod options;
mod renamed;
mod rules;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use figment::Figment;
use figment::providers::{Format, Toml};
use push_domain::Objectives;
use secrecy::SecretString;
use serde::Deserialize;

pub(crate) use app::{ApnsConfig, AppConfig, FcmConfig};
pub(crate) use error::explained;
pub(crate) use options::{ConfigOptions, RoleOptions};
use renamed::{Renamed, RenamedKey};
pub(crate) use rules::check_app;

/// The commented defaults, which are the reference documentation.
pub(crate) const DEFAULTS: &str = include_str!("default.toml");

/// Configuration of the binary. Documented in `default.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) region: String,
    pub(crate) data_dir: PathBuf,
    pub(crate) log: LogConfig,
    pub(crate) server: ServerConfig,
    pub(crate) gateway: gateway::Config,
    pub(crate) admin: admin_api::Config,
    pub(crate) health: HealthConfig,
    pub(crate) registry: tenant_registry::Config,
    pub(crate) dispatch: dispatch_stream::Config,
    pub(crate) worker: dispatch_worker::Config,
    pub(crate) service_level: Objectives,
    pub(crate) credentials: CredentialsConfig,
    pub(crate) outbound: OutboundConfig,
    pub(crate) development: DevelopmentConfig,
    pub(crate) apps_dir: PathBuf,
    pub(crate) apps: BTreeMap<String, Arc<AppConfig>>,
    /// Keys that were given under their names of the version before.
    #[serde(skip)]
    pub(crate) renamed: Vec<RenamedKey>,
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
pub(crate) struct DevelopmentConfig {
    pub(crate) custom_endpoints: bool,
}

impl Config {
    /// Reads all layers. The error names the key and the rule, and repeats no value.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let (mut layers, mut given) = (Figment::from(Toml::string(DEFAULTS)), Figment::new());
        if let Some(path) = file {
            ensure!(path.exists(), "configuration file {} does not exist", path.display());
            layers = layers.merge(Renamed(Toml::file_exact(path)));
            given = given.merge(Toml::file_exact(path));
        }
        let mut config = Self::extract(&environment::over(layers, Renamed))?;
        config.renamed = renamed::found(&environment::over(given, |variables| variables));
        Ok(config)
    }

    /// Reads a file's text over the defaults; nothing else counts.
    pub(crate) fn parsed(toml: &str) -> anyhow::Result<Self> {
        Self::extract(&Figment::from(Toml::string(DEFAULTS)).merge(Renamed(Toml::string(toml))))
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
        self.path(self.registry.sqlite().unwrap_or(Path::new("")))
    }

    /// Returns the files of the service's own keys, by purpose; none where one file holds all.
    pub(crate) fn key_files(&self) -> Vec<PathBuf> {
        self.registry.key_files.iter().map(|file| self.path(file)).collect()
    }

    /// Returns the file with the secret that all keys of the service are derived from.
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

    /// The defaults with everything that is commented in them, but for the words between.
    fn everything() -> String {
        let is_setting = |line: &str| {
            let name = line.split_once(" = ").map_or("", |(name, _)| name);
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let plain = |line: &str| {
            let text = line.trim_start_matches("# ");
            // An app has a key or a certificate; both are read, and only the start refuses both.
            let text = if line.starts_with("# # ") { line.trim_start_matches("# # ") } else { text };
            let rest =
                text.strip_prefix('[').and_then(|text| text.split_once(']')).map(|(_, rest)| rest.trim());
            let is_section = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('#'));
            if is_setting(text) || is_section { text.to_owned() } else { line.to_owned() }
        };
        DEFAULTS.lines().map(plain).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_setting_stands_in_the_reference() {
        let text = everything().replace("custom_endpoints = false", "custom_endpoints = true");
        let config: Config = Figment::from(Toml::string(&text)).extract().unwrap();
        config.validate().unwrap();

        let Config { gateway, admin, dispatch, apps, .. } = &config;
        let shown = format!("{gateway:?} {admin:?} {dispatch:?}");
        assert!(!shown.contains("None"), "a setting is not in the reference: {shown}");
        // What may stand in a variable besides is told in words.
        let unset = |name: &str| format!("{:?}", apps[name]).matches("None").count();
        assert_eq!((unset("ios"), unset("android")), (2, 1), "{apps:?}");
    }

    #[test]
    fn the_defaults_of_limits_are_those_of_the_reference() {
        assert_eq!(accepted("").gateway.limits, http_edge::Limits::default());
        assert_eq!(accepted("").service_level, Objectives::default());
    }

    #[test]
    fn a_key_of_the_version_before_is_taken_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hpns.toml");
        std::fs::write(&file, "[gateway]\nconnections = 7\nstreams = 5\n[gateway.limits]\nstreams = 6\n")
            .unwrap();

        let config = Config::load(Some(&file)).unwrap();

        assert_eq!((config.gateway.limits.connections, config.gateway.limits.streams), (7, 6));
        let names: Vec<_> = config.renamed.iter().map(|(before, _)| *before).collect();
        assert_eq!(names, ["gateway.connections", "gateway.streams"]);
    }

    #[test]
    fn a_number_out_of_its_bounds_is_refused_with_its_key() {
        for (toml, key) in [
            ("[dispatch]\ncapacity = 0", "`dispatch.capacity`"),
            ("[dispatch]\nqueue_capacity = 0", "`dispatch.queue_capacity`"),
            ("[worker]\nslots = 0", "`worker.slots`"),
            ("[worker]\nfcm_attempt_timeout_ms = 0", "`worker.fcm_attempt_timeout_ms`"),
            ("[registry]\npoll_ms = 0", "`registry.poll_ms`"),
            ("[gateway.limits]\nidle_timeout_ms = 0", "`gateway.limits.idle_timeout_ms`"),
            ("[gateway.limits]\nbody_bytes = 1", "`gateway.limits.body_bytes`"),
            ("[gateway.test_tier]\nburst = 0", "`gateway.test_tier.burst`"),
            ("[gateway.mattermost]\ncall_ttl_seconds = 0", "`gateway.mattermost.call_ttl_seconds`"),
            ("[gateway.region_urls]\nde = \"push.example.com\"", "`gateway.region_urls.de`"),
            ("[admin]\nsession_hours = 25", "`admin.session_hours`"),
            ("[server]\nthreads = 5000", "`server.threads`"),
            ("[credentials]\npoll_ms = 0", "`credentials.poll_ms`"),
            (
                "[apps.a]\nprovider = \"fcm\"\nplatform = \"x\"\nproject = \"p\"\nrate_per_second = 10001",
                "`apps.a.rate_per_second`",
            ),
        ] {
            let message = refusal(toml);
            assert!(message.contains(key), "{toml}: {message}");
        }
        assert!(refusal("[gateway]\nbudget_ms = -1").contains("`gateway.budget_ms`"));
    }

    #[test]
    fn the_region_files_agree_on_all_but_their_region() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/regions");
        let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
        let regions: Vec<_> = files.map(|file| Config::load(Some(&file)).unwrap()).collect();

        assert!(regions.len() >= 2);
        let mut quota = 0;
        for config in &regions {
            let own = &config.gateway.region_urls[&config.region];
            assert_eq!(&config.admin.push_url, own, "{}", config.region);
            assert_eq!(config.gateway.region_urls, regions[0].gateway.region_urls);
            assert_eq!(config.gateway.region_urls.len(), regions.len());
            let paces = config.apps.values().map(|app| app.pace());
            quota +=
                paces.filter(|it| it.credential == "fcm example-chat").map(|it| it.per_second).sum::<u32>();
        }
        // Of one project, all regions together.
        assert_eq!(quota, 10_000);
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
