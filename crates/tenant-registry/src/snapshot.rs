//! In-memory snapshot of all licences at one moment: callers are checked without a database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use push_domain::{LicenceId, TenantId, Timestamp};

use crate::digest::KeyDigest;
use crate::rights::{self, Proof, RowHash, RowName, TreeKind, report_deleted_rows, report_unproven_row};
use crate::{DeviceKey, KeyRecord, KeyUse, Keys, Licence, LicenceKey, Standing, Tenant};

/// Permit: what a caller with a good key may do.
#[derive(Debug, Clone)]
pub struct Permit {
    /// Who it is.
    pub tenant: TenantId,
    /// The licence that applies.
    pub licence: Arc<Licence>,
    /// Hashes the tenant's device tokens.
    pub device_key: DeviceKey,
    /// The servers that may use the licence; none: every server.
    pub servers: Option<Arc<HashSet<String>>>,
    /// Until when the licence works although it has expired.
    pub grace: Option<Timestamp>,
    /// What there is to note, if this is the first use of the key today.
    pub first_use: Option<KeyUse>,
}

/// Refusal of a licence key, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not one of ours, or revoked.
    Unknown,
    /// Not yet valid, or nobody has accepted the terms.
    Inactive,
    /// Its time, and its grace, are over.
    Expired,
    /// Switched off by an operator.
    Suspended,
    /// Valid, but not in this region.
    WrongRegion,
}

/// Change set of a registry since a revision.
#[derive(Debug)]
pub struct Changes {
    /// The revision that they lead to.
    pub revision: u64,
    /// New and changed tenants.
    pub tenants: Vec<Tenant>,
    /// New and changed licences.
    pub licences: Vec<Licence>,
    /// All servers that these licences are bound to.
    pub servers: Vec<(LicenceId, String)>,
    /// New and changed keys.
    pub keys: Vec<KeyRecord>,
    /// The kids of keys that open nothing any more.
    pub revoked: Vec<String>,
    /// Licences that are not as they were written: they grant nothing.
    pub unproven: Vec<LicenceId>,
    /// The signed hashes of all buckets, and those buckets that these changes fall into; none where nothing is signed.
    pub(crate) signed: Option<(Arc<[RowHash]>, HashSet<usize>)>,
}

impl Changes {
    /// The names of what grants something among them.
    pub(crate) fn names(&self) -> Vec<RowName> {
        let licences = self.licences.iter().map(|licence| RowName::licence(licence.id));
        licences.chain(self.keys.iter().map(|key| RowName::key(&key.kid))).collect()
    }

    /// The buckets that they fall into.
    pub(crate) fn touched(&self) -> impl Iterator<Item = usize> {
        let licences = self.licences.iter().map(|licence| RowName::licence(licence.id));
        let keys = self.keys.iter().flat_map(|key| [RowName::key(&key.kid), RowName::keys_of(key.licence)]);
        licences.chain(keys).map(|name| name.bucket(TreeKind::Licences))
    }

    /// Keeps what is as it was written; tells of the rest, and, where everything was read, of what is missing.
    pub(crate) fn keep_proven(&mut self, mut proof: Proof, is_whole: bool) {
        let servers = by_licence(self.servers.iter().cloned());
        let (mut unproven, mut revoked) = (Vec::new(), Vec::new());
        let mut sets: HashMap<LicenceId, Vec<String>> = HashMap::new();
        for key in self.keys.iter().filter(|_| is_whole) {
            sets.entry(key.licence).or_default().push(key.kid.clone());
        }
        self.licences.retain(|licence| {
            let hash = rights::licence_hash(licence, servers.get(&licence.id).map_or(&[], Vec::as_slice));
            let is_proven = proof.covers(TreeKind::Licences, RowName::licence(licence.id), &hash);
            if !is_proven {
                report_unproven_row("licence", &licence.id.to_string());
                unproven.push(licence.id);
            }
            is_proven
        });
        let kept: HashSet<LicenceId> = self.licences.iter().map(|licence| licence.id).collect();
        self.servers.retain(|(licence, _)| kept.contains(licence));
        self.keys.retain(|key| {
            let is_proven = proof.covers(TreeKind::Licences, RowName::key(&key.kid), &rights::key_hash(key));
            if !is_proven {
                report_unproven_row("licence key", &key.kid);
                revoked.push(key.kid.clone());
            }
            is_proven
        });
        for (licence, kids) in sets {
            let hash = rights::key_set_hash(kids.iter().map(String::as_str));
            let name = RowName::keys_of(licence);
            if !hash.is_some_and(|hash| proof.covers(TreeKind::Licences, name, &hash)) {
                report_unproven_row("keys of licence", &licence.to_string());
                self.keys.retain(|key| key.licence != licence);
            }
        }
        self.unproven = unproven;
        self.revoked.extend(revoked);
        if is_whole {
            report_deleted_rows(proof.unseen());
        }
    }
}

/// Snapshot of all live keys and what they grant. A copy with changes shares what is as before.
#[derive(Debug, Clone)]
pub struct Snapshot {
    revision: u64,
    keys: Keys,
    device_keys: HashMap<TenantId, DeviceKey>,
    licences: HashMap<LicenceId, Arc<Licence>>,
    servers: HashMap<LicenceId, Arc<HashSet<String>>>,
    keys_by_kid: HashMap<Box<str>, KeyEntry>,
    /// The signed hashes of all buckets.
    signed: Option<Arc<[RowHash]>>,
}

#[derive(Debug, Clone)]
struct KeyEntry {
    licence: LicenceId,
    mac: [u8; 32],
    pepper: u32,
    hashed: bool,
    ends_at: Option<Timestamp>,
    /// The day on which it was last used; copies of a snapshot share it.
    used_on: Arc<AtomicU32>,
}

impl KeyEntry {
    /// Notes a use on a day. Nearly always that costs one read.
    fn is_first_use(&self, day: u32) -> bool {
        self.used_on.load(Ordering::Relaxed) != day && self.used_on.swap(day, Ordering::Relaxed) != day
    }
}

impl Snapshot {
    /// Makes a snapshot of nothing.
    #[must_use]
    pub fn empty(keys: &Keys) -> Self {
        let (device_keys, licences, servers, keys_by_kid, signed) = Default::default();
        Self { revision: 0, keys: keys.clone(), device_keys, licences, servers, keys_by_kid, signed }
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
            self.servers.remove(&licence.id);
            self.licences.insert(licence.id, Arc::new(licence));
        }
        for (licence, server) in changes.servers {
            Arc::make_mut(self.servers.entry(licence).or_default()).insert(server);
        }
        for KeyRecord { kid, licence, mac, pepper, hashed, ends_at, revision: _ } in changes.keys {
            let entry = KeyEntry { licence, mac, pepper, hashed, ends_at, used_on: Arc::default() };
            self.keys_by_kid.insert(kid.into(), entry);
        }
        for kid in changes.revoked {
            self.keys_by_kid.remove(&*kid);
        }
        for licence in changes.unproven {
            self.licences.remove(&licence);
        }
        self.signed = changes.signed.map(|(hashes, _)| hashes);
        self
    }

    /// Whether every bucket that was signed anew since this snapshot holds one of the changes: a row whose change was hidden
    /// from whoever asks for changes is found so.
    #[must_use]
    pub fn explains(&self, changes: &Changes) -> bool {
        let (Some(known), Some((hashes, touched))) = (&self.signed, &changes.signed) else { return true };
        known.len() == hashes.len()
            && known
                .iter()
                .zip(&**hashes)
                .enumerate()
                .all(|(at, (old, new))| old == new || touched.contains(&at))
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
        let entry = self.keys_by_kid.get(key.kid());
        let (mac, pepper, hashed) =
            entry.map_or((&[0; 32], 1, true), |entry| (&entry.mac, entry.pepper, entry.hashed));
        let matches = self.keys.mac_matches(key.expose(), pepper, hashed, mac);
        let lives = |entry: &&KeyEntry| matches && entry.ends_at.is_none_or(|end| now < end);
        let entry = entry.filter(lives).ok_or(Refusal::Unknown)?;
        let licence = self.licences.get(&entry.licence).ok_or(Refusal::Unknown)?;
        let tenant = licence.terms.tenant;
        let device_key = self.device_keys.get(&tenant).ok_or(Refusal::Unknown)?;
        let grace = match licence.standing(now) {
            Standing::Active => None,
            Standing::Grace(until) => Some(until),
            Standing::NotYet | Standing::TermsNotAccepted => return Err(Refusal::Inactive),
            Standing::Suspended => return Err(Refusal::Suspended),
            Standing::Expired => return Err(Refusal::Expired),
        };
        if !licence.terms.regions.iter().any(|home| home == region) {
            return Err(Refusal::WrongRegion);
        }
        let servers = self.servers.get(&licence.id).cloned();
        let first_use = entry.is_first_use(now.day()).then(|| KeyUse {
            kid: key.kid().to_owned(),
            digest: (!entry.hashed).then(|| KeyDigest::of(key.expose())),
        });
        let (licence, device_key) = (Arc::clone(licence), device_key.clone());
        Ok(Permit { tenant, licence, device_key, servers, grace, first_use })
    }

    /// Returns the regions in which the licence of a key holds.
    #[must_use]
    pub fn regions(&self, key: &LicenceKey) -> Option<&[String]> {
        let licence = self.licences.get(&self.keys_by_kid.get(key.kid())?.licence)?;
        Some(&licence.terms.regions)
    }

    /// Takes over which keys were used today.
    pub fn keep_use(&mut self, old: &Self) {
        for (kid, entry) in &mut self.keys_by_kid {
            if let Some(known) = old.keys_by_kid.get(kid) {
                entry.used_on = Arc::clone(&known.used_on);
            }
        }
    }
}

/// Servers by the licences that are bound to them.
pub(crate) fn by_licence(
    servers: impl Iterator<Item = (LicenceId, String)>,
) -> HashMap<LicenceId, Vec<String>> {
    let mut by_licence: HashMap<LicenceId, Vec<String>> = HashMap::new();
    for (licence, server) in servers {
        by_licence.entry(licence).or_default().push(server);
    }
    by_licence
}
