//! All licences as they were at one moment, in memory: callers are checked without a database.

use std::collections::HashMap;
use std::sync::Arc;

use push_domain::{LicenceId, TenantId, Timestamp};

use crate::{DeviceKey, KeyRecord, Keys, Licence, LicenceKey, Tenant};

/// What a caller with a good key may do.
#[derive(Debug, Clone)]
pub struct Permit {
    /// Who it is.
    pub tenant: TenantId,
    /// The licence that applies.
    pub licence: Arc<Licence>,
    /// Hashes the tenant's device tokens.
    pub device_key: DeviceKey,
}

/// Why a key opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not one of ours, or revoked.
    Unknown,
    /// Expired, suspended or not yet valid.
    Inactive,
    /// Valid, but not in this region.
    WrongRegion,
}

/// All live keys and what they open.
#[derive(Debug)]
pub struct Snapshot {
    revision: u64,
    keys: Keys,
    doors: HashMap<String, Door>,
    tenants: usize,
}

#[derive(Debug)]
struct Door {
    mac: [u8; 32],
    permit: Permit,
}

impl Snapshot {
    /// Joins what a back-end has read. Keys without a licence and licences without a tenant are left out.
    #[must_use]
    pub fn new(
        revision: u64,
        keys: &Keys,
        tenants: &[Tenant],
        licences: Vec<Licence>,
        records: Vec<KeyRecord>,
    ) -> Self {
        let device_keys: HashMap<TenantId, DeviceKey> = tenants
            .iter()
            .map(|tenant| (tenant.id, keys.device_key(tenant.id, &tenant.device_salt)))
            .collect();
        let licences: HashMap<LicenceId, Arc<Licence>> =
            licences.into_iter().map(|licence| (licence.id, Arc::new(licence))).collect();
        let door = |record: KeyRecord| {
            let licence = Arc::clone(licences.get(&record.licence)?);
            let tenant = licence.terms.tenant;
            let device_key = device_keys.get(&tenant)?.clone();
            Some((record.kid, Door { mac: record.mac, permit: Permit { tenant, licence, device_key } }))
        };
        let doors = records.into_iter().filter_map(door).collect();
        Self { revision, keys: keys.clone(), doors, tenants: tenants.len() }
    }

    /// Returns the revision that it shows.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns how many tenants there are.
    #[must_use]
    pub const fn tenants(&self) -> usize {
        self.tenants
    }

    /// Lists the licences that live keys open, each as often as it has keys.
    pub fn licences(&self) -> impl Iterator<Item = &Licence> {
        self.doors.values().map(|door| &*door.permit.licence)
    }

    /// Returns the permit that `key` opens in `region` at `now`.
    ///
    /// A wrong key takes as long as a right one: an unknown kid is checked against nothing.
    pub fn open(&self, key: &LicenceKey, region: &str, now: Timestamp) -> Result<&Permit, Refusal> {
        let door = self.doors.get(key.kid());
        let mac = door.map_or(&[0; 32], |door| &door.mac);
        let matches = self.keys.mac_matches(key.expose(), mac);
        let permit = door.filter(|_| matches).map(|door| &door.permit).ok_or(Refusal::Unknown)?;
        let licence = &permit.licence;
        let expired = licence.terms.expires_at.is_some_and(|end| end <= now);
        if licence.suspended || expired || licence.terms.not_before > now {
            return Err(Refusal::Inactive);
        }
        if !licence.terms.regions.iter().any(|home| home == region) {
            return Err(Refusal::WrongRegion);
        }
        Ok(permit)
    }
}
