//! API schemas of usage, apps, queues, test pushes and alerts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Moment;

/// What a tenant's pushes of the last minutes were answered.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(crate) struct UsageView {
    /// Pushes that were handed over and are not answered yet.
    pub(crate) under_way: u64,
    /// Answers of the last 5 to 10 minutes: `ok`, `remove` or a fail code. Only the busiest tenants have any.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Devices that are active.
    pub(crate) active_devices: u64,
    /// Devices whose tokens were called dead.
    pub(crate) removed_devices: u64,
}

/// One mobile app.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AppView {
    /// Its name.
    pub(crate) name: String,
    /// `apple` or `android`.
    pub(crate) provider: String,
    /// The platform name that servers send.
    pub(crate) platform: String,
    /// `shared`, or the tenant whose own it is.
    pub(crate) audience: String,
    /// The bundle id.
    pub(crate) topic: String,
    /// `healthy`, `held`, `broken`, `no_credentials`, or `unknown` while no worker tells.
    pub(crate) health: String,
    /// What kind of credentials the workers have.
    pub(crate) credentials: String,
    /// What tells one content of their files from another; more than one while workers are renewed.
    pub(crate) fingerprints: Vec<String>,
    /// For how many days a certificate is still good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) days_left: Option<u32>,
    /// When the provider last accepted a push.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_accepted_at: Option<Moment>,
    /// How many workers deliver to it.
    pub(crate) workers: usize,
}

/// What waits, and where.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct QueuesView {
    /// The processes of the region.
    pub(crate) processes: Vec<ProcessView>,
    /// What waits for each app, all gateways together.
    pub(crate) lines: BTreeMap<String, LineView>,
    /// The lanes.
    pub(crate) lanes: Vec<LaneView>,
    /// The busiest tenants.
    pub(crate) tenants: Vec<BusyTenant>,
}

/// A process.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ProcessView {
    /// Its name.
    pub(crate) process: String,
    /// Its version.
    pub(crate) version: String,
    /// Whether it takes pushes.
    pub(crate) is_gateway: bool,
    /// Whether it delivers them.
    pub(crate) is_worker: bool,
    /// Apps that it finds out of order or refused.
    pub(crate) barred: Vec<String>,
}

/// What waits for an app.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub(crate) struct LineView {
    /// Pushes that wait for their turn.
    pub(crate) waiting: u64,
    /// For how long the first of them has waited, in milliseconds.
    pub(crate) oldest_ms: u64,
    /// Pushes that were handed over and are not answered yet.
    pub(crate) under_way: u64,
    /// How many of these there may be.
    pub(crate) window: u64,
}

/// A lane.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LaneView {
    /// Its name.
    pub(crate) lane: String,
    /// Whether it answers.
    pub(crate) is_up: bool,
    /// Jobs that wait or are being sent, by app.
    pub(crate) depth: BTreeMap<String, u64>,
}

/// A busy tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct BusyTenant {
    /// Its id.
    pub(crate) tenant: String,
    /// Its name, if it is one of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Pushes that were handed over and are not answered yet.
    pub(crate) under_way: u64,
    /// Answers of the last 5 to 10 minutes.
    pub(crate) answers: BTreeMap<String, u64>,
}

/// A push to try out.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TestPushInput {
    /// A licence key, or the push URL with the key in it. It is used once and kept nowhere.
    pub(crate) key: String,
    /// The platform name, such as `apple_rn-v2`.
    #[schema(examples("apple_rn-v2"))]
    pub(crate) platform: String,
    /// The device token.
    pub(crate) token: String,
    /// What the phone shows, up to 200 characters.
    #[serde(default = "hello")]
    #[schema(max_length = 200)]
    pub(crate) message: String,
}

fn hello() -> String {
    "A test push from hpns".to_owned()
}

/// What became of it, hop by hop.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TestPushView {
    /// `OK`, `REMOVE` or `FAIL`.
    pub(crate) status: String,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// As the push stands in the log.
    pub(crate) request_id: String,
    /// How long each part took, in milliseconds.
    pub(crate) hops: Vec<HopView>,
}

/// One part of the way of a push.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HopView {
    /// `queue`, `provider`, `total`, or `round_trip`.
    pub(crate) name: String,
    /// How long it took, in milliseconds.
    pub(crate) ms: f64,
}

/// What an operator should look at.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AlertView {
    /// `licence_expiring`, `licence_in_grace`, `credential_expiring`, `credential_missing`, `app_held`,
    /// `provider_down`, `removals`, `new_devices`, `rights_changed`, `budget_burning` or `tenant_budget_burning`.
    pub(crate) kind: String,
    /// `warning` or `alarm`.
    pub(crate) severity: String,
    /// What it is about: an id or an app's name.
    pub(crate) object: String,
    /// What a person calls that.
    pub(crate) name: String,
    /// A sentence.
    pub(crate) text: String,
}

/// The service at a glance.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct OverviewView {
    /// The region.
    pub(crate) region: String,
    /// Tenants.
    pub(crate) tenants: u64,
    /// Licences.
    pub(crate) licences: u64,
    /// Live keys.
    pub(crate) live_keys: u64,
    /// Processes that take pushes.
    pub(crate) gateways: usize,
    /// Processes that deliver them.
    pub(crate) workers: usize,
    /// Lanes that answer, of how many.
    pub(crate) lanes_up: usize,
    /// Lanes in all.
    pub(crate) lanes: usize,
    /// What to look at.
    pub(crate) alerts: Vec<AlertView>,
}
