//! What grants anything is signed: licences, keys and operators' tokens count only as those who sell them wrote them.
//!
//! Each row has a hash over all that it grants, its revision too. Hashes lie in buckets by the row's name, a root holds the
//! hashes of all buckets, and one Ed25519 signature (RFC 8032) is over the root and its revision. A change costs two buckets
//! and a signature, however many rows there are; a reader checks the signature, and each row that it reads in its bucket.
//! A row that was changed, put back to what it was, deleted, or copied to somebody else is found by whoever reads it.

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use push_domain::{LicenceId, SecretBytes, Timestamp};

use crate::{AdminTokenRecord, KeyPurpose, KeyRecord, KeySet, Licence, RegistryError};

const HASH_LEN: usize = 32;
const NAME_LEN: usize = 16;
const ENTRY_LEN: usize = NAME_LEN + HASH_LEN;

/// What a tree of hashes is over. Each has its own, because they are changed by different transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Licences and their keys, which gateways read.
    Licences,
    /// Operators' tokens, which they do not.
    Tokens,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Licences, Self::Tokens];

    /// Its name in storage.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Licences => "licences",
            Self::Tokens => "tokens",
        }
    }

    /// How many buckets it has: a hundred licences each where there are a hundred thousand.
    pub(crate) const fn buckets(self) -> usize {
        match self {
            Self::Licences => 1024,
            Self::Tokens => 64,
        }
    }
}

/// A row's name in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RowName([u8; NAME_LEN]);

/// The hash of all that a row grants.
pub(crate) type RowHash = [u8; HASH_LEN];

impl RowName {
    pub(crate) fn licence(id: LicenceId) -> Self {
        Self::of(b"licence", id.uuid().as_bytes())
    }

    pub(crate) fn key(kid: &str) -> Self {
        Self::of(b"key", kid.as_bytes())
    }

    pub(crate) fn token(id: &str) -> Self {
        Self::of(b"token", id.as_bytes())
    }

    fn of(kind: &[u8], id: &[u8]) -> Self {
        let hash = Hasher::new(b"hpns row name v1").with(kind).with(id).finish();
        Self(std::array::from_fn(|at| hash[at]))
    }

    /// The bucket that it falls into.
    pub(crate) fn bucket(self, kind: Kind) -> usize {
        usize::from(u16::from_be_bytes([self.0[0], self.0[1]])) % kind.buckets()
    }
}

/// SHA-256 over parts, each with its length before it.
struct Hasher(Context);

impl Hasher {
    fn new(label: &[u8]) -> Self {
        Self(Context::new(&SHA256)).with(label)
    }

    fn with(mut self, part: &[u8]) -> Self {
        self.0.update(&(part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn number(self, number: u64) -> Self {
        self.with(&number.to_be_bytes())
    }

    fn time(self, time: Option<Timestamp>) -> Self {
        match time {
            None => self.with(b""),
            Some(time) => self.number(time.millis()),
        }
    }

    fn finish(self) -> RowHash {
        bytes_of(self.0.finish().as_ref())
    }
}

fn bytes_of(hash: &[u8]) -> RowHash {
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

/// The hashes of the rows that fall into one bucket, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bucket(Vec<u8>);

impl Bucket {
    /// Takes what is stored, if it is what a root says of it.
    pub(crate) fn opened(stored: Vec<u8>, hash: &RowHash) -> Option<Self> {
        let bucket = Self(stored);
        let is_whole = bucket.0.len().is_multiple_of(ENTRY_LEN);
        (is_whole && bucket.hash() == *hash).then_some(bucket)
    }

    pub(crate) fn hash(&self) -> RowHash {
        bytes_of(digest(&SHA256, &self.0).as_ref())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = RowName> {
        self.entries().iter().map(|entry| RowName(std::array::from_fn(|at| entry[at])))
    }

    fn entries(&self) -> &[[u8; ENTRY_LEN]] {
        self.0.as_chunks().0
    }

    fn place(&self, name: RowName) -> Result<usize, usize> {
        self.entries().binary_search_by(|entry| entry[..NAME_LEN].cmp(&name.0))
    }

    /// The hash of a row; `None` if nothing is granted by it.
    pub(crate) fn get(&self, name: RowName) -> Option<RowHash> {
        self.place(name).ok().map(|place| bytes_of(&self.entries()[place][NAME_LEN..]))
    }

    /// Sets the hash of a row, or takes it away.
    pub(crate) fn put(&mut self, name: RowName, hash: Option<RowHash>) {
        let (place, known) = self.place(name).map_or_else(|place| (place, 0), |place| (place, ENTRY_LEN));
        let entry = hash.map(|hash| [&name.0[..], &hash].concat()).unwrap_or_default();
        self.0.splice(place * ENTRY_LEN..place * ENTRY_LEN + known, entry);
    }
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) kind: Kind,
    pub(crate) revision: u64,
    hashes: Vec<RowHash>,
}

/// A root as it is stored.
#[derive(sqlx::FromRow)]
pub(crate) struct StoredRoot {
    pub(crate) revision: i64,
    pub(crate) hashes: Vec<u8>,
    pub(crate) key: i64,
    pub(crate) signature: Vec<u8>,
}

impl Root {
    /// The root over nothing.
    pub(crate) fn empty(kind: Kind) -> Self {
        Self { kind, revision: 0, hashes: vec![Bucket::default().hash(); kind.buckets()] }
    }

    /// Takes what is stored, if it bears a signature under a known key.
    pub(crate) fn opened(kind: Kind, stored: &StoredRoot, keys: &RightsKeys) -> Result<Self, RegistryError> {
        let (hashes, rest) = stored.hashes.as_chunks::<HASH_LEN>();
        let revision = u64::try_from(stored.revision).map_err(|_| RegistryError::RightsUnproven)?;
        let root = Self { kind, revision, hashes: hashes.to_vec() };
        let is_whole = rest.is_empty() && hashes.len() == kind.buckets();
        let is_signed = keys.verifies(stored.key, &root.signed_part(), &stored.signature);
        if is_whole && is_signed { Ok(root) } else { Err(RegistryError::RightsUnproven) }
    }

    pub(crate) fn hash(&self, bucket: usize) -> &RowHash {
        &self.hashes[bucket]
    }

    pub(crate) fn set(&mut self, bucket: usize, hash: RowHash) {
        self.hashes[bucket] = hash;
    }

    /// Signs it, as it is stored; `None` without a key to sign with.
    pub(crate) fn signed(&self, keys: &RightsKeys) -> Option<StoredRoot> {
        let (number, pair) = keys.pairs.last()?;
        let signature = pair.sign(&self.signed_part()).as_ref().to_vec();
        let revision = i64::try_from(self.revision).unwrap_or(i64::MAX);
        Some(StoredRoot { revision, hashes: self.hashes.concat(), key: i64::from(*number), signature })
    }

    fn signed_part(&self) -> RowHash {
        let hasher = Hasher::new(b"hpns rights root v1").with(self.kind.as_str().as_bytes());
        hasher.number(self.revision).with(self.hashes.as_flattened()).finish()
    }
}

/// Keys that sign rights, and those that prove them; of each the newest comes last.
pub(crate) struct RightsKeys {
    pairs: Vec<(u32, Ed25519KeyPair)>,
    checks: Vec<(u32, Vec<u8>)>,
}

impl RightsKeys {
    pub(crate) fn of(set: &KeySet) -> Self {
        let pair = |(number, seed): (u32, &SecretBytes)| {
            Some((number, Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?))
        };
        let check = |(number, key): (u32, &SecretBytes)| (number, key.expose().to_vec());
        Self {
            pairs: set.of(KeyPurpose::Rights).filter_map(pair).collect(),
            checks: set.of(KeyPurpose::RightsCheck).map(check).collect(),
        }
    }

    /// Whether this process can tell what was signed.
    pub(crate) const fn can_check(&self) -> bool {
        !self.checks.is_empty()
    }

    pub(crate) const fn can_sign(&self) -> bool {
        !self.pairs.is_empty()
    }

    fn verifies(&self, number: i64, message: &[u8], signature: &[u8]) -> bool {
        let known = self.checks.iter().find(|(known, _)| i64::from(*known) == number);
        known.is_some_and(|(_, key)| UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok())
    }
}

/// The public key to a seed; `None` if it is none.
pub(crate) fn check_key(seed: &SecretBytes) -> Option<SecretBytes> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).ok()?;
    Some(SecretBytes::new(pair.public_key().as_ref().to_vec()))
}

/// The buckets that a reader has opened, to check rows with.
#[derive(Default)]
pub(crate) struct Proof {
    buckets: HashMap<usize, Bucket>,
    seen: HashSet<RowName>,
}

impl Proof {
    pub(crate) fn add(&mut self, number: usize, bucket: Bucket) {
        self.buckets.insert(number, bucket);
    }

    /// Whether a row is as it was written.
    pub(crate) fn covers(&mut self, kind: Kind, name: RowName, hash: &RowHash) -> bool {
        self.seen.insert(name);
        let bucket = self.buckets.get(&name.bucket(kind));
        bucket.and_then(|bucket| bucket.get(name)).is_some_and(|known| known == *hash)
    }

    /// How many rows of these buckets were not seen: they were deleted.
    pub(crate) fn unseen(&self) -> usize {
        self.buckets.values().flat_map(Bucket::names).filter(|name| !self.seen.contains(name)).count()
    }
}

/// A row that grants something: its public name, its name in a tree, and its hash.
pub(crate) struct GrantingRow {
    pub(crate) public: String,
    pub(crate) name: RowName,
    pub(crate) hash: RowHash,
}

/// What a look at everything that grants something has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RightsReport {
    /// Licences, keys and tokens that are not as they were written, by their public names.
    pub changed: Vec<String>,
    /// How many are gone that were not taken away by an operator.
    pub deleted: usize,
    /// Live licence keys that only an older pepper opens, or that are coded as once: used, they are renewed.
    pub old_keys: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u8) -> RowName {
        RowName::key(&number.to_string())
    }

    proptest::proptest! {
        #[test]
        fn a_bucket_is_what_was_put_into_it_and_was_not_taken_out(steps: Vec<(u8, bool)>) {
            let (mut bucket, mut model) = (Bucket::default(), std::collections::BTreeMap::new());
            for (number, is_put) in steps {
                let hash = is_put.then_some([number; 32]);
                bucket.put(name(number), hash);
                match hash {
                    Some(hash) => drop(model.insert(name(number), hash)),
                    None => drop(model.remove(&name(number))),
                }
            }
            assert!(bucket.names().eq(model.keys().copied()));
            assert!((0..=u8::MAX).all(|number| bucket.get(name(number)) == model.get(&name(number)).copied()));
            assert_eq!(Bucket::opened(bucket.bytes().to_vec(), &bucket.hash()), Some(bucket.clone()));
        }
    }

    #[test]
    fn a_root_is_believed_only_under_a_key_that_is_known_and_as_it_was_signed() {
        let set = |byte| KeySet::of_master(&SecretBytes::new(vec![byte; 32]), &[]);
        let (keys, others) = (RightsKeys::of(&set(1)), RightsKeys::of(&set(2)));
        let mut root = Root::empty(Kind::Licences);
        root.revision = 7;
        root.set(5, [9; 32]);
        let stored = || root.signed(&keys).unwrap();
        let opens = |stored: &StoredRoot, keys| Root::opened(Kind::Licences, stored, keys).is_ok();

        assert_eq!(Root::opened(Kind::Licences, &stored(), &keys).unwrap(), root);
        assert!(!opens(&stored(), &others));
        assert!(Root::opened(Kind::Tokens, &stored(), &keys).is_err());
        for tamper in [
            |stored: &mut StoredRoot| stored.revision += 1,
            |stored: &mut StoredRoot| stored.hashes[0] ^= 1,
            |stored: &mut StoredRoot| stored.hashes.truncate(32),
            |stored: &mut StoredRoot| stored.key = 2,
            |stored: &mut StoredRoot| stored.signature[0] ^= 1,
        ] {
            let mut stored = stored();
            tamper(&mut stored);
            assert!(!opens(&stored, &keys));
        }
        // A gateway has what proves, and nothing that signs.
        let mut check = KeySet::default();
        check.merge(KeySet::parse(&set(1).lines(KeyPurpose::RightsCheck)).unwrap()).unwrap();
        let gateway = RightsKeys::of(&check);
        assert!(opens(&stored(), &gateway) && root.signed(&gateway).is_none());
    }
}
