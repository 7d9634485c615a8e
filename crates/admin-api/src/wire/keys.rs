//! API schemas of licence keys.

use push_domain::Timestamp;
use serde::{Deserialize, Serialize};
use tenant_registry::KeySummary;
use utoipa::ToSchema;

use super::{Moment, day_text};

/// A key to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyInput {
    /// For how many hours the key before still works.
    #[serde(default = "a_week")]
    #[schema(maximum = 720, default = 168)]
    pub(crate) overlap_hours: u32,
}

const fn a_week() -> u32 {
    168
}

/// A new key. It is shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewKey {
    /// Its public part.
    pub(crate) kid: String,
    /// The key.
    pub(crate) key: String,
    /// What goes into the customer's server.
    pub(crate) push_url: String,
}

/// A key as it is known.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct KeyView {
    /// Its public part.
    pub(crate) kid: String,
    /// Whether it opens anything now.
    pub(crate) is_live: bool,
    /// When it was made.
    pub(crate) created_at: Moment,
    /// From when it opens nothing any more, because another key takes its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ends_at: Option<Moment>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Moment>,
    /// The last day on which it was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_on: Option<String>,
    /// Which pepper it is stored under.
    pub(crate) pepper: u32,
}

impl KeyView {
    pub(crate) fn new(key: KeySummary, now: Timestamp) -> Self {
        Self {
            is_live: key.is_live(now),
            kid: key.kid,
            created_at: Moment(key.created_at),
            ends_at: key.ends_at.map(Moment),
            revoked_at: key.revoked_at.map(Moment),
            last_used_on: key.last_used_day.map(day_text),
            pepper: key.pepper,
        }
    }
}
