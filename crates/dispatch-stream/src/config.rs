//! Configuration of the dispatch stream: the section `dispatch`.

use std::path::PathBuf;

use push_domain::InvalidSetting;
use secrecy::SecretString;
use serde::Deserialize;

/// The lanes between gateways and workers. Documented in the default configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many pushes may wait in each serving thread.
    pub capacity: usize,
    /// Addresses of Redis servers; none: pushes stay in the process.
    pub lanes: Vec<SecretString>,
    /// The certificate of the authority of `rediss://` servers, if it is one of the operator's own.
    pub lanes_ca_file: Option<PathBuf>,
    /// Whether a server that keeps or drops pushes is looked for and refused.
    pub check_lanes: bool,
    /// What all keys begin with.
    pub key_prefix: String,
    /// The keys under which pushes are sealed.
    pub key_ring_file: PathBuf,
    /// How many pushes may lie in one stream of a lane.
    pub queue_capacity: usize,
}

impl Config {
    /// Names the first setting that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        InvalidSetting::out_of(&(1..=1_000_000), "capacity", &self.capacity)?;
        InvalidSetting::out_of(&(1..=10_000_000), "queue_capacity", &self.queue_capacity)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let prefix = &self.key_prefix;
        let rule = "has to be 1 to 64 letters, digits and hyphens";
        InvalidSetting::unless(
            (1..=64).contains(&prefix.len()) && prefix.bytes().all(is_plain),
            "key_prefix",
            rule,
        )
    }
}
