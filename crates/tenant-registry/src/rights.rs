//! Signed rights: licences, keys and operators' tokens count only as those who sell them wrote them.
//!
//! Each row has a hash over all that it grants, its revision too. Hashes lie in buckets by the row's name, a root holds the
//! hashes of all buckets, and one Ed25519 signature (RFC 8032) is over the root and its revision. A change costs two buckets
//! and a signature, however many rows there are; a reader checks the signature, and each row that it reads in its bucket.
//! A row that was changed, put back to what it was, deleted, or copied to somebody else is found by whoever reads it.

mod rows;

use std::collections::{HashMap, HashSet};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use push_domain::SecretBytes;
use tracing::error;

use self::rows::{Hasher, bytes_of};
pub(crate) use self::rows::{RowHash, RowName, key_hash, key_set_hash, licence_hash, token_hash};
use crate::error::RegistryError;
use crate::key_set::{KeyPurpose, KeySet};
use crate::row::row;

const HASH_LEN: usize = 32;
const NAME_LEN: usize = 16;
const ENTRY_LEN: usize = NAME_LEN + HASH_LEN;

/// What a tree of hashes is over. Each has its own, because they are changed by different transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreeKind {
    /// Licences and their keys, which gateways read.
    Licences,
    /// Operators' tokens, which they do not.
    Tokens,
}

impl TreeKind {
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
    pub(crate) kind: TreeKind,
    pub(crate) revision: u64,
    hashes: Vec<RowHash>,
}

row! {
    /// A root as it is stored.
    pub(crate) struct StoredRoot {
        pub(crate) revision: i64,
        pub(crate) hashes: Vec<u8>,
        pub(crate) key: i64,
        pub(crate) signature: Vec<u8>,
    }
}

impl Root {
    /// The root over nothing.
    pub(crate) fn empty(kind: TreeKind) -> Self {
        Self { kind, revision: 0, hashes: vec![Bucket::default().hash(); kind.buckets()] }
    }

    /// Takes what is stored, if it bears a signature under a known key.
    pub(crate) fn opened(
        kind: TreeKind,
        stored: &StoredRoot,
        keys: &RightsKeys,
    ) -> Result<Self, RegistryError> {
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

    /// Whether nothing is granted by it.
    pub(crate) fn is_empty(&self) -> bool {
        let nothing = Bucket::default().hash();
        self.hashes.iter().all(|hash| *hash == nothing)
    }

    pub(crate) fn into_hashes(self) -> Vec<RowHash> {
        self.hashes
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

/// What an audit event says of what was signed by then: a hash of each kind's signature, in their order.
pub(crate) fn signed_digest(signatures: &[Option<Vec<u8>>]) -> Vec<u8> {
    if signatures.iter().all(Option::is_none) {
        return Vec::new();
    }
    let one = |signature: &Option<Vec<u8>>| digest(&SHA256, signature.as_deref().unwrap_or_default());
    signatures.iter().map(one).flat_map(|hash| bytes_of(hash.as_ref())).collect()
}

/// The part of such a digest that is of one kind.
pub(crate) fn part_of(kind: TreeKind, digest: &[u8]) -> Option<&[u8]> {
    let place = TreeKind::ALL.iter().position(|it| *it == kind)?;
    digest.chunks_exact(HASH_LEN).nth(place)
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
    pub(crate) fn covers(&mut self, kind: TreeKind, name: RowName, hash: &RowHash) -> bool {
        self.seen.insert(name);
        let bucket = self.buckets.get(&name.bucket(kind));
        bucket.and_then(|bucket| bucket.get(name)).is_some_and(|known| known == *hash)
    }

    /// How many rows of these buckets were not seen: they were deleted.
    pub(crate) fn unseen(&self) -> usize {
        self.buckets.values().flat_map(Bucket::names).filter(|name| !self.seen.contains(name)).count()
    }
}

/// What a row that grants something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrantKind {
    Licence,
    Key,
    KeySet,
    Token,
}

/// A row that grants something: its public name, its name in a tree, and its hash.
#[derive(Clone)]
pub(crate) struct GrantRow {
    pub(crate) what: GrantKind,
    pub(crate) public: String,
    pub(crate) name: RowName,
    pub(crate) hash: RowHash,
}

/// Report on everything that grants something.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RightsReport {
    /// Licences, keys and tokens that are not as they were written, by their public names.
    pub changed: Vec<String>,
    /// How many are gone that were not taken away by an operator.
    pub deleted: usize,
    /// Tenants without a salt: nobody pushes for them before one is drawn, when the admin role starts.
    pub without_salt: u64,
    /// Live licence keys that only an older pepper opens, or that are coded as once: used, they are renewed.
    pub old_keys: Vec<String>,
}

/// Says that a row is not as it was written. What it grants is not granted.
pub(crate) fn report_unproven_row(what: &str, public: &str) {
    metrics::counter!("registry_unproven_rows_total").increment(1);
    error!(
        what,
        name = public,
        "a row of the registry is not as it was written; what it grants is not granted"
    );
}

/// Says that rows are gone that nobody took away.
pub(crate) fn report_deleted_rows(rows: usize) {
    if rows > 0 {
        metrics::counter!("registry_unproven_rows_total").increment(rows as u64);
        error!(rows, "rows of the registry are gone that no operator took away");
    }
}

#[cfg(test)]
mod tests;
