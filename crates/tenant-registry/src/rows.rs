//! SQL row types, and their checked conversion into the data model.

use push_domain::{LicenceId, TenantId, Timestamp};
use uuid::Uuid;

use crate::rights::{RowName, TreeKind};
use crate::row::{read_from, row};
use crate::{
    Acceptance, AdminTokenDraft, AdminTokenRecord, AuditEvent, DeviceCount, DeviceState, DeviceSummary,
    Erasure, KeyRecord, KeySummary, Licence, LicenceDraft, NewDevices, RegistryError, Suspension, Tenant,
};

/// A number as the databases keep it.
pub(super) fn stored_number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn stored_time(time: Timestamp) -> i64 {
    i64::try_from(time.millis()).unwrap_or(i64::MAX)
}

fn number(stored: i64, what: &'static str) -> Result<u32, RegistryError> {
    u32::try_from(stored).map_err(|_| RegistryError::Unreadable(what))
}

fn read_time(stored: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(stored).unwrap_or_default())
}

fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or_default()
}

row! {
    pub(super) struct TenantRow {
        id: Uuid,
        name: String,
        salt: Vec<u8>,
        contact: String,
        failover_consent: bool,
        created_at: i64,
        revision: i64,
    }
}

impl TryFrom<TenantRow> for Tenant {
    type Error = RegistryError;

    fn try_from(row: TenantRow) -> Result<Self, RegistryError> {
        Ok(Self {
            id: TenantId::from_uuid(row.id),
            name: row.name,
            device_salt: row.salt.try_into().map_err(|_| RegistryError::Unreadable("device salt"))?,
            contact: row.contact,
            failover_consent: row.failover_consent,
            created_at: read_time(row.created_at),
            revision: count(row.revision),
        })
    }
}

row! {
    pub(super) struct LicenceRow {
        id: Uuid,
        tenant_id: Uuid,
        plan: String,
        regions: String,
        rate_per_second: i64,
        burst: i64,
        in_flight: i64,
        devices: i64,
        privacy: String,
        not_before: i64,
        expires_at: Option<i64>,
        grace_days: i64,
        created_at: i64,
        terms_version: Option<String>,
        terms_accepted_at: Option<i64>,
        terms_accepted_by: Option<String>,
        suspended: bool,
        suspended_at: Option<i64>,
        suspended_by: Option<String>,
        suspended_reason: Option<String>,
        revision: i64,
    }
}

impl TryFrom<LicenceRow> for Licence {
    type Error = RegistryError;

    fn try_from(row: LicenceRow) -> Result<Self, RegistryError> {
        let terms = LicenceDraft {
            tenant: TenantId::from_uuid(row.tenant_id),
            plan: row.plan.parse().map_err(|_| RegistryError::Unreadable("plan"))?,
            regions: row.regions.split(',').map(str::to_owned).collect(),
            rate_per_second: number(row.rate_per_second, "rate")?,
            burst: number(row.burst, "burst")?,
            in_flight: number(row.in_flight, "in flight")?,
            devices: number(row.devices, "devices")?,
            privacy: row.privacy.parse().map_err(|_| RegistryError::Unreadable("privacy policy"))?,
            not_before: read_time(row.not_before),
            expires_at: row.expires_at.map(read_time),
            grace_days: number(row.grace_days, "grace")?,
        };
        let accepted = row.terms_version.map(|version| Acceptance {
            version,
            at: read_time(row.terms_accepted_at.unwrap_or_default()),
            by: row.terms_accepted_by.unwrap_or_default(),
        });
        // A version that knows no reasons may have suspended it.
        let suspension = row.suspended.then(|| Suspension {
            at: read_time(row.suspended_at.unwrap_or_default()),
            by: row.suspended_by.unwrap_or_default(),
            reason: row.suspended_reason.unwrap_or_default(),
        });
        let (id, created_at) = (LicenceId::from_uuid(row.id), read_time(row.created_at));
        Ok(Self { id, terms, accepted, suspension, created_at, revision: count(row.revision) })
    }
}

row! {
    pub(super) struct KeyRow {
        pub(super) kid: String,
        licence_id: Uuid,
        mac: Vec<u8>,
        pepper: i64,
        hashed: bool,
        ends_at: Option<i64>,
        revoked_at: Option<i64>,
        revision: i64,
    }
}

impl KeyRow {
    /// The buckets that it falls into.
    pub(super) fn buckets(&self) -> [usize; 2] {
        let licence = LicenceId::from_uuid(self.licence_id);
        [RowName::key(&self.kid), RowName::keys_of(licence)].map(|name| name.bucket(TreeKind::Licences))
    }

    /// Whether the key still opens anything.
    pub(super) const fn is_live(&self) -> bool {
        self.revoked_at.is_none()
    }
}

impl TryFrom<KeyRow> for KeyRecord {
    type Error = RegistryError;

    fn try_from(row: KeyRow) -> Result<Self, RegistryError> {
        Ok(Self {
            kid: row.kid,
            licence: LicenceId::from_uuid(row.licence_id),
            mac: row.mac.try_into().map_err(|_| RegistryError::Unreadable("licence key"))?,
            pepper: number(row.pepper, "pepper")?,
            hashed: row.hashed,
            ends_at: row.ends_at.map(read_time),
            revision: count(row.revision),
        })
    }
}

row! {
    pub(super) struct KeySummaryRow {
        kid: String,
        pepper: i64,
        created_at: i64,
        ends_at: Option<i64>,
        revoked_at: Option<i64>,
        last_used_day: Option<i64>,
    }
}

impl TryFrom<KeySummaryRow> for KeySummary {
    type Error = RegistryError;

    fn try_from(row: KeySummaryRow) -> Result<Self, RegistryError> {
        Ok(Self {
            kid: row.kid,
            pepper: number(row.pepper, "pepper")?,
            created_at: read_time(row.created_at),
            ends_at: row.ends_at.map(read_time),
            revoked_at: row.revoked_at.map(read_time),
            last_used_day: row.last_used_day.map(|day| number(day, "day")).transpose()?,
        })
    }
}

row! {
    pub(super) struct DeviceRow {
        app: String,
        platform: String,
        first_seen: i64,
        last_seen: i64,
        state: String,
        reason: Option<String>,
    }
}

fn device_state(text: &str) -> Result<DeviceState, RegistryError> {
    let known = [DeviceState::Active, DeviceState::Removed].into_iter().find(|state| state.as_str() == text);
    known.ok_or(RegistryError::Unreadable("device state"))
}

impl TryFrom<DeviceRow> for DeviceSummary {
    type Error = RegistryError;

    fn try_from(row: DeviceRow) -> Result<Self, RegistryError> {
        Ok(Self {
            app: row.app,
            platform: row.platform,
            first_seen: number(row.first_seen, "day")?,
            last_seen: number(row.last_seen, "day")?,
            state: device_state(&row.state)?,
            reason: row.reason,
        })
    }
}

row! {
    pub(super) struct DeviceCountRow {
        app: String,
        platform: String,
        state: String,
        number: i64,
    }
}

impl TryFrom<DeviceCountRow> for DeviceCount {
    type Error = RegistryError;

    fn try_from(row: DeviceCountRow) -> Result<Self, RegistryError> {
        let state = device_state(&row.state)?;
        Ok(Self { app: row.app, platform: row.platform, state, count: count(row.number) })
    }
}

row! {
    pub(super) struct ErasureRow {
        id: Uuid,
        tenant_id: Uuid,
        ordered_at: i64,
        ordered_by: String,
        done_at: Option<i64>,
        devices: Option<i64>,
    }
}

impl TryFrom<ErasureRow> for Erasure {
    type Error = RegistryError;

    fn try_from(row: ErasureRow) -> Result<Self, RegistryError> {
        Ok(Self {
            id: row.id,
            tenant: TenantId::from_uuid(row.tenant_id),
            ordered_at: read_time(row.ordered_at),
            ordered_by: row.ordered_by,
            done: row.done_at.map(read_time).zip(row.devices.map(count)),
        })
    }
}

row! {
    pub(super) struct NewDevicesRow {
        tenant_id: Uuid,
        today: i64,
        week_before: i64,
    }
}

impl TryFrom<NewDevicesRow> for NewDevices {
    type Error = RegistryError;

    fn try_from(row: NewDevicesRow) -> Result<Self, RegistryError> {
        let tenant = TenantId::from_uuid(row.tenant_id);
        Ok(Self { tenant, today: count(row.today), week_before: count(row.week_before) })
    }
}

row! {
    pub(super) struct AdminTokenRow {
        id: String,
        name: String,
        role: String,
        tenant_id: Option<Uuid>,
        pub(super) mac: Vec<u8>,
        created_at: i64,
        created_by: String,
        expires_at: i64,
        revoked_at: Option<i64>,
        last_used_day: Option<i64>,
    }
}

impl TryFrom<AdminTokenRow> for AdminTokenRecord {
    type Error = RegistryError;

    fn try_from(row: AdminTokenRow) -> Result<Self, RegistryError> {
        let terms = AdminTokenDraft {
            name: row.name,
            role: row.role.parse().map_err(|_| RegistryError::Unreadable("role"))?,
            tenant: row.tenant_id.map(TenantId::from_uuid),
            expires_at: read_time(row.expires_at),
        };
        Ok(Self {
            id: row.id,
            terms,
            created_at: read_time(row.created_at),
            created_by: row.created_by,
            revoked_at: row.revoked_at.map(read_time),
            last_used_day: row.last_used_day.map(|day| number(day, "day")).transpose()?,
        })
    }
}

row! {
    pub(super) struct AuditRow {
        pub(super) seq: i64,
        at: i64,
        actor: String,
        action: String,
        object: String,
        tenant_id: Option<Uuid>,
        detail: String,
        prev_hash: Vec<u8>,
        hash: Vec<u8>,
        hash_key: i64,
        rights: Vec<u8>,
    }
}

/// The last event, and the code that the end of the log bears.
pub(super) struct LastEvent {
    pub(super) event: AuditRow,
    pub(super) mac: Vec<u8>,
}

read_from! { LastEvent: mac; event }

impl TryFrom<AuditRow> for AuditEvent {
    type Error = RegistryError;

    fn try_from(row: AuditRow) -> Result<Self, RegistryError> {
        Ok(Self {
            seq: count(row.seq),
            at: read_time(row.at),
            actor: row.actor,
            action: row.action,
            object: row.object,
            tenant: row.tenant_id.map(TenantId::from_uuid),
            detail: row.detail,
            prev_hash: row.prev_hash,
            hash: row.hash,
            // One that is none is under a key that nobody has.
            hash_key: u32::try_from(row.hash_key).unwrap_or(u32::MAX),
            rights: row.rights,
        })
    }
}
