//! Data model of tenants and devices.

use push_domain::{DeviceId, TenantId, Timestamp};

/// A customer of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name; no two tenants share one.
    pub name: String,
    /// Random bytes that make its devices unlinkable to those of others.
    pub device_salt: [u8; 32],
    /// Whom to write to.
    pub contact: String,
    /// Whether its pushes may go through another region when its own is down.
    pub failover_consent: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// The change that it came with last.
    pub revision: u64,
}

/// Editable fields of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantDraft {
    /// Its name; no two tenants share one.
    pub name: String,
    /// Whom to write to.
    pub contact: String,
    /// Whether its pushes may go through another region when its own is down.
    pub failover_consent: bool,
}

impl TenantDraft {
    /// Begins with a name and nothing else.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// Query for tenants: filter and page, in the order of their names.
#[derive(Debug, Clone, Copy, Default)]
pub struct TenantQuery<'a> {
    /// Only those whose name contains this, in whatever case.
    pub search: &'a str,
    /// Only those whose name comes after this one.
    pub after: &'a str,
    /// At most so many.
    pub limit: u32,
}

/// Device count by app, platform and state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCount {
    /// The app that they run.
    pub app: String,
    /// The platform name that they came under.
    pub platform: String,
    /// What became of the last push to them.
    pub state: DeviceState,
    /// How many.
    pub count: u64,
}

/// Unusual growth of a tenant's devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewDevices {
    /// Whose.
    pub tenant: TenantId,
    /// New ones of the day.
    pub today: u64,
    /// New ones of the seven days before, together.
    pub week_before: u64,
}

/// State of a device.
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

/// Device activity: what one push tells about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceActivity {
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

/// Order to erase all devices of a tenant, as one region sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Its id.
    pub id: uuid::Uuid,
    /// Whose devices.
    pub tenant: TenantId,
    /// When it was ordered.
    pub ordered_at: Timestamp,
    /// By whom.
    pub ordered_by: String,
    /// When this region carried it out, and how many devices it knew.
    pub done: Option<(Timestamp, u64)>,
}

/// Ledger row of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSummary {
    /// The app that it runs.
    pub app: String,
    /// Under which platform name it came.
    pub platform: String,
    /// Day of the first push.
    pub first_seen: u32,
    /// Day of the last push.
    pub last_seen: u32,
    /// What became of it.
    pub state: DeviceState,
    /// Why it was removed.
    pub reason: Option<String>,
}
