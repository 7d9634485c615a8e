//! What the registry keeps.

use std::str::FromStr;

use push_domain::{DeviceId, LicenceId, TenantId, Timestamp};

use crate::LicenceKey;

/// A customer of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name; no two tenants share one.
    pub name: String,
    /// Random bytes that make its devices unlinkable to those of others.
    pub device_salt: [u8; 32],
}

/// What a tenant has bought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plan {
    /// Free, no service level.
    Test,
    /// Licensed.
    Professional,
    /// Licensed, with id-only pushes.
    Enterprise,
    /// Operated for the tenant.
    Cloud,
}

impl Plan {
    /// Returns the name used in storage, metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Professional => "professional",
            Self::Enterprise => "enterprise",
            Self::Cloud => "cloud",
        }
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Test, Self::Professional, Self::Enterprise, Self::Cloud]
            .into_iter()
            .find(|plan| plan.as_str() == text)
            .ok_or_else(|| "a plan is test, professional, enterprise or cloud".to_owned())
    }
}

/// A licence before it has an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenceDraft {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub plan: Plan,
    /// The regions in which it holds, such as `us`.
    pub regions: Vec<String>,
    /// Pushes a second, sustained.
    pub rate_per_second: u32,
    /// Pushes at once.
    pub burst: u32,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when, if there is an end.
    pub expires_at: Option<Timestamp>,
}

/// A tenant's right to push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Licence {
    /// Its id.
    pub id: LicenceId,
    /// What was agreed.
    pub terms: LicenceDraft,
    /// Whether an operator has switched it off.
    pub suspended: bool,
}

/// A licence key as it is stored: it can be checked, not recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// The public part of the key.
    pub kid: String,
    /// What it proves.
    pub licence: LicenceId,
    /// HMAC-SHA256 of the whole key under the pepper.
    pub mac: [u8; 32],
}

/// A licence key that has just been made. This is the only time that it can be shown.
#[derive(Debug)]
pub struct IssuedKey {
    /// The key.
    pub key: LicenceKey,
    /// What was stored of it.
    pub record: KeyRecord,
}

/// What we know of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceState {
    /// Its provider accepted the last push.
    Active,
    /// Its provider named its token dead.
    Removed,
}

impl DeviceState {
    /// Returns the name used in storage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Removed => "removed",
        }
    }
}

/// What one push taught us about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Whose device.
    pub tenant: TenantId,
    /// Which device, as a keyed hash.
    pub device: DeviceId,
    /// Which app it runs.
    pub app: String,
    /// Under which platform name it came.
    pub platform: String,
    /// On which day, counted from 1970.
    pub day: u32,
    /// What became of the push.
    pub state: DeviceState,
    /// The provider's word for a removal.
    pub reason: Option<String>,
}

/// What a ledger remembers of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSummary {
    /// Day of the first push.
    pub first_seen: u32,
    /// Day of the last push.
    pub last_seen: u32,
    /// What became of it.
    pub state: DeviceState,
    /// Why it was removed.
    pub reason: Option<String>,
}
