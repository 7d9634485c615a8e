//! The rules that no type can keep.

use anyhow::{bail, ensure};
use secrecy::ExposeSecret;

use super::{AppConfig, Config};
use crate::outbound::is_loopback;

/// Holds an app to the rules that no type can.
pub(crate) fn check_app(name: &str, app: &AppConfig, custom_endpoints: bool) -> anyhow::Result<()> {
    ensure!(
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')),
        "an app's name (`apps.{name}`) has to be 1 to 64 letters, digits, hyphens and underscores"
    );
    ensure!(!app.platform().is_empty(), "`apps.{name}.platform` has to be set");
    ensure!(
        !app.platform().contains("-v"),
        "`apps.{name}.platform` has to be the name without the app's version (-v2)"
    );
    if !custom_endpoints && let Some(key) = app.custom_endpoint() {
        bail!("`apps.{name}.{key}` needs `development.custom_endpoints = true`");
    }
    Ok(())
}

impl Config {
    /// Says which key breaks a rule, and the rule.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let gateway = &self.gateway;
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        ensure!(
            (1..=16).contains(&self.region.len()) && plain(&self.region),
            "`region` has to be 1 to 16 letters and digits"
        );
        let url = self.registry.url.expose_secret();
        ensure!(
            url.starts_with("sqlite:") || self.postgres().is_some(),
            "`registry.url` has to begin with sqlite: or postgres:"
        );
        ensure!((1..=262_144).contains(&self.worker.slots), "`worker.slots` has to be 1 to 262144");
        ensure!(self.worker.quick_retries <= 2, "`worker.quick_retries` has to be 0 to 2");
        ensure!(self.dispatch.capacity >= 1, "`dispatch.capacity` has to be at least 1");
        ensure!(self.dispatch.queue_capacity >= 1, "`dispatch.queue_capacity` has to be at least 1");
        let prefix = &self.dispatch.key_prefix;
        ensure!(
            !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "`dispatch.key_prefix` has to be letters, digits and hyphens"
        );
        ensure!(
            self.worker.slots >= self.dispatch.lanes.len(),
            "`worker.slots` has to be at least 1 for each lane"
        );
        ensure!(gateway.connections >= 1, "`gateway.connections` has to be at least 1");
        ensure!(
            gateway.connections_per_address >= 1,
            "`gateway.connections_per_address` has to be at least 1"
        );
        ensure!(gateway.max_body_bytes >= 1024, "`gateway.max_body_bytes` has to be at least 1024");
        ensure!(
            gateway.body_bytes / 4 >= gateway.max_body_bytes,
            "`gateway.body_bytes` has to be at least four times `gateway.max_body_bytes`"
        );
        ensure!(gateway.streams >= 1, "`gateway.streams` has to be at least 1");
        self.validate_admin()?;
        self.validate_times()?;
        let custom_endpoints = self.development.custom_endpoints;
        self.apps.iter().try_for_each(|(name, app)| check_app(name, app, custom_endpoints))
    }

    fn validate_admin(&self) -> anyhow::Result<()> {
        let (gateway, admin) = (&self.gateway, &self.admin);
        let listeners = [
            ("gateway.listen", Some(gateway.listen)),
            ("gateway.plain_listen", gateway.plain_listen),
            ("admin.listen", Some(admin.listen)),
            ("health.listen", Some(self.health.listen)),
        ];
        for (at, (name, address)) in listeners.iter().enumerate() {
            let same = listeners[..at]
                .iter()
                .find(|(_, other)| address.is_some_and(|address| address.port() != 0) && other == address);
            if let Some((other, _)) = same {
                bail!("`{other}` and `{name}` have to differ");
            }
        }
        ensure!(
            gateway.test_tier.rate_per_second >= 1 && gateway.test_tier.burst >= 1,
            "`gateway.test_tier.rate_per_second` and `burst` have to be at least 1"
        );
        ensure!((1..=24).contains(&admin.session_hours), "`admin.session_hours` has to be 1 to 24");
        ensure!(
            matches!(admin.audit_days, 0 | 30..=36_500),
            "`admin.audit_days` has to be 30 to 36500, or 0 to keep the audit log for good"
        );
        if let Some(oidc) = &admin.oidc {
            let url = reqwest::Url::parse(&oidc.jwks_url).ok();
            ensure!(
                url.is_some_and(
                    |url| url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url))
                ),
                "`admin.oidc.jwks_url` has to begin with https://, or to be on this machine"
            );
            let is_public = |it| !matches!(format!("{it:?}").as_str(), "HS256" | "HS384" | "HS512");
            ensure!(
                oidc.algorithms.iter().all(is_public),
                "`admin.oidc.algorithms` must not hold HS256, HS384 or HS512: there is no secret to share"
            );
        }
        for (name, url) in
            [("admin.push_url", Some(&admin.push_url)), ("admin.gateway_url", admin.gateway_url.as_ref())]
        {
            let good = url.is_none_or(|url| url.starts_with("https://") || url.starts_with("http://"));
            ensure!(good, "`{name}` has to begin with https:// or http://");
        }
        Ok(())
    }

    fn validate_times(&self) -> anyhow::Result<()> {
        let gateway = &self.gateway;
        for (key, millis) in [
            ("gateway.header_timeout_ms", gateway.header_timeout_ms),
            ("gateway.idle_timeout_ms", gateway.idle_timeout_ms),
            ("gateway.body_timeout_ms", gateway.body_timeout_ms),
            ("registry.poll_ms", self.registry.poll_ms),
            ("credentials.poll_ms", self.credentials.poll_ms),
            ("worker.apns_attempt_timeout_ms", self.worker.apns_attempt_timeout_ms),
            ("worker.fcm_attempt_timeout_ms", self.worker.fcm_attempt_timeout_ms),
        ] {
            ensure!(millis >= 1, "`{key}` has to be at least 1");
        }
        for (key, millis) in [
            ("gateway.budget_ms", gateway.budget_ms),
            ("gateway.test_budget_ms", gateway.test_budget_ms),
            ("gateway.call_budget_ms", gateway.call_budget_ms),
        ] {
            ensure!((1..=25_000).contains(&millis), "`{key}` has to be 1 to 25000");
        }
        Ok(())
    }
}
