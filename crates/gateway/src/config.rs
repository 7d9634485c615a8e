//! What an operator can set.

use std::time::Duration;

use push_domain::Kind;
use serde::Deserialize;

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
    /// Who may push.
    pub access: Access,
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

/// Where the Mattermost face may differ from its peer.
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
    /// Returns how long a push of this kind may take; never more than 25 s, because a stock server
    /// gives up at 30.
    #[must_use]
    pub fn budget(&self, kind: Kind) -> Duration {
        let millis = match kind {
            Kind::Test => self.test_budget_ms,
            Kind::Call => self.call_budget_ms,
            Kind::Message | Kind::Clear | Kind::UpdateBadge | Kind::Session | Kind::Other => self.budget_ms,
        };
        Duration::from_millis(millis.min(25_000))
    }
}
