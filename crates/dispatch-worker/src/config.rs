//! Configuration of the worker: the section `worker`.

use std::time::Duration;

use push_domain::{InvalidSetting, Provider};
use serde::Deserialize;

/// Settings of the worker. Documented in the default configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How many pushes to one provider are under way at once, in each serving thread.
    pub slots: usize,
    /// How long one attempt at Apple may take.
    pub apns_attempt_timeout_ms: u64,
    /// How long one attempt at Google may take.
    pub fcm_attempt_timeout_ms: u64,
    /// How many quick retries a push may have besides its first attempt, 0 to 2.
    pub quick_retries: u32,
}

impl Config {
    /// Names the first setting that breaks its rule.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        InvalidSetting::out_of(&(1..=262_144), "slots", &self.slots)?;
        InvalidSetting::out_of(&(0..=2), "quick_retries", &self.quick_retries)?;
        // Nobody waits for longer than a stock server does.
        InvalidSetting::out_of(&(1..=30_000), "apns_attempt_timeout_ms", &self.apns_attempt_timeout_ms)?;
        InvalidSetting::out_of(&(1..=30_000), "fcm_attempt_timeout_ms", &self.fcm_attempt_timeout_ms)
    }

    /// Returns how many pushes of one app a serving thread can have under way at once.
    #[must_use]
    pub const fn slots_of_one_app(&self) -> usize {
        crate::slots::of_one_app(self.slots)
    }

    pub(crate) const fn attempt_timeout(&self, provider: Provider) -> Duration {
        Duration::from_millis(match provider {
            Provider::Apns => self.apns_attempt_timeout_ms,
            Provider::Fcm => self.fcm_attempt_timeout_ms,
        })
    }
}
