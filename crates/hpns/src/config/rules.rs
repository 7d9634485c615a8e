//! Validation across settings: the rules that no type can keep.

use std::net::SocketAddr;

use push_domain::InvalidSetting;

use super::{AppConfig, Config, CredentialsConfig, ServerConfig};

/// Holds an app to the rules that no type can.
pub(crate) fn check_app(name: &str, app: &AppConfig, custom_endpoints: bool) -> Result<(), InvalidSetting> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let has_name = (1..=64).contains(&name.len()) && name.bytes().all(is_plain);
    let section = format!("apps.{name}");
    let rule = "has to be named with 1 to 64 letters, digits, hyphens and underscores";
    InvalidSetting::unless(has_name, &section, rule)?;
    let checked = app.validate().and_then(|()| match app.custom_endpoint().filter(|_| !custom_endpoints) {
        Some(key) => Err(InvalidSetting::new(key, "needs `development.custom_endpoints = true`")),
        None => Ok(()),
    });
    checked.map_err(|refused| refused.within(&section))
}

impl Config {
    /// Says which key breaks a rule, and the rule: what each section's crate says, and what no crate can know alone.
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        for (section, checked) in [
            ("gateway", self.gateway.validate(&self.region)),
            ("admin", self.admin.validate()),
            ("registry", self.registry.validate()),
            ("dispatch", self.dispatch.validate()),
            ("worker", self.worker.validate()),
            ("service_level", self.service_level.validate()),
            ("server", self.server.validate()),
            ("credentials", self.credentials.validate()),
        ] {
            checked.map_err(|refused| refused.within(section))?;
        }
        let is_plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let region = (1..=16).contains(&self.region.len()) && is_plain(&self.region);
        InvalidSetting::unless(region, "region", "has to be 1 to 16 small letters and digits")?;
        let slots = self.worker.slots >= self.dispatch.lanes.len();
        InvalidSetting::unless(slots, "worker.slots", "has to be at least 1 for each lane")?;
        self.validate_listeners()?;
        let custom_endpoints = self.development.custom_endpoints;
        self.apps.iter().try_for_each(|(name, app)| check_app(name, app, custom_endpoints))
    }

    fn validate_listeners(&self) -> Result<(), InvalidSetting> {
        let listeners = [
            ("gateway.listen", Some(self.gateway.listen)),
            ("gateway.plain_listen", self.gateway.plain_listen),
            ("admin.listen", Some(self.admin.listen)),
            ("health.listen", Some(self.health.listen)),
        ];
        for (at, (name, address)) in listeners.iter().enumerate() {
            let clash = |one: SocketAddr, other: SocketAddr| {
                let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
                one.port() != 0 && one.port() == other.port() && (everywhere || one.ip() == other.ip())
            };
            let same = listeners[..at]
                .iter()
                .find(|(_, other)| address.zip(*other).is_some_and(|(address, other)| clash(address, other)));
            if let Some((other, _)) = same {
                return Err(InvalidSetting::new(name, format!("and `{other}` have to differ")));
            }
        }
        Ok(())
    }
}

impl ServerConfig {
    fn validate(&self) -> Result<(), InvalidSetting> {
        InvalidSetting::out_of(&(0..=1024), "threads", &self.threads)?;
        InvalidSetting::out_of(&(0..=3600), "drain_seconds", &self.drain_seconds)?;
        InvalidSetting::out_of(&(1..=3600), "shutdown_grace_seconds", &self.shutdown_grace_seconds)
    }
}

impl CredentialsConfig {
    fn validate(&self) -> Result<(), InvalidSetting> {
        InvalidSetting::out_of(&(1..=3_600_000), "poll_ms", &self.poll_ms)
    }
}
