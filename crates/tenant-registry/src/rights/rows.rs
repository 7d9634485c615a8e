//! Row hashes of the signed rights: what is hashed of each row, and under which name.

use aws_lc_rs::digest::{Context, SHA256};
use push_domain::{LicenceId, Timestamp};

use super::{HASH_LEN, NAME_LEN, TreeKind};
use crate::{AdminTokenRecord, KeyRecord, Licence};

/// A row's name in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowName(pub(super) [u8; NAME_LEN]);

/// The hash of all that a row grants.
pub(crate) type RowHash = [u8; HASH_LEN];

impl RowName {
    pub(crate) fn licence(id: LicenceId) -> Self {
        Self::of(b"licence", id.uuid().as_bytes())
    }

    pub(crate) fn key(kid: &str) -> Self {
        Self::of(b"key", kid.as_bytes())
    }

    /// The set of a licence's live keys: one that is hidden for a while does not come back unnoticed.
    pub(crate) fn keys_of(licence: LicenceId) -> Self {
        Self::of(b"keys of licence", licence.uuid().as_bytes())
    }

    pub(crate) fn token(id: &str) -> Self {
        Self::of(b"token", id.as_bytes())
    }

    fn of(kind: &[u8], id: &[u8]) -> Self {
        let hash = Hasher::new(b"hpns row name v1").with(kind).with(id).finish();
        Self(std::array::from_fn(|at| hash[at]))
    }

    /// The bucket that it falls into.
    pub(crate) fn bucket(self, kind: TreeKind) -> usize {
        usize::from(u16::from_be_bytes([self.0[0], self.0[1]])) % kind.buckets()
    }
}

/// SHA-256 over parts, each with its length before it.
pub(super) struct Hasher(Context);

impl Hasher {
    pub(super) fn new(label: &[u8]) -> Self {
        Self(Context::new(&SHA256)).with(label)
    }

    pub(super) fn with(mut self, part: &[u8]) -> Self {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    pub(super) fn number(self, number: u64) -> Self {
        self.with(&number.to_be_bytes())
    }

    fn time(self, time: Option<Timestamp>) -> Self {
        match time {
            None => self.with(b""),
            Some(time) => self.number(time.millis()),
        }
    }

    pub(super) fn finish(self) -> RowHash {
        bytes_of(self.0.finish().as_ref())
    }
}

pub(super) fn bytes_of(hash: &[u8]) -> RowHash {
    std::array::from_fn(|at| hash[at])
}

/// Hashes a licence with the servers that it is bound to.
pub(crate) fn licence_hash(licence: &Licence, servers: &[String]) -> RowHash {
    let Licence { id, terms, accepted, suspension, created_at: _, revision } = licence;
    let mut servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    servers.sort_unstable();
    let hasher = Hasher::new(b"hpns licence v1")
        .with(id.uuid().as_bytes())
        .with(terms.tenant.uuid().as_bytes())
        .with(terms.plan.as_str().as_bytes())
        .with(terms.regions.join(",").as_bytes())
        .number(terms.rate_per_second.into())
        .number(terms.burst.into())
        .number(terms.in_flight.into())
        .number(terms.devices.into())
        .with(terms.privacy.as_str().as_bytes())
        .time(Some(terms.not_before))
        .time(terms.expires_at)
        .number(terms.grace_days.into())
        .with(accepted.as_ref().map_or(b"", |accepted| accepted.version.as_bytes()))
        .number(u64::from(accepted.is_some()))
        .number(u64::from(suspension.is_some()))
        .number(*revision)
        .number(servers.len() as u64);
    servers.into_iter().fold(hasher, |hasher, server| hasher.with(server.as_bytes())).finish()
}

/// Hashes a live key.
pub(crate) fn key_hash(key: &KeyRecord) -> RowHash {
    let KeyRecord { kid, licence, mac, pepper, hashed, ends_at, revision } = key;
    Hasher::new(b"hpns licence key v1")
        .with(kid.as_bytes())
        .with(licence.uuid().as_bytes())
        .with(mac)
        .number((*pepper).into())
        .number(u64::from(*hashed))
        .time(*ends_at)
        .number(*revision)
        .finish()
}

/// Hashes the set of a licence's live keys; `None` where there is none.
pub(crate) fn key_set_hash<'a>(kids: impl IntoIterator<Item = &'a str>) -> Option<RowHash> {
    let mut kids: Vec<&str> = kids.into_iter().collect();
    kids.sort_unstable();
    if kids.is_empty() {
        return None;
    }
    let hasher = Hasher::new(b"hpns keys of licence v1").number(kids.len() as u64);
    Some(kids.into_iter().fold(hasher, |hasher, kid| hasher.with(kid.as_bytes())).finish())
}

/// Hashes a live operators' token.
pub(crate) fn token_hash(token: &AdminTokenRecord, mac: &[u8]) -> RowHash {
    let terms = &token.terms;
    let tenant = terms.tenant.map(|tenant| *tenant.uuid().as_bytes());
    Hasher::new(b"hpns admin token v1")
        .with(token.id.as_bytes())
        .with(terms.name.as_bytes())
        .with(terms.role.as_str().as_bytes())
        .with(tenant.as_ref().map_or(b"", |tenant| &tenant[..]))
        .time(Some(terms.expires_at))
        .with(mac)
        .finish()
}
