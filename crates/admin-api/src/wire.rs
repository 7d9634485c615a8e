//! What the API takes and gives. Input and output are types of their own: no request sets what it should not, and no
//! answer holds a stored secret.

use std::collections::BTreeMap;

use push_domain::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tenant_registry::{
    AdminTokenRecord, AuditEvent, DeviceCount, DeviceSummary, KeySummary, Licence, Tenant,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;

/// A moment, as RFC 3339 writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, examples("2027-01-31T00:00:00Z"))]
pub(crate) struct Moment(pub(crate) Timestamp);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = i64::try_from(self.0.seconds()).unwrap_or(i64::MAX);
        let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
        f.write_str(&time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default())
    }
}

impl std::str::FromStr for Moment {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ())?;
        let millis = u64::try_from(time.unix_timestamp_nanos() / 1_000_000).map_err(|_| ())?;
        Ok(Self(Timestamp::from_millis(millis)))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        let text = String::deserialize(value)?;
        let unexpected = serde::de::Unexpected::Other("another text");
        text.parse().map_err(|()| {
            serde::de::Error::invalid_value(unexpected, &"a time such as 2027-01-31T00:00:00Z, from 1970 on")
        })
    }
}

/// A day since 1970, as ISO 8601 writes it.
pub(crate) fn day_text(day: u32) -> String {
    let text = Moment(Timestamp::from_millis(u64::from(day) * 86_400_000)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// What is on the page.
    pub(crate) items: Vec<T>,
    /// What to send as `cursor` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next_cursor: Option<String>,
}

/// What is wrong with a request (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemBody {
    /// Always `about:blank`.
    #[serde(rename = "type")]
    kind: String,
    /// The HTTP status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A stable code.
    #[schema(examples("invalid_field"))]
    code: String,
    /// A sentence that names the field and the rule.
    detail: String,
}

/// A tenant to be.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantInput {
    /// Its name, 1 to 100 characters; no two tenants share one.
    #[schema(min_length = 1, max_length = 100, examples("Acme GmbH"))]
    pub(crate) name: String,
    /// Whom to write to, up to 200 characters.
    #[serde(default)]
    #[schema(max_length = 200, examples("push@acme.example"))]
    pub(crate) contact: String,
    /// Whether its pushes may go through another region when its own is down.
    #[serde(default)]
    pub(crate) failover_consent: bool,
}

/// A customer of the service.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TenantView {
    /// Its id.
    #[schema(examples("ten_01a20141cc5e76ab9c0144f4d27c5424"))]
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Whom to write to.
    pub(crate) contact: String,
    /// Whether its pushes may go through another region when its own is down.
    pub(crate) failover_consent: bool,
    /// When it was made.
    pub(crate) created_at: Moment,
    /// What changes with every change; the `ETag`.
    pub(crate) revision: u64,
}

impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        Self {
            id: tenant.id.to_string(),
            name: tenant.name,
            contact: tenant.contact,
            failover_consent: tenant.failover_consent,
            created_at: Moment(tenant.created_at),
            revision: tenant.revision,
        }
    }
}

/// A tenant in a list, with its licences.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct TenantRow {
    /// The tenant.
    #[serde(flatten)]
    pub(crate) tenant: TenantView,
    /// Its licences.
    pub(crate) licences: Vec<LicenceView>,
}

/// A licence to be, or as it is to become.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LicenceInput {
    /// `test`, `professional`, `enterprise` or `cloud`.
    #[schema(examples("professional"), pattern = "^(test|professional|enterprise|cloud)$")]
    pub(crate) plan: String,
    /// The regions in which it holds.
    #[schema(min_items = 1, max_items = 16, examples(json!(["us"])))]
    pub(crate) regions: Vec<String>,
    /// Pushes a second, sustained.
    #[serde(default = "a_hundred")]
    #[schema(minimum = 1, maximum = 1_000_000, default = 100)]
    pub(crate) rate_per_second: u32,
    /// Pushes at once.
    #[serde(default = "two_hundred")]
    #[schema(minimum = 1, maximum = 2_000_000, default = 200)]
    pub(crate) burst: u32,
    /// Pushes that may wait for their answers at once; 0: as many as there is room for.
    #[serde(default)]
    #[schema(maximum = 1_000_000)]
    pub(crate) in_flight: u32,
    /// Devices; 0: any number.
    #[serde(default)]
    #[schema(maximum = 1_000_000_000)]
    pub(crate) devices: u32,
    /// How much of a message may leave the service: `full`, `generic`, `id_only_strip` or `id_only_reject`. If it
    /// is absent, a licence keeps its own, and a new one has `full`.
    #[schema(pattern = "^(full|generic|id_only_strip|id_only_reject)$")]
    pub(crate) privacy: Option<String>,
    /// From when it holds; now, if it is absent.
    pub(crate) not_before: Option<Moment>,
    /// Until when, if there is an end.
    pub(crate) expires_at: Option<Moment>,
    /// For how many days after that it still works.
    #[serde(default = "a_fortnight")]
    #[schema(maximum = 90, default = 14)]
    pub(crate) grace_days: u32,
}

const fn a_hundred() -> u32 {
    100
}

const fn two_hundred() -> u32 {
    200
}

const fn a_fortnight() -> u32 {
    14
}

/// A tenant's right to push.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct LicenceView {
    /// Its id.
    #[schema(examples("lic_01a20141cc5e76ab9c0144f4d27c5424"))]
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) tenant: String,
    /// Whether it holds now: `active`, `grace`, `not_yet`, `terms_not_accepted`, `suspended` or `expired`.
    pub(crate) standing: String,
    /// `test`, `professional`, `enterprise` or `cloud`.
    pub(crate) plan: String,
    /// The regions in which it holds.
    pub(crate) regions: Vec<String>,
    /// Pushes a second, sustained.
    pub(crate) rate_per_second: u32,
    /// Pushes at once.
    pub(crate) burst: u32,
    /// Pushes that may wait for their answers at once; 0: as many as there is room for.
    pub(crate) in_flight: u32,
    /// Devices; 0: any number.
    pub(crate) devices: u32,
    /// How much of a message may leave the service: `full`, `generic`, `id_only_strip` or `id_only_reject`.
    pub(crate) privacy: String,
    /// From when it holds.
    pub(crate) not_before: Moment,
    /// Until when, if there is an end.
    pub(crate) expires_at: Option<Moment>,
    /// For how many days after that it still works.
    pub(crate) grace_days: u32,
    /// Until when it works after it has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) grace_until: Option<Moment>,
    /// Which version of the terms was accepted, when and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) accepted_terms: Option<AcceptedTerms>,
    /// Why it is switched off, since when and by whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) suspension: Option<SuspensionView>,
    /// When it was made.
    pub(crate) created_at: Moment,
    /// What changes with every change; the `ETag`.
    pub(crate) revision: u64,
}

/// That the terms were accepted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AcceptedTerms {
    /// Which version of them.
    pub(crate) version: String,
    /// When.
    pub(crate) at: Moment,
    /// By whom.
    pub(crate) by: String,
}

/// That an operator has switched a licence off.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct SuspensionView {
    /// Why.
    pub(crate) reason: String,
    /// When.
    pub(crate) at: Moment,
    /// By whom.
    pub(crate) by: String,
}

impl LicenceView {
    pub(crate) fn new(licence: Licence, now: Timestamp) -> Self {
        let standing = licence.standing(now).as_str().to_owned();
        let terms = licence.terms;
        let accepted =
            licence.accepted.map(|it| AcceptedTerms { version: it.version, at: Moment(it.at), by: it.by });
        let suspension =
            licence.suspension.map(|it| SuspensionView { reason: it.reason, at: Moment(it.at), by: it.by });
        Self {
            id: licence.id.to_string(),
            tenant: terms.tenant.to_string(),
            standing,
            grace_until: terms.grace_until().map(Moment),
            plan: terms.plan.as_str().to_owned(),
            regions: terms.regions,
            rate_per_second: terms.rate_per_second,
            burst: terms.burst,
            in_flight: terms.in_flight,
            devices: terms.devices,
            privacy: terms.privacy.as_str().to_owned(),
            not_before: Moment(terms.not_before),
            expires_at: terms.expires_at.map(Moment),
            grace_days: terms.grace_days,
            accepted_terms: accepted,
            suspension,
            created_at: Moment(licence.created_at),
            revision: licence.revision,
        }
    }

    /// What would leave it as it is.
    pub(crate) fn unchanged(self) -> LicenceInput {
        LicenceInput {
            plan: self.plan,
            regions: self.regions,
            rate_per_second: self.rate_per_second,
            burst: self.burst,
            in_flight: self.in_flight,
            devices: self.devices,
            privacy: Some(self.privacy),
            not_before: Some(self.not_before),
            expires_at: self.expires_at,
            grace_days: self.grace_days,
        }
    }
}

/// That a tenant accepts the terms.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TermsInput {
    /// Which version of them, 1 to 40 characters.
    #[schema(min_length = 1, max_length = 40, examples("2026-11"))]
    pub(crate) version: String,
    /// Who accepted them for the tenant, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200, examples("Ada Lovelace, Acme GmbH"))]
    pub(crate) accepted_by: String,
}

/// Why a licence is to be switched off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuspensionInput {
    /// 1 to 500 characters; the tenant sees it.
    #[schema(min_length = 1, max_length = 500, examples("invoice 4711 is overdue"))]
    pub(crate) reason: String,
}

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

/// How many were forgotten.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Erased {
    /// Devices that were known.
    pub(crate) erased: u64,
}

/// Something that somebody did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AuditView {
    /// Its place in the chain.
    pub(crate) seq: u64,
    /// When.
    pub(crate) at: Moment,
    /// Who.
    pub(crate) actor: String,
    /// What.
    pub(crate) action: String,
    /// To what.
    pub(crate) object: String,
    /// Whom it concerns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// More of it.
    #[schema(value_type = Object)]
    pub(crate) detail: serde_json::Value,
    /// The hash of the event, in hexadecimal.
    pub(crate) hash: String,
}

impl From<AuditEvent> for AuditView {
    fn from(event: AuditEvent) -> Self {
        Self {
            seq: event.seq,
            at: Moment(event.at),
            actor: event.actor,
            action: event.action,
            object: event.object,
            tenant: event.tenant.map(|tenant| tenant.to_string()),
            detail: serde_json::from_str(&event.detail).unwrap_or_default(),
            hash: data_encoding::HEXLOWER.encode(&event.hash),
        }
    }
}

/// What a check of the whole audit log shows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditVerification {
    /// Whether it is whole.
    pub(crate) intact: bool,
    /// How many events there are.
    pub(crate) events: u64,
    /// The hash of the last one, in hexadecimal.
    pub(crate) head: String,
    /// What is wrong, and where first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<String>,
}

/// An admin token to be.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdminTokenInput {
    /// What it is for, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100, examples("billing job"))]
    pub(crate) name: String,
    /// `viewer`, `support`, `operator`, `security-admin`, `auditor` or `tenant`.
    #[schema(examples("viewer"), pattern = "^(viewer|support|operator|security-admin|auditor|tenant)$")]
    pub(crate) role: String,
    /// Of which tenant, for the role `tenant`.
    pub(crate) tenant: Option<String>,
    /// For how many days it opens anything.
    #[serde(default = "a_quarter")]
    #[schema(minimum = 1, maximum = 366, default = 90)]
    pub(crate) days: u32,
}

const fn a_quarter() -> u32 {
    90
}

/// An admin token as it is known.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct AdminTokenView {
    /// Its public part.
    pub(crate) id: String,
    /// What it is for.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) role: String,
    /// Of which tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Whether it opens anything now.
    pub(crate) is_live: bool,
    /// When it was made, and by whom.
    pub(crate) created_at: Moment,
    /// By whom.
    pub(crate) created_by: String,
    /// Until when it opens anything.
    pub(crate) expires_at: Moment,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) revoked_at: Option<Moment>,
    /// The last day on which it was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_used_on: Option<String>,
}

impl AdminTokenView {
    pub(crate) fn new(token: AdminTokenRecord, now: Timestamp) -> Self {
        Self {
            is_live: token.is_live(now),
            id: token.id,
            name: token.terms.name,
            role: token.terms.role.as_str().to_owned(),
            tenant: token.terms.tenant.map(|tenant| tenant.to_string()),
            created_at: Moment(token.created_at),
            created_by: token.created_by,
            expires_at: Moment(token.terms.expires_at),
            revoked_at: token.revoked_at.map(Moment),
            last_used_on: token.last_used_day.map(day_text),
        }
    }
}

/// A new admin token. It is shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewAdminToken {
    /// The token.
    pub(crate) token: String,
    /// What is known of it.
    pub(crate) record: AdminTokenView,
}

/// Who calls.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Me {
    /// As the audit log calls it.
    pub(crate) actor: String,
    /// What it may do.
    pub(crate) role: String,
    /// Of which tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// The region of this service.
    pub(crate) region: String,
}

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
    /// `provider_down`, `removals` or `new_devices`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_back_and_a_day_is_a_date() {
        let moment = Moment(Timestamp::from_millis(1_800_000_000_000));

        assert_eq!(moment.to_string(), "2027-01-15T08:00:00Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!(day_text(20_000), "2024-10-04");
        assert!("1960-01-01T00:00:00Z".parse::<Moment>().is_err() && "tomorrow".parse::<Moment>().is_err());
    }
}
