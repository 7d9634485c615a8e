//! Configuration of one app.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use dispatch_worker::RateLimit;
use push_domain::{Audience, InvalidSetting, PushEnvironment, SecretBytes, TenantId};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

/// One app and its credentials.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "provider", rename_all = "snake_case")]
pub(crate) enum AppConfig {
    Apns(ApnsConfig),
    Fcm(FcmConfig),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApnsConfig {
    pub(crate) platform: String,
    #[serde(default)]
    pub(crate) audience: AudienceConfig,
    pub(crate) topic: String,
    pub(crate) team_id: Option<String>,
    pub(crate) key_id: Option<String>,
    key: Option<SecretString>,
    key_file: Option<PathBuf>,
    certificate: Option<SecretString>,
    certificate_file: Option<PathBuf>,
    #[serde(default)]
    pub(crate) environment: PushEnvironment,
    #[serde(default = "https_port")]
    pub(crate) port: ApnsPort,
    #[serde(default = "eight")]
    pub(crate) max_connections: usize,
    #[serde(default = "a_minute")]
    pub(crate) ping_interval_ms: u64,
    #[serde(default)]
    rate_per_second: u32,
    pub(crate) endpoint: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FcmConfig {
    pub(crate) platform: String,
    #[serde(default)]
    pub(crate) audience: AudienceConfig,
    pub(crate) project: String,
    service_account: Option<SecretString>,
    service_account_file: Option<PathBuf>,
    #[serde(default = "four")]
    pub(crate) shards: usize,
    #[serde(default = "five_seconds")]
    pub(crate) ping_interval_ms: u64,
    #[serde(default = "four_fifths_of_a_quota")]
    rate_per_second: u32,
    pub(crate) base_url: Option<String>,
    pub(crate) token_url: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
}

/// 443 or 2197: Apple listens on no other.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "u16")]
pub(crate) struct ApnsPort(pub(crate) u16);

impl TryFrom<u16> for ApnsPort {
    type Error = &'static str;

    fn try_from(port: u16) -> Result<Self, &'static str> {
        if matches!(port, 443 | 2197) { Ok(Self(port)) } else { Err("the APNs port is 443 or 2197") }
    }
}

/// `shared`, or a tenant's id.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AudienceConfig(pub(crate) Audience);

impl Default for AudienceConfig {
    fn default() -> Self {
        Self(Audience::Shared)
    }
}

impl<'de> Deserialize<'de> for AudienceConfig {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let text = String::deserialize(value)?;
        if text == "shared" {
            return Ok(Self::default());
        }
        let tenant = TenantId::from_str(&text)
            .map_err(|_| serde::de::Error::custom("an audience is `shared` or a tenant's id (ten_…)"))?;
        Ok(Self(Audience::Tenant(tenant)))
    }
}

const fn https_port() -> ApnsPort {
    ApnsPort(443)
}

const fn eight() -> usize {
    8
}

const fn four() -> usize {
    4
}

const fn five_seconds() -> u64 {
    5000
}

const fn a_minute() -> u64 {
    60_000
}

/// Pushes a second that Google gives a project, all regions together (600,000 a minute).
const GOOGLES_QUOTA: u32 = 10_000;

const fn four_fifths_of_a_quota() -> u32 {
    8000
}

/// A secret that stands in the environment or in a file.
pub(crate) struct Secret<'a> {
    name: &'static str,
    text: Option<&'a SecretString>,
    file: Option<&'a Path>,
}

impl Secret<'_> {
    pub(crate) const fn is_set(&self) -> bool {
        self.text.is_some() || self.file.is_some()
    }

    /// Reads it. The error names the key and the file, never the content.
    pub(crate) fn read(&self, data_dir: &Path) -> anyhow::Result<SecretBytes> {
        match (self.text, self.file) {
            (Some(text), None) => {
                Ok(SecretBytes::new(unwrapped(without_mark(text.expose_secret().as_bytes()).to_vec())))
            }
            (None, Some(file)) => {
                let path = data_dir.join(file);
                // A certificate is public, unless its key is in the same file.
                let read = if self.name == "certificate" { is_public } else { |_: &Path| false };
                let bytes = if read(&path) {
                    crate::secret_file::read(&path)
                } else {
                    crate::secret_file::read_key(&path)
                };
                let bytes =
                    bytes.with_context(|| format!("`{}_file`: cannot read {}", self.name, path.display()))?;
                Ok(SecretBytes::new(without_mark(&bytes).to_vec()))
            }
            _ => anyhow::bail!("exactly one of `{0}` and `{0}_file` has to be set", self.name),
        }
    }
}

/// A text as an editor may have saved it, without the byte order mark.
fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// A credential as people put it into a variable: as it is, in one line with `\n` for its line breaks, or in base 64.
fn unwrapped(text: Vec<u8>) -> Vec<u8> {
    let is_credential = |bytes: &[u8]| matches!(bytes.trim_ascii_start().first(), Some(b'-' | b'{'));
    if !is_credential(&text) {
        let digits: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let decoded = data_encoding::BASE64.decode(&digits).ok();
        return decoded.filter(|decoded| is_credential(decoded)).unwrap_or(text);
    }
    match String::from_utf8(text) {
        Ok(text) if text.trim_start().starts_with('-') => text.replace("\\n", "\n").into_bytes(),
        Ok(text) => text.into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// Says whether a file holds no private key.
fn is_public(path: &Path) -> bool {
    let holds_key = |bytes: Vec<u8>| bytes.windows(11).any(|part| part == b"PRIVATE KEY");
    crate::secret_file::read(path).is_ok_and(|bytes| !holds_key(bytes))
}

impl ApnsConfig {
    /// The signing key, or the key of the certificate.
    pub(crate) fn key(&self) -> Secret<'_> {
        Secret { name: "key", text: self.key.as_ref(), file: self.key_file.as_deref() }
    }

    /// The certificate, if the app has one instead of a signing key.
    pub(crate) fn certificate(&self) -> Option<Secret<'_>> {
        let file = self.certificate_file.as_deref();
        let secret = Secret { name: "certificate", text: self.certificate.as_ref(), file };
        secret.is_set().then_some(secret)
    }
}

impl FcmConfig {
    pub(crate) fn account(&self) -> Secret<'_> {
        Secret {
            name: "service_account",
            text: self.service_account.as_ref(),
            file: self.service_account_file.as_deref(),
        }
    }
}

impl AppConfig {
    /// Names the first setting that breaks its rule.
    pub(super) fn validate(&self) -> Result<(), InvalidSetting> {
        let platform = self.platform();
        InvalidSetting::unless(!platform.is_empty(), "platform", "has to be set")?;
        let rule = "has to be the name without the app's version (-v2)";
        InvalidSetting::unless(!platform.contains("-v"), "platform", rule)?;
        let ping = match self {
            Self::Apns(app) => {
                InvalidSetting::out_of(&(1..=1000), "max_connections", &app.max_connections)?;
                app.ping_interval_ms
            }
            Self::Fcm(app) => {
                InvalidSetting::out_of(&(1..=1000), "shards", &app.shards)?;
                InvalidSetting::out_of(&(0..=GOOGLES_QUOTA), "rate_per_second", &app.rate_per_second)?;
                app.ping_interval_ms
            }
        };
        InvalidSetting::out_of(&(1..=3_600_000), "ping_interval_ms", &ping)
    }

    pub(crate) fn platform(&self) -> &str {
        match self {
            Self::Apns(app) => &app.platform,
            Self::Fcm(app) => &app.platform,
        }
    }

    /// Lets the files that it names begin in a directory.
    pub(crate) fn move_files(&mut self, directory: &Path) {
        let files = match self {
            Self::Apns(app) => [&mut app.key_file, &mut app.certificate_file, &mut app.ca_file],
            Self::Fcm(app) => [&mut app.service_account_file, &mut None, &mut app.ca_file],
        };
        for file in files.into_iter().flatten() {
            *file = directory.join(&file);
        }
    }

    /// Returns the files that its credentials come from.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let files = match self {
            Self::Apns(app) => [&app.key_file, &app.certificate_file, &app.ca_file],
            Self::Fcm(app) => [&app.service_account_file, &None, &app.ca_file],
        };
        files.into_iter().filter_map(|file| file.as_deref())
    }

    /// Names what its credentials are used for: a key that is good for one may be bad for another.
    pub(crate) fn destination(&self) -> String {
        match self {
            Self::Apns(app) => format!("{:?} {} {:?}", app.environment, app.topic, app.endpoint),
            Self::Fcm(app) => format!("{} {:?}", app.project, app.base_url),
        }
    }

    /// Returns how fast pushes may leave under its credential: a team's key or certificate, or a project.
    pub(crate) fn pace(&self) -> RateLimit {
        match self {
            Self::Apns(app) => {
                let (team, key) = (app.team_id.as_deref(), app.key_id.as_deref());
                let credential = match (team, key) {
                    (Some(team), Some(key)) => format!("apns {team} {key} {:?}", app.environment),
                    _ => format!("apns certificate {}", app.topic),
                };
                RateLimit { credential, per_second: app.rate_per_second }
            }
            Self::Fcm(app) => {
                RateLimit { credential: format!("fcm {}", app.project), per_second: app.rate_per_second }
            }
        }
    }

    /// Returns the first key that sends pushes somewhere else than to Apple or Google.
    pub(crate) fn custom_endpoint(&self) -> Option<&'static str> {
        let given = match self {
            Self::Apns(app) => {
                [("endpoint", app.endpoint.is_some()), ("ca_file", app.ca_file.is_some()), ("", false)]
            }
            Self::Fcm(app) => [
                ("base_url", app.base_url.is_some()),
                ("token_url", app.token_url.is_some()),
                ("ca_file", app.ca_file.is_some()),
            ],
        };
        given.into_iter().find(|(_, given)| *given).map(|(key, _)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_read_as_people_have_it() {
        let pem = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let json = "{\"type\":\"service_account\",\"private_key\":\"a\\nb\"}";
        let base64 = |text: &str| data_encoding::BASE64.encode(text.as_bytes());
        for (text, read) in [
            (pem.to_owned(), pem),
            (pem.replace('\n', "\\n"), pem),
            (base64(pem), pem),
            (base64(json), json),
            (json.to_owned(), json),
            ("canary".to_owned(), "canary"),
        ] {
            assert_eq!(String::from_utf8(unwrapped(text.into_bytes())).unwrap(), read);
        }
        assert_eq!(without_mark("\u{feff}{}".as_bytes()), b"{}");
    }
}
