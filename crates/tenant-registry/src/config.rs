//! Configuration of the registry: the section `registry`.

use std::path::{Path, PathBuf};

use push_domain::InvalidSetting;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// Where tenants, licences and devices are, and the service's own keys. Documented in the default configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `sqlite:FILE`, or the address of a `PostgreSQL`, which may hold a password.
    url: SecretString,
    /// How often a change of licences is looked for.
    pub poll_ms: u64,
    /// One file with the secret that all keys are derived from.
    pub key_file: PathBuf,
    /// Instead of it, files by purpose.
    pub key_files: Vec<PathBuf>,
}

impl Config {
    /// Names the first setting that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        let is_known = self.sqlite().is_some() || self.postgres().is_some();
        InvalidSetting::unless(is_known, "url", "has to begin with sqlite: or postgres:")?;
        InvalidSetting::out_of(&(1..=3_600_000), "poll_ms", &self.poll_ms)
    }

    /// Returns the registry's file, if it is one, as it stands in the configuration.
    #[must_use]
    pub fn sqlite(&self) -> Option<&Path> {
        let file = self.url.expose_secret().strip_prefix("sqlite:")?;
        Some(Path::new(file.trim_start_matches("//")))
    }

    /// Returns the registry's address, if it is a `PostgreSQL`.
    #[must_use]
    pub fn postgres(&self) -> Option<&str> {
        let url = self.url.expose_secret();
        (url.starts_with("postgres://") || url.starts_with("postgresql://")).then_some(url)
    }
}
