//! Configuration of the gateway: the section `gateway`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http_edge::{Limits, TrustedProxies};
use push_domain::{InvalidSetting, Kind};
use serde::Deserialize;

use crate::regions::Regions;

/// A stock server gives up after 30 s.
const LONGEST_BUDGET_MS: u64 = 25_000;

/// Who may push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Whoever presents a licence key.
    Licensed,
    /// Everybody who can reach the port, as with mattermost-push-proxy. For self-hosters.
    Open,
}

/// Settings of the gateway. Documented in the default configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where customers' servers push.
    pub listen: SocketAddr,
    /// One more port, which speaks plain HTTP whatever the first does.
    pub plain_listen: Option<SocketAddr>,
    /// TLS by ourselves.
    pub tls: Option<TlsFiles>,
    /// What callers may cost, all threads and listeners together.
    pub limits: Limits,
    /// Who may push.
    pub access: Access,
    /// Whose word for a caller's address is taken, and who may bring licence keys over plain HTTP.
    pub trusted_proxies: TrustedProxies,
    /// What servers without a licence may do.
    pub test_tier: TestTier,
    /// The push URL of each region of the service.
    pub region_urls: BTreeMap<String, String>,
    /// Host names that stand for no region.
    pub global_hosts: Vec<String>,
    /// What customers should know of changes of names and ports to come.
    pub endpoints_notice: String,
    /// How long a push may take from acceptance to answer.
    pub budget_ms: u64,
    /// The same for a test push: it sits inside the mobile app's 5 s ping.
    pub test_budget_ms: u64,
    /// The same for a call.
    pub call_budget_ms: u64,
    /// Pushes a second to one device; 0 stands for no limit.
    pub device_rate_per_second: u32,
    /// Pushes to one device at once.
    pub device_burst: u32,
    /// Whether callers without a licence may learn how long each part of a push took.
    pub timing_without_licence: bool,
    /// The Mattermost face.
    pub mattermost: MattermostConfig,
}

/// Configuration of admission.
#[derive(Debug, Clone)]
pub struct AdmissionConfig {
    /// Who may push.
    pub access: Access,
    /// The regions of the service, and which is this process's.
    pub regions: Regions,
    /// Whose word for a caller's address is taken, and who may bring licence keys over plain HTTP.
    pub trusted_proxies: TrustedProxies,
    /// What servers without a licence may do, if they may push.
    pub test_tier: Option<TestTier>,
}

impl AdmissionConfig {
    /// Begins with no test tier, and with trust in this machine alone.
    #[must_use]
    pub fn new(access: Access, region: &str) -> Self {
        let own = ["127.0.0.0/8", "::1/128"].iter().filter_map(|network| network.parse().ok());
        Self {
            access,
            regions: Regions { own: region.to_owned(), ..Regions::default() },
            trusted_proxies: TrustedProxies::new(own.collect()),
            test_tier: None,
        }
    }
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate, with those that lead to its authority.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

/// What servers without a licence may do.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestTier {
    /// Whether they may push at all.
    pub enabled: bool,
    /// Pushes a second, of each source.
    pub rate_per_second: u32,
    /// Pushes at once, of each source.
    pub burst: u32,
}

/// Configuration of the Mattermost face.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MattermostConfig {
    /// For how long Apple and Google keep a message for a phone that is off; 0 leaves it to them.
    pub message_ttl_seconds: u64,
    /// For how long a call rings.
    pub call_ttl_seconds: u64,
    /// Whether `clear` goes out with normal priority instead of high.
    pub clear_with_normal_priority: bool,
    /// Whether `apns-collapse-id` is the ack id, so that a push that arrives twice shows once.
    pub collapse_by_ack_id: bool,
}

impl Config {
    /// Names the first setting that breaks its rule, in a process of a region.
    pub fn validate(&self, region: &str) -> Result<(), InvalidSetting> {
        self.limits.validate().map_err(|refused| refused.within("limits"))?;
        for (key, millis) in [
            ("budget_ms", self.budget_ms),
            ("test_budget_ms", self.test_budget_ms),
            ("call_budget_ms", self.call_budget_ms),
        ] {
            InvalidSetting::out_of(&(1..=LONGEST_BUDGET_MS), key, &millis)?;
        }
        InvalidSetting::out_of(&(0..=10_000), "device_rate_per_second", &self.device_rate_per_second)?;
        InvalidSetting::out_of(&(1..=100_000), "device_burst", &self.device_burst)?;
        self.test_tier.validate().map_err(|refused| refused.within("test_tier"))?;
        self.mattermost.validate().map_err(|refused| refused.within("mattermost"))?;
        self.regions(region).validate()
    }

    /// The regions of the service, as a process of one of them knows them.
    fn regions(&self, own: &str) -> Regions {
        Regions {
            own: own.to_owned(),
            urls: self.region_urls.clone(),
            global_hosts: self.global_hosts.clone(),
            notice: self.endpoints_notice.clone(),
        }
    }

    /// How callers may come in, in this region.
    #[must_use]
    pub fn admission(&self, region: &str) -> AdmissionConfig {
        AdmissionConfig {
            access: self.access,
            regions: self.regions(region),
            trusted_proxies: self.trusted_proxies.clone(),
            test_tier: self.test_tier.enabled.then_some(self.test_tier),
        }
    }

    /// Returns how long a push of this kind may take.
    #[must_use]
    pub fn budget(&self, kind: Kind) -> Duration {
        let millis = match kind {
            Kind::Test => self.test_budget_ms,
            Kind::Call => self.call_budget_ms,
            Kind::Message | Kind::Clear | Kind::UpdateBadge | Kind::Session | Kind::Other => self.budget_ms,
        };
        Duration::from_millis(millis)
    }
}

impl TestTier {
    fn validate(&self) -> Result<(), InvalidSetting> {
        InvalidSetting::out_of(&(1..=10_000), "rate_per_second", &self.rate_per_second)?;
        InvalidSetting::out_of(&(1..=100_000), "burst", &self.burst)
    }
}

impl MattermostConfig {
    fn validate(&self) -> Result<(), InvalidSetting> {
        // Four weeks: Google keeps no message for longer (FCM, "Set and manage message priority", ttl).
        InvalidSetting::out_of(&(0..=2_419_200), "message_ttl_seconds", &self.message_ttl_seconds)?;
        InvalidSetting::out_of(&(1..=3600), "call_ttl_seconds", &self.call_ttl_seconds)
    }
}
