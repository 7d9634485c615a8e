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

/// What has changed in a registry since a revision.
#[derive(Debug)]
pub struct Changes {
    /// The revision that they lead to.
    pub revision: u64,
    /// New and changed tenants.
    pub tenants: Vec<Tenant>,
    /// New and changed licences.
    pub licences: Vec<Licence>,
    /// New keys.
    pub keys: Vec<KeyRecord>,
    /// The kids of keys that open nothing any more.
    pub revoked: Vec<String>,
}

/// All live keys and what they open. A copy with changes shares what is as before.
#[derive(Debug, Clone)]
pub struct Snapshot {
    revision: u64,
    keys: Keys,
    device_keys: HashMap<TenantId, DeviceKey>,
    licences: HashMap<LicenceId, Arc<Licence>>,
    doors: HashMap<Box<str>, Door>,
}

#[derive(Debug, Clone)]
struct Door {
    licence: LicenceId,
    mac: [u8; 32],
}

impl Snapshot {
    /// Makes a snapshot of nothing.
    #[must_use]
    pub fn empty(keys: &Keys) -> Self {
        let (device_keys, licences, doors) = Default::default();
        Self { revision: 0, keys: keys.clone(), device_keys, licences, doors }
    }

    /// Takes changes in.
    #[must_use]
    pub fn with(mut self, changes: Changes) -> Self {
        self.revision = changes.revision;
        for tenant in changes.tenants {
            let key = self.keys.device_key(tenant.id, &tenant.device_salt);
            self.device_keys.insert(tenant.id, key);
        }
        for licence in changes.licences {
            self.licences.insert(licence.id, Arc::new(licence));
        }
        for KeyRecord { kid, licence, mac } in changes.keys {
            self.doors.insert(kid.into(), Door { licence, mac });
        }
        for kid in changes.revoked {
            self.doors.remove(&*kid);
        }
        self
    }

    /// Returns the revision that it shows.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns how many tenants there are.
    #[must_use]
    pub fn tenants(&self) -> usize {
        self.device_keys.len()
    }

    /// Lists all licences.
    pub fn licences(&self) -> impl Iterator<Item = &Licence> {
        self.licences.values().map(|licence| &**licence)
    }

    /// Returns the permit that `key` opens in `region` at `now`.
    ///
    /// A wrong key takes as long as a right one: an unknown kid is checked against nothing.
    pub fn open(&self, key: &LicenceKey, region: &str, now: Timestamp) -> Result<Permit, Refusal> {
        let door = self.doors.get(key.kid());
        let mac = door.map_or(&[0; 32], |door| &door.mac);
        let matches = self.keys.mac_matches(key.expose(), mac);
        let door = door.filter(|_| matches).ok_or(Refusal::Unknown)?;
        let licence = self.licences.get(&door.licence).ok_or(Refusal::Unknown)?;
        let tenant = licence.terms.tenant;
        let device_key = self.device_keys.get(&tenant).ok_or(Refusal::Unknown)?;
        let expired = licence.terms.expires_at.is_some_and(|end| end <= now);
        if licence.suspended || expired || licence.terms.not_before > now {
            return Err(Refusal::Inactive);
        }
        if !licence.terms.regions.iter().any(|home| home == region) {
            return Err(Refusal::WrongRegion);
        }
        Ok(Permit { tenant, licence: Arc::clone(licence), device_key: device_key.clone() })
    }
}
