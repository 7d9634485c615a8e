//! Rows as the databases have them, and the checked way from there to what the registry speaks of.

use std::str::FromStr;

use push_domain::{LicenceId, TenantId, Timestamp};
use uuid::Uuid;

use crate::{DeviceState, DeviceSummary, KeyRecord, Licence, LicenceDraft, Plan, RegistryError, Tenant};

pub(super) fn stored_time(time: Timestamp) -> i64 {
    i64::try_from(time.millis()).unwrap_or(i64::MAX)
}

fn number(stored: i64, what: &'static str) -> Result<u32, RegistryError> {
    u32::try_from(stored).map_err(|_| RegistryError::Unreadable(what))
}

fn read_time(stored: i64) -> Timestamp {
    Timestamp::from_millis(u64::try_from(stored).unwrap_or_default())
}

#[derive(sqlx::FromRow)]
pub(super) struct TenantRow {
    id: Uuid,
    name: String,
    device_salt: Vec<u8>,
}

impl TryFrom<TenantRow> for Tenant {
    type Error = RegistryError;

    fn try_from(row: TenantRow) -> Result<Self, RegistryError> {
        let device_salt = row.device_salt.try_into().map_err(|_| RegistryError::Unreadable("device salt"))?;
        Ok(Self { id: TenantId::from_uuid(row.id), name: row.name, device_salt })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct LicenceRow {
    id: Uuid,
    tenant_id: Uuid,
    plan: String,
    regions: String,
    rate_per_second: i64,
    burst: i64,
    not_before: i64,
    expires_at: Option<i64>,
    suspended: bool,
}

impl TryFrom<LicenceRow> for Licence {
    type Error = RegistryError;

    fn try_from(row: LicenceRow) -> Result<Self, RegistryError> {
        let terms = LicenceDraft {
            tenant: TenantId::from_uuid(row.tenant_id),
            plan: Plan::from_str(&row.plan).map_err(|_| RegistryError::Unreadable("plan"))?,
            regions: row.regions.split(',').map(str::to_owned).collect(),
            rate_per_second: number(row.rate_per_second, "rate")?,
            burst: number(row.burst, "burst")?,
            not_before: read_time(row.not_before),
            expires_at: row.expires_at.map(read_time),
        };
        Ok(Self { id: LicenceId::from_uuid(row.id), terms, suspended: row.suspended })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct KeyRow {
    pub(super) kid: String,
    licence_id: Uuid,
    mac: Vec<u8>,
    revoked_at: Option<i64>,
}

impl KeyRow {
    /// Whether the key still opens anything.
    pub(super) const fn is_live(&self) -> bool {
        self.revoked_at.is_none()
    }
}

impl TryFrom<KeyRow> for KeyRecord {
    type Error = RegistryError;

    fn try_from(row: KeyRow) -> Result<Self, RegistryError> {
        let mac = row.mac.try_into().map_err(|_| RegistryError::Unreadable("licence key"))?;
        Ok(Self { kid: row.kid, licence: LicenceId::from_uuid(row.licence_id), mac })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct DeviceRow {
    first_seen: i64,
    last_seen: i64,
    state: String,
    reason: Option<String>,
}

impl TryFrom<DeviceRow> for DeviceSummary {
    type Error = RegistryError;

    fn try_from(row: DeviceRow) -> Result<Self, RegistryError> {
        let state = [DeviceState::Active, DeviceState::Removed]
            .into_iter()
            .find(|state| state.as_str() == row.state)
            .ok_or(RegistryError::Unreadable("device state"))?;
        Ok(Self {
            first_seen: number(row.first_seen, "day")?,
            last_seen: number(row.last_seen, "day")?,
            state,
            reason: row.reason,
        })
    }
}
