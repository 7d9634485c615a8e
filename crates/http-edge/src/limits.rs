//! Connection and request limits: what callers may cost before their requests are looked at.

use std::time::Duration;

use push_domain::InvalidSetting;
use serde::{Deserialize, Deserializer};

/// Limits of a listener group: what its connections may cost together. Those of the gateway are a
/// section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one site: an IPv4 address, or the /64 of an IPv6 one. (A /56 may have an eighth of all, a /48 a
    /// quarter, a /32 half, or what one site may if that is more.) A large Mattermost server has up to 512 senders.
    #[serde(rename = "connections_per_address")]
    pub connections_per_site: usize,
    /// Until the header of a request is complete, counted from its first byte, or from the connection.
    #[serde(rename = "header_timeout_ms", deserialize_with = "milliseconds")]
    pub header_timeout: Duration,
    /// Between two requests. Longer than the 90 s for which a Go client keeps a connection.
    #[serde(rename = "idle_timeout_ms", deserialize_with = "milliseconds")]
    pub idle_timeout: Duration,
    /// Until the body of a request is complete.
    #[serde(rename = "body_timeout_ms", deserialize_with = "milliseconds")]
    pub body_timeout: Duration,
    /// The largest body.
    pub max_body_bytes: usize,
    /// Of all bodies that do not come with their heads: bytes that are here while the rest is not.
    pub body_bytes: usize,
    /// Requests of HTTP/2 at once, over the first of each connection.
    pub streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_site: 1024,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(100),
            body_timeout: Duration::from_secs(5),
            max_body_bytes: 256 * 1024,
            body_bytes: 64 * 1024 * 1024,
            streams: 65_536,
        }
    }
}

fn milliseconds<'de, D: Deserializer<'de>>(value: D) -> Result<Duration, D::Error> {
    u64::deserialize(value).map(Duration::from_millis)
}

impl Limits {
    /// Names the first setting that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        InvalidSetting::out_of(&(1..=1_000_000), "connections", &self.connections)?;
        InvalidSetting::out_of(&(1..=1_000_000), "connections_per_address", &self.connections_per_site)?;
        InvalidSetting::out_of(&(1024..=64 << 20), "max_body_bytes", &self.max_body_bytes)?;
        let rule = "has to be at least four times max_body_bytes";
        InvalidSetting::unless(self.body_bytes / 4 >= self.max_body_bytes, "body_bytes", rule)?;
        InvalidSetting::out_of(&(1..=10_000_000), "streams", &self.streams)?;
        for (key, time) in [
            ("header_timeout_ms", self.header_timeout),
            ("idle_timeout_ms", self.idle_timeout),
            ("body_timeout_ms", self.body_timeout),
        ] {
            InvalidSetting::out_of(&(1..=3_600_000), key, &time.as_millis())?;
        }
        Ok(())
    }

    /// For a port that operators and their machines use.
    #[must_use]
    pub fn of_a_private_port() -> Self {
        Self {
            connections: 1000,
            connections_per_site: 200,
            max_body_bytes: 64 * 1024,
            body_bytes: 8 * 1024 * 1024,
            streams: 4096,
            ..Self::default()
        }
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// All places are taken, and none is idle.
    Connections,
    /// All places of a site, or of a larger network, are taken, and none is idle.
    Site,
    /// A header, or a TLS handshake, took too long.
    Header,
    /// A body took too long.
    BodyTime,
    /// A body is too large.
    BodySize,
    /// Too many bytes of unfinished bodies are here.
    BodyBytes,
    /// Too many requests at once.
    Streams,
}

impl Limit {
    /// All limits.
    pub const ALL: [Self; 7] = [
        Self::Connections,
        Self::Site,
        Self::Header,
        Self::BodyTime,
        Self::BodySize,
        Self::BodyBytes,
        Self::Streams,
    ];

    /// Its name in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Site => "connections_per_site",
            Self::Header => "header_timeout",
            Self::BodyTime => "body_timeout",
            Self::BodySize => "max_body_bytes",
            Self::BodyBytes => "body_bytes",
            Self::Streams => "streams",
        }
    }
}
