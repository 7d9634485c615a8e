//! API schemas of devices.

use serde::{Deserialize, Serialize};
use tenant_registry::{DeviceCount, DeviceSummary, Erasure};
use utoipa::ToSchema;

use super::{Moment, day_text};

/// How many devices there are of a kind.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeviceCountView {
    /// The app that they run.
    pub(crate) app: String,
    /// The platform name that they came under.
    pub(crate) platform: String,
    /// `active`, or `removed`.
    pub(crate) state: String,
    /// How many.
    pub(crate) count: u64,
}

impl From<DeviceCount> for DeviceCountView {
    fn from(count: DeviceCount) -> Self {
        let state = count.state.as_str().to_owned();
        Self { app: count.app, platform: count.platform, state, count: count.count }
    }
}

/// A device to look up. The token is hashed on arrival, and kept nowhere.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceInput {
    /// The app's name.
    #[schema(examples("ios"))]
    pub(crate) app: String,
    /// The device token.
    pub(crate) token: String,
}

/// Devices to forget.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DevicesInput {
    /// 1 to 1,000 of them.
    #[schema(min_items = 1, max_items = 1000)]
    pub(crate) devices: Vec<DeviceInput>,
}

/// What is remembered of a device.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DeviceView {
    /// The app that it runs.
    pub(crate) app: String,
    /// The platform name that it came under.
    pub(crate) platform: String,
    /// Day of the first push.
    pub(crate) first_seen_on: String,
    /// Day of the last push.
    pub(crate) last_seen_on: String,
    /// `active`, or `removed`.
    pub(crate) state: String,
    /// The provider's word for the removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// How the device is called in today's log lines.
    pub(crate) log_reference: String,
}

impl DeviceView {
    pub(crate) fn new(device: DeviceSummary, log_reference: String) -> Self {
        Self {
            app: device.app,
            platform: device.platform,
            first_seen_on: day_text(device.first_seen),
            last_seen_on: day_text(device.last_seen),
            state: device.state.as_str().to_owned(),
            reason: device.reason,
            log_reference,
        }
    }
}

/// An order to forget all of a tenant's devices.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErasureView {
    /// Its id.
    pub(crate) id: String,
    /// When it was ordered.
    pub(crate) ordered_at: Moment,
    /// By whom.
    pub(crate) ordered_by: String,
    /// When this region carried it out; missing until it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) done_at: Option<Moment>,
    /// How many devices it knew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) erased: Option<u64>,
}

impl From<Erasure> for ErasureView {
    fn from(order: Erasure) -> Self {
        let (done_at, erased) = order.done.unzip();
        Self {
            id: order.id.to_string(),
            ordered_at: Moment(order.ordered_at),
            ordered_by: order.ordered_by,
            done_at: done_at.map(Moment),
            erased,
        }
    }
}

/// How many were forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Erased {
    /// Devices that were known.
    pub(crate) erased: u64,
}
